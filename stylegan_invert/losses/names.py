"""Losses by name, as ``--loss`` takes them."""

import math
import os
from collections.abc import Callable
from typing import NamedTuple

from .base import Distance, WeightedSum
from .features import inception_features, squeezenet_features
from .lpips import SqueezeLPIPS, load_vgg_lpips
from .pixel import L1, MSE, SSE


class Files(NamedTuple):
    """Weights of the networks that some losses need; see `io.download`."""

    vgg16: str | os.PathLike | None = None
    inception: str | os.PathLike | None = None


LOSSES: dict[str, Callable[[Files], Distance]] = {
    "lpips-squeeze": lambda files: SqueezeLPIPS(),
    "lpips-vgg": lambda files: load_vgg_lpips(files.vgg16),
    "mse": lambda files: MSE(),
    "l1": lambda files: L1(),
    "sse": lambda files: SSE(),
    "features": lambda files: _features(files, total=False),
    "features-sum": lambda files: _features(files, total=True),
}
"""Distances by name. "mse" and "l1" are means on the scale [-1, 1], "sse" is a sum on the scale [0, 1]; "features" is the mean
of the squared difference of a feature map, and "features-sum" the sum: InceptionV3's Mixed_7a where its weights are given, else
the shipped SqueezeNet's last."""


def _features(files: Files, total: bool) -> Distance:
    return squeezenet_features(total) if files.inception is None else inception_features(files.inception, total)


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
            known = ", ".join(LOSSES)
            raise ValueError(
                f"loss {name!r} in {text!r} is unknown; expected names from {known}, as in {DEFAULT_LOSS!r}"
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


def needs_vgg16(text: str) -> bool:
    """Whether a loss text names "lpips-vgg"."""
    return any(name == "lpips-vgg" for _, name in parse_terms(text))


def needs_features(text: str) -> bool:
    """Whether a loss text names "features" or "features-sum"."""
    return any(name.startswith("features") for _, name in parse_terms(text))


def parse(text: str, vgg16: str | os.PathLike | None = None, inception: str | os.PathLike | None = None) -> WeightedSum:
    """A weighted sum from a text; see `parse_terms`.

    Args:
        text: names from `LOSSES`, with weights.
        vgg16: file for "lpips-vgg"; see `load_vgg_lpips`. Only needed where that is named (`needs_vgg16`).
        inception: file for "features" and "features-sum"; see `inception_features`. Without it they use SqueezeNet.

    Raises:
        ValueError: the text or the file makes no sense.
    """
    terms = parse_terms(text)
    if vgg16 is None and needs_vgg16(text):
        raise ValueError("'lpips-vgg' needs the file of a VGG16; name one (--vgg16)")
    files = Files(vgg16, inception)
    return WeightedSum([(value, LOSSES[name](files)) for value, name in terms])
