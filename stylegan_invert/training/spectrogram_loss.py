"""Losses of a GAN of sounds with a second discriminator, which is shown spectrograms.

Spectrograms show the voices and vowels of speech more plainly than waveforms do, so a short training comes farther. The second
discriminator always plays for the logistic loss with R1, whatever the first one plays for.
"""

from typing import Any

import torch

from ..losses.spectrogram import decibels
from .gan_losses import ADVERSARIAL, GANDirectionLoss, GANLoss

SECOND = "of_spectrograms"  # the module in a discriminator in training that judges spectrograms
FRAME, HOP, FLOOR = 256, 64, -60.0  # samples, samples, decibels


def spectrograms(sounds: torch.Tensor) -> torch.Tensor:
    """The spectrograms (N, C, 128, frames) of sounds (N, C, T), from -60 to 0 decibels as -1 to 1; louder ones exceed 1."""
    return decibels(sounds, FRAME, HOP).clamp(min=FLOOR)[:, :, : FRAME // 2] / (-FLOOR / 2) + 1


class _JudgesSpectrograms(GANLoss):
    """What a loss has besides if its discriminator has a module `SECOND`.

    Args:
        args: those of the loss.
        spectrogram_weight: the weight of what the generator lowers for the second discriminator.
        spectrogram_gamma: the weight of R1 of the second discriminator; half of the squared gradient at real spectrograms is
            counted.
        kwargs: those of the loss.
    """

    def __init__(self, *args: Any, spectrogram_weight: float = 1, spectrogram_gamma: float = 0.1, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.spectrogram_weight, self.spectrogram_gamma = spectrogram_weight, spectrogram_gamma
        self.logistic = ADVERSARIAL["nsgan"]

    def generate(self, z: torch.Tensor, c: torch.Tensor, mix: bool = True) -> torch.Tensor:
        """As in the loss; the sounds are kept for the second discriminator."""
        self._made = super().generate(z, c, mix)
        return self._made

    def judge_generated(
        self, z: torch.Tensor, c: torch.Tensor, for_G: bool
    ) -> tuple[torch.Tensor, torch.Tensor | float]:
        """As in the loss, with the second discriminator's judgement in the further loss."""
        logits, further = super().judge_generated(z, c, for_G)
        second = self._second(spectrograms(self._made))
        if for_G:
            loss = self.logistic.G(second)
            self.stats.add("loss/G_spectrograms", loss)
            return logits, further + self.spectrogram_weight * loss
        loss = self.logistic.D_fake(second)
        self.stats.add("loss/D_fake_spectrograms", loss)
        return logits, further + loss

    def _real(self, img: torch.Tensor, c: torch.Tensor, main: bool, r1: bool) -> torch.Tensor:
        return super()._real(img, c, main, r1) + (self._real_spectrograms(img) if main else 0.0)

    def _real_spectrograms(self, sounds: torch.Tensor) -> torch.Tensor:
        """The second discriminator's loss (N, 1) of real sounds, with R1."""
        seen = spectrograms(sounds.detach()).requires_grad_(self.spectrogram_gamma > 0)
        logits = self._second(seen)
        loss = self.logistic.D_real(logits)
        self.stats.add("loss/D_real_spectrograms", loss)
        if self.spectrogram_gamma > 0:
            (slope,) = torch.autograd.grad(logits.sum(), seen, create_graph=True)
            loss = loss + slope.square().flatten(1).sum(dim=1, keepdim=True) * (self.spectrogram_gamma / 2)
        return loss

    def _second(self, seen: torch.Tensor) -> torch.Tensor:
        """The second discriminator's logits (N, 1) of spectrograms."""
        return getattr(self.D, SECOND)(seen)


class SpectrogramLoss(_JudgesSpectrograms, GANLoss):
    """`GANLoss` with a second discriminator."""


class SpectrogramDirectionLoss(_JudgesSpectrograms, GANDirectionLoss):
    """`GANLoss` with a second discriminator, and a first one that embeds the latent direction."""


LOSSES: dict[tuple[str, bool], type[GANLoss]] = {
    ("none", False): GANLoss,
    ("direction", False): GANDirectionLoss,
    ("none", True): SpectrogramLoss,
    ("direction", True): SpectrogramDirectionLoss,
}
"""The loss by ``head``, and whether there is a second discriminator."""
