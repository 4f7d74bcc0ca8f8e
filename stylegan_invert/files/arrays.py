"""NumPy's files from outside, .npy and .npz, read within limits.

NumPy's own reader evaluates the header of an array as Python text, and takes the memory that the header asks for. Here
the header is taken apart by a pattern, its shape and type must account for every byte of the array's file, and memory is
taken only then. Arrays hold numbers or texts, never objects.
"""

import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase

import numpy as np

from ..errors import printable
from .archive import Archive, read_claimed
from .door import Kind, check_size, opened, shown

MAGIC = b"\x93NUMPY"
MAX_HEADER = 4096  # bytes; headers of plain arrays have about 120
MAX_DIMENSIONS = 32
MAX_TEXT = 2**20  # bytes of an array of texts
DIRECTORY = Kind("the list of arrays", 2**20, ValueError)  # the limit of the list of entries of an .npz

# The fields of a header, in any order: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
_FIELD = re.compile(
    r"""\s*(['"])(?:(?P<descr>descr)\1\s*:\s*(?P<q>['"])(?P<type>[<>|=]?[A-Za-z]\d{0,6})(?P=q)"""
    r"""|(?P<fortran_order>fortran_order)\1\s*:\s*(?P<flag>True|False)"""
    r"""|(?P<shape>shape)\1\s*:\s*\(\s*(?P<numbers>(?:\d{1,15}L?\s*,\s*)*(?:\d{1,15}L?)?)\s*\))\s*(?:,|(?=\}))"""
)
_TYPE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248]|U\d{1,6})")


class Npz:
    """An open .npz file; see `opened_npz`.

    Attributes:
        names: the names of its arrays.
        total: the bytes that all files in it claim to unpack to.
    """

    def __init__(self, file: BufferedIOBase, name: str, kind: Kind):
        self._name, self._kind = name, kind
        self._archive = Archive(file, name, kind, DIRECTORY, "it is no .npz file of arrays, or is damaged")
        self._entries = {entry.removesuffix(".npy"): entry for entry in self._archive.sizes}
        if len(self._entries) != len(self._archive.sizes):
            raise kind.error(f"{name}: it is no .npz file of arrays, or is damaged (a name occurs twice in it)")
        self._read, self.total = 0, sum(self._archive.sizes.values())
        self.names = list(self._entries)

    def __getitem__(self, key: str) -> np.ndarray:
        """An array of the file.

        Raises:
            error of the kind: it is damaged or holds objects, or all that was read is more than the limit.
        """
        entry = self._entries[key]
        self._read += self._archive.sizes[entry]
        check_size(self._read, self._kind, self._name)
        place = f"{self._name}: {printable(key, 80)}"
        with self._archive.entry(entry, self._kind, place) as file:
            return _read_array(file, self._archive.sizes[entry], self._kind, place)


@contextmanager
def opened_npz(path: str | os.PathLike, kind: Kind) -> Iterator[Npz]:
    """A context manager that opens an .npz file. Only arrays that are asked for are read, up to the limit of the kind.

    Raises:
        kind.error: as for `door.opened`; or it is no .npz file.
    """
    with opened(path, kind) as file:
        yield Npz(file, shown(path), kind)


def read_npz(path: str | os.PathLike, kind: Kind) -> dict[str, np.ndarray]:
    """All arrays of an .npz file by name.

    Raises:
        kind.error: the file is missing, damaged, too large or no .npz file, or holds objects.
    """
    with opened_npz(path, kind) as data:
        return {name: data[name] for name in data.names}


def read_npy(path: str | os.PathLike, kind: Kind) -> np.ndarray:
    """The array of an .npy file.

    Raises:
        kind.error: the file is missing, damaged, too large or no .npy file, or holds objects.
    """
    with opened(path, kind) as file:
        return _read_array(file, os.fstat(file.fileno()).st_size, kind, shown(path))


def _read_array(file: BufferedIOBase, size: int, kind: Kind, place: str) -> np.ndarray:
    """The array in an open .npy file of ``size`` bytes."""
    dtype, fortran, shape, start = _header(file, kind, place)
    count = math.prod(shape)
    if count * dtype.itemsize != size - start:
        raise kind.error(
            f"{place}: shape {shape} of {dtype.itemsize}-byte numbers takes {count * dtype.itemsize:,} bytes, and "
            f"{max(size - start, 0):,} are there; it is damaged"
        )
    if dtype.kind == "U" and size > MAX_TEXT:
        raise kind.error(f"{place}: it has {size:,} bytes of text; expected numbers")
    try:
        flat = np.empty(count, dtype)
    except MemoryError:
        raise kind.error(f"{place}: it has {size:,} bytes, more than memory can hold") from None
    read_claimed(file, flat.view(np.uint8).data if count and dtype.itemsize else bytearray(), kind, place)
    if dtype.kind == "b":
        flat = flat.view(np.uint8) != 0  # other bytes than 0 and 1 are no truth values
    if (
        dtype.kind == "U"
        and (flat.view(np.uint32 if dtype.isnative else np.dtype(np.uint32).newbyteorder()) >= 0x110000).any()
    ):
        raise kind.error(f"{place}: its text is damaged")
    array = flat.reshape(shape[::-1]).transpose() if fortran else flat.reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def _header(file: BufferedIOBase, kind: Kind, place: str) -> tuple[np.dtype, bool, tuple[int, ...], int]:
    """Type, order and shape of the array in an .npy file, and the length of the header in bytes."""
    head = file.read(12)
    if head[:6] != MAGIC or len(head) < 12:
        raise kind.error(f"{place}: it is no array of NumPy; expected the file of one, which begins with \\x93NUMPY")
    start = 10 if head[6] == 1 else 12
    length = int.from_bytes(head[8:start], "little")
    if head[6] not in (1, 2, 3) or length > MAX_HEADER:
        raise kind.error(f"{place}: its version is {head[6]}, its header has {length:,} bytes; it is damaged")
    raw = head[start:] + file.read(length - len(head[start:]))
    text = raw.decode("latin1").strip()
    fields: dict[str, str] = {}
    at = 1
    while match := _FIELD.match(text, at):
        for name, value in (("descr", "type"), ("fortran_order", "flag"), ("shape", "numbers")):
            if match[name]:
                fields[name] = match[value]
        at = match.end()
    whole = len(raw) == length and text.startswith("{") and text[at:].strip() == "}" and len(fields) == 3
    if not whole or not _TYPE.fullmatch(fields["descr"]):
        raise kind.error(f"{place}: its header is {printable(text, 120)}; expected that of an array of numbers")
    numbers = [int(n.strip().removesuffix("L")) for n in fields["shape"].split(",") if n.strip()]
    if len(numbers) > MAX_DIMENSIONS or math.prod(max(n, 1) for n in numbers) >= 2**60:
        raise kind.error(f"{place}: its shape is {printable(str(tuple(numbers)), 120)}; it is damaged")
    return np.dtype(fields["descr"]), fields["fortran_order"] == "True", tuple(numbers), start + length
