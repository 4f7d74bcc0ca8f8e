"""The state of a pass in a file, from which a process that was killed goes on to the same result."""

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from stylegan_invert.errors import ProjectionError
from stylegan_invert.files import door, plain
from stylegan_invert.files.saved import read_saved
from stylegan_invert.files.tensors import TensorRecord
from stylegan_invert.files.writing import atomic
from stylegan_invert.generator import Code
from stylegan_invert.signals import Stopped

from .descent import Step

FILE = "checkpoint.pt"
SECONDS = 60.0  # between two writings, unless a user chooses otherwise
DEEPEST = 12  # tables and lists in one another, in a state

_KIND = door.Kind("the checkpoint of a projection", 2**34, ProjectionError)
_FORM = plain.table({"of": plain.text(), "state": plain.unchecked, "trail": plain.items(plain.unchecked)})


class Going(NamedTuple):
    """Where an interrupted pass goes on.

    Attributes:
        state: the state of its descent, for `Projector.fit`.
        seconds: the time that it took so far.
        trail: the codes after each step so far, if they are kept.
    """

    state: dict[str, Any]
    seconds: float
    trail: list[Code]


class Checkpoints:
    """Writes the state of passes into the folders of their results, and reads it back.

    Args:
        folders: the folder of each target's result.
        settings: a text that is the same for two runs if their results are.
        seconds: the state is written after the first step that ends so long after the last writing.
        arrived: the signals that have arrived, from `signals.signals_wait`. After the step that follows one, the state is
            written and `Stopped` is raised.
    """

    def __init__(
        self,
        folders: Sequence[str | os.PathLike],
        settings: str,
        seconds: float = SECONDS,
        arrived: Sequence[int] = (),
    ):
        self.folders, self.settings, self.seconds, self.arrived = list(map(Path, folders)), settings, seconds, arrived

    def of_pass(self, first: int, targets: torch.Tensor) -> "Checkpoint":
        """The checkpoint of a pass.

        Args:
            first: the number of its first target.
            targets: its targets as they are stored (N, ...).
        """
        digest = hashlib.sha256(self.settings.encode())
        digest.update(repr((tuple(targets.shape), targets.dtype)).encode())
        digest.update(targets.contiguous().numpy().tobytes())
        return Checkpoint(self.folders[first] / FILE, digest.hexdigest(), self.seconds, self.arrived)


class Checkpoint:
    """The checkpoint of one pass.

    Args:
        file: where it is written.
        of: a text that says of which settings and targets it is.
        seconds, arrived: as for `Checkpoints`.
    """

    def __init__(self, file: Path, of: str, seconds: float, arrived: Sequence[int]):
        self.file, self.of, self.seconds, self.arrived = file, of, seconds, arrived
        self._due = time.monotonic() + seconds

    def read(self) -> Going | None:
        """Where the pass goes on; None if there is no checkpoint, or if it is of other settings or another target.

        Raises:
            ProjectionError: the file is damaged.
        """
        if not self.file.exists():
            return None
        try:
            found = _FORM(read_saved(self.file, _KIND), "")
            if found["of"] != self.of:
                return None
            size = self.file.stat().st_size
            budget = _Budget(4 * size + 2**20)
            state = plain.table({"seconds": plain.number(0)}, more=plain.unchecked)(
                budget.values(found["state"]), "state"
            )
            return Going(state, state["seconds"], [_code(budget.values(one)) for one in found["trail"]])
        except (plain.Misfit, KeyError, TypeError, ValueError) as e:
            reason = str(e).removeprefix(f"{self.file}: ")
            raise ProjectionError(f"{self.file}: {reason}; remove it to begin this target anew") from None

    def after(self, step: Step, trail: Sequence[Code]) -> None:
        """Write the state after a step if it is due.

        Raises:
            Stopped: a signal has arrived; the state was written.
        """
        if not self.arrived and time.monotonic() < self._due:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with atomic(self.file) as temporary:
            torch.save({"of": self.of, "state": step.state(), "trail": [_plain(code) for code in trail]}, temporary)
        self._due = time.monotonic() + self.seconds
        if self.arrived:
            raise Stopped(
                self.arrived[0],
                f"stopped after step {step.number:,} of {step.total:,}, and wrote {self.file}; the same command goes on",
            )

    def remove(self) -> None:
        """Remove the file; the result is there."""
        self.file.unlink(missing_ok=True)


class _Budget:
    """Makes tensors of the records in a file, which together may not take more memory than ``room`` bytes."""

    def __init__(self, room: int):
        self.room = room

    def values(self, value: Any, depth: int = 0) -> Any:
        if depth > DEEPEST:
            raise plain.Misfit(f"it is nested deeper than {DEEPEST} levels")
        if isinstance(value, TensorRecord):
            self.room -= value.nbytes
            if self.room < 0:
                raise plain.Misfit("its tensors take more memory than the file has bytes")
            return value.to_tensor()
        if isinstance(value, dict):
            return {key: self.values(one, depth + 1) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.values(one, depth + 1) for one in value]
        if value is not None and not isinstance(value, (bool, int, float, str)):
            raise plain.Misfit(f"it has a {type(value).__name__}")
        return value


def _plain(code: Code) -> dict[str, Any]:
    return {"space": code.space, "tensors": dict(code.tensors), "c": code.c}


def _code(value: Mapping[str, Any]) -> Code:
    return Code(value["space"], value["tensors"], value["c"])
