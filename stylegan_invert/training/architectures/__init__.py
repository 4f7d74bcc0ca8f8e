"""The one table of architectures that `train` trains. This file imports no torch, because ``--help`` reads it.

An architecture is a class of options, and a module with a class `Architecture`, which inherits from `base.Architecture` and
says how its networks are built, trained and written. A new one is two files and a line in `ARCHITECTURES`.
"""

import importlib
from typing import Any, NamedTuple

from ..configs import Options
from ..run_options import RunOptions
from .biggan_options import BigGANOptions
from .dcgan_options import DCGANOptions
from .progan_options import ProGANOptions
from .wavegan_options import WaveGANOptions


class Line(NamedTuple):
    """One architecture.

    Attributes:
        title: its name in messages.
        options: the class of its options.
        module: the module of this room that has its class `Architecture`.
    """

    title: str
    options: type[RunOptions]
    module: str


ARCHITECTURES = {
    "stylegan2": Line("StyleGAN2", Options, "stylegan2"),
    "biggan": Line("BigGAN", BigGANOptions, "biggan"),
    "wavegan": Line("WaveGAN", WaveGANOptions, "wavegan"),
    "progan": Line("ProGAN", ProGANOptions, "progan"),
    "dcgan": Line("DCGAN", DCGANOptions, "dcgan"),
}


def class_of(name: str) -> type[Any]:
    """The class `Architecture` of a key of `ARCHITECTURES`."""
    return importlib.import_module(f".{ARCHITECTURES[name].module}", __name__).Architecture


def architecture_of(options: RunOptions) -> Any:
    """The `base.Architecture` of a run with these options."""
    return class_of(options.arch)(options)
