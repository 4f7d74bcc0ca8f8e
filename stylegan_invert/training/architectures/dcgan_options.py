"""Settings of a training run of a DCGAN. This file imports no torch."""

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from ...errors import TrainingError
from ...options import option
from ..run_options import LOSSES, PictureOptions, completed

BY_LOSS = {
    "wgan-gp": {"lr": 1e-4, "D_steps": 5, "beta1": 0.0, "beta2": 0.9, "gamma": 10.0, "D_reg_interval": 1},
}
"""Settings of a loss, as in Gulrajani et al. 2017. With another loss they are those of `DCGANOptions`, from Radford et al."""


@dataclass(frozen=True)
class DCGANOptions(PictureOptions):
    """The options of a DCGAN.

    Attributes:
        resolution: the side of the pictures in pixels.

    The help texts below are the documentation of the other attributes.

    Raises:
        TrainingError: a value is out of its range, or two settings contradict each other.
    """

    arch: ClassVar[str] = "dcgan"
    default_texts: ClassVar[dict[str, str]] = {
        **PictureOptions.default_texts,
        "lr": "0.0002; 0.0001 with wgan-gp",
        "D_steps": "1; 5 with wgan-gp",
        "gamma": "0; 10 with wgan-gp",
    }

    resolution: int = option(low=8, high=256, whole=True, flag="")
    _: KW_ONLY
    z_dim: int = option(100, 1, 4096, whole=True, help=PictureOptions.__dataclass_fields__["z_dim"].metadata["help"])
    width: int = option(
        32,
        1,
        1024,
        whole=True,
        help="Channels of the generator's map before the picture and of the discriminator's first map; each half of the "
        "side doubles them.",
    )
    lr: float = option(2e-4, 0, 1, above=True, help="Adam's learning rate for both networks.")
    head_lr: float = option(
        0.0025, 0, 1, above=True, help="Adam's learning rate for the direction head, whose rates are equalised."
    )
    D_steps: int = option(
        1, 1, 100, whole=True, flag="--D-steps", help="Steps of the discriminator for each step of the generator."
    )
    standing: int = option(
        16,
        1,
        10**4,
        whole=True,
        help="Batches from which the statistics of batch normalisation are measured for a file.",
    )
    beta1: float = option(0.5, 0, 1, flag="", help="Adam's decay of the mean of gradients.")
    beta2: float = option(0.999, 0, 1, flag="", help="Adam's decay of the mean of squared gradients.")
    loss: str = option("nsgan", words=LOSSES, help=PictureOptions.__dataclass_fields__["loss"].metadata["help"])
    gamma: float = option(0, 0, 1e6, help=PictureOptions.__dataclass_fields__["gamma"].metadata["help"])

    def __post_init__(self):
        super().__post_init__()
        if self.resolution & (self.resolution - 1):
            raise TrainingError(f"resolution is {self.resolution}; expected a power of two from 8 to 256")
        if self.c_dim:
            raise TrainingError("--arch dcgan is trained without classes; leave out --cond")
        if self.batch_gpu < 2:
            raise TrainingError("batch_gpu is 1; batch normalisation needs rounds of at least two pictures")

    @classmethod
    def for_resolution(cls, resolution: int, **chosen: Any) -> "DCGANOptions":
        """The settings for a resolution and a loss, except for those that are given by name in ``chosen``.

        Raises:
            TrainingError: there are none for this size, or a setting is not as it must be.
        """
        settings: dict[str, Any] = {"batch": 64, **BY_LOSS.get(chosen.get("loss", "nsgan"), {}), **chosen}
        return cls(resolution, **completed(settings))

    @property
    def rates(self) -> dict[str, float]:
        """Adam's learning rates, by "G", "D" and "head"."""
        return {"G": self.lr, "D": self.lr, "head": self.head_lr}
