"""``stylegan-invert demo``"""

from pathlib import Path
from typing import Any

import click

from .common import UserPath, device_option, pick_device, quiet_option, say
from .project import run

NETWORK = "cats32-de"


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
@click.option(
    "--steps", type=click.IntRange(min=1), default=1000, show_default=True, help="Steps of the plain projections."
)
@device_option
@quiet_option
def command(outdir: str, steps: int, device: str, quiet: bool) -> None:
    """Project the shipped photograph, a cat, onto the shipped network, into W and W+.

    Writes the files of each projection into DIR/w and DIR/w+, and comparison.png: photograph, W, W+. A network whose
    discriminator embeds latents is also shown in one pass (DIR/de), and with 50 steps of W from there (DIR/de-w).
    """
    import numpy as np
    import PIL.Image

    from .. import pretrained
    from ..analysis.sheets import sheet
    from ..losses import DEFAULT_LOSS
    from ..media.pictures import write_png
    from ..network_files.file import load
    from ..studies.direction import NEAR

    ways: dict[str, dict[str, Any]] = {
        "w": {"method": "w", "steps": steps, "video": True},
        "w+": {"method": "w+", "steps": steps},
    }
    if load(NETWORK).direction is not None:
        ways = {"de": {"method": "de"}, "de-w": {"method": "w", "init": "de", "steps": 50, **NEAR}, **ways}
    picture = pretrained.path(pretrained.DEMO_PICTURE)
    where = pick_device(device)
    for name, way in ways.items():
        run(NETWORK, [picture], [Path(outdir) / name], where, quiet, loss=DEFAULT_LOSS, **way)
    files = [Path(outdir) / "w" / "target.png", *(Path(outdir) / name / "proj.png" for name in ways)]
    shown = []
    for file in files:
        with PIL.Image.open(file) as opened:
            shown.append(np.asarray(opened.convert("RGB")).transpose(2, 0, 1))  # (3, H, W)
    path = Path(outdir) / "comparison.png"
    write_png(path, sheet([shown], height=256))
    say(quiet, f"look at {path}: the photograph as the network is shown it; {', '.join(ways)}")
