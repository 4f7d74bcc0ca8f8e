"""Downloads into a cache, with their checksum recorded; and the official short names."""

import contextlib
import hashlib
import json
import os
from pathlib import Path
from urllib.parse import urlparse

from ..cache import cache_dir
from ..errors import DownloadError
from .files import atomic, sha256_of_file

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
"""Names that ``--network`` takes for the official files."""

_REASONS = {
    "ConnectionError": "the server cannot be reached (is there a network?)",
    "ConnectTimeout": "the server did not answer in time",
    "ReadTimeout": "the server stopped answering",
    "SSLError": "the connection is not secure",
    "ProxyError": "the proxy cannot be reached",
    "ChunkedEncodingError": "the connection ended too early; try again",
    "MissingSchema": "it is no address",
    "InvalidURL": "it is no address",
}

VGG16_URL = f"{_ADA}metrics/vgg16.pt"
INCEPTION_URL = "https://download.pytorch.org/models/inception_v3_google-0cc3c7bd.pth"
INCEPTION_SHA256 = "0cc3c7bd"  # its beginning, which torchvision puts into the name of the file


def cached_path(url: str) -> Path:
    """Where ``url`` is, or would be, in the cache."""
    name = os.path.basename(urlparse(url).path) or "file"
    return cache_dir() / f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{name}"


def download(url: str, sha256: str | None = None, timeout: float = 30) -> Path:
    """The cached file of a URL, fetched if it is not there.

    Args:
        url: http or https.
        sha256: what the file must hash to, or the beginning of it. Without it the hash of the first download is recorded
            beside the file, and later uses are held against that.
        timeout: seconds without any answer.

    Raises:
        DownloadError: with the URL, the reason and the place where a copy fetched by other means may be put.
    """
    path = cached_path(url)
    record = path.with_name(path.name + ".json")
    if path.exists():
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            sha256 = sha256 or json.loads(record.read_text())["sha256"]
        found = sha256_of_file(path)
        if sha256 and not found.startswith(sha256):
            raise DownloadError(
                f"{path} (from {url}) has SHA-256 {found}; expected {sha256}. Delete it to download it again"
            )
        return path

    import requests
    from tqdm import tqdm

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with requests.get(url, stream=True, timeout=timeout) as response:
            response.raise_for_status()
            total = int(response.headers.get("Content-Length", 0)) if "Content-Encoding" not in response.headers else 0
            with atomic(path) as temporary:
                digest, done = hashlib.sha256(), 0
                with (
                    open(temporary, "wb") as f,
                    tqdm(total=total or None, unit="B", unit_scale=True, desc=path.name, disable=None) as bar,
                ):
                    for chunk in response.iter_content(1 << 20):
                        f.write(chunk)
                        digest.update(chunk)
                        done += len(chunk)
                        bar.update(len(chunk))
                if total and done != total:
                    raise DownloadError(f"{url}: the connection ended after {done} of {total} bytes; try again")
                if sha256 and not digest.hexdigest().startswith(sha256):
                    raise DownloadError(f"{url}: what came has SHA-256 {digest.hexdigest()}; expected {sha256}")
        with atomic(record) as temporary:
            temporary.write_text(json.dumps({"url": url, "sha256": digest.hexdigest(), "bytes": done}, indent=2) + "\n")
    except DownloadError:
        raise
    except requests.RequestException as e:
        answer = (
            f"the server answered {e.response.status_code}"
            if e.response is not None
            else _REASONS.get(type(e).__name__, type(e).__name__)
        )
        raise DownloadError(
            f"could not download {url}: {answer}. Fetch it by other means and save it as {path}"
        ) from None
    except OSError as e:
        raise DownloadError(
            f"could not save {url} as {path} ({e.strerror or e}); name another cache folder with STYLEGAN_INVERT_CACHE"
        ) from None
    return path


def vgg16_file(file: str | os.PathLike | None = None) -> Path:
    """The VGG16 to compare pictures with: the file that is named, else ``STYLEGAN_INVERT_VGG16``, else the official one, downloaded once.

    Raises:
        DownloadError: the official file is not in the cache and cannot be had.
    """
    named = file or os.environ.get("STYLEGAN_INVERT_VGG16")
    if named:
        return Path(named)
    try:
        return download(VGG16_URL)
    except DownloadError as e:
        raise DownloadError(
            f"{e}. Or name a file with --vgg16 or STYLEGAN_INVERT_VGG16, or use --loss lpips-squeeze, which needs none"
        ) from None


def inception_file(file: str | os.PathLike | None = None) -> Path | None:
    """The InceptionV3 for feature distances: the file that is named, else ``STYLEGAN_INVERT_INCEPTION``; None without either.

    Args:
        file: a path, or "download" for torchvision's file, fetched once and held against the checksum in its name.

    Raises:
        DownloadError: it is to be downloaded and cannot be had.
    """
    named = file or os.environ.get("STYLEGAN_INVERT_INCEPTION")
    if named == "download":
        return download(INCEPTION_URL, INCEPTION_SHA256)
    return Path(named) if named else None
