"""What the owner of a server offers to those who open its page."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch

from .. import pretrained
from ..errors import CodeFileError, NetworkFileError, printable
from ..generator import GeneratorAdapter, adapt
from ..generator.directions import Direction
from ..io.direction_file import FOLDER, SUFFIX, find_direction, read_description, read_direction
from ..io.encoder_file import shipped_for
from ..network_files.file import NetworkFile, load
from ..network_files.sources import OF_PICTURES, shown
from ..projectors.methods import Method, all_methods
from ..projectors.settings import build_options


@dataclass(frozen=True)
class Offer:
    """What a server offers.

    Attributes:
        networks: paths, URLs and short names of network files; the first one is chosen when the page is opened.
        directions: files of directions, shipped names such as "cats64-de/light", and folders of such files. Those of other
            networks than the chosen one are not shown.
        device: where to compute.
        uploads: True lets the page take network files. They are read as data, like every network file.
    """

    networks: Sequence[str] = OF_PICTURES
    directions: Sequence[str] = ()
    device: torch.device | str = "cpu"
    uploads: bool = False

    def names(self) -> dict[str, str]:
        """The networks by the names under which the page lists them: the file's name, or all of it where two share one."""
        short = [printable(os.path.basename(shown(source).rstrip("/\\")) or source, 100) for source in self.networks]
        return {
            name if short.count(name) == 1 else printable(shown(source), 300): source
            for name, source in zip(short, self.networks)
        }

    def open(self, source: str | os.PathLike) -> tuple[NetworkFile, GeneratorAdapter]:
        """A network file, read anew, and its generator on the device.

        Raises:
            NetworkFileError: it cannot be read, or makes no pictures.
        """
        net = load(source)
        generator = adapt(net.G.to(self.device))
        if generator.medium != "picture":
            reason = f"this network makes {generator.medium}s; the page is for networks of pictures"
            raise NetworkFileError(net.file, "", reason)
        return net, generator

    def directions_of(self, generator: GeneratorAdapter) -> list[Direction]:
        """The directions of a network, those that come with this package first.

        Raises:
            CodeFileError: a file that the owner named is no direction.
        """
        own = generator.code_sha256()
        named = (path for name in self.directions for path in direction_files(name))
        shipped = sorted((Path(pretrained.__file__).parent / FOLDER).glob(f"*/*{SUFFIX}"))
        paths = dict.fromkeys([*shipped, *named])
        return [read_direction(path, generator) for path in paths if read_description(path).network == own]


def direction_files(name: str) -> Iterator[Path]:
    """The files that a name stands for: those in a folder, or the file itself, also a shipped one.

    Raises:
        CodeFileError: a folder has none.
    """
    if not os.path.isdir(name):
        yield find_direction(name)
        return
    paths = sorted(Path(name).glob(f"*{SUFFIX}"))
    if not paths:
        raise CodeFileError(f"{printable(name, 300)}: this folder has no directions (files *{SUFFIX})")
    yield from paths


def methods_of(net: NetworkFile, generator: GeneratorAdapter) -> dict[str, Method]:
    """The methods that a network has, by name, in the order of the table of methods."""
    return {name: method for name, method in all_methods().items() if _has(net, generator, method)}


def _has(net: NetworkFile, generator: GeneratorAdapter, method: Method) -> bool:
    preset = {name: value for name, value in method.preset.items() if name != "loss"}
    prior = build_options(method.options, preset, {}).prior_weight
    if method.space is not None and method.space not in generator.spaces:
        return False
    if prior and not method.prior_optional and "v" not in generator.spaces:
        return False
    if method.start == "de":
        return _finds_directly(net)
    return method.start != "encoder" or shipped_for(generator) is not None


def _finds_directly(net: NetworkFile) -> bool:
    """True if the file has a discriminator that finds codes."""
    try:
        return net.direction is not None
    except NetworkFileError:
        return False


def default_layer(generator: GeneratorAdapter, method: Method) -> str | None:
    """The layer at which a method splits the network: its first dense layer, else the first of all; None if it does not."""
    if "layer" not in option_names(method):
        return None
    return generator.dense or next(iter(generator.layers()), None)


def option_names(method: Method) -> set[str]:
    """The names of a method's options."""
    return {field.name for field in fields(method.options)}
