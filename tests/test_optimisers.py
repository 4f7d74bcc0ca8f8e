"""Adam is torch's; L-BFGS, its line search, and rows that share passes."""
# Takes at most 10 CPU seconds.

import math
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.optimize
import torch

import stylegan_invert as si
from stylegan_invert.generator import Code, adapt
from stylegan_invert.losses import MSE
from stylegan_invert.projectors import Projector, optimisers
from stylegan_invert.projectors.lbfgs import LENGTHS, Tried, lbfgs, strong_wolfe
from stylegan_invert.projectors.search import SearchBase
from stylegan_invert.projectors.settings import WOptions
from stylegan_invert.projectors.stopping import Stopping

from conftest import make_network


def test_adam_steps_and_saves_as_that_of_torch():
    def descend(kind, steps, x, state=None):
        x = x.clone().requires_grad_(True)
        optimiser = kind([x], lr=0.1)
        if state is not None:
            optimiser.load_state_dict(state)
        for _ in range(steps):
            optimiser.zero_grad(set_to_none=True)
            (x**4 - x.roll(1)).square().sum().backward()
            optimiser.step()
        return x.detach(), optimiser.state_dict()

    start = torch.linspace(-1, 1, 7)
    expected, _ = descend(torch.optim.Adam, 6, start)
    assert torch.equal(descend(optimisers.Adam, 6, start)[0], expected)
    assert torch.equal(descend(optimisers.Adam, 3, *descend(optimisers.Adam, 3, start))[0], expected)


class Points(SearchBase):
    """Points (M, D), each with a function of its own."""

    def __init__(self, points):
        self.variables = [torch.tensor(points).requires_grad_(True)]
        self.randoms = []

    def code(self):
        return self.variables[0]

    def part(self, rows):
        return Points(self.variables[0].detach()[rows].tolist())


class Functions:
    """A function of each row; ``calls`` has the number of rows of each pass."""

    def __init__(self, functions, calls=None):
        self.functions, self.calls = functions, [] if calls is None else calls

    def __call__(self, points):
        self.calls.append(len(points))
        return torch.stack([function(x) for function, x in zip(self.functions, points)])

    def part(self, rows):
        return Functions([self.functions[row] for row in rows], self.calls)


def minimise(points, functions, steps, **rules):
    search, objective = Points(points), Functions(functions)
    observer = SimpleNamespace(
        stopping=lambda options, steps: Stopping(options, None), report=lambda *a: None, current=None
    )
    history = lbfgs(observer, search, objective, steps, None, WOptions(**rules) if rules else None)
    return search.variables[0].detach(), history, objective.calls


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1].square()).square() + (1 - x[:-1]).square()).sum()


def walled(x):
    """Not a number beyond 1.5."""
    return (x - 1).square().sum() + 0 * (1.5 - x).sqrt().sum()


def quartic(x):
    return (x**4 / 4 - x).sum()


FUNCTIONS = [rosenbrock, walled, quartic]
STARTS = [[-1.2, 1.0, 0.5], [-30.0, 0.1, 0.2], [5.0, -3.0, 0.3]]


@pytest.mark.parametrize("function, start", list(zip(FUNCTIONS, STARTS)))
def test_l_bfgs_finds_minima_as_soon_as_that_of_scipy(function, start):
    found, history, calls = minimise([start], [function], 80)
    torch.testing.assert_close(found, torch.ones(1, 3), rtol=0, atol=1e-2)
    assert len(history) == 80 and (history.diff(dim=0) <= 0).all()

    def value(x):
        x = torch.tensor(x, requires_grad=True)
        (slope,) = torch.autograd.grad(y := function(x), x)
        return (y.item(), slope.numpy()) if math.isfinite(y.item()) else (1e9, np.zeros(3))

    reference = scipy.optimize.minimize(value, start, jac=True, method="L-BFGS-B")
    assert len(calls) < 2 * reference.nfev + 20


def test_rows_go_the_way_that_each_goes_alone_and_share_passes():
    together, history, calls = minimise(STARTS, FUNCTIONS, 40)
    alone = [minimise([start], [function], 40) for start, function in zip(STARTS, FUNCTIONS)]
    for row, (found, of_row, _) in enumerate(alone):
        torch.testing.assert_close(together[row], found[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(history[:, row], of_row[:, 0], rtol=1e-3, atol=1e-5)
    assert len(calls) < sum(len(of_row) for *_, of_row in alone)
    assert calls[0] == 3 and min(calls) < 3  # a row whose line search has ended waits


def test_a_row_ends_by_its_own_rule():
    """The others go on, and it stays where it was."""
    goal = {"target_distance": 0.5}
    starts = [[-30.0, 0.1, 0.2], [1.4, 1.4, 1.4], [0.0, 1.0, -100.0]]
    together, history, _ = minimise(starts, [walled] * 3, 40, **goal)
    for row, start in enumerate(starts):
        alone, of_row, _ = minimise([start], [walled], 40, **goal)
        torch.testing.assert_close(together[row], alone[0])
        assert (history[len(of_row) :, row] <= 0.5).all()


def test_a_row_that_starts_at_a_minimum_or_outside_stays_there():
    minimum, outside = [1.0, 1.0, 1.0], [2.0, 2.0, 2.0]
    found, history, calls = minimise([minimum, STARTS[1]], [walled, walled], 30)
    assert found[0].tolist() == minimum and history[:, 0].tolist() == [0.0] * 30
    torch.testing.assert_close(found[1], torch.ones(3), rtol=0, atol=1e-3)
    with pytest.raises(si.ProjectionError, match="the distance of target 2 became nan at step 1 of 5"):
        minimise([minimum, outside], [walled, walled], 5)


@pytest.mark.parametrize("first", [1e-3, 0.3, 1.0, 20.0])
@pytest.mark.parametrize(
    "function",
    [
        lambda t: (t - 1) ** 2,
        lambda t: -t / (t**2 + 2),  # Moré & Thuente, "Line search algorithms with guaranteed sufficient decrease", 5.1
        lambda t: (t + 0.4) ** 5 - 2 * (t + 0.4) ** 4,  # 5.2
        lambda t: (t - 1) ** 2 * (1 if t < 3 else torch.nan),
    ],
)
def test_the_line_search_meets_the_strong_wolfe_conditions(function, first):
    def at(length):
        t = torch.tensor(float(length), dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(value := function(t), t)
        return value.item(), slope.item()

    (value, slope), tried = at(0), 0
    line = strong_wolfe(Tried(0.0, value, slope), first)
    try:
        length = next(line)
        while True:
            tried += 1
            length = line.send(at(length))
    except StopIteration as end:
        found = end.value
    there, slope_there = at(found)
    assert there <= value + 1e-4 * found * slope and abs(slope_there) <= 0.9 * abs(slope) and found > 0
    assert tried <= LENGTHS


def test_a_line_without_a_decrease_is_left():
    line = strong_wolfe(Tried(0.0, 1.0, -1.0), 1.0)
    lengths = [next(line)]
    with pytest.raises(StopIteration) as end:
        while True:
            lengths.append(line.send((2.0, 1.0)))
    assert end.value.value == 0.0 and len(lengths) == LENGTHS and lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize("method, options", [("w+", {}), ("z", {"restarts": 2}), ("fast-w", {"patience": 3})])
def test_three_targets_that_share_passes_get_what_each_gets_alone(method, options):
    """Within a thousandth of the first distance over 20 steps; passes of other sizes round differently."""
    net = make_network()
    generator = adapt(net.G)
    z = torch.randn([3, net.G.z_dim], generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        shown = generator.render(Code("z", {"z": z})).clamp(-1, 1)
    projector = Projector(net, method, loss=MSE(), steps=20, optimizer="lbfgs", **options)
    together = projector.fit(shown)
    for i in range(3):
        alone = projector.fit(shown[i : i + 1])
        steps = len(alone.distance)
        tolerance = 1e-3 * float(alone.distance[0])
        torch.testing.assert_close(together.distance[:steps, i], alone.distance[:, 0], rtol=0, atol=tolerance)
        few = 0.15 * alone.notes["evaluations"][0]
        assert abs(together.notes["evaluations"][i] - alone.notes["evaluations"][0]) <= few
