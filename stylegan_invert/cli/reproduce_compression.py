"""``stylegan-invert reproduce compression``"""

from typing import Any

import click

from .common import (
    SEED,
    Choice,
    Span,
    UserPath,
    device_option,
    network_option,
    numbers,
    outdir_option,
    quiet_option,
)
from .reproduce import run_study


@click.command()
@network_option
@click.option(
    "--data", required=True, type=UserPath(), metavar="PATH", help="Real pictures: a dataset zip or a folder."
)
@click.option("--pictures", type=Span(), metavar="FIRST:LAST", help="Take these of them, in the order of their names.")
@click.option(
    "--samples", type=click.IntRange(min=8), default=10000, show_default=True, help="Pictures per Frechet distance."
)
@click.option(
    "--truncations",
    default="1,0.95,0.9,0.8,0.7,0.6,0.5",
    show_default=True,
    callback=numbers,
    metavar="LIST",
    help="psi.",
)
@click.option(
    "--compressions", default="3,2,1.5,1.2,1,0.8,0.6,0.5,0.4,0.3,0.2,0.1", show_default=True, callback=numbers, metavar="LIST", help="tau."
)  # fmt: skip
@click.option(
    "--compared", type=click.IntRange(min=8), default=1024, show_default=True, help="Pictures per similarity."
)
@click.option(
    "--shown", type=float, default=0.7, show_default=True, metavar="PSI", help="Figure 4 shows the psi nearest to this."
)
@click.option(
    "--flag", type=Choice(["discriminator", "neighbours"]),
    help="What tells artifacts: the discriminator's value, or realism by nearest neighbours.  [default: the first, where there is one]",
)  # fmt: skip
@click.option(
    "--share",
    type=click.FloatRange(0.001, 0.5),
    default=0.05,
    show_default=True,
    help="Share of samples that are flagged.",
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Random seed of the samples.")
@outdir_option
@device_option
@quiet_option
def command(**options: Any) -> None:
    """Compare truncation and compression at equal distance from the data: Wulff & Torralba, Figures 4 to 6.

    DIR gets table.md, results.json, figure4.png (samples, mean picture and deviation per pixel: uncorrected, truncated,
    compressed), figure5.png (principal components of flagged and other samples) and figure6.png. The distance is the Frechet
    distance on the features of the shipped SqueezeNet. A study that was stopped goes on when it is called again with the same
    options.

    \b
    stylegan-invert reproduce compression -n cats32 --data cats64.zip --pictures 0:15300 -o out/compression
    """
    from ..studies import compression

    run_study(compression, figures=" and figures 4 to 6", **options)
