"""Write files so that no half-written file stays behind, make names for them, and compute checksums.

Files are written in a temporary folder beside their place, and moved when they are complete. A process that is killed
cannot remove its temporary folder; the next process that writes into the same folder does. Whether the owner of a
temporary folder lives is told by a lock on a file in it, which the operating system releases when its owner ends,
however that happens.
"""

import contextlib
import errno
import hashlib
import importlib
import os
import re
import shutil
import stat
import tempfile
import time
import unicodedata
from collections.abc import Iterable, Iterator
from io import BufferedIOBase
from pathlib import Path
from types import ModuleType

fcntl: ModuleType | None
try:
    fcntl = importlib.import_module("fcntl")
except ImportError:  # Windows has no such locks; there, what a killed process leaves stays until a user removes it
    fcntl = None

PREFIX = ".part-"  # of temporary folders
LOCK = ".stylegan-invert-lock"  # the file in a temporary folder that its owner keeps locked
FULL = (errno.ENOSPC, errno.EFBIG, errno.EIO, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC))  # a refusing disk
LONGEST = 120  # bytes of a name that `folder_names` makes; file systems allow 255, and suffixes may follow
REMEMBERED = 1000  # folders that a process remembers to have looked through; a run over many targets writes into more
_cleaned: set[str] = set()  # the folders that this process has looked through for temporary folders of dead processes


@contextlib.contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """A context manager that replaces a file only when its new contents are complete.

    It gives a path of the same name in a temporary folder; the block writes this file. When the block ends without an
    exception, the file is moved to ``path``. Otherwise it is removed, and an earlier file at ``path`` stays as it was.

    Raises:
        OSError: the file cannot be written. ``filename`` is ``path``, also where the disk became full in a library that
            says so in its own words.
    """
    path = Path(path)
    with _temporary(path.parent) as folder, _explained(folder, path.parent, path.name):
        yield folder / path.name
        if path.is_dir():
            raise _a_directory(path)
        os.replace(folder / path.name, path)


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
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _temporary(folder) as temporary, _explained(temporary, folder):
            yield temporary
            files = sorted(p for p in temporary.iterdir() if p.name != LOCK)
            for path in files:  # checked before anything is moved
                if (folder / path.name).is_dir():
                    raise _a_directory(folder / path.name)
            for path in files:
                os.replace(path, folder / path.name)
    finally:
        for made in missing:
            with contextlib.suppress(OSError):  # rmdir refuses a folder that is not empty
                made.rmdir()


def append(path: str | os.PathLike, text: str) -> None:
    """Append a text to a file, at once and whole unless the disk refuses.

    Raises:
        OSError: the file cannot be written. ``filename`` is ``path``.
    """
    try:
        with open(path, "ab", buffering=0) as file:
            data = text.encode()
            while data:
                data = data[file.write(data) :]
    except OSError as e:
        raise OSError(e.errno, e.strerror, os.fspath(path)) from None


def _a_directory(path: Path) -> IsADirectoryError:
    return IsADirectoryError(errno.EISDIR, "it is a directory; a file is to be written there", str(path))


@contextlib.contextmanager
def _temporary(parent: Path) -> Iterator[Path]:
    """A context manager with a temporary folder in ``parent``, which is locked as long as this process lives."""
    if not parent.name.startswith(PREFIX):  # nobody else writes into a temporary folder
        _clean_once(parent)
    folder, lock = Path(tempfile.mkdtemp(dir=parent, prefix=PREFIX)), None
    try:
        while (lock := _locked(folder)) is None:
            folder = Path(tempfile.mkdtemp(dir=parent, prefix=PREFIX))
        yield folder
    finally:
        if lock is not None:
            os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)


def _locked(folder: Path) -> int | None:
    """The open lock file of a new temporary folder; None if another process has just taken the folder for a dead one's."""
    file = folder / LOCK
    try:
        fd = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        return None
    if fcntl is not None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
        except OSError:  # a file system without locks; without the lock file nobody takes the folder for a dead one's
            file.unlink(missing_ok=True)
            return fd
        try:
            if os.path.samestat(os.fstat(fd), os.stat(file)):
                return fd
        except FileNotFoundError:
            pass
        os.close(fd)
        return None
    return fd


@contextlib.contextmanager
def locked(path: str | os.PathLike, wait: bool = True) -> Iterator[BufferedIOBase | None]:
    """A context manager that opens a file for reading and appending, and has it alone among the processes that use this.

    The file is made if it is missing, and not removed. Without locks (on Windows, and on some network file systems) it is
    only opened.

    Args:
        path: the file.
        wait: False gives None at once if another process has the file.
    """
    while True:
        file = open(path, "a+b")
        if _take(file, path, wait):
            break
        file.close()
        if not wait:
            yield None
            return
    with file:
        yield file


def _take(file: BufferedIOBase, path: str | os.PathLike, wait: bool) -> bool:
    """Lock a file; False if another process has it, or has renamed or removed it meanwhile."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return True
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _clean_once(folder: Path) -> None:
    """`clean`, the first time that this process writes into a folder. (Looking through a large folder takes a while.)"""
    name = os.path.abspath(folder)
    if name not in _cleaned:
        if len(_cleaned) >= REMEMBERED:
            _cleaned.clear()
        _cleaned.add(name)
        clean(folder)


def clean(folder: str | os.PathLike) -> None:
    """Remove the temporary folders that processes which no longer live have left in a folder. Errors are ignored."""
    if fcntl is None:
        return
    with contextlib.suppress(OSError), os.scandir(os.fspath(folder)) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX) and entry.is_dir(follow_symlinks=False):
                _remove_if_dead(Path(entry.path))


def _remove_if_dead(folder: Path) -> None:
    """Remove a temporary folder if nobody has its lock."""
    fd = None
    try:
        fd = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        if fcntl is not None and stat.S_ISREG(os.fstat(fd).st_mode):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except FileNotFoundError:  # killed between two system calls; or a folder of something else, which is not empty
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > 3600:
                folder.rmdir()
    except OSError:
        pass  # its owner lives, or it belongs to another user, or there are no locks on this file system
    finally:
        if fd is not None:
            os.close(fd)


@contextlib.contextmanager
def _explained(temporary: Path, folder: Path, name: str | None = None) -> Iterator[None]:
    """A context manager that turns a failure to write below ``temporary`` into an OSError that names the file in ``folder``.

    Libraries report a full disk in many ways, and some say nothing of it. So after an exception of another kind this
    tries to write a little more into the file: if the disk refuses that, it is the cause.

    Args:
        temporary: the temporary folder.
        folder: where its files are moved.
        name: the name of the only file; None takes that of the file that was written last.
    """
    try:
        yield
    except Exception as e:
        ours = e if isinstance(e, OSError) and e.errno is not None else None
        if ours and not (ours.filename is None or _below(ours.filename, temporary)):
            raise
        written = Path(ours.filename).name if ours and ours.filename is not None else name or _newest(temporary)
        if written is None:
            raise
        refusal = ours or _refusal(e, temporary / written)
        if refusal is None:
            raise
        raise OSError(refusal.errno, refusal.strerror, str(folder / written)) from None


def _refusal(error: Exception, file: Path) -> OSError | None:
    """What the disk answered to a library that wrote a file, or answers to a little more; None if it refuses nothing."""
    number = re.search(r"\(os error (\d+)\)", str(error))  # so libraries in Rust end their messages, as safetensors
    if number and int(number[1]) in FULL:
        return OSError(int(number[1]), os.strerror(int(number[1])))
    try:
        with open(file, "ab", buffering=0) as opened:
            for _ in range(16):  # in small parts: a little room may be left
                opened.write(bytes(1 << 16))
            os.fsync(opened.fileno())
    except OSError as e:
        return e
    return None


def _below(name: object, folder: Path) -> bool:
    return isinstance(name, (str, os.PathLike)) and Path(name).is_relative_to(folder)


def _newest(folder: Path) -> str | None:
    """The name of the file in a folder, at any depth, that was written last; None if there is none."""
    files = [p for p in folder.rglob("*") if p.name != LOCK and p.is_file() and not p.is_symlink()]
    newest = max(files, key=lambda p: p.stat().st_mtime_ns, default=None)
    return None if newest is None else str(newest.relative_to(folder))


def sha256(data: bytes | bytearray | memoryview) -> str:
    """Hexadecimal SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: str | os.PathLike) -> str:
    """Hexadecimal SHA-256 of a file's contents."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def safe_name(name: str) -> str:
    """A name as one visible component of a path, on any file system, whatever the name is.

    Separators and characters that do not print become "_". Dots and spaces at both ends are removed, so that the result
    is neither hidden nor "..". It has at most 120 bytes in UTF-8, and is "_" rather than empty.
    """
    text = "".join(c if c.isprintable() and c not in '/\\:*?"<>|' else "_" for c in unicodedata.normalize("NFC", name))
    text = text.strip(". ").encode()[:LONGEST].decode(errors="ignore").strip(". ")
    return text or "_"


def folder_names(paths: Iterable[str | os.PathLike]) -> list[str]:
    """A name for a folder of results for each file: different names, also where upper and lower case count as the same.

    It is `safe_name` of the file's name without its suffix. Files that would share it keep their suffix, and those that
    still share a name get a number: a/x.png, b/x.png and c/y.png become x, x-2 and y.
    """
    files = [Path(p) for p in paths]
    stems = [safe_name(p.stem) for p in files]
    suffixes: dict[str, set[str]] = {}
    for path, stem in zip(files, stems):
        suffixes.setdefault(stem.casefold(), set()).add(path.suffix)
    names: list[str] = []
    taken: set[str] = set()
    numbers: dict[str, int] = {}  # the last number of each base, so that many files of one name are not counted again
    for path, stem in zip(files, stems):
        base = stem if len(suffixes[stem.casefold()]) == 1 else safe_name(path.name)
        name, number = base, numbers.get(base.casefold(), 1)
        while name.casefold() in taken:
            number += 1
            name = f"{base}-{number}"
        numbers[base.casefold()] = number
        taken.add(name.casefold())
        names.append(name)
    return names
