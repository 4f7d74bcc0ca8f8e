"""Feature networks for perceptual distances, under torchvision's parameter names."""

import torch
import torch.nn.functional as F

from .. import ops


class ConvReLU(torch.nn.Conv2d):
    """A convolution, whose weights do not change, followed by ReLU."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if isinstance(self.padding, str):
            raise ValueError(f"the padding is {self.padding!r}; expected a number of pixels")
        return ops.conv2d(x, self.weight, self.bias, self.stride[0], self.padding[0], "relu")


class Fire(torch.nn.Module):
    """The building block of SqueezeNet, from (N, in, H, W) to (N, 2 * expand, H, W)."""

    def __init__(self, in_: int, squeeze: int, expand: int):
        super().__init__()
        self.squeeze = torch.nn.Conv2d(in_, squeeze, 1)
        self.expand1x1 = torch.nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = torch.nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.expand1x1(x)), F.relu(self.expand3x3(x))], dim=1)


class SqueezeNet(torch.nn.Module):
    """The convolutions of SqueezeNet 1.1 (Iandola et al., 2016), numbered as in torchvision."""

    min_size = 17  # of a picture; the last pooling would be left without input by a smaller one
    taps = (1, 4, 7, 9, 10, 11, 12)  # LPIPS takes the outputs of these: 64, 128, 256, 384, 384, 512, 512 channels

    def __init__(self) -> None:
        super().__init__()
        pool = torch.nn.MaxPool2d(3, 2, ceil_mode=True)
        self.features = torch.nn.Sequential(
            *(torch.nn.Conv2d(3, 64, 3, stride=2), torch.nn.ReLU()),
            *(pool, Fire(64, 16, 64), Fire(128, 16, 64)),
            *(pool, Fire(128, 32, 128), Fire(256, 32, 128)),
            *(pool, Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256)),
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Seven feature maps of normalised pictures (N, 3, H, W)."""
        return _tapped(self.features, self.taps, x)


class VGG16(torch.nn.Module):
    """The convolutions of VGG16 (Simonyan & Zisserman, 2015), numbered as in torchvision."""

    min_size = 16
    taps = (3, 8, 15, 22, 29)  # after relu1_2, relu2_2, relu3_3, relu4_3, relu5_3

    def __init__(self) -> None:
        super().__init__()
        layers: list[torch.nn.Module] = []
        channels = 3
        for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(count):
                # torchvision has a ReLU where Identity is here, which keeps the numbers of the modules the same.
                layers += [ConvReLU(channels, width, 3, padding=1), torch.nn.Identity()]
                channels = width
            layers.append(torch.nn.MaxPool2d(2))
        self.features = torch.nn.Sequential(*layers[:-1])

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Five feature maps of normalised pictures (N, 3, H, W)."""
        return _tapped(self.features, self.taps, x)


def _tapped(layers: torch.nn.Sequential, taps: tuple[int, ...], x: torch.Tensor) -> list[torch.Tensor]:
    """The outputs of the layers whose numbers are in ``taps``."""
    outputs = []
    for i, layer in enumerate(layers):
        x = layer(x)
        if i in taps:
            outputs.append(x)
    return outputs
