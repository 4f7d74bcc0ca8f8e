"""Directions in latent space, codes moved along them, and coordinates in which the network's own codes are standard normal.

A direction says what an edit is: a step in z, in w, or in v (w before the last leaky ReLU of the mapping network; see
`gaussian`), of one size, which is one unit of strength. It needs no Gaussian to be applied.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ..networks.layers import widest_dtype
from .code import Code
from .contract import FEATURES, GeneratorAdapter, base_code
from .gaussian import inverse_leaky_relu

SPACES = ("v", "w", "z")
"""The spaces of directions. A network's coordinates lie in the first of them that it has."""


@dataclass(frozen=True, eq=False)
class Direction:
    """A direction in latent space.

    Attributes:
        name: what moves along it, in words.
        space: "z", "w" or "v", not whitened.
        vector: float32 of length 1 over all entries: (d,), the same for all layers, or (num_ws, d), one for each layer.
        sigma: the length of a step of strength 1. In V it is the step of Mahalanobis length 1, for other spaces one standard
            deviation of the network's own codes along the vector, if ``made`` says nothing else.
        layers: the numbers of the layers that it moves, from 0; None for all.
        network: the hash of the network (`GeneratorAdapter.code_sha256`).
        made: how it was made, as plain values.
    """

    name: str
    space: str
    vector: torch.Tensor = field(repr=False)
    sigma: float
    layers: tuple[int, ...] | None
    network: str
    made: dict[str, Any]

    @property
    def step(self) -> torch.Tensor:
        """The step of strength 1, in the shape of ``vector``."""
        return self.vector * self.sigma


def of_step(
    name: str,
    space: str,
    step: torch.Tensor,
    generator: GeneratorAdapter,
    made: dict[str, Any],
    layers: Sequence[int] | None = None,
) -> Direction:
    """The direction with this step of strength 1, (d,) or (num_ws, d).

    Raises:
        ValueError: the step is zero or not finite, so that it points nowhere.
    """
    step = step.detach().cpu().double()
    length = float(step.norm())
    if not 0 < length < math.inf:
        raise ValueError(
            f"the direction {name!r} has the length {length:g}, so it points nowhere; are both groups alike?"
        )
    vector = (step / length).to(torch.float32)
    return Direction(
        name, space, vector, length, None if layers is None else tuple(layers), generator.code_sha256(), made
    )


def vector_shapes(generator: GeneratorAdapter, space: str) -> list[tuple[int, ...]]:
    """The shapes that a direction of this space may have for a network: of one step for all layers, and of one for each.

    Raises:
        ValueError: the network has no such space.
    """
    if space not in generator.spaces:
        raise ValueError(
            f"it lies in {space!r}, which this network does not have; it has {', '.join(generator.spaces)}"
        )
    return [next(iter(generator.code_shapes(s).values())) for s in (space, f"{space}+") if s in generator.spaces]


def layer_count(generator: GeneratorAdapter) -> int:
    """The number of w that the network reads, one for each layer; 1 for a network without w."""
    return generator.code_shapes("w+")["w"][0] if "w+" in generator.spaces else 1


@torch.no_grad()
def moved(
    generator: GeneratorAdapter, code: Code, direction: Direction, strength: float, layers: Sequence[int] | None = None
) -> Code:
    """Codes moved along a direction.

    Layers that are not moved keep their w to the last bit, and strength 0 gives the codes themselves. A code at a layer of the
    network keeps its displacement: what it has beyond the output that its latent gives there is added to the new output.

    Args:
        generator: the network's adapter.
        code: N codes, in any space.
        direction: of this network.
        strength: in units of `Direction.sigma`; negative for the other way.
        layers: the layers to move; None takes the direction's own.

    Returns:
        Codes in "z" for a direction of z, else in "w+"; at a layer, if the codes lie there.

    Raises:
        ValueError: the codes cannot be moved so, as codes with w along a direction of z.
    """
    if strength == 0:
        return code
    if code.space.startswith(FEATURES):
        before = base_code(generator, code)
        after = moved(generator, before, direction, strength, layers)
        h = [generator.convert(one, code.space).tensors["h"] for one in (before, after)]
        return Code(code.space, {**code.tensors, **after.tensors, "h": code.tensors["h"] + h[1] - h[0]}, code.c)
    step = direction.step * strength
    layers = direction.layers if layers is None else layers
    if direction.space == "z":
        if code.space != "z":
            raise ValueError(f"the direction {direction.name!r} is one of z, and the code lies in {code.space!r}")
        if layers is not None:
            raise ValueError(
                f"the direction {direction.name!r} is one of z, which all layers share; leave out the layers"
            )
        z = code.tensors["z"]
        return Code("z", {**code.tensors, "z": z + step.to(z)}, code.c)
    code = generator.convert(code, "w+")
    w = code.tensors["w"]
    wide = w.to(widest_dtype(w.device))
    if direction.space == "v":
        slope = generator.v_slope()
        if slope is None:
            raise ValueError(f"the direction {direction.name!r} is one of V, and this network has no V")
        shifted = torch.nn.functional.leaky_relu(inverse_leaky_relu(wide, slope) + step.to(wide), slope)
    else:
        shifted = wide + step.to(wide)
    chosen = torch.zeros([w.shape[1], 1], dtype=torch.bool, device=w.device)
    chosen[list(range(w.shape[1])) if layers is None else list(layers)] = True
    return Code("w+", {**code.tensors, "w": torch.where(chosen, shifted.to(w.dtype), w)}, code.c)


class Coordinates:
    """Coordinates of codes in which the network's own codes have mean 0 and, on average, variance 1.

    In V they are the whitened coordinates. A network without V has those of W, or else of z, less their mean and divided by
    one number, the root mean squared deviation of an entry.

    Args:
        generator: the network's adapter, with the Gaussian of V if it has V.
        c: the class (1, c_dim) for a network with classes, else None.
    """

    def __init__(self, generator: GeneratorAdapter, c: torch.Tensor | None = None):
        self.generator, self.c = generator, c
        self.space = next(space for space in SPACES if space in generator.spaces)
        (shape,) = generator.code_shapes(self.space).values()
        self.dimensions = shape[0]
        if self.space == "v":
            self.gaussian = generator.gaussian(c)
        else:
            self.mean = next(iter(generator.center(self.space, c).tensors.values()))
            self.deviation = generator.spread(self.space, c) / self.dimensions**0.5

    def of(self, code: Code) -> torch.Tensor:
        """The coordinates (N, L, d) of codes, in float64 where the device has it; L is 1 if all layers share one latent."""
        if code.space.startswith(FEATURES):
            code = base_code(self.generator, code)
        if self.space == "z":
            z = code.tensors["z"][:, None]
            return (z - self.mean).to(widest_dtype(z.device)) / self.deviation
        w = self.generator.styles(code)
        if self.space == "v":
            return self.gaussian.whiten(w)
        return (w - self.mean).to(widest_dtype(w.device)) / self.deviation

    def step(self, vector: torch.Tensor) -> torch.Tensor:
        """The step in ``space``, not whitened, that adds ``vector`` (..., d) to the coordinates."""
        if self.space != "v":
            return vector * self.deviation
        g = self.gaussian
        return (vector.to(g.mean) * g.deviations) @ g.axes.t()

    def along(self, step: torch.Tensor) -> torch.Tensor:
        """The change of the coordinates by a step (..., d) in ``space``: the inverse of `step`."""
        if self.space != "v":
            return step / self.deviation
        g = self.gaussian
        return step.to(g.mean) @ g.axes / g.deviations

    def drawn(self, count: int, seed: int) -> Code:
        """Random codes of the network, in "w" or in "z"."""
        generator = self.generator
        (shape,) = generator.code_shapes("z").values()
        z = generator.prior.sample([count, *shape], torch.Generator().manual_seed(seed)).to(generator.device)
        code = Code("z", {"z": z}, None if self.c is None else self.c.to(z).expand(count, -1))
        with torch.no_grad():
            return code if self.space == "z" else generator.convert(code, "w")
