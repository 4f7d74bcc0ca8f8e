"""A method's search: its variables, and the code that they stand for."""

from collections.abc import Sequence
from typing import Protocol

import torch

from stylegan_invert.errors import ProjectionError
from stylegan_invert.generator import Code

from .objective import Objective


class Search(Protocol):
    """The variables of a method, and the code that they stand for.

    Attributes:
        variables: leaf tensors (M, ...), one row per code. There are M = N * restarts rows for N targets, and the rows of one
            target lie side by side.
        restarts: rows per target.
        randoms: a random generator for each target; those of a search that draws nothing are never used.
        first_step: the Euclidean length of the first step of L-BFGS; None takes the gradient's own length over the
            sum of its entries' sizes, or less.
        betas: Adam's.
        remedy: advice for the error message if a distance is NaN or infinite.
    """

    variables: list[torch.Tensor]
    first_step: float | None
    betas: tuple[float, float]
    restarts: int
    randoms: list[torch.Generator]
    remedy: str

    def shown(self, step: int) -> Code:
        """The codes (M) that are rendered in a step, counted from 0, with gradients."""

    def code(self) -> Code:
        """The codes (M) that the variables stand for now."""

    def penalty(self, code: Code) -> torch.Tensor | float:
        """The penalty (M,) that is added to the distances of the codes, or 0."""

    def settle(self) -> None:
        """Bring the variables back into their bounds after a step, in place."""

    def rate(self, step: int) -> float:
        """The rate of Adam and of normalised steps in a step, counted from 0."""

    def bounds(self) -> list[tuple[float | None, float | None]] | None:
        """Bounds of one row for L-BFGS-B, an entry for each number of all variables; None for no bounds."""

    def part(self, rows: Sequence[int]) -> "Search":
        """The search of some of the rows, as if each were a target, with variables of its own."""


class SearchBase:
    """The defaults of most searches: one row per target, no penalty, no bounds."""

    first_step: float | None = None
    betas = (0.9, 0.999)
    restarts = 1
    remedy = "try a lower learning rate (--lr) or lower weights in --loss"

    def code(self) -> Code:
        raise NotImplementedError

    def penalty(self, code: Code) -> torch.Tensor | float:
        return 0.0

    def settle(self) -> None:
        pass

    def bounds(self) -> list[tuple[float | None, float | None]] | None:
        return None

    def shown(self, step: int) -> Code:
        return self.code()


def evaluate(search: Search, objective: Objective, step: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """For each row of a search, the objective (distance plus penalty) and the distance alone: twice (M,)."""
    shown = search.shown(step)
    distance = objective(shown)
    return distance + search.penalty(shown), distance


def best_rows(values: torch.Tensor, restarts: int) -> torch.Tensor:
    """The row with the lowest of ``values`` (N * restarts,) for each target: (N,)."""
    rows = values.reshape(-1, restarts)
    return rows.argmin(dim=1) + torch.arange(len(rows), device=values.device) * restarts


def any_of(distance: torch.Tensor, restarts: int) -> torch.Tensor:
    """Of the restarts of each target, a distance that is a number, where there is one: (N,)."""
    if restarts == 1:
        return distance
    rows = distance.reshape(-1, restarts)
    return torch.where(torch.isfinite(rows), rows, torch.inf).amin(dim=1)


def check_numbers(distance: torch.Tensor, step: int, steps: int, remedy: str) -> None:
    """Raise ProjectionError if a distance of a step is NaN or infinite.

    Args:
        distance: the distances (N,) of the targets.
        step: the number of the step, counted from 0.
        steps: the number of steps of the whole run.
        remedy: advice for the error message.
    """
    bad = torch.nonzero(~torch.isfinite(distance)).flatten().tolist()
    if bad:
        which = f" of target {', '.join(str(i + 1) for i in bad)}" if len(distance) > 1 else ""
        if step == 0:
            remedy = "nothing was changed yet, so the network, the starting code or the weights in --loss are at fault"
        raise ProjectionError(
            f"the distance{which} became {float(distance[bad[0]])} at step {step + 1} of {steps}; {remedy}"
        )
