"""The table of projection methods."""

import importlib
import importlib.metadata
from collections.abc import Callable
from typing import NamedTuple


class Method(NamedTuple):
    """A projector by name.

    Attributes:
        space: of its code.
        target: where its function is, "module:function". It is called with (generator, target, loss, start, options,
            callback), as `optimise`, and returns a `Fit`.
        start: where it begins if nothing else is asked for: "mean", or "de" for what the network's discriminator finds.
        one_pass: it takes no steps, and so no options for them; pictures share passes on every device.
    """

    space: str
    target: str
    start: str = "mean"
    one_pass: bool = False

    def load(self) -> Callable:
        module, _, function = self.target.partition(":")
        return getattr(importlib.import_module(module), function)


METHODS = {
    "w": Method("w", "stylegan_invert.projectors.optimise:optimise"),  # the official projector: one w for all layers
    "w+": Method("w+", "stylegan_invert.projectors.optimise:optimise"),  # one w per layer: closer to the target
    "de": Method(
        "z", "stylegan_invert.projectors.direct:direct", start="de", one_pass=True
    ),  # the discriminator's guess
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
