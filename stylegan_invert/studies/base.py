"""Functions that all studies share: networks and pictures, the search for codes, results kept in parts, and the files
of a study.

A study is a folder. ``settings.json`` says how it was made, ``parts/`` holds the results of long computations, and
``results.json``, ``table.md`` and the figures are made from these parts. A study that was stopped goes on when it is
called again with the same settings: existing parts are read.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..analysis.paths import between
from ..errors import StyleganInvertError, printable
from ..files import plain, sharing
from ..files.arrays import read_npz
from ..files.door import PART, SETTINGS
from ..files.writing import atomic, sha256
from ..generator import Adapter, Code, GeneratorAdapter, Prior, StyleAdapter, adapt
from ..io.codes import write_codes
from ..io.gaussian_file import with_gaussian
from ..losses import Distance, picture_metrics
from ..media.picture_set import PictureSet
from ..network_files.file import NetworkFile
from ..projectors.descent import Fit, Step
from ..projectors.loss import build_loss
from ..projectors.methods import find_method
from ..projectors.projection import render_rounded
from ..projectors.projector import Projector
from ..training import distributed

LOOKS = 0.5  # seconds between two looks at what other processes have done

Progress = Callable[[int], object]
"""Called with the number of things that were done since the last call."""

Counting = Callable[[int, str], contextlib.AbstractContextManager[Progress]]
"""Opens a progress bar: called with the number of things to do and their name, it gives a context manager of a `Progress`."""


@contextlib.contextmanager
def uncounted(total: int, label: str) -> Iterator[Progress]:
    """The `Counting` of a caller that shows no progress."""
    yield lambda count: None


# Networks and pictures


def generator_of(
    net: NetworkFile, device: torch.device | str, prior: str | None = None, classes: bool = False
) -> Adapter:
    """A new adapter for the generator of a network file, which is moved to a device.

    Args:
        net: a network file.
        device: where to compute.
        prior: the distribution of z, "normal" or "uniform"; None takes the network's own.
        classes: True for a study that is also for networks with classes.

    Raises:
        StyleganInvertError: the network has classes, and ``classes`` is False.
    """
    if adapt(net.G).c_dim and not classes:
        raise StyleganInvertError(f"{net.file}: it has classes; this study is for networks without")
    generator = adapt(net.G.to(device))
    assert isinstance(generator, Adapter)  # `adapt` has made it
    return generator if prior is None else generator.with_prior(Prior(prior))


def picture_set(
    net: NetworkFile, path: str, span: tuple[int, int | None] | None = None, use_labels: bool = False
) -> PictureSet:
    """Real pictures in the shape of a network's own.

    Args:
        net: the network file.
        path: a dataset zip or a folder.
        span: take the pictures from the first to, not including, the second, in the order of their names; None takes all.
        use_labels: True reads the class of each from the set's ``dataset.json``.

    Returns:
        The set, checked: pictures that cannot be read are left out.

    Raises:
        TrainingError: no picture is left, or the labels are missing or wrong.
    """
    first, last = span or (0, None)
    channels, side, _ = adapt(net.G).output_shape
    data = PictureSet(path, side, channels, use_labels, first=first, last=last)
    data.check()
    return data


def first_pictures(data: PictureSet, generator: GeneratorAdapter, limit: int) -> np.ndarray:
    """The first pictures of a set, at most ``limit``: (N, C, R, R) uint8.

    Raises:
        StyleganInvertError: the pictures do not have the shape of the generator's.
    """
    channels, side, _ = generator.output_shape
    came, expected = (data.resolution, data.channels), (side, channels)
    if came != expected:
        raise StyleganInvertError(
            f"{data.path}: its pictures are read as {came[0]}x{came[0]} with {came[1]} channels; this network makes "
            f"{expected[0]}x{expected[0]} with {expected[1]}. studies.base.picture_set reads them as the network needs"
        )
    return data.pictures(range(min(limit, len(data.names))))


def rendered(generator: GeneratorAdapter, codes: Iterable[Code]) -> np.ndarray:
    """The pictures (N, C, R, R) uint8 of codes, each rendered alone."""
    return np.stack([render_rounded(generator, one) for one in codes])


def find_gaussian(generator: Adapter, counting: Counting) -> StyleAdapter:
    """The generator with the Gaussian of its V space: from the cache, or from samples, which are counted.

    Raises:
        ValueError: the network has no V.
    """
    with contextlib.ExitStack() as stack:
        bars: list[Progress] = []  # none while nothing has to be sampled
        counted = 0

        def progress(done: int, total: int) -> None:
            nonlocal counted
            if not bars:
                bars.append(stack.enter_context(counting(total, "samples of w")))
            bars[0](done - counted)
            counted = done

        found = with_gaussian(generator, progress=progress)
        assert isinstance(found, StyleAdapter)  # no other network has a Gaussian of V
        return found


# The search for codes


def distance_of(loss: str, device: torch.device | str) -> tuple[Distance, dict[str, Any]]:
    """The distance that a text such as "lpips-squeeze=1,mse=1" names, and its entries in a study's settings."""
    return build_loss(loss, {}, torch.device(device))


def fit(
    method: str,
    generator: GeneratorAdapter,
    target: torch.Tensor,
    loss: Distance,
    start: Code | None,
    options: Mapping[str, Any],
    callback: Callable[[Step], object] | None = None,
    class_idx: int | None = None,
) -> Fit:
    """Find the codes of pictures. Studies call the projectors here; only the study of speed makes and times its own.

    Args:
        method: "w", which searches in the space of its start (W, W+, V or V+), "z" or "dense".
        generator: the network's adapter.
        target: pictures (N, C, R, R) float32 in [-1, 1].
        loss: the distance.
        start: codes (N); None draws latents from the prior, for "z" and "dense".
        options: options of the method, by name. Those without effect beside the others are left out, since the settings of a
            study serve several searches.
        callback: called after each step.
        class_idx: the class of all pictures, for a network with classes.

    Raises:
        ProjectionError: an option has a value that the method does not accept, or a distance is NaN or infinite.
    """
    name = start.space if method == "w" and start is not None else method
    idle = find_method(name).options(**options).without_effect()
    options = {key: value for key, value in options.items() if key not in idle}
    return Projector(generator, name, loss=loss, class_idx=class_idx, **options).fit(target, start, callback)


# Results in parts


class Part(NamedTuple):
    """Pictures of one set that are searched together in one way.

    Attributes:
        name: the set's name.
        way: how they are searched; it has the attribute ``steps``.
        first: the number of the first of them in the set.
        pixels: the pictures (n, C, R, R) uint8.
        file: the name of the file that keeps the result.
    """

    name: str
    way: Any
    first: int
    pixels: np.ndarray
    file: str

    @property
    def work(self) -> int:
        """The size of the part in the progress: pictures times steps. A search without steps counts as one step."""
        return len(self.pixels) * max(self.way.steps, 1)


def split(name: str, way: Any, pictures: np.ndarray, batch: int, file: str) -> list[Part]:
    """The parts of one set in one way.

    Args:
        name, way: see `Part`.
        pictures: (N, C, R, R) uint8.
        batch: the largest number of pictures in a part.
        file: the name of the files, with a field for the number of the first picture, as "real-w-{:04d}.npz".
    """
    starts = range(0, len(pictures), batch)
    return [Part(name, way, first, pictures[first : first + batch], file.format(first)) for first in starts]


Arrays = dict[str, np.ndarray]


def find_parts(
    parts: Sequence[Part], folder: Path, find: Callable[[Part, Progress], Arrays], counting: Counting
) -> dict[tuple[str, Any], list[Arrays]]:
    """Compute all parts that are not in the folder yet, and read the others.

    Processes with the same folder share the parts, those of torchrun and any others: each takes what nobody else has. Of
    torchrun's, the first waits for the others, and goes on alone.

    Args:
        parts: see `split`.
        folder: the folder of their files; made if it is missing.
        find: computes a part. It reports the part's `Part.work` to the `Progress` that it is given.
        counting: shows the progress.

    Returns:
        The arrays of the parts by set and way, in the order of the parts.

    Raises:
        ShareDone: this is not the first process of torchrun, and no part is left for it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rank, count = distributed.place()
    todo = {part.file: part for part in sharing.in_turn(parts, rank, count)}
    with counting(sum(part.work for part in parts), "steps") as progress:

        def found(name: str) -> bool:
            if name in todo and (folder / name).exists():
                progress(todo.pop(name).work)
            return name not in todo

        def wait() -> None:
            for name in list(todo):
                found(name)
            time.sleep(LOOKS)

        claims = sharing.Claims(folder / sharing.FILE)
        for (name,) in claims.each(list(todo), found, None if rank else wait):
            write_codes(folder / name, find(todo.pop(name), progress))
    if rank:
        raise ShareDone
    results: dict[tuple[str, Any], list[Arrays]] = {}
    for part in parts:
        results.setdefault((part.name, part.way), []).append(read_part(folder / part.file))
    return results


class ShareDone(Exception):
    """A process of torchrun has nothing more to do for a study; the first process ends it."""


def read_part(path: Path) -> Arrays:
    """The arrays of a part's file.

    Raises:
        StyleganInvertError: the file is damaged.
    """
    try:
        return read_npz(path, PART)
    except StyleganInvertError as e:
        raise StyleganInvertError(f"{e}. Delete it, and the study computes it again") from None


def stacked(parts: Sequence[Arrays], key: str) -> np.ndarray:
    """One array of several parts, one below the other."""
    return np.concatenate([part[key] for part in parts])


# Measures


def metrics(pictures: np.ndarray, images: np.ndarray, lpips: Distance) -> Arrays:
    """LPIPS, PSNR and SSIM of each of some pictures (N, C, R, R) uint8 and their reconstructions, of the same shape.

    Returns:
        "lpips", "psnr" and "ssim", (N,) float64; nan where `picture_metrics` gives None.
    """
    rows = [
        picture_metrics(torch.from_numpy(a), torch.from_numpy(b), {"lpips": lpips}) for a, b in zip(pictures, images)
    ]
    return {key: np.array([row[key] for row in rows], dtype=np.float64) for key in ("lpips", "psnr", "ssim")}


def midpoints(generator: GeneratorAdapter, pairs: Iterable[tuple[Code, Code]]) -> np.ndarray:
    """The pictures (N, C, R, R) uint8 half-way between the codes (one each) of pairs."""
    return rendered(generator, (between(generator, a, b, [0.5])[0] for a, b in pairs))


def quartiles(values: Sequence[float] | np.ndarray) -> list[float]:
    """Lower quartile, median and upper quartile."""
    return np.quantile(np.array(values, dtype=np.float64), [0.25, 0.5, 0.75]).tolist()


# The files of a study


def hashes(sets: Mapping[str, np.ndarray]) -> dict[str, str]:
    """SHA-256 of the pixels of each set. As a part of the settings it keeps a study from going on with other pictures."""
    return {name: sha256(pictures.tobytes()) for name, pictures in sets.items()}


def begin(outdir: str | os.PathLike, settings: dict[str, Any], shared: bool = False) -> Path:
    """Make the folder of a study and write ``settings.json``; if there is one, check that it says the same.

    Args:
        outdir: the folder.
        settings: what the results depend on.
        shared: True if the study is computed in parts, by `find_parts`, so that several processes can share it.

    Returns:
        The folder.

    Raises:
        StyleganInvertError: several processes were started for a study that cannot be shared; or the folder holds another
            study, or its ``settings.json`` is damaged.
    """
    if distributed.launched() and not shared:
        raise StyleganInvertError("this study works with one process only; start it without torchrun")
    folder = Path(outdir)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "settings.json"
    if not path.exists():
        _write(path, json.dumps(settings, indent=2) + "\n")
        return folder
    try:
        earlier = plain.read_json(path, SETTINGS, plain.named(plain.anything))
    except StyleganInvertError as e:
        raise StyleganInvertError(
            f"{e}. The settings of this study are unknown; delete the folder or choose another --outdir"
        ) from None
    now = json.loads(json.dumps(settings))
    different = [key for key in {**now, **earlier} if now.get(key) != earlier.get(key)]
    if different:
        raise StyleganInvertError(
            f"{folder}: it holds a study with other options or of another network (different: "
            f"{printable(', '.join(different), 200)}); "
            "choose another --outdir"
        )
    return folder


def finish(folder: Path, results: dict[str, Any], table: str) -> dict[str, Any]:
    """Write ``results.json`` and ``table.md``; returns the results."""
    _write(folder / "results.json", json.dumps(results, indent=2) + "\n")
    _write(folder / "table.md", table)
    return results


def _write(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text)


def table_of_sets(results: Mapping[str, Any], columns: Mapping[str, tuple[str, int]]) -> str:
    """Means of the ways of a study as Markdown: a table for each set, a row for each way.

    Args:
        results: "sets" has the rows of each set by name, with their values by name; "pictures" has the sizes of the sets.
        columns: the title of each value, and its digits.
    """
    lines = []
    for name, rows in results["sets"].items():
        titles = " | ".join(title for title, _ in columns.values())
        lines += [
            f"| {results['pictures'][name]:,} {name} pictures | {titles} |",
            "|---" + "|---:" * len(columns) + "|",
        ]
        for way, row in rows.items():
            cells = [f"{row[key]:.{digits}f}" if key in row else "" for key, (_, digits) in columns.items()]
            lines.append(f"| {way} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)
