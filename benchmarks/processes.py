"""Training with two processes beside one process with two threads: python benchmarks/processes.py DATA

Runs of two lengths alternate, and their difference is reported, so that reading the pictures and starting do not count. Of
the wall times that of the least disturbed run is taken; CPU seconds are those of all processes together. Threads that wait
sleep (OMP_WAIT_POLICY=passive), so that waiting does not count as computing.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHORT, LONG = 0.032, 0.352  # thousands of pictures
WAYS = {
    "one process, two threads": ([], "2"),
    "two processes, one thread each": (
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
        "1",
    ),
}


def measure(launcher: list[str], threads: str, kimg: float, args: list[str]) -> tuple[float, float]:
    """Wall seconds of the steps (from the log), and CPU seconds of all processes."""
    with tempfile.TemporaryDirectory() as folder:
        run = [
            "-m",
            "stylegan_invert",
            "train",
            "-q",
            "--device",
            "cpu",
            "--outdir",
            f"{folder}/run",
            "--kimg",
            str(kimg),
        ]
        before = os.times()
        subprocess.run(
            [sys.executable, *launcher, *run, "--metric-samples", "0", "--tick", "1000", *args],
            env={**os.environ, "OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "passive", "PYTHONPATH": str(ROOT)}, cwd=ROOT, check=True,
        )  # fmt: skip
        after = os.times()
        line = json.loads(Path(folder, "run", "log.jsonl").read_text().splitlines()[-1])
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return line["seconds"], cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--resolution", default="32")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    args = ["--data", options.data, "--resolution", options.resolution, "--pictures", "0:320", "--head", "direction"]
    args += ["--mixing", "0", "--pl-weight", "0", "--batch", "32"]
    pictures = round((LONG - SHORT) * 1000)
    walls, cpus = ({name: [] for name in WAYS} for _ in range(2))
    for _ in range(options.repeats):
        for name, (launcher, threads) in WAYS.items():
            (short, short_cpu), (long, long_cpu) = (measure(launcher, threads, k, args) for k in (SHORT, LONG))
            walls[name].append((long - short) / pictures)
            cpus[name].append((long_cpu - short_cpu) / pictures)
            print(f"{name}: {1000 * walls[name][-1]:.1f} ms, CPU {1000 * cpus[name][-1]:.1f} ms a picture", flush=True)
    load = os.getloadavg()[0]
    print(
        f"\n{options.resolution}x{options.resolution}, load of the machine at the end {load:.1f}, {time.strftime('%Y-%m-%d')}"
    )
    print("| | wall ms a picture, least of all runs | CPU ms a picture, least of all runs |\n|---|---|---|")
    for name in WAYS:
        print(f"| {name} | {1000 * min(walls[name]):.1f} | {1000 * min(cpus[name]):.1f} |")


if __name__ == "__main__":
    main()
