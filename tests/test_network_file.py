"""Reading and writing network files."""
# Takes at most 10 CPU seconds.

import collections
import contextlib
import io
import pickle
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import stylegan_invert as si
from stylegan_invert.files.pickled import Machine, dump
from stylegan_invert.network_files.file import from_bytes
from stylegan_invert.network_files.machine.persistence import module_call
from stylegan_invert.networks.discriminators import Discriminator
from stylegan_invert.networks.stylegan2 import Generator

from conftest import make_network
from official import CONFIGS, HERE, PRETRAINED, networks, outputs
from support import assert_close, assert_same_outputs


def states(net):
    return {key: net[key].state_dict() for key in ("G", "D", "G_ema") if net[key] is not None}


def assert_same_networks(a, b):
    a, b = states(a), states(b)
    assert a.keys() == b.keys()
    for key in a:
        assert list(a[key]) == list(b[key])
        assert all(torch.equal(a[key][name], b[key][name]) for name in a[key])


def test_the_shipped_network_is_read(cats):
    assert (cats.G.z_dim, cats.G.c_dim, cats.G.w_dim, cats.G.num_ws) == (128, 0, 128, 8)
    assert (cats.G.img_resolution, cats.G.img_channels) == (32, 3)
    assert not cats.G.training and not any(p.requires_grad for p in [*cats.G.parameters(), *cats.D.parameters()])
    assert cats.sha256 == "2e2739fe52b37c9300d240c141759a81cad7df93a1dbeb26e9355d90948bf9a2"
    assert cats.training_set_kwargs is None or isinstance(cats.training_set_kwargs, dict)


@pytest.mark.parametrize("name", CONFIGS)
def test_write_then_read_is_identity(name, tmp_path):
    G, D = networks(CONFIGS[name], Generator, Discriminator)
    net = si.NetworkFile(
        {"G": G, "G_ema": G, "D": D},
        training_set_kwargs={"path": "x.zip", "n": 3, "p": 0.5, "labels": None, "xflip": True},
    )
    si.save(
        net,
        tmp_path / "a.pkl",
        extra={"de": {"weight": torch.randn(3, 4), "step": torch.tensor(7)}, "mask": torch.tensor([True, False])},
    )
    again = si.load(tmp_path / "a.pkl")
    assert_same_networks(net, again)
    assert_same_outputs(outputs(again.G, again.D), outputs(G, D))
    assert again.training_set_kwargs == net.training_set_kwargs
    assert (
        again.extra["de"]["weight"].shape == (3, 4)
        and again.extra["de"]["step"] == 7
        and again.extra["mask"].dtype == torch.bool
    )
    si.save(again, tmp_path / "b.pkl")
    si.save(si.load(tmp_path / "b.pkl"), tmp_path / "c.pkl")
    assert (tmp_path / "b.pkl").read_bytes() == (tmp_path / "c.pkl").read_bytes()


def test_attributes_that_were_changed_after_construction_survive(tmp_path):
    G, D = networks(CONFIGS["edited"], Generator, Discriminator)
    si.save(G, tmp_path / "g.pkl")
    again = si.load(tmp_path / "g.pkl")
    for path, value in CONFIGS["edited"]["edit"].items():
        owner, _, name = path.rpartition(".")
        assert getattr(again.G.get_submodule(owner), name) == value
    assert again.D is None and again["G"] is again["G_ema"]


class Persistent:
    """Pickles as an official persistent object does. What it names are stand-ins of this test, in place of NVIDIA's modules."""

    def __init__(self, meta):
        self.meta = meta

    def __reduce__(self):
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (self.meta,)


@pytest.fixture
def official_pickler(monkeypatch):
    """A function that pickles our networks through Python's pickle and torch's own reducers, in the official structure."""

    def _reconstruct_persistent_obj(meta):
        raise AssertionError("executed")

    class EasyDict(dict):
        pass

    for name, members in (
        ("torch_utils", {}),
        ("torch_utils.persistence", locals()),
        ("dnnlib", {}),
        ("dnnlib.util", {"EasyDict": EasyDict}),
    ):
        module = types.ModuleType(name)
        for key in ("_reconstruct_persistent_obj", "EasyDict"):
            if key in members:
                members[key].__module__, members[key].__qualname__ = name, key
                setattr(module, key, members[key])
        monkeypatch.setitem(sys.modules, name, module)

    def easy(x):
        return EasyDict({k: easy(v) for k, v in x.items()}) if isinstance(x, dict) else x

    def persistent(module, table):
        state = {k: v for k, v in module.__dict__.items() if not k.startswith("_init")}
        state["_modules"] = table((k, None if v is None else persistent(v, table)) for k, v in module._modules.items())
        state["_parameters"] = table(module._parameters)
        state["_buffers"] = table(module._buffers)
        for name in ("weight_gain", "act_gain"):
            if name in state:
                state[name] = np.float64(state[name])
        state.update(_init_args=module.init_args, _init_kwargs=easy(module.init_kwargs))
        return Persistent(
            dict(
                type="class",
                version=6,
                module_src="raise SystemExit('executed')\n" * 300,
                class_name=type(module).__name__,
                state=state,
            )
        )

    def pickled(net, protocol, table=dict):
        data = {key: persistent(net[key], table) for key in ("G", "D", "G_ema")}
        return pickle.dumps(
            {"training_set_kwargs": EasyDict(path="x.zip"), **data, "augment_pipe": None}, protocol=protocol
        )

    pickled.persistent = persistent
    return pickled


@pytest.mark.parametrize("table", [dict, collections.OrderedDict])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_is_read(official_pickler, protocol, table):
    net = make_network(classes=2)
    data = official_pickler(net, protocol, table)
    again = from_bytes(data, "file")
    assert_same_networks(net, again)
    assert again.training_set_kwargs == {"path": "x.zip"}


def test_numpy_1_and_2_spell_their_module_differently(official_pickler):
    data = official_pickler(make_network(), 3)
    old, new = b"cnumpy.core.multiarray\n", b"cnumpy._core.multiarray\n"
    assert (new in data) != (old in data)
    other = data.replace(new, old) if new in data else data.replace(old, new)
    assert_same_networks(from_bytes(data, "file"), from_bytes(other, "file"))


def test_torch_save_zips_are_read(official_pickler):
    net = make_network(classes=2)
    f = io.BytesIO()
    torch.save(official_pickler.persistent(net.G, dict), f)
    again = from_bytes(f.getvalue(), "file")
    assert again["D"] is None
    assert all(torch.equal(a, b) for a, b in zip(net.G.state_dict().values(), again.G.state_dict().values()))
    damaged = bytearray(f.getvalue())
    at = damaged.find(net.G.synthesis.b4.const.numpy().tobytes()[:64])
    damaged[at + 10] ^= 1
    with pytest.raises(si.NetworkFileError, match="is damaged: the checksum"):
        from_bytes(damaged, "file")


def test_strides_and_dtypes_are_honoured(official_pickler):
    net = make_network()
    expected = outputs(net.G)
    conv = net.G.synthesis.b8.conv1
    conv.weight = torch.nn.Parameter(conv.weight.to(memory_format=torch.channels_last), requires_grad=False)
    assert conv.weight.stride()[1] == 1
    whole = torch.randn(5, *net.G.synthesis.b4.const.shape)
    whole[3] = net.G.synthesis.b4.const
    net.G.synthesis.b4.const = torch.nn.Parameter(
        whole[3], requires_grad=False
    )  # a slice: an offset into a larger storage
    again = from_bytes(official_pickler(net, 4), "file")
    assert_same_outputs(outputs(again.G), expected)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        weight = net.G.synthesis.b8.conv1.weight.to(dtype)
        net.G.synthesis.b8.conv1.weight = torch.nn.Parameter(weight, requires_grad=False)
        again = from_bytes(official_pickler(net, 4), "file")
        assert (
            torch.equal(again.G.synthesis.b8.conv1.weight, weight.float())
            and again.G.synthesis.b8.conv1.weight.dtype == torch.float32
        )


def test_an_unknown_discriminator_is_refused_when_it_is_asked_for(official_pickler):
    net = make_network()

    class Projected(Discriminator):
        pass

    net.D.__class__ = Projected
    again = from_bytes(official_pickler(net, 4), "file")
    assert again.G.img_resolution == 16 and again.info["discriminator_parameters"] is None
    with pytest.raises(
        si.NetworkFileError,
        match="file: D: it is of class 'Projected'; expected Discriminator. To go on without it, set",
    ):
        _ = again.D


def test_what_does_not_fit_is_named(official_pickler):
    def error(change):
        net = make_network()
        change(net.G)
        with pytest.raises(si.NetworkFileError) as e:
            from_bytes(official_pickler(net, 4), "file")
        assert e.value.file == "file"
        return str(e.value)

    def shape(G):
        G.synthesis.b8.conv0.bias = torch.nn.Parameter(torch.zeros(3), requires_grad=False)

    def clamp(G):
        G.synthesis.b8.conv0.conv_clamp = -1

    def up(G):
        G.synthesis.b8.conv0.up = 4

    assert "G_ema.synthesis.b8.conv0.bias: its shape is (3,); its arguments ask for (8,)" in error(shape)
    assert "G_ema.synthesis.b8.conv0.conv_clamp: is -1; expected None or a number of at least 0" in error(clamp)
    assert "G_ema.synthesis.b8.conv0.up: is 4; its arguments ask for 2" in error(up)
    assert "G_ema.mapping: it has 1 layers or blocks; its arguments ask for 2" in error(
        lambda G: delattr(G.mapping, "fc1")
    )
    assert "G_ema.mapping: it has the parts embed, fc0, fc1; its arguments ask for fc0, fc1" in error(
        lambda G: setattr(G.mapping, "embed", G.mapping.fc0)
    )
    net = make_network(use_noise=False)
    net.G.synthesis.b8.conv0.use_noise = True
    with pytest.raises(si.NetworkFileError, match="b8.conv0.use_noise: is True, and there is no noise_const"):
        from_bytes(official_pickler(net, 4), "file")
    assert "a Generator has _forward_hooks that are not empty; hooks are code" in error(
        lambda G: G._forward_hooks.update({0: "x"})
    )


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer; run 'git lfs pull'"),
        (b"<!DOCTYPE html>", "an HTML or XML page"),
        (b"\x89PNG\r\n", "it begins with"),
        (pickle.dumps({"G": 1}), "it holds no generator under 'G_ema' (found: G)"),
        (pickle.dumps([1, 2]), "it holds no generator under 'G_ema' (found: list)"),
        (
            b"\x80\x03cdnnlib.tflib.network\nNetwork\n.",
            "holds the name 'dnnlib.tflib.network.Network' and nothing else",
        ),
        (b"\x80\x03cos\nsystem\n.", "it names 'os.system', which no network file needs; nothing was run"),
        (b"\x80\x03cos\nsystem", "longer than 256 bytes"),
    ],
)
def test_other_files_are_named(content, reason, tmp_path):
    path = tmp_path / "net.pkl"
    path.write_bytes(content)
    with pytest.raises(si.NetworkFileError) as e:
        si.load(path)
    assert reason in str(e.value) and str(path) in str(e.value)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(
        si.NetworkFileError,
        match="there is no such file; expected a path, a URL, hf://OWNER/REPOSITORY, or one of the short names "
        "cats64-de, cats32-de, cats32, faces64, digits-wavegan, ffhq",
    ):
        si.load(tmp_path / "nothing.pkl")
    with pytest.raises(si.NetworkFileError, match="it is a directory"):
        si.load(tmp_path)


def test_a_cut_file_is_refused_at_every_length(tiny_file):
    data = tiny_file.read_bytes()
    for n in range(2, len(data), 997):
        with pytest.raises(si.NetworkFileError):
            from_bytes(data[:n], "file")


def test_reading_takes_at_most_three_times_the_file():
    """Peak memory of a process that reads the shipped network, over one that has only imported the reader."""
    code = """
import resource, sys, torch
from stylegan_invert.network_files.file import load, from_bytes
load(sys.argv[1])['D']  # what is imported and cached on first use is not what this measures
def now(): return int(open('/proc/self/statm').read().split()[1]) * resource.getpagesize()
def peak(): return next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('VmHWM')) * 1024
open('/proc/self/clear_refs', 'w').write('5')
before = now()
net = load(sys.argv[2]); net['G'], net['D']
print(peak() - before)
"""
    if not sys.platform.startswith("linux"):
        pytest.skip("needs Linux: memory is read from /proc")
    file = PRETRAINED / "cats32-stylegan2-ada.pkl"
    result = subprocess.run([sys.executable, "-c", code, file, file], capture_output=True, text=True, cwd=HERE.parent)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) <= 3 * file.stat().st_size + (4 << 20)  # and four megabytes for Python's own objects


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**100), 2**100) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
        | st.tuples(inner, inner)
        | st.sets(st.text(max_size=3), max_size=3)
    ),
    max_leaves=20,
)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(plain, st.integers(2, 5))
def test_plain_values_go_through_pickle_and_back(value, protocol):
    f = io.BytesIO()
    dump(value, f)
    assert pickle.loads(f.getvalue()) == value
    names = {("builtins", "set"): lambda m, a: set(a[0]), ("__builtin__", "set"): lambda m, a: set(a[0])}
    for data in (f.getvalue(), pickle.dumps(value, protocol=protocol)):
        assert Machine(memoryview(data), "file", names).load()[0] == value


def test_what_cannot_be_saved_is_named(cats, tmp_path):
    with pytest.raises(TypeError, match="family Discriminator cannot be written"):
        si.save(cats.D, tmp_path / "d.pkl")
    with pytest.raises(IsADirectoryError, match="expected a file name"):
        si.save(cats, tmp_path)


def test_the_kind_of_a_network_is_checked_every_time(tmp_path):
    G = make_network().G
    one, other = (io.BytesIO() for _ in range(2))
    record = module_call(G)
    dump({"G_ema": record, "D": record}, one)  # the same record under two keys
    dump({"G_ema": record, "D": module_call(G)}, other)
    for file in (one, other):
        net = from_bytes(file.getvalue(), "file")
        for _ in range(2):
            with pytest.raises(si.NetworkFileError, match="D: it is of class 'Generator'; expected Discriminator"):
                _ = net.D


@pytest.fixture(scope="module")
def old_and_new():
    """A DCGAN as torch.save wrote it before torch 1.6, and as it writes it now."""
    tensors = torch.load(PRETRAINED / "faces64-dcgan.pt", weights_only=True)
    while not isinstance(next(iter(tensors.values())), torch.Tensor):
        tensors = next(iter(tensors.values()))
    tensors = {"weights": tensors, "other": {"a part": next(iter(tensors.values())).flatten()[3:7]}}
    files = io.BytesIO(), io.BytesIO()
    torch.save(tensors, files[0], _use_new_zipfile_serialization=False)
    torch.save(tensors, files[1])
    return [f.getvalue() for f in files]


def test_torchs_old_streams(old_and_new):
    old, new = (from_bytes(data, "file").G.state_dict() for data in old_and_new)
    assert old.keys() == new.keys() and all(torch.equal(old[k], new[k]) for k in old)


def test_broken_old_streams_are_refused(old_and_new):
    data = old_and_new[0]
    for end in (20, 40, 200, 1000, len(data) // 2, len(data) - 1):
        with pytest.raises(si.NetworkFileError):
            from_bytes(data[:end], "file")
    with pytest.raises(si.NetworkFileError, match="bytes follow the end"):
        from_bytes(data + b"0", "file")
    shape = data.index(b"Storage")
    random = np.random.RandomState(0)
    for _ in range(60):  # anything may come of it but another kind of error
        broken = bytearray(data)
        broken[random.randint(shape, shape + 3000)] = random.randint(256)
        with contextlib.suppress(si.NetworkFileError):
            from_bytes(bytes(broken), "file")


def test_a_saved_file_is_whole_or_absent(tmp_path):
    net = make_network()
    net.extra = {"bad": torch.zeros(1, dtype=torch.complex64)}
    with pytest.raises(TypeError, match="complex64"):
        si.save(net, tmp_path / "net.pkl")
    assert list(tmp_path.iterdir()) == []


def test_info_says_what_inspect_prints(cats):
    info = cats.info
    assert info["spaces"] == {"z": [128], "w": [128], "w+": [8, 128], "v": [128], "v+": [8, 128]}
    assert info["parameters"] == sum(p.numel() for p in cats.G.parameters()) == 511_891
    assert info["noise_maps"] == 7 and info["classes"] == 0 and info["channels"] == 3


def test_golden_outputs_of_the_shipped_file(cats):
    """Through the file, not only through the classes: outputs do not depend on which way the network came to be."""
    G = Generator(*cats.G.init_args, **cats.G.init_kwargs).eval()
    G.load_state_dict(cats.G.state_dict())
    ws = cats.G.mapping(torch.from_numpy(np.random.RandomState(0).randn(2, 128)))
    assert_close(
        "image",
        cats.G.synthesis(ws, noise_mode="const").numpy(),
        G.synthesis(ws, noise_mode="const").detach().numpy(),
        1e-6,
    )


def test_shapes_are_said_in_full():
    """Of a dense layer whose numbers make no square map of the channels that the next layer takes."""
    f = io.BytesIO()
    torch.save({"l1.weight": torch.zeros(8, 5), "conv.weight": torch.zeros(4, 3, 3, 2)}, f)
    with pytest.raises(si.NetworkFileError, match=r"l1: its weight has shape \(8, 5\); expected the dense layer"):
        from_bytes(f.getvalue(), "file")


def test_something_else_under_a_networks_key_is_refused():
    record = module_call(make_network().G)
    f = io.BytesIO()
    dump({"G": 3, "G_ema": record}, f)
    with pytest.raises(si.NetworkFileError, match="G is 3; expected a network"):
        from_bytes(f.getvalue(), "file")
