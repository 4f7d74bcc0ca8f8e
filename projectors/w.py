"""Projection into W: one w for all layers."""

from collections.abc import Callable

import torch

from stylegan_invert.generator import GeneratorAdapter
from stylegan_invert.losses import Distance
from stylegan_invert.spaces import Code

from .optimise import Fit, Options, Step, optimise


def project_w(
    generator: GeneratorAdapter,
    target: torch.Tensor,
    loss: Distance,
    start: Code,
    options: Options,
    callback: Callable[[Step], None] | None = None,
) -> Fit:
    """The official StyleGAN2 projector (algorithms.md, section 6.1). Arguments as in `optimise`; ``start`` lies in "w"."""
    return optimise(generator, target, loss, start, options, callback)
