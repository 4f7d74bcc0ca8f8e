"""``stylegan-invert directions``: ways to find directions, and what to do with their files."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from .common import Commands, UserPath
from .generate import parse_seeds

COMMANDS = {
    "assessor": "Train a direction that raises an assessor's score.",
    "boundary": "The direction across the boundary between two groups of codes.",
    "keep": "A direction without its parts along others, which then stay.",
    "list": "Say what directions are and how they were made.",
    "means": "The direction from the mean of one group of codes to that of another.",
    "pca": "Principal components of V.",
    "rename": "Give a direction a name.",
    "sefa": "The directions that change a network's styles most, from its weights.",
}


@click.command(cls=Commands, table=COMMANDS, prefix="directions_")
def command() -> None:
    """Find directions in latent space, which 'stylegan-invert edit --apply' follows.

    A direction is one small file. It belongs to the network that it was made for, and to tuned copies with the same mapping
    network.
    """


layers_option = click.option(
    "--layers",
    metavar="LAYERS",
    help="The layers that it moves: coarse, middle, fine, or numbers as 0-6,8.  [default: all]",
)


seeds_option = click.option(
    "--seeds",
    default="0",
    show_default=True,
    callback=parse_seeds,
    metavar="LIST",
    help="Seeds of the pictures in sheet.png.",
)


def components_option(first: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add ``--components``; ``first`` says which component has the number 0."""
    about = f"Numbers of the components, from 0 with {first}."
    return click.option(
        "--components", "numbers", default="0-9", show_default=True, callback=parse_seeds, metavar="LIST", help=about
    )


def out_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--out``, a file, and ``--name``."""
    function = click.option(
        "--name", callback=valid_name, metavar="TEXT", help="What moves along it.  [default: the name of the file]"
    )(function)
    return click.option(
        "--out", "-o", required=True, type=UserPath(), metavar="FILE", help="The file to write (.safetensors)."
    )(function)


def valid_name(ctx: click.Context, param: click.Parameter, text: str | None) -> str | None:
    """A click callback that refuses a name that could not be read back."""
    if text is not None and not (text.isprintable() and 0 < len(text) <= 100):
        raise click.BadParameter("expected a name of 1 to 100 characters that print")
    return text


def named(direction: Any, name: str | None, out: str) -> Any:
    """The direction under the name of ``--name``, or of its file."""
    import dataclasses

    return dataclasses.replace(direction, name=(name or Path(out).stem)[:100])


def write_all(
    generator: Any, directions: Sequence[Any], names: Sequence[str], outdir: str, seeds: Sequence[int], c: Any
) -> None:
    """Write directions into a folder, and sheet.png, in which each row is a direction from -3 to +3 on a seed's picture.

    Rows come in the order of the directions, and for each in the order of the seeds.
    """
    from ..analysis.sheets import sheet
    from ..editing.outputs import Move, strip
    from ..files.writing import staged
    from ..io.direction_file import SUFFIX, write_direction
    from ..media.pictures import write_png
    from ..projectors.projection import render_rounded
    from .ends import code_of

    rows = []
    for direction in directions:
        for seed in seeds:
            codes = strip(generator, code_of(generator, f"seed:{seed}", c), [Move(direction, 3.0)], 7)
            rows.append([render_rounded(generator, code) for code in codes])
    with staged(outdir) as folder:
        for name, direction in zip(names, directions):
            write_direction(folder / f"{name}{SUFFIX}", direction)
        write_png(folder / "sheet.png", sheet(rows, 64))
