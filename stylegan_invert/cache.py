"""Where files are kept between runs."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path


def cache_dir() -> Path:
    """The folder that holds downloads, statistics and the built operations; it need not exist yet.

    It is ``STYLEGAN_INVERT_CACHE``, exactly as given, if that variable is set and not empty. Otherwise it is the folder
    ``stylegan-invert`` in the user's cache folder: ``LOCALAPPDATA`` on Windows, elsewhere ``XDG_CACHE_HOME`` or ``~/.cache``.
    As the XDG Base Directory Specification demands, a variable that is empty or names a relative path counts as not set. A
    user without an absolute home folder gets a folder of their own in the system's temporary folder.
    """
    chosen = os.environ.get("STYLEGAN_INVERT_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME", "")
    if os.path.isabs(base):
        return Path(base) / "stylegan-invert"
    home = os.path.expanduser("~")
    if not os.path.isabs(home):  # also if there is no home folder at all: "~" is then returned unchanged
        user = os.getuid() if hasattr(os, "getuid") else "user"
        return Path(tempfile.gettempdir()) / f"stylegan-invert-{user}"
    return Path(home) / ("stylegan-invert" if sys.platform == "win32" else ".cache/stylegan-invert")


@contextlib.contextmanager
def empty_cache() -> Iterator[None]:
    """A context manager within which `cache_dir` is an empty folder, for the whole process. The folder is removed at the end."""
    name = "STYLEGAN_INVERT_CACHE"
    before = os.environ.get(name)
    with tempfile.TemporaryDirectory() as folder:
        os.environ[name] = folder
        try:
            yield
        finally:
            del os.environ[name]
            if before is not None:
                os.environ[name] = before
