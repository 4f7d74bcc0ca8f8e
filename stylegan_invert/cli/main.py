"""The ``stylegan-invert`` command."""

import os
import sys
from typing import Any

import click

from .. import __version__
from ..errors import StyleganInvertError
from .common import Commands

COMMANDS = {
    "convert": "Write a network file in another format, and compare the pictures of both.",
    "demo": "Project the shipped photograph onto the shipped network.",
    "distance": "Measure how far a network's pictures are from real ones.",
    "doctor": "Check whether the native operations work, and say what to do if not.",
    "generate": "Render seeds, or codes from a projection.",
    "interpolate": "Render the straight lines between codes.",
    "inspect": "Print what a network file holds.",
    "prebuild": "Build the native operations in advance, for container images and clusters.",
    "project": "Find the latent codes of pictures.",
    "reproduce": "Run a paper's experiments on a network.",
    "stats": "Fit the Gaussian of a network's V space.",
    "train": "Train a StyleGAN2 network.",
    "train-encoder": "Train an encoder, which finds codes in one pass, for any network.",
}


@click.command(cls=Commands, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="stylegan-invert")
def cli() -> None:
    """Find the latent code from which a generator network makes a given picture (GAN inversion).

    \b
    stylegan-invert project --network ffhq.pkl --target photo.jpg --outdir out
    stylegan-invert generate --network ffhq.pkl --projected-w out/projected_w.npz --outdir out
    """


def run(command: click.Command, args: list[str] | None = None, prog_name: str | None = None) -> None:
    """Run a command as a program, and exit. An expected failure prints one sentence on stderr; its status is not zero.

    Args:
        command: the command.
        args: its arguments; None takes those of the process.
        prog_name: the name of the program in messages.
    """
    try:
        result = command.main(args, prog_name=prog_name, standalone_mode=False)
        code = result if isinstance(result, int) else 0
    except click.exceptions.Exit as e:
        code = e.exit_code
    except click.ClickException as e:
        e.show()
        code = e.exit_code
    except (KeyboardInterrupt, click.Abort):
        code = _fail("interrupted; what was unfinished was not written", 130)
    except BrokenPipeError:  # the program that reads our output has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except (StyleganInvertError, ValueError) as e:
        code = _fail(str(e))
    except OSError as e:
        code = _fail(f"{e.filename}: {e.strerror}" if e.filename and e.strerror else str(e))
    except MemoryError:
        code = _fail("out of memory; try a smaller --batch")
    except RuntimeError as e:
        if "out of memory" not in str(e) and "can't allocate memory" not in str(e):
            raise
        code = _fail("out of memory on the device; try a smaller --batch, or --device cpu")
    sys.exit(code)


def _fail(message: str, code: int = 1) -> int:
    """Print an error, and return the exit status."""
    click.echo(f"Error: {message}", err=True)
    return code


def main(args: Any = None) -> None:
    """The entry point of the console script ``stylegan-invert``."""
    run(cli, args, "stylegan-invert")


if __name__ == "__main__":
    main()
