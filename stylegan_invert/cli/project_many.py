"""``stylegan-invert project`` with several targets: they can be interrupted, gone on with, and shared among processes."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import click

from ..errors import ImageFileError, SoundFileError
from ..signals import signals_wait
from .common import check_outdir, counting, sampling, say, stopping, tell
from .dry_run import estimate, in_words
from .project import SECONDS, bars, check_loss, open_for, reading_of, summary, tell_result

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

    Under torchrun each process takes its share of them.

    Args:
        network, pictures, outdirs, device, quiet, video, checkpoint, as_json, dry_run, options: as for `project.run`.
        outdir: the folder of the run.
        overwrite: True begins anew.

    Raises:
        click.exceptions.Exit: some targets failed; they were named.
    """
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
    waiting = unfinished(folder, items[rank::count], quiet)
    if options.get("sequence") and waiting:
        waiting = items  # a frame starts from the code of the frame before, which no file has in full
    plural = "" if len(items) == 1 else "s"
    say(quiet, f"{len(items):,} target{plural}; {len(waiting):,} to do{' by this process' if count > 1 else ''}")
    names = [item.name for item in waiting]
    with sampling(quiet) as samples, bars(names, quiet) as callback, stopping(), signals_wait() as arrived:
        projector, of_run = prepared(net, **options, keep_steps=video, callback=callback, progress=samples)
        if dry_run:
            done = f"{len(items) - len(waiting):,} are finished"
            return tell(
                f"{done}; {in_words(len(waiting), estimate(projector, waiting[0].target, of_run))}" if waiting else done
            )
        saving = {"seconds": checkpoint, "arrived": arrived}
        for i, (item, result, error) in enumerate(project_into(folder, projector, waiting, saving, **of_run), 1):
            what = f"failed: {error}" if result is None else summary(result)
            say(quiet, f"{i} of {len(waiting)}: {item.name} -> {item.folder}: {what}")
            tell_result(as_json, item.name, item.folder, result, error)
    tell_end(folder.summarise(items), folder, rank, quiet)


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
    """The targets that are not finished, with the SHA-256 of their files. Those that cannot be read fail later."""
    from ..files.writing import sha256
    from ..media.targets import contents

    waiting = []
    with counting(len(items), "looking for results", quiet or len(items) < 1000) as progress:
        for item in items:
            try:
                item = dataclasses.replace(item, sha256=sha256(contents(item.target)))
            except (ImageFileError, SoundFileError):
                pass
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
