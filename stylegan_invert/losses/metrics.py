"""Measures of how similar two saved pictures are."""

import math

import torch
import torch.nn.functional as F

from .base import Distance


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """Peak signal-to-noise ratio in dB, for values from 0 to 255: 10 log10(255^2 / mean squared error).

    Args:
        a: floating tensor of any shape.
        b: tensor of the same shape.

    Returns:
        The ratio; infinite for equal tensors.
    """
    return float(10 * torch.log10(255**2 / (a - b).square().mean()))


def ssim(a: torch.Tensor, b: torch.Tensor) -> float:
    """Structural similarity, for values from 0 to 255: 1 for equal pictures, about 0 for unrelated ones.

    Wang et al., "Image quality assessment: from error visibility to structural similarity" (2004), equation 13, with the
    paper's Gaussian window of 11x11 pixels and standard deviation 1.5. As in torchmetrics, pictures are reflected at their
    borders and the mean is taken over all of their pixels.

    Args:
        a: (C, H, W) floating tensor, at least 6 pixels high and wide.
        b: tensor of the same shape.
    """
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    window = torch.exp(-((torch.arange(11, dtype=a.dtype, device=a.device) - 5) / 1.5).square() / 2)
    window = window / window.sum()
    a, b = (F.pad(x[:, None], [5, 5, 5, 5], mode="reflect") for x in (a, b))
    moments = F.conv2d(torch.cat([a, b, a * a, b * b, a * b]), torch.outer(window, window)[None, None])
    mean_a, mean_b, mean_aa, mean_bb, mean_ab = moments.chunk(5)
    variances = (mean_aa - mean_a**2).clamp(min=0) + (mean_bb - mean_b**2).clamp(min=0)
    covariance = mean_ab - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return float((luminance * (2 * covariance + c2) / (variances + c2)).mean())


def picture_metrics(
    target: torch.Tensor, image: torch.Tensor, perceptual: dict[str, Distance]
) -> dict[str, float | None]:
    """Compare two pictures as they are saved, with 8 bits.

    Args:
        target: (C, H, W) uint8.
        image: (C, H, W) uint8.
        perceptual: further distances to report, by name.

    Returns:
        "psnr": the peak signal-to-noise ratio in decibels; None for equal pictures, where it is infinite.
        "ssim": the structural similarity index (Wang et al., 2004), with a Gaussian window of 11 pixels and sigma 1.5;
        None for pictures with a side below 11 pixels.
        And each distance of ``perceptual`` under its name; None for pictures that are too small for it.
    """
    a, b = (x.detach().cpu().to(torch.float32) for x in (target, image))
    size = min(a.shape[1:])
    ratio = psnr(a, b)
    result: dict[str, float | None] = {"psnr": ratio if math.isfinite(ratio) else None}
    result["ssim"] = ssim(a, b) if size >= 11 else None
    with torch.no_grad():
        for name, distance in perceptual.items():
            device = next((t.device for t in distance.state_dict().values()), torch.device("cpu"))
            pair = [(x[None] / 127.5 - 1).to(device) for x in (a, b)]
            result[name] = float(distance.between(*pair)[0]) if size >= distance.min_size else None
    return result
