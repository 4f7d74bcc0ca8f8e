"""Losses by name, as ``--loss`` takes them."""

import math
import os
from collections.abc import Callable

from .base import Distance, WeightedSum
from .lpips import SqueezeLPIPS, load_vgg_lpips
from .pixel import L1, MSE

LOSSES: dict[str, Callable[..., Distance]] = {
    "lpips-squeeze": lambda vgg16: SqueezeLPIPS(),
    "lpips-vgg": lambda vgg16: load_vgg_lpips(vgg16),
    "mse": lambda vgg16: MSE(),
    "l1": lambda vgg16: L1(),
}

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


def parse(text: str, vgg16: str | os.PathLike | None = None) -> WeightedSum:
    """A weighted sum from a text; see `parse_terms`.

    Args:
        text: names from `LOSSES`, with weights.
        vgg16: file for "lpips-vgg"; see `load_vgg_lpips`. Only needed where that is named (`needs_vgg16`).

    Raises:
        ValueError: the text or the file makes no sense.
    """
    terms = parse_terms(text)
    if vgg16 is None and needs_vgg16(text):
        raise ValueError("'lpips-vgg' needs the file of a VGG16; name one (--vgg16)")
    return WeightedSum([(value, LOSSES[name](vgg16)) for value, name in terms])
