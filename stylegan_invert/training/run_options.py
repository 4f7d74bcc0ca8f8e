"""What the options of all trainings of a GAN have in common. This file imports no torch."""

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from ..errors import TrainingError
from ..options import SEED, check_options, option

HEADS = ("none", "direction")
EMBEDDERS = ("both", "discriminator")
LOSSES = ("nsgan", "lsgan", "wgan-gp", "hinge")  # `gan_losses.ADVERSARIAL`, without torch
AUGMENTS = ("none", "fixed", "ada")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What decides how a run goes, whatever is trained. A run keeps its options in ``training_options.json``.

    Attributes:
        c_dim: the number of classes; 0 for none.
        arch: the architecture, a key of `architectures.ARCHITECTURES`.
        train: what changes: "all" where there is no option of this name.
        augment: how the discriminator's pictures are augmented: "none" where there is no option of this name.
        D_steps: the steps of the discriminator for each of the generator: 1 where there is no option of this name.
        normalize_z: True if the generator divides z by its root mean square.
        attached: True for a head that is put on a trained discriminator.
        data_options: the options of the command line that say what the training set is.
        by_data: the options whose defaults depend on the training set, for the command line.
        default_texts: defaults in words, for the command line.

    The help texts below are the documentation of the other attributes.

    Raises:
        TrainingError: a value is out of its range, or two settings contradict each other.
    """

    arch: ClassVar[str]
    train: ClassVar[str] = "all"
    augment: ClassVar[str] = "none"
    D_steps: ClassVar[int] = 1
    normalize_z: ClassVar[bool] = False
    attached: ClassVar[bool] = False
    data_options: ClassVar[tuple[str, ...]] = ()
    by_data: ClassVar[tuple[str, ...]] = ()
    default_texts: ClassVar[dict[str, str]] = {"batch_gpu": "all", "ema_kimg": "10 at batch 32"}

    c_dim: int = option(0, 0, 10**6, whole=True, flag="")
    kimg: float = option(25000, 0, 1e9, above=True, metavar="N", help="Thousands of pictures to show in all.")
    seed: int = option(0, **SEED, help="Random seed of the weights, the latents and the order of the pictures.")
    head: str = option(
        "none",
        words=HEADS,
        help="none: a plain discriminator. direction: it also learns to find latents, which project --method de needs.",
    )
    embedding_weight: float = option(
        1, 0, 1e6, help="Weight of the direction head's loss until --embedding-later-kimg."
    )
    embedding_weight_later: float = option(
        10, 0, 1e6, help="Weight of the direction head's loss from --embedding-later-kimg on."
    )
    embedding_later_kimg: float = option(
        300, 0, 1e9, help="Thousands of pictures after which --embedding-weight-later applies."
    )
    embedding_for: str = option(
        "both",
        words=EMBEDDERS,
        help="Which networks lower the direction head's loss: both, as in its paper, or the discriminator alone, so that the "
        "generator learns as it does without a head.",
    )
    z_dim: int = option(512, 1, 4096, whole=True, help="Size of z.")
    batch: int = option(32, 1, 10**6, whole=True, help="Pictures per step.")
    batch_gpu: int = option(
        32,
        1,
        10**6,
        whole=True,
        help="Pictures per round if a step does not fit in memory. The gradients of a step's rounds are added up.",
    )
    beta1: float = option(0.0, 0, 1, flag="", help="Adam's decay of the mean of gradients.")
    beta2: float = option(0.99, 0, 1, flag="", help="Adam's decay of the mean of squared gradients.")
    D_reg_interval: int = option(16, 1, 10**6, whole=True, flag="", help="Steps between R1 regularisations.")
    loss: str = option(
        "nsgan",
        words=LOSSES,
        help="What the two networks play for: the logistic loss (the official one), least squares, Wasserstein distance with "
        "gradient penalty, or hinge.",
    )
    gamma: float = option(
        10, 0, 1e6, help="Weight of the penalty on the discriminator's gradient: R1, or that of wgan-gp."
    )
    ema_kimg: float = option(10, 0, 1e6, help="Half-life of the averaged weights, in thousands of pictures.")
    ema_rampup: float = option(
        0.05, 0, 1e6, flag="", help="The half-life is at most this share of the pictures shown so far; 0 sets no limit."
    )

    def __post_init__(self):
        declared = [field.name for field in fields(self) if field.metadata]
        check_options(type(self), {name: getattr(self, name) for name in declared}, TrainingError)
        if self.augment == "fixed" and self.augment_p == 0:
            raise TrainingError("--aug fixed with probability 0 augments nothing; give a probability with --p")
        if self.augment == "ada" and self.loss == "wgan-gp":
            raise TrainingError(
                "--aug ada goes by the sign of the discriminator's output, which has no meaning with --loss wgan-gp; "
                "choose --aug fixed or another loss"
            )
        if self.batch % self.batch_gpu:
            raise TrainingError(f"batch is {self.batch}; expected a multiple of batch_gpu, {self.batch_gpu}")

    @classmethod
    def for_data(cls, data: Any, **chosen: Any) -> "RunOptions":
        """The options for a training set, except for those that are given by name in ``chosen``."""
        raise NotImplementedError

    @property
    def rates(self) -> dict[str, float]:
        """Adam's learning rates, by "G" and "D"."""
        raise NotImplementedError

    def lambda_embedding(self, nimg: int) -> float:
        """The weight of the embedding loss after ``nimg`` pictures."""
        return self.embedding_weight if nimg < self.embedding_later_kimg * 1000 else self.embedding_weight_later


@dataclass(frozen=True, kw_only=True)
class PictureOptions(RunOptions):
    """`RunOptions` of networks that make pictures.

    Attributes:
        channels: the channels of the pictures.
    """

    data_options: ClassVar[tuple[str, ...]] = ("resolution", "cond", "mirror", "grey", "pictures", "aug")

    channels: int = option(3, 1, 4, whole=True, flag="")
    augment: str = option(
        "none",
        words=AUGMENTS,
        flag="",
        help="Augment the pictures that the discriminator sees. ada is adaptive augmentation: it changes the probability.",
    )
    augment_p: float = option(
        0, 0, 1, flag="--p", help="Probability of each augmentation; for ada (adaptive augmentation) the first one."
    )
    ada_target: float = option(
        0.6,
        -1,
        1,
        flag="--target",
        help="ada raises the probability while the mean sign of the discriminator's output on real pictures is above this "
        "value, and lowers it below.",
    )
    ada_kimg: float = option(
        500, 0, 1e9, above=True, flag="", help="Thousands of pictures in which ada can change the probability by one."
    )
    ada_interval: int = option(
        4, 1, 10**6, whole=True, flag="", help="Steps between two changes of the probability by ada."
    )

    @classmethod
    def for_resolution(cls, resolution: int, **chosen: Any) -> "PictureOptions":
        """The options for pictures of a size, except for those that are given by name in ``chosen``.

        Raises:
            TrainingError: there are none for this size, or a setting is not as it must be.
        """
        raise NotImplementedError

    @classmethod
    def for_data(cls, data: Any, **chosen: Any) -> "PictureOptions":
        """`for_resolution`, for the pictures of a set."""
        return cls.for_resolution(data.resolution, channels=data.channels, c_dim=data.c_dim, **chosen)


def completed(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with the values that follow from others: ``batch_gpu`` and ``ema_kimg``."""
    settings.setdefault("batch_gpu", settings["batch"])
    settings.setdefault("ema_kimg", settings["batch"] * 10 / 32)
    return settings
