"""The one descent under every method: Adam, L-BFGS and L-BFGS-B, with a state that can be saved and gone on with.

A method describes a `Search`: its variables, and the code that they stand for. `Descent` minimises the objective and
the search's own penalties. Optimisers are constructed in this file only.
"""

import contextlib
import copy
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from stylegan_invert.errors import ProjectionError
from stylegan_invert.generator import Code

from .objective import Objective
from .optimisers import LBFGS, Adam
from .settings import StoppingOptions

HISTORY = 20  # pairs of steps and gradients that L-BFGS remembers
FORMAT = 1  # the version of the format of the state


class Search(Protocol):
    """The variables of a method, and the code that they stand for.

    Attributes:
        variables: leaf tensors (M, ...), one row per code. There are M = N * restarts rows for N targets, and the rows of one
            target lie side by side.
        restarts: rows per target.
        randoms: a random generator for each target; those of a search that draws nothing are never used.
        first_step: the Euclidean length of the first step of L-BFGS; None leaves it to torch, which takes one of at most
            the gradient's length over its sum.
        remedy: advice for the error message if a distance is NaN or infinite.
    """

    variables: list[torch.Tensor]
    first_step: float | None
    restarts: int
    randoms: list[torch.Generator]
    remedy: str

    def shown(self, step: int) -> Code:
        """The codes (M) that are rendered in a step, counted from 0, with gradients."""

    def code(self) -> Code:
        """The codes (M) that the variables stand for now."""

    def penalty(self, code: Code) -> torch.Tensor | float:
        """The penalty (M,) that is added to the distances of the codes, or 0."""

    def settle(self) -> None:
        """Bring the variables back into their bounds after a step, in place."""

    def rate(self, step: int) -> float:
        """Adam's rate in a step, counted from 0."""

    def bounds(self) -> list[tuple[float | None, float | None]] | None:
        """Bounds of one row for L-BFGS-B, an entry for each number of all variables; None for no bounds."""

    def part(self, row: int) -> "Search":
        """The search of one row alone, with variables of its own."""


class SearchBase:
    """The defaults of most searches: one row per target, no penalty, no bounds."""

    first_step: float | None = None
    restarts = 1
    remedy = "try a lower learning rate (--lr) or lower weights in --loss"

    def penalty(self, code: Code) -> torch.Tensor | float:
        return 0.0

    def settle(self) -> None:
        pass

    def bounds(self) -> list[tuple[float | None, float | None]] | None:
        return None

    def shown(self, step: int) -> Code:
        return self.code()


@dataclass(frozen=True)
class Step:
    """The argument of a callback, which is called after each step.

    Attributes:
        number: the number of the step, from 1.
        distance: the distances (N,) before the step.
        code: the codes after the step. They share memory with the optimisation: copy those you keep.
        total: the number of steps in this pass.
        state: returns the state of the descent after the step, for `Projector.fit(..., resume=)`.
    """

    number: int
    distance: torch.Tensor
    code: Code
    total: int
    state: Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Fit:
    """The result of a method for the targets of a pass.

    Attributes:
        code: the codes (N), with their optimised noise maps, where the method has any.
        distance: (steps, N), the distances before each step; methods that search z add a last row for the result.
        notes: further values for the record of each target: a list with one value per target, by name.
    """

    code: Code
    distance: torch.Tensor
    notes: Mapping[str, list] = dataclasses.field(default_factory=dict)


def evaluate(search: Search, objective: Objective, step: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """For each row of a search, the objective (distance plus penalty) and the distance alone: twice (M,)."""
    shown = search.shown(step)
    distance = objective(shown)
    return distance + search.penalty(shown), distance


class Descent:
    """Minimises one search after another, and can say where it is and go on from there.

    Args:
        total: steps of all searches together, for the callback.
        callback: called after each step.
        resume: what `state` gave in an earlier run with the same targets and options. Searches that were finished then are
            taken over; one that was under way goes on. On a CPU the result equals that of an undisturbed run to the bit.
    """

    def __init__(
        self, total: int = 0, callback: Callable[[Step], None] | None = None, resume: Mapping[str, Any] | None = None
    ):
        if resume is not None and resume.get("format") != FORMAT:
            raise ProjectionError(f"the state has format {resume.get('format')!r}; expected {FORMAT}")
        self.total, self.callback = total, callback
        self._saved = dict(resume or {"finished": [], "current": None})
        self._finished: list[dict[str, Any]] = []
        self._current: Callable[[], dict[str, Any]] = dict
        self._done = 0  # steps taken in all searches so far
        self._evaluations = [0]

    def state(self) -> dict[str, Any]:
        """The state of the descent: tensors, numbers and lists of these."""
        return {
            "format": FORMAT,
            "finished": list(self._finished),
            "current": self._current() or None,
            "evaluations": self._evaluations[0],
        }

    def __call__(
        self,
        search: Search,
        objective: Objective,
        steps: int,
        optimizer: str = "adam",
        stop: "Stop | None" = None,
    ) -> torch.Tensor:
        """Minimise a search. Its variables are changed in place.

        Args:
            search: the search.
            objective: the objective for the search's rows.
            steps: the number of the optimiser's steps; L-BFGS takes so many for each row.
            optimizer: a name in `OPTIMIZERS`.
            stop: when to end before the last step; None goes on to the end.

        Returns:
            The distances before each step, (steps, M), on the CPU. There are fewer rows if Adam ended early.

        Raises:
            ProjectionError: a distance is NaN or infinite.
        """
        number = len(self._finished)
        if number == 0:
            self._evaluations = objective.evaluations
            self._evaluations[0] += self._saved.get("evaluations", 0)
        saved = self._saved["finished"][number] if number < len(self._saved["finished"]) else None
        if saved is not None:
            _restore(search, saved)
            history = saved["history"]
        else:
            going_on = self._saved["current"] if number == len(self._saved["finished"]) else None
            history = OPTIMIZERS[optimizer](self, search, objective, steps, going_on, stop or Stop())
        self._finished.append({**_snapshot(search), "history": history})
        self._current = dict
        self._done += steps * (1 if optimizer == "adam" else len(search.variables[0]))
        return history

    def report(self, search: Search, number: int, distance: torch.Tensor) -> None:
        """Tell the callback of a step of the search that is under way; ``number`` counts from 1."""
        if self.callback is None:
            return
        with torch.no_grad():
            code = search.code().detach()
        if search.restarts > 1:
            best = best_rows(distance, search.restarts)
            distance, code = distance[best], code[best]
        self.callback(Step(self._done + number, distance, code, self.total, self.state))


def best_rows(values: torch.Tensor, restarts: int) -> torch.Tensor:
    """The row with the lowest of ``values`` (N * restarts,) for each target: (N,)."""
    rows = values.reshape(-1, restarts)
    return rows.argmin(dim=1) + torch.arange(len(rows), device=values.device) * restarts


def _snapshot(search: Search) -> dict[str, Any]:
    return {
        "variables": [v.detach().cpu().clone() for v in search.variables],
        "random": [g.get_state() for g in search.randoms],
    }


def _restore(search: Search, saved: Mapping[str, Any]) -> None:
    with torch.no_grad():
        for variable, value in zip(search.variables, saved["variables"], strict=True):
            variable.copy_(value)
    for random, state in zip(search.randoms, saved["random"], strict=True):
        random.set_state(state)


@dataclass(frozen=True)
class Stop:
    """When a search ends before its last step; see `settings.StoppingOptions`. Nothing is looked at unless it is asked for."""

    patience: int | None = None
    min_gain: float = 0.01
    time_limit: float | None = None
    target_distance: float | None = None

    @classmethod
    def of(cls, options: StoppingOptions) -> "Stop":
        """The rule that a method's options describe."""
        return cls(options.patience, options.min_gain, options.time_limit, options.target_distance)

    def due(self, distances: Sequence[torch.Tensor], began: float) -> bool:
        """True if the search is to end.

        Args:
            distances: the distances (M,) of each step so far.
            began: the time of its start, by ``time.monotonic``.
        """
        if self.time_limit is not None and time.monotonic() - began >= self.time_limit:
            return True
        if self.target_distance is not None and bool((distances[-1] <= self.target_distance).all()):
            return True
        if self.patience is None or len(distances) <= self.patience:
            return False
        before = torch.stack(list(distances[: -self.patience])).amin(dim=0)
        since = torch.stack(list(distances[-self.patience :])).amin(dim=0)
        return bool((since > before * (1 - self.min_gain)).all())


def adam(
    descent: Descent,
    search: Search,
    objective: Objective,
    steps: int,
    saved: Mapping[str, Any] | None,
    stop: Stop,
) -> torch.Tensor:
    """Adam with the search's schedule, all rows side by side."""
    optimizer = Adam(search.variables, lr=search.rate(0), betas=(0.9, 0.999))
    history: list[torch.Tensor] = []
    if saved is not None:
        _restore(search, saved)
        optimizer.load_state_dict(copy.deepcopy(saved["optimizer"]))
        history = list(saved["history"].to(search.variables[0].device))

    def state() -> dict[str, Any]:
        known = {"history": torch.stack(history).cpu(), "optimizer": copy.deepcopy(optimizer.state_dict())}
        return {**_snapshot(search), **known}

    descent._current = state
    began = time.monotonic()
    for step in range(len(history), steps):
        for group in optimizer.param_groups:
            group["lr"] = search.rate(step)
        total, distance = evaluate(search, objective, step)
        optimizer.zero_grad(set_to_none=True)
        total.sum().backward()
        optimizer.step()
        search.settle()
        history.append(distance.detach())
        if _look_now(step, steps, distance.device):
            check_numbers(_any_of(history[-1], search.restarts), step, steps, search.remedy)
        descent.report(search, step + 1, history[-1])
        if stop.due(history, began):
            break
    return torch.stack(history).cpu() if history else torch.zeros([0, len(search.variables[0])])


def row_by_row(
    minimise: Callable,
    descent: Descent,
    search: Search,
    objective: Objective,
    steps: int,
    saved: Mapping[str, Any] | None,
    stop: Stop,
) -> torch.Tensor:
    """Minimise each row alone, since a line search over several would make them depend on each other.

    Args:
        minimise: `lbfgs` or `lbfgs_b`.
        descent: the descent to which every step is reported.
        search: the search with all rows.
        objective: the objective for all rows.
        steps: the number of steps for each row.
        saved: the state to go on from.
        stop: when to end a row before its last step.
    """
    count = len(search.variables[0])
    if saved is None:
        history, first, of_row = torch.full([steps, count], torch.nan), 0, None
        with torch.no_grad():
            now = evaluate(search, objective)[1]
    else:
        _restore(search, saved)
        history, now, first, of_row = saved["history"].clone(), saved["now"].clone(), saved["row"], saved["of_row"]
    for row in range(first, count):
        notes = _Notes(descent, search, row, history, now, 0 if of_row is None else of_row["taken"], stop)
        one = search.part(row)
        with contextlib.suppress(StopIteration):
            minimise(one, objective.part(slice(row, row + 1)), steps, of_row, notes)
        notes.put(one)
        history[notes.taken :, row] = float(now[row])  # converged: the rest of the steps would change nothing
        of_row = None
    check_numbers(_any_of(history[-1], search.restarts), steps - 1, steps, "try more --restarts, or Adam")
    return history


class _Notes:
    """Records each step of one row.

    Attributes:
        taken: the number of steps of this row so far.
    """

    def __init__(
        self,
        descent: Descent,
        search: Search,
        row: int,
        history: torch.Tensor,
        now: torch.Tensor,
        taken: int,
        stop: Stop,
    ):
        self.descent, self.search, self.row = descent, search, row
        self.history, self.now, self.taken = history, now, taken
        self.stop, self.began = stop, time.monotonic()

    def put(self, one: Search) -> None:
        """Take over the variables of the row."""
        with torch.no_grad():
            for variable, value in zip(self.search.variables, one.variables):
                variable[self.row] = value[0]

    def __call__(self, one: Search, distance: float, optimizer: Callable[[], Any]) -> None:
        """A step was taken from a place with this distance; ``optimizer`` gives the optimiser's own state.

        Raises:
            StopIteration: the row is to end here.
        """
        self.history[self.taken, self.row] = distance
        self.now[self.row] = distance
        self.taken += 1
        self.put(one)

        def state() -> dict[str, Any]:
            of_row = {"taken": self.taken, "optimizer": optimizer()}
            known = {"history": self.history.clone(), "now": self.now.clone(), "row": self.row, "of_row": of_row}
            return {**_snapshot(self.search), **known}

        self.descent._current = state
        steps = len(self.history)
        self.descent.report(self.search, self.row * steps + self.taken, self.now)
        if self.stop.due(self.history[: self.taken, self.row : self.row + 1], self.began):
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


def lbfgs(
    search: Search, objective: Objective, steps: int, saved: Mapping[str, Any] | None, note: Callable[..., None]
) -> None:
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
        return {"fresh": fresh, "ended": ended, "state": own}

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
        note(search, seen[0].distance, state)
        if ended:
            return


def lbfgs_b(
    search: Search, objective: Objective, steps: int, saved: Mapping[str, Any] | None, note: Callable[..., None]
) -> None:
    """SciPy's L-BFGS-B, for a search of one row.

    SciPy keeps its state to itself. To go on with an interrupted run, all evaluations are kept, and SciPy is given them again
    from the start; it then takes the same steps.
    """
    import scipy.optimize

    first = torch.cat([v.detach().flatten() for v in search.variables]).cpu().double().numpy()
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
                lambda: {"start": torch.from_numpy(first), "evaluations": list(evaluations)},
            )
        if x.tobytes() in distances:
            before = x.copy()

    result = scipy.optimize.minimize(
        value,
        first,
        jac=True,
        method="L-BFGS-B",
        bounds=search.bounds(),
        callback=after,
        options={"maxiter": steps, "maxfun": 20 * steps, "maxcor": HISTORY, "ftol": 0, "gtol": 0},
    )
    put(result.x)


OPTIMIZERS: dict[str, Callable[..., torch.Tensor]] = {
    "adam": adam,
    "lbfgs": functools.partial(row_by_row, lbfgs),
    "lbfgs-b": functools.partial(row_by_row, lbfgs_b),
}


def check_numbers(distance: torch.Tensor, step: int, steps: int, remedy: str) -> None:
    """Raise ProjectionError if a distance of a step is NaN or infinite.

    Args:
        distance: the distances (N,) of the targets.
        step: the number of the step, counted from 0.
        steps: the number of steps of the whole run.
        remedy: advice for the error message.
    """
    bad = torch.nonzero(~torch.isfinite(distance)).flatten().tolist()
    if bad:
        which = f" of target {', '.join(str(i + 1) for i in bad)}" if len(distance) > 1 else ""
        if step == 0:
            remedy = "nothing was changed yet, so the network, the starting code or the weights in --loss are at fault"
        raise ProjectionError(
            f"the distance{which} became {float(distance[bad[0]])} at step {step + 1} of {steps}; {remedy}"
        )


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
