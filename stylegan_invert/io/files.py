"""Writing files so that nothing half-written stays behind, and checksums."""

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary path beside ``path``; renamed to it when the block ends well, removed when it does not."""
    path = Path(path)
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(fd)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def staged(folder: str | os.PathLike) -> Iterator[Path]:
    """A temporary folder whose files are moved into ``folder`` together when the block ends well, and removed when it does not.

    ``folder`` is made if it is missing, and removed again if nothing came into it.
    """
    folder = Path(folder)
    missing = [p for p in (folder, *folder.parents) if not p.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".part-"))
    try:
        yield temporary
        files = sorted(temporary.iterdir())
        for path in files:  # seen before anything is moved, so that all of them come or none
            if (folder / path.name).is_dir():
                raise IsADirectoryError(
                    errno.EISDIR, "it is a directory; a file is to be written there", str(folder / path.name)
                )
        for path in files:
            os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        for made in missing:
            with contextlib.suppress(OSError):  # not empty: something came into it
                made.rmdir()


def sha256(data: bytes | bytearray | memoryview) -> str:
    """Hexadecimal SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: str | os.PathLike) -> str:
    """Hexadecimal SHA-256 of a file's contents."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
