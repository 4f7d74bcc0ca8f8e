"""This project's discriminator and loss inside the training loops of stylegan2-ada-pytorch and stylegan3."""
# Takes at most 15 CPU seconds.

import collections
import copy
import importlib
import json
import os
import pickle
import subprocess
import sys
import types
from pathlib import Path

import click
import numpy as np
import PIL.Image
import pytest
import torch

import stylegan_invert as si
from stylegan_invert.cli import official_train
from stylegan_invert.errors import TrainingError
from stylegan_invert.network_files.machine.persistence import module_call
from stylegan_invert.networks.direction import latent_weights
from stylegan_invert.networks.stylegan2 import Generator
from stylegan_invert.training import official

from official import HERE

SHAPE = dict(c_dim=0, img_resolution=16, img_channels=3)
SIZES = dict(channel_base=64, channel_max=8)
D_KWARGS = dict(
    class_name="training.networks.Discriminator",
    block_kwargs={},
    mapping_kwargs={},
    epilogue_kwargs={"mbstd_group_size": 4},
)


class OfficialGenerator(Generator):
    """A generator with the calls of stylegan3's, which is pickled as official files hold it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.__dict__["moved"] = []

    def call(self, part, moving):
        def called(*args, update_emas=False, **kwargs):
            self.moved.append((part, update_emas))
            self.training = update_emas
            return moving(*args, **kwargs)

        return called

    @property
    def as_stylegan3(self):
        """What the loop of stylegan3 would hand over: mapping and synthesis know ``update_emas``."""
        mapping = self.call("mapping", lambda z, c: self.mapping(z, c, skip_w_avg_update=not self.training))
        mapping.fc0 = self.mapping.fc0
        return types.SimpleNamespace(mapping=mapping, synthesis=self.call("synthesis", self.synthesis))


@pytest.fixture
def repository(monkeypatch):
    """The two modules of an official checkout that snapshots and losses need, in our own words; returns the reports."""
    reports = collections.defaultdict(list)
    persistence, stats = types.ModuleType("torch_utils.persistence"), types.ModuleType("torch_utils.training_stats")

    def _reconstruct_persistent_obj(meta):
        raise AssertionError("nothing here opens a pickle by running it")

    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    persistence._reconstruct_persistent_obj = _reconstruct_persistent_obj
    stats.report = lambda name, value: reports[name].append(value)
    for name, module in {
        "torch_utils": types.ModuleType("torch_utils"),
        persistence.__name__: persistence,
        stats.__name__: stats,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    return reports


def construct(class_name, **kwargs):
    """As ``dnnlib.util.construct_class_by_name``."""
    module, _, name = class_name.rpartition(".")
    return getattr(importlib.import_module(module), name)(**kwargs)


def run(loop, steps=3, resume_pkl=None, snapshot=None):
    """What the official loops do with the networks and the loss, for a few steps; returns the networks and the loss.

    Args:
        loop: "stylegan2-ada" or "stylegan3", which hand over other things.
        steps: steps of 4 pictures in two rounds.
        resume_pkl: the loop's argument.
        snapshot: the file to write at the end.
    """
    torch.manual_seed(0)
    three = loop == "stylegan3"
    name = "training.networks_stylegan2.Generator" if three else "training.networks.Generator"
    arguments = dict(
        G_kwargs=dict(class_name=name, z_dim=7), D_kwargs=dict(D_KWARGS, **SIZES), num_gpus=1, resume_pkl=resume_pkl
    )
    arguments["loss_kwargs"] = dict(
        class_name="training.loss.StyleGAN2Loss", r1_gamma=1.0, style_mixing_prob=0.5, pl_weight=2
    )
    arguments["loss_kwargs"] |= dict(pl_no_weight_grad=True) if three else {}
    new = official.replaced(arguments, embedding_weight=2.0)
    assert arguments["loss_kwargs"]["class_name"].startswith("training.") and json.dumps(new)
    G = OfficialGenerator(
        z_dim=7, w_dim=8, mapping_kwargs=dict(num_layers=2), synthesis_kwargs=SIZES, **SHAPE
    ).requires_grad_(False)
    D = construct(**new["D_kwargs"], **SHAPE).train().requires_grad_(False)
    handed = dict(G=G.as_stylegan3) if three else dict(G_mapping=G.mapping, G_synthesis=G.synthesis)
    loss = construct(device=torch.device("cpu"), D=D, augment_pipe=None, **handed, **new["loss_kwargs"])
    optimisers = {"G": torch.optim.Adam(G.parameters(), 0.002), "D": torch.optim.Adam(D.parameters(), 0.002)}
    for step in range(steps):
        for phase in ("Gmain", "Greg", "Dmain", "Dreg"):
            module = G if phase[0] == "G" else D
            optimisers[phase[0]].zero_grad(set_to_none=True)
            module.requires_grad_(True)
            for _ in range(2):
                further = dict(cur_nimg=4 * step) if three else dict(sync=False)
                data = dict(real_img=torch.randn(2, 3, 16, 16), real_c=torch.zeros(2, 0), gen_z=torch.randn(2, 7))
                loss.accumulate_gradients(phase=phase, gen_c=torch.zeros(2, 0), gain=1, **data, **further)
            module.requires_grad_(False)
            assert phase == "Dreg" or all(p.grad is not None for p in module.parameters()), phase
            optimisers[phase[0]].step()
    if snapshot is not None:
        contents = dict(training_set_kwargs=dict(path="x"))
        for key, module in [("G", G), ("D", D), ("G_ema", G), ("augment_pipe", None)]:
            module = None if module is None else copy.deepcopy(module).eval().requires_grad_(False).cpu()
            contents[key] = official._Written(module_call(module)) if key[0] == "G" else module
        with open(snapshot, "wb") as f:
            pickle.dump(contents, f)
    return G, D, loss


OfficialGenerator.__name__ = "Generator"  # as the class is called in official files
LOOPS = ["stylegan2-ada", "stylegan3"]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_snapshot_of_an_official_loop_opens_here_with_its_head_and_resumes(loop, repository, tmp_path):
    path = tmp_path / "network-snapshot.pkl"
    G, D, loss = run(loop, snapshot=path)
    net = si.load(str(path))
    img = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(net.direction.invert(img), D.average.invert(img))
        assert not torch.equal(net.direction.invert(img), D.eval().invert(img))
        assert torch.equal(net["D"](img, None), D.trunk(img, None))
    assert net.direction.z_dim == net.G.z_dim == 7 and net.info["direction_embedding"]
    # The same file written here, and read again.
    si.save(net, tmp_path / "again.pkl")
    again = si.load(str(tmp_path / "again.pkl"))
    assert all(
        torch.equal(a, b) for a, b in zip(again.direction.state_dict().values(), net.direction.state_dict().values())
    )
    _, resumed, loss = run(loop, steps=0, resume_pkl=str(path))
    assert all(torch.equal(a, b) for a, b in zip(resumed.state_dict().values(), D.state_dict().values()))
    assert all(
        torch.equal(a, b) for a, b in zip(resumed.average.state_dict().values(), D.average.state_dict().values())
    )


@pytest.mark.parametrize(
    ("wrong", "says"), [("text", "not a table of tensors"), ({"direction": {}}, "expected ema and outputs")]
)
def test_a_damaged_head_beside_the_discriminator_is_refused(wrong, says, repository, tmp_path):
    G, D, _ = run("stylegan3", steps=0)
    record = module_call(D.trunk)
    record.args[0]["state"]["stylegan_invert"] = wrong
    with open(tmp_path / "x.pkl", "wb") as f:
        pickle.dump({"G": None, "D": official._Written(record), "G_ema": official._Written(module_call(G))}, f)
    with pytest.raises(si.NetworkFileError, match=says):
        assert si.load(str(tmp_path / "x.pkl")).direction


@pytest.mark.parametrize("loop", LOOPS)
def test_values_are_reported_where_the_official_loop_reads_them(loop, repository):
    G, D, loss = run(loop, steps=1)
    assert set(repository) >= {
        "Loss/signs/real",
        "Loss/scores/fake",
        "Loss/angle",
        "Loss/loss/embedding",
        "Loss/r1_penalty",
    }
    assert set(torch.cat(repository["Loss/signs/real"]).flatten().tolist()) <= {-1.0, 1.0}
    assert float(loss.loss.pl_mean) != 0 and float(G.mapping.w_avg.abs().max()) > 0
    if loop == "stylegan3":  # its running means move in Dmain only
        calls = [moving for part, moving in G.moved if part == "synthesis"]
        assert sum(calls) == 4 and not any(calls[: len(calls) // 2])


def test_new_weights_of_the_mapping_network_are_those_that_a_head_needs(repository):
    fresh, _, _ = run("stylegan2-ada", steps=0)
    torch.manual_seed(0)
    plain = Generator(z_dim=7, w_dim=8, mapping_kwargs=dict(num_layers=2), synthesis_kwargs=SIZES, **SHAPE)
    assert torch.allclose(fresh.mapping.fc0.weight, plain.mapping.fc0.weight * latent_weights(7))


def test_what_this_discriminator_cannot_do_is_said(repository, tmp_path):
    two = dict(G_kwargs=dict(class_name="training.networks.Generator"), D_kwargs={}, loss_kwargs={}, num_gpus=2)
    with pytest.raises(TrainingError, match="use one GPU"):
        official.replaced(two)
    with pytest.raises(TrainingError, match="--cfg stylegan3-r"):
        official.HeadLoss(torch.device("cpu"), official.HeadDiscriminator(7, **SHAPE, **SIZES), blur_init_sigma=10)
    with pytest.raises(TrainingError, match="expected D_kwargs.class_name to be"):
        official.HeadLoss(torch.device("cpu"), torch.nn.Linear(1, 1))
    with pytest.raises(TrainingError, match="has no direction head"):
        official.HeadDiscriminator(7, "cats32", **SHAPE, **SIZES)
    with pytest.raises(TrainingError, match="is of other sizes"):
        official.HeadDiscriminator(7, "cats32-de", **SHAPE, **SIZES)
    with pytest.raises(click.UsageError, match="train.py is not in it"):
        official_train.train_of(str(tmp_path))


def test_the_arguments_of_both_official_commands_are_replaced(repository):
    """Stand-ins for the functions through which the arguments of the two train.py pass."""
    arguments = {
        "G_kwargs": {"class_name": "training.networks.Generator"},
        "D_kwargs": {"class_name": "D"},
        "loss_kwargs": {},
    }
    ada = types.ModuleType("train")
    ada.setup_training_loop_kwargs = lambda **options: ("cats-auto1", {**arguments, "options": options})
    official_train.replace(ada, {"embedding_weight": 3.0})
    name, made = ada.setup_training_loop_kwargs(gpus=1)
    assert name == "cats-auto1-head" and made["options"] == {"gpus": 1}
    launched = []
    three = types.ModuleType("train")
    three.launch_training = lambda c, desc, outdir, dry_run: launched.append((c, desc, outdir, dry_run))
    official_train.replace(three, {"embedding_weight": 3.0})
    three.launch_training(c=copy.deepcopy(arguments), desc="cats", outdir="o", dry_run=True)
    assert launched[0][1:] == ("cats-head", "o", True)
    for new in (made, launched[0][0]):
        assert (
            new["D_kwargs"]["class_name"] == official.D_CLASS
            and new["loss_kwargs"]["class_name"] == official.LOSS_CLASS
        )
        assert new["loss_kwargs"]["embedding_weight"] == 3.0
    other = types.ModuleType("train")
    other.__file__ = "train.py"
    with pytest.raises(click.UsageError, match="neither"):
        official_train.replace(other, {})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variable", "options"),
    [
        ("STYLEGAN2_ADA_REPO", ["--cfg=auto"]),
        ("STYLEGAN3_REPO", ["--cfg=stylegan2", "--gamma=1", "--cbase=1024", "--cmax=32", "--workers=1"]),
        ("STYLEGAN3_REPO", ["--cfg=stylegan3-t", "--gamma=1", "--cbase=1024", "--cmax=32", "--workers=1"]),
    ],
)
def test_official_train_trains_with_the_head_and_its_file_opens_here(variable, options, tmp_path):
    repo = os.environ.get(variable)
    if repo is None:
        pytest.skip(f"{variable} names no checkout")
    (tmp_path / "data").mkdir()
    for i in range(20):
        pixels = np.random.RandomState(i).randint(256, size=(16, 16, 3)).astype(np.uint8)
        PIL.Image.fromarray(pixels).save(tmp_path / "data" / f"img{i:08d}.png")
    args = [
        f"--outdir={tmp_path / 'runs'}",
        f"--data={tmp_path / 'data'}",
        "--gpus=1",
        "--metrics=none",
        "--batch=16",
        "--snap=1",
    ]
    kimg = f"--kimg={os.environ.get('OFFICIAL_KIMG', '1')}"
    command = [sys.executable, str(HERE / "official_on_cpu.py"), repo, *args, kimg, *options]
    result = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent, timeout=3000)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    (last,) = [*Path(tmp_path).glob("runs/*/network-snapshot-000001.pkl")] or [None]
    net = si.load(str(last))
    z = torch.randn(2, net.G.z_dim)
    with torch.no_grad():
        assert net.direction.invert(net.G(z, None)).shape == z.shape
    lines = [json.loads(line) for line in (last.parent / "stats.jsonl").read_text().splitlines()]
    assert all(np.isfinite(line["Loss/angle"]["mean"]) for line in lines if "Loss/angle" in line)
    assert any("Loss/angle" in line for line in lines)
    # Official code opens the file too, with the trunk as its discriminator.
    check = "import legacy, sys; print(type(legacy.load_network_pkl(open(sys.argv[1], 'rb'))['D']).__name__)"
    again = [
        sys.executable,
        "-c",
        f"import sys; sys.path[:0] = {[str(HERE), repo]!r}; import official_on_cpu; {check}",
        str(last),
    ]
    shown = subprocess.run(again, capture_output=True, text=True, timeout=300)
    assert shown.stdout.split()[-1:] == ["Discriminator"], shown.stderr[-3000:]
