"""One descent under every method: its state, what is observed, and a projector that is used twice."""
# Takes at most 25 CPU seconds.

import copy

import numpy as np
import pytest
import torch

import stylegan_invert as si
from stylegan_invert.generator import Code, Prior, StyleAdapter, adapt
from stylegan_invert.losses import MSE
from stylegan_invert.projectors import Projection, Projector
from stylegan_invert.projectors.descent import Descent

from conftest import make_network


def shown(n, resolution=16, seed=0):
    """Smooth pictures in [-1, 1]."""
    small = torch.rand([n, 3, 4, 4], generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(small, size=resolution, mode="bilinear")


def gone_on(projector, target, state):
    """The result of a run that goes on from a state, and the numbers of the steps it takes."""
    numbers = []
    return projector.fit(target, resume=state, callback=lambda step: numbers.append(step.number)), numbers


class Killed(Exception):
    pass


RUNS = [
    ("w", dict(steps=9)),
    ("w+", dict(steps=9, noise_maps="fixed")),
    ("v+", dict(steps=9, prior_weight=1e-3)),
    ("z", dict(steps=9, optimizer="adam", restarts=2, clip="stochastic", bound=0.5)),
    ("w+", dict(steps=9, optimizer="lbfgs")),
    ("v", dict(steps=9, optimizer="lbfgs-b")),
    ("fast-w+", dict(steps=9)),
    ("w+", dict(steps=40, patience=4, min_gain=0.3)),
    ("w+", dict(steps=40, patience=4, min_gain=0.3, optimizer="lbfgs")),
    ("z", dict(steps=40, patience=4, min_gain=0.3, restarts=2)),
    ("z", dict(steps=9, optimizer="lbfgs", restarts=2)),
    ("z", dict(steps=9, optimizer="lbfgs", clip="stochastic", bound=0.5)),
    ("z", dict(steps=9, optimizer="lbfgs-b", restarts=2, clip="standard", bound=0.5)),
    ("dense", dict(layer="b8.conv1", steps=4, layer_steps=5, optimizer="adam", styles="optimised")),
    ("dense", dict(layer="b8.conv1", steps=4, layer_steps=5)),
    ("dense", dict(layer="b8.conv1", steps=4, layer_steps=5, layer_optimizer="lbfgs")),
]


@pytest.mark.parametrize("method, options", RUNS)
def test_a_run_that_goes_on_ends_as_if_it_had_never_stopped(method, options):
    """Killed after each step in turn, saved to bytes, and gone on with: equal to the bit."""
    projector = Projector(make_network(), method, loss=MSE(), **options)
    target = shown(2)
    whole = projector.fit(target)
    steps = []
    projector.fit(target, callback=lambda step: steps.append(step.number))
    assert len(steps) > 5
    for at in sorted({1, 2, len(steps) // 2, len(steps) - 1, len(steps)}):
        states = []

        def kill(step, at=at, states=states):
            if step.number == steps[at - 1]:
                states.append(copy.deepcopy(step.state()))
                raise Killed

        with pytest.raises(Killed):
            projector.fit(target, callback=kill)
        again, later = gone_on(projector, target, states[0])
        assert later == steps[at:], at
        assert torch.equal(again.distance, whole.distance), at
        assert all(torch.equal(value, whole.code.tensors[name]) for name, value in again.code.tensors.items()), at
        assert again.notes["evaluations"] == whole.notes["evaluations"], at


def test_a_state_of_another_run_is_refused():
    with pytest.raises(si.ProjectionError, match="the state has format 7; expected 1"):
        Descent(resume={"format": 7})
    states = []
    net, target = make_network(), shown(1)
    Projector(net, "w", loss="mse", steps=2).fit(target, callback=lambda step: states.append(step.state()))
    with pytest.raises(si.ProjectionError, match="this search has .*Resume with the same method"):
        Projector(net, "w+", loss="mse", steps=2).fit(target, resume=states[0])
    with pytest.raises(si.ProjectionError, match="the state is of adam; this run uses lbfgs"):
        Projector(net, "w", loss="mse", steps=2, optimizer="lbfgs").fit(target, resume=states[0])


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs", "lbfgs-b"])
def test_distances_that_a_callback_keeps_stay_what_they_were(optimizer):
    kept, values = [], []

    def keep(step):
        kept.append(step.distance)
        values.append(step.distance.clone())

    Projector(make_network(), "w", loss="mse", steps=5, optimizer=optimizer).fit(shown(2), callback=keep)
    assert len(kept) >= 5 and all(torch.equal(a, b) for a, b in zip(kept, values))


@pytest.mark.parametrize("bound", [0.1, 0.3, 0.7])
def test_bounds_that_float32_rounds_up(bound):
    fit = Projector(make_network(), "z", loss="mse", steps=5, clip="standard", bound=bound).fit(shown(1))
    assert fit.code.tensors["z"].abs().max() <= np.float32(bound)


def test_one_fit_is_of_one_class():
    with pytest.raises(si.ProjectionError, match="fit takes targets of one class"):
        Projector(make_network(classes=2), "z", loss="mse", class_idx="search").fit(shown(1))


def test_a_gaussian_that_is_there_is_used(monkeypatch):
    generator = adapt(make_network().G)
    gaussian = generator.gaussian()
    monkeypatch.setattr(StyleAdapter, "fit_gaussian", lambda *a: pytest.fail("it was fitted again"))
    Projector(generator, "v", loss="mse", steps=1).fit(shown(1))
    assert not generator.with_prior(Prior("uniform")).has_gaussian() and generator.gaussian() is gaussian
    assert generator.mapping_sha256() != generator.with_prior(Prior("uniform")).mapping_sha256()


def test_cheap_checks_come_before_a_gaussian_is_fitted(monkeypatch):
    monkeypatch.setattr(StyleAdapter, "fit_gaussian", lambda *a: pytest.fail("it was fitted"))
    pixels = ((shown(1)[0] + 1) * 127.5).to(torch.uint8)
    for wrong, message in (({"batch": 0}, "batch is 0"), ({"init": ["a", "b"]}, "2 starting codes for 1 targets")):
        with pytest.raises(si.ProjectionError, match=message):
            si.project(make_network(), pixels, "v", loss="mse", **wrong)


@pytest.mark.parametrize("method", ["w", "z", "dense"])
def test_what_is_observed_is_compared(method):
    """Of a target whose right half is hidden, only the left half counts."""
    net = make_network()
    options = {"layer": "b8.conv1", "layer_steps": 5} if method == "dense" else {}

    def left(outputs):
        return outputs[..., : outputs.shape[-1] // 2]

    target = shown(1)
    other = torch.cat([left(target), 1 - target[..., 8:].abs()], dim=-1)
    fits = [Projector(net, method, loss=MSE(), observe=left, steps=5, **options).fit(t) for t in (target, other)]
    assert torch.equal(fits[0].distance, fits[1].distance)
    plain = [Projector(net, method, loss=MSE(), steps=5, **options).fit(t) for t in (target, other)]
    assert not torch.equal(plain[0].distance, plain[1].distance)


def test_a_second_projection_samples_no_w_and_loads_no_loss(monkeypatch):
    net = make_network(resolution=32)
    projector = Projector(net, "w", steps=2)
    pixels = ((shown(1, 32)[0] + 1) * 127.5).to(torch.uint8)
    first = next(projector.project([pixels]))
    mapped = []
    net.G.mapping.register_forward_hook(lambda *a: mapped.append(1))
    monkeypatch.setattr("stylegan_invert.losses.lpips.with_weights", lambda *a: pytest.fail("a network was loaded"))
    second = next(projector.project([pixels]))
    assert torch.equal(second.image, first.image) and second.metrics == first.metrics and not mapped


def test_adapters_are_not_changed_by_runs():
    dense = adapt(make_network().G)
    with pytest.raises(ValueError, match="already say how z is drawn"):
        Projector(dense, "w", z_prior="uniform", loss="mse")
    uniform = dense.with_prior(Prior("uniform"))
    assert dense.prior == Prior("normal") and uniform.prior == Prior("uniform") and uniform.network is dense.network
    gaussian = dense.gaussian()
    other = copy.copy(gaussian)
    assert dense.with_gaussian(None, other) is not dense and dense.gaussian() is gaussian
    assert isinstance(dense, StyleAdapter)


@pytest.mark.parametrize(
    "method, options",
    [
        ("w", {"save_noise": True}),
        ("v+", {}),
        ("z", {"optimizer": "adam"}),
        ("dense", {"layer": "b8.conv1", "layer_steps": 3}),
    ],
)
def test_a_saved_result_is_read_back_equal(method, options, tmp_path):
    net = make_network(resolution=32)
    pixels = ((shown(1, 32)[0] + 1) * 127.5).to(torch.uint8)
    result = si.project(net, pixels, method, steps=4, loss="mse", **options)
    result.save(tmp_path)
    again = Projection.read(tmp_path)
    assert again == result and result == again
    assert torch.equal(again.distance, result.distance) and again.record["method"] == method
    other = si.project(net, pixels, method, steps=4, loss="l1", **options)
    assert other != result
    changed = Projection(**{**vars(result), "distance": result.distance + 1})
    assert changed != again
    with pytest.raises(ValueError, match="without its network; it cannot be saved again"):
        again.save(tmp_path / "other")


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda text: "", "it is not JSON"),
        (lambda text: text.replace('"format": 1', '"format": 99'), "its format is 99; expected 1"),
        (lambda text: text.replace('"history"', '"past"'), "history is missing"),
        (lambda text: text.replace('"metrics": {', '"metrics": [{').replace("},", "}],", 1), "metrics is a list of 1"),
        (
            lambda text: text.replace('"medium": "picture"', '"medium": "smell"'),
            'medium is "smell"; expected one of picture, sound',
        ),
        (
            lambda text: text.replace('"history": [', '"history": [1e400, '),
            r"history\[0\] is Infinity; expected a finite",
        ),
        (
            lambda text: text.replace('"history": [', '"history": [true, '),
            r"history\[0\] is true; expected a finite number",
        ),
        (lambda text: text.replace('"space": "w', '"space": "\\u0000w'), "space is"),
        (lambda text: "[" * 100_000, "nested too deeply"),
    ],
)
def test_damaged_results_are_refused(damage, message, tmp_path):
    pixels = ((shown(1)[0] + 1) * 127.5).to(torch.uint8)
    si.project(make_network(), pixels, "w", steps=1, loss="mse").save(tmp_path)
    file = tmp_path / "result.json"
    file.write_text(damage(file.read_text()))
    with pytest.raises(si.CodeFileError, match=message):
        Projection.read(tmp_path)
    file.unlink()
    with pytest.raises(si.CodeFileError, match="there is no such file"):
        Projection.read(tmp_path)


def test_a_random_start_is_a_point_of_the_prior():
    net = make_network()
    z = torch.randn([8], generator=torch.Generator().manual_seed(5))
    pixels = ((shown(1)[0] + 1) * 127.5).to(torch.uint8)
    (step,) = si.project(net, pixels, "w", init="random", seed=5, steps=1, loss="mse", keep_steps=True).steps
    with torch.no_grad():
        w = net.G.mapping(z[None], None)[:, 0]
    assert torch.equal(step.tensors["w"], w)  # the rate of the first step is zero
    assert np.isfinite(w.numpy()).all() and Code("w", {"w": w})
