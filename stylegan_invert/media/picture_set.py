"""Sets of pictures, for training and for studies: official dataset zips and folders, or plain folders of pictures."""

import contextlib
import io
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import ImageFileError, TrainingError, printable
from ..files.archive import Archive
from ..files.door import DATASET, PICTURE, Kind, opened, read_bytes
from ..files.door import LABELS as LABELS_FILE
from .decoding import SUFFIXES
from .labels import LABELS, parse_class_names, parse_labels
from .pictures import Fitted, read_picture
from .stream import shuffled_batches

KEEP_BYTES = 2**31  # the pixels of sets up to this size stay in memory
BIG_ENTRY = 2**25  # bytes; larger pictures of a zip are read one at a time
DIRECTORY = Kind("a zip's list of files", 2**27, TrainingError)  # that of ImageNet has about 100 MB
_one_big_entry = threading.Lock()

Labels = tuple[np.ndarray, tuple[str, ...]]


class PictureSet:
    """Pictures of one resolution, with labels if there are any.

    Pictures that are not square are cropped to the square in their centre. Pictures of another size are resized.

    Args:
        path: a zip or folder, searched with all its sub-folders. A file ``dataset.json`` at its top may hold labels, as
            in official datasets: {"labels": [["00000/img00000000.png", 3], ...]}.
        resolution: the side of the pictures in pixels; None takes the largest power of two that is not above the
            shorter side of the first picture.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).
        use_labels: True reads the labels; False makes a set without classes.
        mirror: True adds every picture a second time, mirrored.
        first: the number of the first picture that is used, in the order of names.
        last: the number of the first picture after those that are used; None uses all to the end.

    Attributes:
        what: what it holds, in words.
        names: the names of the pictures, in order; mirrored pictures have none of their own.
        labels: (len(names), c_dim) float32.
        class_names: the names of the classes, if ``dataset.json`` has them under "classes"; else none.
        resolution: the side of the pictures in pixels.
        channels: the number of channels.
        c_dim: the number of classes, or of entries of a label; 0 for a set without labels.
        broken: pictures that `check` left out, by name, with the reason.

    Raises:
        TrainingError: there are no pictures, or the labels are missing or wrong.
    """

    what = "pictures"

    def __init__(
        self,
        path: str | os.PathLike,
        resolution: int | None = None,
        channels: int = 3,
        use_labels: bool = False,
        mirror: bool = False,
        first: int = 0,
        last: int | None = None,
    ):
        self.path = os.fspath(path)
        self.channels = channels
        self.mirror = mirror
        self.broken: dict[str, str] = {}
        self._archive = None if os.path.isdir(self.path) else open_archive(self.path)
        self._pixels: np.ndarray | None = None
        everything = names_in(self.path, self._archive)
        self.names = sorted(n for n in everything if Path(n).suffix.lower() in SUFFIXES)[first:last]
        if not self.names:
            within = (
                ""
                if (first, last) == (0, None)
                else f" at {first}:{'' if last is None else last}, of {len(everything)} files"
            )
            raise TrainingError(f"{self.path}: there are no pictures in it{within}; expected PNG, JPEG or the like")
        self._span = {"first": first, "last": last}
        self.resolution = self._first_resolution() if resolution is None else resolution
        self.class_names: tuple[str, ...] = ()
        if use_labels:
            self.labels, self.class_names = read_labels(self.path, self._archive, self.names, LABELS in everything)
        else:
            self.labels = np.zeros([len(self.names), 0], "f4")
        self.c_dim = self.labels.shape[1]

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments with which the same set can be built again."""
        shape = {"path": self.path, "resolution": self.resolution, "channels": self.channels}
        return {**shape, "use_labels": self.c_dim > 0, "mirror": self.mirror, **self._span}

    @property
    def size(self) -> str:
        """The shape of a picture in words."""
        return f"{self.resolution}x{self.resolution}"

    def __len__(self) -> int:
        """The number of pictures, with the mirrored ones."""
        return len(self.names) * (1 + self.mirror)

    def check(self, progress: Any = None) -> None:
        """Decode every picture once. Pictures that cannot be decoded are left out and listed in ``broken``.

        Args:
            progress: called with the number of pictures decoded since the last call.

        Raises:
            TrainingError: no picture is left.
        """
        keep = len(self.names) * self.channels * self.resolution**2 <= KEEP_BYTES
        readable, pixels = [], []
        with ThreadPoolExecutor(_threads()) as pool:
            for i, result in enumerate(pool.map(self._try, self.names)):
                if isinstance(result, str):
                    self.broken[self.names[i]] = result
                else:
                    readable.append(i)
                    if keep:
                        pixels.append(result)
                if progress is not None:
                    progress(1)
        if not readable:
            name, reason = next(iter(self.broken.items()))
            raise TrainingError(f"{self.path}: none of its {len(self.names)} pictures can be read; {name}: {reason}")
        self.names = [self.names[i] for i in readable]
        self.labels = self.labels[readable]
        self._pixels = np.stack(pixels) if keep else None

    def pictures(self, indices: Any) -> np.ndarray:
        """Pictures (N, C, R, R) uint8, by index. The index i + len(names) stands for picture i mirrored."""
        n = len(self.names)
        plain = [self._pixels[i % n] if self._pixels is not None else self._read(self.names[i % n]) for i in indices]
        return np.stack([p[:, :, ::-1] if i >= n else p for i, p in zip(indices, plain)])

    def batches(
        self, batch: int, seed: int, start: int = 0, pinned: bool = False, rows: range | None = None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Shuffled batches without end, read ahead by other threads.

        Picture number k of the stream depends on ``seed`` and k alone. A training that stopped after ``start`` pictures
        can therefore continue with exactly the pictures it would have seen.

        Args:
            batch: the number of pictures in a batch.
            seed: the seed of the shuffling; every pass over the set has another order.
            start: the number of pictures of the stream to skip.
            pinned: True puts them into pinned memory, from which CUDA copies while the program goes on.
            rows: the rows of each batch that are read; None for all.

        Yields:
            Pictures (batch, C, R, R) uint8, and labels (batch, c_dim) float32; of ``rows`` only, if they are given.
        """

        def load(indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
            labels = self.labels[np.array(indices) % len(self.names)]
            images, c = torch.from_numpy(self.pictures(indices)), torch.from_numpy(labels)
            return (images.pin_memory(), c.pin_memory()) if pinned else (images, c)

        threads, ahead = (1, 1) if self._pixels is not None else (_threads(), 4 * _threads())
        return shuffled_batches(load, len(self), batch, seed, start, rows, threads, ahead)

    def _read(self, name: str) -> np.ndarray:
        return self._picture(name, self.resolution)[0]

    def _picture(self, name: str, resolution: int) -> tuple[np.ndarray, Fitted]:
        """The pixels of a picture of the set, and the record of how they were made."""
        if self._archive is None:
            return read_picture(os.path.join(self.path, name), resolution, self.channels, name=name)
        with _one_big_entry if self._archive.sizes[name] > BIG_ENTRY else contextlib.nullcontext():
            data = self._archive.read(name, PICTURE, printable(name, 300))
            return read_picture(io.BytesIO(data), resolution, self.channels, name=name)

    def _try(self, name: str) -> np.ndarray | str:
        """The pixels of a picture, or the reason why it cannot be read."""
        try:
            return self._read(name)
        except ImageFileError as e:
            return str(e).removeprefix(f"{printable(name, 300)}: ")
        except MemoryError:
            return "there is not enough memory for it"

    def _first_resolution(self) -> int:
        """The largest power of two up to the shorter side of the first readable picture, but at least 8."""
        reasons = []
        for name in self.names[:100]:
            try:
                size = min(self._picture(name, 8)[1].size)
                return max(8, 2 ** (size.bit_length() - 1))
            except ImageFileError as e:
                reasons.append(str(e))
        raise TrainingError(f"{self.path}: its pictures cannot be read; {reasons[0]}")


def open_archive(path: str) -> Archive:
    """A zip with a dataset.

    Raises:
        TrainingError: it is neither a folder nor a whole zip.
    """
    file = opened(path, DATASET)
    return Archive(file, path, DATASET, DIRECTORY, "it is neither a folder nor a whole zip")


def names_in(path: str, archive: Archive | None) -> set[str]:
    """The names of all files in a zip, or in a folder, with forward slashes; hidden files are left out."""
    if archive is None:
        root = Path(path)
        return {
            p.relative_to(root).as_posix()
            for p in root.rglob("*")
            if p.is_file() and not any(part[0] == "." for part in p.relative_to(root).parts)
        }
    return {name for name in archive.sizes if not name.startswith("__MACOSX")}


def read_labels(path: str, archive: Archive | None, names: Sequence[str], exists: bool) -> Labels:
    """The labels (len(names), c_dim) float32 in the file dataset.json of a set, and the names of the classes.

    ``exists`` says that there is such a file.

    Raises:
        TrainingError: there is none, or it is not as expected.
    """
    place = f"{path}: {LABELS}"
    if not exists:
        raise TrainingError(
            f"{place} is missing; labels are read from it. Without them, leave out --cond (or give --class to a study)"
        )
    if archive is None:
        text = read_bytes(os.path.join(path, LABELS), LABELS_FILE, place)
    else:
        text = archive.read(LABELS, LABELS_FILE, place)
    labels = parse_labels(text, names, place)
    return labels, parse_class_names(text, labels.shape[1], place)


def _threads() -> int:
    """The number of processor cores that this process may use, but at most 8."""
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
