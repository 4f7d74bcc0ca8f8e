"""What z is drawn from."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch


class Prior(NamedTuple):
    """What z is drawn from: independent entries, "normal" with deviation one or "uniform" in [-1, 1]."""

    family: str

    @property
    def bound(self) -> float:
        """The largest size of an entry: that of the uniform prior, or one that 1 in 370 normal entries exceeds."""
        return {"normal": 3.0, "uniform": 1.0}[self.family]

    def sample(self, shape: Sequence[int], random: torch.Generator, bound: float | None = None) -> torch.Tensor:
        """Entries of a shape, on the generator's device; with a ``bound``, given that none exceeds it."""
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
        """Entries of a shape from NumPy's ``RandomState(seed)``, as official tools make the z of a seed."""
        random = np.random.RandomState(seed)
        z = random.randn(*shape) if self.family == "normal" else random.uniform(-1, 1, size=shape)
        return torch.from_numpy(z).to(torch.float32)

    def negative_log(self, z: torch.Tensor) -> torch.Tensor:
        """-log P(z) of latents (N, d), up to a constant: zero where the density is highest. (N,)

        Half the squared length for a normal prior, zero for the uniform one, whose bounds are for clipping.
        """
        return z.square().sum(dim=1) / 2 if self.family == "normal" else z.new_zeros(len(z))
