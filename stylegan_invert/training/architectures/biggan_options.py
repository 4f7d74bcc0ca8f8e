"""Settings of a training run of a BigGAN. This file imports no torch."""

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, NamedTuple

from ...errors import TrainingError
from ...options import option
from ..run_options import LOSSES, PictureOptions, completed


class Config(NamedTuple):
    """Sizes for one resolution.

    Attributes:
        ch: the unit of the networks' widths, ``G_ch`` and ``D_ch`` of BigGAN-PyTorch.
        z_dim: the size of z, a multiple of the number of chunks: one for the first layer and one for each block.
        shared_dim: the size of the class embedding.
        attention: the side of the map that the generator's attention comes after.
        D_attention: that of the discriminator; 0 for none.
        batch: pictures per step.
    """

    ch: int
    z_dim: int
    shared_dim: int
    attention: int
    D_attention: int
    batch: int


CONFIGS = {
    32: Config(16, 64, 32, 16, 0, 32),
    64: Config(12, 80, 32, 32, 32, 32),
    128: Config(32, 120, 128, 64, 64, 64),
    256: Config(64, 140, 128, 128, 128, 64),
}
"""The sizes for each resolution. Those of 32x32 and 64x64 are for two processor cores; BigGAN's own width is 64 or 96."""


@dataclass(frozen=True)
class BigGANOptions(PictureOptions):
    """The options of a BigGAN.

    Attributes:
        resolution: the side of the pictures in pixels.

    The help texts below are the documentation of the other attributes.

    Raises:
        TrainingError: a value is out of its range, or two settings contradict each other.
    """

    arch: ClassVar[str] = "biggan"
    by_data: ClassVar[tuple[str, ...]] = Config._fields

    resolution: int = option(low=8, high=256, whole=True, flag="")
    _: KW_ONLY
    ch: int = option(16, 2, 1024, whole=True, help="Unit of the networks' widths (G_ch and D_ch of BigGAN-PyTorch).")
    shared_dim: int = option(128, 1, 2**16, whole=True, help="Size of the class embedding that all blocks share.")
    attention: int = option(
        64, 0, 256, whole=True, help="Side of the generator's map that self-attention comes after; 0 for none."
    )
    D_attention: int = option(
        64,
        0,
        256,
        whole=True,
        flag="--D-attention",
        help="Side of the discriminator's map that self-attention comes after; 0 for none.",
    )
    G_lr: float = option(2e-4, 0, 1, above=True, flag="--G-lr", help="Adam's learning rate for the generator.")
    D_lr: float = option(4e-4, 0, 1, above=True, flag="--D-lr", help="Adam's learning rate for the discriminator.")
    head_lr: float = option(
        0.0025, 0, 1, above=True, help="Adam's learning rate for the direction head, whose rates are equalised."
    )
    D_steps: int = option(
        2, 1, 100, whole=True, flag="--D-steps", help="Steps of the discriminator for each step of the generator."
    )
    ortho: float = option(1e-4, 0, 1, help="Weight of the generator's orthogonal regularisation; 0 leaves it out.")
    standing: int = option(
        16,
        1,
        10**4,
        whole=True,
        help="Batches from which the statistics of batch normalisation are measured for a file.",
    )
    beta2: float = option(0.999, 0, 1, flag="", help="Adam's decay of the mean of squared gradients.")
    loss: str = option("hinge", words=LOSSES, help=PictureOptions.__dataclass_fields__["loss"].metadata["help"])
    gamma: float = option(0, 0, 1e6, help=PictureOptions.__dataclass_fields__["gamma"].metadata["help"])

    def __post_init__(self):
        super().__post_init__()
        sides = [side for side in (8, 16, 32, 64, 128, 256) if side <= self.resolution]
        if self.resolution not in CONFIGS and self.resolution not in (8, 16):
            raise TrainingError(
                f"resolution is {self.resolution}; expected one of 8, 16, {', '.join(map(str, CONFIGS))}"
            )
        if self.z_dim % (len(sides) + 1):
            raise TrainingError(
                f"z_dim is {self.z_dim}; expected a multiple of {len(sides) + 1}, the chunks into which BigGAN cuts z"
            )
        for name, allowed in (("attention", sides), ("D_attention", self.D_sides)):
            value = getattr(self, name)
            if value and value not in allowed:
                raise TrainingError(f"{name} is {value}; expected one of 0, {', '.join(map(str, allowed))}")
        if self.batch_gpu < 2:
            raise TrainingError("batch_gpu is 1; batch normalisation needs rounds of at least two pictures")

    @property
    def D_sides(self) -> list[int]:
        """The sides of the discriminator's maps that attention can come after, as BigGAN-PyTorch counts them."""
        return [16] if self.resolution == 32 else [side for side in (4, 8, 16, 32, 64, 128) if side < self.resolution]

    @classmethod
    def for_resolution(cls, resolution: int, **chosen: Any) -> "BigGANOptions":
        """The settings of `CONFIGS` for a resolution, except for those that are given by name in ``chosen``.

        Raises:
            TrainingError: there are none for this size, or a setting is not as it must be.
        """
        settings: dict[str, Any] = (
            CONFIGS[min(max(resolution, 32), 256)]._asdict() if resolution in (8, 16, *CONFIGS) else {}
        )
        if resolution < 32:  # sizes for tests and trials
            chunks = resolution.bit_length() - 2
            settings |= {"z_dim": 16 * chunks, "attention": resolution, "D_attention": 0}
        if chosen.get("loss") == "wgan-gp":
            settings |= {"gamma": 10.0, "D_reg_interval": 1}
        settings.update(chosen)
        settings.setdefault("batch", 32)
        return cls(resolution, **completed(settings))

    @property
    def rates(self) -> dict[str, float]:
        """Adam's learning rates, by "G", "D" and "head"."""
        return {"G": self.G_lr, "D": self.D_lr, "head": self.head_lr}
