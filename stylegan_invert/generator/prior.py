"""The prior: the distribution from which the latents z of a network were drawn in its training."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch


class Prior(NamedTuple):
    """The distribution of z. The entries of z are independent of each other.

    Attributes:
        family: "normal" (mean 0, standard deviation 1) or "uniform" (between -1 and 1).
    """

    family: str

    @property
    def bound(self) -> float:
        """The largest size that is likely for an entry: 1 for uniform; 3 for normal, which 1 in 370 entries exceeds."""
        return {"normal": 3.0, "uniform": 1.0}[self.family]

    def sample(self, shape: Sequence[int], random: torch.Generator, bound: float | None = None) -> torch.Tensor:
        """Draw a z.

        Args:
            shape: the shape of the tensor.
            random: torch's random generator; the tensor is on its device.
            bound: the size that no entry may exceed, so that the distribution is truncated there; None does not
                truncate.
        """
        device = random.device
        if self.family == "uniform":
            limit = 1.0 if bound is None else min(bound, 1.0)
            return (torch.rand(list(shape), generator=random, device=device) * 2 - 1) * limit
        if bound is None:
            return torch.randn(list(shape), generator=random, device=device)
        tail = torch.special.ndtr(torch.tensor(-bound, dtype=torch.float64)).item()
        p = tail + (1 - 2 * tail) * torch.rand(list(shape), generator=random, device=device)
        return torch.special.ndtri(p).clamp(-bound, bound)

    def of_seed(self, seed: int, shape: Sequence[int]) -> torch.Tensor:
        """Draw the z that official tools draw for a seed, with NumPy's ``RandomState(seed)``: float32, on the CPU."""
        random = np.random.RandomState(seed)
        z = random.randn(*shape) if self.family == "normal" else random.uniform(-1, 1, size=shape)
        return torch.from_numpy(z).to(torch.float32)

    def negative_log(self, z: torch.Tensor) -> torch.Tensor:
        """The negative logarithm of the density at z (N, d), up to a constant: (N,).

        It is half the squared length of z for a normal prior. It is zero for a uniform prior, even outside [-1, 1]: a
        search keeps z inside by clipping.
        """
        return z.square().sum(dim=1) / 2 if self.family == "normal" else z.new_zeros(len(z))
