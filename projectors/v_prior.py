"""The Gaussian prior in V, for every method whose codes are rendered through w.

Wulff & Torralba, "Improving Inversion and Generation Diversity in StyleGAN using a Gaussianized Latent Space", section 3.
"""

import torch

from stylegan_invert.generator import Code, GeneratorAdapter


def v_prior(generator: GeneratorAdapter, code: Code) -> torch.Tensor:
    """(v - mu)^T Sigma^-1 (v - mu) of codes (N), summed over layers in W+: (N,), float64, with gradients.

    For codes of random samples of the network, its mean is the number of dimensions (times the number of layers in W+).

    Raises:
        ValueError: the network has no V.
    """
    gaussian = generator.gaussian(None if code.c is None else code.c[:1])
    return gaussian.mahalanobis(generator.styles(code)).sum(dim=1)


def weighted_prior(weight: float, generator: GeneratorAdapter, code: Code) -> torch.Tensor | float:
    """The term of the objective, (N,): ``weight`` times `v_prior`; 0 if the weight is 0, also for a network without V."""
    return weight * v_prior(generator, code) if weight else 0.0


def prior_notes(weight: float, generator: GeneratorAdapter, code: Code) -> dict[str, list[float]]:
    """The values of the prior for result.json. Empty unless the prior had a weight or the search was in V.

    Returns:
        "v_prior", the values of `v_prior`, and "v_prior_per_dimension", the same values divided by the number of
        dimensions and of layers.
    """
    if not weight and not code.space.startswith("v"):
        return {}
    with torch.no_grad():
        value = v_prior(generator, code)
        layers = generator.styles(code[:1]).shape[1]
    count = layers * generator.gaussian(None if code.c is None else code.c[:1]).rank
    return {"v_prior": value.tolist(), "v_prior_per_dimension": (value / count).tolist()}
