"""The directive ``method-options``: a table of the options of a projection method, from their declarations."""

import dataclasses

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from stylegan_invert.cli.options import text_of_default
from stylegan_invert.options import flags
from stylegan_invert.projectors.methods import METHODS


def rows(name: str) -> list[tuple[str, str, str]]:
    """The flag, the value that the method has by itself, and the help text of each option of a method."""
    method = METHODS[name]
    found = [("--loss", method.preset["loss"], "The distance from the target.")] if "loss" in method.preset else []
    for field in dataclasses.fields(method.options):
        if not field.metadata or not flags(field):
            continue
        value = method.preset.get(field.name, field.default)
        default = field.metadata["unset"] if value is None else text_of_default(value)
        words = field.metadata["check"].words
        help = field.metadata["help"]
        if len(words) > 1:
            help += f" One of {', '.join(words)}."
        found.append((", ".join(flags(field)), default, help))
    return found


class MethodOptions(SphinxDirective):
    required_arguments = 1

    def run(self):
        group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in (3, 2, 6)), cols=3)
        head = nodes.row("", *(self.entry(text) for text in ("option", "without it", "what it does")))
        group += nodes.thead("", head)
        body = nodes.tbody()
        for flag, default, help in rows(self.arguments[0]):
            body += nodes.row("", self.entry(flag, nodes.literal), self.entry(default), self.entry(help))
        group += body
        return [nodes.table("", group)]

    def entry(self, text, kind=nodes.inline):
        return nodes.entry("", nodes.paragraph("", "", kind("", text)))


def setup(app):
    app.add_directive("method-options", MethodOptions)
    return {"parallel_read_safe": True}
