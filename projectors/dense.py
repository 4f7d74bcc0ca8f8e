"""Inversion to a layer inside the network: first to z, then a displacement of the layer's output.

Pividori, Grinblat & Uzal, "Exploiting GAN Internal Capacity for High-Quality Reconstruction of Natural Images", section 3.3:
G is split into G2 after G1 at the first dense layer; z* minimises the distance and -lambda_1 log P(z), then delta* the
distance of G2(G1(z*) + delta) and lambda_2 |delta|_1. Any layer of `GeneratorAdapter.layers` will do for the split.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch

from stylegan_invert.errors import ProjectionError
from stylegan_invert.generator import FEATURES, Code, GeneratorAdapter, base_code
from stylegan_invert.losses import Distance

from .base import Fit, Step, check_numbers, look_now, option, staircase
from .optimisers import Adam
from .z import LatentOptions, latent


@dataclass(frozen=True)
class DenseOptions(LatentOptions):
    """Settings of the two steps; those of the first are `LatentOptions`.

    Attributes:
        layer: where to split; None takes the first dense layer, before its activation.
        first_step: "z" finds z* first; "none" takes the start as it is, and lets the displacement do everything.
        layer_steps, layer_learning_rate, layer_lr_drops: of Adam in the second step.
        lambda_delta: weight of the L1 norm of the displacement (lambda_2); 0 leaves it free.
        delta_unit: what the displacement is measured in, for its norm and its learning rate: "one", as in the paper, or
            "spread", the layer's own standard deviation over the prior, so that both mean the same on every network.
        styles: "held", or "optimised" together with the displacement: what the network reads besides the layer's output, as
            the w of a StyleGAN2.

    ``penalty`` is for both penalties: "sum" takes norms as they are, "mean" divides them by the number of entries.
    """

    layer: str | None = option(None, words=("",), or_none=True)
    first_step: str = option("z", words=("z", "none"))
    layer_steps: int = option(500, 1, 10**9, whole=True)
    layer_learning_rate: float = option(0.05, 1e-12)
    layer_lr_drops: int = option(2, 1, 1000, whole=True)
    lambda_delta: float = option(0.9)
    delta_unit: str = option("spread", words=("one", "spread"))
    styles: str = option("held", words=("held", "optimised"))

    def without_effect(self) -> dict[str, str]:
        idle = super().without_effect()
        if self.first_step == "none":
            shared = {"seed", "start_bound", "penalty", "prior_weight"}  # the seed and its bound make the start
            of_z = {f.name for f in dataclasses.fields(LatentOptions)} - shared
            idle |= dict.fromkeys(of_z, "it is for the search for z, and first_step is none")
        return idle

    def layer_rate(self, step: int) -> float:
        """Adam's rate in a step of the second part, counted from 0."""
        return staircase(self.layer_learning_rate, step, self.layer_steps, self.layer_lr_drops)


def dense(
    generator: GeneratorAdapter,
    target: torch.Tensor,
    loss: Distance,
    start: Code,
    options: DenseOptions,
    callback: Callable[[Step], None] | None = None,
) -> Fit:
    """Fit a layer's output to pictures.

    Args:
        generator, target, loss, callback: as in `optimise`.
        start: codes (N). For the first step they lie in "z", as in `latent`; without it they may also lie in the base space or
            in the layer's own, where the displacement then starts.
        options: see `DenseOptions`.

    Returns:
        Codes in the space "f:LAYER"; the distances of both steps, one after the other; and in ``notes`` the distance at z*,
        and the L1 norm of the displacement.

    Raises:
        ProjectionError: the network does not begin with a dense layer and no other was named, or a distance is no number.
    """
    name = options.layer or generator.dense
    if name is None:
        known = ", ".join(generator.layers())
        raise ProjectionError(f"this network does not begin with a dense layer; choose another with --layer: {known}")
    space = FEATURES + name
    if name not in generator.layers():
        raise ProjectionError(f"there is no layer {name!r}; choose one of {', '.join(generator.layers())}")
    total = options.layer_steps + (0 if options.first_step == "none" else _first_steps(options, len(target)))

    def watch_first(step: Step) -> None:
        if callback is not None:
            callback(Step(step.number, step.distance, generator.convert(step.code, space), total))

    notes: dict[str, list] = {}
    history = torch.zeros([0, len(target)])
    if options.first_step == "z":
        if start.space == space and "z" in start.tensors:  # the result of an earlier run, or the frame before
            start = Code("z", {"z": start.tensors["z"]}, start.c)
        found = latent(generator, target, loss, start, options, watch_first)
        start, history, notes = found.code, found.distance, dict(found.notes)

    code = generator.convert(start, space)
    inputs = {k: v.detach().clone() for k, v in code.tensors.items() if k not in ("h", "z")}
    latents = {k: v for k, v in [*code.tensors.items(), *start.tensors.items()] if k == "z"}
    undisplaced = code if start.space != space else generator.convert(base_code(generator, code), space)
    base = undisplaced.tensors["h"]
    unit = (
        layer_spread(generator, space, None if code.c is None else code.c[:1])
        if options.delta_unit == "spread"
        else 1.0
    )
    delta = ((code.tensors["h"] - base) / unit).detach().clone().requires_grad_(True)
    prepared = loss.prepare(target)

    def displaced(by: torch.Tensor | float) -> Code:
        return Code(space, {**inputs, **latents, "h": base + unit * by}, code.c)

    with torch.no_grad():
        notes["distance_without_displacement"] = loss(prepared, generator.render(displaced(0.0))).tolist()

    variables = [delta]
    if options.styles == "optimised":
        if not inputs:
            raise ProjectionError(
                "styles is 'optimised', and this network reads nothing besides the layer; leave it 'held'"
            )
        variables += [v.requires_grad_(True) for v in inputs.values()]
    adam = Adam(variables, lr=options.layer_learning_rate, betas=(0.9, 0.999))
    weight = options.lambda_delta / (delta[0].numel() if options.penalty == "mean" else 1)
    remedy = f"try a lower --layer-lr (it was {options.layer_learning_rate:g})"
    distances = []
    for step in range(options.layer_steps):
        adam.param_groups[0]["lr"] = options.layer_rate(step)
        shown = displaced(delta)
        distance = loss(prepared, generator.render(shown))
        penalty = weight * delta.abs().flatten(1).sum(dim=1)
        adam.zero_grad(set_to_none=True)
        (distance + penalty + options.prior(generator, base_code(generator, shown))).sum().backward()
        adam.step()
        distances.append(distance.detach())
        if look_now(step, options.layer_steps, delta.device):
            check_numbers(distances[-1], step, options.layer_steps, remedy)
        if callback is not None:
            done = total - options.layer_steps + step + 1
            callback(Step(done, distances[-1], displaced(delta).detach(), total))
    result = displaced(delta).detach()
    notes |= options.prior_notes(generator, base_code(generator, result))
    notes["displacement_l1"] = (unit * delta.detach()).abs().flatten(1).sum(dim=1).tolist()
    return Fit(result, torch.cat([history, torch.stack(distances).cpu()]), notes)


def layer_spread(generator: GeneratorAdapter, space: str, c: torch.Tensor | None = None, samples: int = 256) -> float:
    """The standard deviation of a layer's outputs over the prior of z: the root mean square over its entries."""
    random = torch.Generator(generator.device).manual_seed(0)
    (shape,) = generator.code_shapes("z").values()
    total = squares = 0
    for z in generator.prior.sample([samples, *shape], random).split(8):
        code = Code("z", {"z": z}, None if c is None else c.expand(len(z), -1))
        h = generator.convert(code, space).tensors["h"].cpu().double()
        total, squares = total + h.sum(dim=0), squares + h.square().sum(dim=0)
    return float(((squares - total.square() / samples) / (samples - 1)).mean().sqrt())


def _first_steps(options: LatentOptions, n: int) -> int:
    return options.steps * (1 if options.optimizer == "adam" else n * options.restarts)
