"""The Gaussian prior in V, for any projector whose codes stand on a w.

Wulff & Torralba, "Improving Inversion and Generation Diversity in StyleGAN using a Gaussianized Latent Space", section 3.
"""

from dataclasses import dataclass

import torch

from stylegan_invert.generator import Code, GeneratorAdapter

from .base import option


@dataclass(frozen=True)
class PriorOptions:
    """The part of a method's options that is about the prior.

    Attributes:
        prior_weight: lambda of equations 2 and 4: the weight of the squared Mahalanobis distance of v from its mean, a sum
            over dimensions and, in W+, over layers. The paper has 1e-4. 0 leaves it out.
    """

    prior_weight: float = option(0.0)

    def prior(self, generator: GeneratorAdapter, code: Code) -> torch.Tensor | float:
        """The term of the objective, (N,): ``prior_weight`` times `v_prior`."""
        return self.prior_weight * v_prior(generator, code) if self.prior_weight else 0.0

    def prior_notes(self, generator: GeneratorAdapter, code: Code) -> dict[str, list[float]]:
        """What a result says of the prior, if it was used or V searched: "v_prior" of `v_prior`, and the same per dimension."""
        if not self.prior_weight and not code.space.startswith("v"):
            return {}
        with torch.no_grad():
            value = v_prior(generator, code)
            layers = generator.styles(code[:1]).shape[1]
        count = layers * generator.gaussian(None if code.c is None else code.c[:1]).rank
        return {"v_prior": value.tolist(), "v_prior_per_dimension": (value / count).tolist()}


def v_prior(generator: GeneratorAdapter, code: Code) -> torch.Tensor:
    """(v - mu)^T Sigma^-1 (v - mu) of codes (N), summed over layers in W+: (N,), float64, with gradients.

    It is one per dimension, on average, for what the network draws itself.

    Raises:
        ValueError: the network has no V.
    """
    gaussian = generator.gaussian(None if code.c is None else code.c[:1])
    return gaussian.mahalanobis(generator.styles(code)).sum(dim=1)
