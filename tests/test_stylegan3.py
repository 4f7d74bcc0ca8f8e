"""StyleGAN3: equality with a calculation in NumPy, reading and writing, refusals, and NVIDIA's code where it is given."""
# Takes at most 10 CPU seconds.

import collections
import io
import json
import os
import pickle
import subprocess
import sys
import types

import numpy as np
import pytest
import torch

import stylegan_invert as si
from stylegan_invert import NetworkFileError
from stylegan_invert.files.pickled import dump
from stylegan_invert.generator import adapt
from stylegan_invert.network_files.assemble import Budget
from stylegan_invert.network_files.families.stylegan3 import build
from stylegan_invert.network_files.machine.containers import read_records
from stylegan_invert.network_files.machine.persistence import module_call
from stylegan_invert.networks.stylegan3 import Generator, lowpass_filter

from support import assert_close, load_npz

R = {"conv_kernel": 1, "use_radial_filters": True}
TINY = dict(
    z_dim=6, c_dim=0, w_dim=5, img_resolution=32, img_channels=3, channel_base=64, channel_max=7, num_layers=4, margin_size=3
)  # fmt: skip
CONFIGS = {
    "t": TINY,
    "r": {**TINY, **R},
    "conditional": {**TINY, "c_dim": 3, "mapping_kwargs": {"num_layers": 3, "lr_multiplier": 0.1}, "output_scale": 1},
    "clamped": {
        **TINY,
        **R,
        "img_resolution": 16,
        "conv_clamp": 0.8,
        "num_critical": 1,
        "lrelu_upsampling": 4,
        "filter_size": 4,
    },
    "plain": {**TINY, "img_resolution": 24, "lrelu_upsampling": 1, "first_cutoff": 1.5, "first_stopband": 3.5},
}


def make(name):
    """A generator whose every number counts."""
    random = torch.Generator().manual_seed(len(name))
    G = Generator(**CONFIGS[name]).eval().requires_grad_(False)
    for key, t in G.state_dict().items():
        value = torch.randn(t.shape, generator=random)
        if key.endswith("magnitude_ema"):
            t.copy_(0.5 + value.square())
        elif key.endswith("bias"):
            t.add_(0.3 * value)
        elif key.endswith(("affine.weight", "phases", "freqs", "w_avg")) or "fc" in key:
            t.copy_(value / 0.1 if "fc" in key else value)
        elif key.endswith("weight"):
            t.copy_(2 * value)
    G.synthesis.input.freqs.mul_(G.synthesis.input.bandwidth / 2)
    return G


def inputs(G, n=2):
    random = torch.Generator().manual_seed(7)
    c = torch.eye(max(G.c_dim, 1))[torch.arange(n) % max(G.c_dim, 1)][:, : G.c_dim]
    return torch.randn([n, G.z_dim], generator=random), c


# ----------------------------------------------------------------------------------------- the same in NumPy, in float64


def kaiser(taps, width, nyquist):
    a = 2.285 * (taps - 1) * np.pi * width / nyquist + 7.95
    beta = 0.1102 * (a - 8.7) if a > 50 else 0.5842 * (a - 21) ** 0.4 + 0.07886 * (a - 21) if a > 21 else 0
    x = np.linspace(-1, 1, taps)
    return np.i0(beta * np.sqrt(1 - x**2)) / np.i0(beta)


def designed(taps, cutoff, width, rate, radial):
    """A filter from the integrals that define it: the response of a pass band that is a square, or a disc."""
    t = (np.arange(taps) - (taps - 1) / 2) / rate
    window = kaiser(taps, width, rate / 2)
    if not radial:
        f = np.array([2 * cutoff if x == 0 else np.sin(2 * np.pi * cutoff * x) / (np.pi * x) for x in t]) * window
        return f / f.sum()
    tau = (np.arange(2000) + 0.5) * np.pi / 2000
    r = np.sqrt(t[:, None] ** 2 + t**2)
    j1 = np.cos(tau - (2 * np.pi * cutoff * r)[..., None] * np.sin(tau)).mean(axis=-1)  # Bessel's integral
    f = j1 / r * window[:, None] * window
    return f / f.sum()


def geometry(k):
    """Cutoff, half width of the transition, sampling rate, size and channels of every layer."""
    n, critical, res = k.get("num_layers", 14), k.get("num_critical", 2), k["img_resolution"]
    first_c, first_t = k.get("first_cutoff", 2), k.get("first_stopband", 2**2.1)
    rows = []
    for i in range(n + 1):
        e = min(i / (n - critical), 1)
        c = first_c ** (1 - e) * (res / 2) ** e
        t = first_t ** (1 - e) * (res / 2 * 2**0.3) ** e
        rate = 1
        while rate < min(2 * t, res) * (1 - 1e-12):
            rate *= 2
        size = res if i >= n - 1 else rate + 2 * k.get("margin_size", 10)
        channels = k["img_channels"] if i == n else int(np.rint(min(k["channel_base"] / 2 / c, k["channel_max"])))
        rows.append((c, max(t, rate / 2) - c, rate, size, channels))
    return rows


def places(n, step):
    """Where n samples lie, in units of the finest grid, with the middle at zero."""
    return (np.arange(n) + 0.5 - n / 2) * step


def taps_at(f, differences):
    """The tap of a centred filter at each difference of two places, zero outside."""
    index = np.rint(differences + (len(f) - 1) / 2).astype(int)
    assert np.allclose(index, differences + (len(f) - 1) / 2)
    return np.where((index >= 0) & (index < len(f)), f[index.clip(0, len(f) - 1)], 0)


def numpy_layer(s, k, i, rows, x, w):
    """One layer for one picture x (I, H, W) and one w, with the kernel made for it."""
    n = len(rows) - 1
    name, torgb = f"L{i}_{rows[i][3]}_{rows[i][4]}", i == n
    (c0, h0, rate0, size0, _), (c1, h1, rate1, size1, _) = rows[max(i - 1, 0)], rows[i]
    p = {key.split(".", 2)[2]: v for key, v in s.items() if key.startswith(f"synthesis.{name}.")}
    assert x.shape[1:] == (size0, size0)
    style = p["affine.weight"] / np.sqrt(len(w)) @ w + p["affine.bias"]
    if torgb:
        kernel = p["weight"] * style[None, :, None, None] / np.sqrt(p["weight"][0].size)
    else:
        kernel = p["weight"] / np.sqrt((p["weight"] ** 2).mean(axis=(1, 2, 3), keepdims=True))
        kernel = kernel * (style / np.sqrt((style**2).mean()))[None, :, None, None]
        kernel = kernel / np.sqrt((kernel**2).sum(axis=(1, 2, 3), keepdims=True) + 1e-8)
    kernel = kernel / np.sqrt(p["magnitude_ema"])
    q = kernel.shape[2]
    padded = np.pad(x, [(0, 0), (q - 1, q - 1), (q - 1, q - 1)])
    m = size0 + q - 1
    y = sum(
        np.einsum("oi,ihw->ohw", kernel[:, :, a, b], padded[:, a : a + m, b : b + m])
        for a in range(q)
        for b in range(q)
    )
    y = y + p["bias"][:, None, None]
    fine = max(rate0, rate1) * (1 if torgb else k.get("lrelu_upsampling", 2))
    up, down, length = fine // rate0, fine // rate1, k.get("filter_size", 6)
    fu = designed(length * up, c0, 2 * h0, fine, False) if up > 1 and not torgb else np.ones(1)
    radial = k.get("use_radial_filters", False) and i < n - k.get("num_critical", 2)
    fd = designed(length * down, c1, 2 * h1, fine, radial) if down > 1 and not torgb else np.ones(1)
    for key, f in (("up_filter", fu), ("down_filter", fd)):
        assert (key in p) == (len(f) > 1)
        if key in p:
            assert_close(key, p[key], f, 1e-7)
    # Samples stand for the middles of cells, and filters are centred.
    coarse, wanted = places(m, up), places(size1, down)
    reach = (len(fd) - 1) / 2
    between = np.arange(wanted[0] - reach, wanted[-1] + reach + 0.5)
    u = up * taps_at(fu, between[:, None] - coarse)
    y = np.einsum("ah,bw,ohw->oab", u, u, y)
    y = y if torgb else np.where(y > 0, y, 0.2 * y) * np.sqrt(2)
    clamp = k.get("conv_clamp", 256)
    y = y if clamp is None else y.clip(-clamp, clamp)
    if fd.ndim == 1:
        d = taps_at(fd, wanted[:, None] - between)
        return np.einsum("jh,kw,ohw->ojk", d, d, y)
    last = down * (size1 - 1) + 1
    return sum(
        fd[a, b] * y[:, a : a + last : down, b : b + last : down] for a in range(len(fd)) for b in range(len(fd))
    )


def numpy_input(s, rows, w):
    """The Fourier features, place by place."""
    p = {key.split(".", 2)[2]: v for key, v in s.items() if key.startswith("synthesis.input.")}
    band, _, rate, size, channels = rows[0]
    t = p["affine.weight"] / np.sqrt(len(w)) @ w + p["affine.bias"]
    c, si, x, y = t / np.hypot(t[0], t[1])
    turn = np.array([[c, -si, 0], [si, c, 0], [0, 0, 1]])
    move = np.array([[1, 0, -x], [0, 1, -y], [0, 0, 1]])
    m = turn @ move @ p["transform"]
    freqs = p["freqs"] @ m[:2, :2]
    amplitude = (1 - (np.hypot(*freqs.T) - band) / (rate / 2 - band)).clip(0, 1)
    out = np.empty([channels, size, size])
    for row, py in enumerate(places(size, 1) / rate):
        for column, px in enumerate(places(size, 1) / rate):
            # The place, moved, gives the same phase as the frequencies, moved.
            moved = m @ [px, py, 1]
            wave = np.sin(2 * np.pi * (p["freqs"] @ moved[:2] + p["phases"])) * amplitude
            out[:, row, column] = p["weight"] @ wave / np.sqrt(channels)
    return out


def numpy_mapping(s, k, z, c):
    """w for one z and one label."""
    x = z / np.sqrt((z**2).mean() + 1e-8)
    if k["c_dim"]:
        y = s["mapping.embed.weight"] / np.sqrt(len(c)) @ c + s["mapping.embed.bias"]
        x = np.concatenate([x, y / np.sqrt((y**2).mean() + 1e-8)])
    lr = k.get("mapping_kwargs", {}).get("lr_multiplier", 0.01)
    for i in range(k.get("mapping_kwargs", {}).get("num_layers", 2)):
        x = s[f"mapping.fc{i}.weight"] @ x * lr / np.sqrt(len(x)) + s[f"mapping.fc{i}.bias"] * lr
        x = np.where(x > 0, x, 0.2 * x) * np.sqrt(2)
    return x


def numpy_picture(s, k, ws):
    rows = geometry(k)
    x = numpy_input(s, rows, ws[0])
    for i in range(len(rows)):
        x = numpy_layer(s, k, i, rows, x, ws[i + 1])
    return x * k.get("output_scale", 0.25)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_network_is_the_arithmetic_of_the_paper(name):
    k, G = CONFIGS[name], make(name)
    G.synthesis.input.transform.copy_(torch.tensor([[0.8, -0.5, 0.1], [0.5, 0.9, -0.2], [0, 0, 1]]))
    s = {key: v.double().numpy() for key, v in G.state_dict().items()}
    z, c = inputs(G)
    w = np.stack([numpy_mapping(s, k, *pair) for pair in zip(z.double().numpy(), c.double().numpy())])
    ws = G.mapping(z, c)
    assert ws.shape == (2, k["num_layers"] + 2, 5)
    for i in range(G.num_ws):
        assert_close("w", ws[:, i].numpy(), w, 1e-5)
    cut = G.mapping(z, c, truncation_psi=0.6, truncation_cutoff=2)
    assert_close("truncated", cut[:, 0].numpy(), s["mapping.w_avg"] + 0.6 * (w - s["mapping.w_avg"]), 1e-5)
    assert torch.equal(cut[:, 2:], ws[:, 2:])
    ws = ws + 0.5 * torch.randn(ws.shape, generator=torch.Generator().manual_seed(1))
    expected = np.stack([numpy_picture(s, k, v) for v in ws.double().numpy()])
    assert expected.shape == (2, 3, k["img_resolution"], k["img_resolution"]) and expected.std() > 0.01
    for i in (0, 1):
        assert_close("picture", G.synthesis(ws[i : i + 1]).numpy(), expected[i : i + 1], 1e-5)
    assert_close("pictures", G.synthesis(ws).numpy(), expected, 1e-5)


def test_the_gradient_of_ws_is_the_slope():
    k, G = CONFIGS["r"], make("r")
    s = {key: v.double().numpy() for key, v in G.state_dict().items()}
    ws = torch.randn([1, G.num_ws, G.w_dim], generator=torch.Generator().manual_seed(3), requires_grad=True)
    G.synthesis(ws).square().sum().backward()
    at, gradient = (t.detach().double().numpy()[0] for t in (ws, ws.grad))
    # Every layer moves so far that it counts as much as the others, and so little that no activation changes sign.
    directions = np.random.RandomState(0).randn(*at.shape) / np.linalg.norm(gradient, axis=1, keepdims=True)
    ahead, behind = ((numpy_picture(s, k, at + step * directions) ** 2).sum() for step in (1e-5, -1e-5))
    assert (gradient * directions).sum() == pytest.approx((ahead - behind) / 2e-5, rel=1e-4)


def test_pictures_of_a_batch_do_not_touch_each_other():
    G = make("t")
    ws = torch.randn([2, G.num_ws, G.w_dim], generator=torch.Generator().manual_seed(3))
    alone = G.synthesis(ws[:1])
    ws[1] *= 1e4
    assert_close("picture", G.synthesis(ws)[:1].numpy(), alone.numpy(), 1e-4)  # the official formula: 0.028


def test_noise_has_no_effect_and_maps_are_refused():
    G = make("t")
    ws = G.mapping(*inputs(G))
    pictures = [G.synthesis(ws, noise_mode=mode, fused_modconv=True) for mode in ("const", "random", "none")]
    assert all(torch.equal(p, pictures[0]) for p in pictures) and G.synthesis.noise_shapes() == {}
    with pytest.raises(ValueError, match="no noise maps"):
        G.synthesis(ws, noise={"L0_22_7": torch.zeros(1, 1, 38, 38)})
    with pytest.raises(ValueError, match="noise_mode is 'loud'"):
        G.synthesis(ws, noise_mode="loud")


def test_outputs_of_layers_have_the_shapes_that_are_said():
    G = make("r")
    found = {}
    for name in G.synthesis.layer_shapes:
        G.synthesis.get_submodule(name).register_forward_hook(
            lambda m, i, out, name=name: found.update({name: tuple(out.shape[1:])})
        )
    G(*inputs(G))
    assert found == G.synthesis.layer_shapes and len(found) == 4
    info = adapt(G).info()
    assert (info["family"], info["conv_kernel"], info["radial_filters"], info["noise_maps"]) == (
        "stylegan3",
        1,
        True,
        0,
    )


def test_layers_of_official_networks_have_their_published_names():
    with torch.device("meta"):
        t1024 = Generator(512, 0, 512, 1024, 3)
        r128 = Generator(512, 0, 512, 128, 3, channel_base=65536, channel_max=1024, **R)
        t256 = Generator(512, 0, 512, 256, 3)
    assert (
        t1024.synthesis.layer_names
        == (
            "L0_36_512 L1_36_512 L2_52_512 L3_52_512 L4_84_512 L5_148_512 L6_148_512 L7_276_323 L8_276_203 L9_532_128 "
            "L10_1044_81 L11_1044_51 L12_1044_32 L13_1024_32 L14_1024_3"
        ).split()
    )
    assert r128.synthesis.layer_names[8:] == (
        "L8_84_1024 L9_148_1024 L10_148_912 L11_148_683 L12_148_512 L13_128_512 L14_128_3".split()
    )
    assert t256.synthesis.layer_names[9].startswith("L9_148_")  # twice its stop band is 128, up to rounding
    assert t1024.num_ws == 16


@pytest.mark.parametrize("taps", [0, 257])
def test_absurd_filters_are_refused(taps):
    with pytest.raises(ValueError, match="taps"):
        lowpass_filter(taps, 1, 1, 8)
    with pytest.raises(ValueError, match="cutoff"):
        lowpass_filter(8, 4, 1, 8)
    assert lowpass_filter(1, 1, 1, 8) is None


# ------------------------------------------------------------------------------------------------------------------- files


def written(G, edit=None):
    """The bytes of a file with this generator; ``edit`` changes its record first."""
    call = module_call(G)
    if edit:
        edit(call.args[0]["state"])
    f = io.BytesIO()
    dump({"G_ema": call}, f)
    return f.getvalue()


def read(data):
    record = read_records(memoryview(data), "file")["G_ema"]
    return build(record, "file", "G_ema", Budget("file", 2 * len(data)))


def assert_same(a, b):
    assert list(a.state_dict()) == list(b.state_dict())
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))
    assert {"mapping_kwargs": {}, **a.init_kwargs} == {"mapping_kwargs": {}, **b.init_kwargs}


@pytest.mark.parametrize("name", CONFIGS)
def test_write_then_read_is_identity(name):
    G = make(name)
    again = read(written(G))
    assert_same(G, again)
    assert not again.training and not any(p.requires_grad for p in again.parameters())
    assert all(t.dtype == torch.float32 and t.device.type == "cpu" for t in again.state_dict().values())
    assert torch.equal(again(*inputs(G)), G(*inputs(G)))
    rebuilt = Generator(**json.loads(json.dumps(again.init_kwargs))).eval().requires_grad_(False)
    rebuilt.load_state_dict(again.state_dict())
    assert torch.equal(rebuilt(*inputs(G)), G(*inputs(G)))
    assert written(again) == written(read(written(again)))


class Persistent:
    """Pickles as an official persistent object does, through a stand-in of this test."""

    def __init__(self, meta):
        self.meta = meta

    def __reduce__(self):
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (self.meta,)


def persistent(module):
    state = {k: v for k, v in module.__dict__.items() if not k.startswith("_init")}
    state["_modules"] = collections.OrderedDict((k, persistent(v)) for k, v in module._modules.items())
    for key, value in state.items():
        if key in ("size", "in_size", "out_size"):
            state[key] = np.broadcast_to(np.asarray(value[0]), [2])
        elif isinstance(value, float) and key != "output_scale":
            state[key] = np.float64(value)
    if "use_fp16" in state:
        state["use_fp16"] = np.bool_(state["use_fp16"])
    state |= {"_init_args": module.init_args, "_init_kwargs": module.init_kwargs}
    meta = dict(type="class", version=6, module_src="raise SystemExit\n", class_name=type(module).__name__, state=state)
    return Persistent(meta)


@pytest.fixture
def pickled(monkeypatch):
    """A function that pickles a generator as Python does with official objects, NumPy arrays and numbers included."""

    def _reconstruct_persistent_obj(meta):
        raise AssertionError("executed")

    module = types.ModuleType("torch_utils.persistence")
    _reconstruct_persistent_obj.__module__ = module.__name__
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    module._reconstruct_persistent_obj = _reconstruct_persistent_obj
    monkeypatch.setitem(sys.modules, "torch_utils", types.ModuleType("torch_utils"))
    monkeypatch.setitem(sys.modules, "torch_utils.persistence", module)
    return lambda G, protocol=4: pickle.dumps({"G_ema": persistent(G)}, protocol=protocol)


@pytest.mark.parametrize("protocol", [3, 4])
def test_files_with_numpy_attributes_are_read(pickled, protocol):
    G = make("r")
    assert_same(read(pickled(G, protocol)), G)
    G.synthesis.input.size = (40, 40)
    with pytest.raises(NetworkFileError, match=r"input\.size: is .*; its arguments ask for \(22, 22\)"):
        read(pickled(G, protocol))


def test_attributes_count_before_arguments():
    G = make("t")
    edits = {"L1_38_6.conv_clamp": 0.5, "L2_38_2.use_fp16": False, "input.bandwidth": 2.0000001, ".output_scale": 0.5}
    for path, value in edits.items():
        owner, _, name = path.rpartition(".")
        setattr(G.synthesis.get_submodule(owner), name, value)
    again = read(written(G))
    for path, value in edits.items():
        owner, _, name = path.rpartition(".")
        assert getattr(again.synthesis.get_submodule(owner), name) == value
    assert torch.equal(again(*inputs(G)), G(*inputs(G)))


def kwargs(**values):
    return lambda state: state["_init_kwargs"].update(values)


def part(path, then):
    """Edit a module further down."""

    def edit(state):
        for name in path.split("."):
            state = state["_modules"].items[name].args[0]["state"]
        then(state)

    return edit


def rename(state):
    layers = state["_modules"].items
    layers["L1_999_7"] = layers.pop(next(n for n in layers if n.startswith("L1_")))


@pytest.mark.parametrize(
    "edit, reason",
    [
        (kwargs(z_dim=2**40), "z_dim is 1099511627776; expected an integer from 0"),
        (kwargs(img_resolution=2**20), "img_resolution is 1048576; expected"),
        (kwargs(img_resolution=64), "img_resolution: is 32; its arguments ask for 64"),
        (kwargs(img_channels=-3), "img_channels is -3"),
        (kwargs(num_layers=10**6), "num_layers is 1000000; expected an integer from 1 to 64"),
        (kwargs(num_layers=60), r"synthesis: it has 5 layers; its arguments ask for 61"),
        (kwargs(num_critical=4), "num_critical is 4; expected 0 to 3"),
        (kwargs(filter_size=10**9), "filter_size is 1000000000"),
        (kwargs(filter_size=64, lrelu_upsampling=8), "describe no network: a filter of 512 taps"),
        (kwargs(margin_size=10**9), "margin_size is 1000000000"),
        (kwargs(margin_size=4), "its arguments ask for"),
        (kwargs(channel_max=2**16, channel_base=2**30), "its arguments ask for"),
        (kwargs(channel_base=1), "a layer would have no channels"),
        (kwargs(first_cutoff=float("nan")), "first_cutoff is nan; expected a number"),
        (kwargs(first_cutoff=0), "first_cutoff is 0; expected a number"),
        (kwargs(first_cutoff=4000.0), "its arguments"),
        (kwargs(output_scale="x"), "output_scale is 'x'; expected a number"),
        (kwargs(conv_kernel=2), "its shape is"),
        (kwargs(use_radial_filters=1), "use_radial_filters is 1; expected True or False"),
        (kwargs(__class__="x"), "the argument '__class__' is unknown"),
        (kwargs(mapping_kwargs={"activation": "relu"}), "mapping_kwargs: the argument 'activation' is unknown"),
        (kwargs(mapping_kwargs=3), "expected a table of arguments"),
        (kwargs(mapping_kwargs={"num_layers": 64}), r"mapping: it has 2 layers; its arguments ask for 64"),
        (part("synthesis", rename), "it has the parts .*L1_999_7"),
        (part("synthesis.input", lambda s: s.update(size=(2, 3))), r"input\.size: is \(2, 3\)"),
        (part("synthesis.input", lambda s: s.update(sampling_rate=-1.0)), r"sampling_rate: is -1\.0; expected a positive"),
        (part("synthesis.L0_22_7", lambda s: s.update(padding=[9**9] * 4)), r"padding: is \[387420489"),
        (part("synthesis.L0_22_7", lambda s: s.update(up_factor=10**9)), r"up_factor: is 1000000000"),
        (part("synthesis.L0_22_7", lambda s: s["_buffers"].items.pop("up_filter")), "it has the tensors"),
        (part("synthesis", lambda s: s["_modules"].items.pop("input")), "without Fourier features"),
        (lambda s: s["_modules"].items.pop("mapping"), "mapping: it has 0 layers"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit_are_refused(edit, reason):
    G = make("t")
    G = Generator(**json.loads(json.dumps(G.init_kwargs)))  # arguments of its own, to be changed
    with pytest.raises(NetworkFileError, match=reason):
        read(written(G, edit))


def test_truncated_files_are_refused():
    data = written(make("t"))
    for n in (1, 100, len(data) // 2, len(data) - 1):
        with pytest.raises(NetworkFileError, match="complete|left|storage|holds"):
            read(data[:n])


def test_memory_is_bounded_by_the_file():
    data = written(make("t"))
    record = read_records(memoryview(data), "file")["G_ema"]
    with pytest.raises(NetworkFileError, match="twice the memory"):
        build(record, "file", "G_ema", Budget("file", 1000))


# ------------------------------------------------------------------------------------------------------------ NVIDIA's code

ORACLE = """
import importlib.util, json, pickle, sys, types
import numpy as np, packaging.version, torch
command, repo, *rest = sys.argv[1:]
sys.path.insert(0, repo)
if importlib.util.find_spec("pkg_resources") is None:  # setuptools no longer has it
    sys.modules["pkg_resources"] = types.SimpleNamespace(parse_version=packaging.version.parse)
import legacy
from training.networks_stylegan3 import Generator

def outputs(G):
    random = np.random.RandomState(0)
    z = torch.from_numpy(random.randn(2, G.z_dim).astype(np.float32))
    c = torch.eye(max(G.c_dim, 1))[[0, max(G.c_dim, 1) - 1]][:, : G.c_dim]
    found = {"z": z, "c": c, "ws": G.mapping(z, c), "cut": G.mapping(z, c, truncation_psi=0.5, truncation_cutoff=3)}
    found["varied"] = found["ws"] + 0.3 * torch.from_numpy(random.randn(*found["ws"].shape).astype(np.float32))
    size = [1, G.img_channels, G.img_resolution, G.img_resolution]
    found["weights"] = torch.from_numpy(random.randn(*size).astype(np.float32))
    for i in (0, 1):
        leaf = found["varied"][i : i + 1].clone().requires_grad_(True)
        found[f"image {i}"] = G.synthesis(leaf)
        (found[f"image {i}"] * found["weights"]).sum().backward()
        found[f"gradient {i}"] = leaf.grad
    found["batch"] = G.synthesis(found["varied"])
    found["transform"] = torch.tensor([[0.9, -0.3, 0.1], [0.3, 0.9, -0.05], [0, 0, 1]])
    before = G.synthesis.input.transform.clone()
    G.synthesis.input.transform.copy_(found["transform"])
    found["transformed"] = G.synthesis(found["varied"][:1])
    G.synthesis.input.transform.copy_(before)
    return {k: v.detach().numpy() for k, v in found.items()}

if command == "make":
    for name, kwargs in json.loads(rest[0]).items():
        torch.manual_seed(0)
        G = Generator(**kwargs).eval().requires_grad_(False)
        for key, t in {**dict(G.named_parameters()), **dict(G.named_buffers())}.items():
            if key.endswith("magnitude_ema"):
                t.copy_(0.3 + torch.rand([]))
            elif key.endswith("bias"):
                t.add_(0.3 * torch.randn(t.shape))
            elif key.endswith(("affine.weight", "w_avg")):
                t.copy_(torch.randn(t.shape))
        np.savez(f"{rest[1]}/{name}.npz", **outputs(G))
        with open(f"{rest[1]}/{name}.pkl", "wb") as f:
            pickle.dump(dict(G=G, D=None, G_ema=G, augment_pipe=None), f)
else:
    for file in rest:
        with open(file, "rb") as f:
            G = legacy.load_network_pkl(f)["G_ema"]
        fresh = Generator(*G.init_args, **G.init_kwargs).eval().requires_grad_(False)
        fresh.load_state_dict(G.state_dict())
        a, b = outputs(G), outputs(fresh)
        assert all(np.array_equal(a[k], b[k]) for k in a)
        np.savez(file + ".npz", **a)
"""

OFFICIAL = {
    **CONFIGS,
    "t-14": dict(z_dim=16, c_dim=0, w_dim=16, img_resolution=64, img_channels=3, channel_base=1024, channel_max=32),
    "r-14": dict(z_dim=16, c_dim=0, w_dim=16, img_resolution=32, img_channels=1, channel_base=1024, channel_max=32, **R),
    "no critical": {**TINY, "num_critical": 0, "conv_clamp": None, "conv_kernel": 2, "last_stopband_rel": 1.1},
}  # fmt: skip


def official(*args):
    repo = os.environ.get("STYLEGAN3_REPO")
    if not repo:
        pytest.skip("set STYLEGAN3_REPO to a checkout of NVlabs/stylegan3 to compare with it")
    command, *rest = map(str, args)
    result = subprocess.run([sys.executable, "-c", ORACLE, command, repo, *rest], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stylegan3")
    official("make", json.dumps(OFFICIAL), folder)
    return folder


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_files_compute_the_same_here(made, name):
    G, theirs = read((made / f"{name}.pkl").read_bytes()), load_npz(made / f"{name}.npz")
    z, c, varied, weights = (torch.from_numpy(theirs[k]) for k in ("z", "c", "varied", "weights"))
    assert_close("ws", G.mapping(z, c).numpy(), theirs["ws"], 1e-5)
    assert_close("cut", G.mapping(z, c, truncation_psi=0.5, truncation_cutoff=3).numpy(), theirs["cut"], 1e-5)
    assert_close("batch", G.synthesis(varied).numpy(), theirs["batch"], 1e-5)
    for i in (0, 1):
        leaf = varied[i : i + 1].clone().requires_grad_(True)
        image = G.synthesis(leaf)
        (image * weights).sum().backward()
        assert_close("image", image.detach().numpy(), theirs[f"image {i}"], 1e-5)
        assert_close("gradient", leaf.grad.numpy(), theirs[f"gradient {i}"], 1e-4)
    G.synthesis.input.transform.copy_(torch.from_numpy(theirs["transform"]))
    assert_close("transformed", G.synthesis(varied[:1]).numpy(), theirs["transformed"], 1e-5)
    # Filters that are made from the arguments are those in the file.
    fresh = Generator(**G.init_kwargs).state_dict()
    for key, value in G.state_dict().items():
        if key.endswith("_filter"):
            assert_close(key, fresh[key].numpy(), value.numpy(), 1e-6)


def test_files_written_here_compute_the_same_there(made, tmp_path):
    for name in OFFICIAL:
        si.save(read((made / f"{name}.pkl").read_bytes()), tmp_path / f"{name}.pkl")
    official("open", *(tmp_path / f"{name}.pkl" for name in OFFICIAL))
    for name in OFFICIAL:
        theirs, ours = load_npz(made / f"{name}.npz"), load_npz(tmp_path / f"{name}.pkl.npz")
        for key in theirs:
            assert_close(f"{name}: {key}", ours[key], theirs[key], 0)
