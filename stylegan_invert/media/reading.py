"""Options for reading files in the shape that a network needs.

This file imports no torch, so that ``--help`` stays quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..errors import ImageFileError
from ..options import option

if TYPE_CHECKING:
    from .landmarks import Landmarks


@dataclass(frozen=True)
class PictureReading:
    """Options for reading a picture file.

    Attributes:
        fit: "crop" takes the square in the centre, as the official projector does; "pad" fills up to a square.
        background: the colour behind transparent pixels and in the padding, by name or as "#rrggbb".
        align: a file of landmarks, see `landmarks.read_landmarks`; the face is cut out as FFHQ does. None uses ``fit``.
    """

    fit: str = option(
        "crop",
        words=("crop", "pad"),
        help="For pictures that are not square. crop: use the square in the centre. pad: fill up to a square.",
    )
    background: str = option(
        "white", words=("",), help="Colour behind transparent pixels and in the padding.", metavar="COLOUR"
    )
    align: str | None = option(
        None,
        words=("",),
        or_none=True,
        metavar="FILE",
        help="Landmarks of faces: cut the face out of each picture as the data set FFHQ does, upright and at its size. "
        "FILE has 5 or 68 points [x, y] for one picture, or a table from the names of pictures to such lists, in JSON; "
        "or it is ffhq-dataset-v2.json. 'stylegan-invert align' makes one.",
    )

    @cached_property
    def landmarks(self) -> Landmarks:
        """The landmarks in ``align``, read at the first use."""
        from .landmarks import read_landmarks

        if self.align is None:
            raise ValueError("no landmarks were named (align)")
        return read_landmarks(self.align)

    def check(self, targets: Sequence[Any]) -> None:
        """Refuse targets that these options do not suit, before the first one is read.

        Raises:
            ImageFileError: landmarks cannot be read, or are of one picture where there are several targets.
        """
        if self.align is None:
            return
        if self.fit == "pad":
            raise ImageFileError(
                "a picture is either padded (fit) or aligned by landmarks (align); leave one of them out"
            )
        if any(hasattr(target, "shape") for target in targets):
            raise ImageFileError("landmarks (align) are for targets that are files, and some of these are arrays")
        if self.landmarks.single and len(targets) > 1:
            raise ImageFileError(
                f"{self.landmarks.file}: it has the landmarks of one picture, and there are {len(targets)} targets; "
                "expected a table from the names of the pictures to their landmarks"
            )


@dataclass(frozen=True)
class SoundReading:
    """Options for reading a sound file. A sound of several channels is mixed to their mean if the network has one channel,
    brought to the network's sample rate, cut behind the network's length, and filled up with silence if it is shorter.

    Attributes:
        offset: seconds of the recording before the part that is used.
        level: "as-is" keeps the loudness, and "peak" brings the largest sample of the part to full scale.
    """

    offset: float = option(
        0.0, 0, 1e6, help="For sounds. Where in the recording the part begins that is used.", metavar="SECONDS"
    )
    level: str = option(
        "as-is",
        words=("as-is", "peak"),
        help="For sounds. as-is: keep the loudness. peak: make the largest sample full scale.",
    )

    def check(self, targets: Sequence[Any]) -> None:
        """Any target suits these options."""
