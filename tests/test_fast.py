"""Fast search: L-BFGS in every space, starts from samples of the network, and when a search stops."""
# Takes at most 30 CPU seconds.

import numpy as np
import pytest
import torch

import stylegan_invert as si
from stylegan_invert.generator import Code, adapt, label
from stylegan_invert.losses import MSE, parse
from stylegan_invert.networks.stylegan2 import Generator
from stylegan_invert.projectors import Projector, dense, methods, samples, starts
from stylegan_invert.projectors.samples import Samples
from stylegan_invert.projectors.settings import LatentOptions, WOptions
from stylegan_invert.projectors.stopping import Stopping
from stylegan_invert.projectors.z import best_half

import strange
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
    seen = Samples(generator, MSE(), lambda x: x[:, :, :, :64], None)
    assert seen.outputs.shape == (64, 3, 64, 64) and len(seen.regressed(picture[:, :, :, :64], "w")) == 1


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


@pytest.mark.parametrize("name", [name for name in strange.NETWORKS if name[0].islower()])
def test_strange_networks_get_through_with_the_defaults(name, cache):
    """No NaN, and no farther from either target than the official search with as many evaluations."""
    found = strange.compare(strange.NETWORKS[name](), steps=12)
    assert found["method"] == "fast-w+"
    for fast, other in zip(found["fast"], found["other"]):
        assert np.isfinite(fast) and fast <= other * 1.001 + 1e-6


def test_the_default_is_the_fast_search_of_the_networks_kind(cache):
    wanted = {("w", "w+", "z"): "fast-w+", ("z",): "fast-z"}
    assert {spaces: methods.default_method(spaces, None) for spaces in wanted} == wanted
    assert methods.default_method(("z",), "dense") == "fast-dense"
    assert set(methods.DEFAULTS) == {*wanted.values(), "fast-dense"} <= set(methods.METHODS)
    net = make_network(8)
    projector = Projector(net, steps=2)  # 8 pixels are too few for LPIPS
    assert projector.name == "fast-w+" and projector.loss_record["loss"] == "mse=1"
    pixels = np.zeros([3, 8, 8], np.uint8)
    assert si.project(net, pixels, steps=2).record["method"] == "fast-w+"
    with pytest.raises(ValueError, match="needs at least"):
        si.project(net, pixels, steps=2, loss="lpips-squeeze")
    with pytest.raises(si.ProjectionError, match=r"has no effect here.*\(no method was named, so it is 'fast-w\+'\)"):
        si.project(net, pixels, initial_learning_rate=0.1)


def test_a_seed_that_nothing_uses_is_refused(cache):
    net, pixels = make_network(), np.zeros([3, 16, 16], np.uint8)
    few = {"steps": 1, "loss": "mse", "seed": 7}
    for options in ({"method": "fast-w"}, {"method": "w", "optimizer": "lbfgs"}, {"method": "z", "init": "mean"}):
        with pytest.raises(si.ProjectionError, match="seed has no effect here"):
            si.project(net, pixels, **few, **options)
    for options in (
        {"method": "z"},
        {"method": "z", "init": "mean", "restarts": 2},
        {"init": "random"},
        {"method": "w"},
    ):
        assert si.project(net, pixels, **few, **options).record["options"]["seed"] == 7


def test_the_worse_half_of_the_starts_is_dropped(cache):
    """The result is that of the survivor alone, and the others' objectives are those of their last step."""
    assert best_half(torch.tensor([3.0, 1.0, 2.0, torch.inf, 0.0, 5.0, 4.0, 1.0]), 4).tolist() == [1, 2, 4, 7]
    assert LatentOptions(steps=10, restarts=6, halvings=2).rounds == [(6, 3), (3, 3), (1, 4)]
    net = make_network()
    shown, _ = drawn(adapt(net.G), 2)
    common = dict(loss="mse", optimizer="adam", initial_learning_rate=0.05, lr_drops=1)
    fit = Projector(net, "z", steps=12, restarts=4, halvings=2, **common).fit(shown)
    assert fit.distance.shape == (13, 2)
    assert fit.notes["evaluations"] == [4 * 4 + 2 * 4 + 4] * 2
    first = Projector(net, "z", steps=4, restarts=4, **common).fit(shown)
    for row in range(2):
        scores, ends = (one.notes["objective_of_restarts"][row] for one in (fit, first))
        dropped = sorted(range(4), key=ends.__getitem__)[2:]
        assert [scores[i] for i in dropped] == pytest.approx([ends[i] for i in dropped])
        assert min(scores) == pytest.approx(float(fit.distance[-1, row]), rel=1e-5)
    with pytest.raises(si.ProjectionError, match="2 halvings need at least 4 restarts"):
        Projector(net, "z", loss="mse", restarts=3, halvings=2)


@pytest.mark.parametrize("init", ["nearest", "regression"])
def test_restarts_begin_at_the_nearest_samples(init, cache):
    net = make_network(classes=2)
    projector = Projector(net, "z", loss="mse", restarts=3, steps=1, class_idx=1)
    c = label(2, 1)
    with torch.no_grad():
        shown = adapt(net.G).render(Code("z", {"z": torch.ones([1, 8])}, c)).clamp(-1, 1)
    start = starts.STARTS[init](projector.setting)(shown, c)
    known = projector.samples()
    order = MSE().between(shown.expand(64, -1, -1, -1), known.outputs).argsort()
    skipped = init == "regression"
    assert torch.equal(start.tensors["z"][skipped:], known.z[order[: 3 - skipped]]) and torch.equal(
        start.c, c.expand(3, -1)
    )
    fit = projector.fit(shown, start)
    assert len(fit.notes["objective_of_restarts"][0]) == 3 and len(fit.code) == 1


def test_the_schedule_and_the_betas_of_adam():
    options = WOptions(steps=10, schedule="cosine", initial_learning_rate=2.0)
    assert [options.learning_rate(i) for i in (0, 5)] == pytest.approx([2.0, 1.0])
    assert WOptions(steps=10).learning_rate(0) == 0
    net = make_network()
    shown, _ = drawn(adapt(net.G), 1)
    still = dict(loss="mse", steps=6, noise_maps="fixed", initial_noise_factor=0)
    ends = [
        Projector(net, "w", **still, **more).fit(shown).code.tensors["w"]
        for more in ({}, {"beta1": 0.5}, {"beta2": 0.5}, {"schedule": "cosine"})
    ]
    assert all(not torch.equal(ends[0], other) for other in ends[1:])
    for wrong in ({"schedule": "cosine", "lr_rampup_length": 0.1}, {"optimizer": "lbfgs", "beta1": 0.5}):
        with pytest.raises(si.ProjectionError, match="has no effect here"):
            Projector(net, "w", loss="mse", **wrong)


@pytest.mark.parametrize("method", ["w", "w+", "v+"])
def test_normalised_steps_have_their_length_in_the_networks_spread(method):
    net = make_network()
    generator = adapt(net.G)
    shown, _ = drawn(generator, 2)
    common = dict(loss="mse", optimizer="normalised", schedule="cosine", initial_learning_rate=0.1)
    center = generator.center(method)
    start = Code(method, {k: v.expand(2, *v.shape[1:]) for k, v in center.tensors.items()})
    fit = Projector(net, method, steps=1, **common).fit(shown, start)
    (key,) = start.tensors
    strides = (fit.code.tensors[key] - start.tensors[key]).norm(dim=-1)
    torch.testing.assert_close(strides, torch.full_like(strides, 0.1 * generator.spread(method)), rtol=1e-3, atol=0)
    longer = Projector(net, method, steps=40, **common).fit(shown)
    assert (longer.distance[-1] < 0.7 * longer.distance[0]).all() and not longer.code.noise


def test_the_spread_of_a_layer_is_measured_once(monkeypatch):
    measured, original = [], dense._layer_spread
    monkeypatch.setattr(dense, "_layer_spread", lambda *a: measured.append(1) or original(*a))
    projector = Projector(make_network(), "dense", layer="b8.conv1", loss="mse", steps=1, layer_steps=1)
    list(projector.project([np.zeros([3, 16, 16], np.uint8)] * 2))
    assert len(measured) == 1
