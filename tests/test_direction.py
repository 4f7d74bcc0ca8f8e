"""Direction embedding: coordinates, loss, head, file, and inversion with it."""
# Takes at most 8 CPU seconds.

import json
import math

import numpy as np
import pytest
import scipy.stats
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import stylegan_invert as si
from stylegan_invert.cli.main import cli
from stylegan_invert.generator import adapt
from stylegan_invert.media.pictures import write_png
from stylegan_invert.network_files.convert import convert
from stylegan_invert.networks.direction import (
    DirectionDiscriminator,
    angle_degrees,
    angles_to_z,
    cartesian_to_spherical,
    embedding_loss,
    latent_weights,
    nearest_normalized,
    spherical_to_cartesian,
    z_to_angles,
)
from stylegan_invert.networks.discriminators import Discriminator
from stylegan_invert.ops import normalize_2nd_moment
from stylegan_invert.projectors import METHODS, Method
from stylegan_invert.studies.direction import read_ways

from conftest import make_direction_network, make_network
from support import load_npz


def pictures(n, size=16, seed=0):
    return torch.rand([n, 3, size, size], generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_the_papers_example():
    """Cho, section 3: the coordinates of an 8-dimensional point, from the angles in the order of the tree's levels."""
    angles = torch.rand([5, 7], dtype=torch.float64) * (math.pi / 2)
    root, a0, a1, a00, a01, a10, a11 = angles.t()
    sin, cos = torch.sin, torch.cos
    expected = [
        sin(root) * sin(a0) * sin(a00), sin(root) * sin(a0) * cos(a00), sin(root) * cos(a0) * sin(a01), sin(root) * cos(a0) * cos(a01),
        cos(root) * sin(a1) * sin(a10), cos(root) * sin(a1) * cos(a10), cos(root) * cos(a1) * sin(a11), cos(root) * cos(a1) * cos(a11),
    ]  # fmt: skip
    torch.testing.assert_close(spherical_to_cartesian(angles), torch.stack(expected, dim=1), rtol=0, atol=1e-15)
    torch.testing.assert_close(cartesian_to_spherical(torch.stack(expected, dim=1)), angles)


def tree_by_hand(angles):
    """The definition, node by node: children 2k + 1 (sine) and 2k + 2 (cosine), leaves n - 1 to 2n - 2."""
    n = len(angles) + 1
    value = {0: 1.0}
    for k in range(n - 1):
        value[2 * k + 1] = value[k] * math.sin(angles[k])
        value[2 * k + 2] = value[k] * math.cos(angles[k])
    return [value[k] for k in range(n - 1, 2 * n - 1)]


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 70), st.integers(0, 2**31))
def test_coordinates_are_the_trees(n, seed):
    angles = torch.rand([2, n - 1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * (math.pi / 2)
    expected = torch.tensor([tree_by_hand(row.tolist()) for row in angles], dtype=torch.float64)
    torch.testing.assert_close(spherical_to_cartesian(angles), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("n", [2, 3, 4, 100, 127, 128, 129, 513, 1000, 2049, 4096])
def test_norm_and_round_trip_in_float32(n):
    random = torch.Generator().manual_seed(n)
    for angles in (
        torch.rand([200, n - 1], generator=random) * (math.pi / 2),
        z_to_angles(torch.randn([200, n - 1], generator=random)),
    ):
        x = spherical_to_cartesian(angles)
        assert x.shape == (200, n) and x.min() >= 0
        assert (x.double().norm(dim=1) - 1).abs().max() <= 1e-6
        assert (cartesian_to_spherical(x) - angles).abs().max() <= 1e-5
        assert (cartesian_to_spherical(x * 1e-3) - angles).abs().max() <= 1e-5  # any length


@pytest.mark.parametrize("n", [3, 128, 4096])
@pytest.mark.parametrize("scale", [0.0, 1.0, 10.0, 1000.0])
def test_values_and_gradients_stay_finite_at_the_clamps(n, scale):
    z = (torch.randn([4, n - 1], generator=torch.Generator().manual_seed(0)).sign() * scale).requires_grad_(True)
    x = spherical_to_cartesian(z_to_angles(z, normalize=False))
    back = angles_to_z(cartesian_to_spherical(x))
    target = spherical_to_cartesian(torch.full([4, n - 1], 0.3))
    (back.sum() + embedding_loss(x, target).sum()).backward()
    for values in (x, back, z.grad):
        assert torch.isfinite(values).all()


def test_latents_and_angles_are_inverse():
    z = torch.randn([50, 127], generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(angles_to_z(z_to_angles(z, normalize=False)), z, rtol=0, atol=2e-3)
    torch.testing.assert_close(angles_to_z(z_to_angles(z)), normalize_2nd_moment(z), rtol=0, atol=2e-3)
    torch.testing.assert_close(z_to_angles(z * 7), z_to_angles(z))  # what a network that normalises z cannot know
    assert z_to_angles(torch.tensor([[-99.0, 99.0]]), normalize=False).flatten().tolist() == pytest.approx(
        [1e-6 * math.pi / 2, (1 - 1e-6) * math.pi / 2]
    )


@pytest.mark.parametrize("length", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("d", [1, 7, 127])
def test_the_nearest_normalized_latents(d, length):
    """No other latents of that length are nearer, in the measure in which entries move the point on the sphere."""
    random = torch.Generator().manual_seed(d)
    z = length * normalize_2nd_moment(torch.randn([6, d], generator=random))
    x = nearest_normalized(z)
    torch.testing.assert_close(x.square().mean(dim=1), torch.ones(6))
    weights = latent_weights(d)

    def cost(candidate):
        return ((candidate - z) * weights).square().sum(dim=1)

    for near in (0.01, 0.1, 1.0):
        for _ in range(50):
            other = x + near * torch.randn([6, d], generator=random)
            other = other / other.square().mean(dim=1, keepdim=True).sqrt()
            assert (cost(x) <= cost(other) + 1e-5).all()
    if length == 1:
        torch.testing.assert_close(x, z, rtol=1e-4, atol=1e-5)
    assert torch.isfinite(nearest_normalized(torch.zeros([2, d]))).all()


def test_embedding_loss_is_the_tangent_of_the_angle():
    a, b = (torch.rand([20, 9], dtype=torch.float64) for _ in range(2))
    a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    torch.testing.assert_close(embedding_loss(a, b), torch.tan(torch.arccos((a * b).sum(1))), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(angle_degrees(a, b), torch.rad2deg(torch.arccos((a * b).sum(1))))
    same = a.clone().requires_grad_(True)
    embedding_loss(same, a).sum().backward()
    assert torch.isfinite(same.grad).all()


def test_random_and_constant_angles_are_those_of_the_issue():
    x = spherical_to_cartesian(z_to_angles(torch.randn([4000, 127], generator=torch.Generator().manual_seed(0))))
    assert float(angle_degrees(x[:2000], x[2000:]).mean()) == pytest.approx(77, abs=1)
    assert float(angle_degrees(x, x.mean(0, keepdim=True).expand_as(x)).mean()) == pytest.approx(61, abs=1)


def test_head_gives_direction_and_length():
    D = make_direction_network().direction
    x = pictures(3)
    e = torch.nn.functional.softplus(D.outputs(D.trunk.features(x)))
    got = D.embed(x)
    torch.testing.assert_close(got.direction, e / e.norm(dim=1, keepdim=True))
    torch.testing.assert_close(got.v, e.norm(dim=1, keepdim=True).log())
    torch.testing.assert_close(D(x), -got.v)  # D lowers v for real pictures: logits rise
    assert D.invert(x).shape == (3, 7)
    torch.testing.assert_close(D.invert(x).square().mean(1), torch.ones(3))
    own = make_direction_network(normalize_z=False).direction
    torch.testing.assert_close(own.target(own.invert(x)), own.embed(x).direction, atol=1e-5, rtol=0)


def test_head_starts_undecided():
    D = DirectionDiscriminator(
        Discriminator(0, 16, 3, channel_base=64, channel_max=8, epilogue_kwargs=dict(mbstd_num_channels=0)), 511
    )
    assert D.embed(pictures(8)).v.mean().abs() < 1


def test_pictures_do_not_depend_on_their_batch():
    D = make_direction_network().direction
    x = pictures(5)
    torch.testing.assert_close(D.embed(x).direction, torch.cat([D.embed(one[None]).direction for one in x]))


def test_minibatch_statistics_are_refused():
    with pytest.raises(ValueError, match="mbstd_num_channels"):
        DirectionDiscriminator(Discriminator(0, 16, 3, channel_base=64, channel_max=8), 7)


def test_class_term_is_added():
    trunk = Discriminator(3, 16, 3, channel_base=64, channel_max=8, epilogue_kwargs=dict(mbstd_num_channels=0))
    D = DirectionDiscriminator(trunk, 7).requires_grad_(False)
    x, c = pictures(3), torch.eye(3)
    torch.testing.assert_close(D(x, c), trunk(x, c) - D.embed(x).v)
    assert not torch.equal(D(x, c), D(x, c.roll(1, 0)))


def test_very_small_outputs_keep_their_direction():
    D = make_direction_network().direction
    D.outputs.bias.fill_(-60.0)
    embedding = D.embed(pictures(2))
    assert torch.isfinite(embedding.v).all() and (embedding.v < -40).all()
    torch.testing.assert_close(embedding.direction.norm(dim=1), torch.ones(2))


def test_a_file_keeps_the_head(tmp_path):
    net = make_direction_network()
    si.save(net, tmp_path / "a.pkl")
    again = si.load(tmp_path / "a.pkl")
    x = pictures(2)
    assert torch.equal(again.direction.invert(x), net.direction.invert(x))
    assert again.D.b4.mbstd is None and again.D(x).shape == (2, 1)
    assert again.info["direction_embedding"] and again.info["normalizes_z"]
    assert si.load("cats32").direction is None


def test_the_papers_sampling_is_marked_in_the_file(tmp_path):
    with pytest.warns(UserWarning, match="official code does"):
        si.save(make_direction_network(normalize_z=False), tmp_path / "a.pkl")
    net = si.load(tmp_path / "a.pkl")
    assert not net.G.mapping.normalize_z and not net.direction.normalize_z and not net.info["normalizes_z"]
    z = torch.randn([1, 7])
    assert not torch.allclose(net.G.mapping(z), net.G.mapping(2 * z))


def test_the_papers_other_sampling_is_marked_too(tmp_path):
    """The network is given 2 Phi(z) - 1, which is uniform in (-1, 1). All of this project's files say so."""
    own = make_direction_network(normalize_z=False, uniform_z=True)
    z = torch.randn([3, 7])
    plain = make_direction_network(normalize_z=False).G.mapping  # has the same weights
    uniform = torch.from_numpy(scipy.stats.norm.cdf(z.double().numpy()) * 2 - 1).float()
    torch.testing.assert_close(own.G.mapping(z), plain(uniform))
    assert adapt(own.G).mapping_sha256() != adapt(make_direction_network(normalize_z=False).G).mapping_sha256()
    with pytest.warns(UserWarning, match="official code does"):
        si.save(own, tmp_path / "a.pkl")
    convert(si.load(tmp_path / "a.pkl"), tmp_path / "a.safetensors", "safetensors")
    for name in ("a.pkl", "a.safetensors"):
        net = si.load(tmp_path / name)
        assert torch.equal(net.G.mapping(z), own.G.mapping(z)) and net["G"].mapping.uniform_z
        assert net.info["z_is_made_uniform"] and not net.info["normalizes_z"]
    G = net.G
    G.mapping.normalize_z, G.mapping.uniform_z = True, False
    si.save(net, tmp_path / "b.pkl")
    assert not si.load(tmp_path / "b.pkl").G.mapping.uniform_z


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.pop("outputs"), "incomplete"),
        (lambda t: t.pop("ema"), "incomplete"),
        (lambda t: t.update(ema=torch.zeros(3)), "incomplete"),
        (lambda t: t["ema"].pop("outputs.weight"), "outputs.weight.* missing"),
        (
            lambda t: t["ema"].update({"outputs.weight": torch.zeros(9, 8)}),
            r"outputs.weight.* \(9, 8\); expected \(8, 8\)",
        ),
        (lambda t: t["ema"].update({"more": torch.zeros(1)}), "more.* no tensor of this name"),
        (lambda t: t["ema"].update({"outputs.bias": {"x": torch.zeros(1)}}), "outputs.bias.* a table"),
    ],
)
def test_a_head_that_does_not_fit_is_refused(tmp_path, change, message):
    net = make_direction_network()
    change(net.extra["direction"])
    si.save(net, tmp_path / "a.pkl")
    with pytest.raises(si.NetworkFileError, match=message):
        _ = si.load(tmp_path / "a.pkl").direction


@pytest.mark.parametrize("n", [2, 6, 32])
def test_latent_weights_say_how_far_each_angle_moves_the_point(n):
    angles = torch.rand([4000, n - 1], generator=torch.Generator().manual_seed(0), dtype=torch.float64) * (math.pi / 2)
    moved = torch.func.vmap(torch.func.jacfwd(lambda a: spherical_to_cartesian(a[None])[0]))(angles)
    squares = moved.square().sum(dim=1).mean(dim=0)
    expected = latent_weights(n - 1).double().square()
    torch.testing.assert_close(squares / squares.mean(), expected, rtol=0.1, atol=0)


def uint8(n):
    return [((p + 1) * 127.5).to(torch.uint8) for p in pictures(n)]


def test_method_de_is_one_pass(tmp_path):
    net = make_direction_network()
    several = si.project(net, uint8(3), "de", loss="mse")
    for one, target in zip(several, uint8(3)):
        z = net.direction.invert((target.float() / 127.5 - 1)[None])
        torch.testing.assert_close(one.code.tensors["z"], z)
        assert one.code.space == "z" and "steps" not in one.record["options"] and one.record["options"]["init"] == "de"
        alone = si.project(net, target, "de", loss="mse")
        torch.testing.assert_close(alone.image.int(), one.image.int(), rtol=0, atol=1)  # batches round otherwise
    several[0].save(tmp_path)
    saved = load_npz(tmp_path / "projected_w.npz")
    assert set(saved) == {"w", "z", "network"}
    torch.testing.assert_close(torch.from_numpy(saved["w"]), net.G.mapping(torch.from_numpy(saved["z"])))


@pytest.mark.parametrize("space", ["w", "w+"])
def test_any_method_can_start_from_de(space):
    net = make_direction_network()
    target = uint8(1)[0]
    found = si.project(net, target, "de", loss="mse")
    from_de = si.project(net, target, space, loss="mse", steps=3, init="de", initial_noise_factor=0)
    from_code = si.project(net, target, space, loss="mse", steps=3, init=found, initial_noise_factor=0)
    assert torch.equal(from_de.image, from_code.image)
    np.testing.assert_allclose(from_de.distance[0], found.distance[0], rtol=0.2)


def test_without_a_head_de_says_what_is_missing(cats):
    net = make_direction_network()
    with pytest.raises(si.ProjectionError, match="cats32 has none.*--head direction"):
        si.project(cats, uint8(1)[0], "de")
    with pytest.raises(si.ProjectionError, match="give the network file"):
        si.project(net.G, uint8(1)[0], "w", init="de", loss="mse")


@pytest.mark.parametrize(
    "extra", [dict(steps=5), dict(seed=1), dict(init="mean"), dict(save_noise=True), dict(keep_steps=True)]
)
def test_options_of_steps_are_refused_for_one_pass(extra):
    with pytest.raises(si.ProjectionError, match=f"takes no steps, so {next(iter(extra))}"):
        si.project(make_direction_network(), uint8(1)[0], "de", loss="mse", **extra)


def test_the_class_of_each_target_is_searched_for_a_method_of_one_pass():
    """Several targets, one after another."""
    net = make_network(classes=2)
    method = Method("z", "stylegan_invert.projectors.one_pass:fit", start="mean", one_pass=True)
    with pytest.MonkeyPatch.context() as m:
        m.setitem(METHODS, "still", method)
        results = si.project(net, list(uint8(3)), "still", class_idx="search", loss="mse")
    assert [r.record["options"]["class_found_by"] for r in results] == ["search"] * 3


def test_the_study_of_the_papers_experiments(tmp_path):
    """reproduce direction: table and sheets; a second call finds everything done."""
    si.save(make_direction_network(resolution=32), tmp_path / "a.pkl")
    (tmp_path / "real").mkdir()
    for i, picture in enumerate(pictures(3, 32)):
        write_png(tmp_path / "real" / f"{i}.png", ((picture + 1) * 127.5).to(torch.uint8).numpy())
    args = [
        "reproduce",
        "direction",
        "-n",
        tmp_path / "a.pkl",
        "--data",
        tmp_path / "real",
        "--generated",
        4,
        "-o",
        tmp_path / "out",
    ]
    args = list(map(str, [*args, "--loss", "mse", "--ways", "de:0,de:2,mean:0,random:0,mean:3,mean:5:2"]))
    result = CliRunner().invoke(cli, args)
    assert result.exit_code == 0, result.output
    made = {"table.md", "results.json", "settings.json", "sheet-generated.png", "sheet-real.png", "parts"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == made
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    rows = results["sets"]["generated"]
    assert {
        "DE, one pass",
        "DE + 2 steps of W",
        "mean code",
        "random codes",
        "3 steps of W from the mean",
        "5 steps of W from the mean (first 2)",
    } < set(rows)
    assert 0 < rows["DE, one pass"]["angle"] < 90 and "angle" not in results["sets"]["real"]["DE, one pass"]
    assert len({rows[name]["lpips"] for name in ("DE, one pass", "mean code", "random codes")}) == 3
    with pytest.raises(ValueError, match="mean-near needs steps"):
        read_ways("de:0,mean-near:0")
    assert rows["random pairs"]["angle"] > rows["best constant guess"]["angle"]
    before = (tmp_path / "out" / "results.json").read_bytes()
    assert CliRunner().invoke(cli, args).exit_code == 0
    assert (tmp_path / "out" / "results.json").read_bytes() == before
    assert "other options" in str(CliRunner().invoke(cli, [*args, "--seed", "5"]).exception)
    without = CliRunner().invoke(cli, ["reproduce", "direction", "-n", "cats32", "-o", str(tmp_path / "no")])
    assert "no direction-embedding discriminator" in str(without.exception)
