"""A folder with the results of many targets: which of them are finished, which failed, and the tables of all.

``manifest.jsonl`` has a line with the settings of the run and then one for each target that was finished or failed. Lines are
only added. Several processes, also of several machines, may work on one folder: each claims a target before it begins.
"""

import csv
import dataclasses
import functools
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stylegan_invert.errors import ImageFileError, ProjectionError, SoundFileError, StyleganInvertError, printable
from stylegan_invert.files import door, plain, sharing
from stylegan_invert.files.writing import append, atomic, locked, sha256
from stylegan_invert.media.targets import ZipPicture, contents

from .checkpoint import Checkpoints
from .descent import Step
from .projection import RECORD, Projection
from .projector import Projector
from .starts import Init
from .targets import Target
from .tuning import Tuner

MANIFEST, TABLE, SUMMARY = "manifest.jsonl", "results.csv", "summary.json"
FORMAT = 1  # the version of the format of these files
WORST = 10  # targets that the summary names, those with the largest LPIPS

_KIND = door.Kind("the manifest of a run", 2**31, ProjectionError)
_SETTINGS = plain.table({"format": plain.whole(1, FORMAT), "settings": plain.named(plain.anything)})
_LINE = plain.table(
    {
        "folder": plain.text(),
        "target": plain.text(),
        "sha256": plain.text(empty=True),
        "state": plain.text("done", "failed"),
    },
    {"values": plain.named(plain.maybe(plain.number())), "error": plain.text(empty=True)},
)


@dataclass(frozen=True)
class Item:
    """A target of a run.

    Attributes:
        target: as `Projector.project` takes it.
        name: what it is called in messages and tables.
        folder: the folder of its result, which lies in that of the run.
        sha256: of the contents of its file, by which a changed picture is noticed; "" if that is not known yet.
        init: where its search starts; None for the method's own start.
    """

    target: Target
    name: str
    folder: Path
    sha256: str = ""
    init: Init | None = None

    def hashed(self) -> "Item":
        """This item with the SHA-256 of its file. What cannot be read has none, and fails later."""
        if self.sha256 or not isinstance(self.target, (str, os.PathLike, ZipPicture)):
            return self
        try:
            return dataclasses.replace(self, sha256=sha256(contents(self.target)))
        except (ImageFileError, SoundFileError):
            return self


class Entry(NamedTuple):
    """What is kept in memory of a target's last line in the manifest."""

    state: str  # "done" or "failed"
    sha256: str


class RunFolder:
    """The manifest of a run over many targets.

    Args:
        outdir: the folder. Nothing is written into it before the first target is claimed.
        settings: plain values that say what the results depend on besides the targets, by name.
        anew: True forgets what the folder has.

    Attributes:
        text: the settings as one text.
        entries: what earlier processes left of the targets, by the names of their folders.
        news: the names of those folders whose targets were finished or have failed since this object was made.
        claims: the targets that this process works on, by the same names.

    Raises:
        ProjectionError: the folder has results of other settings, or its manifest is damaged.
        OSError: the folder cannot be written.
    """

    def __init__(self, outdir: str | os.PathLike, settings: Mapping[str, Any], anew: bool = False):
        self.outdir, self.settings = Path(outdir), json.loads(json.dumps(settings))
        self.text = json.dumps(self.settings, sort_keys=True)
        self.file = self.outdir / MANIFEST
        self.entries: dict[str, Entry] = {}
        self.news: set[str] = set()
        self.claims = sharing.Claims(self.outdir / sharing.FILE)
        self._seen = (0, 0)  # bytes and lines of the manifest that were read
        if anew:
            self.file.unlink(missing_ok=True)
        if self.file.exists():
            with locked(self.file) as opened:
                self._mend(opened)
        earlier, self._seen = self._lines(0, 0)
        for entry in earlier:
            self.entries[entry["folder"]] = Entry(entry["state"], entry["sha256"])

    def _mend(self, opened: Any) -> None:
        """Remove the beginning of a line, which a process that was killed may have left at the end."""
        size = opened.seek(0, os.SEEK_END)
        start = max(0, size - 2**20)
        opened.seek(start)
        tail = opened.read()
        if tail and not tail.endswith(b"\n"):
            opened.truncate(start + tail.rfind(b"\n") + 1)

    def read(self) -> None:
        """Read what was added to the manifest since the last time, also by other processes.

        Raises:
            ProjectionError: it is damaged, or has other settings, or another process has begun anew.
        """
        entries, self._seen = self._lines(*self._seen)
        self.news.update(entry["folder"] for entry in entries)

    def _lines(self, start: int, number: int) -> tuple[list[dict[str, Any]], tuple[int, int]]:
        """The entries of whole lines from a byte on, which follows line ``number``; and the place behind the last one."""
        if not start and not self.file.exists():
            return [], (0, 0)
        with door.opened(self.file, _KIND) as file:
            if file.seek(0, os.SEEK_END) < start:
                raise ProjectionError(f"{self.file}: another process has begun this run anew; stop one of them")
            file.seek(start)
            *lines, _ = file.read().split(b"\n")  # the last one is empty, or is being written
        entries = []
        for line in lines:
            number, start = number + 1, start + len(line) + 1
            try:
                found = plain.parse_json(line, _LINE if number > 1 else _SETTINGS, f"line {number}")
            except plain.Misfit as e:
                raise ProjectionError(
                    f"{self.file}: {e}; it is damaged. Take another folder, or begin anew with --overwrite"
                ) from None
            if number > 1:
                entries.append(found)
            else:
                self._check(found["settings"])
        return entries, (start, number)

    def _check(self, before: Mapping[str, Any]) -> None:
        names = [*before, *(name for name in self.settings if name not in before)]
        other = [name for name in names if before.get(name) != self.settings.get(name)]
        if other:
            changes = "; ".join(
                f"{printable(name, 40)} was {_shown(before.get(name))}, and is {_shown(self.settings.get(name))} now"
                for name in other[:5]
            )
            more = f"; and {len(other) - 5} more" if len(other) > 5 else ""
            raise ProjectionError(
                f"{self.outdir} has results of other settings ({changes}{more}); take another folder, or begin anew "
                "with --overwrite"
            )

    def finished(self, item: Item) -> bool:
        """True if the result of a target is there."""
        entry = self.entries.get(item.folder.name)
        return (
            entry is not None
            and entry.state == "done"
            and (item.folder / RECORD).is_file()
            and entry.sha256 == item.hashed().sha256
        )

    def settled(self, name: str) -> bool:
        """True if a target was finished or has failed since this object was made; for `Claims.each`."""
        self.read()
        return name in self.news

    def done(self, item: Item, result: Projection) -> None:
        """Note that the result of a target was saved."""
        record = {**result.metrics, "distance": result.as_dict()["distance"]}
        record |= {name: result.record.get(name) for name in ("evaluations", "seconds")}
        values = {k: v for k, v in record.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
        self._add(item, {"state": "done", "values": values})

    def failed(self, item: Item, error: str) -> None:
        """Note that there is no result for a target, and why."""
        self._add(item, {"state": "failed", "error": printable(error, 600)})

    def _add(self, item: Item, what: dict[str, Any]) -> None:
        entry = {"folder": item.folder.name, "target": printable(item.name, 1000), "sha256": item.sha256, **what}
        self.outdir.mkdir(parents=True, exist_ok=True)
        with locked(self.file):
            if not self.file.stat().st_size:
                append(self.file, json.dumps({"format": FORMAT, "settings": self.settings}) + "\n")
            append(self.file, json.dumps(entry) + "\n")
        self.read()

    def summarise(self, items: Sequence[Item]) -> dict[str, Any]:
        """Write ``results.csv`` and ``summary.json``, and return what the latter holds.

        Args:
            items: all targets of the run, in order.
        """
        self.outdir.mkdir(parents=True, exist_ok=True)
        last = {entry["folder"]: entry for entry in self._lines(0, 0)[0]}
        entries = [last.get(item.folder.name) for item in items]
        done = [entry for entry in entries if entry is not None and entry["state"] == "done"]
        failed = [entry for entry in entries if entry is not None and entry["state"] == "failed"]
        names = list(dict.fromkeys(name for entry in done for name in entry["values"]))
        columns = {n: [e["values"][n] for e in done if e["values"].get(n) is not None] for n in names}
        by_lpips = sorted(
            (e for e in done if e["values"].get("lpips") is not None), key=lambda e: -e["values"]["lpips"]
        )
        counts = {"targets": len(items), "done": len(done), "failed": len(failed)}
        counts["waiting"] = len(items) - len(done) - len(failed)
        values = {name: _distribution(column) for name, column in columns.items() if column}
        worst = [
            {"target": e["target"], "folder": e["folder"], "lpips": e["values"]["lpips"]} for e in by_lpips[:WORST]
        ]
        failures = [{"target": e["target"], "folder": e["folder"], "error": e.get("error", "")} for e in failed]
        summary = {"format": FORMAT, **counts, "values": values, "worst": worst, "failures": failures}
        with atomic(self.outdir / TABLE) as temporary:
            temporary.write_text(_csv(items, entries, names), encoding="utf-8", newline="")
        with atomic(self.outdir / SUMMARY) as temporary:
            temporary.write_text(json.dumps(summary, indent=2) + "\n")
        return summary


def project_into(
    folder: RunFolder,
    projector: Projector | Tuner,
    items: Sequence[Item],
    checkpoints: Mapping[str, Any] | None = None,
    wait: Callable[[], object] | None = None,
    processes: int = 1,
    **options: Any,
) -> Iterator[tuple[Item, Projection | None, str | None]]:
    """Project the targets of a run that are not finished, save each result, and note it in the manifest.

    A target that cannot be read or projected does not stop the others. Each is claimed first, so several processes share
    the targets, whatever the order in which each of them has them.

    Args:
        folder: the run.
        projector: see `Projector`.
        items: the targets, without those that are finished, in the order in which this process wants them.
        checkpoints: arguments of `Checkpoints` besides folders and settings; None writes no checkpoints.
        wait: see `sharing.Claims.each`.
        processes: how many were started for the run; none claims more than its share at once.
        options: further arguments of `Projector.project`. The callback is called with numbers of ``items``.

    Yields:
        For each target that this process has dealt with: it, and its result or the reason why it has none.

    Raises:
        ValueError: an option is wrong.
        OSError: a result cannot be written.
    """
    numbers = {item.folder.name: number for number, item in enumerate(items)}
    share = -(-len(items) // processes)
    # The frames of a sequence follow one another in one call.
    together = share if options.get("sequence") else projector.targets_per_pass(options.get("batch", 1))
    for names in folder.claims.each(list(numbers), folder.settled, wait, max(1, min(together, share))):
        some = [items[numbers[name]].hashed() for name in names]
        if options.get("sequence") and len(some) < len(items):
            raise ProjectionError(f"{folder.outdir}: another process works on this sequence; wait until it has ended")
        yield from _project_together(folder, projector, some, numbers, checkpoints, options)


def _project_together(
    folder: RunFolder,
    projector: Projector | Tuner,
    some: Sequence[Item],
    numbers: Mapping[str, int],
    checkpoints: Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> Iterator[tuple[Item, Projection | None, str | None]]:
    """`project_into` for targets that this process has claimed. If they fail together, each is tried alone."""
    mine = dict(options)
    if mine.get("callback") is not None:
        mine["callback"] = functools.partial(_moved, mine["callback"], numbers[some[0].folder.name])
    if checkpoints is not None:
        mine["checkpoints"] = Checkpoints([item.folder for item in some], folder.text, **checkpoints)
    inits = [item.init for item in some]
    init = inits if any(i != inits[0] for i in inits) else inits[0]
    results = projector.project([item.target for item in some], init=init, read_first=False, **mine)
    for done, item in enumerate(some):
        try:
            result = next(results)
        except StyleganInvertError as e:
            if len(some) > 1 and done < len(some) - 1:
                for one in some[done:]:
                    yield from _project_together(folder, projector, [one], numbers, checkpoints, options)
            else:
                folder.failed(item, str(e))
                yield item, None, str(e)
            return
        result.save(item.folder)
        folder.done(item, result)
        yield item, result, None
    next(results, None)  # removes the last checkpoint


def _moved(callback: Callable[[int, Step], object], by: int, first: int, step: Step) -> None:
    """Call a callback with a number of a target that counts from another place on."""
    callback(by + first, step)


def _distribution(values: Sequence[float]) -> dict[str, Any]:
    low, middle, high = np.quantile(np.asarray(values, dtype=np.float64), [0.25, 0.5, 0.75]).tolist()
    return {"mean": float(np.mean(values)), "quartiles": [low, middle, high]}


def _csv(items: Sequence[Item], entries: Sequence[dict[str, Any] | None], names: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["target", "folder", "state", *names, "error"])
    for item, entry in zip(items, entries):
        entry = entry or {"state": "waiting"}
        values = entry.get("values", {})
        cells = ["" if values.get(name) is None else values[name] for name in names]
        writer.writerow([printable(item.name, 1000), item.folder.name, entry["state"], *cells, entry.get("error", "")])
    return text.getvalue()


def _shown(value: Any) -> str:
    return "not given" if value is None else printable(json.dumps(value), 80)
