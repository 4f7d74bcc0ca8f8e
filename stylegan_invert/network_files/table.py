"""The one table of network families: how their networks are recognised in a file, and built.

A family that is new is a file in ``families/`` and a line in `FAMILIES`. Nobody else asks what family a network is of.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..errors import NetworkFileError
from .assemble import Budget
from .checks import Assumptions, Known
from .families import biggan, dcgan, psp, rosinality, stylegan2, stylegan3, tf_progan, tf_stylegan1, tf_stylegan2
from .machine import persistence, tensorflow
from .machine.containers import read_records
from .machine.persistence import ModuleRecord
from .machine.tensorflow import TFNetwork
from .machine.tensors import TensorRecord

Record = ModuleRecord | TFNetwork
Tensors = Mapping[str, TensorRecord]
Files = Mapping[str, tuple[bytes | bytearray, str]]
"""Files that lie beside a network file: kind to bytes and name."""


class Folder(NamedTuple):
    """A folder that holds one network in two files.

    Attributes:
        settings: name of the JSON file that describes the network.
        weights: name of the file of its tensors.
        accepts: takes what the JSON file holds, and says if it describes such a network.
        build: called with what the JSON file holds, the tensors by name, the name of their file, the budget, and a
            value for each assumption; returns the generator.
    """

    settings: str
    weights: str
    accepts: Callable[[Any], bool]
    build: Callable[..., torch.nn.Module]


class Family(NamedTuple):
    """How the networks of one family are found in files and built.

    A family has one of ``reads``, ``find`` and ``folder``. The first that recognises a network builds it.

    Attributes:
        name: of the family, or of the project that writes such files, for errors.
        build: for ``reads``, called with the record, the file's name, the place in the file, and the budget. For
            ``find``, called with the place, the tensors, the file's name, the budget, and a value for each assumption.
        reads: takes the record of one network, and says if it is of this family.
        find: takes the object that a file of tensors holds, and returns the networks of this family in it: role to the
            place in the file and the tensors by name.
        assumed: what such files do not say.
        globals: what the pickles of such files may name besides tensors, see `Machine`.
        classes: the family's networks in safetensors files.
        companions: takes a generator's path, and returns the paths of files that belong to it and may be missing:
            "settings", or the role of the network in the file, to the path.
        settings: takes the object that the companion "settings" holds, and its name, and returns what it says about
            ``assumed``: name to value, or None if it is no such file.
        folder: for networks that are folders.
    """

    name: str
    build: Callable[..., torch.nn.Module] | None = None
    reads: Callable[[Record], bool] | None = None
    find: Callable[[Any], Mapping[str, tuple[str, Tensors]]] | None = None
    assumed: Assumptions = {}
    globals: Mapping[tuple[str, str], Any] = {}
    classes: Mapping[str, Known] = {}
    companions: Callable[[Path], Mapping[str, Path]] | None = None
    settings: Callable[[Any, object], Mapping[str, Any] | None] | None = None
    folder: Folder | None = None


HUGGING_FACE = Folder("config.json", "pytorch_model.bin", biggan.is_config, biggan.build_folder)
FAMILIES = (
    Family("StyleGAN3", stylegan3.build, reads=stylegan3.is_stylegan3, classes=stylegan3.CLASSES),
    Family("StyleGAN2", stylegan2.build, reads=stylegan2.is_persistent, classes=stylegan2.CLASSES),
    Family("ProGAN", tf_progan.build, reads=tf_progan.is_progan, classes=tf_progan.CLASSES),
    Family("StyleGAN", tf_stylegan1.build, reads=tf_stylegan1.is_stylegan1, classes=tf_stylegan1.CLASSES),
    Family("StyleGAN2 of TensorFlow", tf_stylegan2.build, reads=tf_stylegan2.is_tensorflow),
    Family(
        "BigGAN-PyTorch",
        biggan.build,
        find=biggan.find,
        assumed=biggan.ASSUMED,
        globals=biggan.GLOBALS,
        classes=biggan.CLASSES,
        companions=biggan.companions,
        settings=biggan.assumed_of_config,
    ),
    Family("pytorch-pretrained-BigGAN", folder=HUGGING_FACE, assumed=biggan.FOLDER_ASSUMED),
    Family("pSp", rosinality.build, find=psp.find, assumed=rosinality.ASSUMED, globals=psp.GLOBALS),
    Family("rosinality/stylegan2-pytorch", rosinality.build, find=rosinality.find, assumed=rosinality.ASSUMED),
    Family("DCGAN", dcgan.build, find=dcgan.find, assumed=dcgan.ASSUMED, classes=dcgan.CLASSES),
)
"""All families, in the order in which they are asked. Those that accept everything of their kind come last."""

CLASSES: dict[str, Known] = {name: known for family in FAMILIES for name, known in family.classes.items()}
"""Every class that a safetensors file may name, and nothing else: a name is looked up here, never imported."""

GLOBALS = {name: construct for family in FAMILIES for name, construct in family.globals.items()}
"""What the pickles of all families may name besides what `read_records` knows."""


class Unbuilt(NamedTuple):
    """A network of a file that nobody has asked for yet.

    Attributes:
        kind: the class or function that the file names.
        known: False if ``build`` is going to refuse it.
        build: makes the network.
    """

    kind: str
    known: bool
    build: Callable[[], torch.nn.Module]


def records(root: Any) -> dict[str, Record]:
    """The networks that a file has as records, by their roles "G_ema", "G" and "D"; empty for other files."""
    return persistence.find_networks(root) or tensorflow.find_networks(root) or {}


def of_record(record: Record, role: str, file: object, budget: Budget) -> Unbuilt:
    """The network of a record that a file has in a role."""
    wrong = record.refusal(role)

    def build() -> torch.nn.Module:
        if wrong:
            raise NetworkFileError(file, role, wrong)
        family = next(family for family in FAMILIES if family.reads is not None and family.reads(record))
        return family.build(record, file, role, budget)

    return Unbuilt(record.kind, not wrong, build)


def of_tensors(
    root: Any, file: object, given: Mapping[str, Any], budget: Budget, beside: Files
) -> tuple[dict[str, torch.nn.Module | Unbuilt], str]:
    """The networks in a file of tensors, and in those beside it.

    Args:
        root: the object that the file holds.
        file: its name, for errors.
        given: what the user says of what such files leave open.
        budget: of memory, for the networks of this file.
        beside: the family's companions.

    Returns:
        The networks by role, and in words what was assumed. Empty if no family knows the tensors.

    Raises:
        NetworkFileError: they are of a family, and do not fit.
    """
    for family in FAMILIES:
        found = family.find(root) if family.find is not None else {}
        if "G_ema" not in found:
            continue
        told: Mapping[str, Any] = {}
        if family.settings is not None and "settings" in beside:
            data, name = beside["settings"]
            told = family.settings(read_records(memoryview(data), name, GLOBALS), name) or {}
        assumed = assumptions(family.assumed, {**told, **given}, file)
        networks: dict[str, Any] = {
            role: family.build(place, tensors, file, budget, assumed) for role, (place, tensors) in found.items()
        }
        if family.companions is not None:
            for role in (role for role in persistence.ROLES if role in beside):
                kind = persistence.CLASS_OF_ROLE[role]
                networks[role] = Unbuilt(kind, True, partial(_companion, family, role, *beside[role], assumed))
        return networks, getattr(networks["G_ema"], "assumed", in_words(assumed))
    return {}, ""


def _companion(
    family: Family, role: str, data: bytes | bytearray, file: str, assumed: Mapping[str, Any]
) -> torch.nn.Module:
    """The network of a file that lies beside the generator's."""
    found = family.find(read_records(memoryview(data), file, GLOBALS))
    if role not in found:
        kind = persistence.CLASS_OF_ROLE[role].lower()
        without = f"To go on without it, set net[{role!r}] = None"
        raise NetworkFileError(file, "", f"it holds no {kind} of {family.name}. {without}")
    return family.build(*found[role], file, Budget(file, 2 * len(data)), assumed)


def assumptions(table: Assumptions, given: Mapping[str, Any], file: object) -> dict[str, Any]:
    """A value for everything that a kind of file does not say: what is given, else the default.

    Args:
        table: what is not said.
        given: name to value, as the user gave it.
        file: its name, for errors.

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


def in_words(assumed: Mapping[str, Any]) -> str:
    """Assumptions as `NetworkFile.assumed` has them."""
    return ", ".join(f"{name} {value}" for name, value in assumed.items())
