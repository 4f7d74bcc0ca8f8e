"""The interface between projectors and generators.

A projector uses a generator through `GeneratorAdapter` alone: its latent spaces, their means and spreads, and
``render``. It never asks which family of networks it works with. A new family with another kind of latent space needs
only a new class that meets `GeneratorAdapter`.

The spaces of StyleGAN: z is the input of the mapping network, and w its output. In W (space "w") all layers of the
synthesis network share one w; in W+ (space "w+") every layer has its own. V is W before the last leaky ReLU of the
mapping network; see `gaussian`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, Self, runtime_checkable

import torch

from .code import NOISE, Code
from .gaussian import Gaussian
from .prior import Prior

FEATURES = "f:"  # the name of the space of a layer's outputs is "f:" and the layer's name


@runtime_checkable
class GeneratorAdapter(Protocol):
    """The methods and attributes of a generator that projectors use. No method changes the generator.

    Attributes:
        spaces: names of its latent spaces. Every layer in `layers` is a further space, called "f:" and the layer's
            name.
        base: the space in which codes are written to files. A code at a layer also holds the tensors of this space.
        dense: the name in `layers` of the first dense (fully connected) layer; None if the network does not begin with
            one.
        prior: the distribution that z is drawn from.
        asks_for_prior: True if the network's files do not say how its z is drawn, so that the user may (--z-prior).
        medium: the kind of output, a name in `media.medium.MEDIA`.
        medium_facts: what else the medium must know of the outputs, as {"sample_rate": 16000} of sounds; {} for pictures.
        output_shape: the shape of one output without the batch axis; (C, H, W) for pictures, (C, samples) for sounds.
        c_dim: the number of classes; 0 for a network without classes.
        class_names: the names of the classes, if the network's file says them; else none.
        network: the module.
        device: the device of the network's parameters.
    """

    network: Any
    spaces: tuple[str, ...]
    base: str
    dense: str | None
    prior: Prior
    asks_for_prior: bool
    medium: str
    medium_facts: Mapping[str, Any]
    output_shape: tuple[int, ...]
    c_dim: int
    class_names: Sequence[str]

    @property
    def device(self) -> torch.device: ...

    def with_prior(self, prior: Prior) -> Self:
        """This generator with another prior of z; the network is shared."""

    def with_network(self, network: torch.nn.Module) -> Self:
        """This generator with another network in the place of its own: a copy whose `tunable` parameters may differ. The
        prior of z, and the mean, the spread and the Gaussian of W, which depend on the other parameters alone, are kept.
        """

    def tunable(self) -> list[str]:
        """The names of the network's parameters that may be tuned to a picture: all but those of the mapping network and
        of the class embedding, which give codes their meaning.
        """

    def with_gaussian(self, c: torch.Tensor | None, gaussian: Gaussian) -> Self:
        """This generator with a Gaussian of V that was fitted before, for the class ``c``; the network is shared.

        Raises:
            ValueError: the network has no V.
        """

    def fit_gaussian(
        self, c: torch.Tensor | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Gaussian:
        """Fit the Gaussian of V, for the class ``c``, to fresh samples on the CPU; see `gaussian.fit_gaussian`.

        Raises:
            ValueError: the network has no V.
        """

    def mapping_sha256(self) -> str:
        """A hash of everything that the Gaussian of V depends on.

        Raises:
            ValueError: the network has no V.
        """

    def v_slope(self) -> float | None:
        """The slope of the leaky ReLU between V and W; None for a network without V."""

    def has_gaussian(self, c: torch.Tensor | None = None) -> bool:
        """True if the Gaussian of V, of the class ``c``, is here already and need not be fitted."""

    def sha256(self, c: torch.Tensor | None = None) -> str:
        """A hash of all that outputs depend on, of the class ``c`` (1, c_dim) where the network has classes."""

    def code_sha256(self) -> str:
        """A hash that says of which network a code is: of the mapping network's weights, which give W its meaning, so
        that a tuned synthesis network, a converted copy and another prior keep it. Without a mapping network it is of
        all weights.
        """

    def info(self) -> Mapping[str, Any]:
        """The family, the sizes and other facts that ``stylegan-invert inspect`` prints, by name."""

    def center(self, space: str, c: torch.Tensor | None = None) -> Code:
        """The mean code of a space (N = 1), for the class ``c`` (1, c_dim) if the network has classes."""

    def spread(self, space: str, c: torch.Tensor | None = None) -> float:
        """The root mean squared distance of random codes in a space from their mean."""

    def convert(self, code: Code, space: str) -> Code:
        """The same code in another space, for example a code of W in W+.

        Raises:
            ValueError: the other space does not contain the code.
        """

    def truncated(self, code: Code, truncation_psi: float) -> Code:
        """The code with its w moved towards the network's average w (the truncation trick of StyleGAN).

        Args:
            code: a code in one of ``spaces``.
            truncation_psi: 1 leaves w as it is; 0 replaces it by the average.

        Raises:
            ValueError: the network has no w and ``truncation_psi`` is not 1. (A BigGAN truncates z in its own way.)
        """

    def compressed(self, code: Code, tau: float) -> Code:
        """The code in W+ with its large principal components in V compressed; see `Gaussian.compress`.

        Raises:
            ValueError: the network has no V.
        """

    def gaussian(self, c: torch.Tensor | None = None) -> Gaussian:
        """The Gaussian of V, for the class ``c`` (1, c_dim) if the network has classes.

        Raises:
            ValueError: the network has no V.
        """

    def styles(self, code: Code) -> torch.Tensor:
        """The w of a code, (N, L, w_dim), with gradients. L is 1 if all layers share one w, else ``num_ws``.

        Raises:
            ValueError: the network has no w.
        """

    def layers(self) -> Mapping[str, tuple[int, ...]]:
        """Names and shapes (C, H, W) of the layers at which the network can be split, in the order of computation."""

    def layer_module(self, name: str) -> torch.nn.Module:
        """The module of a layer named in ``layers``."""

    def attention_shapes(self) -> Mapping[str, tuple[int, int, int, int]]:
        """Names and sizes (H, W, h, w) of the self-attention maps, in the order of computation; may be empty.

        Each pixel of an (H, W) map attends to the pixels of an (h, w) map, which covers the same picture. The names are
        among those of ``layers``.
        """

    def attention(self, code: Code, name: str) -> torch.Tensor:
        """The self-attention map of codes, computed without running the layers after it.

        Args:
            code: N codes in any space of the generator.
            name: a name in ``attention_shapes``.

        Returns:
            (N, H W, h w), the weights with which each pixel attends to the others; every row sums to one.

        Raises:
            ValueError: there is no map of this name, or the code replaces the output of a layer after it, on which the
                map does not depend.
        """

    def code_shapes(self, space: str) -> Mapping[str, tuple[int, ...]]:
        """Names and shapes, without N, of the tensors of a code in a space. Noise maps are not among them."""

    def noise_shapes(self) -> Mapping[str, tuple[int, int]]:
        """Names and sizes (H, W) of the noise maps, in the order in which random ones are drawn; may be empty."""

    def render(self, code: Code, noise_mode: str = "const") -> torch.Tensor:
        """Generate the outputs of a code.

        Args:
            code: N codes in any space of the generator.
            noise_mode: "const" uses the code's noise maps, or those stored in the network if the code has none.
                "random" draws new noise maps. "none" adds no noise.

        Returns:
            (N, *output_shape) float32, nominally in [-1, 1].
        """


def base_code(generator: GeneratorAdapter, code: Code) -> Code:
    """The part of a code at a layer that lies in the generator's base space, with the code's noise maps."""
    keys = generator.code_shapes(generator.base)
    tensors = {k: v for k, v in code.tensors.items() if k in keys or k.startswith(NOISE)}
    return Code(generator.base, tensors, code.c)
