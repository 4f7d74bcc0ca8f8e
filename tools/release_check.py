"""Build what a release would consist of, check it, try it in fresh environments, and print what a release would do.

    make release-check
    python tools/release_check.py --torch 2.4.1 --torch 2.13.0+cpu     # these, whatever they bring along

Nothing is uploaded, tagged or committed. What is built is the last commit, not the files that lie around. The environments
are made in a temporary folder; the wheel and the source distribution stay in dist/.

torch is tried in the oldest and the newest version that the package index has as a CPU wheel (its version ends in "+cpu") and
that setup.py allows. Another index is named as for every pip: PIP_EXTRA_INDEX_URL=... make release-check. An interpreter for
which there is no such wheel is tried without torch: the commands that need none must run, and every file must compile.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
TOOLS = ("build", "twine", "mypy", "packaging", "setuptools", "wheel", "types-requests", "types-tqdm")
AT_THE_TOP = ("ops", "projectors", "pretrained")  # inside the package once it is installed, see setup.py
OF_THE_SOURCE = {"setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "CHANGELOG.md", "LICENSE", "constraints.txt"}
PYTHONS = range(11, 21)  # the minor versions that are looked for
WITHOUT_TORCH = ("click", "numpy", "pillow", "tqdm", "requests")


class Wrong(Exception):
    """What was built must not be released; the text says why."""


def say(text: str) -> None:
    print(text, flush=True)


def run(*command: object, cwd: Path, **environment: str) -> str:
    """The output of a program.

    Raises:
        Wrong: it failed; with the end of what it printed.
    """
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV", "STYLEGAN_INVERT_OPS")}
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**kept, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if result.returncode:
        raise Wrong(f"{' '.join(map(str, command))} failed:\n{result.stdout[-3000:]}")
    return result.stdout


# What is released


def version() -> str:
    """The version, which stands in stylegan_invert/__init__.py alone."""
    found = re.search(r'^__version__ = "(.+)"$', (ROOT / "stylegan_invert" / "__init__.py").read_text(), re.M)
    if found is None:
        raise Wrong("stylegan_invert/__init__.py states no __version__")
    return found[1]


def changes(of: str, text: str) -> str:
    """The section of a version in the text of CHANGELOG.md.

    Raises:
        Wrong: there is none, or its heading has no date as "## 0.2.0 - 2026-11-24".
    """
    sections = re.split(r"(?m)^(?=## )", text)
    section = next((s for s in sections if s.startswith(f"## {of} ") or s.startswith(f"## {of}\n")), None)
    if section is None:
        raise Wrong(f"CHANGELOG.md has no section '## {of} - DATE'")
    if not re.match(rf"## {re.escape(of)} - \d{{4}}-\d\d-\d\d\n", section):
        raise Wrong(f"the section of {of} in CHANGELOG.md has no date; its heading must read '## {of} - YYYY-MM-DD'")
    return section.strip()


def tracked(folder: Path) -> list[str]:
    return run("git", "ls-files", "-z", cwd=folder).split("\0")[:-1]


def expected_in_wheel(files: list[str]) -> set[str]:
    """The files of the package as they are installed, from those that git knows."""
    tops = tuple(f"{name}/" for name in AT_THE_TOP)
    inside = {f for f in files if f.startswith("stylegan_invert/")}
    return inside | {f"stylegan_invert/{f}" for f in files if f.startswith(tops)}


def difference(what: str, found: set[str], expected: set[str]) -> None:
    """Raise Wrong if two sets of names differ."""
    missing, more = sorted(expected - found), sorted(found - expected)
    if missing or more:
        words = [f"lacks {', '.join(missing[:9])}"] * bool(missing) + [f"also has {', '.join(more[:9])}"] * bool(more)
        raise Wrong(f"{what} {' and '.join(words)}")


# Building


def build(python: Path, work: Path) -> tuple[Path, Path]:
    """The wheel and the source distribution of the last commit, in dist/."""
    source = work / "source"
    source.mkdir()
    run("git", "archive", "--output", work / "source.tar", "HEAD", cwd=ROOT)
    with tarfile.open(work / "source.tar") as archive:
        archive.extractall(source, filter="data")
    at = run("git", "log", "-1", "--format=%ct", cwd=ROOT).strip()  # so that each build has the same dates
    shutil.rmtree(DIST, ignore_errors=True)
    run(python, "-m", "build", "--no-isolation", "--outdir", DIST, source, cwd=work, SOURCE_DATE_EPOCH=at)
    (wheel,), (sdist,) = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    return wheel, sdist


def check_contents(wheel: Path, sdist: Path) -> None:
    """Compare what both files contain with what git knows."""
    package = expected_in_wheel(tracked(ROOT))
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        about = {name for name in names if ".dist-info/" in name}
        difference("the wheel", names - about, package)
        licences = {name.rpartition("/")[2] for name in about if "/licenses/" in name}
        if "LICENSE" not in licences:
            raise Wrong("the wheel has no LICENSE in its metadata")
    with tarfile.open(sdist) as archive:
        inside = {m.name.partition("/")[2] for m in archive.getmembers() if m.isfile()}
    made = {name for name in inside if name.startswith("stylegan_invert.egg-info/")} | {"PKG-INFO", "setup.cfg"}
    whole = {f for f in tracked(ROOT) if f.startswith(("stylegan_invert/", *(f"{name}/" for name in AT_THE_TOP)))}
    difference("the source distribution", inside - made, whole | OF_THE_SOURCE)
    say(f"contents: {len(package)} files of the package, each of which git knows, in both; no tests, no others")


def check_same_wheel(python: Path, wheel: Path, sdist: Path, work: Path) -> None:
    """Build a wheel from the source distribution, and compare both file by file."""
    with tarfile.open(sdist) as archive:
        archive.extractall(work / "unpacked", filter="data")
    (folder,) = (work / "unpacked").iterdir()
    run(python, "-m", "build", "--no-isolation", "--wheel", "--outdir", work / "again", folder, cwd=work)
    (again,) = (work / "again").glob("*.whl")
    contents = []
    for file in (wheel, again):
        with zipfile.ZipFile(file) as archive:
            contents.append({name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()})
    differing = sorted(name for name in contents[0].keys() | contents[1].keys() if len({*_of(contents, name)}) > 1)
    if differing:
        raise Wrong(f"the wheel that the source distribution builds differs in {', '.join(differing[:9])}")
    say("the source distribution builds the same wheel, file by file")


def _of(contents: list[dict[str, str]], name: str) -> list[str | None]:
    return [files.get(name) for files in contents]


# Environments


def environment(folder: Path, python: str = sys.executable) -> Path:
    """A fresh environment; the path of its Python."""
    if python == sys.executable:
        venv.create(folder, with_pip=True)
    else:
        run(python, "-m", "venv", folder, cwd=folder.parent)
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"


def interpreters() -> dict[str, str]:
    """The interpreters on this machine that setup.py allows, by version as "3.12"."""
    found = {}
    for minor in PYTHONS:
        for name in (f"python3.{minor}", *Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3")):
            path = shutil.which(name)
            if path and subprocess.run([path, "--version"], capture_output=True).returncode == 0:
                found.setdefault(f"3.{minor}", path)
    found[f"3.{sys.version_info.minor}"] = sys.executable
    return dict(sorted(found.items(), key=lambda item: int(item[0].partition(".")[2])))


def cpu_wheels(python: Path, lowest: str, work: Path) -> list[str]:
    """The versions of torch that the index has as CPU wheels for an interpreter and that are allowed, the oldest first."""
    listed = run(python, "-m", "pip", "index", "versions", "torch", "--disable-pip-version-check", cwd=work)
    numbers = re.search(r"Available versions: (.*)", listed)
    key = _key
    cpu = [v for v in numbers[1].split(", ") if v.endswith("+cpu") and key(v) >= key(lowest)] if numbers else []
    return sorted(cpu, key=key)


def _key(number: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", number.partition("+")[0]))


def lowest_torch() -> str:
    """The oldest torch that setup.py allows."""
    found = re.search(r'"torch>=([\d.]+)"', (ROOT / "setup.py").read_text())
    if found is None:
        raise Wrong("setup.py does not say from which version of torch on the package works")
    return found[1]


def try_with_torch(python: Path, wheel: Path, torch: str, number: str, work: Path) -> None:
    """Install the wheel as a user does, beside one version of torch, and use it."""
    run(python, "-m", "pip", "install", "--quiet", wheel, f"torch=={torch}", cwd=work)
    command = python.parent / "stylegan-invert"
    cache = {"STYLEGAN_INVERT_CACHE": str(work / "cache")}
    check_commands(python, command, number, work)
    if "64" not in run(command, "inspect", "cats64-de", cwd=work, **cache):
        raise Wrong("'stylegan-invert inspect cats64-de' does not tell of a network of 64x64 pixels")
    run(command, "prebuild", cwd=work, **cache)
    picture = run(python, "-c", "import stylegan_invert.pretrained as p; print(p.path('chelsea-face.png'))", cwd=work)
    project = (command, "project", "-n", "cats64-de", "-t", picture.strip(), "-o", "out", "--quiet")
    run(*project, "--steps", "5", "--ops", "native", cwd=work, **cache)
    run(
        command, "generate", "-n", "cats64-de", "--projected-w", "out/projected_w.npz", "-o", "again", cwd=work, **cache
    )
    if (work / "again" / "proj00.png").read_bytes() != (work / "out" / "proj.png").read_bytes():
        raise Wrong("a projected code does not render to the picture that was saved")
    run(command, "generate", "-n", "cats32", "--seeds", "1", "--ops", "reference", "-o", "seeds", cwd=work, **cache)
    installed = run(python, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check", cwd=work)
    names = "|".join(("numpy", "pillow", "scipy", "click"))
    say(f"  works: {', '.join(re.findall(rf'(?m)^(?:{names})==.*$', installed))}")


def try_without_torch(python: Path, wheel: Path, number: str, work: Path) -> None:
    """What can be tried where no torch is to be had: every file compiles, and the commands that need no torch run."""
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", wheel, cwd=work)
    run(python, "-m", "pip", "install", "--quiet", *WITHOUT_TORCH, cwd=work)
    where = run(python, "-c", "import stylegan_invert; print(stylegan_invert.__path__[0])", cwd=work).strip()
    run(python, "-W", "error", "-m", "compileall", "-q", "-f", where, cwd=work)
    check_commands(python, python.parent / "stylegan-invert", number, work)


def check_commands(python: Path, command: Path, number: str, work: Path) -> None:
    """The version, and the help of each command, as the README begins with them."""
    for told in (run(command, "--version", cwd=work), run(python, "-m", "stylegan_invert", "--version", cwd=work)):
        if told.split()[-1] != number:
            raise Wrong(f"--version says {told.strip()!r}; expected {number}")
    for arguments in ([], ["project"], ["generate"], ["edit"], ["train"]):
        if "Usage:" not in run(command, *arguments, "--help", cwd=work):
            raise Wrong(f"'stylegan-invert {' '.join(arguments)} --help' shows no usage")


def check_types(tools: Path, python: Path, work: Path) -> None:
    """The user's file of the tests, checked against the installed package."""
    shutil.copy2(ROOT / "tests" / "typing_use.py", work)
    options = ("--python-executable", python, "--config-file", os.devnull, "--warn-unused-ignores")
    run(tools, "-m", "mypy", *options, "typing_use.py", cwd=work)
    say("  a user's code is type-checked against it (py.typed)")


def try_everywhere(tools: Path, wheel: Path, number: str, asked: list[str], work: Path) -> list[str]:
    """Try the wheel with each interpreter and torch. Returns what could not be tried, in words."""
    lowest, without, typed = lowest_torch(), [], False
    tried: set[str] = set()
    for name, interpreter in interpreters().items():
        python = environment(work / f"python{name}", interpreter)
        offered = cpu_wheels(python, lowest, work)
        torches = asked or sorted({*offered[:1], *offered[-1:]}, key=_key)
        for i, torch in enumerate(torches):
            say(f"Python {name} with torch {torch}")
            place = work / f"python{name}-torch{i}"
            place.mkdir()
            fresh = environment(place / "venv", interpreter)
            try_with_torch(fresh, wheel, torch, number, place)
            tried.add(torch.partition("+")[0])
            if not typed:
                check_types(tools, fresh, place)
                typed = True
        if not torches:
            say(f"Python {name} without torch: the index has no CPU wheel of torch for it")
            place = work / f"python{name}-bare"
            place.mkdir()
            try_without_torch(python, wheel, number, place)
            say("  every file compiles, and --version and --help work")
            without.append(f"Python {name} with torch, of which the index has no CPU wheel for it")
    if not any(_key(torch)[:2] == _key(lowest)[:2] for torch in tried):
        without.append(
            f"torch {lowest}, the oldest that setup.py allows, of which the index has no CPU wheel; "
            f"with a few gigabytes of CUDA: python tools/release_check.py --torch {lowest}.0"
        )
    return without


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", action="append", default=[], metavar="VERSION", help="Try this version of torch.")
    asked = parser.parse_args().torch
    try:
        number = version()
        section = changes(number, (ROOT / "CHANGELOG.md").read_text())
        with tempfile.TemporaryDirectory() as temporary:
            work = Path(temporary)
            tools = environment(work / "tools")
            constraints = ("--constraint", ROOT / "constraints.txt")
            run(tools, "-m", "pip", "install", "--quiet", *constraints, *TOOLS, cwd=work)
            wheel, sdist = build(tools, work)
            say(run(tools, "-m", "twine", "check", "--strict", wheel, sdist, cwd=work).strip())
            check_contents(wheel, sdist)
            check_same_wheel(tools, wheel, sdist, work)
            without = try_everywhere(tools, wheel, number, asked, work)
        changed = run("git", "status", "--porcelain", cwd=ROOT).splitlines()
        tag = f"v{number}"
        taken = bool(run("git", "tag", "--list", tag, cwd=ROOT).strip())
    except Wrong as e:
        say(f"Error: {e}")
        return 1
    say(f"\nA release would publish {number}, which is commit {run('git', 'rev-parse', 'HEAD', cwd=ROOT).strip()}:")
    for file in (sdist, wheel):
        data = file.read_bytes()
        say(f"  dist/{file.name}  {len(data):,} bytes  sha256 {hashlib.sha256(data).hexdigest()}")
    say(f"  git tag {tag}{' (exists already: raise the version first)' if taken else ''}")
    say("  python -m twine upload dist/*")
    if changed:
        say(f"  {len(changed)} files differ from the commit, or are new; they are not in it")
    for text in without:
        say(f"  not tried: {text}")
    say(f"\n{section}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
