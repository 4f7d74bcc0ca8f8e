"""``stylegan-invert reproduce direction``"""

from typing import Any

import click

from .common import (
    SEED,
    data_option,
    device_option,
    loss_option,
    network_option,
    outdir_option,
    quiet_option,
)
from .reproduce import run_study, ways_of


@click.command()
@network_option
@data_option
@click.option("--generated", type=click.IntRange(min=2), default=1000, show_default=True, help="Generated pictures.")
@click.option("--real", type=click.IntRange(min=2), default=400, show_default=True, help="Real pictures, at most.")
@loss_option("lpips-squeeze=1,mse=1")
@click.option("--seed", type=SEED, default=1, show_default=True, help="Random seed of the generated pictures.")
@click.option(
    "--ways", default="de:0,de:50,mean:300,mean:1000:100,mean-near:300:100", show_default=True,
    metavar="START:STEPS[:FIRST],...", callback=ways_of("direction"),
    help="The rows: where to start (de, mean, mean-near, random), how many steps of W, and for how many pictures of each set.",
)  # fmt: skip
@outdir_option
@device_option
@quiet_option
def command(**options: Any) -> None:
    """Reconstruct generated and real pictures with a direction-embedding discriminator, as Cho's Figures 3 and 4.

    Each picture is found by the discriminator in one pass; by that and 50 steps of W, without exploration and with the
    network's own noise maps; by 300 steps of W from the mean as the official projector takes them; and, for the first 100
    of each set, by 1000 of these, and by 300 with the settings of the 50. DIR gets table.md, results.json, and a sheet per
    set: picture, one pass, 50 steps from there, 300 from the mean. A study that was stopped goes on when it is called again
    with the same options.

    \b
    stylegan-invert reproduce direction -n cats32-de --data cats64.zip --pictures 15300: -o out/direction
    """
    from ..studies import direction

    run_study(direction, figures=" and a sheet of each set", **options)
