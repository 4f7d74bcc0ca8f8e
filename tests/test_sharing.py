"""Processes that share targets or parts of a study, and runs over many targets whose cost must not grow with their number."""
# Takes at most 10 CPU seconds.

import json
import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from stylegan_invert.errors import StyleganInvertError
from stylegan_invert.files import plain, sharing
from stylegan_invert.files.sharing import Claims, in_turn
from stylegan_invert.files.writing import folder_names
from stylegan_invert.generator import adapt
from stylegan_invert.media.pictures import write_png
from stylegan_invert.media.targets import find_targets
from stylegan_invert.projectors import Projector
from stylegan_invert.projectors.run_folder import Item, RunFolder, project_into
from stylegan_invert.studies import base
from stylegan_invert.studies.direction import generated_pictures

from conftest import make_network
from official import HERE

HOLDER = """
import sys
from stylegan_invert.files.sharing import Claims
claims = Claims(sys.argv[1])
assert all(claims.take(name) for name in sys.argv[2:])
print("taken", flush=True)
sys.stdin.read()
"""
locks = pytest.mark.skipif(sharing.fcntl is None, reason="this system has no locks on parts of files")


@pytest.fixture(scope="module")
def net():
    return make_network(16)


@pytest.fixture(scope="module")
def targets(net):
    return list(generated_pictures(adapt(net.G), 3, seed=5)[0])


class Holder:
    """Another process that has claimed names."""

    def __init__(self, file, *names):
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(file), *names], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdout.readline() == b"taken\n"

    def kill(self):
        if self.process.returncode is None:
            self.process.kill()
            self.process.communicate()


def test_the_order_of_each_process():
    assert in_turn("abcdefg", 0, 1) == list("abcdefg")
    assert in_turn("abcdefg", 0, 3) == [*"adg", *"fecb"] and in_turn("abcdefg", 2, 3) == [*"cf", *"gedba"]


@locks
def test_what_another_process_has_is_left_to_it_until_it_dies(tmp_path):
    other = Holder(tmp_path / "new" / "claims", "b", "c")
    claims, done = Claims(tmp_path / "new" / "claims"), []
    try:
        assert list(claims.each("abcd", lambda name: False, size=5)) == [["a", "d"]]
        for names in claims.each("abcd", "c".__eq__, wait=other.kill):
            done += names
        assert done == ["a", "d", "b"]  # c was done by the other before it was killed
        Holder(claims.file, *"abcd").kill()  # all are given back
    finally:
        other.kill()
    claims.work = False
    assert list(claims.each("ab", lambda name: False)) == [["a"], ["b"]]


@locks
def test_a_run_takes_up_what_a_dead_process_leaves(net, targets, tmp_path):
    """The other process finishes one of its two targets, and is killed over the other."""
    projector = Projector(net, "w", steps=1, loss="mse")
    items = [Item(target, f"{n}.png", tmp_path / str(n)) for n, target in enumerate(targets)]
    folder, theirs = RunFolder(tmp_path, {}), RunFolder(tmp_path, {})
    other = Holder(tmp_path / sharing.FILE, "0", "1")
    (result,) = projector.project(targets[:1])

    def wait():
        result.save(items[0].folder)
        theirs.done(items[0], result)
        other.kill()

    try:
        found = [item.name for item, _, _ in project_into(folder, projector, items, wait=wait)]
    finally:
        other.kill()
    assert found == ["2.png", "1.png"] and folder.summarise(items)["done"] == 3
    assert len((tmp_path / "manifest.jsonl").read_text().splitlines()) == 4  # the settings, and each target once
    theirs.file.unlink()
    RunFolder(tmp_path, {}).failed(items[0], "no")
    with pytest.raises(StyleganInvertError, match="another process has begun this run anew; stop one of them"):
        folder.read()


@locks
def test_a_sequence_is_not_shared(net, targets, tmp_path):
    other = Holder(tmp_path / sharing.FILE, "1")
    items = [Item(target, f"{n}.png", tmp_path / str(n)) for n, target in enumerate(targets)]
    projector = Projector(net, "w", steps=1, loss="mse")
    try:
        with pytest.raises(StyleganInvertError, match="another process works on this sequence; wait until it has"):
            list(project_into(RunFolder(tmp_path, {}), projector, items, sequence=True))
    finally:
        other.kill()


def test_processes_share_a_study(tmp_path, monkeypatch):
    """The second process of torchrun ends when nothing is left for it. The first waits for the part that another one has."""

    class Way:
        steps = 0

    parts = base.split("real", Way, np.zeros([6, 3, 2, 2], np.uint8), 2, "{:04d}.npz")
    computed = []

    def find(part, progress):
        computed.append(part.first)
        progress(part.work)
        return {"first": np.array([part.first])}

    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(StyleganInvertError, match="this study works with one process only; start it without torchrun"):
        base.begin(tmp_path / "new", {})
    assert not (tmp_path / "new").exists()
    assert base.begin(tmp_path, {}, shared=True) == tmp_path
    other = Holder(tmp_path / sharing.FILE, "0000.npz") if sharing.fcntl else None
    with pytest.raises(base.ShareDone):
        base.find_parts(parts, tmp_path, find, base.uncounted)
    assert computed == ([2, 4] if other else [2, 4, 0])
    monkeypatch.setenv("RANK", "0")
    if other:
        monkeypatch.setattr(base.time, "sleep", lambda seconds: other.kill())
    found = base.find_parts(parts, tmp_path, find, base.uncounted)
    assert computed == [2, 4, 0]
    assert np.array_equal(base.stacked(found["real", Way], "first"), [0, 2, 4])


@pytest.mark.slow
def test_torchrun_finishes_all_targets_but_the_broken_ones(tiny_file, tmp_path):
    """torchrun ends all processes when one fails, so the exit status must not come before the other's work is done."""
    (tmp_path / "in").mkdir()
    for n, target in enumerate(generated_pictures(adapt(make_network(16).G), 24, seed=5)[0]):
        write_png(tmp_path / "in" / f"{n:02d}.png", target)
    (tmp_path / "in" / "00.png").write_bytes(b"")
    command = [
        "project",
        "-n",
        tiny_file,
        "-t",
        tmp_path / "in",
        "-o",
        tmp_path / "out",
        "--method",
        "w",
        "--steps",
        30,
    ]
    command = [
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        2,
        "-m",
        "stylegan_invert",
        *command,
        "--loss",
        "mse=1",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, *map(str, command)], cwd=HERE.parent, env=environment, text=True, capture_output=True
    )
    assert ended.returncode == 1 and "23 of 24 targets are done; see" in ended.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["done"], summary["failed"], summary["waiting"]) == (23, 1, 0)
    assert "00.png: it is empty; expected a picture" in ended.stderr


# What a target costs does not depend on how many there are


def lines_run(function):
    """How many lines of Python a function runs, also in comprehensions and in what it calls."""
    count = 0

    def trace(frame, event, arg):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


def test_listing_targets_takes_time_in_proportion(tmp_path):
    for n in range(400):
        (tmp_path / f"{n}.png").touch()

    def work(count):
        (tmp_path / "list.txt").write_text("\n".join(f"{n}.png" for n in range(count)))
        same = [f"{n}/x.png" for n in range(count)]
        return (
            lines_run(lambda: folder_names(find_targets([str(tmp_path / "list.txt")]))),
            lines_run(lambda: folder_names(same)),
        )

    for few, many in zip(work(100), work(400)):
        assert many < 5 * few


def test_a_target_costs_the_same_however_many_there_are(net, targets, tmp_path, monkeypatch):
    """Counted for the first and the last ten of many: system calls with files, and lines of the manifest that are read. What
    is allocated for good is measured over the second half."""
    write_png(tmp_path / "a.png", targets[0])
    events, parsed = [], []

    def watch(event, arguments):
        if recording and (event == "open" or event.startswith("os.")):
            events.append(event)

    recording = False
    sys.addaudithook(watch)  # it stays, and does nothing any more
    read = plain.parse_json
    monkeypatch.setattr(plain, "parse_json", lambda *args: (parsed.append(1), read(*args))[1])
    projector = Projector(net, "w", steps=1, loss="mse")
    items = [Item(tmp_path / "a.png", f"{n}.png", tmp_path / "out" / str(n)) for n in range(40)]
    folder = RunFolder(tmp_path / "out", {})
    run = project_into(folder, projector, items, {"seconds": 1e9})
    counts = []
    recording = True
    tracemalloc.start()
    try:
        for number, _ in enumerate(run, 1):
            if number == 20:
                middle = tracemalloc.get_traced_memory()[0]
            if number % 10 == 0:
                counts.append((len(events), len(parsed)))
                events.clear()
                parsed.clear()
        kept = tracemalloc.get_traced_memory()[0] - middle
    finally:
        recording = False
        tracemalloc.stop()
    assert counts[1:] == counts[-1:] * 3 and counts[-1][1] == 10  # the first ten also write the settings
    assert kept < 20 * 1500  # a name, a path and what Python rounds up

    again = RunFolder(tmp_path / "out", {})
    assert len(again.entries) == 40 and len(parsed) == 41
    recording = True
    assert all(again.finished(item) for item in items)
    recording = False
    assert len(events) <= 3 * len(items)  # the record is looked for, and the picture is read once
