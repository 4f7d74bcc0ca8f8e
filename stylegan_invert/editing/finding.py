"""Ways to find directions: principal components of V, the modulation weights, means of groups, a boundary between groups.

A function here returns a `Direction` or several. `assessor.py` has the direction that an assessor network prefers.
"""

from collections.abc import Sequence

import torch

from ..analysis import logistic
from ..analysis.paths import dense_columns
from ..generator import Code, GeneratorAdapter
from ..generator.directions import SPACES, Coordinates, Direction, layer_count, of_step
from ..generator.gaussian import inverse_leaky_relu

SAMPLES = 10_000  # random codes from which deviations along directions of W are measured


def pca(
    generator: GeneratorAdapter,
    components: Sequence[int],
    layers: Sequence[int] | None = None,
    c: torch.Tensor | None = None,
) -> list[Direction]:
    """Principal components of V. Strength 1 is one standard deviation of V along the component.

    In V the components are independent of each other, since V is nearly Gaussian; in W they are not.

    Args:
        generator: the network's adapter, with the Gaussian of V.
        components: their numbers, from 0 with the largest variance.
        layers: the layers that the directions move; None for all.
        c: the class (1, c_dim) for a network with classes.

    Raises:
        ValueError: the network has no V, or not so many components.

    Source: Härkönen et al., "GANSpace: Discovering Interpretable GAN Controls" (2020), in W; V is Wulff & Torralba's (2020).
    """
    g = generator.gaussian(c)
    wrong = [i for i in components if not 0 <= i < g.rank]
    if wrong:
        raise ValueError(f"component {wrong[0]} was asked for; this network's V has the components 0 to {g.rank - 1}")
    variances = g.variances / g.variances.sum()
    made = [{"way": "pca", "component": i, "share_of_variance": float(variances[i])} for i in components]
    deviations = [float(g.deviations[i]) for i in components]
    return [
        of_step(f"component {i} of V", "v", g.axes[:, i] * deviation, generator, how, layers)
        for i, deviation, how in zip(components, deviations, made)
    ]


def sefa(
    generator: GeneratorAdapter,
    components: Sequence[int],
    layers: Sequence[int] | None = None,
    c: torch.Tensor | None = None,
) -> list[Direction]:
    """The directions of w that change the styles most: eigenvectors of A^T A, where A are the modulation weights.

    A stacks the affine layers of the chosen layers. Of a network from z alone, A is the first dense layer, which takes z (for a
    BigGAN the first part of z). Strength 1 is one standard deviation of the network's own codes along the direction.

    Args:
        generator: the network's adapter.
        components: their numbers, from 0 with the largest eigenvalue.
        layers: the layers whose weights count and which the directions move; None for all.
        c: the class (1, c_dim) for a network with classes.

    Raises:
        ValueError: the network has neither modulation weights nor a first dense layer, or not so many components.

    Source: Shen & Zhou, "Closed-Form Factorization of Latent Semantics in GANs" (2021), equation 5. As in its authors' code,
        ToRGB layers are left out.
    """
    if "w" in generator.spaces:
        space, matrix = "w", _modulation(generator, layers)
    elif generator.dense is not None and layers is None:
        space, matrix = "z", dense_columns(generator, None if c is None else c.to(generator.device)).t()
    elif generator.dense is not None:
        raise ValueError("this network has one z for all its layers; leave out the layers")
    else:
        raise ValueError("this network has neither modulation weights nor a first dense layer, which SeFa needs")
    matrix = matrix.cpu().double()
    values, vectors = torch.linalg.eigh(matrix.t() @ matrix)
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    count = int((values > values[0] * 1e-10).sum())
    wrong = [i for i in components if not 0 <= i < count]
    if wrong:
        raise ValueError(f"component {wrong[0]} was asked for; these layers have the components 0 to {count - 1}")
    samples = _samples(generator, space, c)
    found = []
    for i in components:
        vector = vectors[:, i] * vectors[:, i].sum().sign()  # an eigenvector has no sign of its own
        step = vector * float((samples @ vector).std())
        made = {"way": "sefa", "component": i, "eigenvalue": float(values[i]), "layers": _listed(layers)}
        found.append(of_step(f"sefa component {i}", space, step, generator, made, layers))
    return found


def _modulation(generator: GeneratorAdapter, layers: Sequence[int] | None) -> torch.Tensor:
    """The modulation weights of the chosen layers, one above the other: (channels, w_dim)."""
    modulations = getattr(generator.network.synthesis, "modulations", None)
    matrices = [None] if modulations is None else modulations()
    chosen = [m for i, m in enumerate(matrices) if m is not None and (layers is None or i in layers)]
    if not chosen:
        raise ValueError("these layers have no modulation weights besides those of ToRGB; choose others")
    return torch.cat(chosen)


def _samples(generator: GeneratorAdapter, space: str, c: torch.Tensor | None) -> torch.Tensor:
    """Random codes of the network in "w" or "z", (`SAMPLES`, d) float64."""
    (shape,) = generator.code_shapes("z").values()
    z = generator.prior.sample([SAMPLES, *shape], torch.Generator().manual_seed(0)).to(generator.device)
    code = Code("z", {"z": z}, None if c is None else c.to(z).expand(SAMPLES, -1))
    with torch.no_grad():
        return next(iter(generator.convert(code, space).tensors.values())).cpu().double()


def difference(generator: GeneratorAdapter, plus: Code, minus: Code, name: str = "difference of means") -> Direction:
    """The direction from the mean of one group of codes to that of another. Strength 1 is the whole difference.

    So mean(A) - mean(B) + C is the code C moved by 1. Means are taken in V where the network has it, else in W or z, and of
    each layer by itself where codes have several w.

    Args:
        generator: the network's adapter.
        plus: the codes A, in the base space of the network.
        minus: the codes B.

    Raises:
        ValueError: both means are equal.

    Source: Radford, Metz & Chintala, "Unsupervised Representation Learning with Deep Convolutional GANs" (2016), figure 7.
    """
    space = next(space for space in SPACES if space in generator.spaces)

    def mean(code: Code) -> torch.Tensor:
        if space == "z":
            return code.tensors["z"].cpu().double().mean(dim=0)
        w = generator.styles(code).cpu().double()
        slope = generator.v_slope()
        return (w if slope is None else inverse_leaky_relu(w, slope)).mean(dim=0)

    step = mean(plus) - mean(minus)
    made = {"way": "means", "unit": "the difference of the means", "codes": [len(plus), len(minus)]}
    return of_step(name, space, step, generator, made)


def boundary(
    coordinates: Coordinates,
    plus: Code,
    minus: Code,
    layers: Sequence[int] | None = None,
    ridge: float = 1.0,
    name: str = "across a boundary",
) -> tuple[Direction, float]:
    """The direction across the boundary that logistic regression draws between two groups of codes.

    The regression is of the coordinates, averaged over the chosen layers, so strength 1 is one standard deviation of the
    network's own codes.

    Args:
        coordinates: those of the network.
        plus: the codes to which the direction leads, in the base space of the network.
        minus: the codes that it comes from.
        layers: the layers that count and that the direction moves; None for all.
        ridge: the penalty of the regression, see `logistic.fit`.
        name: of the direction.

    Returns:
        The direction, and the accuracy on codes that were held out (5 parts, both groups weigh alike, 0.5 is guessing).

    Raises:
        ValueError: a group has fewer than two codes.

    Source: Shen et al., "Interpreting the Latent Space of GANs for Semantic Face Editing" (InterFaceGAN, 2020), with a support
        vector machine in W or z.
    """
    few = min(len(plus), len(minus))
    if few < 2:
        raise ValueError(
            f"the groups have {len(plus)} and {len(minus)} codes; a boundary needs two classes of at least 2 each"
        )
    chosen = slice(None) if layers is None or layer_count(coordinates.generator) == 1 else list(layers)

    def rows(group: Code) -> torch.Tensor:
        x = coordinates.of(group)
        return (x if x.shape[1] == 1 else x[:, chosen]).mean(dim=1).cpu()

    x = torch.cat([rows(plus), rows(minus)]).double().numpy()
    labels = torch.arange(len(x)).lt(len(plus)).numpy()
    scores = logistic.held_out_scores(x, labels, ridge)
    weights = torch.from_numpy(logistic.fit(x, labels, ridge).weights)
    right = logistic.accuracy(scores, labels)
    made = {"way": "boundary", "codes": [len(plus), len(minus)], "held_out_accuracy": round(right, 4), "ridge": ridge}
    unit = weights / weights.norm().clamp_min(1e-300)
    step = coordinates.step(unit)
    return of_step(name, coordinates.space, step, coordinates.generator, made, layers), right


def keeping(coordinates: Coordinates, direction: Direction, others: Sequence[Direction], name: str) -> Direction:
    """A direction without its parts along others, so that what these measure stays: a conditional edit.

    Right angles are meant in the network's coordinates. In V, where the coordinates of the network's own codes are
    independent, the step changes nothing that the others' boundaries measure. The length of the step stays.

    Args:
        coordinates: those of the network, in whose space all directions lie.
        direction: the direction to change.
        others: the directions to keep.
        name: of the result.

    Raises:
        ValueError: the directions lie in other spaces, or nothing is left of the direction.

    Source: Shen et al. (InterFaceGAN, 2020), section 3.2: n1 - (n1 . n2) n2.
    """
    for one in (direction, *others):
        if one.space != coordinates.space:
            raise ValueError(
                f"the direction {one.name!r} lies in {one.space!r}; only those in {coordinates.space!r} of this network can "
                "be set at right angles to each other"
            )
    count = layer_count(coordinates.generator)
    flat = [_flat(coordinates.along(one.step), count) for one in (direction, *others)]
    basis, _ = torch.linalg.qr(torch.stack(flat[1:], dim=1))
    left = flat[0] - basis @ (basis.t() @ flat[0])
    if float(left.norm()) < 1e-6 * float(flat[0].norm()):
        raise ValueError(f"the direction {direction.name!r} is a mixture of those to keep, so nothing is left of it")
    left = left * flat[0].norm() / left.norm()
    step = left.reshape(count, -1)
    step = step[0] if all(one.vector.ndim == 1 for one in (direction, *others)) else step
    made = {**direction.made, "keeps": [one.name for one in others]}
    return of_step(name, direction.space, coordinates.step(step), coordinates.generator, made, direction.layers)


def _flat(vector: torch.Tensor, count: int) -> torch.Tensor:
    """A vector (d,) or (num_ws, d) as one of all layers, (num_ws * d,), on the CPU."""
    vector = vector.cpu().double()
    return (vector.expand(count, -1) if vector.ndim == 1 else vector).flatten()


def _listed(layers: Sequence[int] | None) -> list[int] | None:
    return None if layers is None else list(layers)
