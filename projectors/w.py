"""The official projector: Adam on w and its noise maps, with scheduled rate and exploration. It serves W, W+, V and V+.

Every constant is that of stylegan2-ada-pytorch's projector.py, and random numbers are drawn in its order, so that with the
same seed and feature network a run in W follows the official one. Several targets are optimised side by side: each has its
own random numbers, noise maps and share of the loss, so that a batch gives the same results as single runs.
"""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from stylegan_invert.generator import NOISE, Code, GeneratorAdapter

from .anchor import Anchor
from .descent import Descent, Fit
from .objective import Objective
from .search import SearchBase
from .settings import WOptions
from .v_prior import prior_notes, weighted_prior

FIRST_STEP = 0.15  # length of the first step of L-BFGS, in root mean squared distances of w from its mean


def fit(generator: GeneratorAdapter, objective: Objective, start: Code, options: WOptions, descend: Descent) -> Fit:
    """Fit codes to targets.

    Args:
        generator: the network behind its adapter; its parameters must not require gradients.
        objective: the objective for the N targets.
        start: the first codes (N), in "w", "w+", "v" or "v+". Noise maps in it are used; missing ones are drawn, unless
            they are fixed.
        options: see `WOptions`.
        descend: the descent that minimises.

    Raises:
        ProjectionError: a distance is NaN or infinite.
    """
    search = StyleSearch(generator, start, options)
    history = descend(search, objective, options.steps, options.optimizer, options)
    if options.optimizer != "adam":  # a search that ends where it stands well says how well
        with torch.no_grad():
            history = torch.cat([history, objective(search.code())[None].cpu()])
    code = search.code().detached_copy()
    return Fit(code, history, prior_notes(options.prior_weight, generator, code))


class StyleSearch(SearchBase):
    """w and, if they are fitted, noise maps.

    Args:
        generator: the network's adapter; its spread and its noise maps are used.
        start: the first values of w, and of the noise maps that the code has.
        options: see `WOptions`.
    """

    def __init__(self, generator: GeneratorAdapter, start: Code, options: WOptions):
        self.generator, self.options = generator, options
        self.space, self.c = start.space, start.c
        self.randoms = [torch.Generator(generator.device).manual_seed(options.seed) for _ in range(len(start))]
        (self.key,) = generator.code_shapes(start.space)
        w = start.tensors[self.key].detach().clone().requires_grad_(True)
        spread = torch.tensor([generator.spread(one.space, one.c) for one in start], device=generator.device)
        self.spread = spread.reshape(len(start), *[1] * (w.ndim - 1))  # root mean squared distance of w from its mean
        self.anchor = Anchor(options.anchor_weight, w, self.spread)
        sizes = generator.noise_shapes() if options.fits_noise_maps else {}
        maps = {name: self._randn(*size) for name, size in sizes.items()}
        maps.update((name, value.detach().clone()) for name, value in start.noise.items())
        self.fixed = {} if options.fits_noise_maps else maps
        self.fitted = [] if self.fixed else list(maps)
        self.variables = [w, *(maps[name].requires_grad_(True) for name in self.fitted)]
        self.betas = (options.beta1, options.beta2)
        layers = w.shape[1] if w.ndim == 3 else 1
        self.first_step = FIRST_STEP * float(spread.mean()) * layers**0.5
        self.remedy = (
            "try --optimizer adam"
            if options.optimizer != "adam"
            else (
                f"try a lower learning rate (--lr; it was {options.initial_learning_rate:g}) or lower weights in --loss"
            )
        )

    def _randn(self, *shape: int) -> torch.Tensor:
        """Normal numbers (N, *shape), those of each target from its own generator."""
        return torch.stack([torch.randn(shape, generator=g, device=g.device) for g in self.randoms])

    def _code(self, w: torch.Tensor) -> Code:
        maps = {**self.fixed, **dict(zip(self.fitted, self.variables[1:]))}
        return Code(self.space, {self.key: w, **{NOISE + name: value for name, value in maps.items()}}, self.c)

    def code(self) -> Code:
        return self._code(self.variables[0])

    def shown(self, step: int) -> Code:
        if self.options.optimizer != "adam":
            return self.code()  # a line search needs an objective without random numbers
        w = self.variables[0]
        # The official code draws (1, 1, w_dim) here; the same numbers come out of (w_dim,).
        factor = self.spread * self.options.initial_noise_factor * self.options.noise_ramp(step)
        return self._code(w + self._randn(*w.shape[1:]) * factor)

    def penalty(self, code: Code) -> torch.Tensor | float:
        coloured = self.options.regularize_noise_weight * sum(noise_penalty(v) for v in self.variables[1:])
        anchored = self.anchor(self.variables[0])
        return coloured + weighted_prior(self.options.prior_weight, self.generator, code) + anchored

    def settle(self) -> None:
        with torch.no_grad():
            for value in self.variables[1:]:
                value -= value.mean(dim=[1, 2], keepdim=True)
                value *= value.square().mean(dim=[1, 2], keepdim=True).rsqrt()

    def rate(self, step: int) -> float:
        return self.options.learning_rate(step)

    def part(self, rows: Sequence[int]) -> "StyleSearch":
        one = copy.copy(self)
        one.c = None if self.c is None else self.c[rows]
        one.randoms, one.spread = [self.randoms[row] for row in rows], self.spread[rows]
        one.anchor = self.anchor.part(rows)
        one.fixed = {name: value[rows] for name, value in self.fixed.items()}
        one.variables = [v.detach()[rows].clone().requires_grad_(True) for v in self.variables]
        return one


def noise_penalty(noise: torch.Tensor) -> torch.Tensor:
    """How far noise maps (N, H, W) are from white: (N,).

    The squared correlation with the map shifted by one pixel, along both axes, summed over a pyramid of 2x2 averages down to
    8 pixels.
    """
    x = noise[:, None]
    total = torch.zeros(len(x), device=x.device)
    while True:
        for axis in (3, 2):
            total = total + (x * torch.roll(x, 1, axis)).mean(dim=[1, 2, 3]).square()
        if x.shape[2] <= 8:
            return total
        x = F.avg_pool2d(x, 2)
