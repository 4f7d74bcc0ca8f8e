"""A folder with the results of many targets: which of them are finished, which failed, and the tables of all.

``manifest.jsonl`` has a line with the settings of the run and then one for each target that was finished or failed. Lines are
only added. Several processes, also of several machines, may write into one folder.
"""

import csv
import functools
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stylegan_invert.errors import ProjectionError, StyleganInvertError, printable
from stylegan_invert.files import door, plain
from stylegan_invert.files.writing import append, atomic, locked

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
        sha256: of the contents of its file, by which a changed picture is noticed; "" if that is not known.
        init: where its search starts; None for the method's own start.
    """

    target: Target
    name: str
    folder: Path
    sha256: str = ""
    init: Init | None = None


class RunFolder:
    """The manifest of a run over many targets.

    Args:
        outdir: the folder. Nothing is written into it before the first target is finished or fails.
        settings: plain values that say what the results depend on besides the targets, by name.
        anew: True forgets what the folder has.

    Attributes:
        text: the settings as one text.

    Raises:
        ProjectionError: the folder has results of other settings, or its manifest is damaged.
        OSError: the folder cannot be written.
    """

    def __init__(self, outdir: str | os.PathLike, settings: Mapping[str, Any], anew: bool = False):
        self.outdir, self.settings = Path(outdir), json.loads(json.dumps(settings))
        self.text = json.dumps(self.settings, sort_keys=True)
        self.file = self.outdir / MANIFEST
        self.entries: dict[str, dict[str, Any]] = {}  # the last line of each folder
        if anew:
            self.file.unlink(missing_ok=True)
        if self.file.exists():
            with locked(self.file) as opened:
                self._mend(opened)
            self.read()

    def _mend(self, opened: Any) -> None:
        """Remove the beginning of a line, which a process that was killed may have left at the end."""
        size = opened.seek(0, os.SEEK_END)
        start = max(0, size - 2**20)
        opened.seek(start)
        tail = opened.read()
        if tail and not tail.endswith(b"\n"):
            opened.truncate(start + tail.rfind(b"\n") + 1)

    def read(self) -> None:
        """Read the manifest again, since other processes may have added to it."""
        lines = bytes(door.read_bytes(self.file, _KIND)).split(b"\n")[:-1]
        if not lines:  # its writer was killed before the first line was whole
            return
        try:
            first = plain.parse_json(lines[0], _SETTINGS, "line 1")
            for number, line in enumerate(lines[1:], 2):
                entry = plain.parse_json(line, _LINE, f"line {number}")
                self.entries[entry["folder"]] = entry
        except plain.Misfit as e:
            raise ProjectionError(
                f"{self.file}: {e}; it is damaged. Take another folder, or begin anew with --overwrite"
            ) from None
        self._check(first["settings"])

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
            and entry["state"] == "done"
            and entry["sha256"] == item.sha256
            and (item.folder / RECORD).is_file()
        )

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
        self.entries[entry["folder"]] = entry

    def summarise(self, items: Sequence[Item]) -> dict[str, Any]:
        """Write ``results.csv`` and ``summary.json``, and return what the latter holds.

        Args:
            items: all targets of the run, in order.
        """
        if self.file.exists():
            self.read()
        self.outdir.mkdir(parents=True, exist_ok=True)
        entries = [self.entries.get(item.folder.name) for item in items]
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
    **options: Any,
) -> Iterator[tuple[Item, Projection | None, str | None]]:
    """Project the targets of a run that are not finished, save each result, and note it in the manifest.

    A target that cannot be read or projected does not stop the others.

    Args:
        folder: the run.
        projector: see `Projector`.
        items: the targets, without those that are finished.
        checkpoints: arguments of `Checkpoints` besides folders and settings; None writes no checkpoints.
        options: further arguments of `Projector.project`. The callback is called with numbers of ``items``.

    Yields:
        For each target: it, and its result or the reason why it has none.

    Raises:
        ValueError: an option is wrong.
        OSError: a result cannot be written.
    """
    callback = options.pop("callback", None)
    rest = list(items)
    alone = False  # the next target failed together with others
    while rest:
        some = rest[:1] if alone else rest
        mine = dict(options, batch=1) if alone else dict(options)
        if callback is not None:
            mine["callback"] = functools.partial(_moved, callback, len(items) - len(rest))
        if checkpoints is not None:
            mine["checkpoints"] = Checkpoints([item.folder for item in some], folder.text, **checkpoints)
        inits = [item.init for item in some]
        init = inits if any(i != inits[0] for i in inits) else inits[0]
        results = projector.project([item.target for item in some], init=init, read_first=False, **mine)
        done, error = 0, None
        while done < len(some):
            try:
                result = next(results)
            except StyleganInvertError as e:
                error = str(e)
                break
            result.save(some[done].folder)
            folder.done(some[done], result)
            yield some[done], result, None
            done += 1
        if error is None:
            next(results, None)  # removes the last checkpoint
        elif alone or done == len(some) - 1:
            folder.failed(some[done], error)
            yield some[done], None, error
            done += 1
        alone = error is not None and not alone and done < len(some)
        rest = rest[done:]


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
