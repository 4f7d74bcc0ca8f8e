"""The losses by name, and the text that ``--loss`` accepts: names with weights."""

import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from ..errors import meant
from .base import Distance, WeightedSum
from .digits import DigitFeatures
from .features import inception_features, squeezenet_features
from .identity import load_identity
from .lpips import SqueezeLPIPS, load_vgg_lpips
from .multi_resolution import MultiResolution
from .pixel import L1, MSE, SSE
from .spectrogram import LogMel, MultiResolutionSTFT, RealSpectrogram, Spectrogram

File = str | os.PathLike | None


class Loss(NamedTuple):
    """One loss.

    Attributes:
        make: a function that takes the path of the weight file, or None where none is needed, and whether a TorchScript file
            may be run, and returns the distance.
        weights: the name of its weight file in `io.weights.WEIGHTS`; None for a loss without a weight file.
        required: True if the loss cannot be computed without its weight file.
        media: the kinds of output that it compares, by their names in `media.medium.MEDIA`.
    """

    make: Callable[[Any, bool], Distance]
    weights: str | None = None
    required: bool = False
    media: tuple[str, ...] = ("picture",)


def _features(total: bool) -> Callable[[File, bool], Distance]:
    return lambda file, run: squeezenet_features(total) if file is None else inception_features(file, total)


LOSSES: dict[str, Loss] = {
    "lpips-squeeze": Loss(lambda file, run: SqueezeLPIPS()),
    "lpips-vgg": Loss(load_vgg_lpips, "vgg16", required=True),
    "multi-squeeze": Loss(lambda file, run: MultiResolution(SqueezeLPIPS())),
    "multi-vgg": Loss(lambda file, run: MultiResolution(load_vgg_lpips(file, run)), "vgg16", required=True),
    "mse": Loss(lambda file, run: MSE(), media=("picture", "sound")),
    "l1": Loss(lambda file, run: L1(), media=("picture", "sound")),
    "sse": Loss(lambda file, run: SSE()),
    "features": Loss(_features(total=False), "inception"),
    "features-sum": Loss(_features(total=True), "inception"),
    "identity": Loss(load_identity, "identity", required=True),
    "identity-ffhq": Loss(lambda file, run: load_identity(file, run, crop=True), "identity", required=True),
    "spectrogram": Loss(lambda file, run: Spectrogram(), media=("sound",)),
    "spectrogram-real": Loss(lambda file, run: RealSpectrogram(), media=("sound",)),
    "log-mel": Loss(lambda file, run: LogMel(), media=("sound",)),
    "multi-stft": Loss(lambda file, run: MultiResolutionSTFT(), media=("sound",)),
    "digits": Loss(lambda file, run: DigitFeatures(), media=("sound",)),
}
"""The losses by name. "multi-squeeze" and "multi-vgg" are LPIPS at several resolutions and L1 at the lowest, see
`multi_resolution`. "mse" is the mean squared error and "l1" the mean absolute error, both on the scale [-1, 1].
"sse" is the sum of squared errors on the scale [0, 1]. "features" is the mean, and "features-sum" the sum, of the
squared differences of a feature map: that of InceptionV3 (Mixed_7a) if its weight file is named, else the last one of
the shipped SqueezeNet. "identity" is one minus the cosine of the embeddings of two faces, and "identity-ffhq" the same of the
middle of pictures that are aligned as those of FFHQ. The last five compare sounds: four their spectrograms, see `spectrogram`,
and "digits" what the shipped classifier of spoken digits makes of them, see `digits`."""

DEFAULT_LOSS = "lpips-squeeze=1,mse=1"
DEFAULT_SOUND_LOSS = "multi-stft=1,l1=1"


def parse_terms(text: str) -> list[tuple[float, str]]:
    """The weights and names in a text such as "lpips-squeeze=1,mse=0.5".

    A name without a weight has the weight one. A name with the weight zero is left out.

    Raises:
        ValueError: a name is unknown, a weight is negative or not a number, or all weights are zero.
    """
    terms = []
    for part in text.split(","):
        name, equals, weight = (p.strip() for p in part.partition("="))
        if name not in LOSSES:
            raise ValueError(
                f"loss {name!r} in {text!r} is unknown; expected names from {', '.join(LOSSES)}, as in {DEFAULT_LOSS!r}"
                + meant(name, LOSSES)
            )
        try:
            value = float(weight) if equals else 1.0
        except ValueError:
            value = math.nan
        if not 0 <= value < math.inf:
            raise ValueError(f"the weight {weight!r} of {name!r} in {text!r} is not a number of at least 0")
        if value > 0:
            terms.append((value, name))
    if not terms:
        raise ValueError(f"every weight in {text!r} is zero; nothing would be compared")
    return terms


def unsuited(text: str, medium: str) -> list[str]:
    """The names in a text of losses (see `parse_terms`) that do not compare outputs of a kind."""
    return [name for _, name in parse_terms(text) if medium not in LOSSES[name].media]


def weights_of(text: str) -> set[str]:
    """The names in `io.weights.WEIGHTS` of the weight files that the losses in a text can use; see `parse_terms`."""
    used = (LOSSES[name].weights for _, name in parse_terms(text))
    return {name for name in used if name is not None}


def parse(text: str, run_torchscript: bool = False, **files: File) -> WeightedSum:
    """The weighted sum of losses that a text describes.

    Args:
        text: names from `LOSSES`, with weights; see `parse_terms`.
        run_torchscript: see `load_vgg_lpips`.
        files: the paths of weight files, by their name in `io.weights.WEIGHTS`: ``vgg16`` for "lpips-vgg" (see
            `load_vgg_lpips`), ``inception`` for "features" and "features-sum" (see `inception_features`), ``identity`` for
            "identity" and "identity-ffhq" (see `load_identity`).

    Raises:
        ValueError: the text is wrong, or a weight file is missing or wrong.
    """
    terms = parse_terms(text)
    for _, name in terms:
        loss = LOSSES[name]
        if loss.required and files.get(loss.weights or "") is None:
            raise ValueError(f"{name!r} needs the file of its network; name one (--{loss.weights})")
    return WeightedSum(
        [(value, LOSSES[name].make(files.get(LOSSES[name].weights or ""), run_torchscript)) for value, name in terms]
    )
