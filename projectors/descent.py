"""The one descent under every method, with a state that can be saved and gone on with.

A method describes a `search.Search`: what its variables are and which code they stand for. `Descent` minimises the objective and
the search's own penalties with one of the optimisers in `optimisers.py`.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from stylegan_invert.errors import ProjectionError
from stylegan_invert.generator import Code

from .objective import Objective
from .optimisers import OPTIMIZERS
from .search import Search, best_rows
from .settings import ROW_BY_ROW, StoppingOptions
from .state import restore, snapshot
from .stopping import Stopping

FORMAT = 1  # the version of the format of the state


@dataclass(frozen=True)
class Step:
    """The argument of a callback, which is called after each step.

    Attributes:
        number: the number of the step, from 1.
        distance: the distances (N,) before the step.
        code: the codes after the step. They share memory with the optimisation: copy those you keep. While dense searches z,
            they lie in z.
        total: the number of steps in this pass.
        state: returns the state of the descent after the step, for `Projector.fit(..., resume=)`.
    """

    number: int
    distance: torch.Tensor
    code: Code
    total: int
    state: Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Fit:
    """The result of a method for the targets of a pass.

    Attributes:
        code: the codes (N), with their optimised noise maps, where the method has any.
        distance: (steps, N), the distances before each step; methods that search z add a last row for the result.
        notes: further values for the record of each target: a list with one value per target, by name.
    """

    code: Code
    distance: torch.Tensor
    notes: Mapping[str, list] = dataclasses.field(default_factory=dict)


class Descent:
    """Minimises one search after another, and can say where it is and go on from there.

    Args:
        total: steps of all searches together, for the callback and for dividing a time limit among the searches.
        callback: called after each step.
        resume: what `state` gave in an earlier run with the same targets and options. Searches that were finished then are
            taken over; one that was under way goes on. On a CPU the result equals that of an undisturbed run to the last
            bit, unless a time limit ends it.

    Attributes:
        current: gives the state of the search that is under way.
        reported: True when a step was taken.

    Raises:
        ProjectionError: the state has another format.
    """

    def __init__(
        self, total: int = 0, callback: Callable[[Step], object] | None = None, resume: Mapping[str, Any] | None = None
    ):
        if resume is not None and resume.get("format") != FORMAT:
            raise ProjectionError(f"the state has format {resume.get('format')!r}; expected {FORMAT}")
        self.total, self.callback = total, callback
        self._saved = dict(resume or {"finished": [], "current": None, "evaluations": None, "seconds": 0.0})
        self._began = time.monotonic() - self._saved["seconds"]
        self._finished: list[dict[str, Any]] = []
        self.current: Callable[[], dict[str, Any]] = dict
        self.reported = False
        self._done = 0  # steps planned for the searches that are finished
        self._evaluations: list[int] = []  # of each target

    def state(self) -> dict[str, Any]:
        """The state of the descent: tensors on the CPU, numbers, and tables and lists of these. Ask within a callback."""
        return {
            "format": FORMAT,
            "finished": list(self._finished),
            "current": self.current() or None,
            "evaluations": list(self._evaluations),
            "seconds": time.monotonic() - self._began,
        }

    def __call__(
        self,
        search: Search,
        objective: Objective,
        steps: int,
        optimizer: str = "adam",
        options: StoppingOptions | None = None,
    ) -> torch.Tensor:
        """Minimise a search. Its variables are changed in place.

        Args:
            search: the search.
            objective: the objective for the search's rows.
            steps: the number of the optimiser's steps; L-BFGS-B takes so many for each row.
            optimizer: a name in `optimisers.OPTIMIZERS`.
            options: the rules that may end the search earlier; None has none.

        Returns:
            The distances before each step, (steps, M), on the CPU. There are fewer rows if a rule ended the search.

        Raises:
            ProjectionError: a distance is NaN or infinite, or the state that was resumed is of another search.
        """
        number = len(self._finished)
        if number == 0:
            self._evaluations = objective.evaluations
            for target, count in enumerate(self._saved["evaluations"] or []):
                self._evaluations[target] += count
        saved = self._saved["finished"][number] if number < len(self._saved["finished"]) else None
        if saved is not None:
            restore(search, saved)
            history = saved["history"]
        else:
            going_on = self._saved["current"] if number == len(self._saved["finished"]) else None
            if going_on is not None and going_on["by"] != optimizer:
                raise ProjectionError(f"the state is of {going_on['by']}; this run uses {optimizer}")
            history = OPTIMIZERS[optimizer](self, search, objective, steps, going_on, options)
        self._finished.append({**snapshot(search), "history": history})
        self.current = dict
        self._done += steps * (len(search.variables[0]) if optimizer == ROW_BY_ROW else 1)
        return history

    def stopping(self, options: StoppingOptions | None, steps: int) -> Stopping:
        """When a search ends. Of a time limit it has the share that ``steps`` more steps have of all."""
        limit = None if options is None else options.time_limit
        share = min(1.0, (self._done + steps) / self.total) if self.total else 1.0
        return Stopping(options, None if limit is None else self._began + limit * share)

    def report(self, search: Search, number: int, distance: torch.Tensor) -> None:
        """Tell the callback of a step of the search that is under way; ``number`` counts from 1."""
        self.reported = True
        if self.callback is None:
            return
        with torch.no_grad():
            code = search.code().detach()
        if search.restarts > 1:
            best = best_rows(distance, search.restarts)
            distance, code = distance[best], code[best]
        self.callback(Step(self._done + number, distance, code, self.total, self.state))
