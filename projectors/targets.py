"""The targets of a run: looked at once before the work begins, and given to it when their turn comes."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from stylegan_invert.errors import ProjectionError
from stylegan_invert.media.medium import Medium
from stylegan_invert.options import check_options

Target = str | os.PathLike | torch.Tensor | np.ndarray
KEEP_BYTES = 2**26  # of decoded targets; beyond that they are read again when their turn comes


class Targets:
    """What is to be projected, in order.

    Args:
        targets: files, or arrays or tensors in the shape of the medium.
        medium: of the generator; it reads them.
        reading: options of ``medium.reading``, by name.

    Raises:
        ProjectionError: an option is unknown or wrong.
        ValueError: one of them cannot be read.
    """

    def __init__(self, targets: Sequence[Target], medium: Medium, reading: dict[str, Any]):
        check_options(medium.reading, reading, ProjectionError)
        self.targets, self.medium, self.options = list(targets), medium, medium.reading(**reading)
        self._kept: dict[int, tuple[np.ndarray, dict[str, Any] | str]] = {}
        room = KEEP_BYTES
        for i in range(len(self)):  # before hours of work
            array, about = self[i]
            room -= array.nbytes
            if room >= 0:
                self._kept[i] = (array, about)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i: int) -> tuple[np.ndarray, dict[str, Any] | str]:
        """A target as an array, and how it was made."""
        return self._kept[i] if i in self._kept else self.medium.read(self.targets[i], self.options)
