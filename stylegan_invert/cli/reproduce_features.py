"""``stylegan-invert reproduce features``"""

from typing import Any

import click

from ..io.weights import WEIGHTS
from .common import (
    Number,
    UserPath,
    data_option,
    device_option,
    network_option,
    outdir_option,
    quiet_option,
    study_class_option,
    z_prior_option,
)
from .reproduce import run_study


@click.command()
@network_option
@data_option
@click.option("--generated", type=click.IntRange(min=2), default=16, show_default=True, help="Generated pictures.")
@click.option("--real", type=click.IntRange(min=1), default=8, show_default=True, help="Real pictures, at most.")
@study_class_option
@click.option("--steps", type=click.IntRange(min=1), default=150, show_default=True, help="Steps to z.")
@click.option("--lambda-z", type=Number(0, 1e9), default=0.1, show_default=True, help="Weight of -log P(z), a mean.")
@click.option("--inception", type=UserPath(), metavar=WEIGHTS["inception"].metavar, help=WEIGHTS["inception"].help)
@outdir_option
@z_prior_option
@device_option
@quiet_option
def command(**options: Any) -> None:
    """Compare the layers whose features a search for z compares, and the squared error alone: Pividori et al., section 4.1.

    DIR gets table.md and results.json: how well generated pictures, whose latents are known, and real ones are found. A study
    that was stopped goes on when it is called again with the same options.

    \b
    stylegan-invert reproduce features -n dcgan.pt --data faces/ -o out/features
    """
    from ..studies import features

    run_study(features, **options)
