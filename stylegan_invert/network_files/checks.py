"""What arguments in files may be: checks that the readers share."""

from collections.abc import Callable, Container, Mapping
from typing import Any

from ..errors import NetworkFileError
from .machine.pickled import show

Check = tuple[str, Callable[[Any], bool]]  # what is expected, and whether a value is that

flag: Check = ("True or False", lambda v: isinstance(v, bool))


def whole(low: int, high: int, or_none: bool = False) -> Check:
    """An integer, low and high included."""
    text = f"{'None or ' if or_none else ''}an integer from {low} to {high}"
    return text, lambda v: (or_none and v is None) or (type(v) is int and low <= v <= high)


def number(low: float, high: float) -> Check:
    """A number, low and high included."""
    return f"a number from {low:g} to {high:g}", lambda v: type(v) in (int, float) and low <= v <= high


def checked_table(
    table: Any, known: Mapping[str, Check], file: object, place: str, family: str, ignored: Container[str] = ()
) -> dict[str, Any]:
    """Keyword arguments of known names, each with a value of its kind; those that are ignored are left out.

    Raises:
        NetworkFileError: it is no table, a name is unknown, or a value is not what it should be.
    """
    if not isinstance(table, dict):
        raise NetworkFileError(file, place, f"it is {show(table)}; expected a table of arguments")
    result = {}
    for name, value in table.items():
        if name in ignored:
            continue
        if name not in known:
            raise NetworkFileError(
                file, place, f"the argument {show(name)} is unknown; it may mean something else than {family}"
            )
        expectation, accepts = known[name]
        if not accepts(value):
            raise NetworkFileError(file, place, f"the argument {name} is {show(value)}; expected {expectation}")
        result[name] = value
    return result
