"""The targets of a run. They are read before the run begins, unless the caller says otherwise, and when they are needed."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from stylegan_invert.errors import ProjectionError
from stylegan_invert.media.medium import Medium
from stylegan_invert.media.targets import ZipPicture
from stylegan_invert.options import check_options

Target = str | os.PathLike | ZipPicture | torch.Tensor | np.ndarray
# Decoded targets up to this many bytes are kept in memory; the others are read again when needed.
KEEP_BYTES = 2**26


class Targets:
    """The targets to project, in order.

    Args:
        targets: files, or arrays or tensors in the shape of the medium.
        medium: the medium of the generator; it reads the targets.
        reading: the options of ``medium.reading``, by name.
        read_first: True reads all of them now, so that a bad file is reported before the long run.

    Raises:
        ProjectionError: an option is unknown or wrong.
        ValueError: one of them cannot be read.
    """

    def __init__(self, targets: Sequence[Target], medium: Medium, reading: dict[str, Any], read_first: bool = True):
        check_options(medium.reading, reading, ProjectionError)
        self.targets, self.medium, self.options = list(targets), medium, medium.reading(**reading)
        self.options.check(self.targets)
        self._kept: dict[int, tuple[np.ndarray, dict[str, Any] | str]] = {}
        room = KEEP_BYTES
        for i in range(len(self) if read_first else 0):
            array, about = self[i]
            room -= array.nbytes
            if room >= 0:
                self._kept[i] = (array, about)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i: int) -> tuple[np.ndarray, dict[str, Any] | str]:
        """The target as an array, and the record of how it was read."""
        return self._kept[i] if i in self._kept else self.medium.read(self.targets[i], self.options)
