"""Losses: distances between pictures or sounds, and weighted sums of them.

LPIPS (Learned Perceptual Image Patch Similarity), distances of other feature maps, and distances of pixels. For
example:

    loss = parse("lpips-squeeze=1,mse=1")
    prepared = loss.prepare(target)      # once per target
    distance = loss(prepared, images)    # (N,), differentiable
"""

from .base import Distance, WeightedSum, check_images
from .features import FeatureDistance
from .identity import IdentityDistance, load_identity
from .lpips import SqueezeLPIPS, load_vgg_lpips, reported_lpips
from .metrics import picture_metrics
from .names import DEFAULT_LOSS, DEFAULT_SOUND_LOSS, LOSSES, Loss, parse, parse_terms, unsuited, weights_of
from .pixel import L1, MSE, SSE
from .spectrogram import decibels, sound_metrics

__all__ = [
    "DEFAULT_LOSS",
    "DEFAULT_SOUND_LOSS",
    "LOSSES",
    "Distance",
    "FeatureDistance",
    "IdentityDistance",
    "L1",
    "Loss",
    "MSE",
    "SSE",
    "SqueezeLPIPS",
    "WeightedSum",
    "check_images",
    "decibels",
    "load_identity",
    "load_vgg_lpips",
    "weights_of",
    "parse",
    "parse_terms",
    "picture_metrics",
    "reported_lpips",
    "sound_metrics",
    "unsuited",
]
