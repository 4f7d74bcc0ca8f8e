"""What an optimiser sees of its descent, and the state of a search: copied to the CPU, and brought back."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch

from stylegan_invert.errors import ProjectionError

from .search import Search
from .settings import StoppingOptions
from .stopping import Stopping

Saved = Mapping[str, Any] | None


class Observer(Protocol):
    """The part of a `descent.Descent` that an optimiser uses.

    Attributes:
        current: returns the state of the search that is under way.
    """

    current: Callable[[], dict[str, Any]]

    def stopping(self, options: StoppingOptions | None, steps: int) -> Stopping:
        """The rules that may end a search of so many steps."""

    def report(self, search: Search, number: int, distance: torch.Tensor) -> None:
        """Be told of a step."""


def snapshot(search: Search) -> dict[str, Any]:
    """Copies of the variables of a search, and the states of its random generators."""
    return {
        "variables": [v.detach().cpu().clone() for v in search.variables],
        "random": [g.get_state() for g in search.randoms],
    }


def restore(search: Search, saved: Mapping[str, Any]) -> None:
    """Bring a search to where `snapshot` was made. A state also has "history", the distances so far, which are checked.

    Raises:
        ProjectionError: the snapshot is of another search.
    """
    came = [tuple(v.shape) for v in saved["variables"]]
    expected = [tuple(v.shape) for v in search.variables]
    if came != expected or len(saved["random"]) != len(search.randoms):
        raise ProjectionError(
            f"the state has variables of shapes {came}; this search has {expected}. Resume with the same method, options and "
            "targets"
        )
    if saved["history"].ndim != 2 or saved["history"].shape[1] != len(search.variables[0]):
        raise ProjectionError(
            f"the state has distances of the shape {tuple(saved['history'].shape)}; expected one column for each of "
            f"{len(search.variables[0])} codes"
        )
    with torch.no_grad():
        for variable, value in zip(search.variables, saved["variables"]):
            variable.copy_(value)
    for random, state in zip(search.randoms, saved["random"]):
        random.set_state(state)


def on_cpu(value: Any) -> Any:
    """Copies of all tensors in nested tables and lists, on the CPU."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, Mapping):
        return {key: on_cpu(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [on_cpu(one) for one in value]
    return value


def on_device(value: Any, device: torch.device) -> Any:
    """Copies of all tensors in nested tables and lists, on a device."""
    if isinstance(value, torch.Tensor):
        return value.to(device, copy=True)
    if isinstance(value, Mapping):
        return {key: on_device(one, device) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [on_device(one, device) for one in value]
    return value


def copies(variables: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Copies of tensors, without gradients."""
    return [v.detach().clone() for v in variables]
