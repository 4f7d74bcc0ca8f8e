"""Settings of a training run of a WaveGAN. This file imports no torch."""

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from ...errors import TrainingError
from ...options import option
from ..run_options import LOSSES, RunOptions, completed

LEVELS = ("as-is", "peak")


@dataclass(frozen=True)
class WaveGANOptions(RunOptions):
    """The options of a WaveGAN. Recordings are the pictures of the help texts that it shares with others.

    The defaults are those of Donahue et al., "Adversarial Audio Synthesis" (2019), appendix D, and of their code.

    Attributes:
        length: the samples of a sound, a power of two.
        sample_rate: samples per second.

    The help texts below are the documentation of the other attributes.

    Raises:
        TrainingError: a value is out of its range, or two settings contradict each other.
    """

    arch: ClassVar[str] = "wavegan"
    default_texts: ClassVar[dict[str, str]] = {"batch_gpu": "all", "ema_kimg": "0 for wavegan"}
    data_options: ClassVar[tuple[str, ...]] = ("length", "sample_rate", "level", "only", "leave_out")

    length: int = option(low=32, high=2**20, whole=True, flag="")
    sample_rate: int = option(low=1000, high=192_000, whole=True, flag="")
    _: KW_ONLY
    dim: int = option(
        64, 1, 2**12, whole=True, help="Channels next to the sound; each layer farther away from it has twice as many."
    )
    phase_shuffle: int = option(
        2,
        0,
        15,
        whole=True,
        help="Samples by which the discriminator shifts what its layers give, at most and at random.",
    )
    spectrogram_weight: float = option(
        0,
        0,
        1e6,
        help="Weight of a second discriminator, which is shown spectrograms and helps a short training; 0 has none.",
    )
    spectrogram_gamma: float = option(
        0.1, 0, 1e6, help="Weight of the R1 penalty of the discriminator of spectrograms."
    )
    D_steps: int = option(
        5, 1, 100, whole=True, flag="--D-steps", help="Steps of the discriminator for each step of the generator."
    )
    D_reg_interval: int = option(
        1,
        1,
        10**6,
        whole=True,
        flag="--D-reg-interval",
        help="Steps between penalties on the discriminator's gradient.",
    )
    lr: float = option(1e-4, 0, 1, above=True, help="Adam's learning rate for both networks.")
    head_lr: float = option(
        0.0025, 0, 1, above=True, help="Adam's learning rate for the direction head, whose rates are equalised."
    )
    beta1: float = option(0.5, 0, 1, flag="--beta1", help="Adam's decay of the mean of gradients.")
    beta2: float = option(0.9, 0, 1, flag="--beta2", help="Adam's decay of the mean of squared gradients.")
    z_dim: int = option(100, 1, 4096, whole=True, help="Size of z.")
    batch: int = option(64, 1, 10**6, whole=True, help="Pictures per step.")
    loss: str = option("wgan-gp", words=LOSSES, help=RunOptions.__dataclass_fields__["loss"].metadata["help"])
    ema_kimg: float = option(0, 0, 1e6, help=RunOptions.__dataclass_fields__["ema_kimg"].metadata["help"])

    def __post_init__(self):
        super().__post_init__()
        if self.length & (self.length - 1):
            raise TrainingError(f"length is {self.length}; expected a power of two, such as 8192 or 16384")

    @classmethod
    def for_data(cls, data: Any, **chosen: Any) -> "WaveGANOptions":
        """The options for a set of recordings, except for those that are given by name in ``chosen``."""
        settings = {"batch": 64, "ema_kimg": 0.0, **chosen}
        return cls(data.length, data.sample_rate, c_dim=data.c_dim, **completed(settings))

    @property
    def rates(self) -> dict[str, float]:
        """Adam's learning rates, by "G", "D" and "head"."""
        return {"G": self.lr, "D": self.lr, "head": self.head_lr}
