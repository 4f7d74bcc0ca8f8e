"""Inception-ResNet v1 (Szegedy et al., 2017) that embeds faces (Schroff et al., 2015). Names are those of facenet-pytorch."""

import torch
import torch.nn.functional as F

from .inception import ACROSS, DOWN, BasicConv2d

DOWN_3 = dict(kernel=(3, 1), padding=(1, 0))
ACROSS_3 = dict(kernel=(1, 3), padding=(0, 1))
HALF = dict(kernel=3, stride=2)
SAME = dict(kernel=3, padding=1)
ONE = dict(kernel=1)


def _branch(in_: int, *layers: tuple[int, dict]) -> torch.nn.Module:
    """Convolutions one after another, from pairs of the output channels and other arguments; one alone has no number."""
    made = []
    for out, arguments in layers:
        made.append(BasicConv2d(in_, out, **arguments))
        in_ = out
    return made[0] if len(made) == 1 else torch.nn.Sequential(*made)


class Branches(torch.nn.Module):
    """Branches side by side, whose outputs become the channels of one map.

    Args:
        branches: modules with one input.
        pool: True adds the input's maxima over 3x3 pixels at every second place.
    """

    def __init__(self, *branches: torch.nn.Module, pool: bool = False):
        super().__init__()
        self.count, self.pool = len(branches), pool
        for i, branch in enumerate(branches):
            self.add_module(f"branch{i}", branch)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [getattr(self, f"branch{i}")(x) for i in range(self.count)]
        return torch.cat([*parts, F.max_pool2d(x, 3, stride=2)] if self.pool else parts, dim=1)


class Residual(Branches):
    """Branches whose outputs, after a convolution of 1x1 and times ``scale``, are added to the input.

    Args:
        channels: the channels of the input, and of the output.
        width: the channels of all branches together.
        scale: the factor of what is added.
        branches: modules with one input.
        relu: False leaves out the ReLU at the end.
    """

    def __init__(self, channels: int, width: int, scale: float, *branches: torch.nn.Module, relu: bool = True):
        super().__init__(*branches)
        self.conv2d = torch.nn.Conv2d(width, channels, 1)
        self.scale, self.relu = scale, relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.scale * self.conv2d(super().forward(x))
        return F.relu(x) if self.relu else x


def _block35() -> Residual:
    branches = [(32, ONE)], [(32, ONE), (32, SAME)], [(32, ONE), (32, SAME), (32, SAME)]
    return Residual(256, 96, 0.17, *(_branch(256, *layers) for layers in branches))


def _block17() -> Residual:
    branches = [(128, ONE)], [(128, ONE), (128, ACROSS), (128, DOWN)]
    return Residual(896, 256, 0.10, *(_branch(896, *layers) for layers in branches))


def _block8(scale: float = 0.20, relu: bool = True) -> Residual:
    branches = [(192, ONE)], [(192, ONE), (192, ACROSS_3), (192, DOWN_3)]
    return Residual(1792, 384, scale, *(_branch(1792, *layers) for layers in branches), relu=relu)


class InceptionResnetV1(torch.nn.Module):
    """From faces (N, 3, H, W), normally 160x160 pixels and (pixel - 127.5) / 128, to embeddings (N, 512) of length one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2d_1a = BasicConv2d(3, 32, **HALF)
        self.conv2d_2a = BasicConv2d(32, 32, 3)
        self.conv2d_2b = BasicConv2d(32, 64, **SAME)
        self.conv2d_3b = BasicConv2d(64, 80, 1)
        self.conv2d_4a = BasicConv2d(80, 192, 3)
        self.conv2d_4b = BasicConv2d(192, 256, **HALF)
        self.repeat_1 = torch.nn.Sequential(*(_block35() for _ in range(5)))
        self.mixed_6a = Branches(
            _branch(256, (384, HALF)), _branch(256, (192, ONE), (192, SAME), (256, HALF)), pool=True
        )
        self.repeat_2 = torch.nn.Sequential(*(_block17() for _ in range(10)))
        self.mixed_7a = Branches(
            _branch(896, (256, ONE), (384, HALF)),
            _branch(896, (256, ONE), (256, HALF)),
            _branch(896, (256, ONE), (256, SAME), (256, HALF)),
            pool=True,
        )
        self.repeat_3 = torch.nn.Sequential(*(_block8() for _ in range(5)))
        self.block8 = _block8(scale=1.0, relu=False)
        self.last_linear = torch.nn.Linear(1792, 512, bias=False)
        self.last_bn = torch.nn.BatchNorm1d(512, eps=0.001)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x)))
        x = self.conv2d_4b(self.conv2d_4a(self.conv2d_3b(F.max_pool2d(x, 3, stride=2))))
        x = self.mixed_7a(self.repeat_2(self.mixed_6a(self.repeat_1(x))))
        x = self.block8(self.repeat_3(x)).mean(dim=[2, 3])
        return F.normalize(self.last_bn(self.last_linear(x)))
