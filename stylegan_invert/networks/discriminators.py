"""The StyleGAN2 discriminator, with the names and signatures of stylegan2-ada-pytorch."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..ops import downsample2d, setup_filter
from .layers import (
    ARCHITECTURES,
    RESAMPLE_FILTER,
    Conv2dLayer,
    FullyConnectedLayer,
    MappingNetwork,
    RecordedModule,
    check_shape,
    compute_format,
    uses_fp16,
)


class DiscriminatorBlock(RecordedModule):
    """One resolution, from (N, tmp, R, R), or from the picture in the first block, to (N, out, R/2, R/2)."""

    def __init__(
        self,
        in_channels: int,
        tmp_channels: int,
        out_channels: int,
        resolution: int,
        img_channels: int,
        first_layer_idx: int,
        architecture: str = "resnet",
        activation: str = "lrelu",
        resample_filter: Sequence[float] = RESAMPLE_FILTER,
        conv_clamp: float | None = None,
        use_fp16: bool = False,
        fp16_channels_last: bool = False,
        freeze_layers: int = 0,
    ):
        if architecture not in ARCHITECTURES:
            raise ValueError(f"architecture is {architecture!r}; expected one of {', '.join(ARCHITECTURES)}")
        super().__init__()
        self.resample_filter: torch.Tensor
        self.in_channels = in_channels
        self.resolution = resolution
        self.img_channels = img_channels
        self.first_layer_idx = first_layer_idx
        self.architecture = architecture
        self.use_fp16 = use_fp16
        self.channels_last = use_fp16 and fp16_channels_last
        self.register_buffer("resample_filter", setup_filter(resample_filter))
        self.num_layers = 0

        def layer(in_: int, out: int, kernel_size: int, **kwargs: Any) -> Conv2dLayer:
            # Layers are counted from the picture on. Freeze-D does not train the first of them.
            trainable = first_layer_idx + self.num_layers >= freeze_layers
            self.num_layers += 1
            return Conv2dLayer(in_, out, kernel_size, trainable=trainable, channels_last=self.channels_last, **kwargs)

        main: dict[str, Any] = dict(activation=activation, conv_clamp=conv_clamp)
        if in_channels == 0 or architecture == "skip":
            self.fromrgb = layer(img_channels, tmp_channels, 1, **main)
        self.conv0 = layer(tmp_channels, tmp_channels, 3, **main)
        self.conv1 = layer(tmp_channels, out_channels, 3, down=2, resample_filter=resample_filter, **main)
        if architecture == "resnet":
            self.skip = layer(tmp_channels, out_channels, 1, bias=False, down=2, resample_filter=resample_filter)

    def forward(
        self, x: torch.Tensor | None, img: torch.Tensor | None, force_fp32: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        first = img if x is None else x
        if first is None:
            raise ValueError("the block got neither features nor a picture")
        dtype, memory_format = compute_format(first, self.use_fp16, self.channels_last, force_fp32)
        if x is not None:
            check_shape("x", x, [None, self.in_channels, self.resolution, self.resolution])
            x = x.to(dtype=dtype, memory_format=memory_format)
        if self.in_channels == 0 or self.architecture == "skip":
            if img is None:
                raise ValueError(f"the block of {self.resolution}x{self.resolution} got no picture")
            check_shape("img", img, [None, self.img_channels, self.resolution, self.resolution])
            img = img.to(dtype=dtype, memory_format=memory_format)
            y = self.fromrgb(img)
            x = y if x is None else x + y
            img = downsample2d(img, self.resample_filter) if self.architecture == "skip" else None
        if self.architecture == "resnet":
            y = self.skip(x, gain=math.sqrt(0.5))
            x = y + self.conv1(self.conv0(x), gain=math.sqrt(0.5))
        else:
            x = self.conv1(self.conv0(x))
        return x, img


class MinibatchStdLayer(RecordedModule):
    """Appends the standard deviation over groups of pictures as more channels, from (N, C, H, W) to (N, C + F, H, W).

    Args:
        group_size: pictures in a group, None for the whole batch. Picture i is in group i modulo (N / group_size).
        num_channels: F, the number of channels that are appended.
    """

    def __init__(self, group_size: int | None, num_channels: int = 1):
        super().__init__()
        self.group_size = group_size
        self.num_channels = num_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        g = n if self.group_size is None else min(self.group_size, n)
        if n % g:
            raise ValueError(
                f"the discriminator compares pictures in groups of {g}; a batch of {n} does not divide into them"
            )
        y = x.reshape(g, -1, self.num_channels, c // self.num_channels, h, w)
        y = y - y.mean(dim=0)
        y = (y.square().mean(dim=0) + 1e-8).sqrt().mean(dim=[2, 3, 4])  # (N / g, F)
        y = y.reshape(-1, self.num_channels, 1, 1).repeat(g, 1, h, w)
        return torch.cat([x, y], dim=1)


class DiscriminatorEpilogue(RecordedModule):
    """The last part of the discriminator, from (N, in, 4, 4) to (N, 1)."""

    def __init__(
        self,
        in_channels: int,
        cmap_dim: int,
        resolution: int,
        img_channels: int,
        architecture: str = "resnet",
        mbstd_group_size: int | None = 4,
        mbstd_num_channels: int = 1,
        activation: str = "lrelu",
        conv_clamp: float | None = None,
    ):
        if mbstd_num_channels > 0 and in_channels % mbstd_num_channels:
            raise ValueError(
                f"mbstd_num_channels is {mbstd_num_channels}; expected a divisor of the {in_channels} channels"
            )
        super().__init__()
        self.in_channels = in_channels
        self.cmap_dim = cmap_dim
        self.resolution = resolution
        self.img_channels = img_channels
        self.architecture = architecture
        if architecture == "skip":
            self.fromrgb = Conv2dLayer(img_channels, in_channels, kernel_size=1, activation=activation)
        self.mbstd = MinibatchStdLayer(mbstd_group_size, mbstd_num_channels) if mbstd_num_channels > 0 else None
        self.conv = Conv2dLayer(
            in_channels + mbstd_num_channels, in_channels, kernel_size=3, activation=activation, conv_clamp=conv_clamp
        )
        self.fc = FullyConnectedLayer(in_channels * resolution**2, in_channels, activation=activation)
        self.out = FullyConnectedLayer(in_channels, 1 if cmap_dim == 0 else cmap_dim)

    def features(self, x: torch.Tensor, img: torch.Tensor | None) -> torch.Tensor:
        """The input of the last layer, (N, in)."""
        check_shape("x", x, [None, self.in_channels, self.resolution, self.resolution])
        x = x.to(dtype=torch.float32, memory_format=torch.contiguous_format)
        if self.architecture == "skip":
            if img is None:
                raise ValueError("the last block got no picture")
            x = x + self.fromrgb(img.to(dtype=torch.float32, memory_format=torch.contiguous_format))
        if self.mbstd is not None:
            x = self.mbstd(x)
        return self.fc(self.conv(x).flatten(1))

    def score(self, features: torch.Tensor, cmap: torch.Tensor | None) -> torch.Tensor:
        """Logits (N, 1) from features (N, in)."""
        x = self.out(features)
        if self.cmap_dim > 0:
            x = (x * cmap).sum(dim=1, keepdim=True) / math.sqrt(self.cmap_dim)
        return x

    def forward(self, x: torch.Tensor, img: torch.Tensor | None, cmap: torch.Tensor | None) -> torch.Tensor:
        return self.score(self.features(x, img), cmap)


class Discriminator(RecordedModule):
    """StyleGAN2's discriminator, with the names and signatures of stylegan2-ada-pytorch.

    Args:
        c_dim: number of classes, 0 for none.
        img_resolution: side of the picture, a power of two of at least 8.
        img_channels: its channels.
        architecture: "resnet", "skip" or "orig".
        channel_base: as in the generator.
        channel_max: as in the generator.
        num_fp16_res: as in the generator.
        conv_clamp: the largest absolute value of a convolution's output; None for no limit.
        cmap_dim: size of the mapped label; None takes the number of channels at 4x4.
        block_kwargs: arguments for `DiscriminatorBlock`.
        mapping_kwargs: arguments for `MappingNetwork`.
        epilogue_kwargs: arguments for `DiscriminatorEpilogue`.
    """

    def __init__(
        self,
        c_dim: int,
        img_resolution: int,
        img_channels: int,
        architecture: str = "resnet",
        channel_base: int = 32768,
        channel_max: int = 512,
        num_fp16_res: int = 0,
        conv_clamp: float | None = None,
        cmap_dim: int | None = None,
        block_kwargs: Mapping[str, Any] | None = None,
        mapping_kwargs: Mapping[str, Any] | None = None,
        epilogue_kwargs: Mapping[str, Any] | None = None,
    ):
        if img_resolution < 8 or img_resolution & (img_resolution - 1):
            raise ValueError(f"img_resolution is {img_resolution}; expected a power of two of at least 8")
        super().__init__()
        self.c_dim = c_dim
        self.img_resolution = img_resolution
        self.img_resolution_log2 = img_resolution.bit_length() - 1
        self.img_channels = img_channels
        self.block_resolutions = [2**i for i in range(self.img_resolution_log2, 2, -1)]
        channels = {res: min(channel_base // res, channel_max) for res in self.block_resolutions + [4]}
        cmap_dim = 0 if c_dim == 0 else channels[4] if cmap_dim is None else cmap_dim
        common: dict[str, Any] = dict(img_channels=img_channels, architecture=architecture, conv_clamp=conv_clamp)
        first_layer_idx = 0
        for res in self.block_resolutions:
            block = DiscriminatorBlock(
                channels[res] if res < img_resolution else 0,
                channels[res],
                channels[res // 2],
                resolution=res,
                first_layer_idx=first_layer_idx,
                use_fp16=uses_fp16(res, img_resolution, num_fp16_res),
                **(block_kwargs or {}),
                **common,
            )
            setattr(self, f"b{res}", block)
            first_layer_idx += block.num_layers
        if c_dim > 0:
            self.mapping = MappingNetwork(0, c_dim, cmap_dim, num_ws=None, w_avg_beta=None, **(mapping_kwargs or {}))
        self.b4 = DiscriminatorEpilogue(
            channels[4], cmap_dim=cmap_dim, resolution=4, **(epilogue_kwargs or {}), **common
        )

    @property
    def num_features(self) -> int:
        """Size of `features`."""
        return self.b4.in_channels

    @property
    def num_maps(self) -> int:
        """The number of values in `maps` of one picture."""
        return self.b4.in_channels * self.b4.resolution**2

    @property
    def compares_batch(self) -> bool:
        """True if the features of a picture depend on the other pictures of its batch."""
        return self.b4.mbstd is not None

    def maps(self, img: torch.Tensor, force_fp32: bool = False) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What all blocks but the last make of pictures (N, img_channels, R, R) in [-1, 1].

        The maps (N, C, 4, 4) of a picture do not depend on the other pictures of its batch. With the architecture "skip"
        there is also the reduced picture, which is None otherwise.
        """
        x, smaller = getattr(self, f"b{self.img_resolution}")(None, img, force_fp32=force_fp32)
        for res in self.block_resolutions[1:]:
            x, smaller = getattr(self, f"b{res}")(x, smaller, force_fp32=force_fp32)
        return x, smaller

    def features(self, img: torch.Tensor, force_fp32: bool = False) -> torch.Tensor:
        """The input of the last layer for pictures (N, img_channels, R, R) in [-1, 1]; (N, num_features), float32."""
        return self.b4.features(*self.maps(img, force_fp32))

    def score(self, features: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        """Logits (N, 1) from `features` and labels (N, c_dim)."""
        return self.b4.score(features, self.mapping(None, c) if self.c_dim > 0 else None)

    def forward(self, img: torch.Tensor, c: torch.Tensor | None = None, force_fp32: bool = False) -> torch.Tensor:
        """Logits (N, 1) of pictures (N, img_channels, R, R) in [-1, 1] with labels (N, c_dim); higher is more real."""
        return self.score(self.features(img, force_fp32), c)
