"""``stylegan-invert reproduce encoder``"""

import os
from pathlib import Path
from typing import Any

import click

from .common import (
    SEED,
    NetworkSource,
    data_option,
    device_option,
    loss_option,
    network_option,
    open_network,
    outdir_option,
    quiet_option,
)
from .reproduce import run_study, ways_of

WAYS = "mean,random,nearest,regression,encoder,random:200,encoder:50,encoder:200,encoder:50:fast,regression:50:fast"


def named(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> dict[str, str]:
    """A click callback that reads FILE or NAME=FILE; a file without a name is called "encoder"."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, file = text.rpartition("=")
        if name.strip() in found or (equals and not name.strip()) or not file.strip():
            raise click.BadParameter(f"{text!r}; expected FILE or NAME=FILE, each name once")
        found[name.strip()] = os.path.expanduser(file)
    return {name or "encoder": file for name, file in found.items()}


@click.command()
@network_option
@data_option
@click.option(
    "--encoder", "encoders", multiple=True, required=True, metavar="[NAME=]FILE", callback=named,
    help="An encoder of the network, of train-encoder. With several, all but one need a name, which is then a start.",
)  # fmt: skip
@click.option(
    "--other", "others", type=NetworkSource(), multiple=True, metavar="NET",
    help="Another network, whose pictures are reconstructed too; may be repeated.",
)  # fmt: skip
@click.option("--generated", type=click.IntRange(min=2), default=50, show_default=True, help="Generated pictures.")
@click.option("--real", type=click.IntRange(min=2), default=50, show_default=True, help="Real pictures, at most.")
@loss_option("lpips-squeeze=1,mse=5")
@click.option("--seed", type=SEED, default=1, show_default=True, help="Random seed of the generated pictures.")
@click.option(
    "--ways", default=WAYS, show_default=True, metavar="START[:STEPS[:OPTIMISER]],...", callback=ways_of("encoder"),
    help="The rows: where to start, how many steps from there, and by adam, clipped (Adam with clipping, for z), lbfgs or "
    "fast (as the methods fast-z and fast-w+). Starts are mean, random, nearest, regression, de, and the encoders' names.",
)  # fmt: skip
@outdir_option
@device_option
@quiet_option
def command(**options: Any) -> None:
    """Compare an encoder with optimisation and with both together, as Bayat's Tables 2.1 and 2.3.

    Codes are searched in the space of the encoders. DIR gets table.md, results.json, a sheet per set (picture, and what each
    way makes of it), and encoder.png, the distances over time. A study that was stopped goes on when it is called again with
    the same options.

    \b
    stylegan-invert reproduce encoder -n cats32-de --encoder runs/encoder --data cats64.zip --pictures 15300: -o out/encoder
    """
    from ..studies import encoder

    options["others"] = {
        Path(name).stem: open_network(name, options["quiet"], "picture") for name in options["others"]
    } or None
    run_study(encoder, figures=", encoder.png and a sheet of each set", **options)
