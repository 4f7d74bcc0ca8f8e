"""Finds out whether the native operations work, and what is missing if they do not."""

import os
import re
import shlex
import sys
from typing import Any, NamedTuple

import torch

from stylegan_invert.cache import cache_dir
from stylegan_invert.errors import OpsError

from . import ACTIVATIONS, bias_act, build, native, normalize_2nd_moment, setup_filter, upfirdn2d


class Check(NamedTuple):
    """One thing that was looked at.

    Attributes:
        name: what was looked at.
        ok: False if it is a reason why the native operations do not work.
        found: what was found.
        remedy: the step that mends it; empty if there is nothing to mend.
    """

    name: str
    ok: bool
    found: str
    remedy: str = ""


def examine(device: torch.device) -> dict[str, Any]:
    """Look at all that the native operations need, build the library if it is missing, and run each operation.

    Returns:
        A dictionary with three keys. "device" is the device's name. "checks" is a list of `Check`, each as a dictionary. "works" is
        True if the native operations work on this device.
    """
    target = build.Target.of(device)
    checks = [
        Check("torch", True, f"{torch.__version__}, Python {sys.version.split()[0]}"),
        _mode(), _device(device), _compiler(), _ninja(), *_cuda(device, target.arch), _cache(), *_locks(), *_weights(),
    ]  # fmt: skip
    works = False
    if device.type in native.DTYPES:
        try:
            with native.using("native"):
                loaded = native.library(device)
            if isinstance(loaded, OpsError):
                raise loaded
            checks.append(Check("library", True, loaded._name))
            _run(device)
            checks.append(Check("operations", True, "each ran, and agreed with its reference"))
            works = True
        except Exception as e:  # any failure is reported, since finding it is the purpose of this command
            mended = next((c.remedy for c in checks if not c.ok and c.remedy), "")
            checks.append(Check("library", False, str(e)[:500], "" if mended else "read the message above"))
    return {"device": str(device), "works": works, "checks": [c._asdict() for c in checks]}


def _mode() -> Check:
    name = os.environ.get("STYLEGAN_INVERT_OPS", "not set")
    ok = name in (*native.MODES, "not set")
    remedy = "" if ok else f"set STYLEGAN_INVERT_OPS to one of {', '.join(native.MODES)}"
    return Check("STYLEGAN_INVERT_OPS", ok, name, remedy)


def _device(device: torch.device) -> Check:
    if device.type == "cuda":
        return Check("device", True, f"{torch.cuda.get_device_name(device)}, {torch.get_num_threads()} CPU threads")
    there = device.type in native.DTYPES
    remedy = (
        "" if there else "the operations run in their reference form there; there is no native form for such a device"
    )
    return Check("device", there, f"{device}, {torch.get_num_threads()} threads", remedy)


def _compiler() -> Check:
    version = build.version_of(build.compiler())
    if version is None:
        return Check(
            "C++ compiler",
            False,
            f"{shlex.join(build.compiler())} cannot be run",
            "install g++ or clang (apt install g++), or set CXX",
        )
    return Check("C++ compiler", True, version.splitlines()[0])


def _ninja() -> Check:
    path = build.ninja()
    return Check("ninja", path is not None, path or "missing", "" if path else "pip install ninja")


def _cuda(device: torch.device, arch: str | None) -> list[Check]:
    if device.type != "cuda":
        return []
    nvcc = build.nvcc()
    if nvcc is None:
        return [
            Check("nvcc", False, "missing", f"install the CUDA toolkit {torch.version.cuda}, or set CUDA_HOME to it")
        ]
    text = build.version_of(nvcc) or ""
    match = re.search(r"release (\d+)\.(\d+)", text)
    ours, theirs = (match[0].removeprefix("release ") if match else "unknown"), torch.version.cuda or ""
    same = ours.split(".")[0] == theirs.split(".")[0]
    checks = [
        Check(
            "nvcc",
            same,
            f"{ours}, torch has CUDA {theirs}",
            "" if same else f"install the CUDA toolkit {theirs}, or set CUDA_HOME to it",
        )
    ]
    listed = build.architectures(nvcc)
    if listed is not None:
        known = f"compute_{(arch or '').replace('.', '')}" in listed
        remedy = "" if known else f"install a CUDA toolkit that knows {arch}, and a torch that is built with it"
        checks.append(Check("architecture", known, f"{arch}, nvcc {'knows' if known else 'does not know'} it", remedy))
    return checks


def _cache() -> Check:
    folder = build.folder()
    reason = build.distrust(folder)
    if reason is None:
        try:
            build.make_folder(folder)
            if not os.access(folder, os.W_OK):
                reason = "it cannot be written to"
        except OSError as e:
            reason = e.strerror or str(e)
    if reason is None:
        return Check("cache", True, str(folder))
    remedy = "set STYLEGAN_INVERT_CACHE to a folder of your own; until then every process builds for itself"
    return Check("cache", False, f"{folder}: {reason}", remedy)


def _locks() -> list[Check]:
    folder = build.folder()
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        return []
    owners = [build.held_by(path) for path in sorted(folder.glob("*.lock"))]
    remedy = "wait for it, or end that process; a build of your own begins after ten minutes"
    return [Check("lock", True, f"a build is under way, by {owner}", remedy) for owner in owners if owner is not None]


def _weights() -> list[Check]:
    folder = cache_dir()
    files = sorted(p for p in folder.iterdir() if p.is_file()) if folder.is_dir() else []
    size = sum(p.stat().st_size for p in files) / 2**20
    return [Check("downloads", True, f"{len(files)} files, {size:.0f} MiB in {folder}")]


def _run(device: torch.device) -> None:
    """Run each operation in its native form, and compare the result with that of the reference form.

    Raises:
        RuntimeError: the two disagree.
    """
    random = torch.Generator().manual_seed(0)
    x = torch.randn([2, 5, 9, 7], generator=random).to(device)
    b, noise, scale = (torch.randn(s, generator=random).to(device) for s in ([5], [1, 1, 9, 7], [2, 5]))
    f = setup_filter([1, 3, 3, 1]).to(device)
    runs = {
        f"bias_act {act}": lambda act=act: bias_act(x, b, act, clamp=2.0, noise=noise, scale=scale)
        for act in ACTIVATIONS
    } | {
        "upfirdn2d": lambda: upfirdn2d(x, f, up=2, padding=[2, 1, 2, 1], gain=4),
        "pixel_norm": lambda: normalize_2nd_moment(x),
    }
    for name, run in runs.items():
        with native.using("native"):
            result = run()
        with native.using("reference"):
            expected = run()
        if not torch.allclose(result, expected, rtol=1e-4, atol=1e-4):
            raise RuntimeError(f"{name} differs from its reference by {float((result - expected).abs().max()):.2g}")
