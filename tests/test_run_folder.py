"""Runs that are interrupted and gone on with: checkpoints of a search, and folders of many targets."""
# Takes at most 12 CPU seconds.

import json
import re
import signal
import zipfile

import numpy as np
import pytest
import torch

import stylegan_invert as si
from stylegan_invert.errors import ProjectionError
from stylegan_invert.files.writing import sha256
from stylegan_invert.generator import adapt
from stylegan_invert.media.pictures import write_png
from stylegan_invert.media.targets import find_targets, is_single
from stylegan_invert.projectors import Projection, Projector, samples
from stylegan_invert.projectors.checkpoint import FILE, Checkpoints
from stylegan_invert.projectors.run_folder import Item, RunFolder, project_into
from stylegan_invert.signals import Stopped
from stylegan_invert.studies.direction import generated_pictures

from conftest import make_network

WAYS = {
    "adam": ("w", {"steps": 6, "loss": "mse"}),
    "adam that stops": ("w+", {"steps": 6, "loss": "mse", "patience": 4}),
    "normalised": ("w+", {"steps": 6, "loss": "mse", "optimizer": "normalised"}),
    "lbfgs": ("fast-w+", {"steps": 6, "loss": "mse"}),
    "lbfgs-b": ("z", {"steps": 6, "loss": "mse"}),
    "halvings": ("z", {"steps": 6, "optimizer": "lbfgs", "restarts": 4, "halvings": 1}),
    "dense": ("dense", {"steps": 4, "layer_steps": 4, "layer": "b8.conv1", "loss": "mse"}),
}


@pytest.fixture(scope="module")
def net():
    return make_network(16)


@pytest.fixture(scope="module")
def targets(net):
    return list(generated_pictures(adapt(net.G), 3, seed=5)[0])


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
    monkeypatch.setattr(samples, "COUNT", 32)


def same(a, b):
    """True if two results are equal but for the time that they took."""
    for one in (a, b):
        one.record["seconds"] = 0
    return a == b


@pytest.mark.parametrize("way", WAYS)
def test_a_search_that_is_killed_ends_as_an_undisturbed_one(net, targets, tmp_path, way):
    """It is interrupted in every phase, three times, after the state of an earlier step was written."""
    method, options = WAYS[way]
    projector = Projector(net, method, **options)
    (whole,) = projector.project(targets[:1], keep_steps=True)
    numbers = []

    class Killed(Exception):
        pass

    def run(last):
        """Run until a step; checkpoints are written before it, but not after it."""
        written = Checkpoints([tmp_path], "settings", 0)

        def watch(first, step):
            numbers.append(step.number)
            if step.number == last:
                raise Killed

        return list(projector.project(targets[:1], keep_steps=True, callback=watch, checkpoints=written))

    for last in (2, 4, 6):
        with pytest.raises(Killed):
            run(last)
        assert (tmp_path / FILE).exists()
    (result,) = run(None)
    assert numbers.count(1) == 1 and numbers.count(2) == numbers.count(4) == 2  # it did not begin anew
    assert same(result, whole) and not (tmp_path / FILE).exists()
    assert len(result.steps) == len(whole.steps)
    for one, other in zip(result.steps, whole.steps):
        assert all(torch.equal(one.tensors[k], other.tensors[k]) for k in other.tensors)


def test_the_first_signal_waits_for_the_step(net, targets, tmp_path):
    arrived = []
    projector = Projector(net, "w", steps=5, loss="mse")

    def watch(first, step):
        if step.number == 3:
            arrived.append(signal.SIGINT)

    with pytest.raises(
        Stopped, match=r"stopped after step 3 of 5, and wrote .*checkpoint.pt; the same command goes on"
    ):
        list(projector.project(targets[:1], callback=watch, checkpoints=Checkpoints([tmp_path], "", 1e9, arrived)))
    arrived.clear()
    checkpoints = Checkpoints([tmp_path], "", 1e9, arrived)
    (result,) = projector.project(targets[:1], checkpoints=checkpoints)
    (whole,) = projector.project(targets[:1])
    assert same(result, whole)


def test_checkpoints_that_do_not_fit(net, targets, tmp_path):
    """One of other settings or another target is not used; one that is damaged is refused in a sentence."""
    projector = Projector(net, "w", steps=3, loss="mse")

    def interrupted(folder):
        class Killed(Exception):
            pass

        def watch(first, step):
            if step.number == 3:
                raise Killed

        with pytest.raises(Killed):
            list(projector.project(targets[:1], callback=watch, checkpoints=Checkpoints([folder], "a", 0)))
        return folder / FILE

    file = interrupted(tmp_path)
    for settings, target in (("b", targets[0]), ("a", targets[1])):
        seen = []
        kept = Checkpoints([tmp_path], settings, 1e9)
        count = seen.append
        list(projector.project([target], callback=lambda _, step, count=count: count(step.number), checkpoints=kept))
        assert seen == [1, 2, 3]
        file = interrupted(tmp_path)
    whole = torch.load(file, weights_only=True)
    state = whole["state"]
    wrong = [
        b"",
        b"nothing",
        file.read_bytes()[:-200],
        {"of": whole["of"], "trail": []},
        {**whole, "trail": [{"space": "w"}]},
        {**whole, "state": {**state, "current": {**state["current"], "variables": []}}},
        {**whole, "state": {**state, "current": {**state["current"], "optimizer": {}}}},
        {**whole, "state": {**state, "current": {**state["current"], "history": torch.zeros(2, 7)}}},
        {**whole, "state": {**state, "finished": 3}},
        {**whole, "state": {**state, "format": 99}},
        {**whole, "state": {}},
        {**whole, "state": 5},
    ]
    for value in wrong:
        if isinstance(value, bytes):
            file.write_bytes(value)
        else:
            torch.save(value, file)
        with pytest.raises(ProjectionError) as e:
            list(projector.project(targets[:1], checkpoints=Checkpoints([tmp_path], "a", 1e9)))
        assert "anew" in str(e.value)
        assert len(str(e.value)) < 700


def items_in(folder, targets):
    return [Item(t, f"{i}.png", folder / str(i), sha256(t.tobytes())) for i, t in enumerate(targets)]


def test_a_run_goes_on_where_it_was(net, targets, tmp_path):
    """Finished targets are skipped, changed ones are not, and a target that fails does not stop the others."""
    projector = Projector(net, "w", steps=2, loss="mse")
    broken = np.full([3, 16, 16], 7, np.int64)
    items = items_in(tmp_path, [targets[0], broken, targets[1]])
    folder = RunFolder(tmp_path, {"steps": 2})
    found = list(project_into(folder, projector, items))
    assert [(item.name, error is None) for item, _, error in found] == [
        ("0.png", True),
        ("1.png", False),
        ("2.png", True),
    ]
    assert "expected (3, 16, 16) uint8" in found[1][2]
    summary = folder.summarise(items)
    assert (summary["done"], summary["failed"], summary["waiting"]) == (2, 1, 0)
    lpips = [Projection.read(tmp_path / n).metrics["psnr"] for n in "02"]
    assert summary["values"]["psnr"]["mean"] == pytest.approx(np.mean(lpips))
    assert summary["failures"][0]["folder"] == "1" and summary == json.loads((tmp_path / "summary.json").read_text())
    table = (tmp_path / "results.csv").read_text().splitlines()
    assert [line.split(",")[:3] for line in table[1:]] == [
        [f"{n}.png", n, s] for n, s in zip("012", ["done", "failed", "done"])
    ]

    again = RunFolder(tmp_path, {"steps": 2})
    assert [again.finished(item) for item in items] == [True, False, True]
    assert not again.finished(items_in(tmp_path, [targets[2]])[0])  # another picture under the same name
    (tmp_path / "2" / "result.json").unlink()
    assert not again.finished(items[2])
    with pytest.raises(ProjectionError, match=r"steps was 2, and is 3 now; lr was not given, and is 0.1 now"):
        RunFolder(tmp_path, {"steps": 3, "lr": 0.1})
    assert not RunFolder(tmp_path, {"steps": 3}, anew=True).entries


def test_targets_that_share_a_pass_fail_alone(net, targets, tmp_path):
    """In methods of one pass, all share it."""
    projector = Projector(net, "z", steps=1)
    projector.method = projector.method._replace(one_pass=True)  # so that passes have several targets on a CPU
    projector.fit = lambda shown, start, watch, resume: Projector.fit(projector, shown, start, None)
    items = items_in(tmp_path, [targets[0], targets[1][:1], targets[2]])
    found = list(project_into(RunFolder(tmp_path, {}), projector, items))
    assert [(item.name, error is None) for item, _, error in found] == [
        ("0.png", True),
        ("1.png", False),
        ("2.png", True),
    ]


def test_a_manifest_that_a_crash_left(tmp_path):
    folder = RunFolder(tmp_path / "new", {"a": 1})
    assert not folder.outdir.exists()
    folder.failed(Item("x.png", "x.png", folder.outdir / "x"), "no")
    file = tmp_path / "new" / "manifest.jsonl"
    whole = file.read_text()
    line = whole.splitlines()[1]
    tmp_path = tmp_path / "new"
    file.write_text(whole + line[:20])
    assert list(RunFolder(tmp_path, {"a": 1}).entries) == ["x"] and file.read_text() == whole
    file.write_text("")
    assert not RunFolder(tmp_path, {"a": 1}).entries
    for text in ("[]\n", "{}\n", '{"format": 1, "settings": {"a": 1}}\n{"folder": 3}\n', "\xff\n", "[" * 5000 + "\n"):
        file.write_text(text)
        with pytest.raises(ProjectionError, match="it is damaged. Take another folder, or begin anew with --overwrite"):
            RunFolder(tmp_path, {"a": 1})


def test_targets_in_zips_and_lists(tmp_path, targets):
    for i, target in enumerate(targets):
        write_png(tmp_path / f"{i}.png", target)
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as z:
        z.write(tmp_path / "1.png", "a/1.png")
        z.write(tmp_path / "0.png", "0.png")
        z.writestr("dataset.json", "{}")
    (tmp_path / "list.txt").write_text("# a comment\n2.png\n\n  0.png  \n")
    named = [str(tmp_path / name) for name in ("list.txt", "set.zip", "0.png")]
    found = find_targets(named)
    assert [str(p).removeprefix(f"{tmp_path}/") for p in found] == [
        "2.png",
        "0.png",
        "set.zip/0.png",
        "set.zip/a/1.png",
    ]
    medium = Projector(make_network(16), "w").medium
    read = [medium.read(p, medium.reading())[0] for p in found]
    assert all(np.array_equal(a, targets[i]) for a, i in zip(read, (2, 0, 0, 1)))
    assert [is_single([name]) for name in named] == [False, False, True] and not is_single(named[2:] * 2)
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as z:
        z.writestr("x.txt", "")
    for name, data, error in [
        ("none.zip", None, "there are no pictures in this zip"),
        ("bad.zip", b"PK", "it is no whole zip"),
        ("none.txt", b"#\n", "there are no pictures in this list"),
        ("bad.txt", b"\xff\xfe", "not UTF-8"),
        ("zero.txt", b"a\0b", "a byte 0"),
    ]:
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(si.ImageFileError, match=error):
            find_targets([str(tmp_path / name)])


def test_the_command(tmp_path, cli, targets, tiny_file, monkeypatch):
    """Both processes of torchrun, one after the other, and one without it: after the first, only the broken picture is left. Only
    the first process of torchrun tells of it by its exit status, since any failure makes torchrun stop all processes."""
    pictures = tmp_path / "in"
    pictures.mkdir()
    for i, target in enumerate(targets):
        write_png(pictures / f"{i}.png", target)
    (pictures / "bad.png").write_bytes(b"nothing")
    command = ["project", "-n", str(tiny_file), "-t", str(pictures), "-o", str(tmp_path / "out"), "--method", "w"]
    command += ["--steps", "2", "--loss", "mse=1"]
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, status, todo in (("1", 0, 4), ("0", 1, 1)):
        monkeypatch.setenv("RANK", rank)
        code, _, err = cli(*command)
        assert code == status
        assert err == "" if rank == "1" else f"4 targets; {todo} to do, shared by 2 processes" in err
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name)
    code, _, err = cli(*command)
    assert code == 1 and "4 targets; 1 to do" in err and "3 of 4 targets are done" in err
    assert err.count("bad.png: it is not a picture") == 2
    (pictures / "bad.png").unlink()
    code, _, err = cli(*command)
    assert code == 0 and "3 targets; 0 to do" in err
    single = [*command[:4], pictures / "1.png", "-o", tmp_path / "one", *command[7:]]
    assert cli(*single)[0] == 0
    assert same(Projection.read(tmp_path / "one"), Projection.read(tmp_path / "out" / "1"))
    code, _, err = cli(*command, "--lr", "0.2")
    assert code == 1 and "initial_learning_rate was not given, and is 0.2 now" in err
    assert cli(*command, "--lr", "0.2", "--overwrite")[0] == 0


def test_results_as_json_and_a_dry_run(tmp_path, cli, targets, tiny_file):
    write_png(tmp_path / "a.png", targets[0])
    command = ["project", "-n", tiny_file, "-o", tmp_path / "out", "--method", "w", "--steps", 7, "--loss", "mse=1"]
    code, out, _ = cli(*command, "-t", tmp_path / "a.png", "--dry-run")
    assert code == 0 and "1 targets, at most 7 steps each of " in out and not (tmp_path / "out").exists()
    code, out, err = cli(*command, "-t", tmp_path / "*.png", "--json", "-q")
    (line,) = out.splitlines()
    found = json.loads(line)
    assert code == 0 and err == "" and found["folder"] == str(tmp_path / "out" / "a")
    assert found["metrics"] == Projection.read(tmp_path / "out" / "a").metrics
    code, out, _ = cli(*command, "-t", tmp_path / "*.png", "--dry-run")
    assert code == 0 and out.strip() == "1 are finished"


def test_the_short_help_and_the_long(cli):
    """The short one has the options that are needed most, and the long one all of them, each once."""
    from stylegan_invert.cli.project import COMMON, GROUPS, command

    code, short, _ = cli("project", "--help")
    assert code == 0 and "--steps" in short and "--lr " not in short and "project --help-all" in short
    code, text, _ = cli("project", "--help-all")
    listed = re.findall(r"^  (?:-\w, )?(--[\w-]+)", text, re.MULTILINE)
    flags = [
        next(flag for flag in param.opts if flag.startswith("--"))
        for param in command.params
        if param.opts[0] != "unquoted"
    ]
    assert code == 0 and sorted(listed) == sorted([*flags, "--help"])
    names = {param.name for param in command.params}
    named = [name for group in GROUPS.values() for name in group if name in names]
    assert set(COMMON) <= names and len(named) > 50
