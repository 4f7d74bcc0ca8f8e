"""Settings of a training run of a ProGAN. This file imports no torch."""

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, NamedTuple

from ...errors import TrainingError
from ...options import option
from ..run_options import LOSSES, PictureOptions, completed


class Config(NamedTuple):
    """Sizes for one resolution.

    Attributes:
        fmap_base: a layer at r x r has 2 * fmap_base // r channels, but at most ``fmap_max``.
        fmap_max: the largest number of channels of a layer.
        z_dim: the size of z.
        grow_kimg: thousands of pictures at each resolution.
        fade_kimg: thousands of pictures in which the next one is faded in.
    """

    fmap_base: int
    fmap_max: int
    z_dim: int
    grow_kimg: float
    fade_kimg: float


CONFIGS = {
    32: Config(512, 96, 96, 80, 80),
    64: Config(1024, 128, 128, 100, 100),
    128: Config(2048, 256, 256, 300, 300),
    256: Config(8192, 512, 512, 600, 600),
    512: Config(8192, 512, 512, 600, 600),
    1024: Config(8192, 512, 512, 600, 600),
}
"""The sizes for each resolution. From 256x256 on they are the official ones; those of 32x32 and 64x64 are for two processor
cores."""


@dataclass(frozen=True)
class ProGANOptions(PictureOptions):
    """The options of a ProGAN.

    Attributes:
        resolution: the side of the pictures in pixels.

    The help texts below are the documentation of the other attributes.

    Raises:
        TrainingError: a value is out of its range, or two settings contradict each other.
    """

    arch: ClassVar[str] = "progan"
    normalize_z: ClassVar[bool] = True
    by_data: ClassVar[tuple[str, ...]] = Config._fields

    resolution: int = option(low=8, high=1024, whole=True, flag="")
    _: KW_ONLY
    fmap_base: int = option(8192, 2, 2**20, whole=True, help="Channels at r x r are twice this over r, ...")
    fmap_max: int = option(512, 1, 2**16, whole=True, help="... but at most this.")
    grow_kimg: float = option(
        600,
        0,
        1e9,
        help="Thousands of pictures at 4x4 and at each later resolution before the next one is faded in; 0 trains the whole "
        "network from the beginning.",
    )
    fade_kimg: float = option(
        600, 0, 1e9, help="Thousands of pictures in which a resolution is faded in; 0 adds it at once."
    )
    lr: float = option(0.001, 0, 1, above=True, help="Adam's learning rate for both networks.")
    loss: str = option("wgan-gp", words=LOSSES, help=PictureOptions.__dataclass_fields__["loss"].metadata["help"])
    D_reg_interval: int = option(1, 1, 10**6, whole=True, flag="", help="Steps between penalties of D's gradient.")
    drift: float = option(
        0.001, 0, 1, flag="", help="Weight of the squared score of real pictures, which keeps scores near zero."
    )
    mbstd_group_size: int = option(
        4,
        1,
        10**6,
        whole=True,
        flag="",
        help="Pictures that the discriminator compares; unused with the direction head.",
    )

    def __post_init__(self):
        super().__post_init__()
        if self.resolution & (self.resolution - 1):
            raise TrainingError(f"resolution is {self.resolution}; expected a power of two from 8 to 1024")
        if self.c_dim:
            raise TrainingError("--arch progan is trained without classes; leave out --cond")
        if 2 * self.fmap_base < self.resolution:
            raise TrainingError(f"fmap_base is {self.fmap_base}; expected at least half of the resolution")
        if self.fade_kimg and not self.grow_kimg:
            raise TrainingError("--fade-kimg has no meaning with --grow-kimg 0, which trains the whole network")
        if self.batch_gpu % min(self.mbstd_group_size, self.batch_gpu) and self.head == "none":
            raise TrainingError(
                f"{self.batch_gpu} pictures per round do not divide into the groups of {self.mbstd_group_size} that the "
                "discriminator compares"
            )

    @classmethod
    def for_resolution(cls, resolution: int, **chosen: Any) -> "ProGANOptions":
        """The settings of `CONFIGS` for a resolution, except for those that are given by name in ``chosen``.

        Raises:
            TrainingError: there are none for this size, or a setting is not as it must be.
        """
        settings: dict[str, Any] = CONFIGS.get(max(resolution, 32), CONFIGS[32])._asdict()
        if chosen.get("grow_kimg") == 0:
            settings["fade_kimg"] = 0.0
        if chosen.get("loss", "wgan-gp") != "wgan-gp":
            settings |= {"drift": 0.0, "D_reg_interval": 16}
        settings.update(chosen)
        settings.setdefault("batch", 32)
        return cls(resolution, **completed(settings))

    def lod(self, nimg: int) -> float:
        """The level of detail after so many pictures: 0 for the whole network, and one more for each resolution less.

        Source: ``TrainingSchedule`` of the official train.py.
        """
        if not self.grow_kimg:
            return 0.0
        phase, within = divmod(nimg / 1000, self.grow_kimg + self.fade_kimg)
        faded = max(within - self.grow_kimg, 0) / self.fade_kimg if self.fade_kimg else 0.0
        return max(self.resolution.bit_length() - 3 - phase - faded, 0.0)

    @property
    def rates(self) -> dict[str, float]:
        """Adam's learning rates, by "G" and "D"."""
        return {"G": self.lr, "D": self.lr}
