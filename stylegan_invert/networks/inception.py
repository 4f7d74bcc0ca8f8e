"""InceptionV3 (Szegedy et al., 2016) under torchvision's names: up to Mixed_7a for the losses, and whole for FID.

FID's network is the one of 2015 that TensorFlow's authors published. Its averages over 3x3 leave out what lies outside of the
map, and its last block takes maxima there; `FIDInception` has these rules.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F


class BasicConv2d(torch.nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(
        self, in_: int, out: int, kernel: int | tuple[int, int], stride: int = 1, padding: int | tuple[int, int] = 0
    ):
        super().__init__()
        self.conv = torch.nn.Conv2d(in_, out, kernel, stride=stride, padding=padding, bias=False)
        self.bn = torch.nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)))


ACROSS: dict[str, Any] = dict(kernel=(1, 7), padding=(0, 3))
DOWN: dict[str, Any] = dict(kernel=(7, 1), padding=(3, 0))


def _chain(module: torch.nn.Module, prefix: str, x: torch.Tensor, count: int) -> torch.Tensor:
    for i in range(1, count + 1):
        x = getattr(module, f"{prefix}_{i}")(x)
    return x


def mean3(x: torch.Tensor) -> torch.Tensor:
    """Averages over 3x3, where zeros outside of the map count."""
    return F.avg_pool2d(x, 3, stride=1, padding=1)


def mean3_inside(x: torch.Tensor) -> torch.Tensor:
    """Averages over those of 3x3 that lie inside of the map."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def max3(x: torch.Tensor) -> torch.Tensor:
    """Maxima over 3x3."""
    return F.max_pool2d(x, 3, stride=1, padding=1)


Pool = Callable[[torch.Tensor], torch.Tensor]


class InceptionA(torch.nn.Module):
    """From (N, in, H, W) to (N, 224 + pool, H, W)."""

    def __init__(self, in_: int, pool: int, pooled: Pool = mean3):
        super().__init__()
        self.pooled = pooled
        self.branch1x1 = BasicConv2d(in_, 64, 1)
        self.branch5x5_1, self.branch5x5_2 = BasicConv2d(in_, 48, 1), BasicConv2d(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = BasicConv2d(in_, 64, 1)
        self.branch3x3dbl_2 = BasicConv2d(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = BasicConv2d(96, 96, 3, padding=1)
        self.branch_pool = BasicConv2d(in_, pool, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [self.branch1x1(x), _chain(self, "branch5x5", x, 2), _chain(self, "branch3x3dbl", x, 3)]
        return torch.cat([*parts, self.branch_pool(self.pooled(x))], dim=1)


class InceptionB(torch.nn.Module):
    """From (N, in, H, W) to (N, in + 480, H / 2, W / 2)."""

    def __init__(self, in_: int):
        super().__init__()
        self.branch3x3 = BasicConv2d(in_, 384, 3, stride=2)
        self.branch3x3dbl_1 = BasicConv2d(in_, 64, 1)
        self.branch3x3dbl_2 = BasicConv2d(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = BasicConv2d(96, 96, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.branch3x3(x), _chain(self, "branch3x3dbl", x, 3), F.max_pool2d(x, 3, stride=2)], dim=1)


class InceptionC(torch.nn.Module):
    """From (N, in, H, W) to (N, 768, H, W)."""

    def __init__(self, in_: int, c7: int, pooled: Pool = mean3):
        super().__init__()
        self.pooled = pooled
        self.branch1x1 = BasicConv2d(in_, 192, 1)
        self.branch7x7_1 = BasicConv2d(in_, c7, 1)
        self.branch7x7_2, self.branch7x7_3 = BasicConv2d(c7, c7, **ACROSS), BasicConv2d(c7, 192, **DOWN)
        self.branch7x7dbl_1 = BasicConv2d(in_, c7, 1)
        self.branch7x7dbl_2, self.branch7x7dbl_3 = BasicConv2d(c7, c7, **DOWN), BasicConv2d(c7, c7, **ACROSS)
        self.branch7x7dbl_4, self.branch7x7dbl_5 = BasicConv2d(c7, c7, **DOWN), BasicConv2d(c7, 192, **ACROSS)
        self.branch_pool = BasicConv2d(in_, 192, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [self.branch1x1(x), _chain(self, "branch7x7", x, 3), _chain(self, "branch7x7dbl", x, 5)]
        return torch.cat([*parts, self.branch_pool(self.pooled(x))], dim=1)


class InceptionD(torch.nn.Module):
    """From (N, in, H, W) to (N, in + 512, H / 2, W / 2)."""

    def __init__(self, in_: int):
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = BasicConv2d(in_, 192, 1), BasicConv2d(192, 320, 3, stride=2)
        self.branch7x7x3_1 = BasicConv2d(in_, 192, 1)
        self.branch7x7x3_2, self.branch7x7x3_3 = BasicConv2d(192, 192, **ACROSS), BasicConv2d(192, 192, **DOWN)
        self.branch7x7x3_4 = BasicConv2d(192, 192, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [_chain(self, "branch3x3", x, 2), _chain(self, "branch7x7x3", x, 4), F.max_pool2d(x, 3, stride=2)]
        return torch.cat(parts, dim=1)


class InceptionE(torch.nn.Module):
    """From (N, in, H, W) to (N, 2048, H, W)."""

    def __init__(self, in_: int, pooled: Pool):
        super().__init__()
        self.pooled = pooled
        across: dict[str, Any] = dict(kernel=(1, 3), padding=(0, 1))
        down: dict[str, Any] = dict(kernel=(3, 1), padding=(1, 0))
        self.branch1x1 = BasicConv2d(in_, 320, 1)
        self.branch3x3_1 = BasicConv2d(in_, 384, 1)
        self.branch3x3_2a, self.branch3x3_2b = BasicConv2d(384, 384, **across), BasicConv2d(384, 384, **down)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = BasicConv2d(in_, 448, 1), BasicConv2d(448, 384, 3, padding=1)
        self.branch3x3dbl_3a, self.branch3x3dbl_3b = BasicConv2d(384, 384, **across), BasicConv2d(384, 384, **down)
        self.branch_pool = BasicConv2d(in_, 192, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one, two = self.branch3x3_1(x), _chain(self, "branch3x3dbl", x, 2)
        parts = [self.branch1x1(x), self.branch3x3_2a(one), self.branch3x3_2b(one)]
        parts += [self.branch3x3dbl_3a(two), self.branch3x3dbl_3b(two), self.branch_pool(self.pooled(x))]
        return torch.cat(parts, dim=1)


INCEPTION_LAYERS = (
    *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"),
    *(f"Mixed_{name}" for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a")),
)
"""The layers of `InceptionV3`, in the order of computation."""


class InceptionV3(torch.nn.Module):
    """From pictures (N, 3, 299, 299) in [-1, 1] to the output of Mixed_7a, (N, 1280, 8, 8).

    Args:
        pooled: the pooling in blocks that keep the size of the map.

    Attributes:
        last: the layer whose output is returned, a name in `INCEPTION_LAYERS`.
    """

    last = INCEPTION_LAYERS[-1]

    def __init__(self, pooled: Pool = mean3):
        super().__init__()
        self.Conv2d_1a_3x3 = BasicConv2d(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = BasicConv2d(32, 32, 3)
        self.Conv2d_2b_3x3 = BasicConv2d(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = BasicConv2d(64, 80, 1)
        self.Conv2d_4a_3x3 = BasicConv2d(80, 192, 3)
        self.Mixed_5b = InceptionA(192, 32, pooled)
        self.Mixed_5c, self.Mixed_5d = InceptionA(256, 64, pooled), InceptionA(288, 64, pooled)
        self.Mixed_6a = InceptionB(288)
        self.Mixed_6b, self.Mixed_6c = InceptionC(768, 128, pooled), InceptionC(768, 160, pooled)
        self.Mixed_6d, self.Mixed_6e = InceptionC(768, 160, pooled), InceptionC(768, 192, pooled)
        self.Mixed_7a = InceptionD(768)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name in INCEPTION_LAYERS:
            if name in ("Conv2d_3b_1x1", "Mixed_5b"):
                x = F.max_pool2d(x, 3, stride=2)
            x = getattr(self, name)(x)
            if name == self.last:
                break
        return x


class FIDInception(InceptionV3):
    """From pictures (N, 3, 299, 299) in [-1, 1] to the 2048 features (N, 2048) of which FID is computed.

    The published file (pt_inception-2015-12-05-6726825d.pth, the same for pytorch-fid and torch-fidelity) also has a
    classifier, "fc", which is not needed here.
    """

    def __init__(self) -> None:
        super().__init__(mean3_inside)
        self.Mixed_7b, self.Mixed_7c = InceptionE(1280, mean3_inside), InceptionE(2048, max3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.Mixed_7c(self.Mixed_7b(super().forward(x))).mean(dim=[2, 3])


def resized_as_tensorflow(x: torch.Tensor, side: int) -> torch.Tensor:
    """Square pictures (N, C, side, side) of pictures of any size, with the bilinear interpolation of TensorFlow 1.

    Pixel i of the result is taken at the place i * size / side of the input, without the half pixel by which other programs
    shift both grids, and without smoothing first. The corner at 0 stays; beyond the last pixel, the last one is repeated.
    """
    for dim in (3, 2):
        size = x.shape[dim]
        place = torch.arange(side, dtype=torch.float32, device=x.device) * torch.tensor(
            size / side, dtype=torch.float32
        )
        low = place.long()
        shape = [1, 1, 1, 1]
        shape[dim] = side
        share = (place - low).reshape(shape)
        first = x.index_select(dim, low)
        x = first + (x.index_select(dim, (low + 1).clamp(max=size - 1)) - first) * share
    return x
