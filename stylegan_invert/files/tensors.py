"""Tensors, storages and numbers in pickled network files: the records that stand for them, and their writers."""

import io
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from ..errors import NetworkFileError
from .pickled import Call, LongText, Machine, Name, PersistentId, Refusal, dump, show

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # first pickle of a legacy torch.save stream
PROTOCOL_VERSION = 1001
MAX_DIMENSIONS = 8

STORAGES: dict[str, tuple[str, torch.dtype]] = {
    "FloatStorage": ("f4", torch.float32),
    "DoubleStorage": ("f8", torch.float64),
    "HalfStorage": ("f2", torch.float16),
    "BFloat16Storage": ("u2", torch.bfloat16),
    "LongStorage": ("i8", torch.int64),
    "IntStorage": ("i4", torch.int32),
    "ShortStorage": ("i2", torch.int16),
    "CharStorage": ("i1", torch.int8),
    "ByteStorage": ("u1", torch.uint8),
    "BoolStorage": ("b1", torch.bool),
}
"""Storage class in the file to the NumPy type of its bytes and the torch dtype."""

NUMPY_TYPES = {
    code: next(kind for kind, (type_, _) in STORAGES.items() if type_ == code)
    for code in ("b1", "i1", "i2", "i4", "i8", "u1", "f2", "f4", "f8")
}
"""NumPy type in the file to the storage class of the same numbers."""


@dataclass(frozen=True, eq=False)
class Storage:
    """A run of numbers in the file.

    Attributes:
        kind: a key of `STORAGES`.
        data: the bytes of the numbers, a view of the file.
    """

    kind: str
    data: memoryview

    @property
    def numel(self) -> int:
        return len(self.data) // np.dtype(STORAGES[self.kind][0]).itemsize


class AwaitedStorage(Storage):
    """A storage whose numbers come later in the file than the tensors that lie in it. `arrived` sets them."""

    _numel: int

    def __init__(self, kind: str, numel: int):
        super().__init__(kind, memoryview(b""))
        self.__dict__["_numel"] = numel

    @property
    def numel(self) -> int:
        return self._numel

    @property
    def nbytes(self) -> int:
        return self._numel * np.dtype(STORAGES[self.kind][0]).itemsize

    def arrived(self, data: memoryview) -> None:
        self.__dict__["data"] = data


@dataclass(frozen=True, eq=False)
class TensorRecord:
    """A tensor in the file, which was checked to lie inside its storage and to be no larger than that.

    Attributes:
        storage: the numbers.
        offset: the first number of the tensor in its storage.
        shape: the sizes of its dimensions.
        stride: how many numbers further the next entry of each dimension is.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def dtype(self) -> torch.dtype:
        return STORAGES[self.storage.kind][1]

    @property
    def nbytes(self) -> int:
        return self.numel * self.dtype.itemsize

    def to_tensor(self) -> torch.Tensor:
        """A contiguous copy in the file's dtype."""
        array = np.array(self._view(), order="C")
        return torch.from_numpy(array).view(self.dtype) if self.dtype == torch.bfloat16 else torch.from_numpy(array)

    def to_float32(self) -> torch.Tensor:
        """A contiguous float32 copy. No second copy is made on the way."""
        if self.dtype == torch.bfloat16:  # the upper half of a float32
            array = self._view().astype(np.uint32, order="C")
            array <<= 16
            return torch.from_numpy(array.view(np.float32))
        return torch.from_numpy(self._view().astype(np.float32, order="C"))

    def _view(self) -> np.ndarray:
        type_ = np.dtype(STORAGES[self.storage.kind][0])
        if not self.numel:
            return np.empty(self.shape, type_)
        strides = [s * type_.itemsize for s in self.stride]
        view = np.ndarray(self.shape, type_.newbyteorder("<"), self.storage.data, self.offset * type_.itemsize, strides)
        return view.astype(type_, copy=False)


MAX_TABLES = 4  # the largest depth of tables inside tables


def tables(
    value: Any, place: str = "", parent: Any = None, depth: int = 0
) -> Iterator[tuple[str, dict[str, TensorRecord], Any]]:
    """Yields every table in the contents of a file: its place, its own tensors by name, and the table around it.

    Args:
        value: the contents of the file.
        place: the place of the value, names with dots between them.
        parent: the table that the value lies in, or None.
        depth: the number of tables in which the value lies.
    """
    if not isinstance(value, dict) or depth > MAX_TABLES:
        return
    yield place, {str(k): v for k, v in value.items() if isinstance(v, TensorRecord)}, parent
    for key, child in value.items():
        yield from tables(child, f"{place}.{key}" if place else str(key), value, depth + 1)


def unwrapped(tensors: Mapping[str, TensorRecord]) -> dict[str, TensorRecord]:
    """Tensors by their names without the "module." in front that PyTorch adds when a network runs on several GPUs."""
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def rebuild_tensor(machine: Machine, args: tuple) -> TensorRecord:
    """torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, backward_hooks[, metadata])"""
    if not 6 <= len(args) <= 7:
        raise Refusal(f"a tensor with {len(args)} arguments; expected 6 or 7")
    storage, offset, shape, stride, requires_grad, hooks = args[:6]
    if not isinstance(storage, Storage) or not isinstance(requires_grad, bool):
        raise Refusal("a tensor without a storage")
    if hooks or not isinstance(hooks, (dict, type(None))) or args[6:] not in ((), (None,), ({},)):
        raise Refusal("a tensor with hooks or metadata")
    if not all(isinstance(x, tuple) and len(x) <= MAX_DIMENSIONS for x in (shape, stride)) or len(shape) != len(stride):
        raise Refusal("a tensor whose size and stride do not belong together")
    if not all(type(n) is int and 0 <= n < 2**48 for n in (offset, *shape, *stride)):
        raise Refusal("a tensor whose size, stride or offset are not non-negative integers")
    numel = math.prod(shape)
    last = offset + sum((n - 1) * s for n, s in zip(shape, stride)) if numel else offset - 1
    if numel > storage.numel or last >= storage.numel or math.prod(max(n, 1) for n in shape) >= 2**48:
        raise Refusal(
            f"a tensor of size {shape}, stride {stride}, offset {offset} does not fit its storage of {storage.numel} "
            "numbers"
        )
    return TensorRecord(storage, offset, shape, stride)


def rebuild_parameter(machine: Machine, args: tuple) -> TensorRecord:
    """torch._utils._rebuild_parameter(data, requires_grad, backward_hooks)"""
    if len(args) != 3 or not isinstance(args[0], TensorRecord) or not isinstance(args[1], bool):
        raise Refusal("a parameter that holds no tensor")
    if args[2] or not isinstance(args[2], (dict, type(None))):
        raise Refusal("a parameter with hooks")
    return args[0]  # the module's class says which tensors are parameters


STORAGE_GLOBALS: dict[tuple[str, str], None] = {("torch", name): None for name in STORAGES}


class StorageId(NamedTuple):
    """The contents of a persistent id.

    Attributes:
        kind: the kind of the storage, a key of `STORAGES`.
        key: the name of the storage in the file.
        numel: the number of its numbers.
    """

    kind: str
    key: str
    numel: int


def storage_id(id_: Any) -> StorageId:
    """The parts of a persistent id ('storage', torch.FloatStorage, key, location, numel[, view])."""
    if not isinstance(id_, tuple) or not 5 <= len(id_) <= 6 or id_[0] != "storage":
        raise Refusal("a persistent id that is not a storage")
    if (getattr(id_[1], "module", None), getattr(id_[1], "name", None)) not in STORAGE_GLOBALS:
        raise Refusal("a storage of an unknown type")
    if not isinstance(id_[2], str) or type(id_[4]) is not int or id_[4] < 0 or id_[5:] not in ((), (None,)):
        raise Refusal("a storage whose key or length makes no sense, or that is a view of another")
    return StorageId(id_[1].name, id_[2], id_[4])


def load_from_bytes(machine: Machine, args: tuple) -> Storage:
    """torch.storage._load_from_bytes(b).

    The bytes are an old torch.save stream of one storage, which is parsed here.
    """
    if len(args) != 1 or not isinstance(args[0], (memoryview, bytes)):
        raise Refusal("a storage that is not a byte string")
    # A stream may ask for the same bytes many times. They are parsed once.
    return machine.once(args[0], lambda: _parse_storage(memoryview(args[0]), machine))


def _parse_storage(blob: memoryview, machine: Machine) -> Storage:
    place = f"{machine.where}byte {machine.at}: in a storage"

    def refuse(reason: str) -> NetworkFileError:
        return NetworkFileError(machine.file, place, reason)

    pos = 0
    parts: list[Any] = []
    inner = Machine(blob, machine.file, STORAGE_GLOBALS, persistent=storage_id, where=f"{place}: ", max_work=300)
    for _ in range(5):
        part, pos = inner.load(pos)
        parts.append(part)
    machine.charge(inner.max_work - inner.work_left + 10)
    magic, version, system, storage, keys = parts
    if magic != MAGIC_NUMBER or version != PROTOCOL_VERSION:
        raise refuse("it does not begin as torch writes storages")
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise refuse("it was not written on a little-endian machine")
    if not isinstance(storage, StorageId) or keys != [storage.key]:
        raise refuse("it holds something else than one storage")
    kind, _, numel = storage
    itemsize = np.dtype(STORAGES[kind][0]).itemsize
    rest = blob[pos:]
    nbytes = numel * itemsize
    # The count in front of the numbers is that of the numbers; some writers give that of the bytes.
    if len(rest) != 8 + nbytes or struct.unpack("<q", rest[:8])[0] not in (numel, nbytes):
        raise refuse(f"it announces {numel} numbers of {itemsize} bytes and holds {max(len(rest) - 8, 0)} bytes")
    return Storage(kind, rest[8:])


class NumpyType:
    """numpy.dtype('f8', False, True). The stream sets its byte order as a state afterwards."""

    def __init__(self, code: str):
        self.code = code

    def set_state(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", "|", "="):
            raise Refusal("a NumPy type that is not plain little-endian")


class NumpyArray:
    """numpy.core.multiarray._reconstruct. The stream sets its contents as a state afterwards.

    Attributes:
        record: the array as a tensor, whose numbers are a view of the file; None until the state is set.
    """

    record: TensorRecord | None = None

    def set_state(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], NumpyType):
            raise Refusal("a NumPy array in an unknown form")
        _, shape, type_, fortran, raw = state
        fits = isinstance(shape, tuple) and len(shape) <= MAX_DIMENSIONS and isinstance(fortran, bool | int)
        if not fits or not all(type(n) is int and 0 <= n < 2**48 for n in shape):
            raise Refusal("a NumPy array whose shape makes no sense")
        raw = _raw(raw)
        if raw is None or len(raw) != math.prod(shape) * np.dtype(type_.code).itemsize:
            raise Refusal("a NumPy array whose size does not add up")
        if math.prod(max(n, 1) for n in shape) >= 2**48:
            raise Refusal("a NumPy array whose shape makes no sense")
        strides = [math.prod(shape[:i] if fortran else shape[i + 1 :]) for i in range(len(shape))]
        self.record = TensorRecord(Storage(NUMPY_TYPES[type_.code], memoryview(raw)), 0, shape, tuple(strides))


def number_record(value: bool | int | float) -> TensorRecord:
    """A plain number of a file as a tensor of shape ()."""
    return TensorRecord(Storage("DoubleStorage", memoryview(struct.pack("<d", value))), 0, (), ())


def _raw(value: Any) -> memoryview | bytes | None:
    """The bytes of a byte string, or of a text, as which Python 2 wrote short ones. None for anything else."""
    if isinstance(value, str):
        try:
            return value.encode("latin1")
        except UnicodeError:
            return None
    return value if isinstance(value, (memoryview, bytes)) else None


def numpy_dtype(machine: Machine, args: tuple) -> NumpyType:
    if not args or not isinstance(args[0], str) or args[0] not in NUMPY_TYPES:
        raise Refusal(f"a NumPy type {show(args[0]) if args else ''}; expected one of {', '.join(NUMPY_TYPES)}")
    return NumpyType(args[0])


def numpy_reconstruct(machine: Machine, args: tuple) -> NumpyArray:
    return NumpyArray()


def numpy_scalar(machine: Machine, args: tuple) -> bool | int | float:
    raw = _raw(args[1]) if len(args) == 2 else None
    if raw is None or not isinstance(args[0], NumpyType):
        raise Refusal("a NumPy number in an unknown form")
    if len(raw) != np.dtype(args[0].code).itemsize:
        raise Refusal(f"a NumPy number of type {args[0].code} in {len(raw)} bytes")
    return np.frombuffer(bytes(raw), args[0].code)[0].item()


def encode_latin1(machine: Machine, args: tuple) -> bytes | memoryview:
    """_codecs.encode(text, 'latin1'), which is how pickles of protocol 2 write bytes."""
    if len(args) != 2 or not isinstance(args[0], (str, LongText)) or args[1] != "latin1":
        raise Refusal("bytes in an unknown form")
    if isinstance(args[0], LongText):
        return machine.once(args[0], lambda: _latin1(args[0].raw))
    machine.charge(len(args[0]))
    return _latin1(memoryview(args[0].encode()))


def new_dict(machine: Machine, args: tuple) -> dict[Any, Any]:
    """collections.OrderedDict(), as which torch.save writes state dicts and the empty hooks of tensors."""
    if args:
        raise Refusal("a dictionary that is made from arguments")
    return {}


def empty_bytes(machine: Machine, args: tuple) -> bytes:
    """bytes(), which is how pickles of protocol 2 write an empty byte string."""
    if args:
        raise Refusal("bytes in an unknown form")
    return b""


def _latin1(utf8: memoryview) -> bytes | memoryview:
    # This is looked at before decoding, because one wide character makes Python's text four times as large.
    largest = np.frombuffer(utf8, np.uint8).max(initial=0)
    if largest < 0x80:
        return utf8
    if largest > 0xC3:
        raise Refusal("bytes with a value above 255")
    try:
        return str(utf8, "utf-8").encode("latin1")
    except UnicodeError:
        raise Refusal("bytes in an unknown form") from None


GLOBALS = {
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
    ("torch.storage", "_load_from_bytes"): load_from_bytes,
    ("collections", "OrderedDict"): new_dict,
    ("_codecs", "encode"): encode_latin1,
    ("__builtin__", "bytes"): empty_bytes,
    ("numpy", "dtype"): numpy_dtype,
    ("numpy", "ndarray"): None,
    **{(f"numpy.{core}.multiarray", "scalar"): numpy_scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "_reconstruct"): numpy_reconstruct for core in ("core", "_core")},
}
"""The names with which a stream makes tensors and numbers. NumPy 2 writes numpy._core, older versions numpy.core."""


# Writing


def tensor_call(t: torch.Tensor, parameter: bool = False) -> Call:
    """A tensor as `torch.Tensor.__reduce__` writes it into a plain pickle.

    Args:
        t: a tensor of any dtype in `STORAGES`.
        parameter: True to write it as a `torch.nn.Parameter`.

    Raises:
        TypeError: it has another dtype.
    """
    t = t.detach().cpu().contiguous()
    kind, type_ = next(((k, n) for k, (n, d) in STORAGES.items() if d == t.dtype), (None, None))
    if kind is None:
        raise TypeError(f"a tensor of {t.dtype} cannot be written to a network file")
    raw = (
        (t.view(torch.uint16) if t.dtype == torch.bfloat16 else t)
        .numpy()
        .astype(np.dtype(type_).newbyteorder("<"))
        .tobytes()
    )
    head = io.BytesIO()
    sizes = {"short": 2, "int": 4, "long": 4}
    for part in (
        MAGIC_NUMBER,
        PROTOCOL_VERSION,
        {"protocol_version": PROTOCOL_VERSION, "little_endian": True, "type_sizes": sizes},
    ):
        dump(part, head)
    dump(PersistentId(("storage", Name("torch", kind), "0", "cpu", t.numel(), None)), head)
    dump(["0"], head)
    head.write(struct.pack("<q", t.numel()) + raw)
    blob = Call("torch.storage", "_load_from_bytes", (head.getvalue(),))
    record = Call(
        "torch._utils",
        "_rebuild_tensor_v2",
        (blob, 0, tuple(t.shape), tuple(t.stride()), False, Call("collections", "OrderedDict")),
    )
    return (
        Call("torch._utils", "_rebuild_parameter", (record, False, Call("collections", "OrderedDict")))
        if parameter
        else record
    )
