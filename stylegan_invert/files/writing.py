"""Write files so that no half-written file stays behind, and compute checksums."""

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
    """A context manager that replaces a file only when its new contents are complete.

    It gives a temporary path in the same folder. When the block ends without an exception, that file is renamed to
    ``path``. Otherwise it is removed, and an earlier file at ``path`` stays as it was.
    """
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
    """A context manager that writes several files into a folder, all of them or none.

    It gives a temporary folder inside ``folder``. When the block ends without an exception, the files in it are moved
    into ``folder``. Otherwise they are removed. ``folder`` is made if it is missing, and removed again if it stays
    empty.

    Raises:
        OSError: a file cannot be written, or a directory has the name of one of the files.
    """
    folder = Path(folder)
    missing = [p for p in (folder, *folder.parents) if not p.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".part-"))
    try:
        yield temporary
        files = sorted(temporary.iterdir())
        for path in files:  # checked before anything is moved
            if (folder / path.name).is_dir():
                raise IsADirectoryError(
                    errno.EISDIR, "it is a directory; a file is to be written there", str(folder / path.name)
                )
        for path in files:
            os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        for made in missing:
            with contextlib.suppress(OSError):  # rmdir refuses a folder that is not empty
                made.rmdir()


def sha256(data: bytes | bytearray | memoryview) -> str:
    """Hexadecimal SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: str | os.PathLike) -> str:
    """Hexadecimal SHA-256 of a file's contents."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
