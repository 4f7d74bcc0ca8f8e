"""Bias, activation, gain and clamp."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F


class Activation(NamedTuple):
    """One row of `ACTIVATIONS`.

    Attributes:
        function: elementwise.
        gain: what keeps the second moment of a normal input near one.
        slope: of the negative side, for a leaky ReLU.
    """

    function: Callable[[torch.Tensor], torch.Tensor]
    gain: float
    slope: float | None = None


ACTIVATIONS = {
    "linear": Activation(lambda x: x, 1.0),
    "relu": Activation(F.relu, math.sqrt(2)),
    "lrelu": Activation(lambda x: F.leaky_relu(x, 0.2), math.sqrt(2), slope=0.2),
    "tanh": Activation(torch.tanh, 1.0),
    "sigmoid": Activation(torch.sigmoid, 1.0),
    "elu": Activation(F.elu, 1.0),
    "selu": Activation(F.selu, 1.0),
    "softplus": Activation(F.softplus, 1.0),
    "swish": Activation(F.silu, math.sqrt(2)),
}
"""The activations an official network file can name (formats.md, section 5)."""


def bias_act(
    x: torch.Tensor,
    b: torch.Tensor | None = None,
    act: str = "linear",
    gain: float | None = None,
    clamp: float | None = None,
) -> torch.Tensor:
    """Add a bias per channel, apply an activation, multiply by a gain, clamp: in that order.

    Args:
        x: floating tensor (N, C, ...).
        b: (C,) of the same dtype, or None.
        act: a key of `ACTIVATIONS`.
        gain: factor after the activation; None takes the activation's own.
        clamp: limit the result to [-clamp, clamp]; None leaves it. It is applied after the gain.

    Returns:
        Tensor of the shape and dtype of ``x``.

    Raises:
        ValueError: ``act`` is unknown, or ``b`` does not have one entry per channel.
    """
    if act not in ACTIVATIONS:
        raise ValueError(f"bias_act: unknown activation {act!r}; expected one of {', '.join(ACTIVATIONS)}")
    function, own_gain, _ = ACTIVATIONS[act]
    if b is not None:
        if b.ndim != 1 or b.shape[0] != x.shape[1]:
            raise ValueError(f"bias_act: bias of shape {tuple(b.shape)} for an input of shape {tuple(x.shape)}")
        x = x + b.reshape([1, -1] + [1] * (x.ndim - 2))
    x = function(x)
    gain = own_gain if gain is None else gain
    if gain != 1:
        x = x * gain
    if clamp is not None:
        x = x.clamp(-clamp, clamp)
    return x
