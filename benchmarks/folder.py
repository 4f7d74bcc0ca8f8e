"""Runs over many targets: python benchmarks/folder.py processes|overhead|memory|report [--targets N] [--network NET]

processes: one process beside two of torchrun, with three broken pictures among the targets.
overhead: what a run takes for each target besides the search, beside the search with its usual number of steps.
memory: a run over very many targets with one step each: memory and processor time at each tenth of it, and a second start.
report: the page about the last run of "memory" (or of --run DIR).

Processor time is user and system time of all processes together; it is what to trust on a machine that does other things,
too. It needs Linux (/proc). Runs use one thread per process.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
TICK = os.sysconf("SC_CLK_TCK")
BROKEN = {1: b"this is a text", 2: b""}  # besides the first, which is torn


class Sample(NamedTuple):
    """A look at a run: the targets that are dealt with, the memory of its processes in MB, and their processor seconds."""

    done: int
    rss: list[float]
    cpu: float


class Run(NamedTuple):
    """A run that has ended: its seconds, processor seconds, exit status, and the looks at it."""

    wall: float
    cpu: float
    status: int
    samples: list[Sample]


def make_targets(network: str, count: int, folder: Path, broken: bool = False) -> None:
    """Write generated pictures of a network; of three that are ``broken`` one is torn, one a text and one empty."""
    import stylegan_invert as si
    from stylegan_invert.generator import adapt
    from stylegan_invert.media.pictures import write_png
    from stylegan_invert.studies.direction import generated_pictures

    folder.mkdir(parents=True)
    pictures, _ = generated_pictures(adapt(si.load(network).G), count, seed=5)
    for number, picture in enumerate(pictures):
        write_png(folder / f"{number:05d}.png", picture)
    files = sorted(folder.iterdir())
    for number in range(3 if broken else 0):
        file = files[(number + 1) * count // 4]
        file.write_bytes(BROKEN.get(number, file.read_bytes()[:-200]))


def write_small(file: Path) -> None:
    """Write a network with random weights that makes 16x16 pictures with 8 channels, so that its searches take little."""
    import stylegan_invert as si
    from stylegan_invert.network_files.file import NetworkFile
    from stylegan_invert.training.configs import Options
    from stylegan_invert.training.gan import build

    options = Options.for_resolution(16, z_dim=8, w_dim=8, channel_base=64, channel_max=8)
    G, D = (network.eval().requires_grad_(False) for network in build(options))
    si.save(NetworkFile({"G": G, "G_ema": G, "D": D}), file)


def children(pid: int) -> list[int]:
    """The processes that descend from one, and it itself."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in found for one in children(int(child)))]


def look(pid: int, manifest: Path) -> Sample | None:
    """A look at a run; None while it starts, or if a process has just ended."""
    try:
        words = {one: Path(f"/proc/{one}/cmdline").read_bytes().split(b"\0") for one in children(pid)}
        pids = [one for one, said in words.items() if b"project" in said and b"torch.distributed.run" not in said]
        stats = [Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split() for one in pids]
        rss = [
            int(Path(f"/proc/{one}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6 for one in pids
        ]
    except (FileNotFoundError, ProcessLookupError):
        return None
    if not pids:
        return None
    lines = manifest.read_bytes().count(b"\n") if manifest.exists() else 0
    return Sample(max(0, lines - 1), rss, sum(int(s[11]) + int(s[12]) for s in stats) / TICK)


def project(options: list[str], targets: Path, outdir: Path, launcher: Sequence[str] = (), every: float = 0.2) -> Run:
    """Run ``stylegan-invert project``, and look at it now and then."""
    command = [
        sys.executable,
        *launcher,
        "-m",
        "stylegan_invert",
        "project",
        "-t",
        str(targets),
        "-o",
        str(outdir),
        "-q",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "PYTHONPATH": str(ROOT)}
    before, began = os.times(), time.perf_counter()
    process = subprocess.Popen([*command, *options], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    samples = []
    while process.poll() is None:
        sample = look(process.pid, outdir / "manifest.jsonl")
        if sample is not None:
            samples.append(sample)
        time.sleep(every)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Run(time.perf_counter() - began, cpu, process.returncode, samples)


def processes(network: str, count: int, folder: Path) -> None:
    """One process beside two."""
    make_targets(network, count, folder / "targets", broken=True)
    options = ["-n", network, "--method", "w+", "--steps", "10"]
    runs = {}
    print(f"{count:,} targets of {network}, three of them broken; 10 steps of w+\n")
    print("| | wall s | processor s | done | failed | exit status | memory of each process at 10, 50 and 100 %, MB |")
    print("|---|---:|---:|---:|---:|---:|---|")
    for name, launcher in (("two processes", TORCHRUN), ("one process", [])):
        outdir = folder / name.replace(" ", "-")
        run = runs[name] = project(options, folder / "targets", outdir, launcher)
        found = json.loads((outdir / "summary.json").read_text())
        places = [
            next((s for s in run.samples if s.done >= part * count), run.samples[-1]) for part in (0.1, 0.5, 0.995)
        ]
        memory = "; ".join(", ".join(f"{one:.0f}" for one in place.rss) for place in places)
        print(
            f"| {name} | {run.wall:.0f} | {run.cpu:.0f} | {found['done']} | {found['failed']} | {run.status} | {memory} |",
            flush=True,
        )
    one, two = runs["one process"], runs["two processes"]
    print(
        f"\nOn the clock two processes were {one.wall / two.wall:.2f} times as fast as one. By processor time, which says"
    )
    print(f"what they would be with two cores of their own, {2 * one.cpu / two.cpu:.2f} times.")


def bare(network: str, steps: dict[str, int], pictures: list, method: str | None) -> tuple[float, int]:
    """Processor seconds of the search for the code of one target that is in memory, and the number of its steps."""
    import torch

    import stylegan_invert as si
    from stylegan_invert.projectors import Projector

    torch.set_num_threads(1)
    projector = Projector(si.load(network), method, **steps)
    shown = [projector.medium.tensor(picture[None], "cpu") for picture in pictures]
    projector.fit(shown[0])  # what all targets share is made now
    began = time.process_time()
    for one in shown[1:]:
        fitted = projector.fit(one)
    return (time.process_time() - began) / (len(shown) - 1), len(fitted.distance)


def overhead(network: str, count: int, folder: Path) -> None:
    """The fixed cost of a target in a run beside its search with the usual number of steps."""
    from stylegan_invert.media.pictures import read_png

    make_targets(network, count, folder / "targets")
    pictures = [read_png(file) for file in sorted((folder / "targets").iterdir())]
    short, _ = bare(network, {"steps": 1}, pictures[:100], "w+")
    run = project(["-n", network, "--method", "w+", "--steps", "1"], folder / "targets", folder / "run", every=0.05)
    first, last = next(s for s in run.samples if s.done >= count // 10), [s for s in run.samples if s.done < count][-1]
    each = (last.cpu - first.cpu) / (last.done - first.done)
    usual, steps = bare(network, {}, pictures[:4], None)
    print(
        f"{network}, {count:,} targets with one step of w+: {1000 * each:.1f} ms of processor time for each, of which the"
    )
    print(f"search takes {1000 * short:.1f} ms, so {1000 * (each - short):.1f} ms are the run's own.")
    print(
        f"The default method takes {1000 * usual:.0f} ms for a target ({steps} steps); the run adds {(each - short) / usual:.2%}."
    )


def memory(network: str, count: int, folder: Path) -> None:
    """Memory and time over a long run, and a second start."""
    folder.mkdir(exist_ok=True)
    network = network or str(folder / "small.pkl")
    if not Path(network).exists():
        write_small(Path(network))
    make_targets(network, count, folder / "targets")
    options = ["-n", network, "--method", "w+", "--steps", "1", "--loss", "mse=1"]
    run = project(options, folder / "targets", folder / "run")
    print(f"{count:,} targets of {Path(network).name} with one step of w+ and the loss mse\n")
    print("| targets | memory, MB | processor ms for each of the last tenth |\n|---:|---:|---:|")
    before = next(s for s in run.samples if s.done)
    for tenth in range(1, 11):
        now = next((s for s in run.samples if s.done >= tenth * count // 10), run.samples[-1])
        each = 1000 * (now.cpu - before.cpu) / max(1, now.done - before.done)
        print(f"| {now.done:,} | {now.rss[0]:.0f} | {each:.2f} |")
        before = now
    print(
        f"\nIn all {run.wall:.0f} s, {run.cpu:.0f} s of processor time; the most memory {max(s.rss[0] for s in run.samples):.0f} MB."
    )
    again = project(options, folder / "targets", folder / "run")
    print(
        f"The second start, which finds everything finished: {again.wall:.1f} s, {again.cpu:.1f} s of processor time."
    )


def report(run: Path) -> None:
    """The page about a run."""
    began = os.times()
    subprocess.run([sys.executable, "-m", "stylegan_invert", "report", str(run), "-q"], cwd=ROOT, check=True)
    after = os.times()
    cpu = after.children_user + after.children_system - began.children_user - began.children_system
    size = (run / "report.html").stat().st_size / 1e6
    count = sum(1 for _ in run.glob("*/result.json"))
    print(f"The page about {count:,} results has {size:.1f} MB and takes {cpu:.1f} s of processor time.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["processes", "overhead", "memory", "report"])
    parser.add_argument("--targets", type=int, default=1000)
    parser.add_argument("--network", help="[default: cats32-de; for memory a small one of 16x16 pixels]")
    parser.add_argument("--run", type=Path, help="for report: the folder of a run")
    parser.add_argument("--keep", type=Path, help="keep the files here, in a new folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        if options.what == "report":
            if options.run is None:
                parser.error("report needs --run DIR")
            return report(options.run)
        print(f"load of the machine {os.getloadavg()[0]:.1f}, {time.strftime('%Y-%m-%d')}\n", flush=True)
        {"processes": processes, "overhead": overhead, "memory": memory}[options.what](
            options.network or ("" if options.what == "memory" else "cats32-de"), options.targets, folder
        )


if __name__ == "__main__":
    main()
