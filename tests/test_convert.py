"""Rosinality's and pSp's files, safetensors, and the command that writes one format from another."""
# Takes at most 5 CPU seconds.

import argparse
import importlib.util
import io
import json
import os
import pathlib
import struct
import sys
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner

import stylegan_invert as si
from stylegan_invert.cli.main import cli
from stylegan_invert.network_files import convert
from stylegan_invert.network_files import file as network_file
from stylegan_invert.network_files import safetensors_file as network_safetensors
from stylegan_invert.network_files.assemble import Budget
from stylegan_invert.network_files.checks import Known
from stylegan_invert.network_files.families import rosinality
from stylegan_invert.network_files.machine.containers import read_records
from stylegan_invert.networks.discriminators import Discriminator
from stylegan_invert.networks.stylegan2 import Generator

from conftest import make_direction_network, make_network
from official import fill
from support import assert_close

KERNEL = np.array([[1, 2, 3, 1], [2, 5, 3, 2], [1, 4, 2, 3], [0, 1, 1, 2]], np.float64)  # without any symmetry
ASSUMED = {"lr_mlp": 0.01}


def opened(contents, name="file.pt"):
    """What the reader makes of a file that torch.save writes."""
    file = io.BytesIO()
    torch.save(contents, file)
    return network_file.from_bytes(file.getvalue(), name)


def their_generator(widths=(10, 5, 2), w_dim=7, n_mlp=3, kernel=KERNEL, seed=0):
    """A state dict of rosinality's generator with few channels, at 4x4, 8x8, ..."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=random)

    kernel = torch.tensor(kernel / kernel.sum() * 4, dtype=torch.float32)
    tensors = {"input.input": normal(1, widths[0], 4, 4)}
    for i in range(1, n_mlp + 1):
        tensors |= {f"style.{i}.weight": normal(w_dim, w_dim) * 100, f"style.{i}.bias": normal(w_dim) * 30}

    def modulated(key, c_in, c_out, side):
        tensors[f"{key}.weight"] = normal(1, c_out, c_in, side, side)
        tensors[f"{key}.modulation.weight"] = normal(c_in, w_dim)
        tensors[f"{key}.modulation.bias"] = 1 + 0.3 * normal(c_in)

    def layer(key, c_in, c_out, noise):
        modulated(f"{key}.conv", c_in, c_out, 3)
        tensors[f"{key}.noise.weight"] = 0.3 * normal(1)
        tensors[f"{key}.activate.bias"] = 0.3 * normal(c_out)
        side = 2 ** ((noise + 5) // 2)
        tensors[f"noises.noise_{noise}"] = normal(1, 1, side, side)

    for j, width in enumerate(widths):
        torgb = "to_rgb1"
        if j > 0:
            torgb = f"to_rgbs.{j - 1}"
            layer(f"convs.{2 * j - 2}", widths[j - 1], width, 2 * j - 1)
            tensors[f"convs.{2 * j - 2}.conv.blur.kernel"] = kernel.clone()
            tensors[f"{torgb}.upsample.kernel"] = kernel.clone()
        layer("conv1" if j == 0 else f"convs.{2 * j - 1}", width, width, 2 * j)
        modulated(f"{torgb}.conv", width, 3, 1)
        tensors[f"{torgb}.bias"] = 0.3 * normal(1, 3, 1, 1)
    return tensors


def their_discriminator(widths=(2, 5, 10), kernel=KERNEL, seed=1):
    """A state dict of rosinality's discriminator, from the picture's resolution down to 4x4."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=random)

    kernel = torch.tensor(kernel / kernel.sum(), dtype=torch.float32)
    tensors = {"convs.0.0.weight": normal(widths[0], 3, 1, 1), "convs.0.1.bias": normal(widths[0])}
    for i, (c_in, c_out) in enumerate(zip(widths, widths[1:]), 1):
        tensors |= {f"convs.{i}.conv1.0.weight": normal(c_in, c_in, 3, 3), f"convs.{i}.conv1.1.bias": normal(c_in)}
        tensors |= {f"convs.{i}.conv2.0.kernel": kernel.clone(), f"convs.{i}.skip.0.kernel": kernel.clone()}
        tensors |= {f"convs.{i}.conv2.1.weight": normal(c_out, c_in, 3, 3), f"convs.{i}.conv2.2.bias": normal(c_out)}
        tensors |= {f"convs.{i}.skip.1.weight": normal(c_out, c_in, 1, 1)}
    last = widths[-1]
    tensors |= {"final_conv.0.weight": normal(last, last + 1, 3, 3), "final_conv.1.bias": normal(last)}
    tensors |= {"final_linear.0.weight": normal(last, last * 16), "final_linear.0.bias": normal(last)}
    return tensors | {"final_linear.1.weight": normal(1, last), "final_linear.1.bias": normal(1)}


# Their arithmetic, in NumPy and float64


def lrelu(x):
    return np.where(x >= 0, x, 0.2 * x) * np.sqrt(2)


def filtered(x, kernel, before, after):
    """Zeros around (C, H, W), then a true convolution with a kernel."""
    x = np.pad(x, [(0, 0), (before, after), (before, after)])
    h, w = x.shape[1] - len(kernel) + 1, x.shape[2] - len(kernel) + 1
    turned = kernel[::-1, ::-1]
    return sum(turned[i, j] * x[:, i : i + h, j : j + w] for i in range(len(kernel)) for j in range(len(kernel)))


def correlated(x, weight, padding):
    x = np.pad(x, [(0, 0), (padding, padding), (padding, padding)])
    k = weight.shape[2]
    h, w = x.shape[1] - k + 1, x.shape[2] - k + 1
    parts = (np.tensordot(weight[:, :, i, j], x[:, i : i + h, j : j + w], 1) for i in range(k) for j in range(k))
    return sum(parts)


def doubled(x, weight):
    """A transposed convolution with stride 2: every number of x puts a copy of the kernel down."""
    k, (_, h, w) = weight.shape[2], x.shape
    out = np.zeros([weight.shape[0], 2 * h + k - 2, 2 * w + k - 2])
    for i in range(k):
        for j in range(k):
            out[:, i : i + 2 * h : 2, j : j + 2 * w : 2] += np.tensordot(weight[:, :, i, j], x, 1)
    return out


def generate(tensors, z, lr=0.01):
    """One picture (3, R, R) of z (z_dim,), noise maps as stored; and its w."""
    t = {k: v.double().numpy() for k, v in tensors.items()}
    w = z / np.sqrt((z**2).mean() + 1e-8)
    i = 1
    while f"style.{i}.weight" in t:
        weight = t[f"style.{i}.weight"]
        w = lrelu(weight @ w * lr / np.sqrt(weight.shape[1]) + t[f"style.{i}.bias"] * lr)
        i += 1

    def modulated(x, key, demodulate, up):
        weight = t[f"{key}.weight"][0]
        m = t[f"{key}.modulation.weight"]
        style = m @ w / np.sqrt(m.shape[1]) + t[f"{key}.modulation.bias"]
        weight = weight * style[None, :, None, None] / np.sqrt(weight[0].size)
        if demodulate:
            weight = weight / np.sqrt((weight**2).sum(axis=(1, 2, 3), keepdims=True) + 1e-8)
        if up:
            blur = t[f"{key}.blur.kernel"]
            spare = len(blur) - 2 - (weight.shape[2] - 1)
            return filtered(doubled(x, weight), blur, (spare + 1) // 2 + 1, spare // 2 + 1)
        return correlated(x, weight, weight.shape[2] // 2)

    def layer(x, key, noise, up=False):
        x = modulated(x, f"{key}.conv", True, up) + t[f"{key}.noise.weight"] * t[f"noises.noise_{noise}"][0, 0]
        return lrelu(x + t[f"{key}.activate.bias"][:, None, None])

    x = layer(t["input.input"][0], "conv1", 0)
    img = modulated(x, "to_rgb1.conv", False, False) + t["to_rgb1.bias"][0]
    j = 0
    while f"to_rgbs.{j}.bias" in t:
        x = layer(x, f"convs.{2 * j}", 2 * j + 1, up=True)
        x = layer(x, f"convs.{2 * j + 1}", 2 * j + 2)
        larger = np.zeros([3, 2 * img.shape[1], 2 * img.shape[2]])
        larger[:, ::2, ::2] = img
        img = filtered(larger, t[f"to_rgbs.{j}.upsample.kernel"], 2, 1)
        img = img + modulated(x, f"to_rgbs.{j}.conv", False, False) + t[f"to_rgbs.{j}.bias"][0]
        j += 1
    return img, w


def judge(tensors, pictures):
    """Logits (N, 1) of pictures (N, 3, R, R), N a multiple of 4 or below 4."""
    t = {k: v.double().numpy() for k, v in tensors.items()}

    def conv(x, key, padding):
        return correlated(x, t[f"{key}.weight"] / np.sqrt(t[f"{key}.weight"][0].size), padding)

    def bias(key):
        return t[f"{key}.bias"][:, None, None]

    features = []
    for x in pictures:
        x = lrelu(conv(x, "convs.0.0", 0) + bias("convs.0.1"))
        i = 1
        while f"convs.{i}.conv1.0.weight" in t:
            y = lrelu(conv(x, f"convs.{i}.conv1.0", 1) + bias(f"convs.{i}.conv1.1"))
            y = conv(filtered(y, t[f"convs.{i}.conv2.0.kernel"], 2, 2), f"convs.{i}.conv2.1", 0)[:, ::2, ::2]
            y = lrelu(y + bias(f"convs.{i}.conv2.2"))
            skip = conv(filtered(x, t[f"convs.{i}.skip.0.kernel"], 1, 1)[:, ::2, ::2], f"convs.{i}.skip.1", 0)
            x = (y + skip) / np.sqrt(2)
            i += 1
        features.append(x)
    x = np.stack(features)
    groups = min(len(x), 4)
    spread = np.sqrt(x.reshape(groups, -1, *x.shape[1:]).var(axis=0) + 1e-8).mean(axis=(1, 2, 3))
    spread = np.tile(spread, groups)  # picture i belongs to group i modulo N / 4
    out = []
    for one, s in zip(x, spread):
        one = np.concatenate([one, np.full([1, 4, 4], s)])
        one = lrelu(conv(one, "final_conv.0", 1) + bias("final_conv.1")).reshape(-1)
        weight = t["final_linear.0.weight"]
        one = lrelu(weight @ one / np.sqrt(one.size) + t["final_linear.0.bias"])
        out.append(t["final_linear.1.weight"] @ one / np.sqrt(one.size) + t["final_linear.1.bias"])
    return np.stack(out)


@pytest.mark.parametrize(
    "widths, n_mlp, kernel",
    [((10, 5, 2), 3, KERNEL), ((4, 4, 4, 2), 1, np.outer([1, 3, 3, 1], [1, 3, 3, 1.0])), ((5,), 2, KERNEL)],
)
def test_rosinality_generator_computes_their_arithmetic(widths, n_mlp, kernel):
    tensors = their_generator(widths, n_mlp=n_mlp, kernel=kernel)
    G = opened({"g_ema": tensors, "latent_avg": torch.arange(7.0)}).G
    assert not G.training and not any(p.requires_grad for p in G.parameters())
    z = np.random.RandomState(0).randn(3, 7)
    for one in z:
        picture, w = generate(tensors, one)
        ws = G.mapping(torch.from_numpy(one[None]))
        assert_close("w", ws[0, 0].double().numpy(), w, 1e-6)
        assert_close("picture", G.synthesis(ws, noise_mode="const")[0].double().numpy(), picture, 1e-5)
    assert torch.equal(G.mapping.w_avg, torch.arange(7.0))


@pytest.mark.parametrize("taps", [(1, 2, 1), (1, 5, 10, 10, 5, 1), (1, 1), (1, 2, 4, 1, 3)])
def test_another_blur_kernel_than_the_pictures_have(taps, tmp_path):
    """Their Generator gives its blur_kernel to the convolutions alone; ToRGB keeps the usual four taps."""
    tensors = their_generator((10, 5, 2), kernel=np.outer([1, 3, 3, 1], [1, 3, 3, 1.0]))
    blur = torch.tensor(np.outer(taps, taps) / sum(taps) ** 2 * 4, dtype=torch.float32)
    net = opened({"g_ema": {k: blur if k.endswith("blur.kernel") else v for k, v in tensors.items()}})
    tensors = {k: blur if k.endswith("blur.kernel") else v for k, v in tensors.items()}
    z = np.random.RandomState(0).randn(7)
    picture, _ = generate(tensors, z)
    assert_close("picture", net.G(torch.from_numpy(z[None]), noise_mode="const")[0].double().numpy(), picture, 1e-5)
    for name in ("a.pkl", "a.safetensors"):  # both forms of this project keep it
        convert.convert(net, tmp_path / name, {"a.pkl": "pickle"}.get(name, "safetensors"))
        again = si.load(tmp_path / name).G
        assert torch.equal(again(torch.from_numpy(z[None]), noise_mode="const"),
                           net.G(torch.from_numpy(z[None]), noise_mode="const"))  # fmt: skip


def test_rosinality_discriminator_computes_their_arithmetic():
    tensors = their_discriminator()
    net = opened({"g_ema": their_generator(), "g": their_generator(seed=5), "d": tensors})
    assert torch.equal(net["G"].synthesis.b4.const, their_generator(seed=5)["input.input"][0])
    for count in (2, 8):
        pictures = np.random.RandomState(1).randn(count, 3, 16, 16)
        got = net.D(torch.from_numpy(pictures).float()).double().numpy()
        assert_close("logits", got, judge(tensors, pictures), 1e-5)


def test_what_a_rosinality_file_does_not_hold_is_made():
    tensors = their_generator()
    other = {k: v for k, v in tensors.items() if not k.startswith("noises.")}
    a, b = (opened({"module." + k: v for k, v in other.items()}).G for _ in range(2))
    assert a.synthesis.noise_shapes().keys() == {"b4.conv1", "b8.conv0", "b8.conv1", "b16.conv0", "b16.conv1"}
    assert torch.equal(a.synthesis.b16.conv1.noise_const, b.synthesis.b16.conv1.noise_const)
    z = torch.from_numpy(np.random.RandomState(123).randn(10000, 7)).float()
    assert_close("w_avg", a.mapping.w_avg.numpy(), a.mapping(z)[:, 0].mean(dim=0).numpy(), 1e-5)
    # The learning rate of the mapping is not in the file, and may be given.
    records = rosinality.find(as_root({"g_ema": tensors}))["G_ema"]
    G = rosinality.build(*records, "f", Budget("f", 10**7), {"lr_mlp": 0.02})
    z = np.random.RandomState(0).randn(7)
    expected, _ = generate(tensors, z, lr=0.02)
    assert_close("picture", G(torch.from_numpy(z[None]), noise_mode="const")[0].double().numpy(), expected, 1e-5)


def as_root(contents):
    file = io.BytesIO()
    torch.save(contents, file)
    return read_records(memoryview(file.getvalue()), "f")


def broken(tensors, key, value=None):
    tensors = {**tensors, key: value}
    return {k: v for k, v in tensors.items() if v is not None}


@pytest.mark.parametrize(
    "key, value, reason",
    [
        ("convs.1.conv.weight", None, "convs.1.conv.weight: it is missing"),
        ("convs.2.activate.bias", None, "convs.2.activate.bias: it is missing; the other tensors ask for"),
        ("convs.2.conv.weight", torch.zeros(1, 2, 5, 5, 5), r"of shape \(1, 2, 5, 5, 5\)"),
        (
            "style.2.bias",
            torch.zeros(8),
            r"g_ema.style.2.bias: it is of shape \(8,\); the other tensors ask for \(7,\)",
        ),
        ("style.2.bias", torch.zeros(7, dtype=torch.int64), "expected floating-point numbers"),
        ("style.1.weight", None, "no style.1.weight"),
        ("noises.noise_3", None, "noises.noise_3: it is missing"),
        ("surprise", torch.zeros(2), "surprise: it is not a part of rosinality's StyleGAN2"),
        ("convs.3.conv.weight", torch.zeros(1, 9, 9, 3, 3), "9 at 16.* follow no rule"),
        ("convs.0.conv.blur.kernel", torch.zeros(4, 4), "its sum is zero or no number"),
        ("convs.0.conv.blur.kernel", torch.ones(40, 40), "square filter of at most 31"),
        ("conv1.conv.weight", torch.zeros(1, 6, 6, 3), "expected 5 sizes"),
        ("conv1.conv.weight", torch.zeros(1, 70000, 1, 1, 1), "expected 5 sizes from 1 to 65536"),
    ],
)
def test_broken_rosinality_files_are_refused(key, value, reason):
    with pytest.raises(si.NetworkFileError, match=reason):
        opened({"g_ema": broken(their_generator(), key, value)})


def test_more_refusals_of_rosinality_files():
    tensors = their_generator()
    for mean in (torch.zeros(6), torch.zeros(65, 7), torch.tensor(0.0), torch.zeros(7, dtype=torch.int32)):
        with pytest.raises(si.NetworkFileError, match="latent_avg: its shape is|latent_avg: it is of type"):
            opened({"g_ema": tensors, "latent_avg": mean})
    for i in range(1, 70):
        tensors[f"style.{i}.weight"] = torch.zeros(1, 1)
    with pytest.raises(si.NetworkFileError, match="more than 64"):
        opened({"g_ema": tensors})
    with pytest.raises(si.NetworkFileError, match="convs.1.conv2.1.weight: it is missing"):
        opened({"g": their_generator(), "d": broken(their_discriminator(), "convs.1.conv2.1.weight")})
    many = {f"to_rgbs.{i}.bias": torch.zeros(1, 3, 1, 1) for i in range(20)}
    with pytest.raises(si.NetworkFileError, match="more than 10"):
        opened({"g_ema": {**their_generator(), **many}})


def test_tensors_that_share_a_storage_cannot_multiply_it():
    """Nor can noise maps that are not in the file."""
    tensors = their_generator((1,) * 8, w_dim=1, n_mlp=1)
    shared = {k: torch.zeros(1).expand(v.shape) if k.startswith("noises.") else v for k, v in tensors.items()}
    with pytest.raises(si.NetworkFileError, match="does not fit its storage"):
        opened({"g_ema": shared})
    with pytest.raises(si.NetworkFileError, match="twice the memory of the file"):
        opened({"g_ema": {k: v for k, v in tensors.items() if not k.startswith("noises.")}})


# pSp


def test_psp_decoders_are_read(monkeypatch):
    tensors = their_generator()
    state = {f"decoder.{k}": v for k, v in tensors.items()} | {"encoder.body.0.weight": torch.zeros(3, 3, 1, 1)}
    expected = opened({"g_ema": tensors, "latent_avg": torch.arange(7.0)}).G.state_dict()
    for mean in (torch.arange(7.0), torch.arange(7.0).repeat(6, 1), torch.arange(7.0)[None]):
        opts = argparse.Namespace(
            output_size=16, device=torch.device("cuda", 0), exp_dir=pathlib.PurePosixPath("a/b").name
        )
        for options in (vars(opts), opts, argparse.Namespace(path=pathlib.PosixPath("/a/b"), nested=opts)):
            net = opened({"state_dict": state, "opts": options, "latent_avg": mean})
            assert all(torch.equal(v, expected[k]) for k, v in net.G.state_dict().items())
            assert net.D is None
    rows = torch.stack([torch.zeros(7), torch.arange(7.0)])
    assert torch.equal(opened({"state_dict": state, "latent_avg": rows}).G.mapping.w_avg, torch.arange(7.0) / 2)
    with pytest.raises(si.NetworkFileError, match=r"state_dict.decoder.to_rgbs.1.conv.weight: it is missing"):
        opened({"state_dict": broken(state, "decoder.to_rgbs.1.conv.weight"), "latent_avg": rows})
    class_ = type("Namespace", (), {"__module__": "argparse", "__reduce__": lambda self: (argparse.Namespace, (1,))})
    with pytest.raises(si.NetworkFileError, match="made from arguments"):
        opened({"state_dict": state, "opts": class_()})


# Writing for rosinality


@pytest.fixture
def narrow(monkeypatch):
    """Lets rosinality's classes have 8 channels where they have 512."""
    monkeypatch.setattr(rosinality, "WIDTH", 8)


def network(width=8, **changes):
    """A generator of 16x16 that rosinality's classes can hold, or one that differs."""
    arguments = dict(z_dim=16, c_dim=0, w_dim=16, img_resolution=16, img_channels=3) | changes.pop("G", {})
    synthesis = dict(channel_base=16 * width, channel_max=width) | changes.pop("synthesis", {})
    mapping = dict(num_layers=2) | changes.pop("mapping", {})
    G = Generator(**arguments, mapping_kwargs=mapping, synthesis_kwargs=synthesis)
    fill(G.eval().requires_grad_(False), 3)
    return G


def both(width=8):
    """A generator and a discriminator that rosinality's classes can hold, with what their files do not keep."""
    G = network(width, synthesis={"conv_clamp": 256, "num_fp16_res": 1})
    D = Discriminator(0, 16, 3, channel_base=16 * width, channel_max=width)
    fill(D.eval().requires_grad_(False), 4)
    extra = {"de": {"a": torch.ones(2)}}
    return si.NetworkFile({"G": G, "G_ema": G, "D": D}, training_set_kwargs={"path": "x"}, extra=extra)


def test_pickle_to_rosinality_and_back_is_the_identity(narrow, tmp_path):
    net = both()
    report = convert.convert(net, tmp_path / "a.pt", "rosinality")
    assert [d.role for d in report.differences] == ["G_ema", "D"] and all(d.error == 0 for d in report.differences)
    assert report.left_out == [
        "conv_clamp 256 (no picture of 4 seeds reaches it)",
        "half precision on a GPU at 16",
        "w_avg_beta 0.995",
        "training_set_kwargs",
        "the extra tensors 'de'",
    ]
    contents = torch.load(tmp_path / "a.pt", weights_only=True)
    assert set(contents) == {"g_ema", "d", "latent_avg"}
    assert rosinality.arguments(net.G) == {"size": 16, "style_dim": 16, "n_mlp": 2, "channel_multiplier": 2}
    z = np.random.RandomState(7).randn(16)
    ws = net.G.mapping(torch.from_numpy(z[None]))
    picture = net.G.synthesis(ws, noise_mode="const")
    assert_close("picture", picture[0].double().numpy(), generate(contents["g_ema"], z)[0], 1e-5)
    pictures = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert_close("logits", net.D(pictures).double().numpy(), judge(contents["d"], pictures.double().numpy()), 1e-5)
    convert.convert(network_file.load(tmp_path / "a.pt"), tmp_path / "b.pkl", "pickle")
    again = si.load(tmp_path / "b.pkl")
    for role in ("G", "G_ema", "D"):
        expected, got = net[role].state_dict(), again[role].state_dict()
        assert list(expected) == list(got) and all(torch.equal(got[k], expected[k]) for k in expected)
    assert again.G.mapping.w_avg.abs().sum() > 0


def test_other_multipliers_and_no_noise_are_folded_in(narrow):
    G = network(mapping={"lr_multiplier": 0.03, "w_avg_beta": None}, synthesis={"use_noise": False})
    z = np.random.RandomState(0).randn(16)
    tensors = rosinality.state_dict(G)
    got, _ = generate(tensors, z)
    assert_close("picture", got, G(torch.from_numpy(z[None]), noise_mode="const")[0].double().numpy(), 1e-5)
    assert not tensors["noises.noise_1"].any() and tensors["noises.noise_1"].shape == (1, 1, 8, 8)
    assert rosinality._lost(G) == [
        "that layers have no noise (they get noise of strength zero)",
        "the mapping's lr_multiplier (it is multiplied into the weights)",
        "that there is no w_avg",
    ]


def edited(**attributes):
    G = network()
    for name, value in attributes.items():  # "__" stands for a dot
        owner, _, last = name.rpartition("__")
        setattr(G.get_submodule(owner.replace("__", ".")), last, value)
    return G


@pytest.mark.parametrize(
    "make, reason",
    [
        (lambda: network(G={"c_dim": 2}), "it has 2 classes"),
        (lambda: network(G={"img_channels": 1}), "have 1 channels"),
        (lambda: network(G={"z_dim": 8}), "z and the layers of the mapping differ in size"),
        (lambda: network(mapping={"layer_features": 8}), "z and the layers of the mapping differ in size"),
        (lambda: network(synthesis={"activation": "relu"}), "the activation relu"),
        (lambda: network(mapping={"activation": "elu"}), "the activation elu"),
        (lambda: network(synthesis={"architecture": "resnet"}), "architecture is 'resnet'"),
        (lambda: network(synthesis={"kernel_size": 1}), "kernels are not 3x3"),
        (lambda: network(synthesis={"resample_filter": [1, 2, 1]}), "other than four taps"),
        (
            lambda: network(synthesis={"channel_max": 4}),
            "it has 4 channels at 4x4, 4 channels at 8x8, 4 channels at 16x16; theirs are 512",
        ),
        (lambda: network(synthesis={"conv_clamp": 0.5}), "conv_clamp acts in .*b8.conv1"),
        (lambda: edited(mapping__normalize_z=False), "root mean square"),
        (lambda: edited(synthesis__b8__conv1__act_gain=2.0), "gains of its layers were changed"),
        (lambda: edited(synthesis__b8__torgb__weight_gain=2.0), "gains of its layers were changed"),
        (lambda: edited(synthesis__b8__conv0__affine__activation="lrelu"), "its styles have an activation"),
        (lambda: si.load("faces64").G, "family dcgan has no place in rosinality"),
    ],
)
def test_what_rosinality_cannot_hold_is_named(make, reason, narrow, tmp_path):
    G = make()
    with pytest.raises(ValueError, match=reason):
        convert.convert(si.NetworkFile({"G_ema": G}), tmp_path / "a.pt", "rosinality")
    assert not list(tmp_path.iterdir())


def test_the_channels_of_rosinality():
    """512 up to 32x32, then 256 m, 128 m, ... (its model.py)"""
    theirs = {4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128, 512: 64, 1024: 32}
    half = {**theirs, 64: 256, 128: 128}

    def wrong(widths):
        return rosinality._reasons(*rosinality._width_reasons(widths))

    assert not wrong(theirs) and not wrong({k: v for k, v in half.items() if k <= 128}) and not wrong({4: 512, 8: 512})
    assert "64 channels at 256x256" in wrong({**theirs, 256: 64})[0]
    assert "128 channels at 64x64" in wrong({4: 512, 8: 512, 16: 512, 32: 512, 64: 128})[0]


def test_all_reasons_are_named_at_once():
    G = network(G={"c_dim": 2, "img_channels": 1}, synthesis={"channel_max": 8})
    with pytest.raises(ValueError, match="2 classes.*1 channels.*8 channels at 4x4"):
        rosinality.state_dict(G)


@pytest.mark.parametrize(
    "kwargs, reason",
    [
        ({"architecture": "skip"}, "architecture is 'skip'"),
        ({"epilogue_kwargs": {"mbstd_num_channels": 0}}, "groups of 4"),
        ({"epilogue_kwargs": {"mbstd_group_size": 2}}, "groups of 4"),
        ({"block_kwargs": {"activation": "relu"}}, "activation relu"),
        ({"block_kwargs": {"resample_filter": [1, 1]}}, "other than four taps"),
        ({"conv_clamp": 1e-3}, "conv_clamp acts in"),
        ({"channel_max": 4}, "4 channels at 4x4"),
    ],
)
def test_discriminators_that_rosinality_has_not_are_left_out(kwargs, reason, narrow, tmp_path):
    D = Discriminator(0, 16, 3, **{"channel_base": 128, "channel_max": 8, **kwargs}).eval().requires_grad_(False)
    lost = rosinality.write(si.NetworkFile({"G_ema": network(), "D": D}), tmp_path / "a.pt")
    (found,) = [text for text in lost if text.startswith("the discriminator")]
    assert reason in found
    assert network_file.load(tmp_path / "a.pt").D is None


# safetensors


def states(net):
    return {role: net[role].state_dict() for role in ("G", "D", "G_ema") if net[role] is not None}


@pytest.mark.parametrize("kind", ["plain", "classes", "direction", "no discriminator"])
def test_safetensors_are_the_identity(kind, tmp_path):
    net = (
        make_direction_network(normalize_z=False)
        if kind == "direction"
        else make_network(classes=3 * (kind == "classes"))
    )
    if kind == "no discriminator":
        other = make_network().G
        other.synthesis.b8.conv0.conv_clamp, other.synthesis.b16.use_fp16, other.mapping.fc1.activation = (
            1.5,
            True,
            "relu",
        )
        net = si.NetworkFile(
            {"G": make_network(channels=1).G, "G_ema": other}, training_set_kwargs={"path": "x", "n": 3}
        )
        net.extra["deep"] = {"er": {"i": torch.arange(3)}, "half": torch.ones(2, dtype=torch.bfloat16)}
    report = convert.convert(net, tmp_path / "a.safetensors", "safetensors")
    assert report.left_out == [] and all(d.error == 0 for d in report.differences)
    again = network_file.load(tmp_path / "a.safetensors")
    a, b = states(net), states(again)
    assert a.keys() == b.keys()
    for role in a:
        assert list(a[role]) == list(b[role]) and all(torch.equal(a[role][k], b[role][k]) for k in a[role])
        assert not again[role].training and not any(p.requires_grad for p in again[role].parameters())
    assert (again["G"] is again.G) == (net["G"] is net.G) and again.training_set_kwargs == net.training_set_kwargs
    assert_same_tables(net.extra, again.extra)
    if kind == "direction":
        assert again.G.mapping.normalize_z is False and again.direction is not None
    if kind == "no discriminator":
        assert again.G.synthesis.b8.conv0.conv_clamp == 1.5 and again.G.synthesis.b16.use_fp16
        assert again.G.mapping.fc1.activation == "relu" and again.G.synthesis.b8.conv1.conv_clamp is None
    convert.convert(again, tmp_path / "b.safetensors", "safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    with safetensors_open(tmp_path / "a.safetensors") as file:  # the library's own reader agrees
        assert json.loads(file.metadata()["stylegan_invert"])["networks"]["G_ema"]["class"] == "stylegan2.Generator"
        assert torch.equal(file.get_tensor("G_ema.synthesis.b4.const"), net.G.synthesis.b4.const)


def safetensors_open(path):
    import safetensors

    return safetensors.safe_open(path, "pt")


def assert_same_tables(a, b):
    assert a.keys() == b.keys()
    for key, value in a.items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == b[key].dtype and torch.equal(value, b[key])
        else:
            assert_same_tables(value, b[key])


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A file's header and body."""
    path = tmp_path_factory.mktemp("safetensors") / "a.safetensors"
    network_safetensors.write(make_network(resolution=8), path)
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def assembled(header, body):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def change(header, **edits):
    """The header with an edited description."""
    header = json.loads(json.dumps(header))
    about = json.loads(header["__metadata__"]["stylegan_invert"])
    for path, value in edits.items():
        *where, last = path.split("__")
        target = about
        for key in where:
            target = target[key]
        target[last] = value
    header["__metadata__"]["stylegan_invert"] = json.dumps(about)
    return header


HOSTILE = {
    "networks__G_ema__class": [("os.system", "expected one of"), ("stylegan2.Discriminator", "describe no network|unexpected")],
    "networks__G_ema__kwargs": [(None, "expected a table"), ({"z_dim": 8}, "describe no network")],
    "networks__G_ema__kwargs__z_dim": [(9, "G_ema.mapping.fc0.weight"), (-1, "expected an integer"), (10**30, "an integer")],
    "networks__G_ema__kwargs__img_resolution": [(2**30, "from 4 to 4096"), (16, "it is missing"), (12, "power of two")],
    "networks__G_ema__kwargs__surprise": [(1, "describe no network"), ("x" * 10**4, "no network has such")],
    "networks__G_ema__kwargs__mapping_kwargs": [
        ({"num_layers": 10**6}, "from 1 to 64"), ({"surprise": 1}, "unknown"), (7, "expected a table"),
        ({"num_layers": 64}, "it is missing|far more layers"),
    ],
    "networks__G_ema__attributes": [
        ({"synthesis": {"forward": 1}}, "no attribute 'forward'"), ({"nowhere": {}}, "names of the network's modules"),
        ({"mapping": {"w_avg_beta": 7}}, "expected None or a number"), ({"mapping": {"normalize_z": 0}}, "True or False"),
        ({"synthesis.b8.conv0": {"__class__": 1}}, "no attribute"), (3, "expected a table"),
    ],
    "networks__G": [("D", ""), ("G", "expected a network"), ("X", "expected a network"), (3, "expected a network")],
    "networks": [({}, "expected a table"), ({"X": {}}, "expected a table"), ([], "expected a table")],
    "format": [(2, "its format is 2"), (True, "its format is True")],
    "extra": [({"a": "G_ema.mapping.w_avg"}, "not a tensor of that table"), ({"a": 3}, "expected a table of tensors"), ([], "a table")],
    "training_set_kwargs": [([], "expected a table")],
}  # fmt: skip


@pytest.mark.parametrize("path, value, reason", [(k, *case) for k, cases in HOSTILE.items() for case in cases])
def test_hostile_descriptions_are_refused(parts, path, value, reason):
    header, body = parts
    data = assembled(change(header, **{path: value}), body)
    if not reason:  # one network under two names is no harm, if it is a generator where one is needed
        assert isinstance(network_file.from_bytes(data, "f")["G"], Discriminator)
        return
    with pytest.raises(si.NetworkFileError, match=reason):
        network_file.from_bytes(data, "f")


def test_broken_safetensors_are_refused(parts, tmp_path):
    header, body = parts
    whole = assembled(header, body)
    network_file.from_bytes(whole, "f")
    name = "G_ema.mapping.fc0.weight"

    def with_tensor(**fields):
        return assembled({**header, name: {**header[name], **fields}}, body)

    def with_more(more):
        place = {"dtype": "F32", "shape": [1], "data_offsets": [len(body), len(body) + 4]}
        return assembled({**header, more: place}, body + b"1234")

    cases = [
        (whole[:-1], "takes .* bytes|lies at|is it complete"),
        (whole + b"\0", "is it complete"),
        (with_tensor(dtype="F128"), "expected one of F64"),
        (with_tensor(dtype="F16"), "takes"),
        (with_tensor(shape=[2**40, 2**40]), "makes no sense"),
        (with_tensor(shape=[-8, -8]), "makes no sense"),
        (with_tensor(shape=[8] * 20), "makes no sense"),
        (with_tensor(shape=[8, 4]), "takes"),
        (with_tensor(shape=[64]), r"it is \(64,\), torch.float32; its arguments ask for \(8, 8\)"),
        (with_tensor(data_offsets=[0]), "makes no sense"),
        (with_tensor(data_offsets=[0, 256]), "overlap"),
        (assembled({k: v for k, v in header.items() if k != name}, body), "overlap|leave bytes"),
        (assembled({k: v for k, v in header.items() if k != "__metadata__"}, body), "says nothing"),
        (assembled({**header, "__metadata__": {"stylegan_invert": "["}}, body), "JSON is broken"),
        (assembled({**header, "__metadata__": {"stylegan_invert": "[" * 10**5}}, body), "nested too deeply|JSON is broken"),
        (struct.pack("<Q", 5 * 2**20) + b"{" + b" " * 5 * 2**20, "its header has"),
        (struct.pack("<Q", 14) + b'{"a":1,"a":1}\xff', "not UTF-8"),
        (struct.pack("<Q", 13) + b'{"a":1,"a":1}', "occurs twice"),
        (whole[:200], "it ends in its header"),
        (b"\xff" * 8 + b"{" + body, "not a network file"),
        (with_more("D.more"), "D.more: its network has no such tensor"),
        (with_more("G.more"), "G.more: it belongs to no network"),
    ]  # fmt: skip
    for data, reason in cases:
        with pytest.raises(si.NetworkFileError, match=reason):
            network_file.from_bytes(data, "f")
    random = np.random.RandomState(0)
    refused = 0
    for _ in range(
        150
    ):  # flipped bytes in the header: a clear error, or a network (a name in extra, a number in the weights)
        damaged = bytearray(whole)
        damaged[8 + random.randint(len(whole) - len(body) - 8)] = random.randint(256)
        try:
            network_safetensors.read(damaged, "f")
        except si.NetworkFileError:
            refused += 1
    assert refused > 100


class Huge(torch.nn.Module):
    """Stands for a family whose arguments have no checks of their own."""

    family, c_dim = "huge", 0

    def __init__(self, layers=1, size=2):
        super().__init__()
        self.init_kwargs = {"layers": layers, "size": size}
        self.parts = torch.nn.ModuleList(torch.nn.Linear(size, size) for _ in range(layers))


def test_arguments_without_checks_cannot_cost_much(monkeypatch, tmp_path):
    monkeypatch.setitem(network_safetensors.CLASSES, "huge.Huge", Known(Huge, {}))
    net = si.NetworkFile({"G_ema": Huge(2, 3)})
    network_safetensors.write(net, tmp_path / "a.safetensors")
    data = (tmp_path / "a.safetensors").read_bytes()
    again = network_safetensors.read(data, "f").networks["G_ema"]
    assert torch.equal(again.parts[1].weight, net.G.parts[1].weight)
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    for name, value, reason in [
        ("layers", 60_000, "far more layers than the file has tensors"), ("layers", 10**9, "no network has such"),
        ("size", 65_000, "its arguments ask for"), ("size", [[[[[[[[[[1]]]]]]]]]], "too long"),
        ("size", [0] * 20_000, "too long"), ("size", float("nan"), "no network has such"), ("layers", "x", "describe no"),
    ]:  # fmt: skip
        with pytest.raises(si.NetworkFileError, match=reason):
            network_safetensors.read(
                assembled(change(header, **{f"networks__G_ema__kwargs__{name}": value}), body), "f"
            )
    with pytest.raises(ValueError, match="has no place in such a file yet"):
        network_safetensors.write(si.NetworkFile({"G_ema": torch.nn.Linear(1, 1)}), tmp_path / "b.safetensors")


# The command


def call(*args):
    return CliRunner().invoke(cli, ["convert", *map(str, args)])


def test_the_command_goes_round(narrow, tmp_path):
    si.save(both(), tmp_path / "a.pkl")
    for a, b in (("a.pkl", "b.pt"), ("b.pt", "c.safetensors"), ("c.safetensors", "d.pkl")):
        result = call(tmp_path / a, tmp_path / b)
        assert result.exit_code == 0, result.output
        assert "stylegan2, 16x16, 3 channels, 0 classes, with D" in result.output
        assert "pictures of G_ema: largest difference 0.0e+00" in result.output
        assert "judgements of D: largest difference 0.0e+00" in result.output
        assert ("not in it: conv_clamp 256" in result.output) == (b == "b.pt")
    a, d = si.load(tmp_path / "a.pkl"), si.load(tmp_path / "d.pkl")
    assert all(torch.equal(v, d.G.state_dict()[k]) for k, v in a.G.state_dict().items())
    assert all(torch.equal(v, d.D.state_dict()[k]) for k, v in a.D.state_dict().items())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pkl", "b.pt", "c.safetensors", "d.pkl"]


def test_the_command_refuses(tiny_file, tmp_path, monkeypatch):
    for args, reason in [
        ((tiny_file, tmp_path / "a.onnx"), "--format"),
        ((tiny_file, tmp_path), "it is a directory|ends in none"),
        ((tmp_path / "nothing.pkl", tmp_path / "a.pt"), "no such file"),
        ((tiny_file, tmp_path / "a.pt"), "no such generator: it has 8 channels at 4x4, 8 channels at 8x8"),
        (("faces64", tmp_path / "a.pkl"), "family dcgan cannot be written as an official file"),
    ]:
        result = call(*args)
        text = f"{result.output} {result.exception}"
        assert result.exit_code != 0 and not list(tmp_path.iterdir())
        assert any(part in text for part in reason.split("|")), text
    # A writer that gets a tensor wrong is caught before the file takes its place.
    right = convert._write_safetensors

    def wrong(net, path):
        changed = network_file.from_bytes(pathlib.Path(tiny_file).read_bytes(), "f")
        changed.G.synthesis.b8.torgb.bias += 1e-3
        return right(changed, path)

    monkeypatch.setitem(convert.FORMATS, "safetensors", convert.FORMATS["safetensors"]._replace(write=wrong))
    result = call(tiny_file, tmp_path / "a.safetensors")
    assert (
        result.exit_code == 1
        and "was not written: the networks that were read again differ, G_ema by 1.0e-03" in str(result.exception)
    )
    assert not list(tmp_path.iterdir())


def test_a_generator_without_normalisation_warns_in_the_report(tmp_path):
    result = call_on(make_direction_network(normalize_z=False), tmp_path)
    assert any("does not divide z" in text for text in result.left_out) and all(
        d.error == 0 for d in result.differences
    )


def call_on(net, tmp_path):
    return convert.convert(net, tmp_path / "a.pkl", "pickle")


# Their code, where a checkout of it is given


@pytest.fixture(scope="module")
def model():
    """rosinality's model.py, with plain torch in the place of its CUDA operations."""
    repo = os.environ.get("ROSINALITY_REPO")
    if not repo:
        pytest.skip("set ROSINALITY_REPO to a checkout of rosinality/stylegan2-pytorch to compare with it")

    def fused_leaky_relu(x, bias=None, negative_slope=0.2, scale=2**0.5):
        x = x if bias is None else x + bias.view(1, -1, *[1] * (x.ndim - 2))
        return F.leaky_relu(x, negative_slope) * scale

    class FusedLeakyReLU(torch.nn.Module):
        def __init__(self, channel, bias=True, negative_slope=0.2, scale=2**0.5):
            super().__init__()
            self.bias = torch.nn.Parameter(torch.zeros(channel)) if bias else None

        def forward(self, x):
            return fused_leaky_relu(x, self.bias)

    def upfirdn2d(x, kernel, up=1, down=1, pad=(0, 0)):
        n, c, h, w = x.shape
        larger = x.new_zeros(n * c, 1, h * up, w * up)
        larger[:, :, ::up, ::up] = x.reshape(n * c, 1, h, w)
        larger = F.pad(larger, [pad[0], pad[1], pad[0], pad[1]])
        out = F.conv2d(larger, kernel.flip([0, 1])[None, None])[:, :, ::down, ::down]
        return out.reshape(n, c, *out.shape[2:])

    op = types.ModuleType("op")
    op.fused_leaky_relu, op.FusedLeakyReLU, op.upfirdn2d = fused_leaky_relu, FusedLeakyReLU, upfirdn2d
    op.conv2d_gradfix = types.SimpleNamespace(conv2d=F.conv2d, conv_transpose2d=F.conv_transpose2d)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "op", op)
        spec = importlib.util.spec_from_file_location("rosinality_model", os.path.join(repo, "model.py"))
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def theirs(generator, z, mean=None, psi=1.0):
    with torch.no_grad():
        return generator([z], randomize_noise=False, truncation=psi, truncation_latent=mean)[0]


@pytest.mark.parametrize("multiplier", [1, 2])
def test_their_files_render_the_same_here(model, multiplier):
    torch.manual_seed(0)
    G, D = model.Generator(64, 24, 3, multiplier), model.Discriminator(64, multiplier)
    for network in (G, D):
        for name, p in network.named_parameters():
            if name.endswith(("bias", "noise.weight")):
                p.data += 0.3 * torch.randn_like(p)
    D.final_linear[1].weight.data.abs_()  # a sum that does not cancel, so that its own size is its scale
    mean = torch.randn(24)
    net = opened({"g_ema": G.state_dict(), "d": D.state_dict(), "latent_avg": mean})
    z = torch.randn(2, 24)
    expected, truncated = theirs(G, z), theirs(G, z, mean, 0.6)
    got = net.G(z, noise_mode="const")
    assert_close("pictures", got.numpy(), expected.numpy(), 1e-5)
    assert_close("truncated", net.G(z, truncation_psi=0.6, noise_mode="const").numpy(), truncated.numpy(), 1e-5)
    assert_close("logits", net.D(expected).numpy(), D(expected).detach().numpy(), 1e-5)
    assert rosinality.arguments(net.G) == {"size": 64, "style_dim": 24, "n_mlp": 3, "channel_multiplier": multiplier}
    again = rosinality.state_dict(net.G)
    assert again.keys() == G.state_dict().keys()
    assert all(torch.equal(again[k], v) for k, v in G.state_dict().items())
    again = rosinality.discriminator_state_dict(net.D, expected)
    assert again.keys() == D.state_dict().keys() and all(torch.equal(again[k], v) for k, v in D.state_dict().items())


@pytest.mark.parametrize("blur", [[1, 2, 1], [1, 5, 10, 10, 5, 1], [1, 1]])
def test_their_files_with_another_blur_kernel(model, blur):
    torch.manual_seed(0)
    G, z = model.Generator(32, 24, 3, 1, blur_kernel=blur), torch.randn(2, 24)
    assert_close(
        "pictures", opened({"g_ema": G.state_dict()}).G(z, noise_mode="const").numpy(), theirs(G, z).numpy(), 1e-5
    )


def test_converted_files_load_there(model, tmp_path):
    net = both(512)
    convert.convert(net, tmp_path / "a.pt", "rosinality")
    contents = torch.load(tmp_path / "a.pt", weights_only=True)
    G = model.Generator(**rosinality.arguments(net.G))
    D = model.Discriminator(16)
    G.load_state_dict(contents["g_ema"], strict=True)
    D.load_state_dict(contents["d"], strict=True)
    z = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    expected = theirs(G, z, contents["latent_avg"], 0.7)
    got = net.G(z, truncation_psi=0.7, noise_mode="const")
    assert_close("pictures", got.numpy(), expected.numpy(), 1e-5)
    with torch.no_grad():
        assert_close("logits", net.D(expected).numpy(), D(expected).numpy(), 1e-5)
