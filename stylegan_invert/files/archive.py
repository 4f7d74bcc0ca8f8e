"""Zip files from outside, whose entries are read within limits.

The sizes that a zip states are claims. An entry that claims more than its kind allows is refused before it is read, and
one that holds more or less than it claims is refused while it is read, in pieces. Entries are stored or deflated; other
compressions, whose readers take memory without a limit, and encrypted entries are refused.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from typing import TypeVar

from ..errors import StyleganInvertError, printable
from .door import Kind, check_size, fill, limit_of

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
PIECE = 2**20  # bytes that are unpacked at once
# What zipfile and zlib raise for damaged files. LargeZipFile is not among them, since only writing raises it.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
    struct.error,
)


class _Bounded(io.RawIOBase):
    """A file of which no more than a limit is read at once: zipfile reads the whole list of entries in one piece."""

    def __init__(self, file: BufferedIOBase, most: int):
        self._file, self._most = file, most

    def read(self, size: int = -1) -> bytes:
        data = b"" if size > self._most else self._file.read(self._most + 1 if size < 0 else size)
        if max(size, len(data)) > self._most:
            raise ValueError(f"its list of files is larger than {self._most:,} bytes")
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()


class Archive:
    """A zip file. Several threads may read it at the same time.

    Args:
        file: the open file.
        name: its name in errors.
        kind: what it should be, for errors.
        directory: what its list of entries is, for the limit of that list.
        damaged: the error for a file that is no whole zip.

    Attributes:
        sizes: what each file in it claims to unpack to, in bytes, by name. Directories are left out.
    """

    def __init__(self, file: BufferedIOBase, name: str, kind: Kind, directory: Kind, damaged: str):
        self._name = name
        try:
            self._zip = zipfile.ZipFile(_Bounded(file, max(limit_of(directory), PIECE)))
        except DAMAGE as e:
            raise kind.error(f"{name}: {damaged} ({printable(str(e), 100)})") from None
        infos = [info for info in self._zip.infolist() if not info.filename.endswith("/")]
        self.sizes = {info.filename: info.file_size for info in infos}
        if len(self.sizes) != len(infos):
            raise kind.error(f"{name}: {damaged} (a name occurs twice in it)")

    @contextmanager
    def entry(self, name: str, kind: Kind, shown: str) -> Iterator[BufferedIOBase]:
        """A context manager that opens one file of the zip for reading.

        Args:
            name: its name in the zip.
            kind: what it should be; the limit is that of this kind.
            shown: its name in errors.

        Raises:
            kind.error: it claims more than the limit, is encrypted, or compressed in another way; or, on entering or
                within the block, it turns out to be damaged.
        """
        info = self._zip.getinfo(name)
        check_size(info.file_size, kind, shown)
        if info.flag_bits & 1:
            raise kind.error(f"{shown}: it is encrypted; unpack the zip and pack it again without a password")
        if info.compress_type not in METHODS:
            raise kind.error(
                f"{shown}: its compression is number {info.compress_type}; expected a stored or deflated one"
            )
        try:
            with self._zip.open(info) as file:
                assert isinstance(file, zipfile.ZipExtFile)
                yield file
        except StyleganInvertError:
            raise
        except DAMAGE as e:
            raise kind.error(f"{shown}: it cannot be read from the zip ({printable(str(e), 100)})") from None

    def read(self, name: str, kind: Kind, shown: str) -> bytearray:
        """The bytes of one file of the zip. The arguments and errors are those of `entry`."""
        with self.entry(name, kind, shown) as file:
            return read_claimed(file, bytearray(self.sizes[name]), kind, shown)


Buffer = TypeVar("Buffer", bound=bytearray | memoryview)


def read_claimed(file: BufferedIOBase, data: Buffer, kind: Kind, shown: str) -> Buffer:
    """Fill a buffer with all that is left of an entry.

    Raises:
        kind.error: the entry has less or more than the buffer holds.
    """
    view = memoryview(data).cast("B")
    done = 0
    for start in range(0, len(view), PIECE):
        got = fill(file, view[start : start + PIECE])
        done += got
        if got < len(view[start : start + PIECE]):
            raise kind.error(f"{shown}: it unpacks to {done:,} bytes and claims {len(view):,}; it is damaged")
    if file.read(1):  # at the end the checksum is compared, too
        raise kind.error(f"{shown}: it unpacks to more than the {len(view):,} bytes that it claims; it is damaged")
    return data
