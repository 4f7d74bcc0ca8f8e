"""Face embedders: their files, the distance of identities, and rank-k on a folder of people."""
# Takes at most 12 CPU seconds.

import json

import numpy as np
import pytest
import safetensors.torch
import torch

import stylegan_invert as si
from stylegan_invert.losses import identity, load_identity, parse
from stylegan_invert.networks.facenet import InceptionResnetV1
from stylegan_invert.networks.iresnet import DEPTHS, IResNet

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
