"""Measures of how similar two saved pictures are."""

import math

import torch

from .base import Distance


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
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    a, b = (x.detach().cpu()[None].to(torch.float32) for x in (target, image))
    size = min(a.shape[2:])
    psnr = float(peak_signal_noise_ratio(b, a, data_range=(0.0, 255.0)))
    result: dict[str, float | None] = {"psnr": psnr if math.isfinite(psnr) else None}
    result["ssim"] = float(structural_similarity_index_measure(b, a, data_range=(0.0, 255.0))) if size >= 11 else None
    with torch.no_grad():
        for name, distance in perceptual.items():
            device = next((t.device for t in distance.state_dict().values()), torch.device("cpu"))
            pair = [(x / 127.5 - 1).to(device) for x in (a, b)]
            result[name] = float(distance.between(*pair)[0]) if size >= distance.min_size else None
    return result
