"""``stylegan-invert reproduce prior``"""

from typing import Any

import click

from .common import (
    SEED,
    data_option,
    device_option,
    loss_option,
    network_option,
    numbers,
    outdir_option,
    quiet_option,
)
from .reproduce import run_study


@click.command()
@network_option
@data_option
@click.option("--count", type=click.IntRange(min=2), default=20, show_default=True, help="Pictures of each kind.")
@click.option(
    "--pairs",
    type=click.IntRange(min=1),
    default=80,
    show_default=True,
    help="Interpolated pairs of each kind.",
)
@click.option("--steps", type=click.IntRange(min=1), default=1000, show_default=True, help="Steps in W.")
@click.option("--steps-plus", type=click.IntRange(min=1), default=10000, show_default=True, help="Steps in W+.")
@click.option(
    "--steps-whitened", type=click.IntRange(min=1), default=1000, show_default=True, help="Steps in whitened V and V+."
)
@click.option(
    "--weights",
    default="1e-5,1e-4,1e-3",
    show_default=True,
    callback=numbers,
    metavar="LIST",
    help="Weights of the prior.",
)
@loss_option("lpips-squeeze=1")
@click.option("--seed", type=SEED, default=1, show_default=True, help="Random seed of the generated pictures.")
@click.option(
    "--batch", type=click.IntRange(min=1), default=20, show_default=True, help="Pictures optimised side by side."
)
@outdir_option
@device_option
@quiet_option
def command(**options: Any) -> None:
    """Invert with and without the Gaussian prior in V: Wulff & Torralba, Tables 1 and 2, Figures 2, 3, 7 and 8.

    Real pictures, pictures of one w ("single") and of another w in every layer ("mixed") are found in W and W+, with and
    without the prior, and in whitened V and V+. DIR gets table.md (with the paper's numbers), results.json, the error curves
    figure2.png, figure7.png, figure8.png, and figure3-*.png, interpolations without (above) and with the prior (below). A study
    that was stopped goes on when it is called again with the same options.

    \b
    stylegan-invert reproduce prior -n cats32 --data cats64.zip --pictures 15300: -o out/prior
    """
    from ..studies import prior

    run_study(prior, figures=" and figures 2, 3, 7 and 8", **options)
