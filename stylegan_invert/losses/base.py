"""The base class of all distances, checks of their input, and weighted sums."""

import functools
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F


class Distance(torch.nn.Module):
    """A distance between outputs, one number per pair. A subclass defines ``features`` and ``compare``.

    Everything that depends on the target alone is computed once, by ``prepare``. Outputs are pictures, (N, C, H, W) float32
    in [-1, 1] with 1, 3 or 4 channels (grey, RGB, RGBA), unless ``check`` says otherwise: distances of sounds take (N, C, T).

    Attributes:
        min_size: the smallest side, in pixels, of pictures that it can compare.
    """

    min_size = 1

    def check(self, outputs: torch.Tensor) -> None:
        """Raise ValueError if outputs are not what this distance compares."""
        check_images(outputs, self.min_size)

    def at_rate(self, sample_rate: int) -> None:
        """Take the sample rate of the sounds that will be compared, if the distance depends on it."""

    def prepare(self, target: torch.Tensor) -> Any:
        """Compute once what ``forward`` needs of the target (N, C, H, W).

        Raises:
            ValueError: the target is not a batch of pictures, or is too small.
        """
        self.check(target)
        with torch.no_grad():
            return self.features(target)

    def features(self, images: torch.Tensor) -> Any:
        """What is compared of images (N, C, H, W): a tensor (N, ...), or nested lists of these."""
        raise NotImplementedError

    def compare(self, a: Any, b: Any) -> torch.Tensor:
        """Distances (N,) between what ``features`` or ``prepare`` gave for two batches."""
        raise NotImplementedError

    def forward(self, prepared: Any, images: torch.Tensor) -> torch.Tensor:
        """Distances (N,) of images (N, C, H, W) from the prepared targets; generated images may leave [-1, 1]."""
        return self.compare(prepared, self.features(images))

    def between(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Distances (N,) between two batches of pictures."""
        self.check(b)
        return self(self.prepare(a), b)


def total(distances: Iterable[torch.Tensor]) -> torch.Tensor:
    """The sum of one or more tensors, from the first on."""
    return functools.reduce(torch.add, distances)


class WeightedSum(Distance):
    """A weighted sum of distances.

    Args:
        terms: pairs of a weight and a distance.
    """

    def __init__(self, terms: list[tuple[float, Distance]]):
        super().__init__()
        self.weights = [float(weight) for weight, _ in terms]
        self.distances = torch.nn.ModuleList(distance for _, distance in terms)
        self.min_size = max(d.min_size for d in self._distances())

    def _distances(self) -> list[Distance]:
        return [d for d in self.distances if isinstance(d, Distance)]

    def check(self, outputs: torch.Tensor) -> None:
        for d in self._distances():
            d.check(outputs)

    def at_rate(self, sample_rate: int) -> None:
        for d in self._distances():
            d.at_rate(sample_rate)

    def prepare(self, target: torch.Tensor) -> list[Any]:
        return [d.prepare(target) for d in self._distances()]

    def features(self, images: torch.Tensor) -> list[Any]:
        return [d.features(images) for d in self._distances()]

    def compare(self, a: list[Any], b: list[Any]) -> torch.Tensor:
        return total(w * d.compare(x, y) for w, d, x, y in zip(self.weights, self._distances(), a, b))

    def forward(self, prepared: list[Any], images: torch.Tensor) -> torch.Tensor:
        return total(w * d(p, images) for w, d, p in zip(self.weights, self._distances(), prepared))


def check_images(images: torch.Tensor, min_size: int = 1) -> None:
    """Check a batch of pictures.

    Raises:
        ValueError: they are not (N, C, H, W) floating-point numbers in [-1, 1] with 1, 3 or 4 channels, or a side is
            shorter than ``min_size`` pixels.
    """
    shape = tuple(images.shape)
    if images.ndim != 4 or shape[1] not in (1, 3, 4) or 0 in shape:
        raise ValueError(f"pictures of shape {shape}; expected (N, C, H, W) with C of 1, 3 or 4")
    if not images.is_floating_point():
        raise ValueError(
            f"pictures of type {images.dtype}; expected float32 in [-1, 1] (divide uint8 by 127.5 and subtract 1)"
        )
    if min(shape[2:]) < min_size:
        raise ValueError(
            f"pictures of {shape[3]}x{shape[2]} pixels; this distance needs at least {min_size}x{min_size}. "
            "A pixel loss (mse, l1) takes any size"
        )
    low, high = float(images.detach().min()), float(images.detach().max())
    if not (low >= -1.001 and high <= 1.001):
        raise ValueError(
            f"pictures with values from {low:.3g} to {high:.3g}; expected [-1, 1] "
            "(divide uint8 by 127.5 and subtract 1)"
        )


def check_sounds(sounds: torch.Tensor) -> None:
    """Check a batch of sounds.

    Raises:
        ValueError: they are not (N, C, T) floating-point numbers in [-1, 1].
    """
    shape = tuple(sounds.shape)
    if sounds.ndim != 3 or 0 in shape or not sounds.is_floating_point():
        raise ValueError(f"sounds of shape {shape}, {sounds.dtype}; expected (N, C, T) float32 in [-1, 1]")
    size = float(sounds.detach().abs().max())
    if not size <= 1.001:
        raise ValueError(f"sounds with values up to {size:.3g}; expected [-1, 1]")


def as_rgb(images: torch.Tensor) -> torch.Tensor:
    """Pictures with three channels, for networks that expect RGB: grey is repeated, alpha is left out."""
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images[:, :3]


def at_most_256(images: torch.Tensor) -> torch.Tensor:
    """Shrink pictures above 256x256 to that size by averaging areas, as the official projector does.

    The networks that compute features were trained on pictures of 224x224.
    """
    return F.interpolate(images, size=(256, 256), mode="area") if images.shape[2] > 256 else images
