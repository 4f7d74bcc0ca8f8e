"""What a classifier of spoken digits makes of sounds: a distance of its features, and its judgement of generated sounds.

The classifier is trained by this project (``docs/networks/digits_classifier.py``) and comes with it.
"""

import functools

import torch
import torch.nn.functional as F

from .. import pretrained
from ..networks.digits import DigitClassifier
from .spectrogram import SoundDistance, magnitudes, mel_filters
from .weight_files import with_weights

FILE = "digits.safetensors"
RATE = 8000  # samples per second of the sounds that it was trained on
BANDS, FRAME, HOP = 40, 256, 64
RANGE = 60.0  # decibels below the loudest place of a sound that are seen
SHORTEST = 16 * HOP  # samples, which the classifier's four poolings leave something of
SILENT = -50.0  # decibels; a sound without a louder place is not made louder


def resampled(sounds: torch.Tensor, rate: int, to: int) -> torch.Tensor:
    """Sounds (N, C, T) at another number of samples per second, with gradients, by cutting or extending their spectrum.

    Frequencies from half the lower of both rates on are left out.
    """
    if rate == to:
        return sounds
    samples = sounds.shape[2]
    count = max(1, round(samples * to / rate))
    spectrum = torch.fft.rfft(sounds)
    kept = (min(samples, count) + 1) // 2
    return torch.fft.irfft(spectrum[..., :kept], n=count) * (count / samples)


def levels(sounds: torch.Tensor, rate: int = RATE) -> torch.Tensor:
    """The logarithmic mel spectrogram (N, 1, 40, frames) of sounds (N, C, T), from 0 to 1.

    1 is the loudest place of each sound, and 0 is 60 decibels below it or less, so the loudness of a recording does not count.
    Channels are mixed to their mean. Sounds of less than an eighth of a second are followed by silence up to that length.
    """
    sounds = resampled(sounds.mean(dim=1, keepdim=True), rate, RATE)
    sounds = F.pad(sounds, [0, max(0, SHORTEST - sounds.shape[2])])
    mel = _filters(sounds.device) @ magnitudes(sounds, FRAME, HOP)
    decibels = 20 * (mel + 1e-7).log10()
    loudest = decibels.flatten(1).amax(dim=1).clamp(min=SILENT)[:, None, None, None]
    return ((decibels - loudest) / RANGE + 1).clamp(min=0)


@functools.lru_cache(maxsize=4)
def _filters(device: torch.device) -> torch.Tensor:
    return mel_filters(RATE, BANDS, FRAME).to(device)


@functools.lru_cache(maxsize=1)
def _weights() -> dict[str, torch.Tensor]:
    return pretrained.tensors(FILE)


def digit_classifier() -> DigitClassifier:
    """The shipped classifier, in eval mode and without gradients of its weights."""
    return with_weights(DigitClassifier, _weights()).eval().requires_grad_(False)


class DigitFeatures(SoundDistance):
    """The mean squared difference of what the classifier's four convolutions make of sounds, averaged over the four.

    Source: the perceptual loss of Bayat, "Inverse Mapping of Generative Adversarial Networks" (2021), section 3.2.1, with this
        project's smaller classifier in place of a ResNet-18.
    """

    def __init__(self) -> None:
        super().__init__()
        self.network = digit_classifier()
        self.rate = RATE

    def at_rate(self, sample_rate: int) -> None:
        self.rate = sample_rate

    def features(self, sounds: torch.Tensor) -> list[torch.Tensor]:
        return self.network.maps(levels(sounds, self.rate))

    def compare(self, a: list[torch.Tensor], b: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack([(x - y).square().flatten(1).mean(dim=1) for x, y in zip(a, b)]).mean(dim=0)
