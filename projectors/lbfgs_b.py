"""SciPy's L-BFGS-B under the descent, for one row after another: each has a line search of its own.

SciPy computes on the CPU in float64.
"""

import contextlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from .lbfgs import HISTORY
from .objective import Objective
from .search import Search, any_of, check_numbers, evaluate
from .settings import StoppingOptions
from .state import Observer, Saved, on_cpu, restore, snapshot
from .stopping import Stopping


def lbfgs_b(
    descent: Observer,
    search: Search,
    objective: Objective,
    steps: int,
    saved: Saved,
    options: StoppingOptions | None,
) -> torch.Tensor:
    """Minimise each row alone; the arguments are those of every optimiser, see `optimisers`."""
    count = len(search.variables[0])
    history, first, of_row, most = torch.full([steps, count], torch.nan), 0, None, 0
    if saved is None:
        with torch.no_grad():
            now = evaluate(search, objective)[1]
    else:
        restore(search, saved)
        history, now = saved["history"].clone(), saved["now"].to(search.variables[0].device, copy=True)
        first, of_row, most = saved["row"], saved["of_row"], saved["most"]
    for row in range(first, count):
        stopping = descent.stopping(options, (row + 1) * steps)
        notes = _Notes(descent, search, row, history, now, stopping, of_row, most)
        one = search.part([row])
        with contextlib.suppress(StopIteration):
            if stopping.due():
                raise StopIteration
            _minimise(one, objective.part([row]), steps, of_row, notes)
        notes.put(one)
        history[notes.taken :, row] = notes.ended_at(float(now[row]))
        most, of_row = max(most, notes.taken), None
    check_numbers(any_of(history[-1], search.restarts), steps - 1, steps, search.remedy)
    return history[:most] if stopping.asked else history


class _Notes:
    """Records each step of one row.

    Attributes:
        taken: the number of steps of this row so far.
        after: the distance after each of them, as far as it is known.
    """

    def __init__(
        self,
        descent: Observer,
        search: Search,
        row: int,
        history: torch.Tensor,
        now: torch.Tensor,
        stopping: Stopping,
        of_row: Saved,
        most: int,
    ):
        self.descent, self.search, self.row, self.most = descent, search, row, most
        self.history, self.now, self.stopping = history, now, stopping
        self.taken = 0 if of_row is None else of_row["taken"]
        self.after: list[float] = [] if of_row is None else list(of_row["after"])
        for distance in self.after:
            stopping.feed(torch.tensor([distance]))

    def ended_at(self, otherwise: float) -> float:
        """The distance where the row ended; the rest of its steps would change nothing."""
        return self.after[-1] if self.after else otherwise

    def put(self, one: Search) -> None:
        """Take over the variables of the row."""
        with torch.no_grad():
            for variable, value in zip(self.search.variables, one.variables):
                variable[self.row] = value[0]

    def __call__(self, one: Search, before: float, after: float | None, optimizer: Callable[[], Any]) -> None:
        """A step was taken.

        Args:
            one: the search of the row, after the step.
            before: the distance before the step.
            after: that after it, if it is known.
            optimizer: gives the optimiser's own state.

        Raises:
            StopIteration: the row is to end here.
        """
        self.history[self.taken, self.row] = before
        self.now[self.row] = before
        self.after.append(before if after is None else after)
        self.taken += 1
        self.put(one)

        def state() -> dict[str, Any]:
            of_row = {"taken": self.taken, "after": list(self.after), "optimizer": optimizer()}
            known = {"history": self.history, "now": self.now, "row": self.row, "of_row": of_row, "most": self.most}
            return {"by": "lbfgs-b", **snapshot(self.search), **on_cpu(known)}

        self.descent.current = state
        self.stopping.feed(torch.tensor([self.after[-1]]))
        steps = len(self.history)
        self.descent.report(self.search, self.row * steps + self.taken, self.now.clone())
        if self.stopping.due():
            raise StopIteration


def _minimise(search: Search, objective: Objective, steps: int, saved: Saved, note: Callable[..., None]) -> None:
    """SciPy's L-BFGS-B, for a search of one row.

    SciPy keeps its state to itself. To go on with an interrupted run, all evaluations are kept, and SciPy is given them again
    from the start; it then takes the same steps.
    """
    import scipy.optimize

    bounds = search.bounds()
    first = torch.cat([v.detach().flatten() for v in search.variables]).cpu().double().numpy()
    if bounds is not None:  # float32 may lie outside by a rounding
        low = [-math.inf if edge is None else edge for edge, _ in bounds]
        high = [math.inf if edge is None else edge for _, edge in bounds]
        first = np.clip(first, low, high)
    known: list[dict[str, Any]] = []  # evaluations of an interrupted run
    skipped = 0
    if saved is not None:
        first, known, skipped = saved["optimizer"]["start"].numpy(), saved["optimizer"]["evaluations"], saved["taken"]
    evaluations: list[dict[str, Any]] = []
    distances: dict[bytes, float] = {}

    def put(x: np.ndarray) -> None:
        with torch.no_grad():
            for variable, part in zip(
                search.variables, torch.from_numpy(x).split([v.numel() for v in search.variables])
            ):
                variable.copy_(part.reshape(variable.shape))

    def value(x: np.ndarray) -> tuple[float, np.ndarray]:
        put(x)
        if len(evaluations) < len(known):
            evaluations.append(known[len(evaluations)])
        else:
            total, distance = evaluate(search, objective)
            slopes = torch.autograd.grad(total.sum(), search.variables)
            slope = torch.cat([s.flatten() for s in slopes]).cpu().double()
            evaluations.append({"total": float(total.detach()), "slope": slope, "distance": float(distance.detach())})
        distances[x.tobytes()] = evaluations[-1]["distance"]
        return evaluations[-1]["total"], evaluations[-1]["slope"].numpy()

    before, taken = first, 0

    def after(x: np.ndarray) -> None:
        nonlocal before, taken
        put(x)
        taken += 1
        if taken > skipped:
            note(
                search,
                distances[before.tobytes()],
                distances.get(x.tobytes()),
                lambda: {"start": torch.from_numpy(first), "evaluations": list(evaluations)},
            )
        if x.tobytes() in distances:
            before = x.copy()

    result = scipy.optimize.minimize(
        value,
        first,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        callback=after,
        options={"maxiter": steps, "maxfun": 20 * steps, "maxcor": HISTORY, "ftol": 0, "gtol": 0},
    )
    put(result.x)
