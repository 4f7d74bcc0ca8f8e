"""What a generator makes, as projectors and results see it: a small contract, and the table of what meets it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch

from ..generator import GeneratorAdapter
from ..losses import Distance
from .picture_medium import Pictures


class Medium(Protocol):
    """One kind of output. A target is an array of ``shape``, as it is stored in a file; generators see it as a tensor.

    Attributes:
        reading: a dataclass of the options of ``read``, made with `stylegan_invert.options.option`.
        target_file: the name of the target in the folder of a result.
        output_file: the name of the output there.
        steps_file: the name of the record of all steps there, as a video.
        default_loss: the loss if neither the user nor the method names one.
        shape: of one output as an array.
    """

    reading: ClassVar[type]
    target_file: ClassVar[str]
    output_file: ClassVar[str]
    steps_file: ClassVar[str]
    default_loss: ClassVar[str]
    shape: tuple[int, ...]

    def read(self, target: Any, options: Any) -> tuple[np.ndarray, dict[str, Any] | str]:
        """An array from a path, or from an array or tensor that has the shape already; and how it was made.

        Raises:
            ValueError: it cannot be read, or does not fit.
        """

    def describe(self) -> str:
        """The shape in words, for a person."""

    def about(self) -> dict[str, Any]:
        """The shape as a result says it of its network."""

    def tensor(self, arrays: np.ndarray | torch.Tensor, device: torch.device | str) -> torch.Tensor:
        """Arrays (N, *shape) as the generator makes them: float32 in [-1, 1]."""

    def rounded(self, output: torch.Tensor) -> np.ndarray:
        """One output of the generator (*shape) as it is stored."""

    def write(self, path: str | os.PathLike, array: np.ndarray) -> None:
        """Write an array, at once or not at all."""

    @staticmethod
    def read_back(path: str | os.PathLike) -> np.ndarray:
        """What ``write`` has written, to the last bit."""

    def write_steps(self, path: Path, target: np.ndarray, outputs: Iterator[np.ndarray]) -> None:
        """Write the target beside the output after each step."""

    def metrics(self, target: torch.Tensor, output: torch.Tensor, reported: dict[str, Distance]) -> dict[str, Any]:
        """Numbers that say how near a stored output is to a stored target, with the ``reported`` distances by name."""

    def reported(self, loss: Distance) -> tuple[dict[str, Distance], dict[str, Any]]:
        """The distances that results are reported in, by name, and what else a result says of them."""


MEDIA: dict[str, type] = {"picture": Pictures}
"""By the name that a generator gives in ``medium``."""


def medium_of(generator: GeneratorAdapter) -> Medium:
    """The medium of a generator, in the shape of its outputs."""
    return MEDIA[generator.medium](generator.output_shape)
