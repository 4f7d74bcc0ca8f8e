"""3x3 convolution with weights that do not change, by Winograd's minimal filtering F(2x2, 3x3).

Tiles of 4x4 pixels are transformed, multiplied with the transformed kernel, and transformed back to 2x2: 16 multiplications in
place of 36 (Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", section 4.1). Its rounding errors are not above
those of the direct way; larger tiles would save more, and lose a digit.
"""

from typing import NamedTuple

import torch

from . import native

CHANNELS = 16  # their number is a multiple of this
TILES = 64  # with fewer, reading the kernel takes longer than what is saved


class Kernel(NamedTuple):
    """A kernel (O, I, 3, 3) as the native operation takes it, and that of its adjoint, which makes gradients."""

    forward: torch.Tensor
    adjoint: torch.Tensor
    channels: tuple[int, int]  # O, I


def suits(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether this way is open, and the faster one, for a convolution that keeps the size of ``x``."""
    o, i, *size = weight.shape
    tiles = x.shape[0] * ((x.shape[2] + 1) // 2) * ((x.shape[3] + 1) // 2)
    return size == [3, 3] and o % CHANNELS == i % CHANNELS == 0 and tiles >= TILES


def transformed(weight: torch.Tensor) -> Kernel:
    """The kernel of a correlation with a contiguous (O, I, 3, 3) on the CPU."""
    o, i = weight.shape[:2]

    def kernel(out: int, adjoint: bool) -> torch.Tensor:
        u = weight.new_empty([16, o + i - out, -(-out // 32) * 32])  # room for whole panels of any length
        native.run("winograd_kernel", weight, weight, u, o, i, int(adjoint))
        return u

    return Kernel(kernel(o, False), kernel(i, True), (o, i))


def conv3x3(x: torch.Tensor, kernel: Kernel) -> torch.Tensor:
    """Convolve (N, I, H, W) with padding 1: (N, O, H, W), with channels last."""
    return _conv3x3(x, kernel.forward, kernel.adjoint, kernel.channels[0])


def _forward(x: torch.Tensor, forward: torch.Tensor, adjoint: torch.Tensor, channels: int) -> torch.Tensor:
    x = x.contiguous(memory_format=torch.channels_last)
    n, i, h, w = x.shape
    y = torch.empty([n, channels, h, w], dtype=x.dtype, memory_format=torch.channels_last)
    largest = max(x, forward, key=torch.Tensor.numel)  # threads pay for small pictures with many channels, too
    native.run("winograd", largest, x, forward, y, n, h, w, i, channels)
    return y


def _fake(x, forward, adjoint, channels):
    n, _, h, w = x.shape
    return torch.empty([n, channels, h, w], dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _keep(ctx, inputs, output) -> None:
    x, *kernels, _ = inputs
    ctx.save_for_backward(*kernels)
    ctx.channels = x.shape[1]


def _gradient(ctx, g):
    forward, adjoint = ctx.saved_tensors
    return _conv3x3(g, adjoint, forward, ctx.channels), None, None, None


_conv3x3 = native.operation("conv3x3", _forward, _fake, _gradient, _keep)
