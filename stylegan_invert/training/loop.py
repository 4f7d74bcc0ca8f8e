"""The training loop of any `Trainer`, and the folder of a run: log, options, checkpoints."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from ..errors import TrainingError
from ..files.writing import atomic
from ..media.picture_set import PictureSet

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"
OPTIONS = "training_options.json"
FORMAT = 1  # the version of the format of checkpoints


class Trainer(Protocol):
    """The interface that the loop needs.

    Attributes:
        data: the training set, for which ``data.check()`` has been called; None if there is none.
        nimg: the pictures that were shown so far.
        total: the pictures to show in all.
        ticks: the ticks of the run so far. The loop sets it.
        seconds: the time of the run so far. The loop sets it.
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
        """Everything that a checkpoint must hold, as tensors and plain values; "nimg" is among it."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned. Raises TrainingError if it does not fit."""


@dataclass(frozen=True)
class Report:
    """A report to the caller after each tick.

    Attributes:
        values: the line of the log.
        written: the files that were written.
    """

    values: dict[str, Any]
    written: list[Path]


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

    Args:
        trainer: a new `Trainer`.
        outdir: the run's folder. ``log.jsonl`` gets a line per tick, ``checkpoint.pt`` is the last checkpoint,
            ``training_options.json`` says how the run was begun; the trainer writes networks and samples.
        resume: go on from the folder's checkpoint. On a CPU the run then ends equal to the last bit to one that
            never stopped.
        tick_kimg: thousands of pictures between lines of the log.
        snapshot_ticks: ticks between snapshots and checkpoints, which are also written at the end.
        callback: called after each tick.

    Returns:
        The file of the last network.

    Raises:
        TrainingError: the run cannot start as asked, or a loss is NaN or infinite; the last good checkpoint is
            named.
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
    if resume:
        trainer.load_state(read_checkpoint(outdir))
    else:
        _begin(trainer, outdir, {"tick_kimg": tick_kimg, "snapshot_ticks": snapshot_ticks})
    network = trainer.network_path(outdir)
    with _Log(outdir, trainer.nimg) as log:
        while trainer.nimg < trainer.total:
            values, written = _tick(trainer, outdir, tick_kimg), []
            if trainer.nimg >= trainer.total or trainer.ticks % snapshot_ticks == 0:
                network = trainer.network_path(outdir)
                written, measured = trainer.snapshot(outdir)
                values |= measured
            log.write(values)
            if written:  # the checkpoint comes last: the files and the log that belong to it are there already
                written = [*written, _write_checkpoint(trainer, outdir)]
            if callback is not None:
                callback(Report(values, written))
    return network


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


def _tick(trainer: Trainer, outdir: Path, tick_kimg: float) -> dict[str, Any]:
    """Train until the next line of the log is due; returns the line."""
    first, began = trainer.nimg, time.perf_counter()
    trainer.clear_values()
    try:
        while trainer.nimg < trainer.total and trainer.nimg - first < tick_kimg * 1000:
            trainer.step()
        trainer.check_numbers()
    except TrainingError as e:
        there = (outdir / CHECKPOINT).exists()
        last = f"the last good checkpoint is {outdir / CHECKPOINT}" if there else "there is no checkpoint yet"
        raise TrainingError(f"{e}; {last}") from None
    seconds = time.perf_counter() - began
    rate = (trainer.nimg - first) / seconds
    trainer.seconds += seconds
    trainer.ticks += 1
    return {
        "tick": trainer.ticks,
        "nimg": trainer.nimg,
        "kimg": trainer.nimg / 1000,
        "seconds": round(trainer.seconds, 1),
        "images_per_second": round(rate, 2),
        "seconds_left": max(0, round((trainer.total - trainer.nimg) / rate)),
        **trainer.values(),
    }


def _write_checkpoint(trainer: Trainer, outdir: Path) -> Path:
    with atomic(outdir / CHECKPOINT) as temporary:
        torch.save({"format": FORMAT, **trainer.state()}, temporary)
    return outdir / CHECKPOINT


def read_checkpoint(outdir: str | os.PathLike) -> dict[str, Any]:
    """The state in a run's checkpoint. It is read as data.

    Raises:
        TrainingError: there is none, or it is damaged or of another version.
    """
    path = Path(outdir) / CHECKPOINT
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise TrainingError(f"{path}: there is no such file; expected the folder of a run that was stopped") from None
    except Exception as e:  # torch.load raises many kinds on damaged files
        raise TrainingError(f"{path}: it is damaged ({(str(e) or type(e).__name__).splitlines()[0][:120]})") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT or not isinstance(state.get("nimg"), int):
        raise TrainingError(f"{path}: it is not a checkpoint of this version of stylegan-invert")
    return state


def read_options(outdir: str | os.PathLike, options_class: type) -> dict[str, Any]:
    """The contents of a run's ``training_options.json``.

    Args:
        outdir: the run's folder.
        options_class: the class that takes the values of "options".

    Returns:
        The record: "options" (an object of the class), "data" (the arguments of its `PictureSet`), "pictures" (their
        number) and 'rhythm', which has the intervals of log and snapshots.

    Raises:
        TrainingError: there is none, or it is damaged.
    """
    path = Path(outdir) / OPTIONS
    try:
        record = json.loads(path.read_bytes())
        return {
            **record,
            "options": options_class(**record["options"]),
            "data": None if record["data"] is None else dict(record["data"]),
            "pictures": int(record["pictures"]),
            "rhythm": dict(record["rhythm"]),
        }
    except FileNotFoundError:
        raise TrainingError(f"{path}: there is no such file; expected the folder of a run that was stopped") from None
    except (ValueError, KeyError, TypeError) as e:
        raise TrainingError(f"{path}: it is damaged ({str(e)[:120]})") from None


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
        lines = [line for line in _lines(path) if line["nimg"] <= nimg]
        with atomic(path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in lines))
        self._file = open(path, "a")
        try:
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(str(outdir), purge_step=nimg)
        except ImportError:
            self._events = None

    def write(self, values: dict[str, Any]) -> None:
        self._file.write(json.dumps(values) + "\n")
        self._file.flush()
        if self._events is not None:
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self._events.add_scalar(name, value, values["nimg"])
            self._events.flush()

    def __exit__(self, *details: object) -> None:
        self._file.close()
        if self._events is not None:
            self._events.close()


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a log; the last one of a run that was killed may be half a line."""
    if path.exists():
        for text in path.read_text().splitlines():
            with contextlib.suppress(ValueError):
                line = json.loads(text)
                if isinstance(line, dict) and isinstance(line.get("nimg"), int):
                    yield line
