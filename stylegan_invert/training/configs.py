"""Settings of a training run: sizes by resolution, and everything else that can be chosen."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import TrainingError


class Config(NamedTuple):
    """Sizes and rates for one resolution.

    Attributes:
        channel_base, channel_max: channels at resolution r are min(channel_base // r, channel_max).
        dim: size of z and of w. mapping_layers: of the mapping network.
        batch: pictures per step. lr: Adam's rate for both networks. gamma: R1 weight.
        mixing: probability of style mixing. pl_weight: of path-length regularisation; 0 leaves it out.
        parameters: of generator and discriminator, for colour pictures without classes and without a direction head.
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
"""From 32x32, which two processor cores train in hours, to 1024x1024, for several large GPUs.

The rule for ``gamma`` is that of stylegan2-ada-pytorch, 0.0002 R^2 / batch, except where small networks were found to
want more.
"""

HEADS = ("none", "direction")
AUGMENTS = ("none", "fixed", "ada")


@dataclass(frozen=True)
class Options:
    """Everything that decides how a run goes; kept in its ``training_options.json`` and in its checkpoints.

    Attributes:
        resolution, channels, c_dim: of the pictures.
        kimg: length of the run, in thousands of real pictures shown.
        seed: of weights, latents and order.
        head: "none" for the official discriminator, "direction" for one that embeds the latent direction.
        embedding_weight, embedding_weight_later, embedding_later_kimg: lambda_emb at first, later, and from when on.
        normalize_z: False is Cho's own sampling, in which the generator does not divide z by its root mean square.
        z_dim, w_dim, mapping_layers, channel_base, channel_max: sizes.
        mapping_lr: the mapping network's learning rate, as a share of lr.
        batch: pictures per step. batch_gpu: pictures per round, whose gradients are added up.
        lr, beta1, beta2: Adam's. G_reg_interval, D_reg_interval: regularise every so many steps.
        gamma, mixing, pl_weight: see `Config`.
        ema_kimg: half-life of the averaged weights. ema_rampup: at most this share of the pictures shown so far.
        augment: "none", "fixed" or "ada". augment_p: strength, at the start for "ada". ada_target: of the mean sign of
            D at real pictures. ada_kimg: the strength changes by one in this time. ada_interval: in steps.
        fp16: half precision in the four highest resolutions, on CUDA.
        mbstd_group_size: pictures per group of the minibatch statistics; the direction head has none.

    Raises:
        TrainingError: an unknown word, or two settings that contradict each other.
    """

    resolution: int
    channels: int = 3
    c_dim: int = 0
    kimg: float = 25000
    seed: int = 0
    head: str = "none"
    embedding_weight: float = 1
    embedding_weight_later: float = 10
    embedding_later_kimg: float = 300
    normalize_z: bool = True
    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 2
    mapping_lr: float = 0.01
    channel_base: int = 32768
    channel_max: int = 512
    batch: int = 32
    batch_gpu: int = 32
    lr: float = 0.0025
    beta1: float = 0.0
    beta2: float = 0.99
    G_reg_interval: int = 4
    D_reg_interval: int = 16
    gamma: float = 10
    mixing: float = 0.9
    pl_weight: float = 2
    ema_kimg: float = 10
    ema_rampup: float = 0.05
    augment: str = "none"
    augment_p: float = 0
    ada_target: float = 0.6
    ada_kimg: float = 500
    ada_interval: int = 4
    fp16: bool = False
    mbstd_group_size: int = 4

    def __post_init__(self):
        for name, known in (("head", HEADS), ("augment", AUGMENTS)):
            if getattr(self, name) not in known:
                raise TrainingError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(known)}")
        if self.augment == "fixed" and self.augment_p == 0:
            raise TrainingError("augment is 'fixed' and augment_p 0, which augments nothing; give a strength (--p)")
        if min(self.channel_base // self.resolution, self.channel_max) < 1:
            raise TrainingError(
                f"channel_base is {self.channel_base}; expected at least the resolution, {self.resolution}"
            )
        if self.batch % self.batch_gpu:
            raise TrainingError(f"batch is {self.batch}; expected a multiple of batch_gpu, {self.batch_gpu}")
        group = min(self.mbstd_group_size, self.batch_gpu)
        if self.head == "none" and self.batch_gpu % group:
            raise TrainingError(
                f"{self.batch_gpu} pictures per round do not divide into the groups of {group} that the discriminator compares"
            )

    @classmethod
    def for_resolution(cls, resolution: int, **chosen: Any) -> "Options":
        """The settings of `CONFIGS` for a resolution, but for what is ``chosen``.

        Raises:
            TrainingError: the resolution is not a power of two from 8 to 1024.
        """
        if resolution not in (8, 16, *CONFIGS):
            raise TrainingError(
                f"resolution is {resolution}; expected a power of two from 8 to {max(CONFIGS)}, as --resolution {min(CONFIGS)}"
            )
        c = CONFIGS[max(resolution, min(CONFIGS))]
        settings = dict(
            z_dim=c.dim, w_dim=c.dim, mapping_layers=c.mapping_layers, channel_base=c.channel_base, channel_max=c.channel_max,
            batch=c.batch, lr=c.lr, gamma=c.gamma, mixing=c.mixing, pl_weight=c.pl_weight,
        )  # fmt: skip
        if chosen.get("head") == "direction":
            # The official share leaves the latents as they begin; with this one the head learned more, at no cost to the pictures.
            settings["mapping_lr"] = 0.1
        settings.update(chosen)
        settings.setdefault("batch_gpu", settings["batch"])
        settings.setdefault("ema_kimg", settings["batch"] * 10 / 32)
        return cls(resolution, **settings)

    @property
    def network_kwargs(self) -> dict[str, Any]:
        half = dict(num_fp16_res=4, conv_clamp=256) if self.fp16 else {}
        return dict(channel_base=self.channel_base, channel_max=self.channel_max, **half)

    def lambda_embedding(self, nimg: int) -> float:
        """The weight of the embedding loss after ``nimg`` pictures."""
        return self.embedding_weight if nimg < self.embedding_later_kimg * 1000 else self.embedding_weight_later
