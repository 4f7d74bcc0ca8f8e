"""A cache of tensors that are computed from frozen weights alone. It notices when a weight has changed."""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, TypeVar

import torch
from torch.utils.weak import WeakIdKeyDictionary

from . import native

T = TypeVar("T")


class _Entry(NamedTuple):
    """What is remembered of a weight.

    Attributes:
        fingerprint: the weight's `_fingerprint` when the results were computed.
        memory: a view of the weight. It keeps the memory from being given to another tensor, so that its address stays unique.
        results: what was computed, by key.
    """

    fingerprint: Hashable
    memory: torch.Tensor
    results: dict[Hashable, Any]


_entries: WeakIdKeyDictionary = WeakIdKeyDictionary()  # weight: _Entry


def keeps(weight: torch.Tensor) -> bool:
    """True if `kept` remembers what it computes from a weight: with native operations, and if no gradient of it is wanted."""
    return (
        weight.is_contiguous()
        and not (weight.requires_grad and torch.is_grad_enabled())
        and not torch.compiler.is_compiling()
        and type(weight) in native.PLAIN
        and not weight.is_inference()
        and native.is_native(weight)
    )


def kept(weight: torch.Tensor, key: Hashable, compute: Callable[[torch.Tensor], T]) -> T:
    """``compute(weight)``, from the cache if it is there and the weight has not changed since.

    On a CPU every change is noticed. On a GPU changes are noticed that torch counts (in-place operations, under
    ``torch.no_grad()`` too) and new memory (``weight.data = other``), but not an in-place change through ``weight.data``.

    Args:
        weight: a tensor; nothing is remembered unless it `keeps`.
        key: a name for the computation, with all else that the result depends on.
        compute: is given a tensor with the weight's memory. Its result may share that memory, but must not be changed.
    """
    if not keeps(weight):
        return compute(weight)
    fingerprint = _fingerprint(weight)
    entry = _entries.get(weight)
    if entry is None or entry.fingerprint != fingerprint:
        entry = _entries[weight] = _Entry(fingerprint, weight.detach(), {})
    if key not in entry.results:
        with torch.inference_mode(False), torch.no_grad():  # so that later calls with gradients can use the result
            entry.results[key] = compute(
                weight.detach()
            )  # a result that were the weight itself would keep it alive for ever
    return entry.results[key]


def _fingerprint(weight: torch.Tensor) -> Hashable:
    """A value that changes when a weight does.

    On a CPU it is a checksum of all numbers, which takes a fraction of the time that it saves. On a GPU the program would have to
    wait for a checksum, so there it is the memory's address and torch's count of changes.
    """
    if weight.device.type == "cpu":
        return native.checksum(weight)
    return weight.device, weight.dtype, weight.shape, weight.data_ptr(), weight._version
