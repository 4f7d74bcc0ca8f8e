"""What a newcomer meets on the command line: names, lines, refusals, and the ends of a process."""
# Takes at most 25 CPU seconds.

import ast
import io
import json
import os
import signal
import subprocess
import sys
import warnings

import numpy as np
import PIL.Image
import pytest
import torch

import stylegan_invert as si
from stylegan_invert.cli import common
from stylegan_invert.cli import main as cli_main
from stylegan_invert.cli.official_projector import command as projector
from stylegan_invert.io import progress

from conftest import make_network
from official import HERE

BAD = "\x1b]0;OWNED\x07\x1b[2J\r\n\u202eend"


@pytest.fixture
def folder(tmp_path):
    """A folder with a network "net.pkl" of 16x16 pixels, which is the current folder."""
    si.save(make_network(), tmp_path / "net.pkl")
    before = os.getcwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)


def paint(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.full((20, 20, 3), value, np.uint8)).save(path, format="PNG")
    return path


PROJECT = ("project", "-n", "net.pkl", "-o", "out/deep", "--method", "w", "--steps", 1, "--loss", "mse")


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_every_result_lies_in_the_output_folder(folder, cli):
    names = ["...png", "..png", "pics/.png", "a/x.png", "b/x.png", "b/X.png", "a\\b.png", f"{'x' * 250}.png"]
    targets = [paint(folder / "in" / name, i) for i, name in enumerate([*names, f"{BAD.strip()}.png"])]
    before = files(folder)
    code, _, err = cli(*PROJECT, *(part for target in targets for part in ("-t", target)))
    assert code == 0, err
    new = [name for name in files(folder) if name not in before]
    assert all(name.startswith("out/deep/") for name in new)
    results = sorted(p.name for p in (folder / "out/deep").iterdir() if p.is_dir())
    assert len(results) == len(targets) and all(name.isprintable() and name[0] != "." for name in results)
    assert {"_", "_-2", "png", "x", "x-2", "X-3", "a_b"} < set(results)
    shown = [json.loads((folder / "out/deep" / name / "result.json").read_text()) for name in results]
    assert len({record["target"]["file"] for record in shown}) == len(targets)
    assert "\x1b" not in err and "\r" not in err and "\x07" not in err and "\u202e" not in err
    assert f"9 of {len(targets)}: " in err


@pytest.mark.parametrize(
    ("targets", "expected"),
    [(["in/a.png"], {""}), (["in"], {"a"}), (["in/*.png"], {"a"}), (["in/a.png", "in/a.png"], {"a"})],
)
def test_the_layout_follows_from_what_was_asked_for(folder, cli, targets, expected):
    paint(folder / "in/a.png")
    code, _, err = cli(*PROJECT, "-q", *(part for target in targets for part in ("-t", target)))
    assert code == 0, err
    written = {os.path.dirname(name) for name in files(folder / "out/deep") if name.endswith("proj.png")}
    assert written == expected


def test_an_unreadable_picture_is_refused_before_anything_is_loaded(folder, cli, monkeypatch):
    paint(folder / "in/a.png")
    whole = (folder / "in/a.png").read_bytes()
    (folder / "in/a.png").write_bytes(whole[: len(whole) // 2])

    def load(*args):
        raise AssertionError("a network was loaded")

    monkeypatch.setattr("stylegan_invert.network_files.file.load", load)
    code, _, err = cli(*PROJECT, "-t", "in/a.png")
    assert code == 1 and err.startswith("Error: in/a.png: ") and len(err.splitlines()) == 1
    code, _, err = cli("--network=net.pkl", "--target=~nouser/x.png", "--outdir=out", command=projector)
    assert code == 1 and "~nouser/x.png: there is no such file" in err
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["-t", "in/a.png", "in/b.png", "in/c.png"], "Put a pattern in quotes, as -t 'pictures/*.png'"),
        (["-t", "in/a.png", "nothing"], "unexpected extra arguments, as nothing. Options begin with -"),
        (["-t", "https://u:p@host/cat.png?key=1"], "-t https://host/cat.png: download the picture first"),
        (["-t", "~nouser/x.png"], "there is no such file"),
        (["-t", "in/a.png", "--init", "~nouser/x"], "there is no such file"),
        (["-t", "in/a.png", "--method", "x"], "method 'x' is unknown"),
        (["-t", "in/a.png", "--loss", "mse=x"], "mse=x"),
        (["-t", "in/a.png", "--steps", "1e400"], "1e400"),
        (["-t", f"{BAD}.png"], "no file matches this pattern"),
        (["-t", "in/a.png", f"--{BAD}"], "No such option"),
        (["-t", "in/a.png", BAD], "unexpected extra arguments"),
        (["-t", "in/a.png", "--method", BAD], "is unknown"),
        (["-t", "in/a\udc80.png"], "there is no such file"),
    ],
)
def test_a_refusal_is_one_printable_sentence(folder, cli, args, sentence):
    for name in ("a", "b", "c"):
        paint(folder / f"in/{name}.png")
    code, out, err = cli(*PROJECT, *args)
    assert code in (1, 2) and out == "" and sentence in err and "Traceback" not in err
    assert all(line.isprintable() for line in err.splitlines()) and "\x07" not in err and "\u202e" not in err
    assert len([line for line in err.splitlines() if line.startswith("Error: ")]) == 1
    assert not (folder / "out").exists()


@pytest.mark.parametrize("source", ["~nouser/x", "http://[::1/x", "https:///", "x\0y"])
def test_a_network_that_is_nowhere_is_one_sentence(folder, cli, source, monkeypatch):
    monkeypatch.setenv("STYLEGAN_INVERT_CACHE", str(folder / "cache"))
    code, out, err = cli("inspect", source)
    assert code == 1 and out == "" and err.startswith("Error: ") and len(err.splitlines()) == 1


def test_methods_are_named_in_any_case(folder, cli):
    code, _, err = cli(*PROJECT, "-t", paint(folder / "a.png"), "--method", "W+")
    assert code == 0, err
    assert json.loads((folder / "out/deep/result.json").read_text())["method"] == "w+"


def test_what_an_option_does_not_do_is_said(folder, cli):
    paint(folder / "in/a.png")
    paint(folder / "in/b.png")
    _, _, err = cli(*PROJECT, "-t", "in", "--batch", 4, "--device", "cpu", "--save-noise")
    assert "--batch has no effect on a CPU" in err and "official generate.py will render" in err
    _, _, err = cli(*PROJECT, "-t", "in", "--device", "cpu")
    assert "note" not in err


def test_generate_takes_a_folder_and_both_roundings(folder, cli):
    assert cli(*PROJECT, "-q", "-t", paint(folder / "a.png", 100))[0] == 0
    for rounding in ((), ("--rounding", "projector"), ("--rounding", "generate")):
        name = "-".join(["r", *rounding[1:]])
        code, _, err = cli("generate", "-n", "net.pkl", "--projected-w", "out/deep", "-o", name, "-q", *rounding)
        assert code == 0, err
    saved = (folder / "out/deep/proj.png").read_bytes()
    assert (folder / "r/proj00.png").read_bytes() == (folder / "r-projector/proj00.png").read_bytes() == saved
    with np.load(folder / "out/deep/projected_w.npz") as arrays:
        ws = torch.from_numpy(arrays["w"])
    with torch.no_grad():
        image = si.load("net.pkl").G.synthesis(ws, noise_mode="const")[0]
    expected = (image.permute(1, 2, 0) * 127.5 + 128).clamp(0, 255).to(torch.uint8).numpy()
    with PIL.Image.open(folder / "r-generate/proj00.png") as got:
        assert np.array_equal(got, expected)
    assert (folder / "r-generate/proj00.png").read_bytes() != saved


def test_only_one_place_prints():
    """Names from strangers' files pass through `printable`, because nothing in the commands prints but these functions."""
    for path in (HERE.parent / "stylegan_invert/cli").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else None
            assert called not in ("print", "click.echo") or path.name in ("common.py", "main.py"), path
            assert called not in ("click.secho", "sys.stdout.write", "sys.stderr.write", "tqdm"), path


def test_lines_are_printable(capsys):
    common.say(False, BAD)
    common.tell(BAD + "\udc80")
    common.tell_json({BAD + "\x7f": BAD})
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 1 and len(out.splitlines()) == 2
    assert all(line.isprintable() for line in (out + err).splitlines())
    assert json.loads(out.splitlines()[1]) == {BAD + "\x7f": BAD}


@pytest.mark.parametrize(
    "error",
    [
        si.CodeFileError(BAD),
        si.NetworkFileError(BAD, BAD, BAD),
        si.DownloadError(BAD),
        ValueError(BAD),
        OSError(28, BAD, BAD),
        OSError(BAD),
        KeyError(BAD),
        RuntimeError(BAD),
        RuntimeError(f"CUDA out of memory {BAD}"),
        MemoryError(),
        KeyboardInterrupt(),
    ],
)
def test_no_error_brings_a_traceback_or_escapes(cli, monkeypatch, error):
    def fail(ctx):
        warnings.simplefilter("always")
        warnings.warn(BAD, stacklevel=1)
        raise error

    monkeypatch.setattr(cli_main.cli, "invoke", fail)
    code, out, err = cli("inspect", "cats32")
    assert code in (1, 130) and out == "" and "Traceback" not in err
    lines = [line for line in err.splitlines() if line]
    assert len(lines) == 2 and lines[0].startswith("Warning: ") and lines[1].startswith("Error: ")
    assert all(line.isprintable() for line in lines)


CPU = "[enforce fail at alloc_cpu.cpp:118] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."


@pytest.mark.parametrize(
    "words, error, told",
    [
        (
            ["project", "-n", "cats32"],
            RuntimeError("CUDA out of memory. Tried"),
            "try a smaller --batch, or try --device cpu",
        ),
        (["project", "-n", "cats32"], RuntimeError(CPU), "the main memory is too small for this; close other programs"),
        (["inspect", "cats32"], MemoryError(), "close other programs"),
        (["train"], MemoryError(), "try a smaller --batch-gpu or --batch"),
        (["reproduce", "dense"], RuntimeError("CUDA out of memory. Tried"), "too small for this; try --device cpu"),
    ],
)
def test_memory_that_is_too_small_is_told_for_the_command(cli, monkeypatch, words, error, told):
    def fail(ctx):
        raise error

    monkeypatch.setattr(cli_main.cli, "invoke", fail)
    code, _, err = cli(*words)
    assert code == 1 and told in err and ("--batch" in err) == ("--batch" in told)


def test_an_unforeseen_error_shows_its_place_on_demand(cli, monkeypatch):
    def fail(ctx):
        raise KeyError("x")

    monkeypatch.setattr(cli_main.cli, "invoke", fail)
    _, _, err = cli("inspect", "cats32")
    assert "KeyError: 'x'" in err and "This is a mistake in stylegan-invert, please report it" in err
    monkeypatch.setenv(cli_main.DEBUG, "1")
    assert "Traceback" in cli("inspect", "cats32")[2]


def test_a_full_disk_is_said_with_the_remedy(cli, monkeypatch):
    def fail(ctx):
        raise OSError(28, "No space left on device", "out/x.png")

    monkeypatch.setattr(cli_main.cli, "invoke", fail)
    assert cli("inspect", "x")[2] == (
        "Error: out/x.png: No space left on device; make room, or choose another folder\n"
    )


def test_a_log_has_a_line_now_and_then(monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 0)
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    with progress.bar(20, f"cat{BAD}", unit="step") as bar:
        for _ in range(20):
            bar.update(1)
    lines = log.getvalue().splitlines()
    assert lines[-1].startswith("cat\\x1b") and ": 20 of 20 (100 %)" in lines[-1]
    assert all(line.isprintable() for line in lines)
    monkeypatch.setattr(progress, "SECONDS", 10)
    log.truncate(0)
    with progress.bar(3, "short") as bar:
        bar.update(3)
    with progress.bar(3, "quiet", quiet=True) as bar:
        bar.update(3)
    assert log.getvalue() == ""


def start(*args):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        [sys.executable, "-m", "stylegan_invert", *map(str, args)], stderr=subprocess.PIPE, text=True, env=environment
    )


def test_a_terminated_run_leaves_nothing(folder):
    paint(folder / "in/a.png")
    many = (
        "project",
        "-n",
        "net.pkl",
        "-o",
        "out",
        "--method",
        "w",
        "--steps",
        100_000,
        "--loss",
        "mse",
        "-t",
        "in/a.png",
    )
    process = start(*many)
    assert process.stderr.readline().startswith("network net.pkl")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143 and err.strip() == "Error: terminated; what was unfinished was not written"
    assert not (folder / "out").exists()


def test_termination_is_an_interruption_with_another_name():
    for number in (signal.SIGTERM, signal.SIGHUP):
        with pytest.raises(common.Terminated) as e, common.termination():
            os.kill(os.getpid(), number)
            signal.pause()
        assert e.value.signal == number and signal.getsignal(number) == signal.SIG_DFL
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with common.termination():
        os.kill(os.getpid(), signal.SIGTERM)  # as before: ignored
    signal.signal(signal.SIGTERM, before)
