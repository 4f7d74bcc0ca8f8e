"""LPIPS (Learned Perceptual Image Patch Similarity), version 0.1.

Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (2018), equation 1.
"""

import os
import zipfile

import torch

from .. import pretrained
from ..networks.backbones import VGG16, SqueezeNet
from .base import Distance, WeightedSum, as_rgb, at_most_256, check_images

# Mean and standard deviation of ImageNet's pictures on the scale [-1, 1], rounded as in LPIPS.
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


class LPIPS(Distance):
    """Weighted squared differences of feature vectors that were scaled to length one.

    Args:
        backbone: a `SqueezeNet` or `VGG16` with weights; it returns several feature maps.
        heads: one tensor per feature map, with one non-negative weight per channel.
    """

    def __init__(self, backbone: SqueezeNet | VGG16, heads: list[torch.Tensor]):
        super().__init__()
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
        total = 0
        for i, (x, y) in enumerate(zip(a, b)):
            total = total + ((x - y).square() * getattr(self, f"head{i}")).sum(dim=1).mean(dim=[1, 2])
        return total


def with_weights(backbone: type[SqueezeNet] | type[VGG16], weights: dict[str, torch.Tensor]) -> SqueezeNet | VGG16:
    """A backbone with the weights of a state dict whose names begin with "features."."""
    with torch.device("meta"):  # no memory and no random numbers for weights that are replaced at once
        network = backbone()
    network.load_state_dict(
        {k: v.to(torch.float32) for k, v in weights.items() if k.startswith("features.")}, assign=True
    )
    return network


class SqueezeLPIPS(LPIPS):
    """LPIPS with the SqueezeNet 1.1 that comes with this package, so that no download is needed."""

    def __init__(self) -> None:
        weights = pretrained.tensors("lpips_squeeze.safetensors")
        backbone = with_weights(SqueezeNet, weights)
        super().__init__(backbone, [weights[f"lin{i}"] for i in range(len(SqueezeNet.taps))])


class ScriptedVGG16(Distance):
    """LPIPS computed by a TorchScript file with the interface of the official ``vgg16.pt``.

    The scripted network takes pictures in [0, 255] and returns one vector per picture. The squared distance of two
    vectors is the LPIPS of the pictures.

    Args:
        file: the TorchScript file.
    """

    def __init__(self, file: str | os.PathLike):
        super().__init__()
        self.network = torch.jit.load(os.fspath(file), map_location="cpu").eval()

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
        return self.network(at_most_256(x), resize_images=False, return_lpips=True)

    def compare(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).square().sum(dim=1)


def load_vgg_lpips(file: str | os.PathLike) -> Distance:
    """LPIPS with VGG16.

    Args:
        file: a TorchScript file like the official ``vgg16.pt``, or torchvision's state dict of VGG16, for which this
            package has the weights of LPIPS. `io.download.vgg16_file` locates or downloads the official file.

    Raises:
        ValueError: there is no such file, or it is neither of the two.
    """
    expected = "expected a TorchScript file like the official vgg16.pt, or torchvision's state dict of VGG16"
    if not os.path.isfile(file):
        problem = "it is a directory" if os.path.isdir(file) else "there is no such file"
        raise ValueError(f"{file}: {problem}; {expected}")
    try:
        with zipfile.ZipFile(file) as z:
            scripted = any(name.split("/")[1:2] == ["code"] for name in z.namelist())
    except zipfile.BadZipFile:
        scripted = False
    if scripted:
        try:
            return ScriptedVGG16(file)
        except RuntimeError as e:
            raise ValueError(
                f"{file}: not a TorchScript file that this torch can open ({str(e).splitlines()[0][:120]}); {expected}"
            ) from None
    try:
        backbone = with_weights(VGG16, torch.load(file, map_location="cpu", weights_only=True))
    except Exception:  # torch.load and load_state_dict raise many kinds, with advice that does not apply here
        raise ValueError(
            f"{file}: it is neither a TorchScript file nor a state dict of VGG16's convolutions; {expected}"
        ) from None
    heads = pretrained.tensors("lpips_vgg_heads.safetensors")
    return LPIPS(backbone, [heads[f"lin{i}"] for i in range(len(VGG16.taps))])


def reported_lpips(loss: Distance) -> tuple[str, Distance]:
    """The LPIPS in which a result is reported: with VGG16 if the loss uses VGG16, else with SqueezeNet.

    Returns:
        The name of the network ("vgg" or "squeeze"), and the distance.
    """
    parts = list(loss.distances) if isinstance(loss, WeightedSum) else [loss]
    for part in parts:
        if isinstance(part, ScriptedVGG16) or (isinstance(part, LPIPS) and isinstance(part.backbone, VGG16)):
            return "vgg", part
    for part in parts:
        if isinstance(part, SqueezeLPIPS):
            return "squeeze", part
    return "squeeze", SqueezeLPIPS()
