"""Safetensors files from outside: a header in JSON that says which tensors follow, and the tensors' bytes.

They are read without the safetensors library, because that library opens a file by its path, a second time after its
check, and takes a header of 100 MB. Here each tensor is a view of the bytes that were read. It is compared with what is
needed before memory is taken for it.
"""

import json
import math
import os
import struct
from typing import Any

from ..errors import NetworkFileError
from .door import Kind, read_bytes
from .door import shown as shown_name
from .pickled import show
from .tensors import MAX_DIMENSIONS, STORAGES, Storage, TensorRecord

MAX_HEADER = 4 * 2**20  # bytes; a StyleGAN2 of 1024x1024 with its discriminator takes 60,000

DTYPES = {
    **{"F64": "DoubleStorage", "F32": "FloatStorage", "F16": "HalfStorage", "BF16": "BFloat16Storage"},
    **{"I64": "LongStorage", "I32": "IntStorage", "I16": "ShortStorage", "I8": "CharStorage"},
    **{"U8": "ByteStorage", "BOOL": "BoolStorage"},
}
"""Number type in the header to a key of `tensors.STORAGES`."""


def is_safetensors(data: bytes | bytearray | memoryview) -> bool:
    """True if bytes begin as such a file does: with the length of the header, below 4 GiB, and the header's brace."""
    return len(data) > 8 and bytes(data[4:9]) == b"\0\0\0\0{"


def read_safetensors(
    path: str | os.PathLike, kind: Kind, name: str | None = None
) -> tuple[dict[str, TensorRecord], dict[str, str]]:
    """The tensors of a file by name, as records, and the texts of its header by name.

    Args:
        path: the file.
        kind: what it should be; it has the limit of the size and the class of errors.
        name: the file's name in errors; None takes the path.

    Raises:
        kind.error: the file cannot be read (see `door.read_bytes`), is another kind of file, or is damaged.
    """
    name = shown_name(path, name)

    def check(head: bytes) -> None:
        if not is_safetensors(head):
            raise kind.error(f"{name}: it is not a safetensors file; expected {kind.words}")
        _header_length(head[:8], name)

    try:
        records, texts = read_header(memoryview(read_bytes(path, kind, name, check)), name)
    except NetworkFileError as e:
        where = f"{e.place}: " if e.place else ""
        raise kind.error(f"{name}: {where}{e.reason}; expected {kind.words}") from None
    if not isinstance(texts, (dict, type(None))) or not all(isinstance(text, str) for text in (texts or {}).values()):
        raise kind.error(f"{name}: the metadata in its header are no texts; expected {kind.words}")
    return records, texts or {}


def _header_length(head: bytes | memoryview, file: object) -> int:
    """The bytes of the header, which the first eight bytes of the file say."""
    (length,) = struct.unpack("<Q", head)
    if length > MAX_HEADER:
        raise NetworkFileError(file, "", f"its header has {length:,} bytes; expected at most {MAX_HEADER:,}")
    return length


def read_header(view: memoryview, file: object) -> tuple[dict[str, TensorRecord], Any]:
    """The tensors of a safetensors file by name, as views of it, and the metadata of its header, which are not checked.

    Args:
        view: the whole file.
        file: its name, for errors.

    Raises:
        NetworkFileError: it is another kind of file, or is damaged.
    """
    if not is_safetensors(view):
        raise NetworkFileError(file, "", "it is not a safetensors file")
    length = _header_length(view[:8], file)
    if length > len(view) - 8:
        raise NetworkFileError(file, "", f"it ends in its header of {length:,} bytes (is it complete?)")
    try:
        text = str(view[8 : 8 + length], "utf-8")
    except UnicodeDecodeError:
        raise NetworkFileError(file, "", "its header is not UTF-8 (is the file damaged?)") from None
    header = parsed(text, file, "")
    if not isinstance(header, dict):
        raise NetworkFileError(file, "", "its header is not a table")
    metadata = header.pop("__metadata__", None)
    body = view[8 + length :]
    records: dict[str, TensorRecord] = {}
    spans: list[tuple[int, int]] = []
    for name, entry in header.items():
        records[name] = record = _record(entry, body, file, name)
        spans.append((entry["data_offsets"][0], record.nbytes))
    end = 0
    for start, nbytes in sorted(spans):  # each begins where the last one ends, so that no two share memory
        if start != end:
            raise NetworkFileError(file, f"byte {8 + length + end}", "its tensors overlap, or leave bytes between them")
        end += nbytes
    if end != len(body):
        raise NetworkFileError(
            file, "", f"its tensors take {end:,} bytes and the file has {len(body):,} (is it complete?)"
        )
    return records, metadata


def _record(entry: Any, body: memoryview, file: object, name: str) -> TensorRecord:
    fields = entry if isinstance(entry, dict) else {}
    dtype, shape, span = (fields.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise NetworkFileError(file, name, f"its numbers are {show(dtype)}; expected one of {', '.join(DTYPES)}")
    for value, most in ((shape, MAX_DIMENSIONS), (span, 2)):
        if (
            not isinstance(value, list)
            or len(value) > most
            or not all(type(n) is int and 0 <= n < 2**48 for n in value)
        ):
            raise NetworkFileError(file, name, "its shape or place in the file makes no sense")
    assert isinstance(shape, list) and isinstance(span, list)
    numel = math.prod(shape)
    if len(span) != 2 or math.prod(max(n, 1) for n in shape) >= 2**48:
        raise NetworkFileError(file, name, "its shape or place in the file makes no sense")
    nbytes = numel * STORAGES[DTYPES[dtype]][1].itemsize
    if span[1] - span[0] != nbytes or span[1] > len(body):
        raise NetworkFileError(
            file,
            name,
            f"its shape {tuple(shape)} takes {nbytes:,} bytes, and it lies at {span[0]} to {span[1]} of {len(body):,}",
        )
    stride = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
    return TensorRecord(Storage(DTYPES[dtype], body[span[0] : span[1]]), 0, tuple(shape), stride)


def parsed(text: str, file: object, place: str) -> Any:
    """The value of a JSON text in the header, in which no table may have a name twice.

    Raises:
        NetworkFileError: it is not JSON.
    """

    def table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise ValueError("a name occurs twice")
        return result

    try:
        return json.loads(text, object_pairs_hook=table)
    except (ValueError, RecursionError) as e:
        reason = "it is nested too deeply" if isinstance(e, RecursionError) else str(e)[:100]
        raise NetworkFileError(file, place, f"its JSON is broken: {reason}") from None
