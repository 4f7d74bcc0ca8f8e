"""From pictures to codes of a generator through a trained encoder, and the coordinates that the encoder learns."""

import math
from collections.abc import Iterator

import torch

from ..networks.encoder import Encoder
from .code import Code
from .contract import GeneratorAdapter

SPACES = ("z", "w", "w+", "v+")
"""The spaces in which an encoder can be trained."""


class Encoding:
    """An encoder with the generator that it belongs to.

    The encoder's outputs are coordinates: a code minus the mean code of its space, divided by the root mean squared
    deviation of one entry. They have about the same size for every network. In V+ they are the whitened coordinates
    themselves.

    Args:
        encoder: the network.
        space: the space of the codes, one of `SPACES`.
        generator: the adapter of the network that the codes belong to.
    """

    def __init__(self, encoder: Encoder, space: str, generator: GeneratorAdapter):
        self.encoder, self.space, self.generator = encoder, space, generator
        self._scales: dict[tuple[float, ...], tuple[torch.Tensor, torch.Tensor]] = {}

    def _scale(self, c: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean codes (N, ...) and the deviations (N, 1, ...) of one entry, for labels (N, c_dim); N is 1 without."""
        labels = [None] if c is None else list(c.split(1))
        rows = [self._scale_of(label) for label in labels]
        return torch.cat([mean for mean, _ in rows]), torch.cat([deviation for _, deviation in rows])

    def _scale_of(self, c: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        key = () if c is None else tuple(c.flatten().tolist())
        if key not in self._scales:
            ((_, shape),) = self.generator.code_shapes(self.space).items()
            (mean,) = self.generator.center(self.space, c).tensors.values()
            # Whitened coordinates have the deviation 1 already.
            deviation = 1.0 if self.space == "v+" else self.generator.spread(self.space, c) / shape[-1] ** 0.5
            self._scales[key] = mean, mean.new_full([1] * mean.ndim, deviation or 1.0)
        return self._scales[key]

    def coordinates(self, code: Code) -> torch.Tensor:
        """The coordinates (N, entries) of codes in the encoder's space."""
        (name,) = self.generator.code_shapes(self.space)
        mean, deviation = self._scale(code.c)
        return ((code.tensors[name] - mean) / deviation).flatten(1)

    def code(self, coordinates: torch.Tensor, c: torch.Tensor | None = None) -> Code:
        """The codes (N) of coordinates (N, entries), with gradients."""
        ((name, shape),) = self.generator.code_shapes(self.space).items()
        mean, deviation = self._scale(c)
        return Code(self.space, {name: coordinates.unflatten(1, shape) * deviation + mean}, c)

    def passes(self, pictures: torch.Tensor, c: torch.Tensor | None = None, count: int = 1) -> Iterator[torch.Tensor]:
        """Yield the coordinates after each pass over the pictures, with gradients of that pass alone.

        An encoder that is not iterative makes one pass. An iterative one begins with the mean code, and each pass adds
        what it finds in the picture beside the reconstruction so far (Alaluf et al. 2021, ReStyle, equation 2).

        Args:
            pictures: (N, C, R, R) float32 in [-1, 1].
            c: labels (N, c_dim), for a network with classes.
            count: the number of passes of an iterative encoder.
        """
        if not self.encoder.iterative:
            yield self.encoder(pictures, c)
            return
        so_far = pictures.new_zeros([len(pictures), self.encoder.outputs])
        for _ in range(count):
            with torch.no_grad():
                before = self.generator.render(self.code(so_far, c)).clamp(-1, 1)
            so_far = so_far + self.encoder(pictures, c, before)
            yield so_far
            so_far = so_far.detach()

    @torch.no_grad()
    def encode(self, pictures: torch.Tensor, c: torch.Tensor | None = None, refine: int = 0) -> Code:
        """The codes of pictures.

        Args:
            pictures: (N, C, R, R) float32 in [-1, 1], of the generator's size.
            c: labels (N, c_dim), for a network with classes.
            refine: further passes after the first.

        Raises:
            ValueError: further passes are asked for, and the encoder was not trained for them.
        """
        if refine and not self.encoder.iterative:
            raise ValueError("the encoder was trained for one pass; 'train-encoder --iterative' makes one for more")
        *_, coordinates = self.passes(pictures, c, 1 + refine)
        code = self.code(coordinates, c)
        if self.space == "z" and self.generator.prior.family == "uniform":
            code = Code("z", {"z": code.tensors["z"].clamp(-1, 1)}, c)
        return code


def entries(generator: GeneratorAdapter, space: str) -> int:
    """The number of entries of a code in a space."""
    ((_, shape),) = generator.code_shapes(space).items()
    return math.prod(shape)
