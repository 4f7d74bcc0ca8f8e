"""What projectors share: how their options are declared and checked, what a callback is told, and what they return."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from stylegan_invert.errors import ProjectionError
from stylegan_invert.generator import Code


class Check(NamedTuple):
    """What an option's value must be: a number in a range, whole or not, or a word; or None, where it may.

    Attributes:
        words: the words there are; ("",) stands for any.
    """

    low: float = 0
    high: float = 1e12
    whole: bool = False
    words: tuple[str, ...] = ()
    or_none: bool = False

    def accepts(self, value: Any) -> bool:
        if value is None:
            return self.or_none
        if self.words:
            return isinstance(value, str) and (value in self.words or self.words == ("",))
        return (
            not isinstance(value, bool)
            and isinstance(value, int if self.whole else (int, float))
            and self.low <= value <= self.high
        )

    def __str__(self) -> str:
        kind = "an integer" if self.whole else "a number"
        text = f"one of {', '.join(self.words)}" if self.words else f"{kind} from {self.low:g} to {self.high:g}"
        text = "a name" if self.words == ("",) else text
        return f"None or {text}" if self.or_none else text


def option(
    default: Any,
    low: float = 0,
    high: float = 1e12,
    *,
    whole: bool = False,
    words: tuple[str, ...] = (),
    or_none: bool = False,
) -> Any:
    """A field of an options class: a dataclass field with a `Check`."""
    return dataclasses.field(default=default, metadata={"check": Check(low, high, whole, words, or_none)})


SEED = dict(low=0, high=2**32 - 1, whole=True)


@dataclass(frozen=True)
class NoOptions:
    """For a method that takes none."""


def build_options(cls: type, given: Mapping[str, Any]) -> Any:
    """An options object from values by name, each checked.

    Raises:
        ProjectionError: a name is unknown to the method, or a value is not what it must be.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(set(given) - set(fields))
    if unknown:
        known = ", ".join(fields) or "none"
        raise ProjectionError(f"option {', '.join(unknown)} is unknown to this method; there are: {known}")
    for name, value in given.items():
        check = fields[name].metadata["check"]
        if not check.accepts(value):
            raise ProjectionError(f"{name} is {value!r}; expected {check}")
    return cls(**given)


@dataclass(frozen=True)
class Step:
    """What a callback is told after each step.

    Attributes:
        number: of the step, from 1. total: steps in this pass.
        distance: (N,), as they were before the step.
        code: after the step. It shares memory with the optimisation: copy what you keep.
    """

    number: int
    distance: torch.Tensor
    code: Code
    total: int


@dataclass(frozen=True)
class Fit:
    """The result for a batch: the code, and the distances (steps, N).

    Attributes:
        code: with its optimised noise maps, where the method has any.
        distance: (steps, N).
        notes: more for the record of each target: name to one value per target.
    """

    code: Code
    distance: torch.Tensor
    notes: Mapping[str, list] = dataclasses.field(default_factory=dict)


def staircase(rate: float, step: int, steps: int, drops: int) -> float:
    """A learning rate in a step, counted from 0: multiplied by 0.1 every steps / drops steps."""
    return rate * 0.1 ** (step * drops // steps)


def look_now(step: int, steps: int, device: torch.device) -> bool:
    """Whether `check_numbers` is due in a step: looking makes a GPU wait, so there it is done now and then, and at the end."""
    return device.type == "cpu" or step % 20 == 0 or step == steps - 1


def check_numbers(distance: torch.Tensor, step: int, steps: int, remedy: str) -> None:
    """Raise ProjectionError if a distance (N,) of a step, counted from 0, is no number; ``remedy`` is what may help."""
    bad = torch.nonzero(~torch.isfinite(distance)).flatten().tolist()
    if bad:
        which = f" of target {', '.join(str(i + 1) for i in bad)}" if len(distance) > 1 else ""
        if step == 0:
            remedy = "nothing was changed yet, so the network, the starting code or the weights in --loss are at fault"
        raise ProjectionError(
            f"the distance{which} became {float(distance[bad[0]])} at step {step + 1} of {steps}; {remedy}"
        )
