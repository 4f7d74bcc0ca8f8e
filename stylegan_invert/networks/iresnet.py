"""The residual networks of ArcFace that embed faces (Deng et al., 2019). Names are those of InsightFace's arcface_torch."""

from collections.abc import Sequence

import torch

DEPTHS = {
    "iresnet18": (2, 2, 2, 2),
    "iresnet34": (3, 4, 6, 3),
    "iresnet50": (3, 4, 14, 3),
    "iresnet100": (3, 13, 30, 3),
    "iresnet200": (6, 26, 60, 6),
}
"""The blocks in each of the four stages, by the network's name."""


class Block(torch.nn.Module):
    """Normalisation, convolution, normalisation, PReLU, convolution, normalisation, added to the input.

    Args:
        in_: the channels of the input.
        out: the channels of the output.
        stride: 2 halves the sides.
    """

    def __init__(self, in_: int, out: int, stride: int):
        super().__init__()
        self.bn1 = torch.nn.BatchNorm2d(in_)
        self.conv1 = torch.nn.Conv2d(in_, out, 3, padding=1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(out)
        self.prelu = torch.nn.PReLU(out)
        self.conv2 = torch.nn.Conv2d(out, out, 3, stride, 1, bias=False)
        self.bn3 = torch.nn.BatchNorm2d(out)
        self.downsample = None
        if stride != 1:
            self.downsample = torch.nn.Sequential(
                torch.nn.Conv2d(in_, out, 1, stride, bias=False), torch.nn.BatchNorm2d(out)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        beside = x if self.downsample is None else self.downsample(x)
        return beside + self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))


class IResNet(torch.nn.Module):
    """From faces (N, 3, 112, 112) in [-1, 1] to embeddings (N, 512), of any length.

    Args:
        depths: the blocks in each of the four stages, as in `DEPTHS`.
    """

    def __init__(self, depths: Sequence[int]):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(64)
        self.prelu = torch.nn.PReLU(64)
        before = 64
        for i, count in enumerate(depths):
            out = 64 * 2**i
            blocks = [Block(before, out, 2), *(Block(out, out, 1) for _ in range(count - 1))]
            self.add_module(f"layer{i + 1}", torch.nn.Sequential(*blocks))
            before = out
        self.stages = len(depths)
        self.bn2 = torch.nn.BatchNorm2d(512)
        self.fc = torch.nn.Linear(512 * 49, 512)
        self.features = torch.nn.BatchNorm1d(512)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.prelu(self.bn1(self.conv1(x)))
        for i in range(self.stages):
            x = self.get_submodule(f"layer{i + 1}")(x)
        return self.features(self.fc(self.bn2(x).flatten(1)))
