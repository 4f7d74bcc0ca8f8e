"""The CUDA kernels on a CPU; cuda_kernels.py has the checks."""
# Takes at most 40 CPU seconds.

import os
import subprocess
import sys

import pytest

from stylegan_invert.ops import build, native

import cuda_kernels
from official import HERE

pytestmark = pytest.mark.skipif(
    build.version_of(build.compiler()) is None, reason="needs a C++ compiler: install g++, or set CXX"
)

MISTAKES = {
    "no barrier after the taps are loaded": ("taps[k] = f[k];\n  __syncthreads();", "taps[k] = f[k];"),
    "no barrier before warps' sums are read": ("/ 32] = x;\n  __syncthreads();", "/ 32] = x;"),
    "threads that leave before a barrier": ("if (!dbias && !dscale) continue;", "if (!inside) continue;"),
    "a row too many": ("fy < o.h && fx >= 0", "fy <= o.h && fx >= 0"),
    "a pixel too many": ("size - pixel < taps ? size - pixel : taps", "size - pixel < taps ? size - pixel + 1 : taps"),
    "neighbours of two lines in one pack": ("if (inner % MOST == 0 && ", "if ("),
    "a nan that ReLU makes zero": ("(u <= 0 ? T(0) : u)", "(u > 0 ? u : T(0))"),
    "a sum in single precision": ("double sum = 0, along = 0;", "float sum = 0, along = 0;"),
}  # fmt: skip


def run(library, **environment):
    command = [sys.executable, "-W", "ignore", HERE / "cuda_kernels.py", library]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_the_kernels(tmp_path):
    cuda_kernels.check(cuda_kernels.build(tmp_path))


def test_every_exported_function_is_checked():
    source, checks = cuda_kernels.SOURCE.read_text(), (HERE / "cuda_kernels.py").read_text()
    exported = [line.split("int ")[1].split("_##")[0] for line in source.splitlines() if 'extern "C"' in line]
    assert sorted(exported) == sorted(native.FUNCTIONS["cuda"])
    assert all(f'"{name}"' in checks for name in exported)


@pytest.mark.slow
def test_the_kernels_under_sanitizers(tmp_path):
    """They read and write nothing beside their tensors, and do nothing that C++ leaves undefined."""
    library = cuda_kernels.build(tmp_path, ["-O1", *cuda_kernels.SANITIZERS])
    compiler = build.compiler()
    runtime = subprocess.run([*compiler, "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip()
    result = run(library, LD_PRELOAD=runtime, ASAN_OPTIONS="detect_leaks=0")
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("mistake", list(MISTAKES))
def test_a_mistake_is_noticed(mistake, tmp_path):
    """The checks fail for a source with a mistake in it."""
    source, (right, wrong) = cuda_kernels.SOURCE.read_text(), MISTAKES[mistake]
    assert right in source
    result = run(cuda_kernels.build(tmp_path, source=source.replace(right, wrong)))
    assert result.returncode != 0 and ("AssertionError" in result.stderr or "cuda_shim: " in result.stderr), (
        result.stderr[-3000:]
    )
