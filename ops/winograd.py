"""3x3 convolutions with weights that do not change, by Winograd's minimal filtering (ops/csrc/cpu.cpp).

Tiles of pixels are transformed, multiplied with the transformed kernel, and transformed back: F(2x2, 3x3) has 16 multiplications in
place of 36 (Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", section 4.1), a transposed convolution of stride 2
has 25 by F(2x2, 2x2) for its even rows and columns. Rounding errors are not above those of the direct way; larger tiles would save
more, and lose a digit.
"""

from typing import NamedTuple

import torch

from . import native

SAME, UP, DOWN = range(3)  # padding 1; transposed, with stride 2; with stride 2, which is UP's adjoint
_ADJOINT = {SAME: SAME, UP: DOWN, DOWN: UP}
_PRODUCTS = {SAME: 16, UP: 25, DOWN: 25}

# Where this is open and the faster way: channels are a multiple of the first and no fewer than the second, or moving them takes
# longer than what is saved; with fewer tiles, reading the kernel does.
MULTIPLE, CHANNELS, TILES = 16, 32, 64


class Kernel(NamedTuple):
    """A kernel (O, I, 3, 3) as the native operation takes it, and that of its adjoint, which makes gradients."""

    way: int
    forward: torch.Tensor
    adjoint: torch.Tensor
    channels: int  # O


def suits(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether this is open, and faster than the direct way, for a picture (N, I, H, W) and a weight (O, I, K, K)."""
    o, i, *size = weight.shape
    tiles = x.shape[0] * ((x.shape[2] + 1) // 2) * ((x.shape[3] + 1) // 2)
    return size == [3, 3] and o % MULTIPLE == i % MULTIPLE == 0 and min(o, i) >= CHANNELS and tiles >= TILES


def transformed(weight: torch.Tensor, way: int) -> Kernel:
    """The kernel of a convolution with a contiguous (O, I, 3, 3) on the CPU: SAME, which correlates, or UP."""
    o, i = weight.shape[:2]

    def kernel(way: int, out: int, adjoint: bool) -> torch.Tensor:
        u = weight.new_empty([_PRODUCTS[way], o + i - out, -(-out // 32) * 32])  # room for whole panels of any length
        native.run("winograd_kernel", weight, way, weight, u, o, i, int(adjoint))
        return u

    return Kernel(way, kernel(way, o, False), kernel(_ADJOINT[way], i, True), o)


def convolve(x: torch.Tensor, kernel: Kernel) -> torch.Tensor:
    """(N, I, H, W) to (N, O, H, W), or for UP to (N, O, 2 H + 1, 2 W + 1); with channels last."""
    return _convolve(x, kernel.forward, kernel.adjoint, kernel.way, kernel.channels)


def _size(x: torch.Tensor, way: int) -> list[int]:
    return [2 * k + 1 if way == UP else (k - 1) // 2 if way == DOWN else k for k in x.shape[2:]]


def _forward(x: torch.Tensor, forward: torch.Tensor, adjoint: torch.Tensor, way: int, channels: int) -> torch.Tensor:
    x = x.contiguous(memory_format=torch.channels_last)
    n, i, h, w = x.shape
    y = torch.empty([n, channels, *_size(x, way)], dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    if not y.numel():
        return y
    largest = max(x, forward, key=torch.Tensor.numel)  # threads pay for small pictures with many channels, too
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
