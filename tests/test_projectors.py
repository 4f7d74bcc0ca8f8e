"""Projection: the official trajectory, batches, seeds, noise, starts, classes."""
# Takes at most 45 CPU seconds.

import copy
import json
import math

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import stylegan_invert as si
from stylegan_invert.generator import Code, adapt, label
from stylegan_invert.io.codes import read_codes
from stylegan_invert.losses import MSE, Distance
from stylegan_invert.projectors import Projector, WOptions
from stylegan_invert.projectors.memory import Memory
from stylegan_invert.projectors.projection import render_rounded
from stylegan_invert.projectors.w import noise_penalty

from conftest import make_network
from official import HERE, PRETRAINED
from support import NOTHING_DRAWN, assert_close, load_npz

CHELSEA = PRETRAINED / "chelsea-face.png"


def targets(n, size=32, seed=0):
    """Smooth pictures."""
    rng = np.random.RandomState(seed)
    small = rng.randint(256, size=(n, 6, 6, 3)).astype(np.uint8)
    return [np.array(PIL.Image.fromarray(s).resize((size, size), PIL.Image.BICUBIC)).transpose(2, 0, 1) for s in small]


def steps_of(projection):
    """w after each step: (steps, ...)."""
    return torch.cat([code.tensors["w"] for code in projection.steps]).numpy()


def test_the_official_projector_takes_the_same_way(cats, features):
    """golden/projection.npz: NVIDIA's projector.py, 50 steps, seed 303 (made by official.py)."""
    golden = load_npz(HERE / "golden" / "projection.npz")
    got = si.project(
        cats.G,
        CHELSEA,
        "w",
        loss="lpips-vgg",
        vgg16=features,
        run_torchscript=True,
        steps=50,
        seed=303,
        keep_steps=True,
    )
    np.testing.assert_allclose(got.distance, golden["distance"], rtol=2e-3)
    assert_close("w", steps_of(got) - golden["w"][0], golden["w"] - golden["w"][0], 0.02)


@settings(deadline=None)
@given(st.integers(1, 3000), st.floats(0, 1))
def test_the_schedule_is_the_official_one(steps, where):
    step = min(int(where * steps), steps - 1)
    t = step / steps
    ramp = min(1.0, (1.0 - t) / 0.25)
    expected = 0.1 * (0.5 - 0.5 * math.cos(ramp * math.pi)) * min(1.0, t / 0.05)
    options = WOptions(steps=steps)
    assert options.learning_rate(step) == pytest.approx(expected)
    assert options.initial_noise_factor * options.noise_ramp(step) == pytest.approx(
        0.05 * max(0.0, 1.0 - t / 0.75) ** 2
    )


def test_noise_penalty_is_its_definition():
    noise = torch.randn(2, 32, 32, dtype=torch.float64)
    expected = torch.zeros(2, dtype=torch.float64)
    for i in range(2):
        x = noise[i]
        while True:
            for axis in (0, 1):
                expected[i] += (x * torch.roll(x, 1, axis)).mean() ** 2
            if x.shape[0] <= 8:
                break
            x = x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2).mean((1, 3))
    torch.testing.assert_close(noise_penalty(noise), expected)


@pytest.mark.parametrize("method", ["w", "w+"])
def test_a_batch_gives_what_single_runs_give(cats, method):
    pictures = targets(3)
    together = si.project(cats.G, pictures, method, steps=20, batch=3, save_noise=True)
    for one, picture in zip(together, pictures):
        alone = si.project(cats.G, picture, method, steps=20, save_noise=True)
        assert torch.equal(one.distance, alone.distance) and torch.equal(one.image, alone.image)
        assert all(torch.equal(one.code.tensors[k], alone.code.tensors[k]) for k in alone.code.tensors)


@pytest.mark.parametrize("space", ["w", "w+"])
def test_targets_in_one_pass_do_not_touch_each_other(cats, space):
    """`Projector.fit`, as a GPU runs it: each target's own random numbers, noise and loss.

    Only rounding differs, which a loss without kinks hardly amplifies in so few steps.
    """
    generator = adapt(cats.G)
    projector = Projector(generator, space, loss=MSE(), steps=20)
    shown = torch.from_numpy(np.stack(targets(3))).float() / 127.5 - 1
    start = generator.center(space)
    together = projector.fit(
        shown, Code(space, {"w": start.tensors["w"].repeat(3, *[1] * (start.tensors["w"].ndim - 1))})
    )
    for i, code in enumerate(together.code):
        alone = projector.fit(shown[i : i + 1], start)
        np.testing.assert_allclose(together.distance[:, i], alone.distance[:, 0], rtol=2e-3)
        for name, value in alone.code.tensors.items():
            assert_close(name, code.tensors[name].numpy(), value.numpy(), 0.02)


def test_the_same_seed_gives_the_same_result(cats):
    a, b = (si.project(cats.G, CHELSEA, "w", steps=20, seed=5) for _ in range(2))
    c = si.project(cats.G, CHELSEA, "w", steps=20, seed=6)
    assert torch.equal(a.code.tensors["w"], b.code.tensors["w"]) and torch.equal(a.image, b.image)
    assert not torch.equal(a.code.tensors["w"], c.code.tensors["w"])


def test_global_random_state_and_the_network_are_left_alone(cats):
    before = {k: v.clone() for k, v in cats.G.state_dict().items()}
    torch.manual_seed(0)
    expected = torch.randn(3)
    torch.manual_seed(0)
    si.project(cats.G, CHELSEA, "w", steps=3)
    assert torch.equal(torch.randn(3), expected)
    assert all(torch.equal(v, before[k]) for k, v in cats.G.state_dict().items())
    G = si.load("cats32").G.train().requires_grad_(True)
    got = si.project(G, CHELSEA, "w", steps=3)
    assert G.training and all(p.requires_grad and p.grad is None for p in G.parameters())
    assert torch.equal(got.image, si.project(cats.G, CHELSEA, "w", steps=3).image)


def test_w_plus_comes_closer_than_w(cats):
    w, plus = (si.project(cats.G, CHELSEA, method, steps=100, loss="mse") for method in ("w", "w+"))
    assert w.code.tensors["w"].shape == (1, 128) and plus.code.tensors["w"].shape == (1, 8, 128)
    assert plus.distance[-1] < 0.8 * w.distance[-1]


@pytest.mark.parametrize("save_noise", [False, True])
def test_what_is_saved_renders_to_what_was_saved(cats, save_noise, tmp_path):
    result = si.project(cats.G, CHELSEA, "w+", steps=10, save_noise=save_noise)
    assert result.save(tmp_path / "out") == tmp_path / "out"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "proj.png",
        "projected_w.npz",
        "result.json",
        "target.png",
    ]
    code = read_codes(tmp_path / "out" / "projected_w.npz")
    assert code.tensors["w"].shape == (1, 8, 128) and bool(code.noise) == save_noise
    generator = adapt(si.load("cats32").G)
    saved = np.array(PIL.Image.open(tmp_path / "out" / "proj.png")).transpose(2, 0, 1)
    assert np.array_equal(render_rounded(generator, code), saved)
    if not save_noise:  # as the official tool does
        with torch.no_grad():
            image = cats.G.synthesis(code.tensors["w"], noise_mode="const", fused_modconv=True)[0]
        assert np.array_equal(((image + 1) * (255 / 2)).clamp(0, 255).to(torch.uint8).numpy(), saved)

    # The metrics are of the saved files.
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    target = np.array(PIL.Image.open(tmp_path / "out" / "target.png")).astype(float)
    mse = ((target - saved.transpose(1, 2, 0)) ** 2).mean()
    assert record["metrics"]["psnr"] == pytest.approx(10 * math.log10(255**2 / mse), rel=1e-5)
    assert record["network"]["sha256"] == cats.sha256 and record["options"]["seed"] == 303
    assert record["target"]["box"] == [0, 0, 300, 300] and record["versions"]["torch"] == torch.__version__


def test_the_optimised_noise_is_worth_keeping(cats):
    """The distance that was optimised is of the picture with its own noise maps."""
    kept, dropped = (si.project(cats.G, CHELSEA, "w+", steps=60, save_noise=s) for s in (True, False))
    assert kept.metrics["lpips"] < dropped.metrics["lpips"]


def test_a_run_starts_from_a_saved_result(cats, tmp_path):
    first = si.project(cats.G, CHELSEA, "w", steps=30, loss="mse")
    first.save(tmp_path / "w")
    fresh = si.project(cats.G, CHELSEA, "w+", steps=2, loss="mse", initial_noise_factor=0)
    for init in (tmp_path / "w" / "projected_w.npz", tmp_path / "w", first, first.code):
        again = si.project(cats.G, CHELSEA, "w+", steps=2, loss="mse", init=init, initial_noise_factor=0)
        assert again.distance[0] < 0.8 * fresh.distance[0]
    again = si.project(cats.G, CHELSEA, "w", steps=1, init=tmp_path / "w")
    assert torch.equal(again.code.tensors["w"], first.code.tensors["w"])  # the rate of the first step is zero
    plus = si.project(cats.G, CHELSEA, "w+", steps=3)
    with pytest.raises(si.CodeFileError, match="lies in W\\+ and not in W; use the method w\\+"):
        si.project(cats.G, CHELSEA, "w", steps=1, init=plus)
    with pytest.raises(si.CodeFileError, match=r"w has shape \(128,\) per picture; this network has \(8,\)"):
        si.project(make_network().G, targets(1, 16)[0], "w", steps=1, init=first, loss="mse")


def test_saved_noise_is_started_from(cats):
    first = si.project(cats.G, CHELSEA, "w", steps=20, save_noise=True)
    again = si.project(
        cats.G, CHELSEA, "w", steps=1, init=first, save_noise=True, initial_noise_factor=0, regularize_noise_weight=0
    )
    for name, value in first.code.noise.items():
        assert_close(name, again.code.noise[name].numpy(), value.numpy(), 1e-5)


def test_classes_have_their_own_mean():
    net = make_network(classes=3)
    generator = adapt(net.G)
    z = torch.from_numpy(np.random.RandomState(123).randn(10000, 8))
    for i in range(3):
        w = net.G.mapping(z, label(3, i).expand(10000, -1))[:, 0]
        found = generator.statistics(label(3, i))
        torch.testing.assert_close(found.mean, w.mean(0), atol=1e-5, rtol=1e-4)
        assert found.std == pytest.approx(float((w - w.mean(0)).square().sum(1).mean().sqrt()), rel=1e-4)
    results = [si.project(net.G, targets(1, 16)[0], "w", steps=1, class_idx=i, loss="mse") for i in (0, 2)]
    assert not torch.equal(results[0].code.tensors["w"], results[1].code.tensors["w"])
    with pytest.raises(
        ValueError, match="this network has 3 classes and none was given; choose one with --class 0 ... 2"
    ):
        si.project(net.G, targets(1, 16)[0], "w", steps=1)
    with pytest.raises(ValueError, match="class 3 was given; this network has the classes 0 ... 2"):
        si.project(net.G, targets(1, 16)[0], "w", steps=1, class_idx=3)
    with pytest.raises(ValueError, match="without classes"):
        si.project(make_network().G, targets(1, 16)[0], "w", steps=1, class_idx=0)


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("architecture, use_noise", [("skip", True), ("resnet", False), ("orig", True)])
def test_other_networks_are_projected(channels, architecture, use_noise, picture, tmp_path):
    net = make_network(channels=channels, architecture=architecture, use_noise=use_noise)
    result = si.project(net.G, picture, "w+", steps=3, loss="mse", save_noise=True, keep_steps=True)
    result.save(tmp_path / "out")
    with PIL.Image.open(tmp_path / "out" / "proj.png") as saved:
        assert saved.mode == {1: "L", 4: "RGBA"}[channels]
    assert len(result.code.noise) == (5 if use_noise else 0)
    assert (tmp_path / "out" / "proj.mp4").stat().st_size > 0


def test_a_distance_that_is_no_number_ends_the_run(cats):
    class Broken(Distance):
        def features(self, images):
            return images

        def forward(self, prepared, images):
            self.calls = getattr(self, "calls", 0) + 1
            factors = torch.tensor([1.0, math.nan if self.calls == 3 else 1.0])
            return (prepared - images).mean(dim=[1, 2, 3]) * factors[: len(images)]

    generator = adapt(cats.G)
    start = Code("w", {"w": generator.center("w").tensors["w"].repeat(2, 1)})
    shown = torch.zeros(2, 3, 32, 32)
    with pytest.raises(
        si.ProjectionError, match="the distance of target 2 became nan at step 3 of 5; try a lower learning rate"
    ):
        Projector(generator, "w", loss=Broken(), steps=5).fit(shown, start)


@pytest.mark.parametrize(
    "arguments, reason",
    [
        ({"method": "x"}, "method 'x' is unknown; expected one of w, w\\+"),
        ({"steps": 0}, "steps is 0; expected an integer from 1"),
        ({"speed": 3}, "option speed is unknown to this method; there are: prior_weight, .*steps, seed"),
        ({"batch": 0}, "batch is 0"),
        ({"batch": "all"}, "batch is 'all'.*or 'auto'"),
        ({"steps": 2.5}, "steps is 2.5; expected an integer"),
        ({"seed": None}, "seed is None; expected an integer"),
        ({"lr_rampup_length": 0}, "lr_rampup_length is 0; expected a number from 1e-06"),
        ({"initial_learning_rate": math.nan}, "initial_learning_rate is nan"),
        ({"loss": 3}, "loss is 3; expected a text like"),
        ({"vgg16": "x.pt"}, "has no lpips-vgg to use it"),
        ({"init": 5}, "init is a int; expected a Code"),
        ({"init": Code("q", {})}, "in space 'q', which this network does not have; it has z, w, w\\+"),
        ({"init": Code("w", {})}, "it has no w"),
        ({"init": Code("w", {"w": torch.full((1, 128), math.nan)})}, "finite"),
        ({"target": np.zeros((3, 5, 5), np.uint8)}, r"shape \(3, 5, 5\), uint8; expected \(3, 32, 32\) uint8"),
        ({"target": np.zeros((3, 32, 32))}, "float64"),
        ({"target": []}, "no targets"),
        ({"init": ["a", "b"]}, "2 starting codes for 1 targets"),
        ({"init": "nothing.npz"}, "nothing.npz: there is no such file"),
    ],
)
def test_wrong_arguments_are_named(cats, arguments, reason):
    with pytest.raises(ValueError, match=reason):
        si.project(cats.G, **{"target": CHELSEA, "method": "w", "steps": 1, **arguments})


def test_a_network_file_stands_for_its_generator(cats):
    assert torch.equal(si.project(cats, CHELSEA, "w", steps=2).image, si.project(cats.G, CHELSEA, "w", steps=2).image)


def test_broken_targets_are_found_before_the_first_is_projected(cats, tmp_path):
    (tmp_path / "broken.png").write_text("x")
    steps = []
    with pytest.raises(si.ImageFileError, match="broken.png"):
        si.project(cats.G, [CHELSEA, tmp_path / "broken.png"], "w", steps=1, callback=lambda *a: steps.append(a))
    assert steps == []


def test_a_method_of_another_package_is_found(cats, monkeypatch):
    import importlib.metadata

    from stylegan_invert.projectors.methods import Method

    class Entry:
        name = "stay"

        def load(self):
            return Method("w", f"{__name__}:stay")

    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda group: [Entry()] if group == "stylegan_invert.projectors" else []
    )
    result = si.project(cats.G, CHELSEA, "stay")
    assert (
        torch.equal(result.code.tensors["w"], adapt(cats.G).center("w").tensors["w"])
        and result.record["method"] == "stay"
    )


def stay(generator, objective, start, options, descend):
    from stylegan_invert.projectors import Fit

    return Fit(start, torch.zeros(0, len(start)))


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_other_devices_agree_with_the_cpu(cats, device):
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there[device]:
        pytest.skip(f"needs a machine with {device}")
    other = si.project(si.load("cats32").G.to(device), CHELSEA, **NOTHING_DRAWN)
    here = si.project(cats.G, CHELSEA, **NOTHING_DRAWN)
    assert_close("w", other.code.tensors["w"].numpy(), here.code.tensors["w"].numpy(), 0.05)


def test_as_many_targets_as_fit():
    """The largest number whose memory, as two measurements make it a line, is within nine tenths of what is free."""
    memory = Memory(fixed=1000, per_target=300)
    assert memory.fitting(free=10_000) == 26  # 1000 + 26 * 300 = 8800; 27 would be 9100
    assert memory.fitting(free=100) == 1


def test_automatic_batches_on_a_cpu_are_single_targets(cats):
    found = si.project(cats.G, [CHELSEA] * 2, "w", steps=2, batch="auto")
    assert [p.record["options"]["batch"] for p in found] == [1, 1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_automatic_batches_on_a_gpu(cats):
    G = copy.deepcopy(cats.G).cuda()
    found = si.project(G, [CHELSEA] * 3, "w", steps=2, batch="auto")
    assert [p.record["options"]["batch"] for p in found] == [3, 3, 3]
    assert found[0].record["options"]["memory"]["per_target"] > 0
