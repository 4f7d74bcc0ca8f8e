"""Writing: whole or not at all, whatever ends the process; names for folders; what the disk refuses is named."""
# Takes at most 12 CPU seconds.

import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
import safetensors.torch
import torch

from stylegan_invert.errors import CodeFileError, printable
from stylegan_invert.files import writing
from stylegan_invert.files.writing import append, atomic, clean, folder_names, safe_name, staged
from stylegan_invert.io.codes import write_codes
from stylegan_invert.media.pictures import write_png
from stylegan_invert.media.video import write_mp4

from official import HERE


def test_a_file_is_replaced_whole_or_stays(tmp_path):
    path = tmp_path / "a.txt"
    with atomic(path) as temporary:
        temporary.write_text("one")
    with pytest.raises(RuntimeError, match="stop"), atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("stop")
    assert path.read_text() == "one" and os.listdir(tmp_path) == ["a.txt"]
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_folder_gets_all_files_or_none(tmp_path):
    with pytest.raises(KeyboardInterrupt), staged(tmp_path / "deep" / "out") as folder:
        (folder / "a").write_text("a")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []
    with staged(tmp_path / "deep" / "out") as folder:
        (folder / "a").write_text("a")
    assert os.listdir(tmp_path / "deep" / "out") == ["a"]
    (tmp_path / "deep" / "out" / "b").mkdir()
    with pytest.raises(IsADirectoryError), staged(tmp_path / "deep" / "out") as folder:
        (folder / "a").write_text("new")
        (folder / "b").write_text("new")
    assert (tmp_path / "deep" / "out" / "a").read_text() == "a"


CHILD = """
import os, sys, time
from pathlib import Path
from stylegan_invert.files.writing import atomic, staged
with {context}({path!r}) as temporary:
    if {context} is staged:
        (temporary / "inside").mkdir()
        temporary = temporary / "file"
    temporary.write_bytes(bytes(1000))
    print("ready", flush=True)
    time.sleep(60)
"""


def child(context, path):
    """A process that is in the middle of writing."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])}
    code = CHILD.format(context=context, path=str(path))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("context", ["atomic", "staged"])
def test_what_a_killed_process_leaves_is_cleaned_and_a_living_one_is_left_alone(context, tmp_path):
    (tmp_path / ".part-mine").mkdir()
    (tmp_path / ".part-mine" / "keep").write_text("a user's own")
    path = tmp_path if context == "staged" else tmp_path / "result"
    process = child(context, path)
    clean(tmp_path)
    (left,) = [name for name in os.listdir(tmp_path) if name != ".part-mine"]
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert (tmp_path / left).exists()
    writing._cleaned.discard(str(tmp_path))
    with atomic(tmp_path / "next") as temporary:
        temporary.write_text("x")
    assert sorted(os.listdir(tmp_path)) == [".part-mine", "next"]
    assert os.listdir(tmp_path / ".part-mine") == ["keep"]


def test_a_link_to_another_folder_is_not_followed(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / writing.LOCK).write_text("")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".part-x").symlink_to(other)
    clean(tmp_path / "out")
    assert other.exists() and (other / writing.LOCK).exists()


def test_without_locks_files_are_written_and_nothing_is_removed(tmp_path, monkeypatch):
    def refuse(fd, operation):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(writing.fcntl, "flock", refuse)
    (tmp_path / ".part-x").mkdir()
    (tmp_path / ".part-x" / writing.LOCK).write_text("")
    clean(tmp_path)
    with atomic(tmp_path / "a") as temporary:
        temporary.write_text("a")
    assert sorted(os.listdir(tmp_path)) == [".part-x", "a"]


def frames():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (3, 256, 256), np.uint8) for _ in range(3)]


def torch_file(path):
    with atomic(path) as temporary:
        torch.save({"x": torch.zeros(100_000)}, temporary)


def safetensors_file(path):
    with atomic(path) as temporary:
        safetensors.torch.save_file({"x": torch.zeros(100_000)}, temporary)


WRITERS = {
    "torch": torch_file,
    "safetensors": safetensors_file,
    "npz": lambda path: write_codes(path, {"w": np.zeros((1, 100_000), np.float32)}),
    "png": lambda path: write_png(path, frames()[0]),
    "mp4": lambda path: write_mp4(path, frames()),
}


@pytest.fixture
def full_disk():
    """A disk that takes 20,000 bytes of each file; beyond that every write fails with an error."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_disk_that_refuses_is_one_error_that_names_the_file(kind, tmp_path, full_disk):
    path = tmp_path / f"result.{kind}"
    with pytest.raises(OSError) as e:
        WRITERS[kind](path)
    assert e.value.filename == str(path) and e.value.strerror == "File too large"
    assert os.listdir(tmp_path) == []
    with pytest.raises(OSError) as e, staged(tmp_path / "out") as folder:
        WRITERS[kind](folder / path.name)
    assert e.value.filename == str(tmp_path / "out" / path.name)
    assert os.listdir(tmp_path) == []


def test_a_line_that_the_disk_refuses_names_the_file(tmp_path, full_disk):
    path = tmp_path / "log"
    append(path, "a\n")
    append(path, "b\n")
    assert path.read_text() == "a\nb\n"
    with pytest.raises(OSError) as e:
        append(path, "x" * 30_000)
    assert e.value.filename == str(path)
    with pytest.raises(OSError) as e:
        append("/dev/full", "x")
    assert (e.value.filename, e.value.strerror) == ("/dev/full", "No space left on device")


def test_an_error_of_another_kind_stays_what_it_is(tmp_path):
    with pytest.raises(CodeFileError, match="mine"), atomic(tmp_path / "a") as temporary:
        temporary.write_text("x")
        raise CodeFileError("mine")
    with pytest.raises(FileNotFoundError) as e, atomic(tmp_path / "a") as temporary:
        temporary.write_text("x")
        open(tmp_path / "nothing")
    assert e.value.filename == str(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cat", "cat"),
        ("猫 🐈", "猫 🐈"),
        ("..", "_"),
        (".", "_"),
        ("", "_"),
        (".png", "png"),
        ("../../x", "_.._x"),
        ("a\\b:c", "a_b_c"),
        ("\x1b[2J\r\n\x07", "_[2J___"),
        ("a\u202eb", "a_b"),
        ("\udc80x", "_x"),
        ("é" * 200, "é" * 60),
        ("e\u0301", "é"),
        ("x. ", "x"),
    ],
)
def test_a_name_becomes_one_visible_component(name, expected):
    assert safe_name(name) == expected


def test_folder_names_are_different_and_lie_inside(tmp_path):
    assert folder_names(["x.png", "y.jpg"]) == ["x", "y"]
    assert folder_names(["x.png", "x.jpg", "y.png"]) == ["x.png", "x.jpg", "y"]
    assert folder_names(["a/x.png", "b/x.png"]) == ["x", "x-2"]
    assert folder_names(["a/x.png", "b/x.png", "x.jpg", "x-2.png"]) == ["x.png", "x.png-2", "x.jpg", "x-2"]
    assert folder_names(["Cat.png", "cat.png", "CAT.png"]) == ["Cat", "cat-2", "CAT-3"]
    assert folder_names(["...png", "..png", ".png", "a\\b.png", "a:b.png"]) == ["_", "_-2", "png", "a_b", "a_b-2"]
    long = folder_names([f"{'x' * 300}{i}.png" for i in range(3)])
    assert len(set(long)) == 3 and all(len(name) < 130 for name in long)
    for name in [*long, *folder_names(["...png", "..png"])]:
        assert (tmp_path / name).resolve().parent == tmp_path.resolve()


@pytest.mark.parametrize("text", ["\x1b]0;x\x07", "a\rb", "a\nb", "a\u202eb", "a\udc80b", "a\x9bb", "a\u2028b"])
def test_messages_have_no_control_characters(text):
    assert str(CodeFileError(text)).isprintable() and printable(text).isprintable()
    assert printable("猫 🐈") == "猫 🐈"
