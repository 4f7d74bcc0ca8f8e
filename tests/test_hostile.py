"""Hostile and damaged files of every kind: none executes, hangs or exhausts memory; each ends in a clear error (fuzz.py)."""
# Takes at most 30 CPU seconds.

import json
import os
import random
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch

from official import HERE

ROOT_ENV = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])}


@pytest.mark.parametrize("damaged", [700, pytest.param(12_000, marks=pytest.mark.slow)])
@pytest.mark.skipif(
    not os.path.exists("/proc/self/statm"), reason="needs Linux: the memory limit is set through /proc and RLIMIT_AS"
)
def test_hostile_files(damaged):
    """All the attacks, and damaged copies of a good file of each kind."""
    command = [sys.executable, HERE / "fuzz.py", "--count", str(damaged), "--seed", "1"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=3000, env=ROOT_ENV)
    assert result.stdout, result.stderr[-2000:]
    report = json.loads(result.stdout)
    assert report["first"] == []
    tried = sum(reader.get("read", 0) + reader.get("refused", 0) for reader in report["readers"].values())
    assert report["attacks"] > 300 and report["refused"] + report["read"] == report["attacks"] + tried
    assert tried > 0.9 * damaged and all(reader.get("refused", 0) > 0 for reader in report["readers"].values())
    assert not os.path.exists("/nowhere")


@pytest.mark.parametrize("fault", ["os.system('true')", "open('/etc/hostname').close()", "__import__('colorsys')",
                                   "time.sleep(30)", "bytearray(2**30)", "1 / 0", "None[3]"])  # fmt: skip
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux, as above")
def test_the_harness_notices(fault):
    """A reader that executes, reads elsewhere, imports, sleeps, takes memory or lets an error of Python out is found."""
    code = f"""
import os, sys, time
sys.path.insert(0, {str(HERE)!r})
import fuzz, fuzz_readers
fuzz.SECONDS = 0.3
def read(path):
    if path.read_bytes() != b"0123456789":
        {fault}
def make(folder):
    (folder / "x").write_bytes(b"0123456789")
    return folder / "x"
calm = [True]
def calmly(path):
    if not calm[0]:
        read(path)
fuzz.READERS["bad"] = fuzz_readers.Reader(make, calmly, ValueError)
limit = fuzz.Harness.limit
def then(self, mib):
    limit(self, mib)
    calm[0] = False
fuzz.Harness.limit = then
sys.argv = ["fuzz", "--count", "3", "--readers", "bad"]
sys.exit(fuzz.main())
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=ROOT_ENV)
    assert result.returncode == 1, result.stderr[-2000:]
    assert json.loads(result.stdout)["wrong"] >= (1 if "import" in fault else 3)  # a module is imported once


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_damage_keeps_what_is_checked_first(tmp_path):
    """Zips with a damaged entry have right checksums, and safetensors headers their right length."""
    import fuzz_mutations as mutations

    np.savez(tmp_path / "a.npz", w=np.ones(3))
    packed = (tmp_path / "a.npz").read_bytes()
    header = safetensors.torch.save({"w": torch.ones(3)}, {"about": '{"x": 1}'})
    readable = lengths = changed = 0
    for seed in range(40):
        zipped, st = (
            mutations.of_zip(packed, random.Random(seed)),
            mutations.of_safetensors(header, random.Random(seed)),
        )
        (tmp_path / "b.npz").write_bytes(zipped)
        with zipfile.ZipFile(tmp_path / "b.npz") as z:
            readable += z.testzip() is None
        lengths += st[8 + int.from_bytes(st[:8], "little") :] == header[-12:]
        changed += zipped != packed and st != header
    assert readable == 40 and lengths >= 30 and changed >= 35
    assert mutations.mutated(packed, random.Random("a")) == mutations.mutated(packed, random.Random("a"))
