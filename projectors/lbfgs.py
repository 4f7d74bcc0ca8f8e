"""L-BFGS with a strong Wolfe line search, for many rows side by side.

The rows share forward and backward passes and nothing else: each has its own curvature and its own line search. A row whose
line search has found a length waits for the others, and takes no part in their passes. So a row takes the steps that it would
take alone, up to the rounding of passes of another size.

Nocedal & Wright, "Numerical Optimization" (2nd edition): algorithm 7.4 for the direction, algorithms 3.5 and 3.6 for the line
search. All numbers stay on the device of the search; the host sees three numbers per row and evaluation.
"""

import math
from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

import torch

from .objective import Objective
from .search import Search, any_of, check_numbers, evaluate
from .settings import StoppingOptions
from .state import Observer, Saved, on_cpu, on_device, restore, snapshot

HISTORY = 20  # pairs of steps and changes of the gradient that are remembered
DECREASE = 1e-4  # c1 of the Wolfe conditions
CURVATURE = 0.9  # c2
LENGTHS = 10  # a line search tries so many lengths at most
FARTHER = 10.0  # a line search that finds no end goes at most so many times farther at once
LEAST_CURVATURE = 1e-7  # a pair counts if the cosine of its two vectors is above this, the precision of float32


class Tried(NamedTuple):
    """A place on the line of a line search.

    Attributes:
        length: how far along the direction.
        value: the objective there.
        slope: its derivative along the direction.
    """

    length: float
    value: float
    slope: float

    @property
    def finite(self) -> bool:
        return math.isfinite(self.value) and math.isfinite(self.slope)


def strong_wolfe(start: Tried, length: float) -> Generator[float, tuple[float, float], float]:
    """Search a length that meets the strong Wolfe conditions.

    It yields the lengths at which it wants the objective, and is sent value and slope there.

    Args:
        start: the place at length 0; its slope is negative.
        length: the first length to try.

    Returns:
        A length that meets the conditions; or, after `LENGTHS` trials, the one with the lowest value of those that decrease it
        sufficiently, which is 0 if none did.
    """
    low: Tried = start  # the lowest so far of those that decrease it sufficiently
    high: Tried | None = None  # the minimum lies between low and this
    for _ in range(LENGTHS):
        now = Tried(length, *(yield length))
        if not now.finite or now.value > start.value + DECREASE * length * start.slope or now.value >= low.value:
            high, last = now, low
        elif abs(now.slope) <= -CURVATURE * start.slope:
            return length
        else:
            last = low
            if now.slope * ((high.length if high is not None else math.inf) - low.length) >= 0:
                high = low
            low = now
        if high is None:
            nearest, farthest = low.length + 0.1 * (low.length - last.length), FARTHER * low.length
        else:
            margin = 0.1 * (high.length - low.length)
            nearest, farthest = sorted((low.length + margin, high.length - margin))
        length = min(max(_cubic(low, last if high is None else high, farthest), nearest), farthest)
    return low.length


def _cubic(a: Tried, b: Tried, otherwise: float) -> float:
    """The length at which the cubic through the values and slopes of two places is lowest; between them if one is not finite."""
    if not b.finite:
        return (a.length + b.length) / 2
    d1 = a.slope + b.slope - 3 * (a.value - b.value) / (a.length - b.length)
    square = d1 * d1 - a.slope * b.slope
    if square < 0:
        return otherwise
    d2 = math.copysign(math.sqrt(square), b.length - a.length)
    below = b.slope - a.slope + 2 * d2
    return b.length - (b.length - a.length) * (b.slope + d2 - d1) / below if below else otherwise


class _Place(NamedTuple):
    """Where M rows are.

    Attributes:
        x: (M, D), all variables of a row, one after the other.
        value: (M,), the objective, which is minimised.
        slope: (M, D), its gradient.
        distance: (M,), the distance alone.
    """

    x: torch.Tensor
    value: torch.Tensor
    slope: torch.Tensor
    distance: torch.Tensor


class _Pair(NamedTuple):
    """A step of each row and the change of its gradient.

    Attributes:
        step: (M, D).
        change: (M, D).
        weight: (M,), one over the product of both; 0 for a row that has forgotten the pair or never had it.
    """

    step: torch.Tensor
    change: torch.Tensor
    weight: torch.Tensor


def lbfgs(
    descent: Observer,
    search: Search,
    objective: Objective,
    steps: int,
    saved: Saved,
    options: StoppingOptions | None,
) -> torch.Tensor:
    """Minimise all rows side by side; the arguments are those of every optimiser, see `optimisers`."""
    device = search.variables[0].device
    stopping = descent.stopping(options, steps)
    history: list[torch.Tensor] = []  # the distances before each step
    after: list[torch.Tensor] = []  # those after each step
    if saved is None:
        rows = _Rows(search, objective)
    else:
        restore(search, saved)
        rows = _Rows(search, objective, on_device(saved["rows"], device))
        history, after = list(saved["history"].to(device)), list(saved["after"].to(device))
        for distance in after:
            stopping.feed(distance)

    def state() -> dict[str, Any]:
        known = {"history": torch.stack(history), "after": torch.stack(after), "rows": rows.state()}
        return {"by": "lbfgs", **snapshot(search), **on_cpu(known)}

    descent.current = state
    check_numbers(any_of(rows.place.distance, search.restarts), len(history), steps, search.remedy)
    for step in range(len(history), steps):
        if stopping.asked and after:
            rows.ended |= stopping.rows()
        if bool(rows.ended.all()):
            break
        history.append(rows.place.distance)
        rows.step()
        after.append(rows.place.distance)
        stopping.feed(after[-1])
        descent.report(search, step + 1, history[-1])
    found = torch.stack(history).cpu() if history else torch.zeros([0, len(rows.ended)])
    if stopping.asked:
        return found
    return torch.cat([found, rows.place.distance.cpu().expand(steps - len(found), -1)])


class _Rows:
    """The rows of a search, each with its place and its curvature.

    Attributes:
        place: where they are.
        pairs: the last pairs, the oldest first.
        scale: (M,), the length of a step for a gradient of length 1, where nothing else is known of the curvature.
        fresh: (M,) bool, True for a row that knows no curvature.
        ended: (M,) bool, True for a row that goes no further.
    """

    def __init__(self, search: Search, objective: Objective, saved: dict[str, Any] | None = None):
        self.search, self.objective = search, objective
        self.pairs: list[_Pair] = []
        if saved is not None:
            self.place = _Place(*saved["place"])
            self.pairs = [_Pair(*pair) for pair in saved["pairs"]]
            self.scale, self.fresh, self.ended = saved["scale"], saved["fresh"], saved["ended"]
            return
        every = list(range(len(search.variables[0])))
        self.place = self._evaluate(every, _flat(search.variables))
        self.scale = torch.ones_like(self.place.value)
        self.fresh = torch.ones_like(self.place.value, dtype=torch.bool)
        self.ended = ~torch.isfinite(self.place.value)

    def state(self) -> dict[str, Any]:
        return {
            "place": list(self.place),
            "pairs": [list(pair) for pair in self.pairs],
            "scale": self.scale,
            "fresh": self.fresh,
            "ended": self.ended,
        }

    def _evaluate(self, rows: Sequence[int], x: torch.Tensor) -> _Place:
        """Value and gradient of some of the rows at places (len(rows), D)."""
        every = len(rows) == len(self.search.variables[0])
        search = self.search if every else self.search.part(rows)
        _put(search.variables, x)
        total, distance = evaluate(search, self.objective if every else self.objective.part(rows))
        slopes = torch.autograd.grad(total.sum(), search.variables)
        return _Place(x, total.detach(), _flat(slopes), distance.detach())

    def step(self) -> None:
        """Every row that has not ended takes one step."""
        direction = self._direction()
        slope = _dot(direction, self.place.slope)
        uphill = ~(slope < 0) & ~self.fresh
        self._forget(uphill)
        direction = torch.where(uphill[:, None], -self.place.slope, direction)
        slope = _dot(direction, self.place.slope)
        before, after = self.place, self._search(direction, slope)
        _put(self.search.variables, after.x)
        self.search.settle()
        settled = _flat(self.search.variables)
        moved = (settled != after.x).any(dim=1) & ~self.ended
        change = after.slope - before.slope
        stride = after.x - before.x
        product = _dot(stride, change)
        sizes = (_dot(stride, stride) * _dot(change, change)).sqrt()
        good = (product > LEAST_CURVATURE * sizes) & ~moved
        weight = torch.where(good, 1 / product, 0.0)
        self.pairs = [*self.pairs, _Pair(stride, change, weight)][-HISTORY:]
        self.scale = torch.where(good, product / _dot(change, change), self.scale)
        stuck = (stride == 0).all(dim=1)
        self.ended = self.ended | (stuck & self.fresh)
        self.fresh = self.fresh & ~good
        self.place = after
        # If the search moved a row, its curvature was measured at another place. If a row stands still, its curvature gives no
        # further step. In both cases it begins anew.
        self._forget(moved | stuck)
        if bool(moved.any()):
            at = moved.nonzero().flatten().tolist()
            there = self._evaluate(at, settled[at])
            self.place = _Place(*(_replaced(old, at, new) for old, new in zip(after, there)))
            _put(self.search.variables, self.place.x)

    def _forget(self, rows: torch.Tensor) -> None:
        """Some rows (M,) bool begin anew."""
        self.pairs = [pair._replace(weight=torch.where(rows, 0.0, pair.weight)) for pair in self.pairs]
        self.scale = torch.where(rows, 1.0, self.scale)
        self.fresh = self.fresh | rows

    def _direction(self) -> torch.Tensor:
        """The directions (M, D) of the next steps."""
        q, shares = self.place.slope.clone(), []
        for pair in reversed(self.pairs):
            shares.append(pair.weight * _dot(pair.step, q))
            q -= shares[-1][:, None] * pair.change
        q *= self.scale[:, None]
        for pair, share in zip(self.pairs, reversed(shares)):
            q += (share - pair.weight * _dot(pair.change, q))[:, None] * pair.step
        return -q

    def _first_lengths(self) -> list[float]:
        """The first length that the line search of each row tries."""
        slope = self.place.slope
        if self.search.first_step is None:
            first = (1 / slope.abs().sum(dim=1)).clamp(max=1)
        else:
            first = self.search.first_step / slope.norm(dim=1)
        return torch.where(self.fresh, first, 1.0).tolist()

    def _search(self, direction: torch.Tensor, slope: torch.Tensor) -> _Place:
        """Where the line searches of all rows end."""
        values, slopes, ended = self.place.value.tolist(), slope.tolist(), self.ended.tolist()
        todo: dict[int, tuple[Generator[float, tuple[float, float], float], float]] = {}
        for row, length in enumerate(self._first_lengths()):
            if ended[row] or not slopes[row] < 0:
                continue
            line = strong_wolfe(Tried(0.0, values[row], slopes[row]), length)
            todo[row] = line, next(line)
        seen: dict[tuple[int, float], tuple[_Place, int]] = {}
        found: dict[int, float] = {}
        while todo:
            rows = list(todo)
            lengths = torch.tensor([todo[row][1] for row in rows], device=direction.device)[:, None]
            here = self._evaluate(rows, self.place.x[rows] + lengths * direction[rows])
            along = _dot(here.slope, direction[rows])
            for i, (row, value, slope_there) in enumerate(zip(rows, here.value.tolist(), along.tolist())):
                line, length = todo.pop(row)
                seen[row, length] = here, i
                try:
                    todo[row] = line, line.send((value, slope_there))
                except StopIteration as end:
                    found[row] = end.value
        ends = {row: seen[row, length] for row, length in found.items() if length}
        return _Place(*(_ends(old, {row: getattr(p, name)[i] for row, (p, i) in ends.items()})
                        for name, old in self.place._asdict().items()))  # fmt: skip


def _ends(old: torch.Tensor, new: dict[int, torch.Tensor]) -> torch.Tensor:
    """A tensor (M, ...) with some rows replaced."""
    return _replaced(old, list(new), torch.stack(list(new.values()))) if new else old


def _replaced(old: torch.Tensor, rows: Sequence[int], new: torch.Tensor) -> torch.Tensor:
    result = old.clone()
    result[rows] = new
    return result


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The product of each row of (M, D) with that of another: (M,)."""
    return (a * b).sum(dim=1)


def _flat(variables: Sequence[torch.Tensor]) -> torch.Tensor:
    """All variables of each row, one after the other: (M, D)."""
    return torch.cat([v.detach().flatten(1) for v in variables], dim=1)


def _put(variables: Sequence[torch.Tensor], x: torch.Tensor) -> None:
    """The reverse of `_flat`, in place."""
    with torch.no_grad():
        for variable, part in zip(variables, x.split([v[0].numel() for v in variables], dim=1)):
            variable.copy_(part.reshape(variable.shape))
