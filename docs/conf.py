"""Settings of the site. ``make docs`` builds it into out/site with Sphinx, and any warning ends the build."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_site"), str(HERE.parent)]

from stylegan_invert import __version__  # noqa: E402

project = "stylegan-invert"
copyright = "the authors of stylegan-invert; licence Apache-2.0"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "docstrings",
    "formulas",
    "help_texts",  # with sphinx_click
    "method_options",
    "repository_links",
    "unbroken_options",
]
exclude_patterns = ["cli.md"]  # the same as reference/commands.rst, for readers of the repository

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
html_math_renderer = "mathml"

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes as a list
smartquotes = False  # it would make a dash of the two hyphens before an option
default_role = "code"  # docstrings put names between single backticks

html_theme = "furo"
html_title = "stylegan-invert"
html_static_path = ["_site/style.css"]
html_css_files = ["style.css"]
html_copy_source = False
html_theme_options = {"footer_icons": []}
