"""Where a network is: a URL, an address on the Hugging Face Hub, a short name or a path becomes the path of a file.

Nothing here imports torch.
"""

import contextlib
import os
import re
import stat
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from .. import pretrained
from ..errors import NetworkFileError, meant, printable
from ..io import hub
from ..io.download import SHORT_NAMES, cached_path, download, shown_url

SHIPPED = {
    "cats64-de": pretrained.DEMO_NETWORK,
    "cats32-de": "cats32-de.pkl",
    "cats32": "cats32-stylegan2-ada.pkl",
    "faces64": "faces64-dcgan.pt",
    "digits-wavegan": "digits-wavegan.safetensors",
}
"""Short names of the networks that come with this package, and their files."""

OF_PICTURES = tuple(name for name in SHIPPED if name != "digits-wavegan")
"""Those of `SHIPPED` that make pictures."""


def check(source: str | os.PathLike) -> None:
    """Refuse a misspelt source. Nothing is downloaded.

    Raises:
        NetworkFileError: the source is neither a URL, nor a short name, nor the path of an existing regular file or folder.
        DownloadError: it begins as an address on the Hub and is none.
    """
    name = os.fspath(source)
    if hub.is_hub(name):
        hub.parse_address(name)
        return
    if _is_url(name) or name in SHORT_NAMES or name in SHIPPED:
        return
    try:
        mode = os.stat(os.path.expanduser(name)).st_mode
    except FileNotFoundError:
        names = ", ".join([*SHIPPED, *SHORT_NAMES][:8])
        near = meant(name, [*SHIPPED, *SHORT_NAMES])
        hint = f"expected a path, a URL, hf://OWNER/REPOSITORY, or one of the short names {names} and others{near}"
        raise NetworkFileError(name, "", f"there is no such file; {hint}") from None
    except OSError as e:
        raise NetworkFileError(name, "", f"it cannot be read: {e.strerror or e}") from None
    except ValueError as e:  # the path has a zero byte
        raise NetworkFileError(name, "", f"it cannot be read: {e}") from None
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise NetworkFileError(name, "", "it is a pipe, a socket or a device; expected a network file or a folder")


def resolve(source: str | os.PathLike, folders: Sequence[Collection[str]] = ()) -> Path:
    """The file or folder of a network. A URL and an official short name are downloaded once, into the cache.

    Args:
        source: a path, an http(s) URL, an address on the Hub (see `io.hub.fetch_network`), an official short name
            ("ffhq", "metfaces", ...), or the short name of a network that comes with this package ("cats64-de",
            "cats32-de", "cats32", "faces64", "digits-wavegan"). A file of the same name is preferred to a short name.
        folders: collections of names of files that make a network together, for repositories on the Hub.

    Raises:
        NetworkFileError: there is nothing of this name.
        DownloadError: the file cannot be downloaded.
    """
    check(source)
    name = os.fspath(source)
    if hub.is_hub(name):
        return hub.fetch_network(name, folders)
    if _is_url(name):
        return download(name)
    if name in SHORT_NAMES and not os.path.exists(name):
        return download(SHORT_NAMES[name])
    if name in SHIPPED and not os.path.exists(name):
        return pretrained.path(SHIPPED[name])
    return Path(os.path.expanduser(name))


def _is_url(name: str) -> bool:
    return re.match(r"https?://", name, re.IGNORECASE) is not None


def beside(source: str | os.PathLike, path: Path) -> Path:
    """The path of a file that lies beside a network; a repository's file is downloaded if there is one."""
    found = hub.fetch_beside(source, path.name) if hub.is_hub(source) else None
    return found or path


def shown(source: str | os.PathLike) -> str:
    """The name of a source in errors and records; an address is without what may be secret in it."""
    return hub.shown_address(shown_url(os.fspath(source)))


@contextlib.contextmanager
def downloaded(source: str | os.PathLike) -> Iterator[None]:
    """A context manager in which a downloaded file is read. If it is no network, the error names the file to delete."""
    try:
        yield
    except NetworkFileError as e:
        name = os.fspath(source)
        url = name if _is_url(name) else SHORT_NAMES.get(name) if not os.path.exists(name) else None
        if url is None:
            raise
        remedy = f"It was downloaded to {cached_path(url)}; delete that file to download it again"
        raise NetworkFileError(e.file, e.place, f"{printable(e.reason, 300)}. {remedy}") from None
