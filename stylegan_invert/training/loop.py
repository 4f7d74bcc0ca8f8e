"""The training loop of any `Trainer`, and the folder of a run: log, options, checkpoints."""

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from .. import signals
from ..errors import StyleganInvertError, TrainingError
from ..files import door, plain
from ..files.saved import read_saved
from ..files.writing import append, atomic
from ..media.picture_set import PictureSet
from . import distributed
from .state import COUNT, SECONDS

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"
OPTIONS = "training_options.json"
FORMAT = 2  # the version of the format of checkpoints; 1 had none between two ticks
FIRST_SECONDS = 30.0  # after the start, the first checkpoint is written with the next step
LATER_SECONDS = 600.0  # after a checkpoint, another one is written with the next step

OPTIONS_FILE = door.Kind("the options of a run that was stopped", 2**24, TrainingError)
_LOG_FILE = door.Kind("the log of a run", 2**24, TrainingError)  # a line has 600 bytes
_DATA = plain.table(
    {"path": plain.text()},
    {
        "resolution": plain.maybe(plain.whole(1, 2**16)),
        "channels": plain.whole(1, 4),
        "use_labels": plain.flag,
        "mirror": plain.flag,
        "first": plain.whole(),
        "last": plain.maybe(plain.whole()),
        "length": plain.whole(1, 2**20),
        "sample_rate": plain.whole(1, 10**6),
        "level": plain.text("as-is", "peak"),
        "labels": plain.text("none", "file", "names"),
        "only": plain.items(plain.text()),
        "leave_out": plain.items(plain.text()),
    },
)
_STATE = plain.table(
    {"format": plain.whole(1, FORMAT), "nimg": COUNT},
    {"ticks": COUNT, "seconds": SECONDS, "tick": plain.table({"first": COUNT, "seconds": SECONDS})},
    more=plain.unchecked,
)


class Trainer(Protocol):
    """The interface that the loop needs.

    Attributes:
        data: the training set, for which ``data.check()`` has been called; None if there is none.
        nimg: the pictures that were shown so far.
        total: the pictures to show in all.
        ticks: the ticks of the run so far. The loop sets it.
        seconds: the time of the run so far. The loop sets it.
        shared: True if `step` shares its batch among the processes of torchrun, as `distributed` describes; a trainer without
            this attribute is for one process. Every process has a trainer, which is in the same state after each step; only
            that of process 0 is asked to write.
    """

    data: PictureSet | None
    nimg: int
    ticks: int
    seconds: float

    @property
    def total(self) -> int: ...

    def step(self) -> None:
        """Show one batch. Raises TrainingError if a loss is NaN or infinite."""

    def check_numbers(self) -> None:
        """Raise TrainingError if a loss was NaN or infinite since the last `clear_values`."""

    def values(self) -> dict[str, float]:
        """Means since the last `clear_values`, for the log."""

    def clear_values(self) -> None:
        """Begin new means."""

    def record(self) -> dict[str, Any]:
        """Plain values for ``training_options.json``: "options", and everything else needed to build the trainer again.

        'rhythm' has the intervals of log and snapshots. A tick is the time between two lines of the log. The loop adds
        its own intervals; a trainer returns 'rhythm' only if it has further settings of this kind.
        """

    def begin(self, outdir: Path) -> None:
        """Write the files that the folder of a new run holds before the first step."""

    def network_path(self, outdir: Path) -> Path:
        """The file into which a snapshot would write the network now."""

    def snapshot(self, outdir: Path) -> tuple[list[Path], dict[str, Any]]:
        """Write the network and a picture of samples; returns the files, and measured values for the log."""

    def state(self) -> dict[str, Any]:
        """Everything that a checkpoint must hold, as tensors and plain values; "nimg" is among it.

        It is asked for between any two steps, so the means since the last `clear_values` belong to it.
        """

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned, where a `files.tensors.TensorRecord` may stand for a tensor.

        Raises TrainingError or `files.plain.Misfit` if it does not fit; `state` has forms that check it.
        """


@dataclass(frozen=True)
class Report:
    """A report to the caller after each tick.

    Attributes:
        values: the line of the log.
        written: the files that were written.
    """

    values: dict[str, Any]
    written: list[Path]


class Stopped(signals.Stopped):
    """A training was stopped by Ctrl-C or another signal, and its checkpoint was written.

    Attributes:
        nimg: the pictures that were shown.
        outdir: the run's folder.
    """

    def __init__(self, signal: int, nimg: int, outdir: Path):
        self.nimg, self.outdir = nimg, outdir
        super().__init__(
            signal, f"stopped after {nimg:,} pictures, and wrote {outdir / CHECKPOINT}; go on with --resume {outdir}"
        )


def train(
    trainer: Trainer,
    outdir: str | os.PathLike,
    *,
    resume: bool = False,
    tick_kimg: float = 4,
    snapshot_ticks: int = 10,
    callback: Callable[[Report], None] | None = None,
) -> Path:
    """Run a trainer to its end, and write its log, networks, samples and checkpoints.

    Ctrl-C, SIGTERM and SIGHUP end the run after the current step, when a checkpoint was written; a second signal ends
    it at once. Several processes of torchrun call this together inside `distributed.joined`. Process 0 writes the files
    and calls ``callback``, and a signal that reaches one of them ends all.

    Args:
        trainer: a new `Trainer`.
        outdir: the run's folder. ``log.jsonl`` gets a line per tick, ``checkpoint.pt`` is the last checkpoint,
            ``training_options.json`` says how the run was begun; the trainer writes networks and samples.
        resume: go on from the folder's checkpoint. On a CPU the run then ends equal to the last bit to one that
            never stopped.
        tick_kimg: thousands of pictures between lines of the log.
        snapshot_ticks: ticks between snapshots, which are also written at the end. A checkpoint is written with each
            snapshot, `FIRST_SECONDS` after the start, and `LATER_SECONDS` after each checkpoint.
        callback: called after each tick.

    Returns:
        The file of the last network.

    Raises:
        TrainingError: the run cannot start as asked, or a loss is NaN or infinite; the last good checkpoint is
            named.
        Stopped: a signal ended the run, and its checkpoint was written.
    """
    outdir = Path(outdir)
    if (
        trainer.data is not None
        and Path(trainer.data.path).is_dir()
        and outdir.resolve().is_relative_to(Path(trainer.data.path).resolve())
    ):
        raise TrainingError(
            f"{outdir}: it lies in the training set's folder, and its sample grids would be taken for pictures; "
            "choose an --outdir outside the data"
        )
    if distributed.launched() and not (distributed.count() > 1 and getattr(trainer, "shared", False)):
        raise TrainingError("this kind of training works with one process only; start it without torchrun")
    tick, first = None, distributed.rank() == 0
    if resume:
        tick = _resume(trainer, outdir)
    elif first:
        _begin(trainer, outdir, {"tick_kimg": tick_kimg, "snapshot_ticks": snapshot_ticks})
    _meet(trainer)
    run = _Run(trainer, outdir, tick)
    network = trainer.network_path(outdir)
    with _Log(outdir, trainer.nimg) if first else contextlib.nullcontext() as log, signals.signals_wait() as arrived:
        while run.unfinished:
            values, written = run.tick(tick_kimg, arrived), []
            due = trainer.nimg >= trainer.total or trainer.ticks % snapshot_ticks == 0
            if due:
                network = trainer.network_path(outdir)
            if due and first:
                written, measured = trainer.snapshot(outdir)
                values |= measured
            if first:
                log.write(values)
            if due:  # the checkpoint comes last: the files and the log that belong to it are there already
                written = [*written, run.save()]
            if first and callback is not None:
                callback(Report(values, written))
        distributed.agree(0)  # the others end when process 0 has written everything
    return network


def _meet(trainer: Trainer) -> None:
    """Check that all processes were started for the same run, and give all of them the numbers of process 0."""
    if distributed.count() > 1:
        record = trainer.record()
        about = {**record, "data": {**(record["data"] or {}), "path": None}, "nimg": trainer.nimg}
        distributed.check_same(json.dumps(about, sort_keys=True, default=str))
        distributed.copy_from_first(trainer.state())


def _begin(trainer: Trainer, outdir: Path, rhythm: dict[str, Any]) -> None:
    """Make the folder of a new run."""
    if (outdir / CHECKPOINT).exists():
        raise TrainingError(f"{outdir}: there is a run in it already; go on with --resume {outdir}, or choose another")
    outdir.mkdir(parents=True, exist_ok=True)
    record = trainer.record()
    record["rhythm"] = {**rhythm, **record.get("rhythm", {})}
    with atomic(outdir / OPTIONS) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n")
    trainer.begin(outdir)


def _resume(trainer: Trainer, outdir: Path) -> tuple[int, float] | None:
    """Bring a trainer to the state of the run's checkpoint; returns what `_Run` takes as ``tick``."""
    state = read_checkpoint(outdir)
    tick = state.pop("tick", None)
    try:
        if tick is not None and tick["first"] > state["nimg"]:
            raise plain.misfit(tick["first"], "tick.first", f"at most nimg, which is {state['nimg']}")
        trainer.load_state(state)
    except (TrainingError, plain.Misfit) as e:
        raise TrainingError(f"{outdir / CHECKPOINT}: {e}. Is it of this run, with the options in {OPTIONS}?") from None
    return None if tick is None else (tick["first"], tick["seconds"])


class _Run:
    """A trainer at work: its ticks, and its checkpoints, which can be written after any step.

    Args:
        trainer: the trainer, ready for its next step.
        outdir: the run's folder.
        tick: the pictures and the seconds at which the current tick began and which it took so far; None begins a tick.
    """

    def __init__(self, trainer: Trainer, outdir: Path, tick: tuple[int, float] | None):
        self.trainer, self.outdir = trainer, outdir
        if tick is None:
            trainer.clear_values()
        self.first, self.spent = (trainer.nimg, 0.0) if tick is None else tick
        self.began: float | None = None  # the time from which on the current tick is counted, besides ``spent``
        self.due = time.perf_counter() + FIRST_SECONDS

    @property
    def unfinished(self) -> bool:
        """True if there are pictures to show, or a tick to be ended."""
        return self.trainer.nimg < self.trainer.total or self.trainer.nimg > self.first

    def tick(self, tick_kimg: float, arrived: list[int]) -> dict[str, Any]:
        """Train until the next line of the log is due; returns the line.

        Args:
            tick_kimg: thousands of pictures between lines of the log.
            arrived: the signals that have arrived.

        Raises:
            Stopped: a signal has arrived.
        """
        trainer, self.began = self.trainer, time.perf_counter()
        try:
            self._pause(arrived)
            while trainer.nimg < trainer.total and trainer.nimg - self.first < tick_kimg * 1000:
                trainer.step()
                self._pause(arrived)
            trainer.check_numbers()
        except TrainingError as e:
            there = (self.outdir / CHECKPOINT).exists()
            last = f"the last good checkpoint is {self.outdir / CHECKPOINT}" if there else "there is no checkpoint yet"
            raise TrainingError(f"{e}; {last}") from None
        seconds = self._spent()
        rate = (trainer.nimg - self.first) / seconds
        trainer.seconds += seconds
        trainer.ticks += 1
        values = {
            "tick": trainer.ticks,
            "nimg": trainer.nimg,
            "kimg": trainer.nimg / 1000,
            "seconds": round(trainer.seconds, 1),
            "images_per_second": round(rate, 2),
            "seconds_left": max(0, round((trainer.total - trainer.nimg) / rate)),
            **trainer.values(),
        }
        trainer.clear_values()
        self.first, self.spent, self.began = trainer.nimg, 0.0, None
        return values

    def _pause(self, arrived: list[int]) -> None:
        """Write the checkpoint if it is due, and stop if a signal has arrived in any process."""
        due = distributed.rank() == 0 and time.perf_counter() > self.due
        number, due = distributed.agree(arrived[0] if arrived else 0, int(due))
        if number or due:
            self.save()
        if number:
            distributed.agree(0)  # no process ends before the checkpoint is written
            raise Stopped(number, self.trainer.nimg, self.outdir)

    def _spent(self) -> float:
        """The seconds that the current tick took so far."""
        return self.spent + (0 if self.began is None else time.perf_counter() - self.began)

    def save(self) -> Path:
        """Write the checkpoint; of several processes the first one does.

        Raises:
            TrainingError: a loss was NaN or infinite since the tick began.
            OSError: the file cannot be written; an earlier checkpoint stays.
        """
        self.trainer.check_numbers()
        path = self.outdir / CHECKPOINT
        if distributed.rank() == 0:
            tick = {"first": self.first, "seconds": self._spent()}
            with atomic(path) as temporary:
                torch.save({"format": FORMAT, "tick": tick, **self.trainer.state()}, temporary)
        self.due = time.perf_counter() + LATER_SECONDS
        return path


def read_checkpoint(outdir: str | os.PathLike) -> dict[str, Any]:
    """The state in a run's checkpoint, with a `files.tensors.TensorRecord` in place of each tensor.

    It is read as data, and nothing in it is executed. What the loop itself needs is checked here, and the rest by
    `Trainer.load_state`.

    Raises:
        TrainingError: there is none, or it is damaged or of another version.
    """
    path = Path(outdir) / CHECKPOINT
    try:
        return _STATE(read_saved(path, door.CHECKPOINT), "")
    except plain.Misfit as e:
        raise TrainingError(f"{path}: it is not a checkpoint of this version of stylegan-invert: {e}") from None


def read_options(
    outdir: str | os.PathLike, options_class: type, rhythm: Mapping[str, plain.Form] | None = None
) -> dict[str, Any]:
    """The contents of a run's ``training_options.json``.

    Args:
        outdir: the run's folder.
        options_class: the class that takes the values of "options"; it checks them.
        rhythm: the forms of what 'rhythm' may hold besides the intervals.

    Returns:
        The record: "options" (an object of the class), "data" (the arguments of its `PictureSet`), "pictures" (their
        number) and 'rhythm', which has the intervals of log and snapshots.

    Raises:
        TrainingError: there is none, or it is damaged.
    """
    path = Path(outdir) / OPTIONS
    intervals = {"tick_kimg": plain.number(0, 1e6, above=True), "snapshot_ticks": plain.whole(1)}
    fields = dataclasses.fields(options_class) if dataclasses.is_dataclass(options_class) else ()
    needed = [field.name for field in fields if field.default is dataclasses.MISSING]
    form = plain.table(
        {
            "options": plain.table(
                dict.fromkeys(needed, plain.anything),
                {field.name: plain.anything for field in fields},
                None if fields else plain.anything,
            ),
            "data": plain.maybe(_DATA),
            "pictures": plain.whole(),
            "rhythm": plain.table(intervals, rhythm),
        },
        more=plain.anything,
    )
    record = plain.read_json(path, OPTIONS_FILE, form)
    try:
        return {**record, "options": options_class(**record["options"])}
    except (StyleganInvertError, ValueError, TypeError) as e:
        raise TrainingError(f"{path}: options: {e}") from None


def about_data(data: PictureSet | None) -> dict[str, Any]:
    """The part of `Trainer.record` about the training set."""
    if data is None:
        return {"data": None, "pictures": 0, "left_out": {}}
    arguments = {**data.arguments, "path": os.path.abspath(data.path)}
    return {"data": arguments, "pictures": len(data.names), "left_out": data.broken}


class _Log(contextlib.AbstractContextManager):
    """``log.jsonl``, and TensorBoard events where that package is installed.

    Args:
        outdir: the run's folder.
        nimg: the pictures that the checkpoint has seen. Later lines are removed: the run computes them again.
    """

    def __init__(self, outdir: Path, nimg: int):
        path = outdir / LOG
        lines = [json.dumps(line) + "\n" for line in _lines(path) if line["nimg"] <= nimg]
        with atomic(path) as temporary:
            temporary.write_text("".join(lines))
        self._path = path
        try:
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(str(outdir), purge_step=nimg)
        except ImportError:
            self._events = None

    def write(self, values: dict[str, Any]) -> None:
        append(self._path, json.dumps(values) + "\n")
        if self._events is not None:
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self._events.add_scalar(name, value, values["nimg"])
            self._events.flush()

    def __exit__(self, *details: object) -> None:
        if self._events is not None:
            self._events.close()


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a log. A run that was killed may have left half a line at the end, which is left out.

    Raises:
        TrainingError: another line is damaged.
    """
    if path.exists():
        lines = bytes(door.read_bytes(path, _LOG_FILE)).split(b"\n")
        for number, line in enumerate(lines[:-1], 1):  # what follows the last end of a line is no whole line
            try:
                yield plain.parse_json(line, _LINE)
            except plain.Misfit as e:
                raise TrainingError(f"{path}: line {number}: {e}; delete this line to go on") from None


_LINE = plain.table({"nimg": COUNT}, more=plain.anything)
