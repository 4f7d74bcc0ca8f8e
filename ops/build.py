"""Compiles the native operations with ninja when they are first used, and keeps the libraries in the cache.

The sources in ``csrc/`` include no header of torch. They export plain C functions, compile in seconds, and depend on no binary
interface but that of C.

A library in the cache is machine code that this process will run, so two things are checked before it is loaded:

* The folder must belong to the user or to root, and nobody else may write to it or to a folder above it; see `distrust`.
* The file must have the size and the SHA-256 that the build wrote beside it; see `is_whole`. A file that was cut short would
  otherwise end the process with SIGBUS.

A folder that fails the first check is neither read nor written. A file that fails the second is built again.
"""

import atexit
import contextlib
import errno
import hashlib
import io
import json
import os
import platform
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from stylegan_invert.cache import cache_dir
from stylegan_invert.errors import OpsError, printable

SOURCES = Path(__file__).parent / "csrc"
NAME = "stylegan_invert_ops"
CFLAGS = ["-O3", "-march=native", "-fno-math-errno", "-fvisibility=hidden", "-std=c++17"]
WAIT = 600  # seconds; the longest time that one process waits for the build of another

_notices: set[str] = set()  # what `_say_once` has printed


class Target(NamedTuple):
    """What a library is compiled for.

    Attributes:
        arch: a CUDA architecture such as "9.0", whose kernels are added to those for the CPU; None for the CPU alone.
    """

    arch: str | None = None

    @classmethod
    def of(cls, device: torch.device) -> "Target":
        """The target that tensors on a device need."""
        if device.type != "cuda":
            return cls()
        return cls(".".join(map(str, torch.cuda.get_device_capability(device))))


# ---------------------------------------------------------------------------------------------------------------- tools


def compiler() -> list[str]:
    """The C++ compiler and its arguments: the words of the environment variable ``CXX``, else ``c++``.

    Raises:
        OpsError: a quotation in ``CXX`` is not closed.
    """
    try:
        return shlex.split(os.environ.get("CXX", "")) or ["c++"]
    except ValueError as e:
        raise OpsError(f"CXX is {os.environ['CXX']!r}, which is no command line ({e})") from e


def nvcc() -> str | None:
    """The path of nvcc: in ``CUDA_HOME`` or ``CUDA_PATH``, else on ``PATH``, else in /usr/local/cuda. None if it is missing."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    if home:
        path = Path(home) / "bin" / "nvcc"
        return str(path) if path.exists() else None
    usual = "/usr/local/cuda/bin/nvcc"
    return shutil.which("nvcc") or (usual if os.path.exists(usual) else None)


def ninja() -> str | None:
    """The path of ninja: where pip put it, which need not be on ``PATH``, else on ``PATH``. None if it is missing."""
    folders = [os.path.dirname(sys.executable)]
    with contextlib.suppress(ImportError, AttributeError):
        import ninja as package

        folders.insert(0, package.BIN_DIR)
    for folder in folders:
        path = shutil.which("ninja", path=folder) if os.path.isabs(folder) else None
        if path is not None:
            return path
    return shutil.which("ninja")


def version_of(program: str | list[str]) -> str | None:
    """What a program answers to --version; None if it cannot be run."""
    return _answer([program] if isinstance(program, str) else program, "--version")


def architectures(nvcc_path: str) -> str | None:
    """The architectures that an nvcc can compile for, as it lists them; None if it does not say."""
    return _answer([nvcc_path], "--list-gpu-arch")


def _answer(program: list[str], flag: str) -> str | None:
    try:
        result = subprocess.run([*program, flag], capture_output=True, text=True, errors="replace", timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def cpu_features() -> str:
    """A text that differs between two processors if code compiled for the one might not run on the other."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return f"{platform.machine()} {line.partition(':')[2].strip()}"
    return f"{platform.machine()} {platform.processor()} {torch.backends.cpu.get_cpu_capability()}"


def flags() -> list[str]:
    """The flags of the C++ compiler."""
    return CFLAGS + ([] if sys.platform == "darwin" else ["-fopenmp"])


def openmp() -> list[str]:
    """The arguments that link OpenMP.

    If torch brings its own copy of GCC's library, that one is linked. Otherwise the threads of two copies would compete.
    """
    if sys.platform == "darwin":
        return []
    package = Path(torch.__file__).parent
    own = sorted([*package.glob("lib/libgomp*.so*"), *package.parent.glob("torch.libs/libgomp*.so*")])
    return [str(own[0])] if own and "clang" not in (version_of(compiler()) or "") else ["-fopenmp"]


# ---------------------------------------------------------------------------------------------------------------- names


def key(target: Target) -> str:
    """A name made of all that a build depends on, except for the compilers. Machines with the same name can share a build."""
    parts = {
        "sources": [hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(SOURCES.iterdir())],
        "torch": torch.__version__,
        "python": sys.implementation.cache_tag,
        "cuda": torch.version.cuda if target.arch else None,
        "arch": target.arch,
        "flags": flags(),
        "cpu": cpu_features(),
    }
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:20]


def compilers(target: Target) -> list[str | None]:
    """The versions of the compilers that a target needs; None for one that is missing."""
    return [version_of(compiler()), *([version_of(nvcc() or "nvcc")] if target.arch else [])]


def folder() -> Path:
    """The folder that holds the libraries."""
    return cache_dir() / "ops"


def built(target: Target) -> Path:
    """The path that the library has or will have.

    If a compiler is missing, a library that another compiler has made for the same target is taken, provided that it is whole.
    """
    name, versions = f"{NAME}-{key(target)}", compilers(target)
    if None in versions:
        for library in sorted(folder().glob(f"{name}-*.so")):
            if is_whole(library):
                return library
    return folder() / f"{name}-{hashlib.sha256(json.dumps(versions).encode()).hexdigest()[:8]}.so"


# ---------------------------------------------------------------------------------------------------------------- trust


def distrust(path: Path) -> str | None:
    """Why native code from a folder must not be loaded; None if it may be.

    The folder and those above it must belong to the user or to root, and may be writable by nobody else. Two exceptions are
    safe: a folder above may be writable by all if it has the sticky bit, as /tmp has, and any folder may be writable by the
    user's own group if nobody else is in that group. Folders that do not exist yet are skipped.
    """
    if sys.platform == "win32":
        return None  # nothing is built there
    if not path.is_absolute():
        return f"{path} is not an absolute path"
    real = Path(os.path.realpath(path))
    for place in dict.fromkeys([path, real, *path.parents, *real.parents]):
        try:
            status = os.stat(place)
        except OSError:
            continue
        is_sticky = place not in (path, real) and bool(status.st_mode & stat.S_ISVTX)
        reason = _access_of_others(status, may_be_written=is_sticky)
        if reason is not None:
            return f"{place} {reason}"
    return None


def _access_of_others(status: os.stat_result, may_be_written: bool = False) -> str | None:
    """How users other than this one and root can change a file or a folder; None if they cannot."""
    if status.st_uid not in (0, os.geteuid()):
        return "belongs to another user"
    by_group = status.st_mode & stat.S_IWGRP and not _is_own_group(status.st_gid)
    if (by_group or status.st_mode & stat.S_IWOTH) and not may_be_written:
        return "can be written by other users (chmod go-w makes it safe)"
    return None


def _is_own_group(gid: int) -> bool:
    """True if a group is the user's private one: it has the user's name, and no further member."""
    import grp
    import pwd

    with contextlib.suppress(KeyError):
        group, user = grp.getgrgid(gid), pwd.getpwuid(os.geteuid())
        return gid == user.pw_gid and group.gr_name == user.pw_name and not set(group.gr_mem) - {user.pw_name}
    return False


def _record(library: Path) -> Path:
    """Where the checksum of a library is written down."""
    return library.with_suffix(".json")


def is_whole(library: Path) -> bool:
    """True if a library has the size and the SHA-256 that its build recorded beside it, and nobody else can write either file."""
    try:
        with _open_own(_record(library)) as f:
            record = json.loads(f.read(4096))
        with _open_own(library) as f:
            has_size = record["size"] == os.fstat(f.fileno()).st_size
            return has_size and record["sha256"] == hashlib.file_digest(f, "sha256").hexdigest()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _open_own(path: Path) -> io.BufferedReader:
    """Open a regular file that only the user and root can change.

    Raises:
        OSError: it is missing, a link, something else than a file, or can be changed by others.
    """
    f = open(path, "rb", opener=lambda name, mode: os.open(name, mode | os.O_NONBLOCK | os.O_NOFOLLOW))
    status = os.fstat(f.fileno())
    if not stat.S_ISREG(status.st_mode) or _access_of_others(status) is not None:
        f.close()
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))
    return f


def _install(library: Path, place: Path) -> None:
    """Move a new library to its place in the cache, with its record. Between the two steps the library does not count as whole."""
    record = {"size": library.stat().st_size, "sha256": hashlib.sha256(library.read_bytes()).hexdigest()}
    beside = library.with_name("record.json")
    beside.write_text(json.dumps(record))
    beside.chmod(0o644)
    library.chmod(0o755)
    os.replace(beside, _record(place))
    os.replace(library, place)


def discard(library: Path) -> None:
    """Remove a library from the cache, as far as that is possible, so that the next `build` makes it anew."""
    for path in (_record(library), library):
        with contextlib.suppress(OSError):
            path.unlink()


# ---------------------------------------------------------------------------------------------------------------- build


def build(target: Target) -> Path:
    """The path of the library, which is compiled now if the cache has no whole one.

    If several processes want the same library at once, one compiles it and the others wait, for ten minutes at most. If the cache
    cannot be written to or cannot be trusted, the library is compiled for this process alone, into a temporary folder.

    Raises:
        OpsError: it cannot be compiled, with the reason in one line.
    """
    if sys.platform == "win32":
        raise OpsError("the native operations are not built on Windows")
    try:
        return _build(target)
    except _Terminated:
        os.kill(os.getpid(), signal.SIGTERM)  # now that the work folder is removed: as if it had just arrived
        raise OpsError("the build was ended by SIGTERM") from None


def _build(target: Target) -> Path:
    reason = distrust(folder())
    if reason is not None:
        return _build_for_this_process(target, reason)
    path = built(target)
    if is_whole(path):
        return path
    try:
        make_folder(path.parent)
        with locked(path.with_suffix(".lock"), until=lambda: is_whole(path)) as is_mine:
            if is_whole(path):
                return path
            if is_mine:
                for leftover in path.parent.glob(f".{path.stem}-*"):  # work folders of builds that were killed
                    shutil.rmtree(leftover, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as work:
                _install(compiled(target, Path(work)), path)
        return path
    except OSError as e:
        return _build_for_this_process(target, e.strerror or str(e))


def _build_for_this_process(target: Target, reason: str) -> Path:
    _say_once(
        f"the cache {printable(str(folder()), 300)} is not used for native operations: "
        f"{printable(reason, 300)}; they are built for this process alone"
    )
    work = tempfile.mkdtemp(prefix=NAME)
    atexit.register(shutil.rmtree, work, ignore_errors=True)
    try:
        return compiled(target, Path(work))
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def make_folder(path: Path) -> None:
    """Make a folder and those above it, writable by the user alone whatever the umask is."""
    for place in [*reversed(path.parents), path]:
        with contextlib.suppress(FileExistsError):
            place.mkdir(mode=0o700)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))


def _say(text: str) -> None:
    print(f"stylegan-invert: {text}", file=sys.stderr)


def _say_once(text: str) -> None:
    if text not in _notices:
        _notices.add(text)
        _say(text)


def compiled(target: Target, work: Path) -> Path:
    """The library, compiled in the folder ``work``.

    Raises:
        OpsError: a tool is missing, or compiling failed; the message then has the compiler's first error.
    """
    if version_of(compiler()) is None:
        raise OpsError(f"there is no C++ compiler ({shlex.join(compiler())}); install g++ or clang, or set CXX")
    builder = ninja()
    if builder is None:
        raise OpsError("ninja is not installed: pip install ninja")
    if target.arch and nvcc() is None:
        raise OpsError("there is no nvcc; install the CUDA toolkit that torch is built with, or set CUDA_HOME")
    (work / "build.ninja").write_text(_ninja_file(target))
    _say(
        f"compiling the native operations for {'this processor' if target.arch is None else f'CUDA {target.arch}'} with "
        f"{printable(shlex.join(compiler()), 100)}{' and nvcc' if target.arch else ''}, once for this machine and version. It "
        f"takes some 15 seconds of a free core{', and more for the kernels' if target.arch else ''}; --ops reference does without"
    )
    start = time.monotonic()
    status, output = _run_and_end_with_us([builder, "-C", str(work)])
    library = work / f"{NAME}.so"
    if status or not library.exists():
        raise OpsError(f"compiling failed: {printable(_first_error(output), 300)}")
    _say(f"compiled in {time.monotonic() - start:.0f} seconds")
    return library


def _ninja_file(target: Target) -> str:
    """The steps of a build: one object for each source, and the library."""
    cxx = shlex.join(compiler())
    steps = {"cpu.o": (SOURCES / "cpu.cpp", f"{cxx} {shlex.join(flags())} -fPIC -c $in -o $out")}
    link = f"{cxx} -shared $in -o $out {shlex.join(openmp())}"
    if target.arch:
        # nvcc takes a program without arguments as its host compiler: of "ccache g++ -m64" that is g++.
        host = [word for word in compiler() if not word.startswith("-")][-1:] if os.environ.get("CXX") else []
        cuda = shlex.join([nvcc() or "nvcc", *(["-ccbin", *host] if host else [])])
        number = target.arch.replace(".", "")
        options = f"-O3 -std=c++17 -Xcompiler -fPIC -gencode=arch=compute_{number},code=sm_{number}"
        steps["cuda.o"] = (SOURCES / "cuda.cu", f"{cuda} {options} -c $in -o $out")
        # nvcc knows where its runtime library lies. The shared one is linked, which torch has loaded already.
        libraries = shlex.join([f"-X{'compiler' if word.startswith('-') else 'linker'}={word}" for word in openmp()])
        link = f"{cuda} -shared -cudart=shared $in -o $out {libraries}"
    lines = ["ninja_required_version = 1.3"]
    for output, (source, command) in steps.items():
        lines += [f"rule make_{output}", f"  command = {command}"]
        lines += [f"build {output}: make_{output} {_ninja_path(source)}"]
    lines += ["rule link", f"  command = {link}", f"build {NAME}.so: link {' '.join(steps)}"]
    return "\n".join(lines) + "\n"


def _ninja_path(path: Path) -> str:
    return re.sub(r"([$ :])", r"$\1", str(path))


def _first_error(output: str) -> str:
    """The line of a build's output that says what went wrong: the first error of a compiler or linker, not ninja's summary."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    summaries = re.compile(r"^(\[\d+/\d+\]|FAILED:|ninja:|collect2:|clang.*linker command failed)|\s-o\s")
    messages = [line for line in lines if not summaries.search(line)]
    for pattern in (
        r"\berror\b.*:|\berror:|\bfatal\b",
        r"undefined reference|cannot find|not found|No such file",
        r"error",
    ):
        for line in messages:
            if re.search(pattern, line, re.IGNORECASE):
                return line
    return (messages or lines or ["no output"])[-1]


class _Terminated(BaseException):
    """SIGTERM arrived during a build; `build` cleans up and sends it again."""


def _run_and_end_with_us(command: list[str]) -> tuple[int, str]:
    """Run a command in a process group of its own.

    If this process is interrupted or terminated meanwhile, the command and the compilers that it started are ended first.

    Returns:
        The exit status, and all output.
    """
    process, terminated = None, False

    def terminate(signum: int, frame: object) -> None:
        nonlocal terminated
        terminated = True
        end()

    def end() -> None:
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)  # ninja passes it on to its compilers

    handled = (
        threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN
    )
    before = signal.signal(signal.SIGTERM, terminate) if handled else None
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", start_new_session=True,
        )  # fmt: skip
        if terminated:  # before there was a process to end
            end()
        output, _ = process.communicate()
    except BaseException:  # KeyboardInterrupt above all
        end()
        if process is not None:
            process.wait()
        raise
    finally:
        if handled:
            signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
    if terminated:
        raise _Terminated
    return process.returncode, output


@contextlib.contextmanager
def locked(path: Path, until: Callable[[], bool] = lambda: False, wait: float | None = None) -> Iterator[bool]:
    """Try to hold a lock for the length of a block; gives True if it is held.

    It gives False if ``until()`` came true while another process held the lock, or if ``wait`` seconds went by. The system frees
    the lock when its owner ends, in whatever way, so a file that is left behind blocks nobody. The file names the owner.
    """
    import fcntl

    end = time.monotonic() + (WAIT if wait is None else wait)
    with open(path, "a+") as f:
        is_held = False
        while not is_held and not until() and time.monotonic() < end:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_held = True
            except BlockingIOError:
                time.sleep(0.1)
        if is_held:
            f.truncate(0)
            f.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "began": time.strftime("%F %T")}))
            f.flush()
        yield is_held


def held_by(path: Path) -> str | None:
    """The text with which a lock file names its owner; None if nobody holds the lock."""
    import fcntl

    with open(path, "a+") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return None
        except BlockingIOError:
            f.seek(0)
            return f.read(300) or "an unknown process"
