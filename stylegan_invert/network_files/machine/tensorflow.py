"""TensorFlow networks: the records of official ProGAN, StyleGAN, StyleGAN2 and StyleGAN2-ADA pickles, read as data.

Such a file is a tuple (G, D, Gs) of networks; the weights of Gs are the moving average of G's. A network is pickled as
the name of its class and a state: version, name of the build function, arguments, variables, and the source text of the
module in which the build function stands. Official code runs that source; this package does not read it. The readers in
``families/`` know what the build functions compute.
"""

import warnings
from collections.abc import Mapping
from typing import Any

from ...errors import NetworkFileError, printable
from ...files.pickled import Global, Machine, Refusal, show
from ...files.tensors import NumpyArray, TensorRecord, number_record
from ..assemble import Make, Source, unchanged
from ..checks import Check

MAX_VARIABLES = 10_000  # the most variables of a network and its components; official ones have up to 300
MAX_VALUES = 10_000  # the most values in the arguments of a network
MAX_DEPTH = 8  # the largest depth of components in components, and of tables in the arguments
MAX_NAME = 256


class TFNetwork:
    """One network of the file.

    Attributes:
        version: the version of the record: 2 for ProGAN, 3 for StyleGAN, 4 for StyleGAN2, 5 for StyleGAN2-ADA; None for
            networks of ProGAN's first code, which was written in Theano.
        name: the name of the network.
        build_func: the name of the function that computes it, without the name of its module, as "G_style".
        static_kwargs: the arguments of that function: None, bool, int, float, str, and lists and dicts of these.
        variables: full name, as "mapping/Dense0/weight", to the record of the tensor; a number is a tensor of shape ().
            The variables of a component have its name in front. A Theano network has only numbers here, as "cur_lod".
        components: name to `TFNetwork`.
        theano_params: the parameters of a Theano network in the order of its layers; empty for other networks.
    """

    def __init__(self) -> None:
        self.children: tuple = ()  # for the check of nesting
        self._parsed = False

    @property
    def kind(self) -> str:
        """The name of the network's build function in the file."""
        return self.build_func

    def refusal(self, role: str) -> str:
        """Why the record cannot be the network of a role, in words; empty if it can."""
        letter, what = ("D", "discriminator") if role == "D" else ("G", "generator")  # G_style, D_paper, ...
        if self.build_func[:1] == letter:
            return ""
        return f"it is made by {self.build_func[:80]!r}; expected a {what}'s function"

    def set_state(self, state: Any) -> None:
        if self.children or not isinstance(state, dict):
            raise Refusal("a TensorFlow network whose state is not a table, or is set twice")
        self.children = (state,)

    def parse(self) -> None:
        """Check and sort the record; called once the whole stream has been read.

        Raises:
            Refusal: something is of the wrong type, named twice, or too much.
        """
        self._parse(set(), 0)

    def _parse(self, seen: set[int], depth: int) -> None:
        if id(self) in seen or depth > MAX_DEPTH:
            raise Refusal("a network that is part of itself or of two networks, or lies too deep")
        seen.add(id(self))
        if self._parsed:
            return
        if not self.children:
            raise Refusal("a TensorFlow network without contents")
        (state,) = self.children
        self.components: dict[str, TFNetwork] = {}
        self.theano_params: list[TensorRecord] = []
        if "version" in state:
            self._parse_state(state, seen, depth)
        else:
            self._parse_theano(state)
        self._parsed = True

    def _parse_state(self, state: Mapping[str, Any], seen: set[int], depth: int) -> None:
        self.version: int | None = state["version"]
        if type(self.version) is not int:
            raise Refusal(f"a TensorFlow network of version {show(self.version)}; expected a number")
        self.name: str = _text(state.get("name", ""), "name")
        self.build_func: str = _text(state.get("build_func_name"), "build_func_name").rpartition(".")[2]
        self.static_kwargs: dict[str, Any] = _arguments(state.get("static_kwargs"))
        pairs = state.get("variables")
        if not isinstance(pairs, (list, tuple)) or len(pairs) > MAX_VARIABLES:
            raise Refusal(f"a TensorFlow network whose variables are not a list of at most {MAX_VARIABLES}")
        self.variables: dict[str, TensorRecord] = {}
        for pair in pairs:
            if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                raise Refusal("a variable that is not a pair of name and value")
            self._add(_text(pair[0], "name of a variable"), _record(pair[1], pair[0]))
        components = state.get("components", {})
        if not isinstance(components, dict) or not all(isinstance(c, TFNetwork) for c in components.values()):
            raise Refusal("a TensorFlow network whose components are not a table of networks")
        for name, component in components.items():
            component._parse(seen, depth + 1)
            self.components[_text(name, "name of a component")] = component
            for inner, record in component.variables.items():
                self._add(f"{name}/{inner}", record)

    def _parse_theano(self, state: Mapping[str, Any]) -> None:
        self.version = None
        spec = _arguments(state.get("build_func_spec"))
        self.name = self.build_func = _text(spec.pop("func", None), "func")
        self.static_kwargs = spec
        values, extra = state.get("param_values"), state.get("toplevel_params", {})
        if not isinstance(values, (list, tuple)) or len(values) > MAX_VARIABLES or not isinstance(extra, dict):
            raise Refusal("a Theano network whose parameters are not a list")
        self.theano_params = [_record(value, f"parameter {i}") for i, value in enumerate(values)]
        self.variables = {}
        for name, value in extra.items():
            self._add(_text(name, "name of a variable"), _record(value, name))

    def _add(self, name: str, record: TensorRecord) -> None:
        if name in self.variables:
            raise Refusal(f"two variables of the name {show(name)}")
        if len(self.variables) >= MAX_VARIABLES:
            raise Refusal(f"a TensorFlow network of more than {MAX_VARIABLES} variables")
        self.variables[name] = record


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_NAME:
        raise Refusal(f"a TensorFlow network whose {what} is {show(value)}; expected a short text")
    return value


def _record(value: Any, name: Any) -> TensorRecord:
    record = value.record if isinstance(value, NumpyArray) else None
    if record is None and isinstance(value, (bool, int, float)):
        record = number_record(value)
    if record is None:
        raise Refusal(f"the variable {show(name)} is {show(value)}; expected an array of numbers")
    return record


def _arguments(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refusal("a TensorFlow network whose arguments are not a table")
    return _plain(value, [MAX_VALUES], 0)


def _plain(value: Any, left: list[int], depth: int) -> Any:
    left[0] -= 1
    if left[0] < 0 or depth > MAX_DEPTH:
        raise Refusal(f"arguments of more than {MAX_VALUES} values, or nested too deeply")
    if isinstance(value, dict):
        return {_text(k, "name of an argument"): _plain(v, left, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v, left, depth + 1) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise Refusal(f"an argument is {show(value)}; expected numbers, texts, lists and tables")


# Names that a stream may use


def new_network(machine: Machine, args: tuple) -> TFNetwork:
    if args:
        raise Refusal("a TensorFlow network that is made from arguments")
    machine.charge(3)
    return TFNetwork()


def _reconstruct(machine: Machine, args: tuple) -> TFNetwork:
    """copy_reg._reconstructor(class, object, None), which is how old protocols write a new object."""
    name = args[0] if args else None
    if len(args) != 3 or not isinstance(name, Global) or name.construct is not new_network or args[2] is not None:
        raise Refusal("an object that is not a TensorFlow network")
    if not isinstance(args[1], Global) or args[1].name != "object":
        raise Refusal("a TensorFlow network that inherits from something")
    return new_network(machine, ())


GLOBALS = {
    ("dnnlib.tflib.network", "Network"): new_network,
    ("tfutil", "Network"): new_network,
    ("network", "Network"): new_network,
    ("copy_reg", "_reconstructor"): _reconstruct,
    ("copyreg", "_reconstructor"): _reconstruct,
    ("__builtin__", "object"): None,
    ("builtins", "object"): None,
}
"""The names that a TensorFlow file may mention besides those that all network files may."""


def find_networks(root: Any) -> dict[str, TFNetwork] | None:
    """The networks of a file by role, where Gs is "G_ema"; None if it is not a TensorFlow file."""
    if isinstance(root, TFNetwork):
        return {"G_ema": root}
    if isinstance(root, (tuple, list)) and len(root) == 3 and all(isinstance(net, TFNetwork) for net in root):
        return dict(zip(("G", "D", "G_ema"), root))
    return None


def parse_all(root: Any, file: object) -> None:
    """Parse the networks of a file.

    Raises:
        NetworkFileError: one of them is not as official code writes it.
    """
    for key, network in (find_networks(root) or {}).items():
        try:
            network.parse()
        except Refusal as e:
            raise NetworkFileError(file, key, str(e)) from None


# Helpers for the readers of the families


class Arguments:
    """The static arguments of a network, which a reader takes one by one and checks.

    Args:
        values: `TFNetwork.static_kwargs`, or those of several networks in one table.
        file: its name, for errors.
        place: where in the file the network is.
    """

    def __init__(self, values: Mapping[str, Any], file: object, place: str):
        self.values, self.file, self.place = dict(values), file, place

    def take(self, name: str, default: Any, check: Check) -> Any:
        """The value of an argument, or the default where the file does not give it.

        Raises:
            NetworkFileError: the check refuses the value.
        """
        value = self.values.pop(name, default)
        if type(value) is float and value.is_integer() and abs(value) < 2**53 and not check[1](value):
            value = int(value)  # such as 16384.0
        if not check[1](value):
            raise NetworkFileError(self.file, self.place, f"the argument {name} is {show(value)}; expected {check[0]}")
        return value

    def refuse_unless(self, name: str, usual: Any, meaning: str) -> None:
        """Refuse an argument that has another value than the usual one, because this package's networks cannot do that.

        Args:
            name: the name of the argument.
            usual: its value in networks that can be read.
            meaning: the effect of other values, in words.
        """
        value = self.values.pop(name, usual)
        if value != usual:
            raise NetworkFileError(
                self.file, self.place, f"the argument {name} is {show(value)} ({meaning}); only {usual!r} can be read"
            )

    def ignore(self, *names: str) -> None:
        """Drop arguments that do not change the output of the network as it is computed here."""
        for name in names:
            self.values.pop(name, None)

    def finish(self) -> None:
        """Warn of arguments that were not taken. Official build functions ignore those that they do not know."""
        if self.values:
            names = ", ".join(sorted(map(repr, self.values))[:10])[:300]
            where = f"{self.file}: {self.place}"
            warnings.warn(printable(f"{where}: unknown arguments are ignored: {names}"), stacklevel=2)


class Variables:
    """The variables of a network, which a reader takes one by one.

    Args:
        records: `TFNetwork.variables`.
        file: its name, for errors.
        place: where in the file the network is.
    """

    def __init__(self, records: Mapping[str, TensorRecord], file: object, place: str):
        self.records, self.file, self.place = records, file, place
        self.used: set[str] = set()

    def take(self, name: str) -> TensorRecord:
        """The record of a name.

        Raises:
            NetworkFileError: the file has no such variable.
        """
        if name not in self.records:
            raise NetworkFileError(
                self.file, self.place, f"the variable {name!r} is missing, which its arguments ask for"
            )
        self.used.add(name)
        return self.records[name]

    def source(self, name: str, make: Make = unchanged) -> Source:
        """The variable of a name as a source of a tensor, for which its layout is changed by ``make``.

        Raises:
            NetworkFileError: the file has no such variable.
        """
        return Source({name: (self.take(name), None)}, make)

    def number(self, name: str, default: float) -> float:
        """The value of a variable that is one number, such as "lod"; the default if the file does not have it."""
        if name not in self.records:
            return default
        record = self.take(name)
        if record.numel != 1:
            raise NetworkFileError(self.file, f"{self.place}.{name}", f"its shape is {record.shape}; expected a number")
        return record.to_float32().item()

    def ignore(self, *names: str) -> None:
        """Drop variables that do not change the output of the network."""
        self.used.update(names)

    def finish(self) -> None:
        """Refuse variables that were not taken, because they would change what the network computes.

        Raises:
            NetworkFileError: there are some.
        """
        rest = sorted(set(self.records) - self.used)
        if rest:
            names = ", ".join(map(repr, rest[:5])) + (f" and {len(rest) - 5} more" if len(rest) > 5 else "")
            raise NetworkFileError(self.file, self.place, f"its arguments do not ask for the variables {names}")
