"""Modulation, noise, bias, activation, gain and clamp, in one pass."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from . import native


class Activation(NamedTuple):
    """One row of `ACTIVATIONS`.

    Attributes:
        function: the activation itself, elementwise.
        gain: the factor that keeps the second moment of a normally distributed input near one.
        slope: the slope for negative numbers, if it is a leaky ReLU; else None.
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
"""The activations that an official network file can name. The kernels number them in this order."""

_CURVED = [name for name in ACTIVATIONS if name not in ("linear", "relu", "lrelu")]


def bias_act(
    x: torch.Tensor,
    b: torch.Tensor | None = None,
    act: str = "linear",
    gain: float | None = None,
    clamp: float | None = None,
    noise: torch.Tensor | None = None,
    scale: torch.Tensor | None = None,
) -> torch.Tensor:
    """clamp(gain * act(x * scale + noise + b)).

    Args:
        x: floating tensor (N, C, ...).
        b: (C,) of the same dtype, or None.
        act: a key of `ACTIVATIONS`.
        gain: factor after the activation; None takes the activation's own.
        clamp: limit the result to [-clamp, clamp]; None leaves it. It is applied after the gain.
        noise: broadcasts against x, and has one channel: (N, 1, H, W), (1, 1, H, W) or (H, W); or None.
        scale: (N, C), a factor per picture and channel: the styles of a modulated convolution, or its demodulation.

    Returns:
        Tensor of the shape and dtype of ``x``.

    Raises:
        ValueError: ``act`` is unknown, or ``b``, ``noise`` or ``scale`` has another shape.
    """
    if act not in ACTIVATIONS:
        raise ValueError(f"bias_act: unknown activation {act!r}; expected one of {', '.join(ACTIVATIONS)}")
    if b is not None and (b.ndim != 1 or b.shape[0] != x.shape[1]):
        raise ValueError(f"bias_act: bias of shape {tuple(b.shape)} for an input of shape {tuple(x.shape)}")
    if scale is not None and tuple(scale.shape) != tuple(x.shape[:2]):
        raise ValueError(f"bias_act: scale of shape {tuple(scale.shape)} for an input of shape {tuple(x.shape)}")
    if noise is not None:
        noise = noise.reshape([1] * (x.ndim - noise.ndim) + list(noise.shape))
        if tuple(noise.shape[1:]) != (1, *x.shape[2:]) or noise.shape[0] not in (1, x.shape[0]):
            raise ValueError(f"bias_act: noise of shape {tuple(noise.shape)} for an input of shape {tuple(x.shape)}")
    gain = ACTIVATIONS[act].gain if gain is None else float(gain)
    if x.numel() and native.is_native(x):
        b, noise, scale = (None if t is None else t.to(x.dtype) for t in (b, noise, scale))
        return _bias_act(x, b, noise, scale, act, gain, math.inf if clamp is None else float(clamp))
    return reference(x, b, act, gain, clamp, noise, scale)


def reference(
    x: torch.Tensor,
    b: torch.Tensor | None,
    act: str,
    gain: float,
    clamp: float | None,
    noise: torch.Tensor | None = None,
    scale: torch.Tensor | None = None,
) -> torch.Tensor:
    """`bias_act` in torch's own operations."""
    if scale is not None:
        x = x * scale.to(x.dtype).reshape([*scale.shape, *[1] * (x.ndim - 2)])
    if noise is not None:
        x = x + noise.to(x.dtype)
    if b is not None:
        x = x + b.to(x.dtype).reshape([1, -1] + [1] * (x.ndim - 2))
    x = ACTIVATIONS[act].function(x)
    if gain != 1:
        x = x * gain
    return x if clamp is None else x.clamp(-clamp, clamp)


# --------------------------------------------------------------------------------------------------------------- native
#
# There are three operators, so that second derivatives can be had. With u = x scale + noise + b and the n-th derivative act_n of
# the activation:
#
# * `bias_act` is gain act(u), clamped.
# * `bias_act_derivative` is m gain act_n(u) for a factor m and n of 1 or 2. It is zero where the clamp holds the value.
# * `bias_act_backward` computes all first derivatives in one pass. It runs if no second derivative is wanted.


def _kernel_inputs(
    m: torch.Tensor | None,
    x: torch.Tensor,
    b: torch.Tensor | None,
    noise: torch.Tensor | None,
    scale: torch.Tensor | None,
) -> tuple[torch.Tensor, tuple[int, int, int, int], list]:
    """Bring the inputs into layouts that the kernels take.

    Returns:
        x in such a layout.
        Its (n, c, p, last), as of `native.layout`.
        The first arguments of the kernels: m, x, b, noise, the number of noise maps, and scale.
    """
    x, shape = native.layout(x)
    m = None if m is None else m.contiguous(memory_format=native.memory_format(shape[3]))
    b, noise, scale = (None if t is None else t.contiguous() for t in (b, noise, scale))
    return x, shape, [m, x, b, noise, 0 if noise is None else noise.shape[0], scale]


def _number_and_slope(act: str) -> tuple[int, float]:
    """An activation's number in the kernels, and its slope for negative numbers, which is 0 if it has none."""
    return list(ACTIVATIONS).index(act), ACTIVATIONS[act].slope or 0.0


def _run(
    order: int,
    m: torch.Tensor | None,
    x: torch.Tensor,
    b: torch.Tensor | None,
    noise: torch.Tensor | None,
    scale: torch.Tensor | None,
    act: str,
    gain: float,
    clamp: float,
) -> torch.Tensor:
    """`bias_act` for order 0, and `bias_act_derivative` for orders 1 and 2."""
    x, shape, inputs = _kernel_inputs(m, x, b, noise, scale)
    y = torch.empty_like(x)
    if x.numel():
        native.run("bias_act", x, order, *inputs, y, *shape, *_number_and_slope(act), gain, clamp)
    return y


def _forward(
    x: torch.Tensor, b: torch.Tensor | None, noise: torch.Tensor | None, scale: torch.Tensor | None, act: str, gain: float, clamp: float
) -> torch.Tensor:  # fmt: skip
    return _run(0, None, x, b, noise, scale, act, gain, clamp)


def _derivative(
    m: torch.Tensor, x: torch.Tensor, b: torch.Tensor | None, noise: torch.Tensor | None, scale: torch.Tensor | None, order: int,
    act: str, gain: float, clamp: float,
) -> torch.Tensor:  # fmt: skip
    return _run(order, m, x, b, noise, scale, act, gain, clamp)


def _backward(
    g: torch.Tensor, x: torch.Tensor, b: torch.Tensor | None, noise: torch.Tensor | None, scale: torch.Tensor | None,
    needs: list[bool], act: str, gain: float, clamp: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """Gradients of x, b, noise and scale; an empty tensor for each that is not needed."""
    x, (n, c, p, last), inputs = _kernel_inputs(g, x, b, noise, scale)
    dx = torch.empty_like(x) if needs[0] else x.new_empty([0])
    dnoise = x.new_empty([n, 1, *x.shape[2:]]) if needs[2] else x.new_empty([0])
    # The sums over positions are made in parts. Each CPU thread adds to one part; on a GPU each block writes its own.
    parts, new = (
        (torch.get_num_threads(), torch.zeros) if x.device.type == "cpu" else (_gpu_parts(n, c, p, last), torch.empty)
    )
    sums = [new([parts, n, c], dtype=torch.float64, device=x.device) if wanted else None for wanted in needs[1::2]]
    outs = [dx if needs[0] else None, *sums, dnoise if needs[2] else None]
    native.run("bias_act_backward", x, *inputs, *outs, parts, n, c, p, last, *_number_and_slope(act), gain, clamp)
    db = x.new_empty([0]) if sums[0] is None else sums[0].sum(dim=[0, 1]).to(x.dtype)
    dscale = x.new_empty([0]) if sums[1] is None else sums[1].sum(dim=0).to(x.dtype)
    if needs[2] and noise is not None and noise.shape[0] != n:
        dnoise = dnoise.sum(dim=0, keepdim=True)
    return dx, db, dnoise, dscale


def _gpu_parts(n: int, c: int, p: int, last: int) -> int:
    """The number of parts that a sum over positions is made in on a GPU: enough for some 512 blocks, but no short ones."""
    blocks, shortest = (n * -(-c // 32), 64) if last else (n * c, 2048)
    return max(1, min(512 // blocks, p // shortest))


def _fake(x: torch.Tensor, *others: Any) -> torch.Tensor:
    return torch.empty_like(native.layout(x)[0])


def _fake_derivative(m: torch.Tensor, x: torch.Tensor, *others: Any) -> torch.Tensor:
    return torch.empty_like(native.layout(x)[0])


def _fake_backward(
    g: torch.Tensor,
    x: torch.Tensor,
    b: torch.Tensor | None,
    noise: torch.Tensor | None,
    scale: torch.Tensor | None,
    needs: Sequence[bool],
    act: str,
    gain: float,
    clamp: float,
) -> tuple[torch.Tensor, ...]:
    inputs = (native.layout(x)[0], b, noise, scale)
    wanted = (t if needed else None for t, needed in zip(inputs, needs))
    return tuple(x.new_empty([0]) if t is None else torch.empty_like(t) for t in wanted)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.act, ctx.gain, ctx.clamp = inputs
    ctx.save_for_backward(*tensors)


def _first(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    x, b, noise, scale = ctx.saved_tensors
    settings = ctx.act, ctx.gain, ctx.clamp
    needs = list(ctx.needs_input_grad[:4])
    if not torch.is_grad_enabled():
        results = _bias_act_backward(g, x, b, noise, scale, needs, *settings)
        grads = [t if wanted else None for t, wanted in zip(results, needs)]
    else:
        du = _bias_act_derivative(g, x, b, noise, scale, 1, *settings)
        grads = _from_gradient_of_u(du, x, noise, scale, needs)
    return *grads, None, None, None


def _from_gradient_of_u(
    du: torch.Tensor, x: torch.Tensor, noise: torch.Tensor | None, scale: torch.Tensor | None, needs: Sequence[bool]
) -> list[torch.Tensor | None]:
    """The gradients of x, b, noise and scale for a gradient (N, C, ...) of u; they can be differentiated again."""
    positions = list(range(2, x.ndim))
    wide = None if scale is None else scale.reshape([*scale.shape, *[1] * (x.ndim - 2)])
    dnoise = None
    if needs[2] and noise is not None:
        dnoise = du.sum(dim=1, keepdim=True)
        dnoise = dnoise if noise.shape[0] == x.shape[0] else dnoise.sum(dim=0, keepdim=True)
    return [
        (du if wide is None else du * wide) if needs[0] else None,
        du.sum(dim=[0, *positions]) if needs[1] else None,
        dnoise,
        (du * x).flatten(2).sum(dim=2) if needs[3] else None,
    ]


def _keep_derivative(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.order, ctx.act, ctx.gain, ctx.clamp = inputs
    ctx.save_for_backward(*tensors)


def _second(ctx: Any, v: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    m, x, b, noise, scale = ctx.saved_tensors
    settings = ctx.act, ctx.gain, ctx.clamp
    needs = ctx.needs_input_grad[:5]
    dm = _bias_act_derivative(v, x, b, noise, scale, ctx.order, *settings) if needs[0] else None
    grads: list[torch.Tensor | None] = [None] * 4
    if any(needs[1:]):
        if ctx.act not in _CURVED:
            grads = [torch.zeros_like(t) if wanted else None for t, wanted in zip((x, b, noise, scale), needs[1:])]
        elif ctx.order == 1:
            du = _bias_act_derivative(m * v, x, b, noise, scale, 2, *settings)
            grads = _from_gradient_of_u(du, x, noise, scale, needs[1:])
        else:
            raise NotImplementedError("the native bias_act has no third derivative; --ops reference has one")
    return dm, *grads, None, None, None, None


_bias_act = native.operation("bias_act", _forward, _fake, _first, _keep)
_bias_act_derivative = native.operation("bias_act_derivative", _derivative, _fake_derivative, _second, _keep_derivative)
_bias_act_backward = native.operation("bias_act_backward", _backward, _fake_backward)
