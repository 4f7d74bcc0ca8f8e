"""The settings of a training of WaveGAN. This file imports no torch, so that ``--help`` stays quick."""

from dataclasses import dataclass, fields

from ..errors import TrainingError
from ..options import SEED, check_options, option
from .configs import HEADS, LOSSES


@dataclass(frozen=True)
class WaveGANOptions:
    """Everything that decides how a run goes. A run keeps it in ``training_options.json`` and in its checkpoints.

    The defaults are those of Donahue et al., "Adversarial Audio Synthesis" (2019), appendix D, and of their code. The help
    texts below are the documentation of the attributes.

    Raises:
        TrainingError: a value is out of its range.
    """

    length: int = option(16384, 32, 2**20, whole=True, help="Samples of a sound, a power of two.")
    sample_rate: int = option(16000, 1000, 192_000, whole=True, help="Samples per second, to which recordings are brought.")
    dim: int = option(
        64, 1, 2**12, whole=True, help="Channels next to the sound; each layer farther away from it has twice as many."
    )
    z_dim: int = option(100, 1, 4096, whole=True, help="Size of z.")
    phase_shuffle: int = option(
        2, 0, 15, whole=True, help="Samples by which the discriminator shifts what its layers give, at most and at random."
    )
    kimg: float = option(12800, 0, 1e9, above=True, metavar="N", help="Thousands of recordings to show in all.")
    seed: int = option(0, **SEED, help="Random seed of the weights, the latents and the order of the recordings.")
    head: str = option(
        "none",
        words=HEADS,
        help="none: a plain discriminator. direction: it also learns to find latents, which project --method de needs.",
    )
    embedding_weight: float = option(1, 0, 1e6, help="Weight of the direction head's loss.")
    loss: str = option(
        "wgan-gp",
        words=LOSSES,
        help="What the two networks play for: Wasserstein distance with gradient penalty (the published one), the logistic "
        "loss, least squares, or hinge.",
    )
    gamma: float = option(10, 0, 1e6, help="Weight of the penalty on the discriminator's gradient: that of wgan-gp, or R1.")
    spectrogram_weight: float = option(0, 0, 1e6, help="w")
    spectrogram_gamma: float = option(1, 0, 1e6, help="w")
    penalty_interval: int = option(1, 1, 10**6, whole=True, help="The penalty is computed in every so many steps.")
    d_steps: int = option(5, 1, 1000, whole=True, help="Steps of the discriminator for each of the generator.")
    batch: int = option(64, 1, 10**6, whole=True, help="Recordings per step of the discriminator.")
    lr: float = option(1e-4, 0, 1, above=True, help="Adam's learning rate for both networks.")
    beta1: float = option(0.5, 0, 1, help="Adam's decay of the mean of gradients.")
    beta2: float = option(0.9, 0, 1, help="Adam's decay of the mean of squared gradients.")
    ema_kimg: float = option(
        0, 0, 1e6, help="Half-life of the averaged weights, in thousands of recordings; 0 averages nothing, as published."
    )

    def __post_init__(self):
        check_options(type(self), {f.name: getattr(self, f.name) for f in fields(self)}, TrainingError)
        if self.length & (self.length - 1):
            raise TrainingError(f"length is {self.length}; expected a power of two, such as 8192 or 16384")
