"""Face embedders: their files, the distance of identities, and rank-k on a folder of people."""
# Takes at most 12 CPU seconds.

import json
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner

import stylegan_invert as si
from stylegan_invert.cli.main import cli
from stylegan_invert.errors import StyleganInvertError
from stylegan_invert.generator import adapt
from stylegan_invert.losses import identity, load_identity, parse
from stylegan_invert.media.pictures import read_png, write_png
from stylegan_invert.networks.facenet import InceptionResnetV1
from stylegan_invert.networks.iresnet import DEPTHS, IResNet
from stylegan_invert.studies import identity as study
from stylegan_invert.training.encoder import EncoderTrainer
from stylegan_invert.training.encoder_options import EncoderOptions

from conftest import make_network


def state_of(make):
    """Random weights of a network whose outputs have moderate size."""
    torch.manual_seed(0)
    network = make().eval()
    for name, value in network.state_dict().items():
        if value.ndim > 1:
            value.mul_(2)
        elif name.endswith("running_mean"):
            value.uniform_(-0.1, 0.1)
    return network.state_dict()


@pytest.fixture(scope="module")
def facenet():
    return state_of(InceptionResnetV1)


@pytest.fixture(scope="module")
def facenet_file(facenet, tmp_path_factory):
    """As facenet-pytorch publishes it: with the classes of VGGFace2, which are not needed."""
    path = tmp_path_factory.mktemp("facenet") / "vggface2.pt"
    torch.save({**facenet, "logits.weight": torch.zeros([10, 512]), "logits.bias": torch.zeros([10])}, path)
    return path


@pytest.fixture
def program(tmp_path):
    """A TorchScript program of faces, small."""

    class Small(torch.nn.Module):
        def forward(self, x):
            return x[:, :, ::16, ::16].flatten(1) + 0.1

    path = tmp_path / "faces.pt"
    torch.jit.script(Small()).save(str(path))
    return path


def faces(count=2, size=24):
    return torch.rand([count, 3, size, size], generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_the_distance_is_one_minus_the_cosine_of_embeddings(facenet, facenet_file):
    a, b = faces(2).split(1)
    network = InceptionResnetV1().eval()
    network.load_state_dict(facenet)
    with torch.no_grad():
        resized = [
            torch.nn.functional.interpolate(x, [160, 160], mode="bilinear", antialias=True) * 127.5 / 128
            for x in (a, b)
        ]
        expected = 1 - torch.nn.functional.cosine_similarity(*map(network, resized))
        loss = load_identity(facenet_file)
        assert loss.name == "facenet-pytorch InceptionResnetV1"
        assert torch.allclose(loss.between(a, b), expected, atol=1e-6) and float(expected) > 1e-4
        assert abs(float(loss.between(a, a))) < 1e-6
    x = b.clone().requires_grad_()
    parse("identity=0.5", identity=facenet_file).between(a, x).sum().backward()
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["iresnet18", "iresnet100"])
def test_the_depth_is_that_of_the_file(name):
    """The network that a state dict describes, on the device that takes no memory; the names are checked against it."""
    with torch.device("meta"):
        state = IResNet(DEPTHS[name]).state_dict()
    made = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identity, "with_weights", lambda make, weights: made.append(make) or make())
        with torch.device("meta"):
            assert identity._embedder(state).name == f"InsightFace {name}"
            assert made[0]().state_dict().keys() == state.keys()


def test_the_crop_is_that_of_psp(program):
    """pSp takes the rows 35 to 223 and the columns 32 to 220 of 256."""
    x = faces(1, 256)
    cropped, whole = (load_identity(program, True, crop) for crop in (True, False))
    assert torch.equal(cropped.features(x), whole.features(x[:, :, 35:223, 32:220]))


def test_safetensors_and_checkpoints_are_read(tmp_path, monkeypatch):
    """Nested in a checkpoint, named by DistributedDataParallel, in half precision; and as safetensors."""
    monkeypatch.setitem(DEPTHS, "tiny", (1, 1, 1, 1))
    state = state_of(lambda: IResNet(DEPTHS["tiny"]))
    halves = {name: x.half() if x.is_floating_point() else x for name, x in state.items()}
    torch.save({"epoch": 3, "state_dict_backbone": {f"module.{n}": x for n, x in halves.items()}}, tmp_path / "a.pt")
    safetensors.torch.save_file(halves, tmp_path / "a.safetensors")
    a, b = (load_identity(tmp_path / name) for name in ("a.pt", "a.safetensors"))
    network = IResNet(DEPTHS["tiny"]).eval()
    network.load_state_dict({n: x.float() if x.is_floating_point() else x for n, x in halves.items()})
    x = faces(1, 112)
    with torch.no_grad():
        expected = torch.nn.functional.normalize(network(x))
        assert torch.equal(a.features(x), expected) and torch.equal(b.features(x), expected)
    halves["layer2.0.bn1.weight"][0] = torch.nan
    halves.pop("fc.bias")
    for change, reason in (
        (lambda s: s, "fc.bias is missing"),
        (lambda s: s | {"fc.bias": torch.zeros(512)}, "are nan"),
    ):
        torch.save(change(halves), tmp_path / "b.pt")
        with pytest.raises(ValueError, match=f"b.pt: .*{reason}"):
            load_identity(tmp_path / "b.pt")


def test_other_files_are_refused(tmp_path, program):
    for content, reason in (
        ({"epoch": 1}, "tensors of another network"),
        ([1], "tensors of another network"),
        (state_of(lambda: IResNet((1, 1, 1, 2))), "as none of the networks"),
    ):
        torch.save(content, tmp_path / "x.pt")
        with pytest.raises(ValueError, match=f"x.pt: .*{reason}.*InceptionResnetV1"):
            load_identity(tmp_path / "x.pt")
    (tmp_path / "x.pt").write_bytes(b"<html>")
    with pytest.raises(ValueError, match="x.pt: .*HTML"):
        load_identity(tmp_path / "x.pt")
    with pytest.raises(ValueError, match="faces.pt: it is a TorchScript program.*--run-torchscript"):
        load_identity(program)
    with pytest.raises(ValueError, match="needs the file of its network"):
        parse("identity")


def test_results_have_the_distance_of_identities(program, tmp_path):
    """Also if the loss does not use the embedder, and under the embedder's own name."""
    net, target = make_network(), np.random.RandomState(0).randint(0, 256, [3, 16, 16]).astype(np.uint8)
    named = {"identity": program, "run_torchscript": True, "steps": 1}
    result = si.project(net, target, "w", loss="mse", **named)
    pair = [torch.from_numpy(x)[None] / 127.5 - 1 for x in (target, result.image.numpy())]
    expected = float(load_identity(program, True).between(*pair))
    assert result.metrics["identity"] == pytest.approx(expected, abs=1e-6)
    options = result.record["options"]
    assert options["identity_network"] == "TorchScript" and len(options["identity"]["sha256"]) == 64
    used = si.project(net, target, "w", loss="mse,identity=0.1", **named)
    assert used.metrics["identity"] is not None and used.record["options"]["identity"] == options["identity"]
    result.save(tmp_path / "out")
    assert (
        json.loads((tmp_path / "out" / "result.json").read_text())["metrics"]["identity"] == result.metrics["identity"]
    )
    assert "identity" not in si.project(net, target, "w", loss="mse", steps=1).metrics
    with pytest.raises(ValueError, match="allows the weights of"):
        si.project(net, target, "w", loss="mse", run_torchscript=True, steps=1)


def test_ranks_count_people_who_are_at_least_as_similar():
    similarity = torch.tensor([[0.9, 0.1, 0.2, 0.3], [0.5, 0.4, 0.6, 0.7], [0.5, 0.5, 0.5, 0.5]])
    found = study.ranks(similarity, ["a", "b", "c"], ["a", "a", "b", "c"])
    # The second row: c has 0.7 and b has 0.6, and a has 0.5. In the third all are equal, which counts against the person.
    assert found.tolist() == [1, 2, 3]


def test_people_are_folders_or_classes():
    data = SimpleNamespace(c_dim=0, names=["a/1.png", "a/2.png", "b/1.png"], path="x")
    assert study.people_of(data) == ["a", "a", "b"]
    assert study.split(["a", "a", "b", "c", "c"], 2) == ([1, 2], [0])
    classes = SimpleNamespace(c_dim=2, labels=np.array([[0, 1], [1, 0]]), names=["1.png", "2.png"], path="x")
    assert study.people_of(classes) == ["1", "0"]
    data.names[1] = "2.png"
    with pytest.raises(StyleganInvertError, match="2.png lies in no folder"):
        study.people_of(data)
    with pytest.raises(StyleganInvertError, match="of 1 person"):
        study.split(["a", "a"], 5)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("x", "unknown"), ("w+:init=y", "starts are"), ("w+:stepz=1", "stepz"), ("encoder:steps=3", "steps")],
)
def test_ways_that_make_no_sense_are_refused(text, reason):
    with pytest.raises(ValueError, match=reason):
        study.way_of(text)


def test_people_are_found_by_one_command(tiny_file, program, tmp_path):
    """Pictures of a person are alike here; those of the network are not, so the originals are found and the others not all."""
    for person in range(3):
        base = np.random.RandomState(person).randint(30, 220, [3, 8, 8])
        (tmp_path / "people" / str(person)).mkdir(parents=True)
        for i in range(2):
            noise = np.random.RandomState(10 + i).randint(-5, 6, [3, 8, 8])
            write_png(tmp_path / "people" / str(person) / f"{i}.png", (base + noise).astype(np.uint8))
    out = tmp_path / "out"
    args = ["reproduce", "identity", "-n", tiny_file, "--people", tmp_path / "people", "-o", out]
    ways = ["--way", "w+:steps=2", "--way", "w+:steps=1,init=random", "--loss", "mse"]
    used = ["--identity", program, "--run-torchscript"]
    run = CliRunner().invoke(cli, list(map(str, [*args, *ways, *used])))
    assert run.exit_code == 0, run.output
    results = json.loads((out / "results.json").read_text())
    originals = results["rows"][study.ORIGINALS]
    assert originals["originals"]["1"] == originals["others"]["1"] == 1 and abs(originals["cosine"] - 1) < 1e-6
    image = np.load(out / "parts" / "w+-steps-2-00000.npz")["images"]
    embed = load_identity(program, True)
    pictures = [read_png(tmp_path / "people" / str(p) / "1.png") for p in range(3)]
    expected = [
        1 - float(embed.between(*(torch.from_numpy(x)[None] / 127.5 - 1 for x in pair)))
        for pair in zip(pictures, image)
    ]
    row = results["rows"]["w+:steps=2"]
    assert row["cosine"] == pytest.approx(np.mean(expected), abs=1e-5) and set(row["others"]) == {"1", "5", "10", "20"}
    assert "| w+:steps=2 |" in (out / "table.md").read_text() and (out / "sheet.png").exists()
    for more, reason in (
        ([], "needs the file of a face embedder"),
        ([*used, "--features", "squeezenet"], "uses no --identity"),
        (["--features", "squeezenet", "--encoder", out], "no way uses it"),
        (["--features", "squeezenet", "--way", "encoder"], "is needed by the ways"),
    ):
        run = CliRunner().invoke(cli, list(map(str, [*args, *more])))
        assert run.exit_code == 1 and reason in str(run.exception)
    run = CliRunner().invoke(cli, list(map(str, [*args[:-1], tmp_path / "sq", *ways[:2], "--features", "squeezenet"])))
    assert run.exit_code == 0 and "Features: SqueezeNet, not a face embedder" in run.output


def test_an_encoder_learns_with_a_face_embedder(program):
    """By path, as a part of the loss; a file that no loss uses is refused."""
    generator, named = adapt(make_network(resolution=8).G), {"identity": program}
    options = EncoderOptions(kimg=0.008, batch=4, width=4, loss="identity=1", latent_weight=0)
    trainer = EncoderTrainer(options, generator, files=named, run_torchscript=True)
    trainer.step()
    assert 0 < trainer.values()["loss/generated"] < 2
    assert all(p.grad is not None for p in trainer.encoder.parameters())
    for loss, reason in (("mse=1", "has no identity to use it"), ("none", "the loss is none")):
        with pytest.raises(StyleganInvertError, match=reason):
            EncoderTrainer(EncoderOptions(loss=loss, width=4), generator, files=named)
