"""Downloads into a cache folder, with their checksums recorded, and the short names of official network files.

A server is trusted in nothing. What it sends has a limit of size, also after decompression, and must arrive at a
minimal rate. It is kept only if the server answered with exactly a file: not a page, not a part, not nothing. A download
that ended early goes on where it stopped if the server says that the file is still the same; otherwise it is removed.
"""

import contextlib
import hashlib
import json
import os
import queue
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from io import BufferedIOBase
from pathlib import Path
from typing import Any, NamedTuple

from ..cache import cache_dir
from ..errors import DownloadError, StyleganInvertError
from ..files import plain
from ..files.door import SETTINGS, Kind, limit_of, opened
from ..files.official import VGG16_SHA256
from ..files.writing import atomic, locked, safe_name, sha256_of_file
from .progress import bar

_ADA = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/"
_SOURCES = _ADA + "transfer-learning-source-nets/"
_SG3 = "https://api.ngc.nvidia.com/v2/models/nvidia/research/stylegan2/versions/1/files/"

SHORT_NAMES = {
    **{
        name: f"{_ADA}{name}.pkl"
        for name in ("ffhq", "metfaces", "afhqcat", "afhqdog", "afhqwild", "cifar10", "brecahad")
    },
    "ffhq256": f"{_SOURCES}ffhq-res256-mirror-paper256-noaug.pkl",
    "ffhq512": f"{_SOURCES}ffhq-res512-mirror-stylegan2-noaug.pkl",
    "celebahq256": f"{_SOURCES}celebahq-res256-mirror-paper256-kimg100000-ada-target0.5.pkl",
    "lsundog256": f"{_SOURCES}lsundog-res256-paper256-kimg100000-noaug.pkl",
    **{
        name: f"{_SG3}{name}.pkl"
        for name in (
            "stylegan2-ffhq-1024x1024",
            "stylegan2-ffhq-512x512",
            "stylegan2-ffhq-256x256",
            "stylegan2-ffhqu-1024x1024",
            "stylegan2-ffhqu-256x256",
            "stylegan2-metfaces-1024x1024",
            "stylegan2-metfacesu-1024x1024",
            "stylegan2-afhqv2-512x512",
            "stylegan2-afhqcat-512x512",
            "stylegan2-afhqdog-512x512",
            "stylegan2-afhqwild-512x512",
            "stylegan2-brecahad-512x512",
            "stylegan2-cifar10-32x32",
            "stylegan2-celebahq-256x256",
            "stylegan2-lsundog-256x256",
        )  # fmt: skip
    },
}
"""Short names that ``--network`` accepts, and the addresses of the official files they stand for."""

DOWNLOAD = Kind("a download", 2**34, DownloadError)
SLOWEST = 1000  # bytes per second that a server must send, on average over the time that `download` calls patience
_RECORD = plain.table({"sha256": plain.text()}, more=plain.anything)
_VERSION = plain.table({"validator": plain.text()})
_STEP = 1 << 20  # bytes that are read or decompressed at once

# The names of exceptions of the packages requests and urllib3, and what they mean in words.
_REASONS = {
    "ConnectionError": "the server cannot be reached (is there a network?)",
    "ConnectTimeout": "the server did not answer in time",
    "ReadTimeout": "the server stopped answering",
    "ReadTimeoutError": "the server stopped answering",
    "SSLError": "the connection is not secure",
    "ProxyError": "the proxy cannot be reached",
    "ChunkedEncodingError": "the connection ended too early; try again",
    "ProtocolError": "the connection ended too early; try again",
    "IncompleteRead": "the connection ended too early; try again",
    "TooManyRedirects": "the server leads in a circle",
    "MissingSchema": "it is no address",
    "InvalidSchema": "it is, or leads to, an address that does not begin with http:// or https://",
    "InvalidURL": "it is no address",
    "LocationParseError": "it is no address",
    "ValueError": "it is no address",
    "UnicodeError": "it is no address",
}

# How pages, messages of servers and stand-ins for large files begin. No network file begins so.
_PAGES = (b"<!doctype", b"<html", b"<head", b"<body", b"<?xml", b"<!--", b'{"', b"version https://git-lfs")

VGG16_URL = f"{_ADA}metrics/vgg16.pt"
INCEPTION_URL = "https://download.pytorch.org/models/inception_v3_google-0cc3c7bd.pth"
INCEPTION_SHA256 = "0cc3c7bd"  # the first digits of its SHA-256, which torchvision puts into the name of the file


def shown_url(url: str) -> str:
    """A URL without user, password, query and fragment, which may be secret; any other text as it is."""
    parts = re.match(r"(https?://)([^/?#]*)([^?#]*)", url, re.IGNORECASE)
    if parts is None:
        return url
    host = parts[2].rpartition("@")[2]
    if not re.fullmatch(r"(\[[^\]]*\]|[^:]*)(:\d*)?", host):  # what looks like a port may be a part of a password
        return parts[1] + "..."
    return parts[1] + host + parts[3]


def cached_path(url: str) -> Path:
    """The path of a URL's file in the cache, whether it was downloaded yet or not. Different URLs have different paths."""
    name = safe_name(os.path.basename(shown_url(url)) or "file")
    return cache_dir() / f"{hashlib.sha256(url.encode(errors='surrogatepass')).hexdigest()[:12]}-{name}"


class _Lost(DownloadError):
    """The connection was lost; what has arrived is right as far as it goes."""


def download(url: str, sha256: str | None = None, timeout: float = 30, patience: float = 60) -> Path:
    """Download a URL into the cache, unless it is there already.

    Two processes that need the same file download it once: the second waits for the first.

    Args:
        url: an http or https address.
        sha256: the SHA-256 that the file must have, or its first digits. None accepts any file at the first download,
            records its SHA-256 beside it, and compares with the record later.
        timeout: the number of seconds without any answer after which the download fails.
        patience: the number of seconds in which the server must have begun to answer, and in each of which it must send
            at least `SLOWEST` bytes per second on average.

    Returns:
        The path of the cached file.

    Raises:
        DownloadError: the download failed, is larger than allowed, is no file, or the checksum differs. The message names
            the URL without what may be secret in it, the reason, and the path to which a file fetched by other means can
            be saved.
    """
    path, shown = cached_path(url), shown_url(url)
    if path.exists():
        return _known(path, shown, sha256)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        with _turn(partial, path.name) as file:
            if path.exists():  # another process has downloaded it meanwhile
                return _known(path, shown, sha256)
            _fetch(url, file, partial, sha256, timeout, patience)
            _write_record(path, shown, sha256_of_file(partial), partial.stat().st_size)
            os.replace(partial, path)
            _validator_file(partial).unlink(missing_ok=True)
    except DownloadError as e:
        reason = str(e).removesuffix(".")
        raise DownloadError(
            f"could not download {shown}: {reason}. Fetch it by other means and save it as {path}"
        ) from None
    except OSError as e:
        raise DownloadError(
            f"could not save {shown} as {path} ({e.strerror or e}); name another cache folder with "
            "STYLEGAN_INVERT_CACHE"
        ) from None
    return path


def _known(path: Path, shown: str, sha256: str | None) -> Path:
    """A file that is in the cache, after a comparison of its checksum with the expected or recorded one."""
    recorded = sha256
    if recorded is None:
        with contextlib.suppress(StyleganInvertError):
            value = plain.read_json(path.with_name(path.name + ".json"), SETTINGS, _RECORD)["sha256"]
            recorded = value if re.fullmatch("[0-9a-f]{64}", value) else None
    with opened(path, DOWNLOAD) as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if recorded and not actual.startswith(recorded):
        raise DownloadError(
            f"{path} (from {shown}) has SHA-256 {actual}; expected {recorded}. Delete it to download it again"
        )
    if recorded is None:  # the record is missing or damaged
        with contextlib.suppress(OSError):
            _write_record(path, shown, actual, path.stat().st_size)
    return path


def _write_record(path: Path, shown: str, digest: str, size: int) -> None:
    with atomic(path.with_name(path.name + ".json")) as temporary:
        temporary.write_text(json.dumps({"url": shown, "sha256": digest, "bytes": size}, indent=2) + "\n")


@contextlib.contextmanager
def _turn(partial: Path, name: str) -> Iterator[BufferedIOBase]:
    """A context manager that opens a partial file when no other process has it, and removes it if it stays empty."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(locked(partial, wait=False))
        if file is None:
            with bar(None, f"{name}: another process downloads it; waiting", unit="B"):
                file = stack.enter_context(locked(partial))
        assert file is not None  # `locked` has waited for it
        try:
            yield file
        finally:
            with contextlib.suppress(OSError):
                if partial.stat().st_size == 0:
                    partial.unlink()


def _validator_file(partial: Path) -> Path:
    return partial.with_name(partial.name + ".json")


def _validator(partial: Path) -> str | None:
    """What the server called the version of a partial file, in its header ETag or Last-Modified; None if it did not."""
    with contextlib.suppress(StyleganInvertError):
        value = plain.read_json(_validator_file(partial), SETTINGS, _VERSION)["validator"]
        if value.isprintable() and value.isascii():
            return value
    return None


def _fetch(url: str, file: BufferedIOBase, partial: Path, sha256: str | None, timeout: float, patience: float) -> None:
    """Download into a partial file, after what is in it already if the server agrees, and check the whole."""
    done = file.seek(0, os.SEEK_END)
    validator = _validator(partial) if done else None
    keep = False
    try:
        if validator is None or not _append(url, file, partial, done, validator, timeout, patience):
            file.truncate(0)
            _append(url, file, partial, 0, None, timeout, patience)
        _check_contents(file, sha256)
        keep = True
    except (_Lost, KeyboardInterrupt):
        keep = _validator(partial) is not None
        raise
    finally:
        if not keep:
            for path in (partial, _validator_file(partial)):
                path.unlink(missing_ok=True)


def _append(
    url: str, file: BufferedIOBase, partial: Path, done: int, validator: str | None, timeout: float, patience: float
) -> bool:
    """Download the bytes of a file from number ``done`` on; False if the server cannot go on there."""
    headers = {"Accept-Encoding": "identity"}
    if done and validator is not None:
        headers |= {"Range": f"bytes={done}-", "If-Range": validator}
    with _response(url, headers, timeout, patience) as (answer, parts):
        if done and answer.status in (200, 416):  # the file has changed, or the server cannot send parts
            return False
        if done and answer.status != 206:
            raise _Lost(f"the server answered {answer.status}; try again later")
        total = _check_answer(answer, url, done)
        encoded = answer.headers.get("Content-Encoding", "identity").lower()
        if not done:
            _note_validator(partial, answer.headers, encoded)
        if encoded in ("gzip", "x-gzip"):
            parts, total = _inflated(parts, total), None
        elif encoded != "identity":
            raise DownloadError(f"the server sent it in the encoding {encoded!r}; expected none or gzip")
        limit = limit_of(DOWNLOAD)
        try:
            with bar(total, partial.name[1 : -len(".partial")], unit="B", unit_scale=True, initial=done) as progress:
                for part in parts:
                    done += len(part)
                    _check_size(done, limit)
                    file.write(part)
                    progress.update(len(part))
            if total is not None and done != total:
                raise _Lost("the connection ended too early; try again")
        except _Lost as e:
            raise _Lost(f"after {done:,}{'' if total is None else f' of {total:,}'} bytes {e}") from None
        finally:
            file.flush()
    return True


class _Answer(NamedTuple):
    """The head of an answer: HTTP status, the address after all redirections, and the headers."""

    status: int
    url: str
    headers: Mapping[str, str]


def _check_answer(answer: _Answer, url: str, done: int) -> int | None:
    """Refuse an answer that does not bring a file; returns the size of the whole file if the server says it."""
    headers = answer.headers
    if answer.status != (206 if done else 200):
        raise DownloadError(f"the server answered {answer.status}; expected {206 if done else 200} with the file")
    if url.lower().startswith("https:") and not answer.url.lower().startswith("https:"):
        raise DownloadError("it leads from https to http, which is not secure")
    if headers.get("Content-Type", "").lower().startswith(("text/html", "application/xhtml")):
        raise DownloadError("the server sent a page in place of a file (perhaps a login is needed)")
    length = headers.get("Content-Length")
    if length is not None and not re.fullmatch("[0-9]{1,18}", length):
        raise DownloadError(f"the server's Content-Length is {length[:40]!r}; expected a number of bytes")
    total = None if length is None else done + int(length)
    if done:
        content = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", headers.get("Content-Range", ""))
        if content is None or int(content[1]) != done:
            raise DownloadError(f"the server sent another part of the file than the one from byte {done:,} on")
        total = total if content[3] == "*" else int(content[3])
    _check_size(total or 0, limit_of(DOWNLOAD))
    return total


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise DownloadError(
            f"it has more than {limit:,} bytes, the limit of a download, unless --max-file-size allows more"
        )


def _note_validator(partial: Path, headers: Mapping[str, str], encoded: str) -> None:
    """Remember how the server calls this version of the file, if it can send parts of it later."""
    etag = headers.get("ETag", "")
    validator = etag if etag.startswith('"') else headers.get("Last-Modified")  # W/"..." does not promise equal bytes
    if validator and encoded == "identity" and headers.get("Accept-Ranges", "").lower() == "bytes":
        with atomic(_validator_file(partial)) as temporary:
            temporary.write_text(json.dumps({"validator": validator}) + "\n")
    else:
        _validator_file(partial).unlink(missing_ok=True)


def _inflated(parts: Iterator[bytes], total: int | None) -> Iterator[bytes]:
    """Decompress gzip, a bounded part at a time, and check that all of it came.

    Args:
        parts: the compressed bytes.
        total: their number; None if it is unknown.
    """
    inflater, came = zlib.decompressobj(16 + zlib.MAX_WBITS), 0
    try:
        for data in parts:
            came += len(data)
            while True:
                part = inflater.decompress(data, _STEP)
                yield part
                data = inflater.unconsumed_tail
                if len(part) < _STEP:
                    break
    except zlib.error as e:
        raise DownloadError(f"the server's compression is damaged ({e})") from None
    if not inflater.eof or (total is not None and came != total):
        raise _Lost(f"the connection ended after {came:,} compressed bytes; try again")


def _check_contents(file: BufferedIOBase, sha256: str | None) -> None:
    """Refuse a whole download that is empty, is a page or has another checksum."""
    file.seek(0)
    head = file.read(256)
    if not head:
        raise DownloadError("the server sent nothing")
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(_PAGES):
        raise DownloadError("the server sent a page or a message in place of a file (perhaps a login is needed)")
    file.seek(0)
    actual = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 and not actual.startswith(sha256):
        raise DownloadError(f"it has SHA-256 {actual}; expected {sha256}")


@contextlib.contextmanager
def _response(
    url: str, headers: Mapping[str, str], timeout: float, patience: float
) -> Iterator[tuple[_Answer, Iterator[bytes]]]:
    """A context manager with the head of a server's answer and an iterator of its bytes, none of which takes for ever.

    The connection belongs to a thread, because looking up a name and reading the headers cannot be given a limit of
    time otherwise. The thread is left to itself when it exceeds that limit, and ends at the next byte.

    Raises:
        _Lost: the connection failed, or the server is too slow.
    """
    items: queue.Queue = queue.Queue(16)
    stop = threading.Event()
    threading.Thread(target=_read, args=(url, headers, timeout, items, stop), daemon=True).start()

    def next_item(until: float, words: Callable[[], str]) -> Any:
        try:
            item = items.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            raise _Lost(words()) from None
        if isinstance(item, Exception):
            raise _Lost(_REASONS.get(type(item).__name__, type(item).__name__))
        return item

    def parts() -> Iterator[bytes]:
        until, came = time.monotonic() + patience, 0

        def too_slow() -> str:
            return f"the server sent {came:,} bytes in {patience:g} seconds; expected {SLOWEST:,} per second"

        while part := next_item(until, too_slow):
            came += len(part)
            if time.monotonic() >= until:
                if came < SLOWEST * patience:
                    raise _Lost(too_slow())
                until, came = time.monotonic() + patience, 0
            yield part

    try:
        yield next_item(time.monotonic() + patience, lambda: "the server did not answer in time"), parts()
    finally:
        stop.set()


def _read(url: str, headers: Mapping[str, str], timeout: float, items: queue.Queue, stop: threading.Event) -> None:
    """Put a server's answer into a queue: an `_Answer`, then its bytes, at the end b"" or an exception."""

    def put(item: Any) -> None:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                return items.put(item, timeout=0.5)

    try:
        import requests

        with requests.get(url, stream=True, timeout=timeout, headers=headers) as response:
            put(_Answer(response.status_code, response.url, response.headers))
            # read1 returns what has come; urllib3 before 2.1 has only read, which waits for all of it.
            read, size = (response.raw.read1, _STEP) if hasattr(response.raw, "read1") else (response.raw.read, 1024)
            while not stop.is_set():
                part = read(size, decode_content=False)
                put(part)
                if not part:
                    break
    except Exception as e:  # of requests, of urllib3, or of the resolver of names; all mean that nothing comes
        put(e)


def vgg16_file(file: str | os.PathLike | None = None) -> Path:
    """The file of VGG16, the network that the loss "lpips-vgg" compares pictures with.

    Args:
        file: a path. None takes the path in the environment variable ``STYLEGAN_INVERT_VGG16``; if that is not set, the
            official file, which is downloaded at the first use.

    Raises:
        DownloadError: the official file is not in the cache, and downloading it failed.
    """
    named = file or os.environ.get("STYLEGAN_INVERT_VGG16")
    if named:
        return Path(named)
    try:
        return download(VGG16_URL, VGG16_SHA256)
    except DownloadError as e:
        raise DownloadError(
            f"{e}. Or name a file with --vgg16 or STYLEGAN_INVERT_VGG16, or use --loss lpips-squeeze, which needs none"
        ) from None


def inception_file(file: str | os.PathLike | None = None) -> Path | None:
    """The file of InceptionV3, a network that the losses "features" and "features-sum" can compare pictures with.

    Args:
        file: a path, or "download" for torchvision's file, which is downloaded at the first use and compared with the
            checksum in its name. None takes the value of the environment variable ``STYLEGAN_INVERT_INCEPTION``.

    Returns:
        The path; None if neither ``file`` nor the variable is set.

    Raises:
        DownloadError: the download failed.
    """
    named = file or os.environ.get("STYLEGAN_INVERT_INCEPTION")
    if named == "download":
        return download(INCEPTION_URL, INCEPTION_SHA256)
    return Path(named) if named else None
