"""Make click options from the declarations in `stylegan_invert.options`."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import click

from ..options import Check, flags
from .common import Choice, Number, UserPath

UNLIMITED = (10**9, 1e12)  # upper limits that only keep out nonsense, and need not be shown


def parameter_type(check: Check) -> click.ParamType:
    """The click type that accepts what a `Check` accepts."""
    if check.words == ("",):
        return click.STRING
    if check.words:
        return Choice(list(check.words))
    high = None if check.high in UNLIMITED else check.high  # `check_options` holds them all the same
    if check.whole:
        return click.IntRange(int(check.low) + check.above, None if high is None else int(high))
    return Number(check.low, high, min_open=check.above)


def click_option(
    field: dataclasses.Field, default_text: str | None = None, note: str = ""
) -> Callable[[Callable], Callable]:
    """A click option for a field of an options class. Its value is None if it is not used on the command line.

    Args:
        field: a field that was made by `stylegan_invert.options.option` and has a flag.
        default_text: the default as ``--help`` states it; None takes the field's own default.
        note: what ``--help`` says of the option besides.
    """
    check, about = field.metadata["check"], field.metadata["help"] + note
    if default_text is None:
        default_text = field.metadata["unset"] or text_of_default(field.default)
    return click.option(
        *flags(field),
        field.name,
        type=UserPath() if field.metadata["metavar"] == "FILE" else parameter_type(check),
        metavar=field.metadata["metavar"],
        help=f"{about}  [default: {default_text}]" if default_text else about,
    )


def class_options(
    cls: type, default_texts: dict[str, str] | None = None, leave_out: Iterable[str] = ()
) -> Callable[[Callable], Callable]:
    """A decorator that gives a command all options of an options class, in the order of their declaration.

    Args:
        cls: a dataclass whose fields were made by `stylegan_invert.options.option`.
        default_texts: defaults as ``--help`` states them, by field name; other fields take their own default.
        leave_out: the names of fields for which no option is made, because the command declares its own.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for field in reversed(dataclasses.fields(cls)):
            if field.metadata and flags(field) and field.name not in set(leave_out):
                function = click_option(field, (default_texts or {}).get(field.name))(function)
        return function

    return decorate


def text_of_default(value: Any) -> str | None:
    """A default as ``--help`` states it; None if there is nothing to state."""
    if value is None or value is dataclasses.MISSING:
        return None
    return f"{value:g}" if isinstance(value, float) else str(value)
