"""Inversion to z: gradient descent with Adam, L-BFGS or L-BFGS-B, clipping inside the loop, a prior, restarts.

Creswell & Bharath, "Inverting the generator of a generative adversarial network" (2018); Lipton & Tripathi, "Precise
recovery of latent vectors" (2017) for stochastic clipping; Pividori et al., section 3.3, for the prior. It is the first step
of the dense-layer inversion, too.
"""

import copy
from collections.abc import Sequence

import torch

from stylegan_invert.errors import ProjectionError
from stylegan_invert.generator import Code, GeneratorAdapter, Prior

from .anchor import Anchor
from .descent import Descent, Fit
from .objective import Objective
from .search import SearchBase, best_rows, evaluate
from .settings import LatentOptions
from .v_prior import prior_notes, weighted_prior

FIRST_STEP = 0.15  # length of the first step of L-BFGS, in root mean squared distances of z from its mean
LEAST = 1e-2  # initial floor for absent classes, as a fraction of 1 / c_dim


def fit(
    generator: GeneratorAdapter, objective: Objective, start: Code, options: LatentOptions, descend: Descent
) -> Fit:
    """Fit z to targets.

    Args:
        generator: the network behind its adapter.
        objective: the objective for the N targets.
        start: codes in "z": the first starts of each target, side by side, at most ``options.restarts``; the others are
            drawn here.
        options: see `LatentOptions`.
        descend: the descent that minimises.

    Returns:
        The code with the lowest objective of all restarts; its distances before each of its steps, with a last row for the
        result; and in ``notes`` the objective of each restart.

    Raises:
        ProjectionError: a distance is NaN or infinite, or two options contradict each other.
    """
    targets = len(objective.targets)
    search = LatentSearch(generator, start, options, len(start) // targets)
    scores = torch.full([targets * options.restarts], torch.inf, device=generator.device)
    left = torch.arange(len(scores), device=generator.device)  # the rows that are not dropped
    history = torch.zeros([0, len(scores)])
    for number, (restarts, steps) in enumerate(options.rounds):
        if number:
            kept = best_half(scores[left], search.restarts)
            left, history, search = left[kept], history[:, kept.cpu()], search.kept(kept, restarts)
        of_round = objective.repeated(restarts)
        history = torch.cat([history, descend(search, of_round, steps, options.optimizer, options)])
        with torch.no_grad():
            total, distance = evaluate(search, of_round)
        scores[left] = torch.where(torch.isfinite(total), total, torch.inf).to(scores.dtype)
    with torch.no_grad():
        code = search.code()
    history = torch.cat([history, distance[None].cpu()])
    best = best_rows(scores[left], search.restarts)
    code = code[best]
    notes = {
        "objective_of_restarts": scores.reshape(targets, options.restarts).tolist(),
        **prior_notes(options.prior_weight, generator, code),
    }
    return Fit(code.detached_copy(), history[:, best.cpu()], notes)


def best_half(values: torch.Tensor, restarts: int) -> torch.Tensor:
    """The rows with the lowest half of ``values`` (N * restarts,) for each target, in their order: (N * (restarts // 2),)."""
    order = values.reshape(-1, restarts).argsort(dim=1, stable=True)[:, : restarts // 2].sort(dim=1).values
    return (order + torch.arange(len(order), device=values.device)[:, None] * restarts).flatten()


class LatentSearch(SearchBase):
    """z of all restarts; with a relaxed class, the logarithms of its parts (up to a constant) follow in the same row.

    Args:
        generator: the network's adapter; its prior of z is used.
        start: codes (N * given) in "z"; those of a target lie side by side.
        options: see `LatentOptions`.
        given: how many starts of each target ``start`` has; the others are drawn.
    """

    def __init__(self, generator: GeneratorAdapter, start: Code, options: LatentOptions, given: int = 1):
        if start.space != "z":
            raise ProjectionError(
                f"the starting code is in the space {start.space}, and the search is in z; start from a code in z"
            )
        if options.optimizer == "lbfgs-b" and options.clip == "stochastic":
            raise ProjectionError(
                "clip is 'stochastic' and the optimiser L-BFGS-B, which has its bounds built in; choose 'standard' or 'none'"
            )
        self.generator, self.options, self.restarts = generator, options, options.restarts
        self.bound = options.bound if options.bound is not None else generator.prior.bound
        targets = len(start) // given
        self.randoms = [torch.Generator(generator.device).manual_seed(options.seed) for _ in range(targets)]
        (shape,) = generator.code_shapes("z").values()
        (self.size,) = shape
        tries = []
        for random, first in zip(self.randoms, start.tensors["z"].split(given)):
            drawn = [draw(generator.prior, shape, random, options.start_bound) for _ in range(options.restarts)]
            tries.append(torch.stack([*first, *drawn[given:]]))
        rows = torch.cat(tries)
        if options.clip != "none":
            rows = rows.clamp(-self.bound, self.bound)
        self.anchor = Anchor(options.anchor_weight, rows, generator.spread("z"))
        self.c = None if start.c is None else start.c[::given].repeat_interleave(options.restarts, dim=0)
        self.first_step = FIRST_STEP * generator.spread("z")
        self.done = 0  # steps of earlier rounds
        if options.class_vector == "relaxed":
            if self.c is None:
                raise ProjectionError("class_vector is 'relaxed', and this network has no classes; leave it 'held'")
            rows = torch.cat([rows, self.c.clamp(min=LEAST / self.c.shape[1]).log()], dim=1)
        self.variables = [rows.detach().clone().requires_grad_(True)]
        self.remedy = f"try a lower learning rate (it was {options.initial_learning_rate:g})"
        if options.optimizer != "adam":
            self.remedy = "try more --restarts, or --optimizer adam"

    def code(self) -> Code:
        (rows,) = self.variables
        if self.options.class_vector == "relaxed":
            return Code("z", {"z": rows[:, : self.size]}, rows[:, self.size :].softmax(dim=1))
        return Code("z", {"z": rows}, self.c)

    def penalty(self, code: Code) -> torch.Tensor:
        weight = self.options.lambda_z / (self.size if self.options.penalty == "mean" else 1)
        unlikely = weight * self.generator.prior.negative_log(code.tensors["z"])
        anchored = self.anchor(code.tensors["z"])
        return unlikely + weighted_prior(self.options.prior_weight, self.generator, code) + anchored

    def settle(self) -> None:
        (rows,) = self.variables
        with torch.no_grad():
            z = rows[:, : self.size]
            z.copy_(clipped(z.clone(), self.options.clip, self.bound, self.generator.prior, self.randoms))

    def rate(self, step: int) -> float:
        return self.options.rate(self.done + step)

    def kept(self, rows: torch.Tensor, restarts: int) -> "LatentSearch":
        """The search of the next round: so many restarts of each target, which are the given rows."""
        one = copy.copy(self)
        one.restarts, one.done = restarts, self.done + self.options.steps // (self.options.halvings + 1)
        one.c, one.anchor = None if self.c is None else self.c[rows], self.anchor.part(rows)
        one.variables = [self.variables[0].detach()[rows].clone().requires_grad_(True)]
        return one

    def bounds(self) -> list[tuple[float | None, float | None]] | None:
        if self.options.clip == "none":
            return None
        free = self.variables[0].shape[1] - self.size
        return [(-self.bound, self.bound)] * self.size + [(None, None)] * free

    def part(self, rows: Sequence[int]) -> "LatentSearch":
        one = copy.copy(self)
        one.c, one.anchor = None if self.c is None else self.c[rows], self.anchor.part(rows)
        one.randoms, one.restarts = [self.randoms[row // self.restarts] for row in rows], 1
        one.variables = [self.variables[0].detach()[rows].clone().requires_grad_(True)]
        return one


def clipped(z: torch.Tensor, kind: str, bound: float, prior: Prior, randoms: list[torch.Generator]) -> torch.Tensor:
    """z with every entry in [-bound, bound], element by element.

    Args:
        z: (M, z_dim).
        kind: see ``clip`` of `LatentOptions`.
        bound: the largest size of an entry.
        prior: the distribution from which "stochastic" draws.
        randoms: one generator for each of the M / len(randoms) latents that lie side by side.
    """
    if kind == "none":
        return z
    if kind == "standard":
        return z.clamp(-bound, bound)
    share = len(z) // len(randoms)
    drawn = torch.cat([prior.sample([share, *z.shape[1:]], random, bound) for random in randoms])
    return torch.where(z.abs() > bound, drawn.to(z.dtype), z)


def draw(prior: Prior, shape: tuple[int, ...], random: torch.Generator, bound: float | None) -> torch.Tensor:
    """One latent from the prior, given that no entry exceeds ``bound``; zeros for a bound of 0."""
    if bound == 0:
        return torch.zeros(shape, device=random.device)
    return prior.sample(shape, random, bound)
