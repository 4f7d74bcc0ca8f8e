"""State dicts of DCGANs whose tensors do not decide the architecture: exact, asked for, or refused, never guessed unsaid."""
# Takes at most 12 CPU seconds.

import random

import pytest
import torch
from torch import nn

import stylegan_invert as si
from stylegan_invert.generator import adapt
from stylegan_invert.network_files.families.dcgan import label_size
from stylegan_invert.networks.dcgan import DCGAN


def saved(net, tmp_path):
    torch.save(net.state_dict(), tmp_path / "g.pt")
    return tmp_path / "g.pt"


def initialised(net, seed=0):
    torch.manual_seed(seed)
    for p in net.parameters():
        p.data.normal_(0, 0.3)
    for m in net.modules():
        if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 1.5)
    return net.eval().requires_grad_(False)


def block(layer, norm=True):
    return [layer, *([nn.BatchNorm2d(layer.out_channels)] if norm else []), nn.ReLU()]


UPSAMPLE = nn.Upsample(scale_factor=2)
CASES = {
    "upsample and convolve": (
        [*block(nn.ConvTranspose2d(6, 8, 4)), UPSAMPLE, *block(nn.Conv2d(8, 5, 3, 1, 1)), UPSAMPLE,
         nn.Conv2d(5, 3, 3, 1, 1)],
        {"upsample": "1/2/2"}, 16, "do not say where",
    ),
    "bilinear, once": (
        [*block(nn.ConvTranspose2d(6, 8, 4)), nn.Upsample(scale_factor=4, mode="bilinear"),
         *block(nn.Conv2d(8, 5, 3, 1, 1)), nn.Conv2d(5, 3, 5, 1, 2)],
        {"upsample": [1, 4, 1], "upsample_mode": "bilinear"}, 16, "do not say where",
    ),
    "stride 4": (
        [*block(nn.ConvTranspose2d(6, 8, 4)), *block(nn.ConvTranspose2d(8, 5, 4, 2, 1)),
         nn.ConvTranspose2d(5, 3, 4, 4)],
        {"strides": "1/2/4"}, 32, None,
    ),
    "kernel 3, stride 1": (
        [*block(nn.ConvTranspose2d(6, 8, 4)), *block(nn.ConvTranspose2d(8, 8, 3, 1, 1)),
         nn.ConvTranspose2d(8, 3, 4, 2, 1)],
        {"kinds": "transposed", "strides": "1/1/2"}, 8, "transposed and a plain",
    ),
    "the same as a plain convolution": (
        [*block(nn.ConvTranspose2d(6, 8, 4)), *block(nn.Conv2d(8, 8, 3, 1, 1)), nn.ConvTranspose2d(8, 3, 4, 2, 1)],
        {"kinds": "transposed/conv/transposed"}, 8, "transposed and a plain",
    ),
    "28 pixels": (
        [*block(nn.ConvTranspose2d(6, 8, 3, 2)), *block(nn.ConvTranspose2d(8, 7, 4, 1)),
         *block(nn.ConvTranspose2d(7, 5, 3, 2)), nn.ConvTranspose2d(5, 1, 4, 2)],
        {"strides": "2/1/2/2", "paddings": 0}, 28, "do not say their strides",
    ),
    "kernel 5 with output padding": (
        [*block(nn.ConvTranspose2d(6, 8, 4)), *block(nn.ConvTranspose2d(8, 5, 5, 2, 2, 1)),
         nn.ConvTranspose2d(5, 3, 5, 2, 2, 1)],
        {"strides": 2.0}, 16, "do not say their strides",
    ),
    "kernel 6 from 6x6": (
        [*block(nn.ConvTranspose2d(6, 8, 6), norm=False), *block(nn.ConvTranspose2d(8, 5, 6, 2, 2), norm=False),
         nn.ConvTranspose2d(5, 3, 6, 4, 1)],
        {"strides": "1/2/4"}, 48, "do not say their strides",
    ),
    "48 pixels of 3x3": (
        [*block(nn.ConvTranspose2d(6, 8, 3)), *block(nn.ConvTranspose2d(8, 5, 4, 2, 1)),
         nn.ConvTranspose2d(5, 3, 4, 2, 1)],
        {}, 12, None,
    ),
    "28 pixels of a dense layer": (
        [nn.Linear(6, 8 * 49), nn.BatchNorm1d(8 * 49), nn.ReLU(), nn.Unflatten(1, (8, 7, 7)),
         *block(nn.ConvTranspose2d(8, 5, 5, 1, 2)), nn.ConvTranspose2d(5, 1, 5, 4, 2, 3)],
        {"strides": "1/4", "paddings": 2, "output_paddings": "0/3"}, 28, "do not say their strides",
    ),
    "PyTorch-GAN": (
        [nn.Linear(6, 8 * 16), nn.Unflatten(1, (8, 4, 4)), nn.BatchNorm2d(8), UPSAMPLE, nn.Conv2d(8, 8, 3, 1, 1),
         nn.BatchNorm2d(8), nn.LeakyReLU(0.2), UPSAMPLE, nn.Conv2d(8, 3, 3, 1, 1)],
        {"upsample": 2, "kinds": "conv", "activation": "linear/lrelu"}, 16, "transposed and a plain|8x8",
    ),
}  # fmt: skip


def rendered(net, z):
    x = z if isinstance(net[0], nn.Linear) else z[:, :, None, None]
    return torch.tanh(net(x))


@pytest.mark.parametrize("name", CASES)
def test_what_tensors_leave_open_is_asked_for(name, tmp_path):
    layers, assume, side, question = CASES[name]
    net = initialised(nn.Sequential(*layers))
    path = saved(net, tmp_path)
    G = si.load(path, assume).G
    z = torch.randn([3, 6], generator=torch.Generator().manual_seed(1))
    assert G.img_resolution == side
    torch.testing.assert_close(G(z), rendered(net, z), rtol=0, atol=1e-6)
    if question is not None:
        with pytest.raises(si.NetworkFileError, match=question):
            si.load(path)
    else:
        assert "strides" in si.load(path).info["assumed"]  # what was guessed is said
    for word in ("strides", "enlarged by") if assume else ():
        if word.split()[0] in "".join(assume):
            assert word in si.load(path, assume).info["assumed"]
    # Everything is kept in a safetensors file, which asks for nothing.
    from stylegan_invert.network_files.safetensors_file import write

    write(si.load(path, assume), tmp_path / "g.safetensors")
    assert torch.equal(si.load(tmp_path / "g.safetensors").G(z), G(z))


@pytest.mark.parametrize("seed", [*range(12), *(pytest.param(s, marks=pytest.mark.slow) for s in range(12, 300))])
def test_random_architectures_are_right_or_refused(seed, tmp_path):
    rng = random.Random(seed)
    z_dim, channels = rng.randint(2, 9), [rng.randint(2, 9) for _ in range(rng.randint(1, 4))] + [rng.choice([1, 3, 4])]
    bias, first = rng.random() < 0.5, rng.choice(["transposed", "dense"])
    side = rng.choice([3, 4, 5, 7])
    names = {key: [] for key in ("kinds", "strides", "paddings", "output_paddings", "upsample")}
    layers = [nn.ConvTranspose2d(z_dim, channels[0], side, bias=bias)]
    if first == "dense":
        layers = [nn.Linear(z_dim, channels[0] * side**2), nn.Unflatten(1, (channels[0], side, side))]
    else:
        for key, value in zip(names, ("transposed", 1, 0, 0, 1)):
            names[key].append(value)
    layers.append(nn.ReLU())
    for i, o in zip(channels, channels[1:]):
        kind, factor = rng.choice(["transposed", "conv"]), rng.choice([1, 1, 2])
        k = rng.choice([1, 3, 4, 5, 6] if kind == "transposed" else [1, 3, 5])
        s = rng.choice([1, 2, 4]) if kind == "transposed" else 1
        p = min(rng.randint(0, 2), (k - 1) // 2)
        extra = rng.randrange(s)
        layers += [nn.Upsample(scale_factor=factor)] if factor > 1 else []
        more = {"output_padding": extra} if kind == "transposed" else {}
        make = nn.ConvTranspose2d if kind == "transposed" else nn.Conv2d
        layers.append(make(i, o, k, s, p, bias=bias, **more))
        layers += [nn.BatchNorm2d(o), nn.ReLU()] if o is not channels[-1] and rng.random() < 0.7 else [nn.ReLU()]
        for key, value in zip(names, (kind, s, p, more.get("output_padding", 0), factor)):
            names[key].append(value)
    if len(channels) == 1:
        layers += [nn.Conv2d(channels[0], 3, 1), nn.ReLU()]
        for key, value in zip(names, ("conv", 1, 0, 0, 1)):
            names[key].append(value)
    net = initialised(nn.Sequential(*layers[:-1]), seed)
    path, z = saved(net, tmp_path), torch.randn([2, z_dim], generator=torch.Generator().manual_seed(seed))
    try:
        wanted = rendered(net, z)
    except RuntimeError:  # a map of no pixels
        return
    if wanted.shape[2] != wanted.shape[3]:
        return
    G = si.load(path, {key: "/".join(map(str, values)) for key, values in names.items()}).G
    torch.testing.assert_close(G(z), wanted, rtol=0, atol=1e-5)
    try:
        plain = si.load(path)
    except si.NetworkFileError as e:
        assert "--assume" in e.reason
    else:  # said, if it was guessed
        assert "strides" in plain.assumed


@pytest.mark.parametrize("assume, reason", [
    ({"strides": "1/2"}, "2 entries for the 3 convolutions 0, 3, 6"), ({"strides": "1/2/x"}, "expected None or whole"),
    ({"strides": "1/2/99"}, "whole numbers from 1 to 64"), ({"kinds": "up"}, "expected None or words"),
    ({"upsample": "1/64/64"}, "65536 pixels"), ({"classes": 6}, "describe no network: 6 classes"),
    ({"strides": "1/1/2"}, "need the paddings"), ({"paddings": 30}, "describe no network"),
    ({"activation": "relu/relu/relu"}, "3 activations for 3 layers"), ({"classes_first": "maybe"}, "expected yes or no"),
])  # fmt: skip
def test_assumptions_that_make_no_sense(assume, reason, tmp_path):
    net = nn.Sequential(*block(nn.ConvTranspose2d(6, 8, 4)), *block(nn.ConvTranspose2d(8, 5, 4, 2, 1)),
                        nn.ConvTranspose2d(5, 3, 4, 2, 1))  # fmt: skip
    with pytest.raises(si.NetworkFileError, match=reason):
        si.load(saved(initialised(net), tmp_path), assume)


def test_names_say_which_convolutions_are_transposed(tmp_path):
    """As in the code of WGAN, where "convt" and "conv" are parts of the names."""
    layers = {"initial.convt": nn.ConvTranspose2d(6, 8, 4), "extra.conv": nn.Conv2d(8, 8, 3, 1, 1),
              "final.convt": nn.ConvTranspose2d(8, 3, 4, 2, 1)}  # fmt: skip
    state = {f"{name}.{k}": v for name, layer in layers.items() for k, v in layer.state_dict().items()}
    torch.save(state, tmp_path / "g.pt")
    assert [layer.kind for layer in si.load(tmp_path / "g.pt").G.layers] == ["transposed", "conv", "transposed"]


def trained(first_stride, z_of, tmp_path, inputs=6):
    """A network whose normalisations have seen 200 batches."""
    net = nn.Sequential(*block(nn.ConvTranspose2d(inputs, 16, 4)),
                        *block(nn.ConvTranspose2d(16, 12, 4, first_stride, 1 if first_stride == 2 else 0)),
                        *block(nn.ConvTranspose2d(12, 8, 4, 2, 1)), nn.ConvTranspose2d(8, 3, 4, 2, 1))  # fmt: skip
    net = initialised(net).train()
    for _ in range(200):
        net(z_of(32)[:, :, None, None])
    return saved(net.eval(), tmp_path), net


def test_statistics_that_do_not_fit_the_usual_strides(tmp_path):
    torch.manual_seed(0)
    path, net = trained(2, lambda n: torch.randn(n, 6), tmp_path)
    z = torch.randn(2, 6)
    torch.testing.assert_close(si.load(path).G(z), rendered(net, z), rtol=0, atol=1e-6)
    si.load(trained(2, lambda n: torch.rand(n, 6) * 2 - 1, tmp_path)[0])  # the prior does not matter
    path, net = trained(4, lambda n: torch.randn(n, 6), tmp_path)
    with pytest.raises(si.NetworkFileError, match="do not fit the usual strides"):
        si.load(path)
    torch.testing.assert_close(si.load(path, {"strides": "1/4/2/2"}).G(z), rendered(net, z), rtol=0, atol=1e-6)
    assert "strides 1/2/2/2" in si.load(path, {"strides": "1/2/2/2"}).assumed  # what the user says is taken


@pytest.mark.parametrize("first", [False, True])
def test_a_label_inside_z(first, tmp_path):
    """It is hinted at where the statistics show it, and can be said; the network then has classes."""
    torch.manual_seed(0)
    classes = 3

    def joined(z, c):
        return torch.cat([c, z] if first else [z, c], dim=1)

    def z_of(n):
        return joined(torch.randn(n, 6), torch.eye(classes)[torch.randint(classes, [n])])

    path, net = trained(2, z_of, tmp_path, inputs=9)
    hint = "classes=3,classes_first=yes" if first else "classes=3"
    assert si.load(path).info["assumed"].endswith(f"give --assume {hint}, a normal prior of z")
    network = si.load(path, {"classes": 3.0, "classes_first": "yes" if first else "no"})
    z, c = torch.randn(4, 6), torch.eye(classes)[[0, 1, 2, 1]]
    torch.testing.assert_close(network.G(z, c), rendered(net, joined(z, c)), rtol=0, atol=1e-6)
    info = network.info
    assert info["classes"] == 3 and info["spaces"] == {"z": [6]} and "label of 3 classes" in info["assumed"]
    with pytest.raises(ValueError, match="c has shape None"):
        network.G(z)
    target = ((network.G(z[:1], c[1:2])[0].clamp(-1, 1) + 1) * 127.5).to(torch.uint8)
    found = si.project(network, target, "z", class_idx="search", steps=30, loss="mse=1", restarts=2)
    assert found.record["options"]["class"] == 1 and found.distance[-1] < found.distance[0]
    si.project(network, target, "dense", class_idx=1, steps=2, layer_steps=2, loss="mse=1")
    assert adapt(network.G).center("f:dense", c[:1]).tensors["h"].shape == (1, 16, 4, 4)


def test_a_label_is_found_only_where_there_is_one():
    for classes, first in ((0, False), (2, False), (10, True), (7, False)):
        torch.manual_seed(classes)
        dense = nn.Linear(20 + classes, 64, bias=False)
        mean = torch.full([classes], 1 / max(classes, 1))
        inputs = torch.cat([mean, torch.zeros(20)] if first else [torch.zeros(20), mean]) + 0.003 * torch.randn(
            20 + classes
        )
        norm = nn.BatchNorm1d(64)
        norm.running_mean = dense(inputs).detach()
        assert label_size(dense, norm) == (classes, first)
    assert label_size(nn.Linear(20, 6), nn.BatchNorm1d(6)) is None


def test_old_safetensors_files_have_layers_without_geometry():
    layers = [dict(kind="transposed", in_channels=5, out_channels=4, kernel=3, bias=True, norm="channels", affine=True),
              dict(kind="transposed", in_channels=4, out_channels=3, kernel=5, bias=True, norm="none", affine=True)]  # fmt: skip
    assert DCGAN(layers).eval()(torch.zeros(1, 5)).shape == (1, 3, 6, 6)
