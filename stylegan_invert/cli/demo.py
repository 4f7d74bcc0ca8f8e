"""``stylegan-invert demo``"""

from pathlib import Path

import click

from .common import UserPath, device_option, pick_device, quiet_option, say
from .project import run

METHODS = ("w", "w+")


@click.command()
@click.option(
    "--outdir",
    "-o",
    default="out/demo",
    show_default=True,
    type=UserPath(),
    metavar="DIR",
    help="Folder for the results.",
)
@click.option("--steps", type=click.IntRange(min=1), default=1000, show_default=True, help="Optimisation steps.")
@device_option
@quiet_option
def command(outdir: str, steps: int, device: str, quiet: bool) -> None:
    """Project the shipped photograph, a cat, onto the shipped network, into W and W+.

    Writes the files of each projection into DIR/w and DIR/w+, and comparison.png: photograph, W, W+.
    """
    from .. import pretrained
    from ..losses import DEFAULT_LOSS

    picture = pretrained.path(pretrained.DEMO_PICTURE)
    where = pick_device(device)
    for method in METHODS:
        run(
            network="cats32", pictures=[picture], outdirs=[Path(outdir) / method], device=where, quiet=quiet, method=method,
            loss=DEFAULT_LOSS, steps=steps, video=method == "w",
        )  # fmt: skip
    sheet = Path(outdir) / "comparison.png"
    _write_sheet(sheet, [Path(outdir) / METHODS[0] / "target.png", *(Path(outdir) / m / "proj.png" for m in METHODS)])
    say(quiet, f"look at {sheet}: the photograph as the network is shown it, W, W+")


def _write_sheet(path: Path, pictures: list[Path], height: int = 256, gap: int = 8) -> None:
    """Pictures of one size side by side, enlarged pixel by pixel."""
    import numpy as np
    import PIL.Image

    from ..io.images import write_png

    tiles = []
    for picture in pictures:
        with PIL.Image.open(picture) as opened:
            tiles.append(np.asarray(opened).transpose(2, 0, 1))  # (3, H, W)
    factor = max(1, height // tiles[0].shape[1])
    tiles = [t.repeat(factor, axis=1).repeat(factor, axis=2) for t in tiles]
    white = np.full((3, tiles[0].shape[1], gap), 255, np.uint8)
    row = [part for tile in tiles for part in (tile, white)][:-1]
    write_png(path, np.concatenate(row, axis=2))
