"""The table of optimisers under the descent, and those that take a step along each gradient.

Each function takes (descent, search, objective, steps, saved, options), leaves the search's variables where it ended, and returns
the distances before each step, (steps, M), on the CPU. ``saved`` is the state of an interrupted run, or None.
"""

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.optim.optimizer import Optimizer

from .lbfgs import lbfgs
from .lbfgs_b import lbfgs_b
from .objective import Objective
from .search import Search, any_of, check_numbers, evaluate
from .settings import StoppingOptions
from .state import Observer, Saved, copies, on_cpu, restore, snapshot


class _Uncompiled:
    """The methods of an optimiser without the wrappers that keep torch.compile away from them.

    The wrappers import torch._dynamo at the first call, which takes a second, and nothing here is compiled.
    """

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)


class Adam(_Uncompiled, torch.optim.Adam):
    """torch.optim.Adam: the same arguments, numbers and state."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))


class Normalised(_Uncompiled, Optimizer):
    """Steps against the gradient of each vector (the last axis), with a length of ``lr`` times ``unit``.

    Args:
        params: tensors (N, ..., D).
        lr: the rate.
        unit: a tensor that is broadcast against the parameters.
    """

    def __init__(self, params: Sequence[torch.Tensor], lr: float, unit: torch.Tensor):
        super().__init__(params, {"lr": lr})
        self.unit = unit

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # torch's is overloaded
        """Take a step; ``closure`` is torch's and has no use here."""
        for group in self.param_groups:
            for x in group["params"]:
                length = x.grad.norm(dim=-1, keepdim=True)
                x -= torch.where(length > 0, group["lr"] * self.unit / length, 0.0) * x.grad


def adam(*arguments: Any) -> torch.Tensor:
    """Adam with the search's schedule and betas, all rows side by side."""
    search = arguments[1]
    return _descend("adam", Adam(search.variables, lr=search.rate(0), betas=search.betas), *arguments)


def normalised(*arguments: Any) -> torch.Tensor:
    """Normalised steps with the schedule of a search in W, W+, V or V+, all rows side by side."""
    search = arguments[1]
    return _descend("normalised", Normalised(search.variables, search.rate(0), search.spread), *arguments)


def _descend(
    by: str,
    optimizer: Optimizer,
    descent: Observer,
    search: Search,
    objective: Objective,
    steps: int,
    saved: Saved,
    options: StoppingOptions | None,
) -> torch.Tensor:
    """Step after step with a rate that the search sets. If a rule may end it early, it ends at the best place it saw."""
    stopping = descent.stopping(options, steps)
    best = _Best() if stopping.asked else None
    history: list[torch.Tensor] = []
    if saved is not None:
        restore(search, saved)
        optimizer.load_state_dict(copy.deepcopy(saved["optimizer"]))
        history = list(saved["history"].to(search.variables[0].device))
        for distance in history:
            stopping.feed(distance)
        if best is not None:
            best.distance, best.places = saved["best"]["distance"].to(history[0]), copies(saved["best"]["places"])

    def state() -> dict[str, Any]:
        known = {"history": torch.stack(history), "optimizer": optimizer.state_dict()}
        if best is not None:
            known["best"] = {"distance": best.distance, "places": best.places}
        return {"by": by, **snapshot(search), **on_cpu(known)}

    descent.current = state
    for step in range(len(history), steps):
        if stopping.due():
            break
        for group in optimizer.param_groups:
            group["lr"] = search.rate(step)
        total, distance = evaluate(search, objective, step)
        optimizer.zero_grad(set_to_none=True)
        total.sum().backward()
        if best is not None:
            best.keep(distance.detach(), search.variables)
        optimizer.step()
        search.settle()
        history.append(distance.detach())
        stopping.feed(history[-1])
        if stopping.asked or _look_now(step, steps, distance.device):
            check_numbers(any_of(history[-1], search.restarts), step, steps, search.remedy)
        descent.report(search, step + 1, history[-1])
    if best is not None and best.places:
        with torch.no_grad():
            for variable, place in zip(search.variables, best.places):
                variable.copy_(place)
    return torch.stack(history).cpu() if history else torch.zeros([0, len(search.variables[0])])


class _Best:
    """The best place of each row so far.

    Attributes:
        distance: (M,), there; empty before the first.
        places: the variables there.
    """

    def __init__(self) -> None:
        self.distance = torch.zeros([0])
        self.places: list[torch.Tensor] = []

    def keep(self, distance: torch.Tensor, variables: Sequence[torch.Tensor]) -> None:
        """Look at a place: its distances (M,) and variables."""
        if not self.places:
            self.distance, self.places = distance.clone(), copies(variables)
            return
        better = distance < self.distance
        self.distance = torch.where(better, distance, self.distance)
        for place, variable in zip(self.places, variables):
            place[better] = variable.detach()[better]


OPTIMIZERS: dict[str, Callable[..., torch.Tensor]] = {
    "adam": adam,
    "normalised": normalised,
    "lbfgs": lbfgs,
    "lbfgs-b": lbfgs_b,
}


def _look_now(step: int, steps: int, device: torch.device) -> bool:
    """True if `check_numbers` is due. Looking makes a GPU wait, so there it is done every 20 steps and at the end."""
    return device.type == "cpu" or step % 20 == 0 or step == steps - 1
