"""Sounds as a medium: 16-bit samples in WAV files, seen as spectrograms."""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from ..errors import SoundFileError
from ..losses import DEFAULT_SOUND_LOSS, Distance, decibels, sound_metrics
from .pictures import write_png
from .reading import SoundReading
from .sounds import FULL, SUFFIXES, read_sound, read_wav, resampled, wav_bytes, write_wav
from .targets import ZipPicture
from .video import write_mp4

SIDE = 384  # pixels of the longer side of a spectrogram, about
COLOURS = ((0, 0, 16), (70, 20, 110), (190, 50, 90), (250, 150, 40), (255, 250, 200))
"""Red, green and blue of -80, -60, -40, -20 and 0 decibels; between them the colour changes evenly."""


class Sounds:
    """Sounds of one length; see `medium.Medium`. An array has the numbers of a 16-bit WAV, where 32767 stands for 1.

    Args:
        shape: (C, T): the number of channels and of samples.
        sample_rate: samples per second.

    Raises:
        SoundFileError: no sound has such a shape or rate.
    """

    reading: ClassVar[type[Any]] = SoundReading
    suffixes: ClassVar[frozenset[str]] = SUFFIXES
    facts: ClassVar[tuple[str, ...]] = ("sample_rate",)
    target_file: ClassVar[str] = "target.wav"
    output_file: ClassVar[str] = "proj.wav"
    steps_file: ClassVar[str] = "proj.mp4"
    sequence_file: ClassVar[str] = "interpolation.wav"
    truth_file: ClassVar[str] = "truth.wav"
    composed_file: ClassVar[str] = "composed.wav"
    default_loss: ClassVar[str] = DEFAULT_SOUND_LOSS

    def __init__(self, shape: tuple[int, ...], sample_rate: int):
        self.shape, self.sample_rate = tuple(shape), sample_rate
        if len(self.shape) != 2 or type(sample_rate) is not int or not 1 <= sample_rate <= 10**6:
            raise SoundFileError(f"sounds of shape {self.shape} at {sample_rate!r} samples per second; expected (C, T)")

    def describe(self) -> str:
        return f"{self.shape[1]} samples at {self.sample_rate} Hz"

    def about(self) -> dict[str, Any]:
        return {"samples": self.shape[1], "channels": self.shape[0], "sample_rate": self.sample_rate}

    @classmethod
    def check_file(cls, target: Any, options: SoundReading) -> None:
        _source(target, options.offset, 0.001)

    def read(self, target: Any, options: SoundReading) -> tuple[np.ndarray, dict[str, Any] | str]:
        if isinstance(target, (str, os.PathLike, ZipPicture)):
            return self._of_file(target, options)
        samples = target.detach().cpu().numpy() if isinstance(target, torch.Tensor) else np.asarray(target)
        if samples.shape != self.shape or samples.dtype != np.int16:
            raise SoundFileError(
                f"a target of shape {samples.shape}, {samples.dtype}; expected {self.shape} int16. "
                "A file of any length may be named instead"
            )
        return samples, "given as an array"

    def _of_file(self, target: Any, options: SoundReading) -> tuple[np.ndarray, dict[str, Any]]:
        channels, length = self.shape
        found = _source(target, options.offset, length / self.sample_rate)
        about = dict(found.about)
        samples = found.samples
        if samples.shape[1] != channels:
            about["mixed"] = (
                f"the mean of {samples.shape[1]} channels" if samples.shape[1] > 1 else "one channel, repeated"
            )
            samples = samples.mean(axis=1, keepdims=True).repeat(channels, axis=1)
        if found.rate != self.sample_rate:
            samples = resampled(samples, found.rate, self.sample_rate)
            about["resampled"] = f"to {self.sample_rate} samples per second"
        samples = samples[:length].T
        about["offset"], about["padded"] = options.offset, length - samples.shape[1]
        peak = float(np.abs(samples).max())
        if options.level == "peak" and peak > 0:
            samples = samples / np.float32(peak)
            about["louder"] = 1 / peak
        about["clipped"] = int((np.abs(samples) > 1).sum())
        if peak == 0:
            about["silent"] = True
        return np.pad(_rounded(samples), [(0, 0), (0, about["padded"])]), about

    def tensor(self, arrays: np.ndarray | torch.Tensor, device: torch.device | str) -> torch.Tensor:
        stored = torch.as_tensor(arrays).to(device, torch.float32)
        return (stored / FULL).clamp(min=-1)

    def nearest(self, outputs: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(_rounded(outputs.detach().cpu().numpy()))

    def rounded(self, output: torch.Tensor, rounding: str = "projector") -> np.ndarray:
        return _rounded(output.detach().cpu().numpy())

    def write(self, path: str | os.PathLike, array: np.ndarray) -> None:
        write_wav(path, array, self.sample_rate)

    @staticmethod
    def read_back(path: str | os.PathLike) -> np.ndarray:
        return read_wav(path)

    def seen(self, array: np.ndarray) -> np.ndarray:
        """The spectrogram in colours, -80 to 0 decibels, with high frequencies at the top; channels below each other."""
        frame = min(256, 1 << max(3, math.isqrt(8 * array.shape[1]).bit_length() - 1))
        levels = decibels(self.tensor(array[None], "cpu"), frame, frame // 4)[0].flip(1).flatten(0, 1).numpy()
        at = (levels + 80) / 80 * (len(COLOURS) - 1)
        picture = np.stack([np.interp(at, range(len(COLOURS)), channel) for channel in zip(*COLOURS)])
        factors = [max(1, SIDE // size) for size in picture.shape[1:]]
        picture = picture.repeat(factors[0], axis=1).repeat(factors[1], axis=2)
        return np.rint(picture[:, picture.shape[1] % 2 :, picture.shape[2] % 2 :]).astype(np.uint8)

    def heard(self, array: np.ndarray) -> tuple[str, bytes] | None:
        return "audio/wav", wav_bytes(array, self.sample_rate)

    def write_beside(self, folder: Path, target: np.ndarray, output: np.ndarray) -> None:
        """spectrograms.png: the target's on the left, the output's on the right."""
        left, right = self.seen(target), self.seen(output)
        write_png(folder / "spectrograms.png", np.concatenate([left, np.full_like(left[:, :, :8], 255), right], axis=2))

    def write_steps(self, path: Path, target: np.ndarray, outputs: Iterator[np.ndarray]) -> None:
        """A video of the spectrograms of the target, on the left, and of the sound after each step."""
        left = self.seen(target)
        write_mp4(path, (np.concatenate([left, self.seen(output)], axis=2) for output in outputs))

    def write_sequence(self, path: Path, arrays: list[np.ndarray]) -> None:
        """One sound after another."""
        self.write(path, np.concatenate(arrays, axis=1))

    def metrics(self, target: torch.Tensor, output: torch.Tensor, reported: dict[str, Distance]) -> dict[str, Any]:
        return sound_metrics(target, output, reported)

    def reported(self, loss: Distance) -> tuple[dict[str, Distance], dict[str, Any]]:
        return {}, {}


def _source(target: Any, start: float, seconds: float) -> Any:
    if isinstance(target, ZipPicture):
        return read_sound(target.read(), start, seconds, str(target))
    return read_sound(target, start, seconds)


def _rounded(samples: np.ndarray) -> np.ndarray:
    """Samples in [-1, 1] as 16-bit numbers; official code multiplies by 32767, too."""
    return np.rint(np.clip(samples, -1, 1) * FULL).astype(np.int16)
