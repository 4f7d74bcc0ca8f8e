"""``stylegan-invert reproduce restoration``"""

from typing import Any

import click

from .common import data_option, device_option, network_option, outdir_option, quiet_option
from .reproduce import run_study, ways_of


@click.command()
@network_option
@data_option
@click.option("--real", type=click.IntRange(min=1), default=20, show_default=True, help="Real pictures, at most.")
@click.option(
    "--ways", default="restore,robust:5,w+:5", show_default=True, metavar="METHOD[:PICTURES],...",
    callback=ways_of("restoration"),
    help="The methods, each with its own preset, and on how many pictures each is tried. The table says where the first wins.",
)  # fmt: skip
@click.option(
    "--damage", "damages", multiple=True, metavar="NAME[:VALUE],...",
    help="What is done to the pictures, as --observe of project. mask:half shows the left half, mask:random a tenth of the "
    "pixels. The option may be repeated.  [default: nine kinds]",
)  # fmt: skip
@click.option(
    "--steps", type=click.IntRange(min=1), default=300, show_default=True, help="Steps of the methods w and w+."
)
@outdir_option
@device_option
@quiet_option
def command(data: str | None, damages: tuple[str, ...], **options: Any) -> None:
    """Restore damaged pictures, and compare methods with answers that need no network.

    DIR gets table.md, results.json, and restoration.png: two pictures for each damage, first whole and damaged, then the
    answers without a network, then those of the methods. A study that was stopped goes on when it is called again with the same
    options.

    \b
    stylegan-invert reproduce restoration -n cats64-de --data cats64.zip --pictures 15600: -o out/restoration
    """
    from ..studies import restoration

    if data is None:
        raise click.UsageError("--data is missing: name a dataset zip or a folder of pictures.")
    run_study(restoration, data=data, figures=" and restoration.png", damages=damages or None, **options)
