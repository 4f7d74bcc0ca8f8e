"""What a classifier of spoken digits makes of sounds: a distance of its features, and its judgement of generated sounds.

The classifier is trained by this project (``docs/networks/digits.py``) and comes with it.
"""

import functools

import torch

from .. import pretrained
from ..networks.digits import DigitClassifier
from .spectrogram import magnitudes, mel_filters
from .weight_files import with_weights

FILE = "digits.safetensors"
RATE = 8000  # samples per second of the sounds that it was trained on
BANDS, FRAME, HOP = 40, 256, 64
RANGE = 60.0  # decibels below the loudest place of a sound that are seen
SILENT = -50.0  # decibels; a sound without a louder place is not made louder


def resampled(sounds: torch.Tensor, rate: int, to: int) -> torch.Tensor:
    """Sounds (N, C, T) at another number of samples per second, with gradients, by cutting or extending their spectrum."""
    if rate == to:
        return sounds
    samples = sounds.shape[2]
    count = max(1, round(samples * to / rate))
    spectrum = torch.fft.rfft(sounds)
    kept = min(samples, count) // 2 + 1
    return torch.fft.irfft(spectrum[..., :kept], n=count) * (count / samples)


def levels(sounds: torch.Tensor, rate: int = RATE) -> torch.Tensor:
    """The logarithmic mel spectrogram (N * C, 1, 40, frames) of sounds (N, C, T), from 0 to 1.

    1 is the loudest place of each sound, and 0 is 60 decibels below it or less, so the loudness of a recording does not count.
    """
    sounds = resampled(sounds, rate, RATE)
    mel = _filters(sounds.device) @ magnitudes(sounds, FRAME, HOP)
    decibels = 20 * (mel + 1e-7).log10()
    loudest = decibels.flatten(1).amax(dim=1).clamp(min=SILENT)[:, None, None, None]
    return ((decibels - loudest) / RANGE + 1).clamp(min=0).flatten(0, 1)[:, None]


@functools.lru_cache(maxsize=4)
def _filters(device: torch.device) -> torch.Tensor:
    return mel_filters(RATE, BANDS, FRAME).to(device)


@functools.lru_cache(maxsize=1)
def _weights() -> dict[str, torch.Tensor]:
    return pretrained.tensors(FILE)


def digit_classifier() -> DigitClassifier:
    """The shipped classifier, in eval mode and without gradients of its weights."""
    return with_weights(DigitClassifier, _weights()).eval().requires_grad_(False)
