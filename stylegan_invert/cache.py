"""Where files are kept between runs."""

import os
import sys
from pathlib import Path


def cache_dir() -> Path:
    """``STYLEGAN_INVERT_CACHE``, else ``stylegan-invert`` in the user's cache folder."""
    if os.environ.get("STYLEGAN_INVERT_CACHE"):
        return Path(os.environ["STYLEGAN_INVERT_CACHE"])
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "stylegan-invert"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "stylegan-invert"
