"""Weight files that some losses need: where they are found, and how the command line calls them. No torch is imported."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from .download import inception_file, vgg16_file


class WeightFile(NamedTuple):
    """One weight file that a user may name.

    Attributes:
        title: what it is, with its article.
        find: from what the user named, or None, to the file; None where there is none and the loss can do without.
        help: for ``--help``.
        metavar: what stands for the value in ``--help``.
    """

    title: str
    find: Callable[[str | os.PathLike | None], Path | None]
    help: str
    metavar: str = "FILE"


WEIGHTS: dict[str, WeightFile] = {
    "vgg16": WeightFile(
        "a VGG16",
        vgg16_file,
        "VGG16 for lpips-vgg: a TorchScript file like the official vgg16.pt, or torchvision's state dict. "
        "Default: $STYLEGAN_INVERT_VGG16, else the official file, downloaded once.",
    ),
    "inception": WeightFile(
        "an InceptionV3",
        inception_file,
        "InceptionV3 for features: torchvision's state dict.  "
        "[default: $STYLEGAN_INVERT_INCEPTION, else the shipped SqueezeNet]",
        "[FILE|download]",
    ),
}
"""By the name of the option, and of the keyword in Python."""
