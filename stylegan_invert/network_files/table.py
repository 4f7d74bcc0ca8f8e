"""The one table of network families: how their networks are recognised in a file, and built.

A new family needs a file in ``families/`` and a line in `FAMILIES`. No other file depends on the family of a network.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..errors import NetworkFileError
from ..files.tensors import TensorRecord
from .assemble import Budget
from .attributes import live_tensors
from .checks import Assumptions, Known
from .families import (
    biggan,
    dcgan,
    official_state,
    psp,
    rosinality,
    stylegan2,
    stylegan3,
    tf_progan,
    tf_stylegan1,
    tf_stylegan2,
    wavegan,
)
from .machine import persistence, tensorflow
from .machine.containers import read_records
from .machine.persistence import ModuleRecord
from .machine.tensorflow import TFNetwork

Record = ModuleRecord | TFNetwork
Tensors = Mapping[str, TensorRecord]
Files = Mapping[str, tuple[bytes | bytearray, str]]
"""Files that lie beside a network file. The keys are "settings" or a role, the values the bytes and the name."""


class Folder(NamedTuple):
    """A folder that holds one network in two files.

    Attributes:
        settings: the name of the JSON file that describes the network.
        weights: the name of the file of its tensors.
        accepts: called with the contents of the JSON file; returns True if they describe such a network.
        build: called with the contents of the JSON file, the tensors by name, the name of their file, the budget, and
            a value for each assumption; returns the generator.
    """

    settings: str
    weights: str
    accepts: Callable[[Any], bool]
    build: Callable[..., torch.nn.Module]


class Live(NamedTuple):
    """How networks in memory, of a class of another project, are recognised and built; see `live.adopt`.

    Attributes:
        what: the class, in words.
        role: "G" for a generator, "D" for a discriminator.
        marks: names of attributes and tensors; a module that has all of them is recognised.
        build: called with the module, a name for errors, the place in it, the budget, and a value for each of the
            family's assumptions; returns the network. It reads attributes and calls nothing.
        call: called with the module, the same values, and z (N, z_dim) and c (N, c_dim), or for a discriminator pictures
            and c. It calls the module, and returns pictures or scores, in float32 and with stored noise.
        settings: called with the module; returns the values that it states for names in the family's assumptions.
    """

    what: str
    role: str
    marks: frozenset[str]
    build: Callable[..., torch.nn.Module]
    call: Callable[..., torch.Tensor]
    settings: Callable[[torch.nn.Module], Mapping[str, Any]] | None = None


def _of_record(build: Callable[..., torch.nn.Module]) -> Callable[..., torch.nn.Module]:
    """`Live.build` by a function that takes the record of an official pickle."""
    return lambda module, file, place, budget, assumed: build(ModuleRecord.of_module(module), file, place, budget)


def _of_tensors(build: Callable[..., torch.nn.Module]) -> Callable[..., torch.nn.Module]:
    """`Live.build` by a function that takes the tensors of a state dict."""
    return lambda module, file, place, budget, assumed: build(place, live_tensors(module), file, budget, assumed)


def _of_folders(*_: Any) -> torch.nn.Module:
    raise NotImplementedError("the networks of this family are folders, see `Folder.build`")


class Family(NamedTuple):
    """How the networks of one family are found in files and built.

    A family has one of ``reads``, ``find`` and ``folder``. The first that recognises a network builds it.

    Attributes:
        name: the name of the family, or of the project that writes such files, for errors.
        build: for ``reads``, called with the record, the file's name, the place in the file, and the budget. For
            ``find``, called with the place, the tensors, the file's name, the budget, and a value for each assumption.
        reads: called with the record of one network; returns True if it is of this family.
        find: called with the object that a file of tensors holds. It returns the networks of this family in that
            object: a dict from the role ("G_ema", "G" or "D") to a pair: the place in the file, and a dict of the
            tensors by name.
        assumed: values that such files do not state, each with its default and its check.
        globals: names that the pickles of such files may use besides those of tensors, see `machine.pickled.Machine`.
        classes: the classes of the family's networks that safetensors files may name.
        companions: called with a generator's path; returns the paths of files that belong to it and may be missing.
            Returns a dict. Its keys are 'settings' or a role, its values the paths.
        read_settings: called with the object that the companion file "settings" holds, and with that file's name.
            Returns the values it states for names in ``assumed``, or None if it is not a settings file.
        folder: for networks that are folders, the files in them; None for others.
        live: how such networks are known in memory, where they are modules of another project.
    """

    name: str
    build: Callable[..., torch.nn.Module] = _of_folders
    reads: Callable[[Record], bool] | None = None
    find: Callable[[Any], Mapping[str, tuple[str, Tensors]]] | None = None
    assumed: Assumptions = {}
    globals: Mapping[tuple[str, str], Any] = {}
    classes: Mapping[str, Known] = {}
    companions: Callable[[Path], Mapping[str, Path]] | None = None
    read_settings: Callable[[Any, object], Mapping[str, Any] | None] | None = None
    folder: Folder | None = None
    live: tuple[Live, ...] = ()


_NVIDIA = "of NVIDIA's stylegan2-ada-pytorch or stylegan3"
LIVE_STYLEGAN3 = Live(
    "the StyleGAN3 Generator of NVIDIA's stylegan3",
    "G",
    stylegan3.LIVE_MARKS,
    _of_record(stylegan3.build),
    stylegan2.live_pictures,
)
LIVE_STYLEGAN2 = (
    Live(
        f"the StyleGAN2 Generator {_NVIDIA}",
        "G",
        stylegan2.LIVE_MARKS["G"],
        _of_record(stylegan2.build),
        stylegan2.live_pictures,
    ),
    Live(
        f"the Discriminator {_NVIDIA}",
        "D",
        stylegan2.LIVE_MARKS["D"],
        _of_record(stylegan2.build),
        stylegan2.live_scores,
    ),
)
LIVE_ROSINALITY = (
    Live(
        "the Generator of rosinality's stylegan2-pytorch (model.py)",
        "G",
        frozenset(rosinality.GENERATOR_MARKS),
        _of_tensors(rosinality.build),
        rosinality.live_pictures,
        rosinality.live_settings,
    ),
    Live(
        "the Discriminator of rosinality's stylegan2-pytorch (model.py)",
        "D",
        frozenset(rosinality.DISCRIMINATOR_MARKS),
        _of_tensors(rosinality.build),
        rosinality.live_scores,
    ),
)
LIVE_BIGGAN = (
    Live(
        "the Generator of BigGAN-PyTorch (BigGAN.py, BigGANdeep.py)",
        "G",
        biggan.LIVE_MARKS["G"],
        biggan.build_live,
        biggan.live_pictures,
        biggan.live_settings,
    ),
    Live(
        "the Discriminator of BigGAN-PyTorch (BigGAN.py, BigGANdeep.py)",
        "D",
        biggan.LIVE_MARKS["D"],
        biggan.build_live,
        biggan.live_scores,
        biggan.live_settings,
    ),
)
LIVE_HUGGING_FACE = Live(
    "the BigGAN of pytorch-pretrained-BigGAN",
    "G",
    biggan.LIVE_MARKS["hugging face"],
    biggan.build_live_folder,
    biggan.live_folder_pictures,
)
HUGGING_FACE = Folder("config.json", "pytorch_model.bin", biggan.is_config, biggan.build_folder)
FAMILIES = (
    Family(
        "StyleGAN3", stylegan3.build, reads=stylegan3.is_stylegan3, classes=stylegan3.CLASSES, live=(LIVE_STYLEGAN3,)
    ),
    Family("StyleGAN2", stylegan2.build, reads=stylegan2.is_persistent, classes=stylegan2.CLASSES, live=LIVE_STYLEGAN2),
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
        read_settings=biggan.assumed_of_config,
        live=LIVE_BIGGAN,
    ),
    Family(
        "pytorch-pretrained-BigGAN",
        folder=HUGGING_FACE,
        assumed=biggan.FOLDER_ASSUMED,
        live=(LIVE_HUGGING_FACE,),
    ),
    Family("pSp", rosinality.build, find=psp.find, assumed=rosinality.ASSUMED, globals=psp.GLOBALS),
    Family(
        "a state dict of StyleGAN3",
        official_state.build_stylegan3,
        find=partial(official_state.find, family="stylegan3"),
        assumed=official_state.ASSUMED["stylegan3"],
    ),
    Family(
        "a state dict of StyleGAN2",
        official_state.build_stylegan2,
        find=partial(official_state.find, family="stylegan2"),
        assumed=official_state.ASSUMED["stylegan2"],
    ),
    Family(
        "rosinality/stylegan2-pytorch",
        rosinality.build,
        find=rosinality.find,
        assumed=rosinality.ASSUMED,
        live=LIVE_ROSINALITY,
    ),
    Family("WaveGAN", wavegan.build_tensorflow, find=wavegan.find_tensorflow, assumed=wavegan.ASSUMED),
    Family("wavegan-pytorch", wavegan.build, find=wavegan.find, assumed=wavegan.ASSUMED, classes=wavegan.CLASSES),
    Family("DCGAN", dcgan.build, find=dcgan.find, assumed=dcgan.ASSUMED, classes=dcgan.CLASSES),
)
"""All families, in the order in which they are tried. Those that accept everything of their kind come last."""

CLASSES: dict[str, Known] = {name: known for family in FAMILIES for name, known in family.classes.items()}
"""Every class that a safetensors file may name, and nothing else: a name is looked up here, never imported."""

GLOBALS = {name: construct for family in FAMILIES for name, construct in family.globals.items()}
"""The names that pickles of all families may use besides those that `read_records` knows."""


class Unbuilt(NamedTuple):
    """A network of a file that is not built until it is used.

    Attributes:
        kind: the class or function that the file names.
        known: False if the class is not supported; ``build`` then raises NetworkFileError.
        build: makes the network.
    """

    kind: str
    known: bool
    build: Callable[[], torch.nn.Module]


def records(root: Any) -> dict[str, Record]:
    """The networks that a file has as records, by their roles "G_ema", "G" and "D"; empty for other files."""
    return {**(persistence.find_networks(root) or tensorflow.find_networks(root) or {})}


def of_record(record: Record, role: str, file: object, budget: Budget) -> Unbuilt:
    """How to build the network that a file stores under a role ("G", "D", "G_ema")."""
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
        given: values the user gave (``--assume``) for things such files do not say.
        budget: the memory budget for the networks of this file.
        beside: the files that belong to this one, see `Family.companions`.

    Returns:
        The networks by role, and in words what was assumed. Empty if no family knows the tensors.

    Raises:
        NetworkFileError: a family recognises the tensors, but their names or shapes do not fit.
    """
    for family in FAMILIES:
        found = family.find(root) if family.find is not None else {}
        if "G_ema" not in found:
            continue
        told: Mapping[str, Any] = {}
        if family.read_settings is not None and "settings" in beside:
            data, name = beside["settings"]
            told = family.read_settings(read_records(memoryview(data), name, GLOBALS), name) or {}
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
    found = {} if family.find is None else family.find(read_records(memoryview(data), file, GLOBALS))
    if role not in found:
        kind = persistence.CLASS_OF_ROLE[role].lower()
        without = f"To go on without it, set net[{role!r}] = None"
        raise NetworkFileError(file, "", f"it holds no {kind} of {family.name}. {without}")
    return family.build(*found[role], file, Budget(file, 2 * len(data)), assumed)


def assumptions(table: Assumptions, given: Mapping[str, Any], file: object) -> dict[str, Any]:
    """A value for everything that a kind of file does not say: the user's value, or else the default.

    Args:
        table: the names of the missing values, each with its default and its check.
        given: the values the user gave (``--assume``), by name.
        file: the name of the file, for errors.

    Raises:
        NetworkFileError: a name is unknown, or its check refuses a value.
    """
    unknown = sorted(set(given) - set(table))
    if unknown:
        accepted = ", ".join(table) or "no such values"
        reason = f"--assume {', '.join(unknown)} does not apply to this kind of file; it accepts {accepted}"
        raise NetworkFileError(file, "", reason)
    values = {name: given.get(name, default) for name, (default, _) in table.items()}
    for name, (_, (expectation, accepts)) in table.items():
        if not accepts(values[name]):
            raise NetworkFileError(file, "", f"{name} is assumed to be {values[name]!r}; expected {expectation}")
    return values


def in_words(assumed: Mapping[str, Any]) -> str:
    """Assumptions as `NetworkFile.assumed` has them."""
    return ", ".join(f"{name} {value}" for name, value in assumed.items())
