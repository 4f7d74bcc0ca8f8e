"""A training run and its folder: log, sample grids, network files, checkpoints."""

import contextlib
import dataclasses
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..analysis.distribution import FEWEST, PictureFeatures, distances, generated_pictures
from ..analysis.sheets import grid
from ..errors import TrainingError
from ..generator import adapt
from ..io.files import atomic
from ..media.picture_set import PictureSet
from ..media.pictures import generator_pixels, write_png
from ..network_files.file import NetworkFile, save
from .configs import Options
from .gan import FORMAT, STATE, Trainer

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"
OPTIONS = "training_options.json"


@dataclasses.dataclass(frozen=True)
class Report:
    """What the caller is told after each tick: one line of the log, and the files that were written."""

    values: dict[str, Any]
    written: list[Path]


def train(
    data: PictureSet,
    options: Options,
    outdir: str | os.PathLike,
    device: torch.device | str = "cpu",
    *,
    resume: bool = False,
    start: NetworkFile | None = None,
    tick_kimg: float = 4,
    snapshot_ticks: int = 10,
    metric_samples: int = 2000,
    callback: Callable[[Report], None] | None = None,
) -> Path:
    """Train a network and write what comes of it.

    Args:
        data: the pictures; ``data.check()`` has been called.
        options: see `Options`.
        outdir: the run's folder. ``log.jsonl`` gets a line per tick; ``reals.png`` and ``fakes*.png`` are sample grids of
            real pictures and of the averaged generator; ``network-snapshot-*.pkl`` are official pickles;
            ``checkpoint.pt`` is the last checkpoint.
        device: where to compute.
        resume: go on from the folder's checkpoint. On a CPU the run then ends bit-equal to one that never stopped.
        start: networks to begin with instead of random ones, of the same sizes.
        tick_kimg: thousands of pictures between lines of the log.
        snapshot_ticks: ticks between grids, network files and checkpoints, which are also written at the end.
        metric_samples: pictures on each side, at most, for the distance that a snapshot is given; 0 for none, and fewer than
            8 give none.
        callback: called after each tick.

    Returns:
        The last network file.

    Raises:
        TrainingError: the run cannot start as asked, or a loss became nan; the last good checkpoint is named.
    """
    outdir = Path(outdir)
    if start is not None:  # its averages count from the beginning, as in official code
        options = dataclasses.replace(options, ema_rampup=0)
    if Path(data.path).is_dir() and outdir.resolve().is_relative_to(Path(data.path).resolve()):
        raise TrainingError(
            f"{outdir}: it lies in the training set's folder, and its sample grids would be taken for pictures"
        )
    trainer = Trainer(options, data, device)
    if resume:
        trainer.load_state(read_checkpoint(outdir))
    else:
        if (outdir / CHECKPOINT).exists():
            raise TrainingError(
                f"{outdir}: there is a run in it already; go on with --resume {outdir}, or choose another"
            )
        if start is not None:
            trainer.start_from(start)
        outdir.mkdir(parents=True, exist_ok=True)
        record = {
            "options": dataclasses.asdict(options),
            "data": {**data.arguments, "path": os.path.abspath(data.path)},
            "pictures": len(data.names),
            "left_out": data.broken,
            "rhythm": {"tick_kimg": tick_kimg, "snapshot_ticks": snapshot_ticks, "metric_samples": metric_samples},
            "started_from": start.file if start is not None else None,
        }
        (outdir / OPTIONS).write_text(json.dumps(record, indent=2) + "\n")
        write_png(outdir / "reals.png", _real_grid(data))
    sampler = _Sampler(trainer)
    few = min(len(data), metric_samples) < FEWEST
    measure = None if few else _Measure(data, metric_samples, trainer.device)
    with _Log(outdir, trainer.nimg) as log:
        if trainer.nimg == 0:
            write_png(outdir / "fakes000000.png", sampler())
        total = max(1, round(options.kimg * 1000))
        newest, seconds = outdir / _name(trainer.nimg), trainer.seconds
        while trainer.nimg < total:
            tick_start, began = trainer.nimg, time.perf_counter()
            trainer.loss.stats.clear()
            try:
                while trainer.nimg < total and trainer.nimg - tick_start < tick_kimg * 1000:
                    trainer.step()
                trainer.check_numbers()
            except TrainingError as e:
                there = (outdir / CHECKPOINT).exists()
                last = f"the last good checkpoint is {outdir / CHECKPOINT}" if there else "there is no checkpoint yet"
                raise TrainingError(f"{e}; {last}") from None
            rate = (trainer.nimg - tick_start) / (time.perf_counter() - began)
            seconds += time.perf_counter() - began
            trainer.seconds = seconds
            trainer.ticks += 1
            values = {
                "tick": trainer.ticks,
                "nimg": trainer.nimg,
                "kimg": trainer.nimg / 1000,
                "seconds": round(seconds, 1),
                "images_per_second": round(rate, 2),
                "seconds_left": max(0, round((total - trainer.nimg) / rate)),
                **({"augment_p": float(trainer.augment_pipe.p)} if trainer.augment_pipe is not None else {}),
                **trainer.loss.stats.means(),
            }
            written = []
            if trainer.nimg >= total or trainer.ticks % snapshot_ticks == 0:
                newest = outdir / _name(trainer.nimg)
                network = trainer.network_file(_about_data(data))
                with warnings.catch_warnings():  # of the sampling, which the command line says once
                    warnings.simplefilter("ignore", UserWarning)
                    save(network, newest)
                picture = outdir / f"fakes{trainer.nimg // 1000:06d}.png"
                write_png(picture, sampler())
                if measure is not None:
                    values.update(measure(trainer.G_ema))
                written = [newest, picture]
            log.write(values)
            if written:  # last, so that what a checkpoint promises is there
                with atomic(outdir / CHECKPOINT) as temporary:
                    torch.save(trainer.state(), temporary)
                written.append(outdir / CHECKPOINT)
            if callback is not None:
                callback(Report(values, written))
    return newest


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
    if not isinstance(state, dict) or state.get("format") != FORMAT or not STATE <= set(state):
        raise TrainingError(f"{path}: it is no checkpoint of this version of stylegan-invert")
    return state


def read_options(outdir: str | os.PathLike) -> dict[str, Any]:
    """What a run's ``training_options.json`` says.

    Raises:
        TrainingError: there is none, or it is damaged.
    """
    path = Path(outdir) / OPTIONS
    try:
        record = json.loads(path.read_text())
        Options(**record["options"])
        _ = (dict(record["data"]), dict(record["rhythm"]), int(record["pictures"]))
        return record
    except FileNotFoundError:
        raise TrainingError(f"{path}: there is no such file; expected the folder of a run that was stopped") from None
    except (ValueError, KeyError, TypeError) as e:
        raise TrainingError(f"{path}: it is damaged ({str(e)[:120]})") from None


def _name(nimg: int) -> str:
    return f"network-snapshot-{nimg // 1000:06d}.pkl"


def _about_data(data: PictureSet) -> dict[str, Any]:
    """What a network file says of its training set; no path of the machine it was made on."""
    return {
        "path": os.path.basename(os.path.normpath(data.path)),
        "pictures": len(data.names),
        "resolution": data.resolution,
        "use_labels": data.c_dim > 0,
        "xflip": data.mirror,
    }


def _columns(resolution: int) -> int:
    return int(np.clip(2048 // resolution, 3, 8))


def _real_grid(data: PictureSet) -> np.ndarray:
    side = _columns(data.resolution)
    chosen = np.random.RandomState(0).permutation(len(data.names))[: side * side]
    return grid(data.pictures(chosen), side)


class _Sampler:
    """The sample grid: the same latents every time."""

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        g = trainer.G_ema
        self.side = _columns(g.img_resolution)
        n = self.side**2
        self.z = torch.from_numpy(np.random.RandomState(0).randn(n, g.z_dim)).to(torch.float32)
        labels = trainer.data.labels
        self.c = torch.from_numpy(labels[np.arange(n) * len(labels) // n])

    def __call__(self) -> np.ndarray:
        g, device = self.trainer.G_ema, self.trainer.device
        with torch.no_grad():
            pictures = [
                generator_pixels(g(z[None].to(device), c[None].to(device), noise_mode="const")[0])
                for z, c in zip(self.z, self.c)
            ]
        return grid(np.stack(pictures), self.side)


class _Measure:
    """The distance of generated pictures to real ones; takes no part in the run's random numbers."""

    def __init__(self, data: PictureSet, samples: int, device: torch.device):
        self.samples = samples
        self.labels = torch.from_numpy(data.labels)
        self.features = PictureFeatures(device)
        chosen = np.random.RandomState(0).permutation(len(data))[:samples]
        self.real = self.features.of(
            torch.from_numpy(data.pictures(part)) for part in np.array_split(chosen, -(-len(chosen) // 64))
        )

    def __call__(self, g: torch.nn.Module) -> dict[str, Any]:
        c = self.labels if self.labels.shape[1] else None
        return distances(self.real, self.features.of(generated_pictures(adapt(g), self.samples, seed=0, c=c)))


class _Log(contextlib.AbstractContextManager):
    """``log.jsonl``, and TensorBoard events where that package is installed."""

    def __init__(self, outdir: Path, nimg: int):
        path = outdir / LOG
        # What a killed run wrote after its checkpoint is done again.
        known = [line for line in _lines(path) if line["nimg"] <= nimg]
        with atomic(path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in known))
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
    if path.exists():
        for text in path.read_text().splitlines():
            with contextlib.suppress(ValueError):  # the last line of a killed run may be half a line
                line = json.loads(text)
                if isinstance(line, dict) and isinstance(line.get("nimg"), int):
                    yield line
