"""LPIPS (Learned Perceptual Image Patch Similarity), version 0.1.

Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (2018), equation 1.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch

from .. import pretrained
from ..errors import NetworkFileError, printable
from ..files import plain
from ..files.door import Kind
from ..files.official import VGG16_SHA256
from ..files.saved import contents, read_saved_bytes, tensor
from ..files.torch_file import is_torchscript
from ..files.writing import sha256
from ..networks.backbones import VGG16, SqueezeNet
from .base import Distance, WeightedSum, as_rgb, at_most_256, check_images
from .multi_resolution import MultiResolution

# Mean and standard deviation of ImageNet's pictures on the scale [-1, 1], rounded as in LPIPS.
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)

_VGG16 = Kind("a TorchScript file like the official vgg16.pt, or torchvision's state dict of VGG16", 2**30, ValueError)
_EXPECTED = f"expected {_VGG16.words}"


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


def with_weights(backbone: type[SqueezeNet] | type[VGG16], weights: Any) -> SqueezeNet | VGG16:
    """A backbone with the weights of a state dict. What it does not need, such as a classifier, is left out.

    Raises:
        Misfit: the weights are no state dict, or one of another network.
    """
    with torch.device("meta"):  # no memory and no random numbers for weights that are replaced at once
        network = backbone()
    needed = {name: tensor(value, cast=True) for name, value in network.state_dict().items()}
    stored = plain.table(needed, more=plain.unchecked)(weights, "")
    network.load_state_dict({name: stored[name] for name in needed}, assign=True)
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
    vectors is the LPIPS of the pictures. The file is a program, which this class runs: see `load_vgg_lpips`.

    Args:
        file: the TorchScript file.

    Raises:
        ValueError: torch cannot open the file, or the program does not work as the official one does.
    """

    def __init__(self, file: str | os.PathLike):
        super().__init__()
        self.file = os.fspath(file)
        with self._explained("torch cannot open this TorchScript file"):
            self.network = torch.jit.load(self.file, map_location="cpu").eval()
        with torch.enable_grad():  # one small picture, so that a program of another kind is refused before the work
            picture = torch.zeros([1, 3, 64, 64], requires_grad=True)
            vectors = self._run(picture)
            with self._explained("its program has no gradient"):
                torch.autograd.grad(vectors.sum(), picture)

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
        with self._explained("its program failed"):
            vectors = self.network(at_most_256(x), resize_images=False, return_lpips=True)
        if not isinstance(vectors, torch.Tensor) or vectors.ndim != 2 or len(vectors) != len(x):
            raise ValueError(f"{self.file}: its program returns something else than a vector per picture; {_EXPECTED}")
        return vectors

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """A context manager that turns what torch and the program raise into one sentence."""
        try:
            yield
        except Exception as e:  # a program can raise anything
            line = next(iter(str(e).strip().splitlines()[-1:]), "") or type(e).__name__
            raise ValueError(f"{self.file}: {what} ({printable(line, 150)}); {_EXPECTED}") from None

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
    data = read_saved_bytes(file, _VGG16)
    name = os.fspath(file)
    try:
        scripted = is_torchscript(memoryview(data), name)
    except NetworkFileError as e:
        raise ValueError(f"{name}: {e.reason}; {_EXPECTED}") from None
    if scripted:
        if not run_torchscript and sha256(data) != VGG16_SHA256:
            raise ValueError(
                f"{name}: it is a TorchScript program, which can write files when it is run, and its SHA-256 is not that "
                "of the official vgg16.pt; name torchvision's state dict instead, or, if you trust the file, allow it "
                "with --run-torchscript (in Python run_torchscript=True)"
            )
        del data
        return ScriptedVGG16(file)
    try:
        backbone = with_weights(VGG16, contents(data, _VGG16, name))
    except plain.Misfit as e:
        raise ValueError(f"{name}: {e}; {_EXPECTED}") from None
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
