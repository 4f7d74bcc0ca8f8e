"""Convolution with resampling, and StyleGAN2's convolution modulated by a style."""

from typing import Any

import torch
import torch.nn.functional as F

from . import native, winograd
from .bias_act import bias_act
from .frozen import keeps, kept
from .upfirdn2d import _down_padding, _up_padding, upfirdn2d

Made = torch.Tensor | winograd.Kernel | winograd.Weight
"""What `_kernel` makes of a weight."""


def conv2d_resample(
    x: torch.Tensor,
    weight: torch.Tensor,
    f: torch.Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: int = 0,
    flip_weight: bool = True,
    groups: int = 1,
) -> torch.Tensor:
    """Upsample or downsample (N, C, H, W) around a convolution, with the low-pass filter ``f``.

    Args:
        x: (N, C, H, W).
        weight: (O, C // groups, K, K) of the dtype of ``x``.
        f: FIR filter of `setup_filter`; needed when ``up`` or ``down`` is not one.
        up: enlarge by this factor before the convolution.
        down: shrink by this factor after it.
        padding: zeros on each side, counted in pixels of the enlarged picture.
        flip_weight: True correlates (as torch does), False turns the kernel by 180 degrees first.
        groups: as in torch's conv2d.

    Returns:
        (N, O, H * up // down, W * up // down) for padding K // 2 and odd K.

    Raises:
        ValueError: both ``up`` and ``down`` are above one, or a filter is missing.
    """
    if (up > 1 and down > 1) or (f is None and (up > 1 or down > 1)):
        presence = "given" if f is not None else "missing"
        raise ValueError(
            f"conv2d_resample: up={up}, down={down}, filter {presence}; expected only one of up and down above 1, with a filter"
        )
    transposed, channels_last = _transposed(weight, up), _channels_last(x, groups)
    way = _way(x, weight, up, down, padding) if channels_last else None
    kernel = _kernel(weight, transposed, flip_weight, groups, channels_last, way)
    return _resampled(x, kernel, weight.shape[2:], f, up, down, padding, groups)


def _transposed(weight: torch.Tensor, up: int) -> bool:
    """True if a transposed convolution is used, which upsamples and convolves at once."""
    return up > 1 and weight.shape[2:].numel() > 1


def _channels_last(x: torch.Tensor, groups: int) -> bool:
    """True if a convolution should work on channels-last memory.

    On a CPU torch's convolutions then need no copies; from contiguous memory they copy into blocks of channels and back. The
    reference operations and grouped convolutions are slower on channels-last memory.
    """
    return groups == 1 and x.device.type == "cpu" and native.is_native(x)


def conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    act: str = "linear",
) -> torch.Tensor:
    """Torch's conv2d and an activation, in the fastest form.

    Args:
        x: (N, I, H, W).
        weight: (O, I, K, K) of the dtype of ``x``.
        bias: (O,) or None.
        stride: as in torch's conv2d.
        padding: as in torch's conv2d.
        act: an activation of `bias_act`, which is applied with gain 1.

    Returns:
        (N, O, H', W'), dtype of ``x``.
    """
    if not x.numel() or not _channels_last(x, 1):
        return bias_act(F.conv2d(x, weight, bias, stride, padding), act=act, gain=1)
    way = _way(x, weight, 1, 1, padding) if stride == 1 else None
    frozen = keeps(weight)
    kernel = kept(weight, ("conv2d", way), lambda w: _kernel(w, False, True, 1, True, way, frozen))
    x = x.contiguous(memory_format=torch.channels_last)
    return bias_act(_convolved(x, kernel, stride=stride, padding=padding), bias, act, gain=1)


def _convolved(x: torch.Tensor, kernel: Made, **options: Any) -> torch.Tensor:
    """The convolution with a kernel that `_kernel` has made. The options are for torch's."""
    if isinstance(kernel, torch.Tensor):
        return F.conv2d(x, kernel, **options)
    return winograd.convolve(x, kernel)


def _way(x: torch.Tensor, weight: torch.Tensor, up: int, down: int, padding: int) -> int | None:
    """The way of `winograd` that computes the convolution of `conv2d_resample` on channels-last memory; None for torch's own."""
    way = {(1, 1): winograd.SAME, (2, 1): winograd.UP, (1, 2): winograd.DOWN}.get((up, down))
    if way is None or padding != 1 or x.dtype != weight.dtype or not winograd.suits(x, weight, way):
        return None
    # The filter in front of a convolution that shrinks adds a pixel. DOWN would lose the last one of an even number.
    return None if way == winograd.DOWN and any(size % 2 for size in x.shape[2:]) else way


def _kernel(
    weight: torch.Tensor, transposed: bool, flip_weight: bool, groups: int, channels_last: bool, way: int | None = None,
    frozen: bool = False,
) -> Made:  # fmt: skip
    """The weight in the order and layout that the convolution takes.

    Args:
        way: of `winograd`; None for torch's convolution.
        frozen: the result is used more than once, without a gradient of the weight.
    """
    if flip_weight == transposed:  # a transposed convolution rotates the kernel by itself
        weight = weight.flip(2, 3)
    if way is not None:
        return winograd.transformed(weight, way) if frozen else winograd.Weight(way, weight)
    if transposed:
        weight = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    return weight.contiguous(memory_format=torch.channels_last) if channels_last else weight


def _resampled(
    x: torch.Tensor, kernel: Made, size: torch.Size, f: torch.Tensor | None, up: int, down: int, padding: int, groups: int
) -> torch.Tensor:  # fmt: skip
    """`conv2d_resample` for a kernel that `_kernel` has made from a weight of this size."""
    if _channels_last(x, groups):
        x = x.contiguous(memory_format=torch.channels_last)
    if up == down == 1:
        return _convolved(x, kernel, padding=padding, groups=groups)
    if f is None:
        raise ValueError(f"a convolution with up={up}, down={down} needs a filter")
    kh, kw = size
    pad = [padding] * 4
    if up > 1:
        pad = [p + q for p, q in zip(pad, _up_padding(f, up))]
    if down > 1:
        pad = [p + q for p, q in zip(pad, _down_padding(f, down))]
    if up > 1 and kh == kw == 1:  # the convolution only mixes channels, which is cheapest at the small size
        x = _convolved(x, kernel, groups=groups)
        return upfirdn2d(x, f, up=up, padding=pad, gain=up**2)
    if up > 1:
        # The filter is linear, so it may follow the transposed convolution. That one adds k - 1 pixels before and k - up after,
        # by which the padding is reduced. If that makes it negative, the convolution crops; the rest is padding of the filter.
        pad = [pad[0] - (kw - 1), pad[1] - (kw - up), pad[2] - (kh - 1), pad[3] - (kh - up)]
        crop = [max(min(-pad[2], -pad[3]), 0), max(min(-pad[0], -pad[1]), 0)]
        if not isinstance(kernel, torch.Tensor):
            x = winograd.convolve(x, kernel)
            x = x[:, :, crop[0] : x.shape[2] - crop[0], crop[1] : x.shape[3] - crop[1]]
        else:
            x = F.conv_transpose2d(x, kernel, stride=up, padding=crop, groups=groups)
        return upfirdn2d(
            x, f, padding=[pad[0] + crop[1], pad[1] + crop[1], pad[2] + crop[0], pad[3] + crop[0]], gain=up**2
        )
    if kh == kw == 1:
        return _convolved(upfirdn2d(x, f, down=down, padding=pad), kernel, groups=groups)
    return _convolved(upfirdn2d(x, f, padding=pad), kernel, stride=down, groups=groups)


class _Product(torch.autograd.Function):
    """The product of x (N, P, C) with the rows of k (N, O, C), as (N, P, O).

    The gradient of k is written out here: for a small O, torch's own takes ten times as long.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return x @ k.transpose(1, 2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, k = ctx.saved_tensors
        dx = g @ k if ctx.needs_input_grad[0] else None
        return dx, g.transpose(1, 2).contiguous() @ x if ctx.needs_input_grad[1] else None


def _normalised(weight: torch.Tensor) -> torch.Tensor:
    """Scale each filter of (O, I, K, K) so that its largest magnitude is 1 / sqrt(I K K)."""
    return weight / (weight.abs().amax(dim=[1, 2, 3], keepdim=True) * weight[0].numel() ** 0.5)


def _scaled_product(x: torch.Tensor, weight: torch.Tensor, styles: torch.Tensor) -> torch.Tensor:
    """A modulated 1x1 convolution without demodulation, as one matrix product for each sample.

    The matrix is small, so the styles scale it and not the activations. Arguments and result as for `modulated_conv2d`.
    """
    kernels = (weight.flatten(1)[None] * styles[:, None]).to(x.dtype)  # (N, O, I)
    flat = x.flatten(2)
    if x.is_contiguous():
        y = kernels @ flat
    else:  # channels-last, and so is the gradient
        y = _Product.apply(flat.transpose(1, 2), kernels).transpose(1, 2)
    return y.unflatten(2, x.shape[2:])


def modulated_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    styles: torch.Tensor,
    noise: torch.Tensor | None = None,
    up: int = 1,
    padding: int = 0,
    resample_filter: torch.Tensor | None = None,
    demodulate: bool = True,
    flip_weight: bool = True,
    fused_modconv: bool = False,
    bias: torch.Tensor | None = None,
    act: str = "linear",
    gain: float = 1,
    clamp: float | None = None,
) -> torch.Tensor:
    """StyleGAN2's modulated convolution, followed by `bias_act`.

    The weight's input channels are multiplied by ``styles``. If ``demodulate``, each output filter is then divided by its norm.

    Args:
        x: (N, I, H, W), float32 or float16.
        weight: (O, I, K, K) float32.
        styles: (N, I) float32.
        noise: (N, 1, H', W'), (1, 1, H', W') or (H', W'), added to the result of the convolution.
        up: as in `conv2d_resample`.
        padding: as in `conv2d_resample`.
        resample_filter: the filter ``f`` of `conv2d_resample`.
        demodulate: divide by the norm of each modulated filter, rsqrt(sum(w^2) + 1e-8).
        flip_weight: as in `conv2d_resample`.
        fused_modconv: False scales the activations before and after one convolution with the shared weight. With frozen weights no
            weight gradient is then formed, and it is the faster form on a CPU. True makes one kernel for each sample and runs a
            grouped convolution, as official code does by default in evaluation. The two agree up to rounding.
        bias: (O,) or None, for the `bias_act` that ends the layer.
        act: its activation; by default it has none.
        gain: its factor.
        clamp: its limit.

    Returns:
        (N, O, H * up, W * up) for padding K // 2, dtype of ``x``.

    Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", section 2.2.
    """
    n = x.shape[0]
    is_normalised = x.dtype == torch.float16 and demodulate
    if is_normalised:  # so that products of styles and weights stay in the range of float16; demodulation undoes both
        styles = styles / styles.abs().amax(dim=1, keepdim=True)

    scale = None
    if fused_modconv:
        weight = _normalised(weight) if is_normalised else weight
        kernels = weight[None] * styles[:, None, :, None, None]  # (N, O, I, K, K)
        if demodulate:
            kernels = kernels * (kernels.square().sum(dim=[2, 3, 4], keepdim=True) + 1e-8).rsqrt()
        kernels, together = kernels.flatten(0, 1).to(x.dtype), x.reshape(1, -1, *x.shape[2:])
        y = conv2d_resample(together, kernels, resample_filter, up, 1, padding, flip_weight, n)
        y = y.reshape(n, -1, *y.shape[2:])
    elif up == 1 and not demodulate and weight.shape[2:] == (1, 1) and not padding:
        y = _scaled_product(x, weight, styles)
    else:
        transposed, channels_last = _transposed(weight, up), _channels_last(x, 1)
        way = _way(x, weight, up, 1, padding) if channels_last else None
        frozen = keeps(weight)

        def prepared(
            weight: torch.Tensor,
        ) -> tuple[Made, torch.Tensor | None]:
            weight = _normalised(weight) if is_normalised else weight
            squares = weight.square().sum(dim=[2, 3]).t() if demodulate else None  # (I, O)
            return _kernel(weight.to(x.dtype), transposed, flip_weight, 1, channels_last, way, frozen), squares

        key = (x.dtype, transposed, flip_weight, channels_last, demodulate, way)
        kernel, squares = kept(weight, key, prepared)
        y = bias_act(x, gain=1, scale=styles.to(x.dtype))
        y = _resampled(y, kernel, weight.shape[2:], resample_filter, up, 1, padding, 1)
        if squares is not None:
            # The sum over I and K of (w * s)^2 is one small matrix product, which needs no kernel for each sample.
            scale = (styles.square() @ squares + 1e-8).rsqrt().to(x.dtype)
    return bias_act(y, bias, act, gain, clamp, noise=noise, scale=scale)
