"""``stylegan-invert reproduce speed``"""

from typing import Any

import click

from .common import SEED, UserPath, data_option, device_option, network_option, outdir_option, quiet_option
from .reproduce import run_study


def check_ways(ctx: click.Context, param: click.Parameter, ways: tuple[str, ...]) -> tuple[str, ...]:
    """A click callback that refuses what the study would refuse, before a network is read."""
    from ..studies.speed import way_of

    for text in ways:
        try:
            way_of(text)
        except ValueError as e:
            raise click.BadParameter(str(e)) from None
    return ways


@click.command()
@network_option
@data_option
@click.option("--generated", type=click.IntRange(min=1), default=20, show_default=True, help="Generated pictures.")
@click.option("--real", type=click.IntRange(min=1), default=20, show_default=True, help="Real pictures, at most.")
@click.option(
    "--way", "ways", multiple=True, metavar="METHOD[:OPTION=VALUE,...]", default=("fast-w+", "fast-w"), show_default=True,
    callback=check_ways,
    help="A method that takes steps, with its own preset or with other values of its options. Give the option again for "
    "each further method.",
)  # fmt: skip
@click.option(
    "--steps", type=click.IntRange(min=1), default=1000, show_default=True, help="Steps of the official projector."
)
@click.option(
    "--vgg16", type=UserPath(), metavar="FILE",
    help="The official vgg16.pt, or torchvision's state dict of VGG16; LPIPS is then computed with it.  [default: with "
    "SqueezeNet]",
)  # fmt: skip
@click.option("--seed", type=SEED, default=1, show_default=True, help="Random seed of the generated pictures.")
@outdir_option
@device_option
@quiet_option
def command(**options: Any) -> None:
    """Measure how soon fast methods reach what the official projector reaches.

    Each picture is projected by the official projector (method w), and then by each of the methods that are compared. After
    every step the picture that would be saved is measured, with the clock stopped. DIR gets table.md, results.json, and
    speed.png, LPIPS against time: evaluations and seconds until LPIPS and PSNR of the official projector's saved picture are
    reached, and until its LPIPS with fitted noise maps is; the time that is paid once per network; and as measures of the
    codes the prior in V, the distance from the true w, and both for points half-way between two codes. For a network
    without w, method z stands in the official projector's place. A study that was stopped goes on when it is called again with the
    same options.

    \b
    stylegan-invert reproduce speed -n cats32-de --data cats64.zip --pictures 15600: -o out/speed
    """
    from ..studies import speed

    run_study(speed, figures=" and speed.png", **options)
