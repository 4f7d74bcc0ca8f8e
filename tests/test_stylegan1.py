"""StyleGAN's networks against the TensorFlow arithmetic, evaluated in NumPy with float64 from the file's variables.

Where a checkout of the official code is given, its functions are run too, on TensorFlow operations made of NumPy's.
"""
# Takes at most 12 CPU seconds.

import contextlib
import json
import math
import os
import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch

from stylegan_invert import NetworkFileError
from stylegan_invert.files.tensors import Storage, TensorRecord, number_record
from stylegan_invert.generator import adapt
from stylegan_invert.network_files.assemble import Budget
from stylegan_invert.network_files.families.tf_stylegan1 import build
from stylegan_invert.network_files.machine.containers import read_records
from stylegan_invert.network_files.machine.tensorflow import find_networks
from stylegan_invert.networks.stylegan1 import Discriminator, Generator

import tf_pickles
from support import assert_close

TOLERANCE = 1e-5
GAIN = math.sqrt(2)
# The official code's defaults, which the reader must know too.
G_DEFAULTS = dict(
    latent_size=512, label_size=0, dlatent_size=512, resolution=1024, num_channels=3, mapping_layers=8, mapping_fmaps=512,
    mapping_lrmul=0.01, mapping_nonlinearity="lrelu", use_wscale=True, normalize_latents=True, fmap_base=8192, fmap_decay=1.0,
    fmap_max=512, use_styles=True, const_input_layer=True, use_noise=True, nonlinearity="lrelu", use_pixel_norm=False,
    use_instance_norm=True, fused_scale="auto", blur_filter=[1, 2, 1],
)  # fmt: skip
D_DEFAULTS = dict(
    num_channels=1, resolution=32, label_size=0, fmap_base=8192, fmap_decay=1.0, fmap_max=512, nonlinearity="lrelu",
    use_wscale=True, mbstd_group_size=4, mbstd_num_features=1, fused_scale="auto", blur_filter=[1, 2, 1],
)  # fmt: skip
TINY = dict(latent_size=6, dlatent_size=5, resolution=16, mapping_layers=3, mapping_fmaps=7, fmap_base=32, fmap_max=8)
TINY_D = dict(resolution=16, num_channels=3, fmap_base=32, fmap_max=8)


def nf(a, stage):
    return min(int(a["fmap_base"] / 2.0 ** (stage * a["fmap_decay"])), a["fmap_max"])


def g_shapes(a):
    """Names and shapes of a generator's variables, as the official code makes them."""
    log2, w = int(math.log2(a["resolution"])), a["dlatent_size"]
    shapes = {"lod": (), "dlatent_avg": (w,), "synthesis/lod": ()}
    if a["label_size"]:
        shapes["mapping/LabelConcat/weight"] = (a["label_size"], a["latent_size"])
    size = a["latent_size"] * (2 if a["label_size"] else 1)
    for i in range(a["mapping_layers"]):
        out = w if i == a["mapping_layers"] - 1 else a["mapping_fmaps"]
        shapes |= {f"mapping/Dense{i}/weight": (size, out), f"mapping/Dense{i}/bias": (out,)}
        size = out
    if a["use_noise"]:
        shapes |= {f"synthesis/noise{k}": (1, 1, 2 ** (k // 2 + 2), 2 ** (k // 2 + 2)) for k in range(2 * log2 - 2)}

    def layer(scope, channels):
        shapes[f"{scope}/bias"] = (channels,)
        if a["use_noise"]:
            shapes[f"{scope}/Noise/weight"] = (channels,)
        if a["use_styles"]:
            shapes.update({f"{scope}/StyleMod/weight": (w, 2 * channels), f"{scope}/StyleMod/bias": (2 * channels,)})

    for k in range(2, log2 + 1):
        scope, before, channels = f"synthesis/{2**k}x{2**k}", nf(a, k - 2), nf(a, k - 1)
        if k > 2:
            names = {"Conv0_up": (3, 3, before, channels), "Conv1": (3, 3, channels, channels)}
            shapes |= {f"{scope}/{name}/weight": shape for name, shape in names.items()}
        else:
            names = {"Const" if a["const_input_layer"] else "Dense": 0, "Conv": 0}
            shapes[f"{scope}/Conv/weight"] = (3, 3, channels, channels)
            if a["const_input_layer"]:
                shapes[f"{scope}/Const/const"] = (1, channels, 4, 4)
            else:
                shapes[f"{scope}/Dense/weight"] = (w, channels * 16)
        for name in names:
            layer(f"{scope}/{name}", channels)
        shapes[f"synthesis/ToRGB_lod{log2 - k}/weight"] = (1, 1, channels, a["num_channels"])
        shapes[f"synthesis/ToRGB_lod{log2 - k}/bias"] = (a["num_channels"],)
    return shapes


def d_shapes(a):
    log2 = int(math.log2(a["resolution"]))
    shapes = {"lod": ()}

    def layer(scope, *shape):
        shapes.update({f"{scope}/weight": shape, f"{scope}/bias": shape[-1:]})

    for k in range(2, log2 + 1):
        layer(f"FromRGB_lod{log2 - k}", 1, 1, a["num_channels"], nf(a, k - 1))
        if k > 2:
            layer(f"{2**k}x{2**k}/Conv0", 3, 3, nf(a, k - 1), nf(a, k - 1))
            layer(f"{2**k}x{2**k}/Conv1_down", 3, 3, nf(a, k - 1), nf(a, k - 2))
    extra = a["mbstd_num_features"] if a["mbstd_group_size"] > 1 else 0
    layer("4x4/Conv", 3, 3, nf(a, 1) + extra, nf(a, 1))
    layer("4x4/Dense0", nf(a, 1) * 16, nf(a, 0))
    layer("4x4/Dense1", nf(a, 0), max(a["label_size"], 1))
    return shapes


def drawn(shapes, lod=0.0, seed=0):
    """Random float32 variables of names and shapes; biases and strengths are not small."""
    random = np.random.RandomState(seed)
    values = {name: random.randn(*shape).astype(np.float32) for name, shape in shapes.items() if shape}
    values |= {name: lod for name, shape in shapes.items() if not shape}
    if "dlatent_avg" in values:
        for name in values:
            if name.startswith("mapping/Dense"):
                values[name] *= 100  # what training with a small learning rate leaves, and official code begins with
    return values


def array_record(value):
    if np.ndim(value) == 0:
        return number_record(float(value))
    data = memoryview(np.ascontiguousarray(value, np.float32).tobytes())
    strides = tuple(math.prod(value.shape[i + 1 :]) for i in range(value.ndim))
    return TensorRecord(Storage("FloatStorage", data), 0, value.shape, strides)


def record(build_func, kwargs, values):
    """What io/tensorflow.py gives for a network."""
    variables = {name: array_record(value) for name, value in values.items()}
    return SimpleNamespace(build_func=build_func, static_kwargs=dict(kwargs), variables=variables, components={})


def read(build_func, kwargs, values, nbytes=2**30):
    return build(record(build_func, kwargs, values), "net.pkl", "G_ema", Budget("net.pkl", nbytes))


# The arithmetic


def act(x, name):
    return np.maximum(x, x * 0.2) if name == "lrelu" else np.maximum(x, 0)


def scaled(v, a, name, gain=GAIN, lrmul=1.0):
    w = v[name].astype(np.float64)
    return w * lrmul * (gain / math.sqrt(np.prod(w.shape[:-1])) if a["use_wscale"] else 1)


def conv(x, w, stride=1, pad=None):
    """Correlation of (N, I, H, W) with (K, K, I, O), padded as TensorFlow's SAME for odd kernels."""
    pad = w.shape[0] // 2 if pad is None else pad
    size = (x.shape[2] + 2 * pad - w.shape[0]) // stride + 1
    x = np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    out = 0
    for i, j in np.ndindex(w.shape[:2]):
        piece = x[:, :, i : i + stride * size : stride, j : j + stride * size : stride][:, :, :size, :size]
        out = out + np.einsum("nihw,io->nohw", piece, w[i, j])
    return out


def enlarged(x, factor=2):
    return x.repeat(factor, axis=2).repeat(factor, axis=3)


def shrunk(x, factor):
    n, c, h, w = x.shape
    return x.reshape(n, c, h // factor, factor, w // factor, factor).mean(axis=(3, 5))


def box(w):
    w = np.pad(w, [(1, 1), (1, 1), (0, 0), (0, 0)])
    return w[1:, 1:] + w[:-1, 1:] + w[1:, :-1] + w[:-1, :-1]


def up_conv(x, w, fused):
    if not fused:
        return conv(enlarged(x), w)
    w, (n, _, h, wd) = box(w), x.shape  # conv2d_transpose: every pixel adds a kernel to the result
    out = np.zeros([n, w.shape[3], 2 * h + 2, 2 * wd + 2])
    for i, j in np.ndindex(4, 4):
        out[:, :, i : i + 2 * h : 2, j : j + 2 * wd : 2] += np.einsum("nihw,io->nohw", x, w[i, j])
    return out[:, :, 1:-1, 1:-1]


def blur(x, taps):
    if not taps:
        return x
    f = np.array(taps, np.float64)
    f = f[:, None] * f[None] if f.ndim == 1 else f
    f = f / f.sum()
    (h, w), (rows, columns) = f.shape, x.shape[2:]
    x = np.pad(x, [(0, 0), (0, 0), ((h - 1) // 2, h // 2), ((w - 1) // 2, w // 2)])
    return sum(f[i, j] * x[:, :, i : i + rows, j : j + columns] for i, j in np.ndindex(h, w))


def pixel_norm(x):
    return x / np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-8)


def mapping(v, a, z, c=None, psi=None, cutoff=None):
    x = z if c is None else np.concatenate([z, c @ v["mapping/LabelConcat/weight"].astype(np.float64)], axis=1)
    x = pixel_norm(x) if a["normalize_latents"] else x
    lrmul = a["mapping_lrmul"]
    for i in range(a["mapping_layers"]):
        x = x @ scaled(v, a, f"mapping/Dense{i}/weight", lrmul=lrmul) + v[f"mapping/Dense{i}/bias"] * lrmul
        x = act(x, a["mapping_nonlinearity"])
    layers = 2 * int(math.log2(a["resolution"])) - 2 if a["use_styles"] else 1
    ws = np.repeat(x[:, None], layers, axis=1)
    if psi is not None:
        factor = np.where(np.arange(layers) < (layers if cutoff is None else cutoff), psi, 1.0)[None, :, None]
        ws = v["dlatent_avg"] + (ws - v["dlatent_avg"]) * factor
    return ws


def synthesis(v, a, ws, noises=None, lod=0.0):
    """`noises`: a map or None per layer; None takes the stored ones."""
    log2 = int(math.log2(a["resolution"]))
    if noises is None:
        noises = [v.get(f"synthesis/noise{k}") for k in range(2 * log2 - 2)]

    def finish(x, scope, k):
        if a["use_noise"] and noises[k] is not None:
            x = x + noises[k].astype(np.float64) * v[f"{scope}/Noise/weight"][None, :, None, None]
        x = act(x + v[f"{scope}/bias"][None, :, None, None], a["nonlinearity"])
        if a["use_pixel_norm"]:
            x = pixel_norm(x)
        if a["use_instance_norm"]:
            x = x - x.mean(axis=(2, 3), keepdims=True)
            x = x / np.sqrt((x**2).mean(axis=(2, 3), keepdims=True) + 1e-8)
        if a["use_styles"]:
            style = ws[:, k] @ scaled(v, a, f"{scope}/StyleMod/weight", gain=1) + v[f"{scope}/StyleMod/bias"]
            s = style.reshape(len(ws), 2, -1, 1, 1)
            x = x * (s[:, 0] + 1) + s[:, 1]
        return x

    def torgb(x, k):
        name = f"synthesis/ToRGB_lod{log2 - k}"
        return conv(x, scaled(v, a, f"{name}/weight", gain=1)) + v[f"{name}/bias"][None, :, None, None]

    if a["const_input_layer"]:
        x = finish(np.repeat(v["synthesis/4x4/Const/const"].astype(np.float64), len(ws), 0), "synthesis/4x4/Const", 0)
    else:
        x = ws[:, 0] @ scaled(v, a, "synthesis/4x4/Dense/weight", gain=GAIN / 4)
        x = finish(x.reshape(len(ws), -1, 4, 4), "synthesis/4x4/Dense", 0)
    x = finish(conv(x, scaled(v, a, "synthesis/4x4/Conv/weight")), "synthesis/4x4/Conv", 1)
    img = torgb(x, 2)
    for k in range(3, log2 + 1):  # the linear structure, which computes every picture
        scope = f"synthesis/{2**k}x{2**k}"
        fused = 2**k >= 128 if a["fused_scale"] == "auto" else a["fused_scale"]
        y = blur(up_conv(x, scaled(v, a, f"{scope}/Conv0_up/weight"), fused), a["blur_filter"])
        x = finish(y, f"{scope}/Conv0_up", 2 * k - 4)
        x = finish(conv(x, scaled(v, a, f"{scope}/Conv1/weight")), f"{scope}/Conv1", 2 * k - 3)
        here = torgb(x, k)
        img = here + (enlarged(img) - here) * np.clip(lod - (log2 - k), 0, 1)
    return img


def discriminator(v, a, img, c=None, lod=0.0):
    log2 = int(math.log2(a["resolution"]))

    def layer(x, scope, fixed="conv", gain=GAIN, linear=False):
        w, b = scaled(v, a, f"{scope}/weight", gain), v[f"{scope}/bias"]
        if fixed == "dense":
            x = x.reshape(len(x), -1) @ w + b
        elif fixed == "down" and a["fused_scale"] in (True, "auto") and (a["fused_scale"] is True or x.shape[2] >= 128):
            x = conv(x, box(w) / 4, stride=2, pad=1) + b[None, :, None, None]
        else:
            x = shrunk(conv(x, w), 2 if fixed == "down" else 1) + b[None, :, None, None]
        return x if linear else act(x, a["nonlinearity"])

    x = layer(img, f"FromRGB_lod{0}")
    for k in range(log2, 2, -1):
        x = layer(x, f"{2**k}x{2**k}/Conv0")
        x = layer(blur(x, a["blur_filter"]), f"{2**k}x{2**k}/Conv1_down", "down")
        img = shrunk(img, 2)
        below = layer(img, f"FromRGB_lod{log2 - k + 1}")
        x = x + (below - x) * np.clip(lod - (log2 - k), 0, 1)
    if a["mbstd_group_size"] > 1:
        n, channels, features = len(x), x.shape[1], a["mbstd_num_features"]
        group = min(a["mbstd_group_size"], n)
        told = np.zeros([n, features, 4, 4])
        for i, f in np.ndindex(n, features):
            members = x[[j for j in range(n) if j % (n // group) == i % (n // group)]]
            part = members[:, f * channels // features : (f + 1) * channels // features]
            told[i, f] = np.sqrt(part.var(axis=0) + 1e-8).mean()
        x = np.concatenate([x, told], axis=1)
    x = layer(layer(x, "4x4/Conv"), "4x4/Dense0", "dense")
    x = layer(x, "4x4/Dense1", "dense", gain=1, linear=True)
    return x if c is None else (x * c).sum(axis=1, keepdims=True)


CASES = {
    "8": dict(resolution=8),
    "4": dict(resolution=4),
    "16": {},
    "128, fused there": dict(resolution=128, fmap_base=256, fmap_max=4),
    "128, not fused": dict(resolution=128, fmap_base=256, fmap_max=4, fused_scale=False),
    "fused": dict(fused_scale=True),
    "classes": dict(label_size=3),
    "classes, as they are": dict(label_size=3, normalize_latents=False, mapping_lrmul=0.05, mapping_layers=1),
    "no weight scale": dict(use_wscale=False, mapping_lrmul=0.003),
    "relu": dict(nonlinearity="relu", mapping_nonlinearity="relu"),
    "dense input": dict(const_input_layer=False),
    "no styles": dict(const_input_layer=False, use_styles=False, use_pixel_norm=True, use_instance_norm=False),
    "no noise": dict(use_noise=False, use_pixel_norm=True),
    "no filter": dict(blur_filter=None),
    "lopsided filter": dict(blur_filter=[1, 2, 4, 0.5]),
    "a table of taps": dict(blur_filter=[[1, 2, 1], [0, 3, -1]]),
    "other channels": dict(num_channels=1, fmap_decay=0.5, fmap_base=16.0, fmap_max=6),
}
LODS = (0.0, 0.4, 1.0, 1.75, 2.0, 5.0)


def inputs(a, n=3, seed=1):
    random = np.random.RandomState(seed)
    c = np.eye(a["label_size"])[random.randint(a["label_size"], size=n)] if a["label_size"] else None
    return random.randn(n, a["latent_size"]), c


def torched(x):
    return None if x is None else torch.from_numpy(np.asarray(x, np.float32))


@pytest.mark.parametrize("case", CASES)
def test_a_generator_computes_what_tensorflow_would(case):
    kwargs = {**TINY, **CASES[case]}
    a = {**G_DEFAULTS, **kwargs}
    values = drawn(g_shapes(a))
    G = read("G_style", kwargs, values)
    assert isinstance(G, Generator) and not G.training and not any(p.requires_grad for p in G.parameters())
    z, c = inputs(a)
    ws = mapping(values, a, z, c)
    assert_close("ws", G.mapping(torched(z), torched(c)).numpy(), ws, TOLERANCE)
    img = G.synthesis(torched(ws))
    assert tuple(img.shape) == (3, a["num_channels"], a["resolution"], a["resolution"])
    assert_close("picture", img.numpy(), synthesis(values, a, ws), TOLERANCE)
    assert_close("all", G(torched(z), torched(c)).numpy(), synthesis(values, a, ws), 5 * TOLERANCE)


@pytest.mark.parametrize("lod", LODS)
def test_a_network_that_was_still_growing_gives_the_picture_of_its_level(lod):
    a = {**G_DEFAULTS, **TINY}
    values = drawn(g_shapes(a), lod)
    values["synthesis/lod"] = 0.0  # set by the outer network as it runs
    G = read("G_style", TINY, values)
    ws = mapping(values, a, inputs(a)[0])
    assert_close("picture", G.synthesis(torched(ws)).numpy(), synthesis(values, a, ws, lod=lod), TOLERANCE)
    assert G.num_ws == 6 and len(G.synthesis.noise_shapes()) == 2 * G.synthesis.top - 2
    fixed = read("G_style", {**TINY, "structure": "fixed"}, values)
    assert_close("fixed", fixed.synthesis(torched(ws)).numpy(), synthesis(values, a, ws), TOLERANCE)


@pytest.mark.parametrize("psi, cutoff", [(0.7, 3), (0.2, None), (0.0, 1), (1.5, None)])
def test_truncation(psi, cutoff):
    a = {**G_DEFAULTS, **TINY}
    values = drawn(g_shapes(a))
    G = read("G_style", TINY, values)
    z, _ = inputs(a)
    got = G.mapping(torched(z), truncation_psi=psi, truncation_cutoff=cutoff)
    assert_close("ws", got.numpy(), mapping(values, a, z, psi=psi, cutoff=cutoff), TOLERANCE)


def test_noise():
    a = {**G_DEFAULTS, **TINY}
    values = drawn(g_shapes(a))
    G = read("G_style", TINY, values)
    ws = mapping(values, a, inputs(a)[0])
    shapes = G.synthesis.noise_shapes()
    assert list(shapes) == ["b4.input", "b4.conv1", "b8.conv0", "b8.conv1", "b16.conv0", "b16.conv1"]
    assert list(shapes.values()) == [(4, 4), (4, 4), (8, 8), (8, 8), (16, 16), (16, 16)]
    none = synthesis(values, a, ws, noises=[None] * 6)
    assert_close("none", G.synthesis(torched(ws), noise_mode="none").numpy(), none, TOLERANCE)
    # Drawn in the order of the layers, a map for each picture.
    torch.manual_seed(5)
    maps = [torch.randn(3, 1, *shape) for shape in shapes.values()]
    torch.manual_seed(5)
    got = G.synthesis(torched(ws), noise_mode="random")
    expected = synthesis(values, a, ws, noises=[m.numpy() for m in maps])
    assert_close("random", got.numpy(), expected, TOLERANCE)
    got = G.synthesis(torched(ws), noise=dict(zip(shapes, maps)), noise_mode="none")
    assert_close("given", got.numpy(), expected, TOLERANCE)
    some = [values[f"synthesis/noise{k}"] for k in range(6)]
    some[3] = maps[3][:1].numpy()
    got = G.synthesis(torched(ws), noise={"b8.conv1": maps[3][:1]})
    assert_close("one of them", got.numpy(), synthesis(values, a, ws, noises=some), TOLERANCE)
    for wrong in ({"b8.conv7": maps[3]}, {"b8.conv1": maps[0]}):
        with pytest.raises(ValueError, match="noise"):
            G.synthesis(torched(ws), noise=wrong)


D_CASES = {
    "16": {},
    "8, grey": dict(resolution=8, num_channels=1),
    "4": dict(resolution=4),
    "128, fused there": dict(resolution=128, fmap_base=256, fmap_max=4),
    "128, not fused": dict(resolution=128, fmap_base=256, fmap_max=4, fused_scale=False),
    "classes": dict(label_size=3),
    "relu, no weight scale": dict(nonlinearity="relu", use_wscale=False),
    "small groups": dict(mbstd_group_size=2, mbstd_num_features=4),
    "no groups": dict(mbstd_group_size=0),
    "one in a group": dict(mbstd_group_size=1),
    "lopsided filter": dict(blur_filter=[1, 2, 4, 0.5]),
    "no filter": dict(blur_filter=None),
}


@pytest.mark.parametrize("case, lod", [(case, 0.0) for case in D_CASES] + [("16", lod) for lod in LODS[1:]])
def test_a_discriminator_computes_what_tensorflow_would(case, lod):
    kwargs = {**TINY_D, **D_CASES[case]}
    a = {**D_DEFAULTS, **kwargs}
    values = drawn(d_shapes(a), lod)
    D = read("D_basic", kwargs, values)
    assert isinstance(D, Discriminator) and not D.training and not any(p.requires_grad for p in D.parameters())
    random = np.random.RandomState(2)
    img = random.randn(4, a["num_channels"], a["resolution"], a["resolution"])
    c = np.eye(3)[[0, 2, 1, 1]] if a["label_size"] else None
    expected = discriminator(values, a, img, c, lod)
    assert_close("logits", D(torched(img), torched(c)).numpy(), expected, TOLERANCE)
    assert D.features(torched(img)).shape == (4, D.num_features)
    assert D.compares_batch == (a["mbstd_group_size"] > 1)


@pytest.fixture(scope="module")
def pickled():
    """The bytes of a file (G, D, Gs) as the official code writes it, and the variables of its networks."""
    a, a_d = {**G_DEFAULTS, **TINY}, {**D_DEFAULTS, **TINY_D}
    values = [drawn(g_shapes(a), seed=0), drawn(d_shapes(a_d), seed=1), drawn(g_shapes(a), seed=2)]
    parts = {"mapping": "G_mapping", "synthesis": "G_synthesis"}

    def written(protocol, version):
        states = [
            tf_pickles.network(name, kwargs, variables, version, components)
            for name, kwargs, variables, components in zip(
                ("training.networks_stylegan.G_style", "training.networks_stylegan.D_basic", "G_style"),
                (TINY, TINY_D, TINY),
                values,
                (parts, None, parts),
            )
        ]
        return tf_pickles.dumps(tuple(states), protocol)

    return written, values


@pytest.mark.parametrize("protocol, version", [(4, 3), (2, 3), (4, 4)])
def test_a_whole_file(pickled, protocol, version):
    written, values = pickled
    networks = find_networks(read_records(memoryview(written(protocol, version)), "net.pkl"))
    for (key, network), build_func, kwargs, given in zip(
        networks.items(), ("G_style", "D_basic", "G_style"), (TINY, TINY_D, TINY), values
    ):
        got = build(network, "net.pkl", key, Budget("net.pkl", 2**30)).state_dict()
        expected = read(build_func, kwargs, given).state_dict()
        assert got.keys() == expected.keys() and all(torch.equal(got[name], expected[name]) for name in got)


def test_a_file_that_ends_too_early_is_refused(pickled):
    data = pickled[0](4, 3)
    for n in np.linspace(2, len(data) - 1, 40).astype(int):
        with pytest.raises(NetworkFileError, match="net.pkl"):
            read_records(memoryview(data[:n]), "net.pkl")


@pytest.mark.parametrize("build_func", ["G_style", "D_basic"])
def test_arguments_and_state_are_all_there_is(build_func):
    kwargs = {**TINY, "label_size": 2} if build_func == "G_style" else {**TINY_D, "label_size": 2}
    a = {**(G_DEFAULTS if build_func == "G_style" else D_DEFAULTS), **kwargs}
    values = drawn((g_shapes if build_func == "G_style" else d_shapes)(a), lod=0.5)
    network = read(build_func, kwargs, values)
    again = type(network)(**json.loads(json.dumps(network.init_kwargs)))
    again.load_state_dict(network.state_dict())
    x = torch.randn(2, 6) if build_func == "G_style" else torch.randn(2, 3, 16, 16)
    assert torch.equal(again(x, torch.eye(2)), network(x, torch.eye(2)))
    assert network.family == "stylegan1" and network.img_resolution == 16 and network.c_dim == 2


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gradients_reach_weights_and_latents(memory_format):
    """Against differences of the arithmetic above."""
    a = {**G_DEFAULTS, **TINY, "fused_scale": True}
    values = drawn(g_shapes(a))
    G = read("G_style", {**TINY, "fused_scale": True}, values).requires_grad_(True).to(memory_format=memory_format)
    ws = mapping(values, a, inputs(a, 1)[0])
    leaf = torched(ws).requires_grad_(True)
    direction = np.random.RandomState(3).randn(1, 3, 16, 16)
    (G.synthesis(leaf) * torched(direction)).sum().backward()

    def slope(change, step=1e-6):
        plus, minus = ((synthesis(*change(s)) * direction).sum() for s in (step, -step))
        return (plus - minus) / (2 * step)

    along = np.random.RandomState(4).randn(*ws.shape)
    assert float((leaf.grad * torched(along)).sum()) == pytest.approx(
        slope(lambda s: (values, a, ws + s * along)), rel=1e-3
    )
    name = "synthesis/16x16/Conv0_up/weight"
    along = np.random.RandomState(4).randn(*values[name].shape)
    got = (G.synthesis.b16.conv0.weight.grad * torched(along).permute(3, 2, 0, 1)).sum()
    wanted = slope(lambda s: ({**values, name: values[name].astype(np.float64) + s * along}, a, ws))
    assert float(got) == pytest.approx(wanted, rel=1e-3)


def test_the_adapter_knows_its_spaces_layers_and_noise():
    G = adapt(read("G_style", TINY, drawn(g_shapes({**G_DEFAULTS, **TINY}))))
    assert G.info()["family"] == "stylegan1" and set(G.spaces) == {"z", "w", "w+", "v", "v+"}
    code = G.center("w")
    whole = G.render(code)
    assert list(G.layers()) == list(G.noise_shapes())
    for name, shape in G.layers().items():
        split = G.convert(code, f"f:{name}")
        assert tuple(split.tensors["h"].shape[1:]) == shape
        assert torch.equal(G.render(split), whole)
        split.tensors["h"] = split.tensors["h"] + 1
        assert not torch.equal(G.render(split), whole)


# What is refused


def broken(change, build_func="G_style"):
    tiny, shapes = (TINY, g_shapes) if build_func == "G_style" else (TINY_D, d_shapes)
    kwargs = dict(tiny)
    values = drawn(shapes({**(G_DEFAULTS if build_func == "G_style" else D_DEFAULTS), **tiny}))
    change(kwargs, values)
    return read(build_func, kwargs, values)


@pytest.mark.parametrize(
    "name, value, match",
    [
        ("latent_size", 2**40, "latent_size is .*expected an integer from 1 to 65536"),
        ("latent_size", True, "latent_size"),
        ("dlatent_size", 65536, "shape"),
        ("label_size", -1, "label_size"),
        ("label_size", 3, "LabelConcat"),
        ("resolution", 2**20, "expected an integer from 4 to 4096"),
        ("resolution", 12, "expected a power of two"),
        ("resolution", 32, "missing"),
        ("num_channels", 0, "num_channels"),
        ("num_channels", 4, "shape"),
        ("mapping_layers", 10**6, "expected an integer from 1 to 64"),
        ("mapping_layers", 4, "mapping/Dense3"),
        ("mapping_layers", 2, "Dense2"),
        ("mapping_fmaps", "7", "mapping_fmaps"),
        ("mapping_lrmul", float("nan"), "mapping_lrmul"),
        ("mapping_nonlinearity", "tanh", "expected one of lrelu, relu"),
        ("nonlinearity", ["lrelu"], "expected one of lrelu, relu"),
        ("fmap_base", float("inf"), "fmap_base"),
        ("fmap_max", 2**31, "fmap_max"),
        ("fmap_decay", 60, "no channels"),
        ("use_styles", 1, "expected True or False"),
        ("use_styles", False, "StyleMod"),
        ("use_noise", False, "do not ask for the variables"),
        ("const_input_layer", False, "Dense"),
        ("use_wscale", None, "expected True or False"),
        ("fused_scale", "maybe", "expected True, False or 'auto'"),
        ("blur_filter", [1, "2"], "blur_filter"),
        ("blur_filter", [1, -1], "blur_filter"),
        ("blur_filter", [[1, 2], [3]], "blur_filter"),
        ("blur_filter", [1] * 65, "blur_filter"),
        ("structure", "wild", "structure"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(name, value, match):
    with pytest.raises(NetworkFileError, match=match) as caught:
        broken(lambda kwargs, values: kwargs.update({name: value}))
    assert str(caught.value).startswith("net.pkl: G_ema")


@pytest.mark.parametrize(
    "name, value, match",
    [
        ("synthesis/16x16/Conv1/weight", None, "missing"),
        ("dlatent_avg", None, "missing"),
        ("synthesis/16x16/Conv1/weight", np.zeros([3, 3, 4, 5]), "shape"),
        ("synthesis/16x16/Conv1/weight", np.zeros([4, 4, 3, 3]), "shape"),
        ("synthesis/16x16/Conv1/weight", np.zeros([144]), "shape"),
        ("synthesis/4x4/Const/const", np.zeros([8, 4, 4]), "shape"),
        ("synthesis/noise0", np.zeros([4, 4]), "shape"),
        ("synthesis/noise0", np.zeros([2, 1, 4, 4]), "shape"),
        ("synthesis/noise6", np.zeros([1, 1, 32, 32]), "noise6"),
        ("synthesis/32x32/Conv1/weight", np.zeros([3, 3, 2, 2]), "32x32"),
        ("synthesis/16x16/Conv2/weight", np.zeros([3, 3, 4, 4]), "Conv2"),
        ("mapping/LabelConcat/weight", np.zeros([3, 6]), "LabelConcat"),
        ("exec", np.zeros([1]), "exec"),
        ("lod", float("nan"), "expected a number from 0 to 64"),
        ("lod", -1.0, "expected a number from 0 to 64"),
        ("lod", np.zeros([2]), "expected a number"),
    ],
)
def test_variables_that_do_not_fit_are_refused(name, value, match):
    def change(kwargs, values):
        values.pop(name, None)
        if value is not None:
            values[name] = value

    with pytest.raises(NetworkFileError, match=match):
        broken(change)


@pytest.mark.parametrize("name, value", [("resolution", 12), ("mbstd_num_features", 3), ("mbstd_group_size", -1)])
def test_a_discriminator_that_makes_no_sense_is_refused(name, value):
    with pytest.raises(NetworkFileError, match="expected a (power|divisor)|expected an integer"):
        broken(lambda kwargs, values: kwargs.update({name: value}), "D_basic")


def test_other_networks_and_whatever_is_too_large_are_refused():
    values = drawn(g_shapes({**G_DEFAULTS, **TINY}))
    with pytest.raises(NetworkFileError, match="'G_main', which is not one of G_style, D_basic"):
        read("G_main", TINY, values)
    with pytest.raises(NetworkFileError, match="share one storage"):
        read("G_style", TINY, values, nbytes=1000)


def test_unknown_arguments_are_reported_and_ignored():
    values = drawn(g_shapes({**G_DEFAULTS, **TINY}))
    with pytest.warns(UserWarning, match="style_magic"):
        G = read("G_style", {**TINY, "style_magic": 3, "truncation_psi": 0.5, "randomize_noise": False}, values)
    z = torch.randn(1, 6)
    assert torch.equal(G(z), read("G_style", TINY, values)(z))


# The official code


class Shape(tuple):
    """A shape as TensorFlow 1 has it: entries with a `value`."""

    ndims = property(len)

    def __getitem__(self, key):
        found = super().__getitem__(key)
        return Shape(found) if isinstance(key, slice) else Dimension(found)

    def __iter__(self):
        return map(Dimension, super().__iter__())


class Dimension(int):
    value = property(int)


class Tensor(np.ndarray):
    """A float64 array that stands for a tensor."""

    shape = property(lambda self: Shape(np.ndarray.shape.__get__(self)))
    __isub__, __imul__ = np.ndarray.__sub__, np.ndarray.__mul__  # TensorFlow changes nothing in place

    def set_shape(self, shape):
        assert len(shape) == self.ndim and all(s in (None, n) for s, n in zip(shape, self.shape))


def tensor(x):
    return np.asarray(x, np.float64).view(Tensor)


def tf_conv2d(x, w, strides, padding="SAME", data_format="NCHW", groups=1):
    stride, pads = strides[2], []
    for size, k in zip(x.shape[:1:-1], w.shape[1::-1]):  # columns first, as torch's pad has it
        total = max((-(-size // stride) - 1) * stride + k - size, 0)
        pads += [total // 2, total - total // 2]
    return torch.nn.functional.conv2d(
        torch.nn.functional.pad(x, pads), w.permute(3, 2, 0, 1), stride=stride, groups=groups
    )


def in_torch(function):
    def run(x, w, *args, **kwargs):
        x, w = (torch.from_numpy(np.array(t, np.float64)) for t in (x, w))
        return tensor(function(x, w, *args, **kwargs).numpy())

    return run


def tf_conv2d_transpose(x, w, shape, **kwargs):
    """The gradient of conv2d, as it is defined."""
    y = torch.zeros([int(n) for n in shape], dtype=torch.float64, requires_grad=True)
    return torch.autograd.grad(tf_conv2d(y, w, **kwargs), y, x)[0]


def fake_tensorflow(variables, path):
    """The operations that the official networks use. ``path`` is the list of scopes; variables are looked up by it."""

    @contextlib.contextmanager
    def scope(name):
        path.append(name)
        yield
        path.pop()

    def get_variable(name, shape=(), **_):
        value = tensor(variables["/".join([*path, name])])
        assert value.shape == tuple(shape), path
        return value

    tf = ModuleType("tensorflow")
    tf.float32 = np.dtype(np.float64)
    tf.as_dtype = lambda dtype: tf.float32
    tf.cast = tf.identity = tf.constant = lambda x, *_, **__: tensor(x)
    tf.variable_scope, tf.get_variable = scope, get_variable
    tf.control_dependencies = lambda _: contextlib.nullcontext()
    tf.assign = lambda name, value: variables.update({name: value})
    tf.initializers = mock.MagicMock()
    tf.custom_gradient = lambda function: lambda x: function(x)[0]
    tf.cond = lambda condition, yes, no: yes() if condition else no()
    tf.shape = lambda x: x.shape
    tf.pad = lambda x, pads, mode: tensor(np.pad(x, pads))
    tf.add_n, tf.square, tf.sqrt, tf.where = sum, np.square, np.sqrt, np.where
    tf.rsqrt = lambda x: 1 / np.sqrt(x)
    tf.reshape, tf.transpose, tf.tile, tf.matmul = np.reshape, np.transpose, np.tile, np.matmul
    tf.minimum, tf.maximum = np.minimum, np.maximum
    tf.concat = lambda parts, axis: np.concatenate(parts, axis).view(Tensor)
    for name, function in (("reduce_mean", np.mean), ("reduce_sum", np.sum)):

        def reduce(x, axis, keepdims=False, function=function):
            return function(x, tuple(axis) if isinstance(axis, list) else axis, keepdims=keepdims)

        setattr(tf, name, reduce)
    depthwise = in_torch(lambda x, w, **kw: tf_conv2d(x, w.transpose(2, 3), groups=x.shape[1], **kw))
    tf.nn = SimpleNamespace(
        relu=lambda x: np.maximum(x, 0), conv2d=in_torch(tf_conv2d), depthwise_conv2d=depthwise,
        conv2d_transpose=in_torch(tf_conv2d_transpose), avg_pool=lambda x, ksize, **_: tensor(shrunk(x, ksize[2])),
    )  # fmt: skip
    return tf


class EasyDict(dict):
    __getattr__, __setattr__ = dict.__getitem__, dict.__setitem__


def official(build_func, kwargs, variables, *args):
    """What the official function computes of arrays."""
    if not os.environ.get("STYLEGAN_REPO"):
        pytest.skip("set STYLEGAN_REPO to a checkout of NVlabs/stylegan to compare with it")
    variables, path = dict(variables), []

    class Network:
        def __init__(self, part, function, input_shape=None):
            self.part, self.function, self.input_shape = part, function, input_shape

        def find_var(self, name):
            return f"{self.part}/{name}"

        def get_output_for(self, *args, **dynamic):
            path.append(self.part)
            found = self.function(*args, **dynamic)
            path.pop()
            return found

    def lerp(a, b, t):
        return a + (b - a) * t

    tflib = ModuleType("dnnlib.tflib")
    tflib.is_tf_expression = lambda x: False
    tflib.lerp, tflib.lerp_clip = lerp, lambda a, b, t: lerp(a, b, np.clip(t, 0, 1))
    dnnlib = ModuleType("dnnlib")
    dnnlib.EasyDict, dnnlib.tflib = EasyDict, tflib
    fakes = {"tensorflow": fake_tensorflow(variables, path), "dnnlib": dnnlib, "dnnlib.tflib": tflib}
    with mock.patch.dict(sys.modules, fakes):
        made = runpy.run_path(str(Path(os.environ["STYLEGAN_REPO"]) / "training" / "networks_stylegan.py"))
        if build_func == "G_style":
            layers = 2 * int(math.log2(kwargs["resolution"])) - 2 if kwargs.get("use_styles", True) else 1
            parts = EasyDict(
                synthesis=Network("synthesis", made["G_synthesis"], [None, layers, kwargs["dlatent_size"]]),
                mapping=Network("mapping", lambda *a, **k: made["G_mapping"](*a, dlatent_broadcast=layers, **k)),
            )
            kwargs = {**kwargs, "components": parts, "randomize_noise": False}
        return np.asarray(made[build_func](*map(tensor, args), **kwargs))


@pytest.mark.parametrize("structure", ["linear", "recursive"])
@pytest.mark.parametrize(
    "case, lod", [(case, 0.0) for case in CASES if case != "4"] + [("16", lod) for lod in LODS[1:4]]
)
def test_the_official_generator_computes_the_same(case, lod, structure):
    kwargs = {**TINY, **CASES[case]}
    a = {**G_DEFAULTS, **kwargs}
    values = drawn(g_shapes(a), lod)
    z, c = inputs(a, n=2)
    expected = official("G_style", {**kwargs, "structure": structure}, values, z, np.zeros([2, 0]) if c is None else c)
    # The official function truncates unless it is told otherwise.
    got = read("G_style", kwargs, values)(torched(z), torched(c), truncation_psi=0.7, truncation_cutoff=8)
    assert_close("picture", got.numpy(), expected, 5 * TOLERANCE)


@pytest.mark.parametrize("structure", ["linear", "recursive"])
@pytest.mark.parametrize("case, lod", [(case, 0.0) for case in D_CASES] + [("16", lod) for lod in LODS[1:5]])
def test_the_official_discriminator_computes_the_same(case, lod, structure):
    kwargs = {**TINY_D, **D_CASES[case]}
    a = {**D_DEFAULTS, **kwargs}
    values = drawn(d_shapes(a), lod)
    img = np.random.RandomState(2).randn(4, a["num_channels"], a["resolution"], a["resolution"])
    c = np.eye(3)[[0, 2, 1, 1]] if a["label_size"] else None
    expected = official(
        "D_basic", {**kwargs, "structure": structure}, values, img, np.zeros([4, 0]) if c is None else c
    )
    assert_close("logits", read("D_basic", kwargs, values)(torched(img), torched(c)).numpy(), expected, TOLERANCE)
