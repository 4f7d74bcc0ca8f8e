"""``stylegan-invert nearest``"""

import click

from .common import (
    UserPath,
    class_option,
    device_option,
    foreign_codes_option,
    network_option,
    quiet_option,
    say,
    tell,
    tell_json,
    z_prior_option,
)
from .ends import code_of, open_generator


@click.command()
@click.argument("query", metavar="CODE")
@click.argument("folder", metavar="FOLDER", type=UserPath())
@network_option
@click.option(
    "--count", type=click.IntRange(1, 1000), default=5, show_default=True, help="Number of results to find, at most."
)
@click.option(
    "--outdir", "-o", type=UserPath(), metavar="DIR", help="Folder for nearest.png: the query, then what was found."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@foreign_codes_option
@class_option
@z_prior_option
@device_option
@quiet_option
def command(
    query: str,
    folder: str,
    network: str,
    count: int,
    outdir: str | None,
    as_json: bool,
    class_idx: int | str | None,
    z_prior: str | None,
    device: str,
    quiet: bool,
) -> None:
    """Find the results in a folder whose codes are nearest to a code.

    The distance is that in whitened V, where every direction counts by how much the network's own codes vary along it (in W or
    z where there is no V). FOLDER has results of 'project', one in each folder. A CODE is one of them, a file of codes, or
    seed:N.

    \b
    stylegan-invert nearest out/cats/tom out/cats -n cats64-de -o out/like-tom
    """
    import numpy as np

    from ..analysis.groups import plain_code, result_folders
    from ..analysis.results import nearest
    from ..analysis.sheets import sheet
    from ..files.writing import staged
    from ..generator.directions import Coordinates
    from ..media.pictures import write_png
    from ..projectors.projection import render_rounded

    _, generator, c = open_generator(network, device, quiet, class_idx, z_prior, whitened=True)
    at = plain_code(generator, code_of(generator, query, c), c)
    folders = result_folders(folder)
    codes = [plain_code(generator, code_of(generator, str(one), None), c) for one in folders]
    distances = nearest(Coordinates(generator, c), at, codes)
    order = np.argsort(distances, kind="stable")[:count].tolist()
    found = [{"result": str(folders[i]), "distance": round(float(distances[i]), 4)} for i in order]
    if outdir is not None:
        pictures = [render_rounded(generator, code) for code in (at, *(codes[i] for i in order))]
        with staged(outdir) as inside:
            write_png(inside / "nearest.png", sheet([pictures]))
        say(quiet, f"wrote nearest.png to {outdir}")
    if as_json:
        tell_json(found)
        return
    for row in found:
        tell(f"{row['distance']:10.3f}  {row['result']}")
