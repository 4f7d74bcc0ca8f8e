"""Convolution with resampling, and StyleGAN2's convolution modulated by a style."""

import torch
import torch.nn.functional as F

from .bias_act import bias_act
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
    kh, kw = weight.shape[2:]
    pad = [padding] * 4
    if up > 1:
        pad = [p + q for p, q in zip(pad, _up_padding(f, up))]
    if down > 1:
        pad = [p + q for p, q in zip(pad, _down_padding(f, down))]
    transposed = up > 1 and (kh > 1 or kw > 1)
    if flip_weight == transposed:  # a transposed convolution turns the kernel round by itself
        weight = weight.flip(2, 3)

    if up > 1 and not transposed:  # the convolution mixes channels only: cheapest at the small size
        x = F.conv2d(x, weight, groups=groups)
        return upfirdn2d(x, f, up=up, padding=pad, gain=up**2)
    if transposed:
        # A transposed convolution upsamples and convolves at once; the filter, being linear, may follow it. It adds
        # k - 1 pixels before and k - up after, which the padding gives back: partly by cropping inside the
        # convolution, the rest as padding of the filter.
        o, i = weight.shape[:2]
        turned = weight.reshape(groups, o // groups, i, kh, kw).transpose(1, 2).reshape(groups * i, o // groups, kh, kw)
        pad = [pad[0] - (kw - 1), pad[1] - (kw - up), pad[2] - (kh - 1), pad[3] - (kh - up)]
        crop = [max(min(-pad[2], -pad[3]), 0), max(min(-pad[0], -pad[1]), 0)]
        x = F.conv_transpose2d(x, turned, stride=up, padding=crop, groups=groups)
        return upfirdn2d(
            x, f, padding=[pad[0] + crop[1], pad[1] + crop[1], pad[2] + crop[0], pad[3] + crop[0]], gain=up**2
        )
    if down > 1 and kh == kw == 1:
        return F.conv2d(upfirdn2d(x, f, down=down, padding=pad), weight, groups=groups)
    if down > 1:
        return F.conv2d(upfirdn2d(x, f, padding=pad), weight, stride=down, groups=groups)
    return F.conv2d(x, weight, padding=padding, groups=groups)


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
    else:
        y = bias_act(x, gain=1, scale=styles.to(x.dtype))
        y = conv2d_resample(y, weight.to(x.dtype), f=resample_filter, up=up, padding=padding, flip_weight=flip_weight)
        if demodulate:
            # sum over I and K of (w * s)^2 is one small matrix product, with no kernel per sample.
            norms = styles.square() @ weight.square().sum(dim=[2, 3]).t()  # (N, O)
            scale = (norms + 1e-8).rsqrt().to(x.dtype)
    return bias_act(y, bias, act, gain, clamp, noise=noise, scale=scale)
