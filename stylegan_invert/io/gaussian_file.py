"""Files of the Gaussian of V, one per network and class: safetensors, made when first needed.

Tensors "mean" (d,), "variances" (d,) and "axes" (d, d), float64. The header's metadata say of which network they are, by
the SHA-256 of the tensors of its mapping network: the Gaussian depends on nothing else, so it stays right for a network that
was written anew, or whose synthesis was tuned.
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
from ..generator import Gaussian, GeneratorAdapter
from .files import atomic

FORMAT = "stylegan-invert V statistics 1"
MAX_BYTES = 2**30


def statistics_path(generator: GeneratorAdapter, c: torch.Tensor | None = None) -> Path:
    """Where the Gaussian of a network (and class) is kept in the cache."""
    name = generator.mapping_sha256()[:24] + ("" if c is None else f"-class{int(c.argmax())}")
    return cache_dir() / "statistics" / f"{name}.safetensors"


def keep_gaussian(
    generator: GeneratorAdapter,
    c: torch.Tensor | None = None,
    path: str | os.PathLike | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Gaussian:
    """The Gaussian of V, from its file if there is one, else fitted and written there.

    Args:
        generator: an adapter. One of a family without V says so.
        c: (1, c_dim), the class, where there are classes.
        path: the file; None takes the one in the cache, which is made anew if it is damaged.
        progress: as in `fit_gaussian`.

    Raises:
        CodeFileError: ``path`` is of another network or class, or damaged.
        ValueError: the network has no V.
    """
    if "v" not in generator.spaces:
        return generator.gaussian(c)  # raises, and says why
    if path is not None:
        return read_gaussian(path, generator, c) if Path(path).exists() else _made(Path(path), generator, c, progress)
    own = statistics_path(generator, c)
    with contextlib.suppress(CodeFileError):  # a damaged file in the cache is made anew
        if own.exists():
            return read_gaussian(own, generator, c)
    gaussian = generator.fit_gaussian(c, progress)
    with contextlib.suppress(
        OSError, safetensors.SafetensorError
    ):  # a cache that cannot be written is no reason to stop
        own.parent.mkdir(parents=True, exist_ok=True)
        write_gaussian(own, gaussian, generator, c)
    return gaussian


def with_gaussian(
    generator: GeneratorAdapter,
    c: torch.Tensor | None = None,
    path: str | os.PathLike | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> GeneratorAdapter:
    """The generator with the Gaussian of `keep_gaussian`, so that it need not be fitted again. Arguments as there."""
    return generator.with_gaussian(c, keep_gaussian(generator, c, path, progress))


def _made(
    path: Path, generator: GeneratorAdapter, c: torch.Tensor | None, progress: Callable[[int, int], None] | None
) -> Gaussian:
    gaussian = generator.fit_gaussian(c, progress)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_gaussian(path, gaussian, generator, c)
    return gaussian


def write_gaussian(
    path: str | os.PathLike, gaussian: Gaussian, generator: GeneratorAdapter, c: torch.Tensor | None = None
) -> None:
    """Write a Gaussian and whose it is, at once or not at all."""
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
    """The Gaussian in a file, which must be that of the network and class.

    Raises:
        CodeFileError: it is not, or the file is damaged.
    """
    file = os.fspath(path)
    try:
        if os.path.getsize(file) > MAX_BYTES:
            raise CodeFileError(f"{file}: it is of {os.path.getsize(file):,} bytes; such files are far smaller")
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
            raise CodeFileError(f"{file}: {name!r} is not what it should be; the file is damaged")
    return Gaussian(**tensors, slope=float(facts["slope"]), samples=int(facts["samples"]), error=float(facts["error"]))
