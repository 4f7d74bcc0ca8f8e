"""From the bytes of a network file to its records, whatever official project wrote it."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...errors import NetworkFileError
from ...files.arrays import Npz
from ...files.door import NETWORK
from ...files.pickled import Refusal
from ...files.tensors import NUMPY_TYPES, Storage, TensorRecord
from ...files.torch_file import read_object
from ..unknown import WHOLE, is_whole_module
from . import persistence, tensorflow


def read_records(data: memoryview, file: object, more: Mapping[tuple[str, str], Any] | None = None) -> Any:
    """The object in a network file, with modules as `ModuleRecord` and networks of TensorFlow as `TFNetwork`.

    Args:
        data: the whole file.
        file: its name, for errors.
        more: names that its pickles may mention besides the usual ones, see `pickled.Machine`.

    Raises:
        NetworkFileError: the file is neither a pickle nor a torch zip nor an .npz file, is damaged, or holds objects that no network
            file needs.
    """
    if _is_npz(data):
        return _arrays(data, file)
    try:
        root = read_object(data, file, {**persistence.GLOBALS, **tensorflow.GLOBALS, **(more or {})})
    except NetworkFileError as e:
        if "no network file needs" in e.reason and is_whole_module(data):
            raise NetworkFileError(file, e.place, e.reason + WHOLE) from None
        raise
    try:
        persistence.parse_all(root)
    except Refusal as e:
        raise NetworkFileError(file, "", str(e)) from None
    tensorflow.parse_all(root, file)
    return root


def _is_npz(data: memoryview) -> bool:
    """True if the bytes begin as a zip whose first file is an array of NumPy."""
    length = int.from_bytes(data[26:28], "little")
    return bytes(data[:4]) == b"PK\3\4" and bytes(data[30 : 30 + length]).endswith(b".npy")


def _arrays(data: memoryview, file: object) -> dict[str, TensorRecord]:
    """The arrays of an .npz file by name, as records."""
    arrays = Npz(io.BytesIO(data), str(file), NETWORK)
    if arrays.total > 8 * len(data) + 2**20:  # weights hardly shrink when they are compressed
        raise NetworkFileError(file, "", f"its arrays unpack to {arrays.total:,} bytes, far more than weights would")
    read = ((name, arrays[name]) for name in arrays.names)
    return {name: array_record(array) for name, array in read if array.dtype.str[1:] in NUMPY_TYPES}


def array_record(array: np.ndarray) -> TensorRecord:
    """An array of numbers as the record of a tensor."""
    kind = NUMPY_TYPES[array.dtype.str[1:]]
    storage = Storage(kind, memoryview(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()))
    strides = np.cumprod([1, *array.shape[:0:-1]])[::-1] if array.ndim else ()
    return TensorRecord(storage, 0, tuple(array.shape), tuple(map(int, strides)))
