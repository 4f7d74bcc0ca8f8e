"""``stylegan-invert project`` with several targets: they can be interrupted, gone on with, and shared among processes."""

import contextlib
import functools
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from ..errors import ProjectionError
from ..io.progress import bar
from ..signals import Stopped, signals_wait
from .common import check_outdir, counting, sampling, say, stopping, tell
from .dry_run import estimate, in_words
from .project import SECONDS, bars, check_loss, open_for, reading_of, summary, tell_result

LOOKS = 0.5  # seconds between two looks at what other processes have done
NAMED = 10  # targets that failed and are named at the end; results.csv has all
WITHOUT_EFFECT = ("batch", "run_torchscript")  # results do not depend on these options


def run_many(
    network: str,
    pictures: list[Any],
    outdirs: list[Path],
    outdir: Path,
    device: Any,
    quiet: bool,
    video: bool = False,
    checkpoint: float = SECONDS,
    overwrite: bool = False,
    as_json: bool = False,
    dry_run: bool = False,
    **options: Any,
) -> None:
    """Project the pictures that are not finished yet. One that fails does not stop the others.

    Processes share them, those of torchrun and any others with the same folder: each takes what nobody else has. The first
    process of torchrun, and one that was started without it, waits for the others, takes up what is left of one that was
    killed, and tells how the run ended. The others end before, without an error, since torchrun stops all processes when one
    fails.

    Args:
        network, pictures, outdirs, device, quiet, video, checkpoint, as_json, dry_run, options: as for `project.run`.
        outdir: the folder of the run.
        overwrite: True begins anew.

    Raises:
        click.exceptions.Exit: some targets failed; they were named.
    """
    from ..files.sharing import in_turn
    from ..projectors.run import prepared
    from ..projectors.run_folder import Item, RunFolder, project_into
    from ..training import distributed

    rank, count = distributed.place()
    if count > 1 and (overwrite or options.get("sequence")):
        raise click.UsageError("--overwrite and --sequence are for one process; start without torchrun.")
    check_loss(options)
    reading_of(options).check(pictures)
    check_outdir(str(outdir))
    quiet = quiet or rank > 0
    net = open_for(pictures, network, distributed.own_device(device), quiet, options)
    folder = RunFolder(outdir, {"network": net.sha256, "video": video, **settings_of(options)}, overwrite)
    init = options.pop("init", None)
    inits = init if isinstance(init, list) else [init] * len(pictures)
    items = [Item(p, str(p), d, init=i) for p, d, i in zip(pictures, outdirs, inits)]
    waiting = unfinished(folder, in_turn(items, rank, count), quiet)
    if options.get("sequence") and waiting:
        waiting = items  # a frame starts from the code of the frame before, which no file has in full
    plural = "" if len(items) == 1 else "s"
    shared = f", shared by {count} processes" if count > 1 else ""
    say(quiet, f"{len(items):,} target{plural}; {len(waiting):,} to do{shared}")
    finished = len(items) - len(waiting)
    shows = bar_of_all(folder, len(items), finished, quiet) if count > 1 else bars([w.name for w in waiting], quiet)
    with sampling(quiet) as samples, shows as callback, stopping(), signals_wait() as arrived:
        projector, of_run = prepared(net, **options, keep_steps=video, callback=callback, progress=samples)
        if dry_run:
            done = f"{finished:,} are finished"
            return tell(
                f"{done}; {in_words(len(waiting), estimate(projector, waiting[0].target, of_run))}" if waiting else done
            )
        saving = {"seconds": checkpoint, "arrived": arrived}
        look: Callable[..., None] = callback
        if count == 1:
            look = functools.cache(functools.partial(say, quiet, "waiting for other processes"))
        wait = functools.partial(look_later, look, arrived) if rank == 0 else None
        found = project_into(folder, projector, waiting, saving, wait, count, **of_run)
        for i, (item, result, error) in enumerate(found, 1):
            what = f"failed: {error}" if result is None else summary(result)
            say(quiet or count > 1, f"{i} of {len(waiting)}: {item.name} -> {item.folder}: {what}")
            tell_result(as_json, item.name, item.folder, result, error)
    if rank == 0 or not folder.claims.work:
        tell_end(folder.summarise(items), folder, rank, quiet)


@contextlib.contextmanager
def bar_of_all(folder: Any, total: int, finished: int, quiet: bool) -> Iterator[Callable[..., None]]:
    """A context manager with one progress bar for the targets of all processes.

    It gives a callback for a projector, which may be called without arguments, too.

    Args:
        folder: the `RunFolder`.
        total: the number of targets.
        finished: how many of them were finished before.
        quiet: True shows nothing.
    """
    with bar(total, "targets", quiet, initial=finished) as shown:
        due = 0.0

        def look(*step: Any) -> None:
            nonlocal due
            if shown.disable or time.monotonic() < due:
                return
            with contextlib.suppress(ProjectionError):  # it comes again when the next target is claimed
                folder.read()
            shown.update(min(total, finished + len(folder.news)) - shown.n)
            due = time.monotonic() + LOOKS

        yield look


def look_later(look: Callable[[], object], arrived: Sequence[int]) -> None:
    """Wait a moment for the processes that work on the last targets.

    Args:
        look: shows how far they are.
        arrived: the signals that have arrived.

    Raises:
        Stopped: a signal has arrived.
    """
    if arrived:
        raise Stopped(arrived[0], "stopped while other processes were at work; the same command goes on")
    look()
    time.sleep(LOOKS)


def settings_of(options: dict[str, Any]) -> dict[str, Any]:
    """What the results of a run depend on, as plain values by name; files by the SHA-256 of their contents."""
    from ..files.writing import sha256, sha256_of_file
    from ..projectors.observations import parse

    settings = {}
    for name, value in options.items():
        if name in WITHOUT_EFFECT or value is False:
            continue
        if isinstance(value, list):  # starts: a code file for each target
            value = sha256("".join(map(sha256_of_file, value)).encode())
        elif name == "observe":
            observation = parse(value)
            parts = [] if observation is None else observation.parts
            files = [str(part.file) for part in parts if hasattr(part, "file")]
            value = [value, *map(sha256_of_file, files)]
        elif isinstance(value, str) and os.path.isfile(value):
            value = sha256_of_file(value)
        settings[name] = value
    return json.loads(json.dumps(settings, default=str))


def unfinished(folder: Any, items: list[Any], quiet: bool) -> list[Any]:
    """The targets that are not finished. Those that cannot be read fail later."""
    waiting = []
    with counting(len(items), "looking for results", quiet or len(items) < 1000) as progress:
        for item in items:
            if not folder.finished(item):
                waiting.append(item)
            progress(1)
    return waiting


def tell_end(summary: dict[str, Any], folder: Any, rank: int, quiet: bool) -> None:
    """Say how the run ended. Targets that failed are named in any case, by the first process.

    Raises:
        click.exceptions.Exit: there are some.
    """
    from ..projectors.run_folder import SUMMARY, TABLE

    waits = f", {summary['waiting']:,} wait for other processes" if summary["waiting"] else ""
    done = f"{summary['done']:,} of {summary['targets']:,} targets are done{waits}"
    say(quiet, f"{done}; see {folder.outdir}/{TABLE} and {SUMMARY}")
    if not summary["failed"]:
        return
    for failure in summary["failures"][:NAMED]:
        say(rank > 0, f"failed: {failure['target']}: {failure['error'].removeprefix(failure['target'] + ': ')}")
    more = f", the first {NAMED} of which are named above" if summary["failed"] > NAMED else ""
    what = "1 target" if summary["failed"] == 1 else f"{summary['failed']:,} targets"
    say(rank > 0, f"{what} failed{more}; the same command tries again")
    raise click.exceptions.Exit(1)
