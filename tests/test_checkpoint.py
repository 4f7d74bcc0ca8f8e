"""Checkpoints and signals: what stops a run, how it goes on, and what is refused."""
# Takes at most 25 CPU seconds.

import copy
import io
import json
import math
import os
import signal
import tracemalloc
import zipfile

import click.testing
import numpy as np
import pytest
import torch

import stylegan_invert as si
from stylegan_invert import signals
from stylegan_invert.cli.main import cli
from stylegan_invert.media.picture_set import PictureSet
from stylegan_invert.media.pictures import write_png
from stylegan_invert.training import gan, loop
from stylegan_invert.training.configs import Options
from stylegan_invert.training.gan import GANTrainer

SMALL = dict(z_dim=5, w_dim=4, channel_base=32, channel_max=4, batch=4)
RUN = dict(tick_kimg=0.012, snapshot_ticks=2, metric_samples=0)
CUT_SHORT = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def options(kimg=0.048, **more):
    return Options.for_resolution(8, kimg=kimg, **{**SMALL, **more})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(8):
        pixels = np.random.RandomState(i).randint(256, size=(3, 8, 8)).astype(np.uint8)
        write_png(folder / f"{i}.png", pixels)
    return folder


@pytest.fixture(scope="module")
def data(folder):
    data = PictureSet(folder)
    data.check()
    return data


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """The folder of a run that has ended, and its options."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    gan.train(data, options(head="direction", augment="ada"), folder, **RUN)
    return folder


def lines(folder):
    """The log without what depends on the clock."""
    timing = {"seconds", "images_per_second", "seconds_left"}
    logged = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in timing} for line in logged]


def at_step(monkeypatch, number, action):
    """Do something at the beginning of a step of the next run."""
    real, count = GANTrainer.step, iter(range(1, 1000))

    def step(self):
        if next(count) == number:
            action()
        real(self)

    monkeypatch.setattr(GANTrainer, "step", step)


# A run of twelve steps has ticks after steps 3, 6, 9 and 12, and snapshots after 6 and 12.
@pytest.mark.parametrize("step, number", [(1, 0), (2, 1), (6, 1), (7, 2), (12, 0)])
def test_a_run_that_a_signal_stops_goes_on_as_if_undisturbed(data, finished, tmp_path, monkeypatch, step, number):
    number = CUT_SHORT[number]
    before = [signal.getsignal(n) for n in signals.SIGNALS]
    at_step(monkeypatch, step, lambda: os.kill(os.getpid(), number))
    chosen = options(head="direction", augment="ada")
    with pytest.raises(loop.Stopped) as stopped:
        gan.train(data, chosen, tmp_path / "run", **RUN)
    assert [signal.getsignal(n) for n in signals.SIGNALS] == before
    assert (stopped.value.signal, stopped.value.nimg) == (number, step * 4)
    assert f"go on with --resume {tmp_path / 'run'}" in str(stopped.value)
    monkeypatch.undo()
    torch.manual_seed(99)
    network = gan.train(data, chosen, tmp_path / "run", resume=True, **RUN)
    for name in (network.name, "fakes000000.png"):
        assert (tmp_path / "run" / name).read_bytes() == (finished / name).read_bytes()
    assert lines(tmp_path / "run") == lines(finished)
    assert sorted(p.name for p in (tmp_path / "run").iterdir() if "tfevents" not in p.name) == sorted(
        p.name for p in finished.iterdir() if "tfevents" not in p.name
    )
    first, second = (torch.load(f / "checkpoint.pt", weights_only=True) for f in (tmp_path / "run", finished))
    for state in (first, second):
        state.pop("seconds"), state.pop("tick")
    assert_equal(first, second)


def assert_equal(a, b):
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for name in a:
            assert_equal(a[name], b[name])
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b


def test_a_second_signal_ends_the_run_at_once(data, tmp_path, monkeypatch):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    at_step(monkeypatch, 2, twice)
    with pytest.raises(KeyboardInterrupt) as stopped:
        gan.train(data, options(), tmp_path / "run", **RUN)
    assert not isinstance(stopped.value, loop.Stopped) and not (tmp_path / "run" / "checkpoint.pt").exists()


def test_an_ignored_signal_stays_ignored(data, tmp_path, monkeypatch):
    earlier = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        at_step(monkeypatch, 1, lambda: os.kill(os.getpid(), signal.SIGHUP))
        gan.train(data, options(kimg=0.008), tmp_path / "run", **RUN)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, earlier)


def test_checkpoints_come_early_and_by_the_clock(data, tmp_path, monkeypatch):
    class Kill(Exception):
        pass

    def kill():
        raise Kill

    monkeypatch.setattr(loop, "FIRST_SECONDS", 0)
    at_step(monkeypatch, 2, kill)
    with pytest.raises(Kill):
        gan.train(data, options(), tmp_path / "run", **RUN)
    assert loop.read_checkpoint(tmp_path / "run")["nimg"] == 0  # the next one is due after LATER_SECONDS
    monkeypatch.undo()
    monkeypatch.setattr(loop, "FIRST_SECONDS", 0)
    monkeypatch.setattr(loop, "LATER_SECONDS", 0)
    at_step(monkeypatch, 3, kill)
    with pytest.raises(Kill):
        gan.train(data, options(), tmp_path / "run", resume=True, **RUN)
    assert loop.read_checkpoint(tmp_path / "run")["nimg"] == 8


def test_sigterm_on_the_command_line(folder, tmp_path, monkeypatch):
    sizes = ["--resolution", 8, "--batch", 4, "--channel-base", 32, "--z-dim", 5, "--w-dim", 4]
    new = ["train", "--data", folder, "-o", tmp_path / "run", "--kimg", 0.016, "--metric-samples", 0, *sizes]
    at_step(monkeypatch, 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    result = click.testing.CliRunner().invoke(cli, [str(word) for word in new])
    assert result.exit_code == 128 + signal.SIGTERM
    assert f"go on with --resume {tmp_path / 'run'}" in result.stderr
    monkeypatch.undo()
    result = click.testing.CliRunner().invoke(cli, ["train", "--resume", str(tmp_path / "run")])
    assert result.exit_code == 0 and (tmp_path / "run" / "network-snapshot-000000.pkl").exists()


# Damaged and hostile checkpoints


def change(*path, to):
    """A function that changes one entry of a checkpoint; ``to`` None removes it."""

    def apply(state):
        *places, last = path
        for name in places:
            state = state[name]
        if to is None:
            del state[last]
        else:
            state[last] = to(state[last]) if callable(to) else to

    return apply


WEIGHT = ("modules", "G", "mapping.fc0.weight")
MOMENT = ("optimisers", "D", "state", 0)
DAMAGES = [
    (change("modules", to={}), "modules.G is missing"),
    (change("modules", to=[]), "modules is a list of 0; expected a table"),
    (change("modules", "G_ema", to=None), "modules.G_ema is missing"),
    (lambda s: s["modules"].update(X={}), "modules.X is unknown"),
    (change(*WEIGHT, to=None), "modules.G.mapping.fc0.weight is missing"),
    (change(*WEIGHT, to=1.0), "modules.G.mapping.fc0.weight is 1.0; expected a tensor"),
    (change(*WEIGHT, to=lambda t: t * math.nan), "modules.G.mapping.fc0.weight has numbers that are nan or infinite"),
    (change(*WEIGHT, to=lambda t: t[:2]), r"mapping.fc0.weight has the shape (2, 5); expected (4, 5)"),
    (change(*WEIGHT, to=lambda t: t.double()), "has numbers of torch.float64; expected torch.float32"),
    (change("optimisers", to={}), "optimisers.G is missing"),
    (change("optimisers", "D", to="x"), 'optimisers.D is "x"; expected a table'),
    (lambda s: s["optimisers"]["D"]["state"].update({999: {}}), "optimisers.D.state.999 is unknown"),
    (change(*MOMENT, "exp_avg", to=None), "optimisers.D.state.0.exp_avg is missing"),
    (change(*MOMENT, "exp_avg", to=lambda t: t / 0), "exp_avg has numbers that are nan or infinite"),
    (change(*MOMENT, "exp_avg_sq", to=lambda t: -1 - t), "exp_avg_sq has numbers below 0"),
    (change(*MOMENT, "step", to=torch.tensor(-1.0)), "step has numbers below 0"),
    (change(*MOMENT, "step", to="x"), 'step is "x"; expected a tensor'),
    (change("nimg", to=10**18), "nimg is 1000000000000000000; expected an integer from 0 to"),
    (change("nimg", to=1e18), "nimg is 1e+18; expected an integer"),
    (change("nimg", to="x"), 'nimg is "x"; expected an integer'),
    (lambda s: s.update(nimg=None), "nimg is null; expected an integer"),
    (change("nimg", to=True), "nimg is true; expected an integer"),
    (change("nimg", to=-4), "nimg is -4; expected"),
    (change("steps", to=math.nan), "steps is NaN; expected an integer"),
    (change("ticks", to=math.inf), "ticks is Infinity; expected an integer"),
    (change("seconds", to="x"), 'seconds is "x"; expected a finite number'),
    (change("seconds", to=math.nan), "seconds is NaN; expected"),
    (change("tick", "first", to=10**6), "tick.first is 1000000; expected at most nimg"),
    (change("tick", to=7), "tick is 7; expected a table"),
    (change("pl_mean", to="x"), 'pl_mean is "x"; expected a tensor'),
    (change("pl_mean", to=torch.zeros(3)), "pl_mean has the shape (3,); expected ()"),
    (change("real_signs", to={"sign": (1.0, 0)}), "real_signs.sign[1] is 0; expected"),
    (change("real_signs", to={"sign": 3}), "real_signs.sign is 3; expected 2 values"),
    (change("means", to={"loss/G": (math.nan, 1)}), "means.loss/G[0] is NaN"),
    (change("random", to=torch.zeros(5, dtype=torch.uint8)), "random has the shape (5,)"),
    (change("random", to=lambda t: t.float()), "random has numbers of torch.float32; expected torch.uint8"),
    (change("random", to=lambda t: t * 0 + 255), "random is no state of a random generator"),
    (change("random", to="x"), 'random is "x"; expected a tensor'),
    (change("format", to=3), "format is 3; expected an integer from 1 to 2"),
    (change("format", to=None), "format is missing"),
    (lambda s: [s.pop(name) for name in list(s)], "format is missing"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(DAMAGES)))
def test_a_changed_checkpoint_is_refused_by_name(data, finished, tmp_path, number):
    apply, error = DAMAGES[number]
    state = torch.load(finished / "checkpoint.pt", weights_only=True)
    apply(state)
    torch.save(state, tmp_path / "checkpoint.pt")
    trainer = GANTrainer(options(head="direction", augment="ada"), data)
    weights, random = copy.deepcopy(trainer.G.state_dict()), torch.get_rng_state()
    with pytest.raises(si.TrainingError) as refused:
        loop.train(trainer, tmp_path, resume=True)
    message = str(refused.value)
    assert message.startswith(f"{tmp_path / 'checkpoint.pt'}: ") and error in message and message.isprintable()
    assert len(message) < 500
    assert torch.equal(torch.get_rng_state(), random)  # nothing was taken of it
    assert_equal(dict(weights), dict(trainer.G.state_dict()))


def deflated(contents):
    """A torch file, with its entries compressed."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(contents)) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.namelist():
            new.writestr(entry, old.read(entry))
    return packed.getvalue()


class Evil:
    def __reduce__(self):
        return os.system, ("echo executed",)


def saved(value):
    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


HOSTILE = {
    "empty": (b"", "it is empty"),
    "text": (b"nothing", "it begins with b'nothing'; expected a checkpoint"),
    "half": (saved({"format": 2})[:300], "has no directory at its end"),
    "deflated": (deflated(saved({"format": 2, "nimg": torch.zeros(10**6)})), "compressed"),
    "executes": (saved({"format": 2, "nimg": Evil()}), "system', which no network file needs; nothing was run"),
    "module": (saved(torch.nn.Linear(2, 2)), "nothing was run"),
    "list": (saved([1, 2]), "the whole is a list of 2; expected a table"),
    "page": (b"<html>no</html>", "an HTML or XML page"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_is_no_checkpoint_is_one_sentence(tmp_path, name):
    contents, error = HOSTILE[name]
    (tmp_path / "checkpoint.pt").write_bytes(contents)
    tracemalloc.start()
    with pytest.raises(si.TrainingError, match="checkpoint.pt: ") as refused:
        loop.read_checkpoint(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert error in str(refused.value) and str(refused.value).isprintable() and peak < 3 * len(contents) + 2**20


def test_reading_takes_three_times_the_file(data, tmp_path):
    """One storage that stands for many tensors takes no memory, and each tensor is copied only once."""
    big = torch.zeros(2**20)
    state = {"format": 2, "nimg": 4, **{f"x{i}": big.view(-1) for i in range(200)}}
    torch.save(state, tmp_path / "checkpoint.pt")
    size = (tmp_path / "checkpoint.pt").stat().st_size
    tracemalloc.start()
    with pytest.raises(si.TrainingError, match="not one of a GAN"):
        loop.train(GANTrainer(options(), data), tmp_path, resume=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size < 5e6 and peak < 3 * size + 2**22


def test_a_pipe_in_place_of_a_checkpoint_is_refused(tmp_path):
    os.mkfifo(tmp_path / "checkpoint.pt")
    with pytest.raises(si.TrainingError, match="a pipe, a socket or a device; expected a checkpoint"):
        loop.read_checkpoint(tmp_path)


def test_a_checkpoint_of_format_1_goes_on(data, finished, tmp_path):
    """Format 1 had no means and no place inside a tick, and its checkpoints lay between two ticks."""
    chosen = options(head="direction", augment="ada")

    class Stop(Exception):
        pass

    def stop(report):
        if report.values["tick"] == 3:
            raise Stop

    with pytest.raises(Stop):
        gan.train(data, chosen, tmp_path / "run", callback=stop, **RUN)
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    state["format"] = 1
    del state["means"], state["tick"]
    torch.save(state, tmp_path / "run" / "checkpoint.pt")
    network = gan.train(data, chosen, tmp_path / "run", resume=True, **RUN)
    assert network.read_bytes() == (finished / network.name).read_bytes() and lines(network.parent) == lines(finished)


# Options and log


@pytest.mark.parametrize(
    "place, value, error",
    [
        (("options", "batch"), 0, "options: batch is 0; expected an integer from 1"),
        (("options", "batch"), 4.0, "options: batch is 4.0"),
        (("options", "batch_gpu"), 0, "options: batch_gpu is 0"),
        (("options", "lr"), math.nan, "options.lr is NaN; expected a finite number"),
        (("options", "x\x1b[2J"), 1, "options.x\\x1b[2J is unknown"),
        (("options", "fp16"), "yes", "options: fp16 is 'yes'"),
        (("options",), 3, "options is 3; expected a table"),
        (("data", "x"), 1, "data.x is unknown; expected path, resolution"),
        (("data", "resolution"), "x", 'data.resolution is "x"; expected an integer'),
        (("data", "first"), "x", 'data.first is "x"; expected an integer'),
        (("data", "path"), 5, "data.path is 5; expected a text"),
        (("data", "path"), None, "data.path is null; expected a text"),
        (("data", "channels"), 2**70, "data.channels is 1180591620717411303424; expected"),
        (("rhythm", "tick_kimg"), 0, "rhythm.tick_kimg is 0; expected a finite number above 0"),
        (("rhythm", "tick_kimg"), -1, "rhythm.tick_kimg is -1"),
        (("rhythm", "tick_kimg"), "x", "rhythm.tick_kimg is"),
        (("rhythm", "snapshot_ticks"), 0, "rhythm.snapshot_ticks is 0"),
        (("rhythm", "callback"), 1, "rhythm.callback is unknown; expected tick_kimg, snapshot_ticks, metric_samples"),
        (("pictures",), True, "pictures is true; expected an integer"),
    ],
)
def test_changed_options_of_a_run_are_refused_by_name(finished, tmp_path, place, value, error):
    record = json.loads((finished / "training_options.json").read_text())
    *outer, last = place
    target = record
    for name in outer:
        target = target[name]
    target[last] = value
    (tmp_path / "training_options.json").write_text(json.dumps(record))
    with pytest.raises(si.TrainingError) as refused:
        loop.read_options(tmp_path, Options, gan.RHYTHM)
    assert error in str(refused.value) and str(refused.value).startswith(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"nothing", b"[]", b"{}", b"[" * 10**5, b"\xff", None])
def test_a_damaged_record_of_options_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "training_options.json").write_bytes(content)
    with pytest.raises(si.TrainingError, match="training_options.json: "):
        loop.read_options(tmp_path, Options)


@pytest.mark.parametrize("bad", ["[" * 10**5, "{}", '{"nimg": "x"}', '{"nimg": 1, "loss": NaN}', "\x00"])
def test_a_damaged_line_of_the_log_is_named(data, finished, tmp_path, bad):
    for name in ("checkpoint.pt", "log.jsonl"):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    log = tmp_path / "log.jsonl"
    whole = log.read_text()
    log.write_text(whole + bad)  # what follows the last end of a line was cut short by a kill
    loop.train(GANTrainer(options(head="direction", augment="ada"), data), tmp_path, resume=True)
    assert log.read_text() == whole
    first, rest = whole.split("\n", 1)
    log.write_text(f"{first}\n{bad}\n{rest}")
    with pytest.raises(si.TrainingError, match=r"log.jsonl: line 2: .*; delete this line to go on"):
        loop.train(GANTrainer(options(head="direction", augment="ada"), data), tmp_path, resume=True)
    assert log.read_text() == f"{first}\n{bad}\n{rest}"
