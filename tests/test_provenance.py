"""Where networks came from, and that a changed one does not claim to be what was read."""
# Takes at most 5 CPU seconds.

import copy
import gc
import json
import time
import weakref

import pytest
import torch

import stylegan_invert as si
from stylegan_invert.generator import adapt
from stylegan_invert.network_files.provenance import Provenance, carry, fingerprint, provenance_of, remember

from conftest import make_network


@pytest.fixture
def net(tmp_path):
    si.save(make_network(), tmp_path / "net.pkl")
    return si.load(tmp_path / "net.pkl")


@pytest.mark.parametrize("ending", ["pkl", "safetensors", "pt"])
def test_what_was_read_is_known(net, tmp_path, ending):
    """Of networks that are built when asked for, and of those that are built at once."""
    from stylegan_invert.network_files.convert import FORMATS, format_of

    if ending == "pt":
        net = si.load("faces64")
    else:
        path = tmp_path / f"other.{ending}"
        FORMATS[format_of(path)].write(net, path)
        net = si.load(path)
    for role in ("G_ema", "G", "D"):
        if net[role] is not None:
            assert provenance_of(net[role]) == Provenance(str(net.file), net.sha256, False)


@pytest.mark.parametrize(
    "name", ["synthesis.b8.conv1.weight", "synthesis.b4.const", "mapping.w_avg", "synthesis.b8.conv1.noise_const"]
)
def test_a_changed_tensor_is_seen(net, name):
    value = net.G.state_dict()[name]
    before = value.clone()
    value.view(-1)[-1] += 1e-6
    assert provenance_of(net.G) == Provenance(str(net.file), None, True)
    value.copy_(before)
    assert provenance_of(net.G) == Provenance(str(net.file), net.sha256, False)
    value.view(-1)[:2] = before.view(-1)[:2].flip(0)  # the same numbers in other places
    assert provenance_of(net.G).changed


def test_layout_is_no_change_and_type_is_one(net):
    net.G.to("cpu", memory_format=torch.channels_last)
    assert not net.G.synthesis.b8.conv1.weight.is_contiguous() and not provenance_of(net.G).changed
    net.G.requires_grad_(True).train()
    assert not provenance_of(net.G).changed
    net.G.half().float()
    assert provenance_of(net.G).changed


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_another_device_is_no_change(net):
    assert not provenance_of(net.G.cuda()).changed


def test_copies_claim_nothing_unless_it_is_said(net):
    other = copy.deepcopy(net.G)
    assert provenance_of(other) == Provenance(None, None, False)
    carry(net.G, other)
    assert provenance_of(other) == provenance_of(net.G)
    with torch.no_grad():
        other.synthesis.b4.const[0] += 1
    assert provenance_of(other).changed and not provenance_of(net.G).changed
    third = copy.deepcopy(other)
    carry(other, third)
    assert provenance_of(third) == Provenance(str(net.file), None, True)


def test_a_network_that_takes_the_place_of_another_has_no_hash(net):
    net["G_ema"] = make_network().G
    assert provenance_of(net.G).sha256 is None
    assert provenance_of(make_network().G) == Provenance("(in memory)", None, False)


def test_what_is_known_stays_known(net):
    """A network that goes through another `NetworkFile` still comes from where it came from."""
    again = si.NetworkFile({"G": net.G, "G_ema": net.G}, "other", "0" * 64)
    assert provenance_of(again.G).sha256 == net.sha256
    remember(net.G, "elsewhere", None)
    assert provenance_of(net.G).sha256 == net.sha256


def test_nothing_keeps_a_network_alive(tiny_file):
    net = si.load(tiny_file)
    seen = weakref.ref(net.G)
    assert not any("source" in name or "provenance" in name for name in vars(net.G))
    del net
    gc.collect()
    assert seen() is None


def test_other_objects_are_of_unknown_origin():
    assert provenance_of(adapt(make_network().G)) == provenance_of(None) == Provenance()


def test_results_say_where_the_network_came_from(net, tmp_path):
    def record(G):
        target = torch.zeros(3, 16, 16, dtype=torch.uint8)
        si.project(G, target, method="w", steps=1, loss="mse=1").save(tmp_path / "out")
        return json.loads((tmp_path / "out" / "result.json").read_text())["network"]

    known = {"resolution": 16, "file": str(net.file), "sha256": net.sha256}
    assert record(net.G) == record(adapt(net.G)) == known
    net.G.requires_grad_(True)  # it is then copied
    assert record(net.G) == known
    with torch.no_grad():
        net.G.synthesis.b16.torgb.bias += 0.1
    assert record(net.G) == record(net) == {**known, "sha256": None, "changed": True}


def test_thirty_million_parameters_are_looked_through_quickly():
    network = torch.nn.Linear(6000, 5000)
    began = time.process_time()
    assert len(fingerprint(network)) == 2
    assert time.process_time() - began < 3  # it takes 0.1 seconds on one core; a machine may be slow
