"""``stylegan-invert reproduce clipping``"""

from typing import Any

import click

from .common import SEED, device_option, loss_option, network_option, outdir_option, quiet_option
from .reproduce import run_study


@click.command()
@network_option
@click.option("--generated", type=click.IntRange(min=1), default=64, show_default=True, help="Pictures per prior.")
@click.option("--steps", type=click.IntRange(min=1), default=500, show_default=True, help="Steps of Adam.")
@click.option(
    "--restarts", type=click.IntRange(min=1), default=3, show_default=True, help="Starts per picture; the best counts."
)
@click.option("--seed", type=SEED, default=303, show_default=True, help="Random seed of the starts.")
@loss_option("mse=1")
@outdir_option
@device_option
@quiet_option
def command(**options: Any) -> None:
    """Recover latents with and without clipping, for a normal and a uniform prior, with restarts equal.

    DIR gets table.md and results.json: PSNR, the share of pictures above 30 dB, the error of the latent, and the share of its
    entries that ended outside the prior's bounds. A study that was stopped goes on when it is called again with the same
    options.

    \b
    stylegan-invert reproduce clipping -n faces64 -o out/clipping
    """
    from ..studies import clipping

    run_study(clipping, **options)
