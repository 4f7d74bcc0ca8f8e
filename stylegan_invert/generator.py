"""The contract between projectors and generators, whatever their family.

A projector sees spaces, their mean and spread, and ``render``; it never asks which family it has. `adapt` finds the
adapter for a network; a new family is one more adapter.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch

from .errors import CodeFileError
from .networks.stylegan2 import Generator as StyleGAN2
from .spaces import NOISE, Code


@runtime_checkable
class GeneratorAdapter(Protocol):
    """What a projector may ask of a generator.

    Attributes:
        spaces: names of its latent spaces.
        img_channels, img_resolution, c_dim: of the network.
        device: where it computes.
    """

    spaces: tuple[str, ...]
    img_channels: int
    img_resolution: int
    c_dim: int
    device: torch.device

    def center(self, space: str, c: torch.Tensor | None = None) -> Code:
        """The mean code of a space (N = 1), of the class ``c`` (1, c_dim) where the network has classes."""

    def spread(self, space: str, c: torch.Tensor | None = None) -> float:
        """The root mean squared distance of samples from the mean."""

    def convert(self, code: Code, space: str) -> Code:
        """The same code in another space, as W in W+; ValueError if it does not lie there."""

    def code_shapes(self, space: str) -> Mapping[str, tuple[int, ...]]:
        """Names and shapes, without N, of the tensors of a code in a space, noise maps left out."""

    def noise_shapes(self) -> Mapping[str, tuple[int, int]]:
        """Names and sizes (H, W) of the noise maps, in the order in which random ones are drawn; empty without any."""

    def render(self, code: Code, noise_mode: str = "const") -> torch.Tensor:
        """Pictures (N, img_channels, H, W), float32, nominally in [-1, 1]: the one way from a code to an output.

        ``noise_mode`` "const" takes the code's noise maps, else the network's own; "random" draws them, "none" adds none.
        """


class Statistics(NamedTuple):
    """Mean (w_dim,) and scalar standard deviation of W."""

    mean: torch.Tensor
    std: float


class StyleGAN2Adapter:
    """StyleGAN2 as projectors see it: spaces z, w and w+, and noise maps.

    Mean and spread of W are those of the official projector: 10,000 latents of ``RandomState(123)``, the mean and one
    scalar deviation, the root of the mean squared distance summed over dimensions (algorithms.md, section 6.1).
    """

    spaces = ("z", "w", "w+")

    def __init__(self, network: StyleGAN2, w_avg_samples: int = 10000):
        self.network = network
        self.img_channels = network.img_channels
        self.img_resolution = network.img_resolution
        self.c_dim = network.c_dim
        self.w_avg_samples = w_avg_samples
        self._statistics: dict[tuple[float, ...], Statistics] = {}

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def statistics(self, c: torch.Tensor | None = None) -> Statistics:
        """Mean and spread of w, of the class ``c`` (1, c_dim) where the network has classes; computed once."""
        key = () if c is None else tuple(c.flatten().tolist())
        if key not in self._statistics:
            n = self.w_avg_samples
            # float32 before the move: some devices have no float64, and the network would convert it anyway.
            z = (
                torch.from_numpy(np.random.RandomState(123).randn(n, self.network.z_dim))
                .to(torch.float32)
                .to(self.device)
            )
            with torch.no_grad():
                ws = self.network.mapping(z, None if c is None else c.to(self.device).expand(n, -1))
            w = ws[:, :1].cpu().numpy().astype(np.float32)  # (n, 1, w_dim)
            mean = w.mean(axis=0, keepdims=True)
            std = float((np.sum((w - mean) ** 2) / n) ** 0.5)
            self._statistics[key] = Statistics(torch.from_numpy(mean[0, 0]).to(self.device), std)
        return self._statistics[key]

    def center(self, space: str, c: torch.Tensor | None = None) -> Code:
        if space == "z":
            return Code("z", {"z": torch.zeros([1, self.network.z_dim], device=self.device)}, c)
        return self.convert(Code("w", {"w": self.statistics(c).mean[None]}, c), space)

    def spread(self, space: str, c: torch.Tensor | None = None) -> float:
        return self.network.z_dim**0.5 if space == "z" else self.statistics(c).std

    def convert(self, code: Code, space: str) -> Code:
        if code.space == space:
            return code
        if code.space == "z" and space in ("w", "w+"):
            with torch.no_grad():
                w = self.network.mapping(code.tensors["z"], code.c)[:, 0]
            return self.convert(
                Code("w", {**{k: v for k, v in code.tensors.items() if k != "z"}, "w": w}, code.c), space
            )
        if code.space == "w" and space == "w+":
            return Code(
                "w+", {**code.tensors, "w": code.tensors["w"][:, None].repeat(1, self.network.num_ws, 1)}, code.c
            )
        if code.space == "w+" and space == "w":
            w = code.tensors["w"]
            if not torch.equal(w, w[:, :1].expand_as(w)):
                raise ValueError("its layers have different w, so it lies in W+ and not in W; use the method w+")
            return Code("w", {**code.tensors, "w": w[:, 0]}, code.c)
        raise ValueError(
            f"a code in {code.space!r} cannot be brought into {space!r}; this network has the spaces {', '.join(self.spaces)}"
        )

    def code_shapes(self, space: str) -> Mapping[str, tuple[int, ...]]:
        g = self.network
        return {"z": {"z": (g.z_dim,)}, "w": {"w": (g.w_dim,)}, "w+": {"w": (g.num_ws, g.w_dim)}}[space]

    def noise_shapes(self) -> Mapping[str, tuple[int, int]]:
        return self.network.synthesis.noise_shapes()

    def render(self, code: Code, noise_mode: str = "const") -> torch.Tensor:
        if code.space not in self.spaces:
            raise ValueError(f"a code in {code.space!r}; this network has the spaces {', '.join(self.spaces)}")
        if code.space == "z":
            ws = self.network.mapping(code.tensors["z"], code.c)
        else:
            ws = self.convert(code, "w+").tensors["w"]
        noise = (
            {name: value[:, None] for name, value in code.noise.items()} if noise_mode == "const" else None
        )  # (N, 1, H, W)
        # One picture at a time is computed in the form that official code takes by default, so that runs follow official
        # ones; the activation-scaling form of a batch agrees with it to rounding, which long optimisations amplify.
        return self.network.synthesis(ws, noise_mode=noise_mode, noise=noise, fused_modconv=len(ws) == 1)


_ADAPTERS = {StyleGAN2: StyleGAN2Adapter}


def adapt(network: torch.nn.Module | GeneratorAdapter) -> GeneratorAdapter:
    """The adapter for a network; an adapter is returned as it is.

    Raises:
        TypeError: no family in this package fits.
    """
    for family, adapter in _ADAPTERS.items():
        if isinstance(network, family):
            return adapter(network)
    if isinstance(network, GeneratorAdapter):
        return network
    known = ", ".join(f"{f.__module__}.{f.__qualname__}" for f in _ADAPTERS)
    raise TypeError(
        f"no way to project with a {type(network).__module__}.{type(network).__qualname__}; known generators: {known}"
    )


def check_code(code: Code, generator: GeneratorAdapter, name: str) -> None:
    """Raise CodeFileError unless a code's tensors and noise maps have the shapes of the network; ``name`` is for the message."""
    if code.space not in generator.spaces:
        raise CodeFileError(
            f"{name}: a code in {code.space!r}; this network has the spaces {', '.join(generator.spaces)}"
        )
    shapes = generator.code_shapes(code.space)
    missing = [key for key in shapes if key not in code.tensors]
    if missing:
        raise CodeFileError(f"{name}: it has no {', '.join(missing)}, which a code in {code.space!r} needs")
    n = len(code.tensors[next(iter(shapes))])
    expected = {**shapes, **{NOISE + layer: shape for layer, shape in generator.noise_shapes().items()}}
    for key, value in code.tensors.items():
        if n == 0 or len(value) != n:
            raise CodeFileError(f"{name}: {key} is for {len(value)} pictures; expected {n or 'at least one'}")
        if key not in expected:
            raise CodeFileError(f"{name}: {key} is none of this network's; it has {', '.join(expected)}")
        if not torch.isfinite(value).all():
            raise CodeFileError(f"{name}: {key} holds something else than finite numbers")
        if tuple(value.shape[1:]) != tuple(expected[key]):
            raise CodeFileError(
                f"{name}: {key} has shape {tuple(value.shape[1:])} per picture; this network has {tuple(expected[key])}"
            )


def label(c_dim: int, class_idx: int | None) -> torch.Tensor | None:
    """The one-hot label (1, c_dim) of a class; None for a network without classes.

    Raises:
        ValueError: a class is missing, out of range, or given for a network that has none.
    """
    if c_dim == 0:
        if class_idx is not None:
            raise ValueError(f"class {class_idx} was given for a network without classes; leave out --class")
        return None
    if class_idx is None:
        raise ValueError(
            f"this network has {c_dim} classes and none was given; choose one with --class 0 ... {c_dim - 1}"
        )
    if not 0 <= class_idx < c_dim:
        raise ValueError(f"class {class_idx} was given; this network has the classes 0 ... {c_dim - 1}")
    return torch.eye(c_dim)[class_idx : class_idx + 1]
