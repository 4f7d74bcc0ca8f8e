"""Convolution with resampling, and StyleGAN2's convolution modulated by a style."""

import torch
import torch.nn.functional as F

from . import native, winograd
from .bias_act import bias_act
from .frozen import keeps, kept
from .upfirdn2d import _down_padding, _up_padding, upfirdn2d


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
        given = "given" if f is not None else "missing"
        raise ValueError(
            f"conv2d_resample: up={up}, down={down}, filter {given}; expected one of the two, with a filter"
        )
    kernel = _kernel(weight, _transposed(weight, up), flip_weight, groups, _channels_last(x, groups))
    return _resampled(x, kernel, weight.shape[2:], f, up, down, padding, groups)


def _transposed(weight: torch.Tensor, up: int) -> bool:
    """Whether the convolution is a transposed one, which upsamples and convolves at once."""
    return up > 1 and weight.shape[2:].numel() > 1


def _channels_last(x: torch.Tensor, groups: int) -> bool:
    """Whether channels should run fastest: torch's convolutions on a CPU then read and write memory as it is, where they copy
    into blocks of channels and back otherwise. The reference operations are slow so, and grouped convolutions too."""
    return groups == 1 and x.device.type == "cpu" and native.is_native(x)


def conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    act: str = "linear",
) -> torch.Tensor:
    """Torch's conv2d and an activation, for a weight that does not change: the fastest way there is.

    Args:
        x: (N, I, H, W).
        weight: (O, I, K, K) of the dtype of ``x``.
        bias: (O,) or None.
        stride, padding: as of torch's conv2d.
        act: of `bias_act`, with gain 1.

    Returns:
        (N, O, H', W'), dtype of ``x``.
    """
    if not x.numel() or not _channels_last(x, 1):
        return bias_act(F.conv2d(x, weight, bias, stride, padding), act=act, gain=1)
    quick = stride == padding == 1 and _quick(x, weight)
    kernel = kept(weight, ("conv2d", quick), lambda w: _kernel(w, False, True, 1, True, quick))
    x = x.contiguous(memory_format=torch.channels_last)
    y = winograd.convolve(x, kernel) if quick else F.conv2d(x, kernel, stride=stride, padding=padding)
    return bias_act(y, bias, act, gain=1)


def _quick(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether Winograd's way is open to a convolution, and the faster one."""
    return _channels_last(x, 1) and x.dtype == weight.dtype and keeps(weight) and winograd.suits(x, weight)


def _kernel(
    weight: torch.Tensor, transposed: bool, flip_weight: bool, groups: int, channels_last: bool, quick: bool = False
) -> torch.Tensor | winograd.Kernel:
    """The weight as the convolution takes it."""
    if flip_weight == transposed:  # a transposed convolution turns the kernel round by itself
        weight = weight.flip(2, 3)
    if quick:
        return winograd.transformed(weight, winograd.UP if transposed else winograd.SAME)
    if transposed:
        weight = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    return weight.contiguous(memory_format=torch.channels_last) if channels_last else weight


def _resampled(
    x: torch.Tensor, kernel: torch.Tensor | winograd.Kernel, size: torch.Size, f: torch.Tensor | None, up: int, down: int,
    padding: int, groups: int,
) -> torch.Tensor:  # fmt: skip
    """`conv2d_resample` with what `_kernel` made of a weight of this size."""
    kh, kw = size
    pad = [padding] * 4
    if up > 1:
        pad = [p + q for p, q in zip(pad, _up_padding(f, up))]
    if down > 1:
        pad = [p + q for p, q in zip(pad, _down_padding(f, down))]
    if _channels_last(x, groups):
        x = x.contiguous(memory_format=torch.channels_last)
    if up > 1 and kh == kw == 1:  # the convolution mixes channels only: cheapest at the small size
        x = F.conv2d(x, kernel, groups=groups)
        return upfirdn2d(x, f, up=up, padding=pad, gain=up**2)
    if up > 1:
        # The filter, being linear, may follow the transposed convolution. That adds k - 1 pixels before and k - up after,
        # which the padding gives back: partly by cropping inside the convolution, the rest as padding of the filter.
        pad = [pad[0] - (kw - 1), pad[1] - (kw - up), pad[2] - (kh - 1), pad[3] - (kh - up)]
        crop = [max(min(-pad[2], -pad[3]), 0), max(min(-pad[0], -pad[1]), 0)]
        if isinstance(kernel, winograd.Kernel):
            x = winograd.convolve(x, kernel)
            x = x[:, :, crop[0] : x.shape[2] - crop[0], crop[1] : x.shape[3] - crop[1]]
        else:
            x = F.conv_transpose2d(x, kernel, stride=up, padding=crop, groups=groups)
        return upfirdn2d(
            x, f, padding=[pad[0] + crop[1], pad[1] + crop[1], pad[2] + crop[0], pad[3] + crop[0]], gain=up**2
        )
    if down > 1 and kh == kw == 1:
        return F.conv2d(upfirdn2d(x, f, down=down, padding=pad), kernel, groups=groups)
    if down > 1:
        return F.conv2d(upfirdn2d(x, f, padding=pad), kernel, stride=down, groups=groups)
    if isinstance(kernel, winograd.Kernel):
        return winograd.convolve(x, kernel)
    return F.conv2d(x, kernel, padding=padding, groups=groups)


class _Product(torch.autograd.Function):
    """x (N, P, C) times the rows of k (N, O, C): (N, P, O). With few O, torch's own gradient of k takes ten times as long."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x, k):
        return x @ k.transpose(1, 2)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, g):
        x, k = ctx.saved_tensors
        dx = g @ k if ctx.needs_input_grad[0] else None
        return dx, g.transpose(1, 2).contiguous() @ x if ctx.needs_input_grad[1] else None


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
    """StyleGAN2's convolution: input channels scaled by ``styles``, each output filter brought to unit length; then `bias_act`.

    Args:
        x: (N, I, H, W), float32 or float16.
        weight: (O, I, K, K) float32.
        styles: (N, I) float32.
        noise: (N, 1, H', W'), (1, 1, H', W') or (H', W'), added to the result of the convolution.
        up, padding, resample_filter, flip_weight: as in `conv2d_resample`.
        demodulate: divide by the norm of each modulated filter, rsqrt(sum(w^2) + 1e-8).
        fused_modconv: False scales the activations before and after one convolution with the shared weight: with
            frozen weights no weight gradient is ever formed, and it is the faster form on a CPU. True builds one
            kernel per sample and runs a grouped convolution, as official code does by default in evaluation. Both
            are the same function up to rounding.
        bias, act, gain, clamp: of the `bias_act` that ends the layer; by default it does nothing.

    Returns:
        (N, O, H * up, W * up) for padding K // 2, dtype of ``x``.

    Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", section 2.2.
    """
    n = x.shape[0]
    if x.dtype == torch.float16 and demodulate:
        # Bring both factors near one so that their product stays inside the half range; demodulation undoes it.
        weight = weight / (weight.abs().amax(dim=[1, 2, 3], keepdim=True) * weight[0].numel() ** 0.5)
        styles = styles / styles.abs().amax(dim=1, keepdim=True)

    scale = None
    if fused_modconv:
        kernels = weight[None] * styles[:, None, :, None, None]  # (N, O, I, K, K)
        if demodulate:
            kernels = kernels * (kernels.square().sum(dim=[2, 3, 4], keepdim=True) + 1e-8).rsqrt()
        y = conv2d_resample(
            x.reshape(1, -1, *x.shape[2:]), kernels.reshape(-1, *weight.shape[1:]).to(x.dtype),
            f=resample_filter, up=up, padding=padding, flip_weight=flip_weight, groups=n,
        )  # fmt: skip
        y = y.reshape(n, -1, *y.shape[2:])
    elif up == 1 and not demodulate and weight.shape[2:] == (1, 1) and not padding:
        # A matrix product for each sample, whose matrix is small: the activations need not be scaled.
        kernels = (weight.flatten(1)[None] * styles[:, None]).to(x.dtype)  # (N, O, I)
        flat = x.flatten(2)
        if x.is_contiguous():
            y = kernels @ flat
        else:  # channels last: so that the gradient is so, too
            y = _Product.apply(flat.transpose(1, 2), kernels).transpose(1, 2)
        y = y.unflatten(2, x.shape[2:])
    else:
        transposed, channels_last = _transposed(weight, up), _channels_last(x, 1)
        quick = up <= 2 and padding == 1 and _quick(x, weight)

        def prepared(weight: torch.Tensor) -> tuple[torch.Tensor | winograd.Kernel, torch.Tensor | None]:
            squares = weight.square().sum(dim=[2, 3]).t() if demodulate else None  # (I, O)
            return _kernel(weight.to(x.dtype), transposed, flip_weight, 1, channels_last, quick), squares

        key = (x.dtype, transposed, flip_weight, channels_last, demodulate, quick)
        kernel, squares = kept(weight, key, prepared)
        y = bias_act(x, gain=1, scale=styles.to(x.dtype))
        y = _resampled(y, kernel, weight.shape[2:], resample_filter, up, 1, padding, 1)
        if demodulate:
            # sum over I and K of (w * s)^2 is one small matrix product, with no kernel per sample.
            scale = (styles.square() @ squares + 1e-8).rsqrt().to(x.dtype)
    return bias_act(y, bias, act, gain, clamp, noise=noise, scale=scale)
