"""Files that torch.save or pickle wrote, read as data: plain pickles, zips, and the streams from before torch 1.6.

`read_object` is for everything that carries tensors: network files, checkpoints of a training, weights of distances.
"""

import struct
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..errors import NetworkFileError
from .pickled import Global, Machine, Refusal
from .tensors import (
    GLOBALS,
    MAGIC_NUMBER,
    PROTOCOL_VERSION,
    STORAGE_GLOBALS,
    STORAGES,
    AwaitedStorage,
    Storage,
    storage_id,
)

MAX_ZIP_ENTRIES = 20_000


def read_object(
    data: memoryview,
    file: object,
    more: Mapping[tuple[str, str], Any] | None = None,
    expected: str = "a pickle (first byte 0x80) or a torch zip (PK)",
) -> Any:
    """The object in a file: tensors as `TensorRecord`, everything else as plain values. Nothing is executed.

    Args:
        data: the whole file.
        file: its name, for errors.
        more: names that its pickles may mention besides those of tensors, see `pickled.Machine`.
        expected: what the file should be, for the error that a file of another kind gets.

    Raises:
        NetworkFileError: the file is neither a pickle nor a torch zip, is damaged, or holds objects that such a file
            does not need.
    """
    names = {**GLOBALS, **(more or {})}
    if data[:2] == b"PK":
        return _read_torch_zip(data, file, names)
    if data[:1] != b"\x80":
        raise NetworkFileError(file, "", f"not a network file: {looks_like(bytes(data[:512]), expected)}")
    machine = Machine(data, file, names)
    root, end = machine.load()
    if root == MAGIC_NUMBER:
        root, end = _read_torch_stream(data, file, end, names)
    if isinstance(root, Global):
        raise NetworkFileError(file, "", f"it holds the name {str(root)!r} and nothing else")
    if end != len(data):
        raise NetworkFileError(
            file, f"byte {end}", f"{len(data) - end} bytes follow the end of the pickle; is this one file?"
        )
    return root


def looks_like(head: bytes, expected: str) -> str:
    if not head:
        return "it is empty"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; run 'git lfs pull' to get the file itself"
    if head.lstrip()[:1] == b"<":
        return "it is an HTML or XML page, perhaps the error page of a download"
    if head[8:9] == b"{":
        return f"it may be a safetensors file; expected {expected}"
    return f"it begins with {head[:8]!r}; expected {expected}"


def _read_torch_zip(data: memoryview, file: object, names: Mapping[tuple[str, str], Any]) -> Any:
    """The object in a file that ``torch.save`` wrote: <name>/data.pkl, and each storage as <name>/data/<key>."""
    entries = _zip_entries(data, file)
    pickles = [name for name in entries if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise NetworkFileError(file, "", "a zip without a data.pkl; expected a file written by torch.save")
    prefix = pickles[0].removesuffix("data.pkl")
    if bytes(entries.get(prefix + "byteorder", b"little")) != b"little":
        raise NetworkFileError(file, prefix + "byteorder", "it was not written on a little-endian machine")
    storages: dict[tuple[str, str], Storage] = {}

    def persistent(id_: Any) -> Storage:
        kind, key, numel = storage_id(id_)
        if (kind, key) not in storages:
            name = f"{prefix}data/{key}"
            nbytes = numel * np.dtype(STORAGES[kind][0]).itemsize
            if name not in entries or len(entries[name]) != nbytes:
                raise Refusal(f"the storage {name!r} of {nbytes} bytes is not in the zip")
            storages[kind, key] = Storage(kind, entries[name])
        return storages[kind, key]

    machine = Machine(
        entries[pickles[0]],
        file,
        {**STORAGE_GLOBALS, **names},
        persistent=persistent,
        where=f"{pickles[0]}: ",
    )
    return machine.load()[0]


def _read_torch_stream(
    data: memoryview, file: object, start: int, names: Mapping[tuple[str, str], Any]
) -> tuple[Any, int]:
    """The object that ``torch.save`` wrote before torch 1.6, and the position behind it.

    Such a stream has pickles of a magic number, a version, the system, the object and the keys of storages; then, for
    each key, the count of its numbers and the numbers.

    Args:
        data: the whole file.
        file: its name, for errors.
        start: the position behind the magic number.
        names: the names that its pickles may mention.
    """
    storages: dict[str, AwaitedStorage] = {}

    def persistent(id_: Any) -> AwaitedStorage | Global:
        if isinstance(id_, tuple) and len(id_) == 4 and id_[0] == "module" and isinstance(id_[1], Global):
            return id_[1]  # the class of a module; the source text that comes with it is not read
        kind, key, numel = storage_id(id_)
        storage = storages.setdefault(key, AwaitedStorage(kind, numel))
        if (storage.kind, storage.numel) != (kind, numel) or storage.nbytes > len(data):
            raise Refusal(f"a storage of {numel} numbers that the file cannot hold, or that it describes twice")
        return storage

    machine = Machine(data, file, {**STORAGE_GLOBALS, **names}, persistent=persistent)
    version, pos = machine.load(start)
    system, pos = machine.load(pos)
    if version != PROTOCOL_VERSION or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise NetworkFileError(
            file, f"byte {start}", "it does not begin as torch writes files on little-endian machines"
        )
    root, pos = machine.load(pos)
    keys, pos = machine.load(pos)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or set(keys) != set(storages):
        raise NetworkFileError(file, f"byte {pos}", "its storages are not those that its tensors need")
    for key in keys:
        storage, first = storages[key], pos + 8
        end = first + storage.nbytes
        if end > len(data) or struct.unpack_from("<q", data, pos) != (storage.numel,):
            raise NetworkFileError(
                file, f"byte {pos}", f"expected a storage of {storage.numel} numbers; is the file complete?"
            )
        storage.arrived(data[first:end])
        pos = end
    return root, pos


def is_torchscript(data: memoryview, file: object) -> bool:
    """True if a file is a program that torch.jit.save wrote: a zip with a folder of source code. It is not run.

    Raises:
        NetworkFileError: it is a damaged zip.
    """
    return data[:2] == b"PK" and any(entry.name.split("/")[1:2] == ["code"] for entry in _zip_directory(data, file)[0])


class _Entry(NamedTuple):
    """What the directory of a zip says of an entry; ``local`` is the position of the entry's own header."""

    name: str
    method: int
    crc: int
    packed: int
    unpacked: int
    local: int


def _refused_zip(file: object, reason: str) -> NetworkFileError:
    return NetworkFileError(
        file, "", f"a zip that {reason}; expected one as torch.save writes it (is the file complete?)"
    )


def _zip_directory(data: memoryview, file: object) -> tuple[list[_Entry], int]:
    """The directory at the end of a zip, without a look at the entries themselves; and where it begins."""
    try:
        end = len(data) - 22
        if end < 0 or data[end : end + 4] != b"PK\x05\x06":
            raise _refused_zip(file, "has no directory at its end")
        count, size, start = struct.unpack_from("<HLL", data, end + 10)
        if (
            end >= 20 and data[end - 20 : end - 16] == b"PK\x06\x07"
        ):  # the directory of zip64, which torch always writes
            (at,) = struct.unpack_from("<Q", data, end - 12)
            if at > end or data[at : at + 4] != b"PK\x06\x06":
                raise _refused_zip(file, "has a broken directory")
            count, size, start = struct.unpack_from("<QQQ", data, at + 32)
        if count > MAX_ZIP_ENTRIES or start + size > end:
            raise _refused_zip(file, f"claims a directory of {count} entries and {size} bytes")
        entries, pos = [], start
        for _ in range(count):
            if data[pos : pos + 4] != b"PK\x01\x02":
                raise _refused_zip(file, "has a broken directory")
            method, crc, packed, unpacked, n_name, n_extra, n_comment, local = struct.unpack_from(
                "<10xH4xLLLHHH8xL", data, pos
            )
            name = bytes(data[pos + 46 : pos + 46 + n_name]).decode()
            entries.append(_Entry(name, method, crc, packed, unpacked, local))
            pos += 46 + n_name + n_extra + n_comment
    except (struct.error, UnicodeDecodeError):
        raise _refused_zip(file, "has a broken directory") from None
    return entries, start


def _zip_entries(data: memoryview, file: object) -> dict[str, memoryview]:
    """The entries of a zip as views of it, by name.

    Refuses what torch does not write: compression, comments, 4 GiB or more.
    """
    directory, end = _zip_directory(data, file)
    entries: dict[str, memoryview] = {}
    total = 0
    for name, method, crc, packed, unpacked, local in directory:
        if method != 0 or packed != unpacked or packed == 0xFFFFFFFF:
            raise _refused_zip(file, f"holds {name!r} compressed or above 4 GiB")
        try:
            n_name, n_extra = struct.unpack_from("<HH", data, local + 26)
        except struct.error:
            raise _refused_zip(file, f"has a broken entry {name!r}") from None
        first = local + 30 + n_name + n_extra
        content = data[first : first + packed]
        broken = data[local : local + 4] != b"PK\x03\x04" or len(content) != packed or name in entries
        if broken or first + packed > end:
            raise _refused_zip(file, f"has a broken entry {name!r}")
        # If entries could overlap, a small file could make this compute very many checksums of the same bytes.
        total += packed
        if total > len(data):
            raise _refused_zip(file, "has entries that overlap")
        if zlib.crc32(content) != crc:
            raise _refused_zip(file, f"is damaged: the checksum of {name!r} does not match")
        entries[name] = content
    return entries
