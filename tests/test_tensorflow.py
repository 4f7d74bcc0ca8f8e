"""TensorFlow pickles: the records, and StyleGAN2 networks against their arithmetic written out in NumPy (float64)."""
# Takes at most 5 CPU seconds.

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import stylegan_invert as si
from stylegan_invert import NetworkFileError
from stylegan_invert.network_files import safetensors_file as network_safetensors
from stylegan_invert.network_files.assemble import Budget
from stylegan_invert.network_files.families import tf_stylegan2
from stylegan_invert.network_files.machine import tensorflow as tf
from stylegan_invert.network_files.machine.containers import read_records

from support import assert_close
from tf_pickles import SOURCE, dump, dumps, network, random_variables, theano_network

# The arithmetic of the official build functions, in NumPy


def convolve(x, w, stride=1):
    """tf.nn.conv2d, VALID: x (N, C, H, W), w (k, k, in, out)."""
    k = w.shape[0]
    h, v = (x.shape[2] - k) // stride + 1, (x.shape[3] - k) // stride + 1
    y = np.zeros((x.shape[0], w.shape[3], h, v))
    for i in range(k):
        for j in range(k):
            part = x[:, :, i : i + stride * h : stride, j : j + stride * v : stride]
            y += np.einsum("nchw,co->nohw", part, w[i, j])
    return y


def pad(x, a, b):
    x = np.pad(x, [(0, 0), (0, 0), (max(a, 0), max(b, 0)), (max(a, 0), max(b, 0))])
    return x[:, :, max(-a, 0) : x.shape[2] - max(-b, 0), max(-a, 0) : x.shape[3] - max(-b, 0)]


def upfirdn(x, k, up=1, down=1, pad0=0, pad1=0):
    n, c, h, w = x.shape
    y = np.zeros((n, c, h * up, w * up))
    y[:, :, ::up, ::up] = x
    y = pad(y, pad0, pad1).reshape(n * c, 1, h * up + pad0 + pad1, w * up + pad0 + pad1)
    y = convolve(y, k[::-1, ::-1, None, None])[:, :, ::down, ::down]
    return y.reshape(n, c, *y.shape[2:])


def taps(k, gain=1):
    k = np.asarray([1, 1] if k is None else k, np.float64)
    k = np.outer(k, k) if k.ndim == 1 else k
    return k / k.sum() * gain


def upsample(x, k):
    f = taps(k, 4)
    return upfirdn(x, f, up=2, pad0=(len(f) + 1) // 2, pad1=(len(f) - 2) // 2)


def downsample(x, k):
    f = taps(k)
    return upfirdn(x, f, down=2, pad0=(len(f) - 1) // 2, pad1=(len(f) - 2) // 2)


def upsample_conv(x, w, k):
    """upsample_conv_2d: a transposed convolution of stride 2 with the turned kernel, then the filter."""
    side = w.shape[0]
    if side == 1:
        return upsample(convolve(x, w), k)
    y = np.zeros((x.shape[0], w.shape[3], *[2 * (n - 1) + side for n in x.shape[2:]]))
    for i in range(side):
        for j in range(side):
            part = np.einsum("nchw,co->nohw", x, w[side - 1 - i, side - 1 - j])
            y[:, :, i : i + 2 * x.shape[2] : 2, j : j + 2 * x.shape[3] : 2] += part
    f = taps(k, 4)
    return upfirdn(y, f, pad0=(len(f) + 2 - side) // 2, pad1=(len(f) - 2 - side + 3) // 2)


def conv_downsample(x, w, k):
    side, f = w.shape[0], taps(k)
    if side == 1:
        return convolve(downsample(x, k), w)
    y = upfirdn(x, f, pad0=(len(f) - 2 + side) // 2, pad1=(len(f) - 2 + side - 1) // 2)
    return convolve(y, w, stride=2)


def conv(x, w, k=None, up=False, down=False):
    if up or down:
        return (upsample_conv if up else conv_downsample)(x, w, k)
    return convolve(pad(x, w.shape[0] // 2, w.shape[0] // 2), w)


def act(x, b, name="linear", lrmul=1, clamp=None):
    x = x + (b * lrmul).reshape(1, -1, *[1] * (x.ndim - 2))
    if name == "lrelu":
        x = np.where(x > 0, x, 0.2 * x) * np.sqrt(2)
    elif name == "relu":
        x = np.maximum(x, 0) * np.sqrt(2)
    return x if clamp is None else np.clip(x, -clamp, clamp)


def weight(v, name, lrmul=1):
    w = v[name]
    return w * lrmul / np.sqrt(np.prod(w.shape[:-1]))


def unit(x):
    return x / np.sqrt(np.mean(x**2, axis=1, keepdims=True) + 1e-8)


def mapping(v, kw, z, c):
    normalised = kw.get("normalize_latents", True)
    x = unit(z) if normalised else z
    if "mapping/LabelConcat/weight" in v:
        x = np.concatenate([z, c @ v["mapping/LabelConcat/weight"]], axis=1)
        x = unit(x) if normalised else x
    elif kw["label_size"]:
        y = c @ weight(v, "mapping/LabelEmbed/weight") + v["mapping/LabelEmbed/bias"]
        x = np.concatenate([x, unit(y)], axis=1)
    for i in range(kw["mapping_layers"]):
        x = x @ weight(v, f"mapping/Dense{i}/weight", kw["mapping_lrmul"])
        x = act(x, v[f"mapping/Dense{i}/bias"], "lrelu", kw["mapping_lrmul"])
    return x


def modulated(v, scope, x, w, k, up=False, demodulate=True):
    s = act(w @ weight(v, f"{scope}/mod_weight"), v[f"{scope}/mod_bias"]) + 1
    outputs = []
    for i in range(len(x)):
        ww = weight(v, f"{scope}/weight") * s[i][None, None, :, None]
        if demodulate:
            ww = ww / np.sqrt(np.sum(ww**2, axis=(0, 1, 2), keepdims=True) + 1e-8)
        outputs.append(conv(x[i : i + 1], ww, k, up))
    return np.concatenate(outputs)


def synthesis(v, kw, w):
    """w (N, layers, w_dim), with the maps of the file as noise."""
    v = {name.removeprefix("synthesis/"): value for name, value in v.items() if name.startswith("synthesis/")}
    k, clamp = kw.get("resample_kernel", [1, 3, 3, 1]), kw.get("conv_clamp")
    nonlinearity, lod0 = kw.get("nonlinearity", "lrelu"), "ToRGB_lod0/weight" in v
    arch = "orig" if lod0 else kw.get("architecture", "skip")

    def layer(x, scope, i, up=False):
        x = modulated(v, scope, x, w[:, i], k, up)
        if kw.get("use_noise", True):
            x = x + v[f"noise{i}"] * v[f"{scope}/noise_strength"]
        return act(x, v[f"{scope}/bias"], nonlinearity, clamp=clamp)

    def torgb(x, scope, r):
        x = modulated(v, scope, x, w[:, 2 * r - 3], k, demodulate=False)
        return act(x, v[f"{scope}/bias"], clamp=clamp)

    x = layer(np.repeat(v["4x4/Const/const"], len(w), axis=0), "4x4/Conv", 0)
    y = torgb(x, "4x4/ToRGB", 2) if arch == "skip" else None
    last = int(np.log2(kw["resolution"]))
    for r in range(3, last + 1):
        scope, t = f"{2**r}x{2**r}", x
        x = layer(layer(x, f"{scope}/Conv0_up", 2 * r - 5, up=True), f"{scope}/Conv1", 2 * r - 4)
        if arch == "resnet":
            x = (x + conv(t, weight(v, f"{scope}/Skip/weight"), k, up=True)) / np.sqrt(2)
        y = upsample(y, k) if arch == "skip" else None
        if arch == "skip" or r == last:
            t = torgb(x, "ToRGB_lod0" if lod0 else f"{scope}/ToRGB", r)
            y = t if y is None else y + t
    return y


def discriminator(v, kw, x, c, version):
    k, clamp = kw.get("resample_kernel", [1, 3, 3, 1]), kw.get("conv_clamp")
    arch = "orig" if "FromRGB_lod0/weight" in v else kw.get("architecture", "resnet")
    last, y, h = int(np.log2(kw["resolution"])), x, None

    def layer(x, scope, down=False):
        return act(conv(x, weight(v, f"{scope}/weight"), k, down=down), v[f"{scope}/bias"], "lrelu", clamp=clamp)

    for r in range(last, 2, -1):
        scope = f"{2**r}x{2**r}"
        if arch == "skip" or r == last:
            t = layer(y, "FromRGB_lod0" if "FromRGB_lod0/weight" in v else f"{scope}/FromRGB")
            h = t if h is None else h + t
        t = h
        h = layer(layer(h, f"{scope}/Conv0"), f"{scope}/Conv1_down", down=True)
        if arch == "resnet":
            h = (h + conv(t, weight(v, f"{scope}/Skip/weight"), k, down=True)) / np.sqrt(2)
        y = downsample(y, k)
    if arch == "skip":
        h = h + layer(y, "4x4/FromRGB")
    features = kw.get("mbstd_num_features", 1)
    size = kw.get("mbstd_group_size", 4 if version == 4 else None)
    if (version == 4 and size > 1) or (version == 5 and features > 0):
        n, ch, side, _ = h.shape
        size = min(size or n, n)
        g = h.reshape(size, n // size, features, ch // features, side, side)
        g = np.sqrt(np.mean((g - g.mean(axis=0)) ** 2, axis=0) + 1e-8).mean(axis=(2, 3, 4))
        g = np.tile(g[:, :, None, None], (size, 1, side, side))
        h = np.concatenate([h, g], axis=1)
    h = layer(h, "4x4/Conv").reshape(len(x), -1)
    h = act(h @ weight(v, "4x4/Dense0/weight"), v["4x4/Dense0/bias"], "lrelu")
    h = h @ weight(v, "Output/weight") + v["Output/bias"]
    if kw["label_size"] and version == 4:
        h = np.sum(h * c, axis=1, keepdims=True)
    elif kw["label_size"]:
        y = unit(c @ weight(v, "LabelEmbed/weight") + v["LabelEmbed/bias"])
        for i in range(kw.get("mapping_layers", 0)):
            y = act(y @ weight(v, f"Mapping{i}/weight", 0.1), v[f"Mapping{i}/bias"], "lrelu", 0.1)
        h = np.sum(h * y, axis=1, keepdims=True) / np.sqrt(y.shape[1])
    return h


# Networks with the variables that the build functions create

SIZES = {"resolution": 16, "num_channels": 2, "fmap_base": 32, "fmap_max": 6, "label_size": 0}
MAPPING = {"latent_size": 6, "dlatent_size": 5, "mapping_fmaps": 7, "mapping_layers": 3, "mapping_lrmul": 0.1}


def channels(kw, r):
    """At 2^r pixels a side; r = 1 for the last dense layer of a discriminator."""
    return min(int(kw["fmap_base"]) // 2 ** (r - 1), kw["fmap_max"])


def generator_state(version, kwargs, growing=False, seed=0, **changes):
    kw = {**SIZES, **MAPPING, **kwargs}
    arch, last, w = (
        "orig" if growing else kw.get("architecture", "skip"),
        int(np.log2(kw["resolution"])),
        kw["dlatent_size"],
    )
    shapes = {"dlatent_avg": (w,), **({"lod": ()} if version == 4 else {})}
    size = kw["latent_size"]
    if kw["label_size"] and version == 4:
        shapes["mapping/LabelConcat/weight"] = (kw["label_size"], size)
        size *= 2
    elif kw["label_size"]:
        embed = kw.get("label_fmaps", size)
        shapes |= {"mapping/LabelEmbed/weight": (kw["label_size"], embed), "mapping/LabelEmbed/bias": (embed,)}
        size += embed
    for i in range(kw["mapping_layers"]):
        out = w if i == kw["mapping_layers"] - 1 else kw["mapping_fmaps"]
        shapes |= {f"mapping/Dense{i}/weight": (size, out), f"mapping/Dense{i}/bias": (out,)}
        size = out

    def layer(scope, k, a, b, noise=True):
        shapes.update({
            f"synthesis/{scope}/weight": (k, k, a, b), f"synthesis/{scope}/mod_weight": (w, a), f"synthesis/{scope}/mod_bias": (a,),
            **({f"synthesis/{scope}/noise_strength": ()} if noise and kw.get("use_noise", True) else {}), f"synthesis/{scope}/bias": (b,),
        })  # fmt: skip

    if kw.get("use_noise", True):
        shapes |= {f"synthesis/noise{i}": (1, 1, *[2 ** ((i + 5) // 2)] * 2) for i in range(2 * last - 3)}
    shapes["synthesis/4x4/Const/const"] = (1, channels(kw, 2), 4, 4)
    layer("4x4/Conv", 3, channels(kw, 2), channels(kw, 2))
    for r in range(3, last + 1):
        layer(f"{2**r}x{2**r}/Conv0_up", 3, channels(kw, r - 1), channels(kw, r))
        layer(f"{2**r}x{2**r}/Conv1", 3, channels(kw, r), channels(kw, r))
        if arch == "resnet":
            shapes[f"synthesis/{2**r}x{2**r}/Skip/weight"] = (1, 1, channels(kw, r - 1), channels(kw, r))
    for r in range(2, last + 1):
        if growing or arch == "skip" or r == last:
            scope = f"ToRGB_lod{last - r}" if growing else f"{2**r}x{2**r}/ToRGB"
            layer(scope, 1, channels(kw, r), kw["num_channels"], noise=False)
    variables = random_variables(shapes, seed)
    if version == 4:
        variables["lod"] = np.float32(0)
        variables |= {"synthesis/lod": np.float32(0)} if growing else {}
    func = "G_synthesis_stylegan_revised" if growing else "G_synthesis_stylegan2" if version == 4 else "G_synthesis"
    kwargs = {**kw, **({"synthesis_func": func} if growing else {})}
    return network(
        "training.x.G_main", kwargs, variables, version, {"mapping": "G_mapping", "synthesis": func}, **changes
    )


def discriminator_state(version, kwargs, growing=False, seed=1, **changes):
    kw = {**SIZES, **kwargs}
    arch, last, c = (
        "orig" if growing else kw.get("architecture", "resnet"),
        int(np.log2(kw["resolution"])),
        kw["label_size"],
    )
    shapes = {}

    def layer(scope, *shape, bias=True):
        shapes.update({f"{scope}/weight": shape, **({f"{scope}/bias": shape[-1:]} if bias else {})})

    for r in range(last, 1, -1):
        scope, n, half = f"{2**r}x{2**r}", channels(kw, r), channels(kw, r - 1)
        if growing or arch == "skip" or r == last:
            layer(f"FromRGB_lod{last - r}" if growing else f"{scope}/FromRGB", 1, 1, kw["num_channels"], n)
        if r > 2:
            layer(f"{scope}/Conv0", 3, 3, n, n)
            layer(f"{scope}/Conv1_down", 3, 3, n, half)
            if arch == "resnet":
                layer(f"{scope}/Skip", 1, 1, n, half, bias=False)
    off = version == 4 and kw.get("mbstd_group_size", 4) < 2
    layer("4x4/Conv", 3, 3, channels(kw, 2) + (0 if off else kw.get("mbstd_num_features", 1)), channels(kw, 2))
    layer("4x4/Dense0", channels(kw, 2) * 16, channels(kw, 1))
    outputs = 1 if not c else c if version == 4 else kw.get("mapping_fmaps", channels(kw, 1))
    layer("Output", channels(kw, 1), outputs)
    if c and version == 5:
        layer("LabelEmbed", c, outputs)
        for i in range(kw.get("mapping_layers", 0)):
            layer(f"Mapping{i}", outputs, outputs)
    variables = random_variables(shapes, seed)
    func = "D_main" if version == 5 else "D_stylegan" if growing else "D_stylegan2"
    return network(func, kw, {**variables, **({"lod": np.float32(0)} if growing else {})}, version, **changes)


def records(state, **how):
    data = dumps((state, state, state), **how)
    return tf.find_networks(read_records(memoryview(data), "file"))["G_ema"], len(data)


def build(state, **how):
    record, size = records(state, **how)
    return tf_stylegan2.build(record, "file", "G_ema", Budget("file", 2 * size))


def arrays(state):
    own = dict(state["variables"])
    for name, component in state.get("components", {}).items():
        own |= {f"{name}/{k}": v for k, v in component["variables"]}
    return {k: np.asarray(v, np.float64) for k, v in own.items()}


def labels(n, classes):
    return np.eye(classes)[np.arange(n) % classes] if classes else np.zeros((n, 0))


def same(module):
    """Whether the arguments rebuild the network, and it is as readers return networks."""
    rebuilt = type(module)(**module.init_kwargs)
    shapes = {k: v.shape for k, v in module.state_dict().items()}
    assert {k: v.shape for k, v in rebuilt.state_dict().items()} == shapes
    for name, value in rebuilt.state_dict().items():
        if name.endswith("resample_filter"):
            assert torch.equal(value, module.state_dict()[name]), name
    assert not module.training
    assert all(
        t.dtype == torch.float32 and t.is_contiguous() and not t.requires_grad for t in module.state_dict().values()
    )


GENERATORS = {
    "config f": (4, {}),
    "config e, resnet": (4, {"architecture": "resnet", "resample_kernel": [1, 2, 1], "nonlinearity": "relu"}),
    "config e, orig": (4, {"architecture": "orig", "dlatent_avg_beta": None, "normalize_latents": False}),
    "config f, labels": (4, {"label_size": 3}),
    "config e, labels, not normalised": (4, {"label_size": 2, "normalize_latents": False, "architecture": "resnet"}),
    "config d": (4, {"structure": "fixed"}, True),
    "ada": (5, {"num_fp16_res": 2, "conv_clamp": 1.5, "fmap_const": 6, "label_size": 3, "label_fmaps": 4}),
    "ada, odd": (5, {"use_noise": False, "resample_kernel": [1, 3, 2, 1], "resolution": 8, "mapping_layers": 1}),
    "ada, box": (5, {"resample_kernel": None, "architecture": "resnet", "conv_clamp": 1, "fmap_base": 32.0}),
}


def test_labels_of_version_4_are_not_lost(tmp_path):
    """Official PyTorch code has no such mapping; this project's own format has."""
    state = generator_state(4, {"label_size": 3})
    (tmp_path / "a.pkl").write_bytes(dumps((state, discriminator_state(4, {"label_size": 3}), state)))
    net = si.load(tmp_path / "a.pkl")
    with pytest.warns(UserWarning, match="one-hot labels give the official scores"):
        assert net.D.c_dim == 3
    with pytest.raises(TypeError, match="joined to z as TensorFlow's StyleGAN2 does"):
        si.save(net, tmp_path / "b.pkl")
    network_safetensors.write(net, tmp_path / "b.safetensors")
    again = si.load(tmp_path / "b.safetensors")
    z, c = torch.randn([3, 6]), torch.eye(3)
    assert torch.equal(net.G.mapping(z, c), again.G.mapping(z, c))


@pytest.mark.parametrize("ending", ["pkl", "safetensors"])
def test_what_was_read_can_be_written(ending, tmp_path):
    """Also a discriminator that embeds labels without layers behind, which is TensorFlow's default."""
    G = generator_state(5, {"label_size": 3})
    (tmp_path / "a.pkl").write_bytes(dumps((G, discriminator_state(5, {"label_size": 3}), G)))
    net = si.load(tmp_path / "a.pkl")
    path = tmp_path / f"b.{ending}"
    (si.save if ending == "pkl" else network_safetensors.write)(net, path)
    again = si.load(path)
    img, c = torch.randn([3, 2, 16, 16]), torch.eye(3)
    assert torch.equal(net.D(img, c), again.D(img, c))
    z = torch.randn([3, 6])
    assert torch.equal(net.G(z, c, noise_mode="const"), again.G(z, c, noise_mode="const"))


@pytest.mark.parametrize("name", GENERATORS)
def test_generators_compute_what_tensorflow_does(name):
    version, kwargs, *growing = GENERATORS[name]
    state = generator_state(version, kwargs, *growing)
    if name == "ada":
        state["components"]["mapping"]["static_kwargs"] = {"mapping_layers": 99}  # G_main passes its own
    G = build(state)
    same(G)
    kw, v = state["static_kwargs"], arrays(state)
    assert (G.z_dim, G.c_dim, G.w_dim, G.img_resolution, G.img_channels) == (
        6,
        kw["label_size"],
        5,
        kw["resolution"],
        2,
    )
    z, c = np.random.RandomState(2).randn(3, 6), labels(3, kw["label_size"])
    w = mapping(v, kw, z, c)
    got = G.mapping(torch.from_numpy(z), torch.from_numpy(c) if c.size else None)
    assert_close("w", got.numpy(), np.repeat(w[:, None], G.num_ws, axis=1), 1e-5)
    assert_close("w_avg", G.mapping.w_avg.numpy(), v["dlatent_avg"], 0)
    ws = np.random.RandomState(3).randn(2, G.num_ws, 5)  # of another w for every layer
    got = G.synthesis(torch.from_numpy(ws), noise_mode="const")
    assert_close("picture", got.numpy(), synthesis(v, kw, ws), 1e-5)


DISCRIMINATORS = {
    "config f": (4, {}),
    "config f, labels": (4, {"label_size": 3}),
    "config e, skip": (4, {"architecture": "skip", "mbstd_group_size": 1, "resample_kernel": [1, 2, 1]}),
    "config d": (4, {"mbstd_num_features": 2}, True),
    "ada": (5, {"num_fp16_res": 2, "conv_clamp": 1.5, "freeze_layers": 3, "mbstd_group_size": 2}),
    "ada, labels": (5, {"label_size": 3, "mapping_layers": 2, "mapping_fmaps": 7, "architecture": "orig"}),
    "ada, odd": (5, {"mbstd_num_features": 0, "resample_kernel": [1, 3, 2, 1]}),
}


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminators_compute_what_tensorflow_does(name):
    version, kwargs, *growing = DISCRIMINATORS[name]
    state = discriminator_state(version, kwargs, *growing)
    if name == "config f, labels":
        with pytest.warns(UserWarning, match="one-hot labels give the official scores"):
            D = build(state)
    else:
        D = build(state)
    same(D)
    kw = state["static_kwargs"]
    x, c = np.random.RandomState(2).randn(4, 2, 16, 16), labels(4, kw["label_size"])
    got = D(torch.from_numpy(x).float(), torch.from_numpy(c).float() if c.size else None)
    assert_close("score", got.numpy(), discriminator(arrays(state), kw, x, c, version), 1e-5)


# Records


@pytest.mark.parametrize(
    "how", [{"protocol": 2}, {"protocol": 3}, {"protocol": 4}, {"python2": True}, {"module": "tfutil"}], ids=str
)
def test_every_way_of_writing_is_read_alike(how, tmp_path):
    variables = random_variables({"lod": (), "mapping/w": (3, 4), "synthesis/w": (40, 50), "synthesis/4x4/b": (0, 3)})
    variables |= {"f": np.asfortranarray(variables["mapping/w"]), "d": np.float64(0.1), "i": np.int32(3), "n": 2}
    variables |= {"zero": np.asarray(7, np.float16), "deep": np.arange(24, dtype=np.float64).reshape(2, 3, 4, 1)}
    kwargs = {"a": 1, "list": (1, [2.5, None]), "table": {"x": True}, "number": np.float64(0.5)}
    components = {"mapping": "m.G_mapping", "synthesis": "m.G_synthesis"}
    state = network("training.networks.G_main", kwargs, variables, 5, components)
    record, _ = records(state, **how)
    assert (record.version, record.build_func, record.name) == (5, "G_main", "training.networks.G_main")
    assert record.static_kwargs == {"a": 1, "list": [1, [2.5, None]], "table": {"x": True}, "number": 0.5}
    assert {k: c.build_func for k, c in record.components.items()} == {
        "mapping": "G_mapping",
        "synthesis": "G_synthesis",
    }
    assert set(record.variables) == set(variables)
    for name, value in variables.items():
        got = record.variables[name]
        assert got.shape == np.shape(value) and got.numel == np.size(value)
        assert np.array_equal(got.to_float32().numpy(), np.asarray(value, np.float32)), name


def test_arrays_are_views_of_the_file():
    data = bytearray(dumps((network("G", {}, {"w": np.zeros((50, 50), np.float32)}, 4),) * 3))
    record = tf.find_networks(read_records(memoryview(data), "file"))["G"].variables["w"]
    assert record.storage.data.obj is data


def test_a_network_of_the_theano_era():
    params = [np.random.RandomState(0).randn(30, 40).astype(np.float32), np.float32(3)]
    state = theano_network("G_paper", {"resolution": 8}, params, lod=1.5)
    for how in ({"python2": True}, {"protocol": 2}):
        record, _ = records(state, module="network", **how)
        assert (record.version, record.build_func, record.static_kwargs) == (None, "G_paper", {"resolution": 8})
        assert [p.shape for p in record.theano_params] == [(30, 40), ()]
        assert all(np.array_equal(p.to_float32().numpy(), e) for p, e in zip(record.theano_params, params))
        assert record.variables["cur_lod"].to_float32() == 1.5


def test_the_spelling_of_old_protocols(monkeypatch):
    written = dumps((network("G", {"a": 1}, {}, 4),) * 3, protocol=2)
    new = b"cdnnlib.tflib.network\nNetwork\n"
    start = written.index(new)
    assert written[start + len(new) : start + len(new) + 4] == b"q\0)\x81"  # the class, (), NEWOBJ
    old = b"ccopy_reg\n_reconstructor\n" + new + b"q\0c__builtin__\nobject\nN\x87R"
    data = written[:start] + old + written[start + len(new) + 4 :]
    assert tf.find_networks(read_records(memoryview(data), "file"))["G"].static_kwargs == {"a": 1}
    for wrong in (
        new + b"c__builtin__\nobject\nK\1\x87R",
        b"cnumpy\nndarray\nc__builtin__\nobject\nN\x87R",
        new + b"\x85R",
    ):
        data = written[:start] + b"ccopy_reg\n_reconstructor\n" + wrong + written[start + len(new) + 4 :]
        with pytest.raises(NetworkFileError, match="not a TensorFlow network"):
            read_records(memoryview(data), "file")


def part(**changes):
    return network("G", {}, {}, 4, **changes)


LOOP = []
LOOP.append(LOOP)
SHARED = np.zeros(3, np.float32)


@pytest.mark.parametrize(
    "state, reason",
    [
        (part(version="4"), "of version '4'; expected a number"),
        (part(build_func_name=3), "whose build_func_name is 3; expected a short text"),
        (part(build_func_name="x" * 300), "expected a short text"),
        (part(static_kwargs=[]), "arguments are not a table"),
        (part(static_kwargs={"a": SHARED}), "an argument is a NumpyArray; expected numbers, texts, lists"),
        (part(static_kwargs={"a": b"bytes"}), "an argument is a memoryview"),
        (part(static_kwargs={"a": [[[[[[[[[[1]]]]]]]]]]}), "nested too deeply"),
        (part(static_kwargs={"a": [0] * 20_000}), "arguments of more than 10000 values"),
        (part(static_kwargs={"a": LOOP}), "contains itself"),
        (part(variables={}), "variables are not a list"),
        (part(variables=[("x",)]), "not a pair of name and value"),
        (part(variables=[("x", "y")]), "the variable 'x' is 'y'; expected an array"),
        (part(variables=[(1, SHARED)]), "name of a variable is 1"),
        (part(variables=[("x", SHARED)] * 2), "two variables of the name 'x'"),
        (part(variables=[(str(i), SHARED) for i in range(10_001)]), "variables are not a list of at most 10000"),
        (part(components=[]), "components are not a table of networks"),
        (part(components={"mapping": {}}), "components are not a table of networks"),
        (part(variables=[("m/x", SHARED)], components={"m": part(variables=[("x", SHARED)])}), "two variables of the name 'm/x'"),
        (part(variables=[("x", np.zeros(3, ">f4"))]), "not plain little-endian"),
        (part(variables=[("x", np.zeros(3, "c16"))]), "a NumPy type 'c16'"),
        (part(variables=[("x", np.array([None]))]), "a NumPy type 'O8'"),
        ({"build_func_spec": {"func": "G"}, "param_values": 3}, "parameters are not a list"),
        ({"build_func_spec": {}, "param_values": []}, "func is None"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)  # fmt: skip
def test_records_of_wrong_contents_are_refused(state, reason):
    with pytest.raises(NetworkFileError, match=reason):
        records(state)


def test_components_are_used_once():
    head = b"\x80\x02cdnnlib.tflib.network\nNetwork\nq\0"
    text = b"".join(b"X%c\0\0\0%s" % (len(t), t) for t in (b"version",)) + b"K\4"

    def state(components):
        pairs = (
            (b"build_func_name", b"X\1\0\0\0f"),
            (b"static_kwargs", b"}"),
            (b"variables", b"]"),
            (b"components", components),
        )
        body = b"".join(b"X%c\0\0\0%s%s" % (len(k), k, v) for k, v in pairs)
        return b"}(" + text + body + b"ub"

    inner = b"h\0)\x81q\1" + state(b"}")
    twice = b"}(X\1\0\0\0a" + inner + b"X\1\0\0\0bh\1u"
    with pytest.raises(NetworkFileError, match="part of itself or of two networks"):
        read_records(memoryview(head + b")\x81" + state(twice) + b"."), "file")
    itself = head + b")\x81q\2" + state(b"}X\1\0\0\0ah\2s") + b"."
    with pytest.raises(NetworkFileError, match="contains itself"):
        read_records(memoryview(itself), "file")
    deep = inner
    for _ in range(12):
        deep = b"h\0)\x81" + state(b"}X\1\0\0\0a" + deep + b"s")
    with pytest.raises(NetworkFileError, match="lies too deep"):
        read_records(memoryview(head + b"0"[:0] + b")\x81" + state(b"}X\1\0\0\0a" + deep + b"s") + b"."), "file")
    for broken, reason in ((b")\x81}b}b.", "set twice"), (b")\x81Nb.", "not a table"), (b")\x81.", "without contents")):
        with pytest.raises(NetworkFileError, match=reason):
            read_records(memoryview(head + broken), "file")


def test_arrays_whose_shape_lies_are_refused():
    data = dumps((network("G", {}, {"w": np.arange(64, dtype=np.float32).reshape(8, 8)}, 4),) * 3, protocol=2)
    shape = b"K\x08K\x08\x86"
    assert data.count(shape) == 1
    lies = {
        b"K\x08K\x07\x86": "does not add up",
        b"K\x10K\x08\x86": "does not add up",
        b"NNK\x08\x86"[1:]: "makes no sense",
        b"J\xff\xff\xff\xffJ\xc0\xff\xff\xff\x86": "makes no sense",  # -1 x -64
    }
    for lie, reason in lies.items():
        with pytest.raises(NetworkFileError, match=reason):
            read_records(memoryview(data.replace(shape, lie)), "file")
    numel = b"J\x00\x00\x00\x7f"
    with pytest.raises(NetworkFileError, match="shape makes no sense"):  # of no numbers, but of absurd sizes
        empty = dumps((network("G", {}, {"w": np.zeros((0, 8, 8), np.float32)}, 4),) * 3, protocol=2)
        read_records(memoryview(empty.replace(b"K\x00K\x08K\x08\x87", b"K\x00" + numel + numel + b"\x87")), "file")


def test_truncated_files_are_refused_and_nothing_runs():
    data = dumps((generator_state(4, {}), discriminator_state(4, {}), generator_state(4, {})))
    assert SOURCE.encode()[:40] in data
    for n in range(0, len(data) - 1, max(len(data) // 150, 1)):
        with pytest.raises(NetworkFileError):
            read_records(memoryview(data[:n]), "file")


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")  # of unknown arguments and absurd numbers
def test_damaged_files_end_in_a_clear_error():
    states = generator_state(4, {}, True), discriminator_state(4, {"label_size": 3}), generator_state(5, {})
    random = np.random.RandomState(0)
    refused = 0
    for how in ({}, {"python2": True}):
        data = dumps(states, **how)
        for _ in range(40):
            damaged = bytearray(data)
            for at in random.randint(0, len(data), size=4):
                damaged[at] = random.randint(256)
            try:
                for key, record in (tf.find_networks(read_records(memoryview(damaged), "file")) or {}).items():
                    tf_stylegan2.build(record, "file", key, Budget("file", 2 * len(data)))
            except NetworkFileError:
                refused += 1
    assert refused > 10


def test_what_is_no_tensorflow_file():
    assert tf.find_networks({"G_ema": None}) is None
    assert tf.find_networks((None, None, None)) is None


# Networks that are refused


def without(state, name):
    for holder in (state, *state.get("components", {}).values()):
        holder["variables"] = [(k, v) for k, v in holder["variables"] if k != name]
    return state


def replaced(state, name, value):
    for holder in (state, *state.get("components", {}).values()):
        holder["variables"] = [(k, value if k == name else v) for k, v in holder["variables"]]
    return state


LARGE = {"fmap_base": 1 << 30, "fmap_max": 65536}


@pytest.mark.parametrize(
    "state, reason",
    [
        (generator_state(3, {}), "it is of version 3; StyleGAN2 has version 4"),
        (generator_state(4, {}, build_func_name="G_style"), "made by 'G_style'; expected one of G_main, D_stylegan2"),
        (generator_state(4, {}, components={}), "its components are: none; expected mapping and synthesis"),
        (network("G_main", {}, {}, 4, {"mapping": "G_mapping", "synthesis": "G_other"}), "made by 'G_other'; expected G_synth"),
        (generator_state(4, {"resolution": 16}) | {"static_kwargs": {"resolution": 12}}, "resolution is 12; expected a power of two"),
        (generator_state(4, {}) | {"static_kwargs": {"resolution": 1 << 40}}, "resolution is 1099511627776; expected a power"),
        (generator_state(4, {}) | {"static_kwargs": {"latent_size": 1 << 40}}, "latent_size is 1099511627776"),
        (generator_state(4, {}) | {"static_kwargs": {"mapping_layers": 1 << 30}}, "mapping_layers is 1073741824"),
        (generator_state(4, {}) | {"static_kwargs": {"nonlinearity": "exec"}}, "nonlinearity is 'exec'"),
        (generator_state(4, {}) | {"static_kwargs": {**SIZES, **MAPPING, **LARGE}}, "b4.const: it comes from a shape"),
        (generator_state(4, {}) | {"static_kwargs": {**LARGE, "resolution": 4096}}, "Conv0_up/weight' is missing"),
        (generator_state(4, {"resample_kernel": [0]}), r"resample_kernel is \[0\]; expected None or a short list"),
        (generator_state(4, {}) | {"static_kwargs": {**SIZES, **MAPPING, "fmap_decay": 0.5}}, "only networks that halve them"),
        (generator_state(4, {}) | {"static_kwargs": {**SIZES, **MAPPING, "fmap_decay": -1e4}}, "its arguments describe no network"),
        (generator_state(5, {"fmap_const": 3}), "its constant has 3 channels and the layer after it 6"),
        (without(generator_state(4, {}), "16x16/Conv1/bias"), "variable 'synthesis/16x16/Conv1/bias' is missing"),
        (without(generator_state(4, {}), "dlatent_avg"), "variable 'dlatent_avg' is missing"),
        (replaced(generator_state(4, {}), "dlatent_avg", np.zeros(4, np.float32)), "a shape of \\(4,\\); its arguments ask for \\(5,\\)"),
        (replaced(generator_state(4, {}), "4x4/Conv/weight", np.zeros(6, np.float32)), "b4.conv1.weight: it comes from a shape of"),
        (replaced(generator_state(4, {}), "noise0", np.zeros((4, 4), np.float32)), "noise_const: it comes from a shape of \\(4, 4\\)"),
        (replaced(generator_state(4, {}), "Dense0/weight", np.zeros((7, 6), np.float32)), "fc0.weight: it comes from a shape of"),
        (replaced(generator_state(4, {}), "noise0", np.zeros((2, 1, 4, 4), np.float32)), "noise_const: it comes from a shape"),
        (replaced(generator_state(4, {}), "dlatent_avg", np.zeros(5, np.int32)), "expected floating-point numbers"),
        (generator_state(4, {"resolution": 32}) | {"static_kwargs": {**SIZES, **MAPPING}}, "do not ask for the variables 'synthesis/32"),
        (replaced(generator_state(4, {}, True), "lod", np.float32(1.5)), "G_ema.lod: it is 1.5: the network was saved before"),
        (replaced(generator_state(4, {}, True), "lod", np.float32("nan")), "G_ema.lod: it is nan"),
        (replaced(generator_state(4, {}, True), "lod", np.zeros(3, np.float32)), "expected a number"),
        (generator_state(4, {}, True) | {"static_kwargs": {"structure": []}}, r"structure is \[\]"),
        (discriminator_state(5, {}, build_func_name="D_stylegan2"), "made by 'D_stylegan2'; expected one of G_main, D_main"),
        (discriminator_state(5, {"use_spectral_norm": True}), "use_spectral_norm is True \\(spectral normalisation\\)"),
        (discriminator_state(5, {"score_max": 4}), "score_max is 4"),
        (discriminator_state(5, {"architecture": "skip", "conv_clamp": 256}), "which cannot be expressed"),
        (discriminator_state(4, {"fmap_base": 8, "fmap_max": 512}), "dense layer has 8 outputs and its 4x4 maps have 4 channels"),
        (discriminator_state(4, {}) | {"static_kwargs": {**SIZES, "label_size": 60000}}, "it has 60000 classes; at most 2048"),
        (discriminator_state(4, {}, components={"x": discriminator_state(4, {})}), "a discriminator with components"),
        (without(discriminator_state(5, {}), "16x16/Skip/weight"), "variable '16x16/Skip/weight' is missing"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)  # fmt: skip
def test_networks_that_do_not_fit_are_refused(state, reason):
    with pytest.raises(NetworkFileError, match=reason):
        build(state)


def test_unknown_arguments_are_warned_of():
    state = generator_state(4, {"conv_clamp": 256, "whatever": [1], "truncation_psi": 0.5, "style_mixing_prob": None})
    with pytest.warns(UserWarning, match="file: G_ema: unknown arguments are ignored: 'conv_clamp', 'whatever'"):
        G = build(state)
    assert G.synthesis.b4.conv1.conv_clamp is None  # version 4 has no such argument


def test_arrays_that_share_their_numbers_do_not_multiply_memory():
    shared = np.zeros((3, 3, 64, 64), np.float32)
    state = generator_state(4, {"fmap_base": 4096, "fmap_max": 64, "resolution": 64})
    for component in state["components"].values():
        component["variables"] = [(k, shared if v.shape == shared.shape else v) for k, v in component["variables"]]
    record, _ = records(state)
    with pytest.raises(NetworkFileError, match="too many share one storage"):
        tf_stylegan2.build(record, "file", "G_ema", Budget("file", 2 * shared.nbytes))


# NVIDIA's converter

CONVERT = """
import sys
import numpy as np
import torch
sys.path.insert(0, sys.argv[1])
import legacy
with open(sys.argv[2], "rb") as f:
    data = legacy.load_network_pkl(f)
inputs = np.load(sys.argv[3])
z, c, x = (torch.from_numpy(inputs[k]) for k in ("z", "c", "x"))
with torch.no_grad():
    picture = data["G_ema"](z, c, noise_mode="const", force_fp32=True)
    score = data["D"](x, c, force_fp32=True)
np.savez(sys.argv[4], picture=picture.numpy(), score=score.numpy())
"""
CONVERTED = {
    "config f": (4, {"mapping_fmaps": 5}, {"mbstd_group_size": 4}),
    "config e": (4, {"mapping_fmaps": 5, "architecture": "resnet"}, {"architecture": "skip", "mbstd_group_size": 2}),
    "ada": (
        5,
        {"conv_clamp": 256, "label_size": 3, "latent_size": 5},
        {"conv_clamp": 256, "label_size": 3, "mapping_layers": 1},
    ),
}


@pytest.mark.parametrize("name", CONVERTED)
def test_networks_compute_what_the_official_conversion_does(name, tmp_path):
    repo = os.environ.get("STYLEGAN2_ADA_REPO")
    if not repo:
        pytest.skip(
            "set STYLEGAN2_ADA_REPO to a checkout of NVlabs/stylegan2-ada-pytorch to compare with its legacy.py"
        )
    version, g, d = CONVERTED[name]
    states = generator_state(version, g), discriminator_state(version, d), generator_state(version, g, seed=5)
    path, random = dump(tmp_path / "net.pkl", states), np.random.RandomState(0)
    c = labels(4, g.get("label_size", 0))
    inputs = {"z": random.randn(4, g.get("latent_size", 6)), "c": c, "x": random.randn(4, 2, 16, 16)}
    inputs = {k: v.astype(np.float32) for k, v in inputs.items()}
    np.savez(tmp_path / "in.npz", **inputs)
    command = [sys.executable, "-c", CONVERT, repo, path, tmp_path / "in.npz", tmp_path / "out.npz"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    record = tf.find_networks(read_records(memoryview(path.read_bytes()), path))
    budget = Budget(path, 2 * path.stat().st_size)
    G, D = (tf_stylegan2.build(record[key], path, key, budget) for key in ("G_ema", "D"))
    z, c, x = (torch.from_numpy(inputs[k]) for k in ("z", "c", "x"))
    with np.load(tmp_path / "out.npz") as expected:
        assert_close("picture", G(z, c, noise_mode="const").numpy(), expected["picture"], 1e-5)
        assert_close("score", D(x, c).numpy(), expected["score"], 1e-5)
