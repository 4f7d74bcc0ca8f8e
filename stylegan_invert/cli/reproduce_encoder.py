"""``stylegan-invert reproduce encoder``"""

from typing import Any

import click

from .common import SEED, UserPath, data_option, device_option, loss_option, network_option, outdir_option, quiet_option
from .reproduce import run_study, ways_of

WAYS = "mean,random,nearest,regression,encoder,random:200,encoder:50,encoder:200,encoder:50:lbfgs,regression:50:lbfgs"


@click.command()
@network_option
@data_option
@click.option(
    "--encoder", type=UserPath(), required=True, metavar="FILE", help="An encoder of the network, of train-encoder."
)
@click.option("--generated", type=click.IntRange(min=2), default=50, show_default=True, help="Generated pictures.")
@click.option("--real", type=click.IntRange(min=2), default=50, show_default=True, help="Real pictures, at most.")
@loss_option("lpips-squeeze=1,mse=1")
@click.option("--seed", type=SEED, default=1, show_default=True, help="Random seed of the generated pictures.")
@click.option(
    "--ways", default=WAYS, show_default=True, metavar="START[:STEPS[:OPTIMISER]],...", callback=ways_of("encoder"),
    help="The rows: where to start, how many steps from there, and by adam, lbfgs or clipped (Adam with clipping, for z).",
)  # fmt: skip
@outdir_option
@device_option
@quiet_option
def command(**options: Any) -> None:
    """Compare an encoder with optimisation and with both together, as Bayat's Tables 2.1 and 2.3.

    Codes are searched in the space of the encoder. DIR gets table.md, results.json, and a sheet per set: picture, and what
    each way makes of it. A study that was stopped goes on when it is called again with the same options.

    \b
    stylegan-invert reproduce encoder -n cats32-de --encoder runs/encoder --data cats64.zip --pictures 15300: -o out/encoder
    """
    from ..studies import encoder

    run_study(encoder, figures=" and a sheet of each set", **options)
