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
        return self._last is not None and bool(self.rows().all())

    def rows(self) -> torch.Tensor:
        """Which rows have come to an end after the steps so far: (M,) bool. Ask if there is a rule, and after `feed`."""
        assert self._last is not None, "there was no step yet"
        ended = torch.zeros_like(self._last, dtype=torch.bool)
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return ~ended
        if self.target_distance is not None:
            ended |= self._last <= self.target_distance
        if self.patience is not None and len(self._lowest) > self.patience:
            before, since = self._lowest[-1 - self.patience], self._lowest[-1]
            ended |= since >= before * (1 - self.min_gain)
        return ended
