"""Completion of the shell's command line, and the nearest name for a word that is unknown."""
# Takes at most 6 CPU seconds.

import os
import shutil
import subprocess
import sys

import pytest

from stylegan_invert.cli import main as cli_main
from stylegan_invert.errors import meant
from stylegan_invert.io.download import SHORT_NAMES
from stylegan_invert.network_files.sources import SHIPPED
from stylegan_invert.projectors.methods import METHODS

from official import HERE

VARIABLE = "_STYLEGAN_INVERT_COMPLETE"


def complete(monkeypatch, capsys, line):
    """What bash is offered for the last word of a line: (kind, word) of each."""
    words = line.split(" ")
    monkeypatch.setenv("COMP_WORDS", " ".join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    monkeypatch.setenv(VARIABLE, "bash_complete")
    with pytest.raises(SystemExit) as e:
        cli_main.main([])
    assert e.value.code == 0
    return [tuple(row.split(",", 1)) for row in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    "shell, end", [("bash", "complete -o nosort -F"), ("zsh", "compdef"), ("fish", "complete --no-files")]
)
def test_the_script_of_each_shell_is_produced(shell, end, monkeypatch, capsys):
    monkeypatch.setenv(VARIABLE, f"{shell}_source")
    monkeypatch.setattr(
        "click.shell_completion.BashComplete._check_version", staticmethod(lambda *_: None)
    )  # it would start bash
    with pytest.raises(SystemExit) as e:
        cli_main.main([])
    script = capsys.readouterr().out
    assert e.value.code == 0 and end in script and f"{VARIABLE}={shell}_complete" in script
    if shutil.which(shell):
        assert subprocess.run([shell, "-n"], input=script, text=True, capture_output=True).returncode == 0


def test_names_are_completed(monkeypatch, capsys):
    assert complete(monkeypatch, capsys, "stylegan-invert pro") == [("plain", "project")]
    assert complete(monkeypatch, capsys, "stylegan-invert directions p") == [("plain", "pca")]
    networks = complete(monkeypatch, capsys, "stylegan-invert inspect cats")
    assert networks == [*(("plain", name) for name in SHIPPED if name.startswith("cats")), ("file", "cats")]
    offered = {word for _, word in complete(monkeypatch, capsys, "stylegan-invert project -n ffhq")}
    assert {"ffhq", "ffhq256", "ffhq512"} <= offered <= {*SHORT_NAMES}
    methods = [word for _, word in complete(monkeypatch, capsys, "stylegan-invert project --method fast-")]
    assert methods == [name for name in METHODS if name.startswith("fast-")]
    assert complete(monkeypatch, capsys, "stylegan-invert generate --device c") == [("plain", "cpu"), ("plain", "cuda")]
    assert complete(monkeypatch, capsys, "stylegan-invert generate -o ou") == [("file", "ou")]


def test_completion_imports_no_torch():
    program = (
        "import sys\nfrom stylegan_invert.cli.main import main\n"
        "try: main([])\nexcept SystemExit: print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    words = {"COMP_WORDS": "stylegan-invert project --network ca", "COMP_CWORD": "3", VARIABLE: "bash_complete"}
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, env={**os.environ, **words}, cwd=HERE.parent, capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "False False" and "plain,cats32" in result.stdout, result.stderr


@pytest.mark.parametrize(
    "line, nearest",
    [
        ("projct", "project"),
        ("directions pac", "pca"),
        ("reproduce dens", "dense"),
        ("generate --seedz 1", "--seeds"),
        ("generate -n cats32 -o out --seeds 1 --device cdua", "cuda"),
        ("inspect cats3", "cats32"),
        ("project -n cats32 -t picture.png -o out --method fastw", "fast-w"),
        ("project -n cats32 -t picture.png -o out --loss lpips-squeze", "lpips-squeeze"),
        ("project -n cats32 -t picture.png -o out --observe bluur:3", "blur"),
    ],
)
def test_an_unknown_word_brings_the_nearest_name(line, nearest, cli, picture, monkeypatch):
    monkeypatch.chdir(picture.parent)
    code, _, err = cli(*line.split())
    assert code in (1, 2) and f"Did you mean {nearest!r}?" in err
    assert not (picture.parent / "out").exists()


def test_what_is_near_to_nothing_brings_no_suggestion(cli):
    assert meant("qqq", ["project", "train"]) == ""
    assert "Error: No such command 'qqq'.\n" in cli("qqq")[2]
