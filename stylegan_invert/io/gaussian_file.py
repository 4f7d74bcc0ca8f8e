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
from typing import TypeVar

import safetensors
import safetensors.torch
import torch

from ..cache import cache_dir
from ..errors import CodeFileError, printable
from ..files import door, plain
from ..files.plain import Misfit
from ..files.safetensors_file import read_safetensors
from ..files.saved import tensor
from ..files.tensors import TensorRecord
from ..files.writing import atomic
from ..generator import Gaussian, GeneratorAdapter

FORMAT = "stylegan-invert V statistics 1"

_STATISTICS = door.Kind("a file of statistics of V, which 'stylegan-invert stats' makes", 2**28, CodeFileError)
_FACTS = {
    "class": plain.maybe(plain.whole(0, 10**6)),
    "slope": plain.number(0, 1e6, above=True),
    "samples": plain.whole(2),
    "error": plain.number(0, 1e6),
}  # each a JSON text in the header of the file


Adapting = TypeVar("Adapting", bound=GeneratorAdapter)


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
    generator: Adapting,
    c: torch.Tensor | None = None,
    path: str | os.PathLike | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Adapting:
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
    file = printable(os.fspath(path), 300)
    tensors, about = read_safetensors(path, _STATISTICS)
    try:
        if about.get("format") != FORMAT:
            raise Misfit("it holds no statistics of V; 'stylegan-invert stats' makes such files")
        if about.get("mapping_sha256") != generator.mapping_sha256():
            raise Misfit("it is of another network; make one for this network with 'stylegan-invert stats'")
        texts = plain.table(dict.fromkeys(_FACTS, plain.text(limit=100)), more=plain.unchecked)(about, "")
        facts = {name: plain.parse_json(texts[name], form, name) for name, form in _FACTS.items()}
        expected = None if c is None else int(c.argmax())
        if facts["class"] != expected:
            raise Misfit(f"it is of class {facts['class']}, and {expected} was asked for")
        slope = generator.v_slope()
        if facts["slope"] != slope:
            raise Misfit(f"slope is {facts['slope']:g}; the network has {slope}")
        (d,) = generator.code_shapes("w")["w"]
        made = _checked(tensors, d)
        numbers = facts["slope"], facts["samples"], facts["error"]
        return Gaussian(made["mean"], made["variances"], made["axes"], *numbers)
    except Misfit as e:
        raise CodeFileError(f"{file}: {e}") from None


def _checked(tensors: dict[str, TensorRecord], d: int) -> dict[str, torch.Tensor]:
    """The tensors of a Gaussian in d dimensions, after their check.

    Raises:
        Misfit: a tensor has another shape, the variances are no variances, or the axes are not at right angles.
    """
    shapes = {"mean": [d], "variances": [d], "axes": [d, d]}
    like = {name: torch.empty(shape, dtype=torch.float64, device="meta") for name, shape in shapes.items()}
    forms = {name: tensor(value, low=0 if name == "variances" else None) for name, value in like.items()}
    made = plain.table(forms)(tensors, "")
    variances, axes = made["variances"], made["axes"]
    if not variances[0] > 0 or (variances[1:] > variances[:-1]).any():
        raise Misfit("variances are not positive numbers from the largest on; the file is damaged")
    if (axes.t() @ axes - torch.eye(d, dtype=axes.dtype)).abs().max() > 1e-6:
        raise Misfit("axes are not at right angles to each other, or not of length one; the file is damaged")
    return made
