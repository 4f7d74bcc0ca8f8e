"""Distances between spectrograms of sounds (N, C, T), and the metrics of a saved sound.

A spectrogram holds the short-time Fourier transform: the sound is cut into frames that begin every ``hop`` samples, each is
multiplied by a periodic Hann window, and its discrete Fourier transform is taken. There are ceil(T / hop) frames; zeros
follow the sound's end. This is ``tf.signal.stft`` with ``pad_end``. Magnitudes are divided by half the sum of the window, so
that a sine from -1 to 1 has the magnitude 1.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F

from .base import Distance, check_sounds, total
from .metrics import ssim

FRAME, HOP = 256, 128  # those of the thesis
FLOOR = -80.0  # decibels below a sine from -1 to 1 that count as silence
RESOLUTIONS = (2048, 512, 128)  # samples of a frame


def stft(sounds: torch.Tensor, frame: int = FRAME, hop: int = HOP) -> torch.Tensor:
    """The short-time Fourier transform (N, C, frame // 2 + 1, ceil(T / hop)), complex, of sounds (N, C, T)."""
    n, channels, samples = sounds.shape
    count = -(-samples // hop)
    padded = F.pad(sounds.reshape(n * channels, samples), [0, (count - 1) * hop + frame - samples])
    window = torch.hann_window(frame, dtype=sounds.dtype, device=sounds.device)
    result = torch.stft(padded, frame, hop, window=window, center=False, return_complex=True)
    return result.reshape(n, channels, *result.shape[1:])


def magnitudes(sounds: torch.Tensor, frame: int = FRAME, hop: int = HOP) -> torch.Tensor:
    """The magnitudes of `stft`, with gradients also where they are 0; a sine from -1 to 1 has the magnitude 1."""
    parts = torch.view_as_real(stft(sounds, frame, hop)) * (4 / frame)
    return (parts.square().sum(dim=-1) + 1e-12).sqrt()


def decibels(sounds: torch.Tensor, frame: int = FRAME, hop: int = HOP) -> torch.Tensor:
    """The magnitudes in decibels, from -80 to about 0."""
    return (20 * magnitudes(sounds, frame, hop).log10()).clamp(min=FLOOR)


class SoundDistance(Distance):
    """A distance between sounds (N, C, T) float32 in [-1, 1]: the mean absolute difference of what ``features`` gives."""

    def check(self, outputs: torch.Tensor) -> None:
        check_sounds(outputs)

    def compare(self, a: Any, b: Any) -> torch.Tensor:
        return (a - b).abs().flatten(1).mean(dim=1)


class Spectrogram(SoundDistance):
    """Mean absolute difference of magnitudes."""

    def features(self, sounds: torch.Tensor) -> torch.Tensor:
        return magnitudes(sounds)


class RealSpectrogram(SoundDistance):
    """Mean absolute difference of the real parts of the short-time Fourier transform, not divided by the window.

    Source: the code behind Keyes's thesis on the inversion of WaveGAN, which calls it a spectrogram: its complex numbers
        lose their imaginary parts when they are cast to floats.
    """

    def features(self, sounds: torch.Tensor) -> torch.Tensor:
        return stft(sounds).real


class LogMel(SoundDistance):
    """Mean absolute difference of log10(1e-4 + magnitude) in bands of equal width on the mel scale.

    Args:
        sample_rate: samples per second, which give the bands their place; `at_rate` changes it.
        bands: the number of bands.
        frame: samples of a frame; frames begin every quarter of it.
    """

    def __init__(self, sample_rate: int = 16000, bands: int = 64, frame: int = 512):
        super().__init__()
        self.filters: torch.Tensor
        self.frame, self.bands = frame, bands
        self.register_buffer("filters", mel_filters(sample_rate, bands, frame), persistent=False)

    def at_rate(self, sample_rate: int) -> None:
        self.filters = mel_filters(sample_rate, self.bands, self.frame).to(self.filters.device)

    def features(self, sounds: torch.Tensor) -> torch.Tensor:
        mel = self.filters.to(sounds.device) @ magnitudes(sounds, self.frame, self.frame // 4)
        return (mel + 1e-4).log10()


def mel_filters(sample_rate: int, bands: int, frame: int) -> torch.Tensor:
    """Triangles (bands, frame // 2 + 1) of height 1 over the frequencies of a transform, from 0 to half the sample rate.

    Their corners lie at equal distances on the scale 2595 log10(1 + f / 700). A band that is narrower than the distance of
    two frequencies takes the nearest one.
    """
    frequencies = torch.arange(frame // 2 + 1, dtype=torch.float64) * sample_rate / frame
    top = 2595 * math.log10(1 + sample_rate / 2 / 700)
    corners = 700 * (10 ** (torch.linspace(0, top, bands + 2, dtype=torch.float64) / 2595) - 1)
    low, middle, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rising, falling = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    filters = torch.minimum(rising, falling).clamp(min=0)
    empty = filters.sum(dim=1) == 0
    filters[empty, (frequencies - middle).abs().argmin(dim=1)[empty]] = 1
    return filters.to(torch.float32)


class MultiResolutionSTFT(SoundDistance):
    """The sum of two distances of magnitudes, averaged over three lengths of frames: |a - b| / |a|, with the Euclidean
    norms of whole spectrograms and a of the target, and the mean absolute difference of natural logarithms.

    Source: Yamamoto, Song & Kim, "Parallel WaveGAN" (2020), equations 4 to 6; the lengths 2048, 512 and 128 are ours, and a
        magnitude below 1e-4 counts as that.
    """

    def features(self, sounds: torch.Tensor) -> list[torch.Tensor]:
        return [magnitudes(sounds, frame, frame // 4) for frame in RESOLUTIONS]

    def compare(self, a: list[torch.Tensor], b: list[torch.Tensor]) -> torch.Tensor:
        def distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            difference = (x - y).square().flatten(1).sum(dim=1)
            size = x.square().flatten(1).sum(dim=1)
            logarithms = (x.clamp(min=1e-4).log() - y.clamp(min=1e-4).log()).abs().flatten(1).mean(dim=1)
            return (difference / (size + 1e-6) + 1e-12).sqrt() + logarithms

        return total(map(distance, a, b)) / len(RESOLUTIONS)


def sound_metrics(target: torch.Tensor, sound: torch.Tensor, further: dict[str, Distance]) -> dict[str, float | None]:
    """Compare two sounds as they are saved, with 16 bits.

    Args:
        target: (C, T) int16.
        sound: (C, T) int16.
        further: further distances to report, by name.

    Returns:
        "correlation": Pearson's correlation of the samples; None if one of them is constant, such as silence.
        "snr": 10 log10(|target|^2 / |target - sound|^2), the signal-to-noise ratio in decibels; None for equal sounds and
        for a silent target.
        "log_spectral_distance": the mean over frames of the root mean squared difference in decibels over frequencies; below
        -80 dB everything counts as -80.
        "spectrogram_ssim": the structural similarity of the spectrograms in decibels, from -80 to 0 for every pair; None for
        fewer than 11 frames.
        And each distance of ``further`` under its name.
    """
    a, b = (x.detach().cpu().to(torch.float64) / 32767 for x in (target, sound))
    spread = float((a - a.mean()).square().mean().sqrt() * (b - b.mean()).square().mean().sqrt())
    noise, power = float((a - b).square().sum()), float(a.square().sum())
    spectra = [decibels(x[None])[0] for x in (a, b)]
    result: dict[str, float | None] = {
        "correlation": float(((a - a.mean()) * (b - b.mean())).mean()) / spread if spread else None,
        "snr": 10 * math.log10(power / noise) if power and noise else None,
        "log_spectral_distance": float((spectra[0] - spectra[1]).square().mean(dim=1).sqrt().mean()),
    }
    levels = [((x.clamp(max=0) - FLOOR) * (255 / -FLOOR)).to(torch.float32) for x in spectra]
    result["spectrogram_ssim"] = ssim(*levels) if levels[0].shape[2] >= 11 else None
    with torch.no_grad():
        for name, distance in further.items():
            result[name] = float(distance.between(*(x[None].float().clamp(-1, 1) for x in (a, b)))[0])
    return result
