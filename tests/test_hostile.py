"""Hostile and damaged files: none executes, hangs or exhausts memory; each ends in a clear error (fuzz.py does the work)."""
# Takes at most 25 CPU seconds.

import json
import os
import subprocess
import sys

import pytest

from official import HERE


@pytest.mark.parametrize("damaged", [800, pytest.param(2400, marks=pytest.mark.slow)])
@pytest.mark.skipif(
    not os.path.exists("/proc/self/statm"), reason="needs Linux: the memory limit is set through /proc and RLIMIT_AS"
)
def test_hostile_files(tiny_file, damaged):
    """All the attacks, and copies of a good file with some bytes changed at random."""
    path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, HERE / "fuzz.py", tiny_file, str(damaged), "1"],
        capture_output=True,
        text=True,
        timeout=400,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert result.stdout, result.stderr[-2000:]
    report = json.loads(result.stdout)
    assert report["wrong"] == []
    assert report["attacks"] > 300 and report["refused"] + report["read"] == report["attacks"] + damaged
    assert not os.path.exists("/nowhere")
