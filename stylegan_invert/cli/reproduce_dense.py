"""``stylegan-invert reproduce dense``"""

from typing import Any

import click

from .common import Number, data_option, network_option
from .reproduce import displacement_options, run_study


@click.command()
@network_option
@data_option
@click.option("--generated", type=click.IntRange(min=2), default=100, show_default=True, help="Generated pictures.")
@click.option("--real", type=click.IntRange(min=2), default=100, show_default=True, help="Real pictures, at most.")
@click.option("--layer", metavar="NAME", help="Where to split.  [default: the first dense layer]")
@click.option(
    "--lambda-delta",
    type=Number(0, 1e9),
    help="Weight of the displacement's L1 norm, a mean.  [default: found for each picture, as --method dense does]",
)
@displacement_options(steps=300, layer_steps=500)
def command(**options: Any) -> None:
    """Find pictures in z and at a layer, with and without regularisation: Pividori et al., Figures 2 to 5, 7 to 9, 11, 13, 14.

    DIR gets table.md and results.json; figure5.png, how often which distance is left; and for the first pictures of each set
    the sheets figure2-*.png (pictures, in z, at the layer), figure3-*.png (from the layer's code to z, as Figure 7 too),
    figure4-*.png (between two pictures of a class, as Figures 8 and 11 too: in z, at the layer free, and regularised),
    figure9-*.png (to random samples) and figure13-*.png (picture, layer, its projection onto the span of G1). A study that was
    stopped goes on when it is called again with the same options.

    \b
    stylegan-invert reproduce dense -n dcgan.pt --data faces/ -o out/dense
    stylegan-invert reproduce dense -n biggan.pth --class 207 --data dogs/ -o out/dense-dogs
    """
    from ..studies import dense

    run_study(dense, figures=" and the figures' sheets", **options)
