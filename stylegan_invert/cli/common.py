"""Options, parameter types and small helpers that several commands share. The package click reads the command line."""

import contextlib
import importlib
import json
import math
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import click
from click.shell_completion import CompletionItem

from ..errors import meant, printable
from ..io.progress import bar
from ..signals import Stopped


class Commands(click.Group):
    """A group of commands. The file of a command, ``cli/<prefix><name>.py``, is imported only when the command is used.

    Args:
        table: the commands by name, with the line that ``--help`` shows for each.
        prefix: the beginning of the file names.
    """

    def __init__(self, *args: Any, table: dict[str, str], prefix: str = "", **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.table, self.prefix = table, prefix

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.table:
            return None
        return importlib.import_module(f"stylegan_invert.cli.{self.prefix}{name.replace('-', '_')}").command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchOption:
            raise
        except click.UsageError as e:
            raise click.UsageError(e.message.rstrip(".") + (meant(args[0], self.table) or "."), ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self.table.items()))


SEED = click.IntRange(0, 2**32 - 1)


class UserPath(click.ParamType):
    """A path as a user writes it. "~" becomes the home folder, and an empty path is refused. URLs stay as they are."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not str(value).strip():
            self.fail("it is empty; expected a name", param, ctx)
        return os.path.expanduser(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]


class Choice(click.Choice):
    """One of some words. The error about another word suggests the nearest."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as e:
            message = e.message.rstrip(".") + (meant(str(value), map(str, self.choices)) or ".")
            raise click.BadParameter(message, ctx, param) from None


class NetworkSource(UserPath):
    """The path, URL, address on the Hub or short name of a network. A misspelt one is refused here, before torch is imported."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from ..network_files.sources import check

        source = super().convert(value, param, ctx)
        check(source)
        return source

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from ..io.download import SHORT_NAMES
        from ..network_files.sources import SHIPPED

        names = [
            CompletionItem(name) for name in [*SHIPPED, *SHORT_NAMES] if incomplete and name.startswith(incomplete)
        ]
        shipped = [] if incomplete else [CompletionItem(name) for name in SHIPPED]
        return [*names, *shipped, *super().shell_complete(ctx, param, incomplete)]


class Number(click.FloatRange):
    """A finite number in a range. (click's own type accepts "nan".)"""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


class Span(click.ParamType):
    """A range FIRST:LAST of whole numbers, without LAST itself. Either may be left out."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int | None]:
        if isinstance(value, tuple):
            return value
        first, colon, last = value.partition(":")
        if not colon or not all(part.strip().isdigit() or not part.strip() for part in (first, last)):
            self.fail(f"{value!r}; expected FIRST:LAST, as 0:15300 or 15300:", param, ctx)
        return int(first or 0), int(last) if last.strip() else None


def numbers(ctx: click.Context, param: click.Parameter, text: str) -> list[float]:
    """A click callback that reads positive numbers from a text such as "1e-5,1e-4"."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r}; expected numbers, as in 0.5,1") from None
    if not all(0 < x < 1e9 for x in values):
        raise click.BadParameter(f"{text!r}; expected positive numbers")
    return values


def words(ctx: click.Context, param: click.Parameter, text: str) -> list[str]:
    """A click callback that reads names from a text such as "free,regularised"; none from an empty one."""
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


DEVICES = ("auto", "cpu", "cuda", "mps")
ASSUME = "stylegan_invert.assume"  # the key under which click's context stores the value of --assume


def _keep_assumptions(ctx: click.Context, param: click.Parameter, text: str | None) -> None:
    """Read the value of ``--assume`` and store it in click's context, where `open_network` finds it."""
    assumptions: dict[str, Any] = {}
    for part in text.split(",") if text else []:
        name, equals, value = part.partition("=")
        if not (equals and name.strip() and value.strip()):
            raise click.BadParameter(f"{part!r}; expected NAME=VALUE, as in bn_eps=1e-4")
        try:
            assumptions[name.strip()] = float(value)
        except ValueError:
            assumptions[name.strip()] = value.strip()
    ctx.meta[ASSUME] = assumptions


def assume_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--assume``. The command does not receive its value as an argument; `open_network` reads it."""
    return click.option(
        "--assume",
        metavar="NAME=VALUE,...",
        expose_value=False,
        callback=_keep_assumptions,
        help="Facts that the network file does not state, such as bn_eps=1e-4 for a BigGAN without its configuration. "
        "All assumptions are printed.",
    )(function)


def open_network(source: str, quiet: bool = False, medium: str | None = None) -> Any:
    """The network file of ``--network``, with what ``--assume`` says; what is assumed is printed.

    Args:
        source: the value of the option.
        quiet: True prints nothing.
        medium: the kind of output that the command can take, such as "picture"; None for any.

    Raises:
        click.ClickException: the network makes outputs of another kind.
    """
    from ..generator import adapt
    from ..network_files.file import load

    net = load(source, click.get_current_context().meta.get(ASSUME))
    if net.assumed:
        say(quiet, f"{net.file} does not say everything itself; taken: {net.assumed}")
    if medium is not None and (made := adapt(net.G).medium) != medium:
        raise click.ClickException(f"{net.file}: this network makes {made}s; this command is for networks of {medium}s")
    return net


def network_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--network`` and ``--assume``; see `open_network`."""
    return click.option(
        "--network",
        "-n",
        required=True,
        type=NetworkSource(),
        metavar="NET",
        help="Network file: a path, a URL, hf://OWNER/REPOSITORY, an official short name (ffhq, metfaces, afhqcat, ...), "
        "or one that comes with this package: cats64-de, cats32-de, cats32, faces64.",
    )(assume_option(function))


def _allow_foreign(ctx: click.Context, param: click.Parameter, allowed: bool) -> None:
    """Apply ``--foreign-codes`` to the whole process, until the next command is parsed."""
    if allowed:
        from ..io.codes import allow_foreign

        allow_foreign(True)
        ctx.call_on_close(lambda: allow_foreign(False))


def foreign_codes_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--foreign-codes``. The command does not receive its value; `io.codes.check_codes` obeys it."""
    return click.option(
        "--foreign-codes",
        is_flag=True,
        expose_value=False,
        callback=_allow_foreign,
        help="Accept files of codes that say they are of another network. They stand for other pictures there.",
    )(function)


def _choose_ops(ctx: click.Context, param: click.Parameter, name: str | None) -> None:
    """Apply ``--ops`` to the whole process."""
    if name is not None:
        from ..ops import native

        native.set_mode(name)


def device_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--device``, and ``--ops``, which applies to the whole process. The command receives only the device."""
    function = click.option(
        "--ops",
        type=Choice(["auto", "native", "reference"]),
        expose_value=False,
        callback=_choose_ops,
        help="How operations are computed. native: by this package's compiled code, or fail. reference: by torch. "
        "auto: by compiled code if it can be built, else by torch; networks of 32x32 or less are computed by torch, except "
        "in training.  [default: $STYLEGAN_INVERT_OPS, else auto]",
    )(function)
    return click.option(
        "--device",
        type=Choice(DEVICES),
        default="auto",
        show_default=True,
        help="Where to compute. auto: on a GPU if there is one.",
    )(function)


class Class(click.ParamType):
    """The parameter type of ``--class``: the number of a class, or a text, which is a class's name or another word."""

    name = "class"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        return int(value) if isinstance(value, int) or re.fullmatch(r"[+-]?\d{1,9}", value) else value


def class_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--class``."""
    text = "Number or name of the class, for networks that have classes."
    return click.option("--class", "class_idx", type=Class(), metavar="INT|NAME", help=text)(function)


def study_class_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--class``, for a study that also takes networks with classes."""
    text = (
        "Class of all pictures, for networks that have classes.  [default: all classes for generated pictures, and for real "
        "ones the labels of --data]"
    )
    return click.option("--class", "class_idx", type=int, metavar="INT", help=text)(function)


def z_prior_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--z-prior``."""
    return click.option(
        "--z-prior",
        type=Choice(["normal", "uniform"]),
        help="Distribution of z in training, for networks whose files do not state it.  [default: normal]",
    )(function)


def outdir_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--outdir``."""
    return click.option(
        "--outdir",
        "-o",
        required=True,
        type=UserPath(),
        metavar="DIR",
        help="Folder for the results. It is made if it is missing.",
    )(function)


def data_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--data`` and ``--pictures``, for studies in which real pictures are optional; see `studies.base.picture_set`."""
    function = click.option(
        "--pictures",
        type=Span(),
        metavar="FIRST:LAST",
        help="Use only these pictures of --data, in the order of their names. 15300: means from 15300 to the end.",
    )(function)
    return click.option(
        "--data",
        type=UserPath(),
        metavar="PATH",
        help="Real pictures: a dataset zip or a folder. Without it, only generated pictures are used.",
    )(function)


def loss_option(default: str) -> Callable[..., Any]:
    """A decorator that adds ``--loss`` with the default of a study."""
    return click.option(
        "--loss",
        default=default,
        show_default=True,
        metavar="NAME=W,...",
        help="Distances that the optimisations minimise, with their weights.",
    )


def quiet_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--quiet``."""
    return click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")(function)


def pick_device(name: str) -> Any:
    """The torch device of ``--device``.

    Raises:
        click.UsageError: this machine, or this build of torch, does not have the device.
    """
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(n for n in ("cuda", "mps", "cpu") if available[n])
    if not available[name]:
        names = ", ".join(n for n, ok in available.items() if ok)
        raise click.UsageError(
            f"--device {name} was asked for, and this torch ({torch.__version__}) finds {names} only."
        )
    return torch.device(name)


def check_outdir(outdir: str) -> None:
    """Check before the work begins that a folder can be written into. A folder made for the check is removed again.

    Raises:
        click.ClickException: it cannot.
    """
    from ..files.writing import staged

    try:
        with staged(outdir):
            pass
    except OSError as e:
        reason = "it is a file" if os.path.isfile(outdir) else (e.strerror or str(e)).lower()
        raise click.ClickException(
            f"--outdir {outdir}: cannot write there ({reason}); choose a folder that can be made or written into"
        ) from None


def say(quiet: bool, text: str) -> None:
    """Print a line on stderr, unless ``quiet``; stdout is for data. Characters that do not print become escapes."""
    if not quiet:
        click.echo(printable(text), err=True)


def tell(text: str) -> None:
    """Print a line of the command's answer on stdout. Characters that do not print become escapes."""
    click.echo(printable(text))


def tell_json(value: Any, indent: int | None = None) -> None:
    """Print a command's answer on stdout as JSON, in which characters that do not print are escapes."""
    click.echo(json.dumps(value, indent=indent).replace("\x7f", "\\u007f"))


@contextlib.contextmanager
def counting(total: int, label: str, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A context manager with a progress bar, in a log with a line now and then; see `io.progress.bar`.

    It gives a function to call with the number of things done since its last call.
    """
    with bar(total, label, quiet) as shown:
        yield shown.update


@contextlib.contextmanager
def sampling(quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A context manager with a progress bar for samples of w, in a log with a line now and then.

    It gives a function to call with the number of samples drawn so far and the number in all. The bar appears at the
    first call.
    """
    bars: list[Any] = []

    def progress(done: int, total: int) -> None:
        if not bars:
            bars.append(bar(total, "samples of w", quiet))
        bars[0].update(done - bars[0].n)

    try:
        yield progress
    finally:
        for shown in bars:
            shown.close()


class Progress:
    """A progress bar with step, distance and time left, in a log with a line now and then.

    Args:
        steps: the number of steps in all.
        label: the text in front of the bar.
        quiet: True shows no bar.
    """

    def __init__(self, steps: int, label: str, quiet: bool):
        self.bar = bar(steps, label, quiet, unit="step")

    def __call__(self, step: Any) -> None:
        """Show a step, an object with ``number`` (from 1) and ``distance`` (a tensor)."""
        if not self.bar.disable:
            if step.number % 10 == 1 or step.number == self.bar.total:
                self.bar.set_postfix_str(f"distance {float(step.distance.mean()):.4f}", refresh=False)
            self.bar.update(step.number - self.bar.n)

    def close(self) -> None:
        self.bar.close()


class Terminated(KeyboardInterrupt):
    """A signal with which schedulers, containers and terminals end a process, handled as Ctrl-C is.

    Attributes:
        signal: its number.
    """

    def __init__(self, signal: int):
        super().__init__(signal)
        self.signal = signal


@contextlib.contextmanager
def termination() -> Iterator[None]:
    """A context manager in which SIGTERM and SIGHUP raise `Terminated`, so that what is unfinished is cleaned up.

    Outside the main thread nothing changes, and a signal that is ignored stays so, as nohup wants it.
    """

    def stop(number: int, frame: Any) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)  # another one must not interrupt the cleaning
        raise Terminated(number)

    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)):
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def stopping() -> Iterator[None]:
    """A context manager for a run that writes checkpoints. If a signal ends the run, it says how to go on."""
    from ..training import distributed

    try:
        yield
    except Stopped as e:
        say(not distributed.prints(), str(e))
        raise click.exceptions.Exit(128 + e.signal) from None  # as a shell reports a process that a signal has ended
