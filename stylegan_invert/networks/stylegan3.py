"""The StyleGAN3 generator, configurations T and R.

Written from Karras et al., "Alias-Free Generative Adversarial Networks" (2021), and from the constants in official
network files. Names, shapes and call signatures are those of the official classes, so that code for those works with
these.

There are no noise maps. The running mean of the input's magnitude does not change here, as in official code in
evaluation mode.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ..ops import bias_act, conv2d, upfirdn2d
from ..ops.frozen import kept
from . import layers
from .layers import FullyConnectedLayer, RecordedModule, Synthesis, check_shape, compute_format
from .stylegan2 import NOISE_MODES

MAX_TAPS = 256  # of a filter; official networks have at most 24


def lowpass_filter(taps: int, cutoff: float, width: float, rate: float, radial: bool = False) -> torch.Tensor | None:
    """A low-pass filter made with a Kaiser window, whose numbers sum to one; on the CPU.

    Args:
        taps: its length. With one tap it would be the identity, and None is returned.
        cutoff: in cycles per unit of length.
        width: of the transition band, in cycles per unit of length.
        rate: taps per unit of length.
        radial: True for a circular pass band, whose impulse response is a jinc; False for a square one, whose impulse
            response is a product of two sincs.

    Returns:
        float32 (taps,), which is applied along both axes, or (taps, taps) if radial.

    Raises:
        ValueError: the length is not from 1 to MAX_TAPS, or the cutoff is not below half the rate.

    Source: the paper's appendix C. The shape of the window follows from the attenuation by Kaiser's formula.
    """
    if not 1 <= taps <= MAX_TAPS:
        raise ValueError(f"a filter of {taps} taps; expected 1 to {MAX_TAPS}")
    if taps == 1:
        return None
    if not 0 < cutoff < rate / 2:
        raise ValueError(f"a filter with the cutoff {cutoff:g} at the sampling rate {rate:g}; expected less than half")
    attenuation = 2.285 * (taps - 1) * math.pi * width / (rate / 2) + 7.95
    beta = 0.0
    if attenuation > 50:
        beta = 0.1102 * (attenuation - 8.7)
    elif attenuation > 21:
        beta = 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)
    window = np.kaiser(taps, beta)
    t = (np.arange(taps) - (taps - 1) / 2) / rate
    if radial:
        # J1(2 pi c r) / r, which tends to pi c at the centre.
        r = np.hypot(t[:, None], t)
        bessel = torch.special.bessel_j1(torch.from_numpy(2 * math.pi * cutoff * r)).numpy()
        f = np.divide(bessel, r, out=np.full_like(r, math.pi * cutoff), where=r > 0) * np.outer(window, window)
    else:
        f = np.sinc(2 * cutoff * t) * window
    return torch.from_numpy((f / f.sum()).astype(np.float32))


class MappingNetwork(layers.MappingNetwork):
    """StyleGAN2's mapping network with other defaults. It always has ``w_avg``."""

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        num_ws: int,
        num_layers: int = 2,
        lr_multiplier: float = 0.01,
        w_avg_beta: float = 0.998,
    ):
        super().__init__(
            z_dim, c_dim, w_dim, num_ws, num_layers=num_layers, lr_multiplier=lr_multiplier, w_avg_beta=w_avg_beta
        )
        if c_dim == 0:
            self.__dict__["embed"] = None  # a plain attribute, as official code has it


class SynthesisInput(RecordedModule):
    """Fourier features on a grid, moved and turned as w says: (N, w_dim) to (N, channels, size, size), float32.

    The buffer ``transform`` (3, 3) moves the picture besides: it maps places in the picture to places before the move,
    in homogeneous coordinates (x, y, 1) from the middle with the side as the unit, and is the identity in official
    files. ``freqs`` (channels, 2) is in cycles per side, ``phases`` (channels,) in cycles.

    Source: the paper's section 3.2.
    """

    def __init__(self, w_dim: int, channels: int, size: int, sampling_rate: float, bandwidth: float):
        super().__init__()
        self.transform: torch.Tensor
        self.freqs: torch.Tensor
        self.phases: torch.Tensor
        self.w_dim = w_dim
        self.channels = channels
        self.size = (size, size)  # width, height
        self.sampling_rate = sampling_rate
        self.bandwidth = bandwidth
        # Frequencies of a disc: a random direction, and a radius whose square is spread evenly.
        freqs = layers.normal([channels, 2])
        if not freqs.is_meta:  # arithmetic on the meta device would import torch._dynamo, which takes a second
            squares = freqs.square().sum(dim=1, keepdim=True)
            freqs = bandwidth * freqs / (squares.sqrt() * (squares / 4).exp())
        self.weight = torch.nn.Parameter(layers.normal([channels, channels]))
        self.affine = FullyConnectedLayer(w_dim, 4)
        with torch.no_grad():  # at first nothing is moved
            self.affine.weight.zero_()
            assert self.affine.bias is not None
            self.affine.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
        identity = torch.empty([3, 3]) if freqs.is_meta else torch.eye(3)
        self.register_buffer("transform", identity)
        self.register_buffer("freqs", freqs)
        self.register_buffer("phases", torch.empty([channels]).uniform_(-0.5, 0.5))

    def forward(self, w: torch.Tensor) -> torch.Tensor:
        check_shape("w", w, [None, self.w_dim])
        # Of (cosine, sine, x, y), brought to a rotation: it is applied after the translation by (-x, -y), and both
        # after the user's transform.
        t = self.affine(w)
        c, s, x, y = (t / t[:, :2].norm(dim=1, keepdim=True)).unbind(dim=1)
        moves = torch.stack([c, -s, s * y - c * x, s, c, -s * x - c * y], dim=1).reshape(-1, 2, 3) @ self.transform
        phases = self.phases + (self.freqs @ moves[:, :, 2:]).squeeze(2)  # (N, channels)
        freqs = self.freqs @ moves[:, :, :2]  # (N, channels, 2)
        # Frequencies that a transform has brought above the band fade out towards half the sampling rate.
        excess = (freqs.norm(dim=2) - self.bandwidth) / (self.sampling_rate / 2 - self.bandwidth)
        amplitudes = (1 - excess).clamp(0, 1)

        px, py = ((torch.arange(n, device=w.device) + (0.5 - n / 2)) / self.sampling_rate for n in self.size)
        fx, fy = freqs[:, :, None, None].unbind(dim=4)
        cycles = fx * px + (fy * py[:, None] + phases[:, :, None, None])  # (N, channels, H, W)
        waves = torch.sin(2 * math.pi * cycles) * amplitudes[:, :, None, None]
        weight = self.weight / math.sqrt(self.channels)
        return (weight @ waves.flatten(2)).unflatten(2, waves.shape[2:])


class SynthesisLayer(RecordedModule):
    """Modulated convolution, bias, and a leaky ReLU at a higher sampling rate, from (N, in, H, W) to (N, out, H', W').

    The last layer, ToRGB, has a 1x1 convolution without demodulation, and no nonlinearity.

    Official code divides the styles by their root mean square over the whole batch; here this is done for each picture.
    The demodulation cancels both, except for the 1e-8 in it. So a single picture is the same, and here it does not
    depend on the other pictures of its batch. Official code makes a kernel for each picture; here the styles scale the
    activations before and after one convolution.

    Source: the paper's sections 3.2 and 3.3, appendix C.
    """

    def __init__(
        self,
        w_dim: int,
        is_torgb: bool,
        is_critically_sampled: bool,
        use_fp16: bool,
        in_channels: int,
        out_channels: int,
        in_size: int,
        out_size: int,
        in_sampling_rate: int,
        out_sampling_rate: int,
        in_cutoff: float,
        out_cutoff: float,
        in_half_width: float,
        out_half_width: float,
        conv_kernel: int = 3,
        filter_size: int = 6,
        lrelu_upsampling: int = 2,
        use_radial_filters: bool = False,
        conv_clamp: float | None = 256,
        magnitude_ema_beta: float = 0.999,
    ):
        super().__init__()
        self.magnitude_ema: torch.Tensor
        self.up_filter: torch.Tensor | None
        self.down_filter: torch.Tensor | None
        self.w_dim = w_dim
        self.is_torgb = is_torgb
        self.is_critically_sampled = is_critically_sampled
        self.use_fp16 = use_fp16
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.in_size = (in_size, in_size)  # width, height
        self.out_size = (out_size, out_size)
        self.in_sampling_rate = in_sampling_rate
        self.out_sampling_rate = out_sampling_rate
        self.tmp_sampling_rate = max(in_sampling_rate, out_sampling_rate) * (1 if is_torgb else lrelu_upsampling)
        self.in_cutoff = in_cutoff
        self.out_cutoff = out_cutoff
        self.in_half_width = in_half_width
        self.out_half_width = out_half_width
        self.conv_kernel = 1 if is_torgb else conv_kernel
        self.conv_clamp = conv_clamp
        self.magnitude_ema_beta = magnitude_ema_beta
        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1)
        self.weight = torch.nn.Parameter(layers.normal([out_channels, in_channels, self.conv_kernel, self.conv_kernel]))
        self.bias = torch.nn.Parameter(torch.zeros([out_channels]))
        self.register_buffer("magnitude_ema", torch.ones([]))  # the running mean of the input's mean square

        # Sampling rates are powers of two, so both factors are integers.
        self.up_factor = self.tmp_sampling_rate // in_sampling_rate
        self.down_factor = self.tmp_sampling_rate // out_sampling_rate
        self.up_taps, self.down_taps = (
            filter_size * factor if factor > 1 and not is_torgb else 1 for factor in (self.up_factor, self.down_factor)
        )
        self.down_radial = use_radial_filters and not is_critically_sampled
        rate = self.tmp_sampling_rate
        up_filter = lowpass_filter(self.up_taps, in_cutoff, 2 * in_half_width, rate)
        down_filter = lowpass_filter(self.down_taps, out_cutoff, 2 * out_half_width, rate, self.down_radial)
        for name, f in (("up_filter", up_filter), ("down_filter", down_filter)):
            self.register_buffer(name, None if f is None else torch.empty(f.shape).copy_(f))

        # The input of the convolution is padded by the kernel's side less one. After upsampling, rows and columns are
        # added or cut so that the filters give the size that is wanted. A sample is the middle of its cell, so both
        # sides may differ by one.
        total = (out_size - 1) * self.down_factor + 1 - (in_size + self.conv_kernel - 1) * self.up_factor
        total += self.up_taps + self.down_taps - 2
        before = (total + self.up_factor) // 2
        self.padding = [before, total - before] * 2

    def forward(
        self, x: torch.Tensor, w: torch.Tensor, noise_mode: str = "const", force_fp32: bool = False
    ) -> torch.Tensor:
        """The output of the layer for x (N, in, H, W) and w (N, w_dim). ``noise_mode`` has no effect."""
        if noise_mode not in NOISE_MODES:
            raise ValueError(f"noise_mode is {noise_mode!r}; expected one of {', '.join(NOISE_MODES)}")
        check_shape("x", x, [None, self.in_channels, *self.in_size[::-1]])
        check_shape("w", w, [x.shape[0], self.w_dim])
        x = x.to(compute_format(x, self.use_fp16, False, force_fp32)[0])
        fan_in = self.weight[0].numel()

        def prepared(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            """The filters, scaled to unit length, and their squares (I, O), each summed over a kernel."""
            weight = weight * weight.square().sum(dim=[1, 2, 3], keepdim=True).rsqrt()
            return weight.to(x.dtype), weight.square().sum(dim=[2, 3]).t()

        styles = self.affine(w)
        if self.is_torgb:
            kernel, demodulation = self.weight.to(x.dtype), None
            styles = styles / math.sqrt(fan_in)
        else:
            kernel, squares = kept(self.weight, ("stylegan3", x.dtype), prepared)
            styles = styles * styles.square().mean(dim=1, keepdim=True).rsqrt()
            # Official filters have a mean square of one, so they are longer by the root of fan_in; the constant is
            # smaller here.
            demodulation = (styles.square() @ squares + 1e-8 / fan_in).rsqrt().to(x.dtype)
        x = bias_act(x, scale=(styles * self.magnitude_ema.rsqrt()).to(x.dtype))
        x = conv2d(x, kernel, padding=self.conv_kernel - 1)
        x = bias_act(x, self.bias.to(x.dtype), scale=demodulation)
        x = _resampled(x, self.up_filter, up=self.up_factor, padding=self.padding)
        x = bias_act(x, act="linear" if self.is_torgb else "lrelu", clamp=self.conv_clamp)
        return _resampled(x, self.down_filter, down=self.down_factor)


def _resampled(
    x: torch.Tensor, f: torch.Tensor | None, up: int = 1, down: int = 1, padding: list[int] | None = None
) -> torch.Tensor:
    """`upfirdn2d` with a gain that keeps the brightness. None stands for a filter of one tap."""
    padding = padding or [0] * 4
    if f is None and up == down == 1 and not any(padding):
        return x
    f = torch.ones([1], device=x.device) if f is None else f
    return upfirdn2d(x, f, up=up, down=down, padding=padding, gain=up**2)


class SynthesisNetwork(RecordedModule, Synthesis):
    """From intermediate latents to a picture.

    Args:
        w_dim: size of w.
        img_resolution: side of the picture.
        img_channels: its channels.
        channel_base: a layer with the cutoff f has min(channel_base / 2 / f, channel_max) channels.
        channel_max: the largest number of channels.
        num_layers: number of layers between the Fourier features and ToRGB.
        num_critical: how many of these, at the end, are critically sampled.
        first_cutoff: cutoff of the first layer, in cycles per side of the picture. That of the last is half the
            resolution.
        first_stopband: frequency at which the stop band of the first layer begins.
        last_stopband_rel: that frequency of the last layer, divided by its cutoff.
        margin_size: pixels that are added around the picture on each side, in all layers except the last two.
        output_scale: factor by which the picture is multiplied.
        num_fp16_res: how many of the highest sampling rates compute in half precision on CUDA.
        layer_kwargs: arguments for `SynthesisLayer` (conv_kernel, filter_size, lrelu_upsampling, use_radial_filters,
            conv_clamp, magnitude_ema_beta).

    Raises:
        ValueError: no network can have these arguments.

    Source: the paper's section 3.2 (equations for cutoffs, stop bands and sampling rates) and its figure 4.
    """

    def __init__(
        self,
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        channel_base: int = 32768,
        channel_max: int = 512,
        num_layers: int = 14,
        num_critical: int = 2,
        first_cutoff: float = 2,
        first_stopband: float = 2**2.1,
        last_stopband_rel: float = 2**0.3,
        margin_size: int = 10,
        output_scale: float = 0.25,
        num_fp16_res: int = 4,
        **layer_kwargs: Any,
    ):
        if not 0 <= num_critical < num_layers:
            raise ValueError(
                f"num_critical is {num_critical}; expected 0 to {num_layers - 1}, as there are {num_layers} layers"
            )
        super().__init__()
        self.w_dim = w_dim
        self.num_ws = num_layers + 2
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.num_layers = num_layers
        self.num_critical = num_critical
        self.margin_size = margin_size
        self.output_scale = output_scale
        self.num_fp16_res = num_fp16_res

        last_cutoff = img_resolution / 2
        last_stopband = last_cutoff * last_stopband_rel
        exponents = [min(i / (num_layers - num_critical), 1) for i in range(num_layers + 1)]
        cutoffs = [first_cutoff * (last_cutoff / first_cutoff) ** e for e in exponents]
        stopbands = [first_stopband * (last_stopband / first_stopband) ** e for e in exponents]
        # The next power of two. Twice a stop band may itself be a power of two up to rounding, as 2^7 at 256 pixels.
        rates = [2 ** max(math.ceil(math.log2(min(2 * s, img_resolution)) - 1e-9), 0) for s in stopbands]
        half_widths = [max(s, r / 2) - c for s, r, c in zip(stopbands, rates, cutoffs)]
        sizes = [rate + 2 * margin_size for rate in rates[:-2]] + [img_resolution] * 2
        channels = [round(min(channel_base / 2 / c, channel_max)) for c in cutoffs[:-1]] + [img_channels]
        if min(channels) < 1:
            raise ValueError(
                f"a layer would have no channels with channel_base {channel_base} and channel_max {channel_max}"
            )

        self.input = SynthesisInput(
            w_dim, channels=channels[0], size=sizes[0], sampling_rate=float(rates[0]), bandwidth=cutoffs[0]
        )
        self.layer_names = []
        for i in range(num_layers + 1):
            prev = max(i - 1, 0)
            layer = SynthesisLayer(
                w_dim,
                is_torgb=i == num_layers,
                is_critically_sampled=i >= num_layers - num_critical,
                use_fp16=rates[i] * 2**num_fp16_res > img_resolution,
                in_channels=channels[prev],
                out_channels=channels[i],
                in_size=sizes[prev],
                out_size=sizes[i],
                in_sampling_rate=rates[prev],
                out_sampling_rate=rates[i],
                in_cutoff=cutoffs[prev],
                out_cutoff=cutoffs[i],
                in_half_width=half_widths[prev],
                out_half_width=half_widths[i],
                **layer_kwargs,
            )
            name = f"L{i}_{sizes[i]}_{channels[i]}"
            setattr(self, name, layer)
            self.layer_names.append(name)

    def details(self) -> dict[str, Any]:
        """What `stylegan-invert inspect` says of it."""
        layers = [(name, getattr(self, name)) for name in self.layer_names]
        return {
            "conv_kernel": layers[0][1].conv_kernel,
            "radial_filters": layers[0][1].down_radial,
            "fp16_layers": [name for name, layer in layers if layer.use_fp16],
        }

    def modulations(self) -> list[torch.Tensor | None]:
        """For each w, the matrix (channels, w_dim) of its affine layer: the Fourier features' (4, w_dim), then the styles'."""
        affine = [self.input.affine, *(getattr(self, name).affine for name in self.layer_names)]
        return [layer.weight * layer.weight_gain for layer in affine]

    def noise_shapes(self) -> dict[str, tuple[int, int]]:
        """Empty: there are no noise maps."""
        return {}

    @property
    def layer_shapes(self) -> dict[str, tuple[int, int, int]]:
        """Names and output shapes (C, H, W) of the layers before ToRGB, in the order of computation."""
        layers = [(name, getattr(self, name)) for name in self.layer_names[:-1]]
        return {name: (layer.out_channels, *layer.out_size[::-1]) for name, layer in layers}

    def forward(
        self,
        ws: torch.Tensor,
        noise_mode: str = "const",
        force_fp32: bool = False,
        fused_modconv: bool | None = None,
        noise: Mapping[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """The pictures (N, img_channels, img_resolution, img_resolution) of ws, float32, nominally in [-1, 1].

        Args:
            ws: one w per layer, (N, num_ws, w_dim), where the first is that of the Fourier features.
            noise_mode: an argument of StyleGAN2, which has no effect here, because there is no noise.
            force_fp32: compute in float32 on CUDA too, as on all other devices.
            fused_modconv: an argument of StyleGAN2, which has no effect here.
            noise: an argument of StyleGAN2. There are no noise maps, so it must be None or empty.
        """
        check_shape("ws", ws, [None, self.num_ws, self.w_dim], "One w per layer; G.mapping returns them in this shape.")
        if noise:
            raise ValueError(f"noise was given for {', '.join(noise)}; a StyleGAN3 has no noise maps")
        first, *others = ws.to(torch.float32).unbind(dim=1)
        x = self.input(first)
        for name, w in zip(self.layer_names, others):
            x = getattr(self, name)(x, w, noise_mode=noise_mode, force_fp32=force_fp32)
        return x.to(torch.float32).contiguous() * self.output_scale


class Generator(layers.StyleGAN):
    """The generator of StyleGAN3: a mapping network and a synthesis network.

    Args:
        z_dim: size of z.
        c_dim: number of classes, 0 for none.
        w_dim: size of w.
        img_resolution: side of the picture.
        img_channels: its channels.
        mapping_kwargs: arguments for `MappingNetwork`.
        synthesis_kwargs: arguments for `SynthesisNetwork`. Configuration R has conv_kernel 1,
            use_radial_filters True, and channel_base and channel_max twice as large.
    """

    family = "stylegan3"
    synthesis: SynthesisNetwork

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        mapping_kwargs: Mapping[str, Any] | None = None,
        **synthesis_kwargs: Any,
    ):
        synthesis = SynthesisNetwork(w_dim, img_resolution, img_channels, **synthesis_kwargs)
        super().__init__(z_dim, c_dim, w_dim, synthesis, MappingNetwork, mapping_kwargs)
