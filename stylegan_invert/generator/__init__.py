"""Generators as projectors see them: latent spaces, latent codes, priors, and one interface for all network families.

A family is a kind of network, such as StyleGAN2 or BigGAN. An adapter wraps a network of one family and offers the
interface `GeneratorAdapter` that every projector uses.
"""

from .adapt import adapt, check_code, class_label, label, one_hot, with_prior
from .adapter import Adapter
from .code import NOISE, Code, joined
from .contract import FEATURES, GeneratorAdapter, base_code
from .gaussian import Gaussian, fit_gaussian
from .latent import LatentAdapter, LatentGenerator
from .prior import Prior
from .sound import SoundAdapter, SoundGenerator
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
    "SoundAdapter",
    "SoundGenerator",
    "Statistics",
    "StyleAdapter",
    "StyleGenerator",
    "adapt",
    "base_code",
    "check_code",
    "class_label",
    "fit_gaussian",
    "joined",
    "label",
    "one_hot",
    "with_prior",
]
