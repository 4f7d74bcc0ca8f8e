"""Pictures as a medium: square, with 8 bits per channel, in PNG files."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from ..errors import ImageFileError
from ..losses import DEFAULT_LOSS, Distance, picture_metrics, reported_lpips
from .alignment import read_aligned
from .decoding import SUFFIXES
from .pictures import as_images, generator_pixels, nearest_pixels, projector_pixels, read_picture, read_png, write_png
from .reading import PictureReading
from .targets import ZipPicture
from .video import write_mp4


class Pictures:
    """Square pictures of one size; see `medium.Medium`. File names and rounding are those of the official projector.

    Args:
        shape: (C, R, R): the number of channels, and the side in pixels twice.
    """

    reading: ClassVar[type[Any]] = PictureReading
    suffixes: ClassVar[frozenset[str]] = SUFFIXES
    facts: ClassVar[tuple[str, ...]] = ()
    target_file: ClassVar[str] = "target.png"
    output_file: ClassVar[str] = "proj.png"
    steps_file: ClassVar[str] = "proj.mp4"
    sequence_file: ClassVar[str] = "interpolation.mp4"
    truth_file: ClassVar[str] = "truth.png"
    composed_file: ClassVar[str] = "composed.png"
    default_loss: ClassVar[str] = DEFAULT_LOSS

    def __init__(self, shape: tuple[int, ...]):
        self.shape = tuple(shape)

    def describe(self) -> str:
        return f"{self.shape[2]}x{self.shape[1]}"

    def about(self) -> dict[str, Any]:
        return {"resolution": self.shape[1]}

    @classmethod
    def check_file(cls, target: Any, options: PictureReading) -> None:
        cls((3, 8, 8)).read(target, options)

    def read(self, target: Any, options: PictureReading) -> tuple[np.ndarray, dict[str, Any] | str]:
        if isinstance(target, (str, os.PathLike, ZipPicture)):
            if self.shape[1] != self.shape[2]:
                raise ImageFileError(f"{target}: files are read as squares; give an array of shape {self.shape}")
            source, name = (target.open(), str(target)) if isinstance(target, ZipPicture) else (target, None)
            shape = (self.shape[1], self.shape[0])
            if options.align is not None:
                face = options.landmarks.of(str(target))
                pixels, aligned = read_aligned(source, face, *shape, options.background, name)
                return pixels, aligned.as_dict()
            pixels, fitted = read_picture(source, *shape, options.fit, options.background, name)
            return pixels, fitted.as_dict()
        pixels = target.detach().cpu().numpy() if isinstance(target, torch.Tensor) else np.asarray(target)
        if pixels.shape != self.shape or pixels.dtype != np.uint8:
            raise ImageFileError(
                f"a target of shape {pixels.shape}, {pixels.dtype}; expected {self.shape} uint8. "
                "A file of any size may be named instead"
            )
        return pixels, "given as an array"

    def tensor(self, arrays: np.ndarray | torch.Tensor, device: torch.device | str) -> torch.Tensor:
        return as_images(arrays, device)

    def nearest(self, outputs: torch.Tensor) -> torch.Tensor:
        return nearest_pixels(outputs.detach()).cpu()

    def rounded(self, output: torch.Tensor, rounding: str = "projector") -> np.ndarray:
        return {"projector": projector_pixels, "generate": generator_pixels}[rounding](output)

    def write(self, path: str | os.PathLike, array: np.ndarray) -> None:
        write_png(path, array)

    @staticmethod
    def read_back(path: str | os.PathLike) -> np.ndarray:
        return read_png(path)

    def seen(self, array: np.ndarray) -> np.ndarray:
        return array

    def heard(self, array: np.ndarray) -> tuple[str, bytes] | None:
        return None

    def write_beside(self, folder: Path, target: np.ndarray, output: np.ndarray) -> None:
        """Nothing: pictures are seen as they are."""

    def write_sequence(self, path: Path, arrays: list[np.ndarray]) -> None:
        """A video of the pictures."""
        write_mp4(path, iter(arrays))

    def write_steps(self, path: Path, target: np.ndarray, outputs: Iterator[np.ndarray]) -> None:
        """A video of the target, on the left, beside the picture after each step. A smaller target is enlarged by repetition of
        its pixels."""
        write_mp4(path, (np.concatenate([beside(target, output), output], axis=2) for output in outputs))

    def metrics(self, target: torch.Tensor, output: torch.Tensor, reported: dict[str, Distance]) -> dict[str, Any]:
        return picture_metrics(target, output, reported)

    def reported(self, loss: Distance) -> tuple[dict[str, Distance], dict[str, Any]]:
        name, lpips = reported_lpips(loss)
        return {"lpips": lpips}, {"lpips_network": name}


def beside(target: np.ndarray, output: np.ndarray) -> np.ndarray:
    """A target (C', H', W') with the shape of an output (C, H, W), for showing both."""
    rows, columns = (np.arange(n) * m // n for n, m in zip(output.shape[1:], target.shape[1:]))
    large = target[:, rows][:, :, columns]
    return large if len(large) == len(output) else np.repeat(large[:1], len(output), axis=0)
