"""Files with the weights of networks that compare pictures: state dicts, read as data, and TorchScript programs."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

from ..errors import NetworkFileError, printable
from ..files import plain
from ..files.door import Kind, read_bytes
from ..files.safetensors_file import is_safetensors, read_header
from ..files.saved import contents, tensor
from ..files.torch_file import is_torchscript, looks_like
from ..files.writing import sha256

Network = TypeVar("Network", bound=torch.nn.Module)
_COUNTER = "num_batches_tracked"  # entries that matter only in training


def with_weights(make: Callable[[], Network], weights: Any) -> Network:
    """A network with the weights of a state dict. What it does not need, such as a classifier, is left out.

    Args:
        make: makes the network. It is called where tensors take no memory.
        weights: tensors, or records of tensors, by name; of any type of floating-point numbers.

    Raises:
        Misfit: the weights are no state dict, or one of another network.
    """
    with torch.device("meta"):  # no memory and no random numbers for weights that are replaced at once
        network = make()
    own = network.state_dict()
    counters = {name: torch.zeros_like(value, device="cpu") for name, value in own.items() if name.endswith(_COUNTER)}
    needed = {name: tensor(value, cast=True) for name, value in own.items() if name not in counters}
    stored = plain.table(needed, more=plain.unchecked)(weights, "")
    network.load_state_dict({name: stored[name] for name in needed} | counters, assign=True)
    return network


def read_weights(file: str | os.PathLike, kind: Kind, run_torchscript: bool | None, official: str, remedy: str) -> Any:
    """The contents of a weight file: tables of tensors, as records. Nothing in it is executed.

    Args:
        file: a file of torch.save or of safetensors, or a TorchScript program.
        kind: what it should be.
        run_torchscript: True accepts any TorchScript program. None says that there is no option for it.
        official: the SHA-256 of a program that is accepted without that; empty if there is none.
        remedy: what else could be named, for the error.

    Returns:
        The contents; None for a TorchScript program that was accepted, which is for `Program`.

    Raises:
        kind.error: there is no such file, it is of another kind, it is damaged, or it is a program that may not be run.
    """
    name = os.fspath(file)
    shown = printable(name, 300)

    def check(head: bytes) -> None:
        if head[:2] != b"PK" and head[:1] != b"\x80" and not is_safetensors(head):
            reason = looks_like(head, kind.words)
            raise kind.error(f"{shown}: {reason}" + ("" if kind.words in reason else f"; expected {kind.words}"))

    data = read_bytes(file, kind, None, check)
    try:
        if is_safetensors(data):
            return read_header(memoryview(data), shown)[0]
        scripted = is_torchscript(memoryview(data), name)
    except NetworkFileError as e:
        raise kind.error(f"{shown}: {e.reason}; expected {kind.words}") from None
    if not scripted:
        return contents(data, kind, name)
    if run_torchscript or sha256(data) == official:
        return None
    other = f", and its SHA-256 is not that of {remedy}" if official else f"; name {remedy}"
    if run_torchscript is not None:
        other += ", or, if you trust the file, allow it with --run-torchscript (in Python run_torchscript=True)"
    raise kind.error(f"{shown}: it is a TorchScript program, which can write files when it is run{other}")


class Program(torch.nn.Module):
    """A TorchScript file that makes one vector of each picture. Calling it runs the program of the file.

    Args:
        file: the TorchScript file.
        side: the side of a picture with which it is tried, so that another kind of program is refused before the work.
        expected: what the file should be, for errors.
        arguments: further arguments of the program.

    Raises:
        ValueError: torch cannot open the file, or the program does not work as expected.
    """

    def __init__(self, file: str | os.PathLike, side: int, expected: str, **arguments: Any):
        super().__init__()
        self.file, self.expected, self.arguments = os.fspath(file), expected, arguments
        with self._explained("torch cannot open this TorchScript file"):
            self.network = torch.jit.load(self.file, map_location="cpu").eval()
        with torch.enable_grad():
            picture = torch.zeros([1, 3, side, side], requires_grad=True)
            vectors = self(picture)
            with self._explained("its program has no gradient"):
                torch.autograd.grad(vectors.sum(), picture)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with self._explained("its program failed"):
            vectors = self.network(x, **self.arguments)
        if not isinstance(vectors, torch.Tensor) or vectors.ndim != 2 or len(vectors) != len(x):
            raise ValueError(
                f"{self.file}: its program returns something else than a vector per picture; expected {self.expected}"
            )
        return vectors

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """A context manager that turns what torch and the program raise into one sentence."""
        try:
            yield
        except Exception as e:  # a program can raise anything
            line = next(iter(str(e).strip().splitlines()[-1:]), "") or type(e).__name__
            reason = printable(line, 150)
            raise ValueError(f"{self.file}: {what} ({reason}); expected {self.expected}") from None
