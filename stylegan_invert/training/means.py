"""Running means of the values that are measured in a training loop."""

import torch


class Statistics:
    """Means by name. Adding to them does not make a GPU wait; reading them does.

    Attributes:
        sums: the sum and the number of the added values, by name.
    """

    def __init__(self):
        self.sums: dict[str, tuple[torch.Tensor, int]] = {}

    def add(self, name: str, values: torch.Tensor) -> None:
        """Add the entries of a tensor to the mean of ``name``."""
        values = values.detach()
        self.merge({name: (values.sum(dtype=torch.float32), values.numel())})

    def merge(self, sums: dict[str, tuple[torch.Tensor, int]]) -> None:
        """Add sums and numbers of values, by name."""
        for name, (more, number) in sums.items():
            total, count = self.sums.get(name, (0.0, 0))
            self.sums[name] = (total + more, count + number)

    def finite(self) -> bool:
        """True if all sums are finite numbers."""
        return all(bool(torch.isfinite(torch.as_tensor(total))) for total, _ in self.sums.values())

    def means(self) -> dict[str, float]:
        """The mean of the values that were added under each name."""
        return {name: float(total) / count for name, (total, count) in self.sums.items()}

    def state(self) -> dict[str, tuple[float, int]]:
        """``sums`` in plain numbers, for a checkpoint. A float32 number is the same as a Python number."""
        return {name: (float(total), count) for name, (total, count) in self.sums.items()}

    def clear(self) -> None:
        """Forget all values."""
        self.sums.clear()
