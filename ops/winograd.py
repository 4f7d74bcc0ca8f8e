"""Winograd's minimal filtering for 3x3 convolutions with frozen weights on a CPU (ops/csrc/cpu.cpp).

Tiles of pixels are transformed, multiplied with the transformed kernel, and transformed back. F(2x2, 3x3) needs 16 multiplications
in place of 36 (Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", section 4.1). A transposed convolution of stride
2 needs 25, by F(2x2, 2x2) for its even rows and columns. Rounding errors are no larger than those of the direct computation.
Larger tiles would save more multiplications, and lose a digit.
"""

from typing import NamedTuple

import torch

from . import native

# SAME: padding 1. UP: transposed, with stride 2. DOWN: stride 2, the adjoint of UP.
SAME, UP, DOWN = range(3)
_ADJOINT = {SAME: SAME, UP: DOWN, DOWN: UP}
_PRODUCTS = {SAME: 16, UP: 25, DOWN: 25}

MULTIPLE = 16  # the numbers of channels must be multiples of this
CHANNELS = 32  # with fewer channels, moving the numbers takes longer than the multiplications that are saved
TILES = 64  # with fewer tiles, reading the transformed kernel takes longer


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


def suits(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """True if the shapes (N, I, H, W) of a picture and (O, I, K, K) of a weight are supported, and expected to be faster this way."""
    o, i, *size = weight.shape
    tiles = x.shape[0] * ((x.shape[2] + 1) // 2) * ((x.shape[3] + 1) // 2)
    return size == [3, 3] and o % MULTIPLE == i % MULTIPLE == 0 and min(o, i) >= CHANNELS and tiles >= TILES


def transformed(weight: torch.Tensor, way: int) -> Kernel:
    """Transform a contiguous weight (O, I, 3, 3) on the CPU.

    Args:
        weight: float32 or float64.
        way: SAME for a correlation with padding 1, or UP for a transposed convolution with stride 2.
    """
    o, i = weight.shape[:2]

    def kernel(way: int, out: int, adjoint: bool) -> torch.Tensor:
        u = weight.new_empty([_PRODUCTS[way], o + i - out, -(-out // 32) * 32])  # room for whole panels of any length
        native.run("winograd_kernel", weight, way, weight, u, o, i, int(adjoint))
        return u

    return Kernel(way, kernel(way, o, False), kernel(_ADJOINT[way], i, True), o)


def convolve(x: torch.Tensor, kernel: Kernel) -> torch.Tensor:
    """Convolve (N, I, H, W) to (N, O, H, W), or for UP to (N, O, 2 H + 1, 2 W + 1). The result is channels-last."""
    return _convolve(x, kernel.forward, kernel.adjoint, kernel.way, kernel.channels)


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


def _fake(x, forward, adjoint, way, channels):
    size = [len(x), channels, *_size(x, way)]
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _keep(ctx, inputs, output) -> None:
    x, forward, adjoint, ctx.way, _ = inputs
    ctx.save_for_backward(forward, adjoint)
    ctx.channels = x.shape[1]


def _gradient(ctx, g):
    forward, adjoint = ctx.saved_tensors
    return _convolve(g, adjoint, forward, _ADJOINT[ctx.way], ctx.channels), None, None, None, None


_convolve = native.operation("winograd", _forward, _fake, _gradient, _keep)
