"""Files of torch.save that hold tensors and plain values: read by the safe machine, and checked by forms.

`read_saved` gives the contents with a `TensorRecord` in place of each tensor. The form `tensor` makes a tensor of such a
record, after its shape was compared with what is needed. Memory is taken only then, so a file cannot ask for more than
the reader wants.
"""

import os
from typing import Any

import torch

from ..errors import NetworkFileError, printable
from .door import Kind, read_bytes
from .plain import Form, Misfit, misfit
from .tensors import TensorRecord
from .torch_file import looks_like, read_object


def read_saved(path: str | os.PathLike, kind: Kind, name: str | None = None) -> Any:
    """The contents of a file of torch.save: plain values, and tensors as `TensorRecord`. Nothing in it is executed.

    Args:
        path: the file.
        kind: what it should be; it has the limit of the size and the class of errors.
        name: the file's name in errors; None takes the path.

    Raises:
        kind.error: the file cannot be read (see `door.read_bytes`), is another kind of file, or is damaged.
    """
    return contents(read_saved_bytes(path, kind, name), kind, os.fspath(path) if name is None else name)


def read_saved_bytes(path: str | os.PathLike, kind: Kind, name: str | None = None) -> bytearray:
    """The bytes of a file of torch.save. A file that does not begin as one is refused before the rest is read.

    The arguments and errors are those of `read_saved`.
    """
    shown = printable(os.fspath(path) if name is None else name, 300)

    def check(head: bytes) -> None:
        if head[:2] != b"PK" and head[:1] != b"\x80":
            reason = looks_like(head, kind.words)
            raise kind.error(f"{shown}: {reason}" + ("" if kind.words in reason else f"; expected {kind.words}"))

    return read_bytes(path, kind, name, check)


def contents(data: bytes | bytearray, kind: Kind, name: str) -> Any:
    """What the bytes of a file of torch.save hold; see `read_saved`."""
    shown = printable(name, 300)
    try:
        return read_object(memoryview(data), shown)
    except NetworkFileError as e:
        where = f"{e.place}: " if e.place else ""
        raise kind.error(f"{shown}: {where}{e.reason}; expected {kind.words}") from None


def tensor(like: torch.Tensor, low: float | None = None, cast: bool = False) -> Form:
    """A form: a tensor of the shape and dtype of ``like``, and all its numbers finite. The result is a copy on the CPU.

    Args:
        like: a tensor on any device, also on "meta".
        low: the smallest number that is accepted; None accepts all.
        cast: True accepts every dtype of floating-point numbers, and converts them.
    """

    def check(value: Any, place: str) -> torch.Tensor:
        if not isinstance(value, (TensorRecord, torch.Tensor)):
            raise misfit(value, place, "a tensor")
        name = printable(place, 200)
        if tuple(value.shape) != tuple(like.shape):
            raise Misfit(f"{name} has the shape {tuple(value.shape)}; expected {tuple(like.shape)}")
        if value.dtype != like.dtype and not (cast and value.dtype.is_floating_point):
            raise Misfit(f"{name} has numbers of {value.dtype}; expected {like.dtype}")
        made = value.to_tensor() if isinstance(value, TensorRecord) else value.detach().cpu().clone()
        made = made.to(like.dtype)
        if made.dtype.is_floating_point and not torch.isfinite(made).all():
            raise Misfit(f"{name} has numbers that are nan or infinite")
        if low is not None and made.numel() and made.min() < low:
            raise Misfit(f"{name} has numbers below {low:g}")
        return made

    return check
