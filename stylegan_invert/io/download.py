"""Downloads into a cache folder, with their checksums recorded, and the short names of official network files."""

import contextlib
import hashlib
import json
import os
from pathlib import Path
from urllib.parse import urlparse

from ..cache import cache_dir
from ..errors import DownloadError
from ..files.official import VGG16_SHA256
from ..files.writing import atomic, sha256_of_file

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

# The names of exceptions of the package "requests", and what they mean in words.
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
INCEPTION_SHA256 = "0cc3c7bd"  # the first digits of its SHA-256, which torchvision puts into the name of the file


def cached_path(url: str) -> Path:
    """The path of a URL's file in the cache, whether it was downloaded yet or not."""
    name = os.path.basename(urlparse(url).path) or "file"
    return cache_dir() / f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{name}"


def download(url: str, sha256: str | None = None, timeout: float = 30) -> Path:
    """Download a URL into the cache, unless it is there already.

    Args:
        url: an http or https address.
        sha256: the SHA-256 that the file must have, or its first digits. None accepts any file at the first download,
            records its SHA-256 beside it, and compares with the record later.
        timeout: the number of seconds without any answer after which the download fails.

    Returns:
        The path of the cached file.

    Raises:
        DownloadError: the download failed, or the checksum differs. The message names the URL, the reason, and the path
            to which a file fetched by other means can be saved.
    """
    path = cached_path(url)
    record = path.with_name(path.name + ".json")
    if path.exists():
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            sha256 = sha256 or json.loads(record.read_text())["sha256"]
        actual = sha256_of_file(path)
        if sha256 and not actual.startswith(sha256):
            raise DownloadError(
                f"{path} (from {url}) has SHA-256 {actual}; expected {sha256}. Delete it to download it again"
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
                    raise DownloadError(
                        f"{url}: the downloaded file has SHA-256 {digest.hexdigest()}; expected {sha256}"
                    )
        with atomic(record) as temporary:
            temporary.write_text(json.dumps({"url": url, "sha256": digest.hexdigest(), "bytes": done}, indent=2) + "\n")
    except DownloadError:
        raise
    except requests.RequestException as e:
        reason = _REASONS.get(type(e).__name__, type(e).__name__)
        if e.response is not None:
            reason = f"the server answered {e.response.status_code}"
        raise DownloadError(
            f"could not download {url}: {reason}. Fetch it by other means and save it as {path}"
        ) from None
    except OSError as e:
        raise DownloadError(
            f"could not save {url} as {path} ({e.strerror or e}); name another cache folder with STYLEGAN_INVERT_CACHE"
        ) from None
    return path


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
