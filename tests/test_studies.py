"""What all studies share: they are called from Python, go on where they stopped, and say what is wrong with a folder."""
# Takes at most 15 CPU seconds.

import contextlib
import importlib
import inspect
import json

import numpy as np
import pytest
from click.testing import CliRunner

import stylegan_invert as si
from stylegan_invert.cli.reproduce import COMMANDS
from stylegan_invert.media.pictures import write_png
from stylegan_invert.studies import base, clipping, compression, dense, displacement

from conftest import make_network


def test_a_study_is_a_function(tmp_path, monkeypatch):
    monkeypatch.setattr(displacement, "REFERENCE", 16)
    net = make_network(32)
    bars = []

    class Bar:
        def __init__(self, total, label):
            self.total, self.label, self.done = total, label, 0
            bars.append(self)

        def __enter__(self):
            return self.add

        def add(self, count):
            self.done += count

        def __exit__(self, *details):
            assert self.done == self.total

    settings = dict(generated=2, layer="b8.conv1", steps=2, layer_steps=2, loss="mse")
    results = dense.run(net, tmp_path / "dense", **settings, counting=Bar)
    assert [bar.label for bar in bars] == ["codes"]
    assert results == json.loads((tmp_path / "dense" / "results.json").read_text())
    assert dense.table(results) == (tmp_path / "dense" / "table.md").read_text()


def test_a_stopped_study_goes_on_where_it_was(tmp_path, monkeypatch):
    settings = dict(generated=3, steps=3, restarts=2)
    whole = clipping.run(make_network(), tmp_path / "whole", **settings)
    original, calls = base.fit, []

    def interrupted(*args):
        if len(calls) == 4:
            raise KeyboardInterrupt
        calls.append(args)
        return original(*args)

    monkeypatch.setattr(base, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        clipping.run(make_network(), tmp_path / "cut", **settings)
    made = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "cut" / "parts").glob("*.npz")}
    assert len(made) == 4 and not (tmp_path / "cut" / "results.json").exists()
    monkeypatch.setattr(base, "fit", original)
    assert clipping.run(make_network(), tmp_path / "cut", **settings) == whole
    times = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "cut" / "parts").glob("*.npz")}
    assert len(times) == 6 and made.items() <= times.items()


def test_settings_are_compared_and_a_damaged_file_is_named(tmp_path):
    base.begin(tmp_path / "a", {"seed": 1, "weights": [1e-4], "network": None})
    base.begin(tmp_path / "a", {"seed": 1, "weights": [1e-4], "network": None})
    with pytest.raises(si.StyleganInvertError, match="other options .*different: seed.*--outdir"):
        base.begin(tmp_path / "a", {"seed": 2, "weights": [1e-4], "network": None})
    for content in (b"", b'{"seed": 1', b"\xff\xfe", b"[1, 2]", b"null", b'[["seed", 1]]', b'{"seed": NaN}'):
        (tmp_path / "a" / "settings.json").write_bytes(content)
        with pytest.raises(si.StyleganInvertError, match="settings.json: .* delete the folder or choose"):
            base.begin(tmp_path / "a", {"seed": 1})
    (tmp_path / "part.npz").write_bytes(b"PK")
    with pytest.raises(si.StyleganInvertError, match="part.npz: .*is damaged.*computes it again"):
        base.read_part(tmp_path / "part.npz")
    with pytest.raises(si.StyleganInvertError) as refused:
        (tmp_path / "a" / "settings.json").write_text(json.dumps({"x" * 10**5: 1}))
        base.begin(tmp_path / "a", {"seed": 1})
    assert len(str(refused.value)) < 1000


@contextlib.contextmanager
def no_bar(count, label):
    yield lambda done: None


@pytest.mark.parametrize("content", ["[" * 10**5, '"x"', "NaN", "", '{"a": 1}'])
def test_a_damaged_distance_of_a_compression_study_is_named(tmp_path, content):
    np.save(tmp_path / "real.npy", np.zeros([8, 3], np.float32))
    (tmp_path / "truncation-0.5.json").write_text(content)
    with pytest.raises(si.StyleganInvertError, match="truncation-0.5.json: "):
        compression._measure(None, None, None, {"truncation": [0.5]}, None, tmp_path, no_bar)


def test_networks_and_pictures_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(si.StyleganInvertError, match="it has classes"):
        clipping.run(make_network(classes=3), tmp_path)
    small, large = make_network(), make_network(32)
    for i, picture in enumerate(np.random.RandomState(0).randint(256, size=(2, 3, 16, 16), dtype=np.uint8)):
        write_png(tmp_path / f"{i}.png", picture)
    data = base.picture_set(small, tmp_path, (1, None))
    assert data.names == ["1.png"]
    with pytest.raises(si.StyleganInvertError, match="16x16 with 3 channels; this network makes 32x32"):
        dense.run(large, tmp_path / "out", data, generated=2, layer="b8.conv1")


NEEDED = {
    "compression": ["--data", "z"],
    "encoder": ["--encoder", "z"],
    "head": ["--data", "z"],
    "identity": ["--people", "z"],
    "restoration": ["--data", "z"],
    "segmentation": ["--data", "z", "--masks", "black"],
    "tuning": ["--data", "z"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_defaults_of_commands_and_functions_are_the_same(name, monkeypatch):
    module = importlib.import_module(f"stylegan_invert.cli.reproduce_{name}")
    study = importlib.import_module(f"stylegan_invert.studies.{name}")
    seen = {}
    monkeypatch.setattr(module, "run_study", lambda study, figures="", **options: seen.update(options))
    arguments = ["-n", "cats32", "-o", "y", *NEEDED.get(name, [])]
    assert CliRunner().invoke(module.command, arguments).exit_code == 0
    shared = {"network", "outdir", "quiet", "data", "pictures", "device", "counting"}
    parameters = inspect.signature(study.run).parameters.values()
    shared |= {p.name for p in parameters if p.kind == p.KEYWORD_ONLY and p.default is p.empty}  # callers choose them
    defaults = {p.name: p.default for p in parameters if p.kind == p.KEYWORD_ONLY and p.name not in shared}
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in seen.items() if k not in shared}
    assert given == defaults
