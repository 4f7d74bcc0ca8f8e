"""``stylegan-invert demo``"""

from pathlib import Path
from typing import Any

import click

from .common import UserPath, device_option, pick_device, quiet_option, say
from .project import run

NETWORK = "cats64-de"


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

    The shipped network is a StyleGAN2 of cats. The photograph is projected into W, the space in which all layers share
    one latent, and into W+, in which every layer has its own. The files of each projection are written into DIR/w and
    DIR/w+, those of the fast search in W+ into DIR/fast-w+, and comparison.png shows the photograph and all results.

    If the network's discriminator was trained to find latents (method de), its answer is written into DIR/de, and the
    result of 50 steps in W from there into DIR/de-w.
    """
    import numpy as np
    import PIL.Image

    from .. import pretrained
    from ..analysis.sheets import sheet
    from ..losses import DEFAULT_LOSS
    from ..media.pictures import write_png
    from ..network_files.file import load
    from ..studies.direction import NEAR

    options: dict[str, dict[str, Any]] = {  # of each projection, by the name of its folder
        "fast-w+": {"method": "fast-w+"},
        "w": {"method": "w", "steps": steps, "video": True, "loss": DEFAULT_LOSS},
        "w+": {"method": "w+", "steps": steps, "loss": DEFAULT_LOSS},
    }
    if load(NETWORK).direction is not None:
        near = {"method": "w", "init": "de", "steps": 50, "loss": DEFAULT_LOSS, **NEAR}
        options = {"de": {"method": "de", "loss": DEFAULT_LOSS}, "de-w": near, **options}
    picture = pretrained.path(pretrained.DEMO_PICTURE)
    where = pick_device(device)
    for name, projection in options.items():
        run(NETWORK, [picture], [Path(outdir) / name], where, quiet, **projection)
    files = [Path(outdir) / "w" / "target.png", *(Path(outdir) / name / "proj.png" for name in options)]
    pictures = []
    for file in files:
        with PIL.Image.open(file) as opened:
            pictures.append(np.asarray(opened.convert("RGB")).transpose(2, 0, 1))  # (3, H, W)
    path = Path(outdir) / "comparison.png"
    write_png(path, sheet([pictures], height=256))
    say(quiet, f"look at {path}: the photograph at the network's size, then {', '.join(options)}")
