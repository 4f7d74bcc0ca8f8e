"""Options that are declared once: default, range or words, help text and flag in one dataclass field.

The method functions, the training loop and the command line (`cli.options`) read these declarations. This file imports no
torch, so that ``--help`` stays quick.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple


class Check(NamedTuple):
    """What the value of an option may be: a number in a range, one of several words, or any name.

    Attributes:
        low: the smallest number that is accepted.
        high: the largest number that is accepted.
        whole: only integers are accepted.
        above: ``low`` itself is not accepted.
        words: the words that are accepted, in place of numbers; ("",) stands for any text.
        or_none: None is accepted, too.
    """

    low: float = 0
    high: float = 1e12
    whole: bool = False
    above: bool = False
    words: tuple[str, ...] = ()
    or_none: bool = False

    def accepts(self, value: Any) -> bool:
        """True if the value is what this check describes."""
        if value is None:
            return self.or_none
        if self.words:
            return isinstance(value, str) and (value in self.words or self.words == ("",))
        kinds = int if self.whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
            return False
        return self.low <= value <= self.high and not (self.above and value == self.low)

    def __str__(self) -> str:
        if self.words == ("",):
            text = "a name"
        elif self.words:
            text = f"one of {', '.join(self.words)}"
        else:
            kind = "an integer" if self.whole else "a number"
            text = f"{kind} {'above' if self.above else 'from'} {self.low:g} to {self.high:g}"
        return f"None or {text}" if self.or_none else text


def option(
    default: Any = dataclasses.MISSING,
    low: float = 0,
    high: float = 1e12,
    *,
    whole: bool = False,
    above: bool = False,
    words: tuple[str, ...] = (),
    or_none: bool = False,
    help: str = "",
    flag: str | None = None,
    metavar: str | None = None,
    unset: str | None = None,
) -> Any:
    """A field of an options class.

    Args:
        default: the value if nothing else is chosen; left out, the field must be given.
        low, high, whole, above, words, or_none: see `Check`.
        help: what the option does, in a sentence for ``--help``. The default is added by `cli.options`.
        flag: the name on the command line, perhaps with further names after a comma ("--steps,--num-steps"). None
            derives it from the field's name; "" keeps the field off the command line.
        metavar: what stands for the value in ``--help``.
        unset: what happens while the value is None, in words for ``--help``.
    """
    check = Check(low, high, whole, above, words, or_none)
    metadata = {"check": check, "help": help, "flag": flag, "metavar": metavar, "unset": unset}
    return dataclasses.field(default=default, metadata=metadata)


def flags(field: dataclasses.Field) -> tuple[str, ...]:
    """The names of an option on the command line; empty if it has none."""
    given = field.metadata["flag"]
    text = f"--{field.name.replace('_', '-')}" if given is None else given
    return tuple(text.split(",")) if text else ()


def check_options(cls: type, given: Mapping[str, Any], error: type[Exception]) -> None:
    """Check values by the fields of an options class.

    Args:
        cls: a dataclass whose fields were made by `option`.
        given: values by field name.
        error: what to raise.

    Raises:
        error: the class has no field of a name, or a value is not what its field accepts.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(set(given) - set(fields))
    if unknown:
        known = ", ".join(fields) or "none"
        raise error(f"option {', '.join(unknown)} is unknown to this method; there are: {known}")
    for name, value in given.items():
        check = fields[name].metadata["check"]
        if not check.accepts(value):
            raise error(f"{name} is {value!r}; expected {check}")


SEED = dict(low=0, high=2**32 - 1, whole=True)
"""Keyword arguments of `option` for the seed of a random generator."""
