"""Building the native operations: with ninja, when they are first used, into a cache, and never twice.

The sources in ``csrc/`` include no header of torch: they export plain C functions, compile in seconds, and depend on no ABI
but C's. A build is made in a folder of its own and moved to its place at once, so what lies there is whole.
"""

import atexit
import contextlib
import hashlib
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from stylegan_invert.cache import cache_dir
from stylegan_invert.errors import OpsError

SOURCES = Path(__file__).parent / "csrc"
NAME = "stylegan_invert_ops"
CFLAGS = ["-O3", "-march=native", "-fno-math-errno", "-fvisibility=hidden", "-std=c++17"]
WAIT = 600  # seconds: nobody waits longer for another's build


class Target(NamedTuple):
    """What is built: for the CPU alone, or also for the CUDA architecture ``arch``, as "9.0"."""

    arch: str | None = None

    @classmethod
    def of(cls, device: torch.device) -> "Target":
        """What tensors on a device need."""
        if device.type != "cuda":
            return cls()
        return cls(".".join(map(str, torch.cuda.get_device_capability(device))))


def compiler() -> str:
    """The C++ compiler that torch's extensions take."""
    return os.environ.get("CXX", "c++")


def nvcc() -> str | None:
    """The path of nvcc, where torch's extensions look for it; None if it is not there."""
    from torch.utils import cpp_extension

    if cpp_extension.CUDA_HOME is None:
        return None
    path = Path(cpp_extension.CUDA_HOME) / "bin" / "nvcc"
    return str(path) if path.exists() else None


def version_of(program: str) -> str | None:
    """What a program answers to --version; None if it cannot be run."""
    return _answer(program, "--version")


def architectures(nvcc_path: str) -> str | None:
    """The architectures that an nvcc can compile for, as it lists them; None if it does not say."""
    return _answer(nvcc_path, "--list-gpu-arch")


def _answer(program: str, flag: str) -> str | None:
    try:
        found = subprocess.run([program, flag], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() if found.returncode == 0 else None


def cpu_features() -> str:
    """A text that differs between processors for which code compiled for the one might not run on the other."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return f"{platform.machine()} {line.partition(':')[2].strip()}"
    return f"{platform.machine()} {platform.processor()} {torch.backends.cpu.get_cpu_capability()}"


def flags() -> list[str]:
    """Of the C++ compiler."""
    return CFLAGS + ([] if sys.platform == "darwin" else ["-fopenmp"])


def openmp() -> list[str]:
    """What links OpenMP: torch's own copy where it brings one, since threads of two copies would wait in each other's way."""
    if sys.platform == "darwin":
        return []
    package = Path(torch.__file__).parent
    own = sorted([*package.glob("lib/libgomp*.so*"), *package.parent.glob("torch.libs/libgomp*.so*")])
    return [str(own[0])] if own and "clang" not in (version_of(compiler()) or "") else ["-fopenmp"]


def key(target: Target) -> str:
    """What a build depends on, but for the compilers, as one name: two machines with the same one can share it."""
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
    """What the compilers answer; None for one that is not there."""
    return [version_of(compiler()), *([version_of(nvcc() or "nvcc")] if target.arch else [])]


def folder() -> Path:
    """Where builds are kept."""
    return cache_dir() / "ops"


def built(target: Target) -> Path:
    """Where the library is, or would be; where a compiler is missing, one that another has made will do."""
    name, versions = f"{NAME}-{key(target)}", compilers(target)
    if None in versions:
        for made in sorted(folder().glob(f"{name}-*.so")):
            return made
    return folder() / f"{name}-{hashlib.sha256(json.dumps(versions).encode()).hexdigest()[:8]}.so"


def build(target: Target) -> Path:
    """The path of the library, built now if it is not there.

    Of several processes that want it at once, one builds and the others wait for it, for ten minutes at most. Where the cache
    cannot be written to, the library is built for this process alone.

    Raises:
        OpsError: it cannot be built, with the reason in one line.
    """
    if sys.platform == "win32":
        raise OpsError("the native operations are not built on Windows")
    path = built(target)
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock"), until=path.exists) as mine:
            if path.exists():
                return path
            if mine:
                for left in path.parent.glob(f".{path.stem}-*"):  # of a build that was killed
                    shutil.rmtree(left, ignore_errors=True)
            if sys.stderr.isatty():
                print("stylegan-invert: compiling the native operations, once; a minute at most", file=sys.stderr)
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as work:
                os.replace(compiled(target, Path(work)), path)
        return path
    except OSError as e:
        print(f"stylegan-invert: the cache {path.parent} cannot be used ({e.strerror}); the native operations are built "
              "for this process alone", file=sys.stderr)  # fmt: skip
        work = tempfile.mkdtemp(prefix=NAME)
        atexit.register(shutil.rmtree, work, ignore_errors=True)
        return compiled(target, Path(work))


def compiled(target: Target, work: Path) -> Path:
    """The library, compiled in the folder ``work``.

    Raises:
        OpsError: that failed.
    """
    if version_of(compiler()) is None:
        raise OpsError(f"there is no C++ compiler ({compiler()}); install g++ or clang, or set CXX")
    from torch.utils import cpp_extension

    if not cpp_extension.is_ninja_available():
        raise OpsError("ninja is not installed: pip install ninja")
    files = [SOURCES / "cpu.cpp"]
    if target.arch:
        if nvcc() is None:
            raise OpsError("there is no nvcc; install the CUDA toolkit that torch is built with, or set CUDA_HOME")
        files.append(SOURCES / "cuda.cu")
    before = os.environ.get("TORCH_CUDA_ARCH_LIST")
    try:
        if target.arch:
            os.environ["TORCH_CUDA_ARCH_LIST"] = target.arch
        cpp_extension.load(
            NAME, [str(f) for f in files], extra_cflags=flags(), extra_cuda_cflags=["-O3", "-std=c++17"],
            extra_ldflags=openmp(), build_directory=str(work),
            with_cuda=bool(target.arch), is_python_module=False, verbose=False,
        )  # fmt: skip
    except (RuntimeError, OSError, ImportError, subprocess.SubprocessError) as e:
        lines = [line for line in str(e).splitlines() if "error" in line.lower()] or str(e).splitlines() or [repr(e)]
        raise OpsError(f"compiling failed: {lines[0].strip()[:300]}") from e
    finally:
        if target.arch:
            if before is None:
                os.environ.pop("TORCH_CUDA_ARCH_LIST", None)
            else:
                os.environ["TORCH_CUDA_ARCH_LIST"] = before
    (library,) = work.glob("*.so")  # torch numbers further builds in one process
    return library


@contextlib.contextmanager
def locked(path: Path, until: Callable[[], bool] = lambda: False, wait: float | None = None) -> Iterator[bool]:
    """Hold a lock; gives whether it is held: not, when ``until()`` came true or the time was over while waiting.

    The system takes the lock back when its owner ends, however it ends, so a file that is left behind holds nobody up. It
    names the owner, for whoever wonders.
    """
    import fcntl

    end = time.monotonic() + (WAIT if wait is None else wait)
    with open(path, "a+") as f:
        held = False
        while not held and not until() and time.monotonic() < end:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held = True
            except BlockingIOError:
                time.sleep(0.1)
        if held:
            f.truncate(0)
            f.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "began": time.strftime("%F %T")}))
            f.flush()
        yield held


def held_by(path: Path) -> str | None:
    """Whom a lock file names, if somebody holds it; else None."""
    import fcntl

    with open(path, "a+") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return None
        except BlockingIOError:
            f.seek(0)
            return f.read(300) or "somebody"
