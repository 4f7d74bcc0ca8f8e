"""Networks of any family as safetensors: tensors under their names, and JSON that says how to build the modules.

The name of a tensor is the role of its network and its name there: "G_ema.synthesis.b4.const", "D.b4.out.weight".
Tensors that a network file keeps beside its networks are "extra.0", "extra.1" and so on. The header's metadata hold a
JSON object under "stylegan_invert":

- ``format``: 1.
- ``networks``: role to the description of a network, or to another role if it is the same network. A description has
  ``class`` (a key of `table.CLASSES`), ``family``, ``kwargs`` (the arguments of the constructor), and ``attributes``
  (attributes that were changed after construction: name of the module to name of the attribute to value).
- ``training_set_kwargs``: as in `file.NetworkFile`.
- ``extra``: the table of extra tensors, in which the names of tensors stand for them.

Nothing in such a file could be run. Its header is read by `files.safetensors_file`.
"""

import contextlib
import inspect
import json
import os
import threading
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch.nn.modules import module as torch_modules

from ..errors import NetworkFileError
from ..files.pickled import show
from ..files.safetensors_file import parsed, read_header
from ..files.tensors import TensorRecord
from ..files.writing import atomic
from ..networks.layers import MappingNetwork
from .assemble import Budget, assemble, by_name, constructing
from .checks import ATTRIBUTES, MAX_SIZE, flag, set_attribute
from .machine.persistence import ROLES
from .table import CLASSES

KEY = "stylegan_invert"
FORMAT = 1
MAX_VALUES = 10_000  # the most values in the arguments of a network
MAX_NESTING = 8
MAX_TEXT = 200
MAPPING_FLAGS = ("normalize_z", "uniform_z")  # attributes of a `MappingNetwork`

MISFIT = "it is {found}, {dtype}; its arguments ask for {wanted}"


class Contents(NamedTuple):
    """The contents of a file, as `read` returns them.

    Attributes:
        networks: the networks by role, "G_ema", "G" or "D".
        training_set_kwargs: as in `file.NetworkFile`.
        extra: as in `file.NetworkFile`.
    """

    networks: dict[str, torch.nn.Module]
    training_set_kwargs: dict[str, Any] | None
    extra: dict[str, Any]


# Writing


def write(net: Any, path: str | os.PathLike) -> None:
    """Write the networks, extra tensors and training_set_kwargs of a network file. `read` gives them back bit-equal.

    Args:
        net: a `file.NetworkFile`.
        path: the file to write. An old file of that name stays whole until the new one is complete.

    Raises:
        ValueError: a network is of a class that is not in `table.CLASSES`, or has arguments that JSON cannot hold.
    """
    tensors: dict[str, torch.Tensor] = {}
    networks: dict[str, Any] = {}
    for role in ("G_ema", "G", "D"):
        network = net[role]
        if network is None:
            continue
        same = next((other for other in networks if net[other] is network), None)
        if same is not None:
            networks[role] = same
            continue
        networks[role] = _description(network, role)
        # The library refuses tensors that share memory, so it is given copies.
        tensors |= {f"{role}.{name}": _own(value) for name, value in network.state_dict().items()}
    extra = _extra_names(net.extra, tensors)
    about = {"format": FORMAT, "networks": networks, "training_set_kwargs": net.training_set_kwargs, "extra": extra}
    try:
        text = json.dumps(about)
    except (TypeError, ValueError) as e:
        raise ValueError(f"the networks cannot be described as JSON: {e}") from None
    with atomic(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, {KEY: text})


def _own(value: torch.Tensor) -> torch.Tensor:
    return value.detach().cpu().contiguous().clone()


def _description(network: torch.nn.Module, role: str) -> dict[str, Any]:
    name = next((name for name, known in CLASSES.items() if type(network) is known.cls), None)
    if name is None:
        raise ValueError(f"{role} is a {type(network).__name__}, which has no place in such a file yet")
    kwargs = _arguments(network)
    with torch.device("meta"):
        fresh = CLASSES[name].cls(**kwargs)
    attributes = {}
    for (where, module), (_, plain) in zip(network.named_modules(), fresh.named_modules(), strict=True):
        changed = {key: value for key, value in _attributes(module).items() if value != _attributes(plain)[key]}
        if changed:
            attributes[where] = changed
    family = getattr(network, "family", name.partition(".")[0])
    return {"class": name, "family": family, "kwargs": kwargs, "attributes": attributes}


def _arguments(network: Any) -> dict[str, Any]:
    """The arguments of the constructor by name, also those that were passed by position."""
    signature = inspect.signature(type(network))
    arguments = dict(signature.bind(*getattr(network, "init_args", ()), **network.init_kwargs).arguments)
    for name, parameter in signature.parameters.items():
        if parameter.kind == parameter.VAR_KEYWORD:
            arguments |= arguments.pop(name, {})
    return json.loads(json.dumps(arguments, default=_plain))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise ValueError(f"a {type(value).__name__} among the arguments of a network")


def _attributes(module: torch.nn.Module) -> dict[str, Any]:
    """The attributes of a module that change what it computes and may differ from the constructor's arguments."""
    attributes = {key: value for key, value in module.__dict__.items() if key in ATTRIBUTES}
    if isinstance(module, MappingNetwork):
        attributes |= {name: getattr(module, name) for name in MAPPING_FLAGS}
    return attributes


def _extra_names(table: Mapping[str, Any], tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """The table of extra tensors with their names in their places. The tensors are added to ``tensors``."""
    result: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, torch.Tensor):
            result[str(key)] = f"extra.{sum(name.startswith('extra.') for name in tensors)}"
            tensors[result[str(key)]] = _own(value)
        else:
            result[str(key)] = _extra_names(value, tensors)
    return result


# Reading


def read(data: bytes | bytearray | memoryview, file: object, budget: Budget | None = None) -> Contents:
    """The networks of a file that `write` wrote, in eval mode, without gradients, on the CPU.

    Args:
        data: the whole file.
        file: its name, for errors.
        budget: the memory budget; None allows twice the size of the file.

    Raises:
        NetworkFileError: it is damaged, or another kind of safetensors file, or its arguments and tensors do not fit.
    """
    view = memoryview(data)
    budget = budget or Budget(file, 2 * len(view))
    records, about = described(view, file)
    networks_table = about["networks"]
    training_set_kwargs = about.get("training_set_kwargs")
    if not isinstance(training_set_kwargs, (dict, type(None))):
        raise NetworkFileError(
            file, f"{KEY}.training_set_kwargs", f"it is {show(training_set_kwargs)}; expected a table"
        )
    used: set[str] = set()
    networks: dict[str, torch.nn.Module] = {}
    for role, what in networks_table.items():
        if isinstance(what, dict):
            prefix = f"{role}."
            own = {name.removeprefix(prefix): r for name, r in records.items() if name.startswith(prefix)}
            networks[role] = _build(what, own, file, role, budget)
            used |= {prefix + name for name in own}
    for role, what in networks_table.items():
        if role not in networks:
            if not isinstance(what, str) or not isinstance(networks_table.get(what), dict):
                raise NetworkFileError(file, f"{KEY}.networks.{role}", f"it is {show(what)}; expected a network")
            networks[role] = networks[what]
    extra = _read_extra(about.get("extra", {}), records, file, f"{KEY}.extra", budget, used)
    unknown = records.keys() - used
    if unknown:
        raise NetworkFileError(file, min(unknown), "it belongs to no network and no table of the file")
    return Contents(networks, training_set_kwargs, extra)


def described(view: memoryview, file: object) -> tuple[dict[str, TensorRecord], dict[str, Any]]:
    """The tensors of a file by name, and the table that describes its networks. Only the file's header is looked at.

    Raises:
        NetworkFileError: the header is damaged, or describes no networks.
    """
    records, metadata = read_header(view, file)
    if not isinstance(metadata, dict) or not isinstance(metadata.get(KEY), str):
        raise NetworkFileError(
            file, "", f"its header says nothing under {KEY!r}; expected networks that 'stylegan-invert convert' wrote"
        )
    about = parsed(metadata[KEY], file, KEY)
    if not isinstance(about, dict) or type(about.get("format")) is not int or about["format"] != FORMAT:
        format_ = show(about.get("format")) if isinstance(about, dict) else show(about)
        raise NetworkFileError(file, KEY, f"its format is {format_}; expected {FORMAT}")
    networks = about.get("networks")
    if not isinstance(networks, dict) or not networks or not set(networks) <= set(ROLES):
        raise NetworkFileError(file, f"{KEY}.networks", f"expected a table with some of {', '.join(ROLES)}")
    return records, about


def _build(
    what: Mapping[str, Any], records: Mapping[str, TensorRecord], file: object, role: str, budget: Budget
) -> torch.nn.Module:
    """One network: its arguments are checked first, then the shapes of its tensors; then memory is taken."""
    name, kwargs, attributes = what.get("class"), what.get("kwargs"), what.get("attributes", {})
    if not isinstance(name, str) or name not in CLASSES:
        raise NetworkFileError(file, role, f"it is of class {show(name)}; expected one of {', '.join(CLASSES)}")
    known = CLASSES[name]
    _check(kwargs, known.checks, file, f"{role}: kwargs")
    assert isinstance(kwargs, dict)
    with _at_most(8 * len(records) + 100), constructing(file, role):
        network = known.cls(**kwargs)
    _set_attributes(network, attributes, file, role)
    return assemble(network, by_name(network, records), file, role, budget, names=records, misfit=MISFIT)


def _check(table: Any, checks: Mapping[str, Any], file: object, place: str) -> None:
    if not isinstance(table, dict):
        raise NetworkFileError(file, place, f"it is {show(table)}; expected a table of arguments")
    left = MAX_VALUES
    for name, value in table.items():
        check = checks.get(name)
        if isinstance(check, Mapping) and value is not None:
            unknown = set(value) - set(check) if isinstance(value, dict) else set()
            if unknown:
                raise NetworkFileError(file, f"{place}.{name}", f"the argument {show(min(unknown))} is unknown")
            _check(value, check, file, f"{place}.{name}")
        elif isinstance(check, tuple) and not check[1](value):
            raise NetworkFileError(file, place, f"the argument {show(name)} is {show(value)}; expected {check[0]}")
        elif check is None:
            left = _bounded(value, name, left, file, place)


def _bounded(value: Any, name: str, left: int, file: object, place: str, depth: int = 0) -> int:
    """Refuse values that no argument of a network has: a large integer, a long text, NaN, a long or deep table.

    Args:
        value: the argument, or a value in it.
        name: the name of the argument, or of the value in it.
        left: the number of further values that the arguments may have.
        file: its name, for errors.
        place: where in the file the arguments are.
        depth: the number of tables and lists in which the value lies.

    Returns:
        How many more values the arguments may have after this one.
    """
    most = 2**31 if name.endswith("_base") else MAX_SIZE
    plain = value is None or isinstance(value, bool)
    fits = (
        plain
        or (type(value) is int and abs(value) <= most)
        or (type(value) is float and abs(value) <= 2**31)
        or (isinstance(value, str) and len(value) <= MAX_TEXT)
        or (isinstance(value, (list, dict)) and depth < MAX_NESTING)
    )
    if not fits or left <= 0:
        raise NetworkFileError(
            file, place, f"the argument {show(name)} is {show(value)}, or too long; no network has such"
        )
    left -= 1
    items = value.items() if isinstance(value, dict) else [(name, v) for v in value] if isinstance(value, list) else []
    for key, item in items:
        left = _bounded(item, key, left, file, place, depth + 1)
    return left


@contextlib.contextmanager
def _at_most(count: int) -> Iterator[None]:
    """Limit the tensors and parts that modules made in the block may have in all; one more raises ValueError.

    Arguments that ask for a million layers are stopped by this before the layers take memory. It counts in this thread
    only.
    """
    left, thread = [count], threading.get_ident()

    def counted(module: torch.nn.Module, name: str, value: Any) -> None:
        if threading.get_ident() == thread:
            left[0] -= 1
            if left[0] < 0:
                raise ValueError("they ask for far more layers than the file has tensors")

    with contextlib.ExitStack() as stack:
        for kind in ("parameter", "buffer", "module"):
            register = getattr(torch_modules, f"register_module_{kind}_registration_hook")
            stack.callback(register(counted).remove)
        yield


def _set_attributes(network: torch.nn.Module, table: Any, file: object, role: str) -> None:
    modules = dict(network.named_modules())
    if not isinstance(table, dict) or not all(isinstance(v, dict) and k in modules for k, v in table.items()):
        raise NetworkFileError(file, f"{role}: attributes", "expected a table by the names of the network's modules")
    for where, values in table.items():
        module, place = modules[where], f"{role}.{where}" if where else role
        for name, value in values.items():
            if name not in _attributes(module):
                raise NetworkFileError(file, place, f"there is no attribute {show(name)} that a file may set")
            check = flag if name in MAPPING_FLAGS else ATTRIBUTES[name]
            set_attribute(module, name, value, file, place, check)


def _read_extra(
    table: Any,
    records: Mapping[str, TensorRecord],
    file: object,
    place: str,
    budget: Budget,
    used: set[str],
    depth: int = 0,
) -> dict[str, Any]:
    if not isinstance(table, dict) or depth > MAX_NESTING:
        raise NetworkFileError(file, place, f"it is {show(table)}, or nested too deeply; expected a table of tensors")
    result: dict[str, Any] = {}
    for key, value in table.items():
        where = f"{place}.{key[:80]}"
        if isinstance(value, str):
            if not value.startswith("extra.") or value not in records or value in used:
                raise NetworkFileError(file, where, f"it is {show(value)}, which is not a tensor of that table")
            used.add(value)
            budget.spend(where, records[value].nbytes + 256)
            result[key] = records[value].to_tensor()
        else:
            result[key] = _read_extra(value, records, file, where, budget, used, depth + 1)
    return result
