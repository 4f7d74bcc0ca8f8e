"""``python -m stylegan_invert.official_train``: train.py of stylegan2-ada-pytorch or stylegan3 with a direction head."""

import functools
import importlib
import os
import sys
from types import ModuleType
from typing import Any

import click

from .common import Number, UserPath

SETTINGS = {"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": ["-h", "--help"]}


@click.command(context_settings=SETTINGS)
@click.option(
    "--embedding-weight", type=Number(0, 1e6), default=1, show_default=True, help="Weight of the direction head's loss."
)
@click.option(
    "--embedding-weight-later",
    type=Number(0, 1e6),
    default=10,
    show_default=True,
    help="Its weight from --embedding-later-kimg on.",
)
@click.option(
    "--embedding-later-kimg",
    type=Number(0, 1e9),
    default=300,
    show_default=True,
    help="Thousands of pictures after which that weight applies.",
)
@click.argument("repo", type=UserPath())
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(repo: str, arguments: tuple[str, ...], **embedding: float) -> None:
    """Run train.py of a checkout of stylegan2-ada-pytorch or stylegan3 with this project's discriminator and loss.

    REPO is the folder of the checkout, whose code is run. All that follows it goes to its train.py as it is. The options
    of this command stand before REPO. The networks that the run writes open in official code and here, here with the head.

    \b
    python -m stylegan_invert.official_train ../stylegan2-ada-pytorch --outdir=runs --data=cats.zip --gpus=1 --metrics=none
    python -m stylegan_invert.official_train ../stylegan3 --outdir=runs --data=cats.zip --cfg=stylegan2 --gpus=8 --batch=32 \\
        --gamma=1 --metrics=none
    """
    train = train_of(repo)
    replace(train, embedding)
    # The repository's own command reads its arguments and ends the process as it always does.
    train.main(args=list(arguments), prog_name="train.py")


def train_of(repo: str) -> ModuleType:
    """The module train.py of a checkout, imported.

    Raises:
        click.UsageError: it is no such checkout.
    """
    needed = ("train.py", "training/training_loop.py", "training/loss.py", "torch_utils/persistence.py")
    missing = [name for name in needed if not os.path.isfile(os.path.join(repo, name))]
    if missing:
        raise click.UsageError(
            f"{repo}: {missing[0]} is not in it; expected the folder of stylegan2-ada-pytorch or stylegan3, as git clone makes it"
        )
    sys.path.insert(0, os.path.abspath(repo))
    return importlib.import_module("train")


def replace(train: Any, embedding: dict[str, float]) -> None:
    """Change the function of train.py through which the training loop's arguments pass, so that they name this project's classes.

    Processes that train.py starts for further GPUs are given these arguments, and need no change.
    """
    from ..training.official import replaced

    if hasattr(train, "setup_training_loop_kwargs"):  # stylegan2-ada-pytorch
        make = train.setup_training_loop_kwargs

        @functools.wraps(make)
        def made(**options: Any) -> tuple[str, Any]:
            name, arguments = make(**options)
            return f"{name}-head", replaced(arguments, **embedding)

        train.setup_training_loop_kwargs = made
    elif hasattr(train, "launch_training"):  # stylegan3
        launch = train.launch_training

        @functools.wraps(launch)
        def launched(c: Any, desc: str, outdir: str, dry_run: bool) -> None:
            launch(c=replaced(c, **embedding), desc=f"{desc}-head", outdir=outdir, dry_run=dry_run)

        train.launch_training = launched
    else:
        raise click.UsageError(
            f"{train.__file__}: it has neither setup_training_loop_kwargs nor launch_training, through which its settings pass; "
            "expected train.py of stylegan2-ada-pytorch or stylegan3"
        )
