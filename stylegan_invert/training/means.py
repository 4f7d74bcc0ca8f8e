"""Running means of what happens in a training loop."""

import torch


class Statistics:
    """Sums by name, gathered without making a GPU wait; means when asked for."""

    def __init__(self):
        self.sums: dict[str, tuple[torch.Tensor, int]] = {}  # name to sum and count

    def add(self, name: str, values: torch.Tensor) -> None:
        """Add the entries of a tensor to the mean of ``name``."""
        values = values.detach()
        total, count = self.sums.get(name, (0.0, 0))
        self.sums[name] = (total + values.sum(dtype=torch.float32), count + values.numel())

    def finite(self) -> bool:
        """Whether everything added was a number."""
        return all(bool(torch.isfinite(torch.as_tensor(total))) for total, _ in self.sums.values())

    def means(self) -> dict[str, float]:
        return {name: float(total) / count for name, (total, count) in self.sums.items()}

    def clear(self) -> None:
        self.sums.clear()
