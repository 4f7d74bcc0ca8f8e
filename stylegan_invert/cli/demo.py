"""``stylegan-invert demo``"""

from pathlib import Path
from typing import Any

import click

from .common import device_option, pick_device, say
from .project import run

METHODS = ("w", "w+")


@click.command(short_help="Project the shipped photograph onto the shipped network.")
@click.option(
    "--outdir",
    "-o",
    default="out/demo",
    show_default=True,
    type=click.Path(),
    metavar="DIR",
    help="Folder for the results.",
)
@click.option("--steps", type=click.IntRange(min=1), default=1000, show_default=True, help="Optimisation steps.")
@device_option
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")
def command(outdir: str, steps: int, device: str, quiet: bool) -> None:
    """Project the shipped photograph, a cat, onto the shipped network, into W and W+.

    Writes the files of each projection into DIR/w and DIR/w+, and comparison.png: photograph, W, W+.
    """
    from .. import pretrained

    picture = pretrained.path(pretrained.DEMO_PICTURE)
    results = []
    for method in METHODS:
        results += run(
            network="cats32", pictures=[picture], outdirs=[Path(outdir) / method], device=pick_device(device), quiet=quiet, method=method,
            steps=steps, lr=0.1, video=method == "w", init=None, batch=1, seed=303, save_noise=False,
        )  # fmt: skip
    _write_sheet(Path(outdir) / "comparison.png", results)
    say(quiet, f"look at {Path(outdir) / 'comparison.png'}: the photograph as the network is shown it, W, W+")


def _write_sheet(path: Path, results: list[Any], height: int = 256, gap: int = 8) -> None:
    """Target and results side by side, enlarged pixel by pixel."""
    import numpy as np

    from ..io.images import write_png

    tiles = [results[0].target.numpy(), *(r.image.numpy() for r in results)]
    factor = max(1, height // tiles[0].shape[1])
    tiles = [t.repeat(factor, axis=1).repeat(factor, axis=2) for t in tiles]
    white = np.full((3, tiles[0].shape[1], gap), 255, np.uint8)
    row = [part for tile in tiles for part in (tile, white)][:-1]
    write_png(path, np.concatenate(row, axis=2))
