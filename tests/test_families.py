"""Every family of network files through the front door: opened, described, projected, converted."""
# Takes at most 18 CPU seconds.

import json

import numpy as np
import pytest
import test_biggan
import test_progan
import test_stylegan1
import test_stylegan3
import torch
from click.testing import CliRunner

import stylegan_invert as si
from stylegan_invert.cli.main import cli
from stylegan_invert.cli.official_projector import command as official_projector
from stylegan_invert.generator import Code, StyleAdapter, adapt, with_prior
from stylegan_invert.io.codes import read_codes
from stylegan_invert.projectors import samples
from stylegan_invert.projectors.classes import find_class
from stylegan_invert.projectors.objective import Objective

import strange
import tf_pickles
from conftest import make_network


def stylegan1(path):
    arguments = {**test_stylegan1.G_DEFAULTS, **test_stylegan1.TINY}
    values = test_stylegan1.drawn(test_stylegan1.g_shapes(arguments))
    parts = {"mapping": "G_mapping", "synthesis": "G_synthesis"}
    state = tf_pickles.network("G_style", test_stylegan1.TINY, values, 3, parts)
    arguments = {**test_stylegan1.D_DEFAULTS, **test_stylegan1.TINY_D}
    values = test_stylegan1.drawn(test_stylegan1.d_shapes(arguments))
    D = tf_pickles.network("D_basic", test_stylegan1.TINY_D, values, 3)
    return tf_pickles.dump(path / "net.pkl", (state, D, state))


def progan(path):
    state = test_progan.made("G", {"resolution": 16})
    return tf_pickles.dump(path / "net.pkl", (state, test_progan.made("D", {"resolution": 16}), state), module="tfutil")


def stylegan3(path):
    si.save(test_stylegan3.make("t"), path / "net.pkl")
    return path / "net.pkl"


def biggan(path):
    """Beside it lie its configuration and its discriminator."""
    torch.save(test_biggan.plain(), path / "G_ema_best0.pth")
    torch.save(test_biggan.plain_d(), path / "D_best0.pth")
    config = {"BN_eps": 1e-4, "SN_eps": 1e-6, "G_activation": torch.nn.ReLU(inplace=True)}
    torch.save({"config": config, "itr": 7}, path / "state_dict_best0.pth")
    return path / "G_ema_best0.pth"


def hugging_face(path):
    (path / "config.json").write_text(json.dumps(test_biggan.CONFIG))
    torch.save(
        test_biggan.hugging_face(), path / "pytorch_model.bin", _use_new_zipfile_serialization=False
    )  # as in 2019
    return path


FAMILIES = {
    "stylegan1": stylegan1, "stylegan3": stylegan3, "progan": progan, "biggan": biggan, "hugging_face": hugging_face,
}  # fmt: skip
FROM_Z = ("progan", "biggan", "hugging_face")


@pytest.fixture(scope="module", params=FAMILIES)
def opened(request, tmp_path_factory):
    """A family's name, its file, and what was read of it."""
    path = FAMILIES[request.param](tmp_path_factory.mktemp(request.param))
    return request.param, path, si.load(path)


def run(*arguments):
    result = CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def picture(net, seed=1):
    """A picture that the network made, (C, R, R) uint8, and its class."""
    generator = adapt(net.G)
    z = generator.prior.of_seed(seed, [1, *generator.code_shapes("z")["z"]])
    c = torch.eye(generator.c_dim)[2:3] if generator.c_dim else None
    with torch.no_grad():
        x = generator.render(si.Code("z", {"z": z}, c))
    return ((x[0] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()


def of_class(net):
    return {"class_idx": 2} if net.G.c_dim else {}


def test_info(opened):
    name, path, net = opened
    info = net.info
    assert info["family"] == {"hugging_face": "biggan-deep"}.get(name, name)
    assert isinstance(adapt(net.G), StyleAdapter) == (name not in FROM_Z)
    assert list(info["spaces"]) == (["z"] if name in FROM_Z else ["z", "w", "w+", "v", "v+"])
    assert json.loads(run("inspect", path, "--json")) == json.loads(json.dumps(info))
    assert info["noise_maps"] > 0 if name == "stylegan1" else not info.get("noise_maps")


def test_projection(opened):
    """By the methods that make sense for it: the distance falls, and the code renders to the picture."""
    name, _, net = opened
    target = picture(net) // 2 + 20
    methods = {"z": {"steps": 15}, "dense": {"steps": 5, "layer_steps": 20}}
    methods = methods if name in FROM_Z else {"w": {"steps": 15}, "w+": {"steps": 15}, "z": {"steps": 15}}
    for method, options in methods.items():
        if method in ("z", "dense"):
            options["optimizer"] = "adam"
        first, second = (si.project(net, target, method, loss="mse=1", **options, **of_class(net)) for _ in range(2))
        assert first.distance[-5:].mean() < first.distance[0], method
        assert torch.equal(first.image, second.image)


def test_the_default_gets_through(opened, tmp_path, monkeypatch):
    """The fast search; with w it is no farther from either target than the official one with as many evaluations."""
    monkeypatch.setenv("STYLEGAN_INVERT_CACHE", str(tmp_path))
    monkeypatch.setattr(samples, "COUNT", 64)
    name, _, net = opened
    found = strange.compare(net, steps=12)
    assert found["method"] == ("fast-dense" if name in FROM_Z else "fast-w+")
    assert np.isfinite(found["fast"]).all()
    if name not in FROM_Z:
        assert all(fast <= other * 1.001 + 1e-6 for fast, other in zip(found["fast"], found["other"]))


def test_v_space(opened):
    name, _, net = opened
    generator = adapt(net.G)
    if name in FROM_Z:
        with pytest.raises(ValueError, match="no W"):
            generator.gaussian()
        return
    w = generator.center("w")
    back = generator.convert(generator.convert(w, "v"), "w")
    torch.testing.assert_close(back.tensors["w"], w.tensors["w"], rtol=1e-3, atol=1e-3)


def test_the_official_command(opened, tmp_path):
    """It works with the official files written, or says what to use instead."""
    from stylegan_invert.media.pictures import write_png

    name, path, net = opened
    write_png(tmp_path / "t.png", picture(net))
    arguments = ["--network", path, "--target", tmp_path / "t.png", "--outdir", tmp_path / "out", "--num-steps", 3]
    arguments += ["--loss", "mse=1", "--save-video", "no", *(["--class", 2] if net.G.c_dim else [])]
    result = CliRunner().invoke(official_projector, [str(a) for a in arguments])
    if name in FROM_Z:
        assert result.exit_code == 1 and "this network has z; choose z or dense" in str(result.output) + str(
            result.exception
        )
        return
    assert result.exit_code == 0, result.output
    assert {"proj.png", "target.png", "projected_w.npz"} <= {p.name for p in (tmp_path / "out").iterdir()}
    assert np.load(tmp_path / "out" / "projected_w.npz")["w"].shape == (1, net.G.num_ws, net.G.w_dim)


def test_conversion(opened, tmp_path):
    """Safetensors hold every family, to the bit; official pickles those of StyleGAN2 and 3; the rest is refused by name."""
    name, path, net = opened
    text = run("convert", path, tmp_path / "a.safetensors")
    assert "largest difference 0.0e+00" in text
    again = si.load(tmp_path / "a.safetensors")
    for key in ("G_ema", "G", "D"):
        assert (net[key] is None) == (again[key] is None)
        if net[key] is not None:
            a, b = net[key].state_dict(), again[key].state_dict()
            assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a), key
    for target, word in (("b.pt", "rosinality"), ("b.pkl", "only those of StyleGAN2 and StyleGAN3")):
        if name == "stylegan3" and target == "b.pkl":
            run("convert", tmp_path / "a.safetensors", tmp_path / target)
            a, b = net.G.state_dict(), si.load(tmp_path / target).G.state_dict()
            assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
            continue
        result = CliRunner().invoke(cli, ["convert", str(path), str(tmp_path / target)])
        assert result.exit_code == 1 and word in str(result.output) + str(result.exception)
        assert not (tmp_path / target).exists()


def test_what_lies_beside_a_biggan(tmp_path):
    path = biggan(tmp_path)
    net = si.load(path)
    assert "eps 0.0001" in net.assumed and net.D(torch.zeros([2, 3, 16, 16]), torch.eye(5)[:2]).shape == (2, 1)
    assert "eps 0.01" in si.load(path, {"bn_eps": 0.01}).assumed
    assert "eps 0.01" in run("inspect", path, "--assume", "bn_eps=0.01")
    (tmp_path / "D_best0.pth").write_bytes(b"\x80")
    with pytest.raises(si.NetworkFileError, match="D_best0.pth"):
        _ = si.load(path).D
    (tmp_path / "state_dict_best0.pth").unlink()
    (tmp_path / "D_best0.pth").unlink()
    alone = si.load(path)
    assert alone.D is None and "eps 1e-05" in alone.assumed


@pytest.mark.parametrize(
    "assume, reason", [({"bn_epsilon": 1e-4}, "it accepts bn_eps, sn_eps"), ({"bn_eps": "small"}, "'small'; expected")]
)
def test_assumptions_are_checked(assume, reason, tmp_path):
    with pytest.raises(si.NetworkFileError, match=reason):
        si.load(biggan(tmp_path), assume)


def test_nothing_is_left_open_by_official_files(tmp_path):
    with pytest.raises(si.NetworkFileError, match="it accepts no such values"):
        si.load(stylegan3(tmp_path), {"bn_eps": 1e-4})


def test_networks_under_the_wrong_key(tmp_path):
    G, D = (test_progan.made(kind, {"resolution": 16}) for kind in "GD")
    tf_pickles.dump(tmp_path / "a.pkl", (G, G, G), module="tfutil")
    with pytest.raises(si.NetworkFileError, match="D: it is made by 'G_paper'; expected a discriminator"):
        _ = si.load(tmp_path / "a.pkl").D
    tf_pickles.dump(tmp_path / "b.pkl", (G, D, D), module="tfutil")
    with pytest.raises(si.NetworkFileError, match="G_ema: it is made by 'D_paper'; expected a generator"):
        si.load(tmp_path / "b.pkl")


@pytest.mark.parametrize("contents", ["", "{}", "[1", "[" * 200_000, '{"output_dim": 16}'])
def test_folders_that_are_none(contents, tmp_path):
    hugging_face(tmp_path)
    (tmp_path / "config.json").write_text(contents)
    with pytest.raises(si.NetworkFileError, match="not a configuration of pytorch-pretrained-BigGAN"):
        si.load(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(si.NetworkFileError, match="it is a directory"):
        si.load(tmp_path)


def test_arguments_of_safetensors_are_checked(tmp_path):
    run("convert", stylegan1(tmp_path), tmp_path / "a.safetensors")
    data = (tmp_path / "a.safetensors").read_bytes()
    for kind in (b"lrelu", b"exec0"):
        broken = data.replace(b'\\"activation\\": \\"lrelu\\"', b'\\"activation\\": \\"' + kind + b'\\"')
        (tmp_path / "b.safetensors").write_bytes(broken)
        if kind == b"lrelu":
            si.load(tmp_path / "b.safetensors")
            continue
        assert broken != data
        with pytest.raises(si.NetworkFileError, match="'exec0'; expected one of lrelu, relu"):
            si.load(tmp_path / "b.safetensors")


def test_truncation(tmp_path):
    """BigGAN's trick: entries beyond 2 are as if drawn again, then all are shrunk; and the statistics that belong to it."""
    path = hugging_face(tmp_path)
    generator = adapt(si.load(path).G)
    z = torch.randn([20000, 1], generator=torch.Generator().manual_seed(0))
    for psi in (0.4, 0.9999):
        short = generator.truncated(si.Code("z", {"z": z}), psi).tensors["z"]
        assert short.abs().max() <= 2 * psi + 1e-6 and torch.equal(short.argsort(dim=0), z.argsort(dim=0))
        kept = z[z.abs() <= 2]  # what drawing again leaves has the same distribution
        levels = torch.linspace(0.01, 0.99, 50)
        torch.testing.assert_close(short.flatten().quantile(levels), psi * kept.quantile(levels), rtol=0, atol=0.05)
    assert torch.equal(generator.truncated(si.Code("z", {"z": z}), 1).tensors["z"], z)
    pictures = []
    for more in ([], ["--trunc", 0.4], ["--trunc", 0.4, "--assume", "truncation=0.4"]):
        out = tmp_path / f"out{len(pictures)}"
        run("generate", "-n", path, "--seeds", 5, "--class", 1, "-o", out, *more)
        pictures.append((out / "seed0005.png").read_bytes())
    assert len(set(pictures)) == 3
    assert si.load(path, {"truncation": 0.4}).G.truncation == 0.4
    with pytest.raises(si.NetworkFileError, match="truncation is assumed to be 1.5; expected a number from 0 to 1"):
        si.load(path, {"truncation": 1.5})
    with pytest.raises(ValueError, match="is for codes in z"):
        generator.truncated(generator.center("f:linear", torch.eye(5)[:1]), 0.5)
    with pytest.raises(ValueError, match="no w to truncate"):
        adapt(si.load("faces64").G).truncated(si.Code("z", {"z": z}), 0.5)


# Classes


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    return si.load(biggan(tmp_path_factory.mktemp("classes")))


def test_a_class_is_found(classes):
    from stylegan_invert.losses import parse

    generator = adapt(classes.G)
    for wanted in (1, 3):
        c = torch.eye(5)[wanted : wanted + 1]
        with torch.no_grad():
            target = generator.render(si.Code("z", {"z": 0.3 * torch.ones([1, classes.G.z_dim])}, c))
        assert find_class(generator, Objective(generator, parse("mse=1"), target), 0) == wanted


def test_searched_and_relaxed_classes(classes):
    options = dict(method="z", loss="mse=1", optimizer="adam", steps=40)
    target = picture(classes)
    found = si.project(classes, target, class_idx="search", **options)
    assert found.record["options"]["class_found_by"] == "search"
    given = si.project(classes, target, class_idx=found.record["options"]["class"], **options)
    assert torch.equal(found.image, given.image)

    relaxed = si.project(classes, target, class_idx="relaxed", **options)
    c = relaxed.code.c
    assert c.shape == (1, 5) and torch.all(c > 0) and float(c.sum()) == pytest.approx(1) and c.max() > 0.25
    assert relaxed.distance[-1] < relaxed.distance[0]
    for other in ({"optimizer": "lbfgs"}, {"optimizer": "lbfgs-b", "clip": "standard", "bound": 0.5}):
        result = si.project(classes, target, class_idx="relaxed", **{**options, "steps": 10, **other})
        assert result.distance[-1] < result.distance[0]
        assert "bound" not in other or result.code.tensors["z"].abs().max() <= 0.5
    dense = si.project(classes, target, "dense", loss="mse=1", class_idx="relaxed", steps=10, layer_steps=10)
    assert dense.code.c.max() < 1


def test_a_relaxed_class_has_its_gradient(classes):
    from stylegan_invert.losses import parse
    from stylegan_invert.projectors import LatentOptions
    from stylegan_invert.projectors.search import evaluate
    from stylegan_invert.projectors.z import LatentSearch

    generator, loss = adapt(classes.G), parse("mse=1")
    target = torch.from_numpy(picture(classes))[None] / 127.5 - 1
    c = torch.full([1, 5], 0.2)
    objective = Objective(generator, loss, target)
    start = Code("z", {"z": torch.zeros([1, classes.G.z_dim])}, c)
    search = LatentSearch(generator, start, LatentOptions(class_vector="relaxed"))

    def value(rows):
        search.variables = [rows]
        return evaluate(search, objective)[0]

    rows = torch.randn([1, classes.G.z_dim + 5], generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    (slope,) = torch.autograd.grad(value(rows).sum(), rows)
    step = 1e-2 * torch.eye(rows.shape[1])[-3:-2]
    with torch.no_grad():
        change = (value(rows + step) - value(rows - step)) / 2e-2
    assert float(change) == pytest.approx(float(slope[0, -3]), rel=0.02)


@pytest.mark.parametrize(
    "method, class_idx, reason",
    [("z", None, "5 classes and none was given"), ("z", 7, "classes 0 ... 4"), ("z", "any", "'any' was given"),
     ("w", "relaxed", "does not search z"), ("w", "search", "works in w, and this network has z")],
)  # fmt: skip
def test_classes_that_make_no_sense(method, class_idx, reason, classes):
    with pytest.raises(ValueError, match=reason):
        si.project(classes, picture(classes), method, class_idx=class_idx, loss="mse=1", steps=2)


@pytest.mark.parametrize(
    "arguments, reason",
    [({"method": "dense", "class_idx": "relaxed", "first_step": "none"}, "as asked for does not search z"),
     ({"class_idx": "search", "batch": 0}, "batch is 0"), ({"class_idx": "search", "init": "none.npz"}, "no such file"),
     ({"class_idx": "search", "sequence": True}, "frames of a sequence")],
)  # fmt: skip
def test_everything_is_checked_before_a_class_is_searched(arguments, reason, classes, monkeypatch):
    monkeypatch.setattr("stylegan_invert.projectors.projector.find_class", lambda *a: pytest.fail("searched"))
    with pytest.raises(ValueError, match=reason):
        si.project(classes, [picture(classes)] * 2, **{"method": "z", "loss": "mse=1", **arguments})


def test_a_relaxed_class_has_no_prior_in_v():
    net = make_network(resolution=16, classes=3)
    with pytest.raises(ValueError, match="a relaxed class has no prior in V"):
        si.project(net, picture(net), "z", class_idx="relaxed", prior_weight=1e-4, loss="mse=1")


def test_a_relaxed_run_goes_on_where_it_was(classes, tmp_path):
    options = dict(method="z", loss="mse=1", optimizer="adam", steps=20, class_idx="relaxed")
    first = si.project(classes, picture(classes), **options)
    first.save(tmp_path)
    again = si.project(classes, picture(classes), init=tmp_path, **{**options, "steps": 1})
    assert float(again.distance[0]) == pytest.approx(float(first.distance[-1]), rel=1e-3)


@pytest.mark.parametrize("class_idx", ["search", "relaxed"])
def test_networks_without_classes(class_idx):
    net = make_network(resolution=16)
    with pytest.raises(ValueError, match="no classes"):
        si.project(net, torch.zeros([3, 16, 16], dtype=torch.uint8), "z", class_idx=class_idx, loss="mse=1", steps=2)


def test_another_class_of_an_inverted_picture(classes, tmp_path):
    """Pividori et al., Figure 12."""
    path = biggan(tmp_path)
    for method in ("z", "dense"):
        result = si.project(classes, picture(classes), method, class_idx=2, loss="mse=1", steps=3)
        result.save(tmp_path / method)
        code = read_codes(tmp_path / method / "projected_z.npz")
        assert torch.equal(code.c, torch.eye(5)[2:3])
        files = {}
        for wanted in (None, 2, 4):
            more = [] if wanted is None else ["--class", wanted]
            out = tmp_path / f"{method}-{wanted}"
            run("generate", "-n", path, "--projected-w", tmp_path / method / "projected_z.npz", "-o", out, *more)
            files[wanted] = (out / "proj00.png").read_bytes()
        assert files[None] == files[2] == (tmp_path / method / "proj.png").read_bytes() and files[4] != files[2]


def test_only_networks_from_z_have_a_prior_to_choose(opened):
    name, path, net = opened
    generator = adapt(net.G)
    if name in FROM_Z:
        assert with_prior(generator, "uniform").prior.family == "uniform"
        return
    with pytest.raises(ValueError, match="already say how z is drawn"):
        with_prior(generator, "uniform")
