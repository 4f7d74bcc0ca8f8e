"""From one format of network files to another, with a comparison of what was written and what was read."""

import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..generator import Code, adapt, label
from ..io.files import atomic
from . import file as network_file
from . import safetensors_file as network_safetensors
from .families import rosinality
from .file import NetworkFile

SEEDS = 4
TOLERANCE = 1e-5  # of the scale


def _write_pickle(net: NetworkFile, path: str | os.PathLike) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            network_file.save(net, path)
        except TypeError as e:
            raise ValueError(str(e)) from None
    return [str(w.message) for w in caught if w.category is UserWarning]


def _write_rosinality(net: NetworkFile, path: str | os.PathLike) -> list[str]:
    return rosinality.write(net, path)


def _write_safetensors(net: NetworkFile, path: str | os.PathLike) -> list[str]:
    network_safetensors.write(net, path)
    return []


class Format(NamedTuple):
    """A format to write: the ending of its files, what it is, and its writer, which returns what it does not keep."""

    ending: str
    title: str
    write: Callable[[NetworkFile, str | os.PathLike], list[str]]


FORMATS = {
    "pickle": Format(".pkl", "an official pickle", _write_pickle),
    "rosinality": Format(".pt", "a state dict of rosinality's StyleGAN2", _write_rosinality),
    "safetensors": Format(".safetensors", "safetensors of this package", _write_safetensors),
}


def format_of(path: str | os.PathLike) -> str | None:
    """The format that a file's ending stands for; None for others."""
    return next((name for name, form in FORMATS.items() if Path(path).suffix.lower() == form.ending), None)


class Difference(NamedTuple):
    """The largest difference of what two files' networks compute.

    Attributes:
        role: "G_ema", "G" or "D". error: the largest difference. scale: the largest value.
    """

    role: str
    error: float
    scale: float

    @property
    def fits(self) -> bool:
        """Whether it is small enough: at most 1e-5 of the scale."""
        return self.error <= TOLERANCE * self.scale


class Report(NamedTuple):
    """What `convert` did: what the target does not keep, in words, and the comparison of both."""

    left_out: list[str]
    differences: list[Difference]


def convert(net: NetworkFile, path: str | os.PathLike, format: str) -> Report:
    """Write networks in a format, read the file, and compare; it takes its place only if it fits.

    Args:
        net: what was read. path: the file to write; replaced at once or not at all. format: a key of `FORMATS`.

    Raises:
        ValueError: the format cannot hold the networks, or what was read again computes something else.
    """
    with atomic(path) as temporary:
        left_out = FORMATS[format].write(net, temporary)
        differences = list(compare(net, network_file.load(temporary)))
        wrong = [d for d in differences if not d.fits]
        if wrong:
            found = ", ".join(f"{d.role} by {d.error:.1e} on a scale of {d.scale:.1e}" for d in wrong)
            raise ValueError(f"{path} was not written: what was read again differs, {found}")
    return Report(left_out, differences)


def compare(a: NetworkFile, b: NetworkFile) -> Iterator[Difference]:
    """How far the networks that both files have are apart.

    Of generators, the pictures of four seeds (in different classes) and, where there is a w, of its mean; of discriminators,
    what they say of these pictures.
    """
    pictures = None
    for role in ("G_ema", "G"):
        if a[role] is None or b[role] is None or (role == "G" and a[role] is a["G_ema"] and b[role] is b["G_ema"]):
            continue
        found, others = _pictures(a[role]), _pictures(b[role])
        pictures = found if pictures is None else pictures
        both = min(len(found), len(others))  # one may have a mean w that the other has not
        yield _difference(role, found[:both], others[:both])
    if a["D"] is not None and b["D"] is not None and pictures is not None:
        c = _labels(a["D"].c_dim)
        with torch.no_grad():
            yield _difference("D", *(net["D"](pictures[:SEEDS], *([] if c is None else [c])) for net in (a, b)))


def _difference(role: str, a: torch.Tensor, b: torch.Tensor) -> Difference:
    error, scale = float((a - b).abs().max()), float(a.abs().max())
    return Difference(role, error if np.isfinite(error) else np.inf, scale)


def _labels(c_dim: int) -> torch.Tensor | None:
    return None if c_dim == 0 else torch.cat([label(c_dim, seed % c_dim) for seed in range(SEEDS)])


def _pictures(network: torch.nn.Module) -> torch.Tensor:
    generator = adapt(network)
    labels = _labels(generator.c_dim)
    found = []
    with torch.no_grad():
        for seed in range(SEEDS):
            c = None if labels is None else labels[seed : seed + 1]
            shape = [1, *generator.code_shapes("z")["z"]]
            found.append(generator.render(Code("z", {"z": generator.prior.of_seed(seed, shape)}, c)))
        w_avg = getattr(getattr(network, "mapping", None), "w_avg", None)
        if w_avg is not None:
            found.append(generator.render(Code("w", {"w": w_avg[None]}, None)))
    return torch.cat(found)
