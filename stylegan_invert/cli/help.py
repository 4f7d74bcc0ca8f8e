"""Help of a command with many options: a short page for most people, and a long one in groups."""

from collections.abc import Collection, Mapping
from typing import Any

import click

from .common import tell

ALL = "stylegan_invert.help_all"  # in a context's ``meta``: True shows all options


class LongCommand(click.Command):
    """A command whose ``--help`` shows the options that most people need, and ``--help-all`` all of them, in groups.

    Args:
        common: the names of the parameters that ``--help`` shows.
        groups: titles, each with the names of its parameters. What is in no group comes last.
    """

    def __init__(self, *args: Any, common: Collection[str], groups: Mapping[str, Collection[str]], **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.common, self.groups = common, groups
        self.params.append(
            click.Option(
                ["--help-all"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=_show_all,
                help="Show all options, in groups, and exit.",
            )
        )

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        found = {param.name: param.get_help_record(ctx) for param in self.get_params(ctx)}
        records = {name: record for name, record in found.items() if record is not None}
        shown = [*self.common, "help_all", "help"]
        with formatter.section("Options"):
            formatter.write_dl([records[name] for name in records if name in shown])
        rest = [name for name in records if name not in shown]
        if not ctx.meta.get(ALL):
            formatter.write_paragraph()
            formatter.write_text(f"{len(rest)} more options: {ctx.command_path} --help-all")
            return
        for title, names in self.groups.items():
            of_group = [name for name in rest if name in names]
            rest = [name for name in rest if name not in names]
            if of_group:
                with formatter.section(title):
                    formatter.write_dl([records[name] for name in of_group])
        if rest:
            with formatter.section("Further options"):
                formatter.write_dl([records[name] for name in rest])


def _show_all(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[ALL] = True
        for line in ctx.get_help().splitlines():
            tell(line)
        ctx.exit()
