"""Squared differences of a feature map: the feature distance of Pividori et al., section 4.1."""

import os

import torch
import torch.nn.functional as F

from .. import pretrained
from ..networks.backbones import SqueezeNet
from ..networks.inception import InceptionV3
from .base import Distance, as_rgb
from .lpips import with_weights

_MEAN = (0.485, 0.456, 0.406)  # ImageNet's, on the scale [0, 1]
_STD = (0.229, 0.224, 0.225)


class FeatureDistance(Distance):
    """Squared difference of one feature map of two pictures.

    Args:
        backbone: a module from normalised pictures (N, 3, side, side) to a feature map (N, C, H, W).
        side: pictures are resized to it, bilinearly.
        mean, std: normalisation of pictures in [0, 1].
        unit: the map is divided by it.
        total: the sum over the map, instead of its mean.
        name: of the network and its layer, for the record.
    """

    def __init__(
        self,
        backbone: torch.nn.Module,
        side: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        unit: float,
        total: bool,
        name: str,
    ):
        super().__init__()
        self.backbone = backbone.eval().requires_grad_(False)
        self.side, self.unit, self.total, self.name = side, unit, total, name
        self.register_buffer("mean", torch.tensor(mean).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(1, 3, 1, 1))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        x = F.interpolate((as_rgb(images) + 1) / 2, [self.side, self.side], mode="bilinear", align_corners=False)
        return self.backbone((x - self.mean) / self.std) / self.unit

    def compare(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        squared = (a - b).square()
        return squared.sum(dim=[1, 2, 3]) if self.total else squared.mean(dim=[1, 2, 3])


class _Last(torch.nn.Module):
    """The last of several feature maps."""

    def __init__(self, network: torch.nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x)[-1]


def squeezenet_features(total: bool = False) -> FeatureDistance:
    """The shipped SqueezeNet 1.1's last feature map, 512x7x7, of pictures resized to 128x128.

    It is divided by 40: then unrelated photographs are about as far apart as by the mean squared difference of their pixels
    on the scale [0, 1] (measured: 0.12 to 0.18 against 0.13), and weights made for Inception's features keep their sense.
    """
    network = with_weights(SqueezeNet, pretrained.tensors("lpips_squeeze.safetensors"))
    return FeatureDistance(_Last(network), 128, _MEAN, _STD, 40.0, total, "squeezenet1_1 features.12")


def inception_features(file: str | os.PathLike, total: bool = False) -> FeatureDistance:
    """InceptionV3's Mixed_7a, 1280x8x8, of pictures resized to 299x299.

    Args:
        file: torchvision's state dict of InceptionV3; `io.download.inception_file` finds or fetches it.

    Raises:
        ValueError: the file is no such state dict.
    """
    expected = "expected torchvision's state dict of InceptionV3 (inception_v3_google-0cc3c7bd.pth)"
    if not os.path.isfile(file):
        raise ValueError(f"{file}: there is no such file; {expected}")
    with torch.device("meta"):
        network = InceptionV3()
    try:
        given = torch.load(file, map_location="cpu", weights_only=True)
        values = {
            name: torch.zeros([], dtype=torch.int64)
            if name.endswith("num_batches_tracked")
            else given[name].to(value.dtype)
            for name, value in network.state_dict().items()
        }
        network.load_state_dict(values, assign=True)
    except Exception:  # torch.load and load_state_dict raise many kinds, with advice that does not apply here
        raise ValueError(f"{file}: it is no state dict of InceptionV3; {expected}") from None
    return FeatureDistance(network, 299, (0.5,) * 3, (0.5,) * 3, 1.0, total, "inception_v3 Mixed_7a")
