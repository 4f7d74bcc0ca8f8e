"""Winograd's minimal filtering for 3x3 convolutions on a CPU (ops/csrc/cpu.cpp).

Tiles of pixels are transformed, multiplied with the transformed kernel, and transformed back. F(2x2, 3x3) needs 16 multiplications
in place of 36 (Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", section 4.1). A transposed convolution of stride
2 needs 25, by F(2x2, 2x2) for its even rows and columns. Rounding errors are no larger than those of the direct computation.
Larger tiles would save more multiplications, and lose a digit.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from . import native

# SAME: padding 1. UP: transposed, with stride 2. DOWN: stride 2, the adjoint of UP.
SAME, UP, DOWN = range(3)
_ADJOINT = {SAME: SAME, UP: DOWN, DOWN: UP}
_PRODUCTS = {SAME: 16, UP: 25, DOWN: 25}

MULTIPLE = 16  # the numbers of channels must be multiples of this
CHANNELS = 32  # with fewer channels, moving the numbers takes longer than the multiplications that are saved
TILES = 64  # with fewer tiles, reading the transformed kernel takes longer
SIDES = {SAME: 8, UP: 16, DOWN: 16}  # in smaller pictures too many tiles reach over the edge


class Kernel(NamedTuple):
    """A kernel (O, I, 3, 3), transformed.

    Attributes:
        way: SAME or UP.
        forward: the transformed kernel.
        adjoint: the transformed kernel of the adjoint convolution, which computes the gradient.
        channels: O.
    """

    way: int
    forward: torch.Tensor
    adjoint: torch.Tensor
    channels: int


def suits(x: torch.Tensor, weight: torch.Tensor, way: int) -> bool:
    """True if the shapes (N, I, H, W) of a picture and (O, I, K, K) of a weight are supported, and expected to be faster this way."""
    o, i, *size = weight.shape
    n, _, h, w = x.shape
    if way == DOWN:
        tiles = n * -(-h // 4) * -(-w // 4)
    else:
        tiles = n * -(-h // 2) * -(-w // 2)
    wide = min(o, i) >= CHANNELS and o % MULTIPLE == i % MULTIPLE == 0
    return size == [3, 3] and wide and tiles >= TILES and min(h, w) >= SIDES[way]


def transformed(weight: torch.Tensor, way: int) -> Kernel:
    """Transform a contiguous weight (O, I, 3, 3) on the CPU.

    Args:
        weight: float32 or float64.
        way: SAME for a correlation with padding 1, or UP for a transposed convolution with stride 2.
    """
    return Kernel(way, _one_way(weight, way, False), _one_way(weight, way, True), len(weight))


def _one_way(weight: torch.Tensor, way: int, adjoint: bool) -> torch.Tensor:
    """A contiguous weight (O, I, 3, 3), transformed for the convolution or for its adjoint."""
    o, i = weight.shape[:2]
    out, way = (i, _ADJOINT[way]) if adjoint else (o, way)
    u = weight.new_empty([_PRODUCTS[way], o + i - out, -(-out // 32) * 32])  # room for whole panels of any length
    native.run("winograd_kernel", weight, way, weight, u, o, i, int(adjoint))
    return u


class Weight(NamedTuple):
    """A weight (O, I, 3, 3) whose gradient may be wanted. It is transformed at each use.

    Attributes:
        way: SAME, UP or DOWN.
        weight: the weight.
    """

    way: int
    weight: torch.Tensor


def convolve(x: torch.Tensor, kernel: Kernel | Weight) -> torch.Tensor:
    """Convolve (N, I, H, W) with a correlation of padding 1 (SAME), a transposed one (UP) or one of stride 2 (DOWN).

    For DOWN, H and W are odd. Through a `Weight` there are derivatives of any order, also for the weight.

    Returns:
        (N, O, H, W), or for UP (N, O, 2 H + 1, 2 W + 1), or for DOWN (N, O, (H - 1) // 2, (W - 1) // 2); channels-last.
    """
    if isinstance(kernel, Kernel):
        return _convolve(x, kernel.forward, kernel.adjoint, kernel.way, kernel.channels)
    if kernel.way == DOWN:
        return _either(x, kernel.weight.transpose(0, 1), UP, True)
    return _either(x, kernel.weight, kernel.way, False)


def _size(x: torch.Tensor, way: int) -> list[int]:
    return [2 * k + 1 if way == UP else (k - 1) // 2 if way == DOWN else k for k in x.shape[2:]]


def _forward(x: torch.Tensor, forward: torch.Tensor, adjoint: torch.Tensor, way: int, channels: int) -> torch.Tensor:
    x = x.contiguous(memory_format=torch.channels_last)
    n, i, h, w = x.shape
    y = torch.empty([n, channels, *_size(x, way)], dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    if not y.numel():
        return y
    largest = max(x, forward, key=torch.Tensor.numel)  # its size determines the number of threads
    native.run("winograd", largest, way, x, forward, y, n, h, w, i, *y.shape[2:], channels)
    return y


def _fake(
    x: torch.Tensor, forward: torch.Tensor | None, adjoint: torch.Tensor | None, way: int, channels: int
) -> torch.Tensor:
    size = [len(x), channels, *_size(x, way)]
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, forward, adjoint, ctx.way, _ = inputs
    ctx.save_for_backward(forward, adjoint)
    ctx.channels = x.shape[1]


def _gradient(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    forward, adjoint = ctx.saved_tensors
    return _convolve(g, adjoint, forward, _ADJOINT[ctx.way], ctx.channels), None, None, None, None


_convolve = native.operation("winograd", _forward, _fake, _gradient, _keep)


# ---------------------------------------------------------------------------------------------- weights that are trained
#
# A convolution A(x, w), its adjoint A'(g, w) and the gradient of the weight W(x, g) are each linear in both arguments, and
# (A(x, w), g) = (x, A'(g, w)) = (w, W(x, g)). So the derivatives of each are the two others, and there are derivatives of any order.

_wanted = True


@contextlib.contextmanager
def no_weight_gradients() -> Iterator[None]:
    """Within the block, convolutions with a `Weight` form no gradients of weights.

    R1 differentiates the discriminator for its pictures alone, and torch does not tell a function that is written in Python which
    gradients are used.
    """
    global _wanted
    before, _wanted = _wanted, False
    try:
        yield
    finally:
        _wanted = before


def _either_forward(x: torch.Tensor, weight: torch.Tensor, way: int, adjoint: bool) -> torch.Tensor:
    """The convolution with a weight (O, I, 3, 3), or its adjoint, which takes O channels to I."""
    kernel = _one_way(weight.contiguous(), way, adjoint)
    return _forward(x, kernel, kernel, _ADJOINT[way] if adjoint else way, weight.shape[1 if adjoint else 0])


def _either_fake(x: torch.Tensor, weight: torch.Tensor, way: int, adjoint: bool) -> torch.Tensor:
    return _fake(x, None, None, _ADJOINT[way] if adjoint else way, weight.shape[1 if adjoint else 0])


def _either_keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, weight, ctx.way, ctx.adjoint = inputs
    ctx.save_for_backward(x, weight)


def _either_gradient(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    dx = _either(g, weight, ctx.way, not ctx.adjoint) if ctx.needs_input_grad[0] else None
    dw = None
    if ctx.needs_input_grad[1] and _wanted:
        dw = _weight_gradient(*((g, x) if ctx.adjoint else (x, g)), ctx.way)
    return dx, dw, None, None


def _weight_forward(x: torch.Tensor, g: torch.Tensor, way: int) -> torch.Tensor:
    """The gradient (O, I, 3, 3) of the weight, for an input x (N, I, H, W) and the gradient g of the result, for SAME or UP."""
    x, g = (t.contiguous(memory_format=torch.channels_last) for t in (x, g))
    n, i, h, w = x.shape
    dw = x.new_zeros([g.shape[1], i, 3, 3])
    if x.numel():
        native.run(
            "winograd_weight", max(x, g, key=torch.Tensor.numel), way, x, g, dw, n, h, w, i, *g.shape[2:], g.shape[1]
        )
    return dw


def _weight_fake(x: torch.Tensor, g: torch.Tensor, way: int) -> torch.Tensor:
    return x.new_empty([g.shape[1], x.shape[1], 3, 3])


def _weight_keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, g, ctx.way = inputs
    ctx.save_for_backward(x, g)


def _weight_second(ctx: Any, u: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    x, g = ctx.saved_tensors
    dx = _either(g, u, ctx.way, True) if ctx.needs_input_grad[0] else None
    return dx, _either(x, u, ctx.way, False) if ctx.needs_input_grad[1] else None, None


_either = native.operation("winograd_trained", _either_forward, _either_fake, _either_gradient, _either_keep)
_weight_gradient = native.operation("winograd_weight", _weight_forward, _weight_fake, _weight_second, _weight_keep)
