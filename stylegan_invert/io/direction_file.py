"""Files of directions (see `generator.directions`): safetensors with the vector, and in the header what it is and of which
network.
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch

from .. import pretrained
from ..errors import CodeFileError
from ..files import plain
from ..files.door import DIRECTION
from ..files.door import shown as shown_name
from ..files.plain import Misfit
from ..files.safetensors_file import read_safetensors
from ..files.saved import tensor
from ..files.tensors import TensorRecord
from ..files.writing import atomic
from ..generator import GeneratorAdapter
from ..generator.directions import SPACES, Direction, layer_count, vector_shapes
from .codes import check_network
from .hub import fetch, is_hub

FORMAT = "stylegan-invert direction 1"
HEADER = "stylegan_invert"  # the entry of the metadata that describes the direction, as JSON
SUFFIX = ".safetensors"
FOLDER = "directions"  # the folder of the shipped directions in pretrained/, with a folder for each network
STRONGEST = 1000.0  # the largest strength, in sigmas
DESCRIPTION = plain.table(
    {
        "format": plain.text(FORMAT),
        "name": plain.text(limit=100),
        "space": plain.text(*SPACES),
        "sigma": plain.number(0, 1e12, above=True),
        "layers": plain.maybe(plain.items(plain.whole(0, 1000), least=1, most=1000)),
        "network": plain.text(limit=64),
        "made": plain.table({}, more=plain.anything),
    }
)


class Applied(NamedTuple):
    """What one ``--apply`` says.

    Attributes:
        file: the file of the direction.
        strength: how far to move, in sigmas.
        layers: the text that names the layers; None takes those of the direction.
    """

    file: str
    strength: float
    layers: str | None


def write_direction(path: str | os.PathLike, direction: Direction) -> None:
    """Write a direction. A failure leaves no half-written file."""
    header = {
        "format": FORMAT,
        "name": direction.name,
        "space": direction.space,
        "sigma": direction.sigma,
        "layers": None if direction.layers is None else list(direction.layers),
        "network": direction.network,
        "made": direction.made,
    }
    with atomic(path) as temporary:
        # One entry, because the library writes several in an order that changes from run to run.
        safetensors.torch.save_file({"vector": direction.vector.contiguous()}, temporary, {HEADER: json.dumps(header)})


def find_direction(name: str | os.PathLike) -> Path:
    """The path of a direction's file: a path, its address on the Hub, or a shipped direction as "cats64-de/light".

    Raises:
        DownloadError: the file of the Hub cannot be had.
    """
    if is_hub(name):
        return fetch(name)
    path = Path(os.path.expanduser(name))
    shipped = Path(pretrained.__file__).parent / FOLDER / f"{name}{SUFFIX}"
    return shipped if not path.exists() and ".." not in path.parts and shipped.is_file() else path


def read_description(path: str | os.PathLike) -> Direction:
    """Read a direction without its network: its vector is only known to be a row, or rows, of finite numbers.

    Raises:
        CodeFileError: the file is missing or damaged, or is no direction.
    """
    name = shown_name(path)
    described, record = _read(path, name)
    return _direction(described, record, [tuple(record.shape)], name)


def read_direction(path: str | os.PathLike, generator: GeneratorAdapter) -> Direction:
    """Read a direction for a network.

    Raises:
        CodeFileError: the file is missing or damaged, is no direction, or the direction is of another network.
    """
    name = shown_name(path)
    described, record = _read(path, name)
    try:
        shapes = vector_shapes(generator, described["space"])
        count = layer_count(generator)
        if described["layers"] is not None and max(described["layers"]) >= count:
            raise ValueError(f"it moves layer {max(described['layers'])}; this network has the layers 0 to {count - 1}")
    except ValueError as e:
        raise CodeFileError(f"{name}: {e}; the direction is of another network") from None
    direction = _direction(described, record, shapes, name)
    check_network(direction.network, generator, f"{name}: the direction {direction.name!r} is", "it means nothing")
    return direction


def _read(path: str | os.PathLike, name: str) -> tuple[dict[str, Any], TensorRecord]:
    """What the header says, and the record of the vector."""
    records, texts = read_safetensors(path, DIRECTION)
    if HEADER not in texts:
        raise CodeFileError(f"{name}: it is not a direction; 'stylegan-invert directions' makes them")
    try:
        described = plain.parse_json(texts[HEADER], DESCRIPTION)
    except Misfit as e:
        raise CodeFileError(f"{name}: {e}; the file is damaged, or of another kind or version") from None
    if records.keys() != {"vector"}:
        raise CodeFileError(f"{name}: its tensors are not those of a direction, which has one, 'vector'")
    return described, records["vector"]


def _direction(described: dict[str, Any], record: TensorRecord, shapes: list[tuple[int, ...]], name: str) -> Direction:
    shape = tuple(record.shape)
    if shape not in shapes or len(shape) not in (1, 2):
        raise CodeFileError(
            f"{name}: its vector has the shape {shape}; this network's directions in {described['space']!r} have "
            f"{' or '.join(map(str, shapes))}"
        )
    try:
        vector = tensor(torch.empty(shape, device="meta"))(record, "vector")
    except Misfit as e:
        raise CodeFileError(f"{name}: {e}; the file is damaged") from None
    length = float(vector.double().norm())
    if abs(length - 1) > 1e-3:
        raise CodeFileError(f"{name}: its vector has the length {length:g}; expected 1, so the file is damaged")
    layers = described["layers"]
    fields = {key: described[key] for key in ("name", "space", "sigma", "network", "made")}
    return Direction(vector=vector, layers=None if layers is None else tuple(layers), **fields)


def parse_applied(text: str) -> Applied:
    """Read a text such as "smile.safetensors:+2" or "smile.safetensors:-1.5:middle": file, strength and layers.

    Without a strength it is 1.

    Raises:
        ValueError: the strength is not a number of a size that makes sense.
    """
    file, colon, rest = text.partition(f"{SUFFIX}:")
    if colon:
        file += SUFFIX
    else:
        file, _, rest = text.partition(":") if not text.endswith(SUFFIX) else (text, "", "")
    number, _, layers = rest.partition(":")
    try:
        strength = float(number) if number or layers else 1.0
    except ValueError:
        strength = float("nan")
    if not file or not abs(strength) <= STRONGEST:
        raise ValueError(
            f"{text!r}: its strength is {number!r}; expected FILE:STRENGTH or FILE:STRENGTH:LAYERS with a number from "
            f"-{STRONGEST:g} to {STRONGEST:g}, as in smile.safetensors:+2"
        )
    return Applied(file, strength, layers or None)
