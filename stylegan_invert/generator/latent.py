"""The adapter for networks that make pictures from z directly, without a W space: DCGAN, ProGAN and BigGAN."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch

from ..networks.layers import widest_dtype
from .adapter import Adapter
from .code import Code
from .prior import Prior


class LatentGenerator(Protocol):
    """The interface of networks for `LatentAdapter`. Any network from z to pictures can have it.

    The network is called with z (N, z_dim) and, if it has classes, with one-hot labels (N, c_dim). It returns pictures
    (N, img_channels, img_resolution, img_resolution), nominally in [-1, 1].

    Attributes:
        family: the name of its kind, for ``stylegan-invert inspect``.
        assumed: facts that its files do not state and that were assumed, in words; "" if there are none.
        z_dim: the number of entries of z.
        c_dim: the number of classes; 0 for a network without classes.
        img_channels: the number of channels of the pictures.
        img_resolution: the side of the pictures in pixels.
        z_prior: the distribution of z, "normal" or "uniform".
        layer_shapes: the modules at which the network can be split: the name of each, and the shape (C, H, W) of its
            output, in the order of computation.
        dense_layer: the name in ``layer_shapes`` of the first dense (fully connected) layer, before its activation;
            None if the network does not begin with one.
    """

    family: str
    assumed: str
    z_dim: int
    c_dim: int
    img_channels: int
    img_resolution: int
    z_prior: str
    layer_shapes: Mapping[str, tuple[int, ...]]
    dense_layer: str | None


class LatentAdapter(Adapter):
    """The adapter for a network from z to pictures. Its one space, besides those of layers, is z.

    Args:
        network: a `LatentGenerator`.
    """

    spaces: tuple[str, ...] = ("z",)
    base = "z"
    asks_for_prior = True

    def __init__(self, network: torch.nn.Module):
        super().__init__(network)
        self.prior = Prior(self.network.z_prior)
        self.dense = self.network.dense_layer

    def info(self) -> Mapping[str, Any]:
        g = self.network
        return {
            "family": g.family,
            **self.about_outputs(),
            "classes": g.c_dim,
            "spaces": {"z": [g.z_dim]},
            "parameters": sum(p.numel() for p in g.parameters()),
            "assumed": ", ".join(filter(None, [g.assumed, f"a {self.prior.family} prior of z"])),
            "dense_layer": self.dense,
            "layers": {name: list(shape) for name, shape in self.layers().items()},
        }

    def about_outputs(self) -> dict[str, Any]:
        """The sizes of outputs, for `info`."""
        return {"resolution": self.network.img_resolution, "channels": self.network.img_channels}

    def layers(self) -> Mapping[str, tuple[int, ...]]:
        return self.network.layer_shapes

    def layer_module(self, name: str) -> torch.nn.Module:
        return self.network.get_submodule(name)

    def center(self, space: str, c: torch.Tensor | None = None) -> Code:
        return self.convert(Code("z", {"z": torch.zeros([1, self.network.z_dim], device=self.device)}, c), space)

    def spread(self, space: str, c: torch.Tensor | None = None) -> float:
        variance = {"normal": 1.0, "uniform": 1 / 3}[self.prior.family]
        return (self.network.z_dim * variance) ** 0.5

    def convert_base(self, code: Code, space: str) -> Code:
        raise ValueError(f"a code in {code.space!r} cannot be brought into {space!r}; this network has the space z")

    def own_shapes(self, space: str) -> Mapping[str, tuple[int, ...]]:
        return {"z": {"z": (self.network.z_dim,)}}[space]

    def truncated(self, code: Code, truncation_psi: float) -> Code:
        """The code with its z truncated, for networks with the attribute ``truncates_z``; only psi 1 for all others.

        The truncation trick draws entries of z from a normal distribution cut off at two standard deviations, and
        multiplies them by psi. Here every entry of a normal z is moved to the same quantile of the truncated
        distribution.

        Source: Brock et al., "Large Scale GAN Training for High Fidelity Natural Image Synthesis" (BigGAN, 2018),
            section 3.1.
        """
        if truncation_psi == 1 or not getattr(self.network, "truncates_z", False):
            return super().truncated(code, truncation_psi)
        if code.space != "z":
            raise ValueError(
                f"truncation_psi is {truncation_psi:g}, which is for codes in z; this one lies in {code.space!r}"
            )
        tail = torch.special.ndtr(torch.tensor(-2.0, dtype=torch.float64)).item()
        quantile = torch.special.ndtr(code.tensors["z"].to(widest_dtype(code.tensors["z"].device)))
        z = truncation_psi * torch.special.ndtri(tail + (1 - 2 * tail) * quantile)
        return Code("z", {**code.tensors, "z": z.to(torch.float32)}, code.c)

    def render_base(self, code: Code, noise_mode: str) -> torch.Tensor:
        z = code.tensors["z"]
        return self.network(z) if self.c_dim == 0 else self.network(z, code.c)
