"""The Gaussian of V: equations, samples, files, projectors with the prior, and the commands."""
# Takes at most 25 CPU seconds.

import json
import os

import numpy as np
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import stylegan_invert as si
from stylegan_invert.analysis.gaussianity import diagnose, held_out
from stylegan_invert.analysis.paths import between, latent_distances
from stylegan_invert.cli.main import cli
from stylegan_invert.generator import Code, Gaussian, StyleAdapter, adapt, fit_gaussian, label
from stylegan_invert.generator.gaussian import TARGET_ERROR, Moments, inverse_leaky_relu
from stylegan_invert.io import gaussian_file as statistics
from stylegan_invert.io.codes import read_codes, write_codes
from stylegan_invert.media.pictures import read_picture
from stylegan_invert.projectors import find_method
from stylegan_invert.projectors.v_prior import v_prior, weighted_prior

from conftest import make_network
from support import load_npz


@pytest.fixture(scope="module", autouse=True)
def kept(tmp_path_factory):
    """A cache for this file, so that the Gaussian of the shipped network is made once."""
    with pytest.MonkeyPatch.context() as m:
        m.setenv("STYLEGAN_INVERT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def shipped(kept, cats):
    """The adapter of the shipped network, with its Gaussian."""
    return statistics.with_gaussian(adapt(cats.G))


def some_gaussian(d=5, slope=0.2, seed=0):
    """A Gaussian whose covariance is far from diagonal, and that covariance."""
    random = np.random.RandomState(seed)
    turned = np.linalg.qr(random.randn(d, d))[0]
    covariance = (turned * np.geomspace(1, 0.003, d)) @ turned.T
    values, vectors = np.linalg.eigh(covariance)
    moments = (torch.from_numpy(x.copy()) for x in (random.randn(d), values[::-1], vectors[:, ::-1]))
    return Gaussian(*moments, slope, 1000, 0.0), covariance


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 9), st.sampled_from([0.2, 0.01, 0.5]), st.integers(0, 1000))
def test_the_prior_is_equations_2_and_4(d, slope, seed):
    gaussian, covariance = some_gaussian(d, slope, seed)
    w = np.random.RandomState(seed + 1).randn(3, 4, d)
    v = np.where(w < 0, w / slope, w) - gaussian.mean.numpy()
    expected = np.einsum("nld,de,nle->nl", v, np.linalg.inv(covariance), v)
    found = gaussian.mahalanobis(torch.from_numpy(w))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    # Equation 4: the Kronecker product of the identity and Sigma.
    stacked = np.kron(np.eye(4), covariance)
    for row, sums in zip(v.reshape(3, -1), found.sum(dim=1)):
        assert float(sums) == pytest.approx(row @ np.linalg.solve(stacked, row), rel=1e-6)
    torch.testing.assert_close(gaussian.covariance, torch.from_numpy(covariance))


def test_gradients_of_prior_and_compression():
    gaussian, _ = some_gaussian()
    w = torch.randn([2, 3, 5], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.autograd.gradcheck(gaussian.mahalanobis, w.requires_grad_(True))
    assert torch.autograd.gradgradcheck(gaussian.mahalanobis, w)


@pytest.mark.parametrize("tau", [0.05, 0.3, 2.0])
def test_compression_is_equation_6(tau):
    gaussian, covariance = some_gaussian()
    w = np.random.RandomState(1).randn(50, 5) * 3
    mean = gaussian.mean.numpy()
    values, vectors = np.linalg.eigh(covariance)
    x = (np.where(w < 0, 5 * w, w) - mean) @ vectors
    limit = tau * np.sqrt(values.max())
    large = np.abs(x) > limit
    assert large.any() and not large.all()
    x[large] = np.sign(x[large]) * limit * (np.log(np.abs(x[large]) / limit) + 1)
    v = x @ vectors.T + mean
    expected = np.where(v < 0, v / 5, v)
    np.testing.assert_allclose(gaussian.compress(torch.from_numpy(w), tau), expected, rtol=1e-5, atol=1e-6)
    small = ~large.any(axis=1)
    same = torch.from_numpy(w[small]).to(torch.float32)
    assert torch.equal(gaussian.compress(same, tau), same)  # to the bit
    with pytest.raises(ValueError, match="positive"):
        gaussian.compress(same, 0)


def test_whitening_goes_there_and_back():
    gaussian, _ = some_gaussian()
    w = torch.randn([7, 5])
    torch.testing.assert_close(gaussian.unwhiten(gaussian.whiten(w)), w)
    torch.testing.assert_close(gaussian.unwhiten(torch.zeros([1, 5])), gaussian.to_w(gaussian.mean)[None])


def test_moments_are_those_of_all_rows():
    rows = np.random.RandomState(0).randn(1000, 4) * [1, 2, 3, 1e-3] + 1e3
    a, b = Moments(torch.full([4], 999.0, dtype=torch.float64)), Moments(torch.full([4], 999.0, dtype=torch.float64))
    for i, part in enumerate(np.array_split(rows, 7)):
        (a, b)[i % 2].add(torch.from_numpy(part))
    both = a.combined(b)
    np.testing.assert_allclose(both.mean, rows.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(both.covariance, np.cov(rows, rowvar=False), rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("heavy", [False, True])
def test_as_many_samples_as_the_error_asks_for(heavy):
    """The estimated error is about the true one, heavy tails or not; heavy ones take more samples."""
    truth, covariance = some_gaussian(20, seed=3)
    random = torch.Generator().manual_seed(0)

    def sample(n):
        x = torch.randn([n, 20], generator=random, dtype=torch.float64)
        if heavy:  # a mixture of scales, of unit variance
            x *= torch.where(torch.rand([n, 1], generator=random) < 0.1, 2.0, (0.6 / 0.9) ** 0.5)
        return truth.to_w((x * truth.deviations) @ truth.axes.t() + truth.mean)

    found = fit_gaussian(sample, 0.2, 20)
    values, vectors = np.linalg.eigh(covariance)
    root = vectors / np.sqrt(values)
    error = np.linalg.norm(root.T @ (found.covariance.numpy() - covariance) @ root, 2)
    assert found.error <= TARGET_ERROR and error < 1.5 * TARGET_ERROR
    assert found.samples >= 40_000 and (found.samples > 45_000) == heavy


def test_v_of_the_shipped_network_is_gaussian(shipped):
    generator = shipped
    gaussian = generator.gaussian()
    facts = diagnose(gaussian, held_out(generator))
    assert facts["rank"] == 128 and facts["whitened_error"] <= TARGET_ERROR
    assert abs(facts["mahalanobis_mean"] - 1) < 0.1 and abs(facts["mahalanobis_variance"] - 1) < 0.1
    assert facts["skewness_w"] > 1 and facts["kurtosis_w"] > 1
    assert facts["skewness_v"] < 0.1 and abs(facts["kurtosis_v"]) < 0.1
    # The mean is that of v, and not where LRU_5 takes the mean of w.
    mean_w = generator.sample_w(None, 5)(20_000).double().mean(dim=0)
    assert gaussian.mahalanobis(mean_w) > 10 * gaussian.mahalanobis(gaussian.to_w(gaussian.mean))
    assert (inverse_leaky_relu(mean_w, 0.2) - gaussian.mean).norm() > 0.1 * gaussian.mean.norm()


def test_a_mapping_of_low_rank():
    net = make_network()
    last = net.G.mapping.fc1
    last.weight.data[:] = last.weight[:, :3] @ torch.randn([3, 8], generator=torch.Generator().manual_seed(0))
    generator = adapt(net.G)
    gaussian = generator.gaussian()
    assert gaussian.rank == 3
    facts = diagnose(gaussian, held_out(generator))
    assert abs(facts["mahalanobis_mean"] - 1) < 0.1
    assert torch.isfinite(torch.tensor(list(facts.values()))).all()
    result = si.project(net, torch.zeros([3, 16, 16], dtype=torch.uint8), "v+", loss="mse", steps=3, prior_weight=1e-4)
    assert result.record["v_prior"] >= 0


def test_mappings_without_a_gaussian():
    net = make_network()
    net.G.mapping.fc0.weight.data[:] = 0
    with pytest.raises(ValueError, match="same w"):
        adapt(net.G).gaussian()
    net.G.mapping.fc0.weight.data[:] = float("nan")
    with pytest.raises(ValueError, match="finite"):
        adapt(net.G).gaussian()


def test_each_class_has_its_own():
    generator = adapt(make_network(classes=3).G)
    means = [generator.gaussian(label(3, i)).mean for i in range(3)]
    assert (means[0] - means[1]).norm() > 0.01 * means[0].norm()
    w = generator.sample_w(label(3, 2), 9)(2000)
    assert generator.gaussian(label(3, 2)).mahalanobis(w).mean() == pytest.approx(8, rel=0.1)
    with pytest.raises(ValueError, match="classes"):
        generator.gaussian()
    mixed = Code("v", {"v": torch.zeros([2, 8])}, torch.eye(3)[:2])
    with pytest.raises(ValueError, match="different classes"):
        generator.render(mixed)


def test_networks_without_v_say_why():
    G = make_network().G
    G.mapping.fc1.activation = "swish"
    generator = adapt(G)
    assert "v" not in generator.spaces
    picture = torch.zeros([3, 16, 16], dtype=torch.uint8)
    for method, options in (("v", {}), ("w", {"prior_weight": 1e-4})):
        with pytest.raises(ValueError, match="ends in 'swish'"):
            si.project(generator, picture, method, loss="mse", steps=1, **options)
    with pytest.raises(ValueError, match="no W"):
        si.project("faces64" and si.load("faces64"), torch.zeros([3, 64, 64], dtype=torch.uint8), "z", prior_weight=1.0)


# ---------------------------------------------------------------------------------------------------------------- codes


def test_codes_in_v(cats, shipped):
    generator = shipped
    z = torch.randn([3, cats.G.z_dim], generator=torch.Generator().manual_seed(0))
    one = generator.convert(Code("z", {"z": z}), "w")
    v = generator.convert(one, "v")
    assert v.tensors["v"].square().sum(dim=1).mean() == pytest.approx(128, rel=0.4)
    torch.testing.assert_close(generator.convert(v, "w").tensors["w"], one.tensors["w"], rtol=1e-4, atol=1e-5)
    several = generator.convert(v, "v+")
    assert several.tensors["v"].shape == (3, cats.G.num_ws, 128)
    torch.testing.assert_close(generator.render(several), generator.render(one), rtol=0, atol=1e-3)
    assert torch.equal(generator.render(generator.center("v")), generator.render(generator.center("v+")))
    torch.testing.assert_close(v_prior(generator, several), cats.G.num_ws * v_prior(generator, v), rtol=1e-4, atol=0)
    # Half-way in V is half-way before the leaky ReLU.
    a, b = (Code("w", {"w": one.tensors["w"][i : i + 1]}) for i in (0, 1))
    (middle,) = between(generator, a, b, [0.5], "v")
    gaussian = generator.gaussian()
    expected = gaussian.to_w((gaussian.to_v(a.tensors["w"]) + gaussian.to_v(b.tensors["w"])) / 2)
    torch.testing.assert_close(generator.styles(middle)[:, 0], expected, rtol=1e-4, atol=1e-5)
    found = latent_distances(generator, generator.convert(a, "w+"), b)
    w = (a.tensors["w"] - b.tensors["w"]).norm()
    assert found["w"] == pytest.approx(float(w) * cats.G.num_ws**0.5, rel=1e-5)


def test_truncation_and_compression_of_codes(cats, shipped):
    generator = shipped
    code = Code("w+", {"w": torch.randn([1, cats.G.num_ws, 128])})
    w_avg = cats.G.mapping.w_avg
    torch.testing.assert_close(
        generator.truncated(code, 0.7).tensors["w"], w_avg + 0.7 * (code.tensors["w"] - w_avg), rtol=1e-5, atol=1e-6
    )
    found = generator.compressed(code, 0.4).tensors["w"]
    for i in range(cats.G.num_ws):  # layer by layer
        torch.testing.assert_close(found[:, i], generator.gaussian().compress(code.tensors["w"][:, i], 0.4))


# ----------------------------------------------------------------------------------------------------------- projectors


def picture(cats, seed):
    with torch.no_grad():
        z = torch.from_numpy(np.random.RandomState(seed).randn(1, cats.G.z_dim)).float()
        x = cats.G(z, None, noise_mode="const")[0]
    return ((x + 1) * 127.5).clamp(0, 255).to(torch.uint8)


def test_the_objective_is_distance_and_prior(shipped):
    """The gradient of what is minimised, against one written out in float64."""
    generator = shipped
    w = (generator.center("w+").tensors["w"] + 0.1).requires_grad_(True)
    weighted_prior(0.3, generator, Code("w+", {"w": w})).sum().backward()
    gaussian = generator.gaussian()
    inverse = np.linalg.inv(gaussian.covariance.numpy())
    x = w.detach().double().numpy()[0]
    v = np.where(x < 0, 5 * x, x) - gaussian.mean.numpy()
    expected = 0.3 * 2 * (v @ inverse) * np.where(x < 0, 5, 1)
    np.testing.assert_allclose(w.grad[0], expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    assert weighted_prior(0.0, generator, Code("w+", {"w": w})) == 0


@pytest.mark.parametrize("method", ["w", "w+", "v", "v+"])
def test_the_prior_keeps_codes_where_the_network_draws(cats, shipped, method):
    settings = dict(loss="mse", steps=30, noise_maps="fixed")
    free = si.project(cats, picture(cats, 0), method, **settings)
    held = si.project(cats, picture(cats, 0), method, prior_weight=1e-3, **settings)
    generator = shipped
    values = [float(v_prior(generator, r.code)) for r in (free, held)]
    assert values[1] < 0.5 * values[0]
    layers = cats.G.num_ws if method.endswith("+") else 1
    assert held.record["v_prior"] == pytest.approx(values[1], rel=1e-6)
    assert held.record["v_prior_per_dimension"] == pytest.approx(values[1] / (128 * layers), rel=1e-6)
    assert ("v_prior" in free.record) == method.startswith("v")
    assert free.distance[-1] < free.distance[0] and not free.code.noise


def test_z_and_layers_take_the_prior(cats, shipped):
    for method, options in (
        ("z", {"optimizer": "adam"}),
        ("dense", {"layer": "b8.conv1", "optimizer": "adam", "layer_steps": 3}),
    ):
        free, held = (
            si.project(cats, picture(cats, 1), method, loss="mse", steps=20, prior_weight=weight, **options)
            for weight in (0.0, 0.01)
        )
        assert "v_prior" not in free.record
        generator = shipped
        z = Code("z", {"z": free.code.tensors["z"]})
        assert held.record["v_prior_per_dimension"] < float(v_prior(generator, z)) / 128


def test_presets_are_the_papers():
    for name, space, rate, steps in (("wulff-w", "w", 0.1, 1000), ("wulff-w+", "w+", 0.05, 10_000)):
        method = find_method(name)
        options = method.options(**{k: v for k, v in method.preset.items() if k != "loss"})
        assert method.space == space and method.preset["loss"] == "lpips-squeeze=1"
        assert (options.initial_learning_rate, options.steps, options.prior_weight) == (rate, steps, 1e-4)
        assert options.noise_maps == "fixed" and options.initial_noise_factor == 0.05


def test_fixed_noise_maps_are_the_networks_own(cats):
    fixed = si.project(cats, picture(cats, 2), "w", loss="mse", steps=2, noise_maps="fixed")
    with pytest.raises(si.ProjectionError, match="save_noise"):
        si.project(cats, picture(cats, 2), "w", loss="mse", steps=2, noise_maps="fixed", save_noise=True)
    with torch.no_grad():
        x = cats.G.synthesis(fixed.code.tensors["w"][:, None].repeat(1, cats.G.num_ws, 1), noise_mode="const")
    assert fixed.distance[0] > 0 and torch.isfinite(x).all()


@pytest.mark.parametrize(
    "method, options, name",
    [
        ("z", {"initial_learning_rate": 0.1}, "initial_learning_rate"),
        ("z", {"bound": 1.0}, "bound"),
        ("w", {"noise_maps": "fixed", "regularize_noise_weight": 1.0}, "regularize_noise_weight"),
        ("dense", {"layer": "b8.conv1", "first_step": "none", "restarts": 2}, "steps"),
        ("w", {"statistics": "x.safetensors"}, "statistics"),
    ],
)
def test_options_without_effect_are_refused(cats, method, options, name):
    with pytest.raises(si.ProjectionError, match=name):
        si.project(cats, picture(cats, 0), method, loss="mse", steps=1, **options)


# ----------------------------------------------------------------------------------------------------------------- files


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STYLEGAN_INVERT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_gaussian_is_made_once(cache, monkeypatch):
    net = make_network()
    first = statistics.keep_gaussian(adapt(net.G))
    (file,) = (cache / "statistics").iterdir()
    with monkeypatch.context() as m:
        m.setattr(StyleAdapter, "fit_gaussian", lambda *_: pytest.fail("it was made again"))
        again = statistics.keep_gaussian(adapt(net.G))
    assert torch.equal(first.axes, again.axes) and (first.slope, first.samples, first.error) == (
        again.slope,
        again.samples,
        again.error,
    )
    file.write_bytes(file.read_bytes()[:-100])  # the cache mends itself
    mended = statistics.keep_gaussian(adapt(net.G))
    assert torch.equal(first.mean, mended.mean)
    # Another mapping has another file.
    net.G.mapping.fc0.weight.data += 0.1
    assert not torch.equal(statistics.keep_gaussian(adapt(net.G)).mean, first.mean)
    assert len(list((cache / "statistics").iterdir())) == 2


def test_files_of_others_are_refused(tmp_path):
    net, other = make_network(), make_network(classes=2)
    path = tmp_path / "v.safetensors"
    statistics.keep_gaussian(adapt(net.G), path=path)
    for data, match in (
        (path.read_bytes(), "another network"),
        (path.read_bytes()[:500], "it lies at .*statistics of V"),
        (b"", "not a safetensors"),
    ):
        path.write_bytes(data)
        with pytest.raises(si.CodeFileError, match=match):
            statistics.keep_gaussian(adapt(other.G), label(2, 0), path)
    path.unlink()
    statistics.keep_gaussian(adapt(other.G), label(2, 0), path)
    with pytest.raises(si.CodeFileError, match="of class 0, and 1"):
        statistics.read_gaussian(path, adapt(other.G), label(2, 1))
    with pytest.raises(si.CodeFileError, match="no such file"):
        statistics.read_gaussian(tmp_path / "none", adapt(net.G))


def rewritten(path, about=(), **tensors):
    """Write the statistics in a file again with other texts in the header, or other tensors."""
    with safetensors.safe_open(path, "pt") as opened:
        texts = opened.metadata() | dict(about)
        values = {name: opened.get_tensor(name) for name in opened.keys()}
    for name, change in tensors.items():
        values[name] = change(values[name])
    texts = {name: text for name, text in texts.items() if text is not None}
    safetensors.torch.save_file({k: v.contiguous() for k, v in values.items() if v is not None}, path, texts)


@pytest.mark.parametrize(
    "change, error",
    [
        ({"about": {"slope": "0"}}, "slope is 0; expected a finite number above 0"),
        ({"about": {"slope": "-1"}}, "slope is -1; expected"),
        ({"about": {"slope": "0.3"}}, "slope is 0.3; the network has 0.2"),
        ({"about": {"slope": "1e400"}}, "slope is Infinity; expected a finite number"),
        ({"about": {"slope": '"x"'}}, 'slope is "x"; expected'),
        ({"about": {"slope": "[" * 90}}, "slope: it is not JSON"),
        ({"about": {"slope": "[" * 10**5}}, "slope is .*; expected a text of 1 to 100 characters"),
        ({"about": {"slope": None}}, "slope is missing"),
        ({"about": {"samples": "1"}}, "samples is 1; expected an integer from 2"),
        ({"about": {"samples": "1.5"}}, "samples is 1.5; expected an integer"),
        ({"about": {"error": "NaN"}}, "error is NaN; expected"),
        ({"about": {"class": '"\\u001b[2J"'}}, r'class is "\\x1b\[2J"; expected an integer'),
        ({"about": {"format": "x"}}, "holds no statistics of V"),
        ({"variances": torch.zeros_like}, "variances are not positive numbers"),
        ({"variances": torch.neg}, "variances has numbers below 0"),
        ({"variances": lambda v: v.flip(0)}, "from the largest on"),
        ({"variances": lambda v: v / 0}, "variances has numbers that are nan or infinite"),
        ({"axes": torch.zeros_like}, "axes are not at right angles"),
        ({"axes": lambda a: a * 2}, "axes are not at right angles"),
        ({"axes": lambda a: a[:3]}, r"axes has the shape \(3, 8\); expected \(8, 8\)"),
        ({"mean": lambda m: m.float()}, "mean has numbers of torch.float32; expected torch.float64"),
        ({"mean": lambda m: None}, "mean is missing"),
    ],
)
def test_changed_statistics_are_refused_and_in_the_cache_made_anew(cache, one_gaussian, change, error):
    net, first, contents = one_gaussian
    path = statistics.statistics_path(adapt(net.G))
    path.parent.mkdir(parents=True)
    path.write_bytes(contents)
    rewritten(path, **change)
    with pytest.raises(si.CodeFileError, match=error) as refused:
        statistics.read_gaussian(path, adapt(net.G))
    assert str(refused.value).startswith(f"{path}: ") and str(refused.value).isprintable()
    generator = adapt(net.G)
    generator.fit_gaussian = lambda *_: first  # it is made anew
    assert torch.equal(statistics.keep_gaussian(generator).mean, first.mean)
    assert torch.equal(statistics.read_gaussian(path, adapt(net.G)).axes, first.axes)


@pytest.fixture(scope="module")
def one_gaussian(tmp_path_factory):
    """A network, its Gaussian of V, and the bytes of its file."""
    net, path = make_network(), tmp_path_factory.mktemp("v") / "v.safetensors"
    return net, statistics.keep_gaussian(adapt(net.G), path=path), path.read_bytes()


def test_a_pipe_in_place_of_statistics_is_refused(tmp_path):
    os.mkfifo(tmp_path / "v.safetensors")
    with pytest.raises(si.CodeFileError, match="a pipe, a socket or a device; expected a file of statistics"):
        statistics.read_gaussian(tmp_path / "v.safetensors", adapt(make_network().G))


def test_mapping_hash_notices_each_weight():
    net = make_network()
    before = adapt(net.G).mapping_sha256()
    net.G.synthesis.b4.const.data += 1
    assert adapt(net.G).mapping_sha256() == before
    net.G.mapping.fc1.bias.data[3] += 1e-3
    assert adapt(net.G).mapping_sha256() != before


# -------------------------------------------------------------------------------------------------------------- commands


def call(*arguments):
    result = CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_stats_command(tmp_path, cache):
    net = make_network(resolution=8, classes=2)
    si.save(net, tmp_path / "net.pkl")
    facts = json.loads(call("stats", tmp_path / "net.pkl", "--json", "-o", tmp_path / "out"))
    assert set(facts) == {"class0", "class1"} and len(list((cache / "statistics").iterdir())) == 2
    assert json.loads((tmp_path / "out" / "stats.json").read_text()) == facts
    for name in facts:
        assert {p.name for p in (tmp_path / "out" / name).iterdir()} == {"figure1.png", "chi-square.png"}
    text = call("stats", tmp_path / "net.pkl", "--class", 1, "--out", tmp_path / "one.safetensors")
    assert "Mahalanobis" in text and (tmp_path / "one.safetensors").exists()


def test_generate_compressed(tmp_path, cats, shipped):
    call("generate", "-n", "cats32", "--seeds", 3, "--compress", 0.5, "-o", tmp_path, "-q")
    generator = shipped
    z = torch.from_numpy(np.random.RandomState(3).randn(1, cats.G.z_dim)).float()
    w = cats.G.mapping(z)
    expected = generator.render(Code("w+", {"w": generator.gaussian().compress(w, 0.5)}))[0]
    shown, _ = read_picture(tmp_path / "seed0003.png", 32, 3)
    np.testing.assert_allclose(shown, (expected * 127.5 + 128).clamp(0, 255).to(torch.uint8), atol=1)
    # The same for a saved code; truncation comes first.
    write_codes(tmp_path / "projected_w.npz", {"w": w.numpy()})
    call(
        "generate",
        "-n",
        "cats32",
        "--projected-w",
        tmp_path / "projected_w.npz",
        "--trunc",
        0.5,
        "--compress",
        0.5,
        "-o",
        tmp_path,
        "-q",
    )
    half = cats.G.mapping.w_avg.lerp(w, 0.5)
    expected = generator.render(Code("w+", {"w": generator.gaussian().compress(half, 0.5)}))[0]
    shown, _ = read_picture(tmp_path / "proj00.png", 32, 3)
    np.testing.assert_allclose(shown, ((expected + 1) * 127.5).clamp(0, 255).to(torch.uint8), atol=1)


def test_interpolation_in_v_with_known_ends(tmp_path):
    ends = ["seed:1", "seed:2", "seed:3"]
    true = [x for end in ends for x in ("--true", end)]
    call("interpolate", "-n", "cats32", *ends, *true, "--space", "v", "--frames", 3, "-o", tmp_path, "-q")
    errors = json.loads((tmp_path / "errors.json").read_text())
    assert len(errors) == 2 and (tmp_path / "errors.png").exists()
    for stretch in errors:
        assert stretch["alpha"] == [0, 0.5, 1]
        assert max(stretch["lpips"] + stretch["w"] + stretch["v"]) < 1e-4
    other = [x for end in ("seed:1", "seed:5", "seed:3") for x in ("--true", end)]
    call("interpolate", "-n", "cats32", *ends, *other, "--frames", 3, "-o", tmp_path, "-q")
    first, second = json.loads((tmp_path / "errors.json").read_text())
    for key in ("lpips", "w", "v"):
        start, middle, end = first[key]
        assert start == pytest.approx(0, abs=1e-6)
        assert start < middle < end
        assert second[key][0] == pytest.approx(end)


def test_project_command_with_a_prior(tmp_path, cache):
    call("generate", "-n", "cats32", "--seeds", 1, "-o", tmp_path, "-q")
    arguments = ["-n", "cats32", "-t", tmp_path / "seed0001.png", "--steps", 2, "--loss", "mse", "-o", tmp_path, "-q"]
    call("project", *arguments, "--method", "wulff-w+")
    record = json.loads((tmp_path / "result.json").read_text())
    assert record["options"]["prior_weight"] == 1e-4 and record["v_prior_per_dimension"] > 0
    (file,) = (cache / "statistics").iterdir()
    call("project", *arguments, "--method", "v+", "--stats", file)
    saved = load_npz(tmp_path / "projected_w.npz")["w"]
    assert saved.shape == (1, 8, 128)
    assert read_codes(tmp_path / "projected_w.npz").space == "w+"
