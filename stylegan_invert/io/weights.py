"""The weight files that some losses need: how each is located, and its option on the command line.

This file imports no torch, so that ``--help`` stays quick.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from .download import inception_file, vgg16_file


class WeightFile(NamedTuple):
    """One weight file that a user may name.

    Attributes:
        title: the network whose weights it holds, with an article, for error messages.
        find: takes the path that the user gave, or None, and returns the path of the file. It returns None if there is
            no file and the losses can work without it.
        help: the text for ``--help``.
        metavar: the word that stands for the value in ``--help``.
        measures: the name of a loss by which results are measured, too, if the file is named; empty if there is none.
    """

    title: str
    find: Callable[[str | os.PathLike | None], Path | None]
    help: str
    metavar: str = "FILE"
    measures: str = ""


WEIGHTS: dict[str, WeightFile] = {
    "vgg16": WeightFile(
        "a VGG16",
        vgg16_file,
        "Weights of VGG16 for lpips-vgg: the official vgg16.pt, or torchvision's state dict.  "
        "[default: $STYLEGAN_INVERT_VGG16, else the official file, downloaded at the first use]",
    ),
    "inception": WeightFile(
        "an InceptionV3",
        inception_file,
        "Weights of InceptionV3 for features: torchvision's state dict, or the word download.  "
        "[default: $STYLEGAN_INVERT_INCEPTION, else the shipped SqueezeNet is used]",
        "[FILE|download]",
    ),
    "identity": WeightFile(
        "a face embedder",
        lambda file: Path(file) if file else None,
        "Weights of a network that recognises people, for identity: the state dict of facenet-pytorch's InceptionResnetV1, or "
        "of a backbone of InsightFace's arcface_torch. project also reports the cosine distance of faces by it.",
        measures="identity",
    ),
}
"""The weight files by name. The name is that of the option (``--vgg16``) and of the keyword in Python (``vgg16=``)."""

RUNNABLE = {"vgg16": "lpips-vgg", "identity": "identity"}
"""The weight files that may be a program, in TorchScript, and the name of a loss that uses each."""

RUN_TORCHSCRIPT = (
    "Run the --vgg16 or --identity file if it is a TorchScript program. It can do what torch can, such as writing files. "
    "Without this option only the official vgg16.pt is run, which is known by its SHA-256."
)
"""The help text of ``--run-torchscript``."""
