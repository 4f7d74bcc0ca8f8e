"""The pull of a search back to its start.

Zhu et al., "Generative visual manipulation on the natural image manifold" (iGAN, 2016), equation 5, call it smoothness: an
edit should change no more than it has to.
"""

import copy
from collections.abc import Sequence

import torch


class Anchor:
    """The weighted squared distance of rows from where they started.

    Args:
        weight: 0 leaves it out.
        start: the rows (M, D) or (M, layers, D) at the start.
        spread: the root mean squared distance of random rows from their mean, a number or a tensor that is broadcast against
            the rows.
    """

    def __init__(self, weight: float, start: torch.Tensor, spread: torch.Tensor | float):
        self.weight = weight
        self.start = start.detach().clone()
        self.spread = torch.as_tensor(spread, device=start.device).expand_as(start)

    def __call__(self, rows: torch.Tensor) -> torch.Tensor | float:
        """The penalty (M,) of rows, whose unit is the mean squared distance of random rows; averaged over layers."""
        if not self.weight:
            return 0.0
        distance = ((rows - self.start) / self.spread).square().sum(dim=-1)
        return self.weight * distance.flatten(1).mean(dim=1) if distance.ndim > 1 else self.weight * distance

    def part(self, rows: Sequence[int] | torch.Tensor) -> "Anchor":
        """The anchor of some of the rows."""
        one = copy.copy(self)
        one.start, one.spread = self.start[rows], self.spread[rows]
        return one
