"""The study of speed: what it measures, when a goal counts as reached, and its table."""
# Takes at most 15 CPU seconds.

import json
import re
import time

import numpy as np
import pytest
import torch

import stylegan_invert as si
from stylegan_invert.cache import cache_dir, empty_cache
from stylegan_invert.generator import Code, adapt
from stylegan_invert.media.pictures import write_png
from stylegan_invert.projectors import Projector, samples
from stylegan_invert.projectors.v_prior import v_prior
from stylegan_invert.studies import base, speed
from stylegan_invert.studies.direction import generated_pictures

from conftest import make_network

STEPS = 12
SETS = {"real": 2, "generated": 3}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A network, the folder of a study of it, and a function that runs the study."""
    net, folder = make_network(32), tmp_path_factory.mktemp("speed")
    pictures, _ = generated_pictures(adapt(net.G), 2, seed=7)
    noise = np.random.RandomState(0).randint(-20, 20, size=pictures.shape)
    (folder / "data").mkdir()
    for i, picture in enumerate((pictures + noise).clip(0, 255).astype(np.uint8)):
        write_png(folder / "data" / f"{i}.png", picture)
    data = base.picture_set(net, folder / "data")

    def run():
        return speed.run(net, folder / "out", data, **SETS, ways=["fast-w"], steps=STEPS)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "COUNT", 64)
        return net, folder / "out", run, run()


def test_the_results_are_made_of_the_parts(study):
    """The table's numbers are computed here in another way, and from the files of the parts alone."""
    net, folder, _, results = study
    assert results == json.loads((folder / "results.json").read_text())
    text = (folder / "table.md").read_text()
    assert speed.table(results) == text and (folder / "speed.png").stat().st_size > 1000
    for name, count in SETS.items():
        official, fast = (
            [base.read_part(folder / "parts" / f"{name}-{method}-{i:04d}.npz") for i in range(count)]
            for method in ("w", "fast-w")
        )
        values = results["sets"][name]["fast-w"]
        for i, (one, mark) in enumerate(zip(fast, official)):
            goals = {"saved": [], "fitted": []}
            for row, (lpips, psnr) in enumerate(zip(one["lpips"], one["psnr"])):
                if lpips <= mark["lpips"][-1] and psnr >= mark["psnr"][-1]:
                    goals["saved"].append(row)
                if lpips <= mark["fitted"]:
                    goals["fitted"].append(row)
            for goal, rows in goals.items():
                until = {key: numbers[i] for key, numbers in values["until"][goal].items()}
                assert until["evaluations"] == (one["evaluations"][rows[0]] if rows else None)
                assert until["faster"] == (mark["total_cpu"] / one["cpu"][rows[0]] if rows else None)
        assert any(x is not None for x in values["until"]["saved"]["cpu"])
        low, middle, high = np.quantile([one["lpips"][-1] for one in fast], [0.25, 0.5, 0.75])
        assert f"| fast-w | {middle:.5f} ({low:.5f} to {high:.5f}) |" in text
        assert f"| w, official, {STEPS} steps |" in text
        assert ("w" in values) == (name == "generated")
        (pair,) = [(fast[0]["styles"] + fast[1]["styles"]) / 2]
        generator = base.find_gaussian(adapt(net.G), base.uncounted)
        middle = Code("w+", {"w": torch.from_numpy(pair)[None].expand(-1, net.G.num_ws, -1)})
        expected = float(v_prior(generator, middle)) / (net.G.num_ws * generator.gaussian().rank)
        assert values["mid_prior"] == pytest.approx([expected], rel=1e-3)
        assert ("mid_lpips" in values) == (name == "generated")


def test_it_goes_on_from_its_parts(study, monkeypatch):
    *_, run, results = study
    monkeypatch.setattr(speed, "set_up", lambda *_: pytest.fail("a part was computed again"))
    assert run() == results


def test_a_trace_ends_at_the_picture_that_project_saves(study):
    """For the official projector, without its noise maps; "fitted" is with them. Measuring stops the clock."""
    net, *_ = study
    generator = base.find_gaussian(adapt(net.G), base.uncounted)
    pictures, z = generated_pictures(generator, 1, seed=3)
    true = generator.styles(Code("z", {"z": z}))[0]
    part = base.Part("generated", speed.Way("w", STEPS, True), 0, pictures, "")
    projector = Projector(generator, "w", steps=STEPS)
    counted = []

    class Slow(torch.nn.Module):
        """LPIPS that takes a while."""

        min_size = projector.distance.min_size

        def between(self, a, b):
            time.sleep(0.05)
            return projector.reported[0]["lpips"].between(a, b)

    began = time.perf_counter()
    one = speed.trace(projector, generator, part, Slow(), true, counted.append)
    took = time.perf_counter() - began
    (saved,) = projector.project(list(pictures))
    (kept,) = projector.project(list(pictures), save_noise=True)
    assert one["lpips"][-1] == saved.metrics["lpips"] and one["psnr"][-1] == saved.metrics["psnr"]
    assert one["fitted"] == kept.metrics["lpips"] != saved.metrics["lpips"]
    assert one["w"] == pytest.approx(float((saved.code.tensors["w"] - true).norm()))
    assert one["evaluations"].tolist() == list(range(1, STEPS + 1)) and one["total_evaluations"] == STEPS
    assert sum(counted) == STEPS
    assert (np.diff(one["wall"]) > 0).all() and one["wall"][-1] <= one["total_wall"] < took - 0.05 * STEPS


def test_w_plus_is_compared_layer_by_layer(study):
    """A code of W in W+ is as far from the true w as in W, and its prior per dimension is the same."""
    net, *_ = study
    generator = base.find_gaussian(adapt(net.G), base.uncounted)
    pictures, z = generated_pictures(generator, 1, seed=3)
    true = generator.styles(Code("z", {"z": z}))[0]
    traces = []
    for method in ("w", "w+"):
        projector = Projector(generator, method, loss="mse", steps=1, noise_maps="fixed", initial_learning_rate=1e-9)
        part = base.Part("generated", speed.Way(method, 1), 0, pictures, "")
        traces.append(speed.trace(projector, generator, part, projector.reported[0]["lpips"], true, lambda _: None))
    assert traces[0]["w"] == pytest.approx(float(traces[1]["w"]), rel=1e-4) and traces[0]["w"] > 0
    assert traces[0]["prior"] == pytest.approx(float(traces[1]["prior"]), rel=1e-3)


def test_set_up_is_timed_with_an_empty_cache(tmp_path, monkeypatch):
    """The samples of the network are drawn, however full the cache is, and the cache is left as it was."""
    monkeypatch.setenv("STYLEGAN_INVERT_CACHE", str(tmp_path))
    monkeypatch.setattr(samples, "COUNT", 16)
    net = make_network(32)
    pictures, _ = generated_pictures(adapt(net.G), 1, seed=3)
    Projector(net, "fast-w").samples()
    (file,) = (tmp_path / "samples").iterdir()
    before, drawn = file.stat().st_mtime_ns, []
    original = samples.reduced
    monkeypatch.setattr(samples, "reduced", lambda outputs: drawn.append(len(outputs)) or original(outputs))
    projector, seconds = speed.set_up(adapt(net.G), base.Part("real", speed.way_of("fast-w"), 0, pictures, ""))
    assert sum(drawn) >= 16 and (seconds > 0).all()
    assert file.stat().st_mtime_ns == before and cache_dir() == tmp_path
    with empty_cache():
        assert cache_dir() != tmp_path and not list(cache_dir().iterdir())
    monkeypatch.delenv("STYLEGAN_INVERT_CACHE")
    usual = cache_dir()
    with pytest.raises(KeyboardInterrupt), empty_cache():
        raise KeyboardInterrupt
    assert cache_dir() == usual


def test_midpoints_of_true_codes_are_the_true_ones(study):
    net, *_ = study
    generator = base.find_gaussian(adapt(net.G), base.uncounted)
    _, z = generated_pictures(generator, 4, seed=3)
    true = generator.styles(Code("z", {"z": z}))
    runs = [{"styles": one.numpy()} for one in true]
    found = speed.midpoints(generator, runs, true, Projector(net, "w").reported[0]["lpips"])
    assert found["mid_lpips"] == pytest.approx([0, 0], abs=1e-6) and len(found["mid_prior"]) == 2
    assert 0 < found["mid_prior"][0] < 2


def test_a_network_without_w_is_compared_with_the_search_for_z(tmp_path, monkeypatch):
    """And so is any network with VGG16 in place of SqueezeNet, by the losses of its methods."""
    monkeypatch.setattr(samples, "COUNT", 16)
    net = si.load("faces64")
    results = speed.run(net, tmp_path / "out", generated=1, ways=["fast-z"], steps=2)
    assert set(results["sets"]["generated"]) == {"z", "fast-z"}
    assert not {"prior", "w", "mid_prior"} & set(results["sets"]["generated"]["z"])
    assert "| z, 2 steps |" in (tmp_path / "out" / "table.md").read_text()
    assert speed.way_of("fast-w", "a.pt").options == {"loss": "lpips-vgg=1,mse=5", "vgg16": "a.pt"}
    assert speed.Way("z", 5, True, "a.pt").options == {"steps": 5, "loss": "mse=1"}


def test_goals_that_are_not_reached():
    """They count as later than all others, and quartiles among them are not given."""
    fast = {"lpips": np.array([0.3, 0.2, 0.1, 0.05]), "psnr": np.array([9.0, 12.0, 10.0, 13.0])}
    official = {"lpips": np.array([0.5, 0.2]), "psnr": np.array([1.0, 13.0]), "fitted": np.float64(0.1)}
    assert speed.first_reached(fast, official, "saved") == 3  # at row 1 only the LPIPS is reached
    assert speed.first_reached(fast, official, "fitted") == 2
    assert speed.first_reached(fast, {**official, "fitted": np.float64(0.01)}, "fitted") is None
    assert speed.reached_quartiles([1.0, 2.0, 3.0, 4.0, 5.0], np.inf) == [2.0, 3.0, 4.0]
    assert speed.reached_quartiles([None, 2.0, 3.0, 4.0, None], np.inf) == [3.0, 4.0, None]
    assert speed.reached_quartiles([None, 2.0, 3.0, 4.0, None], -np.inf) == [None, 2.0, 3.0]
    assert speed.reached_quartiles([1.0, None], np.inf) == [None, None, None]
    values = [1.0, 5.0, 2.5, 7.0]
    assert speed.reached_quartiles(values, np.inf) == pytest.approx(base.quartiles(values))


def test_a_way_is_a_method_with_options():
    way = speed.way_of("v+:optimizer=lbfgs,prior-weight=1e-6,patience=none")
    assert way.options == {"optimizer": "lbfgs", "prior_weight": 1e-6, "patience": None} and way.steps == 1000
    assert way.file == "v+-optimizer-lbfgs-prior-weight-1e-6-patience-none"
    assert speed.way_of("fast-z:restarts=4,halvings=2,steps=9").steps == 9
    assert speed.way_of("fast-w")[:2] == ("fast-w", 100)


@pytest.mark.parametrize(
    "text, error",
    [
        ("de", "'de' takes no steps"),
        ("nothing", "'nothing' is unknown"),
        ("w:step=3", "'step=3': expected NAME=VALUE"),
        ("w:steps", "'steps': expected NAME=VALUE"),
        ("w:steps=3,steps=4", "'steps=4': expected NAME=VALUE, each name once"),
        ("w:steps=many", "'steps=many': expected an integer"),
        ("w:steps=0", "steps is 0; expected an integer"),
        ("fast-w:beta1=0.3", "beta1 has no effect here: the optimizer is not adam"),
        ("w:optimizer=newton", "optimizer is 'newton'; expected one of adam"),
    ],
)
def test_ways_that_are_refused(text, error):
    with pytest.raises(ValueError, match=re.escape(error)):
        speed.way_of(text)
