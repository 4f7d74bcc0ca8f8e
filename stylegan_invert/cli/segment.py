"""``stylegan-invert segment``"""

import os
from pathlib import Path
from typing import Any

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


def counts(ctx: click.Context, param: click.Parameter, text: str) -> list[int]:
    """A click callback that reads numbers of segments from a text such as "8,20,40"."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= 256 for part in parts):
        raise click.BadParameter(f"{text!r}; expected numbers from 1 to 256, as in 8,20,40")
    return list(dict.fromkeys(map(int, parts)))


@click.command()
@network_option
@click.argument("codes", nargs=-1, required=True, metavar="CODE...")
@outdir_option
@click.option(
    "--clusters",
    default="8,20,40",
    show_default=True,
    callback=counts,
    metavar="K,...",
    help="Numbers of segments. Segments of a larger number are parts of those of a smaller one.",
)
@click.option(
    "--layer",
    metavar="NAME",
    help="Attention to be used, where the network has several, as attention.3.  [default: the largest]",
)
@foreign_codes_option
@class_option
@z_prior_option
@device_option
@quiet_option
def command(
    network: str,
    codes: tuple[str, ...],
    outdir: str,
    clusters: list[int],
    layer: str | None,
    class_idx: int | str | None,
    z_prior: str | None,
    device: str,
    quiet: bool,
) -> None:
    """Cut the pictures of codes into segments, by the self-attention of the network (a BigGAN).

    Pixels that attend to each other are joined (Pividori et al., section 5). A CODE is the folder of a projection, best
    of --method dense, a file of codes, or seed:N for the latent of a seed.

    For each number of segments, writes labels-8.png, in the size of the attention map, whose pixels are the numbers 0 to 7
    of the segments; colours-8.png, the picture in the mean colours of its segments; and overlay-8.png, the picture under
    one colour for each segment. Also writes picture.png, and sheet.png with all of them. Several CODEs get a folder each.

    \b
    stylegan-invert project -n biggan.pth -t dog.jpg --class 207 --method dense -o out/dog
    stylegan-invert segment -n biggan.pth out/dog -o out/segments
    stylegan-invert segment -n biggan.pth seed:1 seed:2 --class 207 --clusters 4,12 -o out/seeds
    """
    from ..analysis.segmentation import attention_name, segment
    from ..files.writing import folder_names
    from ..projectors.projection import render_rounded
    from .ends import code_of, open_generator

    _, generator, c = open_generator(network, device, quiet, class_idx, z_prior)
    name = attention_name(generator, layer)
    read = [code_of(generator, code, c) for code in codes]
    named = [code.replace(":", "") if code.startswith("seed:") else os.path.abspath(code) for code in codes]
    # The suffix keeps a folder that is called "photo.v2" from losing a part of its name.
    folders = [""] if len(codes) == 1 else folder_names(f"{each}.code" for each in named)
    for code, folder in zip(read, folders):
        maps = segment(generator, code, clusters, name)
        _write(Path(outdir) / folder, render_rounded(generator, code), dict(zip(clusters, maps)))
    height, width, _, _ = generator.attention_shapes()[name]
    say(quiet, f"wrote segments of {len(read)} picture{'s' * (len(read) > 1)}, {height}x{width}, to {outdir}")


def _write(folder: Path, picture: Any, maps: dict[int, Any]) -> None:
    """Write the files of one picture, all of them or none.

    Args:
        folder: the folder.
        picture: (C, H, W) uint8.
        maps: the label maps by their number of segments.
    """
    import numpy as np

    from ..analysis.segmentation import mean_colours, overlay
    from ..analysis.sheets import sheet
    from ..files.writing import staged
    from ..media.pictures import write_png

    rows = [[picture, *(mean_colours(m, picture) for m in maps.values())]]
    rows.append([picture, *(overlay(m, picture) for m in maps.values())])
    with staged(folder) as inside:
        for number, coloured, over in zip(maps, rows[0][1:], rows[1][1:]):
            write_png(inside / f"labels-{number}.png", maps[number][None].astype(np.uint8))
            write_png(inside / f"colours-{number}.png", coloured)
            write_png(inside / f"overlay-{number}.png", over)
        write_png(inside / "picture.png", picture)
        write_png(inside / "sheet.png", sheet(rows))
