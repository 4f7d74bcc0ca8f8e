"""BigGAN files: what the networks compute, against NumPy in double precision and against the public code; what is refused."""
# Takes at most 5 CPU seconds.

import importlib
import io
import json
import os
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from stylegan_invert.errors import NetworkFileError
from stylegan_invert.files.pickled import Machine
from stylegan_invert.generator import adapt
from stylegan_invert.network_files.assemble import Budget
from stylegan_invert.network_files.families import biggan
from stylegan_invert.network_files.machine.containers import read_records
from stylegan_invert.network_files.machine.persistence import GLOBALS
from stylegan_invert.networks.biggan import BigGANDeep
from stylegan_invert.networks.trained_weights import finished

from support import assert_close

DEFAULTS = {name: default for name, (default, _) in biggan.ASSUMED.items()}


def records(contents):
    """What is read of ``torch.save(contents)``, and a budget for it."""
    buffer = io.BytesIO()
    torch.save(contents, buffer)
    data = memoryview(buffer.getvalue())
    return read_records(data, "g.pth"), Budget("g.pth", 2 * len(data))


def generator(contents, **assumed):
    root, budget = records(contents)
    return biggan.build(*biggan.find_generator(root), "g.pth", budget, {**DEFAULTS, **assumed})


def discriminator(contents, **assumed):
    root, budget = records(contents)
    return biggan.build_discriminator(*biggan.find_discriminator(root), "d.pth", budget, {**DEFAULTS, **assumed})


def folder(config, contents):
    root, budget = records(contents)
    return biggan.build_folder(config, root, "folder", budget)


# State dicts with the official names, of random numbers


def near_singular(weight, noise):
    """A singular vector (1, out) as training leaves it: near the first, not on it, and not of length one."""
    u = torch.linalg.svd(weight.flatten(1), full_matrices=False)[0][:, 0]
    return 1.2 * u[None] + torch.as_tensor(noise, dtype=torch.float32) * 0.1 / len(weight) ** 0.5


class Random:
    """Makes tensors of a state dict."""

    def __init__(self, normalised=True, sv=True, seed=0):
        self.random = np.random.RandomState(seed)
        self.normalised, self.sv = normalised, sv
        self.tensors = {}

    def put(self, name, *shape, scale=1.0, offset=0.0):
        values = self.random.randn(*shape) * scale + offset
        self.tensors[name] = torch.from_numpy(np.asarray(values)).to(torch.float32)

    def weight(self, name, *shape, bias=True, scale=1.0):
        self.put(f"{name}.weight", *shape, scale=scale)
        if bias:
            self.put(f"{name}.bias", shape[0], scale=0.3)
        if self.normalised:
            self.tensors[f"{name}.u0"] = near_singular(self.tensors[f"{name}.weight"], self.random.randn(shape[0]))
            if self.sv:
                self.put(f"{name}.sv0", 1)

    def variance(self, name, *shape):
        self.tensors[name] = torch.from_numpy(self.random.uniform(0.2, 2, shape)).to(torch.float32)

    def statistics(self, name, channels, spelling):
        mean, var = biggan.STATISTICS[spelling]
        self.put(f"{name}.{mean}", channels, scale=0.3)
        self.variance(f"{name}.{var}", channels)
        if spelling == "mybn":  # sums over four batches
            self.tensors[f"{name}.bn.accumulation_counter"] = torch.tensor([4.0])
            for key in (mean, var):
                self.tensors[f"{name}.{key}"] *= 4
        if spelling == "cross_replica":
            self.tensors[f"{name}.bn.num_batches_tracked"] = torch.tensor(7)

    def conditional(self, name, channels, condition, spelling, shared=True):
        for part in ("gain", "bias"):
            if shared:
                self.weight(f"{name}.{part}", channels, condition, bias=False)
            else:
                self.put(f"{name}.{part}.weight", condition, channels, scale=0.5)
        self.statistics(name, channels, spelling)

    def attention(self, name, channels):
        for part, out, into in (("theta", 8, 1), ("phi", 8, 1), ("g", 2, 1), ("o", 1, 2)):
            self.weight(f"{name}.{part}", channels // out, channels // into, 1, 1, bias=False)
        self.put(f"{name}.gamma")


CHANNELS, CLASSES, SHARED = [16, 8, 4], 5, 6


def plain(hier=True, shared=True, normalised=True, sv=True, spelling="stored", chunk=4):
    """Of a BigGAN of two blocks, 16x16, with attention after the first."""
    r = Random(normalised, sv)
    if shared:
        r.put("shared.weight", CLASSES, SHARED)
    r.weight("linear", 16 * CHANNELS[0], chunk)
    condition = (SHARED + chunk if hier else SHARED) if shared else CLASSES
    for i, (into, out) in enumerate(zip(CHANNELS, CHANNELS[1:])):
        name = f"blocks.{i}.0"
        r.weight(f"{name}.conv1", out, into, 3, 3)
        r.weight(f"{name}.conv2", out, out, 3, 3)
        r.weight(f"{name}.conv_sc", out, into, 1, 1)
        r.conditional(f"{name}.bn1", into, condition, spelling, shared)
        r.conditional(f"{name}.bn2", out, condition, spelling, shared)
    r.attention("blocks.0.1", CHANNELS[1])
    r.put("output_layer.0.gain", CHANNELS[-1], scale=0.1, offset=0.3)
    r.put("output_layer.0.bias", CHANNELS[-1], scale=0.2)
    r.statistics("output_layer.0", CHANNELS[-1], spelling)
    r.weight("output_layer.2", 3, CHANNELS[-1], 3, 3)
    return r.tensors


DEEP = [16, 16, 8, 8, 8]


def deep(spelling="stored", z_dim=3):
    """Of a BigGAN-deep of two stages of two blocks, 16x16, with attention after the first stage."""
    r = Random()
    r.put("shared.weight", CLASSES, SHARED)
    r.weight("linear", 16 * DEEP[0], SHARED + z_dim)
    for i, (into, out) in enumerate(zip(DEEP, DEEP[1:])):
        name, hidden = f"blocks.{i}.0", into // 4
        for k, (a, b, side) in enumerate(
            [(into, hidden, 1), (hidden, hidden, 3), (hidden, hidden, 3), (hidden, out, 1)]
        ):
            r.weight(f"{name}.conv{k + 1}", b, a, side, side)
            r.conditional(f"{name}.bn{k + 1}", a, SHARED + z_dim, spelling)
    r.attention("blocks.1.1", DEEP[2])
    r.put("output_layer.0.gain", DEEP[-1], scale=0.1, offset=0.3)
    r.put("output_layer.0.bias", DEEP[-1], scale=0.2)
    r.statistics("output_layer.0", DEEP[-1], spelling)
    r.weight("output_layer.2", 3, DEEP[-1], 3, 3)
    return r.tensors


CONFIG = {
    "output_dim": 16, "z_dim": 4, "class_embed_dim": 4, "channel_width": 4, "num_classes": CLASSES, "n_stats": 11, "eps": 1e-4,
    "layers": [[False, 16, 16], [True, 16, 8], [False, 8, 4], [True, 4, 2], [False, 2, 1]], "attention_layer_position": 2,
}  # fmt: skip


def hugging_face(config=CONFIG, seed=3):
    """Of a pytorch-pretrained-BigGAN."""
    r = Random(seed=seed)
    z, width, n = config["z_dim"], config["channel_width"], config["n_stats"]

    def weight(name, *shape, bias=True):
        r.put(f"{name}.weight_orig", *shape)
        if bias:
            r.put(f"{name}.bias", shape[0], scale=0.3)
        matrix = r.tensors[f"{name}.weight_orig"].flatten(1)
        u, _, v = torch.linalg.svd(matrix)
        # Near the singular vectors, as after training, but not on them: their norms count.
        r.tensors[f"{name}.weight_u"] = 1.1 * u[:, 0] + 0.01
        r.tensors[f"{name}.weight_v"] = v[0] - 0.01

    def statistics(name, channels):
        r.put(f"{name}.running_means", n, channels, scale=0.3)
        r.variance(f"{name}.running_vars", n, channels)

    r.put("embeddings.weight", z, config["num_classes"])
    weight("generator.gen_z", 16 * 16 * width, 2 * z)
    layers = list(enumerate(config["layers"]))
    for i, (_, a, b) in layers:
        into, out, hidden = width * a, width * b, width * a // 4
        at = config["attention_layer_position"]
        name = f"generator.layers.{i + (i >= at)}"
        if i == at:
            for part, o, k in (("theta", 8, 1), ("phi", 8, 1), ("g", 2, 1), ("o_conv", 1, 2)):
                weight(f"generator.layers.{i}.snconv1x1_{part}", into // o, into // k, 1, 1, bias=False)
            r.put(f"generator.layers.{i}.gamma", 1)
        for k, (a, b, side) in enumerate(
            [(into, hidden, 1), (hidden, hidden, 3), (hidden, hidden, 3), (hidden, out, 1)]
        ):
            weight(f"{name}.conv_{k}", b, a, side, side)
            weight(f"{name}.bn_{k}.scale", a, 2 * z, bias=False)
            weight(f"{name}.bn_{k}.offset", a, 2 * z, bias=False)
            statistics(f"{name}.bn_{k}", a)
    r.put("generator.bn.weight", width, scale=0.1, offset=0.3)
    r.put("generator.bn.bias", width, scale=0.2)
    statistics("generator.bn", width)
    weight("generator.conv_to_rgb", width, width, 3, 3)
    return r.tensors


D_BLOCKS = {
    16: [(3, 8, True), (8, 8, True), (8, 16, False)],
    32: [(3, 8, True), (8, 8, True), (8, 16, False), (16, 16, False)],
}  # side of the pictures to in, out, halved


def plain_d(size=16, wide=True):
    r = Random()
    for i, (into, out, down) in enumerate(D_BLOCKS[size]):
        hidden = out if wide else into
        r.weight(f"blocks.{i}.0.conv1", hidden, into, 3, 3)
        r.weight(f"blocks.{i}.0.conv2", out, hidden, 3, 3)
        if down or into != out:
            r.weight(f"blocks.{i}.0.conv_sc", out, into, 1, 1)
    r.attention("blocks.1.1", 8)
    r.weight("linear", 1, 16)
    r.weight("embed", CLASSES, 16, bias=False)
    return r.tensors


def deep_d():
    """Two stages of two blocks, for 16x16."""
    r = Random()
    r.weight("input_conv", 8, 3, 3, 3)
    for i, (into, out) in enumerate([(8, 16), (16, 16)]):
        for j in range(2):
            name, a, hidden = f"blocks.{i}.{j}", (into if j == 0 else out), out // 4
            shapes = [(hidden, a, 1), (hidden, hidden, 3), (hidden, hidden, 3), (out, hidden, 1)]
            for k, (o, n, side) in enumerate(shapes):
                r.weight(f"{name}.conv{k + 1}", o, n, side, side)
            if a != out:
                r.weight(f"{name}.conv_sc", out - a, a, 1, 1)
    r.attention("blocks.0.2", 16)
    r.weight("linear", 1, 16)
    r.weight("embed", CLASSES, 16, bias=False)
    return r.tensors


# The same arithmetic in NumPy, double precision, from the papers and the two codes, one operation after another


class Numbers:
    def __init__(self, tensors, bn_eps=1e-5, sn_eps=1e-6, spelling="stored", gain="multiply"):
        self.t = {k: v.double().numpy() for k, v in tensors.items()}
        self.bn_eps, self.sn_eps, self.spelling, self.mode = bn_eps, sn_eps, spelling, gain

    def weight(self, name):
        if f"{name}.weight_orig" in self.t:
            w = self.t[f"{name}.weight_orig"]
            sigma = np.einsum("i,ij,j->", self.t[f"{name}.weight_u"], w.reshape(len(w), -1), self.t[f"{name}.weight_v"])
            return w / sigma
        w = self.t[f"{name}.weight"]
        if f"{name}.u0" not in self.t:
            return w
        matrix, u = w.reshape(len(w), -1), self.t[f"{name}.u0"][0]
        v = matrix.T @ u
        v = v / max(np.sqrt((v**2).sum()), self.sn_eps)
        u = matrix @ v
        u = u / max(np.sqrt((u**2).sum()), self.sn_eps)
        return w / (u @ matrix @ v)

    def dense(self, name, x):
        y = np.einsum("ni,oi->no", x, self.weight(name))
        return y + self.t[f"{name}.bias"] if f"{name}.bias" in self.t else y

    def conv(self, name, x):
        w = self.weight(name)
        n, c, height, width = x.shape
        pad = w.shape[2] // 2
        x = np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
        y = np.zeros([n, len(w), height, width])
        for i in range(w.shape[2]):
            for j in range(w.shape[3]):
                y += np.einsum("nchw,oc->nohw", x[:, :, i : i + height, j : j + width], w[:, :, i, j])
        return y + self.t[f"{name}.bias"][:, None, None] if f"{name}.bias" in self.t else y

    def normal(self, name, x, gain, bias, eps):
        """(x - mean) / deviation, then gain and bias, which are (N or 1, C)."""
        mean, var = (self.t[f"{name}.{key}"] for key in biggan.STATISTICS[self.spelling])
        if self.spelling == "mybn":
            count = self.t[f"{name}.bn.accumulation_counter"]
            mean, var = mean / count, var / count
        x = (x - mean[:, None, None]) / np.sqrt(var + eps)[:, None, None]
        gain, bias = gain[:, :, None, None], bias[:, :, None, None]
        return x * gain + bias if self.mode == "multiply" else x + gain + bias

    def conditional(self, name, x, y, shared=True):
        gain, bias = (
            self.dense(f"{name}.{part}", y) if shared else y @ self.t[f"{name}.{part}.weight"]
            for part in ("gain", "bias")
        )
        return self.normal(name, x, 1 + gain, bias, self.bn_eps)

    def attention(self, name, x, prefix="", o="o"):
        n, c, height, width = x.shape
        theta, phi, g = (self.conv(f"{name}.{prefix}{part}", x) for part in ("theta", "phi", "g"))
        phi, g = (a.reshape(n, -1, height // 2, 2, width // 2, 2).max(axis=(3, 5)) for a in (phi, g))
        theta, phi, g = (a.reshape(n, a.shape[1], -1) for a in (theta, phi, g))
        logits = np.einsum("ncq,nck->nqk", theta, phi)
        weights = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
        found = np.einsum("nqk,nck->ncq", weights, g).reshape(n, -1, height, width)
        return x + self.t[f"{name}.gamma"] * self.conv(f"{name}.{prefix}{o}", found)

    def output(self, x):
        gain, bias = (self.t[f"output_layer.0.{part}"][None] for part in ("gain", "bias"))
        # Official code leaves this layer's eps alone, whatever BN_eps is.
        return np.tanh(self.conv("output_layer.2", relu(self.normal("output_layer.0", x, gain, bias, 1e-5))))


def relu(x):
    return np.maximum(x, 0)


def doubled(x):
    return np.repeat(np.repeat(x, 2, axis=2), 2, axis=3)


def halved(x):
    return x.reshape(*x.shape[:2], x.shape[2] // 2, 2, x.shape[3] // 2, 2).mean(axis=(3, 5))


def plain_pictures(net, z, c, hier=True, shared=True):
    y = c @ net.t["shared.weight"] if shared else c
    chunks = np.split(z, 3, axis=1) if hier else [z]
    x = net.dense("linear", chunks[0]).reshape(len(z), CHANNELS[0], 4, 4)
    for i in range(2):
        name = f"blocks.{i}.0"
        condition = np.concatenate([y, chunks[i + 1]], axis=1) if hier else y
        h = net.conv(f"{name}.conv1", doubled(relu(net.conditional(f"{name}.bn1", x, condition, shared))))
        h = net.conv(f"{name}.conv2", relu(net.conditional(f"{name}.bn2", h, condition, shared)))
        x = h + net.conv(f"{name}.conv_sc", doubled(x))
        x = net.attention(f"blocks.{i}.1", x) if i == 0 else x
    return net.output(x)


def deep_pictures(net, z, c):
    y = np.concatenate([c @ net.t["shared.weight"], z], axis=1)
    x = net.dense("linear", y).reshape(len(z), DEEP[0], 4, 4)
    for i in range(4):
        name = f"blocks.{i}.0"
        h = net.conv(f"{name}.conv1", relu(net.conditional(f"{name}.bn1", x, y)))
        h = relu(net.conditional(f"{name}.bn2", h, y))
        x = x[:, : DEEP[i + 1]]
        if i % 2:
            h, x = doubled(h), doubled(x)
        h = net.conv(f"{name}.conv2", h)
        h = net.conv(f"{name}.conv3", relu(net.conditional(f"{name}.bn3", h, y)))
        x = net.conv(f"{name}.conv4", relu(net.conditional(f"{name}.bn4", h, y))) + x
        x = net.attention(f"blocks.{i}.1", x) if i == 1 else x
    return net.output(x)


def hugging_face_pictures(net, z, c, row):
    """``row`` gives the statistics (channels,) of a table of them (n_stats, channels)."""

    def normal(name, x, gain, bias):
        mean, var = (row(net.t[f"{name}.running_{part}s"])[:, None, None] for part in ("mean", "var"))
        return (x - mean) / np.sqrt(var + CONFIG["eps"]) * gain[:, :, None, None] + bias[:, :, None, None]

    def conditional(name, x):
        return normal(name, x, 1 + net.dense(f"{name}.scale", y), net.dense(f"{name}.offset", y))

    width, at = CONFIG["channel_width"], CONFIG["attention_layer_position"]
    y = np.concatenate([z, np.einsum("zk,nk->nz", net.t["embeddings.weight"], c)], axis=1)
    x = net.dense("generator.gen_z", y).reshape(len(z), 4, 4, 16 * width).transpose(0, 3, 1, 2)
    for i, (up, _, out) in enumerate(CONFIG["layers"]):
        if i == at:
            x = net.attention(f"generator.layers.{i}", x, prefix="snconv1x1_", o="o_conv")
        name = f"generator.layers.{i + (i >= at)}"
        h = net.conv(f"{name}.conv_0", relu(conditional(f"{name}.bn_0", x)))
        h = relu(conditional(f"{name}.bn_1", h))
        x = x[:, : width * out]
        if up:
            h, x = doubled(h), doubled(x)
        h = net.conv(f"{name}.conv_1", h)
        h = net.conv(f"{name}.conv_2", relu(conditional(f"{name}.bn_2", h)))
        x = net.conv(f"{name}.conv_3", relu(conditional(f"{name}.bn_3", h))) + x
    gain, bias = net.t["generator.bn.weight"][None], net.t["generator.bn.bias"][None]
    return np.tanh(net.conv("generator.conv_to_rgb", relu(normal("generator.bn", x, gain, bias)))[:, :3])


def plain_logits(net, img, c):
    x = img
    for i, (into, out, down) in enumerate(D_BLOCKS[img.shape[2]]):
        h = net.conv(f"blocks.{i}.0.conv1", relu(x) if i else x)
        h = net.conv(f"blocks.{i}.0.conv2", relu(h))
        x = net.conv(f"blocks.{i}.0.conv_sc", x) if down or into != out else x
        h, x = (halved(h), halved(x)) if down else (h, x)
        x = net.attention(f"blocks.{i}.1", h + x) if i == 1 else h + x
    return projected(net, x, c)


def deep_logits(net, img, c):
    x = net.conv("input_conv", img)
    for i in range(2):
        for j in range(2):
            name = f"blocks.{i}.{j}"
            h = relu(net.conv(f"{name}.conv1", relu(x)))
            h = relu(net.conv(f"{name}.conv3", relu(net.conv(f"{name}.conv2", h))))
            if j == 0:
                h, x = halved(h), halved(x)
            if f"{name}.conv_sc.weight" in net.t:
                x = np.concatenate([x, net.conv(f"{name}.conv_sc", x)], axis=1)
            x = net.conv(f"{name}.conv4", h) + x
        x = net.attention("blocks.0.2", x) if i == 0 else x
    return projected(net, x, c)


def projected(net, x, c):
    features = relu(x).sum(axis=(2, 3))
    return net.dense("linear", features) + (c @ net.weight("embed") * features).sum(axis=1, keepdims=True)


def inputs(z_dim, c_dim=CLASSES, n=2):
    """Latents, and one class that is certain and one that is not."""
    random = np.random.RandomState(5)
    c = np.zeros([n, c_dim])
    c[0, 1], c[1, 0], c[1, 2] = 1, 0.25, 0.75
    return random.randn(n, z_dim), c


def computed(net, *arrays):
    return net(*(torch.from_numpy(a).to(torch.float32) for a in arrays)).numpy()


def check(name, got, expected):
    """Equal to 1e-5 of the scale, where the numbers are neither all the same nor saturated."""
    assert expected.std() > 0.05 * np.abs(expected).max() and (np.abs(expected) < 0.999).mean() > 0.5
    assert_close(name, got, expected, 1e-5)


@pytest.mark.parametrize(
    "hier, shared, normalised",
    [(True, True, True), (False, True, True), (False, False, True), (True, True, False), (False, False, False)],
)
def test_biggan_computes_the_arithmetic_of_the_paper(hier, shared, normalised):
    tensors = plain(hier, shared, normalised)
    if not normalised:
        for name in tensors:
            tensors[name] = tensors[name] * 0.2 if tensors[name].ndim > 1 else tensors[name]
    net = generator(tensors)
    assert (net.z_dim, net.c_dim, net.img_resolution, net.img_channels) == (12 if hier else 4, CLASSES, 16, 3)
    z, c = inputs(net.z_dim)
    check("pictures", computed(net, z, c), plain_pictures(Numbers(tensors), z, c, hier, shared))


@pytest.mark.parametrize("make, pictures", [(plain, plain_pictures), (deep, deep_pictures)])
@pytest.mark.parametrize("spelling, gain", [("mybn", "add"), ("cross_replica", "add"), ("cross_replica", "multiply")])
def test_statistics_in_every_spelling(make, pictures, spelling, gain):
    tensors = make(spelling=spelling)
    net = generator(tensors, cross_replica_gain=gain)
    mode = gain if spelling == "cross_replica" else "multiply"
    z, c = inputs(net.z_dim)
    check("pictures", computed(net, z, c), pictures(Numbers(tensors, spelling=spelling, gain=mode), z, c))
    assert ("added" in net.assumed) == (mode == "add")


def test_biggan_deep_computes_the_arithmetic_of_the_paper():
    net = generator({"epoch": 3, "G": deep(), "G_ema": deep()})
    z, c = inputs(3)
    check("pictures", computed(net, z, c), deep_pictures(Numbers(deep()), z, c))


def test_eps_are_those_that_were_asked_for_or_belong_to_converted_weights():
    z, c = inputs(12)
    usual = plain_pictures(Numbers(plain()), z, c)
    expected = plain_pictures(Numbers(plain(), bn_eps=0.3), z, c)
    assert_close("asked for", computed(generator(plain(), bn_eps=0.3), z, c), expected, 1e-5)
    assert np.abs(expected - usual).max() > 0.01

    tensors = plain(sv=False)
    tensors["blocks.1.0.bn2.stored_var"] *= 1e-3  # so small that 1e-4 and 1e-5 are not the same
    tensors["output_layer.0.stored_var"] *= 1e3
    expected = plain_pictures(Numbers(tensors, bn_eps=1e-4), z, c)
    assert_close("converted", computed(generator(tensors), z, c), expected, 1e-5)
    assert np.abs(expected - plain_pictures(Numbers(tensors), z, c)).max() > 1e-3

    tensors = plain()
    tensors["output_layer.2.weight"] *= 1e-3
    expected = plain_pictures(Numbers(tensors, sn_eps=0.01), z, c)
    assert_close("sn_eps", computed(generator(tensors, sn_eps=0.01), z, c), expected, 1e-5)
    assert np.abs(expected - usual).max() > 0.01


@pytest.mark.parametrize("truncation", [1.0, 0.4, 0.33])
def test_a_folder_computes_the_arithmetic_of_its_code(truncation):
    tensors = hugging_face()
    net = folder(json.loads(json.dumps(CONFIG)), tensors)
    net.truncation = truncation
    rows = {
        1.0: lambda t: t[10],
        0.4: lambda t: t[4],
        0.33: lambda t: 0.3 * t[3] + 0.7 * t[4],
    }  # the nearer row counts less
    z, c = inputs(4)
    check("pictures", computed(net, z, c), hugging_face_pictures(Numbers(tensors), z, c, rows[truncation]))


@pytest.mark.parametrize(
    "tensors, logits, size",
    [(plain_d(16), plain_logits, 16), (plain_d(32, wide=False), plain_logits, 32), (deep_d(), deep_logits, 16)],
)
def test_discriminators_compute_the_arithmetic_of_the_paper(tensors, logits, size):
    net = discriminator({"D": tensors})
    assert (net.img_resolution, net.img_channels, net.c_dim) == (size, 3, CLASSES)
    img = np.random.RandomState(2).uniform(-1, 1, [2, 3, size, size])
    _, c = inputs(1)
    assert_close("logits", computed(net, img, c), logits(Numbers(tensors), img, c), 1e-5)


ACTIVATIONS = {
    "leaky_relu": lambda x: np.where(x > 0, x, 0.3 * x),
    "elu": lambda x: np.where(x > 0, x, 0.3 * np.expm1(np.minimum(x, 0))),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0))),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x * torch.special.ndtr(torch.from_numpy(x)).numpy(),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("make, pictures", [(plain, plain_pictures), (deep, deep_pictures)])
def test_other_activations(name, make, pictures, monkeypatch):
    """A state dict does not say its activation; the user can, and a network with another one is off."""
    monkeypatch.setattr("test_biggan.relu", ACTIVATIONS[name])
    net = generator(make(), activation=name, slope=0.3)
    z, c = inputs(net.z_dim)
    expected = pictures(Numbers(make()), z, c)
    check("pictures", computed(net, z, c), expected)
    assert name in net.assumed and np.abs(expected - computed(generator(make()), z, c)).max() > 0.01
    again = type(net)(**json.loads(json.dumps(net.init_kwargs)))
    again.load_state_dict(net.state_dict())
    again.requires_grad_(False)
    check("as its arguments say", computed(again, z, c), expected)


@pytest.mark.parametrize("position", [0, 1, 5, 99, -1])
def test_attention_of_a_folder_where_its_code_puts_it(position, monkeypatch):
    """Before the block of that number; where there is none, there is no attention."""
    config = {**CONFIG, "attention_layer_position": position}
    monkeypatch.setattr("test_biggan.CONFIG", config)
    tensors = hugging_face({**config, "attention_layer_position": position if position >= 0 else 99})
    if position < 0:
        monkeypatch.setattr("test_biggan.CONFIG", {**config, "attention_layer_position": 99})
    z, c = inputs(4)
    net = folder(config, tensors)
    check("pictures", computed(net, z, c), hugging_face_pictures(Numbers(tensors), z, c, lambda t: t[10]))
    again = type(net)(**json.loads(json.dumps(net.init_kwargs)))
    again.load_state_dict(net.state_dict())
    assert ("attention.-1" in net.layer_shapes) == (position == 0) and len(net.attention) == (0 <= position < 5)


@pytest.mark.parametrize("make", [plain, deep, hugging_face])
def test_a_network_is_its_arguments_and_its_tensors(make):
    net = folder(CONFIG, make()) if make is hugging_face else generator(make())
    if make is hugging_face:
        net.truncation = 0.4
    again = type(net)(**json.loads(json.dumps(net.init_kwargs)))
    again.load_state_dict(net.state_dict())
    z, c = (torch.randn(2, net.z_dim), torch.eye(CLASSES)[:2])
    assert torch.equal(again(z, c), net(z, c))
    assert not net.training and not any(p.requires_grad for p in net.parameters())
    assert again.img_resolution == net.img_resolution and not torch.equal(net(z, c), net(z, torch.eye(CLASSES)[2:4]))


def test_discriminators_are_their_arguments_and_their_tensors():
    for tensors in (plain_d(), deep_d()):
        net = discriminator(tensors)
        again = type(net)(**json.loads(json.dumps(net.init_kwargs)))
        again.load_state_dict(net.state_dict())
        img, c = torch.rand(2, 3, net.img_resolution, net.img_resolution), torch.eye(CLASSES)[:2]
        assert torch.equal(again(img, c), net(img, c))


@pytest.mark.parametrize("make", [plain, deep])
def test_layers_have_the_names_and_shapes_that_are_said(make):
    net = generator(make())
    seen = []
    for name in net.layer_shapes:
        hook = net.get_submodule(name).register_forward_hook
        hook(lambda _, __, out, name=name: seen.append((name, tuple(out.shape[1:]))))
    net(torch.randn(1, net.z_dim), torch.eye(CLASSES)[:1])
    assert dict(seen) == dict(net.layer_shapes) and net.dense_layer == "linear" == seen[0][0]
    adapted = adapt(net)
    assert adapted.dense == "linear" and "eps 1e-05" in adapted.info()["assumed"]


def test_gradients_reach_z_and_a_soft_class():
    net = generator(plain())
    z, c = torch.randn(1, 12, requires_grad=True), torch.full([1, CLASSES], 0.2, requires_grad=True)
    net(z, c).sum().backward()
    assert z.grad.abs().min() > 0 and c.grad.abs().min() > 0


def test_what_the_networks_say_to_wrong_inputs():
    net = generator(plain())
    with pytest.raises(ValueError, match=r"z has shape \(1, 3\)"):
        net(torch.randn(1, 3), torch.eye(CLASSES)[:1])
    with pytest.raises(ValueError, match="c has shape"):
        net(torch.randn(1, 12), torch.eye(CLASSES))
    with pytest.raises(ValueError, match="statistics for 1 alone"):
        net.truncation = 0.5
    with pytest.raises(ValueError, match="from 0 to 1"):
        folder(CONFIG, hugging_face()).truncation = 1.5
    with pytest.raises(ValueError, match="img has shape"):
        discriminator(plain_d())(torch.rand(1, 3, 8, 8), torch.eye(CLASSES)[:1])


# What is refused


def test_other_files_are_not_taken_for_these():
    for contents in (
        {"a": torch.ones(3)},
        {"weight": torch.ones(2, 2, 4, 4)},
        {"state": {"linear.weight": torch.ones(2, 2)}},
    ):
        root, _ = records(contents)
        assert biggan.find_generator(root) is None and biggan.find_discriminator(root) is None
    assert biggan.find_generator([1, 2]) is None
    assert biggan.find_discriminator(records(plain())[0]) is None
    place, _ = biggan.find_generator(records({"G": plain(), "nets": {"G_ema": plain()}})[0])
    assert place == "nets.G_ema"


def without(*names):
    return lambda t: [t.pop(name) for name in names]


def shaped(name, *shape):
    return lambda t: t.update({name: torch.ones(shape)})


@pytest.mark.parametrize(
    "make, change, reason",
    [
        (plain, without("blocks.0.0.bn1.gain.weight"), "bn1.gain.weight: it is missing"),
        (plain, without("blocks.1.0.conv2.bias"), r"blocks.1.0.conv2.bias: it is missing; expected \(4,\)"),
        (plain, without("blocks.1.0.conv2.u0"), "conv2.u0: it is missing"),
        (plain, without("blocks.1.0.conv_sc.weight"), "conv_sc.weight: it is missing"),
        (plain, without("output_layer.0.stored_mean"), "expected batch normalisation with stored statistics"),
        (plain, shaped("shared.weight", 5, 9), "it reads 10 numbers; expected the 9 of the embedding"),
        (plain, shaped("blocks.0.0.conv1.weight", 8, 16, 3), "expected 4 dimensions"),
        (plain, shaped("blocks.0.0.conv1.weight", 0, 16, 3, 3), "expected 4 dimensions of 1 to"),
        (plain, shaped("blocks.1.0.conv1.weight", 4, 9, 3, 3), r"of shape \(4, 9, 3, 3\); expected \(4, 8, 3, 3\)"),
        (plain, shaped("linear.weight", 250, 4), "expected a square map of 16 channels"),
        (plain, shaped("output_layer.2.weight", 9, 4, 3, 3), "9 channels and 16 pixels"),
        (plain, shaped("blocks.1.1.gamma"), "attention of 4 channels; it needs at least 8"),
        (plain, shaped("blocks.0.0.conv9.weight", 2), "conv9.weight: it belongs to no part"),
        (plain, lambda t: t.update({"linear.bias": torch.ones(256, dtype=torch.int64)}), "expected floating-point"),
        (plain, lambda t: t["linear.weight"].zero_(), "linear.weight: it gives numbers that are not finite"),
        (deep, without("shared.weight"), "shared.weight: it is missing"),
        (deep, shaped("shared.weight", 5, 9), "no more than the 9 numbers of the class"),
        (deep, shaped("blocks.3.0.conv4.weight", 16, 2, 1, 1), "cannot add any"),
        (deep, lambda t: [t.pop(n) for n in list(t) if n.startswith("blocks.3.")], "it has 3 blocks"),
        (hugging_face, lambda t: None, "give the folder"),
    ],
)
def test_broken_generators_are_refused(make, change, reason):
    tensors = make()
    change(tensors)
    with pytest.raises(NetworkFileError, match=reason):
        generator(tensors)


@pytest.mark.parametrize(
    "make, change, reason",
    [
        (plain_d, without("linear.bias"), "linear.bias: it is missing"),
        (plain_d, shaped("linear.weight", 2, 16), r"expected \(1, 16\)"),
        (plain_d, shaped("blocks.2.0.conv2.weight", 7, 16, 3, 3), "expected"),
        (deep_d, without("blocks.1.1.conv4.weight"), "conv4.weight: it is missing"),
        (deep_d, shaped("blocks.1.0.conv4.weight", 4, 4, 1, 1), "its shapes describe no network"),
        (deep_d, shaped("input_conv.weight", 8, 30, 3, 3), "30 channels"),
    ],
)
def test_broken_discriminators_are_refused(make, change, reason):
    tensors = make()
    change(tensors)
    with pytest.raises(NetworkFileError, match=reason):
        discriminator(tensors)


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"layers": [[True, 16, 8]]}, "config.json: layers: it is a list; expected a list of blocks"),
        ({"layers": [[True, 16, 4], [True, 4, 1]]}, "kept or halved"),
        ({"layers": None}, "layers: it is None"),
        ({"layers": [[False, 16, 16]] * 1000}, "expected a list of blocks"),
        ({"z_dim": 10**12}, "z_dim: it is 1000000000000; expected an integer"),
        ({"z_dim": 7}, r"expected \(7, 5\)"),
        ({"n_stats": 1}, "n_stats: it is 1"),
        ({"n_stats": 10**9}, "n_stats"),
        ({"n_stats": 51}, r"expected \(51, "),
        ({"eps": "small"}, "eps: it is 'small'"),
        ({"channel_width": True}, "channel_width: it is True"),
        ({"attention_layer_position": "2"}, "attention_layer_position: it is '2'"),
        ({"attention_layer_position": 3}, "it is missing"),
        ({"num_classes": 6}, r"expected \(4, 6\)"),
    ],
)
def test_broken_folders_are_refused(change, reason):
    with pytest.raises(NetworkFileError, match=reason):
        folder({**CONFIG, **change}, hugging_face())


def test_a_folder_lacking_tensors_or_having_others_is_refused():
    tensors = hugging_face()
    del tensors["generator.layers.4.bn_1.scale.weight_u"]
    with pytest.raises(NetworkFileError, match="scale.weight_u: it is missing"):
        folder(CONFIG, tensors)
    with pytest.raises(NetworkFileError, match="belongs to no part"):
        folder(CONFIG, {**hugging_face(), "generator.extra": torch.ones(2)})
    assert biggan.is_config(CONFIG) and not biggan.is_config({"z_dim": 3}) and not biggan.is_config([])


def test_tensors_that_share_a_storage_cannot_multiply_it():
    root, _ = records(plain())
    with pytest.raises(NetworkFileError, match="blocks.0.0.conv1.weight: .* too many share one storage"):
        biggan.build(*biggan.find_generator(root), "g.pth", Budget("g.pth", 8000), DEFAULTS)


def test_a_truncated_file_is_refused():
    buffer = io.BytesIO()
    torch.save(plain(), buffer)
    with pytest.raises(NetworkFileError, match="is the file complete"):
        read_records(memoryview(buffer.getvalue()[:-500]), "g.pth")


# The configuration beside the weights


def settings(**changes):
    """What reading a state_dict.pth gives, once the container knows this module's names."""
    import zipfile

    buffer = io.BytesIO()
    activation = torch.nn.ReLU(inplace=True)
    config = {
        "G_ch": 96,
        "BN_eps": 1e-4,
        "SN_eps": 1e-6,
        "G_activation": activation,
        "D_activation": activation,
        **changes,
    }
    torch.save({"itr": 3, "best_IS": 1.5, "config": config}, buffer)
    with zipfile.ZipFile(buffer) as z:
        data = z.read(next(name for name in z.namelist() if name.endswith("data.pkl")))
    return Machine(memoryview(data), "state_dict.pth", {**GLOBALS, **biggan.GLOBALS}).load()[0]


def test_the_configuration_says_what_the_weights_do_not():
    assert biggan.assumed_of_config(settings()) == {"bn_eps": 1e-4, "sn_eps": 1e-6, "activation": "relu"}
    leaky = biggan.assumed_of_config(
        settings(G_activation=torch.nn.LeakyReLU(0.1), D_activation=torch.nn.LeakyReLU(0.1))
    )
    assert leaky == {"bn_eps": 1e-4, "sn_eps": 1e-6, "activation": "leaky_relu", "slope": 0.1}
    with pytest.raises(NetworkFileError, match="config.D_activation: it is relu, and that of the generator leaky_relu"):
        biggan.assumed_of_config(settings(G_activation=torch.nn.LeakyReLU(0.1)))
    with pytest.raises(NetworkFileError, match="Softplus"):
        settings(G_activation=torch.nn.Softplus())
    assert biggan.assumed_of_config({"config": {"a": 1}}) is None and biggan.assumed_of_config([]) is None
    with pytest.raises(NetworkFileError, match="config.BN_eps: it is 'x'; expected a number"):
        biggan.assumed_of_config(settings(BN_eps="x"))
    with pytest.raises(
        NetworkFileError, match="config.G_activation: it is 'swish'; expected a module of one of relu, leaky_relu"
    ):
        biggan.assumed_of_config(settings(G_activation="swish"))
    for name in ("bn_eps", "sn_eps"):
        accepts = biggan.ASSUMED[name][1][1]
        assert (
            accepts(None) and accepts(1e-3) and not accepts("1e-3") and not accepts(-1.0) and not accepts(float("nan"))
        )


def test_an_activation_with_hooks_is_refused():
    activation = torch.nn.ReLU()
    activation._forward_hooks[0] = "code"
    with pytest.raises(NetworkFileError, match="hooks are code"):
        settings(G_activation=activation)


# The public implementations, where a checkout of them is given


@pytest.fixture
def brock(monkeypatch):
    """BigGAN.py and BigGANdeep.py of BigGAN-PyTorch."""
    if not os.environ.get("BIGGAN_REPO"):
        pytest.skip("set BIGGAN_REPO to a checkout of ajbrock/BigGAN-PyTorch to compare with it")
    torch.manual_seed(0)
    monkeypatch.syspath_prepend(os.environ["BIGGAN_REPO"])
    before = set(sys.modules)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield {deep: importlib.import_module("BigGANdeep" if deep else "BigGAN") for deep in (False, True)}
    for name in set(sys.modules) - before:
        if os.environ["BIGGAN_REPO"] in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def shaken(net):
    """Random statistics, and no parameter or singular vector at its initial value."""
    for name, value in net.state_dict().items():
        noise = torch.randn(value.shape)
        if "mean" in name or name.endswith("bias"):
            value.copy_(0.3 * noise)
        elif "var" in name:
            value.copy_(noise.abs() + 0.2)
        elif name.endswith(("gamma", "gain")):
            value.copy_(1 + 0.3 * noise)
        elif value.is_floating_point() and not name.endswith("counter"):
            value.add_(0.1 * noise)
    for name, value in net.state_dict().items():
        if name.endswith("u0"):
            value.copy_(near_singular(net.state_dict()[name.replace("u0", "weight")], torch.randn(value.shape[1])))
    return net.eval().requires_grad_(False)


def soft_or_hard(net, c):
    """The class as that code takes it: embedded, or its number."""
    return net.shared.weight[c] if hasattr(net.shared, "weight") else c


@pytest.mark.parametrize(
    "deep, settings",
    [
        (False, dict(resolution=32, G_ch=4, dim_z=16, hier=True, shared_dim=6, G_attn="16")),
        (False, dict(resolution=32, G_ch=4, dim_z=16, hier=False, G_shared=False, G_attn="0")),
        (False, dict(resolution=64, G_ch=2, dim_z=21, hier=True, shared_dim=6, G_attn="16_32", BN_eps=1e-3)),
        (
            False,
            dict(resolution=64, G_ch=2, dim_z=20, hier=False, G_attn="16", mybn=True, G_param="none", G_init="N02"),
        ),
        (
            False,
            dict(
                resolution=64, G_ch=2, dim_z=20, hier=True, G_attn="16", num_G_SVs=2, num_G_SV_itrs=3, norm_style="in"
            ),
        ),
        (False, dict(resolution=128, G_ch=4, dim_z=120, hier=True, shared_dim=128, G_attn="64")),
        (False, dict(resolution=32, G_ch=4, dim_z=16, hier=True, G_attn="16", cross_replica=True)),
        (True, dict(resolution=32, G_ch=4, G_depth=1, dim_z=8, hier=True, shared_dim=6, G_attn="16")),
        (True, dict(resolution=32, G_ch=4, G_depth=3, dim_z=8, hier=True, shared_dim=6, G_attn="8")),
        (True, dict(resolution=64, G_ch=4, G_depth=2, dim_z=8, hier=True, G_attn="16_32", BN_eps=1e-3)),
        (True, dict(resolution=128, G_ch=4, G_depth=2, dim_z=8, hier=True, shared_dim=6, G_attn="64", mybn=True)),
    ],
)
def test_generators_of_biggan_pytorch_compute_the_same_here(brock, deep, settings):
    theirs = shaken(brock[deep].Generator(n_classes=CLASSES, no_optim=True, SN_eps=1e-6, **settings))
    ours = generator(theirs.state_dict(), bn_eps=settings.get("BN_eps", 1e-5))
    assert (ours.z_dim, ours.c_dim, ours.img_resolution) == (theirs.dim_z, CLASSES, settings["resolution"])
    z, c = torch.randn(2, theirs.dim_z), torch.tensor([3, 1])
    expected = theirs(z, soft_or_hard(theirs, c)).numpy()
    assert expected.std() > 0.05
    assert_close("pictures", ours(z, torch.eye(CLASSES)[c]).numpy(), expected, 1e-5)


def test_standing_statistics_are_divided_by_their_count(brock):
    theirs = brock[False].Generator(
        resolution=32,
        G_ch=4,
        dim_z=16,
        hier=True,
        G_attn="16",
        mybn=True,
        n_classes=CLASSES,
        no_optim=True,
        SN_eps=1e-6,
    )
    shaken(theirs)
    for module in theirs.modules():
        if hasattr(module, "accumulate_standing"):
            module.reset_stats()
            module.accumulate_standing = True
    theirs.train()
    for _ in range(4):
        theirs(torch.randn(8, 16), theirs.shared.weight[torch.randint(CLASSES, [8])])
    theirs.eval()
    z, c = torch.randn(2, theirs.dim_z), torch.tensor([3, 1])
    expected = theirs(z, theirs.shared.weight[c]).numpy()
    ours = generator({f"module.{k}": v for k, v in theirs.state_dict().items()})
    assert_close("pictures", ours(z, torch.eye(CLASSES)[c]).numpy(), expected, 1e-5)


@pytest.mark.parametrize(
    "deep, settings",
    [
        (False, dict(resolution=32, D_ch=4, D_attn="16")),
        (False, dict(resolution=64, D_ch=4, D_attn="16", D_wide=False)),
        (False, dict(resolution=64, D_ch=4, D_attn="0")),
        (False, dict(resolution=128, D_ch=4, D_attn="32_8")),
        (True, dict(resolution=32, D_ch=4, D_attn="16", D_depth=1)),
        (True, dict(resolution=64, D_ch=4, D_attn="8", D_depth=2)),
        (True, dict(resolution=128, D_ch=4, D_attn="32", D_depth=2)),
    ],
)
def test_discriminators_of_biggan_pytorch_compute_the_same_here(brock, deep, settings):
    theirs = shaken(brock[deep].Discriminator(n_classes=CLASSES, SN_eps=1e-6, **settings))
    ours = discriminator(theirs.state_dict())
    assert ours.img_resolution == settings["resolution"]
    img, c = torch.rand(3, 3, *[settings["resolution"]] * 2) * 2 - 1, torch.tensor([3, 1, 0])
    assert_close("logits", ours(img, torch.eye(CLASSES)[c]).numpy(), theirs(img, c).numpy(), 1e-5)


@pytest.mark.parametrize("attention", [0, 16])
def test_networks_trained_here_open_in_biggan_pytorch(brock, attention):
    """The trained tensors, in their files' layout: every name fits, and pictures and logits are the same."""
    from stylegan_invert.training.architectures.biggan_options import BigGANOptions
    from stylegan_invert.training.gan import build

    options = BigGANOptions.for_resolution(
        32, ch=2, z_dim=16, shared_dim=6, c_dim=CLASSES, attention=attention, D_attention=attention
    )
    G, D = build(options)
    for network in (G, D):
        for p in network.parameters():
            p.data += 0.1 * torch.randn_like(p)
        for buffer in (value for name, value in network.named_buffers() if name.endswith("var")):
            buffer.copy_(torch.rand_like(buffer) + 0.2)
    same = dict(resolution=32, n_classes=CLASSES, SN_eps=1e-6)
    settings = dict(G_ch=2, dim_z=16, hier=True, shared_dim=6, G_attn=str(attention), no_optim=True)
    theirs = brock[False].Generator(**same, **settings)
    theirs.load_state_dict(biggan.state_dict(G))
    their_D = brock[False].Discriminator(**same, D_ch=2, D_attn=str(attention))
    their_D.load_state_dict(biggan.state_dict(D))
    z, c = torch.randn(3, 16), torch.tensor([3, 1, 0])
    with torch.no_grad():
        expected = theirs.eval()(z, theirs.shared(c))
        assert_close("pictures", finished(G)(z, torch.eye(CLASSES)[c]).numpy(), expected.numpy(), 1e-5)
        logits = their_D.eval()(expected, c)
        assert_close("logits", finished(D)(expected, torch.eye(CLASSES)[c]).numpy(), logits.numpy(), 1e-5)
    assert expected.std() > 0.05 and (len(G.attention), len(D.attention)) == ((1, 4) if attention else (0, 0))


@pytest.fixture
def pretrained_biggan(monkeypatch):
    """model.py and config.py of pytorch-pretrained-BigGAN, without its downloads."""
    repo = os.environ.get("HF_BIGGAN_REPO")
    if not repo:
        pytest.skip("set HF_BIGGAN_REPO to a checkout of huggingface/pytorch-pretrained-BigGAN to compare with it")
    package = types.ModuleType("hf_biggan")
    package.__path__ = [str(Path(repo) / "pytorch_pretrained_biggan")]
    downloads = types.ModuleType("hf_biggan.file_utils")
    downloads.cached_path = None
    monkeypatch.setitem(sys.modules, "hf_biggan", package)
    monkeypatch.setitem(sys.modules, "hf_biggan.file_utils", downloads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield importlib.import_module("hf_biggan.model"), importlib.import_module("hf_biggan.config")
    for name in ("hf_biggan.model", "hf_biggan.config"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("truncation", [1.0, 0.4, 0.43, 0.58])
@pytest.mark.parametrize("which", ["tiny", "of 128"])
def test_pretrained_biggan_computes_the_same_here(pretrained_biggan, which, truncation):
    model, config = pretrained_biggan
    changes = CONFIG if which == "tiny" else {"z_dim": 8, "channel_width": 4, "num_classes": CLASSES}
    config = config.BigGANConfig.from_dict({**changes, "n_stats": 51})
    theirs = model.BigGAN(config)
    theirs.load_state_dict(hugging_face({**config.to_dict(), **changes, "n_stats": 51}))
    theirs.eval().requires_grad_(False)
    ours = folder(json.loads(config.to_json_string()), theirs.state_dict())
    assert isinstance(ours, BigGANDeep) and ours.img_resolution == config.output_dim and not ours.assumed
    ours.truncation = truncation
    z, c = (torch.from_numpy(a).to(torch.float32) for a in inputs(config.z_dim))
    expected = theirs(z, c, truncation).numpy()
    assert expected.std() > 0.05
    assert_close("pictures", ours(z, c).numpy(), expected, 1e-5)
