"""Training on several processes: equal to one, resumed on another number, ended together; docs/training.md."""
# Takes at most 40 CPU seconds.

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from stylegan_invert.cli.main import cli
from stylegan_invert.errors import TrainingError
from stylegan_invert.io.encoder_file import ENCODER_FILE
from stylegan_invert.ops import native
from stylegan_invert.training import distributed, loop
from stylegan_invert.training.configs import Options
from stylegan_invert.training.gan import GANTrainer
from stylegan_invert.training.means import Statistics

from official import HERE

COMMAND = ["-m", "stylegan_invert"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
SIZES = (
    "--resolution 16 --z-dim 8 --w-dim 8 --channel-base 64 --channel-max 8 --gamma 1 --metric-samples 0 --tick 0.032"
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(20):
        pixels = np.random.RandomState(i).randint(256, size=(16, 16, 3)).astype(np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    return folder


def start(*args, launcher=(), command="train", **environment):
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "STYLEGAN_INVERT_OPS": "reference", **environment}
    return subprocess.Popen(
        [sys.executable, *launcher, *COMMAND, command, "--device", "cpu", *map(str, args)],
        cwd=HERE.parent, env=settings, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def pair(*args, **options):
    """Two processes with the settings that torchrun gives, without its own process, which takes seconds to start."""
    with socket.socket() as s:
        s.bind(("localhost", 0))
        settings = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(s.getsockname()[1]), "WORLD_SIZE": "2"}
    return [start(*args, RANK=str(rank), LOCAL_RANK=str(rank), **settings, **options) for rank in range(2)]


def here(*args, command="train"):
    """The command in this process, with one thread as the others have."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with native.using("reference"):
            cli([command, "--device", "cpu", *map(str, args)], standalone_mode=False)
    finally:
        torch.set_num_threads(threads)


def finish(process, code=0):
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    return out, err


def checkpoint(folder):
    """The state of a run, without its times and without the settings that differ between runs that should end alike."""
    state = torch.load(folder / loop.CHECKPOINT, weights_only=True)
    del state["seconds"], state["tick"]["seconds"], state["options"]["batch_gpu"], state["options"]["kimg"]
    return state


def differences(a, b, place=""):
    """The places where two states differ, with the largest difference."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), place
        return [d for key in a for d in differences(a[key], b[key], f"{place}.{key}")]
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) else [(place, float((a.double() - b.double()).abs().max()))]
    return [] if a == b else [(place, a, b)]


def logged(folder):
    lines = [json.loads(line) for line in (folder / loop.LOG).read_text().splitlines()]
    times = ("seconds", "seconds_left", "images_per_second")
    return [{name: value for name, value in line.items() if name not in times} for line in lines]


def test_a_pair_that_a_signal_stops_and_one_process_goes_on_from_equals_one_to_the_bit(pictures, tmp_path):
    """With torchrun itself, every kind of phase, mixing, path lengths, adaptive augmentation, compared pictures and logs."""
    args = ["--data", pictures, *SIZES.split(), "--batch", 8, "--batch-gpu", 4, "--aug", "ada", "--p", 0.2]
    args += ["--pl-weight", 2, "--mixing", 0.9]
    one, two = tmp_path / "one", tmp_path / "two"
    process = start(*args, "--kimg", 1000, "--outdir", two, launcher=TORCHRUN)
    wait_for_lines(process, two)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ranks = {re.search(r"\0RANK=(\d)", Path(f"/proc/{child}/environ").read_text())[1]: int(child) for child in children}
    os.kill(ranks["1"], signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0 and "another process of this run" not in err
    state = checkpoint(two)
    stopped = state["nimg"]
    assert stopped == state["steps"] * 8 and err.count("training on 20 pictures") == 1
    assert float(state["pl_mean"]) != 0 and float(state["modules"]["augment"]["p"]) != 0.2
    kimg = (stopped + 40) / 1000
    here("--resume", two, "--kimg", kimg)
    here(*args, "--kimg", kimg, "--outdir", one)
    assert differences(checkpoint(one), checkpoint(two)) == []
    assert logged(one) == logged(two)
    names = {path.name for path in one.iterdir()}
    assert names == {path.name for path in two.iterdir()} and {"reals.png", "fakes000000.png"} <= names


@pytest.mark.parametrize(
    "options",
    [
        "--arch biggan --resolution 8 --ch 2 --z-dim 6 --standing 2 --D-steps 2 --gamma 1",
        pytest.param(
            "--arch progan --resolution 8 --fmap-base 16 --fmap-max 6 --z-dim 6 --grow-kimg 0.008 --fade-kimg 0.016",
            marks=pytest.mark.slow,
        ),
        pytest.param("--arch dcgan --resolution 8 --width 2 --z-dim 6 --standing 2", marks=pytest.mark.slow),
    ],
)
def test_a_pair_that_trains_another_architecture_equals_one_to_the_bit(pictures, tmp_path, options):
    """With batch normalisation, which compares a round, vectors of power iterations, and several steps of D."""
    args = [
        "--data",
        pictures,
        *options.split(),
        "--batch",
        8,
        "--batch-gpu",
        4,
        "--head",
        "direction",
        "--kimg",
        0.048,
    ]
    args += ["--metric-samples", 0, "--tick", 0.016, "--quiet"]
    one, two = tmp_path / "one", tmp_path / "two"
    for process in pair(*args, "--outdir", two):
        finish(process)
    here(*args, "--outdir", one)
    assert differences(checkpoint(one), checkpoint(two)) == [] and logged(one) == logged(two)
    names = {path.name for path in one.iterdir()}
    assert names == {path.name for path in two.iterdir()}
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names if name.startswith("network-"))


def test_an_encoder_that_one_process_begins_and_a_pair_ends_equals_one_to_the_bit(
    pictures, tiny_file, tmp_path, monkeypatch
):
    """With real pictures, several passes, batch normalisation, which compares a round, and its running means."""
    args = [tiny_file, "--data", pictures, "--batch", 8, "--width", 4, "--loss", "mse", "--iterative", "--passes", 2]
    args += ["--batch-gpu", 4, "--kimg", 0.048, "--tick", 0.016, "--snap", 1, "--quiet"]
    one, two = tmp_path / "one", tmp_path / "two"
    here(*args, "-o", one, command="train-encoder")
    write = loop._Log.write

    def write_and_stop(log, values):
        write(log, values)
        signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Log, "write", write_and_stop)
        here(*args, "-o", two, command="train-encoder")
    assert checkpoint(two)["nimg"] == 16
    for process in pair(tiny_file, "--resume", two, "--quiet", command="train-encoder"):
        finish(process)
    assert differences(checkpoint(one), checkpoint(two)) == [] and logged(one) == logged(two)
    assert (one / ENCODER_FILE).read_bytes() == (two / ENCODER_FILE).read_bytes()


def test_a_process_that_dies_stops_the_other_with_one_sentence(pictures, tmp_path):
    folder = tmp_path / "run"
    args = ["--data", pictures, *SIZES.split(), "--batch", 4, "--kimg", 1000, "--pl-weight", 0, "--outdir", folder]
    first, second = pair(*args, "--head", "direction")
    wait_for_lines(first, folder)
    second.kill()
    _, err = first.communicate(timeout=60)
    second.communicate()
    assert first.returncode == 1 and "Traceback" not in err
    assert "process 0 stops, because another process of this run has ended" in err and "no checkpoint yet" in err


def wait_for_lines(process, folder):
    """Wait until a run has written a line of its log."""
    deadline = time.monotonic() + 200
    while not (folder / loop.LOG).exists() or not (folder / loop.LOG).read_text():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)


@pytest.mark.slow
def test_processes_of_other_options_are_refused_and_three_equal_one_up_to_rounding(pictures, tmp_path):
    args = ["--data", pictures, *SIZES.split(), "--batch", 6, "--batch-gpu", 2, "--kimg", 0.06]
    finish(start(*args, "--outdir", tmp_path / "three", launcher=[*TORCHRUN[:-1], "3"]))
    here(*args, "--outdir", tmp_path / "one")
    different = differences(checkpoint(tmp_path / "one"), checkpoint(tmp_path / "three"))
    assert all(worst < 1e-4 for _, worst in different)
    with socket.socket() as s:
        s.bind(("localhost", 0))
        settings = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(s.getsockname()[1]), "WORLD_SIZE": "2"}
    both = [
        start(*args[:-4], "--batch", 4, "--seed", r, "--outdir", tmp_path / "x", RANK=str(r), **settings)
        for r in (0, 1)
    ]
    for process in both:
        assert "the processes of this run differ in their options" in finish(process, 1)[1]


@pytest.mark.parametrize(
    ("world", "batch", "batch_gpu", "group"), [(3, 8, 8, 1), (2, 8, 3, 1), (8, 4, 4, 1), (2, 8, 8, 3)]
)
def test_a_batch_that_cannot_be_shared_is_refused(world, batch, batch_gpu, group, monkeypatch):
    monkeypatch.setattr(distributed, "count", lambda: world)
    with pytest.raises(TrainingError, match="cannot be shared|do not divide into the groups"):
        size = distributed.round_size(batch, batch_gpu)
        Options(16, batch=batch, batch_gpu=size, mbstd_group_size=group)


def test_rounds_start_alike_and_are_added_up():
    """Against sums computed here: gradients are summed, averages move by the mean of the rounds' moves."""
    weight, average = torch.nn.Parameter(torch.zeros(3)), torch.full([2], 5.0)
    values, starts, draws = Statistics(), [], []
    values.add("x", torch.ones(2))
    torch.manual_seed(1)

    def compute(i):
        starts.append(average.clone())
        draws.append(torch.rand([]))
        (weight * (i + 1)).sum().backward()
        average.add_(float(i))
        values.add("x", torch.full([2], float(i)))

    distributed.in_rounds(compute, 3, [weight], [average], [values])
    after = torch.rand([])
    assert all(torch.equal(s, starts[0]) for s in starts) and len(set(map(float, draws))) == 3
    assert torch.equal(weight.grad, torch.full([3], 6.0)) and torch.allclose(average, torch.full([2], 6.0))
    assert values.means() == {"x": (2 * 1 + 2 * (0 + 1 + 2)) / 8}
    torch.manual_seed(1)
    torch.randint(2**62, [])
    assert torch.equal(after, torch.rand([]))  # the stream of a run does not depend on the number of rounds


def test_a_trainer_for_one_process_refuses_several(monkeypatch, tmp_path):
    monkeypatch.setattr(distributed, "launched", lambda: True)
    trainer = type("Other", (), {"data": type("Data", (), {"path": "x"})})()
    with pytest.raises(TrainingError, match="works with one process only"):
        loop.train(trainer, tmp_path)
    assert GANTrainer.shared
