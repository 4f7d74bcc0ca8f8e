"""The StyleGAN generator and discriminator of 2018.

Written from Karras, Laine & Aila, "A Style-Based Generator Architecture for Generative Adversarial Networks" (2019),
and from the constants of the official TensorFlow code. Call signatures are those of this package's StyleGAN2. Weights
are kept as official files have them and are scaled whenever they are used (equalised learning rate, Karras et al.,
"Progressive Growing of GANs", 2018, section 4.1). The scale of a convolution is applied to its output, where it costs
nothing.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from ..ops import ACTIVATIONS, conv2d, normalize_2nd_moment, setup_filter, upfirdn2d
from ..ops.frozen import kept
from . import layers
from .discriminators import MinibatchStdLayer
from .layers import check_shape
from .stylegan2 import NOISE_MODES

NONLINEARITIES = ("lrelu", "relu")
GAIN = math.sqrt(2)  # of the weights of a layer with an activation; the activation itself has no gain
FUSED_FROM = 128  # the lowest resolution at which fused_scale "auto" is True
BLUR_FILTER = (1, 2, 1)


def feature_maps(stage: int, fmap_base: float, fmap_decay: float, fmap_max: int) -> int:
    """The number of channels of a stage. Layers of the resolution 2^k are those of stage k - 1."""
    return min(int(fmap_base / 2.0 ** (stage * fmap_decay)), fmap_max)


def _levels(img_resolution: int, lod: float) -> tuple[int, float]:
    """For a level of detail: log2 of the resolution of the network, and the part of the resolution below in its output."""
    if img_resolution < 4 or img_resolution & (img_resolution - 1):
        raise ValueError(f"img_resolution is {img_resolution}; expected a power of two of at least 4")
    if not (lod >= 0 and math.isfinite(lod)):
        raise ValueError(f"lod is {lod}; expected a number of at least 0")
    top = img_resolution.bit_length() - 1
    lod = min(lod, top - 2)
    return top - math.floor(lod), lod - math.floor(lod)


def _weight_gain(fan_in: int, gain: float, use_wscale: bool, lr_multiplier: float = 1) -> float:
    return lr_multiplier * (gain / math.sqrt(fan_in) if use_wscale else 1)


def _doubled(weight: torch.Tensor) -> torch.Tensor:
    """A kernel (O, I, 3, 3) convolved with a box of 2x2, (O, I, 4, 4)."""
    w = F.pad(weight, [1, 1, 1, 1])
    return w[:, :, 1:, 1:] + w[:, :, :-1, 1:] + w[:, :, 1:, :-1] + w[:, :, :-1, :-1]


def instance_norm(x: torch.Tensor, eps: float = 1e-8) -> torch.Tensor:
    """Each map of (N, C, H, W) less its mean, divided by the root of its mean square plus ``eps``.

    Torch's own function (2.13) gives a wrong gradient on a CPU if the gradient of its output is in the channels-last
    format.
    """
    x = x - x.mean(dim=[2, 3], keepdim=True)
    return x * (x.square().mean(dim=[2, 3], keepdim=True) + eps).rsqrt()


class Blur(torch.nn.Module):
    """A low-pass filter that keeps the size of the maps. Its taps are as for `setup_filter`, or None for no filter."""

    def __init__(self, taps: Sequence[float] | Sequence[Sequence[float]] | None):
        super().__init__()
        self.filter: torch.Tensor | None
        # Official code computes a correlation and upfirdn2d a convolution, so the taps are turned.
        f = setup_filter(taps) if taps else None
        self.register_buffer("filter", f if f is None or f.is_meta else f.flip(list(range(f.ndim))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.filter is None:
            return x
        height, width = self.filter.shape[0], self.filter.shape[-1]
        # TensorFlow's "SAME" puts the larger half of an odd number of rows at the end.
        return upfirdn2d(x, self.filter, padding=[(width - 1) // 2, width // 2, (height - 1) // 2, height // 2])


class DenseLayer(torch.nn.Module):
    """Dense layer from (N, in) to (N, out). Its gain is in the scale of the weight; the activation has none."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        gain: float = GAIN,
        use_wscale: bool = True,
        lr_multiplier: float = 1,
        bias: bool = True,
        activation: str = "linear",
    ):
        super().__init__()
        self.activation = activation
        self.weight_gain = _weight_gain(in_features, gain, use_wscale, lr_multiplier)
        self.bias_gain = lr_multiplier
        self.weight = torch.nn.Parameter(layers.normal([out_features, in_features], lr_multiplier))
        self.bias = torch.nn.Parameter(torch.zeros([out_features])) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.bias is None:
            x = x @ self.weight.t() * self.weight_gain
        else:
            x = torch.addmm(self.bias, x, self.weight.t(), beta=self.bias_gain, alpha=self.weight_gain)
        return ACTIVATIONS[self.activation].function(x)


class ConvLayer(torch.nn.Module):
    """Convolution, bias and activation, from (N, in, H, W) to (N, out, H, W), or to half the size with ``down``.

    With ``down``, maps are blurred before the convolution, and squares of 2x2 pixels are averaged after it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        gain: float = GAIN,
        use_wscale: bool = True,
        activation: str = "linear",
        down: bool = False,
        blur_filter: Sequence[float] | None = None,
    ):
        super().__init__()
        self.activation = activation
        self.down = down
        self.weight_gain = _weight_gain(in_channels * kernel_size**2, gain, use_wscale)
        self.blur = Blur(blur_filter)
        self.weight = torch.nn.Parameter(layers.normal([out_channels, in_channels, kernel_size, kernel_size]))
        self.bias = torch.nn.Parameter(torch.zeros([out_channels]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.down:
            kernel = kept(self.weight, "stylegan1 down", lambda w: _doubled(w) / 4)
            x = F.conv2d(self.blur(x), kernel, stride=2, padding=1)
        else:
            x = conv2d(x, self.weight, padding=self.weight.shape[2] // 2)
        x = torch.add(self.bias[:, None, None], x, alpha=self.weight_gain)
        return ACTIVATIONS[self.activation].function(x)


class MappingNetwork(layers.MappingNetwork):
    """From latent z and label c to intermediate latents w.

    A matrix makes a vector of the size of z from a label, which is joined to z; the result is divided by its root mean
    square. The activations have no gain, so w is the leaky ReLU of a vector of V without a factor. Official tools
    truncate with psi 0.7 and cutoff 8. ``w_avg`` is that of the file, and does not change in training mode.

    Args:
        z_dim: size of z.
        c_dim: number of classes, 0 for none.
        w_dim: size of w.
        num_ws: how many copies of w are returned, one per layer of the synthesis.
        num_layers: number of dense layers.
        layer_features: size of the layers between the first and the last.
        activation: of the dense layers.
        lr_multiplier: of the dense layers.
        use_wscale: True for an equalised learning rate.
        normalize_z: True to divide z and the label by their root mean square.
    """

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        num_ws: int,
        num_layers: int = 8,
        layer_features: int = 512,
        activation: str = "lrelu",
        lr_multiplier: float = 0.01,
        use_wscale: bool = True,
        normalize_z: bool = True,
    ):
        if activation not in NONLINEARITIES:
            raise ValueError(f"activation is {activation!r}; expected one of {', '.join(NONLINEARITIES)}")
        super().__init__(
            z_dim,
            c_dim,
            w_dim,
            num_ws,
            num_layers,
            embed_features=z_dim,
            layer_features=layer_features,
            activation=activation,
            lr_multiplier=lr_multiplier,
            w_avg_beta=1,
            label_path="concat",
            layer=partial(DenseLayer, use_wscale=use_wscale),
        )
        self.normalize_z = normalize_z


class SynthesisLayer(torch.nn.Module):
    """The base of all layers of the synthesis, which computes the end that they have in common.

    This is noise with a strength per channel, bias, activation, normalisation, and the style: x * (s0 + 1) + s1, where
    s0 and s1 are affine functions of w (equation 1 of the paper). The classes below compute what comes before it.
    """

    def __init__(
        self,
        out_channels: int,
        w_dim: int,
        resolution: int,
        use_noise: bool,
        activation: str,
        use_pixel_norm: bool,
        use_instance_norm: bool,
        use_styles: bool,
        use_wscale: bool,
    ):
        super().__init__()
        self.out_channels = out_channels
        self.w_dim = w_dim
        self.resolution = resolution
        self.use_noise = use_noise
        self.activation = activation
        self.use_pixel_norm = use_pixel_norm
        self.use_instance_norm = use_instance_norm
        self.noise_const: torch.Tensor
        if use_noise:
            self.register_buffer("noise_const", layers.normal([resolution, resolution]))
            self.noise_strength = torch.nn.Parameter(torch.zeros([out_channels]))
        self.bias = torch.nn.Parameter(torch.zeros([out_channels]))
        self.style = DenseLayer(w_dim, 2 * out_channels, gain=1, use_wscale=use_wscale) if use_styles else None

    def finish(
        self, x: torch.Tensor, gain: float, w: torch.Tensor, noise_mode: str, noise: torch.Tensor | None
    ) -> torch.Tensor:
        """The end of the layer, from x (N, out, R, R), which is first multiplied by ``gain``, and w (N, w_dim)."""
        if noise_mode not in NOISE_MODES:
            raise ValueError(f"noise_mode is {noise_mode!r}; expected one of {', '.join(NOISE_MODES)}")
        shift = self.bias[:, None, None]
        if self.use_noise:
            size = [self.resolution, self.resolution]
            if noise is None and noise_mode == "random":
                noise = torch.randn([x.shape[0], 1, *size], device=x.device)
            if noise is None and noise_mode == "const":
                noise = self.noise_const[None, None]
            if noise is not None:
                check_shape("a noise map", noise, [None, 1, *size])
                shift = torch.addcmul(shift, noise, self.noise_strength[:, None, None])
        elif noise is not None:
            raise ValueError("a noise map was given for a layer without noise input")
        x = ACTIVATIONS[self.activation].function(torch.add(shift, x, alpha=gain))
        if self.use_pixel_norm:
            x = normalize_2nd_moment(x)
        if self.use_instance_norm:
            x = instance_norm(x)
        if self.style is not None:
            scale, shift = self.style(w).reshape(-1, 2, self.out_channels, 1, 1).unbind(dim=1)
            x = torch.addcmul(shift, x, scale + 1)
        return x


class ConstLayer(SynthesisLayer):
    """The first layer, a learned constant (N, out, 4, 4)."""

    def __init__(self, out_channels: int, w_dim: int, **kwargs: Any):
        super().__init__(out_channels, w_dim, 4, **kwargs)
        self.const = torch.nn.Parameter(torch.ones([out_channels, 4, 4]))

    def forward(self, w: torch.Tensor, noise_mode: str, noise: torch.Tensor | None) -> torch.Tensor:
        return self.finish(self.const.expand(len(w), -1, -1, -1), 1, w, noise_mode, noise)


class DenseInputLayer(SynthesisLayer):
    """The first layer of a network that has no constant: a dense layer from w to (N, out, 4, 4)."""

    def __init__(self, out_channels: int, w_dim: int, use_wscale: bool, **kwargs: Any):
        super().__init__(out_channels, w_dim, 4, use_wscale=use_wscale, **kwargs)
        self.dense = DenseLayer(w_dim, out_channels * 16, gain=GAIN / 4, use_wscale=use_wscale, bias=False)

    def forward(self, w: torch.Tensor, noise_mode: str, noise: torch.Tensor | None) -> torch.Tensor:
        return self.finish(self.dense(w).reshape(-1, self.out_channels, 4, 4), 1, w, noise_mode, noise)


class ConvSynthesisLayer(SynthesisLayer):
    """A 3x3 convolution to (N, out, R, R), from (N, in, R, R), or from half the size with ``up`` 2.

    Args:
        in_channels: of the maps that it takes.
        out_channels: of the maps that it gives.
        w_dim: size of w.
        resolution: R.
        use_wscale: True for an equalised learning rate.
        up: 2 to double the size by repeating pixels before the convolution, and to filter with ``blur_filter`` after
            it.
        fused_scale: True if official code doubles the size and convolves at once, by a transposed convolution. That
            turns the kernel by 180 degrees, so the weight in the file is then a turned one.
        blur_filter: taps of the filter, or None.
        kwargs: for `SynthesisLayer`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        use_wscale: bool,
        up: int = 1,
        fused_scale: bool = False,
        blur_filter: Sequence[float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(out_channels, w_dim, resolution, use_wscale=use_wscale, **kwargs)
        self.in_channels = in_channels
        self.up = up
        self.fused_scale = fused_scale
        self.weight_gain = _weight_gain(in_channels * 9, GAIN, use_wscale)
        self.weight = torch.nn.Parameter(layers.normal([out_channels, in_channels, 3, 3]))
        self.blur = Blur(blur_filter)

    def forward(self, x: torch.Tensor, w: torch.Tensor, noise_mode: str, noise: torch.Tensor | None) -> torch.Tensor:
        size = self.resolution // self.up
        check_shape("x", x, [None, self.in_channels, size, size])
        if self.up == 2:
            kernel = kept(self.weight, ("stylegan1 up", self.fused_scale), self._kernel)
            x = self.blur(F.conv_transpose2d(x, kernel, stride=2, padding=1))
        else:
            x = conv2d(x, self.weight, padding=1)
        return self.finish(x, self.weight_gain, w, noise_mode, noise)

    def _kernel(self, weight: torch.Tensor) -> torch.Tensor:
        """The kernel (in, out, 4, 4) of the transposed convolution that repeats pixels and convolves at once."""
        return _doubled(weight if self.fused_scale else weight.flip(2, 3)).transpose(0, 1)


class SynthesisBlock(torch.nn.Module):
    """The two layers of one resolution, and a ToRGB layer if a picture is made at this resolution.

    The first layer is ``input`` (`ConstLayer` or `DenseInputLayer`) at 4x4 and ``conv0`` elsewhere, the second
    ``conv1``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        img_channels: int | None,
        const_input_layer: bool,
        fused_scale: bool,
        blur_filter: Sequence[float] | None,
        use_wscale: bool,
        **layer_kwargs: Any,
    ):
        super().__init__()
        common = dict(use_wscale=use_wscale, **layer_kwargs)
        if in_channels == 0:
            self.input = (ConstLayer if const_input_layer else DenseInputLayer)(out_channels, w_dim, **common)
        else:
            resampling: dict[str, Any] = dict(up=2, fused_scale=fused_scale, blur_filter=blur_filter)
            self.conv0 = ConvSynthesisLayer(in_channels, out_channels, w_dim, resolution, **resampling, **common)
        self.conv1 = ConvSynthesisLayer(out_channels, out_channels, w_dim, resolution, **common)
        if img_channels is not None:
            self.torgb = ConvLayer(out_channels, img_channels, 1, gain=1, use_wscale=use_wscale)

    def forward(
        self, x: torch.Tensor | None, ws: Sequence[torch.Tensor], noise_mode: str, noise: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """From features of half the size, or None at 4x4, and a w (N, w_dim) for each layer, to (N, out, R, R)."""
        if x is None:
            x = self.input(ws[0], noise_mode, noise.get("input"))
        else:
            x = self.conv0(x, ws[0], noise_mode, noise.get("conv0"))
        return self.conv1(x, ws[1], noise_mode, noise.get("conv1"))


class SynthesisNetwork(layers.Synthesis):
    """From intermediate latents to a picture.

    Args:
        w_dim: size of w.
        img_resolution: side of the picture, a power of two of at least 4.
        img_channels: its channels.
        fmap_base: see `feature_maps`.
        fmap_decay: see `feature_maps`.
        fmap_max: see `feature_maps`.
        use_styles: True if w modulates every layer. Otherwise there is one w, which only the dense first layer takes.
        const_input_layer: True if the first layer is a constant. Otherwise it is a dense layer.
        use_noise: True if layers add noise.
        nonlinearity: "lrelu" (slope 0.2) or "relu".
        use_wscale: True for an equalised learning rate.
        use_pixel_norm: True to divide each pixel by its root mean square before the style.
        use_instance_norm: True for `instance_norm` before the style.
        fused_scale: see `ConvSynthesisLayer`; "auto" is True from 128x128 on.
        blur_filter: taps of the filter after each doubling of the resolution; None for no filter.
        lod: level of detail, above 0 for a network that was still growing. Layers of a higher resolution than
            img_resolution / 2^floor(lod) are left out, and its fraction is the part of the next smaller picture in the
            output.
    """

    def __init__(
        self,
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        fmap_base: float = 8192,
        fmap_decay: float = 1.0,
        fmap_max: int = 512,
        use_styles: bool = True,
        const_input_layer: bool = True,
        use_noise: bool = True,
        nonlinearity: str = "lrelu",
        use_wscale: bool = True,
        use_pixel_norm: bool = False,
        use_instance_norm: bool = True,
        fused_scale: bool | str = "auto",
        blur_filter: Sequence[float] | None = BLUR_FILTER,
        lod: float = 0,
    ):
        if nonlinearity not in NONLINEARITIES:
            raise ValueError(f"nonlinearity is {nonlinearity!r}; expected one of {', '.join(NONLINEARITIES)}")
        if fused_scale not in (True, False, "auto"):
            raise ValueError(f"fused_scale is {fused_scale!r}; expected True, False or 'auto'")
        super().__init__()
        self.w_dim = w_dim
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.lod = lod
        self.top, self.fraction = _levels(img_resolution, lod)
        self.num_ws = 2 * (img_resolution.bit_length() - 1) - 2 if use_styles else 1
        self.use_styles = use_styles
        self.block_resolutions = [2**k for k in range(2, self.top + 1)]
        pictures = (self.top, self.top - 1) if self.fraction else (self.top,)
        for k in range(2, self.top + 1):
            channels = [feature_maps(stage, fmap_base, fmap_decay, fmap_max) for stage in (k - 2, k - 1)]
            block = SynthesisBlock(
                channels[0] if k > 2 else 0,
                channels[1],
                w_dim,
                2**k,
                img_channels if k in pictures else None,
                const_input_layer,
                2**k >= FUSED_FROM if fused_scale == "auto" else bool(fused_scale),
                blur_filter,
                use_wscale,
                use_noise=use_noise,
                activation=nonlinearity,
                use_pixel_norm=use_pixel_norm,
                use_instance_norm=use_instance_norm,
                use_styles=use_styles,
            )
            setattr(self, f"b{2**k}", block)

    def _layers(self) -> dict[str, SynthesisLayer]:
        return {name: m for name, m in self.named_modules() if isinstance(m, SynthesisLayer)}

    @property
    def layer_shapes(self) -> dict[str, tuple[int, int, int]]:
        """Names ("b8.conv0") and shapes (C, H, W) of the outputs of layers, after the style, in the order of computation."""
        return {name: (m.out_channels, m.resolution, m.resolution) for name, m in self._layers().items()}

    def details(self) -> dict[str, Any]:
        """What `stylegan-invert inspect` says of it."""
        return {"level_of_detail": self.lod, "styles": self.num_ws if self.use_styles else 0}

    def modulations(self) -> list[torch.Tensor | None]:
        """For each w, the matrix (2 * channels, w_dim) by which its layer takes scales and shifts from it; None if the
        network has no styles, or the layer lies above its level of detail."""
        styles = [m.style for m in self._layers().values() if m.style is not None]
        matrices = [style.weight * style.weight_gain for style in styles]
        return [*matrices, *[None] * (self.num_ws - len(matrices))]

    def noise_shapes(self) -> dict[str, tuple[int, int]]:
        """Names ("b8.conv0") and sizes (H, W) of the noise maps, in the order in which they are added."""
        return {name: (m.resolution, m.resolution) for name, m in self._layers().items() if m.use_noise}

    def forward(
        self,
        ws: torch.Tensor,
        noise_mode: str = "const",
        noise: Mapping[str, torch.Tensor] | None = None,
        fused_modconv: bool | None = None,
    ) -> torch.Tensor:
        """The pictures (N, img_channels, img_resolution, img_resolution) of ws, float32, nominally in [-1, 1].

        Args:
            ws: one w per layer, (N, num_ws, w_dim); converted to float32.
            noise_mode: "random" draws new noise, "const" takes the stored maps, "none" adds none.
            noise: maps that replace the stored ones, (N or 1, 1, H, W) each, by the names of `noise_shapes`.
            fused_modconv: an argument of StyleGAN2, which has no effect here, because no convolution is modulated.
        """
        check_shape("ws", ws, [None, self.num_ws, self.w_dim], "One w per layer; G.mapping returns them in this shape.")
        per_block: dict[str, dict[str, torch.Tensor]] = {}
        for name, value in (noise or {}).items():
            block_name, _, layer_name = name.partition(".")
            per_block.setdefault(block_name, {})[layer_name] = value
        unknown = [name for name in noise or {} if name not in self.noise_shapes()]
        if unknown:
            raise ValueError(f"noise was given for {', '.join(unknown)}, which this network does not have")
        styles = ws.to(torch.float32).unbind(dim=1)
        styles = styles if self.use_styles else styles * (2 * len(self.block_resolutions))
        x = before = None
        for i, res in enumerate(self.block_resolutions):
            block = getattr(self, f"b{res}")
            before, x = x, block(x, styles[2 * i : 2 * i + 2], noise_mode, per_block.get(f"b{res}", {}))
        img = block.torgb(x)
        if self.fraction:
            below = getattr(self, f"b{res // 2}").torgb(before)
            img = img.lerp(F.interpolate(below, scale_factor=2), self.fraction)
        if res < self.img_resolution:
            img = F.interpolate(img, scale_factor=self.img_resolution // res)
        return img.contiguous()


class Generator(layers.StyleGAN):
    """The generator of StyleGAN: a mapping network and a synthesis network.

    Args:
        z_dim: size of z.
        c_dim: number of classes, 0 for none.
        w_dim: size of w.
        img_resolution: side of the picture.
        img_channels: its channels.
        mapping_kwargs: arguments for `MappingNetwork`.
        synthesis_kwargs: arguments for `SynthesisNetwork`.

    ``init_kwargs`` holds these arguments. Together with the ``state_dict()`` they describe the whole network.
    """

    family = "stylegan1"
    synthesis: SynthesisNetwork

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        mapping_kwargs: Mapping[str, Any] | None = None,
        synthesis_kwargs: Mapping[str, Any] | None = None,
    ):
        synthesis = SynthesisNetwork(w_dim, img_resolution, img_channels, **(synthesis_kwargs or {}))
        super().__init__(z_dim, c_dim, w_dim, synthesis, MappingNetwork, mapping_kwargs)


class DiscriminatorBlock(torch.nn.Module):
    """One resolution, from (N, in, R, R) to (N, out, R/2, R/2)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        nonlinearity: str,
        use_wscale: bool,
        blur_filter: Sequence[float] | None,
    ):
        super().__init__()
        common: dict[str, Any] = dict(activation=nonlinearity, use_wscale=use_wscale)
        self.conv0 = ConvLayer(in_channels, in_channels, 3, **common)
        self.conv1 = ConvLayer(in_channels, out_channels, 3, down=True, blur_filter=blur_filter, **common)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv1(self.conv0(x))


class DiscriminatorEpilogue(torch.nn.Module):
    """The last part of the discriminator, from (N, in, 4, 4) to one score per class, (N, max(c_dim, 1))."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        c_dim: int,
        mbstd_group_size: int,
        mbstd_num_features: int,
        nonlinearity: str,
        use_wscale: bool,
    ):
        super().__init__()
        grouped = mbstd_group_size > 1
        if grouped and (mbstd_num_features < 1 or in_channels % mbstd_num_features):
            raise ValueError(
                f"mbstd_num_features is {mbstd_num_features}; expected a divisor of the {in_channels} channels"
            )
        common: dict[str, Any] = dict(activation=nonlinearity, use_wscale=use_wscale)
        self.mbstd = MinibatchStdLayer(mbstd_group_size, mbstd_num_features) if grouped else None
        self.conv = ConvLayer(in_channels + (mbstd_num_features if grouped else 0), in_channels, 3, **common)
        self.fc = DenseLayer(in_channels * 16, out_channels, **common)
        self.out = DenseLayer(out_channels, max(c_dim, 1), gain=1, use_wscale=use_wscale)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """The input of the last layer, (N, out)."""
        x = x if self.mbstd is None else self.mbstd(x)
        return self.fc(self.conv(x).flatten(1))


class Discriminator(layers.RecordedModule):
    """StyleGAN's discriminator ("D_basic"), which is ProGAN's with a filter before each halving of the resolution.

    Args:
        c_dim: number of classes, 0 for none.
        img_resolution: side of the picture, a power of two of at least 4.
        img_channels: its channels.
        fmap_base: see `feature_maps`.
        fmap_decay: see `feature_maps`.
        fmap_max: see `feature_maps`.
        nonlinearity: as in `SynthesisNetwork`.
        use_wscale: as in `SynthesisNetwork`.
        mbstd_group_size: number of pictures that are compared with each other; 0 or 1 for none.
        mbstd_num_features: number of channels in which the result of the comparison is given.
        blur_filter: taps of the filter before each halving of the resolution; None for no filter.
        lod: as in `SynthesisNetwork`.

    ``init_kwargs`` holds these arguments. Together with the ``state_dict()`` they describe the whole network.
    """

    family = "stylegan1"

    def __init__(
        self,
        c_dim: int,
        img_resolution: int,
        img_channels: int,
        fmap_base: float = 8192,
        fmap_decay: float = 1.0,
        fmap_max: int = 512,
        nonlinearity: str = "lrelu",
        use_wscale: bool = True,
        mbstd_group_size: int = 4,
        mbstd_num_features: int = 1,
        blur_filter: Sequence[float] | None = BLUR_FILTER,
        lod: float = 0,
    ):
        if nonlinearity not in NONLINEARITIES:
            raise ValueError(f"nonlinearity is {nonlinearity!r}; expected one of {', '.join(NONLINEARITIES)}")
        super().__init__()
        self.c_dim = c_dim
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.top, self.fraction = _levels(img_resolution, lod)

        def channels(k: int) -> int:
            return feature_maps(k - 1, fmap_base, fmap_decay, fmap_max)

        for k in (self.top, self.top - 1) if self.fraction else (self.top,):
            layer = ConvLayer(img_channels, channels(k), 1, activation=nonlinearity, use_wscale=use_wscale)
            setattr(self, f"fromrgb{2**k}", layer)
        for k in range(self.top, 2, -1):
            block = DiscriminatorBlock(channels(k), channels(k - 1), nonlinearity, use_wscale, blur_filter)
            setattr(self, f"b{2**k}", block)
        self.b4 = DiscriminatorEpilogue(
            channels(2), channels(1), c_dim, mbstd_group_size, mbstd_num_features, nonlinearity, use_wscale
        )
        self.num_features = channels(1)

    @property
    def compares_batch(self) -> bool:
        """True if the features of a picture depend on the other pictures of its batch."""
        return self.b4.mbstd is not None

    def features(self, img: torch.Tensor) -> torch.Tensor:
        """The input of the last layer for pictures (N, img_channels, R, R) in [-1, 1]; (N, num_features), float32."""
        check_shape("img", img, [None, self.img_channels, self.img_resolution, self.img_resolution])
        img = img.to(torch.float32)
        res = 2**self.top
        x = getattr(self, f"fromrgb{res}")(F.avg_pool2d(img, self.img_resolution // res))
        while res > 4:
            x = getattr(self, f"b{res}")(x)
            res //= 2
            if self.fraction and res == 2 ** (self.top - 1):
                below = getattr(self, f"fromrgb{res}")(F.avg_pool2d(img, self.img_resolution // res))
                x = x.lerp(below, self.fraction)
        return self.b4.features(x)

    def score(self, features: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        """Logits (N, 1) from `features` and labels (N, c_dim). Each class has a score of its own."""
        x = self.b4.out(features)
        if self.c_dim == 0:
            return x
        if c is None:
            raise ValueError(
                f"this network has {self.c_dim} classes and got no label; give c of shape (N, {self.c_dim}), one-hot"
            )
        check_shape("c", c, [None, self.c_dim])
        return (x * c.to(torch.float32)).sum(dim=1, keepdim=True)

    def forward(self, img: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        """Logits (N, 1) of pictures (N, img_channels, R, R) in [-1, 1] with labels (N, c_dim); higher is more real."""
        return self.score(self.features(img), c)
