"""Restoration in stages, each with more freedom and shorter steps: first W, then W+.

Poirier-Ginter & Lalonde, "Robust Unsupervised StyleGAN Image Restoration" (CVPR 2023), section 4. Each step has a length of
its own along the gradient of each w (`optimisers.Normalised`), which makes the settings independent of what was degraded. The
paper's third stage, in which every filter of a layer has its own w, is left out: no space of this project's codes holds it.
"""

import dataclasses

import torch

from stylegan_invert.generator import Code, GeneratorAdapter

from . import w
from .descent import Descent, Fit
from .objective import Objective
from .settings import RobustOptions


def fit(
    generator: GeneratorAdapter, objective: Objective, start: Code, options: RobustOptions, descend: Descent
) -> Fit:
    """Fit codes in W, and from there in W+.

    Args:
        generator: the network behind its adapter.
        objective: the objective for the N targets.
        start: the first codes (N), in "w".
        options: see `RobustOptions`.
        descend: the descent that minimises, first in W, then in W+.

    Returns:
        Codes in "w+", the distances of both stages, one after the other, and in ``notes`` the distance at the end of the first.

    Raises:
        ProjectionError: a distance is NaN or infinite.
    """
    first = w.fit(generator, objective, start, options, descend)
    later = dataclasses.replace(options, initial_learning_rate=options.initial_learning_rate * options.stage_rate)
    last = w.fit(generator, objective, generator.convert(first.code, "w+"), later, descend)
    history = torch.cat([first.distance, last.distance])
    return Fit(last.code, history, {**last.notes, "distance_in_w": first.distance[-1].tolist()})
