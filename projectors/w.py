"""The official optimisation: Adam on a code and its noise maps, with scheduled rate and exploration.

Every constant is that of stylegan2-ada-pytorch's projector.py (algorithms.md, section 6.1), and random numbers are
drawn in its order, so that with the same seed and feature network a run in W follows the official one. Several targets
are optimised side by side: each has its own random numbers, noise maps and share of the loss, so that a batch gives
what single runs give.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from stylegan_invert.generator import NOISE, Code, GeneratorAdapter
from stylegan_invert.losses import Distance

from .base import SEED, Fit, Step, check_numbers, look_now, option
from .optimisers import Adam
from .v_prior import PriorOptions


@dataclass(frozen=True)
class Options(PriorOptions):
    """Settings of the optimisation; the defaults are the official ones. With those of `PriorOptions`.

    Attributes:
        steps: number of steps.
        seed: of the random numbers; every target starts its own generator from it.
        initial_learning_rate: peak of Adam's rate.
        initial_noise_factor: exploration noise on w at the start, in deviations of w.
        lr_rampdown_length: share of the run over which the rate falls along a cosine.
        lr_rampup_length: share of the run over which it rises from zero.
        noise_ramp_length: share of the run after which there is no exploration noise.
        noise_maps: "optimised" together with the code, or "fixed" at the network's own.
        regularize_noise_weight: weight of the penalty that keeps optimised noise maps white.
    """

    steps: int = option(1000, 1, 10**9, whole=True)
    seed: int = option(303, **SEED)
    initial_learning_rate: float = option(0.1)
    initial_noise_factor: float = option(0.05)
    lr_rampdown_length: float = option(0.25, 1e-6)
    lr_rampup_length: float = option(0.05, 1e-6)
    noise_ramp_length: float = option(0.75, 1e-6)
    noise_maps: str = option("optimised", words=("optimised", "fixed"))
    regularize_noise_weight: float = option(1e5)

    def without_effect(self) -> dict[str, str]:
        """The options that do nothing beside the others, and why."""
        return {"regularize_noise_weight": "noise_maps is fixed"} if self.noise_maps == "fixed" else {}

    def learning_rate(self, step: int) -> float:
        """Adam's rate in a step, counted from 0."""
        t = step / self.steps
        ramp = min(1.0, (1.0 - t) / self.lr_rampdown_length)
        ramp = 0.5 - 0.5 * math.cos(ramp * math.pi)
        return self.initial_learning_rate * ramp * min(1.0, t / self.lr_rampup_length)

    def noise_ramp(self, step: int) -> float:
        """Exploration noise in a step, as a share of that at the start."""
        return max(0.0, 1.0 - step / self.steps / self.noise_ramp_length) ** 2


def optimise(
    generator: GeneratorAdapter,
    target: torch.Tensor,
    loss: Distance,
    start: Code,
    options: Options,
    callback: Callable[[Step], None] | None = None,
) -> Fit:
    """Fit codes to pictures.

    Args:
        generator: the network behind its adapter; its parameters must not require gradients.
        target: (N, C, H, W) float32 in [-1, 1], of the generator's size and channels.
        loss: a distance.
        start: codes (N) in "w", "w+", "v" or "v+" to begin with. Noise maps in it are taken; missing ones are drawn, unless
            they are fixed.
        options: see `Options`.
        callback: called after each step.

    Raises:
        ProjectionError: a distance is no longer a number.
    """
    n = len(target)
    device = generator.device
    randoms = [torch.Generator(device).manual_seed(options.seed) for _ in range(n)]

    def randn(*shape: int) -> torch.Tensor:
        return torch.stack([torch.randn(shape, generator=g, device=device) for g in randoms])

    prepared = loss.prepare(target)
    spread = torch.tensor([generator.spread(one.space, one.c) for one in start], device=device)
    (key,) = generator.code_shapes(start.space)
    spread = spread.reshape(n, *[1] * (start.tensors[key].ndim - 1))
    w = start.tensors[key].detach().clone().requires_grad_(True)
    drawn = generator.noise_shapes() if options.noise_maps == "optimised" else {}
    noise = {name: randn(*shape) for name, shape in drawn.items()}
    for name, given in start.noise.items():
        noise[name] = given.detach().clone()
    optimised = noise if options.noise_maps == "optimised" else {}
    for value in optimised.values():
        value.requires_grad_(True)
    adam = Adam([w, *optimised.values()], lr=options.initial_learning_rate, betas=(0.9, 0.999))

    def code(w: torch.Tensor) -> Code:
        return Code(start.space, {key: w, **{NOISE + name: value for name, value in noise.items()}}, start.c)

    distances = []
    for step in range(options.steps):
        for group in adam.param_groups:
            group["lr"] = options.learning_rate(step)
        # The official code draws (1, 1, w_dim) here; the same numbers come out of (w_dim,).
        explore = randn(*w.shape[1:]) * (spread * options.initial_noise_factor * options.noise_ramp(step))
        shown = code(w + explore)
        distance = loss(prepared, generator.render(shown))
        total = distance.sum() + options.regularize_noise_weight * sum(
            noise_penalty(v).sum() for v in optimised.values()
        )
        if options.prior_weight:
            total = total + options.prior(generator, shown).sum()
        adam.zero_grad(set_to_none=True)
        total.backward()
        adam.step()
        with torch.no_grad():
            for value in optimised.values():
                value -= value.mean(dim=[1, 2], keepdim=True)
                value *= value.square().mean(dim=[1, 2], keepdim=True).rsqrt()
        distances.append(distance.detach())
        if look_now(step, options.steps, device):
            remedy = (
                f"try a lower learning rate (--lr; it was {options.initial_learning_rate:g}) or lower weights in --loss"
            )
            check_numbers(distances[-1], step, options.steps, remedy)
        if callback is not None:
            callback(Step(step + 1, distances[-1], code(w.detach()), options.steps))
    history = torch.stack(distances) if distances else target.new_zeros([0, n])
    result = code(w).detach()
    return Fit(result, history.cpu(), options.prior_notes(generator, result))


def noise_penalty(noise: torch.Tensor) -> torch.Tensor:
    """How far noise maps (N, H, W) are from white: (N,).

    The squared correlation with the map shifted by one pixel, along both axes, summed over a pyramid of 2x2 averages down to 8 pixels.
    """
    x = noise[:, None]
    total = torch.zeros(len(x), device=x.device)
    while True:
        for axis in (3, 2):
            total = total + (x * torch.roll(x, 1, axis)).mean(dim=[1, 2, 3]).square()
        if x.shape[2] <= 8:
            return total
        x = F.avg_pool2d(x, 2)
