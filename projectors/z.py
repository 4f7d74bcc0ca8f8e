"""Inversion to z: gradient descent with Adam, L-BFGS or L-BFGS-B, clipping inside the loop, a prior, restarts.

Creswell & Bharath, "Inverting the generator of a generative adversarial network" (2018); Lipton & Tripathi, "Precise
recovery of latent vectors" (2017) for stochastic clipping; Pividori et al., section 3.3, for the prior. It makes the first
step of the dense-layer inversion, too.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from stylegan_invert.errors import ProjectionError
from stylegan_invert.generator import Code, GeneratorAdapter, Prior
from stylegan_invert.losses import Distance

from .base import SEED, Fit, Step, check_numbers, look_now, option, staircase
from .optimisers import LBFGS, Adam
from .v_prior import PriorOptions

CLASSES = ("held", "relaxed")
CLIPS = ("none", "standard", "stochastic")
OPTIMIZERS = ("adam", "lbfgs", "lbfgs-b")
PENALTIES = ("mean", "sum")
LEAST = 1e-2  # what a class that the start does not name has at first, as a share of an equal part


@dataclass(frozen=True)
class LatentOptions(PriorOptions):
    """Settings of the inversion to z. With those of `PriorOptions`.

    Attributes:
        steps: of the optimiser, per restart.
        seed: of random numbers; every target starts its own generator from it.
        optimizer: "adam", "lbfgs" (torch's, with strong Wolfe line search) or "lbfgs-b" (SciPy's).
        initial_learning_rate: of Adam, at first. For L-BFGS the line search finds the length of a step.
        lr_drops: the rate is multiplied by 0.1 every steps / lr_drops steps; 1 leaves it.
        clip: what happens to an entry of z that leaves the bounds, after each step: "none", "standard" sets it to the bound,
            "stochastic" draws it anew from the prior within the bounds. L-BFGS-B has the bounds built in, and takes
            "none" or "standard".
        bound: the bounds are -bound and bound; None takes the prior's (1 for uniform, 3 for normal).
        lambda_z: weight of -log P(z), zero at the mode (lambda_1 of Pividori et al.).
        penalty: "sum" takes that as it is, "mean" divides it by the number of entries of z.
        restarts: this many starts are optimised, and the best of them is the result.
        start_bound: starts are drawn from the prior, given that no entry exceeds this; None for the whole prior.
        class_vector: "held", or "relaxed": the class is the softmax of as many numbers as there are classes, which are found
            together with z.
    """

    steps: int = option(500, 1, 10**9, whole=True)
    seed: int = option(303, **SEED)
    optimizer: str = option("lbfgs-b", words=OPTIMIZERS)
    initial_learning_rate: float = option(0.1, 1e-12)
    lr_drops: int = option(2, 1, 1000, whole=True)
    clip: str = option("none", words=CLIPS)
    bound: float | None = option(None, 1e-6, or_none=True)
    lambda_z: float = option(0.0)
    penalty: str = option("mean", words=PENALTIES)
    restarts: int = option(1, 1, 10**6, whole=True)
    start_bound: float | None = option(None, 0, or_none=True)
    class_vector: str = option("held", words=CLASSES)

    def without_effect(self) -> dict[str, str]:
        """The options that do nothing beside the others, and why."""
        idle = {}
        if self.optimizer != "adam":
            why = f"the optimizer {self.optimizer} finds the length of its steps itself; choose adam"
            idle |= {"initial_learning_rate": why, "lr_drops": why}
        if self.clip == "none":
            idle["bound"] = "clip is none; choose standard or stochastic"
        return idle

    def rate(self, step: int) -> float:
        """Adam's rate in a step, counted from 0."""
        return staircase(self.initial_learning_rate, step, self.steps, self.lr_drops)


def latent(
    generator: GeneratorAdapter,
    target: torch.Tensor,
    loss: Distance,
    start: Code,
    options: LatentOptions,
    callback: Callable[[Step], None] | None = None,
) -> Fit:
    """Fit z to pictures.

    Args:
        generator, target, loss, callback: as in `optimise`.
        start: codes (N) in "z", the first start of each; see `drawn`. Further restarts are drawn here.
        options: see `LatentOptions`.

    Returns:
        The code with the lowest objective of all restarts; its distances before each of its steps, with a last row for the
        result; and in ``notes`` the objective of each restart.

    Raises:
        ProjectionError: a distance is no number, or two options contradict each other.
    """
    if start.space != "z":
        raise ProjectionError(f"the start lies in {start.space}, and the search in z; start from a code in z")
    if options.optimizer == "lbfgs-b" and options.clip == "stochastic":
        raise ProjectionError(
            "clip is 'stochastic' and the optimiser L-BFGS-B, which has its bounds built in; choose 'standard' or 'none'"
        )
    n = len(target)
    bound = options.bound if options.bound is not None else generator.prior.bound
    randoms = [torch.Generator(generator.device).manual_seed(options.seed) for _ in range(n)]
    (shape,) = generator.code_shapes("z").values()
    tries = []
    for random, given in zip(randoms, start.tensors["z"]):
        others = [_start(generator.prior, shape, random, options) for _ in range(options.restarts)][1:]
        tries.append(torch.stack([given, *others]))
    z = torch.cat(tries)  # (N * restarts, d): the restarts of a target lie side by side
    if options.clip != "none":
        z = z.clamp(-bound, bound)
    c = None if start.c is None else start.c.repeat_interleave(options.restarts, dim=0)
    if options.class_vector == "relaxed":
        if c is None:
            raise ProjectionError("class_vector is 'relaxed', and this network has no classes; leave it 'held'")
        z = torch.cat([z, c.clamp(min=LEAST / c.shape[1]).log()], dim=1)  # a row of the search: z, then the classes
    prepared = _repeated(loss.prepare(target), options.restarts)
    objective = Objective(generator, loss, prepared, c, options)

    def watch(step: int, total: int, distance: torch.Tensor, z: torch.Tensor) -> None:
        if callback is not None:
            best = (
                distance.reshape(n, options.restarts).argmin(dim=1)
                + torch.arange(n, device=z.device) * options.restarts
            )
            callback(Step(step, distance[best], objective.code(z)[best], total))

    run = _adam if options.optimizer == "adam" else _one_by_one
    z, history = run(objective, z, bound, randoms, watch)
    with torch.no_grad():
        total, distance = objective(z)
    history = torch.cat([history, distance[None].cpu()])
    scores = torch.where(torch.isfinite(total), total, torch.inf).reshape(n, options.restarts)
    best = scores.argmin(dim=1) + torch.arange(n, device=z.device) * options.restarts
    code = objective.code(z)[best]
    notes = {"objective_of_restarts": scores.tolist(), **options.prior_notes(generator, code)}
    return Fit(code.detach(), history[:, best.cpu()], notes)


class Objective:
    """distance + lambda_z * -log P(z) + prior_weight * the prior in V, of rows (M, d): both the sum and the distance alone, (M,).

    A row is z; with a relaxed class the logarithms of its parts, up to a constant, follow.
    """

    def __init__(
        self, generator: GeneratorAdapter, loss: Distance, prepared, c: torch.Tensor | None, options: LatentOptions
    ):
        self.generator, self.loss, self.prepared, self.c, self.options = generator, loss, prepared, c, options
        ((self.size,),) = generator.code_shapes("z").values()

    def code(self, rows: torch.Tensor, which: slice = slice(None)) -> Code:
        """The codes that rows of this place stand for."""
        if self.options.class_vector == "relaxed":
            return Code("z", {"z": rows[:, : self.size]}, rows[:, self.size :].softmax(dim=1))
        return Code("z", {"z": rows}, None if self.c is None else self.c[which])

    def inside(self, rows: torch.Tensor, bound: float, randoms: list[torch.Generator]) -> torch.Tensor:
        """The rows with their z `clipped`."""
        z = clipped(rows[:, : self.size], self.options.clip, bound, self.generator.prior, randoms)
        return torch.cat([z, rows[:, self.size :]], dim=1)

    def __call__(self, rows: torch.Tensor, which: slice = slice(None)) -> tuple[torch.Tensor, torch.Tensor]:
        code = self.code(rows, which)
        distance = self.loss(_part(self.prepared, which), self.generator.render(code))
        weight = self.options.lambda_z / (self.size if self.options.penalty == "mean" else 1)
        total = distance + weight * self.generator.prior.negative_log(code.tensors["z"])
        return total + self.options.prior(self.generator, code), distance


def clipped(z: torch.Tensor, kind: str, bound: float, prior: Prior, randoms: list[torch.Generator]) -> torch.Tensor:
    """z (M, d) with every entry in [-bound, bound], element by element; see ``clip`` of `LatentOptions`.

    ``randoms`` has one generator for each of the M / len(randoms) latents that lie side by side.
    """
    if kind == "none":
        return z
    if kind == "standard":
        return z.clamp(-bound, bound)
    share = len(z) // len(randoms)
    drawn = torch.cat([prior.sample([share, *z.shape[1:]], random, bound) for random in randoms])
    return torch.where(z.abs() > bound, drawn.to(z.dtype), z)


def drawn(generator: GeneratorAdapter, options: LatentOptions, n: int, c: torch.Tensor | None = None) -> Code:
    """The first starts of n targets, all alike as their random generators are, with the class ``c`` (1, c_dim)."""
    (shape,) = generator.code_shapes("z").values()
    z = _start(generator.prior, shape, torch.Generator(generator.device).manual_seed(options.seed), options)
    return Code("z", {"z": z.expand(n, *shape)}, None if c is None else c.expand(n, -1))


def _start(prior: Prior, shape: tuple[int, ...], random: torch.Generator, options: LatentOptions) -> torch.Tensor:
    if options.start_bound == 0:
        return torch.zeros(shape, device=random.device)
    return prior.sample(shape, random, options.start_bound)


def _adam(
    objective: Objective, z: torch.Tensor, bound: float, randoms: list[torch.Generator], watch: Callable
) -> tuple:
    o = objective.options
    z = z.clone().requires_grad_(True)
    adam = Adam([z], lr=o.initial_learning_rate, betas=(0.9, 0.999))
    history = []
    for step in range(o.steps):
        adam.param_groups[0]["lr"] = o.rate(step)
        total, distance = objective(z)
        adam.zero_grad(set_to_none=True)
        total.sum().backward()
        adam.step()
        with torch.no_grad():
            z.copy_(objective.inside(z, bound, randoms))
        history.append(distance.detach())
        if look_now(step, o.steps, z.device):
            remedy = f"try a lower learning rate (it was {o.initial_learning_rate:g})"
            check_numbers(_any_of(history[-1], len(randoms)), step, o.steps, remedy)
        watch(step + 1, o.steps, history[-1], z.detach())
    return z.detach(), torch.stack(history).cpu()


def _one_by_one(
    objective: Objective, z: torch.Tensor, bound: float, randoms: list[torch.Generator], watch: Callable
) -> tuple:
    """L-BFGS for each latent alone: a line search over several would make them depend on each other."""
    o = objective.options
    share = len(z) // len(randoms)
    z = z.clone()
    history = torch.full([o.steps, len(z)], torch.nan)
    with torch.no_grad():
        now = objective(z)[1]
    for i in range(len(z)):
        number = [i * o.steps]

        def note(distance: float, value: torch.Tensor, i: int = i, number: list[int] = number) -> None:
            history[number[0] - i * o.steps, i] = distance
            number[0] += 1
            z[i], now[i] = value, distance
            watch(number[0], len(z) * o.steps, now, z)

        run = _lbfgs if o.optimizer == "lbfgs" else _lbfgs_b
        z[i] = run(objective, z[i].clone(), slice(i, i + 1), bound, randoms[i // share], note)
        taken = number[0] - i * o.steps
        history[taken:, i] = now[i].cpu()  # converged: the rest of the steps would change nothing
    check_numbers(_any_of(history[-1], len(randoms)), o.steps - 1, o.steps, "try more --restarts, or Adam")
    return z, history


def _any_of(distance: torch.Tensor, n: int) -> torch.Tensor:
    """Of the restarts of each of n targets, a distance that is a number, where there is one: (n,)."""
    rows = distance.reshape(n, -1)
    return torch.where(torch.isfinite(rows), rows, torch.inf).amin(dim=1)


def _lbfgs(
    objective: Objective, z: torch.Tensor, which: slice, bound: float, random: torch.Generator, note: Callable
) -> torch.Tensor:
    o = objective.options
    z = z[None].requires_grad_(True)

    def optimiser() -> LBFGS:
        return LBFGS(
            [z],
            max_iter=1,
            max_eval=25,
            history_size=20,
            tolerance_grad=0,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )

    lbfgs, seen, fresh = optimiser(), [], True

    def closure() -> torch.Tensor:
        lbfgs.zero_grad()
        total, distance = objective(z, which)
        total.sum().backward()
        seen.append(float(distance.detach()))
        return total.sum()

    for _ in range(o.steps):
        before = z.detach().clone()
        seen.clear()
        lbfgs.step(closure)
        with torch.no_grad():
            inside = objective.inside(z, bound, [random])
            moved = not torch.equal(inside, z)
            z.copy_(inside)
        note(seen[0], z.detach()[0])
        stuck = torch.equal(before, z)
        if stuck and fresh:
            break
        # What it knows of the curvature was measured elsewhere, or leads nowhere.
        fresh = moved or stuck
        lbfgs = optimiser() if fresh else lbfgs
    return z.detach()[0]


def _lbfgs_b(
    objective: Objective, z: torch.Tensor, which: slice, bound: float, random: torch.Generator, note: Callable
) -> torch.Tensor:
    import scipy.optimize

    o = objective.options
    known: dict[bytes, float] = {}

    def value(x: np.ndarray) -> tuple[float, np.ndarray]:
        latent = torch.from_numpy(x).to(z)[None].requires_grad_(True)
        total, distance = objective(latent, which)
        (slope,) = torch.autograd.grad(total.sum(), latent)
        known[x.tobytes()] = float(distance.detach())
        return float(total.detach()), slope[0].cpu().double().numpy()

    first = z.cpu().double().numpy()
    before = [first]

    def after(x: np.ndarray) -> None:
        note(known[before[0].tobytes()], torch.from_numpy(x).to(z))
        if x.tobytes() in known:
            before[0] = x.copy()

    free = len(first) - objective.size
    bounds = None if o.clip == "none" else [(-bound, bound)] * objective.size + [(None, None)] * free
    found = scipy.optimize.minimize(
        value, first, jac=True, method="L-BFGS-B", bounds=bounds, callback=after,
        options={"maxiter": o.steps, "maxfun": 20 * o.steps, "maxcor": 20, "ftol": 0, "gtol": 0},
    )  # fmt: skip
    return torch.from_numpy(found.x).to(z)


def _repeated(prepared, times: int):
    """What `Distance.prepare` returned, each target's part as often as it has restarts."""
    if isinstance(prepared, torch.Tensor):
        return prepared.repeat_interleave(times, dim=0)
    return [_repeated(p, times) for p in prepared]


def _part(prepared, which: slice):
    return prepared[which] if isinstance(prepared, torch.Tensor) else [_part(p, which) for p in prepared]
