"""Networks from z to pictures: DCGAN files, inversion to z, displacements at a layer, ways between codes."""
# Takes at most 35 CPU seconds.

import json
from collections import OrderedDict

import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import stylegan_invert as si
from stylegan_invert.analysis.paths import between, onto_span, underlying
from stylegan_invert.cli.main import cli
from stylegan_invert.generator import Code, Prior, adapt
from stylegan_invert.io.codes import read_codes
from stylegan_invert.losses import MSE, parse
from stylegan_invert.networks.dcgan import DCGAN, Layer
from stylegan_invert.projectors import LatentOptions, Projector
from stylegan_invert.projectors.dense import layer_spread, threshold
from stylegan_invert.projectors.objective import Objective
from stylegan_invert.projectors.search import evaluate
from stylegan_invert.projectors.z import LatentSearch, clipped
from stylegan_invert.studies import displacement

from conftest import make_network
from support import load_npz


def reference(bias=False, first="transposed", extra=False, affine=True, channels=3, seed=0):
    """A DCGAN as a public implementation writes it: an nn.Sequential, its weights random."""
    nn, z, c = torch.nn, 6, 8
    torch.manual_seed(seed)
    head = [nn.ConvTranspose2d(z, c, 4, 1, 0, bias=bias)]
    if first == "linear":
        head = [
            nn.Linear(z, c * 16, bias=bias),
            nn.BatchNorm1d(c * 16, affine=affine),
            nn.ReLU(),
            nn.Unflatten(1, (c, 4, 4)),
        ]
    else:
        head += [nn.BatchNorm2d(c, affine=affine), nn.ReLU()]
    middle = [nn.ConvTranspose2d(c, 4, 4, 2, 1, bias=bias), nn.BatchNorm2d(4, affine=affine), nn.ReLU()]
    if extra:
        middle += [nn.Conv2d(4, 4, 3, 1, 1, bias=bias), nn.BatchNorm2d(4, affine=affine), nn.ReLU()]
    net = nn.Sequential(*head, *middle, nn.ConvTranspose2d(4, channels, 4, 2, 1, bias=bias), nn.Tanh())
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            if affine:
                module.weight.data.uniform_(0.5, 1.5)
                module.bias.data.normal_(0, 0.1)
        elif hasattr(module, "weight"):
            module.weight.data.normal_(0, 0.3)
    return net.eval().requires_grad_(False), z


def render_reference(net, z, first):
    return net(z if first == "linear" else z[:, :, None, None])


@pytest.fixture(scope="session")
def dcgan(tmp_path_factory):
    net, _ = reference()
    path = tmp_path_factory.mktemp("dcgan") / "g.pt"
    torch.save(net.state_dict(), path)
    return si.load(path)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("first", ["transposed", "linear"])
@pytest.mark.parametrize("extra", [False, True])
@pytest.mark.parametrize("affine", [True, False])
def test_files_of_the_usual_shapes_compute_what_their_code_does(tmp_path, bias, first, extra, affine):
    net, z_dim = reference(bias, first, extra, affine)
    torch.save(net.state_dict(), tmp_path / "g.pt")
    kinds = "transposed/conv/transposed" if first == "linear" else "transposed/transposed/conv/transposed"
    G = si.load(tmp_path / "g.pt", {"kinds": kinds} if extra else {}).G  # a kernel (4, 4, 3, 3) may be of either kind
    assert (G.z_dim, G.img_resolution, G.img_channels) == (z_dim, 16, 3)
    z = torch.randn([3, z_dim])
    assert torch.equal(G(z), render_reference(net, z, first))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"netG_state_dict": s},
        lambda s: {"epoch": 3, "netD": {"0.weight": torch.zeros(4, 3, 4, 4)}, "generator": s},
        lambda s: {"state": {"G": s}, "optimizer": {"lr": 0.1}},
        lambda s: {"g": {k: v * 0 for k, v in s.items()}, "g_ema": s},
        lambda s: OrderedDict((f"module.{k}", v) for k, v in s.items()),
        lambda s: {k: v.half() if v.is_floating_point() else v for k, v in s.items()},
    ],
)
def test_nested_files_are_read(tmp_path, wrap):
    net, z_dim = reference()
    torch.save(wrap(net.state_dict()), tmp_path / "g.pt")
    z = torch.randn([3, z_dim])
    torch.testing.assert_close(
        si.load(tmp_path / "g.pt").G(z), render_reference(net, z, "transposed"), rtol=0, atol=1e-2
    )


def changed(state, **changes):
    return {**state, **changes}


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: changed(s, **{"3.weight_orig": torch.zeros(3)}), "3.weight_orig: it belongs to no"),
        (lambda s: changed(s, **{"3.weight": torch.zeros(5, 4, 4, 4)}), "3: its weight has shape .* of 8 channels"),
        (lambda s: changed(s, **{"6.weight": torch.zeros(4, 7, 4, 4)}), "end in 7 channels"),
        (lambda s: changed(s, **{"1.running_mean": torch.zeros(9)}), "normalises 9 numbers"),
        (lambda s: changed(s, **{"1.running_var": torch.zeros(9)}), "1.running_var: it is of shape"),
        (lambda s: {k: v for k, v in s.items() if k != "1.running_var"}, "1.running_var: it is missing"),
        (lambda s: {k: v for k, v in s.items() if k.startswith("0")}, "1 layers end in"),
    ],
)
def test_files_that_are_no_generator_are_refused(tmp_path, change, message):
    torch.save(change(dict(reference()[0].state_dict())), tmp_path / "g.pt")
    with pytest.raises(si.NetworkFileError, match=message):
        si.load(tmp_path / "g.pt")


@pytest.mark.parametrize("kernel", [2, 3, 4, 5, 6])
def test_transposed_convolutions_double_the_side(kernel):
    layers = [Layer("transposed", 5, 4, 3, True), Layer("transposed", 4, 3, kernel, True, "none")]
    assert DCGAN(layers).eval()(torch.zeros(1, 5)).shape == (1, 3, 6, 6)


def test_inspect_and_generate(dcgan, tmp_path):
    info = dcgan.info
    assert info["family"] == "dcgan" and info["dense_layer"] == "dense" and info["layers"]["dense"] == [8, 4, 4]
    args = ["generate", "-n", dcgan.file, "--seeds", "1,2", "-o", str(tmp_path)]
    assert CliRunner().invoke(cli, args).exit_code == 0
    z = torch.from_numpy(np.random.RandomState(2).randn(1, 6)).float()
    shown = np.asarray(PIL.Image.open(tmp_path / "seed0002.png")).transpose(2, 0, 1)
    expected = (dcgan.G(z)[0] * 127.5 + 128).clamp(0, 255).to(torch.uint8).numpy()
    np.testing.assert_array_equal(shown, expected)
    assert "no w to truncate" in str(CliRunner().invoke(cli, [*args, "--trunc", "0.5"]).exception)
    uniform = [*args[:-1], str(tmp_path / "u"), "--z-prior", "uniform"]
    assert CliRunner().invoke(cli, uniform).exit_code == 0
    assert (tmp_path / "u" / "seed0002.png").read_bytes() != (tmp_path / "seed0002.png").read_bytes()


@pytest.mark.parametrize("family", ["dcgan", "stylegan2"])
def test_every_split_is_the_network_to_the_bit(dcgan, family):
    generator = adapt(dcgan.G if family == "dcgan" else make_network().G)
    (shape,) = generator.code_shapes("z").values()
    for n in (1, 3):
        code = Code("z", {"z": torch.randn([n, *shape])})
        whole = generator.render(code)
        assert len(generator.layers()) >= 5
        for layer, size in generator.layers().items():
            split = generator.convert(code, f"f:{layer}")
            assert tuple(split.tensors["h"].shape) == (n, *size)
            assert torch.equal(generator.render(split), whole)
            assert not torch.equal(
                generator.render(Code(split.space, {**split.tensors, "h": split.tensors["h"] + 1})), whole
            )


def test_the_dense_layer_is_linear(dcgan):
    """G1 = W z + b, before normalisation and activation."""
    generator = adapt(dcgan.G)
    a, b = torch.randn([2, 1, 6]).unbind(0)

    def g1(z):
        return generator.convert(Code("z", {"z": z}), "f:dense").tensors["h"]

    torch.testing.assert_close(g1(0.3 * a + 0.7 * b), 0.3 * g1(a) + 0.7 * g1(b))


@pytest.mark.parametrize("family, bound", [("normal", 3.0), ("uniform", 1.0)])
def test_priors(family, bound):
    prior = Prior(family)
    random = torch.Generator().manual_seed(0)
    z = prior.sample([4000, 5], random)
    assert prior.bound == bound and abs(float(z.mean())) < 0.02
    assert float(z.std()) == pytest.approx(1.0 if family == "normal" else 3**-0.5, abs=0.02)
    for limit in (0.5, 0.001):
        inside = prior.sample([4000, 5], random, limit)
        assert inside.abs().max() <= limit and inside.abs().max() > 0.9 * limit
    expected = z.square().sum(1) / 2 if family == "normal" else torch.zeros(4000)
    torch.testing.assert_close(prior.negative_log(z), expected)


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(["standard", "stochastic"]), st.sampled_from(["normal", "uniform"]), st.integers(0, 1000))
def test_clipping_is_per_element(kind, family, seed):
    z = torch.randn([4, 9], generator=torch.Generator().manual_seed(seed)) * 3
    randoms = [torch.Generator().manual_seed(i) for i in (1, 2)]
    got = clipped(z, kind, 1.0, Prior(family), randoms)
    outside = z.abs() > 1
    assert got.abs().max() <= 1 and torch.equal(got[~outside], z[~outside])
    if kind == "standard":
        assert torch.equal(got[outside], z[outside].sign())
    else:
        assert got[outside].unique().numel() == int(outside.sum())  # each drawn by itself
        alone = clipped(z[2:], kind, 1.0, Prior(family), [torch.Generator().manual_seed(2)])
        assert torch.equal(alone, got[2:])


def target_of(generator, n=2, seed=3):
    (shape,) = generator.code_shapes("z").values()
    z = torch.randn([n, *shape], generator=torch.Generator().manual_seed(seed))
    return generator.render(Code("z", {"z": z})).detach(), z


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs", "lbfgs-b"])
@pytest.mark.parametrize("clip", ["none", "standard", "stochastic"])
@pytest.mark.parametrize("family", ["normal", "uniform"])
def test_every_step_stays_in_range(dcgan, optimizer, clip, family):
    generator = adapt(dcgan.G).with_prior(Prior(family))
    target, _ = target_of(generator)
    options = dict(steps=15, optimizer=optimizer, clip=clip, restarts=2)
    options |= {"bound": 0.7} if clip != "none" else {}
    options |= {"initial_learning_rate": 0.3} if optimizer == "adam" else {}
    seen = []

    def callback(step):
        seen.append(float(step.code.tensors["z"].abs().max()))

    def run():
        return Projector(generator, "z", loss="mse", **options).fit(target, callback=callback)

    if (optimizer, clip) == ("lbfgs-b", "stochastic"):
        with pytest.raises(si.ProjectionError, match="built in"):
            run()
        return
    fit = run()
    assert fit.distance.shape == (16, 2) and len(seen) >= 15
    assert (max(seen) <= 0.7) == (clip != "none")
    assert clip == "stochastic" or (fit.distance[-1] < fit.distance[0]).all()


@pytest.mark.parametrize("optimizer, steps", [("adam", 600), ("lbfgs", 150), ("lbfgs-b", 150)])
def test_generated_pictures_are_found(dcgan, optimizer, steps):
    pixels = ((target_of(adapt(dcgan.G), 1)[0] + 1) * 127.5).to(torch.uint8)[0]
    found = si.project(dcgan, pixels, "z", steps=steps, optimizer=optimizer, restarts=4)
    assert found.metrics["psnr"] > 30
    assert len(found.record["objective_of_restarts"]) == 4


def test_restarts_keep_the_best_and_batches_give_what_single_runs_give(dcgan):
    generator = adapt(dcgan.G)
    target, _ = target_of(generator, 3)
    options = dict(steps=20, optimizer="adam", restarts=3, clip="stochastic", bound=1.0, lambda_z=0.01)
    projector = Projector(generator, "z", loss="mse", **options)
    together = projector.fit(target)
    for i in range(3):
        alone = projector.fit(target[i : i + 1])
        torch.testing.assert_close(alone.code.tensors["z"][0], together.code.tensors["z"][i], rtol=1e-3, atol=1e-4)
        scores = together.notes["objective_of_restarts"][i]
        search = LatentSearch(generator, together.code[i : i + 1], LatentOptions(**{**options, "restarts": 1}))
        objective = Objective(generator, parse("mse"), target[i : i + 1])
        assert min(scores) == pytest.approx(float(evaluate(search, objective)[0].detach()), rel=1e-5)
    assert not torch.equal(together.code.tensors["z"][0], together.code.tensors["z"][1])


@pytest.mark.parametrize("penalty", ["mean", "sum"])
def test_objectives_are_their_formulas_in_float64(dcgan, penalty):
    """Pividori et al., section 3.3, evaluated independently: data terms, -log P(z), |delta|_1, and their normalisation."""
    generator = adapt(dcgan.G)
    target, _ = target_of(generator, 1)
    z = torch.randn([1, 6], generator=torch.Generator().manual_seed(9))
    net = [m.double() for m in reference()[0]]

    def g(z):
        x = z.double()[:, :, None, None]
        for module in net:
            x = module(x)
        return x

    loss = parse("sse=1" if penalty == "sum" else "mse=0.25")
    search = LatentSearch(generator, Code("z", {"z": z}), LatentOptions(lambda_z=0.3, penalty=penalty))
    got = evaluate(search, Objective(generator, loss, target))[0].detach()
    difference = ((target.double() - g(z)) / 2).square()
    data = difference.sum() if penalty == "sum" else difference.mean()
    prior = 0.5 * z.double().square().sum() / (1 if penalty == "sum" else z.numel())
    torch.testing.assert_close(got.double(), (data + 0.3 * prior)[None], rtol=1e-5, atol=0)

    # The second step: one step of Adam with a tiny rate moves each entry against the sign of the objective's gradient.
    h = net[0](z.double()[:, :, None, None])
    delta = torch.full_like(h, 0.05).requires_grad_(True)

    def g2(x):
        for module in net[1:]:
            x = module(x)
        return x

    difference = ((target.double() - g2(h + delta)) / 2).square()
    data = difference.sum() if penalty == "sum" else difference.mean()
    value = data + 0.7 * (delta.abs().sum() if penalty == "sum" else delta.abs().mean())
    (slope,) = torch.autograd.grad(value, delta)
    start = Code("f:dense", {"z": z, "h": (h + delta.detach()).float()})
    options = dict(
        first_step="none", layer_steps=1, layer_learning_rate=1e-3, lambda_delta=0.7, penalty=penalty, delta_unit="one"
    )
    fit = Projector(generator, "dense", loss=loss, **options).fit(target, start)
    moved = (fit.code.tensors["h"] - start.tensors["h"]).double()
    clear = slope.abs() > 1e-6 * slope.abs().max()
    assert torch.equal(moved.sign()[clear], -slope.sign()[clear])
    torch.testing.assert_close(fit.distance[0].double(), data.detach()[None], rtol=1e-5, atol=0)


def test_presets_have_one_minimum_on_their_own_network():
    """Means times 128 * 128 * 3 are sums, with the weights of the two presets, on BigGAN-128's sizes."""
    from stylegan_invert.projectors import METHODS

    code, paper = METHODS["pividori-code"].preset, METHODS["pividori-paper"].preset
    pixels, features, z, layer = 128 * 128 * 3, 8 * 8 * 1280, 120, 24576
    assert paper["lambda_z"] == pytest.approx(code["lambda_z"] / z * pixels)
    assert paper["lambda_delta"] == pytest.approx(code["lambda_delta"] / layer * pixels)
    assert paper["loss"] == f"sse=1,features-sum={pixels / features:g}" and code["loss"] == "mse=0.25,features=1"


def real_picture(size=16):
    """A picture that the small network cannot make."""
    ramp = np.linspace(0, 255, size * size).reshape(size, size)
    return torch.from_numpy(np.stack([ramp, ramp.T, ramp[::-1]]).astype(np.uint8))


def test_the_displacement_comes_closer_and_the_penalty_keeps_it_small(dcgan):
    common = dict(steps=40, layer_steps=150, loss="mse=0.25")
    free, held = (si.project(dcgan, real_picture(), "dense", lambda_delta=weight, **common) for weight in (0.0, 0.05))
    for result in (free, held):
        assert result.code.space == "f:dense" and set(result.code.tensors) == {"z", "h"}
        assert float(result.distance[-1]) < 0.97 * result.record["distance_without_displacement"]
    assert held.record["displacement_l1"] < free.record["displacement_l1"]
    assert free.record["distance_without_displacement"] == held.record["distance_without_displacement"]


def test_the_weight_of_the_penalty_leaves_a_share_of_the_slopes(dcgan):
    """Soft thresholding of the slopes at z*, computed here by hand, leaves the share of their squared length."""
    rows = torch.tensor([[3.0, -1, 0, 2], [0, 0, 0, 0], [-5, 5, 5, 5]])
    for share in (0.0, 0.3, 0.9, 1.0):
        found = threshold(rows, share).tolist()
        for row, number in zip(rows.tolist(), found):
            left = sum(max(abs(x) - number, 0) ** 2 for x in row)
            assert left == pytest.approx(share * sum(x * x for x in row), abs=1e-5)

    generator, target = adapt(dcgan.G), (real_picture()[None].float() / 127.5 - 1)
    loss = MSE()
    z = torch.zeros([1, 6])
    code = generator.convert(Code("z", {"z": z}), "f:dense")
    unit = layer_spread(generator, "f:dense")
    h = code.tensors["h"].clone().requires_grad_(True)
    (slopes,) = torch.autograd.grad((target - generator.render(Code("f:dense", {"z": z, "h": h}))).square().mean(), h)
    common = dict(first_step="none", layer_steps=1, delta_share=0.4)
    for penalty, entries in (("mean", slopes.numel()), ("sum", 1)):
        fit = Projector(generator, "dense", loss=loss, penalty=penalty, **common).fit(target, Code("z", {"z": z}))
        (weight,) = fit.notes["lambda_delta"]
        left = (unit * slopes.abs() * entries - weight).clamp_min(0).square().sum()
        assert float(left / (unit * slopes * entries).square().sum()) == pytest.approx(0.4, abs=1e-3)


@pytest.mark.parametrize("seed, size", [(0, 1.0), (1, 0.3), (2, 3.0)])
def test_the_weight_follows_from_the_network(tmp_path, seed, size):
    """Whatever the scale of a network's weights, the penalty leaves most of what a free displacement gains."""
    net, _ = reference(seed=seed)
    net[0].weight.data *= size
    torch.save(net.state_dict(), tmp_path / "g.pt")
    network = si.load(tmp_path / "g.pt")
    common = dict(init="mean", steps=20, layer_steps=80, loss="mse=0.25")
    results = [si.project(network, real_picture(), "dense", lambda_delta=w, **common) for w in (None, 0.0, 0.9)]
    held, free, fixed = (1 - float(r.distance[-1]) / r.record["distance_without_displacement"] for r in results)
    assert held > 0.6 * free and fixed < 0.5 * free
    # From the same z a distance 100 times as large has a weight 100 times as large.
    once = {"init": "mean", "first_step": "none", "layer_steps": 1}
    small, large = (si.project(network, real_picture(), "dense", loss=loss, **once) for loss in ("mse=1", "mse=100"))
    assert large.record["lambda_delta"] == pytest.approx(100 * small.record["lambda_delta"], rel=1e-4)


def test_stylegan2_is_split_at_a_feature_map():
    net = make_network()
    target = real_picture()
    with pytest.raises(
        si.ProjectionError, match="does not begin with a dense layer; choose another with --layer: b4.conv1"
    ):
        si.project(net, target, "dense", steps=2)
    with pytest.raises(si.ProjectionError, match="no layer 'b4'"):
        si.project(net, target, "dense", steps=2, layer="b4")
    common = dict(layer="b8.conv1", loss="mse", steps=3, layer_steps=5, lambda_delta=0)
    held = si.project(net, target, "dense", **common)
    free = si.project(net, target, "dense", styles="optimised", **common)
    assert held.code.space == "f:b8.conv1" and set(held.code.tensors) == {"z", "w", "h"}
    assert torch.equal(held.code.tensors["w"][:, 0], held.code.tensors["w"][:, -1])
    assert not torch.equal(free.code.tensors["w"][:, -2], held.code.tensors["w"][:, -2])
    start = si.project(net, target, "w+", loss="mse", steps=5)
    settings = {**{k: v for k, v in common.items() if k != "steps"}, "layer_steps": 50}
    found = si.project(net, target, "dense", init=start, first_step="none", **settings)
    assert float(found.distance[-1]) < float(found.distance[0])


@pytest.mark.parametrize("method", ["z", "dense"])
def test_what_is_saved_renders_again(dcgan, tmp_path, method):
    options = dict(steps=3) if method == "z" else dict(steps=3, layer_steps=3)
    result = si.project(dcgan, real_picture(), method, loss="mse", keep_steps=True, **options)
    result.save(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {
        "target.png",
        "proj.png",
        "projected_z.npz",
        "result.json",
        "proj.mp4",
    }
    arrays = load_npz(tmp_path / "projected_z.npz")
    assert set(arrays) == {"network"} | ({"z"} if method == "z" else {"z", "h", "layer"})
    code = read_codes(tmp_path / "projected_z.npz")
    assert code.space == result.code.space
    args = ["generate", "-n", dcgan.file, "--projected-w", tmp_path / "projected_z.npz", "-o", tmp_path / "again"]
    assert CliRunner().invoke(cli, list(map(str, args))).exit_code == 0
    assert (tmp_path / "again" / "proj00.png").read_bytes() == (tmp_path / "proj.png").read_bytes()
    record = json.loads((tmp_path / "result.json").read_text())
    assert record["method"] == method and record["options"]["loss"] == "mse"
    again = si.project(dcgan, real_picture(), "dense", loss="mse", init=tmp_path, first_step="none", layer_steps=1)
    assert float(again.distance[0]) == pytest.approx(float(result.distance[-1]), rel=0.5)


def test_which_features_were_used_is_said(dcgan, tmp_path):
    result = si.project(dcgan, real_picture(), "dense", steps=1, layer_steps=1)
    assert result.record["options"]["feature_network"] == "squeezenet1_1 features.12"
    with pytest.raises(ValueError, match="no such file; expected torchvision's state dict of InceptionV3"):
        si.project(dcgan, real_picture(), "dense", steps=1, inception=tmp_path / "missing.pth")
    with pytest.raises(si.ProjectionError, match="has no features to use it"):
        si.project(dcgan, real_picture(), "z", steps=1, inception=tmp_path / "missing.pth")


def test_frames_of_a_video_start_from_the_one_before(dcgan):
    generator = adapt(dcgan.G)
    a, b = target_of(generator, 2)[0]
    frames = [((torch.lerp(a, b, t) + 1) * 127.5).clamp(0, 255).to(torch.uint8) for t in (0.0, 0.05, 0.1)]
    alone = si.project(dcgan, frames, "z", steps=6, loss="mse")
    warm = si.project(dcgan, frames, "z", steps=6, loss="mse", sequence=True)
    assert torch.equal(alone[0].image, warm[0].image)
    for i in (1, 2):
        assert float(warm[i].distance[0]) < float(alone[i].distance[0])
        assert warm[i].record["options"]["init"] == "the result before"


def test_methods_for_w_say_what_to_use_instead(dcgan):
    with pytest.raises(si.ProjectionError, match="method 'w' works in w, and this network has z; choose z or dense"):
        si.project(dcgan, real_picture(), "w")


def test_ways_between_codes(dcgan):
    generator = adapt(dcgan.G)
    one = si.project(dcgan, real_picture(), "dense", steps=5, layer_steps=20, loss="mse", lambda_delta=0).code
    base = underlying(generator, one)
    torch.testing.assert_close(generator.render(base), generator.render(Code("z", {"z": one.tensors["z"]})))
    line = between(generator, one, base, [0, 0.25, 1])
    torch.testing.assert_close(line[1].tensors["h"], 0.75 * one.tensors["h"] + 0.25 * base.tensors["h"])
    assert torch.equal(line[0].tensors["h"], one.tensors["h"])
    other = Code("z", {"z": torch.randn([1, 6])})
    assert [code.space for code in between(generator, one, other, [0.5])] == ["f:dense"]
    torch.testing.assert_close(generator.render(between(generator, one, other, [1.0])[0]), generator.render(other))
    latent_, left = onto_span(generator, Code("f:dense", generator.convert(other, "f:dense").tensors))
    torch.testing.assert_close(latent_.tensors["z"], other.tensors["z"], rtol=1e-4, atol=1e-4)
    assert float(left[0]) < 1e-5 < float(onto_span(generator, one)[1][0])
    with pytest.raises(ValueError, match="where G1 is linear"):
        onto_span(generator, other)


def test_the_interpolate_command(dcgan, tmp_path):
    si.project(dcgan, real_picture(), "dense", steps=2, layer_steps=2, loss="mse").save(tmp_path / "one")
    args = [
        "interpolate",
        "-n",
        dcgan.file,
        tmp_path / "one",
        "latent",
        "seed:3",
        "-o",
        tmp_path / "out",
        "--frames",
        4,
        "--video",
    ]
    result = CliRunner().invoke(cli, list(map(str, args)))
    assert result.exit_code == 0, result.output
    made = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert made == [*(f"frame{i:04d}.png" for i in range(7)), "interpolation.mp4", "sheet.png"]
    assert (tmp_path / "out" / "frame0000.png").read_bytes() == (tmp_path / "one" / "proj.png").read_bytes()
    for bad, message in (
        (["latent", "seed:1"], "no code"),
        (["seed:x", "seed:1"], "expected seed:N"),
        (["seed:1"], "two ends"),
    ):
        output = CliRunner().invoke(cli, ["interpolate", "-n", dcgan.file, *bad, "-o", str(tmp_path / "no")]).output
        assert message in output


def test_the_spread_of_a_layer(dcgan):
    generator = adapt(dcgan.G)
    z = torch.randn([5000, 6], generator=torch.Generator().manual_seed(4))
    h = generator.convert(Code("z", {"z": z}), "f:dense").tensors["h"]
    assert layer_spread(generator, "f:dense") == pytest.approx(float(h.var(dim=0).mean().sqrt()), rel=0.1)


def test_the_study_of_the_dense_layer(dcgan, tmp_path, monkeypatch):
    """reproduce dense: a table and sheets, and a second call that finds everything done."""
    monkeypatch.setattr(displacement, "REFERENCE", 16)
    (tmp_path / "real").mkdir()
    for i in range(3):
        PIL.Image.fromarray(np.roll(real_picture().numpy(), i * 3, axis=2).transpose(1, 2, 0)).save(
            tmp_path / "real" / f"{i}.png"
        )
    args = [
        "reproduce",
        "dense",
        "-n",
        dcgan.file,
        "--data",
        tmp_path / "real",
        "--generated",
        8,
        "-o",
        tmp_path / "out",
    ]
    args = list(map(str, [*args, "--steps", 12, "--layer-steps", 8, "--loss", "mse=0.25"]))
    result = CliRunner().invoke(cli, args)
    assert result.exit_code == 0, result.output
    figures = {f"figure{n}-{name}.png" for n in (2, 3, 4, 9, 13) for name in ("generated", "real")}
    figures |= {"figure5.png"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        *figures,
        "table.md",
        "results.json",
        "settings.json",
        "codes",
    }
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    for name, count in (("generated", 8), ("real", 3)):
        rows = results["sets"][name]
        assert set(rows) == {"z", "dense", "free", "onestep"} and results["pictures"][name] == count
        low, middle, high = rows["z"]["distance"]
        assert low <= middle <= high
        assert rows["free"]["distance"][1] <= middle
        assert ("kid" in rows["z"]["midpoints"]) == (count >= 8)
    assert 0 <= results["sets"]["generated"]["dense"]["left_of_span"][1] < 1
    times = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out" / "codes").iterdir()}
    assert len(times) == 4 * 11
    next(iter((tmp_path / "out" / "codes").glob("real-0001-free.npz"))).unlink()
    again = CliRunner().invoke(cli, args)
    assert again.exit_code == 0
    second = json.loads((tmp_path / "out" / "results.json").read_text())
    for one in (results, second):
        for rows in one["sets"].values():
            rows["dense"].pop("left_of_span")  # least squares by several threads: the last digit is theirs
    assert second == results
    kept = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out" / "codes").iterdir()}
    assert [name for name in times if kept[name] != times[name]] == ["real-0001-free.npz"]
    other = CliRunner().invoke(cli, [*args, "--lambda-z", "0.5"])
    assert other.exit_code != 0 and "other options" in str(other.exception)


def test_the_study_on_a_feature_map(tmp_path):
    si.save(make_network(), tmp_path / "a.pkl")
    args = [
        "reproduce",
        "dense",
        "-n",
        tmp_path / "a.pkl",
        "--generated",
        2,
        "--steps",
        2,
        "--layer-steps",
        2,
        "--loss",
        "mse",
    ]
    args = list(map(str, [*args, "-o", tmp_path / "out"]))
    assert "choose --layer from b4.conv1" in str(CliRunner().invoke(cli, args).exception)
    assert CliRunner().invoke(cli, [*args, "--layer", "b8.conv1"]).exit_code == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert "logit" in results["sets"]["generated"]["z"]["midpoints"]
    assert not list((tmp_path / "out").glob("figure13*"))


def test_a_new_family_is_a_module(tmp_path):
    """CONTRIBUTING's example: the attributes of LatentGenerator are all that the methods ask for."""

    class MyGenerator(torch.nn.Module):
        family, assumed, c_dim, z_prior = "mine", "nothing", 0, "uniform"
        dense_layer = "dense"

        def __init__(self, z_dim, resolution, channels=3):
            super().__init__()
            self.z_dim, self.img_resolution, self.img_channels = z_dim, resolution, channels
            self.dense = torch.nn.Linear(z_dim, 64)
            self.rest = torch.nn.Linear(64, channels * resolution**2)
            self.layer_shapes = {"dense": (64,)}

        def forward(self, z):
            x = self.rest(torch.relu(self.dense(z))).tanh()
            return x.reshape(-1, self.img_channels, self.img_resolution, self.img_resolution)

    torch.manual_seed(0)
    G = MyGenerator(5, 16)
    for method, options in (("z", {}), ("dense", {"layer_steps": 20})):
        result = si.project(G, real_picture(), method, loss="mse", steps=20, **options)
        result.save(tmp_path / method)
        assert read_codes(tmp_path / method / "projected_z.npz").space == result.code.space
    assert adapt(G).prior == Prior("uniform")
    del MyGenerator.family
    with pytest.raises(TypeError, match="the protocol LatentGenerator .* and it lacks family[.]"):
        si.project(G, real_picture(), "z")


def test_the_shipped_faces_are_found():
    net = si.load("faces64")
    assert (net.G.z_dim, net.G.img_resolution) == (100, 64)
    with torch.no_grad():
        pixels = ((net.G(Prior("normal").of_seed(3, [1, 100]))[0] + 1) * 127.5).to(torch.uint8)
    assert si.project(net, pixels, "z", steps=80).metrics["psnr"] > 25


def test_a_dense_result_starts_the_next(tmp_path, dcgan):
    """Frames of a video, and saved codes: the search for z goes on from the z under the displacement."""
    for net, options in ((dcgan, {}), (make_network(), {"layer": "b8.conv1"})):
        frames = [real_picture(), real_picture().roll(1, 2)]
        options = dict(steps=3, layer_steps=3, loss="mse", **options)
        first, second = si.project(net, frames, "dense", sequence=True, **options)
        first.save(tmp_path)
        again = si.project(net, frames[1], "dense", init=tmp_path, **options)
        assert torch.equal(again.code.tensors["h"], second.code.tensors["h"])
        assert si.project(net, frames[1], "z", init=tmp_path, steps=2).code.space == "z"
    found = si.project(make_network(), real_picture(), "z", steps=3)
    found.save(tmp_path / "z")
    assert torch.equal(
        read_codes(tmp_path / "z" / "projected_w.npz", prefer_z=True).tensors["z"], found.code.tensors["z"]
    )
    assert read_codes(tmp_path / "z" / "projected_w.npz").space == "w+"


def test_a_restart_that_fails_is_left_out(dcgan):
    class Brittle(MSE):
        def forward(self, prepared, images):
            distance = super().forward(prepared, images)
            return distance * torch.tensor([1.0, torch.nan, 1.0])[: len(distance)]

    result = si.project(dcgan, real_picture(), "z", loss=Brittle(), steps=4, restarts=3, optimizer="adam")
    assert torch.isfinite(result.distance).all()


def test_the_study_of_clipping(dcgan, tmp_path):
    args = ["reproduce", "clipping", "-n", dcgan.file, "--generated", 3, "--steps", 30, "--restarts", 2, "-o", tmp_path]
    result = CliRunner().invoke(cli, list(map(str, args)))
    assert result.exit_code == 0, result.output
    results = json.loads((tmp_path / "results.json").read_text())
    for clips in results["priors"].values():
        assert set(clips) == {"none", "standard", "stochastic"}
        for clip, rows in clips.items():
            assert len(rows["psnr"]) == 3 and min(rows["psnr"]) > 5
            assert clip == "none" or max(rows["outside"]) == 0
    assert (tmp_path / "table.md").read_text().count("prior, clipping") == 6
