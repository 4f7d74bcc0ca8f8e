"""Numbers that say how alike two saved pictures are."""

import math

import torch

from .base import Distance


def picture_metrics(
    target: torch.Tensor, image: torch.Tensor, perceptual: dict[str, Distance]
) -> dict[str, float | None]:
    """PSNR, SSIM and perceptual distances of two pictures as they are saved.

    Args:
        target, image: (C, H, W) uint8.
        perceptual: name to distance, each reported under its name.

    Returns:
        "psnr" in dB (infinite for equal pictures becomes None), "ssim" (Gaussian window of 11 pixels, sigma 1.5; None
        for pictures below 11 pixels) and the perceptual distances (None below their smallest size).
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
