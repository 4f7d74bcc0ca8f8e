"""What clipping does to the recovery of latents: the comparison of Lipton & Tripathi ("Precise recovery of latent vectors from
generative adversarial networks", 2017) and of Bayat's thesis, whose clipping was never applied (its published code edits a
copy)."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch

from ..generator import Code, GeneratorAdapter, Prior
from ..losses import Distance
from ..media.pictures import as_images
from ..projectors.projection import render_pixels
from ..projectors.z import CLIPS, LatentOptions, drawn, latent


def recover(
    generator: GeneratorAdapter,
    family: str,
    count: int,
    loss: Distance,
    options: LatentOptions,
    clips: Sequence[str] = CLIPS,
    batch: int = 16,
    progress: Callable[[int], None] | None = None,
) -> dict[str, dict[str, list[float]]]:
    """Generate pictures from latents of a prior, and find the latents again under each kind of clipping.

    Starts, restarts and everything else are equal; pictures are what an 8-bit file holds.

    Args:
        family: "normal" or "uniform", of the latents, the starts and the bounds.
        count: pictures. batch: of them at a time.
        progress: called with the number of pictures done.

    Returns:
        For each kind of clipping, one value per picture: "psnr" in dB, "error", the root mean squared difference from the true
        latent, and "outside", the share of entries beyond the prior's bound.
    """
    before, generator.prior = generator.prior, Prior(family)
    try:
        (shape,) = generator.code_shapes("z").values()
        z = generator.prior.sample([count, *shape], torch.Generator(generator.device).manual_seed(1))
        pictures = np.stack([render_pixels(generator, one) for one in Code("z", {"z": z})])
        results: dict[str, dict[str, list[float]]] = {}
        for clip in clips:
            rows: dict[str, list[float]] = {"psnr": [], "error": [], "outside": []}
            for first in range(0, count, batch):
                part = slice(first, first + batch)
                shown = as_images(pictures[part], generator.device)
                settings = dataclasses.replace(options, clip=clip)
                found = latent(generator, shown, loss, drawn(generator, settings, len(shown)), settings).code
                made = torch.from_numpy(np.stack([render_pixels(generator, one) for one in found]))
                squared = (made.double() - torch.from_numpy(pictures[part]).double()).square().mean(dim=[1, 2, 3])
                rows["psnr"] += (10 * torch.log10(255**2 / squared.clamp_min(1e-3))).tolist()
                rows["error"] += (found.tensors["z"] - z[part]).square().mean(dim=1).sqrt().cpu().tolist()
                rows["outside"] += (found.tensors["z"].abs() > generator.prior.bound).float().mean(dim=1).cpu().tolist()
                if progress is not None:
                    progress(len(shown))
            results[clip] = rows
        return results
    finally:
        generator.prior = before
