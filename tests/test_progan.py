"""ProGAN files of TensorFlow and of Theano: equality with TensorFlow's arithmetic in float64, refusals."""
# Takes at most 15 CPU seconds.

import contextlib
import importlib.util
import inspect
import json
import math
import os
import sys
import types
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

import stylegan_invert as si
from stylegan_invert.generator import Code, adapt
from stylegan_invert.network_files.assemble import Budget
from stylegan_invert.network_files.families.tf_progan import build
from stylegan_invert.network_files.machine.containers import read_records
from stylegan_invert.network_files.machine.tensorflow import find_networks
from stylegan_invert.networks import progan

from support import assert_close
from tf_pickles import dumps, network, random_variables, theano_network

SIZES = {"resolution": 16, "num_channels": 3, "fmap_base": 48, "fmap_max": 8}  # 8, 8, 8, 6 maps from 2x2 to 16x16


def nf(stage, kw):
    return min(int(kw["fmap_base"] / 2.0 ** (stage * kw.get("fmap_decay", 1.0))), kw["fmap_max"])


# TensorFlow's operations, by their definitions, in float64; pictures are NCHW, kernels HWIO.


def conv2d(x, w, stride=1):
    """tf.nn.conv2d, padding SAME."""
    n, c, height, width = x.shape
    k, _, _, out = w.shape
    size = -(-height // stride)
    total = max((size - 1) * stride + k - height, 0)
    pad = (total // 2, total - total // 2)
    x = np.pad(x, [(0, 0), (0, 0), pad, pad])
    y = np.zeros([n, out, size, size])
    for i in range(size):
        for j in range(size):
            window = x[:, :, i * stride : i * stride + k, j * stride : j * stride + k]
            y[:, :, i, j] = np.einsum("ncab,abco->no", window, w)
    return y


def conv2d_transpose(x, w):
    """tf.nn.conv2d_transpose, stride 2, padding SAME, w (k, k, out, in): the gradient of conv2d by its input."""
    n, c, height, width = x.shape
    k, _, out, _ = w.shape
    full = np.zeros([n, out, 2 * height + k, 2 * width + k])
    for i in range(height):
        for j in range(width):
            full[:, :, 2 * i : 2 * i + k, 2 * j : 2 * j + k] += np.einsum("nc,aboc->noab", x[:, :, i, j], w)
    before = (k - 2) // 2
    return full[:, :, before : before + 2 * height, before : before + 2 * width]


def four(w):
    w = np.pad(w, [(1, 1), (1, 1), (0, 0), (0, 0)])
    return w[1:, 1:] + w[:-1, 1:] + w[1:, :-1] + w[:-1, :-1]


def upscale(x):
    return x.repeat(2, axis=2).repeat(2, axis=3)


def downscale(x):
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).mean(axis=(3, 5))


def pixel_norm(x, eps):
    return x / np.sqrt((x**2).mean(axis=1, keepdims=True) + eps)


def lrelu(x):
    return np.maximum(0.2 * x, x)


class Evaluator:
    """Variables of a network, with the equalised learning rate applied as they are read."""

    def __init__(self, variables, kw):
        self.v = {name: np.asarray(value, np.float64) for name, value in variables.items()}
        self.kw = {**SIZES, **kw}

    def weight(self, scope, gain, fan_in=None):
        w = self.v[f"{scope}/weight"]
        fan_in = np.prod(w.shape[:-1]) if fan_in is None else fan_in
        return w * (gain / np.sqrt(fan_in) if self.kw.get("use_wscale", True) else 1.0)

    def bias(self, scope, x):
        b = self.v[f"{scope}/bias"]
        return x + (b if x.ndim == 2 else b[None, :, None, None])


class GeneratorArithmetic(Evaluator):
    def finish(self, scope, x):
        x = self.bias(scope, x)
        x = lrelu(x) if self.kw.get("use_leakyrelu", True) else np.maximum(x, 0)
        return pixel_norm(x, self.eps) if self.kw.get("use_pixelnorm", True) else x

    def conv(self, scope, x):
        return self.finish(scope, conv2d(x, self.weight(scope, np.sqrt(2))))

    def up(self, scope, x, version):
        if not self.kw.get("fused_scale", True):
            return self.conv(f"{scope}/Conv0", upscale(x))
        scope = f"{scope}/Conv0_up"
        w = self.weight(scope, np.sqrt(2), fan_in=9 * x.shape[1])
        w = w if version == 2 else w.transpose(0, 1, 3, 2)
        return self.finish(scope, conv2d_transpose(x, four(w)))

    def torgb(self, k, x):
        scope = f"ToRGB_lod{int(math.log2(self.kw['resolution'])) - k}"
        return self.bias(scope, conv2d(x, self.weight(scope, 1)))

    def __call__(self, z, c, lod, version=2):
        self.eps = self.kw.get("pixelnorm_epsilon", 1e-8)
        last = int(math.log2(self.kw["resolution"]))
        x = np.concatenate([z, c], axis=1)
        x = pixel_norm(x, self.eps) if self.kw.get("normalize_latents", True) else x
        x = (x @ self.weight("4x4/Dense", np.sqrt(2) / 4)).reshape(len(z), -1, 4, 4)
        x = self.conv("4x4/Conv", self.finish("4x4/Dense", x))
        image = self.torgb(2, x)
        for k in range(3, last + 1):
            x = self.conv(f"{2**k}x{2**k}/Conv1", self.up(f"{2**k}x{2**k}", x, version))
            new, image = self.torgb(k, x), upscale(image)
            image = new + (image - new) * np.clip(lod - (last - k), 0, 1)
        return image


class DiscriminatorArithmetic(Evaluator):
    def conv(self, scope, x):
        return lrelu(self.bias(scope, conv2d(x, self.weight(scope, np.sqrt(2)))))

    def fromrgb(self, k, x):
        return self.conv(f"FromRGB_lod{int(math.log2(self.kw['resolution'])) - k}", x)

    def block(self, k, x):
        scope = f"{2**k}x{2**k}"
        x = self.conv(f"{scope}/Conv0", x)
        if not self.kw.get("fused_scale", True):
            return downscale(self.conv(f"{scope}/Conv1", x))
        w = four(self.weight(f"{scope}/Conv1_down", np.sqrt(2))) * 0.25
        return lrelu(self.bias(f"{scope}/Conv1_down", conv2d(x, w, stride=2)))

    def statistics(self, x):
        size = min(self.kw.get("mbstd_group_size", 4), len(x))
        groups = len(x) // size
        maps = np.zeros([len(x), 1, 4, 4])
        for m in range(groups):
            members = x[m::groups]  # (size, C, 4, 4)
            maps[m::groups] = np.sqrt(members.var(axis=0) + 1e-8).mean()
        return np.concatenate([x, maps], axis=1)

    def __call__(self, image, lod):
        last = int(math.log2(self.kw["resolution"]))
        x = self.fromrgb(last, image)
        for k in range(last, 2, -1):
            x, image = self.block(k, x), downscale(image)
            x = x + (self.fromrgb(k - 1, image) - x) * np.clip(lod - (last - k), 0, 1)
        x = self.statistics(x) if self.kw.get("mbstd_group_size", 4) > 1 else x
        x = self.conv("4x4/Conv", x).reshape(len(x), -1)
        x = lrelu(self.bias("4x4/Dense0", x @ self.weight("4x4/Dense0", np.sqrt(2))))
        return self.bias("4x4/Dense1", x @ self.weight("4x4/Dense1", 1))


def shapes(kind, kw, version=2):
    """Names and shapes of a network's variables, as TensorFlow lists them."""
    kw = {**SIZES, **kw}
    last, colours, fused = int(math.log2(kw["resolution"])), kw["num_channels"], kw.get("fused_scale", True)
    labels, found = kw.get("label_size", 0), {"lod": ()}

    def layer(scope, *shape, bias=None):
        found[f"{scope}/weight"], found[f"{scope}/bias"] = shape, (shape[-1] if bias is None else bias,)

    if kind == "G":
        z = kw.get("latent_size") or nf(0, kw)
        layer("4x4/Dense", z + labels, nf(1, kw) * 16, bias=nf(1, kw))
        layer("4x4/Conv", 3, 3, nf(1, kw), nf(1, kw))
        for k in range(3, last + 1):
            i, o, scope = nf(k - 2, kw), nf(k - 1, kw), f"{2**k}x{2**k}"
            name, swapped = ("Conv0_up", version == 2) if fused else ("Conv0", False)
            layer(f"{scope}/{name}", 3, 3, *((o, i) if swapped else (i, o)), bias=o)
            layer(f"{scope}/Conv1", 3, 3, o, o)
        for k in range(2, last + 1):
            layer(f"ToRGB_lod{last - k}", 1, 1, nf(k - 1, kw), colours)
        return found
    for k in range(2, last + 1):
        layer(f"FromRGB_lod{last - k}", 1, 1, colours, nf(k - 1, kw))
    for k in range(3, last + 1):
        scope = f"{2**k}x{2**k}"
        layer(f"{scope}/Conv0", 3, 3, nf(k - 1, kw), nf(k - 1, kw))
        layer(f"{scope}/{'Conv1_down' if fused else 'Conv1'}", 3, 3, nf(k - 1, kw), nf(k - 2, kw))
    layer("4x4/Conv", 3, 3, nf(1, kw) + (kw.get("mbstd_group_size", 4) > 1), nf(1, kw))
    layer("4x4/Dense0", nf(1, kw) * 16, nf(0, kw))
    layer("4x4/Dense1", nf(0, kw), 1 + (labels if version == 2 else 0))
    return found


def made(kind, kw, lod=0.0, version=2, seed=0):
    """The state of a network with random variables."""
    variables = random_variables(shapes(kind, kw, version), seed)
    return network(f"{kind}_paper", {**SIZES, **kw}, {**variables, "lod": np.float32(lod)}, version)


def record_of(state, **how):
    """The record of a state, through the bytes of a file, and a budget for it."""
    data = dumps((state, state, state), module="tfutil", **how)
    root = read_records(memoryview(data), "net.pkl")
    return find_networks(root)["G_ema"], Budget("net.pkl", 2 * len(data))


def opened(state, **how):
    """The network that the reader builds of a state."""
    record, budget = record_of(state, **how)
    return build(record, "net.pkl", "Gs", budget)


def inputs(kw, n=8):
    random = np.random.RandomState(9)
    kw = {**SIZES, **kw}
    z = random.randn(n, kw.get("latent_size") or nf(0, kw)).astype(np.float32)
    c = random.rand(n, kw.get("label_size", 0)).astype(np.float32)
    return z, c, random.randn(n, kw["num_channels"], kw["resolution"], kw["resolution"]).astype(np.float32)


def check_generator(G, arithmetic, kw, lod, version=2):
    z, c, _ = inputs(kw)
    got = G(torch.from_numpy(z), torch.from_numpy(c)).numpy()
    assert got.dtype == np.float32
    assert_close("pictures", got, arithmetic(z.astype(np.float64), c.astype(np.float64), lod, version), 1e-5)


def check_discriminator(D, arithmetic, kw, lod):
    *_, image = inputs(kw)
    expected, image = arithmetic(image.astype(np.float64), lod), torch.from_numpy(image)
    assert_close("scores", D(image).numpy(), expected[:, :1], 1e-5)
    assert_close("scores of features", D.score(D.features(image)).numpy(), expected[:, :1], 1e-5)
    assert_close("labels", D.label_logits(image).numpy(), expected[:, 1:], 1e-5)


GENERATORS = [
    {},
    {"fused_scale": False},
    {"label_size": 2, "latent_size": 7},
    {"label_size": 2, "normalize_latents": False, "use_pixelnorm": False},
    {"use_leakyrelu": False, "pixelnorm_epsilon": 0.1},
    {"use_wscale": False, "fmap_decay": 0.5, "num_channels": 1},
    {"resolution": 4},
]
DISCRIMINATORS = [
    {},
    {"fused_scale": False},
    {"label_size": 2, "mbstd_group_size": 2},
    {"mbstd_group_size": 0, "num_channels": 1},
    {"use_wscale": False, "fmap_decay": 0.5, "mbstd_group_size": 16},
    {"resolution": 4},
]


@pytest.mark.parametrize("lod", [0, 0.3, 1, 1.5, 2, 7])
@pytest.mark.parametrize("kw", GENERATORS, ids=str)
def test_generators_are_tensorflows_arithmetic(kw, lod):
    state = made("G", kw, lod)
    G = opened(state)
    assert (G.c_dim, G.img_resolution, G.img_channels) == (kw.get("label_size", 0), *_sizes(kw))
    assert not G.training and not any(p.requires_grad for p in G.parameters())
    check_generator(G, GeneratorArithmetic(dict(state["variables"]), kw), kw, lod)


@pytest.mark.parametrize("lod", [0, 0.3, 1, 1.5, 2, 7])
@pytest.mark.parametrize("kw", DISCRIMINATORS, ids=str)
def test_discriminators_are_tensorflows_arithmetic(kw, lod):
    state = made("D", kw, lod)
    D = opened(state)
    assert D.compares_batch == (kw.get("mbstd_group_size", 4) > 1)
    check_discriminator(D, DiscriminatorArithmetic(dict(state["variables"]), kw), kw, lod)


def _sizes(kw):
    return kw.get("resolution", 16), kw.get("num_channels", 3)


@pytest.mark.parametrize("fused", [True, False])
def test_the_version_of_the_stylegan_repository(fused):
    """It keeps the kernel of the fused doubling the other way round, and its discriminator has no label logits."""
    kw = {"fused_scale": fused, "label_size": 2, "structure": "auto", "dtype": "float32"}
    state = made("G", kw, 0.3, version=3)
    check_generator(opened(state), GeneratorArithmetic(dict(state["variables"]), kw), kw, 0.3, version=3)
    state = made("D", kw, 0.3, version=3)
    check_discriminator(opened(state), DiscriminatorArithmetic(dict(state["variables"]), kw), kw, 0.3)


@pytest.mark.parametrize("kind", ["G", "D"])
def test_the_state_of_growth_can_be_set(kind):
    state = made(kind, {}, 1.5)
    net = opened(state)
    arithmetic = (GeneratorArithmetic if kind == "G" else DiscriminatorArithmetic)(dict(state["variables"]), {})
    assert net.lod == 1.5 and net.init_kwargs["lod"] == 1.5
    for lod in (0, 0.3, 1, 2):
        net.lod = lod
        (check_generator if kind == "G" else check_discriminator)(net, arithmetic, {}, lod)
    for lod in (-0.1, 2.1, math.nan):
        with pytest.raises(ValueError, match="expected a number from 0 to 2"):
            net.lod = lod


# Theano


def flipped(w):
    return w[:, :, ::-1, ::-1]


def theano(kind, kw, lod, scales=True):
    """A Theano network's state, and the variables of the TensorFlow network that official code makes of it.

    Theano's layouts are made here from TensorFlow's: convolutions (out, in, height, width), turned; the dense layer as one
    (out, in, 4, 4) on 1x1 maps; 1x1 convolutions (in, out).
    """
    kw = {**kw, "fused_scale": False, "use_wscale": scales, "mbstd_group_size": 16}
    state = made(kind, kw, lod)
    variables, params = dict(state["variables"]), []
    last = int(math.log2({**SIZES, **kw}["resolution"]))
    blocks = [f"{2**k}x{2**k}/Conv{i}" for k in range(3, last + 1) for i in (0, 1)]
    if kind == "G":
        order = ["4x4/Dense", "4x4/Conv", *blocks, *(f"ToRGB_lod{i}" for i in range(last - 1))]
    else:
        order = ["FromRGB_lod0"]
        for k in range(last, 2, -1):
            order += [f"{2**k}x{2**k}/Conv0", f"{2**k}x{2**k}/Conv1", f"FromRGB_lod{last - k + 1}"]
        order += ["4x4/Conv", "4x4/Dense0", "4x4/Dense1"]
    random = np.random.RandomState(5)
    for scope in order:
        w = variables[f"{scope}/weight"]
        if scope == "4x4/Dense":
            stored = w.reshape(len(w), -1, 4, 4).transpose(1, 0, 2, 3)
        elif scope == "4x4/Dense0":
            stored = flipped(w.T.reshape(w.shape[1], -1, 4, 4))
        elif scope == "4x4/Dense1":
            stored = w
        else:
            stored = w[0, 0] if "RGB" in scope else flipped(w.transpose(3, 2, 0, 1))
        params.append(np.ascontiguousarray(stored))
        if scales:
            # Theano keeps its own factor; TensorFlow's is the gain by the root of the fan-in.
            factor = np.float32(random.uniform(0.5, 1.5))
            gain = 1 if "ToRGB" in scope or scope == "4x4/Dense1" else np.sqrt(2) / (4 if scope == "4x4/Dense" else 1)
            fan_in = np.prod(w.shape[:-1])
            variables[f"{scope}/weight"] = w.astype(np.float64) * factor / (gain / np.sqrt(fan_in))
            params.append(np.array(factor))
        params.append(variables[f"{scope}/bias"])
    spec = {**SIZES, **{k: v for k, v in kw.items() if k not in ("fused_scale", "mbstd_group_size")}}
    func = {"G": "G_paper", "D": "D_progressive_8"}[kind]
    fixed = {"use_batchnorm": False, "tanh_at_end": None, "use_gdrop": True, "mbstat_avg": "all"}
    state = theano_network(func, {**fixed, **spec}, params, lod)
    return state, variables, kw


@pytest.mark.parametrize("scales", [True, False])
@pytest.mark.parametrize("lod", [0, 0.3])
@pytest.mark.parametrize("kind", ["G", "D"])
def test_theano_networks(kind, lod, scales):
    state, variables, kw = theano(kind, {}, lod, scales)
    net = opened(state, protocol=2, python2=True)
    if kind == "G":
        check_generator(net, GeneratorArithmetic(variables, kw), kw, lod)
    else:
        check_discriminator(net, DiscriminatorArithmetic(variables, kw), kw, lod)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s["param_values"].pop(), "has 17 parameters; its arguments ask for 3"),
        (lambda s: s["param_values"].__setitem__(1, np.zeros(2, np.float32)), "parameter 1: its shape is"),
        (lambda s: s["param_values"].__setitem__(3, np.zeros([8, 7, 3, 3], np.float32)), "b4.conv1.weight: it comes"),
        (lambda s: s["build_func_spec"].update(tanh_at_end=1.0), "tanh after the last layer"),
        (lambda s: s["build_func_spec"].update(label_size=3), "classes"),
        (
            lambda s: s["build_func_spec"].update(func="G_other"),
            "it is a Theano network, built by 'G_other'; expected one of G_paper",
        ),
        (lambda s: s["toplevel_params"].update(cur_lod=np.float32(math.inf)), "expected a finite number"),
    ],
)
def test_theano_networks_that_are_refused(change, message):
    state, *_ = theano("G", {"resolution": 8}, 0)
    change(state)
    with pytest.raises(si.NetworkFileError, match=message):
        opened(state)


# Refusals


def setting(name, value):
    def change(state):
        state["static_kwargs"][name] = value

    return change


def variable(name, value):
    def change(state):
        variables = dict(state["variables"])
        if value is None:
            del variables[name]
        else:
            variables[name] = value
        state["variables"] = list(variables.items())

    return change


def zeros(*shape):
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s.update(build_func_name="G_style"), "built by 'G_style'; expected version 2 or 3 of G_paper, D_paper"),
        (lambda s: s.update(version=4), "it is of version 4"),
        (setting("resolution", 24), "resolution is 24; expected a power of two from 4 to 4096"),
        (setting("resolution", 2**20), "resolution is 1048576; expected"),
        (setting("resolution", 32), "variable '32x32/Conv0_up/weight' is missing"),
        (setting("resolution", 8), "do not ask for the variables '16x16/Conv0_up/bias'"),
        (setting("fmap_max", 2**40), "fmap_max is 1099511627776; expected an integer"),
        (setting("fmap_max", 4), r"comes from a shape of \(.*\); its arguments ask for"),
        (setting("fmap_base", 1), "a layer without maps"),
        (setting("fmap_base", 2**60), "fmap_base is .*; expected a number from 1"),
        (setting("fmap_decay", 1e300), "fmap_decay is 1e\\+300; expected"),
        (setting("latent_size", 65536), r"dense.weight: it comes from a shape of \(8, 128\); .* \(128, 65536\)"),
        (setting("label_size", 3), "dense.weight: it comes"),
        (setting("num_channels", 0), "num_channels is 0; expected"),
        (setting("use_wscale", None), "use_wscale is None; expected True or False"),
        (setting("pixelnorm_epsilon", "1e-8"), "pixelnorm_epsilon is '1e-8'"),
        (variable("lod", zeros(2)), "lod: its shape is"),
        (variable("lod", np.float32(math.nan)), "lod: it is nan; expected a finite number"),
        (variable("4x4/Dense/bias", zeros(128)), "dense.bias: it comes"),
        (variable("4x4/Dense/bias", None), "variable '4x4/Dense/bias' is missing"),
        (variable("16x16/Conv0_up/weight", zeros(3, 3, 8, 6)), r"b16.conv0.weight: it comes from a shape of \(3, 3, 8, 6\)"),
        (variable("16x16/Conv0_up/weight", zeros(4, 4, 6, 8)), "b16.conv0.weight: it comes"),
        (variable("4x4/Conv/weight", zeros(9, 64)), "b4.conv1.weight: it comes"),
        (variable("4x4/Conv/weight", np.zeros([3, 3, 8, 8], np.int32)), "expected floating-point numbers"),
        (variable("8x8/Noise/weight", zeros(8)), "do not ask for the variables '8x8/Noise/weight'"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit_are_refused(change, message):
    state = made("G", {})
    change(state)
    with pytest.raises(si.NetworkFileError, match=message):
        opened(state)


@pytest.mark.parametrize(
    "change, message",
    [
        (setting("mbstd_group_size", -1), "mbstd_group_size is -1; expected"),
        (setting("mbstd_group_size", 0), "b4.conv.weight: it comes"),
        (setting("fused_scale", False), "variable '16x16/Conv1/weight' is missing"),
        (setting("label_size", 2), "b4.out.weight: it comes"),
        (variable("4x4/Dense0/weight", zeros(8, 128)), "b4.fc.weight: it comes"),
    ],
)
def test_discriminators_that_do_not_fit_are_refused(change, message):
    state = made("D", {})
    change(state)
    with pytest.raises(si.NetworkFileError, match=message):
        opened(state)


def test_truncated_files_are_refused():
    data = dumps((made("G", {}),) * 3, module="tfutil")
    for end in (10, len(data) // 2, len(data) - 1):
        with pytest.raises(si.NetworkFileError, match="net.pkl: "):
            read_records(memoryview(data[:end]), "net.pkl")


def test_the_memory_of_a_network_is_bounded_by_its_file():
    record, _ = record_of(made("G", {}))
    with pytest.raises(si.NetworkFileError, match="memory of the file"):
        build(record, "net.pkl", "G", Budget("net.pkl", 1000))


def test_unknown_arguments_are_passed_over_with_a_warning():
    state = made("G", {"something": 3})
    with pytest.warns(UserWarning, match="something"):
        G = opened(state)
    check_generator(G, GeneratorArithmetic(dict(state["variables"]), {}), {}, 0)


def test_resolutions_and_batches_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="power of two from 4 to 4096"):
        progan.Generator(12, 3)
    G = progan.Generator(8, 3, z_dim=4, c_dim=2, fmap_max=3)
    with pytest.raises(ValueError, match="2 classes and got no label"):
        G(torch.zeros(1, 4))
    with pytest.raises(ValueError, match=r"c has shape \(1, 3\)"):
        G(torch.zeros(1, 4), torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"z has shape \(1, 5\)"):
        G(torch.zeros(1, 5))
    with pytest.raises(ValueError, match="does not divide into them"):
        progan.Discriminator(8, 3, fmap_max=3)(torch.zeros(6, 3, 8, 8))


# As a generator of this package


@pytest.mark.parametrize("kind", ["G", "D"])
@pytest.mark.parametrize("kw", [{}, {"label_size": 2, "fused_scale": False}], ids=str)
def test_arguments_and_tensors_say_everything(kind, kw):
    net = opened(made(kind, kw, 0.3))
    again = type(net)(**net.init_kwargs)
    again.load_state_dict(net.state_dict())
    z, c, image = map(torch.from_numpy, inputs(kw))
    args = (z, c) if kind == "G" else (image,)
    assert torch.equal(net(*args), again(*args))
    assert json.loads(json.dumps(net.init_kwargs)) == net.init_kwargs


@pytest.mark.parametrize("lod, count", [(0, 6), (0.5, 6), (1, 4), (2, 2)])
def test_every_split_is_the_network_to_the_bit(lod, count):
    kw = {"label_size": 2}
    generator = adapt(opened(made("G", kw, lod)))
    z, c, _ = map(torch.from_numpy, inputs(kw, 2))
    code = Code("z", {"z": z}, c)
    whole = generator.render(code)
    assert len(generator.layers()) == count and next(iter(generator.layers())) == generator.dense == "dense"
    for layer, shape in generator.layers().items():
        split = generator.convert(code, f"f:{layer}")
        assert tuple(split.tensors["h"].shape) == (2, *shape)
        assert torch.equal(generator.render(split), whole)
        moved = Code(split.space, {**split.tensors, "h": split.tensors["h"] + 1}, c)
        assert not torch.equal(generator.render(moved), whole)


def test_the_dense_layer_is_what_comes_before_the_activation():
    """Linear in the normalised z."""
    state = made("G", {})
    generator = adapt(opened(state))
    z, _, _ = inputs({}, 2)
    h = generator.convert(Code("z", {"z": torch.from_numpy(z)}), "f:dense").tensors["h"].numpy()
    v = {k: np.asarray(x, np.float64) for k, x in dict(state["variables"]).items()}
    expected = pixel_norm(z.astype(np.float64), 1e-8) @ v["4x4/Dense/weight"] * np.sqrt(2) / 4 / np.sqrt(8)
    assert_close("h", h, expected.reshape(2, 8, 4, 4) + v["4x4/Dense/bias"][None, :, None, None], 1e-5)


def test_gradients_reach_z():
    """Against differences of the float64 arithmetic."""
    state = made("G", {}, 0.3)
    G, arithmetic = opened(state), GeneratorArithmetic(dict(state["variables"]), {})
    z, c, _ = inputs({}, 1)
    x = torch.from_numpy(z).requires_grad_(True)
    target = np.random.RandomState(3).randn(1, 3, 16, 16)
    (G(x) * torch.from_numpy(target).float()).sum().backward()
    expected = np.zeros_like(z, dtype=np.float64)
    for i in range(z.shape[1]):
        step = np.zeros_like(expected)
        step[0, i] = 1e-6
        ends = [(arithmetic(z + sign * step, c.astype(np.float64), 0.3) * target).sum() for sign in (1, -1)]
        expected[0, i] = (ends[0] - ends[1]) / 2e-6
    assert_close("gradient", x.grad.numpy(), expected, 1e-4)


# Official code itself, on NumPy in place of TensorFlow


REPOS = {
    "PROGAN_REPO": ("tkarras/progressive_growing_of_gans", "networks.py", 2),
    "STYLEGAN_REPO": ("NVlabs/stylegan", "training/networks_progan.py", 3),
}


class Dimension(int):
    value = property(int)


class Array(np.ndarray):
    """An array that answers like a tensor of TensorFlow 1."""

    shape = property(lambda self: tuple(map(Dimension, np.shape(self.view(np.ndarray)))))

    def set_shape(self, shape):
        assert np.ndim(self) == len(shape)


def as_array(x):
    return np.asarray(x, np.float64).view(Array)


def mean(x, axis, keepdims=False):
    return x.mean(axis=tuple(np.atleast_1d(axis)), keepdims=keepdims)


def numpy_tensorflow(variables):
    """A module that stands for TensorFlow: its operations at once, in float64, its variables from a table."""
    tf, nn, scopes = types.ModuleType("tensorflow"), types.SimpleNamespace(), []

    @contextlib.contextmanager
    def scope(name):
        scopes.append(name)
        yield
        scopes.pop()

    def get_variable(name, shape=None, **_):
        value = as_array(variables["/".join([*scopes, name])])
        assert shape is None or list(np.shape(value)) == list(shape)
        return value

    def strided_conv2d(x, w, strides, padding, data_format):
        assert padding == "SAME" and data_format == "NCHW"
        return conv2d(x.view(np.ndarray), w.view(np.ndarray), strides[2]).view(Array)

    def transposed(x, w, output_shape, strides, padding, data_format):
        y = conv2d_transpose(x.view(np.ndarray), w.view(np.ndarray))
        assert strides == [1, 1, 2, 2] and padding == "SAME" and list(y.shape) == [int(n) for n in output_shape]
        return y.view(Array)

    def avg_pool(x, ksize, strides, padding, data_format):
        assert ksize == strides == [1, 1, ksize[2], ksize[2]] and padding == "VALID"
        x = x.view(np.ndarray)
        for _ in range(int(math.log2(ksize[2]))):
            x = downscale(x)
        return x.view(Array)

    nn.conv2d, nn.conv2d_transpose, nn.avg_pool = strided_conv2d, transposed, avg_pool
    nn.relu = lambda x: np.maximum(x, 0)
    initializers = types.SimpleNamespace(random_normal=lambda *_: None, zeros=lambda: None)
    tf.__dict__.update(
        nn=nn, initializers=initializers, variable_scope=scope, name_scope=lambda _: contextlib.nullcontext(),
        get_variable=get_variable, constant=lambda x, dtype=None, name=None: x, cast=lambda x, dtype: +x, float32=np.float32,
        as_dtype=lambda _: np.dtype(np.float64), reshape=lambda x, s: x.reshape([int(n) for n in s]), tile=np.tile, transpose=np.transpose,
        concat=lambda xs, axis: np.concatenate(xs, axis).view(Array), matmul=np.matmul, maximum=np.maximum, minimum=min,
        pad=lambda x, widths, mode: np.pad(x, widths).view(Array), add_n=sum, rsqrt=lambda x: x**-0.5, sqrt=np.sqrt,
        square=np.square, reduce_mean=mean, shape=lambda x: x.shape, clip_by_value=np.clip,
        identity=lambda x, name=None: x, cond=lambda test, yes, no: yes() if test else no(),
    )  # fmt: skip
    return tf


def checkout(variable):
    repo, path, _ = REPOS[variable]
    if not os.environ.get(variable):
        pytest.skip(f"set {variable} to a checkout of {repo} to compare with it")
    return Path(os.environ[variable]) / path


def imported(path, name, **modules):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    with mock.patch.dict(sys.modules, {name: module, **modules}):
        spec.loader.exec_module(module)
    return module


def official(path, function, variables, kw, *args):
    """What the function of official code gives, as plain arrays."""
    networks = imported(path, "networks", tensorflow=numpy_tensorflow(variables))
    out = getattr(networks, function)(*map(as_array, args), **kw)
    return np.concatenate(out if isinstance(out, tuple) else [out], axis=1).view(np.ndarray)


def check_official(net, path, kind, variables, kw):
    z, c, image = inputs(kw)
    if kind == "G":
        got = net(torch.from_numpy(z), torch.from_numpy(c))
        args = (z, c)
    else:
        got = torch.cat([net(torch.from_numpy(image)), net.label_logits(torch.from_numpy(image))], dim=1)
        args = (image,) if path.name == "networks.py" else (image, c)  # the StyleGAN repository's takes labels
    assert_close(kind, got.numpy(), official(path, f"{kind}_paper", variables, {**SIZES, **kw}, *args), 1e-5)


@pytest.mark.parametrize(
    "kind, kw", [*(("G", kw) for kw in GENERATORS), *(("D", kw) for kw in DISCRIMINATORS)], ids=str
)
@pytest.mark.parametrize("variable", REPOS)
def test_official_functions(variable, kind, kw):
    path, version = checkout(variable), REPOS[variable][2]
    for lod in (0, 0.3, 1, 1.5, 2):
        for structure in ("recursive", "linear"):
            state = made(kind, {**kw, "structure": structure}, lod, version)
            check_official(opened(state), path, kind, dict(state["variables"]), {**kw, "structure": structure})


@pytest.mark.parametrize("scales", [True, False])
@pytest.mark.parametrize("kind", ["G", "D"])
def test_the_official_conversion_of_theano_networks(kind, scales):
    path = checkout("PROGAN_REPO")
    tfutil = types.ModuleType("tfutil")
    tfutil.network_import_handlers = []
    networks = imported(path, "networks", tensorflow=numpy_tensorflow({}))
    legacy = imported(path.parent / "legacy.py", "legacy", tfutil=tfutil, networks=networks)
    state, _, kw = theano(kind, {}, 0.3, scales)
    with mock.patch.object(inspect, "getsource", return_value=""):
        converted = legacy.patch_theano_gan(state)
    kw = {k: v for k, v in converted["static_kwargs"].items() if k not in SIZES}
    check_official(opened(state, protocol=2), path, kind, dict(converted["variables"]), kw)
