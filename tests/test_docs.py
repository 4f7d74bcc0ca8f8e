"""README commands run; docs/cli.md is the commands' own help.

python tests/test_docs.py --write     writes docs/cli.md
"""
# Takes at most 20 CPU seconds.

import os
import re
import sys

import click
import pytest

from stylegan_invert.cli import main as cli_main
from stylegan_invert.cli.help import ALL
from stylegan_invert.cli.official_projector import command as projector
from stylegan_invert.cli.official_train import command as official_train

from documents import ROOT, blocks, commands, run_command

README = (ROOT / "README.md").read_text()


def cli_reference():
    """The text of docs/cli.md."""

    def section(context):
        context.meta[ALL] = True
        context.command._help_option = None  # click keeps that of the first context, which another test may have made
        return f"## {context.command_path}\n\n```text\n{context.command.get_help(context)}\n```\n"

    def context(command, name, parent=None):
        settings = {**command.context_settings, "terminal_width": 110, "max_content_width": 110}
        return click.Context(command, info_name=name, parent=parent, **settings)

    top = context(cli_main.cli, "stylegan-invert")
    parts = ["# Commands and options\n\nMade from the commands' own help by `make docs`.\n", section(top)]

    def below(parent):
        for name in parent.command.list_commands(parent):
            one = context(parent.command.get_command(parent, name), name, parent)
            yield section(one)
            if isinstance(one.command, click.Group):
                yield from below(one)

    parts += below(top)
    parts.append(section(context(projector, "python -m stylegan_invert.projector")))
    parts.append(section(context(official_train, "python -m stylegan_invert.official_train")))
    return "\n".join(parts)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    (tmp_path / "pretrained").symlink_to(ROOT / "pretrained")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STYLEGAN_INVERT_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_readme_commands_run(workplace, capsys):
    lines = [line for _, code in blocks(README, "bash") for line in commands(code)]
    assert len(lines) >= 5
    for line in lines:
        run_command(line, capsys)
    assert (workplace / "out/cat/proj.png").read_bytes() == (workplace / "out/again/proj00.png").read_bytes()
    assert sorted(os.listdir("out/seeds")) == [f"seed{i:04d}.png" for i in range(8)]


def test_readme_python_runs(workplace):
    ((_, code),) = blocks(README, "python")
    assert "steps=1000" in code
    exec(compile(code.replace("steps=1000", "steps=2"), "README.md", "exec"), {})
    assert (workplace / "out/python/result.json").exists() and (workplace / "copy.pkl").exists()


def test_cli_reference_is_current():
    assert (ROOT / "docs" / "cli.md").read_text() == cli_reference(), "run 'make docs'"


def test_links_lead_somewhere():
    for page in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").glob("*.md"),
        ROOT / "pretrained" / "README.md",
    ]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_options_named_in_documents_exist():
    """An option in a document is spelt as the commands spell it."""
    known = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", cli_reference())) | {"--write", "--editable"}
    for page in [ROOT / "README.md", ROOT / "docs" / "safety.md", ROOT / "docs" / "design.md", ROOT / "CHANGELOG.md"]:
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", page.read_text()):
            assert option in known, f"{page.name} names {option}"


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    (ROOT / "docs" / "cli.md").write_text(cli_reference())
