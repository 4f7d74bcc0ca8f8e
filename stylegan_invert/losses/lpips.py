"""LPIPS (Learned Perceptual Image Patch Similarity), version 0.1.

Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (2018), equation 1.
"""

import os

import torch

from .. import pretrained
from ..files import plain
from ..files.door import Kind
from ..files.official import VGG16_SHA256
from ..networks.backbones import VGG16, SqueezeNet
from .base import Distance, WeightedSum, as_rgb, at_most_256, check_images, total
from .multi_resolution import MultiResolution
from .weight_files import Program, read_weights, with_weights

# Mean and standard deviation of ImageNet's pictures on the scale [-1, 1], rounded as in LPIPS.
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)

_VGG16 = Kind("a TorchScript file like the official vgg16.pt, or torchvision's state dict of VGG16", 2**30, ValueError)


class LPIPS(Distance):
    """Weighted squared differences of feature vectors that were scaled to length one.

    Args:
        backbone: a `SqueezeNet` or `VGG16` with weights; it returns several feature maps.
        heads: one tensor per feature map, with one non-negative weight per channel.
    """

    def __init__(self, backbone: SqueezeNet | VGG16, heads: list[torch.Tensor]):
        super().__init__()
        self.shift: torch.Tensor
        self.scale: torch.Tensor
        self.backbone = backbone.eval().requires_grad_(False)
        self.min_size = backbone.min_size
        for i, head in enumerate(heads):
            self.register_buffer(f"head{i}", head.to(torch.float32).reshape(1, -1, 1, 1))
        self.register_buffer("shift", torch.tensor(_SHIFT).reshape(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(_SCALE).reshape(1, 3, 1, 1))

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        x = (as_rgb(at_most_256(images)) - self.shift) / self.scale
        return [f / (f.square().sum(dim=1, keepdim=True).sqrt() + 1e-10) for f in self.backbone(x)]

    def compare(self, a: list[torch.Tensor], b: list[torch.Tensor]) -> torch.Tensor:
        return total(
            ((x - y).square() * getattr(self, f"head{i}")).sum(dim=1).mean(dim=[1, 2])
            for i, (x, y) in enumerate(zip(a, b))
        )


class SqueezeLPIPS(LPIPS):
    """LPIPS with the SqueezeNet 1.1 that comes with this package, so that no download is needed."""

    def __init__(self) -> None:
        weights = pretrained.tensors("lpips_squeeze.safetensors")
        backbone = with_weights(SqueezeNet, weights)
        super().__init__(backbone, [weights[f"lin{i}"] for i in range(len(SqueezeNet.taps))])


class ScriptedVGG16(Distance):
    """LPIPS computed by a TorchScript file with the interface of the official ``vgg16.pt``.

    The scripted network takes pictures in [0, 255] and returns one vector per picture. The squared distance of two
    vectors is the LPIPS of the pictures. The file is a program, which this class runs: see `load_vgg_lpips`.

    Args:
        file: the TorchScript file.

    Raises:
        ValueError: torch cannot open the file, or the program does not work as the official one does.
    """

    def __init__(self, file: str | os.PathLike):
        super().__init__()
        self.program = Program(file, 64, _VGG16.words, resize_images=False, return_lpips=True)

    def prepare(self, target: torch.Tensor) -> torch.Tensor:
        check_images(target, self.min_size)
        x = (as_rgb(target) + 1) * (255 / 2)
        # Pixels that were read from 8 bits become whole numbers again. Official code never scales the target, and a
        # long optimisation amplifies even a difference in the last digit.
        x = torch.where((x - x.round()).abs() < 1e-3, x.round(), x)
        with torch.no_grad():
            return self._run(x)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return self._run((as_rgb(images) + 1) * (255 / 2))

    def _run(self, x: torch.Tensor) -> torch.Tensor:
        return self.program(at_most_256(x))

    def compare(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).square().sum(dim=1)


def load_vgg_lpips(file: str | os.PathLike, run_torchscript: bool = False) -> Distance:
    """LPIPS with VGG16.

    Args:
        file: a TorchScript file like the official ``vgg16.pt``, or torchvision's state dict of VGG16, for which this
            package has the weights of LPIPS. `io.download.vgg16_file` locates or downloads the official file.
        run_torchscript: True runs any TorchScript file; False only the official one, which is known by its SHA-256. Such
            a file is a program that can write files. A state dict is not a program.

    Raises:
        ValueError: there is no such file, it is neither of the two, or it is a program that may not be run.
    """
    remedy = "the official vgg16.pt; name torchvision's state dict instead"
    stored = read_weights(file, _VGG16, run_torchscript, VGG16_SHA256, remedy)
    if stored is None:
        return ScriptedVGG16(file)
    try:
        backbone = with_weights(VGG16, stored)
    except plain.Misfit as e:
        raise ValueError(f"{os.fspath(file)}: {e}; expected {_VGG16.words}") from None
    heads = pretrained.tensors("lpips_vgg_heads.safetensors")
    return LPIPS(backbone, [heads[f"lin{i}"] for i in range(len(VGG16.taps))])


def reported_lpips(loss: Distance) -> tuple[str, Distance]:
    """The LPIPS in which a result is reported: with VGG16 if the loss uses VGG16, else with SqueezeNet.

    Returns:
        The name of the network ("vgg" or "squeeze"), and the distance.
    """
    parts = list(loss.distances) if isinstance(loss, WeightedSum) else [loss]
    parts = [part.distance if isinstance(part, MultiResolution) else part for part in parts]
    for part in parts:
        if isinstance(part, ScriptedVGG16) or (isinstance(part, LPIPS) and isinstance(part.backbone, VGG16)):
            return "vgg", part
    for part in parts:
        if isinstance(part, SqueezeLPIPS):
            return "squeeze", part
    return "squeeze", SqueezeLPIPS()
