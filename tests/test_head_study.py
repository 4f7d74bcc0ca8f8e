"""The study of the direction head: the two transforms, the settings, and a tiny run."""
# Takes at most 12 CPU seconds.

import dataclasses
import json
import math

import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner

import stylegan_invert as si
from stylegan_invert.cli.main import cli
from stylegan_invert.media.picture_set import PictureSet
from stylegan_invert.studies import base, head, spherical
from stylegan_invert.training.configs import Options

from conftest import make_network

SMALL = {"z_dim": 7, "w_dim": 8, "channel_base": 64, "channel_max": 8}


def test_the_sequential_transform_is_the_papers():
    """Cho, section 3, with r = 1."""
    a = torch.rand([3, 4], dtype=torch.float64) * (math.pi / 2)
    c, s = a.cos().T, a.sin().T
    expected = [c[0], s[0] * c[1], s[0] * s[1] * c[2], s[0] * s[1] * s[2] * c[3], s[0] * s[1] * s[2] * s[3]]
    x = spherical.sequential_to_cartesian(a)
    torch.testing.assert_close(x, torch.stack(expected, dim=1))
    torch.testing.assert_close(x.norm(dim=1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(spherical.cartesian_to_sequential(x), a)


@pytest.mark.parametrize("name", spherical.TRANSFORMS)
@pytest.mark.parametrize("n", [2, 3, 8, 13])
def test_slopes_are_the_lengths_of_the_derivatives(name, n):
    a = torch.rand([1, n - 1], dtype=torch.float64) * (math.pi / 2)
    jacobian = torch.autograd.functional.jacobian(lambda x: spherical.TRANSFORMS[name][0](x)[0], a)[:, 0]
    torch.testing.assert_close(spherical.slopes(name, a)[0], jacobian.norm(dim=0))


def test_the_sequential_transform_underflows_and_the_tree_does_not():
    tree, sequential = (spherical.measure(name, 256, draws=20) for name in ("tree", "sequential"))
    assert tree["zeros"] == 0 and tree["found"] == 1 and tree["smallest"] > -8
    assert sequential["zeros"] > 0.3 and sequential["found"] < 0.7 and sequential["smallest"] < -60
    assert sequential["found_off"] < tree["found_off"] < 1
    # A point that was not moved far enough to matter gives its angles back.
    assert spherical.measure("sequential", 16, draws=20)["found"] == 1


def pictures(folder, n, side):
    folder.mkdir()
    for i in range(n):
        pixels = np.random.RandomState(i).randint(256, size=(side, side, 3)).astype(np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    return folder


def test_a_study_of_two_settings(tmp_path, monkeypatch):
    monkeypatch.setattr(head, "SIZES", SMALL)
    source = pictures(tmp_path / "data", 14, 16)
    args = ["reproduce", "head", "--data", source, "--pictures", "0:10", "--held", 4, "--rows", "none,base"]
    args += ["--kimg", 0.064, "--generated", 4, "-o", tmp_path / "out"]
    result = CliRunner().invoke(cli, list(map(str, args)))
    assert result.exit_code == 0, result.output
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"table.md", "results.json", "settings.json", "spherical.png", "parts"}
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["pictures"] == [10, 4] and list(results["rows"]) == ["base", "none"]
    rows = results["rows"]
    assert set(rows["base"]) == {"title", *head.COLUMNS} and set(rows["none"]) == {"title", "kid", "seconds"}
    parts = [base.read_part(tmp_path / "out" / "parts" / f"base-{seed}.npz") for seed in range(2)]
    assert rows["base"]["angle"] == [float(part["angle"]) for part in parts] and len(set(rows["base"]["angle"])) == 2
    differences = [np.std(row["kid"], ddof=1) for row in rows.values()]
    assert results["spread"]["kid"] == pytest.approx(np.sqrt(np.mean(np.square(differences))))
    monkeypatch.setattr(head, "trained", lambda *_: pytest.fail("a training was done again"))
    assert CliRunner().invoke(cli, list(map(str, args))).exit_code == 0
    result = CliRunner().invoke(cli, list(map(str, [*args, "--rows", "all"])))
    assert result.exit_code == 1 and "no setting 'all' here; expected some of base" in str(result.exception)
    result = CliRunner().invoke(cli, list(map(str, [*args, "--pictures", "3:"])))
    assert result.exit_code == 2 and "expected FIRST:LAST, as 0:15300" in result.output


def test_ways_to_attach_a_head(tmp_path, monkeypatch):
    """Training from the start has the file's sizes; an attached head begins with the file's weights."""
    net = make_network(16)
    row = head.Row("attached", {"train": "head", "attach_kimg": 0.064}, attached=True)
    monkeypatch.setattr(head, "ATTACHED", {"scratch": head.ATTACHED["scratch"], "attach-head": row})
    si.save(net, tmp_path / "a.pkl")
    seen = []
    measure = head.Meter.measure
    monkeypatch.setattr(head.Meter, "measure", lambda meter, found: seen.append(found) or measure(meter, found))
    source = pictures(tmp_path / "data", 12, 16)
    results = head.run(
        si.load(tmp_path / "a.pkl"), tmp_path / "out", source=str(source), span=(0, 8), kimg=0.032, seeds=1, generated=4
    )
    assert "spread" in results and not results["spread"]
    scratch, attached = seen
    assert type(attached.direction).__name__ == "AttachedDirection" != type(scratch.direction).__name__
    assert torch.equal(attached.G.mapping.fc0.weight, net.G.mapping.fc0.weight)
    assert scratch.G.mapping.fc0.weight.shape == net.G.mapping.fc0.weight.shape
    assert not torch.equal(scratch.G.mapping.fc0.weight, net.G.mapping.fc0.weight)
    with pytest.raises(si.StyleganInvertError, match="classes or a head already"):
        head.run(scratch, tmp_path / "out", source=str(source))


def test_every_setting_is_what_its_row_says(tmp_path):
    data = PictureSet(pictures(tmp_path / "data", 2, 16))
    first, *others = (head.options_of(row, None, data, 24, 5) for row in head.ROWS.values())
    assert first == Options.for_resolution(
        16, head="direction", kimg=24, seed=5, embedding_later_kimg=12, ema_kimg=1.2, **head.SIZES
    )
    for row, options in zip(list(head.ROWS.values())[1:], others):
        differing = {k for k, v in dataclasses.asdict(options).items() if v != getattr(first, k)}
        implied = {"embedding_later_kimg"} if row.later != 0.5 else set()
        implied |= {"mapping_lr"} if options.head == "none" else set()
        implied |= {"gamma", "D_reg_interval"} if options.loss == "wgan-gp" else set()
        assert differing == {k for k, v in row.changes.items() if v != getattr(first, k)} | implied and differing


def test_the_table_marks_what_is_decided():
    rows = {"base": {"title": "a", "angle": [50.0, 50.2]}, "other": {"title": "b", "angle": [51.0, 51.2]}}
    results = {"rows": rows, "spread": head.spread(rows.values()), "kimg": 1, "resolution": 16}
    results["spherical"] = {name: dict.fromkeys(spherical.COLUMNS, [0.0] * 10) for name in spherical.TRANSFORMS}
    assert results["spread"] == {"angle": pytest.approx(0.2 / 2**0.5)}
    text = head.table(results)
    assert "| a | 50.1 ± 0.1 |" in text and "| b | 51.1 ± 0.1* |" in text
    rows["other"]["angle"] = [50.4, 50.6]
    assert "| b | 50.5 ± 0.1 |" in head.table(results)
