"""Directions, edits along them, style mixing, groups of codes, and what codes are used for: against independent calculations."""
# Takes at most 12 CPU seconds.

import json
import os

import numpy as np
import pytest
import test_families
import torch

import stylegan_invert as si
from stylegan_invert.analysis import logistic
from stylegan_invert.analysis.detection import judged
from stylegan_invert.analysis.groups import read_group
from stylegan_invert.editing.assessor import PictureAssessor, assessed
from stylegan_invert.editing.finding import boundary, difference, keeping, pca, sefa
from stylegan_invert.editing.layer_names import named_layers, parse_layers
from stylegan_invert.editing.mixing import mixed
from stylegan_invert.errors import CodeFileError
from stylegan_invert.generator import Code, adapt, label
from stylegan_invert.generator.directions import Coordinates, moved, of_step
from stylegan_invert.io.codes import allow_foreign, write_code
from stylegan_invert.io.direction_file import (
    HEADER,
    find_direction,
    parse_applied,
    read_description,
    read_direction,
    write_direction,
)
from stylegan_invert.media.pictures import read_png

from conftest import make_network


@pytest.fixture(scope="module")
def generator():
    """A StyleGAN2 of 16x16 with six w of 8."""
    return adapt(make_network().G)


@pytest.fixture(scope="module")
def coordinates(generator):
    return Coordinates(generator)


def cosine(a, b):
    a, b = (np.asarray(x, np.float64).flatten() for x in (a, b))
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def leaky(x, slope=0.2):
    return np.where(x >= 0, x, slope * x)


# Directions


def test_a_step_in_v_is_taken_in_v_and_other_layers_stay(generator, coordinates):
    codes = coordinates.drawn(3, seed=1)
    step = np.linspace(-1, 1, 8)
    direction = of_step("test", "v", torch.from_numpy(step), generator, {})
    after = moved(generator, codes, direction, 1.5, [2, 5]).tensors["w"].numpy()
    w = codes.tensors["w"].numpy().astype(np.float64)
    expected = leaky(leaky(w, 5) + 1.5 * step)
    assert np.allclose(after[:, [2, 5]], expected[:, None], atol=1e-5)
    assert np.array_equal(after[:, [0, 1, 3, 4]], np.repeat(codes.tensors["w"].numpy()[:, None], 4, axis=1))
    assert moved(generator, codes, direction, 0) is codes


def test_one_strength_of_a_component_is_one_deviation_of_it(generator, coordinates):
    codes = coordinates.drawn(2000, seed=2)
    before = coordinates.of(codes)[:, 0]
    for i, direction in enumerate(pca(generator, [0, 1, 2])):
        after = coordinates.of(moved(generator, codes[:1], direction, 2))[0, 0]
        assert np.allclose(after - before[0], 2 * np.eye(8)[i], atol=1e-4)
    v = leaky(codes.tensors["w"].numpy().astype(np.float64), 5)
    values, axes = np.linalg.eigh(np.cov(v, rowvar=False))
    first = pca(generator, [0])[0]
    assert abs(cosine(first.vector, axes[:, -1])) > 0.98
    assert first.sigma == pytest.approx(values[-1] ** 0.5, rel=0.05)


@pytest.mark.parametrize("family", ["stylegan1", "stylegan3", "stylegan2"])
def test_modulation_weights_are_what_styles_take_from_each_w(family, tmp_path):
    G = make_network().G if family == "stylegan2" else si.load(test_families.FAMILIES[family](tmp_path)).G
    outputs = {}
    for name, module in G.synthesis.named_modules():
        if name.endswith((".affine", ".style")) and "torgb" not in name:
            module.register_forward_hook(lambda _, __, out, name=name: outputs.__setitem__(name, out.detach()))
    ws = G.mapping(torch.randn([1, G.z_dim], generator=torch.Generator().manual_seed(0)), None)
    step = torch.linspace(-1, 1, G.w_dim)
    with torch.no_grad():
        G.synthesis(ws)
        before, matrices = dict(outputs), G.synthesis.modulations()
        assert len(matrices) == G.num_ws
        for i, matrix in enumerate(matrices):
            changed = ws.clone()
            changed[:, i] += step
            G.synthesis(changed)
            differences = [
                outputs[name] - before[name] for name in before if not torch.equal(outputs[name], before[name])
            ]
            assert (matrix is None) == (not differences)
            for difference in differences:
                assert torch.allclose(difference[0], matrix @ step, atol=1e-4)


def test_sefa_is_the_singular_vectors_of_the_weights(generator):
    G = generator.network
    layers = [G.synthesis.b8.conv0, G.synthesis.b8.conv1]  # the layers 1 and 2
    stacked = np.concatenate([layer.affine.weight.numpy() for layer in layers])
    _, _, vectors = np.linalg.svd(stacked)
    found = sefa(generator, [0, 3], layers=[1, 2])
    assert [abs(cosine(one.vector, vectors[i])) for one, i in zip(found, (0, 3))] == pytest.approx([1, 1], abs=1e-5)
    w = Coordinates(generator).drawn(10_000, 5).tensors["w"].numpy()
    assert found[0].sigma == pytest.approx((w @ found[0].vector.numpy()).std(), rel=0.05)
    assert found[0].layers == (1, 2) and found[0].space == "w"


def test_sefa_of_a_network_from_z_is_that_of_its_first_layer():
    faces = adapt(si.load("faces64").G)
    weight = faces.network.dense.weight.detach().double()
    weight = weight.flatten(1) if weight.shape[0] == faces.network.z_dim else weight.flatten(1).t()
    _, _, vectors = np.linalg.svd(weight.t().numpy(), full_matrices=False)
    (found,) = sefa(faces, [0])
    assert (
        abs(cosine(found.vector, vectors[0])) > 0.9999
        and found.space == "z"
        and found.sigma == pytest.approx(1, abs=0.05)
    )
    code = Coordinates(faces).drawn(1, 0)
    after = moved(faces, code, found, 2.0).tensors["z"]
    assert torch.allclose(after - code.tensors["z"], 2 * found.step[None])
    with pytest.raises(ValueError, match="no W"):
        pca(faces, [0])


def labelled(coordinates, axis=1, count=60):
    """Two groups of codes on both sides of 0 on an axis of whitened V."""
    codes = coordinates.drawn(400, seed=3)
    order = coordinates.of(codes)[:, 0, axis].argsort()
    return [Code("w", {"w": codes.tensors["w"][rows]}) for rows in (order[-count:], order[:count])]


def test_a_boundary_finds_the_axis_on_which_groups_differ(generator, coordinates):
    plus, minus = labelled(coordinates)
    direction, right = boundary(coordinates, plus, minus)
    change = (coordinates.of(moved(generator, plus[:1], direction, 1)) - coordinates.of(plus[:1]))[0, 0]
    assert right > 0.95 and cosine(change, np.eye(8)[1]) > 0.95
    assert float(change.norm()) == pytest.approx(1, abs=1e-4)  # one deviation of the network's own codes
    half = [Code("w", {"w": plus.tensors["w"][i::2]}) for i in (0, 1)]
    assert boundary(coordinates, *half)[1] < 0.75  # the same kind of codes on both sides
    with pytest.raises(ValueError, match="has 2 classes|two classes"):
        boundary(coordinates, plus, minus[:1])


def test_kept_directions_measure_nothing_of_a_step(generator, coordinates):
    first = boundary(coordinates, *labelled(coordinates, axis=0))[0]
    codes = labelled(coordinates, axis=0)
    tilted = [Code("w", {"w": c.tensors["w"]}) for c in (codes[0], labelled(coordinates, axis=1)[1])]
    other = boundary(coordinates, *tilted)[0]
    before = cosine(coordinates.along(first.step), coordinates.along(other.step))
    kept = keeping(coordinates, first, [other], "kept")
    assert before > 0.3 and abs(cosine(coordinates.along(kept.step), coordinates.along(other.step))) < 1e-5
    assert float(coordinates.along(kept.step).norm()) == pytest.approx(1, abs=1e-4)
    with pytest.raises(ValueError, match="nothing is left"):
        keeping(coordinates, first, [other, first], "none")


def test_means_are_added_in_v_layer_by_layer(generator):
    w = torch.randn([5, 6, 8], generator=torch.Generator().manual_seed(4))
    a, b, c = (Code("w+", {"w": part}) for part in w.split([2, 2, 1]))
    after = moved(generator, c, difference(generator, a, b), 1).tensors["w"].numpy()
    v = [leaky(x.tensors["w"].numpy().astype(np.float64), 5) for x in (a, b, c)]
    assert np.allclose(after, leaky(v[0].mean(0) - v[1].mean(0) + v[2]), atol=1e-5)
    with pytest.raises(ValueError, match="points nowhere"):
        difference(generator, a, a)


def test_an_assessor_of_brightness_is_followed(generator, coordinates):
    direction, measured = assessed(coordinates, lambda x: x.mean(dim=[1, 2, 3]), steps=20, lr=0.1)
    codes = coordinates.drawn(20, 99)
    with torch.no_grad():
        low, high = (generator.render(moved(generator, codes, direction, s)).mean(dim=[1, 2, 3]) for s in (-1, 1))
    assert (high > low).float().mean() >= 0.9 and measured["rising"] >= 0.9 and measured["raises"] > 0.3
    with pytest.raises(ValueError, match="the same score"):
        assessed(coordinates, lambda x: x.sum(dim=[1, 2, 3]) * 0)


def test_two_groups_of_pictures_make_an_assessor():
    random = np.random.RandomState(0)
    light, dark = (torch.from_numpy(random.randint(a, a + 60, [12, 3, 32, 32]).astype(np.uint8)) for a in (180, 20))
    made = PictureAssessor([light], [dark])
    assert made.held_out_accuracy == 1
    x = torch.full([1, 3, 32, 32], 0.3, requires_grad=True)
    made(x).sum().backward()
    assert x.grad.abs().sum() > 0


def test_codes_at_a_layer_keep_their_displacement():
    faces = adapt(si.load("faces64").G)
    z = Coordinates(faces).drawn(1, 7)
    at_layer = faces.convert(z, "f:dense")
    beyond = torch.randn(at_layer.tensors["h"].shape, generator=torch.Generator().manual_seed(0))
    code = Code("f:dense", {**at_layer.tensors, "h": at_layer.tensors["h"] + beyond})
    direction = sefa(faces, [1])[0]
    after = moved(faces, code, direction, 3)
    expected = faces.convert(moved(faces, z, direction, 3), "f:dense").tensors["h"] + beyond
    assert torch.allclose(after.tensors["h"], expected, atol=1e-4)


@pytest.mark.parametrize("family", ["biggan", "progan", "stylegan3", "stylegan1"])
def test_every_family_has_directions(family, tmp_path):
    net = adapt(si.load(test_families.FAMILIES[family](tmp_path)).G)
    c = label(net.c_dim, 1) if net.c_dim else None
    code = Coordinates(net, c).drawn(1, 0)
    direction = sefa(net, [0], c=c)[0]
    with torch.no_grad():
        pictures = [net.render(moved(net, code, direction, s)) for s in (0, 2)]
    assert float((pictures[0] - pictures[1]).abs().mean()) > 1e-4


# Layers and mixing


def test_layers_by_name():
    assert [list(r) for r in named_layers(18).values()] == [[0, 1, 2, 3], [4, 5, 6, 7], list(range(8, 18))]
    assert sorted(i for r in named_layers(6).values() for i in r) == list(range(6))
    assert parse_layers("coarse,8,0-1", 18) == [0, 1, 2, 3, 8] and parse_layers("all", 3) == [0, 1, 2]
    for text in ("corse", "3-1", "0-18", "", "-1", "1.5"):
        with pytest.raises(ValueError, match="are unknown; expected coarse, middle, fine"):
            parse_layers(text, 18)


def test_mixing_takes_the_named_layers_of_the_other_code(generator, coordinates):
    a, b = coordinates.drawn(2, 5)
    got = mixed(generator, a, b, [0, 4]).tensors["w"][0]
    for i in range(6):
        assert torch.equal(got[i], (b if i in (0, 4) else a).tensors["w"][0])
    with pytest.raises(ValueError, match="no w for each layer"):
        mixed(adapt(si.load("faces64").G), a, b, [0])


# Files


def a_direction(generator, **changes):
    one = of_step("smile", "v", torch.linspace(-1, 1, 8), generator, {"way": "test"}, [1, 2])
    return type(one)(**{**vars(one), **changes})


def test_a_direction_is_read_as_it_was_written(generator, tmp_path):
    written = a_direction(generator)
    write_direction(tmp_path / "d.safetensors", written)
    for got in (read_direction(tmp_path / "d.safetensors", generator), read_description(tmp_path / "d.safetensors")):
        assert torch.equal(got.vector, written.vector)
        assert {k: v for k, v in vars(got).items() if k != "vector"} == {
            k: v for k, v in vars(written).items() if k != "vector"
        }


def test_a_direction_serves_a_tuned_copy_and_no_other_network(generator, tmp_path):
    write_direction(tmp_path / "d.safetensors", a_direction(generator))
    tuned, other = make_network().G, make_network().G
    with torch.no_grad():
        tuned.synthesis.b8.conv0.weight.add_(0.1)
        other.mapping.fc0.weight.add_(0.1)
    read_direction(tmp_path / "d.safetensors", adapt(tuned))
    with pytest.raises(CodeFileError, match="'smile' is of another network.*--foreign-codes"):
        read_direction(tmp_path / "d.safetensors", adapt(other))
    allow_foreign(True)
    read_direction(tmp_path / "d.safetensors", adapt(other))
    allow_foreign(False)
    for stranger in (adapt(si.load("cats32").G), adapt(si.load("faces64").G)):
        with pytest.raises(CodeFileError, match="shape|does not have"):
            read_direction(tmp_path / "d.safetensors", stranger)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"vector": torch.full([8], float("nan"))}, "nan or infinite"),
        ({"vector": torch.ones(8)}, "length 2.8"),
        ({"vector": torch.ones(8, dtype=torch.float64) / 8**0.5}, "float64"),
        ({"vector": torch.ones([1, 1, 1, 1])}, "shape"),
        ({"sigma": -1.0}, "sigma is -1"),
        ({"layers": (99,)}, "layer 99"),
        ({"space": "v+"}, "space"),
        ({"name": ""}, "name"),
        ({"made": {"x": float("inf")}}, "finite"),
    ],
)
def test_damaged_directions_are_refused_in_one_sentence(generator, tmp_path, change, expected):
    write_direction(tmp_path / "d.safetensors", a_direction(generator, **change))
    with pytest.raises(CodeFileError, match=expected) as e:
        read_direction(tmp_path / "d.safetensors", generator)
    assert "\n" not in str(e.value) and "d.safetensors" in str(e.value)


def test_other_files_are_no_directions(generator, tmp_path):
    import safetensors.torch

    for metadata, tensors in (({}, "vector"), ({HEADER: "[]"}, "vector"), ({HEADER: "{"}, "vector")):
        safetensors.torch.save_file({tensors: torch.ones(8)}, tmp_path / "d.safetensors", metadata)
        with pytest.raises(CodeFileError):
            read_direction(tmp_path / "d.safetensors", generator)
    (tmp_path / "x.safetensors").write_bytes(b"no such thing")
    with pytest.raises(CodeFileError, match="is not a safetensors file"):
        read_direction(tmp_path / "x.safetensors", generator)


def test_what_is_applied_is_read():
    assert parse_applied("a/smile.safetensors:+2") == ("a/smile.safetensors", 2.0, None)
    assert parse_applied("a:b.safetensors:-.5:0-3,fine") == ("a:b.safetensors", -0.5, "0-3,fine")
    assert parse_applied("smile.safetensors") == ("smile.safetensors", 1.0, None)
    assert parse_applied("cats64-de/light:3") == ("cats64-de/light", 3.0, None)
    for text in ("smile.safetensors:two", "smile.safetensors:nan", "x:1e9", ":2", "x::middle", "x:inf"):
        with pytest.raises(ValueError, match="its strength is"):
            parse_applied(text)


def test_shipped_directions_belong_to_their_network():
    net = adapt(si.load("cats64-de").G)
    for name in ("light", "warm", "turned"):
        assert read_direction(find_direction(f"cats64-de/{name}"), net).made["way"] == "boundary"
    light = read_direction(find_direction("cats64-de/light"), net)
    code = Code("z", {"z": net.prior.of_seed(3, [1, net.network.z_dim])})
    with torch.no_grad():
        dark, bright = (net.render(moved(net, code, light, s))[:, :, 20:56, 16:48].mean() for s in (-2, 2))
    assert bright > dark + 0.3


# Statistics


def test_logistic_regression_is_at_its_minimum_and_weighs_classes_alike():
    random = np.random.RandomState(0)
    x = random.randn(40, 5)
    labels = x[:, 0] + random.randn(40) > 0.8
    got = logistic.fit(x, labels, ridge=0.7)

    def loss(weights, bias):
        margin = np.where(labels, 1, -1) * (x @ weights + bias)
        each = np.log1p(np.exp(-margin))
        return 20 * (each[labels].mean() + each[~labels].mean()) + 0.35 * (weights**2).sum()

    least = loss(*got)
    for change in random.randn(50, 6) * 0.01:
        assert loss(got.weights + change[:5], got.bias + change[5]) > least


def test_the_area_under_the_curve_counts_pairs():
    scores, labels = np.array([1.0, 2, 2, 3, 0]), np.array([False, False, True, True, True])
    assert logistic.auc(scores, labels) == pytest.approx((1 + 0.5 + 1 + 1 + 0 + 0) / 6)
    false, true = logistic.roc(scores, labels)
    assert np.trapezoid(true, false) == pytest.approx(logistic.auc(scores, labels))
    noise = np.random.RandomState(1).randn(100, 30)
    held_out = logistic.held_out_scores(noise, np.arange(100) < 50)
    assert (
        0.3 < logistic.auc(held_out, np.arange(100) < 50) < 0.7
    )  # with 30 numbers to fit, their own rows would be told apart


def test_detection_tells_what_can_be_told():
    random = np.random.RandomState(0)
    real, own = (np.exp(random.randn(20, 2) * 0.3 + [gap, 0]) for gap in (0, -3))
    report = judged(real, own, np.array([[np.exp(-3), 1], [1, 1]]))
    assert report["auc"]["gap"] == 1 and report["auc"]["both"] == 1 and 0.2 < report["auc"]["prior"] < 0.8
    assert report["drawn"][0] > 0.9 and report["drawn"][1] < 0.1
    with pytest.raises(ValueError, match="3 real"):
        judged(real[:3], own, real[:0])


# Commands


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with a network, two directions of it, and two groups of results."""
    folder = tmp_path_factory.mktemp("editing")
    net = make_network()
    si.save(net, folder / "net.pkl")
    net = si.load(folder / "net.pkl")
    generator = adapt(net.G)
    for i, one in enumerate(pca(generator, [0, 1])):
        write_direction(folder / f"d{i}.safetensors", one)
    coordinates = Coordinates(generator)
    random = np.random.RandomState(0)
    for group in ("real", "own"):
        pictures = [random.randint(256, size=[3, 16, 16]).astype(np.uint8) for _ in range(4)]
        if group == "own":
            with torch.no_grad():
                x = generator.render(coordinates.drawn(4, 8))
            pictures = list(((x + 1) * 127.5).clamp(0, 255).to(torch.uint8).numpy())
        for i, result in enumerate(si.project(net, pictures, "w", steps=2, loss="mse=1")):
            result.save(folder / group / f"r{i}")
    os.makedirs(folder / "empty")
    os.makedirs(folder / "seeds")
    for seed in (3, 5):
        (folder / "seeds" / f"seed{seed:04d}.png").write_bytes(b"")
    return folder


def test_edit_writes_pictures_video_and_codes_that_render_again(cli, workplace, tmp_path):
    out, at = tmp_path / "out", lambda name: workplace / name
    arguments = ["edit", "seed:3", "-n", at("net.pkl"), "-o", out, "--frames", 3, "--grid", "--video", "-q"]
    arguments += ["--apply", f"{at('d0.safetensors')}:+2", "--apply", f"{at('d1.safetensors')}:-1.5:coarse,3"]
    arguments += ["--mix", "seed:4:fine", "--plus", at("real"), "--minus", at("own")]
    assert cli(*arguments) == (0, "", "")
    names = ["edit.mp4", "edited.png", "grid.png", "projected_w.npz", "strip.npz", "strip.png"]
    assert sorted(os.listdir(out)) == names
    for file, again in (("projected_w.npz", "again"), ("strip.npz", "strips")):
        assert cli("generate", "-n", at("net.pkl"), "--projected-w", out / file, "-o", tmp_path / again, "-q")[0] == 0
    edited = (out / "edited.png").read_bytes()
    assert (tmp_path / "again" / "proj00.png").read_bytes() == edited
    assert (tmp_path / "strips" / "proj02.png").read_bytes() == edited
    assert cli(*arguments)[0] == 0  # a second time into the same folder


def test_a_photograph_is_edited_in_one_line(cli, workplace, picture, tmp_path):
    code, _, err = cli(
        "edit", picture, workplace / "real" / "r0", "-n", workplace / "net.pkl", "-o", tmp_path / "out",
        "--apply", f"{workplace / 'd0.safetensors'}:+2",
    )  # fmt: skip
    assert code == 0, err
    first = tmp_path / "out" / "picture"
    assert sorted(os.listdir(first)) == ["edited.png", "projected_w.npz", "projection", "strip.npz", "strip.png"]
    assert (first / "projection" / "result.json").exists()
    assert read_png(tmp_path / "out" / "r0" / "edited.png").shape == (3, 16, 16)


def test_a_photograph_is_edited_with_a_network_that_is_tuned_to_it(cli, workplace, picture, tmp_path):
    """The edited code, rendered by the tuned network, is the edited picture; the original network draws another."""
    apply = ["--apply", f"{workplace / 'd0.safetensors'}:+2"]
    out, tuned = tmp_path / "out", tmp_path / "out" / "projection" / "tuned.pkl"
    code, _, err = cli("edit", picture, "-n", workplace / "net.pkl", "-o", out, *apply, "--tune", 2)
    assert code == 0, err
    pictures = []
    for net in (tuned, workplace / "net.pkl"):
        assert (
            cli("generate", "-n", net, "--projected-w", out / "projected_w.npz", "-o", tmp_path / "again", "-q")[0] == 0
        )
        pictures.append((tmp_path / "again" / "proj00.png").read_bytes())
    assert pictures[0] == (out / "edited.png").read_bytes() != pictures[1]
    code, _, err = cli("edit", "seed:1", "-n", workplace / "net.pkl", "-o", out, *apply, "--tune")
    assert code == 2 and "--tune is for photographs, and seed:1 is no file of a picture" in err


def test_directions_are_found_listed_and_renamed(cli, workplace, tmp_path):
    net = workplace / "net.pkl"
    for way in ("pca", "sefa"):
        options = ["--components", "0-1", "--layers", "0-2", "-o", tmp_path / way, "-q"]
        assert cli("directions", way, "-n", net, *options)[0] == 0
        assert sorted(os.listdir(tmp_path / way)) == [f"{way}00.safetensors", f"{way}01.safetensors", "sheet.png"]
    file = tmp_path / "pca" / "pca01.safetensors"
    assert cli("directions", "rename", file, "less ß") == (0, "", "")
    rows = json.loads(cli("directions", "list", tmp_path / "pca", "--json")[1])
    assert [row["name"] for row in rows] == ["component 0 of V", "less ß"] and rows[1]["layers"] == [0, 1, 2]
    assert "lighter fur" in cli("directions", "list")[1]
    groups = [workplace / "real", workplace / "own"]
    code, out, err = cli(
        "directions", "boundary", *groups, "-n", net, "-o", tmp_path / "b.safetensors", "--name", "real"
    )
    assert code == 0 and "accuracy on held-out codes" in out, err
    means = cli("directions", "means", workplace / "seeds", groups[1], "-n", net, "-o", tmp_path / "m.safetensors")
    assert means[0] == 0 and "2 and 4 codes" in means[2]
    files = [tmp_path / "b.safetensors", workplace / "d0.safetensors"]
    assert cli("directions", "keep", *files, "-n", net, "-o", tmp_path / "k.safetensors", "-q")[0] == 0
    assert read_description(tmp_path / "k.safetensors").made["keeps"] == ["component 0 of V"]


class Brightness(torch.nn.Module):
    def forward(self, x):
        return x.mean(dim=[1, 2, 3])


def test_a_program_assesses_only_if_it_may_run(cli, workplace, tmp_path):
    torch.jit.save(torch.jit.script(Brightness()), tmp_path / "a.pt")
    arguments = ["directions", "assessor", "-n", workplace / "net.pkl", "-o", tmp_path / "a.safetensors", "--steps", 3]
    code, out, err = cli(*arguments, "--assessor", tmp_path / "a.pt")
    assert code == 1 and "--run-torchscript" in err and out == ""
    code, out, err = cli(*arguments, "--assessor", tmp_path / "a.pt", "--run-torchscript")
    assert code == 0 and "held-out codes" in out, err


def test_mix_makes_the_official_table(cli, workplace, tmp_path):
    arguments = [
        "mix",
        "-n",
        workplace / "net.pkl",
        "--row",
        "seed:1",
        "--row",
        workplace / "real" / "r1",
        "--col",
        "seed:2",
    ]
    assert cli(*arguments, "--styles", "0-3", "-o", tmp_path / "out", "-q") == (0, "", "")
    assert sorted(os.listdir(tmp_path / "out")) == ["0-0.png", "1-0.png", "codes.npz", "grid.png"]
    assert read_png(tmp_path / "out" / "grid.png").shape == (3, 3 * 128 + 16, 2 * 128 + 8)


def test_codes_are_found_again_explained_and_judged(cli, workplace, tmp_path):
    net, real, own = (workplace / name for name in ("net.pkl", "real", "own"))
    found = json.loads(cli("nearest", real / "r2", real, "-n", net, "--json", "-o", tmp_path, "-q")[1])
    assert found[0] == {"result": str(real / "r2"), "distance": 0.0} and len(found) == 4
    assert [row["distance"] for row in found] == sorted(row["distance"] for row in found)
    code, out, err = cli("explain", real, "-n", net, "--reference", own, "-o", tmp_path / "explained", "-q")
    report = json.loads((tmp_path / "explained" / "explain.json").read_text())
    errors = [row["error"] for row in report["results"]]
    assert code == 0 and errors == sorted(errors, reverse=True) and report["missed"] == 1.0 and "(missed)" in out
    code, out, err = cli("detect", own, "-n", net, "--real", real, "--generated", own, "-o", tmp_path / "d", "-q")
    report = json.loads((tmp_path / "d" / "detect.json").read_text())
    assert code == 0 and report["auc"]["gap"] == 1 and len(report["results"]) == 4 and "AUC" in out, err
    assert sorted(os.listdir(tmp_path / "d")) == ["detect.json", "roc.png"]


def test_wrong_input_is_one_sentence(cli, workplace, tmp_path):
    at = {name: str(workplace / name) for name in ("net.pkl", "d0.safetensors", "real", "own", "empty", "seeds")}
    edit = ["edit", "seed:1", "-n", at["net.pkl"], "-o", tmp_path / "out"]
    base = ["-n", at["net.pkl"], "-o", tmp_path / "out"]
    cases = [
        ([*edit, "--apply", f"{at['d0.safetensors']}:much"], "its strength is 'much'"),
        ([*edit, "--apply", f"{at['d0.safetensors']}:1:corse"], "the layers 'corse' are unknown"),
        ([*edit, "--apply", "nothing.safetensors:1"], "there is no such file"),
        (
            ["edit", "seed:1", "-n", "cats32", "-o", tmp_path / "out", "--apply", at["d0.safetensors"]],
            "another network|shape",
        ),
        (["edit", "seed:1", "-n", "faces64", "-o", tmp_path / "out", "--mix", "seed:2:coarse"], "one latent"),
        ([*edit, "--plus", at["real"], "--minus", at["empty"]], "the group is empty"),
        ([*edit, "--plus", at["real"]], "go together"),
        ([*edit, "--mix", "seed:2"], "expected CODE:LAYERS"),
        (edit, "at least one --apply"),
        ([*edit, "--apply", at["d0.safetensors"], "--grid"], "--grid shows two"),
        (["directions", "boundary", at["real"], f"{at['real']}/r0", *base], "two classes"),
        (["directions", "means", at["real"], at["real"], *base], "points nowhere"),
        (["directions", "pca", "--components", "0-20", *base], "component 8"),
        (["directions", "pca", "--components", "two", *base], "expected numbers"),
        (["directions", "sefa", "--layers", "5", *base], "no modulation weights"),
        (["directions", "assessor", *base], "Give either"),
        (["nearest", "seed:1", at["empty"], "-n", at["net.pkl"]], "no results"),
        (["explain", at["empty"], *base], "no results"),
        (["detect", "--real", f"{at['real']}/r0", "--generated", at["own"], *base], "1 real and 4 generated"),
        (["mix", "--row", "seed:1", "--col", "seed:x", *base], "seed:N"),
        (["directions", "list", at["empty"]], "no directions"),
    ]
    for arguments, expected in cases:
        code, out, err = cli(*arguments)
        lines = [line for line in err.splitlines() if line.startswith("Error: ")]
        assert code != 0 and out == "" and len(lines) == 1 and "Traceback" not in err, arguments
        assert any(part in " ".join(err.split()) for part in expected.split("|")), (expected, err)
        assert not (tmp_path / "out").exists()


def test_results_made_in_different_ways_are_not_compared(cli, workplace, tmp_path):
    net = si.load(workplace / "net.pkl")
    si.project(net, np.zeros([3, 16, 16], np.uint8), "w", steps=1, loss="mse=1").save(tmp_path / "other" / "x")
    code, _, err = cli(
        "explain",
        workplace / "real",
        "-n",
        workplace / "net.pkl",
        "--reference",
        tmp_path / "other",
        "-o",
        tmp_path / "o",
    )
    assert code == 1 and "their options differ" in err


def test_pictures_of_generate_stand_for_their_seeds(generator, workplace, tmp_path):
    got = read_group(workplace / "seeds", generator)
    z = torch.cat([generator.prior.of_seed(seed, [1, 8]) for seed in (3, 5)])
    assert torch.equal(got.tensors["w"], generator.convert(Code("z", {"z": z}), "w+").tensors["w"])
    write_code(tmp_path, got, generator, "many.npz")
    assert len(read_group(tmp_path / "many.npz", generator)) == 2
