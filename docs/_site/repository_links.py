"""Documents that lie outside of docs/ are shown as pages, and links to them lead to these pages.

Documents link to each other as files of the repository, so that they can be read there, too.
"""

import os
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHOWN = {
    "CONTRIBUTING.md": "docs/about/contributing.md",
    "CHANGELOG.md": "docs/about/changelog.md",
    "pretrained/README.md": "docs/about/shipped.md",
}
"""Documents by their path in the repository, and the pages that show them. Such a page's file has only a link."""

FOLDERS = ("docs/reproduce/README.md", "docs/benchmarks/README.md")
"""Documents under which the site lists the others of their folder."""

TOCTREE = "\n```{{toctree}}\n:hidden:\n{}\n```\n"
LINK = re.compile(r"\]\(([^)#:\s]+)(#[^)]*)?\)")


def relinked(text: str, file: Path, page: Path) -> str:
    """A document with its links changed for the site.

    Args:
        text: the document, in Markdown.
        file: its file; its links are relative to the folder of this file.
        page: the page that shows it; links of the result are relative to the folder of the page.
    """

    def link(found: re.Match) -> str:
        target, anchor = found.groups()
        name = os.path.relpath(file.parent / target, ROOT).replace(os.sep, "/")
        return f"]({os.path.relpath(ROOT / SHOWN.get(name, name), page.parent)}{anchor or ''})"

    return LINK.sub(link, text)


def read(app, docname, source):
    """Change the text of a page before it is parsed, if it is in Markdown."""
    page = Path(app.env.doc2path(docname))
    if page.suffix == ".md":
        file = next((ROOT / name for name, shown in SHOWN.items() if ROOT / shown == page), page)
        app.env.note_dependency(file)
        text = source[0] if file == page else file.read_text(encoding="utf-8")
        source[0] = relinked(text, file, page)
        if any(page == ROOT / name for name in FOLDERS):
            source[0] += TOCTREE.format(":glob:\n\n*")
        if docname == "index":
            others = [name for name in unnamed(text) if name in app.env.found_docs]
            source[0] += TOCTREE.format(":caption: More\n\n" + "\n".join(others)) if others else ""


def unnamed(index: str) -> list[str]:
    """The documents beside the first page that it does not name in a toctree."""
    named = set(re.findall(r"^(?:.* <)?([\w/-]+)>?$", index, flags=re.MULTILINE)) | {"index"}
    return sorted(path.stem for path in (ROOT / "docs").glob("*.md") if path.stem not in named)


def outdated(app, env, added, changed, removed):
    """The first page is read in each build, since it depends on which other files there are."""
    return ["index"]


def setup(app):
    app.connect("source-read", read)
    app.connect("env-get-outdated", outdated)
    return {"parallel_read_safe": True}
