"""GAN inversion: find the latent code from which a generator network makes a given picture.

A GAN (generative adversarial network) is a generator trained together with a discriminator. The networks are StyleGAN
1, 2 and 3, BigGAN, ProGAN and DCGAN, read from their official files.

    import stylegan_invert as si
    net = si.load("ffhq.pkl")
    result = si.project(net.G, "photo.jpg", method="w+", steps=1000, seed=303)
    result.save("out/")

Importing this package does not import torch. Torch is imported when a name such as ``load`` is first used.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from .errors import (
    CodeFileError,
    DownloadError,
    ImageFileError,
    NetworkFileError,
    OpsError,
    ProjectionError,
    SoundFileError,
    StyleganInvertError,
    TrainingError,
)

if TYPE_CHECKING:  # what `__getattr__` imports at the first use
    from .generator import Code
    from .network_files.file import NetworkFile, load, save
    from .network_files.live import adopt
    from .network_files.publish import push_to_hub, write_hub_folder
    from .projectors import Projection, project

__version__ = "0.2.0"

# In a checkout of the repository, ops/, projectors/ and pretrained/ lie beside this folder. This makes them importable
# as stylegan_invert.ops and so on. An installed package has them inside this folder.
_here = os.path.dirname(os.path.abspath(__file__))
if not os.path.isdir(os.path.join(_here, "projectors")) and os.path.isdir(os.path.join(_here, os.pardir, "projectors")):
    __path__.append(os.path.dirname(_here))

# Public names, and the modules from which `__getattr__` imports them at the first use.
_LAZY = {
    "Code": "generator",
    "NetworkFile": "network_files.file",
    "Projection": "projectors",
    "adopt": "network_files.live",
    "load": "network_files.file",
    "project": "projectors",
    "push_to_hub": "network_files.publish",
    "save": "network_files.file",
    "write_hub_folder": "network_files.publish",
}

__all__ = [
    "Code",
    "CodeFileError",
    "DownloadError",
    "ImageFileError",
    "SoundFileError",
    "NetworkFile",
    "NetworkFileError",
    "OpsError",
    "Projection",
    "ProjectionError",
    "StyleganInvertError",
    "TrainingError",
    "adopt",
    "load",
    "project",
    "push_to_hub",
    "save",
    "write_hub_folder",
]


if not TYPE_CHECKING:  # so that a type checker knows the names above and no others

    def __getattr__(name: str) -> Any:
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
