"""The contract between projectors and generators, whatever their family.

A projector sees spaces, their mean and spread, and ``render``. It never asks which family it has. A family with spaces
of a new kind is one more class that meets `GeneratorAdapter`.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch

from .code import NOISE, Code
from .gaussian import Gaussian
from .prior import Prior

FEATURES = "f:"  # the space "f:NAME" is that of the outputs of the layer NAME


@runtime_checkable
class GeneratorAdapter(Protocol):
    """What a projector may ask of a generator. Nothing here changes the generator.

    Attributes:
        spaces: names of its latent spaces. Besides these there is a space "f:NAME" for every layer of `layers`.
        base: the space in which codes are kept in files, and on which the spaces of layers stand.
        dense: the name of its first dense layer, of `layers`; None if the network does not begin with one.
        prior: of z.
        asks_for_prior: True if the network's files do not say what its z was drawn from.
        medium: what it makes, a name in `media.MEDIA`.
        output_shape: of one output, without N; (C, H, W) for pictures.
        c_dim: number of classes; 0 without.
        device: where it computes.
    """

    spaces: tuple[str, ...]
    base: str
    dense: str | None
    prior: Prior
    asks_for_prior: bool
    medium: str
    output_shape: tuple[int, ...]
    c_dim: int
    device: torch.device

    def with_prior(self, prior: Prior) -> "GeneratorAdapter":
        """This generator with another prior of z; the network is shared."""

    def with_gaussian(self, c: torch.Tensor | None, gaussian: Gaussian) -> "GeneratorAdapter":
        """This generator with the Gaussian of V, of the class ``c``, as it was found before; the network is shared."""

    def info(self) -> Mapping[str, Any]:
        """Family and sizes, for `stylegan-invert inspect`."""

    def center(self, space: str, c: torch.Tensor | None = None) -> Code:
        """The mean code of a space (N = 1), of the class ``c`` (1, c_dim) where the network has classes."""

    def spread(self, space: str, c: torch.Tensor | None = None) -> float:
        """The root mean squared distance of samples from the mean."""

    def convert(self, code: Code, space: str) -> Code:
        """The same code in another space, as W in W+; ValueError if it does not lie there."""

    def truncated(self, code: Code, truncation_psi: float) -> Code:
        """A code, its w pulled towards the network's ``w_avg``; ValueError for a network without w, unless psi is 1."""

    def compressed(self, code: Code, tau: float) -> Code:
        """A code with its large principal components of V compressed, see `Gaussian.compress`; ValueError without V."""

    def gaussian(self, c: torch.Tensor | None = None) -> Gaussian:
        """The Gaussian of V, of the class ``c`` (1, c_dim) where there are classes; ValueError for a network without V."""

    def styles(self, code: Code) -> torch.Tensor:
        """The w (N, L, w_dim) that a code stands on, one or one per layer, with gradients; ValueError without w."""

    def layers(self) -> Mapping[str, tuple[int, ...]]:
        """Names and shapes (C, H, W) of the layers at which the network can be split, in the order of computation."""

    def code_shapes(self, space: str) -> Mapping[str, tuple[int, ...]]:
        """Names and shapes, without N, of the tensors of a code in a space, noise maps left out."""

    def noise_shapes(self) -> Mapping[str, tuple[int, int]]:
        """Names and sizes (H, W) of the noise maps, in the order in which random ones are drawn; empty without any."""

    def render(self, code: Code, noise_mode: str = "const") -> torch.Tensor:
        """Outputs (N, *output_shape), float32, nominally in [-1, 1]: the one way from a code to an output.

        ``noise_mode`` "const" takes the code's noise maps, else the network's own; "random" draws them, "none" adds none.
        """


def base_code(generator: GeneratorAdapter, code: Code) -> Code:
    """What a code at a layer stands on: its tensors of the base space, and its noise maps."""
    keys = generator.code_shapes(generator.base)
    tensors = {k: v for k, v in code.tensors.items() if k in keys or k.startswith(NOISE)}
    return Code(generator.base, tensors, code.c)
