"""Files of the Gaussian of V, one per network and class: safetensors, made when first needed.

Tensors "mean" (d,), "variances" (d,) and "axes" (d, d), float64. The header's metadata say of which network they are, by
the SHA-256 of the tensors of its mapping network: the Gaussian depends on nothing else, so it stays right for a network that
was written anew, or whose synthesis was tuned.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from ..cache import cache_dir
from ..errors import CodeFileError
from ..generator import Gaussian, GeneratorAdapter, StyleAdapter
from .files import atomic

FORMAT = "stylegan-invert V statistics 1"
MAX_BYTES = 2**30


def mapping_sha256(mapping: torch.nn.Module) -> str:
    """SHA-256 of the names, shapes and values of a mapping network's parameters, and of whether it normalises z."""
    total = hashlib.sha256(str(mapping.normalize_z).encode())
    for name, value in sorted(mapping.named_parameters()):
        x = value.detach().cpu().contiguous()
        total.update(f"{name} {x.dtype} {tuple(x.shape)};".encode())
        total.update(x.numpy().tobytes())
    return total.hexdigest()


def statistics_path(generator: StyleAdapter, c: torch.Tensor | None = None) -> Path:
    """Where the Gaussian of a network (and class) is kept in the cache."""
    name = mapping_sha256(generator.network.mapping)[:24] + ("" if c is None else f"-class{int(c.argmax())}")
    return cache_dir() / "statistics" / f"{name}.safetensors"


def keep_gaussian(
    generator: GeneratorAdapter,
    c: torch.Tensor | None = None,
    path: str | os.PathLike | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Gaussian:
    """The Gaussian of V, from its file if there is one, else found and written there; the adapter has it from then on.

    Args:
        generator: an adapter. One of a family without V says so.
        c: (1, c_dim), the class, where there are classes.
        path: the file; None takes the one in the cache, which is made anew if it is damaged.
        progress: as in `fit_gaussian`.

    Raises:
        CodeFileError: ``path`` is of another network or class, or damaged.
        ValueError: the network has no V.
    """
    if not isinstance(generator, StyleAdapter) or "v" not in generator.spaces:
        return generator.gaussian(c)  # raises, and says why
    own = statistics_path(generator, c) if path is None else Path(path)
    found = None
    if own.exists():
        try:
            found = read_gaussian(own, generator, c)
        except CodeFileError:
            if path is not None:
                raise
    if found is None:
        found = generator.fit_gaussian(c, progress)
        # A cache that cannot be written is no reason to stop.
        with contextlib.suppress(*(() if path is not None else (OSError,))):
            own.parent.mkdir(parents=True, exist_ok=True)
            write_gaussian(own, found, generator, c)
    generator.set_gaussian(c, found)
    return found


def write_gaussian(
    path: str | os.PathLike, gaussian: Gaussian, generator: StyleAdapter, c: torch.Tensor | None = None
) -> None:
    """Write a Gaussian and whose it is, at once or not at all."""
    tensors = {"mean": gaussian.mean, "variances": gaussian.variances, "axes": gaussian.axes.contiguous()}
    about = {
        "format": FORMAT,
        "mapping_sha256": mapping_sha256(generator.network.mapping),
        "class": json.dumps(None if c is None else int(c.argmax())),
        **{name: json.dumps(getattr(gaussian, name)) for name in ("slope", "samples", "error")},
    }
    with atomic(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, about)


def read_gaussian(path: str | os.PathLike, generator: StyleAdapter, c: torch.Tensor | None = None) -> Gaussian:
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
    if about.get("mapping_sha256") != mapping_sha256(generator.network.mapping):
        raise CodeFileError(f"{file}: it is of another network; make one for this network with 'stylegan-invert stats'")
    expected = None if c is None else int(c.argmax())
    if facts["class"] != expected:
        raise CodeFileError(f"{file}: it is of class {facts['class']}, and {expected} was asked for")
    d = generator.network.w_dim
    shapes = {"mean": (d,), "variances": (d,), "axes": (d, d)}
    for name, value in tensors.items():
        if tuple(value.shape) != shapes[name] or value.dtype != torch.float64 or not torch.isfinite(value).all():
            raise CodeFileError(f"{file}: {name!r} is not what it should be; the file is damaged")
    return Gaussian(**tensors, slope=float(facts["slope"]), samples=int(facts["samples"]), error=float(facts["error"]))
