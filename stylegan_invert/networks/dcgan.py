"""Generators of DCGAN and WGAN: a dense layer, then transposed convolutions, each with batch normalisation and ReLU.

Radford, Metz & Chintala, "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks"
(2016).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ..ops import native

ACTIVATIONS = {"relu": torch.nn.ReLU, "lrelu": lambda: torch.nn.LeakyReLU(0.2), "elu": torch.nn.ELU}
OUTPUTS = {"tanh": torch.nn.Tanh, "sigmoid": torch.nn.Sigmoid, "linear": torch.nn.Identity}


@dataclass(frozen=True)
class Layer:
    """A layer that has weights, and the normalisation after it.

    Attributes:
        kind: "linear" (a dense layer from z to a map), "transposed" or "conv".
        in_channels: channels of the map that it takes; for "linear" the size of z.
        out_channels: channels of the map that it gives.
        kernel: side of the kernel; for "linear", and for a transposed convolution that is the first layer, side of the
            map that it gives.
        bias: True if it has a bias.
        norm: "channels" for batch normalisation of each channel, "features" for that of each number of a linear layer,
            or "none".
        affine: True if the normalisation has a weight and a bias.
    """

    kind: str
    in_channels: int
    out_channels: int
    kernel: int
    bias: bool
    norm: str = "channels"
    affine: bool = True


class DCGAN(torch.nn.Module):
    """A generator from z to pictures, made of `Layer`s.

    Args:
        layers: in the order of computation. The first takes z as a map of 1x1. Every later transposed convolution
            doubles the side of the map, and every convolution keeps it.
        activation: after each layer except the last; a key of `ACTIVATIONS`.
        output: after the last layer; a key of `OUTPUTS`. Pictures of the sigmoid are brought to [-1, 1].
        eps: of the batch normalisation.

    ``init_kwargs`` holds these arguments as plain values, with tables for the layers.

    The modules are named ``dense`` (the first layer), ``dense_norm``, ``dense_act``, ``up1``, ``up1_norm``, ..., in the
    order of computation.
    """

    family = "dcgan"
    c_dim = 0
    z_prior = "normal"
    dense_layer = "dense"

    def __init__(
        self,
        layers: Sequence[Layer | Mapping[str, Any]],
        activation: str = "relu",
        output: str = "tanh",
        eps: float = 1e-5,
    ):
        super().__init__()
        self.layers = layers = tuple(layer if isinstance(layer, Layer) else Layer(**layer) for layer in layers)
        self.init_kwargs = dict(
            layers=[asdict(layer) for layer in layers], activation=activation, output=output, eps=eps
        )
        self.z_dim = layers[0].in_channels
        self.img_channels = layers[-1].out_channels
        self.activation, self.output = activation, output
        self.assumed = f"{activation} and {output}, batch normalisation with eps {eps:g}"
        self.layer_shapes: dict[str, tuple[int, int, int]] = {}
        side = 0
        for i, layer in enumerate(layers):
            name = "dense" if i == 0 else f"{'up' if layer.kind == 'transposed' else 'conv'}{i}"
            module, side = _module(layer, side)
            self.add_module(name, module)
            if layer.norm == "features":
                self.add_module(f"{name}_norm", _NormedFeatures(layer.out_channels, side, eps, layer.affine))
            elif layer.norm == "channels":
                self.add_module(f"{name}_norm", torch.nn.BatchNorm2d(layer.out_channels, eps=eps, affine=layer.affine))
            last = i == len(layers) - 1
            self.add_module(f"{name}_act", (OUTPUTS[output] if last else ACTIVATIONS[activation])())
            for part in (name, f"{name}_norm", f"{name}_act"):
                if hasattr(self, part):
                    self.layer_shapes[part] = (layer.out_channels, side, side)
        del self.layer_shapes[part]  # the last activation gives the picture
        self.img_resolution = side
        native.made_network(side)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Pictures (N, img_channels, R, R) in [-1, 1] of latents (N, z_dim)."""
        if z.ndim != 2 or z.shape[1] != self.z_dim:
            raise ValueError(f"z has shape {tuple(z.shape)}; expected (any, {self.z_dim})")
        x = z[:, :, None, None]
        for module in self.children():
            x = module(x)
        return x * 2 - 1 if self.output == "sigmoid" else x


class DenseMap(torch.nn.Linear):
    """A linear layer from (N, in, 1, 1) to (N, channels, side, side)."""

    def __init__(self, in_features: int, channels: int, side: int, bias: bool):
        super().__init__(in_features, channels * side**2, bias)
        self.channels, self.side = channels, side

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.flatten(1)).reshape(-1, self.channels, self.side, self.side)


class _NormedFeatures(torch.nn.BatchNorm1d):
    """Batch normalisation of each number of a map."""

    def __init__(self, channels: int, side: int, eps: float, affine: bool):
        super().__init__(channels * side**2, eps=eps, affine=affine)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.flatten(1)).reshape(x.shape)


def _module(layer: Layer, side: int) -> tuple[torch.nn.Module, int]:
    """The module of a layer, and the side of the map that it gives.

    Args:
        layer: what it is.
        side: of the map that it takes; 0 for the first layer.
    """
    i, o, k = layer.in_channels, layer.out_channels, layer.kernel
    if layer.kind == "linear":
        return DenseMap(i, o, k, layer.bias), k
    if layer.kind == "conv":
        return torch.nn.Conv2d(i, o, k, padding=k // 2, bias=layer.bias), side
    if side == 0:
        return torch.nn.ConvTranspose2d(i, o, k, bias=layer.bias), k
    # Doubling: (side - 1) * 2 - 2 * padding + k + output_padding = 2 * side
    padding, odd = divmod(k - 1, 2)
    return torch.nn.ConvTranspose2d(
        i, o, k, stride=2, padding=padding, output_padding=1 - odd, bias=layer.bias
    ), 2 * side
