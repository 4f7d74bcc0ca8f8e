"""The one comparison of tensors with a network, and the one table of families."""
# Takes at most 5 CPU seconds.

import ast
import math

import pytest
import torch

import stylegan_invert as si
from stylegan_invert.files.tensors import Storage, TensorRecord, tables
from stylegan_invert.network_files import checks, table
from stylegan_invert.network_files.assemble import Budget, Source, assemble, by_name, constructing
from stylegan_invert.network_files.file import from_bytes

from official import HERE

ROOM = HERE.parent / "stylegan_invert" / "network_files"


def record(values):
    storage = Storage("FloatStorage", memoryview(values.contiguous().flatten().numpy().tobytes()))
    return TensorRecord(storage, 0, tuple(values.shape), tuple(values.contiguous().stride()))


def linear():
    with constructing("file", "G"):
        return torch.nn.Linear(2, 3)


def budget():
    return Budget("file", 10**6)


def test_tensors_are_made_and_taken():
    weight, bias = torch.randn(2, 3), torch.randn(6)
    sources = {
        "weight": Source({"w": (record(weight), None)}, torch.t),
        "bias": Source({"b": (record(bias), (6,))}, lambda b: b[:3]),
    }
    network = assemble(linear(), sources, "file", "G", budget(), names=["w", "b"])
    assert torch.equal(network.weight, weight.t()) and torch.equal(network.bias, bias[:3])
    assert network.weight.is_contiguous() and not network.training and not network.weight.requires_grad


@pytest.mark.parametrize(
    "name, value, sentence",
    [
        ("weight", None, r"G.weight: it is missing; its arguments ask for \(3, 2\)"),
        ("weight", torch.zeros(2, 3), r"G.weight: its shape is \(2, 3\); its arguments ask for \(3, 2\)"),
        ("more", torch.zeros(1), "G.more: its network has no such tensor"),
        ("bias", torch.full([3], math.nan), "G.bias: no numbers"),
    ],
)
def test_what_does_not_fit_is_named(name, value, sentence):
    records = {"weight": record(torch.zeros(3, 2)), "bias": record(torch.zeros(3))}
    records[name] = None if value is None else record(value)
    with pytest.raises(si.NetworkFileError, match=f"^file: {sentence}"):
        network = linear()
        assemble(network, by_name(network, records), "file", "G", budget(), names=records, not_finite="no numbers")


def test_memory_is_taken_after_everything_was_compared():
    network, made = linear(), []
    sources = by_name(network, {"weight": record(torch.zeros(3, 2)), "bias": record(torch.zeros(4))})
    sources["weight"] = Source(sources["weight"].inputs, lambda w: made.append(w) or w)
    with pytest.raises(si.NetworkFileError, match="G.bias"):
        assemble(network, sources, "file", "G", budget())
    assert made == [] and network.weight.is_meta


def test_memory_is_limited_before_it_is_taken():
    network, made = linear(), []
    sources = {
        "weight": Source({}, lambda: torch.zeros(3, 2)),
        "bias": Source({"b": (record(torch.zeros(3)), (3,))}, made.append),
    }
    with pytest.raises(si.NetworkFileError, match="G.b: .*twice the memory"):
        assemble(network, sources, "file", "G", Budget("file", 4 * 6 + 11))
    assert made == []


def test_a_reader_that_forgets_a_tensor_is_found_out():
    with pytest.raises(ValueError, match="wrong are bias"):
        assemble(linear(), {"weight": Source({}, lambda: torch.zeros(3, 2))}, "file", "G", budget())


def test_errors_of_constructors_are_sentences():
    with (
        pytest.raises(si.NetworkFileError, match="G: its arguments describe no network: .*missing"),
        constructing("f", "G"),
    ):
        torch.nn.Linear(3)
    with pytest.raises(KeyboardInterrupt), constructing("f", "G"):
        raise KeyboardInterrupt


class Mine(torch.nn.Linear):
    """A network of a family that this package does not have."""

    def __init__(self, eps):
        super().__init__(2, 3)
        self.eps, self.assumed = eps, f"an eps of {eps}"


def find_mine(root):
    if not isinstance(root, dict) or root.get("project") != "mine":
        return {}
    place, tensors, _ = next(tables(root))
    return {root["role"]: (place, tensors)}


def build_mine(place, tensors, file, budget, assumed):
    with constructing(file, place):
        network = Mine(assumed["eps"])
    return assemble(network, by_name(network, tensors), file, place, budget, names=tensors)


def test_a_new_family_is_one_line_in_the_table(monkeypatch, tmp_path):
    """Its files leave a question open, and have a discriminator in a file beside the generator's."""
    family = table.Family(
        "mine",
        build_mine,
        find=find_mine,
        assumed={"eps": (0.1, checks.number(0, 1))},
        companions=lambda path: {"D": path.with_name("other.pt")},
    )
    monkeypatch.setattr(table, "FAMILIES", (family, *table.FAMILIES))
    path, other = tmp_path / "mine.pt", tmp_path / "other.pt"

    def write(path, role):
        torch.save({"project": "mine", "role": role, **torch.nn.Linear(2, 3).state_dict()}, path)

    write(path, "G_ema")
    net = si.load(path, {"eps": 0.5})
    assert net.G.eps == 0.5 and net.assumed == "an eps of 0.5" and net.D is None
    with pytest.raises(si.NetworkFileError, match="does not apply to this kind of file; it accepts eps"):
        si.load(path, {"bn_eps": 0.5})
    write(other, "D")
    assert si.load(path).D.eps == 0.1 and from_bytes(path.read_bytes(), "f").D is None
    write(other, "G")
    with pytest.raises(si.NetworkFileError, match="other.pt: it holds no discriminator of mine. To go on without it"):
        _ = si.load(path).D


def imports(path):
    """Everything that a file imports from modules of this package, with dots between the names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield from (f"{node.module or ''}.{alias.name}".strip(".") for alias in node.names)


def test_the_machine_and_the_front_door_know_no_family():
    for path in [*(ROOM / "machine").glob("*.py"), ROOM / "assemble.py", ROOM / "checks.py", ROOM / "file.py"]:
        families = {name for name in imports(path) if name.startswith("families")}
        assert all(path.name == "file.py" and name.startswith("families.direction_head.") for name in families), path
    assert len([name for name in imports(ROOM / "table.py") if name.startswith("families.")]) > 8
