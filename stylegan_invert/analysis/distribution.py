"""How far a set of generated pictures is from a set of real ones.

By the features of the shipped SqueezeNet the distances are no FIDs and cannot be compared with published ones; they are
reported as "frechet_squeezenet" and "kid_squeezenet". By the features of FID's own network, whose weights the user has, they
are reported as "fid" and "kid".
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..files import plain
from ..files.door import Kind
from ..generator import Code, GeneratorAdapter
from ..losses.base import as_rgb
from ..losses.lpips import SqueezeLPIPS
from ..losses.weight_files import read_weights, with_weights
from ..media.picture_set import PictureSet
from ..media.pictures import as_images
from ..networks.inception import FIDInception, resized_as_tensorflow

FRECHET_SAMPLES = 10_000  # with fewer pictures the bias of the Fréchet distance is too large
FEWEST = 8  # a kernel distance needs at least so many pictures on each side
SIDE = 128  # pictures of all sizes are resized to this one
BATCH = 64
UNIT = 6.0  # features are divided by this, about their root mean square on photographs, so that distances are near one

FID_SIDE = 299  # the side of the pictures that Inception is shown
_FID_FILE = Kind(
    "the weights of FID's Inception as pytorch-fid and torch-fidelity publish them (pt_inception-2015-12-05-6726825d.pth)",
    2**30,
    ValueError,
)

Progress = Callable[[int], None]


class Features:
    """A function from pictures to vectors of features."""

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """(N, F) float64, on the CPU, of pictures (N, C, H, W) uint8 with C of 1, 3 or 4 (alpha is left out)."""
        raise NotImplementedError

    def of(self, batches: Iterable[torch.Tensor], progress: Progress | None = None) -> torch.Tensor:
        """The features (N, F) of all pictures of many batches; see `features_of`."""
        return features_of([self], batches, progress)[0]


def features_of(
    networks: Sequence[Features], batches: Iterable[torch.Tensor], progress: Progress | None = None
) -> list[torch.Tensor]:
    """The features (N, F) of all pictures of many batches, by each of several networks.

    Args:
        networks: the functions that compute features.
        batches: pictures as `Features.__call__` takes them.
        progress: called with the number of pictures of each batch.
    """
    features: list[list[torch.Tensor]] = [[] for _ in networks]
    for batch in batches:
        for rows, network in zip(features, networks):
            rows.append(network(batch))
        if progress is not None:
            progress(len(batch))
    return [torch.cat(rows) for rows in features]


class PictureFeatures(Features):
    """512 numbers per picture: SqueezeNet 1.1's last feature map, averaged over the picture and divided by 6.

    Pictures of all sizes are resized to 128x128, bilinearly and with antialiasing.
    """

    def __init__(self, device: torch.device | str = "cpu"):
        lpips = SqueezeLPIPS().to(device)
        self.device = torch.device(device)
        self._network, self._shift, self._scale = lpips.backbone, lpips.shift, lpips.scale

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """(N, 512) float64, on the CPU, of pictures (N, C, H, W) uint8 with C of 1, 3 or 4 (alpha is left out)."""
        with torch.no_grad():
            return self.of_images(as_images(pixels, self.device)).cpu().double()

    def of_images(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 512) float32, with gradients, of images (N, C, H, W) in [-1, 1] on the device of this object."""
        x = F.interpolate(as_rgb(images), [SIDE, SIDE], mode="bilinear", antialias=True, align_corners=False)
        return self._network((x - self._shift) / self._scale)[-1].mean(dim=[2, 3]) / UNIT


class FIDFeatures(Features):
    """2048 numbers per picture: those from which FID is computed (Heusel et al., 2017), as torch-fidelity computes them.

    Pictures of all sizes are resized to 299x299 with TensorFlow's bilinear interpolation (`resized_as_tensorflow`), which is
    also that of the original code and of torch-fidelity. pytorch-fid interpolates with PyTorch, and its numbers differ.

    Args:
        file: the state dict of FID's Inception, pt_inception-2015-12-05-6726825d.pth, also as safetensors.
        device: where to compute.

    Raises:
        ValueError: there is no such file, or it is another one.
    """

    def __init__(self, file: str | os.PathLike, device: torch.device | str = "cpu"):
        stored = read_weights(file, _FID_FILE, None, "", "the state dict of pytorch-fid or torch-fidelity instead")
        try:
            self._network = with_weights(FIDInception, stored).eval().to(device)
        except plain.Misfit as e:
            raise ValueError(f"{os.fspath(file)}: {e}; expected {_FID_FILE.words}") from None
        self.device = torch.device(device)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """(N, 2048) float64, on the CPU, of pictures (N, C, H, W) uint8 with C of 1, 3 or 4 (alpha is left out)."""
        x = as_rgb(pixels.to(self.device, torch.float32))
        with torch.no_grad():
            return self._network((resized_as_tensorflow(x, FID_SIDE) - 128) / 128).cpu().double()


def generated_pictures(
    generator: GeneratorAdapter, n: int, seed: int, c: torch.Tensor | None = None
) -> Iterator[torch.Tensor]:
    """Pictures (<= 64, C, R, R) uint8 at a time, of latents from the prior, with the stored noise maps.

    Args:
        generator: the network's adapter.
        n: the number of pictures in all.
        seed: the random seed for the latents and labels. They depend on the seed and on ``n`` alone.
        c: labels (m, c_dim) to draw from, for networks with classes.
    """
    (shape,) = generator.code_shapes("z").values()
    random = torch.Generator().manual_seed(seed)
    for first in range(0, n, BATCH):
        count = min(BATCH, n - first)
        z = generator.prior.sample([count, *shape], random)
        labels = None if c is None or c.shape[1] == 0 else c[torch.randint(len(c), [count], generator=random)]
        with torch.no_grad():
            x = generator.render(Code("z", {"z": z}, labels).to(generator.device))
        yield rounded(x)


def rounded(x: torch.Tensor) -> torch.Tensor:
    """Pictures in [-1, 1] as uint8, on the CPU. They are rounded to the nearest value, so that the mean stays."""
    return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu()


def stored_pictures(data: PictureSet) -> Iterator[torch.Tensor]:
    """All pictures of a set, (<= 64, C, R, R) uint8 at a time."""
    for first in range(0, len(data), BATCH):
        yield torch.from_numpy(data.pictures(range(first, min(first + BATCH, len(data)))))


def logits(D: torch.nn.Module, pictures: np.ndarray, c: torch.Tensor | None = None) -> torch.Tensor:
    """A discriminator's logits (N,) of pictures (N, C, R, R) uint8 and their labels (N, c_dim), or None. Each is judged alone,
    not in a batch.
    """
    device = next(D.parameters()).device
    labels = [None] * len(pictures) if c is None else c.to(device).split(1)
    with torch.no_grad():
        return torch.cat([D(x[None], k) for x, k in zip(as_images(pictures, device), labels)]).flatten().cpu()


def quality(
    pictures: np.ndarray,
    reference: torch.Tensor,
    features: PictureFeatures,
    D: torch.nn.Module | None = None,
    c: torch.Tensor | None = None,
) -> dict[str, float]:
    """How real pictures look: the discriminator's value and their distance to other generated pictures.

    Args:
        pictures: (N, C, R, R) uint8.
        reference: features (M, 512) of generated pictures.
        features: computes those of the pictures.
        D: the discriminator, or None.
        c: the labels (N, c_dim) of the pictures, for a discriminator with classes.

    Returns:
        "logit", the mean, if there is a discriminator; from 8 pictures on also "kid", the kernel distance to the reference,
        and "kid_stderr", its standard error.
    """
    result = {}
    if D is not None:
        result["logit"] = float(logits(D, pictures, c).mean())
    if len(pictures) >= FEWEST:
        result["kid"], result["kid_stderr"] = kid(features(torch.from_numpy(pictures)), reference)
    return result


def distances(real: torch.Tensor, generated: torch.Tensor) -> dict[str, float]:
    """The distances that can be computed with so many samples, by the name under which they are reported.

    Args:
        real: features (N, 512) of real pictures.
        generated: features (M, 512) of generated pictures.

    Returns:
        "kid_squeezenet" and its standard error "kid_squeezenet_stderr"; from 10,000 pictures on both sides on, also
        "frechet_squeezenet". "samples" holds N and M.
    """
    value, error = kid(real, generated)
    result: dict[str, Any] = {
        "kid_squeezenet": value,
        "kid_squeezenet_stderr": error,
        "samples": [len(real), len(generated)],
    }
    if min(len(real), len(generated)) >= FRECHET_SAMPLES:
        result["frechet_squeezenet"] = frechet_distance(real, generated)
    return result


def fid_distances(real: torch.Tensor, generated: torch.Tensor) -> dict[str, float]:
    """FID and the kernel distance by the features of FID's own network.

    Args:
        real: features (N, 2048) of real pictures; see `FIDFeatures`.
        generated: features (M, 2048) of generated pictures.

    Returns:
        "fid", which for few pictures is larger than for many; "kid" and its standard error "kid_stderr", of blocks that share
        no picture (torch-fidelity draws 100 subsets of 1000, which have the same mean).
    """
    value, error = kid(real, generated)
    return {"fid": frechet_distance(real, generated), "kid": value, "kid_stderr": error}


def frechet_distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """The Fréchet distance |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) of two sets of features (N, F), in float64.

    Source: Heusel et al., 2017.
    """
    x, y = a.double().numpy(), b.double().numpy()
    s1, s2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    values, vectors = np.linalg.eigh(s1)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    # S1^(1/2) S2 S1^(1/2) is symmetric and has the eigenvalues of S1 S2.
    cross = np.sqrt(np.linalg.eigvalsh(root @ s2 @ root).clip(0)).sum()
    return float(np.square(x.mean(0) - y.mean(0)).sum() + np.trace(s1) + np.trace(s2) - 2 * cross)


def kid(a: torch.Tensor, b: torch.Tensor) -> tuple[float, float]:
    """The unbiased squared maximum mean discrepancy with the kernel (x.y / F + 1)^3, and its standard error.

    Both sets (N, F) are divided into 4 to 50 pairs of blocks, which share no picture; the mean of the blocks' values and
    the standard error of that mean are returned.

    Raises:
        ValueError: fewer than 8 pictures on a side.

    Source: Binkowski et al., 2018. There the blocks may share pictures, which makes the error look smaller than it is.
    """
    n = min(len(a), len(b))
    if n < FEWEST:
        raise ValueError(f"{n} pictures are too few for a distance between sets; give at least {FEWEST} on each side")
    blocks = int(np.clip(n // 250, 4, 50))
    random = torch.Generator().manual_seed(0)
    parts = [x.double()[torch.randperm(len(x), generator=random)].tensor_split(blocks) for x in (a, b)]
    values = torch.stack([_mmd(x, y) for x, y in zip(*parts)])
    return float(values.mean()), float(values.std() / blocks**0.5)


def _mmd(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    def kernel(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (x @ y.t() / x.shape[1] + 1) ** 3

    def within(x: torch.Tensor) -> torch.Tensor:
        k = kernel(x, x)
        return (k.sum() - k.diagonal().sum()) / (len(x) * (len(x) - 1))

    return within(a) + within(b) - 2 * kernel(a, b).mean()
