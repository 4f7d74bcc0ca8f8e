"""Edits of a code in ranges: the codes of a strip, of a grid of two directions, and of a video."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..generator import Code, GeneratorAdapter
from ..generator.directions import Direction, moved


class Move(NamedTuple):
    """A direction to move along.

    Attributes:
        direction: of the network.
        strength: in its units.
        layers: the layers to move; None takes the direction's own.
    """

    direction: Direction
    strength: float
    layers: Sequence[int] | None = None


def edited(generator: GeneratorAdapter, code: Code, moves: Sequence[Move], share: float = 1.0) -> Code:
    """A code after several moves, in their order, each with a share of its strength."""
    for move in moves:
        code = moved(generator, code, move.direction, move.strength * share, move.layers)
    return code


def strip(generator: GeneratorAdapter, code: Code, moves: Sequence[Move], frames: int) -> list[Code]:
    """The codes from the opposite of an edit to the edit, with the code itself in the middle of an odd number."""
    return [edited(generator, code, moves, float(share)) for share in np.linspace(-1, 1, frames)]


def grid(generator: GeneratorAdapter, code: Code, rows: Move, columns: Move, frames: int) -> list[list[Code]]:
    """The codes of two moves together: rows go along one, from its opposite on, and columns along the other."""
    return [strip(generator, row, [columns], frames) for row in strip(generator, code, [rows], frames)]
