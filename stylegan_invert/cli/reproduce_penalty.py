"""``stylegan-invert reproduce penalty``"""

from typing import Any

import click

from .common import data_option, network_option, numbers
from .reproduce import displacement_options, run_study


@click.command()
@network_option
@data_option
@click.option(
    "--shares",
    default="0.6,0.7,0.8",
    show_default=True,
    callback=numbers,
    metavar="LIST",
    help="Shares (--delta-share of project) that are compared. The default of project is always one of them.",
)
@click.option("--generated", type=click.IntRange(min=1), default=8, show_default=True, help="Generated pictures.")
@click.option("--real", type=click.IntRange(min=1), default=24, show_default=True, help="Real pictures, at most.")
@click.option("--layer", metavar="NAME", help="Where to split.  [default: the first dense layer]")
@displacement_options()
def command(**options: Any) -> None:
    """Compare weights of the displacement's penalty, lambda_2 of Pividori et al., by the share of slopes that they leave.

    DIR gets table.md and results.json: for each share the weight, how much of z's distance the displacement leaves, and how
    real the pictures half-way between two codes look, beside a displacement without penalty. A study that was stopped goes on
    when it is called again with the same options.

    \b
    stylegan-invert reproduce penalty -n dcgan.pt --data faces/ -o out/penalty
    stylegan-invert reproduce penalty -n cats32-de --layer b8.conv1 --data cats64.zip --pictures 15300: -o out/penalty-cats
    """
    from ..studies import penalty

    run_study(penalty, **options)
