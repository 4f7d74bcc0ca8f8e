"""Inversion to a layer inside the network: first to z, then a displacement of the layer's output.

Pividori, Grinblat & Uzal, "Exploiting GAN Internal Capacity for High-Quality Reconstruction of Natural Images", section 3.3:
G is split into G2 after G1 at the first dense layer; z* minimises the distance and -lambda_1 log P(z), then delta* the
distance of G2(G1(z*) + delta) and lambda_2 |delta|_1. Any layer of `GeneratorAdapter.layers` will do for the split.
"""

import copy
import weakref
from collections.abc import Sequence

import torch

from stylegan_invert.errors import ProjectionError
from stylegan_invert.generator import FEATURES, Code, GeneratorAdapter, base_code
from stylegan_invert.networks.layers import widest_dtype

from . import z as first_step
from .descent import Descent, Fit
from .objective import Objective
from .search import SearchBase
from .settings import DenseOptions
from .v_prior import prior_notes, weighted_prior

_SPREADS: weakref.WeakKeyDictionary[GeneratorAdapter, dict[tuple, float]] = weakref.WeakKeyDictionary()


def fit(generator: GeneratorAdapter, objective: Objective, start: Code, options: DenseOptions, descend: Descent) -> Fit:
    """Fit a layer's output to targets.

    Args:
        generator: the network behind its adapter.
        objective: the objective for the N targets.
        start: codes (N). For the first step they lie in "z", as in `z.fit`; without it they may also lie in the base space or
            in the layer's own, where the displacement then starts.
        options: see `DenseOptions`.
        descend: the descent that minimises, first z, then the displacement.

    Returns:
        Codes in the space "f:LAYER"; the distances of both steps, one after the other; and in ``notes`` the distance at z*,
        the weight of the displacement's penalty, and the displacement's L1 norm.

    Raises:
        ProjectionError: the network does not begin with a dense layer and no other was named, or a distance is NaN or
            infinite.
    """
    space = FEATURES + chosen_layer(generator, options)
    notes: dict[str, list] = {}
    history = torch.zeros([0, len(objective.targets)])
    if options.searches_z:
        if start.space == space and "z" in start.tensors:  # the result of an earlier run, or the frame before
            start = Code("z", {"z": start.tensors["z"]}, start.c)
        latent = first_step.fit(generator, objective, start, options, descend)
        start, history, notes = latent.code, latent.distance, dict(latent.notes)
    search = DisplacementSearch(generator, space, start, options)
    notes["distance_without_displacement"] = search.weigh(objective).tolist()
    steps = descend(search, objective, options.layer_steps, options.layer_optimizer, options)
    history = torch.cat([history, steps])
    code = search.code().detached_copy()
    notes |= prior_notes(options.prior_weight, generator, base_code(generator, code))
    notes["lambda_delta"] = (search.weights * search.entries).tolist()
    notes["displacement_l1"] = (search.unit * search.variables[0].detach()).abs().flatten(1).sum(dim=1).tolist()
    return Fit(code, history, notes)


def chosen_layer(generator: GeneratorAdapter, options: DenseOptions) -> str:
    """The name of the layer at which the network is split."""
    name = options.layer or generator.dense
    layers = ", ".join(generator.layers())
    if name is None:
        raise ProjectionError(f"this network does not begin with a dense layer; choose another with --layer: {layers}")
    if name not in generator.layers():
        raise ProjectionError(f"there is no layer {name!r}; choose one of {layers}")
    return name


class DisplacementSearch(SearchBase):
    """The displacement of a layer's output and, if they are optimised, the styles that the later layers read.

    Args:
        generator: the network's adapter.
        space: "f:LAYER".
        start: codes (N) in "z", in the base space, or in ``space``.
        options: see `DenseOptions`.
    """

    def __init__(self, generator: GeneratorAdapter, space: str, start: Code, options: DenseOptions):
        self.generator, self.space, self.options = generator, space, options
        code = generator.convert(start, space)
        self.c = code.c
        self.randoms: list[torch.Generator] = []
        self.unit = 1.0
        if options.delta_unit == "spread":
            self.unit = layer_spread(generator, space, None if code.c is None else code.c[:1])
        undisplaced = code if start.space != space else generator.convert(base_code(generator, code), space)
        self.base = undisplaced.tensors["h"]
        delta = ((code.tensors["h"] - self.base) / self.unit).detach().clone().requires_grad_(True)
        # The z under the displacement is kept with the code, but the network may not read it.
        self.latents = {k: v.detach() for k, v in [*code.tensors.items(), *start.tensors.items()] if k == "z"}
        self.styles = {k: v.detach().clone() for k, v in code.tensors.items() if k not in ("h", "z")}
        self.variables = [delta]
        self.entries = delta[0].numel() if options.penalty == "mean" else 1
        self.weights = delta.new_full([len(delta)], (options.lambda_delta or 0.0) / self.entries)
        self.read = (
            read_behind(generator, space.removeprefix(FEATURES), code) if options.styles == "optimised" else None
        )
        if options.styles == "optimised":
            if self.read is not None and not self.styles:
                self.styles = {"z": code.tensors["z"][:, self.read].detach().clone()}
            if self.read is None:
                raise ProjectionError(
                    "styles is 'optimised', and the layers behind this one read nothing but its output; leave it 'held'"
                )
            self.variables += [v.requires_grad_(True) for v in self.styles.values()]
        self.remedy = f"try a lower --layer-lr (it was {options.layer_learning_rate:g})"
        if options.layer_optimizer != "adam":
            self.remedy = "try --layer-optimizer adam"

    def weigh(self, objective: Objective) -> torch.Tensor:
        """The distances (M,) without displacement. If no lambda_delta was chosen, it is found from their slopes there.

        A penalty of weight t on |delta_i| holds delta_i at zero while the distance's slope is below t, so what it leaves of
        the slopes says how much of the distance can go. The same share of them is left for each target, network and
        distance; a fixed weight leaves another share on each.
        """
        # Not counted as an evaluation: a run that is resumed comes here again.
        quiet = copy.copy(objective)
        quiet.evaluations = list(objective.evaluations)
        delta = torch.zeros_like(self.base, requires_grad=True)
        with torch.set_grad_enabled(self.options.lambda_delta is None):
            distance = quiet(self.displaced(delta))
        if self.options.lambda_delta is None:
            (slopes,) = torch.autograd.grad(distance.sum(), delta)
            self.weights = threshold(slopes, self.options.delta_share)
        return distance.detach()

    def displaced(self, by: torch.Tensor | float) -> Code:
        """The codes with a displacement (N, C, H, W), in units of the layer's spread or of one."""
        styles = dict(zip(self.styles, self.variables[1:])) or self.styles
        latents = self.latents
        if self.read is not None and "z" in styles:
            latents = {"z": latents["z"].index_copy(1, self.read, styles["z"])}
        return Code(self.space, {**styles, **latents, "h": self.base + self.unit * by}, self.c)

    def code(self) -> Code:
        return self.displaced(self.variables[0])

    def penalty(self, code: Code) -> torch.Tensor:
        delta = self.variables[0]
        size = self.weights * delta.abs().flatten(1).sum(dim=1)
        if "z" in self.styles:
            z = code.tensors["z"]
            share = z.shape[1] if self.options.penalty == "mean" else 1
            size = size + self.options.lambda_z / share * self.generator.prior.negative_log(z)
        return size + weighted_prior(self.options.prior_weight, self.generator, base_code(self.generator, code))

    def rate(self, step: int) -> float:
        return self.options.layer_rate(step)

    def part(self, rows: Sequence[int]) -> "DisplacementSearch":
        one = copy.copy(self)
        one.c = None if self.c is None else self.c[rows]
        one.base, one.weights = self.base[rows], self.weights[rows]
        one.latents = {k: v[rows] for k, v in self.latents.items()}
        one.styles = {k: v.detach()[rows] for k, v in self.styles.items()}
        one.variables = [v.detach()[rows].clone().requires_grad_(True) for v in self.variables]
        return one


def read_behind(generator: GeneratorAdapter, layer: str, code: Code) -> torch.Tensor | None:
    """What the layers behind a layer read of a code besides the layer's output.

    A StyleGAN's later layers read w, and the later blocks of a BigGAN read z: each a chunk of its own, or all of it.

    Args:
        generator: the network's adapter.
        layer: a name in `GeneratorAdapter.layers`.
        code: at the layer, or in another space.

    Returns:
        None if nothing else is read; else the numbers of the entries of the base space's vectors (z or w) that are, (n,) int64.
    """
    code = generator.convert(code[:1], FEATURES + layer)
    inputs = {k: v.detach().clone().requires_grad_(True) for k, v in base_code(generator, code).tensors.items()}
    with torch.enable_grad():
        output = generator.render(Code(code.space, {**inputs, "h": code.tensors["h"].detach()}, code.c))
    if not output.requires_grad:
        return None
    (main,) = (inputs[key] for key in generator.code_shapes(generator.base))
    (slopes,) = torch.autograd.grad(output.square().sum(), main, allow_unused=True)
    read = None if slopes is None else slopes.flatten(0, -2).abs().amax(dim=0).nonzero().flatten()
    return None if read is None or not len(read) else read


def threshold(slopes: torch.Tensor, share: float) -> torch.Tensor:
    """The numbers (M,) by which the sizes of slopes must be lowered so that a share of their squared length is left.

    Args:
        slopes: (M, ...) float32; a row of zeros has the threshold 0.
        share: from 0, which takes everything away, to 1. Sizes below the threshold become zero (soft thresholding).
    """
    sizes = slopes.detach().flatten(1).abs().to(widest_dtype(slopes.device))
    wanted = share * sizes.square().sum(dim=1)
    low, high = torch.zeros_like(wanted), sizes.amax(dim=1)
    for _ in range(50):  # bisection
        middle = (low + high) / 2
        left = (sizes - middle[:, None]).clamp_min(0).square().sum(dim=1)
        low, high = torch.where(left > wanted, middle, low), torch.where(left > wanted, high, middle)
    return low.to(slopes.dtype)


def layer_spread(generator: GeneratorAdapter, space: str, c: torch.Tensor | None = None, samples: int = 256) -> float:
    """The standard deviation of a layer's outputs over the prior of z: the root mean square over its entries.

    It is measured once for each generator adapter, layer and class.
    """
    known = _SPREADS.setdefault(generator, {})
    key = (space, None if c is None else tuple(c.flatten().tolist()), samples)
    if key not in known:
        known[key] = _layer_spread(generator, space, c, samples)
    return known[key]


def _layer_spread(generator: GeneratorAdapter, space: str, c: torch.Tensor | None, samples: int) -> float:
    random = torch.Generator(generator.device).manual_seed(0)
    (shape,) = generator.code_shapes("z").values()
    total = squares = torch.zeros([], dtype=torch.float64)
    for z in generator.prior.sample([samples, *shape], random).split(8):
        code = Code("z", {"z": z}, None if c is None else c.expand(len(z), -1))
        h = generator.convert(code, space).tensors["h"].cpu().double()
        total, squares = total + h.sum(dim=0), squares + h.square().sum(dim=0)
    return float(((squares - total.square() / samples) / (samples - 1)).mean().sqrt())
