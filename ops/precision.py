"""The precision of float32 on CUDA."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch

_cudnn: Any = torch.backends.cudnn  # torch sets attributes there that its types do not name


def _parts() -> list[Any]:
    """The kinds of operations whose precision torch 2.9 and newer call ``fp32_precision``; none in older versions."""
    cudnn, matmul = _cudnn, torch.backends.cuda.matmul
    return [cudnn.conv, cudnn.rnn, matmul] if hasattr(matmul, "fp32_precision") else []


def _switches() -> list[tuple[Any, str, Any]]:
    """The settings of full precision: the object that holds each, its name there, and the value."""
    cudnn, matmul = _cudnn, torch.backends.cuda.matmul
    try:
        cudnn.allow_tf32, matmul.allow_tf32  # noqa: B018
    except RuntimeError:  # a caller has used the newer names; torch then refuses the older ones
        return [(part, "fp32_precision", "ieee") for part in _parts()]
    return [(cudnn, "allow_tf32", False), (matmul, "allow_tf32", False)]


@contextlib.contextmanager
def full_precision(device: torch.device | str, more: Sequence[tuple[Any, str, Any]] = ()) -> Iterator[None]:
    """Compute float32 in full precision on CUDA while the block runs.

    By default torch computes float32 convolutions in TF32, which rounds their inputs to 10 bits. The settings are those of the
    whole process, so they are put back when the block ends, however it ends. On other devices nothing is changed.

    Args:
        device: where is computed.
        more: further settings for the block: the object that holds each, its name there, and the value.
    """
    switches = [*_switches(), *more] if torch.device(device).type == "cuda" else []
    before = [(holder, name, getattr(holder, name)) for holder, name, _ in switches]
    before += [(part, "fp32_precision", part.fp32_precision) for part in _parts() if switches]
    try:
        for holder, name, value in switches:
            setattr(holder, name, value)
        yield
    finally:
        for holder, name, value in before:
            setattr(holder, name, value)
