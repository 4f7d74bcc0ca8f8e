"""The ``stylegan-invert`` command."""

import contextlib
import errno
import io
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

import click

from .. import __version__
from ..errors import StyleganInvertError, printable
from ..files.door import raise_limits, size_of
from .common import Commands, Terminated, termination

DEBUG = "STYLEGAN_INVERT_DEBUG"  # the environment variable that shows where an unexpected error happened

COMMANDS = {
    "align": "Cut faces out of photographs, as the data set FFHQ does.",
    "app": "Open a page in the browser: project a photograph and edit it.",
    "convert": "Write a network file in another format, and compare the pictures of both.",
    "demo": "Project the shipped photograph onto the shipped network.",
    "detect": "Judge whether pictures were drawn by a network, by how well it rebuilds them.",
    "directions": "Find directions in latent space for edits.",
    "distance": "Measure how far a network's pictures are from real ones.",
    "doctor": "Check whether the native operations work, and say what to do if not.",
    "edit": "Edit pictures through their codes: directions, style mixing, means of groups.",
    "explain": "Show which pictures of a set a network cannot rebuild.",
    "generate": "Render seeds, or codes from a projection.",
    "interpolate": "Render the straight lines between codes.",
    "inspect": "Print what a network file holds.",
    "mix": "Mix the styles of codes in a table.",
    "nearest": "Find the results whose codes are nearest to one.",
    "paste": "Put an edited face back into its photograph.",
    "prebuild": "Build the native operations in advance, for container images and clusters.",
    "project": "Find the latent codes of pictures.",
    "report": "Write one HTML page about the results in a folder.",
    "reproduce": "Run a paper's experiments on a network.",
    "segment": "Cut pictures into segments by the network's self-attention.",
    "stats": "Fit the Gaussian of a network's V space.",
    "switch-class": "Find a sequence of frames, and draw it again as another class.",
    "train": "Train a StyleGAN2 network.",
    "train-encoder": "Train an encoder, which finds codes in one pass, for any network.",
}


def _raise_limits(ctx: click.Context, param: click.Parameter, text: str | None) -> None:
    """Apply ``--max-file-size`` to the whole process, while the command runs."""
    if text is not None:
        try:
            raise_limits(size_of(text))
        except ValueError as e:
            raise click.BadParameter(str(e)) from None
        ctx.call_on_close(lambda: raise_limits(0))


@click.command(cls=Commands, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="stylegan-invert")
@click.option(
    "--max-file-size",
    metavar="SIZE",
    expose_value=False,
    callback=_raise_limits,
    help="Read files of up to this size, such as 20G, and unpack compressed ones up to it. Each kind of file has its own "
    "limit, which it may exceed only then.  [default: $STYLEGAN_INVERT_MAX_FILE_SIZE]",
)
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
    with _printable_warnings(), termination():
        code = _status(command, args, prog_name)
    sys.exit(code)


def _status(command: click.Command, args: list[str] | None, prog_name: str | None) -> int:
    """Run a command; returns the exit status."""
    try:
        result = command.main(args, prog_name=prog_name, standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as e:
        return e.exit_code
    except click.ClickException as e:
        return _show(e)
    except (KeyboardInterrupt, click.Abort) as e:
        cause = next((x for x in (e, e.__cause__) if isinstance(x, Terminated)), None)
        what, number = ("interrupted", signal.SIGINT) if cause is None else ("terminated", cause.signal)
        return _fail(f"{what}; what was unfinished was not written", 128 + number)  # the status that shells give
    except BrokenPipeError:  # the program that reads our output has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (StyleganInvertError, ValueError) as e:
        return _fail(str(e))
    except OSError as e:
        return _fail(_about_file(e))
    except MemoryError:
        return _fail(_out_of_memory(_options(command, args), on_cpu=True))
    except RuntimeError as e:
        if "out of memory" in str(e) or "can't allocate memory" in str(e):
            return _fail(_out_of_memory(_options(command, args), on_cpu="CPUAllocator" in str(e)))
        return _unexpected(e)
    except Exception as e:
        return _unexpected(e)


def _options(command: click.Command, args: list[str] | None) -> set[str]:
    """The options of the command that the arguments name."""
    for word in sys.argv[1:] if args is None else args:
        if isinstance(command, Commands) and word in command.table:
            command = command.get_command(click.Context(command), word) or command
    return {name for param in command.params for name in param.opts}


def _out_of_memory(options: set[str], on_cpu: bool) -> str:
    """What to do when memory was too small, for a command with these options."""
    remedies = []
    if "--batch-gpu" in options:
        remedies.append("try a smaller --batch-gpu or --batch")
    elif "--batch" in options and not on_cpu:  # on a CPU targets are computed one after another
        remedies.append("try a smaller --batch")
    if "--device" in options and not on_cpu:
        remedies.append("try --device cpu")
    where = "the main memory is too small for this" if on_cpu else "the memory of the device is too small for this"
    return f"out of memory: {where}; {', or '.join(remedies) or 'close other programs, or take a larger machine'}"


def _show(error: click.ClickException) -> int:
    """Print what click says of wrong options; returns the exit status."""
    setattr(error, "message", printable(error.message))  # noqa: B010  # click's types call it final
    text = io.StringIO()
    error.show(text)
    for line in text.getvalue().splitlines():
        click.echo(printable(line.expandtabs(4)), err=True)
    return error.exit_code


def _about_file(error: OSError) -> str:
    """A sentence about a file that could not be read or written."""
    if error.strerror is None:
        return str(error)
    name = f"{error.filename}: " if error.filename is not None else ""
    full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None))
    return f"{name}{error.strerror}{'; make room, or choose another folder' if full else ''}"


def _unexpected(error: Exception) -> int:
    """Print an error that nobody has foreseen, which is a mistake in this package; returns the exit status."""
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return _fail(
        f"{printable(text, 300)}. This is a mistake in stylegan-invert, please report it; with {DEBUG}=1 in the "
        "environment the same command prints where it happened"
    )


@contextlib.contextmanager
def _printable_warnings() -> Iterator[None]:
    """A context manager in which a warning is one line without characters that do not print."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        click.echo(printable(f"Warning: {message}"), err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _fail(message: str, code: int = 1) -> int:
    """Print an error, and return the exit status."""
    click.echo(f"Error: {printable(message)}", err=True)
    return code


def main(args: Any = None) -> None:
    """The entry point of the console script ``stylegan-invert``."""
    run(cli, args, "stylegan-invert")


if __name__ == "__main__":
    main()
