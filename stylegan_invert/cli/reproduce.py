"""``stylegan-invert reproduce``: the papers' experiments and a comparison of speed, one command for each."""

import functools
import importlib
from collections.abc import Callable
from typing import Any

import click

from .common import (
    Commands,
    Number,
    counting,
    device_option,
    loss_option,
    open_network,
    outdir_option,
    pick_device,
    quiet_option,
    say,
    study_class_option,
    z_prior_option,
)

COMMANDS = {
    "clipping": "Lipton & Tripathi, Bayat: recovery of latents with clipping.",
    "compression": "Wulff & Torralba: truncation and compression in V.",
    "dense": "Pividori et al.: z, and displacements at the dense layer.",
    "depth": "Pividori et al.: the error against the depth of the layer.",
    "direction": "Cho: inversion by a direction-embedding discriminator.",
    "encoder": "Bayat: an encoder, optimisation, and both together.",
    "features": "Pividori et al.: the layer whose features are compared.",
    "head": "Cho: settings of a training with a direction head.",
    "identity": "Bayat: whether people are recognised in reconstructions.",
    "penalty": "Pividori et al.: the weight of the displacement's penalty.",
    "prior": "Wulff & Torralba: inversion with a Gaussian prior in V.",
    "restoration": "Poirier-Ginter & Lalonde: damaged pictures restored.",
    "segmentation": "Pividori et al.: what segments from self-attention are worth.",
    "speed": "The fast methods beside the official projector.",
    "tuning": "Roich et al.: tuning the network to pictures.",
}


@click.command(cls=Commands, table=COMMANDS, prefix="reproduce_")
def command() -> None:
    """Run a paper's experiments, or compare methods, on a network, and write tables and figures."""


def ways_of(study: str) -> Callable[[click.Context, click.Parameter, str], list[Any]]:
    """A click callback that reads the rows of a study's table with the function ``read_ways`` of its module."""

    def read(ctx: click.Context, param: click.Parameter, text: str) -> list[Any]:
        try:
            return importlib.import_module(f"stylegan_invert.studies.{study}").read_ways(text)
        except ValueError as e:
            raise click.BadParameter(str(e)) from None

    return read


def displacement_options(steps: int = 80, layer_steps: int = 120) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that adds the options that all studies of displacements at a layer share.

    Args:
        steps, layer_steps: the defaults of these options.
    """
    count = click.IntRange(min=1)
    options: list[Callable[..., Any]] = [
        study_class_option,
        click.option("--steps", type=count, default=steps, show_default=True, help="Steps to z."),
        click.option(
            "--layer-steps", type=count, default=layer_steps, show_default=True, help="Steps of each displacement."
        ),
        click.option(
            "--lambda-z", type=Number(0, 1e9), default=0.1, show_default=True, help="Weight of -log P(z), a mean."
        ),
        loss_option("mse=0.25,features=1"),
        outdir_option,
        z_prior_option,
        device_option,
        quiet_option,
    ]

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return add


def run_study(
    study: Any,
    network: str | None,
    outdir: str,
    device: str,
    quiet: bool,
    *,
    data: str | None = None,
    pictures: tuple[int, int | None] | None = None,
    figures: str = "",
    **settings: Any,
) -> None:
    """Run a study and print its table. Several processes of torchrun share it, if it can be shared.

    Args:
        study: a module of `stylegan_invert.studies`, with the functions ``run`` and ``table``.
        network, outdir, device, quiet: the values of these options. The network may be None, if the study can do without.
        data: the real pictures' path, or None.
        pictures: which of them to take, as `common.Span` gives it.
        figures: the figures that the study writes, for the last line that is printed.
        settings: passed to the study.
    """
    from ..generator import adapt
    from ..studies.base import ShareDone, picture_set
    from ..training import distributed

    where = distributed.chosen_device(pick_device(device))
    quiet = quiet or not distributed.prints()
    net = None if network is None else open_network(network, quiet, "picture")
    if data is not None and net is not None:
        # A study that takes --class has the classes of real pictures from it, or else from the labels of --data.
        labels = bool(adapt(net.G).c_dim) and "class_idx" in settings and settings["class_idx"] is None
        settings["data"] = picture_set(net, data, pictures, labels)
    try:
        results = study.run(net, outdir, device=where, counting=functools.partial(counting, quiet=quiet), **settings)
    except ShareDone:
        return
    for line in study.table(results).splitlines():
        say(quiet, line)
    say(quiet, f"wrote {outdir}/table.md, results.json{figures}")
