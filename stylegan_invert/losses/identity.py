"""The distance of two faces as a network for recognising people sees them: one minus the cosine of their embeddings.

Sources: Schroff et al., "FaceNet" (2015); Deng et al., "ArcFace" (2019). As a loss of inversion: Richardson et al.,
"Encoding in Style" (pSp, 2021), equation 4.
"""

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from ..files import plain
from ..files.door import Kind
from ..files.tensors import tables, unwrapped
from ..networks.facenet import InceptionResnetV1
from ..networks.iresnet import DEPTHS, IResNet
from .base import Distance, as_rgb
from .weight_files import Program, read_weights, with_weights

_FILE = Kind(
    "the state dict of a face embedder: facenet-pytorch's InceptionResnetV1, or a backbone of InsightFace's arcface_torch "
    "(iresnet18 to iresnet200)",
    2**31,
    ValueError,
)
_PROGRAM = "a TorchScript program from faces (N, 3, 112, 112) in [-1, 1] to embeddings (N, n)"

FFHQ_CROP = (35 / 256, 223 / 256, 32 / 256, 220 / 256)
"""The part of a picture aligned as FFHQ's that embedders expect: top, bottom, left and right, as shares of the side. It is
pSp's crop of 188x188 pixels in 256x256."""


class _Embedder(NamedTuple):
    """A network with its convention for inputs.

    Attributes:
        network: from faces (N, 3, side, side) to embeddings.
        side: the side of a face in pixels.
        factor: pictures in [-1, 1] are multiplied by it.
        name: the network's name.
    """

    network: torch.nn.Module
    side: int
    factor: float
    name: str


class IdentityDistance(Distance):
    """One minus the cosine of the embeddings of two faces: 0 for the same person in the same picture, about 1 for others.

    Pictures are resized to the embedder's size with bilinear interpolation and antialiasing: to 160x160 for facenet-pytorch,
    whose inputs are (pixel - 127.5) / 128, and to 112x112 for InsightFace and TorchScript programs, whose inputs are
    pixel / 127.5 - 1. The channels are RGB; grey is repeated. The face is expected where the embedder's own alignment puts
    it, about as large as the picture.

    Args:
        embedder: the network, with its convention.
        crop: True takes the middle of pictures that are aligned as FFHQ's, `FFHQ_CROP`.
    """

    def __init__(self, embedder: _Embedder, crop: bool = False):
        super().__init__()
        self.network = embedder.network.eval().requires_grad_(False)
        self.side, self.factor, self.name, self.crop = embedder.side, embedder.factor, embedder.name, crop

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Embeddings (N, n) of length one."""
        x = as_rgb(images)
        if self.crop:
            top, bottom, left, right = (round(share * images.shape[2]) for share in FFHQ_CROP)
            x = x[:, :, top:bottom, left:right]
        x = F.interpolate(x, [self.side, self.side], mode="bilinear", antialias=True, align_corners=False)
        return F.normalize(self.network(x * self.factor))

    def compare(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return 1 - (a * b).sum(dim=1)


def load_identity(file: str | os.PathLike, run_torchscript: bool = False, crop: bool = False) -> IdentityDistance:
    """The distance of a face embedder's file. The network is recognised by the names of its tensors.

    Args:
        file: a state dict of facenet-pytorch's InceptionResnetV1 or of a backbone of InsightFace's arcface_torch, by
            torch.save or in safetensors, alone or in a checkpoint; or a TorchScript program from faces (N, 3, 112, 112)
            in [-1, 1] to embeddings (N, n).
        run_torchscript: True runs such a program. A program can write files; a state dict is not a program.
        crop: see `IdentityDistance`.

    Raises:
        ValueError: there is no such file, it is of another kind, or it is a program that may not be run.
    """
    stored = read_weights(file, _FILE, run_torchscript, "", "a state dict instead")
    if stored is None:
        program = Program(file, 112, _PROGRAM)
        return IdentityDistance(_Embedder(program, 112, 1.0, "TorchScript"), crop)
    found = [unwrapped(tensors) for _, tensors, _ in tables(stored)]
    try:
        embedder = next(filter(None, map(_embedder, found)), None)
    except plain.Misfit as e:
        raise ValueError(f"{os.fspath(file)}: {e}; expected {_FILE.words}") from None
    if embedder is None:
        raise ValueError(f"{os.fspath(file)}: it holds the tensors of another network; expected {_FILE.words}")
    return IdentityDistance(embedder, crop)


def _embedder(tensors: Mapping[str, Any]) -> _Embedder | None:
    """The face embedder of a state dict; None if it is of another network.

    Raises:
        Misfit: a tensor is missing, of another shape or not finite.
    """
    if {"conv2d_1a.conv.weight", "last_linear.weight"} <= tensors.keys():
        return _Embedder(
            with_weights(InceptionResnetV1, tensors), 160, 127.5 / 128, "facenet-pytorch InceptionResnetV1"
        )
    if {"conv1.weight", "prelu.weight", "layer1.0.prelu.weight", "features.weight"} <= tensors.keys():
        found = (re.fullmatch(r"layer([1-4])\.(\d{1,3})\.conv1\.weight", name) for name in tensors)
        stages = [match[1] for match in found if match]
        depths = tuple(stages.count(stage) for stage in "1234")
        name = next((name for name, known in DEPTHS.items() if known == depths), None)
        if name is None:
            raise plain.Misfit(f"its four stages have {depths} blocks, as none of the networks")
        return _Embedder(with_weights(lambda: IResNet(depths), tensors), 112, 1.0, f"InsightFace {name}")
    return None
