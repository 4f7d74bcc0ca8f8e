"""``stylegan-invert reproduce depth``"""

from typing import Any

import click

from .common import data_option, network_option, words
from .reproduce import displacement_options, run_study


@click.command()
@network_option
@data_option
@click.option(
    "--layers",
    default="",
    callback=words,
    metavar="NAME,...",
    help="Layers to split at, as inspect lists them.  [default: the first dense layer, and of each larger map the last]",
)
@click.option(
    "--kinds",
    default="free,regularised",
    show_default=True,
    callback=words,
    metavar="LIST",
    help="Displacements that are searched at each layer: free, regularised, and inputs, which is free and also changes what "
    "later layers read besides (a BigGAN's later chunks of z; w).",
)
@click.option("--generated", type=click.IntRange(min=1), default=4, show_default=True, help="Generated pictures.")
@click.option("--real", type=click.IntRange(min=1), default=8, show_default=True, help="Real pictures, at most.")
@click.option("--noise", type=click.IntRange(min=0), default=4, show_default=True, help="Pictures of white noise.")
@displacement_options()
def command(**options: Any) -> None:
    """Measure the error against the depth of the layer: Pividori et al., section 3.1.

    DIR gets table.md, results.json and depth.png: how much of z's distance a displacement leaves at each layer, for generated
    and real pictures and for white noise. In a BigGAN the first dense layer alone is the split of the paper's code, and the
    kind "inputs" frees the chunks of z that it leaves to later layers. A study that was stopped goes on when it is called again
    with the same options.

    \b
    stylegan-invert reproduce depth -n dcgan.pt --data faces/ -o out/depth
    stylegan-invert reproduce depth -n biggan.pth --class 207 --layers linear,blocks.0 --kinds free,inputs -o out/depth-dogs
    """
    from ..studies import depth

    run_study(depth, figures=" and depth.png", **options)
