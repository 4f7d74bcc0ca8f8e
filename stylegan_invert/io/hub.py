"""Files of repositories on the Hugging Face Hub, named hf://OWNER/REPOSITORY[@REVISION]/FILE. Nothing here imports torch.

The package huggingface_hub (the extra "hub") speaks with the server, and the cache of files is its own. The messages of its
errors may quote headers, addresses and answers of the server, in which there may be a token. So none of them is shown: an
error is told in words of this file, by its class.
"""

import hashlib
import importlib
import logging
import os
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

from ..errors import DownloadError, printable
from ..files.door import check_size, limit_of, opened
from .download import DOWNLOAD

SCHEME = "hf://"
FORM = "hf://OWNER/REPOSITORY/FILE, perhaps with @REVISION after the repository"
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
ADDRESS = re.compile(
    rf"hf://(?P<repository>{NAME}/{NAME})(?:@(?P<revision>refs/[a-z]+/[^/@\s]+|[^/@\s]+))?(?:/(?P<file>.*))?",
    re.IGNORECASE,
)
COMMIT = re.compile(r"[0-9a-f]{40}")
PREFERRED = ((".safetensors",), (".pkl", ".pt", ".pth"))  # endings of network files, in the order of preference
PATIENCE = 30  # seconds without any answer after which the server is given up

TOKEN = "set HF_TOKEN to a token that may, or log in with 'hf auth login'"
# The names of exceptions of huggingface_hub and of the package that it speaks HTTP with, and what they mean in words.
_REASONS = {
    "GatedRepoError": f"its owner gives access on request only; ask for it on the page of the repository, and {TOKEN}",
    "RepositoryNotFoundError": f"there is no such repository, or it is private and no token may read it; {TOKEN}",
    "DisabledRepoError": "the Hub has disabled this repository",
    "RevisionNotFoundError": "there is no such revision (branch, tag or commit) of the repository",
    "RemoteEntryNotFoundError": "there is no such file in the repository",
    "BadRequestError": "the server refused the request as malformed",
    "HFValidationError": f"it is no address of a repository; expected {FORM}",
    "OfflineModeIsEnabled": "HF_HUB_OFFLINE is set",
    "LocalEntryNotFoundError": "it is not in the cache, and the server cannot be reached",
    "ProxyError": "the proxy cannot be reached",
    "TimeoutException": "the server did not answer in time",
    "ConnectError": "the server cannot be reached (is there a network?)",
    "TransportError": "the connection failed; try again",
    "TooManyRedirects": "the server leads in a circle",
    "LocalProtocolError": "the token has characters that no token has; look at HF_TOKEN",
    "UnicodeEncodeError": "the token has characters that no token has; look at HF_TOKEN",
}
_STATUS = {401: f"the server does not accept the token; {TOKEN}", 403: f"the token does not allow this; {TOKEN}"}
T = TypeVar("T")


class Address(NamedTuple):
    """A file on the Hub.

    Attributes:
        repository: "OWNER/NAME".
        revision: a branch, a tag or a commit; None for the main branch.
        file: its path in the repository; None if none is named.
    """

    repository: str
    revision: str | None
    file: str | None

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{SCHEME}{self.repository}{revision}" + (f"/{self.file}" if self.file else "")


class _Entry(NamedTuple):
    """What the server says of a file: its size in bytes, and its SHA-256, or the SHA-1 of the file as git stores it."""

    size: int | None
    digest: str | None


class _Listing(NamedTuple):
    """The files of a repository.

    Attributes:
        files: by name, what is known of them.
        unreachable: why the server could not be asked, so that these are the files in the cache; "" if it was.
    """

    files: dict[str, _Entry]
    unreachable: str


def is_hub(name: str | os.PathLike) -> bool:
    """True if a name is an address on the Hub, well formed or not."""
    return os.fspath(name)[: len(SCHEME)].lower() == SCHEME


def shown_address(name: str) -> str:
    """An address as it is shown in errors and records: without what may be a token."""
    return re.sub(r"hf_[A-Za-z0-9]{8,}", "hf_...", name)


def parse_address(name: str | os.PathLike) -> Address:
    """Read an address. "%2F" stands for a "/" in a revision.

    Raises:
        DownloadError: it is malformed.
    """
    text = os.fspath(name)
    match = ADDRESS.fullmatch(text)
    file = (match["file"] or None) if match else None
    parts = file.split("/") if file else []
    if match is None or not text.isprintable() or "\\" in text or not all(part.strip(". ") for part in parts):
        raise DownloadError(f"{printable(shown_address(text), 300)}: it is no address on the Hub; expected {FORM}")
    revision = match["revision"]
    return Address(match["repository"], re.sub("%2f", "/", revision, flags=re.I) if revision else None, file)


def fetch(name: str | os.PathLike) -> Path:
    """Download the file of an address, unless the cache has it, and return its path there.

    The cache is asked alone if the server cannot be reached, if HF_HUB_OFFLINE is set, or if the revision is the hash of a
    commit, which cannot change.

    Raises:
        DownloadError: the address is malformed or names no file; the file cannot be had, is larger than allowed, or has
            another hash than the Hub says. The message has no token in it.
    """
    return _fetch(parse_address(name), lambda listing, where: _refuse("it names no file", listing, where))


def fetch_network(name: str | os.PathLike, folders: Sequence[Collection[str]] = ()) -> Path:
    """`fetch` of a network, whose file need not be named if it can be told from the others.

    It is the one file in the top folder of the repository that ends in .safetensors, else the files of one of ``folders``,
    else the one that ends in .pkl, .pt or .pth.

    Args:
        name: the address.
        folders: collections of names of files that make a network together.

    Returns:
        The path of the file; of its folder if it is one of ``folders``.

    Raises:
        DownloadError: as for `fetch`; or the repository has no such file, or several.
    """

    def choose(listing: _Listing, where: Address) -> list[str]:
        for endings in PREFERRED:
            found = [file for file in listing.files if "/" not in file and file.lower().endswith(endings)]
            if len(found) == 1:
                return found
            if found:
                _refuse("it has several files that may be the network; name one", listing, where)
            for folder in folders if endings == PREFERRED[0] else ():
                if set(folder) <= set(listing.files):
                    return list(folder)
        _refuse("it has no network file in its top folder; name a file", listing, where)

    return _fetch(parse_address(name), choose)


def fetch_beside(name: str | os.PathLike, file: str) -> Path | None:
    """The path of a file in the same folder of the repository as the one of an address; None if it has none of that name."""
    where = parse_address(name)
    folder, slash, _ = (where.file or "").rpartition("/")
    there = where._replace(file=f"{folder}{slash}{file}")
    return fetch(str(there)) if there.file in _listing(there).files else None


def _refuse(reason: str, listing: _Listing, where: Address) -> NoReturn:
    """Raise the error that says what a repository has, or the cache of it."""
    names, holder = sorted(listing.files), "the cache of it" if listing.unreachable else "the repository"
    listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    asked = f" ({listing.unreachable}, so the cache was asked)" if listing.unreachable else ""
    raise DownloadError(f"{where}: {reason}; {holder} has {printable(listed, 400) or 'no file'}{asked}")


def _fetch(where: Address, choose: Callable[[_Listing, Address], list[str]]) -> Path:
    if where.file and where.revision and COMMIT.fullmatch(where.revision) and (path := _cached(where)):
        return _checked(path, where, None)
    listing = _listing(where)
    names = [where.file] if where.file else choose(listing, where)
    paths = [_download(where._replace(file=file), listing) for file in names]
    return paths[0] if len(paths) == 1 else paths[0].parent


def _library(where: object = SCHEME) -> Any:
    """The package huggingface_hub."""
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError:
        raise DownloadError(
            f"{where}: this needs the package huggingface-hub; install it with pip install 'stylegan-invert[hub]'"
        ) from None


def call(where: object, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call a function of huggingface_hub. Its warnings are not shown, and its errors are told by their class.

    Raises:
        DownloadError: it failed.
    """
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        return function(*args, **kwargs)
    except DownloadError:
        raise
    except Exception as e:  # of that package, of those below it, or of what the server sent; the text may hold a token
        raise DownloadError(f"{where}: {_reason(e)}") from None
    finally:
        log.setLevel(level)


def _names(error: Exception) -> list[str]:
    return [cls.__name__ for cls in type(error).__mro__]


def _reason(error: Exception) -> str:
    """An error of huggingface_hub in words."""
    if type(error) is RuntimeError and isinstance(error.__cause__, Exception):  # so it tells that an upload failed
        return _reason(error.__cause__)
    names = _names(error)
    reason = next((_REASONS[name] for name in names if name in _REASONS), None)
    if reason is None and "HfHubHTTPError" in names:
        status = _status(error)
        reason = _STATUS.get(status, f"the server answered {status or 'nothing'}; try again later")
    elif reason is None and isinstance(error, OSError):
        full = f"it cannot be saved: {error.strerror}; HF_HOME names another folder for the cache"
        reason = full if error.strerror else "the connection ended before the whole file had come; try again"
    return reason or f"the answer is not that of a Hugging Face Hub ({type(error).__name__}); look at HF_ENDPOINT"


def _status(error: Exception) -> int:
    """The status with which the server answered; 0 if the error tells of none."""
    status = getattr(getattr(error, "response", None), "status_code", 0)
    return status if isinstance(status, int) else 0


def _unreachable(error: Exception) -> bool:
    """True if an error says nothing of the repository, so that the cache may be asked."""
    names = _names(error)
    failed = any(name in names for name in ("TransportError", "ConnectionError")) and "LocalProtocolError" not in names
    return failed or _status(error) >= 500


def _listing(where: Address) -> _Listing:
    """The files of a repository; those in the cache if the server cannot be asked."""
    hub = _library(where)

    def ask() -> _Listing:
        try:
            info = hub.HfApi().model_info(
                where.repository, revision=where.revision, files_metadata=True, timeout=PATIENCE
            )
        except Exception as e:
            if not _unreachable(e):
                raise
            return _Listing(dict.fromkeys(_cached_names(where), _Entry(None, None)), _reason(e))
        entries = {}
        for file in info.siblings or []:
            sha256 = getattr(file.lfs, "sha256", None)
            entries[str(file.rfilename)] = _Entry(file.size if type(file.size) is int else None, sha256 or file.blob_id)
        return _Listing(entries, "")

    return call(where, ask)


def _cached(where: Address) -> Path | None:
    """The path of a file in the cache; None if it is not there."""
    found = call(
        where, _library(where).try_to_load_from_cache, where.repository, where.file, revision=where.revision or "main"
    )
    return Path(found) if isinstance(found, str) else None


def _cached_names(where: Address) -> list[str]:
    """The names of a repository's files that are in the cache."""
    try:
        found = _library(where).snapshot_download(where.repository, revision=where.revision, local_files_only=True)
    except FileNotFoundError as e:
        found = getattr(e, "snapshot_path", None)  # given if some files of the repository are there and some are not
    folder = None if found is None else Path(found)
    return [] if folder is None else sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def _download(where: Address, listing: _Listing) -> Path:
    """Download one file, or take it from the cache if the server could not be asked."""
    hub, name = _library(where), printable(str(where), 300)
    if where.file not in listing.files:
        _refuse("there is no such file", listing, where)
    entry = listing.files[where.file]
    check_size(entry.size or 0, DOWNLOAD, name)
    path = call(
        where,
        hub.hf_hub_download,
        where.repository,
        where.file,
        revision=where.revision,
        local_files_only=bool(listing.unreachable),
        tqdm_class=_limited_bar(hub, name),
    )
    return _checked(Path(path), where, entry.digest)


def _limited_bar(hub: Any, name: str) -> type:
    """A progress bar of huggingface_hub, which ends the download of more bytes than a download may have."""

    class Bar(hub.utils.tqdm):
        came = 0.0

        def update(self, n: float | None = 1) -> Any:
            self.came += n or 0
            if self.came > limit_of(DOWNLOAD):
                check_size(int(self.came), DOWNLOAD, name)
            return super().update(n)

    return Bar


def _checked(path: Path, where: Address, digest: str | None) -> Path:
    """A file of the cache, after a comparison of its hash with the one that the server says, or that names it there."""
    blob = path.resolve()
    digest = digest or blob.name
    if not re.fullmatch("[0-9a-f]{64}|[0-9a-f]{40}", digest):
        return path
    with opened(path, DOWNLOAD, str(where)) as file:
        if len(digest) == 64:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
        else:  # git's: the file after a word and its length
            head = f"blob {os.fstat(file.fileno()).st_size}\0".encode()
            actual = hashlib.file_digest(file, lambda: hashlib.sha1(head, usedforsecurity=False)).hexdigest()
    if actual != digest:
        kind = "SHA-256" if len(digest) == 64 else "git hash"
        raise DownloadError(
            f"{where}: {blob} has the {kind} {actual}; the Hub says {digest}. Delete that file to download it again"
        )
    return path


def upload_folder(
    folder: Path, repository: str, private: bool, token: str | None, revision: str | None, message: str
) -> str:
    """Upload all files of a folder as one commit of a repository, which is made if it does not exist.

    Args:
        folder: the folder.
        repository: "OWNER/NAME".
        private: True makes a new repository private.
        token: a token that may write; None takes that of HF_TOKEN or of 'hf auth login'.
        revision: the branch; None for the main branch.
        message: the message of the commit.

    Returns:
        The address of the commit.

    Raises:
        DownloadError: the Hub cannot be reached or refuses it. The message has no token in it.
    """
    where = parse_address(f"{SCHEME}{repository}")
    api = _library(where).HfApi(token=token)
    call(where, api.create_repo, repository, private=private, exist_ok=True)
    commit = call(
        where,
        api.upload_folder,
        repo_id=repository,
        folder_path=folder,
        revision=revision,
        commit_message=message,
    )
    return str(commit.commit_url)
