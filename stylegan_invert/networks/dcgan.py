"""Generators of DCGAN and WGAN: a dense layer, then convolutions that enlarge the map, with batch normalisation and ReLU.

Radford, Metz & Chintala, "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks"
(2016).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch

from ..ops import native
from .layers import check_shape

UPSAMPLING = ("nearest", "bilinear")
MAX_SIDE = 4096  # pixels of a map
ACTIVATIONS: dict[str, Callable[[], torch.nn.Module]] = {
    "relu": torch.nn.ReLU,
    "lrelu": lambda: torch.nn.LeakyReLU(0.2),
    "elu": torch.nn.ELU,
    "linear": torch.nn.Identity,
}
OUTPUTS: dict[str, Callable[[], torch.nn.Module]] = {
    "tanh": torch.nn.Tanh,
    "sigmoid": torch.nn.Sigmoid,
    "linear": torch.nn.Identity,
}


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
        stride: of a convolution. None is the usual one: 2 for a transposed convolution, otherwise 1.
        padding: of a convolution. None is the one with which a transposed convolution multiplies the side by its stride,
            and a plain one keeps it. The first layer then has none.
        output_padding: rows and columns that a transposed convolution adds at the end; None as for ``padding``.
        upsample: the factor by which the map is enlarged before the layer.
    """

    kind: str
    in_channels: int
    out_channels: int
    kernel: int
    bias: bool
    norm: str = "channels"
    affine: bool = True
    stride: int | None = None
    padding: int | None = None
    output_padding: int | None = None
    upsample: int = 1


class Geometry(NamedTuple):
    """The numbers of a convolution that its weight does not show; see `Layer`."""

    stride: int
    padding: int
    output_padding: int


def geometry(layer: Layer, first: bool) -> Geometry:
    """The stride and the paddings of a layer, with the usual ones in place of None.

    Args:
        layer: a convolution.
        first: True if it takes z.

    Raises:
        ValueError: there are no usual paddings for its kernel and stride, or a number makes no sense.
    """
    kernel, transposed = layer.kernel, layer.kind == "transposed"
    stride = (2 if transposed and not first else 1) if layer.stride is None else layer.stride
    padding, extra = layer.padding, layer.output_padding
    if padding is None:
        padding = 0 if first else max(-(-(kernel - stride) // 2), 0) if transposed else kernel // 2
        if extra is None and transposed and not first:
            extra = stride - kernel + 2 * padding
    extra = 0 if extra is None else extra
    numbers = {"stride": (stride, 1, 64), "padding": (padding, 0, 64), "output_padding": (extra, 0, 63)}
    for name, (value, low, high) in numbers.items():
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"a convolution has the {name} {value!r}; expected an integer from {low} to {high}")
    if extra >= stride and extra > 0:
        raise ValueError(
            f"a kernel of {kernel} and the stride {stride} need the paddings to be given, and an output padding smaller "
            "than the stride"
        )
    if not transposed and kernel % 2 == 0 and layer.padding is None:
        raise ValueError(f"a convolution with a kernel of {kernel} needs its padding to be given")
    return Geometry(stride, padding, extra)


class DCGAN(torch.nn.Module):
    """A generator from z to pictures, made of `Layer`s.

    Args:
        layers: in the order of computation. The first takes z as a map of 1x1.
        activation: after each layer except the last; a key of `ACTIVATIONS`, or a list of one for each of these layers.
        output: after the last layer; a key of `OUTPUTS`. Pictures of the sigmoid are brought to [-1, 1].
        eps: of the batch normalisation.
        classes: the number of classes, whose one-hot label is joined to z; 0 for a network without classes. The first
            layer takes z and the label.
        classes_first: True if the label lies before z, False if it lies behind.
        upsample_mode: how maps are enlarged before a layer, one of `UPSAMPLING`.

    It is called with z (N, z_dim), and with labels c (N, classes) if it has classes.

    ``init_kwargs`` holds these arguments as plain values, with tables for the layers.

    The modules are named ``dense`` (the first layer), ``dense_norm``, ``dense_act``, ``up1``, ``up1_norm``, ..., in the
    order of computation.
    """

    family = "dcgan"
    z_prior = "normal"
    dense_layer = "dense"

    def __init__(
        self,
        layers: Sequence[Layer | Mapping[str, Any]],
        activation: str | Sequence[str] = "relu",
        output: str = "tanh",
        eps: float = 1e-5,
        classes: int = 0,
        classes_first: bool = False,
        upsample_mode: str = "nearest",
    ):
        super().__init__()
        made = tuple(layer if isinstance(layer, Layer) else Layer(**layer) for layer in layers)
        self.layers = made
        self.init_kwargs: dict[str, Any] = dict(
            layers=[asdict(layer) for layer in made],
            activation=activation if isinstance(activation, str) else list(activation),
            output=output,
            eps=eps,
            classes=classes,
            classes_first=classes_first,
            upsample_mode=upsample_mode,
        )
        if type(classes) is not int or not 0 <= classes < made[0].in_channels:
            raise ValueError(f"{classes!r} classes in the {made[0].in_channels} numbers that the first layer takes")
        if upsample_mode not in UPSAMPLING:
            raise ValueError(f"upsample_mode is {upsample_mode!r}; expected one of {', '.join(UPSAMPLING)}")
        activations = [activation] * (len(made) - 1) if isinstance(activation, str) else list(activation)
        if len(activations) != len(made) - 1:
            raise ValueError(f"{len(activations)} activations for {len(made)} layers; expected {len(made) - 1}")
        self.c_dim, self.classes_first = classes, bool(classes_first)
        self.z_dim = made[0].in_channels - classes
        self.img_channels = made[-1].out_channels
        self.output = output
        self.layer_shapes: dict[str, tuple[int, int, int]] = {}
        shown, side = [], 1
        for i, layer in enumerate(made):
            name = "dense" if i == 0 else f"{'up' if layer.kind == 'transposed' else 'conv'}{i}"
            if layer.upsample != 1:
                side = _enlarged(side, layer.upsample)
                self._add(f"{name}_before", _Enlarge(layer.upsample, upsample_mode), (layer.in_channels, side, side))
            module, side, numbers = _module(layer, side, i == 0)
            shown += [numbers] if numbers is not None else []
            shape = (layer.out_channels, side, side)
            self._add(name, module, shape)
            if layer.norm == "features":
                self._add(f"{name}_norm", _NormedFeatures(layer.out_channels, side, eps, layer.affine), shape)
            elif layer.norm == "channels":
                norm = torch.nn.BatchNorm2d(layer.out_channels, eps=eps, affine=layer.affine)
                self._add(f"{name}_norm", norm, shape)
            last = i == len(made) - 1
            self._add(f"{name}_act", (OUTPUTS[output] if last else ACTIVATIONS[activations[i]])(), shape)
        del self.layer_shapes[f"{name}_act"]  # the last activation gives the picture
        self.img_resolution = side
        native.made_network(side)
        self.assumed = self._in_words(activation, eps, upsample_mode, shown)

    def _add(self, name: str, module: torch.nn.Module, shape: tuple[int, int, int]) -> None:
        self.add_module(name, module)
        self.layer_shapes[name] = shape

    def _in_words(
        self, activation: str | Sequence[str], eps: float, upsample_mode: str, shown: Sequence[Geometry]
    ) -> str:
        """Everything that a state dict does not say of this network."""
        named = activation if isinstance(activation, str) else "/".join(activation)
        parts = [f"{named} and {self.output}", f"batch normalisation with eps {eps:g}"]
        for name, column in zip(("strides", "paddings", "output paddings"), zip(*shown)):
            parts += [f"{name} {'/'.join(map(str, column))}"] if any(column) else []
        factors = [layer.upsample for layer in self.layers if layer.kind != "linear"]
        if any(factor != 1 for factor in factors):
            parts.append(f"maps enlarged by {'/'.join(map(str, factors))} before the convolutions ({upsample_mode})")
        if self.c_dim:
            parts.append(f"a label of {self.c_dim} classes {'before' if self.classes_first else 'behind'} z")
        return ", ".join(parts)

    def forward(self, z: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        """Pictures (N, img_channels, R, R) in [-1, 1] of latents (N, z_dim) and labels (N, c_dim)."""
        if z.ndim != 2 or z.shape[1] != self.z_dim:
            raise ValueError(f"z has shape {tuple(z.shape)}; expected (any, {self.z_dim})")
        if self.c_dim:
            if c is None or tuple(c.shape) != (len(z), self.c_dim):
                shape = None if c is None else tuple(c.shape)
                raise ValueError(
                    f"c has shape {shape}; expected ({len(z)}, {self.c_dim}), one row of weights per picture"
                )
            c = c.to(z.dtype)
            z = torch.cat([c, z] if self.classes_first else [z, c], dim=1)
        x = z[:, :, None, None]
        for module in self.children():
            x = module(x)
        return x * 2 - 1 if self.output == "sigmoid" else x


class Discriminator(torch.nn.Module):
    """A discriminator of strided convolutions with leaky ReLU, down to a map of 4x4.

    It has no batch normalisation, so that what it says of a picture depends on that picture alone. WGAN-GP and a head that
    finds latents need that.

    Args:
        img_resolution: side of the pictures, a power of two from 8 on.
        img_channels: their channels.
        channels: behind the first convolution; each later one has twice as many.

    Source: Radford et al. 2016; Gulrajani et al. 2017 (no batch normalisation).
    """

    family = "dcgan"
    c_dim = 0
    compares_batch = False

    def __init__(self, img_resolution: int, img_channels: int, channels: int):
        super().__init__()
        self.init_kwargs = dict(img_resolution=img_resolution, img_channels=img_channels, channels=channels)
        if (
            type(img_resolution) is not int
            or not 8 <= img_resolution <= MAX_SIDE
            or img_resolution & (img_resolution - 1)
        ):
            raise ValueError(f"img_resolution is {img_resolution!r}; expected a power of two from 8 to {MAX_SIDE}")
        if type(channels) is not int or not 1 <= channels <= 2**12:
            raise ValueError(f"channels is {channels!r}; expected an integer from 1 to {2**12}")
        self.img_resolution, self.img_channels = img_resolution, img_channels
        count = img_resolution.bit_length() - 3
        widths = [img_channels, *(channels << i for i in range(count))]
        self.convs = torch.nn.ModuleList(
            torch.nn.Conv2d(n, m, 4, stride=2, padding=1) for n, m in zip(widths, widths[1:])
        )
        self.num_features = widths[-1] * 16
        self.out = torch.nn.Linear(self.num_features, 1)

    def features(self, img: torch.Tensor) -> torch.Tensor:
        """The last map (N, num_features) of pictures (N, img_channels, R, R) in [-1, 1]."""
        check_shape("img", img, [None, self.img_channels, self.img_resolution, self.img_resolution])
        x = img.to(torch.float32)
        for conv in self.convs:
            x = torch.nn.functional.leaky_relu(conv(x), 0.2)
        return x.flatten(1)

    def score(self, features: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        """Scores (N, 1) from `features`; ``c`` is not read."""
        return self.out(features)

    def forward(self, img: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        """Scores (N, 1) of pictures, higher for more real ones."""
        return self.score(self.features(img))


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


class _Enlarge(torch.nn.Module):
    """Enlarges maps by a factor, by repeating pixels or between them by straight lines."""

    def __init__(self, factor: int, mode: str):
        super().__init__()
        self.factor, self.mode = factor, mode

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(x, scale_factor=self.factor, mode=self.mode)


def _enlarged(side: int, factor: int) -> int:
    if type(factor) is not int or not 1 <= factor <= 64:
        raise ValueError(f"a map is enlarged by {factor!r}; expected an integer from 1 to 64")
    return side * factor


def _module(layer: Layer, side: int, first: bool) -> tuple[torch.nn.Module, int, Geometry | None]:
    """The module of a layer, the side of the map that it gives, and the numbers that its weight does not show.

    Args:
        layer: what it is.
        side: of the map that it takes.
        first: True if it takes z.
    """
    i, o, k = layer.in_channels, layer.out_channels, layer.kernel
    if layer.kind == "linear":
        return DenseMap(i, o, k, layer.bias), _checked(k), None
    numbers = geometry(layer, first)
    stride, padding, extra = numbers
    if layer.kind == "conv":
        module: torch.nn.Module = torch.nn.Conv2d(i, o, k, stride=stride, padding=padding, bias=layer.bias)
        return module, _checked((side + 2 * padding - k) // stride + 1), numbers
    module = torch.nn.ConvTranspose2d(i, o, k, stride=stride, padding=padding, output_padding=extra, bias=layer.bias)
    return module, _checked((side - 1) * stride - 2 * padding + k + extra), numbers


def _checked(side: int) -> int:
    if not 1 <= side <= MAX_SIDE:
        raise ValueError(f"a map would have {side} pixels a side; expected 1 to {MAX_SIDE}")
    return side
