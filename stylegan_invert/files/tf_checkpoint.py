"""Checkpoints of TensorFlow (version 2 of the format, which TensorFlow 1 writes, too), read as data without TensorFlow.

A checkpoint "model.ckpt-1000" is a table of variables, model.ckpt-1000.index, and the bytes of all variables one after
another in model.ckpt-1000.data-00000-of-00001, or in several such files. The table is a sorted table of LevelDB: blocks of
keys and values, each with a checksum; a footer says where the block is that lists the blocks. The value of a variable is a
message of protocol buffers that says type, shape, place and checksum. Every place is compared with the size of the file, and
every checksum is computed.

Sources: tensorflow/core/lib/io/format.h and table_format.txt, and tensorflow/core/protobuf/tensor_bundle.proto.
"""

import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import NetworkFileError, printable
from .crc import masked_crc32c
from .tensors import MAX_DIMENSIONS, STORAGES, Storage, TensorRecord

SUFFIX = ".index"
MAGIC = 0xDB4775248B80FB57
FOOTER, TRAILER = 48, 5  # bytes: two places and the magic number; a kind of compression and a checksum
MAX_KEY = 1024
MAX_SHARDS = 100
TYPES = {
    1: "FloatStorage",
    2: "DoubleStorage",
    3: "IntStorage",
    4: "ByteStorage",
    5: "ShortStorage",
    6: "CharStorage",
    9: "LongStorage",
    10: "BoolStorage",
    14: "BFloat16Storage",
    19: "HalfStorage",
}
"""TensorFlow's numbers of types (DT_FLOAT and so on) that are read; variables of other types are left out."""


def index_path(source: str | os.PathLike) -> Path | None:
    """The .index file of the checkpoint that a path names: by this file, by a file of data, or by what their names begin with.

    None for a path of another kind.
    """
    path = Path(os.path.expanduser(os.fspath(source)))
    if path.suffix == SUFFIX:
        return path
    start = re.sub(r"\.data-\d{5}-of-\d{5}$", "", path.name)
    index = path.with_name(start + SUFFIX) if start else path
    return index if index.is_file() and (start != path.name or not path.exists()) else None


def data_path(index: Path, number: int, count: int) -> Path:
    """A file of data of a checkpoint, of so many, numbered from 0."""
    return index.with_name(f"{index.name.removesuffix(SUFFIX)}.data-{number:05d}-of-{count:05d}")


class _Damaged(Exception):
    """What is wrong with a file, in words."""


class _Entry(NamedTuple):
    """Where a variable is."""

    kind: str
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int


def read_variables(
    index: bytes | bytearray, file: str, shard: Callable[[int, int], memoryview]
) -> dict[str, TensorRecord]:
    """The variables of a checkpoint by name.

    Args:
        index: the bytes of its .index file.
        file: the name of that file, for errors.
        shard: called with the number of a file of data, from 0, and how many there are; returns its bytes.

    Raises:
        NetworkFileError: the files are no checkpoint, or damaged, or hold variables that are divided into slices.
    """
    try:
        table = _table(memoryview(index))
        header = dict((number, value) for number, _, value in _message(table.pop("", b"")))
        count = header.get(1, 0)
        if type(count) is not int or not 1 <= count <= MAX_SHARDS or header.get(2, 0) != 0:
            raise _Damaged(
                f"its header names {printable(str(count), 20)} files of data, or other bytes than lowest first"
            )
        entries = {name: entry for name, value in table.items() if (entry := _entry(value, name)) is not None}
    except _Damaged as e:
        raise NetworkFileError(file, "", f"it is no index of a TensorFlow checkpoint, or is damaged: {e}") from None
    shards = {i: shard(i, count) for i in {entry.shard for entry in entries.values()} if i < count}
    if sum(entry.size for entry in entries.values()) > sum(map(len, shards.values())):
        raise NetworkFileError(file, "", "its variables take more bytes than the files of data have; one is cut off")
    records = {}
    for name, entry in entries.items():
        data = shards.get(entry.shard, memoryview(b""))[entry.offset : entry.offset + entry.size]
        if len(data) != entry.size:
            raise NetworkFileError(
                file, name, f"it ends behind the end of file {entry.shard} of the data, which is cut off"
            )
        if masked_crc32c(data) != entry.crc:
            raise NetworkFileError(
                file, name, "its bytes have another checksum than the one stored; the data is damaged"
            )
        strides = [math.prod(entry.shape[i + 1 :]) for i in range(len(entry.shape))]
        records[name] = TensorRecord(Storage(entry.kind, data), 0, entry.shape, tuple(strides))
    return records


def _table(view: memoryview) -> dict[str, memoryview]:
    """The values of a sorted table by key."""
    if len(view) < FOOTER or int.from_bytes(view[-8:], "little") != MAGIC:
        raise _Damaged("it does not end as such a table does")
    places, at = [], len(view) - FOOTER
    for _ in range(4):
        number, at = _varint(view, at)
        places.append(number)
    table: dict[str, memoryview] = {}
    for _, place in _block(view, places[2], places[3]):
        offset, at = _varint(place, 0)
        for key, value in _block(view, offset, _varint(place, at)[0]):
            name = key.decode("utf-8", "replace")
            if name in table:
                raise _Damaged(f"the key {printable(name, 80)} occurs twice")
            table[name] = value
    return table


def _block(view: memoryview, offset: int, size: int) -> Iterator[tuple[bytes, memoryview]]:
    """The keys and values of a block. A key is stored without what it shares with the one before."""
    end = offset + size
    if size < 4 or end + TRAILER > len(view):
        raise _Damaged("a block lies outside of the file")
    if view[end] != 0:
        raise _Damaged("a block is compressed, which those of checkpoints are not")
    if masked_crc32c(view[offset : end + 1]) != int.from_bytes(view[end + 1 : end + TRAILER], "little"):
        raise _Damaged("a block has another checksum than the one stored")
    block = view[offset:end]
    last = size - 4 - 4 * int.from_bytes(block[-4:], "little")  # the places at which a reader may begin follow
    if last < 0:
        raise _Damaged("a block has more starting places than bytes")
    key, at = b"", 0
    while at < last:
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        length, at = _varint(block, at)
        if shared > len(key) or shared + own > MAX_KEY or at + own + length > last:
            raise _Damaged("a key or value is longer than its block, or a key than 1024 bytes")
        key = key[:shared] + bytes(block[at : at + own])
        yield key, block[at + own : at + own + length]
        at += own + length


def _entry(value: memoryview, name: str) -> _Entry | None:
    """Where a variable is (BundleEntryProto); None if it holds no numbers."""
    fields: dict[int, Any] = {}
    for number, _, part in _message(value):
        if number == 7:
            raise _Damaged(f"the variable {printable(name, 80)} is divided into slices")
        fields[number] = part
    sizes = fields.get(2, b"")
    if type(fields.get(1)) is not int or fields[1] not in TYPES or not isinstance(sizes, (bytes, memoryview)):
        return None
    kind, shape = TYPES[fields[1]], []
    for number, wire, part in _message(sizes):
        if number == 2 and wire == 2:
            shape.append(next((size for n, w, size in _message(part) if (n, w) == (1, 0)), 0))
    shard, offset, size, crc = (fields.get(i, 0) for i in (3, 4, 5, 6))
    width = 2 if kind == "BFloat16Storage" else STORAGES[kind][1].itemsize
    whole = all(type(v) is int for v in (shard, offset, size, crc))
    if not whole or len(shape) > MAX_DIMENSIONS or math.prod(shape) * width != size:
        raise _Damaged(f"the variable {printable(name, 80)} has another number of bytes than its shape asks for")
    return _Entry(kind, tuple(shape), shard, offset, size, crc)


def _message(view: bytes | memoryview) -> Iterator[tuple[int, int, Any]]:
    """The fields of a message of protocol buffers: number, wire type, and a number or bytes."""
    view, at = memoryview(view), 0
    value: Any
    while at < len(view):
        tag, at = _varint(view, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(view, at)
        elif wire in (1, 2, 5):
            length = {1: 8, 5: 4}.get(wire)
            if length is None:
                length, at = _varint(view, at)
            if at + length > len(view):
                raise _Damaged("a message ends within a field")
            part = view[at : at + length]
            value, at = part if wire == 2 else int.from_bytes(part, "little"), at + length
        else:
            raise _Damaged("a message has a field of an unknown kind")
        yield tag >> 3, wire, value


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """A number of up to 64 bits, seven in each byte and the lowest first, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(view):
            raise _Damaged("a number ends behind the file")
        value |= (view[at] & 0x7F) << shift
        if view[at] < 128:
            return value & (2**64 - 1), at + 1
        at += 1
    raise _Damaged("a number has more than 64 bits")
