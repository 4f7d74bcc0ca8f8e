"""The studies of Wulff & Torralba: reproduce prior, reproduce compression."""
# Takes at most 65 CPU seconds.

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import stylegan_invert as si
from stylegan_invert.cli.main import cli
from stylegan_invert.generator import Code, adapt
from stylegan_invert.media.pictures import write_png
from stylegan_invert.studies import base, compression, prior

from conftest import make_network


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A small network file, pictures that stand for real ones, and a cache for its Gaussian."""
    folder = tmp_path_factory.mktemp("wulff")
    net = make_network(32)
    si.save(net, folder / "net.pkl")
    (folder / "real").mkdir()
    for i, picture in enumerate(np.random.RandomState(0).randint(256, size=(24, 3, 32, 32), dtype=np.uint8)):
        write_png(folder / "real" / f"{i:02d}.png", picture)
    with pytest.MonkeyPatch.context() as m:
        m.setenv("STYLEGAN_INVERT_CACHE", str(folder / "cache"))
        yield folder


def call(*arguments):
    result = CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def test_the_prior_study(network, tmp_path, monkeypatch):
    args = [
        "reproduce",
        "prior",
        "-n",
        network / "net.pkl",
        "--data",
        network / "real",
        "--count",
        3,
        "--pairs",
        1,
        "--steps",
        4,
    ]
    args += [
        "--steps-plus",
        5,
        "--steps-whitened",
        3,
        "--weights",
        "1e-3",
        "--batch",
        3,
        "--loss",
        "mse",
        "-o",
        tmp_path,
        "-q",
    ]
    call(*args)
    figures = {
        "figure2.png",
        "figure7.png",
        "figure8.png",
        "figure3-real.png",
        "figure3-single.png",
        "figure3-mixed.png",
    }
    assert figures < {p.name for p in tmp_path.iterdir()}
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results["sets"]["real"]) == {"mean", "w-0", "w-0.0001", "w+-0", "w+-0.0001", "v-0.0001", "v+-0.0001"}
    assert set(results["curves"]) == {"single", "mixed"}
    # The row of the mean code, from scratch.
    generator = adapt(si.load(network / "net.pkl").G)
    center = generator.center("w").tensors["w"]
    for name, mixed in (("single", False), ("mixed", True)):
        true = prior.drawn(generator, 3, mixed, seed=1).tensors["w"]
        away = (true - (center[:, None] if mixed else center)).double().flatten(1).norm(dim=1).mean()
        assert results["sets"][name]["mean"]["w"] == pytest.approx(float(away), rel=1e-5)
        rows = results["sets"][name]
        space = "w+" if mixed else "w"
        assert set(rows) == {
            "mean",
            f"{space}-0",
            f"{space}-0.0001",
            f"{space}-0.001",
            f"{space.replace('w', 'v')}-0.0001",
        }
        curve = results["curves"][name][f"{space}-0"]
        assert len(curve["alpha"]) == len(curve["lpips"]) == len(curve["w"]) == 11
    table = (tmp_path / "table.md").read_text()
    assert "| W + prior |" in table and "227.65" in table and "mean code" in table
    # What is there is not made again; a file that is gone is.
    with monkeypatch.context() as m:
        m.setattr(base, "fit", lambda *_: pytest.fail("it was made again"))
        call(*args)
    assert (tmp_path / "table.md").read_text() == table
    next((tmp_path / "parts").glob("mixed-v+*")).unlink()
    call(*args)
    again = json.loads((tmp_path / "results.json").read_text())
    assert again["sets"]["mixed"]["v+-0.0001"]["w"] == pytest.approx(
        results["sets"]["mixed"]["v+-0.0001"]["w"], rel=1e-3
    )


def test_mixed_pictures_have_another_w_in_every_layer(network):
    generator = adapt(si.load(network / "net.pkl").G)
    w = prior.drawn(generator, 3, True, seed=2).tensors["w"]
    assert w.shape == (3, generator.network.num_ws, 8)
    assert len(torch.unique(w.flatten(0, 1), dim=0)) == 3 * generator.network.num_ws
    single = prior.drawn(generator, 3, False, seed=2)
    assert single.space == "w" and torch.equal(
        single.tensors["w"], prior.drawn(generator, 3, False, seed=2).tensors["w"]
    )


def test_pairs():
    found = prior.choose_pairs(20, 80)
    assert len(set(found)) == 80 and all(0 <= i < j < 20 for i, j in found) and found == prior.choose_pairs(20, 80)
    assert sorted(prior.choose_pairs(3, 80)) == [(0, 1), (0, 2), (1, 2)]


def test_curves_of_true_codes_are_zero(network):
    generator = adapt(si.load(network / "net.pkl").G)
    code = prior.drawn(generator, 3, True, seed=2)
    curve = prior.curves(generator, code, code, [(0, 1), (1, 2)], [0, 0.5, 1])
    assert max(curve["lpips"] + curve["w"] + curve["v"]) < 1e-5
    shifted = Code("w+", {"w": code.tensors["w"] + 0.5})
    curve = prior.curves(generator, shifted, code, [(0, 1)], [0, 0.5, 1])
    np.testing.assert_allclose(curve["w"], 0.5 * (8 * generator.network.num_ws) ** 0.5, rtol=1e-5)


def test_alignment_finds_equal_distances():
    # Distances 1 / psi and 2 - log tau: equal where tau = exp(2 - 1 / psi).
    truncations = [(psi, 1 / psi) for psi in (1.0, 0.8, 0.5, 0.2)]
    compressions = [(tau, 2 - np.log(tau)) for tau in (4.0, 2.0, 1.0, 0.5)]
    found = compression.aligned(truncations, compressions)
    assert [psi for psi, _, _ in found] == [1.0, 0.8, 0.5]  # 0.2 is beyond the compressions measured
    for psi, tau, distance in found:
        assert distance == 1 / psi and tau == pytest.approx(np.exp(2 - 1 / psi))


def test_realism_is_its_definition():
    random = torch.Generator().manual_seed(0)
    real, made = torch.randn([40, 3], generator=random), torch.randn([9, 3], generator=random) * 2
    apart = np.linalg.norm(real[:, None].numpy() - real[None].numpy(), axis=2)
    radii = np.sort(apart, axis=1)[:, 3]
    dense = radii <= np.sort(radii)[(len(radii) - 1) // 2]
    expected = [max(r / np.linalg.norm(m - x) for x, r in zip(real[dense].numpy(), radii[dense])) for m in made.numpy()]
    np.testing.assert_allclose(compression.realism_scores(made, real), expected, rtol=1e-4)


def test_similarity_and_diversity():
    features = torch.randn([50, 6], generator=torch.Generator().manual_seed(0)) + 10
    assert compression.similarity(features, features) == pytest.approx(1, abs=1e-5)
    assert abs(compression.similarity(features, features.flip(0))) < 0.3
    shown = np.stack([np.full([3, 2, 2], 10, np.uint8), np.full([3, 2, 2], 30, np.uint8)])
    assert compression.diversity(shown) == 10


@pytest.mark.parametrize("flag", ["discriminator", "neighbours"])
def test_the_compression_study(network, tmp_path, flag, monkeypatch):
    args = [
        "reproduce",
        "compression",
        "-n",
        network / "net.pkl",
        "--data",
        network / "real",
        "--samples",
        30,
        "--compared",
        20,
    ]
    args += [
        "--truncations",
        "1,0.6,0.3",
        "--compressions",
        "5,1,0.5,0.05",
        "--flag",
        flag,
        "--share",
        0.2,
        "-o",
        tmp_path,
        "-q",
    ]
    call(*args)
    results = json.loads((tmp_path / "results.json").read_text())
    curves = {kind: dict(map(tuple, curve)) for kind, curve in results["curves"].items()}
    # Truncation by one and compression of nothing are the same pictures.
    assert curves["truncation"][1] == pytest.approx(curves["compression"][5], rel=0.01)
    assert len(set(curves["truncation"].values())) == 3 and len(results["components"]["flagged"]) == 8
    assert (tmp_path / "figure5.png").exists() and "Diversity" in (tmp_path / "table.md").read_text()
    for row in results["aligned"]:
        for kind in ("truncation", "compression"):
            assert 0 <= row[kind]["diversity"] <= results["diversity"] * 1.5 and row[kind]["similarity"] <= 1 + 1e-6
    assert (tmp_path / "figure4.png").exists() == bool(results["aligned"])
    with monkeypatch.context() as m:
        m.setattr(compression, "features_of", lambda *_: pytest.fail("it was made again"))
        call(*args)
    assert json.loads((tmp_path / "results.json").read_text())["curves"] == results["curves"]
