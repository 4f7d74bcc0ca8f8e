"""The door: every path from outside is opened here.

Only regular files pass: a pipe, a socket, a device or a directory is refused at once, because reading it may never end.
Each kind of file has a limit of size, and a file that is larger is refused before it is read. The first bytes can be
looked at before the rest is read.

The limits of all kinds are raised together, by `raise_limits` or by the environment variable
STYLEGAN_INVERT_MAX_FILE_SIZE, such as 20G. They also hold for what a compressed file unpacks to.
"""

import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedIOBase, BufferedReader

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
    error: Callable[[str], Exception]


def _network_error(text: str) -> NetworkFileError:
    file, _, reason = text.partition(": ")
    return NetworkFileError(file, "", reason)


NETWORK = Kind("a network file", 2**32, _network_error)
NETWORK_SETTINGS = Kind("a file of settings", 2**20, _network_error)
PICTURE = Kind("a picture", 2**28, ImageFileError)
DATASET = Kind("a zip of pictures", 2**40, TrainingError)
LABELS = Kind("a file of labels", 2**27, TrainingError)
CODES = Kind("a file of codes", 2**28, CodeFileError)
DIRECTION = Kind("a direction, which 'stylegan-invert directions' makes", 2**26, CodeFileError)
ENCODER = Kind("an encoder", 2**32, EncoderFileError)
PART = Kind("a part of a study", 2**30, StyleganInvertError)
CHECKPOINT = Kind("a checkpoint", 2**34, TrainingError)
SETTINGS = Kind("a file of settings", 2**20, StyleganInvertError)

LIMIT_VARIABLE = "STYLEGAN_INVERT_MAX_FILE_SIZE"
SIZE = re.compile(r"(\d{1,15})\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_raised_to = 0  # the limit that the user asked for; 0 leaves each kind its own


def size_of(text: str) -> int:
    """The number of bytes that a text such as "20G", "500 MB" or "1000000" says; K, M, G and T are powers of 1024.

    Raises:
        ValueError: it says no size.
    """
    match = SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text[:40]!r} is no size; expected a number of bytes, or one with K, M, G or T, as in 20G")
    return int(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ")


def raise_limits(size: int) -> None:
    """Let files of every kind be up to this many bytes large, for the whole process; 0 goes back to the usual limits."""
    global _raised_to
    _raised_to = size


def limit_of(kind: Kind) -> int:
    """The largest size in bytes that a file of this kind may have in this process.

    Raises:
        ValueError: the environment variable STYLEGAN_INVERT_MAX_FILE_SIZE says no size.
    """
    try:
        asked = size_of(os.environ.get(LIMIT_VARIABLE) or "0")
    except ValueError as e:
        raise ValueError(f"${LIMIT_VARIABLE}: {e}") from None
    return max(kind.limit, _raised_to, asked)


def shown(path: str | os.PathLike, name: str | None = None) -> str:
    """The name of a file in errors: ``name`` or else the path, without control characters and not too long."""
    return printable(os.fspath(path) if name is None else name, 300)


def check_size(size: int, kind: Kind, name: str) -> None:
    """Refuse a size in bytes, of a file or of what it unpacks to, that is above the limit of its kind.

    Raises:
        kind.error: it is above.
    """
    limit = limit_of(kind)
    if size > limit:
        raise kind.error(
            f"{name}: it has {size:,} bytes; {kind.words} has at most {limit:,}, unless --max-file-size allows more"
        )


def opened(path: str | os.PathLike, kind: Kind, name: str | None = None) -> BufferedReader:
    """Open a regular file for reading. The result is closed by ``with``.

    Args:
        path: the file.
        kind: what it should be.
        name: its name in errors; None takes the path.

    Returns:
        The open binary file.

    Raises:
        kind.error: there is no such file, it may not be read, it is not a regular file, or it is larger than allowed.
    """
    name = shown(path, name)
    try:
        # Without O_NONBLOCK, opening a pipe waits for its writer.
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise kind.error(f"{name}: there is no such file; expected {kind.words}") from None
    except (OSError, ValueError) as e:  # ValueError: the path has a zero byte
        raise kind.error(f"{name}: it cannot be read: {getattr(e, 'strerror', None) or e}") from None
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            what = "a directory" if stat.S_ISDIR(about.st_mode) else "a pipe, a socket or a device"
            raise kind.error(f"{name}: it is {what}; expected {kind.words}")
        check_size(about.st_size, kind, name)
        return os.fdopen(fd, "rb")
    except BaseException:
        os.close(fd)
        raise


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
        kind.error: as for `opened`; or memory is too small for it.
    """
    with opened(path, kind, name) as file:
        size = os.fstat(file.fileno()).st_size
        if check is not None:
            check(file.read(HEAD))
            file.seek(0)
        try:
            data = bytearray(size)
            del data[fill(file, data) :]
        except MemoryError:
            raise kind.error(f"{shown(path, name)}: it has {size:,} bytes, more than memory can hold") from None
        except OSError as e:
            raise kind.error(f"{shown(path, name)}: it cannot be read: {e.strerror or e}") from None
    return data


def fill(file: BufferedIOBase, data: bytearray | memoryview) -> int:
    """Read into a buffer until it is full or the file ends; the number of bytes read."""
    view, done = memoryview(data).cast("B"), 0
    while done < len(view):
        count = file.readinto(view[done:])
        if not count:
            break
        done += count
    view.release()
    return done
