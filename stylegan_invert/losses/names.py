"""Losses by name, as ``--loss`` takes them."""

import math
import os
from collections.abc import Callable
from typing import NamedTuple

from .base import Distance, WeightedSum
from .features import inception_features, squeezenet_features
from .lpips import SqueezeLPIPS, load_vgg_lpips
from .pixel import L1, MSE, SSE

File = str | os.PathLike | None


class Loss(NamedTuple):
    """One loss.

    Attributes:
        make: the distance, from the file of its weights, or None.
        weights: the name of its weight file in `io.weights.WEIGHTS`; None for a loss without one.
        required: True if it cannot do without that file.
    """

    make: Callable[[File], Distance]
    weights: str | None = None
    required: bool = False


def _features(total: bool) -> Callable[[File], Distance]:
    return lambda file: squeezenet_features(total) if file is None else inception_features(file, total)


LOSSES: dict[str, Loss] = {
    "lpips-squeeze": Loss(lambda file: SqueezeLPIPS()),
    "lpips-vgg": Loss(load_vgg_lpips, "vgg16", required=True),
    "mse": Loss(lambda file: MSE()),
    "l1": Loss(lambda file: L1()),
    "sse": Loss(lambda file: SSE()),
    "features": Loss(_features(total=False), "inception"),
    "features-sum": Loss(_features(total=True), "inception"),
}
"""Distances by name. "mse" and "l1" are means on the scale [-1, 1], "sse" is a sum on the scale [0, 1]. "features" is the mean
of the squared difference of a feature map, and "features-sum" the sum: InceptionV3's Mixed_7a where its weights are given, else
the shipped SqueezeNet's last."""

DEFAULT_LOSS = "lpips-squeeze=1,mse=1"


def parse_terms(text: str) -> list[tuple[float, str]]:
    """Weights and names of "name=weight,name=weight"; a name alone has weight one, a weight of zero leaves the name out.

    Raises:
        ValueError: a name is unknown, a weight is no number, or nothing is left.
    """
    terms = []
    for part in text.split(","):
        name, equals, weight = (p.strip() for p in part.partition("="))
        if name not in LOSSES:
            raise ValueError(
                f"loss {name!r} in {text!r} is unknown; expected names from {', '.join(LOSSES)}, as in {DEFAULT_LOSS!r}"
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


def weights_of(text: str) -> set[str]:
    """The weight files that a loss text can use, by their name in `io.weights.WEIGHTS`."""
    return {LOSSES[name].weights for _, name in parse_terms(text)} - {None}


def parse(text: str, **files: File) -> WeightedSum:
    """A weighted sum from a text; see `parse_terms`.

    Args:
        text: names from `LOSSES`, with weights.
        files: the files of weights, by their name in `io.weights.WEIGHTS`: ``vgg16`` for "lpips-vgg" (see
            `load_vgg_lpips`), ``inception`` for "features" and "features-sum" (see `inception_features`).

    Raises:
        ValueError: the text or a file makes no sense, or a file is missing.
    """
    terms = parse_terms(text)
    for _, name in terms:
        loss = LOSSES[name]
        if loss.required and files.get(loss.weights) is None:
            raise ValueError(f"{name!r} needs the file of its network; name one (--{loss.weights})")
    return WeightedSum([(value, LOSSES[name].make(files.get(LOSSES[name].weights or ""))) for value, name in terms])
