"""WaveGAN's networks and their files, against a calculation with NumPy that knows nothing of them."""
# Takes at most 5 CPU seconds.

import importlib
import os
import sys

import numpy as np
import pytest
import tf_checkpoints
import torch

import stylegan_invert as si
from stylegan_invert.errors import NetworkFileError
from stylegan_invert.files.crc import crc32c
from stylegan_invert.generator import adapt
from stylegan_invert.network_files.convert import convert
from stylegan_invert.network_files.file import load
from stylegan_invert.networks.wavegan import WaveGANDiscriminator, WaveGANGenerator, shuffled

from support import assert_close

FIRST, KERNEL = 16, 25


def strides_of(length):
    return {64: [4], 256: [4, 4], 128: [4, 2], 512: [4, 4, 2]}[length]


def up(x, w, b, stride):
    """Samples (T, in) to (stride * T, out): y[stride * i + k - before] is the sum of x[i] w[k], with weights (25, out, in)."""
    before = (KERNEL - stride) // 2
    y = np.zeros([stride * len(x) + KERNEL, w.shape[1]])
    for i in range(len(x)):
        y[stride * i : stride * i + KERNEL] += w @ x[i]
    return y[before : before + stride * len(x)] + b


def same(x, w, b, stride=1):
    """TensorFlow's convolution of samples (T, in) with weights (taps, in, out) and the padding "same"."""
    count = len(x) // stride
    total = max((count - 1) * stride + len(w) - len(x), 0)
    x = np.pad(x, [(total // 2, total - total // 2), (0, 0)])
    return np.stack([np.einsum("ki,kio->o", x[i * stride : i * stride + len(w)], w) for i in range(count)]) + b


def normalised(x, variables, scope):
    v = {name: variables[f"{scope}/batch_normalization/{name}"] for name in ("gamma", "beta")}
    mean, var = (variables[f"{scope}/batch_normalization/moving_{name}"] for name in ("mean", "variance"))
    return (x - mean) / np.sqrt(var + 1e-3) * v["gamma"] + v["beta"]


def official_generator(v, z, strides, nearest, norm):
    """A sound (T, channels) of one z, by the variables of TensorFlow."""
    x = (z @ v["G/z_project/dense/kernel"] + v["G/z_project/dense/bias"]).reshape(FIRST, -1)
    x = normalised(x, v, "G/z_project") if norm else x
    for i, stride in enumerate(strides):
        x, name = np.maximum(x, 0), f"G/upconv_{i}"
        if nearest:
            x = same(x.repeat(stride, axis=0), v[f"{name}/conv1d/kernel"], v[f"{name}/conv1d/bias"])
        else:
            x = up(x, v[f"{name}/conv2d_transpose/kernel"][0], v[f"{name}/conv2d_transpose/bias"], stride)
        x = normalised(x, v, name) if norm and i < len(strides) - 1 else x
    x = np.tanh(x)
    return same(x, v["G/pp_filt/conv1d/kernel"], 0) if "G/pp_filt/conv1d/kernel" in v else x


def official_discriminator(v, x, strides, norm):
    for i, stride in enumerate(strides):
        x = same(x, v[f"D/downconv_{i}/conv1d/kernel"], v[f"D/downconv_{i}/conv1d/bias"], stride)
        x = normalised(x, v, f"D/downconv_{i}") if norm and i else x
        x = np.where(x > 0, x, 0.2 * x)
    return x.reshape(-1) @ v["D/output/dense/kernel"] + v["D/output/dense/bias"]


def variables(length=256, z_dim=3, dim=2, nearest=False, norm=False, taps=0):
    """Random variables by the names of TensorFlow, with those of its optimiser."""
    random, strides = np.random.default_rng(0), strides_of(length)
    channels = [dim << i for i in range(len(strides))][::-1] + [1]
    v = {"G/z_project/dense/kernel": (z_dim, FIRST * channels[0]), "G/z_project/dense/bias": (FIRST * channels[0],)}
    norms = [("G/z_project", channels[0])] if norm else []
    for i, (n, m) in enumerate(zip(channels, channels[1:])):
        kernel = (KERNEL, n, m) if nearest else (1, KERNEL, m, n)
        layer = f"G/upconv_{i}/conv{'1d' if nearest else '2d_transpose'}"
        v |= {f"{layer}/kernel": kernel, f"{layer}/bias": (m,)}
        norms += [(f"G/upconv_{i}", m)] if norm and i < len(strides) - 1 else []
    v |= {"G/pp_filt/conv1d/kernel": (taps, 1, 1)} if taps else {}
    widths = [1] + [dim << i for i in range(len(strides))]
    for i, (n, m) in enumerate(zip(widths, widths[1:])):
        v |= {f"D/downconv_{i}/conv1d/kernel": (KERNEL, n, m), f"D/downconv_{i}/conv1d/bias": (m,)}
        norms += [(f"D/downconv_{i}", m)] if norm and i else []
    v |= {"D/output/dense/kernel": (FIRST * widths[-1], 1), "D/output/dense/bias": (1,)}
    for scope, size in norms:
        v |= {f"{scope}/batch_normalization/{n}": (size,) for n in ("gamma", "beta", "moving_mean", "moving_variance")}
    v |= {"global_step": (), "G/z_project/dense/bias/Adam": (FIRST * channels[0],)}
    drawn = {name: 0.3 * random.standard_normal(shape).astype(np.float32) for name, shape in v.items()}
    return {name: np.abs(x) + 0.5 if name.endswith("variance") else x for name, x in drawn.items()}


KINDS = {
    "plain": {},
    "nearest": {"nearest": True},
    "batch normalisation": {"norm": True},
    "nearest and batch normalisation": {"nearest": True, "norm": True, "length": 64},
    "a filter behind": {"taps": 8},
    "a last stride of two": {"length": 512},
}


@pytest.mark.parametrize("kind", KINDS)
def test_official_variables(tmp_path, kind):
    """A file of TensorFlow's variables makes the sounds and scores that NumPy computes from them."""
    about = {"length": 256, "nearest": False, "norm": False, "taps": 0, **KINDS[kind]}
    v, strides = variables(**about), strides_of(about["length"])
    np.savez(tmp_path / "net.npz", **v)
    net = load(tmp_path / "net.npz", {"length": about["length"]} if 2 in strides else None)
    z = np.random.default_rng(1).uniform(-1, 1, [2, 3]).astype(np.float32)
    with torch.no_grad():
        sounds = net.G(torch.from_numpy(z))
        scores = net.D(sounds)
    expected = [official_generator(v, one, strides, about["nearest"], about["norm"]) for one in z]
    assert_close("sounds", sounds.numpy(), np.stack(expected).transpose(0, 2, 1), 1e-5)
    assert_close(
        "scores",
        scores.numpy(),
        np.stack([official_discriminator(v, x, strides, about["norm"]) for x in expected]),
        1e-5,
    )
    generator = adapt(net.G)
    assert generator.medium == "sound" and generator.output_shape == (1, about["length"]) and generator.dense == "dense"
    assert generator.prior.family == "uniform"
    report = convert(net, tmp_path / "net.safetensors", "safetensors")
    assert report.left_out == [] and all(d.error == 0 for d in report.differences) and len(report.differences) == 2


def port_state(G, D=None):
    """A checkpoint of the PyTorch port, by its names, of networks here."""
    from stylegan_invert.network_files.families import wavegan

    contents = {"generator": wavegan._port_state(G, "bn1", ())}
    return contents if D is None else {**contents, "discriminator": wavegan._port_state(D, "", [])}


@pytest.mark.parametrize("upsample", ["zeros", "nearest"])
def test_files_of_the_port(tmp_path, upsample):
    """The transposed convolutions of the port give every sample one step earlier than those of official code, and a
    file that is written for it is read back equal."""
    torch.manual_seed(0)
    G = WaveGANGenerator(256, 3, 2, upsample=upsample, arrangement="port", z_prior="normal").eval()
    D = WaveGANDiscriminator(256, 2, arrangement="port", phase_shuffle=0).eval()
    file = si.NetworkFile({"G_ema": G, "D": D})
    report = convert(file, tmp_path / "net.pt", "rosinality")
    assert len(report.differences) == 2 and all(d.error == 0 for d in report.differences)
    net = load(tmp_path / "net.pt", {"sample_rate": 8000})
    assert adapt(net.G).prior.family == "normal" and adapt(net.G).medium_facts == {"sample_rate": 8000}
    names = set(torch.load(tmp_path / "net.pt", weights_only=True)["generator"])
    assert {"fc1.weight", "bn1.running_mean", f"deconv_list.1.transpose_ops.{int(upsample == 'nearest')}.bias"} <= names

    own = WaveGANGenerator(64, 3, 2, upsample=upsample)
    shifted = WaveGANGenerator(64, 3, 2, upsample=upsample, arrangement="port")
    shifted.load_state_dict(own.state_dict())
    z = torch.randn(2, 3)
    with torch.no_grad():
        a, b = own(z), shifted(z)
    later = int(upsample == "zeros")
    assert torch.allclose(a[..., later:], b[..., : 64 - later], atol=1e-6)
    if later:
        with pytest.raises(ValueError, match="one sample earlier"):
            convert(si.NetworkFile({"G_ema": own.eval()}), tmp_path / "own.pt", "rosinality")


def test_a_last_stride_of_two_in_the_port(tmp_path):
    """Its discriminator says that it is there; without the discriminator --assume does."""
    G = WaveGANGenerator(128, 3, 2, upsample="nearest", arrangement="port", z_prior="normal").eval()
    D = WaveGANDiscriminator(128, 2, arrangement="port", phase_shuffle=0).eval()
    torch.save(port_state(G, D), tmp_path / "both.pt")
    torch.save(port_state(G), tmp_path / "alone.pt")
    assert load(tmp_path / "both.pt").G.length == 128
    assert load(tmp_path / "alone.pt", {"length": 128}).G.length == 128
    alone = load(tmp_path / "alone.pt")
    assert alone.G.length == 256 and "256 samples" in alone.info["assumed"]


def test_phase_shuffle():
    """Every sound is shifted by its own number of samples and reflected, in training alone."""
    x = torch.arange(8.0).expand(400, 1, 8)
    torch.manual_seed(0)
    y = shuffled(x, 2)
    expected = {k: tuple(np.pad(np.arange(8.0), 2, mode="reflect")[2 - k : 10 - k]) for k in range(-2, 3)}
    assert {tuple(row.tolist()) for row in y[:, 0]} == set(expected.values())
    D = WaveGANDiscriminator(256, 2)
    sounds = torch.randn(2, 1, 256)
    assert not torch.equal(D.train()(sounds), D(sounds)) or not torch.equal(D(sounds), D(sounds))
    assert torch.equal(D.eval()(sounds), D(sounds))


WRONG = {
    "a layer is missing": (lambda v: v.pop("G/upconv_0/conv2d_transpose/kernel"), "numbered convolutions"),
    "a bias is missing": (lambda v: v.pop("G/z_project/dense/bias"), "z_project/dense/bias: it is missing"),
    "another shape": (lambda v: v.update({"G/z_project/dense/bias": np.zeros(3)}), "expected"),
    "too few dimensions": (lambda v: v.update({"G/upconv_1/conv2d_transpose/kernel": np.zeros([1, 25])}), "describe no network"),
    "not finite": (lambda v: v["G/upconv_0/conv2d_transpose/bias"].fill(np.nan), "not finite"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_damaged_variables(tmp_path, kind):
    change, words = WRONG[kind]
    v = variables()
    change(v)
    np.savez(tmp_path / "net.npz", **v)
    with pytest.raises(NetworkFileError, match=words):
        load(tmp_path / "net.npz")


@pytest.mark.parametrize("length", [16, 100, 2**21, "64"])
def test_lengths(length):
    with pytest.raises(ValueError, match="a power of two"):
        WaveGANGenerator(length)


def test_checkpoints_of_tensorflow(tmp_path):
    """A checkpoint opens by each of its names, without TensorFlow, and holds what an .npz file of its variables holds."""
    v = {**variables(), "global_step": np.array(7, np.int64), "half": np.ones(3, np.float16)}
    np.savez(tmp_path / "net.npz", **v)
    tf_checkpoints.write(tmp_path / "model.ckpt-7", v)
    expected = load(tmp_path / "net.npz")
    for name in ("model.ckpt-7.index", "model.ckpt-7", "model.ckpt-7.data-00000-of-00001"):
        net = load(tmp_path / name)
        for role in ("G_ema", "D"):
            mine, theirs = net[role].state_dict(), expected[role].state_dict()
            assert mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)
    assert len(net.sha256) == 64 and net.G.length == 256


def test_checksums():
    """CRC-32C of RFC 3720, and of long data as bit by bit."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    for size in (0, 1, 2048, 2049, 5000):
        data = np.random.default_rng(size).bytes(size)
        assert crc32c(data) == tf_checkpoints.crc(data)


def _sliced(name, fields):
    fields[7] = b"\x08\x01"


def _longer(name, fields):
    if name == "G/z_project/dense/bias":
        fields[5] += 4


def _behind(name, fields):
    fields[4] += 2**40


DAMAGED = {
    "cut off": (None, lambda i, d: (i[:-1], d), "does not end as such a table"),
    "no table": (None, lambda i, d: (b"x" * 100, d), "does not end as such a table"),
    "a flipped bit in the table": (None, lambda i, d: (i[:9] + bytes([i[9] ^ 1]) + i[10:], d), "another checksum"),
    "a flipped bit in the data": (None, lambda i, d: (i, d[:-5] + bytes([d[-5] ^ 1]) + d[-4:]), "another checksum"),
    "data cut off": (None, lambda i, d: (i, d[:-8]), "cut off"),
    "a place outside": (None, lambda i, d: (i[:-48] + b"\xff\xff\x7f\x10" * 2 + i[-40:], d), "outside of the file"),
    "slices": (_sliced, lambda i, d: (i, d), "divided into slices"),
    "a wrong size": (_longer, lambda i, d: (i, d), "another number of bytes than its shape"),
    "a place behind the data": (_behind, lambda i, d: (i, d), "cut off"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_checkpoints(tmp_path, kind):
    changed, change, words = DAMAGED[kind]
    index, data = change(*tf_checkpoints.write(tmp_path / "model", variables(length=64), changed=changed))
    (tmp_path / "model.index").write_bytes(index)
    (tmp_path / "model.data-00000-of-00001").write_bytes(data)
    with pytest.raises(NetworkFileError, match=words):
        load(tmp_path / "model.index")


def test_a_checkpoint_without_its_data(tmp_path):
    tf_checkpoints.write(tmp_path / "model", variables(length=64))
    (tmp_path / "model.data-00000-of-00001").unlink()
    with pytest.raises(NetworkFileError, match="data-00000-of-00001: there is no such file"):
        load(tmp_path / "model")


@pytest.fixture
def port(monkeypatch, tmp_path):
    """models.py of the port. Importing it makes a folder in the working directory, and seeds torch."""
    repo = os.environ.get("WAVEGAN_PYTORCH_REPO")
    if not repo:
        pytest.skip("set WAVEGAN_PYTORCH_REPO to a checkout of mostafaelaraby/wavegan-pytorch to compare with it")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(repo)
    before = set(sys.modules)
    yield importlib.import_module("models")
    for name in set(sys.modules) - before:
        if repo in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize("length", [16384, 32768, 65536])
@pytest.mark.parametrize("upsample", [False, True])
@pytest.mark.parametrize("norm", [False, True])
def test_the_port_itself(port, tmp_path, length, upsample, norm):
    """Its networks with random weights open here and agree to 1e-5, and it opens the file that is written of them."""
    torch.manual_seed(0)
    form = {"model_size": 2, "slice_len": length, "use_batch_norm": norm}
    G, D = port.WaveGANGenerator(upsample=upsample, **form), port.WaveGANDiscriminator(**form)
    for network in (G, D):
        for name, value in network.state_dict().items():
            if name.endswith("num_batches_tracked"):
                value.fill_(3 if norm else 0)
            elif "running" in name or "bias" in name or "batch_norm" in name or "bn1" in name:
                value.uniform_(0.5, 1.5)
    path = tmp_path / "port.pt"
    torch.save({"generator": G.eval().state_dict(), "discriminator": D.eval().state_dict(), "optimizer_g": {}}, path)
    net = load(path)
    z = torch.randn(2, 100)
    with torch.no_grad():
        theirs = G(z)
        assert_close("sounds", net.G(z).numpy(), theirs.numpy(), 1e-5)
        assert_close("scores", net.D(theirs[..., :length]).numpy(), D(theirs[..., :length]).numpy(), 1e-5)
    convert(net, tmp_path / "written.pt", "rosinality")
    written = torch.load(tmp_path / "written.pt", weights_only=True)
    G.load_state_dict(written["generator"], strict=False)
    D.load_state_dict(written["discriminator"], strict=False)
    assert written["generator"].keys() <= G.state_dict().keys()
    with torch.no_grad():
        assert_close("sounds of the written file", G(z).numpy(), theirs.numpy(), 1e-5)
