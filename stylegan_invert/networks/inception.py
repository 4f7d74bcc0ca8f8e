"""InceptionV3 up to Mixed_7a (Szegedy et al., 2016). Parameters have the names of torchvision."""

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


ACROSS = dict(kernel=(1, 7), padding=(0, 3))
DOWN = dict(kernel=(7, 1), padding=(3, 0))


def _chain(module: torch.nn.Module, prefix: str, x: torch.Tensor, count: int) -> torch.Tensor:
    for i in range(1, count + 1):
        x = getattr(module, f"{prefix}_{i}")(x)
    return x


def _mean3(x: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1)


class InceptionA(torch.nn.Module):
    """From (N, in, H, W) to (N, 224 + pool, H, W)."""

    def __init__(self, in_: int, pool: int):
        super().__init__()
        self.branch1x1 = BasicConv2d(in_, 64, 1)
        self.branch5x5_1, self.branch5x5_2 = BasicConv2d(in_, 48, 1), BasicConv2d(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = BasicConv2d(in_, 64, 1)
        self.branch3x3dbl_2 = BasicConv2d(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = BasicConv2d(96, 96, 3, padding=1)
        self.branch_pool = BasicConv2d(in_, pool, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [self.branch1x1(x), _chain(self, "branch5x5", x, 2), _chain(self, "branch3x3dbl", x, 3)]
        return torch.cat([*parts, self.branch_pool(_mean3(x))], dim=1)


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

    def __init__(self, in_: int, c7: int):
        super().__init__()
        self.branch1x1 = BasicConv2d(in_, 192, 1)
        self.branch7x7_1 = BasicConv2d(in_, c7, 1)
        self.branch7x7_2, self.branch7x7_3 = BasicConv2d(c7, c7, **ACROSS), BasicConv2d(c7, 192, **DOWN)
        self.branch7x7dbl_1 = BasicConv2d(in_, c7, 1)
        self.branch7x7dbl_2, self.branch7x7dbl_3 = BasicConv2d(c7, c7, **DOWN), BasicConv2d(c7, c7, **ACROSS)
        self.branch7x7dbl_4, self.branch7x7dbl_5 = BasicConv2d(c7, c7, **DOWN), BasicConv2d(c7, 192, **ACROSS)
        self.branch_pool = BasicConv2d(in_, 192, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [self.branch1x1(x), _chain(self, "branch7x7", x, 3), _chain(self, "branch7x7dbl", x, 5)]
        return torch.cat([*parts, self.branch_pool(_mean3(x))], dim=1)


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


class InceptionV3(torch.nn.Module):
    """From pictures (N, 3, 299, 299) in [-1, 1] to the output of Mixed_7a, (N, 1280, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = BasicConv2d(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = BasicConv2d(32, 32, 3)
        self.Conv2d_2b_3x3 = BasicConv2d(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = BasicConv2d(64, 80, 1)
        self.Conv2d_4a_3x3 = BasicConv2d(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = InceptionA(192, 32), InceptionA(256, 64), InceptionA(288, 64)
        self.Mixed_6a = InceptionB(288)
        self.Mixed_6b, self.Mixed_6c = InceptionC(768, 128), InceptionC(768, 160)
        self.Mixed_6d, self.Mixed_6e = InceptionC(768, 160), InceptionC(768, 192)
        self.Mixed_7a = InceptionD(768)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, stride=2)))
        x = F.max_pool2d(x, 3, stride=2)
        for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a"):
            x = getattr(self, f"Mixed_{name}")(x)
        return x
