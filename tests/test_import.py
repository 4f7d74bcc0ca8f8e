"""What importing and asking for help may load."""
# Takes at most 30 CPU seconds.

import ast
import functools
import importlib.metadata
import subprocess
import sys

import pytest

from official import HERE

HEAVY = {"torch", "numpy", "scipy", "PIL", "torchmetrics", "safetensors", "requests", "imageio_ffmpeg", "tqdm"}


SLOW = {"torch._dynamo", "torch._inductor", "torch.distributed.fsdp", "sympy", "matplotlib", "scipy", "torchmetrics"}
"""Modules that take long to import; loading a network and a first step do without them."""


def loaded_after(code):
    result = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        cwd=HERE.parent,
    )
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split("\n")[-2].split())


def test_importing_loads_nothing_heavy():
    assert not loaded_after("import stylegan_invert as si; si.NetworkFileError, dir(si)") & HEAVY


@pytest.mark.parametrize(
    "args", [["--help"], ["project", "--help"], ["generate", "--help"], ["inspect", "--help"], ["demo", "--help"]]
)
def test_help_loads_nothing_heavy(args):
    code = f"from stylegan_invert.cli.main import main\ntry: main({args!r})\nexcept SystemExit as e: assert e.code == 0"
    assert not loaded_after(code) & HEAVY


RUN = "from stylegan_invert.cli.main import main\ntry: main({!r})\nexcept SystemExit as e: assert e.code == {}, e.code"


def test_reading_networks_imports_only_what_it_needs():
    code = "for name in ('cats32', 'cats32-de', 'faces64'): net = si.load(name); net.info, net.D, net.direction"
    loaded = loaded_after(f"import stylegan_invert as si\n{code}\n")
    assert not loaded & SLOW
    assert third_party(loaded) <= {"torch", "numpy", "safetensors"}


def test_inspecting_a_network_imports_only_what_it_needs():
    loaded = loaded_after(RUN.format(["inspect", "cats32"], 0))
    assert not loaded & SLOW
    assert third_party(loaded) <= {"torch", "numpy", "safetensors", "click"}


@pytest.mark.parametrize(
    ("network", "options"),
    [
        ("cats32", ["--steps", "1", "--method", "w"]),
        ("cats32", ["--steps", "1", "--method", "wulff-w+"]),
        ("cats32-de", ["--method", "de"]),
        ("faces64", ["--steps", "1", "--method", "z", "--optimizer", "lbfgs"]),
    ],
)
def test_a_first_step_imports_only_what_it_needs(network, options, tmp_path):
    picture = HERE.parent / "pretrained" / "chelsea-face.png"
    loaded = loaded_after(RUN.format(["project", "-n", network, "-t", str(picture), "-o", str(tmp_path), *options], 0))
    assert not loaded & SLOW
    assert third_party(loaded) <= {"torch", "numpy", "safetensors", "click", "PIL", "tqdm"}


@pytest.mark.parametrize("args", [["inspect"], ["stats"], ["project", "-t", "x.png", "-o", "out", "-n"]])
def test_a_misspelt_network_is_found_before_torch_is_imported(args):
    assert not loaded_after(RUN.format([*args, "cats23"], 1)) & HEAVY


@pytest.mark.parametrize("family", ["stylegan3", "progan", "stylegan1"])
def test_other_families_are_read_without_the_slow_modules(family, tmp_path):
    import test_families

    path = test_families.FAMILIES[family](tmp_path)
    assert not loaded_after(f"import stylegan_invert\nstylegan_invert.load({str(path)!r}).info") & SLOW


def third_party(loaded):
    """The installed packages among these modules, without this one and without what torch itself imports."""
    packages = {name.partition(".")[0] for name in loaded} & set(importlib.metadata.packages_distributions())
    return packages - (imported_by_torch() - {"torch"}) - {"stylegan_invert"}


@functools.cache
def imported_by_torch():
    return {name.partition(".")[0] for name in loaded_after("import torch")}


def test_ops_under_its_bare_name_says_its_right_one():
    result = subprocess.run([sys.executable, "-c", "import ops"], capture_output=True, text=True, cwd=HERE.parent)
    assert result.returncode == 1 and "its name is 'stylegan_invert.ops'" in result.stderr


def test_every_room_imports_only_from_rooms_above():
    """The order of design: each room may import from those before it (errors, cache, signals and pretrained from everywhere)."""
    import ast

    order = ["options", "ops", "files", "networks", "generator", "losses", "io", "network_files", "media", "projectors"]
    order += ["analysis", "editing", "training", "studies", "app", "cli"]
    alias = {"projector": "cli", "official_train": "cli", "__main__": "cli"}
    root = HERE.parent
    files = [*root.glob("stylegan_invert/**/*.py"), *root.glob("ops/*.py"), *root.glob("projectors/*.py")]
    assert len(files) > 30
    for path in files:
        parts = list(path.relative_to(root).with_suffix("").parts)
        parts = parts if parts[0] == "stylegan_invert" else ["stylegan_invert", *parts]
        room = alias.get(parts[1], parts[1])
        if room in ("errors", "cache", "signals", "__init__", "pretrained"):
            continue
        assert room in order, f"{path} is in no room"
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name.split(".") for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                base = parts[: len(parts) - node.level] if node.level else []
                module = base + (node.module.split(".") if node.module else [])
                names = [module + [alias_.name] for alias_ in node.names]
            for name in names:
                if name[0] == "stylegan_invert" and len(name) > 1:
                    other = alias.get(name[1], name[1])
                    if other in order:
                        assert order.index(other) <= order.index(room), f"{path} imports {'.'.join(name)}"


ALLOWED = {
    ("stylegan_invert/losses/assessor.py", "torch.jit.load"),
    ("stylegan_invert/losses/weight_files.py", "torch.jit.load"),
}  # with --run-torchscript, or the official file by its SHA-256


def test_nothing_in_the_package_loads_what_can_execute():
    """Files are read by the safe machine; torch.load, Python's pickle and numpy's pickles are not used."""
    root, found = HERE.parent, set()
    for path in [*root.glob("stylegan_invert/**/*.py"), *root.glob("ops/*.py"), *root.glob("projectors/*.py")]:
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = {alias.name.split(".")[0] for alias in node.names} if isinstance(node, ast.Import) else set()
                names |= (
                    {(node.module or "").split(".")[0]}
                    if isinstance(node, ast.ImportFrom) and not node.level
                    else set()
                )
                assert not names & {"pickle", "marshal", "joblib", "dill", "cloudpickle", "shelve"}, path
            if isinstance(node, ast.ImportFrom) and node.module in ("torch", "torch.jit"):
                assert not {alias.name for alias in node.names} & {"load", "jit"}, path
            if isinstance(node, ast.Attribute) and node.attr in ("load", "load_state_dict_from_url"):
                called = ast.unparse(node)
                if called.split(".")[0] == "torch":
                    found.add((path.relative_to(root).as_posix(), called))
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert ast.unparse(node.value) == "False", path
    assert found == ALLOWED
