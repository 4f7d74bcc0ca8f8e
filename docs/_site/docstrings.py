"""Docstrings are plain sentences with names between backticks: escape what reStructuredText would read in them besides."""

import re

OUTSIDE = re.compile(r"(`+[^`]+`+)")  # what stands between backticks is left as it is


def escaped(line: str) -> str:
    parts = OUTSIDE.split(line)
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"[*|]|(?<=\w)_(?!\w)", r"\\\g<0>", parts[i])
    return "".join(parts)


def process(app, what, name, obj, options, lines):
    lines[:] = map(escaped, lines)


def setup(app):
    app.connect("autodoc-process-docstring", process, priority=100)  # before napoleon makes markup of sections
    return {"parallel_read_safe": True}
