"""Checkpoints of pSp and of projects that build on it (e4e, ReStyle, SAM, HyperStyle).

Their decoder is rosinality's StyleGAN2. Such a file holds {"state_dict": ..., "opts": ..., "latent_avg": ...}, and the
names of the decoder's tensors begin with "decoder.". "latent_avg" is one w, (w_dim,), or a row for each layer, (num_ws,
w_dim). The encoder and the options are not used.
"""

from typing import Any

from ...files.pickled import Machine, Refusal
from ...files.tensors import TensorRecord, unwrapped
from . import rosinality

PREFIX = "decoder."


def find(root: Any) -> dict[str, tuple[str, dict[str, TensorRecord]]]:
    """The decoder in a file as "G_ema": its place, and its tensors with "latent_avg" if the file has it; else empty."""
    table = root.get("state_dict") if isinstance(root, dict) else None
    if not isinstance(table, dict):
        return {}
    named = unwrapped({str(k): v for k, v in table.items() if isinstance(v, TensorRecord)})
    tensors = {k.removeprefix(PREFIX): v for k, v in named.items() if k.startswith(PREFIX)}
    if not tensors.keys() >= rosinality.GENERATOR_MARKS:
        return {}
    mean = root.get(rosinality.LATENT_AVG)
    if isinstance(mean, TensorRecord):
        tensors[rosinality.LATENT_AVG] = mean
    return {"G_ema": (f"state_dict.{PREFIX[:-1]}", tensors)}


# Options


class Options:
    """An argparse.Namespace in a file. Its values are not used; they are kept only so that their nesting is checked."""

    def __init__(self) -> None:
        self.children: tuple = ()

    def set_state(self, state: Any) -> None:
        if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
            raise Refusal("options that are not a table of names")
        self.children = (state,)


def _namespace(machine: Machine, args: tuple) -> Options:
    if args:
        raise Refusal("options that are made from arguments")
    machine.charge(3)
    return Options()


def _path(machine: Machine, args: tuple) -> str:
    """A path as a text. It is never opened."""
    if not all(isinstance(part, str) for part in args):
        raise Refusal("a path of something else than texts")
    machine.charge(len(args))
    return "/".join(args)


def _device(machine: Machine, args: tuple) -> str:
    if not 1 <= len(args) <= 2 or not isinstance(args[0], str) or not all(type(i) is int for i in args[1:]):
        raise Refusal("a device in an unknown form")
    return ":".join(map(str, args))


GLOBALS = {
    ("argparse", "Namespace"): _namespace,
    ("pathlib", "PosixPath"): _path,
    ("pathlib", "WindowsPath"): _path,
    ("pathlib._local", "PosixPath"): _path,  # Python 3.13
    ("pathlib._local", "WindowsPath"): _path,
    ("torch", "device"): _device,
}
"""The names that the options in such files ("opts", and "args" in rosinality's) may mention besides tensors."""
