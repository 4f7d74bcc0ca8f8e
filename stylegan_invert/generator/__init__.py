"""Generators as projectors see them: spaces, codes, priors, and one contract for all families."""

from .adapt import adapt, check_code, label, with_prior
from .adapter import Adapter
from .code import NOISE, Code, joined
from .contract import FEATURES, GeneratorAdapter, base_code
from .gaussian import Gaussian, fit_gaussian
from .latent import LatentAdapter, LatentGenerator
from .prior import Prior
from .style import Statistics, StyleAdapter, StyleGenerator

__all__ = [
    "FEATURES",
    "NOISE",
    "Adapter",
    "Code",
    "Gaussian",
    "GeneratorAdapter",
    "LatentAdapter",
    "LatentGenerator",
    "Prior",
    "Statistics",
    "StyleAdapter",
    "StyleGenerator",
    "adapt",
    "base_code",
    "check_code",
    "fit_gaussian",
    "joined",
    "label",
    "with_prior",
]
