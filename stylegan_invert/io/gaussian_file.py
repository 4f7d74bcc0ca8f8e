"""Files of the Gaussian of V (see `generator.gaussian`), one per network and class, made when they are first needed.

A file is in the format safetensors. It holds the tensors "mean" (d,), "variances" (d,) and "axes" (d, d), float64. The
metadata in its header name the network by the SHA-256 of its mapping network. The Gaussian depends on nothing else, so
the file stays valid when the network is saved again, or when its synthesis network is tuned.
"""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from ..cache import cache_dir
from ..errors import CodeFileError
from ..files.writing import atomic
from ..generator import Gaussian, GeneratorAdapter

FORMAT = "stylegan-invert V statistics 1"
MAX_BYTES = 2**30  # larger files are refused


def statistics_path(generator: GeneratorAdapter, c: torch.Tensor | None = None) -> Path:
    """The path in the cache of the Gaussian of a network and, if it has classes, the class ``c`` (1, c_dim)."""
    name = generator.mapping_sha256()[:24] + ("" if c is None else f"-class{int(c.argmax())}")
    return cache_dir() / "statistics" / f"{name}.safetensors"


def keep_gaussian(
    generator: GeneratorAdapter,
    c: torch.Tensor | None = None,
    path: str | os.PathLike | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Gaussian:
    """Read the Gaussian of V from its file. If there is no file, fit the Gaussian and write the file.

    Args:
        generator: the adapter of the network.
        c: the class (1, c_dim), one-hot; None for a network without classes.
        path: the file. None takes a file in the cache, which is replaced if it is damaged.
        progress: as in `fit_gaussian`.

    Raises:
        CodeFileError: the file at ``path`` is damaged, or belongs to another network or class.
        OSError: the file at ``path`` cannot be written. A cache that cannot be written is not an error.
        ValueError: the network has no V.
    """
    if "v" not in generator.spaces:
        return generator.gaussian(c)  # raises the ValueError that says why there is no V
    if path is not None and Path(path).exists():
        return read_gaussian(path, generator, c)
    if path is not None:
        gaussian = generator.fit_gaussian(c, progress)
        _write(Path(path), gaussian, generator, c)
        return gaussian
    cached = statistics_path(generator, c)
    with contextlib.suppress(CodeFileError):  # a damaged file in the cache is replaced below
        if cached.exists():
            return read_gaussian(cached, generator, c)
    gaussian = generator.fit_gaussian(c, progress)
    with contextlib.suppress(OSError, safetensors.SafetensorError):
        _write(cached, gaussian, generator, c)
    return gaussian


def with_gaussian(
    generator: GeneratorAdapter,
    c: torch.Tensor | None = None,
    path: str | os.PathLike | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> GeneratorAdapter:
    """The generator with the Gaussian that `keep_gaussian` reads or fits. The arguments are the same."""
    if path is None and generator.has_gaussian(c):
        return generator
    return generator.with_gaussian(c, keep_gaussian(generator, c, path, progress))


def _write(path: Path, gaussian: Gaussian, generator: GeneratorAdapter, c: torch.Tensor | None) -> None:
    """`write_gaussian` into a folder that is made if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_gaussian(path, gaussian, generator, c)


def write_gaussian(
    path: str | os.PathLike, gaussian: Gaussian, generator: GeneratorAdapter, c: torch.Tensor | None = None
) -> None:
    """Write a Gaussian, with the hash of its network's mapping and the class. A failure leaves no half-written file."""
    tensors = {"mean": gaussian.mean, "variances": gaussian.variances, "axes": gaussian.axes.contiguous()}
    about = {
        "format": FORMAT,
        "mapping_sha256": generator.mapping_sha256(),
        "class": json.dumps(None if c is None else int(c.argmax())),
        **{name: json.dumps(getattr(gaussian, name)) for name in ("slope", "samples", "error")},
    }
    with atomic(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, about)


def read_gaussian(path: str | os.PathLike, generator: GeneratorAdapter, c: torch.Tensor | None = None) -> Gaussian:
    """Read the Gaussian of a network and, if it has classes, of the class ``c`` (1, c_dim).

    Raises:
        CodeFileError: the file is missing or damaged, or belongs to another network or class.
    """
    file = os.fspath(path)
    try:
        if os.path.getsize(file) > MAX_BYTES:
            raise CodeFileError(f"{file}: it has {os.path.getsize(file):,} bytes; such files are far smaller")
        with safetensors.safe_open(file, "pt") as opened:
            about = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in ("mean", "variances", "axes")} if about else {}
        facts = {name: json.loads(about[name]) for name in ("class", "slope", "samples", "error")} if about else {}
    except FileNotFoundError:
        raise CodeFileError(f"{file}: there is no such file; 'stylegan-invert stats' makes it") from None
    except (OSError, KeyError, ValueError, safetensors.SafetensorError) as e:
        raise CodeFileError(f"{file}: it holds no statistics of V, or is damaged ({str(e)[:120]})") from None
    if about.get("format") != FORMAT:
        raise CodeFileError(f"{file}: it holds no statistics of V; 'stylegan-invert stats' makes such files")
    if about.get("mapping_sha256") != generator.mapping_sha256():
        raise CodeFileError(f"{file}: it is of another network; make one for this network with 'stylegan-invert stats'")
    expected = None if c is None else int(c.argmax())
    if facts["class"] != expected:
        raise CodeFileError(f"{file}: it is of class {facts['class']}, and {expected} was asked for")
    (d,) = generator.code_shapes("w")["w"]
    shapes = {"mean": (d,), "variances": (d,), "axes": (d, d)}
    for name, value in tensors.items():
        if tuple(value.shape) != shapes[name] or value.dtype != torch.float64 or not torch.isfinite(value).all():
            raise CodeFileError(
                f"{file}: {name!r} is not a finite float64 tensor of shape {shapes[name]}; the file is damaged"
            )
    return Gaussian(**tensors, slope=float(facts["slope"]), samples=int(facts["samples"]), error=float(facts["error"]))
