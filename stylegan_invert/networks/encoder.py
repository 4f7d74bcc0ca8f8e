"""A residual network from pictures to latent codes (Bayat, chapter 2; ResNet-18 of He et al. 2015)."""

import torch
import torch.nn.functional as F

STAGES = 4  # a ResNet-18 has four stages of two blocks each


class Block(torch.nn.Module):
    """Two 3x3 convolutions with batch normalisation, added to the block's input. Names are those of torchvision.

    Args:
        in_channels: the channels of the input.
        out_channels: the channels of the output.
        stride: 2 halves the picture's sides.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(out_channels)
        self.conv2 = torch.nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(out_channels)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = torch.nn.Sequential(
                torch.nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), torch.nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        beside = x if self.downsample is None else self.downsample(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(x)) + beside)


class Encoder(torch.nn.Module):
    """A ResNet-18 whose head has two hidden dense layers, as in Bayat's thesis (2048 and 1024 at the full width of 64).

    The first convolution is torchvision's for inputs of 128 pixels and more. For smaller inputs it has a kernel of 3x3
    and no pooling behind it, so that the first stage sees at least 16x16 pixels. The last feature map is averaged to
    4x4 and not to one pixel, because a latent code also says where things are.

    Args:
        img_channels: the channels of the pictures.
        input_size: pictures are resized to this side.
        outputs: the number of entries of the code.
        c_dim: the number of classes; the class is an input of the head.
        width: the channels of the first stage; 64 makes a ResNet-18.
        iterative: True takes a second picture, the reconstruction so far, as further input channels (Alaluf et al. 2021, ReStyle).
    """

    def __init__(
        self, img_channels: int, input_size: int, outputs: int, c_dim: int = 0, width: int = 64, iterative: bool = False
    ):
        super().__init__()
        self.settings = dict(
            img_channels=img_channels, input_size=input_size, outputs=outputs, c_dim=c_dim, width=width,
            iterative=iterative,
        )  # fmt: skip
        self.img_channels, self.input_size, self.outputs = img_channels, input_size, outputs
        self.c_dim, self.iterative = c_dim, iterative
        large = input_size >= 128
        channels = img_channels * (2 if iterative else 1)
        stride = 2 if input_size >= 64 else 1
        self.conv1 = torch.nn.Conv2d(channels, width, 7 if large else 3, stride, 3 if large else 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(width)
        self.pool = torch.nn.MaxPool2d(3, 2, 1) if large else torch.nn.Identity()
        before = width
        for i in range(STAGES):
            after = width * 2**i
            blocks = torch.nn.Sequential(Block(before, after, 1 if i == 0 else 2), Block(after, after, 1))
            self.add_module(f"layer{i + 1}", blocks)
            before = after
        hidden = (32 * width, 16 * width)
        last = torch.nn.Linear(hidden[1], outputs)
        self.head = torch.nn.Sequential(
            torch.nn.Linear(before * 16 + c_dim, hidden[0]),
            torch.nn.ReLU(),
            torch.nn.Linear(hidden[0], hidden[1]),
            torch.nn.ReLU(),
            last,
        )
        # The first guess is near zero, which is the mean code.
        with torch.no_grad():
            last.weight.mul_(0.1)
            last.bias.zero_()

    def forward(
        self, pictures: torch.Tensor, c: torch.Tensor | None = None, before: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Coordinates of codes, whose mean over the prior is about 0 and whose deviation is about 1.

        Args:
            pictures: (N, img_channels, R, R) float32 in [-1, 1], of any size.
            c: labels (N, c_dim), for a network with classes.
            before: for an iterative encoder, the reconstructions so far, of the same shape as the pictures.

        Returns:
            (N, outputs) float32. Those of an iterative encoder are to be added to the coordinates so far.
        """
        x = pictures if before is None else torch.cat([pictures, before], dim=1)
        if x.shape[-1] != self.input_size:
            size = (self.input_size, self.input_size)
            x = F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)
        x = self.pool(torch.relu(self.bn1(self.conv1(x))))
        for i in range(STAGES):
            x = self.get_submodule(f"layer{i + 1}")(x)
        x = F.adaptive_avg_pool2d(x, 4).flatten(1)
        return self.head(x if c is None or not self.c_dim else torch.cat([x, c], dim=1))


def input_size(resolution: int) -> int:
    """The side to which pictures of a network are resized: their own up to 224, which the thesis has, above."""
    return min(resolution, 224)


def usual_width(size: int) -> int:
    """The channels of the first stage for an input size: 64 as in a ResNet-18 from 128 pixels on, and 16 below.

    At 32 pixels and equal time, a width of 16 comes nearer than one of 32, because it sees nearly twice as many pictures
    (docs/reproduce/encoder.md).
    """
    return 64 if size >= 128 else 16
