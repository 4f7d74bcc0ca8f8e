"""Projectors: from a target to its latent code. `project` is the entrance, `Projector` the object to keep.

One method per file (w, z, dense, one_pass), each a search that `descent.Descent` drives. Another package adds a method by an
entry point in the group ``stylegan_invert.projectors``. Importing this package loads no torch; the first use of a name does.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what `__getattr__` imports at the first use
    from .descent import Fit as Fit
    from .descent import Step as Step
    from .methods import METHODS as METHODS
    from .methods import Method as Method
    from .methods import find_method as find_method
    from .observations import Observation as Observation
    from .projection import Projection as Projection
    from .projector import Projector as Projector
    from .run import project as project
    from .run import project_each as project_each
    from .settings import DenseOptions as DenseOptions
    from .settings import LatentOptions as LatentOptions
    from .settings import MethodOptions as MethodOptions
    from .settings import WOptions as WOptions


_LAZY = {
    "METHODS": "methods",
    "DenseOptions": "settings",
    "Fit": "descent",
    "LatentOptions": "settings",
    "Method": "methods",
    "MethodOptions": "settings",
    "Observation": "observations",
    "Projection": "projection",
    "Projector": "projector",
    "Step": "descent",
    "WOptions": "settings",
    "find_method": "methods",
    "project": "run",
    "project_each": "run",
}

__all__ = list(_LAZY)  # noqa: PLE0604


if not TYPE_CHECKING:  # so that a type checker knows the names above and no others

    def __getattr__(name: str) -> Any:
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
