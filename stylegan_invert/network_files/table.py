"""The one table of network families: which reader builds what a file holds."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from ..errors import NetworkFileError
from .assemble import Budget
from .families import biggan, dcgan, psp, rosinality, stylegan2, stylegan3, tf_stylegan2
from .families import tf_progan as progan
from .families import tf_stylegan1 as stylegan1
from .machine.persistence import ModuleRecord
from .machine.tensorflow import TFNetwork

STATE_DICTS = (biggan, psp, rosinality, dcgan)
"""Families whose files are tables of tensors, in the order in which they are tried. Each has ``find_generator``, ``build``, and
``ASSUMED``: what its files do not say, name to default and check."""

GLOBALS = {**biggan.GLOBALS, **psp.GLOBALS}
"""What such files name beside tensors."""


class Unbuilt(NamedTuple):
    """A network of a file that nobody has asked for yet.

    Attributes:
        kind: the class or function that the file names. known: whether this package knows it.
        build: makes the network.
    """

    kind: str
    known: bool
    build: Callable[[], torch.nn.Module]


def of_record(record: ModuleRecord | TFNetwork, key: str, file: object, budget: Budget) -> Unbuilt:
    """The network of a record under a key ("G_ema", "G" or "D") of a file."""
    if isinstance(record, TFNetwork):
        fits = record.build_func[:1] == ("D" if key == "D" else "G")  # G_style, D_paper, ...

        def build_tensorflow() -> torch.nn.Module:
            if not fits:
                expected = "discriminator" if key == "D" else "generator"
                raise NetworkFileError(
                    file, key, f"it is made by {record.build_func[:80]!r}; expected a {expected}'s function"
                )
            return _tensorflow(record).build(record, file, key, budget)

        return Unbuilt(record.build_func, fits, build_tensorflow)
    family = stylegan3 if stylegan3.is_stylegan3(record) else stylegan2
    expected = "Discriminator" if key == "D" else "Generator"

    def build() -> torch.nn.Module:
        if record.class_name != expected:
            without = ". To go on without it, set net['D'] = None" if key == "D" else ""
            raise NetworkFileError(
                file, key, f"it is of class {record.class_name[:80]!r}; expected {expected}{without}"
            )
        return family.build(record, file, key, budget)

    return Unbuilt(record.class_name, record.class_name == expected, build)


def _tensorflow(record: TFNetwork) -> Any:
    """The reader of a TensorFlow network, by its build function."""
    if record.version is None or record.build_func in progan.FUNCTIONS:
        return progan
    return stylegan1 if record.build_func in stylegan1.FAMILIES else tf_stylegan2


def assumptions(table: Mapping[str, Any], given: Mapping[str, Any], file: object) -> dict[str, Any]:
    """A value for everything that a file does not say, by a table like ``ASSUMED``: what is given, else the default.

    Raises:
        NetworkFileError: a name is unknown, or a value is not what it must be.
    """
    unknown = sorted(set(given) - set(table))
    if unknown:
        what = f"this kind of file leaves open {', '.join(table)}" if table else "this kind of file leaves nothing open"
        raise NetworkFileError(file, "", f"{', '.join(unknown)} cannot be assumed; {what}")
    values = {name: given.get(name, default) for name, (default, _) in table.items()}
    for name, (_, (expectation, accepts)) in table.items():
        if not accepts(values[name]):
            raise NetworkFileError(file, "", f"{name} is assumed to be {values[name]!r}; expected {expectation}")
    return values
