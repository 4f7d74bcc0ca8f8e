"""Docstrings are plain sentences with names between backticks: escape what reStructuredText would read in them besides."""

import re

from docutils import nodes

OUTSIDE = re.compile(r"(`+[^`]+`+)")  # what stands between backticks is left as it is


def escaped(line: str) -> str:
    parts = OUTSIDE.split(line)
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"[*|]|(?<=\w)_(?!\w)", r"\\\g<0>", parts[i])
    return "".join(parts)


def process(app, what, name, obj, options, lines):
    lines[:] = map(escaped, lines)


def dashes(app, doctree):
    """Sphinx puts two hyphens between the name of an argument and what is said of it, and expects them to become a dash."""
    for text in list(doctree.findall(nodes.Text)):
        if text == " -- ":
            text.parent.replace(text, nodes.Text(" – "))


def setup(app):
    app.connect("doctree-read", dashes)
    app.connect("autodoc-process-docstring", process, priority=100)  # before napoleon makes markup of sections
    return {"parallel_read_safe": True}
