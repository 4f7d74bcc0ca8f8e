"""The door: every path from outside is opened here.

Only regular files pass: a pipe, a socket, a device or a directory is refused at once, because reading it may never end.
Each kind of file has a limit of size, and a file that is larger is refused before it is read. The first bytes can be
looked at before the rest is read.
"""

import os
import stat
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from ..errors import (
    CodeFileError,
    EncoderFileError,
    ImageFileError,
    NetworkFileError,
    StyleganInvertError,
    TrainingError,
    printable,
)

HEAD = 512  # the number of first bytes that a check of the head is given


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        words: what it is called in errors ("a network file").
        limit: the largest size in bytes.
        error: the class of errors about it; constructed with one text.
    """

    words: str
    limit: int
    error: Callable[[str], StyleganInvertError]


def _network_error(text: str) -> NetworkFileError:
    file, _, reason = text.partition(": ")
    return NetworkFileError(file, "", reason)


NETWORK = Kind("a network file", 2**34, _network_error)
PICTURE = Kind("a picture", 2**28, ImageFileError)
CODES = Kind("a file of codes", 2**30, CodeFileError)
ENCODER = Kind("an encoder", 2**32, EncoderFileError)
CHECKPOINT = Kind("a checkpoint", 2**34, TrainingError)
SETTINGS = Kind("a file of settings", 2**20, StyleganInvertError)

_raised_to = 0  # the limit that the user asked for; 0 leaves each kind its own


def raise_limits(size: int) -> None:
    """Let files of every kind be up to this many bytes large, for the whole process; 0 goes back to the usual limits."""
    global _raised_to
    _raised_to = size


def limit_of(kind: Kind) -> int:
    """The largest size in bytes that a file of this kind may have in this process."""
    return max(kind.limit, _raised_to)


@contextmanager
def opened(path: str | os.PathLike, kind: Kind, name: str | None = None):
    """A context manager that opens a regular file for reading, and gives the open binary file.

    Args:
        path: the file.
        kind: what it should be.
        name: its name in errors; None takes the path.

    Raises:
        kind.error: there is no such file, it may not be read, it is not a regular file, or it is larger than allowed.
    """
    name = printable(os.fspath(path) if name is None else name, 300)
    try:
        # Without O_NONBLOCK, opening a pipe waits for its writer.
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise kind.error(f"{name}: there is no such file; expected {kind.words}") from None
    except (OSError, ValueError) as e:  # ValueError: the path has a zero byte
        raise kind.error(f"{name}: it cannot be read: {getattr(e, 'strerror', None) or e}") from None
    with os.fdopen(fd, "rb") as file:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            what = "a directory" if stat.S_ISDIR(about.st_mode) else "a pipe, a socket or a device"
            raise kind.error(f"{name}: it is {what}; expected {kind.words}")
        if about.st_size > limit_of(kind):
            raise kind.error(f"{name}: it has {about.st_size:,} bytes; {kind.words} has at most {limit_of(kind):,}")
        yield file


def read_bytes(
    path: str | os.PathLike, kind: Kind, name: str | None = None, check: Callable[[bytes], None] | None = None
) -> bytearray:
    """The bytes of a regular file. Tensors can be views of them.

    Args:
        path: the file.
        kind: what it should be.
        name: its name in errors; None takes the path.
        check: called with the first bytes, at most `HEAD`, before the rest is read; it raises an error to refuse them.

    Raises:
        kind.error: as for `opened`; or the file grew while it was read, or memory is too small for it.
    """
    shown = printable(os.fspath(path) if name is None else name, 300)
    with opened(path, kind, name) as file:
        size = os.fstat(file.fileno()).st_size
        if check is not None:
            check(file.read(HEAD))
            file.seek(0)
        try:
            data = bytearray(size)
            del data[_fill(file, data) :]
        except MemoryError:
            raise kind.error(f"{shown}: it has {size:,} bytes, more than memory can hold") from None
        except OSError as e:
            raise kind.error(f"{shown}: it cannot be read: {e.strerror or e}") from None
    return data


def _fill(file: BinaryIO, data: bytearray) -> int:
    """Read into a buffer until it is full or the file ends; the number of bytes read."""
    view, done = memoryview(data), 0
    while done < len(data):
        count = file.readinto(view[done:])
        if not count:
            break
        done += count
    view.release()
    return done
