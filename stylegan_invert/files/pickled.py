"""Pickle streams as data: a machine that reads them without running anything, and a writer.

Python's own unpickler imports and calls what the stream names. This one cannot: a name in the stream is looked up in a
table that the caller passes in, whose functions only make inert records, and is refused if it is not there.

It also limits what a stream can cost. Python's unpickler takes gigabytes for a stream of nine bytes (a large memo
index), and never ends on some nested tuples. Here the number of opcodes, the memo, the nesting and the work of the
constructors are limited, keys of dictionaries are short texts or small integers, and byte strings are views of the
file, not copies.
"""

import pickletools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BufferedIOBase
from typing import Any

from ..errors import NetworkFileError

MAX_WORK = 400_000  # opcodes (also those inside storages) and objects made; official files need up to 150,000
MAX_NESTING = 200
MAX_TREE = 400_000  # objects in the result, where one that is used twice counts twice
MAX_TEXT = 4096  # bytes; longer texts are source code, which is not needed, and are not decoded
MAX_NAME = 256  # bytes or characters in the name of a global
MAX_INT_BYTES = 16


@dataclass(frozen=True, eq=False)
class LongText:
    """A long text, which is not decoded. The source code in official files is such a text."""

    raw: memoryview


@dataclass(frozen=True, eq=False)
class Global:
    """A name that the stream mentions.

    Attributes:
        module: first part of the name.
        name: second part of the name.
        construct: the function that makes a record where the stream calls the name; None if it must not be called.
    """

    module: str
    name: str
    construct: Callable[..., Any] | None

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Refusal(Exception):
    """Why something in a file is refused. Whoever catches it adds the file and the place."""


class Machine:
    """Reads one pickle from a buffer.

    Args:
        data: the buffer. Byte strings of the result are views of it.
        file: its name, for errors.
        globals: the names that the stream may mention: (module, name) to a function that is called with the machine and
            the arguments and returns an inert record, or to None for a name that may be an argument and must not be
            called.
        persistent: makes a record from a persistent id, by which a stream refers to data outside of it; None refuses
            these.
        where: put in front of the byte position in errors.
        max_work: how many opcodes and objects all calls of `load` may take together.
    """

    def __init__(
        self,
        data: memoryview,
        file: object,
        globals: Mapping[tuple[str, str], Callable[..., Any] | None],
        persistent: Callable[[Any], Any] | None = None,
        where: str = "",
        max_work: int = MAX_WORK,
    ):
        self.data, self.file, self.globals, self.persistent, self.where = data, file, globals, persistent, where
        self.work_left = self.max_work = max_work
        self._made: dict[int, tuple[Any, Any]] = {}

    def load(self, start: int = 0) -> tuple[Any, int]:
        """The object that begins at byte ``start``, and the position behind it."""
        self.pos, self.opcodes = start, 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        try:
            while True:
                self.at = self.pos
                code = self._take(1)[0]
                self.opcodes += 1
                self.charge(1)
                if code == STOP:
                    break
                handler = OPCODES.get(code)
                if handler is None:
                    raise Refusal(f"opcode 0x{code:02x} ({_opcode_name(code)}) does not occur in network files")
                handler(self)
            if len(self.stack) != 1 or self.marks:
                raise Refusal(f"the stream ends with {len(self.stack)} objects on its stack; expected one")
            result = self.stack.pop()
            check_nesting(result)
        except Refusal as e:
            raise NetworkFileError(self.file, f"{self.where}byte {self.at}", str(e)) from None
        return result, self.pos

    def charge(self, work: int) -> None:
        """Count work (objects made or copied) against the limit."""
        self.work_left -= work
        if self.work_left < 0:
            raise Refusal(f"the stream needs more than {self.max_work} steps; network files need far fewer")

    def once(self, argument: Any, make: Callable[[], Any]) -> Any:
        """The result of ``make``, which is called only once for the same ``argument``."""
        if id(argument) not in self._made:
            self._made[id(argument)] = (argument, make())  # while the argument is kept, no other object gets its id
        return self._made[id(argument)][1]

    # Reading

    def _take(self, n: int) -> memoryview:
        end = self.pos + n
        if end > len(self.data):
            raise Refusal(
                f"the file ends in the middle: {n} bytes are wanted and {len(self.data) - self.pos} are left "
                "(is it complete?)"
            )
        piece = self.data[self.pos : end]
        self.pos = end
        return piece

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _line(self) -> str:
        piece = bytes(self.data[self.pos : self.pos + MAX_NAME + 1])
        n = piece.find(b"\n")
        if n < 0:
            raise Refusal(f"the name of a global is longer than {MAX_NAME} bytes")
        self.pos += n + 1
        return _decode(piece[:n])

    # The stack

    def _pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise Refusal("an opcode wants more objects than the stack holds")
        return self.stack.pop()

    def _top(self, kind: type, what: str) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0) or not isinstance(self.stack[-1], kind):
            raise Refusal(f"items are added to something that is not a {what}")
        return self.stack[-1]

    def _pop_mark(self) -> list[Any]:
        if not self.marks:
            raise Refusal("an opcode wants a mark that was never set")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    # Opcodes

    def proto(self) -> None:
        version = self._take(1)[0]
        if not 2 <= version <= 5:
            raise Refusal(f"pickle protocol {version}; network files have protocols 2 to 5")

    def frame(self) -> None:
        n = self._number("<Q")
        if n > len(self.data) - self.pos:
            raise Refusal(f"a frame of {n} bytes, and {len(self.data) - self.pos} are left (is the file complete?)")

    def mark(self) -> None:
        if len(self.marks) >= MAX_NESTING:
            raise Refusal(f"objects are nested deeper than {MAX_NESTING} levels")
        self.marks.append(len(self.stack))

    def text(self, form: str) -> None:
        raw = self._take(self._number(form))
        self.charge(len(raw) // 32 if len(raw) <= MAX_TEXT else 1)
        self.stack.append(_decode(bytes(raw)) if len(raw) <= MAX_TEXT else LongText(raw))

    def old_text(self, form: str) -> None:
        """A string of Python 2, which is bytes: a short one is taken for a text, a long one for numbers."""
        n = self._number(form)
        if n < 0:
            raise Refusal(f"a byte string of {n} bytes")
        raw = self._take(n)
        self.charge(n // 32 if n <= MAX_TEXT else 1)
        self.stack.append(str(raw, "latin1") if n <= MAX_TEXT else raw)

    def integer(self) -> None:
        n = self._take(1)[0]
        if n > MAX_INT_BYTES:
            raise Refusal(f"an integer of {n} bytes; network files have none above {MAX_INT_BYTES}")
        self.stack.append(int.from_bytes(self._take(n), "little", signed=True))

    def make_tuple(self, n: int) -> None:
        items = [self._pop() for _ in range(n)]
        self.stack.append(tuple(reversed(items)))

    def append(self) -> None:
        item = self._pop()
        self._top(list, "list").append(item)

    def appends(self) -> None:
        items = self._pop_mark()
        self._top(list, "list").extend(items)

    def add_items(self) -> None:
        items = self._pop_mark()
        self._top(set, "set").update(_key(i) for i in items)

    def set_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._top(dict, "dictionary")[_key(key)] = value

    def set_items(self) -> None:
        items = self._pop_mark()
        if len(items) % 2:
            raise Refusal("a dictionary is given a key without a value")
        target = self._top(dict, "dictionary")
        for key, value in zip(items[::2], items[1::2]):
            target[_key(key)] = value

    def put(self, index: int) -> None:
        if index > self.opcodes:
            raise Refusal(f"memo index {index} after {self.opcodes} opcodes")
        if not self.stack:
            raise Refusal("an opcode wants more objects than the stack holds")
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise Refusal(f"memo index {index} was never set")
        self.stack.append(self.memo[index])

    def global_(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise Refusal("the name of a global is not a text")
        if len(module) + len(name) > MAX_NAME:
            raise Refusal(f"the name of a global is longer than {MAX_NAME} characters")
        if (module, name) not in self.globals:
            raise Refusal(
                f"it names {module + '.' + name!r}, which no network file needs; nothing was run{_hint(module)}"
            )
        self.stack.append(Global(module, name, self.globals[module, name]))

    def stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        self.global_(module, name)

    def reduce(self) -> None:
        args, function = self._pop(), self._pop()
        if not isinstance(function, Global) or function.construct is None or not isinstance(args, tuple):
            raise Refusal(f"{function if isinstance(function, Global) else 'something'} is called that cannot be")
        self.stack.append(function.construct(self, args))

    def build(self) -> None:
        state = self._pop()
        if self.stack and isinstance(self.stack[-1], dict) and isinstance(state, dict):
            return  # attributes of an ordered dictionary, such as the versions in a state dict, which are not needed
        if not self.stack or not hasattr(self.stack[-1], "set_state"):
            raise Refusal("a state is set on an object that has none")
        self.stack[-1].set_state(state)

    def persistent_id(self) -> None:
        if self.persistent is None:
            raise Refusal("it refers to data outside the stream, which this kind of file does not have")
        self.stack.append(self.persistent(self._pop()))


def _push(value: Any) -> Callable[[Machine], None]:
    return lambda m: m.stack.append(value)


def _push_new(kind: Callable[[], Any]) -> Callable[[Machine], None]:
    def push(machine: Machine) -> None:
        machine.charge(3)  # one byte of the file makes an empty set, which takes 200 bytes of memory
        machine.stack.append(kind())

    return push


STOP = ord(".")
OPCODES: dict[int, Callable[[Machine], None]] = {
    0x80: Machine.proto,
    0x95: Machine.frame,
    ord("("): Machine.mark,
    ord("N"): _push(None),
    0x88: _push(True),
    0x89: _push(False),
    ord("}"): _push_new(dict),
    ord("]"): _push_new(list),
    0x8F: _push_new(set),
    ord(")"): _push(()),
    ord("K"): lambda m: m.stack.append(m._take(1)[0]),
    ord("M"): lambda m: m.stack.append(m._number("<H")),
    ord("J"): lambda m: m.stack.append(m._number("<i")),
    0x8A: Machine.integer,
    ord("G"): lambda m: m.stack.append(m._number(">d")),
    0x8C: lambda m: m.text("<B"),
    ord("X"): lambda m: m.text("<I"),
    0x8D: lambda m: m.text("<Q"),
    ord("U"): lambda m: m.old_text("<B"),
    ord("T"): lambda m: m.old_text("<i"),
    ord("C"): lambda m: m.stack.append(m._take(m._number("<B"))),
    ord("B"): lambda m: m.stack.append(m._take(m._number("<I"))),
    0x8E: lambda m: m.stack.append(m._take(m._number("<Q"))),
    0x85: lambda m: m.make_tuple(1),
    0x86: lambda m: m.make_tuple(2),
    0x87: lambda m: m.make_tuple(3),
    ord("t"): lambda m: m.stack.append(tuple(m._pop_mark())),
    ord("a"): Machine.append,
    ord("e"): Machine.appends,
    0x90: Machine.add_items,
    ord("s"): Machine.set_item,
    ord("u"): Machine.set_items,
    ord("q"): lambda m: m.put(m._take(1)[0]),
    ord("r"): lambda m: m.put(m._number("<I")),
    0x94: lambda m: m.put(len(m.memo)),
    ord("h"): lambda m: m.get(m._take(1)[0]),
    ord("j"): lambda m: m.get(m._number("<I")),
    ord("c"): lambda m: m.global_(m._line(), m._line()),
    0x93: Machine.stack_global,
    ord("R"): Machine.reduce,
    0x81: Machine.reduce,  # NEWOBJ: a class and its arguments
    ord("b"): Machine.build,
    ord("Q"): Machine.persistent_id,
}


def _opcode_name(code: int) -> str:
    return next((op.name for op in pickletools.opcodes if ord(op.code) == code), "not an opcode")


def _decode(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Refusal("a text is not UTF-8 (is the file damaged?)") from None


def _key(key: Any) -> Any:
    """The key itself, if it is a text or a 32-bit integer.

    Others can be chosen so that a dictionary becomes very slow.
    """
    if isinstance(key, str) or (type(key) is int and -(2**31) <= key < 2**31):
        return key
    raise Refusal(f"a dictionary key or set member is of type {type(key).__name__}; expected a text or a small integer")


def _hint(module: str) -> str:
    if "tflib" in module or module in ("tfutil", "network"):
        return ". This looks like a TensorFlow file with something else than official networks in it"
    if module.startswith("torch.nn."):
        return ". This looks like a pickled PyTorch module of another project"
    return ""


def show(value: Any) -> str:
    """A value for an error message.

    A shape, or another short row of numbers, is written out. Of other containers only the type is said, because writing
    them out could take very long.
    """
    if isinstance(value, (tuple, list)) and len(value) <= 8 and all(type(v) in (int, float) for v in value):
        return repr(value)[:200]
    plain = value is None or isinstance(value, (bool, int, float, str))
    return repr(value)[:80] if plain else f"a {type(value).__name__}"


def check_nesting(root: Any) -> None:
    """Refuse objects that contain themselves, are nested too deeply, or share parts so that a walk takes very long.

    Raises:
        Refusal: it is such an object.
    """
    done: dict[int, tuple[int, int]] = {}  # id -> (depth, nodes)
    open_: set[int] = set()
    stack: list[tuple[Any, bool]] = [(root, False)]
    while stack:
        item, leaving = stack.pop()
        if id(item) in done:
            continue
        children = _children(item)
        if leaving:
            inner = [done[id(c)] for c in children if _children(c) is not None]
            depth = 1 + max((d for d, _ in inner), default=0)
            nodes = 1 + len(children) + sum(n for _, n in inner)
            if depth > MAX_NESTING or nodes > MAX_TREE:
                raise Refusal(
                    f"objects are nested {depth} levels deep with {nodes} parts; network files are far simpler"
                )
            done[id(item)] = (depth, nodes)
            open_.discard(id(item))
        elif children is not None:
            if id(item) in open_:
                raise Refusal("an object contains itself")
            open_.add(id(item))
            stack.append((item, True))
            stack.extend((c, False) for c in children if _children(c) is not None)


def _children(item: Any) -> Any:
    if isinstance(item, dict):
        return item.values()
    if isinstance(item, (list, tuple)):
        return item
    return getattr(item, "children", None)


# Writing


@dataclass
class Call:
    """Written as a call of ``module.name`` with ``args``, after which ``items`` are set on the result."""

    module: str
    name: str
    args: tuple = ()
    items: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Name:
    """Written as the name ``module.name``."""

    module: str
    name: str


@dataclass(frozen=True)
class PersistentId:
    """Written as a reference to data outside the stream."""

    value: Any


def dump(obj: Any, file: BufferedIOBase) -> None:
    """Write plain Python values, `Call`, `Name` and `PersistentId` as a pickle of protocol 4.

    Equal texts, and a `Call` that occurs several times, are written once and referred to afterwards.

    Raises:
        TypeError: a value has another type. The bytes written until then are not a complete pickle.
    """
    memo: dict[str | int, int] = {}  # texts, and ids of calls

    def refer(key: str | int) -> bool:
        """Write a reference to an item that was written before, and return True; return False if there is none."""
        if key in memo:
            file.write(b"j" + struct.pack("<I", memo[key]))
        return key in memo

    def remember(key: str | int) -> None:
        memo[key] = len(memo)
        file.write(b"\x94")

    def text(s: str) -> None:
        raw = s.encode()
        file.write(b"X" + struct.pack("<I", len(raw)) + raw)
        remember(s)

    def items(d: Mapping[Any, Any]) -> None:
        if d:
            file.write(b"(")
            for k, v in d.items():
                write(k)
                write(v)
            file.write(b"u")

    def write(x: Any) -> None:
        if x is None or x is True or x is False:
            file.write({None: b"N", True: b"\x88", False: b"\x89"}[x])
        elif type(x) is int:
            raw = x.to_bytes((x if x >= 0 else ~x).bit_length() // 8 + 1, "little", signed=True)
            file.write(b"J" + struct.pack("<i", x) if -(2**31) <= x < 2**31 else b"\x8a" + bytes([len(raw)]) + raw)
        elif type(x) is float:
            file.write(b"G" + struct.pack(">d", x))
        elif type(x) is str:
            if not refer(x):
                text(x)
        elif type(x) in (bytes, bytearray, memoryview):
            n = len(x)
            file.write(b"B" + struct.pack("<I", n) if n < 2**32 else b"\x8e" + struct.pack("<Q", n))
            file.write(x)
        elif type(x) in (tuple, list, set):
            if type(x) is not tuple:
                file.write(b"]" if type(x) is list else b"\x8f")
            file.write(b"(")
            for i in sorted(x) if type(x) is set else x:
                write(i)
            file.write(b"t" if type(x) is tuple else b"e" if type(x) is list else b"\x90")
        elif isinstance(x, dict):
            file.write(b"}")
            items(x)
        elif isinstance(x, Name):
            file.write(f"c{x.module}\n{x.name}\n".encode())
        elif isinstance(x, PersistentId):
            write(x.value)
            file.write(b"Q")
        elif isinstance(x, Call):
            if not refer(id(x)):
                write(Name(x.module, x.name))
                write(x.args)
                file.write(b"R")
                remember(id(x))
                items(x.items)
        else:
            raise TypeError(f"a {type(x).__name__} cannot be written to a network file")

    file.write(b"\x80\x04")
    write(obj)
    file.write(b".")
