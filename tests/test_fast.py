"""Fast search: L-BFGS in every space, starts from samples of the network, and when a search stops."""
# Takes at most 30 CPU seconds.

import numpy as np
import pytest
import torch

import stylegan_invert as si
from stylegan_invert.generator import Code, adapt, label
from stylegan_invert.losses import MSE, parse
from stylegan_invert.networks.stylegan2 import Generator
from stylegan_invert.projectors import Projector, methods, samples, starts
from stylegan_invert.projectors.samples import Samples
from stylegan_invert.projectors.settings import WOptions
from stylegan_invert.projectors.stopping import Stopping

from conftest import make_network
from official import fill


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STYLEGAN_INVERT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(samples, "COUNT", 64)
    return tmp_path / "cache"


def drawn(generator, n, seed=5):
    """Outputs of random latents, and their w."""
    (shape,) = generator.code_shapes("z").values()
    z = torch.randn([n, *shape], generator=torch.Generator().manual_seed(seed))
    code = Code("z", {"z": z})
    with torch.no_grad():
        return generator.render(code).clamp(-1, 1), code


@pytest.mark.parametrize("method", ["w", "w+", "v", "v+"])
@pytest.mark.parametrize("optimizer", ["lbfgs", "lbfgs-b"])
def test_every_space_is_searched_by_l_bfgs(method, optimizer):
    """It comes closer in 10 steps than Adam does in 10, and the noise maps stay the network's own."""
    net = make_network()
    shown, _ = drawn(adapt(net.G), 1)
    fits = {
        name: Projector(net, method, loss=MSE(), steps=10, noise_maps="fixed", optimizer=name).fit(shown)
        for name in ("adam", optimizer)
    }
    assert not fits[optimizer].code.noise
    assert fits[optimizer].distance[-1] < fits["adam"].distance[-1]
    assert (fits[optimizer].distance[1:] <= fits[optimizer].distance[:-1] * 1.0001).all()  # each step comes closer


def test_l_bfgs_needs_one_evaluation_a_step():
    """torch's own asks for value and gradient again at the place where the step before has ended."""
    net = make_network()
    shown, _ = drawn(adapt(net.G), 1)
    fit = Projector(net, "w+", loss=MSE(), steps=20, optimizer="lbfgs").fit(shown)
    assert 20 < fit.notes["evaluations"][0] < 30


@pytest.mark.parametrize(
    "options, message",
    [
        ({"optimizer": "lbfgs", "initial_learning_rate": 0.2}, "initial_learning_rate has no effect here"),
        ({"optimizer": "lbfgs", "initial_noise_factor": 0.1}, "initial_noise_factor has no effect here"),
        ({"optimizer": "lbfgs", "noise_maps": "optimised"}, "only adam fits noise maps"),
        ({"min_gain": 0.1}, "min_gain has no effect here: patience is not given"),
        ({"time_limit": 0}, "time_limit is 0; expected None or a number above 0"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, message):
    with pytest.raises(si.ProjectionError, match=message):
        Projector(make_network(), "w", loss="mse", **options)


def test_the_regression_is_its_formula(cache):
    """w = mean + k(x) (K + ridge I)^-1 (W - mean) with a Gaussian kernel, in NumPy."""
    generator = adapt(make_network().G)
    shown, _ = drawn(generator, 3)
    found = Samples(generator, MSE(), None, None).regressed(shown, "w").tensors["w"].numpy()

    z, outputs = samples.kept_samples(generator, None)
    with torch.no_grad():
        w = generator.network.mapping(z, None)[:, 0].double().numpy()
    x = (outputs.double() / 127.5 - 1).flatten(1).numpy()
    t = shown.flatten(1).double().numpy()
    between = ((x[:, None] - x[None]) ** 2).sum(-1)
    width = np.sort(between.flatten())[(between.size - 1) // 2] * 16
    kernel = np.exp(-between / width) + 0.01 * np.eye(len(x))
    k = np.exp(-((t[:, None] - x[None]) ** 2).sum(-1) / width)
    expected = k @ np.linalg.solve(kernel, w - w.mean(0)) + w.mean(0)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_the_nearest_are_those_of_the_runs_own_loss(cache):
    generator, distance = adapt(make_network().G), parse("mse=1,l1=0.5")
    shown, _ = drawn(generator, 2)
    found = Samples(generator, distance, None, None).nearest(shown, "w").tensors["w"]
    z, outputs = samples.kept_samples(generator, None)
    pictures = outputs.float() / 127.5 - 1
    with torch.no_grad():
        w = generator.network.mapping(z, None)[:, 0]
    for i in range(2):
        away = distance.between(shown[i : i + 1].expand(len(pictures), -1, -1, -1), pictures)
        torch.testing.assert_close(found[i], w[away.argsort()[:8]].mean(0))


@pytest.mark.parametrize("init", ["nearest", "regression"])
@pytest.mark.parametrize("method", ["w", "w+", "v+", "z"])
def test_starts_from_samples_are_nearer_than_the_mean(init, method, cache):
    net = make_network()
    shown, _ = drawn(adapt(net.G), 4)
    pixels = [((one + 1) * 127.5).round().to(torch.uint8) for one in shown]
    still = {"optimizer": "adam", "steps": 1}
    still |= {} if method == "z" else {"noise_maps": "fixed", "initial_noise_factor": 0}
    first = {
        start: float(np.mean([r.distance[0] for r in si.project(net, pixels, method, init=start, loss="mse", **still)]))
        for start in ("mean", init)
    }
    assert first[init] < 0.8 * first["mean"]


def test_classes_have_samples_of_their_own(cache):
    net = make_network(classes=2)
    projector = Projector(net, "w", loss="mse", class_idx=1, steps=1)
    first = projector.samples()
    assert projector.samples() is first
    other = Projector(net, "w", loss="mse", class_idx=0, steps=1).samples()
    assert not torch.equal(first.outputs, other.outputs) and len(list((cache / "samples").iterdir())) == 2


def test_samples_are_drawn_once_and_a_damaged_file_is_made_anew(cache):
    generator = adapt(make_network().G)
    z, outputs = samples.kept_samples(generator, None)
    (file,) = (cache / "samples").iterdir()
    rendered = []
    generator.network.synthesis.register_forward_hook(lambda *a: rendered.append(1))
    again = samples.kept_samples(generator, None)
    assert torch.equal(again[0], z) and torch.equal(again[1], outputs) and not rendered
    file.write_bytes(file.read_bytes()[:-10])
    mended = samples.kept_samples(generator, None)
    assert torch.equal(mended[1], outputs) and rendered
    next(generator.network.mapping.parameters()).data += 0.1  # another network
    assert not torch.equal(samples.kept_samples(generator, None)[1], outputs)


def test_networks_that_differ_in_more_than_weights_have_samples_of_their_own(cache):
    net = make_network()
    hashes = [adapt(net.G).sha256(), adapt(net.G).sha256(label(2, 0))]
    net.G.mapping.normalize_z = False
    assert len({*hashes, adapt(net.G).sha256()}) == 3


def test_a_network_whose_outputs_are_all_alike_has_the_mean_as_regression(cache, monkeypatch):
    generator = adapt(make_network().G)
    z, outputs = samples.kept_samples(generator, None)
    monkeypatch.setattr(samples, "kept_samples", lambda *a: (z, outputs * 0))
    found = Samples(generator, MSE(), None, None)
    code = found.regressed(torch.full([1, 3, 16, 16], -1.0), "w").tensors["w"]
    torch.testing.assert_close(code[0], found.points("w").mean(dim=0), rtol=1e-3, atol=1e-3)


def test_starts_have_the_names_that_the_command_line_knows():
    assert tuple(starts.STARTS) == methods.STARTS


def test_large_pictures_are_compared_at_64_pixels(cache):
    sizes = {"channel_base": 1024, "channel_max": 8}
    G = Generator(8, 0, 8, 128, 3, mapping_kwargs={"num_layers": 2}, synthesis_kwargs=sizes)
    fill(G.eval().requires_grad_(False), 0)
    generator = adapt(G)
    z, outputs = samples.kept_samples(generator, None)
    assert outputs.shape == (64, 3, 64, 64)
    with torch.no_grad():
        picture = generator.render(Code("z", {"z": z[:1]})).clamp(-1, 1)
    small = picture.reshape(1, 3, 64, 2, 64, 2).mean(dim=(3, 5))
    assert (small - (outputs[:1].float() / 127.5 - 1)).abs().max() < 0.005
    with pytest.raises(si.ProjectionError, match="start from the mean"):
        Samples(generator, MSE(), lambda x: x, None)


@pytest.mark.parametrize(
    "rules, distances, due",
    [
        ({}, [1.0] * 100, False),
        ({"patience": 3, "min_gain": 0.1}, [1, 0.9, 0.8], False),
        ({"patience": 3, "min_gain": 0.1}, [1, 0.99, 0.98, 0.8], False),
        ({"patience": 3, "min_gain": 0.1}, [0.5, 1, 0.5, 0.49, 0.48, 0.47], True),
        ({"patience": 2}, [1, 5, 9, 20], True),  # it got worse
        ({"target_distance": 0.5}, [1, 0.4], True),
        ({"target_distance": 0.3}, [1, 0.4], False),
        ({"time_limit": 1}, [1], True),
    ],
)
def test_when_a_search_ends(rules, distances, due):
    stopping = Stopping(WOptions(**rules), 0.0 if "time_limit" in rules else None)
    assert stopping.asked == bool(rules)
    for distance in distances:
        stopping.feed(torch.tensor([float(distance), 0.0]))
    assert stopping.due() == due
    if "target_distance" in rules:  # all targets of a pass
        stopping.feed(torch.tensor([0.0, 1.0]))
        assert not stopping.due()


def test_a_search_that_is_ended_keeps_the_best_code():
    """A rate that is far too large makes it worse and worse."""
    net = make_network()
    shown, _ = drawn(adapt(net.G), 2)
    wild = dict(loss=MSE(), steps=60, initial_learning_rate=5.0, noise_maps="fixed", initial_noise_factor=0)
    fit = Projector(net, "w+", patience=12, min_gain=0.0, **wild).fit(shown)
    assert len(fit.distance) < 60
    generator = adapt(net.G)
    with torch.no_grad():
        reached = MSE().between(shown, generator.render(fit.code).clamp(-1, 1))
    assert (reached <= fit.distance.amin(dim=0) * 1.001).all()


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs", "lbfgs-b"])
def test_searches_end_early(optimizer):
    net = make_network()
    shown, _ = drawn(adapt(net.G), 1)
    common = dict(loss=MSE(), noise_maps="fixed", optimizer=optimizer, steps=400)
    whole = Projector(net, "w+", **{**common, "steps": 30}).fit(shown).distance
    goal = float(whole[0] + whole[-1]) / 2
    near = Projector(net, "w+", target_distance=goal, **common).fit(shown)
    assert float(near.distance[-1]) <= goal and near.notes["evaluations"][0] < 100
    short = Projector(net, "w+", time_limit=0.05, **common).fit(shown)
    assert short.notes["evaluations"][0] < 300


def test_a_network_without_v_is_searched_fast_without_the_prior(cache):
    net = make_network()
    shown, _ = drawn(adapt(net.G), 1)
    assert Projector(net, "fast-w", loss="mse").options.prior_weight == 1e-7
    net.G.mapping.fc1.activation = "swish"
    projector = Projector(net, "fast-w", loss="mse", steps=5)
    assert projector.options.prior_weight == 0 and torch.isfinite(projector.fit(shown).distance).all()
    with pytest.raises(ValueError, match="ends in 'swish'"):
        Projector(net, "fast-w", loss="mse", prior_weight=1e-6)


def test_the_fast_presets_come_closer_than_a_hundred_official_steps(cache):
    net = make_network()
    shown, _ = drawn(adapt(net.G), 2)
    for method in ("w", "w+"):
        fast = Projector(net, f"fast-{method}", loss="mse", steps=15).fit(shown)
        slow = Projector(net, method, loss="mse", steps=100).fit(shown)
        assert (fast.distance[-1] < slow.distance[-1]).all()
        assert not fast.code.noise
