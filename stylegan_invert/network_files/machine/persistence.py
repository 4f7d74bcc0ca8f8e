"""Modules as NVIDIA's torch_utils.persistence pickles them, read and written as data.

The record of a module holds the name of its class, the source text of the whole file in which the class stands, and the
module's ``__dict__``. Official code runs the source; this package does not read it.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from ...errors import NetworkFileError
from ...files.pickled import Call, LongText, Machine, Refusal, show
from ...files.tensors import GLOBALS as TENSOR_GLOBALS
from ...files.tensors import TensorRecord, new_dict, tensor_call
from ..assemble import Budget, assemble, by_name, compare
from ..attributes import LiveTensor, live_value
from ..checks import ATTRIBUTES, set_attribute

VERSION = 6
ROLES = ("G", "D", "G_ema")  # the networks of a file, by the keys of official pickles
CLASS_OF_ROLE = {"G": "Generator", "D": "Discriminator", "G_ema": "Generator"}
META_KEYS = {"type", "version", "module_src", "class_name", "state"}

# The text that takes the place of source text in files that are written here. Official code runs it, and thereby finds
# its own class.
MODULE_SRC = (
    "try:\n    from training.networks import *\nexcept ImportError:\n    from training.networks_stylegan2 import *\n"
)

# Official code asks for a discriminator. Where there is none, a module of this class stands for it, which is read as
# none.
NO_DISCRIMINATOR = ("Identity", "from torch.nn import Identity\n")


class ModuleRecord:
    """One module of the file, or of a network in memory. Its contents are known once it is parsed.

    Attributes:
        class_name: the name of its class.
        init_args: the constructor's arguments by position.
        init_kwargs: the constructor's arguments by name.
        parameters: name to record.
        buffers: name to record.
        modules: name to the record of the part.
        attributes: the other attributes of the module whose names do not begin with "_".
    """

    def __init__(self, meta: dict[str, Any]):
        self.children = (meta,)  # for the check of nesting
        self._parsed = False

    def parse(self) -> None:
        """Check and sort the record, after the whole stream has been read.

        Raises:
            Refusal: it does not have the form that official code writes.
        """
        if self._parsed:
            return
        self._parsed = True
        (meta,) = self.children
        if set(meta) != META_KEYS:
            raise Refusal(f"a module record with the keys {_names(meta)}; expected {_names(META_KEYS)}")
        if meta["type"] != "class" or meta["version"] != VERSION or type(meta["version"]) is not int:
            kind = f"{show(meta['type'])}, version {show(meta['version'])}"
            raise Refusal(f"a module record of type {kind}; expected 'class', version {VERSION}")
        if (
            not isinstance(meta["class_name"], str)
            or not isinstance(meta["module_src"], (str, LongText))
            or not isinstance(meta["state"], dict)
        ):
            raise Refusal("a module record whose class name, source or state is of the wrong type")
        self.class_name: str = meta["class_name"]
        state = dict(meta["state"])
        for name, value in state.items():
            if (
                "_hook" in str(name)
                and not (value is None or isinstance(value, bool))
                and not (isinstance(value, (dict, list, set)) and not value)
            ):
                raise Refusal(f"a {self.class_name} has {name} that are not empty; hooks are code, and are refused")
        self.parameters = self._table(state, "_parameters", TensorRecord)
        self.buffers = self._table(state, "_buffers", TensorRecord)
        self.modules = self._table(state, "_modules", ModuleRecord)
        self.init_args = state.pop("_init_args", ())
        self.init_kwargs = state.pop("_init_kwargs", {})
        if not isinstance(self.init_args, tuple) or not isinstance(self.init_kwargs, dict):
            raise Refusal(f"a {self.class_name} whose constructor arguments are of the wrong type")
        self.attributes = {
            k: v for k, v in state.items() if isinstance(k, str) and not k.startswith("_") and k != "training"
        }

    @classmethod
    def of_module(cls, module: torch.nn.Module) -> "ModuleRecord":
        """The record of a module that official code holds in memory. Nothing but its ``__dict__`` is read.

        Its tensors are `LiveTensor`, and an attribute that is no plain value is a text that names its type.
        """
        state = vars(module)
        record = cls({})
        record._parsed = True
        record.class_name = type(module).__name__
        record.parameters, record.buffers = (
            {k: LiveTensor(v) for k, v in state[table].items() if v is not None}
            for table in ("_parameters", "_buffers")
        )
        record.modules = {k: cls.of_module(v) for k, v in state["_modules"].items() if v is not None}
        record.init_args = tuple(map(live_value, state.get("_init_args", ())))
        record.init_kwargs = live_value(dict(state.get("_init_kwargs", {})))
        record.attributes = {k: live_value(v) for k, v in state.items() if not k.startswith("_") and k != "training"}
        return record

    def _table(self, state: dict[str, Any], key: str, kind: type) -> dict[str, Any]:
        table = state.pop(key, {})
        if not isinstance(table, dict) or not all(
            isinstance(k, str) and (v is None or isinstance(v, kind)) for k, v in table.items()
        ):
            raise Refusal(f"a {self.class_name} whose {key} are not a table of {kind.__name__}s")
        return {k: v for k, v in table.items() if v is not None}

    @property
    def kind(self) -> str:
        """The name of the network's class in the file."""
        return self.class_name

    def refusal(self, role: str) -> str:
        """Why the record cannot be the network of a role, in words; empty if it can."""
        if self.class_name == CLASS_OF_ROLE[role]:
            return ""
        without = ". To go on without it, set net['D'] = None" if role == "D" else ""
        return f"it is of class {self.class_name[:80]!r}; expected {CLASS_OF_ROLE[role]}{without}"

    @property
    def tensors(self) -> dict[str, TensorRecord]:
        """Parameters and buffers together."""
        return {**self.parameters, **self.buffers}


def _names(keys: Any) -> str:
    names = sorted(str(k)[:40] for k in keys)
    return ", ".join(names[:20] + ["..."] * (len(names) > 20)) or "(none)"


def _reconstruct(machine: Machine, args: tuple) -> ModuleRecord:
    if len(args) != 1 or not isinstance(args[0], dict):
        raise Refusal("a module record without contents")
    return ModuleRecord(args[0])


def _new_set(machine: Machine, args: tuple) -> set[Any]:
    items = args[0] if len(args) == 1 else ()
    if not isinstance(items, (list, tuple)) or not all(isinstance(i, str) for i in items):
        raise Refusal("a set of something else than texts")
    machine.charge(len(items))
    return set(items)


GLOBALS = {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _reconstruct,
    ("dnnlib.util", "EasyDict"): new_dict,
    ("builtins", "set"): _new_set,
    ("__builtin__", "set"): _new_set,
    **TENSOR_GLOBALS,
}
"""All names that a network file may mention. Every function here only makes records."""


def find_networks(root: Any) -> dict[str, ModuleRecord]:
    """The networks of an official pickle by role, or the one that torch.save wrote; empty for other files."""
    if isinstance(root, ModuleRecord):
        return {"G_ema": root}
    if not isinstance(root, dict) or not isinstance(root.get("G_ema"), ModuleRecord):
        return {}
    networks = {role: root[role] for role in ROLES if root.get(role) is not None}
    if "D" in networks and networks["D"].class_name == NO_DISCRIMINATOR[0]:
        del networks["D"]
    return networks


def parse_all(root: Any) -> None:
    """Parse every module record in the object that a stream gave, wherever it hangs.

    Raises:
        Refusal: a record is not as official code writes it, or something else stands where a network belongs.
    """
    if isinstance(root, dict) and isinstance(root.get("G_ema"), ModuleRecord):
        wrong = [role for role in ROLES if not isinstance(root.get(role), (ModuleRecord, type(None)))]
        if wrong:
            raise Refusal(f"{wrong[0]} is {show(root[wrong[0]])}; expected a network")
    seen: set[int] = set()
    todo = [root]
    while todo:
        item = todo.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, ModuleRecord):
            item.parse()
            todo.extend(item.children)
        elif isinstance(item, dict):
            todo.extend(item.values())
        elif isinstance(item, (list, tuple)):
            todo.extend(item)


# An attribute that is not needed: each block's use_fp16 says the same, and official code obeys the latter.
IGNORED = {"num_fp16_res"}


def fill(network: torch.nn.Module, record: ModuleRecord, file: object, place: str, budget: Budget) -> None:
    """Give a network that was built on the meta device the tensors and attributes of its record.

    Everything is compared first: classes, parts, names, attributes, shapes. Only then is memory taken.

    Raises:
        NetworkFileError: something does not fit; the message says where.
    """
    records: dict[str, TensorRecord] = {}
    _compare(network, record, file, place, "", records, set())
    assemble(network, by_name(network, records), file, place, budget)


def _compare(
    module: torch.nn.Module,
    record: ModuleRecord,
    file: object,
    place: str,
    prefix: str,
    records: dict[str, TensorRecord],
    seen: set[int],
) -> None:
    """Compare a module and its parts with their records, set its attributes, and collect the records of tensors.

    Args:
        module: the network, or a part of it.
        record: the record of the module.
        file: its name, for errors.
        place: where in the file the record is.
        prefix: the prefix of the names of the module's tensors in the state dict of the network.
        records: receives the records of tensors, by their names in that state dict.
        seen: the ids of records that were compared; a record in two places is refused.
    """
    if id(record) in seen:
        raise NetworkFileError(file, place, "the same module is used in two places")
    seen.add(id(record))
    if record.class_name != type(module).__name__:
        reason = f"it is of class {record.class_name!r}; expected {type(module).__name__!r}"
        raise NetworkFileError(file, place, reason)
    parts = {k: v for k, v in module._modules.items() if v is not None}
    tensors = {k: v for k, v in [*module._parameters.items(), *module._buffers.items()] if v is not None}
    for what, present, wanted in (("parts", record.modules, parts), ("tensors", record.tensors, tensors)):
        if set(present) != set(wanted):
            reason = f"it has the {what} {_names(present)}; its arguments ask for {_names(wanted)}"
            raise NetworkFileError(file, place, reason)
    for name, tensor in record.tensors.items():
        compare(tensor, tuple(tensors[name].shape), tensors[name], file, f"{place}.{name}")
        records[prefix + name] = tensor
    _set_attributes(module, record, file, place)
    for name, part in parts.items():
        _compare(part, record.modules[name], file, f"{place}.{name}", f"{prefix}{name}.", records, seen)


def _set_attributes(module: torch.nn.Module, record: ModuleRecord, file: object, place: str) -> None:
    """Take over the attributes that official code goes by, and refuse others that differ from the module's."""
    for name, value in record.attributes.items():
        if name in IGNORED or name not in module.__dict__:
            continue
        own = module.__dict__[name]
        if name in ATTRIBUTES:
            set_attribute(module, name, value, file, place)
        elif value != own or isinstance(value, bool) != isinstance(own, bool):
            reason = f"is {show(value)}; its arguments ask for {own!r}"
            raise NetworkFileError(file, f"{place}.{name}", reason)


# Writing


HOOKS = (
    "_backward_hooks",
    "_forward_hooks",
    "_forward_pre_hooks",
    "_state_dict_hooks",
    "_load_state_dict_pre_hooks",
)


def module_call(module: torch.nn.Module, source: str = MODULE_SRC) -> Call:
    """The call that is written for one of this package's networks. Its classes have the official names.

    Args:
        module: the network, or a part of it.
        source: the text that takes the place of source text.
    """

    def ordered(table: Mapping[str, Any], make: Callable[[Any], Call]) -> Call:
        items = {name: None if value is None else make(value) for name, value in table.items()}
        return Call("collections", "OrderedDict", items=items)

    empty = ordered({}, tensor_call)
    state: dict[str, Any] = {
        "training": False,
        "_parameters": ordered(module._parameters, partial(tensor_call, parameter=True)),
        "_buffers": ordered(module._buffers, tensor_call),
        "_non_persistent_buffers_set": set(),
        **{name: empty for name in HOOKS},
        "_modules": ordered(module._modules, partial(module_call, source=source)),
        **{k: v for k, v in module.__dict__.items() if not k.startswith("_") and k != "training"},
        "_init_args": _plain(module.init_args),
        "_init_kwargs": _plain(module.init_kwargs),
    }
    if type(module).__name__ == "SynthesisBlock":
        state["fused_modconv_default"] = "inference_only"  # an attribute that the class has in the stylegan3 repository
    return persistent_call(type(module).__name__, state, source)


def persistent_call(class_name: str, state: Mapping[str, Any], module_src: str) -> Call:
    """A call of ``torch_utils.persistence._reconstruct_persistent_obj`` with the record of a module."""
    meta = {
        "type": "class",
        "version": VERSION,
        "module_src": module_src,
        "class_name": class_name,
        "state": dict(state),
    }
    return Call("torch_utils.persistence", "_reconstruct_persistent_obj", (meta,))


def _plain(value: Any) -> Any:
    """Constructor arguments as plain values, in which every mapping has become a dict."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(v) for v in value)
    return value
