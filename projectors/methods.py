"""The table of projection methods."""

import importlib
import importlib.metadata
from collections.abc import Callable
from typing import NamedTuple


class Method(NamedTuple):
    """A projector by name: the space of its code, a sentence for the help text, and where its function is ("module:function")."""

    space: str
    summary: str
    target: str

    def load(self) -> Callable:
        module, _, function = self.target.partition(":")
        return getattr(importlib.import_module(module), function)


METHODS = {
    "w": Method("w", "the official projector: one w for all layers", "stylegan_invert.projectors.w:project_w"),
    "w+": Method("w+", "one w per layer: closer to the target", "stylegan_invert.projectors.w_plus:project_w_plus"),
}

ENTRY_POINTS = "stylegan_invert.projectors"


def find_method(name: str) -> Method:
    """A method of this package, or of another through the entry-point group ``stylegan_invert.projectors``.

    Such an entry point names a `Method`.

    Raises:
        ValueError: there is none of that name.
    """
    if name in METHODS:
        return METHODS[name]
    others = {e.name: e for e in importlib.metadata.entry_points(group=ENTRY_POINTS)}
    if name in others:
        return others[name].load()
    raise ValueError(f"method {name!r} is unknown; expected one of {', '.join([*METHODS, *others])}")
