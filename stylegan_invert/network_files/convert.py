"""Converts network files from one format to another, and compares the written networks with the original ones."""

import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..files.writing import atomic
from ..generator import Code, adapt, one_hot
from ..networks.wavegan import WaveGANGenerator
from . import file as network_file
from . import safetensors_file as network_safetensors
from .families import rosinality, wavegan
from .file import NetworkFile

SEEDS = 4
TOLERANCE = 1e-5  # the largest difference allowed, as a part of the largest value


def _write_pickle(net: NetworkFile, path: str | os.PathLike) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            network_file.save(net, path)
        except TypeError as e:
            raise ValueError(str(e)) from None
    return [str(w.message) for w in caught if w.category is UserWarning]


def _write_state_dict(net: NetworkFile, path: str | os.PathLike) -> list[str]:
    return (wavegan if isinstance(net["G_ema"], WaveGANGenerator) else rosinality).write(net, path)


def _write_safetensors(net: NetworkFile, path: str | os.PathLike) -> list[str]:
    network_safetensors.write(net, path)
    return []


class Format(NamedTuple):
    """A format that networks can be written in.

    Attributes:
        ending: the ending of the names of its files.
        title: the format in words.
        write: writes a network file, and returns a list, in words, of everything that the format does not keep.
    """

    ending: str
    title: str
    write: Callable[[NetworkFile, str | os.PathLike], list[str]]


FORMATS = {
    "pickle": Format(".pkl", "an official pickle", _write_pickle),
    "rosinality": Format(
        ".pt", "a state dict of rosinality's StyleGAN2, or of WaveGAN's PyTorch port", _write_state_dict
    ),
    "safetensors": Format(".safetensors", "safetensors of this package", _write_safetensors),
}


def format_of(path: str | os.PathLike) -> str | None:
    """The key of `FORMATS` that the ending of a file's name stands for, or None."""
    return next((name for name, form in FORMATS.items() if Path(path).suffix.lower() == form.ending), None)


class Difference(NamedTuple):
    """How much the outputs of two networks differ.

    Attributes:
        role: the role of both networks in their files, "G_ema", "G" or "D".
        error: the largest difference.
        scale: the largest value.
    """

    role: str
    error: float
    scale: float

    @property
    def fits(self) -> bool:
        """True if the difference is at most 1e-5 of the largest value."""
        return self.error <= TOLERANCE * self.scale


class Report(NamedTuple):
    """A report of `convert`.

    Attributes:
        left_out: a list, in words, of everything that the new file does not keep.
        differences: the differences between the outputs of the old and the new networks.
    """

    left_out: list[str]
    differences: list[Difference]


def convert(net: NetworkFile, path: str | os.PathLike, format: str) -> Report:
    """Write networks in a format, read the file again, and compare; the file gets its name only if they are equal.

    Args:
        net: the networks.
        path: the file to write. An old file of that name stays whole until the new one is complete.
        format: a key of `FORMATS`.

    Raises:
        ValueError: the format cannot hold the networks, or those that were read again compute something else.
    """
    with atomic(path) as temporary:
        left_out = FORMATS[format].write(net, temporary)
        differences = list(compare(net, network_file.load(temporary)))
        wrong = [d for d in differences if not d.fits]
        if wrong:
            by = ", ".join(f"{d.role} by {d.error:.1e} on a scale of {d.scale:.1e}" for d in wrong)
            raise ValueError(f"{path} was not written: the networks that were read again differ, {by}")
    return Report(left_out, differences)


def compare(a: NetworkFile, b: NetworkFile) -> Iterator[Difference]:
    """Yields how much the outputs of the networks that both files have differ.

    Generators are compared by the pictures of four seeds (in different classes), and of the mean w where there is one;
    discriminators by their outputs for these pictures.
    """
    pictures = None
    for role in ("G_ema", "G"):
        mine, theirs = a[role], b[role]
        if mine is None or theirs is None or (role == "G" and mine is a["G_ema"] and theirs is b["G_ema"]):
            continue
        ours, others = _pictures(mine), _pictures(theirs)
        pictures = ours if pictures is None else pictures
        both = min(len(ours), len(others))  # one may have a mean w that the other lacks
        yield _difference(role, ours[:both], others[:both])
    discriminators: list[Any] = [net["D"] for net in (a, b) if net["D"] is not None]
    if len(discriminators) == 2 and pictures is not None:
        c = _labels(discriminators[0].c_dim)
        with torch.no_grad():
            yield _difference("D", *(D(pictures[:SEEDS], *([] if c is None else [c])) for D in discriminators))


def _difference(role: str, a: torch.Tensor, b: torch.Tensor) -> Difference:
    error, scale = float((a - b).abs().max()), float(a.abs().max())
    return Difference(role, error if np.isfinite(error) else np.inf, scale)


def _labels(c_dim: int) -> torch.Tensor | None:
    return None if c_dim == 0 else torch.cat([one_hot(c_dim, seed % c_dim) for seed in range(SEEDS)])


def _pictures(network: torch.nn.Module) -> torch.Tensor:
    generator = adapt(network)
    labels = _labels(generator.c_dim)
    pictures = []
    with torch.no_grad():
        for seed in range(SEEDS):
            c = None if labels is None else labels[seed : seed + 1]
            shape = [1, *generator.code_shapes("z")["z"]]
            pictures.append(generator.render(Code("z", {"z": generator.prior.of_seed(seed, shape)}, c)))
        w_avg = getattr(getattr(network, "mapping", None), "w_avg", None)
        if w_avg is not None:
            pictures.append(generator.render(Code("w", {"w": w_avg[None]}, None)))
    return torch.cat(pictures)
