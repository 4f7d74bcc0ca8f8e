"""GAN inversion for official StyleGAN2 network files.

    import stylegan_invert as si
    net = si.load("ffhq.pkl")
    result = si.project(net.G, "photo.jpg", method="w+", steps=1000, seed=303)
    result.save("out/")

Importing this package loads no torch; the first use of a name below does.
"""

import importlib
import os
from typing import Any

from .errors import (
    CodeFileError,
    DownloadError,
    ImageFileError,
    NetworkFileError,
    OpsError,
    ProjectionError,
    StyleganInvertError,
    TrainingError,
)

__version__ = "0.1.0"

# In a checkout, ops/, projectors/ and pretrained/ lie beside this folder and not in it; this makes them importable as
# stylegan_invert.ops and so on. A wheel has them inside.
_here = os.path.dirname(os.path.abspath(__file__))
if not os.path.isdir(os.path.join(_here, "projectors")) and os.path.isdir(os.path.join(_here, os.pardir, "projectors")):
    __path__.append(os.path.dirname(_here))

_LAZY = {
    "Code": "generator",
    "NetworkFile": "network_files.file",
    "Projection": "projectors",
    "load": "network_files.file",
    "project": "projectors",
    "save": "network_files.file",
}

__all__ = [
    "Code",
    "CodeFileError",
    "DownloadError",
    "ImageFileError",
    "NetworkFile",
    "NetworkFileError",
    "OpsError",
    "Projection",
    "ProjectionError",
    "StyleganInvertError",
    "TrainingError",
    "load",
    "project",
    "save",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
