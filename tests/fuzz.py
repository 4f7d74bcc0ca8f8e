"""Damaged and hostile files for every reader, in this process, under a memory limit, a clock and a watch.

    python tests/fuzz.py [--count N] [--seed S] [--readers NAME;NAME] [--list]

N damaged copies of small valid files are tried, divided among the readers of `fuzz_readers.READERS`, and the fixed attacks of
`fuzz_attacks.py`. Prints one JSON object, and exits 1 if anything was executed, took five seconds of the processor or more, or never
ended, ran out of memory,
or ended otherwise than in the reader's own error or in a value. `make fuzz N=100000` runs it; `test_hostile.py` a short part.

A copy is a function of the seed, of the reader's name and of its number, so a line of "wrong" can be made again:
--readers NAME --only NUMBER writes it to a file and shows its traceback.
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import torch  # noqa: E402
from fuzz_attacks import executions, exhaustions  # noqa: E402
from fuzz_mutations import mutated  # noqa: E402
from fuzz_readers import MIB, READERS, Reader  # noqa: E402

SECONDS = 5.0
HARMLESS = "evil source that is never run"  # a network with something in it that is never looked at

# Events that a reader of data has no reason to raise (docs.python.org, "Audit events table"). Those of files are allowed
# below the folder of the case.
FORBIDDEN = (
    "exec", "compile", "import", "os.", "subprocess.", "socket.", "pickle.", "ctypes.", "shutil.", "open", "pty.",
    "builtins.input", "code.", "marshal.", "urllib.", "glob.", "tempfile.",
)  # fmt: skip
SYSTEM = ("/proc/", "/sys/fs/", "/dev/null", "/etc/mime.types")


class Watch:
    """What a case did that it must not do."""

    def __init__(self, folder: Path):
        self.folder, self.armed, self.events = str(folder), False, []

    def __call__(self, event: str, args: tuple) -> None:
        if not self.armed or not event.startswith(FORBIDDEN):
            return
        if event == "import" and args[0] in sys.modules:
            return
        files = event == "open" or event.startswith(("os.", "shutil.", "tempfile.", "glob."))
        first = args[0] if args else None
        if files and event not in ("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.startfile", "os.putenv"):
            name = os.fsdecode(first) if isinstance(first, (str, bytes, os.PathLike)) else first
            beside = [a for a in args[1:] if isinstance(a, int) and a > 2]  # a name in a folder that was opened before
            if beside and not os.path.isabs(str(name)) and ".." not in str(name):
                return
            if isinstance(name, int) or name is None or str(name).startswith((self.folder, *SYSTEM)):
                return
        if event in ("os.putenv", "os.unsetenv") and str(first).startswith(("b'STYLEGAN", "STYLEGAN")):
            return  # the harness itself names its cache
        self.events.append(f"{event} {args!r:.200}")


class Slow(BaseException):
    """The clock has run out."""


def _ring(*args: object) -> None:
    raise Slow


class Harness:
    """Runs cases, one after another, and keeps count.

    Args:
        folder: an empty folder, below which everything happens.
    """

    def __init__(self, folder: Path):
        self.folder, self.watch = folder, Watch(folder)
        self.counts: Counter = Counter()
        self.wrong: list[str] = []
        self.slowest = (0.0, "")
        sys.addaudithook(self.watch)
        signal.signal(signal.SIGALRM, _ring)

    def limit(self, mib: int) -> None:
        """Allow so much memory on top of what the process has now."""
        with open("/proc/self/statm") as f:
            base = int(f.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (base + mib * MIB, resource.RLIM_INFINITY))

    def attempt(self, what: str, reader: Reader, path: Path) -> bool:
        """Read a file; returns True if it was read, False if it was refused."""
        self.watch.events.clear()
        began, read = time.process_time(), False
        signal.setitimer(signal.ITIMER_REAL, 6 * SECONDS)  # for what waits; a busy machine must not ring it
        self.watch.armed = True
        try:
            reader.read(path)
            read = True
        except reader.error as e:
            self.watch.armed = False
            text = str(e)
            if not text or len(text) > 1200 or not text.isprintable():
                self.wrong.append(f"{what}: an error of {len(text)} characters: {text[:200]!r}")
        except BaseException as e:
            self.watch.armed = False
            place = traceback.extract_tb(e.__traceback__)[-1]
            where = f"{Path(place.filename).name}:{place.lineno}"
            self.wrong.append(f"{what}: {type(e).__name__} at {where}: {str(e)[:200]}")
            if isinstance(e, KeyboardInterrupt):
                raise
        finally:
            self.watch.armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
        seconds = time.process_time() - began
        self.slowest = max(self.slowest, (seconds, what))
        if seconds >= SECONDS:
            self.wrong.append(f"{what}: took {seconds:.1f} s")
        if self.watch.events:
            self.wrong.append(f"{what}: raised {self.watch.events[:3]}")
        self.counts["read" if read else "refused"] += 1
        return read

    def attacks(self) -> None:
        """The fixed attacks, as network files."""
        reader, path = READERS["StyleGAN2"], self.folder / "attack.pkl"
        for what, data in [*executions(), *exhaustions()]:
            path.write_bytes(data)
            self.counts["attacks"] += 1
            if self.attempt(f"attack: {what}", reader, path) and what != HARMLESS:
                self.wrong.append(f"attack: {what}: was read")

    def damage(self, name: str, count: int, seed: int, only: int | None = None) -> None:
        """Damaged copies of the file of one reader. The valid file itself must be read."""
        reader = READERS[name]
        original = self.folder / f"original {len(list(self.folder.iterdir()))}"
        original.mkdir()
        path = reader.make(original)
        data = path.read_bytes()
        case = self.folder / "case"
        shutil.copytree(original, case)
        copy = case / path.relative_to(original)
        beside = {p.relative_to(original): p.read_bytes() for p in original.rglob("*") if p.is_file() and p != path}
        reader.read(copy)  # also every late import happens before the watch begins
        for warm in (data[: len(data) // 2], b"", data):
            copy.write_bytes(warm)
            try:
                reader.read(copy)
            except reader.error:
                pass
        self.limit(reader.mib)
        for number in range(count) if only is None else [only]:
            rng = random.Random(f"{seed} {name} {number}")
            changed = data
            for _ in range(rng.choice([1, 1, 1, 2, 4])):
                changed = mutated(changed, rng)
            copy.write_bytes(changed)
            if only is not None:
                kept = Path(tempfile.gettempdir()) / f"fuzz-{number}{path.suffix}"
                kept.write_bytes(changed)
                print(f"{name} {number}: {kept}", file=sys.stderr)
                reader.read(copy)
            self.attempt(f"{name} {number}", reader, copy)
            shutil.rmtree(case / "cache", ignore_errors=True)
            if number % 50 == 0:  # a reader may have changed what lies beside
                for other, content in beside.items():
                    if not (case / other).exists() or (case / other).read_bytes() != content:
                        (case / other).write_bytes(content)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        shutil.rmtree(case)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--count", type=int, default=2000, help="damaged copies, of all readers together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--readers", default="", help="names of readers, with semicolons between them; all if left out")
    parser.add_argument("--only", type=int, help="the number of one case, which is written to a file and read")
    parser.add_argument("--list", action="store_true", help="print the names of the readers")
    args = parser.parse_args()
    if args.list:
        print("\n".join(READERS))
        return 0
    names = [name.strip() for name in args.readers.split(";") if name.strip()] or list(READERS)
    share = args.count / sum(READERS[name].weight for name in names)
    per_reader = {}
    with tempfile.TemporaryDirectory() as folder:
        harness = Harness(Path(folder))
        for name in names:
            before, began = Counter(harness.counts), time.perf_counter()
            count = max(1, round(share * READERS[name].weight))
            harness.damage(name, count, args.seed, args.only)
            tried = harness.counts - before
            per_reader[name] = {**tried, "seconds": round(time.perf_counter() - began, 1)}
            print(f"{name}: {per_reader[name]}", file=sys.stderr, flush=True)
        if "StyleGAN2" in names and args.only is None:
            harness.limit(READERS["StyleGAN2"].mib)
            harness.attacks()
    report = {
        **harness.counts,
        "readers": per_reader,
        "slowest_s": [round(harness.slowest[0], 3), harness.slowest[1]],
        "wrong": len(harness.wrong),
        "kinds": dict(Counter(w.partition(": ")[2][:90] for w in harness.wrong).most_common(40)),
        "first": harness.wrong[:40],
    }
    print(json.dumps(report, indent=2))
    return 1 if harness.wrong else 0


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of zipfile, about repeated names
    torch.set_num_threads(1)
    sys.exit(main())
