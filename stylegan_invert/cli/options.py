"""Click options from the declarations in options classes; see `stylegan_invert.options`."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import click

from ..options import Check, flags
from .common import Number


def parameter_type(check: Check) -> click.ParamType:
    """The click type that accepts what a `Check` accepts."""
    if check.words == ("",):
        return click.STRING
    if check.words:
        return click.Choice(list(check.words))
    if check.whole:
        return click.IntRange(int(check.low) + check.above, int(check.high))
    return Number(check.low, check.high, min_open=check.above)


def click_option(field: dataclasses.Field, default_text: str | None = None) -> Callable[[Callable], Callable]:
    """A click option for a field of an options class. Its value is None unless it is given on the command line.

    Args:
        field: made by `stylegan_invert.options.option`, and with a flag.
        default_text: what ``--help`` says of the default; None takes the field's own.
    """
    check, about = field.metadata["check"], field.metadata["help"]
    if default_text is None:
        default_text = field.metadata["unset"] or shown(field.default)
    return click.option(
        *flags(field),
        field.name,
        type=parameter_type(check),
        metavar=field.metadata["metavar"],
        help=f"{about}  [default: {default_text}]" if default_text else about,
    )


def class_options(
    cls: type, default_texts: dict[str, str] | None = None, leave_out: Iterable[str] = ()
) -> Callable[[Callable], Callable]:
    """A decorator that gives a command all options of a class, in the order of their declaration.

    Args:
        cls: a dataclass whose fields were made by `stylegan_invert.options.option`.
        default_texts: what ``--help`` says of a default, by field name, where it is not the field's own.
        leave_out: names of fields that the command declares itself.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for field in reversed(dataclasses.fields(cls)):
            if field.metadata and flags(field) and field.name not in set(leave_out):
                function = click_option(field, (default_texts or {}).get(field.name))(function)
        return function

    return decorate


def shown(value: Any) -> str | None:
    """A default as ``--help`` writes it; None for one that need not be said."""
    if value is None or value is dataclasses.MISSING:
        return None
    return f"{value:g}" if isinstance(value, float) else str(value)
