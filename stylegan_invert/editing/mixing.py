"""Style mixing: some layers of one code with the other layers of another.

Source: Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks" (2019), section 3.1; the
official program is style_mixing.py, whose ``col_styles`` are the layers taken from the codes of the columns.
"""

from collections.abc import Sequence

import torch

from ..generator import Code, GeneratorAdapter


def mixed(generator: GeneratorAdapter, code: Code, other: Code, col_styles: Sequence[int]) -> Code:
    """A code with some layers of another one.

    Args:
        generator: the network's adapter.
        code: N codes in "z" to "v+", which keep their own noise maps.
        other: N codes, or one.
        col_styles: the layers to take from ``other``.

    Returns:
        Codes in "w+".

    Raises:
        ValueError: the network has no w.
    """
    if "w+" not in generator.spaces:
        raise ValueError("this network has no w for each layer, so there are no styles to mix")
    code, other = (generator.convert(one, "w+") for one in (code, other))
    w = code.tensors["w"].clone()
    w[:, list(col_styles)] = other.tensors["w"][:, list(col_styles)]
    return Code("w+", {**code.tensors, "w": w}, code.c)


def mixing_table(
    generator: GeneratorAdapter, rows: Sequence[Code], columns: Sequence[Code], col_styles: Sequence[int]
) -> list[list[Code]]:
    """For each code of the rows, its mixtures with each code of the columns, as official style_mixing.py makes them."""
    with torch.no_grad():
        return [[mixed(generator, row, column, col_styles) for column in columns] for row in rows]
