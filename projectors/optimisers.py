"""Adam, L-BFGS and L-BFGS-B under the descent. Optimisers are constructed in this file only.

Each function takes (descent, search, objective, steps, saved, options), leaves the search's variables where it ended, and returns
the distances before each step, (steps, M), on the CPU. ``saved`` is the state of an interrupted run, or None.
"""

import contextlib
import copy
import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch.optim.optimizer import Optimizer

from stylegan_invert.errors import ProjectionError

from .objective import Objective
from .search import Search, check_numbers, evaluate
from .settings import StoppingOptions
from .stopping import Stopping

HISTORY = 20  # pairs of steps and gradients that L-BFGS remembers
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


class LBFGS(_Uncompiled, torch.optim.LBFGS):
    """torch.optim.LBFGS: the same arguments, numbers and state."""


def adam(
    descent: Observer,
    search: Search,
    objective: Objective,
    steps: int,
    saved: Saved,
    options: StoppingOptions | None,
) -> torch.Tensor:
    """Adam with the search's schedule, all rows side by side. If a rule may end it early, it ends at the best place it saw."""
    optimizer = Adam(search.variables, lr=search.rate(0), betas=(0.9, 0.999))
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
            best.distance, best.places = saved["best"]["distance"].to(history[0]), _copies(saved["best"]["places"])

    def state() -> dict[str, Any]:
        known = {"history": torch.stack(history), "optimizer": optimizer.state_dict()}
        if best is not None:
            known["best"] = {"distance": best.distance, "places": best.places}
        return {"by": "adam", **snapshot(search), **on_cpu(known)}

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
            check_numbers(_any_of(history[-1], search.restarts), step, steps, search.remedy)
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
            self.distance, self.places = distance.clone(), _copies(variables)
            return
        better = distance < self.distance
        self.distance = torch.where(better, distance, self.distance)
        for place, variable in zip(self.places, variables):
            place[better] = variable.detach()[better]


def row_by_row(
    minimise: Callable,
    descent: Observer,
    search: Search,
    objective: Objective,
    steps: int,
    saved: Saved,
    options: StoppingOptions | None,
) -> torch.Tensor:
    """Minimise each row alone, since a line search over several would make them depend on each other.

    ``minimise`` is `lbfgs` or `lbfgs_b`; the other arguments are those of every optimiser.
    """
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
        notes = _Notes(descent, search, row, history, now, stopping, of_row, most, BY_ROW[minimise])
        one = search.part(row)
        with contextlib.suppress(StopIteration):
            if stopping.due():
                raise StopIteration
            minimise(one, objective.part(slice(row, row + 1)), steps, of_row, notes)
        notes.put(one)
        history[notes.taken :, row] = notes.ended_at(float(now[row]))
        most, of_row = max(most, notes.taken), None
    check_numbers(_any_of(history[-1], search.restarts), steps - 1, steps, search.remedy)
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
        by: str,
    ):
        self.descent, self.search, self.row, self.most, self.by = descent, search, row, most, by
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
            return {"by": self.by, **snapshot(self.search), **on_cpu(known)}

        self.descent.current = state
        self.stopping.feed(torch.tensor([self.after[-1]]))
        steps = len(self.history)
        self.descent.report(self.search, self.row * steps + self.taken, self.now.clone())
        if self.stopping.due():
            raise StopIteration


class _Evaluation(NamedTuple):
    """An evaluation of the objective.

    Attributes:
        place: copies of the variables.
        total: the objective, which is minimised.
        slopes: the gradient of ``total``.
        distance: the distance alone.
    """

    place: list[torch.Tensor]
    total: torch.Tensor
    slopes: tuple[torch.Tensor, ...]
    distance: float


def lbfgs(search: Search, objective: Objective, steps: int, saved: Saved, note: Callable[..., None]) -> None:
    """torch's L-BFGS with a strong Wolfe line search, for a search of one row."""

    def optimiser() -> LBFGS:
        return LBFGS(
            search.variables,
            max_iter=1,
            max_eval=25,
            history_size=HISTORY,
            tolerance_grad=0,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )

    minimiser, fresh, first = optimiser(), True, 0
    seen: list[_Evaluation] = []  # in this step
    known: list[_Evaluation] = []  # in the step before
    # torch's first step has the length lr * |g|_2 / |g|_1, which for d numbers of one distribution is lr / sqrt(2 d / pi).
    numbers = sum(v.numel() for v in search.variables)
    first_lr = 1.0 if search.first_step is None else search.first_step * (2 * numbers / math.pi) ** 0.5
    if saved is not None:
        first, fresh = saved["taken"], saved["optimizer"]["fresh"]
        if saved["optimizer"]["ended"]:
            return
        seen = [_Evaluation(**e) for e in copy.deepcopy(saved["optimizer"]["seen"])]
        if not fresh:
            minimiser.load_state_dict(copy.deepcopy(saved["optimizer"]["state"]))

    def closure() -> torch.Tensor:
        """Value and gradient where the variables are. torch begins each step with those of the place where the last one ended,
        which are known already."""
        here = next((e for e in known if _equal(e.place, search.variables)), None)
        if here is None:
            total, distance = evaluate(search, objective)
            slopes = torch.autograd.grad(total.sum(), search.variables)
            here = _Evaluation(_copies(search.variables), total.detach().sum(), slopes, float(distance.detach()))
        for variable, slope in zip(search.variables, here.slopes):
            variable.grad = slope.clone()
        seen.append(here)
        return here.total

    def state() -> dict[str, Any]:
        own = None if fresh else copy.deepcopy(minimiser.state_dict())
        return {"fresh": fresh, "ended": ended, "state": own, "seen": [e._asdict() for e in seen]}

    for _ in range(first, steps):
        before = _copies(search.variables)
        known, seen = seen, []
        minimiser.param_groups[0]["lr"] = first_lr if fresh else 1.0
        minimiser.step(closure)
        raw = _copies(search.variables)
        search.settle()
        moved, stuck = not _equal(raw, search.variables), _equal(before, search.variables)
        ended = stuck and fresh
        # If the search moved the variables, L-BFGS measured the curvature at another place. If nothing moved, this
        # curvature gives no further step. In both cases L-BFGS begins anew.
        fresh = moved or stuck
        minimiser = optimiser() if fresh else minimiser
        end = next((e.distance for e in seen if _equal(e.place, search.variables)), None)
        note(search, seen[0].distance, end, state)
        if ended:
            return


def lbfgs_b(search: Search, objective: Objective, steps: int, saved: Saved, note: Callable[..., None]) -> None:
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


BY_ROW = {lbfgs: "lbfgs", lbfgs_b: "lbfgs-b"}
OPTIMIZERS: dict[str, Callable[..., torch.Tensor]] = {
    "adam": adam,
    **{name: functools.partial(row_by_row, minimise) for minimise, name in BY_ROW.items()},
}


def snapshot(search: Search) -> dict[str, Any]:
    """Copies of the variables of a search, and the states of its random generators."""
    return {
        "variables": [v.detach().cpu().clone() for v in search.variables],
        "random": [g.get_state() for g in search.randoms],
    }


def restore(search: Search, saved: Mapping[str, Any]) -> None:
    """Bring a search to where `snapshot` was made.

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


def _look_now(step: int, steps: int, device: torch.device) -> bool:
    """True if `check_numbers` is due. Looking makes a GPU wait, so there it is done every 20 steps and at the end."""
    return device.type == "cpu" or step % 20 == 0 or step == steps - 1


def _any_of(distance: torch.Tensor, restarts: int) -> torch.Tensor:
    """Of the restarts of each target, a distance that is a number, where there is one: (N,)."""
    if restarts == 1:
        return distance
    rows = distance.reshape(-1, restarts)
    return torch.where(torch.isfinite(rows), rows, torch.inf).amin(dim=1)


def _copies(variables: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [v.detach().clone() for v in variables]


def _equal(a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> bool:
    return all(torch.equal(x, y.detach()) for x, y in zip(a, b))
