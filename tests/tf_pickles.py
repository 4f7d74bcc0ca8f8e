"""Writes TensorFlow network pickles as the official code does, for tests: no TensorFlow, and none of its source text."""

import io
import pickle
import struct
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

import numpy as np

SOURCE = "raise SystemError('this text must never be run')\n" * 100


def random_variables(shapes: Mapping[str, tuple], seed: int = 0) -> dict[str, np.ndarray | np.float32]:
    """N(0, 1) numbers of given names and shapes, float32; those of shape () are plain NumPy numbers, as sessions return."""
    random = np.random.RandomState(seed)
    return {name: np.asarray(random.randn(*shape), np.float32)[()] for name, shape in shapes.items()}


def network(build_func, static_kwargs, variables, version, components=None, /, **changes):
    """The state of one network, of ProGAN (2), StyleGAN (3), StyleGAN2 (4) or StyleGAN2-ADA (5).

    ``variables`` maps full names to arrays; those that begin with the name of a component (name to build function) go into
    that component. ``changes`` replace entries of the state.
    """
    own = {k: v for k, v in variables.items() if k.partition("/")[0] not in (components or {})}
    state = {
        "version": version,
        "name": build_func,
        "static_kwargs": dict(static_kwargs),
        "build_module_src": SOURCE,
        "build_func_name": build_func,
        "variables": list(own.items()),
    }
    if version >= 3:
        state["components"] = {
            name: network(
                func, static_kwargs, {k.removeprefix(f"{name}/"): v for k, v in variables.items() if k.startswith(f"{name}/")}, version
            )
            for name, func in (components or {}).items()
        }  # fmt: skip
    if version >= 5:
        state |= {
            "input_shapes": [[None, 4]],
            "output_shapes": [[None, 1]],
            "input_names": ["x"],
            "output_names": ["y"],
        }
    return {**state, **changes}


def theano_network(func, spec, params, lod=0.0):
    """The state of a network of ProGAN's Theano version."""
    return {
        "build_func_spec": {"func": func, **spec},
        "build_module_src": SOURCE,
        "param_values": list(params),
        "toplevel_params": {"cur_lod": np.asarray(lod, np.float32)},
    }


def dumps(networks, protocol: int = 4, module: str = "dnnlib.tflib.network", python2: bool = False) -> bytes:
    """The pickle of a tuple of states (G, D, Gs) as networks of a module's class "Network".

    ``python2`` writes texts and bytes as Python 2 does (protocol 2).
    """
    Network = type("Network", (), {"__module__": module, "__getstate__": lambda self: self.state})

    def wrap(state):
        if not isinstance(state, dict) or not ({"version", "build_func_spec"} & set(state)):
            return state
        net = Network()
        net.state = dict(state)
        if isinstance(state.get("components"), dict):
            net.state["components"] = {name: wrap(component) for name, component in state["components"].items()}
        return net

    names = module.split(".")
    fakes = {".".join(names[: i + 1]): types.ModuleType(".".join(names[: i + 1])) for i in range(len(names))}
    fakes[module].Network = Network
    with mock.patch.dict(sys.modules, fakes):
        obj = tuple(wrap(state) for state in networks) if isinstance(networks, tuple) else wrap(networks)
        return _python2(obj) if python2 else pickle.dumps(obj, protocol=protocol)


def dump(path, networks, protocol: int = 4, module: str = "dnnlib.tflib.network", python2: bool = False) -> Path:
    """`dumps` into a file; returns its path."""
    Path(path).write_bytes(dumps(networks, protocol, module, python2))
    return Path(path)


class _Python2Pickler(pickle._Pickler):
    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, obj):
        raw = obj.encode("latin1") if isinstance(obj, str) else obj
        self.write(b"U" + bytes([len(raw)]) if len(raw) < 256 else b"T" + struct.pack("<i", len(raw)))
        self.write(raw)
        self.memoize(obj)

    dispatch[str] = dispatch[bytes] = save_string


def _python2(obj) -> bytes:
    file = io.BytesIO()
    _Python2Pickler(file, protocol=2).dump(obj)
    return file.getvalue()
