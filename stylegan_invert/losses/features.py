"""Squared differences of a feature map of a network that was trained to classify pictures.

Source: Pividori et al., "Exploiting GAN internal capacity for high-quality reconstruction of natural images" (2019),
section 4.1.
"""

import os

import torch
import torch.nn.functional as F

from .. import pretrained
from ..files import plain
from ..files.door import Kind
from ..files.saved import read_saved
from ..networks.backbones import SqueezeNet
from ..networks.inception import INCEPTION_LAYERS, InceptionV3
from .base import Distance, as_rgb
from .weight_files import with_weights

_MEAN = (0.485, 0.456, 0.406)  # ImageNet's, on the scale [0, 1]
_STD = (0.229, 0.224, 0.225)
_INCEPTION = Kind("torchvision's state dict of InceptionV3 (inception_v3_google-0cc3c7bd.pth)", 2**30, ValueError)


class FeatureDistance(Distance):
    """The squared difference of the feature maps of two pictures.

    Args:
        backbone: a module from normalised pictures (N, 3, side, side) to a feature map (N, C, H, W).
        side: the side in pixels to which pictures are resized, with bilinear interpolation.
        mean: the mean of each channel, which is subtracted from pictures on the scale [0, 1].
        std: the standard deviation of each channel, by which pictures are then divided.
        unit: the number by which the feature map is divided.
        total: True sums the squared differences over the feature map; False takes their mean.
        name: the name of the network and its layer, for the record of a result.
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
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.side, self.unit, self.total, self.name = side, unit, total, name
        self.register_buffer("mean", torch.tensor(mean).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(1, 3, 1, 1))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        x = F.interpolate((as_rgb(images) + 1) / 2, [self.side, self.side], mode="bilinear", align_corners=False)
        return self.backbone((x - self.mean) / self.std) / self.unit

    def compare(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        squared = (a - b).square()
        return squared.sum(dim=[1, 2, 3]) if self.total else squared.mean(dim=[1, 2, 3])


def squeezenet_features(total: bool = False, layer: int = SqueezeNet.taps[-1]) -> FeatureDistance:
    """The distance of a feature map of the shipped SqueezeNet 1.1, for pictures resized to 128x128.

    The last feature map, 512x7x7, is divided by 40, and so are the others. Two unrelated photographs then have about the same
    distance as by the mean squared difference of their pixels on the scale [0, 1] (measured for the last: 0.12 to 0.18, and
    0.13). Weights that were chosen for features of InceptionV3 can therefore be used for these features, too.

    Args:
        total: True sums the squared differences over the feature map; False takes their mean.
        layer: the number of the layer whose output is the feature map, as torchvision numbers ``features``.
    """
    network = with_weights(SqueezeNet, pretrained.tensors("lpips_squeeze.safetensors"))
    part = network.features[: layer + 1]
    return FeatureDistance(part, 128, _MEAN, _STD, 40.0, total, f"squeezenet1_1 features.{layer}")


def inception_features(
    file: str | os.PathLike, total: bool = False, layer: str = INCEPTION_LAYERS[-1]
) -> FeatureDistance:
    """The distance of a feature map of InceptionV3, for pictures resized to 299x299.

    Args:
        file: torchvision's state dict of InceptionV3; `io.download.inception_file` locates or downloads it.
        total: True sums the squared differences over the feature map; False takes their mean.
        layer: the layer whose output is the feature map, a name in `INCEPTION_LAYERS`; Mixed_7a gives 1280x8x8.

    Raises:
        ValueError: there is no such file, or it is not a state dict of InceptionV3.
    """
    try:
        network = with_weights(InceptionV3, read_saved(file, _INCEPTION))
    except plain.Misfit as e:
        raise ValueError(f"{os.fspath(file)}: {e}; expected {_INCEPTION.words}") from None
    network.last = layer
    return FeatureDistance(network, 299, (0.5,) * 3, (0.5,) * 3, 1.0, total, f"inception_v3 {layer}")
