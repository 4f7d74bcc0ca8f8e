"""The medium: the kind of output that a generator makes: pictures or sounds.

Projectors and results handle outputs through `Medium` alone. `MEDIA` lists the kinds there are.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch

from ..generator import GeneratorAdapter
from ..losses import Distance
from .picture_medium import Pictures
from .sound_medium import Sounds


class Medium(Protocol):
    """One kind of output.

    An output or target has two forms: a NumPy array of ``shape`` with the values that a file stores, and a float32
    tensor of the same shape in [-1, 1], as the generator makes it.

    Attributes:
        reading: a dataclass with the options of ``read``, made with `stylegan_invert.options.option`. Its method
            ``check(targets)`` refuses targets that the options do not suit.
        suffixes: the endings of the names of its files, in lower case.
        facts: the names in ``about()`` of the further arguments of the class, besides the shape.
        target_file: the name of the target's file in the folder of a result.
        output_file: the name of the output's file in the folder of a result.
        steps_file: the name of the file there that shows the output after every step, as a video.
        sequence_file: the name of the file that shows several outputs one after another.
        truth_file: the name of the file there with the whole target, if the target is an observation of it.
        composed_file: the name of the file there with the output into which was put what the target shows of it.
        default_loss: the loss that is used if neither the user nor the method chooses one.
        shape: the shape of one output, without a batch axis.
    """

    reading: ClassVar[type[Any]]
    suffixes: ClassVar[frozenset[str]]
    facts: ClassVar[tuple[str, ...]]
    target_file: ClassVar[str]
    output_file: ClassVar[str]
    steps_file: ClassVar[str]
    sequence_file: ClassVar[str]
    truth_file: ClassVar[str]
    composed_file: ClassVar[str]
    default_loss: ClassVar[str]
    shape: tuple[int, ...]

    def __init__(self, shape: tuple[int, ...], **facts: Any): ...

    @classmethod
    def check_file(cls, target: Any, options: Any) -> None:
        """Read a file far enough to know that ``read`` can, whatever the shape.

        Raises:
            ValueError: as for ``read``.
        """

    def read(self, target: Any, options: Any) -> tuple[np.ndarray, dict[str, Any] | str]:
        """Read a target and bring it to ``shape``.

        Args:
            target: the path of a file, or an array or tensor that already has the shape and type.
            options: an instance of ``reading``.

        Returns:
            The array, and a record of how it was made.

        Raises:
            ValueError: it cannot be read, or has a wrong shape or type.
        """

    def describe(self) -> str:
        """The shape in words, for messages ("32x32")."""

    def about(self) -> dict[str, Any]:
        """The shape as a result records it of its network ({"resolution": 32})."""

    def tensor(self, arrays: np.ndarray | torch.Tensor, device: torch.device | str) -> torch.Tensor:
        """Convert arrays (N, *shape) to a tensor as the generator makes it: float32 in [-1, 1], on a device."""

    def nearest(self, outputs: torch.Tensor) -> torch.Tensor:
        """Convert tensors (N, *shape) to the values that a file stores, on the CPU: those that are nearest. It is the
        inverse of ``tensor``."""

    def rounded(self, output: torch.Tensor, rounding: str = "projector") -> np.ndarray:
        """Convert one output of the generator (*shape) to an array with the values that a file stores.

        Args:
            output: (*shape) float32.
            rounding: "projector" or "generate": pictures are rounded as that official program does. Other media have one
                way, whatever this says.
        """

    def write(self, path: str | os.PathLike, array: np.ndarray) -> None:
        """Write an array to a file. A failure leaves no half-written file."""

    @staticmethod
    def read_back(path: str | os.PathLike) -> np.ndarray:
        """Read a file of ``write``: exactly the array that was written."""

    def seen(self, array: np.ndarray) -> np.ndarray:
        """A picture (C, H, W) uint8 that shows an array to a person; of sounds their spectrogram."""

    def heard(self, array: np.ndarray) -> tuple[str, bytes] | None:
        """For a player on a page, the MIME type and the bytes of a file of the array; None for what is not heard."""

    def write_beside(self, folder: Path, target: np.ndarray, output: np.ndarray) -> None:
        """Write what helps a person to compare the two, besides their own files."""

    def write_sequence(self, path: Path, arrays: list[np.ndarray]) -> None:
        """Write several arrays one after another, as one video or sound."""

    def write_steps(self, path: Path, target: np.ndarray, outputs: Iterator[np.ndarray]) -> None:
        """Write the target beside the output after each step."""

    def metrics(self, target: torch.Tensor, output: torch.Tensor, reported: dict[str, Distance]) -> dict[str, Any]:
        """Measures of how similar a stored output is to a stored target, by name.

        Args:
            target: the stored values (*shape), as a tensor.
            output: the stored values (*shape), as a tensor.
            reported: further distances to measure, by name.
        """

    def reported(self, loss: Distance) -> tuple[dict[str, Distance], dict[str, Any]]:
        """The distances in which a result is reported, by name, and further facts about them for its record."""


MEDIA: dict[str, type[Medium]] = {"picture": Pictures, "sound": Sounds}
"""The media by the name that a generator has in its attribute ``medium``."""


def medium_of(generator: GeneratorAdapter) -> Medium:
    """The medium of a generator, with the shape of its outputs."""
    return MEDIA[generator.medium](generator.output_shape, **generator.medium_facts)


def medium_of_file(target: Any) -> type[Medium]:
    """The class of the medium that a file belongs to by the ending of its name; that of pictures if none has it."""
    suffix = os.path.splitext(str(target))[1].lower()
    return next((medium for medium in MEDIA.values() if suffix in medium.suffixes), Pictures)
