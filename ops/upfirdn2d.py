"""Upsample, FIR filter, downsample."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F


def setup_filter(taps: float | Sequence[float] | Sequence[Sequence[float]] | torch.Tensor | None) -> torch.Tensor:
    """The float32 filter that a network stores for the given taps, normalised to sum one.

    Args:
        taps: (T,) or (H, W) numbers with a non-zero sum. None and a single number make the filter that changes nothing.

    Returns:
        (T, T) outer product for fewer than eight one-dimensional taps, (T,) for more (kept separable), (H, W) as given.
    """
    f = torch.as_tensor(1 if taps is None else taps, dtype=torch.float32)
    f = f[None] if f.ndim == 0 else f
    if f.ndim not in (1, 2) or f.numel() == 0:
        raise ValueError(f"setup_filter: taps of shape {tuple(f.shape)}; expected a list of numbers or a table of them")
    if f.ndim == 1 and f.numel() < 8:
        f = torch.outer(f, f)
    return f / f.sum()


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
        f: float32 filter (T,), applied along both axes, or (FH, FW); see `setup_filter`.
        up: after each pixel ``up - 1`` zeros are inserted.
        down: decimation after the filter.
        padding: pixels added (or, if negative, cropped) left, right, above and below, counted after the upsampling.
        gain: factor on the result.

    Returns:
        (N, C, H', W') with H' = (H * up + above + below - FH) // down + 1, dtype of ``x``.
    """
    if x.ndim != 4 or f.ndim not in (1, 2):
        raise ValueError(
            f"upfirdn2d: input {tuple(x.shape)} and filter {tuple(f.shape)}; expected (N, C, H, W) and (T,) or (H, W)"
        )
    n, c, h, w = x.shape
    if up > 1:
        x = F.pad(x.reshape(n, c, h, 1, w, 1), [0, up - 1, 0, 0, 0, up - 1]).reshape(n, c, h * up, w * up)
    x = F.pad(x, list(padding))
    # A convolution in the sense of signal processing: torch's conv2d correlates, so the taps are turned round.
    f = f.to(x.dtype)
    if f.ndim == 1:
        f = f.flip(0) * gain**0.5
        x = F.conv2d(x, f.reshape(1, 1, 1, -1).expand(c, 1, 1, -1), groups=c)
        x = F.conv2d(x, f.reshape(1, 1, -1, 1).expand(c, 1, -1, 1), groups=c)
        return x[:, :, ::down, ::down]
    f = f.flip(0, 1) * gain
    return F.conv2d(x, f.expand(c, 1, *f.shape), groups=c, stride=down)


def upsample2d(x: torch.Tensor, f: torch.Tensor, up: int = 2) -> torch.Tensor:
    """Enlarge (N, C, H, W) to (N, C, H * up, W * up), keeping the mean brightness."""
    return upfirdn2d(x, f, up=up, padding=_up_padding(f, up), gain=up**2)


def downsample2d(x: torch.Tensor, f: torch.Tensor, down: int = 2) -> torch.Tensor:
    """Shrink (N, C, H, W) by ``down`` with the low-pass filter ``f``."""
    return upfirdn2d(x, f, down=down, padding=_down_padding(f, down))


def _up_padding(f: torch.Tensor, up: int) -> list[int]:
    """Padding (left, right, above, below) that aligns an upsampling by ``up`` (formats.md, section 5)."""
    fh, fw = f.shape[0], f.shape[-1]
    return [(fw + up - 1) // 2, (fw - up) // 2, (fh + up - 1) // 2, (fh - up) // 2]


def _down_padding(f: torch.Tensor, down: int) -> list[int]:
    fh, fw = f.shape[0], f.shape[-1]
    return [(fw - down + 1) // 2, (fw - down) // 2, (fh - down + 1) // 2, (fh - down) // 2]
