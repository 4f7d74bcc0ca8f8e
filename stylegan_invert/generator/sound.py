"""The adapter for networks that make sounds from z, such as WaveGAN."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch

from .latent import LatentAdapter


class SoundGenerator(Protocol):
    """The interface of networks for `SoundAdapter`. It is called with z (N, z_dim), and returns sounds (N, num_channels,
    length), nominally in [-1, 1].

    Attributes:
        num_channels: the number of channels of the sounds.
        length: the number of samples of a sound.
        sample_rate: samples per second.

    The other attributes are those of `latent.LatentGenerator`. The shapes in ``layer_shapes`` are (C, T).
    """

    family: str
    assumed: str
    z_dim: int
    c_dim: int
    num_channels: int
    length: int
    sample_rate: int
    z_prior: str
    layer_shapes: Mapping[str, tuple[int, ...]]
    dense_layer: str | None


class SoundAdapter(LatentAdapter):
    """The adapter for a network from z to sounds. Its one space, besides those of layers, is z.

    Args:
        network: a `SoundGenerator`.
    """

    medium = "sound"

    def __init__(self, network: torch.nn.Module):
        super().__init__(network)
        self.medium_facts = {"sample_rate": self.network.sample_rate}

    @staticmethod
    def shape_of(network: Any) -> tuple[int, ...]:
        return network.num_channels, network.length

    def about_outputs(self) -> dict[str, Any]:
        g = self.network
        return {"samples": g.length, "sample_rate": g.sample_rate, "channels": g.num_channels}
