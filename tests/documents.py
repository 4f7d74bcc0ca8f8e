"""Run the commands and the Python code of a document, as a reader would, but with few steps."""

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from stylegan_invert.cli import main as cli_main
from stylegan_invert.cli.official_projector import command as projector
from stylegan_invert.cli.official_train import command as official_train

ROOT = Path(__file__).parent.parent
SHELL = {"printf"}  # other programs that a document may use
TORCHRUN = re.compile(r"torchrun .*-m stylegan_invert ")


def blocks(text, *languages):
    """The blocks of code in Markdown, in their order: pairs of a language and the code."""
    return re.findall(rf"^ *```({'|'.join(languages)})\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)


def commands(code):
    """The lines of a block of commands; a line that ends with a backslash goes on in the next."""
    return [line.strip() for line in code.replace("\\\n", " ").splitlines() if line.strip()]


def shortened(args):
    """A command with few steps: what it does is the same, only sooner."""
    args = [arg.replace("network-snapshot-000500", "network-snapshot-000000") for arg in args]  # a training's first
    if args[0] == "edit" and "--tune" in args:
        args.insert(args.index("--tune") + 1, "2")
    if args[0] == "project" and "--dry-run" not in args:
        if args[-2:] in (["--method", "de"], ["--method", "encoder"]):  # these take no steps
            return args
        dense = {"dense", "fast-dense", "pividori-code", "pividori-paper"} & {*args} or (
            "faces64" in args and "--method" not in args
        )
        args = [*args, *(["2"] if args[-1] == "--tune" else []), *(["--layer-steps", "2"] if dense else [])]
        return [*args, "--steps", "2"]
    if args[0] == "train":
        short = [*args[: args.index("--kimg") + 1], "0.064" if "--resume" not in args else "0.128"]
        return [*short, "--metric-samples", "8"] if "--outdir" in args else short
    if args[0] == "distance":
        return [*args[: args.index("--samples") + 1], "8"]
    return [*args, "--num-steps=2"] if "--outdir=out/official" in args else args


def run_command(line, capsys):
    """Run a command of a document in this process, with few steps; its exit status must be 0."""
    if line.split()[0] in SHELL:
        subprocess.run(line, shell=True, check=True)
        return
    program, *args = shlex.split(TORCHRUN.sub("stylegan-invert ", line))
    command = cli_main.cli
    if program == "python":
        assert args[:2] == ["-m", "stylegan_invert.projector"], line
        command, args = projector, args[2:]
    else:
        assert program == "stylegan-invert", line
    with pytest.raises(SystemExit) as e:
        cli_main.run(command, shortened(args), program)
    assert e.value.code == 0, f"{line}\n{capsys.readouterr().err}"


PROGRAMS = {
    "stylegan-invert": cli_main.cli,
    "stylegan_invert": cli_main.cli,
    "stylegan_invert.projector": projector,
    "stylegan_invert.official_train": official_train,
}


def calls(line):
    """The calls of this package's programs in a line for a shell: pairs of a command and its arguments."""
    if line.startswith("#") or not re.search("stylegan.invert", line):
        return []
    words = shlex.split(line.lstrip("!"))
    for i, word in enumerate(words):
        if word in PROGRAMS and (word == "stylegan-invert" or words[i - 1] == "-m"):
            return [(PROGRAMS[word], words[i + 1 :])]
    return []


def assert_parsed(command, args, where):
    """Fail if a command does not know an option, a command below it or a word, or if an option lacks its value."""
    context = click.Context(command, info_name="it", allow_extra_args=True)
    try:
        if command is official_train:
            return  # all that it does not know goes to NVIDIA's train.py
        values, rest, _ = command.make_parser(context).parse_args(list(args))
        for param in command.params:
            if isinstance(param.type, click.Choice) and isinstance(values.get(param.name), str):
                param.type.convert(values[param.name], param, context)
        if isinstance(command, click.Group) and rest:
            below = command.get_command(context, rest[0])
            assert below is not None, f"{where}: there is no command {rest[0]}"
            assert_parsed(below, rest[1:], where)
    except click.ClickException as e:
        raise AssertionError(f"{where}: {e.format_message()}") from None


def run_document(text, capsys, name):
    """Run all ``bash`` and ``python`` blocks of a document in their order. Python blocks share their names."""
    names = {"__name__": name}
    for language, code in blocks(text, "bash", "python"):
        if language == "bash":
            for line in commands(code):
                run_command(line, capsys)
        else:
            code = re.sub(r"\bsteps=1000?\b", "steps=2", code)
            exec(compile(code, name, "exec"), names)
