"""Prepare the commands for sphinx-click: their names, and their help, which is plain text and no reStructuredText."""

import click

from stylegan_invert.cli.main import cli


def give_names(group: click.Group) -> None:
    """Name each command as its group does. In its own file every one is called "command"."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        command.name = name
        if isinstance(command, click.Group):
            give_names(command)


def escape(app, context, lines):
    """Escape asterisks, but for those with which sphinx-click itself marks required options."""
    required = "**Required** "
    lines[:] = [line.replace(required, "\0").replace("*", r"\*").replace("\0", "**Required.** ") for line in lines]


def leave_out_nameless(app, context, lines):
    """An argument that is only there for an error message has no name, and is not shown in --help."""
    kept = "\n".join(lines).replace(".. option:: \n\n    Optional argument(s)", "").split("\n")
    lines[:] = kept if any(kept) else []


def setup(app):
    give_names(cli)
    app.setup_extension("sphinx_click")
    app.connect("sphinx-click-process-description", escape)
    app.connect("sphinx-click-process-options", escape)
    app.connect("sphinx-click-process-arguments", leave_out_nameless)
    return {"parallel_read_safe": True}
