"""``stylegan-invert reproduce head``"""

from typing import Any

import click

from .common import Choice, NetworkSource, Number, Span, UserPath, device_option, outdir_option, quiet_option
from .reproduce import run_study


def _names(ctx: click.Context, param: click.Parameter, text: str) -> tuple[str, ...]:
    """A click callback that reads names from a text such as "base,none"."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _whole(ctx: click.Context, param: click.Parameter, span: tuple[int, int | None]) -> tuple[int, int]:
    """A click callback that asks for the end of a range, because the pictures after it are those that are held out."""
    first, last = span
    if last is None:
        raise click.BadParameter(
            "it has no end; expected FIRST:LAST, as 0:15300, and pictures after LAST to measure with"
        )
    return first, last


@click.command()
@click.option(
    "--network", "-n", type=NetworkSource(), metavar="NET",
    help="Compare ways to attach a head to this network, instead of settings of a training from random weights.",
)  # fmt: skip
@click.option("--data", "source", type=UserPath(), required=True, metavar="PATH", help="A dataset zip or a folder.")
@click.option(
    "--pictures", "span", type=Span(), default="0:15300", show_default=True, metavar="FIRST:LAST", callback=_whole,
    help="Train with these pictures, in the order of their names. Those after them are held out.",
)  # fmt: skip
@click.option("--held", type=click.IntRange(min=2), default=300, show_default=True, help="Held-out pictures, at most.")
@click.option(
    "--rows", default="", metavar="NAME,...", callback=_names,
    help="The settings, as base,none,weight-1; see studies/head.py.  [default: all]",
)  # fmt: skip
@click.option(
    "--resolution", type=Choice(["8", "16", "32", "64"]), default="16", show_default=True,
    callback=lambda ctx, param, text: int(text), help="Side of the pictures, without --network.",
)  # fmt: skip
@click.option(
    "--kimg",
    type=Number(0, 1e6, min_open=True),
    default=20,
    show_default=True,
    help="Thousands of pictures per training.",
)
@click.option("--seeds", type=click.IntRange(min=1), default=2, show_default=True, help="Trainings of each setting.")
@click.option("--generated", type=click.IntRange(min=4), default=300, show_default=True, help="Generated pictures.")
@outdir_option
@device_option
@quiet_option
def command(**options: Any) -> None:
    """Compare settings of trainings with a direction head, in short trainings of equal length.

    Each setting is trained with each seed and measured: the angle between what one pass finds and the true latent, the LPIPS
    of one pass as a share of that of random pairs, and the kernel distance (KID) of samples from the training set. DIR gets
    table.md, results.json, and spherical.png, which compares the two ways from angles to a point on a sphere. A study that
    was stopped goes on when it is called again with the same options.

    \b
    stylegan-invert reproduce head --data cats64.zip -o out/head
    stylegan-invert reproduce head -n cats32 --data cats64.zip --kimg 12 --seeds 1 -o out/attached
    """
    from ..studies import head

    run_study(head, figures=" and spherical.png", **options)
