"""Layers that generators and discriminators of several families share."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch

from ..ops import ACTIVATIONS, bias_act, conv2d_resample, native, normalize_2nd_moment, setup_filter

ARCHITECTURES = ("orig", "skip", "resnet")
RESAMPLE_FILTER = (1, 3, 3, 1)
ComputeFormat = tuple[torch.dtype, torch.memory_format]


def normal(shape: Sequence[int], divisor: float = 1) -> torch.Tensor:
    """A float32 tensor of the normal distribution with standard deviation 1 / ``divisor``: weights before training.

    On the meta device, where readers of network files build networks, a tensor has a shape and no numbers; torch.randn
    would import sympy and torch._dynamo there, which takes a second.
    """
    if torch.get_default_device().type == "meta":
        return torch.empty(shape)
    return torch.randn(shape) / divisor


class RecordedModule(torch.nn.Module):
    """A module that remembers the arguments of its constructor, as official classes do.

    ``type(m)(*m.init_args, **m.init_kwargs)`` builds a new module of the same form. Network files store both.
    """

    _init_args: tuple[Any, ...]
    _init_kwargs: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        self = super().__new__(cls)
        self.__dict__.update(_init_args=args, _init_kwargs=kwargs)
        return self

    @property
    def init_args(self) -> tuple:
        return self._init_args

    @property
    def init_kwargs(self) -> dict[str, Any]:
        return self._init_kwargs

    @property
    def arguments(self) -> dict[str, Any]:
        """All arguments by name, those too that were given by position."""
        return dict(inspect.signature(type(self)).bind(*self._init_args, **self._init_kwargs).arguments)


def check_shape(name: str, x: torch.Tensor, expected: Sequence[int | None], hint: str = "") -> None:
    """Raise ValueError with both shapes unless ``x`` has the expected one, in which None stands for any size.

    Args:
        name: of the tensor, for the error.
        x: the tensor.
        expected: the size of each dimension.
        hint: a sentence that is added to the error.
    """
    if x.ndim != len(expected) or any(e is not None and s != e for s, e in zip(x.shape, expected)):
        wanted = ", ".join("any" if e is None else str(e) for e in expected)
        raise ValueError(f"{name} has shape {tuple(x.shape)}; expected ({wanted}){'. ' + hint if hint else ''}")


def compute_format(x: torch.Tensor, use_fp16: bool, channels_last: bool, force_fp32: bool) -> ComputeFormat:
    """The dtype and the memory format in which a block computes.

    Half precision is used only on CUDA, and only where the file asks for it. On a CPU the operations choose the format.
    """
    if use_fp16 and not force_fp32 and x.device.type == "cuda":
        return torch.float16, torch.channels_last if channels_last else torch.contiguous_format
    return torch.float32, torch.preserve_format if x.device.type == "cpu" else torch.contiguous_format


def widest_dtype(device: torch.device | str) -> torch.dtype:
    """The dtype in which a device computes most exactly: float64, but float32 on "mps", which has no float64."""
    return torch.float32 if torch.device(device).type == "mps" else torch.float64


def uses_fp16(resolution: int, img_resolution: int, num_fp16_res: int) -> bool:
    """True if a block is among the ``num_fp16_res`` highest resolutions. The block of 4x4 never is."""
    return resolution >= 8 and resolution.bit_length() > img_resolution.bit_length() - num_fp16_res


class FullyConnectedLayer(RecordedModule):
    """Dense layer with equalised learning rate, from (N, in_features) to (N, out_features).

    The weight has unit variance at the start, and is scaled whenever it is used.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        activation: str = "linear",
        lr_multiplier: float = 1,
        bias_init: float = 0,
    ):
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.activation = activation
        self.weight = torch.nn.Parameter(normal([out_features, in_features], lr_multiplier))
        self.bias = torch.nn.Parameter(torch.full([out_features], float(bias_init))) if bias else None
        self.weight_gain = lr_multiplier / math.sqrt(in_features) if in_features else math.inf
        self.bias_gain = lr_multiplier

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        w = self.weight.to(x.dtype) * self.weight_gain
        b = self.bias.to(x.dtype) * self.bias_gain if self.bias is not None else None
        if self.activation == "linear" and b is not None:
            return torch.addmm(b[None], x, w.t())
        return bias_act(x @ w.t(), b, act=self.activation)


class Conv2dLayer(RecordedModule):
    """Convolution with equalised learning rate, from (N, in, H, W) to (N, out, up * H / down, up * W / down)."""

    resample_filter: torch.Tensor | None
    weight: torch.Tensor
    bias: torch.Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        bias: bool = True,
        activation: str = "linear",
        up: int = 1,
        down: int = 1,
        resample_filter: Sequence[float] = RESAMPLE_FILTER,
        conv_clamp: float | None = None,
        channels_last: bool = False,
        trainable: bool = True,
    ):
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.activation = activation
        self.up = up
        self.down = down
        self.conv_clamp = conv_clamp
        self.register_buffer("resample_filter", setup_filter(resample_filter))
        self.padding = kernel_size // 2
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_size**2)
        self.act_gain = ACTIVATIONS[activation].gain
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        weight = normal([out_channels, in_channels, kernel_size, kernel_size]).to(memory_format=memory_format)
        values = {"weight": weight, "bias": torch.zeros([out_channels]) if bias else None}
        for name, value in values.items():
            # The weights of layers that Freeze-D keeps as they are become buffers, which optimisers do not see.
            if value is None or trainable:
                self.register_parameter(name, None if value is None else torch.nn.Parameter(value))
            else:
                self.register_buffer(name, value)

    def forward(self, x: torch.Tensor, gain: float = 1) -> torch.Tensor:
        # A layer without bias, activation and clamp only has a gain left, which costs nothing in the weight.
        is_linear = self.bias is None and self.activation == "linear" and self.conv_clamp is None
        w = (self.weight * (self.weight_gain * (gain if is_linear else 1))).to(x.dtype)
        x = conv2d_resample(
            x, w, f=self.resample_filter, up=self.up, down=self.down, padding=self.padding, flip_weight=self.up == 1
        )
        if is_linear:
            return x
        b = self.bias.to(x.dtype) if self.bias is not None else None
        clamp = self.conv_clamp * gain if self.conv_clamp is not None else None
        return bias_act(x, b, act=self.activation, gain=self.act_gain * gain, clamp=clamp)


LABEL_PATHS = ("embed", "concat")


class MappingNetwork(RecordedModule):
    """From latent z and label c to intermediate latents w.

    Args:
        z_dim: size of z; 0 for none, as in a discriminator, which maps only a label.
        c_dim: size of the label; 0 for a network without classes.
        w_dim: size of w.
        num_ws: how many copies of w are returned, one per layer of the synthesis; None returns (N, w_dim).
        num_layers: number of dense layers.
        embed_features: size of the embedded label; None takes w_dim.
        layer_features: size of the layers between the first and the last; None takes w_dim.
        activation: of the dense layers.
        lr_multiplier: of the dense layers.
        w_avg_beta: decay of the running mean ``w_avg`` of w in training mode; None for a network without that mean.
        label_path: how the label is joined to z. "embed", of StyleGAN2-ADA: z and the embedded label are each divided
            by their root mean square, then joined. "concat", of TensorFlow's StyleGAN2: the label times a matrix,
            without bias or gain, is joined to z, and the result is divided by its root mean square.
        layer: makes a dense layer from (in_features, out_features, activation=, lr_multiplier=), for classes that
            inherit.

    Attributes:
        normalize_z: False if z, or with "concat" z and the label, is not divided by its root mean square. It is True in
            all official networks.
        uniform_z: True if z from N(0, 1) is first brought to U(-1, 1) by 2 Phi(z) - 1, where Phi is the normal distribution
            function. No official network does this; it is one of the two samplings of the direction head's paper.
    """

    normalize_z = True
    uniform_z = False
    w_avg: torch.Tensor

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        num_ws: int | None,
        num_layers: int = 8,
        embed_features: int | None = None,
        layer_features: int | None = None,
        activation: str = "lrelu",
        lr_multiplier: float = 0.01,
        w_avg_beta: float | None = 0.995,
        label_path: str = "embed",
        layer: Callable[..., torch.nn.Module] = FullyConnectedLayer,
    ):
        if label_path not in LABEL_PATHS:
            raise ValueError(f"label_path is {label_path!r}; expected one of {', '.join(LABEL_PATHS)}")
        super().__init__()
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.w_dim = w_dim
        self.num_ws = num_ws
        self.num_layers = num_layers
        self.w_avg_beta = w_avg_beta
        self._concat = label_path == "concat" and c_dim > 0
        embed_features = w_dim if embed_features is None else embed_features
        layer_features = w_dim if layer_features is None else layer_features
        if c_dim > 0:
            self.embed = FullyConnectedLayer(c_dim, embed_features, bias=not self._concat)
            if self._concat:
                self.embed.weight_gain = 1.0
        first = z_dim + (embed_features if c_dim > 0 else 0)
        sizes = [first] + [layer_features] * (num_layers - 1) + [w_dim]
        for i in range(num_layers):
            dense = layer(sizes[i], sizes[i + 1], activation=activation, lr_multiplier=lr_multiplier)
            setattr(self, f"fc{i}", dense)
        if num_ws is not None and w_avg_beta is not None:
            self.register_buffer("w_avg", torch.zeros([w_dim]))

    def forward(
        self,
        z: torch.Tensor | None,
        c: torch.Tensor | None = None,
        truncation_psi: float = 1,
        truncation_cutoff: int | None = None,
        skip_w_avg_update: bool = False,
    ) -> torch.Tensor:
        """Map (N, z_dim) and (N, c_dim) to (N, num_ws, w_dim), float32.

        Args:
            z: latents from N(0, 1), any floating dtype; ignored if z_dim is 0.
            c: one-hot labels; needed if c_dim is not 0.
            truncation_psi: how much of the difference to ``w_avg`` is kept: w_avg + psi * (w - w_avg).
            truncation_cutoff: number of layers, from the first on, that are truncated; None for all.
            skip_w_avg_update: do not update ``w_avg``, although the module is in training mode.
        """
        x = None
        if self.z_dim > 0:
            if z is None:
                raise ValueError(f"this network got no z; give z of shape (N, {self.z_dim})")
            check_shape("z", z, [None, self.z_dim])
            x = z.to(torch.float32)
            x = torch.erf(x * 0.5**0.5) if self.uniform_z else x
            x = normalize_2nd_moment(x) if self.normalize_z and not self._concat else x
        if self.c_dim > 0:
            if c is None:
                raise ValueError(
                    f"this network has {self.c_dim} classes and got no label; give c, one-hot, of shape "
                    f"(N, {self.c_dim})"
                )
            check_shape("c", c, [None, self.c_dim])
            y = self.embed(c.to(torch.float32))
            y = y if self._concat else normalize_2nd_moment(y)
            x = y if x is None else torch.cat([x, y], dim=1)
            x = normalize_2nd_moment(x) if self._concat and self.normalize_z else x
        if x is None:
            raise ValueError("this network has neither z nor classes (z_dim and c_dim are 0)")
        for i in range(self.num_layers):
            x = getattr(self, f"fc{i}")(x)
        if self.w_avg_beta is not None and self.training and not skip_w_avg_update:
            self.w_avg.copy_(x.detach().mean(dim=0).lerp(self.w_avg, self.w_avg_beta))
        if self.num_ws is not None:
            x = x.unsqueeze(1).repeat([1, self.num_ws, 1])  # (N, num_ws, w_dim)
        if truncation_psi != 1:
            if self.w_avg_beta is None:
                raise ValueError(
                    "this mapping network keeps no w_avg (w_avg_beta is None), so truncation_psi must be 1"
                )
            cut = x.shape[1] if truncation_cutoff is None else truncation_cutoff
            x = torch.cat([self.w_avg.lerp(x[:, :cut], truncation_psi), x[:, cut:]], dim=1)
        return x


class Synthesis(torch.nn.Module):
    """What the synthesis networks of all StyleGANs have in common, from w to pictures."""

    img_resolution: int
    img_channels: int
    num_ws: int


class StyleGAN(RecordedModule):
    """A mapping network and a synthesis network. The generators of all StyleGANs inherit from this.

    Args:
        z_dim: size of z.
        c_dim: number of classes, 0 for none.
        w_dim: size of w.
        synthesis: the synthesis network.
        mapping: the class of the mapping network.
        mapping_kwargs: arguments for it.
    """

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        synthesis: Synthesis,
        mapping: type[MappingNetwork] = MappingNetwork,
        mapping_kwargs: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.w_dim = w_dim
        self.img_resolution = synthesis.img_resolution
        native.made_network(self.img_resolution)
        self.img_channels = synthesis.img_channels
        self.synthesis = synthesis
        self.num_ws = synthesis.num_ws
        self.mapping = mapping(z_dim, c_dim, w_dim, num_ws=self.num_ws, **(mapping_kwargs or {}))

    def forward(
        self,
        z: torch.Tensor,
        c: torch.Tensor | None = None,
        truncation_psi: float = 1,
        truncation_cutoff: int | None = None,
        **synthesis_kwargs: Any,
    ) -> torch.Tensor:
        """Render z (N, z_dim) with labels c (N, c_dim); see `MappingNetwork.forward` and `SynthesisNetwork.forward`."""
        ws = self.mapping(z, c, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff)
        return self.synthesis(ws, **synthesis_kwargs)
