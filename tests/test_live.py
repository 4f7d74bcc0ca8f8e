"""Generators that official code has in memory: stand-ins of the same structure, and the repositories where they are given."""
# Takes at most 7 CPU seconds, or a minute with checkouts of all repositories.

import copy
import json
import os
import re
import subprocess
import sys
import types

import numpy as np
import PIL.Image
import pytest
import test_biggan
import torch

import stylegan_invert as si
from stylegan_invert.network_files.families import rosinality
from stylegan_invert.networks import discriminators, stylegan2, stylegan3

from conftest import make_network
from official import HERE, fill
from simulated_cuda import simulated_gpu

# Stand-ins: modules of classes that are not this package's, whose attributes and tensors are as in the official classes


def foreign(own, name):
    """A module with the parts and attributes of one of ours, whose class is none of ours."""
    methods = {k: v for k, v in vars(type(own)).items() if isinstance(v, types.FunctionType) and k != "__init__"}
    module = type(name, (torch.nn.Module,), {"forward": type(own).forward, **methods})()
    module.__dict__.update({k: copy.copy(v) for k, v in vars(own).items()})
    return module


def tree(tensors, forward, **attributes):
    """A module that has the tensors of a state dict at their places, and the attributes by their places."""
    root = torch.nn.Module()
    root.__class__ = type(
        "Generator", (torch.nn.Module,), {"forward": lambda self, *args, **kwargs: forward(*args, **kwargs)}
    )

    def part(path):
        module = root
        for name in path:
            if name not in module._modules:
                module.add_module(name, torch.nn.Module())
            module = module._modules[name]
        return module

    for name, value in tensors.items():
        *path, last = name.split(".")
        if last in ("weight", "bias", "gain", "gamma", "input", "weight_orig") and value.is_floating_point():
            part(path).register_parameter(last, torch.nn.Parameter(value.clone()))
        else:
            part(path).register_buffer(last, value.clone())
    for name, value in attributes.items():
        *path, last = name.split("__")
        setattr(part(path), last, value)
    return root


def nvidia2(**synthesis):
    return foreign(make_network(16, classes=3, num_fp16_res=2, conv_clamp=256, **synthesis).G, "Generator")


def nvidia3():
    torch.manual_seed(0)
    G = stylegan3.Generator(8, 0, 8, 16, 3, num_layers=6, channel_base=64, channel_max=8)
    return foreign(G.requires_grad_(False), "Generator")


def rosinalitys(lr_mul=0.02):
    G = stylegan2.Generator(8, 0, 8, 16, 3, mapping_kwargs={"num_layers": 2, "lr_multiplier": lr_mul},
                            synthesis_kwargs={"channel_base": 64, "channel_max": 8})  # fmt: skip
    fill(G.eval().requires_grad_(False), 1)
    tensors = rosinality._their_tensors(G, rosinality._generator_entries(2, G.synthesis.block_resolutions))
    # Their mapping has a factor of its own, which _their_tensors took to be 0.01.
    tensors |= {
        f"style.{i}.{part}": G.get_parameter(f"mapping.fc{i - 1}.{part}") for i in (1, 2) for part in ("weight", "bias")
    }

    def forward(styles, randomize_noise=True):
        assert not randomize_noise
        return G(styles[0], noise_mode="const"), None

    return tree(tensors, forward, style__1__lr_mul=lr_mul)


def brocks(tensors=None, eps=1e-4, forward=None, **attributes):
    tensors = test_biggan.plain() if tensors is None else tensors
    act = torch.nn.LeakyReLU(0.3)
    own = test_biggan.generator(tensors, bn_eps=eps, sn_eps=1e-12, activation="leaky_relu", slope=0.3)
    rows = tensors["shared.weight"]

    def forward_(z, y):
        return own(z, torch.linalg.lstsq(rows.t(), y.t()).solution.t())

    return tree(tensors, forward or forward_, activation=act, shared__forward=lambda c: rows[c], linear__eps=1e-12,
                blocks__0__0__bn1__eps=eps, **attributes)  # fmt: skip


def hugging_faces():
    own = test_biggan.folder(test_biggan.CONFIG, test_biggan.hugging_face())

    def forward(z, c, truncation):
        own.truncation = truncation
        return own(z, c)

    return tree(test_biggan.hugging_face(), forward, config=types.SimpleNamespace(**test_biggan.CONFIG))


STAND_INS = {"stylegan2": nvidia2, "stylegan3": nvidia3, "rosinality": rosinalitys, "biggan": brocks,
             "hugging face": hugging_faces}  # fmt: skip


def alike(ours, theirs):
    """True if two tensors use the same memory."""
    return ours.data_ptr() == theirs.data_ptr() and ours.shape.numel() == theirs.shape.numel()


@pytest.fixture(autouse=True)
def fewer_samples(monkeypatch):
    monkeypatch.setattr(rosinality, "W_AVG_SAMPLES", 250)


@pytest.mark.parametrize("kind", STAND_INS)
def test_a_module_is_used_and_left_as_it_was(kind):
    G = STAND_INS[kind]()
    G.train().requires_grad_(True)
    next(G.children()).training = False
    parts, flags = list(G.modules()), [p.requires_grad for p in G.parameters()]
    modes, before = [part.training for part in parts], {k: v.clone() for k, v in G.state_dict().items()}
    state = torch.get_rng_state()
    net = si.adopt(G)
    assert net.adopted.difference < 1e-5 and {*net.adopted.shared, *net.adopted.copied} == {
        f"G.{k}" for k in net.G.state_dict()
    }
    assert [part.training for part in G.modules()] == modes and [p.requires_grad for p in G.parameters()] == flags
    assert all(torch.equal(before[k], v) for k, v in G.state_dict().items()) and torch.equal(
        state, torch.get_rng_state()
    )
    assert not net.G.training and not any(p.requires_grad for p in net.G.parameters())
    assert net.file == "Generator in memory"


SHARED = {
    "stylegan2": ("mapping.w_avg", "synthesis.b8.conv0.weight", "synthesis.b16.conv1.noise_const"),
    "stylegan3": ("synthesis.input.freqs", "mapping.fc1.bias"),
    "rosinality": ("style.1.weight", "convs.0.conv.weight", "noises.noise_0"),
    "biggan": ("blocks.0.0.conv1.bias", "output_layer.0.stored_mean"),
    "hugging face": ("embeddings.weight", "generator.layers.0.bn_0.running_means"),
}


@pytest.mark.parametrize("kind", STAND_INS)
def test_tensors_of_the_same_form_are_shared(kind):
    G = STAND_INS[kind]()
    net = si.adopt(G)
    theirs = G.state_dict()
    ours = {name: net.G.state_dict()[name.removeprefix("G.")] for name in net.adopted.shared}
    for name in SHARED[kind]:
        assert any(alike(value, theirs[name]) for value in ours.values()), name
    for name in net.adopted.copied:
        value = net.G.state_dict()[name.removeprefix("G.")]
        assert not any(value.untyped_storage().data_ptr() == t.untyped_storage().data_ptr() for t in theirs.values()), (
            name
        )
    assert bool(net.adopted.copied) == (kind not in ("stylegan2", "stylegan3"))
    z = torch.randn(1, net.G.z_dim)
    c = (torch.eye(net.G.c_dim)[:1],) if net.G.c_dim else ()
    before = net.G(z, *c)
    with torch.no_grad():
        theirs[SHARED[kind][1]].add_(0.5)
    assert not torch.equal(net.G(z, *c), before)


def test_projecting_with_a_module_and_with_its_file_is_the_same(tmp_path):
    net, target = make_network(16), np.random.RandomState(0).randint(0, 256, [3, 16, 16]).astype(np.uint8)
    si.save(net, tmp_path / "g.pkl")
    run = dict(method="w", steps=3, loss="mse=1")
    expected = si.project(si.load(tmp_path / "g.pkl"), target, **run)
    G = foreign(net.G, "Generator").train()
    before = {k: v.clone() for k, v in G.state_dict().items()}
    found = si.project(G, target, **run)
    assert G.training and all(torch.equal(before[k], v) for k, v in G.state_dict().items())
    assert torch.equal(found.code.tensors["w"], expected.code.tensors["w"]) and torch.equal(
        found.distance, expected.distance
    )
    adopted = si.adopt(foreign(net.G, "Generator"), foreign(net.D, "Discriminator"))
    si.save(adopted, tmp_path / "again.pkl")
    again = si.load(tmp_path / "again.pkl")
    for ours, theirs in ((again.G, net.G), (again.D, net.D)):
        assert all(torch.equal(v, theirs.state_dict()[k]) for k, v in ours.state_dict().items())
    assert {name[:2] for name in adopted.adopted.shared} == {"G.", "D."} and not adopted.adopted.copied


def test_settings_are_those_of_the_moment():
    G = nvidia2()
    G.synthesis.b16.use_fp16, G.synthesis.b8.conv1.conv_clamp = False, 0.5
    G.synthesis.b16.torgb.conv_clamp, G.synthesis.b4.conv1.act_gain = None, np.float64(1.25)
    ours = si.adopt(G).G.synthesis
    assert not ours.b16.use_fp16 and ours.b8.use_fp16 and ours.b8.conv1.conv_clamp == 0.5
    assert ours.b16.torgb.conv_clamp is None and ours.b4.conv1.act_gain == 1.25
    assert si.adopt(rosinalitys(0.5)).G.mapping.fc1.bias_gain == 0.5
    for eps in (1e-5, 1e-2):
        ours = si.adopt(brocks(eps=eps)).G
        assert ours.blocks[1].bn2.eps == eps and ours.act.in_words == "leaky_relu with slope 0.3"
    assert si.adopt(hugging_faces(), assume={"truncation": 0.3}).G.truncation == 0.3


def test_standing_statistics_are_divided_as_the_module_does():
    tensors = test_biggan.plain(spelling="mybn")
    undivided = {k: torch.zeros(1) if k.endswith("counter") else v for k, v in tensors.items()}
    for standing, expected in ((True, tensors), (False, undivided)):
        places = ["output_layer__0", *(f"blocks__{i}__0__bn{j}" for i in (0, 1) for j in (1, 2))]
        flags = {f"{place}__bn__accumulate_standing": standing for place in places}
        G = brocks(tensors, **flags)
        found = si.adopt(G, check=False).G
        own = test_biggan.generator(expected, bn_eps=1e-4, activation="leaky_relu", slope=0.3)
        assert torch.equal(found.bn.mean, own.bn.mean) and torch.equal(found.blocks[1].bn2.var, own.blocks[1].bn2.var)


def test_what_is_ours_passes_through():
    net = make_network(8)
    for found in (si.adopt(net.G), si.adopt(net.G, net.D)):
        assert found.G is net.G and found["G"] is net.G and found.adopted is None and found.D in (None, net.D)
    with pytest.raises(si.NetworkFileError, match="truncation does not apply"):
        si.adopt(net.G, assume={"truncation": 0.4})
    found = si.adopt(net.G, foreign(net.D, "Discriminator"))
    assert (
        found.G is net.G and found.adopted.difference < 1e-6 and all(n.startswith("D.") for n in found.adopted.shared)
    )


class Wrapper(torch.nn.Module):
    """As torch.compile's: the module is its part "_orig_mod"."""

    def __init__(self, module):
        super().__init__()
        self._orig_mod = module


@pytest.mark.parametrize("wrap", [torch.nn.DataParallel, Wrapper])
def test_wrapped_modules_are_unwrapped(wrap):
    assert si.adopt(wrap(nvidia2())).adopted.shared


def test_a_module_that_computes_something_else_is_found():
    for change, reason in (
        (lambda x: x + 0.02, "its picture of seed 0 differs by 0.0.* and 0.001 is allowed.*check=False"),
        (lambda x: x * float("nan"), "not finite"),
        (lambda x: x[..., :8], "differs by inf"),
        (lambda x: 1 // 0, r"its forward failed \(ZeroDivisionError: .*check=False"),
    ):
        G = nvidia2()
        type(G).forward = lambda self, *a, change=change, **k: change(stylegan2.Generator.forward(self, *a, **k))
        with pytest.raises(si.NetworkFileError, match=f"^Generator in memory: G: .*{reason}"):
            si.adopt(G)
        assert si.adopt(G, check=False).adopted.difference is None
    D = foreign(make_network(16).D, "Discriminator")
    type(D).forward = lambda self, *args, **kwargs: 1 + discriminators.Discriminator.forward(self, *args, **kwargs)
    with pytest.raises(si.NetworkFileError, match="D: its score of seed 0 differs"):
        si.adopt(make_network(16).G, D)


def test_nothing_is_called_without_the_check():
    def fail(self, *args, **kwargs):
        raise AssertionError("it was called")

    for make in STAND_INS.values():
        G = make()
        for name in ("forward", "state_dict", "named_parameters", "parameters", "eval", "train", "to", "__call__"):
            setattr(type(G), name, fail)
        assert si.adopt(G, check=False).G.img_channels == 3


@pytest.mark.parametrize("change, reason", [
    (lambda G: setattr(G.synthesis.b8, "architecture", "resnet"), "G.synthesis.b8.architecture: is 'resnet'"),
    (lambda G: setattr(G.synthesis.b8, "resolution", torch.zeros(2)), "is '<Tensor>'"),
    (lambda G: setattr(G.synthesis.b8, "use_fp16", 3), "use_fp16: is 3; expected True or False"),
    (lambda G: G.synthesis.b8.add_module("more", torch.nn.Linear(1, 1)), "G.synthesis.b8: it has the parts .*more"),
    (lambda G: G.__dict__.update(_init_kwargs={**G._init_kwargs, "c_dim": 5}), "its arguments ask for"),
    (lambda G: setattr(G.synthesis.b8.conv0, "weight", torch.nn.Parameter(torch.zeros(3))), r"its shape is \(3,\)"),
    (lambda G: setattr(G.synthesis.b8, "resample_filter", torch.empty(4, 4, device="meta")), "lie on cpu and meta"),
])  # fmt: skip
def test_modules_that_do_not_fit_are_refused(change, reason):
    G = nvidia2()
    change(G)
    with pytest.raises(si.NetworkFileError, match=reason):
        si.adopt(G)


def test_values_that_a_module_does_not_state_are_checked():
    with pytest.raises(si.NetworkFileError, match="conv_clamp does not apply to this kind of file; it accepts no such"):
        si.adopt(nvidia2(), assume={"conv_clamp": 3})
    G = brocks()
    G.activation = torch.nn.Tanh()
    with pytest.raises(si.NetworkFileError, match="activation is assumed to be 'Tanh'; expected one of relu"):
        si.adopt(G)


def without(G, *names):
    for name in names:
        del G._modules[name]
    return G


@pytest.mark.parametrize("G, reason", [
    (without(nvidia2(), "mapping"), "as the generator; the nearest is the StyleGAN2 Generator of NVIDIA's.* it lacks mapping. Its"),
    (without(rosinalitys(), "to_rgb1"), "the nearest is the Generator of rosinality's .* it lacks to_rgb1.bias. Its"),
    (without(hugging_faces(), "embeddings"), "the BigGAN of pytorch-pretrained-BigGAN, and it lacks embeddings.weight. Its"),
    (without(brocks(), "activation", "linear"), "the Generator of BigGAN-PyTorch .* it lacks activation, linear.weight. Its"),
    (torch.nn.Linear(2, 2), "nearest is the protocol LatentGenerator of this package, and it lacks .*z_dim"),
    (torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), "a torch.jit.* in memory as the generator; the nearest is"),
    ("a text", "G is a str; expected a torch.nn.Module, the generator"),
])  # fmt: skip
def test_unknown_modules_are_told_the_nearest_kind(G, reason):
    with pytest.raises(TypeError, match=reason):
        si.adopt(G)


def test_unknown_discriminators_and_projections_are_told_it_too():
    with pytest.raises(
        TypeError, match=r"as the discriminator; the nearest is .* torch.save\(D.state_dict\(\), 'D.pt'\)"
    ):
        si.adopt(make_network(8).G, torch.nn.Linear(2, 2))
    with pytest.raises(TypeError, match="LatentGenerator"):
        si.project(torch.nn.Linear(2, 2), "x.png")


def test_half_precision_is_copied():
    net = si.adopt(nvidia3().half().float(), check=False)
    assert not net.adopted.copied
    G = hugging_faces().half()
    net = si.adopt(G, check=False)
    assert not net.adopted.shared and {v.dtype for v in net.G.state_dict().values()} == {torch.float32}
    assert G.embeddings.weight.dtype == torch.float16


@pytest.mark.parametrize("kind", STAND_INS)
def test_a_module_on_a_gpu_stays_there(kind):
    with simulated_gpu() as device:
        G = STAND_INS[kind]().to(device)
        net = si.adopt(G, check=kind in ("stylegan2", "stylegan3"))
        assert {value.device for value in net.G.state_dict().values()} == {device} == {p.device for p in G.parameters()}
        z, c = torch.randn(1, net.G.z_dim, device=device), torch.eye(max(net.G.c_dim, 1), device=device)[:1]
        assert (net.G(z, c) if net.G.c_dim else net.G(z)).device == device


# The repositories, where checkouts are given: the scripts of docs/live-modules.md run in them, with small networks

NVIDIA = """
import pickle, types, packaging.version
try:
    import pkg_resources
except ImportError:
    sys.modules["pkg_resources"] = types.SimpleNamespace(parse_version=packaging.version.parse)
from training import {module} as module
torch.manual_seed(0)
G = module.Generator(16, 0, 16, 16, 3, **{arguments})
try:
    from training.networks_stylegan2 import Discriminator
except ImportError:
    from training.networks import Discriminator
D = Discriminator(0, 16, 3, channel_base=128, channel_max=16)
with open("network.pkl", "wb") as f:
    pickle.dump(dict(G=G, D=D, G_ema=G, training_set_kwargs=None, augment_pipe=None), f)
"""
ROSINALITY = """
import torch.utils.cpp_extension
torch.utils.cpp_extension.load = lambda *args, **kwargs: None  # compiles for CUDA; on a CPU their code does without it
from model import Generator
torch.save({"g_ema": Generator(16, 16, 2).state_dict()}, "checkpoint.pt")
"""
BROCK = """
from BigGAN import Generator
G = Generator(resolution=32, G_ch=8, dim_z=16, hier=True, shared_dim=8, n_classes=1000, no_optim=True)
torch.save(G.state_dict(), "G_ema.pth")
"""
HUGGING_FACE = """
import types
for name in ("boto3", "botocore", "botocore.exceptions"):  # they download
    sys.modules.setdefault(name, types.ModuleType(name))
sys.modules["botocore.exceptions"].ClientError = OSError
from pytorch_pretrained_biggan import BigGAN, BigGANConfig
config = BigGANConfig(32, 8, 8, 4, 1000, [[False, 16, 16], [True, 16, 8], [True, 8, 4], [False, 4, 2], [True, 2, 1]], 2)
torch.manual_seed(0)
G = BigGAN(config)
torch.nn.init.ones_(G.generator.bn.weight), torch.nn.init.zeros_(G.generator.bn.bias)  # the file has numbers there, the class none
os.makedirs("biggan-deep-128")
torch.save(G.state_dict(), "biggan-deep-128/pytorch_model.bin")
open("biggan-deep-128/config.json", "w").write(config.to_json_string())
"""
SMALL = {"channel_base": 128, "channel_max": 16}
SCRIPTS = {
    "ada": ("STYLEGAN2_ADA_REPO", "NVlabs/stylegan2-ada-pytorch", 0,
            NVIDIA.format(module="networks", arguments={"synthesis_kwargs": {**SMALL, "num_fp16_res": 2, "conv_clamp": 256}})),
    "stylegan3, StyleGAN2": ("STYLEGAN3_REPO", "NVlabs/stylegan3", 0,
                             NVIDIA.format(module="networks_stylegan2", arguments={**SMALL, "num_fp16_res": 2})),
    "stylegan3": ("STYLEGAN3_REPO", "NVlabs/stylegan3", 0,
                  NVIDIA.format(module="networks_stylegan3", arguments={**SMALL, "num_layers": 6})),
    "rosinality": ("ROSINALITY_REPO", "rosinality/stylegan2-pytorch", 1, ROSINALITY),
    "biggan": ("BIGGAN_REPO", "ajbrock/BigGAN-PyTorch", 2, BROCK),
    "hugging face": ("HF_BIGGAN_REPO", "huggingface/pytorch-pretrained-BigGAN", 3, HUGGING_FACE),
}  # fmt: skip
SMALLER = {"1000).save": "4).save", "steps=100)": "steps=4)", "Generator(256, 512, 8)": "Generator(16, 16, 2)",
           "resolution=128, G_ch=96, dim_z=120": "resolution=32, G_ch=8, dim_z=16", "shared_dim=128": "shared_dim=8"}  # fmt: skip
HEAD = """
import os, sys, torch
sys.path.insert(1, {root!r})
"""
FOOT = """
import stylegan_invert as si
module = next(value for value in (globals().get("g_ema"), globals().get("G")) if value is not None)
about = si.adopt(module).adopted
print(len(about.shared), len(about.copied), about.difference)
"""


ADOPT = """
    import stylegan_invert as si
    si.project(G, "photo.png", method="w", steps=4, seed=303).save("out")
"""
OWN = {
    "projector.py of ada": ("ada", "projector.py", "    return\n", ["--target=photo.png", "--outdir=out"]),
    "generate.py of ada": ("ada", "generate.py", "", ["--seeds=0", "--outdir=seeds"]),
    "gen_images.py of stylegan3": ("stylegan3", "gen_images.py", "", ["--seeds=0", "--outdir=seeds"]),
}  # name: the repository, its script, what ends the script after the two lines, and arguments
FILES = ("network.pkl", "photo.png", "out", "seeds", "checkpoint.pt", "G_ema.pth", "biggan-deep-128")


def run_inside(name, script, folder):
    """Run a script from the folder of a checkout, in a process of its own; its files are in another folder."""
    variable, repository, _, setup = SCRIPTS[name]
    repo = os.environ.get(variable)
    if not repo:
        pytest.skip(f"set {variable} to a checkout of {repository} to run the script in it")
    pixels = np.random.RandomState(0).randint(0, 256, [32, 32, 3]).astype(np.uint8)
    PIL.Image.fromarray(pixels).save(folder / "photo.png")
    code = HEAD.format(root=str(HERE.parent)) + setup + script
    code = re.sub(rf"(?<=[\"=])(?=(?:{'|'.join(map(re.escape, FILES))})[\"/])", f"{folder}/", code)
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, cwd=repo, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    for file in ("proj.png", "target.png", "result.json"):
        assert (folder / "out" / file).is_file()
    return done.stdout


def assert_as_with_the_file(folder):
    """A projection has the code that the network's file gives, to the last bit."""
    expected = si.project(si.load(folder / "network.pkl"), folder / "photo.png", method="w", steps=4, seed=303)
    with np.load(folder / "out" / "projected_w.npz") as found:
        np.testing.assert_array_equal(
            found["w"][0, 0], expected.code.tensors["w"][0].flatten().numpy()[: found["w"].shape[2]]
        )


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_scripts_of_the_documentation_run_in_the_repositories(name, tmp_path):
    page, number = (HERE.parent / "docs" / "live-modules.md").read_text(), SCRIPTS[name][2]
    script = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[number]
    for usual, small in SMALLER.items():
        script = script.replace(usual, small)
    shared, _, difference = run_inside(name, script + FOOT, tmp_path).split("\n")[-2].split()
    assert int(shared) > 10 and float(difference) < 1e-5
    if number == 0:
        assert_as_with_the_file(tmp_path)


@pytest.mark.parametrize("name", OWN)
def test_two_lines_work_within_scripts_of_the_repositories(name, tmp_path):
    """They follow the line in which the script loads G. The script goes on with G; projector.py ends there."""
    repository, file, end, arguments = OWN[name]
    more = f"""
sys.modules.setdefault("imageio", types.ModuleType("imageio"))  # not used, and perhaps not here
import re
text, count = re.subn(r"(\\n +G = legacy.load_network_pkl.*\\n)", lambda m: m[1] + {ADOPT + end!r}, open({file!r}).read())
assert count == 1
text = text.replace("torch.device('cuda')", "torch.device('cpu')")
sys.argv = {json.dumps([file, "--network=network.pkl", *arguments])}
exec(compile(text, {file!r}, "exec"), {{"__name__": "__main__"}})
"""
    run_inside(repository, more, tmp_path)
    assert end or (tmp_path / "seeds" / "seed0000.png").is_file()
    assert_as_with_the_file(tmp_path)
