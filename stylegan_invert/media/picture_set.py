"""Sets of pictures, for training and for studies: official dataset zips and folders, or plain folders of pictures."""

import io
import json
import os
import threading
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import ImageFileError, TrainingError
from .pictures import PICTURE_SUFFIXES, read_picture

KEEP_BYTES = 2**31  # the pixels of sets up to this size stay in memory
LABELS = "dataset.json"  # the file of labels in official datasets


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
        names: the names of the pictures, in order; mirrored pictures have none of their own.
        labels: (len(names), c_dim) float32.
        resolution: the side of the pictures in pixels.
        channels: the number of channels.
        c_dim: the number of classes, or of entries of a label; 0 for a set without labels.
        broken: pictures that `check` left out, by name, with the reason.

    Raises:
        TrainingError: there are no pictures, or the labels are missing or wrong.
    """

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
        self._local = threading.local()
        self._pixels: np.ndarray | None = None
        everything = self._list()
        self.names = sorted(n for n in everything if Path(n).suffix.lower() in PICTURE_SUFFIXES)[first:last]
        if not self.names:
            within = (
                ""
                if (first, last) == (0, None)
                else f" at {first}:{'' if last is None else last}, of {len(everything)} files"
            )
            raise TrainingError(f"{self.path}: there are no pictures in it{within}; expected PNG, JPEG or the like")
        self._span = {"first": first, "last": last}
        self.resolution = self._first_resolution() if resolution is None else resolution
        self.labels = self._read_labels(LABELS in everything) if use_labels else np.zeros([len(self.names), 0], "f4")
        self.c_dim = self.labels.shape[1]

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments with which the same set can be built again."""
        shape = {"path": self.path, "resolution": self.resolution, "channels": self.channels}
        return {**shape, "use_labels": self.c_dim > 0, "mirror": self.mirror, **self._span}

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
        self, batch: int, seed: int, start: int = 0, pinned: bool = False
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Shuffled batches without end, read ahead by other threads.

        Picture number k of the stream depends on ``seed`` and k alone. A training that stopped after ``start`` pictures
        can therefore continue with exactly the pictures it would have seen.

        Args:
            batch: the number of pictures in a batch.
            seed: the seed of the shuffling; every pass over the set has another order.
            start: the number of pictures of the stream to skip.
            pinned: True puts them into pinned memory, from which CUDA copies while the program goes on.

        Yields:
            Pictures (batch, C, R, R) uint8, and labels (batch, c_dim) float32.
        """
        order: dict[int, np.ndarray] = {}  # the shuffled indices of a pass (epoch) over the set

        def index(k: int) -> int:
            epoch, place = divmod(k, len(self))
            if epoch not in order:
                if len(order) > 1:
                    order.clear()
                order[epoch] = np.random.default_rng([seed, epoch]).permutation(len(self))
            return int(order[epoch][place])

        def load(indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
            labels = self.labels[np.array(indices) % len(self.names)]
            tensors = torch.from_numpy(self.pictures(indices)), torch.from_numpy(labels)
            return tuple(t.pin_memory() for t in tensors) if pinned else tensors

        ahead = 1 if self._pixels is not None else 4 * _threads()
        with ThreadPoolExecutor(1 if self._pixels is not None else _threads()) as pool:
            waiting, k = [], start
            while True:
                while len(waiting) <= ahead:
                    waiting.append(pool.submit(load, [index(k + i) for i in range(batch)]))
                    k += batch
                yield waiting.pop(0).result()

    def _list(self) -> set[str]:
        """The names of all files in the zip or folder, with forward slashes."""
        if os.path.isdir(self.path):
            root = Path(self.path)
            return {
                p.relative_to(root).as_posix()
                for p in root.rglob("*")
                if p.is_file() and not any(part[0] == "." for part in p.relative_to(root).parts)
            }
        try:
            with zipfile.ZipFile(self.path) as z:
                return {i.filename for i in z.infolist() if not i.is_dir() and not i.filename.startswith("__MACOSX")}
        except FileNotFoundError:
            raise TrainingError(f"{self.path}: there is no such file; expected a zip or a folder of pictures") from None
        except zipfile.BadZipFile:
            raise TrainingError(f"{self.path}: it is neither a folder nor a whole zip") from None

    def _open(self, name: str) -> Any:
        """A file of the set: its path in a folder, or a stream of its bytes from a zip."""
        if os.path.isdir(self.path):
            return os.path.join(self.path, name)
        if not hasattr(self._local, "zip"):  # each thread opens the zip itself, because an open file has one position
            self._local.zip = zipfile.ZipFile(self.path)
        try:
            return io.BytesIO(self._local.zip.read(name))
        except (zipfile.BadZipFile, zlib.error, OSError, NotImplementedError, RuntimeError) as e:
            raise ImageFileError(f"{name}: it cannot be read from the zip ({str(e)[:100]})") from None

    def _read(self, name: str) -> np.ndarray:
        return read_picture(self._open(name), self.resolution, self.channels, name=name)[0]

    def _try(self, name: str) -> np.ndarray | str:
        """The pixels of a picture, or the reason why it cannot be read."""
        try:
            return self._read(name)
        except ImageFileError as e:
            return str(e).removeprefix(f"{name}: ")

    def _first_resolution(self) -> int:
        """The largest power of two up to the shorter side of the first readable picture, but at least 8."""
        reasons = []
        for name in self.names[:100]:
            try:
                size = min(read_picture(self._open(name), 8, self.channels, name=name)[1].size)
                return max(8, 2 ** (size.bit_length() - 1))
            except ImageFileError as e:
                reasons.append(str(e))
        raise TrainingError(f"{self.path}: its pictures cannot be read; {reasons[0]}")

    def _read_labels(self, exists: bool) -> np.ndarray:
        """The labels (len(names), c_dim); ``exists`` says that the set has a file of labels."""
        place = f"{self.path}: {LABELS}"
        if not exists:
            raise TrainingError(f"{place} is missing; labels are read from it. Without classes, leave out --cond")
        try:
            opened = self._open(LABELS)
            text = Path(opened).read_bytes() if isinstance(opened, str) else opened.read()
        except ImageFileError as e:
            raise TrainingError(f"{self.path}: {e}") from None
        try:
            table = json.loads(text)["labels"]
            labels = {str(name).replace("\\", "/"): label for name, label in ([] if table is None else table)}
        except (ValueError, KeyError, TypeError):
            raise TrainingError(f'{place} is not as expected: {{"labels": [[name, class], ...]}}') from None
        if not labels:
            raise TrainingError(f"{place} holds no labels; leave out --cond")
        missing = [n for n in self.names if n not in labels]
        if missing:
            raise TrainingError(f"{place} has no label for {missing[0]} and {len(missing) - 1} others")
        values = [labels[n] for n in self.names]
        try:
            array = np.array(values)
            if array.ndim == 1 and array.dtype.kind in "iu" and array.min() >= 0:
                return np.eye(max(int(v) for v in labels.values()) + 1, dtype=np.float32)[array]
            if array.ndim == 2 and array.dtype.kind in "iuf":
                return array.astype(np.float32)
        except (ValueError, TypeError):
            pass
        raise TrainingError(
            f"{place}: expected one class number from 0 for each picture, or one list of numbers for each"
        )


def _threads() -> int:
    """The number of processor cores that this process may use, but at most 8."""
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
