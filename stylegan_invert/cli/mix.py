"""``stylegan-invert mix``"""

import click

from .common import (
    class_option,
    device_option,
    foreign_codes_option,
    network_option,
    outdir_option,
    quiet_option,
    say,
    z_prior_option,
)
from .ends import code_of, layers_of, open_generator


@click.command()
@network_option
@click.option(
    "--row", "rows", multiple=True, required=True, metavar="CODE", help="A code for a row. Repeat it for each."
)
@click.option(
    "--col", "columns", multiple=True, required=True, metavar="CODE", help="A code for a column. Repeat it for each."
)
@click.option(
    "--styles",
    "col_styles",
    default="coarse,middle",
    show_default=True,
    metavar="LAYERS",
    help="The layers that are taken from the columns: coarse, middle, fine, or numbers as 0-6,8.",
)
@outdir_option
@foreign_codes_option
@class_option
@z_prior_option
@device_option
@quiet_option
def command(
    network: str,
    rows: tuple[str, ...],
    columns: tuple[str, ...],
    col_styles: str,
    outdir: str,
    class_idx: int | str | None,
    z_prior: str | None,
    device: str,
    quiet: bool,
) -> None:
    """Mix the styles of codes in a table, as the official style_mixing.py does.

    A picture in the table has some layers of the code of its column (--styles) and all others of that of its row. A CODE is
    the folder of a projection, a file of codes, or seed:N. Writes grid.png, with the codes' own pictures at the head of rows
    and columns, and each mixture (0-0.png, 0-1.png, ...: row, column) with its code (codes.npz, row by row).

    \b
    stylegan-invert mix -n cats64-de --row out/cat --row seed:1 --col seed:2 --col seed:3 --styles coarse -o out/mixed
    """
    import numpy as np

    from ..analysis.sheets import sheet
    from ..editing.mixing import mixing_table
    from ..files.writing import staged
    from ..generator import joined
    from ..io.codes import write_code
    from ..media.pictures import write_png
    from ..projectors.projection import render_rounded

    _, generator, c = open_generator(network, device, quiet, class_idx, z_prior)
    layers = layers_of(col_styles, generator)
    heads = [[code_of(generator, end, c) for end in ends] for ends in (rows, columns)]
    assert layers is not None
    table = mixing_table(generator, heads[0], heads[1], layers)
    pictures = [[render_rounded(generator, code) for code in row] for row in table]
    down, across = ([render_rounded(generator, code) for code in codes] for codes in heads)
    blank = np.full_like(down[0], 255)
    with staged(outdir) as folder:
        write_png(folder / "grid.png", sheet([[blank, *across], *([head, *row] for head, row in zip(down, pictures))]))
        for i, row in enumerate(pictures):
            for j, picture in enumerate(row):
                write_png(folder / f"{i}-{j}.png", picture)
        write_code(folder, joined([code for row in table for code in row]), generator, "codes.npz")
    say(quiet, f"wrote grid.png and {len(rows) * len(columns)} pictures to {outdir}")
