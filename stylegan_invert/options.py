"""Declare each option once: its default, its range or words, its help text and its flag, in one dataclass field.

Methods of projection, the training loop and the command line (`cli.options`) all read these declarations. This file
imports no torch, so that ``--help`` stays quick.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from .errors import printable


class Check(NamedTuple):
    """The values that an option accepts: a number in a range, one of several words, or any text.

    Attributes:
        low: the smallest number that is accepted.
        high: the largest number that is accepted.
        whole: True accepts only integers.
        above: True accepts only numbers above ``low``, but not ``low`` itself.
        words: the words that are accepted; () accepts numbers instead, and ("",) accepts any text.
        or_none: True accepts None, too.
    """

    low: float = 0
    high: float = 1e12
    whole: bool = False
    above: bool = False
    words: tuple[str, ...] = ()
    or_none: bool = False

    def accepts(self, value: Any) -> bool:
        """True if the option accepts the value."""
        if value is None:
            return self.or_none
        if self.words:
            return isinstance(value, str) and (value in self.words or self.words == ("",))
        kinds = int if self.whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds):
            return False
        if isinstance(value, float) and not math.isfinite(value):
            return False
        return self.low <= value <= self.high and not (self.above and value == self.low)

    def __str__(self) -> str:
        """The accepted values in words, for error messages."""
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
    """Declare an option as a field of a dataclass.

    Args:
        default: the default value. Without a default, a value is required.
        low: see `Check`.
        high: see `Check`.
        whole: see `Check`.
        above: see `Check`.
        words: see `Check`.
        or_none: see `Check`.
        help: what the option does, in a sentence for ``--help``. `cli.options` adds the default.
        flag: the name on the command line, or several names with commas ("--steps,--num-steps"). None makes it from the
            field's name. "" keeps the option off the command line.
        metavar: the word that stands for the value in ``--help``.
        unset: what happens if the value is None, in words for ``--help``.

    Returns:
        A dataclass field.
    """
    check = Check(low, high, whole, above, words, or_none)
    metadata = {"check": check, "help": help, "flag": flag, "metavar": metavar, "unset": unset}
    return dataclasses.field(default=default, metadata=metadata)


def flags(field: dataclasses.Field) -> tuple[str, ...]:
    """The names of an option on the command line; empty if it has none."""
    text = field.metadata["flag"]
    if text is None:
        text = f"--{field.name.replace('_', '-')}"
    return tuple(text.split(",")) if text else ()


def check_options(cls: type, values: Mapping[str, Any], error: type[Exception]) -> None:
    """Check the values of options.

    Args:
        cls: a dataclass whose fields were made by `option`.
        values: values by field name.
        error: the exception to raise.

    Raises:
        error: ``cls`` has no field of a name in ``values``, or a field does not accept its value.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(set(values) - set(fields))
    if unknown:
        names = ", ".join(fields) or "none"
        raise error(f"option {printable(', '.join(unknown), 200)} is unknown to this method; there are: {names}")
    for name, value in values.items():
        check = fields[name].metadata["check"]
        if not check.accepts(value):
            raise error(f"{name} is {_shown(value)}; expected {check}")


def read_values(cls: type, text: str) -> dict[str, Any]:
    """Options in one text, as in "optimizer=lbfgs,steps=100"; an empty text has none.

    Args:
        cls: a dataclass whose fields were made by `option`.
        text: names and values. "none" is None where an option may be None.

    Returns:
        The values by field name. Whether an option accepts its value is left to `check_options`.

    Raises:
        ValueError: a part is not NAME=VALUE, names no option, names one twice, or is not a number where one is expected.
    """
    checks = {field.name: field.metadata["check"] for field in dataclasses.fields(cls) if field.metadata}
    values: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or name not in checks or name in values:
            names = ", ".join(checks)
            raise ValueError(f"{printable(part, 80)!r}: expected NAME=VALUE, each name once; the names are {names}")
        values[name] = _value(checks[name], value.strip(), part)
    return values


def _value(check: Check, text: str, part: str) -> Any:
    if check.or_none and text.lower() == "none":
        return None
    if check.words:
        return text
    try:
        return int(text) if check.whole else float(text)
    except ValueError:
        raise ValueError(f"{printable(part, 80)!r}: expected {check}") from None


def _shown(value: Any) -> str:
    """A value for an error. Options are read from files, too, where a text or number can be very long."""
    if value is not None and not isinstance(value, (bool, int, float, str)):
        return f"a {type(value).__name__}"
    if isinstance(value, int) and abs(value) >= 10**30:
        return "a number of more than 30 digits"
    return printable(repr(value), 80)


SEED: dict[str, Any] = dict(low=0, high=2**32 - 1, whole=True)
"""Keyword arguments of `option` for the seed of a random generator."""
