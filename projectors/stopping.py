"""When a search ends before its last step."""

import time

import torch

from .settings import StoppingOptions


class Stopping:
    """Decides when a search ends before its last step; see `settings.StoppingOptions`.

    Args:
        options: the rules; None has none.
        deadline: by ``time.monotonic``; None has none.
    """

    def __init__(self, options: StoppingOptions | None, deadline: float | None):
        self.patience = options.patience if options is not None else None
        self.min_gain = options.min_gain if options is not None else 0.0
        self.target_distance = options.target_distance if options is not None else None
        self.deadline = deadline
        self._lowest: list[torch.Tensor] = []  # (M,), the lowest distance up to each step; kept for patience only
        self._last: torch.Tensor | None = None

    @property
    def asked(self) -> bool:
        """True if there is a rule. Without one nothing is looked at, so that a GPU need not wait."""
        return not (self.patience is None and self.target_distance is None and self.deadline is None)

    def feed(self, distance: torch.Tensor) -> None:
        """Take down the distances (M,) of a step."""
        self._last = distance
        if self.patience is not None:
            self._lowest.append(torch.minimum(self._lowest[-1], distance) if self._lowest else distance)

    def due(self) -> bool:
        """True if the search is to end after the steps so far. With several rows, all of them must have come to an end."""
        if self._last is None:
            return False
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return True
        if self.target_distance is not None and bool((self._last <= self.target_distance).all()):
            return True
        if self.patience is None or len(self._lowest) <= self.patience:
            return False
        before, since = self._lowest[-1 - self.patience], self._lowest[-1]
        return bool((since >= before * (1 - self.min_gain)).all())
