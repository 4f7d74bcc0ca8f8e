"""Upsample, FIR filter, downsample."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from . import native
from .frozen import kept

MOST_TAPS = 1024  # of a filter in the CUDA kernels


def setup_filter(taps: float | Sequence[float] | Sequence[Sequence[float]] | torch.Tensor | None) -> torch.Tensor:
    """The float32 filter that a network stores for the given taps, normalised to sum one.

    Args:
        taps: (T,) or (H, W) numbers with a non-zero sum. None and a single number make the filter that changes nothing.

    Returns:
        (T, T) outer product for fewer than eight one-dimensional taps, (T,) for more (kept separable), (H, W) as given.
    """
    # On the meta device, where readers build networks, torch imports torch._dynamo for the first product. The taps are
    # therefore computed on the CPU, and moved to the default device at the end.
    device = taps.device if isinstance(taps, torch.Tensor) else torch.get_default_device()
    f = torch.as_tensor(1 if taps is None else taps, dtype=torch.float32, device="cpu")
    f = f[None] if f.ndim == 0 else f
    if f.ndim not in (1, 2) or f.numel() == 0:
        raise ValueError(f"setup_filter: taps of shape {tuple(f.shape)}; expected a list of numbers or a table of them")
    if f.ndim == 1 and f.numel() < 8:
        f = torch.outer(f, f)
    return (f / f.sum()).to(device)


def upfirdn2d(
    x: torch.Tensor,
    f: torch.Tensor,
    up: int = 1,
    down: int = 1,
    padding: Sequence[int] = (0, 0, 0, 0),
    gain: float = 1.0,
) -> torch.Tensor:
    """Insert zeros, pad, convolve with a FIR filter and keep every ``down``-th pixel.

    Args:
        x: floating tensor (N, C, H, W).
        f: float32 filter (T,), applied along both axes, or (FH, FW); see `setup_filter`. It has no gradient.
        up: ``up - 1`` zeros are inserted after each pixel.
        down: every ``down``-th pixel is kept after the filter.
        padding: pixels added (or, if negative, cropped) left, right, above and below, counted after the upsampling.
        gain: factor on the result.

    Returns:
        (N, C, H', W') with H' = (H * up + above + below - FH) // down + 1, dtype of ``x``.

    Raises:
        ValueError: a wrong number of axes, or nothing is left of the picture.
    """
    if x.ndim != 4 or f.ndim not in (1, 2):
        raise ValueError(
            f"upfirdn2d: input {tuple(x.shape)} and filter {tuple(f.shape)}; expected (N, C, H, W) and (T,) or (H, W)"
        )
    height, width = _size(x, f, up, down, padding)
    left, right, above, below = (max(0, -p) for p in padding)  # what is cropped
    if height < 1 or width < 1 or left + right >= x.shape[3] * up or above + below >= x.shape[2] * up:
        raise ValueError(
            f"upfirdn2d: a picture of {x.shape[3]}x{x.shape[2]} is smaller than the filter, after padding by {padding}"
        )
    if x.numel() and _fits(x, f) and native.is_native(x):
        return _upfirdn2d(x, f, up, down, list(padding), False, float(gain))
    return reference(x, f, up, down, padding, gain)


def reference(
    x: torch.Tensor, f: torch.Tensor, up: int, down: int, padding: Sequence[int], gain: float
) -> torch.Tensor:
    """`upfirdn2d` in torch's own operations."""
    n, c, h, w = x.shape
    if up > 1:
        x = F.pad(x.reshape(n, c, h, 1, w, 1), [0, up - 1, 0, 0, 0, up - 1]).reshape(n, c, h * up, w * up)
    x = F.pad(x, list(padding))
    # This is a convolution as signal processing defines it. Torch's conv2d correlates, so the order of the taps is reversed.
    f = f.to(x.dtype)
    if f.ndim == 1:
        f = f.flip(0) * gain**0.5
        x = F.conv2d(x, f.reshape(1, 1, 1, -1).expand(c, 1, 1, -1), groups=c)
        x = F.conv2d(x, f.reshape(1, 1, -1, 1).expand(c, 1, -1, 1), groups=c)
        return x[:, :, ::down, ::down]
    f = f.flip(0, 1) * gain
    return F.conv2d(x, f.expand(c, 1, *f.shape), groups=c, stride=down)


def _fits(x: torch.Tensor, f: torch.Tensor) -> bool:
    """False if a filter has more taps than the CUDA kernels take, so that the reference form has to run."""
    return x.device.type == "cpu" or f.numel() <= MOST_TAPS


def _size(x: torch.Tensor, f: torch.Tensor, up: int, down: int, padding: Sequence[int]) -> tuple[int, int]:
    left, right, above, below = padding
    fh, fw = f.shape[0], f.shape[-1]
    return (x.shape[2] * up + above + below - fh) // down + 1, (x.shape[3] * up + left + right - fw) // down + 1


# --------------------------------------------------------------------------------------------------------------- native


def _forward(
    x: torch.Tensor, f: torch.Tensor, up: int, down: int, padding: list[int], correlate: bool, gain: float
) -> torch.Tensor:
    x, (n, c, _, last) = native.layout(x)
    height, width = _size(x, f, up, down, padding)
    y = torch.empty([n, c, height, width], dtype=x.dtype, device=x.device, memory_format=native.memory_format(last))
    if not y.numel():
        return y
    planes, inner = (n, c) if last else (n * c, 1)
    h, w = x.shape[2:]
    shape = [planes, h, w, inner, height, width, f.shape[0], f.shape[-1], up, down, padding[0], padding[2]]
    on_cpu = x.device.type == "cpu"
    sum_dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    # On a GPU a table of taps is used as it is, since finding out whether it is a product would make the program wait.
    try_product = on_cpu or f.ndim == 1
    key = (correlate, gain, sum_dtype, try_product)
    is_product, taps = kept(f, key, lambda f: _kernel_taps(f, correlate, gain, sum_dtype, try_product))
    if not is_product:
        native.run("upfirdn2d_full", x, x, *taps, y, *shape)
    elif on_cpu:
        native.run("upfirdn2d_separable", x, x, *taps, y, *shape)
    else:
        between = torch.empty([planes, h, width, inner], dtype=sum_dtype, device=x.device)
        native.run("upfirdn2d_separable", x, x, *taps, between, y, *shape)
    return y


def _kernel_taps(
    f: torch.Tensor, correlate: bool, gain: float, dtype: torch.dtype, try_product: bool
) -> tuple[bool, list[torch.Tensor]]:
    """A filter as the kernels take it: in the order of a correlation, multiplied in float64, and with the gain in it.

    Returns:
        True if the filter is a product of two filters, one along x and one along y.
        These two, or all taps.
    """
    taps = (f if correlate else f.flip(*range(f.ndim))).to(torch.float64)
    factors = _separated(taps) if try_product else None
    if factors is None:
        return False, [(taps * gain).to(dtype).contiguous()]
    return True, [(factors[0] * gain).to(dtype).contiguous(), factors[1].to(dtype).contiguous()]


def _separated(f: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The taps along x and along y whose outer product a filter is; None if it is no such product."""
    if f.ndim == 1:
        return f, f
    row, column = divmod(int(f.abs().argmax()), f.shape[1])
    if f[row, column] == 0:
        return None
    fx, fy = f[row], f[:, column] / f[row, column]
    return (
        (fx, fy) if torch.allclose(torch.outer(fy, fx), f, rtol=1e-6, atol=1e-7 * float(f[row, column].abs())) else None
    )


def _fake(
    x: torch.Tensor,
    f: torch.Tensor,
    up: int,
    down: int,
    padding: Sequence[int],
    correlate: bool,
    gain: float,
) -> torch.Tensor:
    last = native.layout(x)[1][3]
    return x.new_empty([*x.shape[:2], *_size(x, f, up, down, padding)]).contiguous(
        memory_format=native.memory_format(last)
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, f, ctx.up, ctx.down, ctx.padding, ctx.correlate, ctx.gain = inputs
    ctx.save_for_backward(f)
    ctx.size, ctx.out = x.shape[2:], output.shape[2:]


def _adjoint(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    """The gradient is an operation of the same kind: with the taps in reverse order, and with up and down exchanged."""
    (f,) = ctx.saved_tensors
    (h, w), (oh, ow), up, down = ctx.size, ctx.out, ctx.up, ctx.down
    left, _, above, _ = ctx.padding
    fh, fw = f.shape[0], f.shape[-1]
    padding = [fw - 1 - left, w * up - ow * down + left - up + 1, fh - 1 - above, h * up - oh * down + above - up + 1]
    x = _upfirdn2d(g, f, down, up, padding, not ctx.correlate, ctx.gain)
    return x, None, None, None, None, None, None


_upfirdn2d = native.operation("upfirdn2d", _forward, _fake, _adjoint, _keep)


def upsample2d(x: torch.Tensor, f: torch.Tensor, up: int = 2) -> torch.Tensor:
    """Enlarge (N, C, H, W) to (N, C, H * up, W * up), keeping the mean brightness."""
    return upfirdn2d(x, f, up=up, padding=_up_padding(f, up), gain=up**2)


def downsample2d(x: torch.Tensor, f: torch.Tensor, down: int = 2) -> torch.Tensor:
    """Shrink (N, C, H, W) by ``down`` with the low-pass filter ``f``."""
    return upfirdn2d(x, f, down=down, padding=_down_padding(f, down))


def _up_padding(f: torch.Tensor, up: int) -> list[int]:
    """Padding (left, right, above, below) that keeps a picture in place while it is enlarged by ``up``."""
    fh, fw = f.shape[0], f.shape[-1]
    return [(fw + up - 1) // 2, (fw - up) // 2, (fh + up - 1) // 2, (fh - up) // 2]


def _down_padding(f: torch.Tensor, down: int) -> list[int]:
    """Padding (left, right, above, below) that keeps a picture in place while it is shrunk by ``down``."""
    fh, fw = f.shape[0], f.shape[-1]
    return [(fw - down + 1) // 2, (fw - down) // 2, (fh - down + 1) // 2, (fh - down) // 2]
