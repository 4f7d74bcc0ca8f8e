"""Projection into W+: one w per layer, which follows the target more closely and leaves the network's own pictures."""

from collections.abc import Callable

import torch

from stylegan_invert.generator import GeneratorAdapter
from stylegan_invert.losses import Distance
from stylegan_invert.spaces import Code

from .optimise import Fit, Options, Step, optimise


def project_w_plus(
    generator: GeneratorAdapter,
    target: torch.Tensor,
    loss: Distance,
    start: Code,
    options: Options,
    callback: Callable[[Step], None] | None = None,
) -> Fit:
    """The official schedule with one w per layer, each with its own exploration noise.

    ``start`` lies in "w+": the mean, or a result in W.
    """
    return optimise(generator, target, loss, start, options, callback)
