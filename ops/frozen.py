"""What is computed from weights alone, kept while they stay as they are."""

from collections.abc import Callable, Hashable
from typing import TypeVar

import torch
from torch.utils.weak import WeakIdKeyDictionary

from . import native

T = TypeVar("T")

_kept: WeakIdKeyDictionary = WeakIdKeyDictionary()  # weight: (its checksum, {key: what was made})


def keeps(weight: torch.Tensor) -> bool:
    """Whether what `kept` makes of a weight is remembered: with native operations on a CPU, if no gradient of it is wanted."""
    return (
        weight.device.type == "cpu"
        and weight.is_contiguous()
        and not (weight.requires_grad and torch.is_grad_enabled())
        and not torch.compiler.is_compiling()
        and type(weight) in native.PLAIN
        and not weight.is_inference()
        and native.is_native(weight)
    )


def kept(weight: torch.Tensor, key: Hashable, make: Callable[[torch.Tensor], T]) -> T:
    """``make(weight)``, which is remembered if the weight `keeps`.

    A checksum of all its numbers is taken at each call, so that no change goes unseen, be it through ``.data``; that takes a
    fraction of what it saves.
    """
    if not keeps(weight):
        return make(weight)
    checksum = native.checksum(weight)
    known = _kept.get(weight)
    if known is None or known[0] != checksum:
        known = _kept[weight] = (checksum, {})
    if key not in known[1]:
        with torch.inference_mode(False), torch.no_grad():  # so that later calls with gradients can have it, too
            known[1][key] = make(weight)
    return known[1][key]
