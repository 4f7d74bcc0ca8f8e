"""Networks from z to pictures, without a W: DCGAN, ProGAN, BigGAN."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch

from .adapter import Adapter
from .code import Code
from .prior import Prior


class LatentGenerator(Protocol):
    """What a network must have to be used by `LatentAdapter`: DCGAN has it, and so can any network from z to pictures.

    Attributes:
        family: its name, for `stylegan-invert inspect`. assumed: what its files do not say, in words.
        z_dim, c_dim, img_channels, img_resolution: sizes; c_dim is 0 without classes.
        z_prior: "normal" or "uniform".
        layer_shapes: name of a module to the shape (C, H, W) of its output, in the order of computation, for the modules at
            which the network can be split.
        dense_layer: the name of the first dense layer among them, before its activation; None if there is none.

    Called with z (N, z_dim) and, if it has classes, labels (N, c_dim), it gives pictures (N, img_channels, R, R).
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
    """A network from z to pictures as projectors see it.

    Args:
        network: a `LatentGenerator`.
    """

    spaces = ("z",)
    base = "z"
    asks_for_prior = True

    def __init__(self, network: torch.nn.Module):
        super().__init__(network)
        self.prior = Prior(network.z_prior)
        self.dense = network.dense_layer

    def info(self) -> Mapping[str, Any]:
        g = self.network
        return {
            "family": g.family,
            "resolution": g.img_resolution,
            "channels": g.img_channels,
            "classes": g.c_dim,
            "spaces": {"z": [g.z_dim]},
            "parameters": sum(p.numel() for p in g.parameters()),
            "assumed": ", ".join(filter(None, [g.assumed, f"a {self.prior.family} prior of z"])),
            "dense_layer": self.dense,
            "layers": {name: list(shape) for name, shape in self.layers().items()},
        }

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
        """For networks that say so (``truncates_z``): z as if entries beyond two deviations had been drawn again, times psi.

        That is the truncation trick of Brock et al. (BigGAN, section 3.1); an entry keeps its rank among all that there are.
        """
        if truncation_psi == 1 or not getattr(self.network, "truncates_z", False):
            return super().truncated(code, truncation_psi)
        if code.space != "z":
            raise ValueError(
                f"truncation_psi is {truncation_psi:g}, which is for codes in z; this one lies in {code.space!r}"
            )
        tail = torch.special.ndtr(torch.tensor(-2.0, dtype=torch.float64)).item()
        rank = torch.special.ndtr(code.tensors["z"].double())
        z = truncation_psi * torch.special.ndtri(tail + (1 - 2 * tail) * rank)
        return Code("z", {**code.tensors, "z": z.to(torch.float32)}, code.c)

    def render_base(self, code: Code, noise_mode: str) -> torch.Tensor:
        z = code.tensors["z"]
        return self.network(z) if self.c_dim == 0 else self.network(z, code.c)
