"""``stylegan-invert reproduce tuning``"""

from typing import Any

import click

from .common import SEED, Span, UserPath, device_option, network_option, outdir_option, quiet_option
from .reproduce import run_study, ways_of


@click.command()
@network_option
@click.option(
    "--data", required=True, type=UserPath(), metavar="PATH", help="Real pictures: a dataset zip or a folder."
)
@click.option("--pictures", type=Span(), metavar="FIRST:LAST", help="Take these of them, in the order of their names.")
@click.option("--real", type=click.IntRange(min=1), default=8, show_default=True, help="Real pictures, at most.")
@click.option(
    "--ways", default="fast-w,fast-w+", show_default=True, metavar="METHOD[:STEPS[:LOCALITY]],...",
    callback=ways_of("tuning"),
    help="How pivots are found, how many steps the tuning takes (350), and the weight of its locality penalty (0).",
)  # fmt: skip
@click.option(
    "--halves",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Random codes to meet half-way, for each.",
)
@click.option("--seed", type=SEED, default=1, show_default=True, help="Random seed of these codes.")
@outdir_option
@device_option
@quiet_option
def command(**options: Any) -> None:
    """Tune a StyleGAN to real pictures, and edit them with the network before and after.

    DIR gets table.md, results.json, and a strip for each way: a row for each picture with the target, the pictures of the
    code before and after the tuning, and the same edit by both networks. A study that was stopped goes on when it is
    called again with the same options.

    \b
    stylegan-invert reproduce tuning -n cats64-de --data cats64.zip --pictures 15600: -o out/tuning
    """
    from ..studies import tuning

    run_study(tuning, figures=" and a strip of each way", **options)
