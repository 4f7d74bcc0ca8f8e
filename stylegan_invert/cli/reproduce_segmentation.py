"""``stylegan-invert reproduce segmentation``"""

from typing import Any

import click

from .common import UserPath, data_option, network_option
from .reproduce import displacement_options, run_study
from .segment import counts


@click.command()
@network_option
@data_option
@click.option(
    "--masks",
    required=True,
    type=UserPath(),
    metavar="black|DIR",
    help="Foregrounds: a folder of PNGs with the names of the pictures, white in the foreground; or black, for pictures on a "
    "black background, whose foreground is what is brighter than a tenth of white.",
)
@click.option(
    "--clusters", default="8,20,40", show_default=True, callback=counts, metavar="K,...", help="Numbers of segments."
)
@click.option("--real", type=click.IntRange(min=1), default=8, show_default=True, help="Pictures, at most.")
@click.option("--attention", metavar="NAME", help="Attention to be used, as attention.3.  [default: the largest]")
@click.option("--layer", metavar="NAME", help="Where to split.  [default: the first dense layer]")
@displacement_options()
def command(data: str | None, **options: Any) -> None:
    """Measure segments from self-attention: Pividori et al., section 5, Figures 6 and 10.

    Segments of inverted pictures are compared with those from the attention of an untrained network and with k-means on
    colour, by the agreement of their boundaries with that of a foreground, and by how far they stay the same when the picture
    is shifted by a pixel. DIR gets table.md, results.json and segments.png. A study that was stopped goes on when it is called
    again with the same options.

    \b
    stylegan-invert reproduce segmentation -n biggan.pth --data fashion32.zip --pictures 60000: --masks black -o out/segments
    """
    from ..studies import segmentation

    if data is None:
        raise click.UsageError("--data is missing: name a dataset zip or a folder of pictures.")
    run_study(segmentation, data=data, figures=" and segments.png", **options)
