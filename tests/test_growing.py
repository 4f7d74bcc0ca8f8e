"""Growing: a network file goes on at a larger resolution, and begins as what it was."""
# Takes at most 20 CPU seconds.

import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner

import stylegan_invert as si
from stylegan_invert.cli.main import cli
from stylegan_invert.media.picture_set import PictureSet
from stylegan_invert.networks.discriminators import Discriminator
from stylegan_invert.ops import setup_filter, upsample2d
from stylegan_invert.training.architectures.stylegan2 import settings_of
from stylegan_invert.training.configs import Options
from stylegan_invert.training.gan import GANTrainer, train

from conftest import make_direction_network, make_network

SIZES = dict(z_dim=7, w_dim=8, channel_base=512, channel_max=8, batch=4)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight pictures of noise; a function of the resolution."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(8):
        pixels = np.random.RandomState(i).randint(256, size=(64, 64, 3)).astype(np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"{i}.png")

    def at(resolution):
        pictures = PictureSet(folder, resolution=resolution)
        pictures.check()
        return pictures

    return at


def small_file(path, pictures, head):
    """A file of 16x16 whose G, G_ema, D and averages all differ."""
    torch.manual_seed(1)
    trainer = GANTrainer(Options.for_resolution(16, head=head, **SIZES), pictures)
    for module in (trainer.G, trainer.D, trainer.G_ema, trainer.D_ema):
        for p in [] if module is None else module.parameters():
            p.data += 0.1 * torch.randn_like(p)
    for module in (trainer.G, trainer.G_ema):
        module.mapping.w_avg.normal_()
    si.save(trainer.network_file(), path)
    return si.load(path)


def reduced(img):
    """A picture after a filter that sharpens and StyleGAN2's low-pass filter, with zeros around the picture."""
    taps = torch.tensor([-1.0, 1, 8, 8, 1, -1]) / 16
    x = torch.nn.functional.pad(img, (2, 2, 2, 2)).unfold(2, 6, 2).unfold(3, 6, 2)
    return torch.einsum("nchwij,i,j->nchw", x, taps, taps)


@pytest.mark.parametrize("head, resolution", [("none", 32), ("direction", 32), ("direction", 64)])
def test_a_grown_network_begins_as_what_it_was(data, tmp_path, head, resolution):
    net = small_file(tmp_path / "a.pkl", data(16), head)
    trainer = GANTrainer(Options.for_resolution(resolution, head=head, **SIZES), data(resolution))
    trainer.start_from(net)
    z = torch.randn([3, 7])
    filter = setup_filter([1, 3, 3, 1])
    real = torch.from_numpy(data(resolution).pictures(range(4))).float() / 127.5 - 1
    small = real
    for _ in range((resolution // 16).bit_length() - 1):
        small = reduced(small)
    for grown, old in ((trainer.G, net["G"]), (trainer.G_ema, net.G)):
        expected = old(z, noise_mode="const")
        while expected.shape[2] < resolution:
            expected = upsample2d(expected, filter)
        assert torch.equal(grown.eval()(z, noise_mode="const"), expected)
        assert torch.equal(grown.mapping.w_avg, old.mapping.w_avg) and grown.num_ws > old.num_ws
    assert not torch.equal(trainer.G.mapping.w_avg, trainer.G_ema.mapping.w_avg)
    trunk = trainer.D.trunk if head == "direction" else trainer.D
    torch.testing.assert_close(trunk(real), net.D(small), rtol=1e-4, atol=1e-5)
    if head == "direction":
        ours, theirs = trainer.D_ema.embed(real), net.direction.embed(small)
        torch.testing.assert_close(ours.direction, theirs.direction, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(ours.v, theirs.v, rtol=1e-4, atol=1e-5)
        assert torch.equal(trainer.D.outputs.weight, net.extra["direction"]["outputs"]["weight"])


def test_all_new_layers_learn_and_the_file_is_an_official_one(data, tmp_path):
    """After two steps every new layer has changed; the run's file opens with the new size and can be grown again."""
    net = small_file(tmp_path / "a.pkl", data(16), "direction")
    options = Options.for_resolution(32, head="direction", kimg=0.012, **SIZES)
    before = GANTrainer(options, data(32))
    before.start_from(net)
    start = {**before.G.state_dict(), **{f"D.{k}": v for k, v in before.D.trunk.state_dict().items()}}
    path = train(data(32), options, tmp_path / "run", start=net, metric_samples=0)
    grown = si.load(path)
    assert grown.G.img_resolution == grown.D.img_resolution == 32 and grown.direction is not None
    after = {**grown["G"].state_dict(), **{f"D.{k}": v for k, v in grown.D.state_dict().items()}}
    new = [name for name in start if "b32" in name and "noise_const" not in name and "filter" not in name]
    assert len(new) > 15 and all(not torch.equal(start[name], after[name]) for name in new)
    again = GANTrainer(Options.for_resolution(64, head="direction", **SIZES), data(64))
    again.start_from(grown)


def test_a_network_that_cannot_grow_says_why(data):
    options = Options.for_resolution(32, head="direction", **{**SIZES, "channel_base": 64})
    with pytest.raises(si.TrainingError, match=r"at 32x32 has 2 channels; expected at least 6.* larger --channel-base"):
        GANTrainer(options, data(32)).start_from(make_direction_network())


@pytest.mark.parametrize(
    "G, D, message",
    [
        ("resnet", "resnet", "generator has the architecture 'resnet'; only 'skip'"),
        ("skip", "orig", "discriminator has the architecture 'orig'; only 'resnet'"),
    ],
)
def test_other_architectures_train_on_and_do_not_grow(data, G, D, message):
    net = make_network(architecture=G)
    net["D"] = Discriminator(0, 16, 3, architecture=D, channel_base=64, channel_max=8).requires_grad_(False)
    sizes = {name: value for name, value in settings_of(net).items() if name not in ("resolution", "channels")}
    trainer = GANTrainer(Options.for_resolution(16, batch=4, **sizes), data(16))
    trainer.start_from(net)
    assert torch.equal(trainer.D(torch.ones(4, 3, 16, 16)), net.D(torch.ones(4, 3, 16, 16)))
    trainer.step()
    with pytest.raises(si.TrainingError, match=message):
        GANTrainer(Options.for_resolution(32, batch=4, **sizes), data(32)).start_from(net)


def test_the_command_grows(data, tmp_path):
    small_file(tmp_path / "a.pkl", data(16), "direction")
    common = ["train", "-q", "--data", data(32).path, "--resume", str(tmp_path / "a.pkl"), "--head", "direction"]
    common += ["-o", str(tmp_path / "run"), "--kimg", "0.004", "--batch", "4", "--metric-samples", "0"]
    result = CliRunner().invoke(cli, [*common, "--resolution", "8"])
    assert result.exit_code == 2 and "--resolution is 8; a network of 16x16 can only grow" in result.output
    result = CliRunner().invoke(cli, [*common, "--resolution", "32"])
    assert result.exit_code == 0, result.output
    assert si.load(tmp_path / "run" / "network-snapshot-000000.pkl").G.img_resolution == 32
