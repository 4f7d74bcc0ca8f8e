"""Sets of sounds, for training and for studies: zips or folders of WAVs."""

import fnmatch
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import ImageFileError, SoundFileError, TrainingError, printable
from .labels import LABELS, MAX_CLASSES
from .picture_set import names_in, open_archive, read_labels
from .reading import SoundReading
from .sound_medium import Sounds
from .sounds import SUFFIXES
from .stream import shuffled_batches
from .targets import ZipPicture

LABEL_SOURCES = ("none", "file", "names")
KEEP_BYTES = 2**32  # all sounds of a set stay in memory, as 16-bit numbers


class SoundSet:
    """Sounds of one length and sample rate, with labels if there are any.

    Each sound is read as a target is (`sound_medium.Sounds.read`): brought to the sample rate, mixed to one channel, cut
    behind the length, and filled up with silence if it is shorter.

    Args:
        path: a zip or folder, searched with all its sub-folders.
        length: the samples of a sound.
        sample_rate: samples per second.
        level: "as-is" or "peak", see `reading.SoundReading`.
        labels: "none"; "file" reads them from ``dataset.json``, as `picture_set.PictureSet` does; "names" takes the number
            before the first "_" in the name of each file as its class, as in "7_jackson_32.wav".
        only: patterns such as "*_jackson_*" of which the names of the files that are used match at least one; () for all.
        leave_out: patterns of which these names match none.

    Attributes:
        what: what it holds, in words.
        names: the names of the sounds, in order.
        labels: (len(names), c_dim) float32.
        class_names: as for pictures; none unless ``labels`` is "file".
        c_dim: the number of classes, or of entries of a label; 0 for a set without labels.
        broken: sounds that `check` left out, by name, with the reason.

    Raises:
        TrainingError: there are no sounds, or the labels are missing or wrong.
    """

    what = "recordings"

    def __init__(
        self,
        path: str | os.PathLike,
        length: int,
        sample_rate: int,
        level: str = "as-is",
        labels: str = "none",
        only: Sequence[str] = (),
        leave_out: Sequence[str] = (),
    ):
        self.path = os.fspath(path)
        self.length, self.sample_rate, self.level, self._source = length, sample_rate, level, labels
        self.only, self.leave_out = tuple(only), tuple(leave_out)
        self.medium = Sounds((1, length), sample_rate)
        self.broken: dict[str, str] = {}
        self._archive = None if os.path.isdir(self.path) else open_archive(self.path)
        self._samples: np.ndarray | None = None
        everything = names_in(self.path, self._archive)
        sounds = sorted(name for name in everything if Path(name).suffix.lower() in SUFFIXES)
        self.names = [name for name in sounds if self._wanted(name)]
        if not self.names:
            matching = f" whose names match, of {len(sounds)}" if sounds else ""
            raise TrainingError(f"{self.path}: there are no sounds in it{matching}; expected WAVs")
        if 2 * len(self.names) * length > KEEP_BYTES:
            raise TrainingError(
                f"{self.path}: {len(self.names):,} sounds of {length:,} samples would take more than {KEEP_BYTES:,} bytes of "
                "memory; take fewer of them (--only), or a smaller --length"
            )
        self.class_names: tuple[str, ...] = ()
        if labels == "file":
            self.labels, self.class_names = read_labels(self.path, self._archive, self.names, LABELS in everything)
        elif labels == "names":
            self.labels = _labels_of_names(self.names)
        elif labels == "none":
            self.labels = np.zeros([len(self.names), 0], np.float32)
        else:
            raise TrainingError(f"labels is {labels!r}; expected one of {', '.join(LABEL_SOURCES)}")
        self.c_dim = self.labels.shape[1]

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments with which the same set can be built again."""
        shape = {"path": self.path, "length": self.length, "sample_rate": self.sample_rate, "level": self.level}
        return {**shape, "labels": self._source, "only": list(self.only), "leave_out": list(self.leave_out)}

    @property
    def size(self) -> str:
        """The shape of a sound in words."""
        return self.medium.describe()

    def __len__(self) -> int:
        """The number of sounds."""
        return len(self.names)

    def check(self, progress: Any = None) -> None:
        """Read every sound into memory. Those that cannot be read are left out and listed in ``broken``.

        Args:
            progress: called with the number of sounds read since the last call.

        Raises:
            TrainingError: no sound is left.
        """
        samples, readable = [], []
        for i, name in enumerate(self.names):
            try:
                samples.append(self._read(name))
                readable.append(i)
            except (SoundFileError, ImageFileError) as e:
                self.broken[name] = str(e)
            if progress is not None:
                progress(1)
        if not readable:
            name, reason = next(iter(self.broken.items()))
            raise TrainingError(f"{self.path}: none of its {len(self.names)} sounds can be read; {name}: {reason}")
        self.names = [self.names[i] for i in readable]
        self.labels = self.labels[readable]
        self._samples = np.stack(samples)

    def sounds(self, indices: Any) -> np.ndarray:
        """Sounds (N, 1, length) int16, by index, as a WAV stores them: 32767 stands for 1."""
        if self._samples is not None:
            return self._samples[np.asarray(indices, np.int64)]
        return np.stack([self._read(self.names[i]) for i in indices])

    def batches(
        self, batch: int, seed: int, start: int = 0, pinned: bool = False, rows: range | None = None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Shuffled batches without end; see `picture_set.PictureSet.batches`.

        Yields:
            Sounds (batch, 1, length) int16, and labels (batch, c_dim) float32.
        """

        def load(indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
            sounds, c = torch.from_numpy(self.sounds(indices)), torch.from_numpy(self.labels[np.array(indices)])
            return (sounds.pin_memory(), c.pin_memory()) if pinned else (sounds, c)

        return shuffled_batches(load, len(self), batch, seed, start, rows)

    def _wanted(self, name: str) -> bool:
        name = name.rpartition("/")[2]
        wanted = not self.only or any(fnmatch.fnmatchcase(name, pattern) for pattern in self.only)
        return wanted and not any(fnmatch.fnmatchcase(name, pattern) for pattern in self.leave_out)

    def _read(self, name: str) -> np.ndarray:
        there = os.path.join(self.path, name) if self._archive is None else ZipPicture(self._archive, self.path, name)
        return self.medium.read(there, SoundReading(level=self.level))[0]


def _labels_of_names(names: Sequence[str]) -> np.ndarray:
    """One-hot labels (len(names), classes) float32 of the numbers with which the names of files begin."""
    numbers = []
    for name in names:
        match = re.match(r"([0-9]{1,5})_", name.rpartition("/")[2])
        if match is None or int(match[1]) >= MAX_CLASSES:
            raise TrainingError(
                f"{printable(name, 100)}: its name does not begin with the number of its class and '_', as 7_jackson_32.wav"
            )
        numbers.append(int(match[1]))
    return np.eye(max(numbers) + 1, dtype=np.float32)[numbers]
