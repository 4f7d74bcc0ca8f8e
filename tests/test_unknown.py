"""Files and networks that are not read as they are: the error says what they seem to be, and what helps."""
# Takes at most 6 CPU seconds.

import pytest
import torch
from torch import nn

import stylegan_invert as si
from stylegan_invert.generator import adapt
from stylegan_invert.networks.stylegan3 import Generator as StyleGAN3

from conftest import make_network


def state(**shapes):
    return {name.replace("__", "."): torch.zeros(shape) for name, shape in shapes.items()}


def dense(*sizes):
    layers = [layer for a, b in zip(sizes, sizes[1:]) for layer in (nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU())]
    return nn.Sequential(*layers[:-2]).state_dict()


FOREIGN = {
    "a network of dense layers alone.*LatentGenerator": dense(10, 32, 64, 768),
    "a ResNet": state(conv1__weight=(8, 3, 7, 7), layer1__0__conv1__weight=(8, 8, 3, 3), fc__weight=(5, 8)),
    "a discriminator of StyleGAN2": state(b8__fromrgb__weight=(8, 3, 1, 1), b4__fc__weight=(8, 128),
                                          b4__conv__weight=(8, 9, 3, 3)),
    "a discriminator or another": state(a__weight=(8, 3, 4, 4), b__weight=(16, 8, 4, 4), c__weight=(1, 16, 4, 4)),
    "a mapping network of StyleGAN without": state(mapping__fc0__weight=(8, 8), mapping__fc1__weight=(8, 8)),
    "an embedded label": state(label_emb__weight=(10, 6), l1__0__weight=(128, 6), c__0__weight=(3, 8, 3, 3)),
    "a VGG or AlexNet": state(features__0__weight=(8, 3, 3, 3), classifier__0__weight=(8, 8)),
    "a diffusion model": state(input_blocks__0__0__weight=(8, 3, 3, 3)),
}  # fmt: skip


@pytest.mark.parametrize("what", FOREIGN)
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"epoch": 3, "model": s}])
def test_state_dicts_are_named(what, wrap, tmp_path):
    torch.save(wrap(FOREIGN[what]), tmp_path / "g.pt")
    with pytest.raises(si.NetworkFileError, match=f"seem to be those of .*{what}"):
        si.load(tmp_path / "g.pt")


def test_a_whole_module_gets_the_remedy(tmp_path):
    net = nn.Sequential(nn.ConvTranspose2d(6, 8, 4), nn.ReLU(), nn.ConvTranspose2d(8, 3, 4, 2, 1))
    for new in (True, False):
        torch.save({"netG": net}, tmp_path / "g.pt", _use_new_zipfile_serialization=new)
        with pytest.raises(si.NetworkFileError, match=r"nothing was run.*torch.save\(netG.state_dict\(\), file\)"):
            si.load(tmp_path / "g.pt")
    torch.save(net.state_dict(), tmp_path / "g.pt")
    assert si.load(tmp_path / "g.pt").G.img_resolution == 8


# State dicts of official generators


def make_stylegan3(kind, **more):
    torch.manual_seed(0)
    more |= {"conv_kernel": 1, "use_radial_filters": True} if kind == "r" else {}
    G = StyleGAN3(6, 2 * (kind == "r"), 5, 32, 3, num_layers=6, channel_base=200, channel_max=9, **more)
    return G.eval().requires_grad_(False)


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"G_ema": s, "step": 3}, lambda s: {"g": {"x": {"ema": s}}},
                                  lambda s: {f"module.{k}": v for k, v in s.items()}])  # fmt: skip
@pytest.mark.parametrize("kind", ["skip", "resnet", "orig", "classes", "filter", "no noise", "t", "r", "margin"])
def test_state_dicts_of_official_generators_are_opened(kind, wrap, tmp_path):
    synthesis = {"skip": {}, "classes": {}, "filter": {"resample_filter": [1, 2, 1]}, "no noise": {"use_noise": False}}
    more = synthesis.get(kind, {"architecture": kind})
    if kind in ("t", "r", "margin"):
        G = make_stylegan3(kind, **({"margin_size": 4} if kind == "margin" else {}))
    else:
        G = make_network(resolution=16, classes=3 * (kind == "classes"), **more).G
    torch.save(wrap(G.state_dict()), tmp_path / "g.pt")
    net = si.load(tmp_path / "g.pt")
    z, c = torch.randn(2, G.z_dim), torch.eye(G.c_dim)[:2] if G.c_dim else None
    assert torch.equal(net.G(z, c, noise_mode="const"), G(z, c, noise_mode="const"))
    assert "conv_clamp 256" in net.info["assumed"] and net.info["family"] == (
        "stylegan3" if kind in ("t", "r", "margin") else "stylegan2"
    )
    assert "conv_clamp none" in si.load(tmp_path / "g.pt", {"conv_clamp": "none"}).info["assumed"]
    with pytest.raises(si.NetworkFileError, match="conv_clamp is assumed to be 'x'"):
        si.load(tmp_path / "g.pt", {"conv_clamp": "x"})


@pytest.mark.parametrize("kind, change, reason", [
    ("skip", {"synthesis.b16.conv1.bias": None}, "synthesis.b16.conv1.bias: it is missing"),
    ("skip", {"synthesis.extra": torch.zeros(3)}, "synthesis.extra: it is not a part of StyleGAN2's generator"),
    ("skip", {"mapping.fc0.weight": torch.zeros(3)}, r"mapping.fc0.weight: its shape is \(3,\)"),
    ("skip", {"synthesis.b8.conv1.weight": torch.zeros(3, 3, 3, 3)}, "follow no rule"),
    ("t", {"mapping.fc0.bias": None}, "mapping.fc0.bias: it is missing"),
    ("cutoff", {}, "filter of another cutoff"),
    ("t", {"synthesis.L0_36_1.weight": torch.zeros(3)}, "layers; expected L0, L1"),
])  # fmt: skip
def test_state_dicts_of_official_generators_that_do_not_fit(kind, change, reason, tmp_path):
    G = make_stylegan3("t", **{"first_cutoff": 1.5} if kind == "cutoff" else {})
    G = make_network(resolution=16).G if kind == "skip" else G
    tensors = {k: v for k, v in {**G.state_dict(), **change}.items() if v is not None}
    torch.save(tensors, tmp_path / "g.pt")
    with pytest.raises(si.NetworkFileError, match=reason):
        si.load(tmp_path / "g.pt")


# Networks in memory


def with_attributes(*names):
    module = nn.Linear(2, 2)
    for name in names:
        setattr(module, name, 1)
    return module


@pytest.mark.parametrize("network, reason", [
    (with_attributes("family", "assumed", "c_dim"), "lacks z_dim, .* of the attributes of LatentGenerator. A gen.*adopt"),
    (with_attributes("family", "z_dim", "c_dim", "w_dim", "num_ws", "mapping"), "lacks .*synthesis.* of StyleGenerator"),
    ("a text", "a builtins.str; expected a network file"),
])  # fmt: skip
def test_networks_in_memory_without_an_adapter_are_told_what_they_lack(network, reason):
    with pytest.raises(TypeError, match=reason):
        adapt(network)
