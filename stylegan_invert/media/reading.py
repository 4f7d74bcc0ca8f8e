"""Options for reading files in the shape that a network needs.

This file imports no torch, so that ``--help`` stays quick.
"""

from dataclasses import dataclass

from ..options import option


@dataclass(frozen=True)
class PictureReading:
    """Options for reading a picture file.

    Attributes:
        fit: "crop" takes the square in the centre, as the official projector does; "pad" fills up to a square.
        background: the colour behind transparent pixels and in the padding, by name or as "#rrggbb".
    """

    fit: str = option(
        "crop",
        words=("crop", "pad"),
        help="For pictures that are not square. crop: use the square in the centre. pad: fill up to a square.",
    )
    background: str = option(
        "white", words=("",), help="Colour behind transparent pixels and in the padding.", metavar="COLOUR"
    )
