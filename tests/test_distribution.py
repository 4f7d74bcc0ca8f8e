"""Distances between sets of pictures."""
# Takes at most 5 CPU seconds.

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import stylegan_invert as si
from stylegan_invert.analysis import distribution
from stylegan_invert.analysis.distribution import PictureFeatures, distances, frechet_distance, generated_pictures, kid
from stylegan_invert.cli.main import cli
from stylegan_invert.generator import adapt

from conftest import make_network


def normal(n, mean=0.0, scale=1.0, size=16, seed=0):
    return torch.from_numpy(np.random.RandomState(seed).randn(n, size) * scale + mean)


def test_frechet_is_the_formula():
    import scipy.linalg

    a, b = normal(500, seed=1) @ torch.rand(16, 16).double(), normal(400, 0.3, 2.0, seed=2)
    s1, s2 = np.cov(a.numpy(), rowvar=False), np.cov(b.numpy(), rowvar=False)
    root = scipy.linalg.sqrtm(s1 @ s2).real
    expected = float((a.mean(0) - b.mean(0)).square().sum()) + np.trace(s1 + s2 - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-8)
    assert frechet_distance(a, a + 2) == pytest.approx(4 * 16)


def test_kid_is_unbiased_and_its_error_honest():
    """Over repeated draws of one distribution: mean zero, and the stated errors are those that occur."""
    values, errors = zip(*(kid(normal(200, seed=2 * i), normal(200, seed=2 * i + 1)) for i in range(60)))
    assert abs(np.mean(values)) < 3 * np.std(values) / 60**0.5
    assert 0.6 < np.mean(errors) / np.std(values) < 1.4
    value, error = kid(normal(400), normal(400, mean=0.5, seed=1))
    assert value > 5 * error


def test_kid_is_the_papers_estimator():
    a, b = normal(8, size=3, seed=1), normal(8, size=3, mean=1.0, seed=2)

    def k(x, y):
        return float((x @ y / 3 + 1) ** 3)

    n = 8
    whole = sum(k(a[i], a[j]) + k(b[i], b[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    whole -= 2 * sum(k(x, y) for x in a for y in b) / n**2
    assert float(distribution._mmd(a, b)) == pytest.approx(whole)


def test_too_few_pictures_are_refused():
    with pytest.raises(ValueError, match="7 pictures are too few"):
        kid(normal(7), normal(100))


def test_frechet_is_given_from_ten_thousand_on():
    few, many = normal(100, size=4), normal(10_000, size=4)
    assert set(distances(few, many)) == {"kid_squeezenet", "kid_squeezenet_stderr", "samples"}
    assert set(distances(many, many)) == {"kid_squeezenet", "kid_squeezenet_stderr", "samples", "frechet_squeezenet"}


def test_features_do_not_depend_on_the_batch_or_the_kind_of_picture():
    features = PictureFeatures()
    grey = torch.randint(256, [5, 1, 40, 40], dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    x = features(grey)
    assert x.shape == (5, 512) and x.dtype == torch.float64
    torch.testing.assert_close(x[2:3], features(grey[2:3]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(x, features(grey.repeat(1, 3, 1, 1)))
    torch.testing.assert_close(x, features(torch.cat([grey.repeat(1, 3, 1, 1), grey], dim=1)))
    torch.testing.assert_close(features.of(grey.split(2)), x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("classes", [0, 3])
def test_generated_pictures_are_those_of_the_seed(classes):
    generator = adapt(make_network(classes=classes).G)
    c = torch.eye(3)[:2] if classes else None
    a = torch.cat(list(generated_pictures(generator, 70, seed=1, c=c)))
    b = torch.cat(list(generated_pictures(generator, 70, seed=1, c=c)))
    assert a.shape == (70, 3, 16, 16) and a.dtype == torch.uint8 and torch.equal(a, b)
    assert not torch.equal(a, torch.cat(list(generated_pictures(generator, 70, seed=2, c=c))))


def test_the_command(tmp_path, monkeypatch):
    net = make_network()
    si.save(net, tmp_path / "a.pkl")
    (tmp_path / "real").mkdir()
    from stylegan_invert.media.pictures import write_png

    for i, picture in enumerate(torch.cat(list(generated_pictures(adapt(net.G), 16, seed=5)))):
        write_png(tmp_path / "real" / f"{i}.png", picture.numpy())
    args = ["distance", "-n", tmp_path / "a.pkl", "--data", tmp_path / "real", "--samples", "40"]
    result = CliRunner().invoke(cli, list(map(str, [*args, "--json"])))
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    assert values["samples"] == [16, 40] and abs(values["kid_squeezenet"]) < 4 * values["kid_squeezenet_stderr"] + 0.05
    text = CliRunner().invoke(cli, list(map(str, args))).output
    assert "KID (SqueezeNet)" in text and "10,000 pictures" in text and "FID" not in text
    monkeypatch.setattr(
        "stylegan_invert.analysis.distribution.FIDFeatures", lambda file, device: PictureFeatures(device)
    )
    command = list(map(str, [*args, "--fid-inception", "x.pth"]))
    values = json.loads(CliRunner().invoke(cli, [*command, "--json"]).stdout)
    assert values["kid"] == values["kid_squeezenet"] and values["fid"] > 0 and "frechet_squeezenet" not in values
    assert "FID  " in CliRunner().invoke(cli, command).output
