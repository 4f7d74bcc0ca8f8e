"""The StyleGAN2 generator.

Written from Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020), and from the constants in
official network files. Names, shapes and call signatures are those of stylegan2-ada-pytorch, so that code for the
official classes works with these.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..ops import ACTIVATIONS, modulated_conv2d, setup_filter, upsample2d
from .layers import (
    ARCHITECTURES,
    RESAMPLE_FILTER,
    Conv2dLayer,
    FullyConnectedLayer,
    RecordedModule,
    StyleGAN,
    Synthesis,
    check_shape,
    compute_format,
    normal,
    uses_fp16,
)

NOISE_MODES = ("random", "const", "none")


class SynthesisLayer(RecordedModule):
    """Modulated convolution, noise, bias and activation, from (N, in, H, W) to (N, out, H * up, W * up)."""

    resample_filter: torch.Tensor | None
    noise_const: torch.Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        kernel_size: int = 3,
        up: int = 1,
        use_noise: bool = True,
        activation: str = "lrelu",
        resample_filter: Sequence[float] = RESAMPLE_FILTER,
        conv_clamp: float | None = None,
        channels_last: bool = False,
    ):
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.w_dim = w_dim
        self.resolution = resolution
        self.up = up
        self.use_noise = use_noise
        self.activation = activation
        self.conv_clamp = conv_clamp
        self.register_buffer("resample_filter", setup_filter(resample_filter))
        self.padding = kernel_size // 2
        self.act_gain = ACTIVATIONS[activation].gain
        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1)
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        weight = normal([out_channels, in_channels, kernel_size, kernel_size]).to(memory_format=memory_format)
        self.weight = torch.nn.Parameter(weight)
        if use_noise:
            self.register_buffer("noise_const", normal([resolution, resolution]))
            self.noise_strength = torch.nn.Parameter(torch.zeros([]))
        self.bias = torch.nn.Parameter(torch.zeros([out_channels]))

    def forward(
        self,
        x: torch.Tensor,
        w: torch.Tensor,
        noise_mode: str = "random",
        fused_modconv: bool = False,
        gain: float = 1,
        noise: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The output of the layer for x (N, in, H, W) and w (N, w_dim).

        If ``noise`` (N or 1, 1, resolution, resolution) is given, it is used instead of what ``noise_mode`` says.
        """
        if noise_mode not in NOISE_MODES:
            raise ValueError(f"noise_mode is {noise_mode!r}; expected one of {', '.join(NOISE_MODES)}")
        size = self.resolution // self.up
        check_shape("x", x, [None, self.in_channels, size, size])
        if self.use_noise:
            if noise is None and noise_mode == "random":
                noise = torch.randn([x.shape[0], 1, self.resolution, self.resolution], device=x.device)
            if noise is None and noise_mode == "const":
                noise = self.noise_const
            if noise is not None:
                noise = noise * self.noise_strength
        elif noise is not None:
            raise ValueError("a noise map was given for a layer without noise input")
        clamp = self.conv_clamp * gain if self.conv_clamp is not None else None
        return modulated_conv2d(
            x,
            self.weight,
            self.affine(w),
            noise=noise,
            up=self.up,
            padding=self.padding,
            resample_filter=self.resample_filter,
            flip_weight=self.up == 1,
            fused_modconv=fused_modconv,
            bias=self.bias.to(x.dtype),
            act=self.activation,
            gain=self.act_gain * gain,
            clamp=clamp,
        )


class ToRGBLayer(RecordedModule):
    """Modulated 1x1 convolution without demodulation, from features to picture channels."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        kernel_size: int = 1,
        conv_clamp: float | None = None,
        channels_last: bool = False,
    ):
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.w_dim = w_dim
        self.conv_clamp = conv_clamp
        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1)
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        weight = normal([out_channels, in_channels, kernel_size, kernel_size]).to(memory_format=memory_format)
        self.weight = torch.nn.Parameter(weight)
        self.bias = torch.nn.Parameter(torch.zeros([out_channels]))
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_size**2)

    def forward(self, x: torch.Tensor, w: torch.Tensor, fused_modconv: bool = False) -> torch.Tensor:
        styles, bias = self.affine(w) * self.weight_gain, self.bias.to(x.dtype)
        options: dict[str, Any] = dict(demodulate=False, fused_modconv=fused_modconv, clamp=self.conv_clamp)
        return modulated_conv2d(x, self.weight, styles, bias=bias, **options)


class SynthesisBlock(RecordedModule):
    """One resolution of the synthesis network: one or two convolutions and, in some architectures, a ToRGB layer."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        img_channels: int,
        is_last: bool,
        architecture: str = "skip",
        resample_filter: Sequence[float] = RESAMPLE_FILTER,
        conv_clamp: float | None = None,
        use_fp16: bool = False,
        fp16_channels_last: bool = False,
        img_filter: Sequence[float] | None = None,
        **layer_kwargs: Any,
    ):
        if architecture not in ARCHITECTURES:
            raise ValueError(f"architecture is {architecture!r}; expected one of {', '.join(ARCHITECTURES)}")
        super().__init__()
        self.resample_filter: torch.Tensor
        self.in_channels = in_channels
        self.w_dim = w_dim
        self.resolution = resolution
        self.img_channels = img_channels
        self.is_last = is_last
        self.architecture = architecture
        self.use_fp16 = use_fp16
        self.channels_last = use_fp16 and fp16_channels_last
        # The filter by which the picture of the block before is doubled; the layers have their own.
        self.register_buffer("resample_filter", setup_filter(resample_filter if img_filter is None else img_filter))
        self.num_conv = 0
        self.num_torgb = 0
        common: dict[str, Any] = dict(w_dim=w_dim, conv_clamp=conv_clamp, channels_last=self.channels_last)
        if in_channels == 0:
            self.const = torch.nn.Parameter(normal([out_channels, resolution, resolution]))
        else:
            self.conv0 = SynthesisLayer(
                in_channels,
                out_channels,
                resolution=resolution,
                up=2,
                resample_filter=resample_filter,
                **common,
                **layer_kwargs,
            )
            self.num_conv += 1
        self.conv1 = SynthesisLayer(out_channels, out_channels, resolution=resolution, **common, **layer_kwargs)
        self.num_conv += 1
        if is_last or architecture == "skip":
            self.torgb = ToRGBLayer(out_channels, img_channels, **common)
            self.num_torgb += 1
        if in_channels != 0 and architecture == "resnet":
            self.skip = Conv2dLayer(
                in_channels,
                out_channels,
                kernel_size=1,
                bias=False,
                up=2,
                resample_filter=resample_filter,
                channels_last=self.channels_last,
            )

    def forward(
        self,
        x: torch.Tensor | None,
        img: torch.Tensor | None,
        ws: torch.Tensor,
        force_fp32: bool = False,
        fused_modconv: bool | None = None,
        noise: Mapping[str, torch.Tensor] | None = None,
        noise_mode: str = "random",
        gain: float = 1,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Features and picture after this block, from those before it and ws (N, num_conv + num_torgb, w_dim)."""
        check_shape("ws of a block", ws, [None, self.num_conv + self.num_torgb, self.w_dim])
        w = list(ws.unbind(dim=1))
        dtype, memory_format = compute_format(ws, self.use_fp16, self.channels_last, force_fp32)
        noise = noise or {}
        common = dict(fused_modconv=bool(fused_modconv), noise_mode=noise_mode)
        if self.in_channels == 0:
            x = self.const.to(dtype=dtype, memory_format=memory_format).unsqueeze(0).repeat([ws.shape[0], 1, 1, 1])
            x = self.conv1(x, w[0], noise=noise.get("conv1"), gain=gain, **common)
        else:
            half = self.resolution // 2
            if x is None:
                raise ValueError(
                    f"the block of {self.resolution}x{self.resolution} got no features of the block before"
                )
            check_shape("x", x, [None, self.in_channels, half, half])
            x = x.to(dtype=dtype, memory_format=memory_format)
            root = math.sqrt(0.5) if self.architecture == "resnet" else 1
            y = self.skip(x, gain=root) if self.architecture == "resnet" else None
            x = self.conv0(x, w[0], noise=noise.get("conv0"), gain=gain, **common)
            x = self.conv1(x, w[1], noise=noise.get("conv1"), gain=gain * root, **common)
            x = x if y is None else y + x
        if img is not None:
            img = upsample2d(img, self.resample_filter)
        if self.is_last or self.architecture == "skip":
            y = self.torgb(x, w[self.num_conv], fused_modconv=bool(fused_modconv))
            y = y.to(torch.float32).contiguous()
            img = y if img is None else img + y
        return x, img


class SynthesisNetwork(RecordedModule, Synthesis):
    """From intermediate latents to a picture.

    Args:
        w_dim: size of w.
        img_resolution: side of the picture, a power of two of at least 4.
        img_channels: 1, 3 or 4.
        channel_base: a block of the resolution r has min(channel_base // r, channel_max) channels.
        channel_max: the largest number of channels.
        num_fp16_res: how many of the highest resolutions compute in half precision on CUDA.
        block_kwargs: for `SynthesisBlock` (architecture, resample_filter, conv_clamp, fp16_channels_last, img_filter)
            and `SynthesisLayer` (kernel_size, use_noise, activation). ``img_filter`` doubles pictures where it is not
            ``resample_filter``; official code has no such argument, but goes by the filters in a file.
    """

    def __init__(
        self,
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        channel_base: int = 32768,
        channel_max: int = 512,
        num_fp16_res: int = 0,
        **block_kwargs: Any,
    ):
        if img_resolution < 4 or img_resolution & (img_resolution - 1):
            raise ValueError(f"img_resolution is {img_resolution}; expected a power of two of at least 4")
        super().__init__()
        self.w_dim = w_dim
        self.img_resolution = img_resolution
        self.img_resolution_log2 = img_resolution.bit_length() - 1
        self.img_channels = img_channels
        self.num_fp16_res = num_fp16_res
        self.block_resolutions = [2**i for i in range(2, self.img_resolution_log2 + 1)]
        channels = {res: min(channel_base // res, channel_max) for res in self.block_resolutions}
        self.num_ws = 0
        for res in self.block_resolutions:
            block = SynthesisBlock(
                channels[res // 2] if res > 4 else 0,
                channels[res],
                w_dim=w_dim,
                resolution=res,
                img_channels=img_channels,
                is_last=res == img_resolution,
                use_fp16=uses_fp16(res, img_resolution, num_fp16_res),
                **block_kwargs,
            )
            setattr(self, f"b{res}", block)
            self.num_ws += block.num_conv + (block.num_torgb if block.is_last else 0)

    @property
    def layer_shapes(self) -> dict[str, tuple[int, int, int]]:
        """Names ("b8.conv0") and shapes (C, H, W) of the convolutions' outputs, in the order of computation."""
        layers = [(name, m) for name, m in self.named_modules() if isinstance(m, SynthesisLayer)]
        return {name: (m.out_channels, m.resolution, m.resolution) for name, m in layers}

    def details(self) -> dict[str, Any]:
        """What `stylegan-invert inspect` says of it."""
        blocks = [getattr(self, f"b{r}") for r in self.block_resolutions]
        fp16 = [b.resolution for b in blocks if b.use_fp16]
        return {"architecture": blocks[-1].architecture, "fp16_resolutions": fp16}

    def modulations(self) -> list[torch.Tensor | None]:
        """For each w, the matrix (channels, w_dim) by which a convolution takes its styles from it; None for ToRGB alone.

        ToRGB layers share the w of another layer, but for the last, and are left out.
        """
        layers = [m for m in self.modules() if isinstance(m, SynthesisLayer)]
        matrices = [layer.affine.weight * layer.affine.weight_gain for layer in layers]
        return [*matrices, *[None] * (self.num_ws - len(matrices))]

    def noise_shapes(self) -> dict[str, tuple[int, int]]:
        """Names ("b8.conv0") and sizes (H, W) of the noise maps, in the order of the network's buffers."""
        layers = [(name, m) for name, m in self.named_modules() if isinstance(m, SynthesisLayer) and m.use_noise]
        return {name: (layer.resolution, layer.resolution) for name, layer in layers}

    def forward(
        self,
        ws: torch.Tensor,
        noise_mode: str = "random",
        force_fp32: bool = False,
        fused_modconv: bool | None = None,
        noise: Mapping[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """The pictures (N, img_channels, img_resolution, img_resolution) of ws, float32, nominally in [-1, 1].

        Args:
            ws: one w per layer, (N, num_ws, w_dim); converted to float32.
            noise_mode: "random" draws new noise, "const" takes the stored maps, "none" adds none.
            force_fp32: compute in float32 on CUDA too, as on all other devices.
            fused_modconv: see `ops.modulated_conv2d`; None means False.
            noise: maps that replace the stored ones, (N or 1, 1, H, W) each, by the names of `noise_shapes`.
        """
        check_shape("ws", ws, [None, self.num_ws, self.w_dim], "One w per layer; G.mapping returns them in this shape.")
        per_block: dict[str, dict[str, torch.Tensor]] = {}
        for name, value in (noise or {}).items():
            block_name, _, layer_name = name.partition(".")
            per_block.setdefault(block_name, {})[layer_name] = value
        ws = ws.to(torch.float32)
        x: torch.Tensor | None = None
        img: torch.Tensor | None = None
        first = 0
        for res in self.block_resolutions:
            block = getattr(self, f"b{res}")
            # The w of ToRGB is also that of the next block's first convolution.
            block_ws = ws.narrow(1, first, block.num_conv + block.num_torgb)
            first += block.num_conv
            x, img = block(
                x,
                img,
                block_ws,
                noise_mode=noise_mode,
                force_fp32=force_fp32,
                fused_modconv=fused_modconv,
                noise=per_block.pop(f"b{res}", None),
            )
        if per_block:
            raise ValueError(f"noise was given for {', '.join(per_block)}, which this network does not have")
        assert img is not None  # the last block makes one
        return img


class Generator(StyleGAN):
    """The generator of StyleGAN2: a mapping network and a synthesis network.

    Args:
        z_dim: size of z.
        c_dim: number of classes, 0 for none.
        w_dim: size of w.
        img_resolution: side of the picture.
        img_channels: its channels.
        mapping_kwargs: arguments for `MappingNetwork`.
        synthesis_kwargs: arguments for `SynthesisNetwork`.
    """

    family = "stylegan2"
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
        super().__init__(z_dim, c_dim, w_dim, synthesis, mapping_kwargs=mapping_kwargs)
