"""No optimisation: the code that the start gives is the result."""

import torch

from stylegan_invert.generator import Code, GeneratorAdapter

from .descent import Descent, Fit
from .objective import Objective
from .settings import MethodOptions


def fit(
    generator: GeneratorAdapter, objective: Objective, start: Code, options: MethodOptions, descend: Descent
) -> Fit:
    """The start as it is, and its distance. Arguments as in `w.fit`; nothing is descended."""
    with torch.no_grad():
        distance = objective(start)
    return Fit(start.detached_copy(), distance[None].cpu())
