"""No optimisation: the code that an encoder found is the result."""

from collections.abc import Callable

import torch

from stylegan_invert.generator import Code, GeneratorAdapter
from stylegan_invert.losses import Distance

from .base import Fit, NoOptions, Step


def direct(
    generator: GeneratorAdapter,
    target: torch.Tensor,
    loss: Distance,
    start: Code,
    options: NoOptions,
    callback: Callable[[Step], None] | None = None,
) -> Fit:
    """The start as it is, and its distance.

    Arguments as in `optimise`; options and callback are for steps, of which there are none.
    """
    with torch.no_grad():
        distance = loss(loss.prepare(target), generator.render(start))
    return Fit(start.detach(), distance[None].cpu())
