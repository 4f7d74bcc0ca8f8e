"""The settings of the training of an encoder. No torch is imported here, so that ``--help`` stays quick."""

from dataclasses import dataclass, fields

from ..errors import TrainingError
from ..options import SEED, check_options, option


@dataclass(frozen=True)
class EncoderOptions:
    """Everything that decides how the training of an encoder goes; the help texts below document the attributes.

    Raises:
        TrainingError: a value is out of its range, or two settings contradict each other.
    """

    space: str = option("w+", words=("z", "w", "w+", "v+"), help="Space of the codes.", unset="w+; z without a W")
    kimg: float = option(100, 0, 1e9, above=True, metavar="N", help="Thousands of pictures to show in all.")
    seed: int = option(0, **SEED, help="Random seed of the weights, the latents and the order of the pictures.")
    batch: int = option(32, 1, 10**6, whole=True, help="Pictures per step.")
    batch_gpu: int = option(
        10**6,
        2,
        10**6,
        whole=True,
        unset="all of a step",
        help="Pictures per round. The gradients of a step's rounds are added up; batch normalisation works within a round.",
    )
    lr: float = option(0.001, 0, 1, above=True, help="Adam's learning rate; it falls to zero along a cosine.")
    width: int = option(
        16,
        4,
        256,
        whole=True,
        help="Channels of the first stage; 64 is a ResNet-18.",
        unset="16; 64 from 128 pixels on",
    )
    latent: str = option("mae", words=("mae", "mse"), help="Distance of codes: mean absolute or mean squared error.")
    latent_weight: float = option(
        0.1, 0, 1e6, help="Weight of the distance of codes; generated pictures alone have it."
    )
    loss: str = option(
        "lpips-squeeze=1,mse=1",
        words=("",),
        metavar="NAME=W,...",
        help="Distances between a picture and its reconstruction, with weights; none leaves them out.",
    )
    in_domain_weight: float = option(
        0,
        0,
        1e6,
        help="Weight of the distance between the code of a picture and that of its reconstruction (idinvert).",
    )
    mixing: float = option(0.5, 0, 1, help="For w+ and v+: share of generated pictures that mix two w.")
    alternate: str = option(
        "batch", words=("batch", "epoch"), help="Generated and real pictures take turns by batch or by epoch."
    )
    passes: int = option(3, 1, 100, whole=True, help="Passes over each picture in an iterative training.")
    ema_kimg: float = option(5, 0, 1e6, help="Half-life of the averaged weights, in thousands of pictures.")
    iterative: bool = False

    def __post_init__(self):
        declared = [field.name for field in fields(self) if field.metadata]
        check_options(EncoderOptions, {name: getattr(self, name) for name in declared}, TrainingError)
        if not isinstance(self.iterative, bool):
            raise TrainingError(f"iterative is {self.iterative!r}; expected True or False")
        if self.loss == "none" and self.latent_weight == 0:
            raise TrainingError("latent_weight is 0 and loss is none, so nothing would be learned; give one of them")
