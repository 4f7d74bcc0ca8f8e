"""Options and small helpers that several commands share."""

import contextlib
import importlib
import math
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click


class Commands(click.Group):
    """A group that imports a command's file, ``cli/<prefix><name>.py``, when it is wanted.

    Args:
        table: name to the line that help shows.
    """

    def __init__(self, *args: Any, table: dict[str, str], prefix: str = "", **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.table, self.prefix = table, prefix

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.table:
            return None
        return importlib.import_module(f"stylegan_invert.cli.{self.prefix}{name}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self.table.items()))


SEED = click.IntRange(0, 2**32 - 1)


class UserPath(click.ParamType):
    """A path as a user writes it: not empty, and with ~ for the home folder. URLs and names pass through."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not str(value).strip():
            self.fail("it is empty; expected a name", param, ctx)
        return os.path.expanduser(value)


class Number(click.FloatRange):
    """A finite number in a range; click's own lets nan through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


class Span(click.ParamType):
    """Numbers FIRST:LAST, either of them may be left out."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int | None]:
        if isinstance(value, tuple):
            return value
        first, colon, last = value.partition(":")
        if not colon or not all(part.strip().isdigit() or not part.strip() for part in (first, last)):
            self.fail(f"{value!r}; expected FIRST:LAST, as 0:15300 or 15300:", param, ctx)
        return int(first or 0), int(last) if last.strip() else None


def numbers(ctx: click.Context, param: click.Parameter, text: str) -> list[float]:
    """Positive numbers from "1e-5,1e-4"."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r}; expected numbers, as in 0.5,1") from None
    if not all(0 < x < 1e9 for x in found):
        raise click.BadParameter(f"{text!r}; expected positive numbers")
    return found


DEVICES = ("auto", "cpu", "cuda", "mps")


ASSUME = "stylegan_invert.assume"  # where a command's context keeps --assume


def _keep_assumptions(ctx: click.Context, param: click.Parameter, text: str | None) -> None:
    found: dict[str, Any] = {}
    for part in text.split(",") if text else []:
        name, equals, value = part.partition("=")
        if not (equals and name.strip() and value.strip()):
            raise click.BadParameter(f"{part!r}; expected NAME=VALUE, as in bn_eps=1e-4")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            found[name.strip()] = value.strip()
    ctx.meta[ASSUME] = found


def assume_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--assume``, which `open_network` reads and which is not passed on."""
    return click.option(
        "--assume", metavar="NAME=VALUE,...", expose_value=False, callback=_keep_assumptions,
        help="What the network file does not say, as bn_eps=1e-4 for a bare BigGAN. What is assumed is printed.",
    )(function)  # fmt: skip


def open_network(source: str, quiet: bool = False) -> Any:
    """The network file of ``--network``, with what ``--assume`` says; what is assumed is printed."""
    from ..network_files.file import load

    net = load(source, click.get_current_context().meta.get(ASSUME))
    if net.assumed:
        say(quiet, f"{source} does not say everything itself; taken: {net.assumed}")
    return net


def network_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--network`` and ``--assume``; see `open_network`."""
    return click.option(
        "--network",
        "-n",
        required=True,
        type=UserPath(),
        metavar="NET",
        help="Network file: a path, a URL, an official short name (ffhq, metfaces, afhqcat, ...), "
        "or one that comes with this package: cats32-de, cats32, faces64.",
    )(assume_option(function))


def _choose_ops(ctx: click.Context, param: click.Parameter, name: str | None) -> None:
    if name is not None:
        from ..ops import native

        native.set_mode(name)


def device_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--device``, and ``--ops``, which is for the process and not passed on."""
    function = click.option(
        "--ops", type=click.Choice(["auto", "native", "reference"]), expose_value=False, callback=_choose_ops,
        help="Which operations: native ones where they can be had (auto) or must be (native), or torch's own (reference).  "
        "[default: $STYLEGAN_INVERT_OPS, else auto]",
    )(function)  # fmt: skip
    return click.option(
        "--device",
        type=click.Choice(DEVICES),
        default="auto",
        show_default=True,
        help="Where to compute; auto takes a GPU if there is one.",
    )(function)


def class_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--class", "class_idx", type=int, metavar="INT", help="Class, for networks that have classes.")(
        function
    )


def z_prior_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--z-prior",
        type=click.Choice(["normal", "uniform"]),
        help="What z was drawn from in training, for networks whose files do not say.  [default: normal]",
    )(function)


def outdir_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--outdir",
        "-o",
        required=True,
        type=UserPath(),
        metavar="DIR",
        help="Folder for the results; made if it is missing.",
    )(function)


def data_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--data`` and ``--pictures`` of studies that do without real pictures, too; see `studies.base.picture_set`."""
    function = click.option(
        "--pictures", type=Span(), metavar="FIRST:LAST", help="Take these of them, in the order of their names, as 15300:."
    )(function)  # fmt: skip
    return click.option(
        "--data",
        type=UserPath(),
        metavar="PATH",
        help="Real pictures: a dataset zip or a folder. Without, generated ones only.",
    )(function)


def loss_option(default: str) -> Callable[..., Any]:
    """``--loss`` of a study."""
    return click.option(
        "--loss", default=default, show_default=True, metavar="NAME=W,...", help="Distances of the optimisations."
    )


def quiet_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")(function)


def pick_device(name: str) -> Any:
    """The torch device of ``--device``.

    Raises:
        click.UsageError: it is not there.
    """
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(n for n in ("cuda", "mps", "cpu") if there[n])
    if not there[name]:
        found = ", ".join(n for n, ok in there.items() if ok)
        raise click.UsageError(
            f"--device {name} was asked for, and this torch ({torch.__version__}) finds {found} only."
        )
    return torch.device(name)


def check_outdir(outdir: str) -> None:
    """Fail now, not after the work, if nothing can be written into a folder. It is not left behind empty."""
    from ..io.files import staged

    try:
        with staged(outdir):
            pass
    except OSError as e:
        reason = "it is a file" if os.path.isfile(outdir) else (e.strerror or str(e)).lower()
        raise click.ClickException(
            f"--outdir {outdir}: cannot write there ({reason}); choose a folder that can be made or written into"
        ) from None


def say(quiet: bool, text: str) -> None:
    """A line for the person watching: on stderr, so that stdout stays for data."""
    if not quiet:
        click.echo(text, err=True)


def _no_bar(quiet: bool) -> bool:
    return quiet or sys.stderr is None or not sys.stderr.isatty()


@contextlib.contextmanager
def counting(total: int, label: str, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar that counts to ``total`` on a terminal, and nothing elsewhere; call what it gives with what was done."""
    from tqdm import tqdm

    with tqdm(total=total, desc=label, unit="", disable=_no_bar(quiet), leave=False, dynamic_ncols=True) as bar:
        yield bar.update


@contextlib.contextmanager
def sampling(quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar for samples, on a terminal; it appears when what this gives is first called, with those so far and those in all."""
    from tqdm import tqdm

    bars: list[Any] = []

    def progress(done: int, total: int) -> None:
        if not bars:
            bars.append(tqdm(desc="samples of w", unit="", disable=_no_bar(quiet), leave=False, dynamic_ncols=True))
        bars[0].total = total
        bars[0].update(done - bars[0].n)

    try:
        yield progress
    finally:
        for bar in bars:
            bar.close()


class Progress:
    """A bar with step, distance and time left on a terminal; nothing elsewhere."""

    def __init__(self, steps: int, label: str, quiet: bool):
        from tqdm import tqdm

        self.bar = tqdm(
            total=steps,
            desc=label,
            unit="step",
            disable=_no_bar(quiet),
            leave=False,
            dynamic_ncols=True,
        )

    def __call__(self, step: Any) -> None:
        if not self.bar.disable:
            if step.number % 10 == 1 or step.number == self.bar.total:
                self.bar.set_postfix_str(f"distance {float(step.distance.mean()):.4f}", refresh=False)
            self.bar.update(step.number - self.bar.n)

    def close(self) -> None:
        self.bar.close()
