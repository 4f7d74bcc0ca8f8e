"""A wheel, an editable install and a bare checkout all have every room."""
# Takes at most 25 CPU seconds.

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from official import HERE, PRETRAINED

ROOT = HERE.parent
PROBE = """
import json, os, sys
import stylegan_invert, stylegan_invert.ops, stylegan_invert.projectors, stylegan_invert.pretrained as p
rooms = stylegan_invert, stylegan_invert.ops, stylegan_invert.projectors
print(json.dumps([os.path.realpath(m.__file__) for m in rooms] + [str(p.path(p.DEMO_NETWORK))]))
assert 'ops' not in sys.modules
"""


def run(*args, cwd, **environment):
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    result = subprocess.run(
        [str(a) for a in args], capture_output=True, text=True, cwd=cwd, env={**clean, **environment}
    )
    assert result.returncode == 0, f"{args}\n{result.stdout[-2000:]}\n{result.stderr[-3000:]}"
    return result.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the checkout: building leaves traces where it is done."""
    folder = tmp_path_factory.mktemp("source") / "checkout"
    shutil.copytree(
        ROOT,
        folder,
        ignore=shutil.ignore_patterns(
            ".git", ".venv", "build", "dist", "out", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis"
        ),
    )
    return folder


def test_a_bare_checkout_has_every_room(source):
    found = json.loads(run(sys.executable, "-c", PROBE, cwd=source))
    assert len(found) == 4 and all(f.startswith(os.path.realpath(source) + os.sep) for f in found)


def test_an_editable_install_has_every_room(tmp_path):
    found = subprocess.run(
        [sys.executable, "-m", "pip", "show", "stylegan-invert"], capture_output=True, text=True, cwd=tmp_path
    ).stdout
    if "Editable project location" not in found:
        pytest.skip("needs an editable install: run 'make test'")
    found = json.loads(run(sys.executable, "-c", PROBE, cwd=tmp_path))
    assert len(found) == 4 and all(f.startswith(os.path.realpath(ROOT) + os.sep) for f in found)


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder]
    run(sys.executable, "-m", "pip", "wheel", *options, source, cwd=folder)
    return next(folder.glob("stylegan_invert-*.whl"))


def test_a_wheel_in_a_fresh_environment_projects(wheel, tmp_path):
    """The wheel is installed for itself; its dependencies are those of this environment, which take long to install."""
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    programs = programs_of(tmp_path / "venv")
    run(
        sys.executable, "-m", "pip", "--python", programs / "python", "install", "-qq", "--no-deps", wheel, cwd=tmp_path
    )
    where = run(programs / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path)
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    Path(where.strip(), "dependencies.pth").write_text("\n".join(paths) + "\n")
    projects(programs, tmp_path)


@pytest.mark.slow
def test_a_wheel_in_an_empty_environment_projects(wheel, tmp_path):
    """The wheel brings its dependencies along."""
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    programs = programs_of(tmp_path / "venv")
    constraints = ROOT / "constraints.txt"
    run(programs / "python", "-m", "pip", "install", "-qq", "--constraint", constraints, wheel, cwd=tmp_path)
    projects(programs, tmp_path)


def programs_of(environment):
    return environment / ("Scripts" if os.name == "nt" else "bin")


def projects(programs, folder):
    """What is installed has every room, and the command works."""
    found = json.loads(run(programs / "python", "-c", PROBE, cwd=folder))
    inside = os.path.realpath(folder / "venv") + os.sep
    assert len(found) == 4 and all(os.path.realpath(f).startswith(inside) for f in found)
    assert "511,891" in run(programs / "stylegan-invert", "inspect", "cats32", cwd=folder)
    options = ["-n", "cats32", "-t", PRETRAINED / "chelsea-face.png", "-o", "out", "--steps", 5]
    run(programs / "stylegan-invert", "project", *options, cwd=folder)
    assert (folder / "out" / "result.json").exists()


def test_metadata_names_every_import():
    """What the package imports is what setup.py asks for."""
    import ast

    names = {"PIL": "pillow", "pillow_heif": "pillow-heif", "imageio_ffmpeg": "imageio-ffmpeg"}
    names |= {"face_alignment": "face-alignment"}
    imported = set()
    for path in [
        *ROOT.glob("stylegan_invert/**/*.py"),
        *ROOT.glob("ops/*.py"),
        *ROOT.glob("projectors/*.py"),
        *ROOT.glob("pretrained/*.py"),
    ]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {a.name.split(".")[0] for a in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.split(".")[0])
    outside = {names.get(n, n) for n in imported if n not in sys.stdlib_module_names and n != "stylegan_invert"}
    text = (ROOT / "setup.py").read_text()
    assert outside and all(f'"{name}' in text for name in outside), outside
