"""Fixtures: small networks made here, and a feature network as a TorchScript file."""

import atexit
import os
import shutil
import tempfile

import PIL.Image
import pytest
import torch

import stylegan_invert as si
from stylegan_invert.network_files.families.direction_head import direction_tensors
from stylegan_invert.network_files.file import NetworkFile
from stylegan_invert.networks.discriminators import Discriminator
from stylegan_invert.networks.stylegan2 import Generator
from stylegan_invert.training.configs import Options
from stylegan_invert.training.gan import build

from official import HERE, fill

# The reference operations, unless the environment says otherwise; test_native.py compares the native ones with them.
os.environ.setdefault("STYLEGAN_INVERT_OPS", "reference")
# No test may download, or use what a user has downloaded. Native operations are built once for all processes of a run.
os.environ["STYLEGAN_INVERT_CACHE"] = os.devnull
if os.environ["STYLEGAN_INVERT_OPS"] != "reference":
    os.environ["STYLEGAN_INVERT_CACHE"] = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, os.environ["STYLEGAN_INVERT_CACHE"], ignore_errors=True)
os.environ.pop("STYLEGAN_INVERT_VGG16", None)


def make_network(resolution=16, channels=3, classes=0, **synthesis):
    """A network file in memory: z and w of 8, at most 8 channels, weights of `official.fill`."""
    synthesis = {"channel_base": 64, "channel_max": 8, **synthesis}
    G = Generator(8, classes, 8, resolution, channels, mapping_kwargs={"num_layers": 2}, synthesis_kwargs=synthesis)
    D = Discriminator(classes, resolution, channels, channel_base=64, channel_max=8)
    for i, network in enumerate((G, D)):
        fill(network.eval().requires_grad_(False), i)
    return NetworkFile({"G": G, "G_ema": G, "D": D})


def make_direction_network(resolution=16, z_dim=7, normalize_z=True):
    """A network file in memory whose discriminator embeds latents; weights from a fixed seed."""
    torch.manual_seed(0)
    options = Options.for_resolution(
        resolution, head="direction", z_dim=z_dim, w_dim=8, channel_base=64, channel_max=8, normalize_z=normalize_z
    )
    G, D = (network.eval().requires_grad_(False) for network in build(options))
    extra = {"direction": direction_tensors(D, D)}
    return NetworkFile({"G": G, "G_ema": G, "D": D.trunk}, extra=extra)


@pytest.fixture(scope="session")
def cats():
    """The shipped network."""
    return si.load("cats32")


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory):
    """A network file of 8x8 pixels, under 100 kB."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.pkl"
    si.save(make_network(resolution=8), path)
    assert path.stat().st_size < 100_000
    return path


@pytest.fixture(scope="session")
def features():
    """A TorchScript feature network, called as the official vgg16.pt is."""
    return HERE / "golden" / "stub-features.pt"


@pytest.fixture
def picture(tmp_path):
    """A picture file of 40x30 pixels."""
    path = tmp_path / "picture.png"
    ramp = torch.arange(40 * 30 * 3).reshape(30, 40, 3) % 251
    PIL.Image.fromarray(ramp.to(torch.uint8).numpy()).save(path)
    return path
