"""The checks and limits of arguments and attributes in files, which the readers share."""

import math
from collections.abc import Callable, Collection, Container, Mapping
from typing import Any, NamedTuple

import torch

from ..errors import NetworkFileError
from ..files.pickled import show
from ..ops import ACTIVATIONS

MAX_SIZE = 2**16  # the largest dimension of a tensor that an argument may ask for
MAX_RESOLUTION = 4096  # pixels
MAX_LAYERS = 64  # the most layers of one kind
MAX_TAPS = 64  # the most taps of a filter along each axis
_LARGE = 1e18

Check = tuple[str, Callable[[Any], bool]]
"""The expectation in words, and a function that returns True for a value that meets it."""

Assumptions = Mapping[str, tuple[Any, Check]]
"""Values that a kind of file does not state: by name, the default, and the check of a value that the user gives."""

flag: Check = ("True or False", lambda v: isinstance(v, bool))
a_number: Check = ("a number", lambda v: _is_number(v) and abs(v) < _LARGE)
positive: Check = ("a positive number", lambda v: _is_number(v) and 0 < v < _LARGE)
not_zero: Check = ("a number other than 0", lambda v: type(v) in (int, float) and 1e-9 < abs(v) < 1e9)


def whole(low: int, high: int, or_none: bool = False) -> Check:
    """An integer, low and high included."""
    check: Check = (f"an integer from {low} to {high}", lambda v: type(v) is int and low <= v <= high)
    return none_or(check) if or_none else check


def number(low: float, high: float) -> Check:
    """A number, low and high included."""
    return f"a number from {low:g} to {high:g}", lambda v: type(v) in (int, float) and low <= v <= high


def power_of_two(low: int, high: int) -> Check:
    """A power of two, low and high included."""
    return (f"a power of two from {low} to {high}", lambda v: type(v) is int and low <= v <= high and not v & (v - 1))


def one_of(words: Collection[str]) -> Check:
    """One of some words."""
    return f"one of {', '.join(words)}", lambda v: isinstance(v, str) and v in words


def none_or(check: Check) -> Check:
    """The check that accepts None and every value that another check accepts."""
    expectation, accepts = check
    return f"None or {expectation}", lambda v: v is None or accepts(v)


def is_filter(value: Any) -> bool:
    """True for a number, a list of numbers or a table of them, whose sum is not 0, as official code takes filters."""
    rows = value if isinstance(value, (list, tuple)) else [value]
    rows = rows if rows and all(isinstance(row, (list, tuple)) for row in rows) else [rows]
    numbers = [v for row in rows[:MAX_TAPS] for v in row[:MAX_TAPS]]
    fits = len(rows) <= MAX_TAPS and all(len(row) == len(rows[0]) and 1 <= len(row) <= MAX_TAPS for row in rows)
    return fits and all(type(v) in (int, float) and abs(v) < 1e6 for v in numbers) and abs(sum(numbers)) > 1e-6


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def checked(value: Any, check: Check, file: object, place: str) -> Any:
    """The value itself.

    Raises:
        NetworkFileError: the check refuses the value.
    """
    expectation, accepts = check
    if not accepts(value):
        raise NetworkFileError(file, place, f"it is {show(value)}; expected {expectation}")
    return value


def checked_table(
    table: Any, known: Mapping[str, Check], file: object, place: str, family: str, ignored: Container[str] = ()
) -> dict[str, Any]:
    """Keyword arguments of known names, each with a value of its kind; those that are ignored are left out.

    Raises:
        NetworkFileError: ``table`` is not a dict, a name is unknown, or its check refuses a value.
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


# Classes and attributes


class Known(NamedTuple):
    """A class of networks that a safetensors file may name.

    Attributes:
        cls: called with the arguments of the file by name. A network of it has ``init_kwargs``, plain values.
        checks: name of an argument to its check, or, for a table of arguments, to a table of checks. An argument that
            has no check here must be a plain value of ordinary size.
        module_src: the text that takes the place of the class's source text in an official pickle; empty if official
            pickles hold no such networks.
    """

    cls: type[torch.nn.Module]
    checks: Mapping[str, Any]
    module_src: str = ""


COMMON_SIZES: dict[str, Check] = {
    "c_dim": whole(0, MAX_SIZE),
    "img_resolution": whole(4, MAX_RESOLUTION),
    "img_channels": whole(1, MAX_SIZE),
}
"""Arguments that the classes of most families have."""

ATTRIBUTES: dict[str, Check] = {
    "activation": one_of(ACTIVATIONS),
    "conv_clamp": none_or(("a number of at least 0", lambda v: _is_number(v) and 0 <= v < _LARGE)),
    "use_fp16": flag,
    "channels_last": flag,
    "use_noise": flag,
    "act_gain": a_number,
    "weight_gain": ("a number", lambda v: _is_number(v) and (abs(v) < _LARGE or v == math.inf)),  # inf: of no inputs
    "bias_gain": a_number,
    "w_avg_beta": none_or(("a number from 0 to 1", lambda v: _is_number(v) and 0 <= v <= 1)),
    "group_size": none_or(("a positive integer", lambda v: type(v) is int and v > 0)),
    # StyleGAN3 computes these from powers of floats, whose last digit depends on the machine.
    "output_scale": a_number,
    "magnitude_ema_beta": ("a number from 0 to 1", lambda v: _is_number(v) and 0 <= v <= 1),
    **{name: positive for name in ("sampling_rate", "bandwidth", "in_cutoff", "out_cutoff")},
    **{name: a_number for name in ("in_half_width", "out_half_width")},
}
"""Attributes of modules that are taken from the file even where the constructor's arguments say something else, because
official code computes with the attributes."""

NEEDS_BUFFER = {"use_noise": "noise_const", "w_avg_beta": "w_avg"}
"""Attributes that may only be set where the module has a buffer."""


def set_attribute(
    module: torch.nn.Module, name: str, value: Any, file: object, place: str, check: Check | None = None
) -> None:
    """Set an attribute of a module as the file has it.

    Args:
        module: one part of a network.
        name: the name of the attribute.
        value: the value in the file.
        file: the name of the file, for errors.
        place: where in the file the module is.
        check: the check of the value; None takes that of `ATTRIBUTES`.

    Raises:
        NetworkFileError: the check refuses the value, or it needs a buffer that the module lacks.
    """
    expectation, accepts = check or ATTRIBUTES[name]
    if not accepts(value):
        raise NetworkFileError(file, f"{place}.{name}", f"is {show(value)}; expected {expectation}")
    needed = NEEDS_BUFFER.get(name)
    if value and needed and needed not in module._buffers:
        raise NetworkFileError(file, f"{place}.{name}", f"is {show(value)}, and there is no {needed}")
    setattr(module, name, value)
