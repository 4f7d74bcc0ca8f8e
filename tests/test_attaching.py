"""A head on a discriminator that was trained without one, and what stays as it was."""
# Takes at most 20 CPU seconds.

import math

import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner

import stylegan_invert as si
from stylegan_invert.cli.main import cli
from stylegan_invert.media.picture_set import PictureSet
from stylegan_invert.networks.direction import AttachedDirection, DirectionDiscriminator
from stylegan_invert.networks.discriminators import Discriminator
from stylegan_invert.training.architectures.stylegan2 import settings_of
from stylegan_invert.training.attaching import RIDGE, fit_head
from stylegan_invert.training.configs import Options
from stylegan_invert.training.gan import GANTrainer, train

from conftest import make_direction_network, make_network


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(8):
        pixels = np.random.RandomState(i).randint(256, size=(16, 16, 3)).astype(np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"{i}.png")
    pictures = PictureSet(folder)
    pictures.check()
    return pictures


def three_networks(path):
    """A file whose D compares the pictures of a batch, and whose G and G_ema differ."""
    net, other = make_network(), make_network()
    for p in other.G.parameters():
        p.mul_(1.1)
    net["G"] = other.G
    si.save(net, path)
    return si.load(path)


def options_for(net, **chosen):
    sizes = {name: value for name, value in settings_of(net).items() if name not in ("resolution", "channels")}
    common = dict(head="direction", batch=4, attach_kimg=0.064, kimg=0.012)
    return Options.for_resolution(net.G.img_resolution, **{**sizes, **common, **chosen})


def test_an_embedding_depends_on_one_picture_alone():
    D = AttachedDirection(Discriminator(0, 16, 3, channel_base=64, channel_max=8), 7)
    x = torch.rand([4, 3, 16, 16]) * 2 - 1
    assert D.trunk.compares_batch and not torch.allclose(D(x)[:1], D(x[:1]), rtol=1e-3)
    torch.testing.assert_close(D.embed(x).direction, torch.cat([D.embed(one[None]).direction for one in x]))
    logits, embedding = D(x, return_embedding=True)
    assert torch.equal(logits, D.trunk(x)) and torch.equal(embedding.direction, D.embed(x).direction)


def test_the_first_head_is_a_ridge_regression():
    """For small z the latents of the fitted head are those that numpy's least squares finds."""
    torch.manual_seed(0)
    trunk = Discriminator(0, 16, 3, channel_base=64, channel_max=8)
    D = AttachedDirection(trunk, 7, normalize_z=False).requires_grad_(False)
    z = 0.01 * torch.randn([300, 7])
    img = torch.rand([300, 3, 16, 16]) * 2 - 1
    img[:, :, :7, 0] += 30 * z[:, None]  # the pictures tell of z
    given = iter(zip(z.split(64), img.split(64)))
    fit_head(D, lambda n: next(given), 300)
    x = D.flat(trunk.maps(img)[0]).double().numpy()
    x = x - x.mean(axis=0)
    ridge = np.diag(np.sqrt(300 * (RIDGE * x.var(axis=0) + 1e-6 * x.var(axis=0).mean())))
    y = z.double().numpy()
    weight = np.linalg.lstsq(
        np.concatenate([x, ridge]), np.concatenate([y - y.mean(axis=0), np.zeros((len(ridge), 7))])
    )
    expected = x @ weight[0] + y.mean(axis=0)
    np.testing.assert_allclose(D.latents(D.embed(img).direction), expected, atol=2e-3 * np.abs(expected).max() + 2e-4)


@pytest.mark.parametrize("trained, changed", [("head", ""), ("discriminator", "D"), ("all", "D G G_ema")])
def test_what_is_not_trained_stays_as_it_was(data, tmp_path, trained, changed):
    net = three_networks(tmp_path / "a.pkl")
    path = train(data, options_for(net, train=trained), tmp_path / "run", start=net, metric_samples=0)
    after = si.load(path)
    for role in ("G", "G_ema", "D"):
        before, now = net[role].state_dict(), after[role].state_dict()
        same = all(torch.equal(before[name], now[name]) for name in before)
        assert before.keys() == now.keys() and same == (role not in changed.split()), role
    assert after.D.b4.mbstd is not None and isinstance(after.direction, AttachedDirection)
    result = si.project(after, torch.zeros([3, 16, 16], dtype=torch.uint8), "de", loss="mse")
    assert result.image.shape == (3, 16, 16)
    # A second run goes on with the head of the first one.
    again = GANTrainer(options_for(after, train=trained), data)
    again.start_from(after)
    assert torch.equal(again.D_ema.outputs.weight, after.direction.outputs.weight)
    assert torch.equal(again.D.outputs.weight, after.extra["direction"]["outputs"]["weight"])


def test_steps_of_the_head_lower_the_angle(data, tmp_path):
    net = three_networks(tmp_path / "a.pkl")
    trainer = GANTrainer(options_for(net, train="head", attach_kimg=0, batch=8, lr=0.01), data)
    trainer.start_from(net)
    angles = []
    for _ in range(60):
        trainer.step()
        angles.append(trainer.values()["angle"])
        trainer.clear_values()
    assert np.mean(angles[-10:]) < np.mean(angles[:5]) - 1 and not math.isnan(angles[-1])
    assert set(trainer.values()) <= {"angle", "loss/embedding"}


def test_a_run_of_the_head_is_resumed(data, tmp_path):
    net = three_networks(tmp_path / "a.pkl")
    rhythm = dict(tick_kimg=0.004, snapshot_ticks=1, metric_samples=0)
    whole = train(data, options_for(net, train="head"), tmp_path / "whole", start=net, **rhythm)
    train(data, options_for(net, train="head", kimg=0.008), tmp_path / "cut", start=net, **rhythm)
    cut = train(data, options_for(net, train="head"), tmp_path / "cut", resume=True, **rhythm)
    assert cut.read_bytes() == whole.read_bytes()


def test_a_head_that_was_trained_with_its_discriminator_is_not_trained_alone(data, tmp_path):
    net = make_direction_network()
    torch.manual_seed(0)
    for name, value in net.extra["direction"]["ema"].items():
        net.extra["direction"]["ema"][name] = value + 0.1 * torch.randn_like(value) if "weight" in name else value
    si.save(net, tmp_path / "a.pkl")
    net = si.load(tmp_path / "a.pkl")
    assert type(net.direction) is DirectionDiscriminator
    with pytest.raises(si.TrainingError, match="D and its average differ"):
        GANTrainer(options_for(net, train="head"), data).start_from(net)


def test_the_command_attaches(data, tmp_path):
    three_networks(tmp_path / "a.pkl")

    def run(*more):
        common = ["train", "-q", "--data", data.path, "-o", str(tmp_path / "run"), "--kimg", "0.008", "--batch", "4"]
        return CliRunner().invoke(cli, [*common, "--metric-samples", "0", *more])

    start = ["--resume", str(tmp_path / "a.pkl"), "--train", "head"]
    assert "--train head has no meaning without --resume" in run("--train", "head", "--head", "direction").output
    assert "--train head needs --head direction" in str(run(*start).exception)
    assert "--z-dim cannot be chosen" in run(*start, "--head", "direction", "--z-dim", "9").output
    result = run(*start, "--head", "direction", "--attach-kimg", "0.064")
    assert result.exit_code == 0, result.output
    assert si.load(tmp_path / "run" / "network-snapshot-000000.pkl").direction is not None
