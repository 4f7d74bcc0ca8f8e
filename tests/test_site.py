"""The pages of the site: their commands run, nothing is missing, and ``make docs`` builds them without a warning."""
# Takes at most 40 CPU seconds.

import os
import re
import shlex
import subprocess
import sys

import pytest

import stylegan_invert as si
from stylegan_invert.cli.main import COMMANDS, cli
from stylegan_invert.network_files import table
from stylegan_invert.projectors import samples
from stylegan_invert.projectors.methods import METHODS

from documents import ROOT, assert_parsed, blocks, calls, commands, run_command, run_document

DOCS = ROOT / "docs"
TUTORIALS = sorted(path.name for path in (DOCS / "tutorials").glob("*.md") if path.name != "index.md")
PAGES_THAT_RUN = ("index.md", "howto/no-compiler.md", "howto/official-projector.md")

PARTS = ("tutorials", "howto", "methods", "reference")
OPTION = r"(?<![\w-])--[a-z][\w-]*"
OF_OTHER_PROGRAMS = {"--install", "--nnodes", "--rdzv-endpoint", "--signal"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """What is computed once per network is shared by all pages, as on a reader's machine."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def place(tmp_path, cache, monkeypatch):
    """An empty folder to work in, with the files that pages name."""
    (tmp_path / "pretrained").symlink_to(ROOT / "pretrained")
    (tmp_path / "portrait.jpg").symlink_to(DOCS / "tutorials" / "portrait.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STYLEGAN_INVERT_CACHE", str(cache))
    monkeypatch.setattr(samples, "COUNT", 64)  # fewer samples, as there are fewer steps
    return tmp_path


@pytest.mark.parametrize("page", TUTORIALS)
def test_tutorials_run(page, place, capsys, monkeypatch):
    monkeypatch.setattr(table, "FAMILIES", table.FAMILIES)  # one page adds to it
    run_document((DOCS / "tutorials" / page).read_text(), capsys, page)


@pytest.mark.parametrize("page", PAGES_THAT_RUN)
def test_commands_of_other_pages_run(page, place, capsys):
    run_document((DOCS / page).read_text(), capsys, page)


def test_method_commands_run(place, capsys):
    for name in METHODS:
        run_document((DOCS / "methods" / f"{name}.md").read_text(), capsys, name)
    assert len(list((place / "out").iterdir())) == len(METHODS)


def test_each_method_has_a_page_and_a_figure():
    folder = DOCS / "methods"
    assert {path.stem for path in folder.glob("*.md")} - {"index"} == set(METHODS)
    assert {path.stem for path in folder.glob("*.png")} == set(METHODS)
    index = (folder / "index.md").read_text()
    for name in METHODS:
        text = (folder / f"{name}.md").read_text()
        for part in (
            f"]({name}.png)",
            "\n$$",
            "\n**When to use it.**",
            f"{{method-options}} {name}\n",
            "\n## Source\n",
        ):
            assert part in text, f"docs/methods/{name}.md has no {part!r}"
        assert f"\n{name}\n" in index


def test_pages_lead_somewhere():
    """What MyST does not check: links out of docs/, in pages that are read in the repository, too."""
    for page in DOCS.rglob("*.md"):
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


def test_options_named_in_pages_exist():
    """An option in a sentence is spelt as the commands spell it."""
    known = set(re.findall(OPTION, (DOCS / "cli.md").read_text())) | OF_OTHER_PROGRAMS
    pages = [DOCS / "index.md", *(page for part in PARTS for page in (DOCS / part).glob("*.md"))]
    assert len(pages) > 30
    for page in pages:
        prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        for option in re.findall(OPTION, prose):
            assert option in known, f"{page.relative_to(ROOT)} names {option}"


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda path: str(path.relative_to(DOCS)))
def test_commands_of_pages_exist(page):
    """Every command in a page is taken apart by the program's own parsers, also where it cannot run here."""
    if page.name == "cli.md":
        pytest.skip("it is the program's own help")
    for _, code in blocks(page.read_text(), "text", "bash"):
        for line in commands(code):
            for command, args in calls(line):
                assert_parsed(command, args, f"{page.name}: {line}")


def test_commands_are_taken_apart():
    """The test above finds a command behind other programs and variables, and refuses what is misspelt."""
    line = "A=1 srun torchrun --nnodes 2 -m stylegan_invert project -n ffhq -t 'a b.png' -o out"
    assert calls(line) == [(cli, ["project", "-n", "ffhq", "-t", "a b.png", "-o", "out"])]
    assert calls("pip install .") == [] and calls("# stylegan-invert") == []
    for wrong in ("projekt -n a", "project --methud w", "project -n", "train --loss hinj", "directions pcaa"):
        with pytest.raises(AssertionError, match="a page"):
            assert_parsed(cli, wrong.split(), "a page")


def test_public_names_are_in_the_reference():
    text = (DOCS / "reference" / "python.md").read_text()
    for name in si.__all__:
        assert re.search(rf"^\.\. auto\w+:: {name}$", text, flags=re.MULTILINE), (
            f"docs/reference/python.md has no {name}"
        )


@pytest.mark.slow
def test_site_is_built_without_a_warning(tmp_path):
    """As make docs does; the pages need no network."""
    for package in ("sphinx", "furo", "myst_parser", "sphinx_click"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install '.[docs]'")
    out = tmp_path / "site"
    build = [
        "-m",
        "sphinx",
        "--quiet",
        "--fail-on-warning",
        "--keep-going",
        "-b",
        "html",
        "-d",
        str(tmp_path / "trees"),
    ]
    settings = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    subprocess.run([sys.executable, *build, str(DOCS), str(out)], check=True, env=settings)
    pages = {path.relative_to(out).with_suffix("").as_posix() for path in out.rglob("*.html")}
    assert {f"methods/{name}" for name in METHODS} | {"index", "about/contributing", "reference/commands"} <= pages
    assert "<math" in (out / "methods" / "w.html").read_text()
    for page in out.rglob("*.html"):
        loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?:[^"]+)"', page.read_text())
        assert not loaded, f"{page.name} loads {loaded}"
    options = (out / "reference" / "commands.html").read_text()
    for command in COMMANDS:
        assert f"stylegan-invert {command}" in options or f"stylegan-invert-{command}" in options


@pytest.mark.slow
def test_tutorial_of_processes_runs_under_torchrun(place, capsys):
    """The one line that the other test runs in one process."""
    text = (DOCS / "tutorials" / "folders-and-processes.md").read_text()
    (line,) = re.findall(r"^torchrun .*$", text, flags=re.MULTILINE)
    run_command("stylegan-invert generate -n cats32-de --seeds 0-5 -o photos", capsys)
    args = ["--standalone", *shlex.split(line)[1:], "--steps", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "torch.distributed.run", *args], check=True, env=environment)
    assert len(list((place / "out" / "two").glob("seed*/result.json"))) == 6
