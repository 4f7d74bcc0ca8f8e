"""Settings of a training run: `CONFIGS`, the sizes for each resolution, and `Options`, everything that can be chosen."""

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, NamedTuple

from ..errors import TrainingError
from ..options import option
from .run_options import PictureOptions, completed


class Config(NamedTuple):
    """Sizes and rates for one resolution.

    Attributes:
        channel_base: a layer at resolution r has channel_base // r channels, but at most ``channel_max``.
        channel_max: the largest number of channels of a layer.
        dim: the size of z and of w.
        mapping_layers: the layers of the mapping network.
        batch: pictures per step.
        lr: Adam's learning rate for both networks.
        gamma: the weight of R1.
        mixing: the probability of style mixing.
        pl_weight: the weight of path-length regularisation; 0 leaves it out.
        parameters: the number of parameters of generator and discriminator, for colour pictures without classes and without a
            direction head.
    """

    channel_base: int
    channel_max: int
    dim: int
    mapping_layers: int
    batch: int
    lr: float
    gamma: float
    mixing: float
    pl_weight: float
    parameters: tuple[int, int]


CONFIGS = {
    32: Config(1024, 96, 128, 2, 32, 0.0025, 0.05, 0.0, 0.0, (511_891, 535_233)),
    64: Config(4096, 128, 128, 2, 32, 0.0025, 0.05, 0.0, 0.0, (1_395_288, 1_465_025)),
    128: Config(8192, 256, 256, 2, 32, 0.0025, 0.1, 0.9, 2.0, (5_744_349, 5_973_313)),
    256: Config(16384, 512, 512, 8, 16, 0.0025, 0.8, 0.9, 2.0, (24_767_458, 24_001_089)),
    512: Config(32768, 512, 512, 8, 8, 0.0025, 6.5, 0.9, 2.0, (30_276_583, 28_982_849)),
    1024: Config(32768, 512, 512, 8, 4, 0.002, 50.0, 0.9, 2.0, (30_370_060, 29_012_513)),
}
"""The sizes for each resolution. At 32x32 two processor cores train a network in hours; 1024x1024 needs several large GPUs.

``gamma`` follows the rule of stylegan2-ada-pytorch, 0.0002 R^2 / batch, except where small networks were found to need more.
"""

TRAINED = ("all", "discriminator", "head")
SAMPLINGS = {"normal": (True, False), "angles": (False, False), "uniform": (False, True)}
"""The values of ``--sampling``, with ``normalize_z`` and ``uniform_z`` of `Options`."""

BY_RESOLUTION = ("batch", "lr", "gamma", "mixing", "pl_weight", "z_dim", "w_dim", "mapping_layers", "channel_base")
BY_RESOLUTION += ("channel_max",)
"""The options for which `Options.for_resolution` has values of its own."""


@dataclass(frozen=True)
class Options(PictureOptions):
    """The options of a StyleGAN2: everything that decides how a run goes.

    Attributes:
        resolution: the side of the pictures in pixels.
        normalize_z: True if the generator divides z by its root mean square, as official networks do; False is Cho's own
            sampling.
        uniform_z: True if the generator brings z to U(-1, 1), the other of Cho's two samplings; ``normalize_z`` is False then.
        fp16: True computes the four highest resolutions in half precision, on CUDA.
        networks: the arguments of the constructors of "G" and "D", by name, for networks that began as those of a file; None
            builds them by the sizes below.
        attached: True for a head that is put on a trained discriminator (`networks.direction.AttachedDirection`).

    The help texts below are the documentation of the other attributes.

    Raises:
        TrainingError: a value is out of its range, or two settings contradict each other.
    """

    arch: ClassVar[str] = "stylegan2"
    by_data: ClassVar[tuple[str, ...]] = BY_RESOLUTION
    default_texts: ClassVar[dict[str, str]] = {
        **PictureOptions.default_texts,
        "mapping_lr": "0.01; 0.1 with --head direction",
    }

    resolution: int = option(low=8, high=1024, whole=True, flag="")
    _: KW_ONLY
    train: str = option(
        "all",
        words=TRAINED,
        help="What changes: all; the discriminator with its head; or the head alone. Generator and discriminator stay as they "
        "are in the file where they are not trained.",
    )
    attach_kimg: float = option(
        16,
        0,
        1e6,
        help="Thousands of generated pictures from which a head is first fitted by regression, if it is put on a network file "
        "whose discriminator has none.",
    )
    normalize_z: bool = True
    uniform_z: bool = False
    w_dim: int = option(512, 1, 4096, whole=True, help="Size of w.")
    mapping_layers: int = option(2, 1, 64, whole=True, help="Layers of the mapping network.")
    mapping_lr: float = option(
        0.01, 0, 100, above=True, help="The mapping network's learning rate, as a share of --lr."
    )
    channel_base: int = option(32768, 8, 2**20, whole=True, help="Channels at r x r are this over r, ...")
    channel_max: int = option(512, 1, 2**16, whole=True, help="... but at most this.")
    lr: float = option(0.0025, 0, 1, above=True, help="Adam's learning rate for both networks.")
    G_reg_interval: int = option(4, 1, 10**6, whole=True, flag="", help="Steps between path-length regularisations.")
    mixing: float = option(0.9, 0, 1, help="Probability that a picture uses two different w (style mixing).")
    pl_weight: float = option(2, 0, 1e6, help="Weight of path-length regularisation; 0 leaves it out.")
    fp16: bool = False
    networks: dict[str, dict[str, Any]] | None = None
    attached: bool = False
    mbstd_group_size: int = option(
        4,
        1,
        10**6,
        whole=True,
        flag="",
        help="Size of the groups of pictures that the discriminator compares (minibatch standard deviation); unused with "
        "the direction head.",
    )

    def __post_init__(self):
        super().__post_init__()
        for name in ("normalize_z", "uniform_z", "fp16", "attached"):
            if not isinstance(getattr(self, name), bool):
                raise TrainingError(f"{name} is {getattr(self, name)!r}; expected True or False")
        if self.networks is not None and not isinstance(self.networks, dict):
            raise TrainingError(f"networks is {self.networks!r}; expected None or a table of arguments")
        if self.normalize_z and self.uniform_z:
            raise TrainingError("normalize_z and uniform_z are both True; expected one way to treat z at most")
        if self.train == "head" and (self.head != "direction" or self.augment != "none"):
            raise TrainingError("--train head needs --head direction, and shows no picture that could be augmented")
        if min(self.channel_base // self.resolution, self.channel_max) < 1:
            raise TrainingError(
                f"channel_base is {self.channel_base}; expected at least the resolution, {self.resolution}"
            )
        group = min(self.mbstd_group_size, self.batch_gpu)
        if (self.head == "none" or self.attached) and self.batch_gpu % group:
            raise TrainingError(
                f"{self.batch_gpu} pictures per round do not divide into the groups of {group} that the discriminator compares"
            )

    @classmethod
    def for_resolution(cls, resolution: int, **chosen: Any) -> "Options":
        """The settings of `CONFIGS` for a resolution, except for those that are given by name in ``chosen``.

        Raises:
            TrainingError: the resolution is not a power of two from 8 to 1024, or a setting is not as it must be.
        """
        if resolution not in (8, 16, *CONFIGS):
            raise TrainingError(
                f"resolution is {resolution}; expected a power of two from 8 to {max(CONFIGS)}, as --resolution {min(CONFIGS)}"
            )
        c = CONFIGS[max(resolution, min(CONFIGS))]
        settings = {name: getattr(c, name) for name in BY_RESOLUTION if name not in ("z_dim", "w_dim")}
        settings |= {"z_dim": c.dim, "w_dim": c.dim}
        if chosen.get("head") == "direction":
            # With the official 0.01 the mapping network hardly changes. With this value the head learned more, and the pictures
            # were as good.
            settings["mapping_lr"] = 0.1
        if chosen.get("loss") == "wgan-gp":  # as in its paper: lambda 10, and the penalty in every step
            settings |= {"gamma": 10.0, "D_reg_interval": 1}
        settings.update(chosen)
        return cls(resolution, **completed(settings))

    @property
    def rates(self) -> dict[str, float]:
        """Adam's learning rates, by "G" and "D"."""
        return {"G": self.lr, "D": self.lr}

    @property
    def network_kwargs(self) -> dict[str, Any]:
        """Arguments that the synthesis network and the discriminator share."""
        half = dict(num_fp16_res=4, conv_clamp=256) if self.fp16 else {}
        return dict(channel_base=self.channel_base, channel_max=self.channel_max, **half)
