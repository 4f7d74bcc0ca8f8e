"""How clipping changes the recovery of latents.

Three ways to treat entries of z outside the prior's bound are compared. "none" leaves them where they are. "standard"
sets them to the bound after every step. "stochastic" draws them anew from the prior after every step.

The comparison is that of Lipton & Tripathi, "Precise recovery of latent vectors from generative adversarial networks"
(2017), and of Bayat's thesis "Inverse Mapping of Generative Adversarial Networks". The thesis's published code clips a
copy of z, so its clipping was never applied.
"""

import os
from typing import Any, NamedTuple

import numpy as np
import torch

from ..generator import Code
from ..media.pictures import as_images
from ..network_files.file import NetworkFile
from ..projectors.settings import CLIPS
from . import base

PRIORS = ("normal", "uniform")
BATCH = 16  # pictures that are searched together
GOOD = 30  # The table counts pictures whose PSNR exceeds this many dB.


class Way(NamedTuple):
    """A kind of clipping, one of `projectors.settings.CLIPS`, and the number of steps over all restarts."""

    clip: str
    steps: int


def run(
    net: NetworkFile,
    outdir: str | os.PathLike,
    *,
    generated: int = 64,
    steps: int = 500,
    restarts: int = 3,
    seed: int = 303,
    loss: str = "mse=1",
    device: torch.device | str = "cpu",
    counting: base.Counting = base.uncounted,
) -> dict[str, Any]:
    """Generate pictures from latents of a prior, and find the latents again under each kind of clipping.

    All kinds of clipping have the same starts, restarts and other settings. The target pictures are rounded to 8 bits.

    Args:
        net: a network without classes.
        outdir: the study's folder; see `studies.base`.
        generated: the number of pictures for each prior.
        steps: the number of Adam's steps.
        restarts: the number of starts for each picture; the best result counts.
        seed: the random seed for the starts.
        loss: the distance, by name.
        device: where to compute.
        counting: shows the progress.

    Returns:
        The contents of results.json. "priors" has, for each prior and kind of clipping, one value per picture: "psnr"
        in dB, "error", the root mean squared difference from the true latent, and "outside", the share of entries
        beyond the prior's bound.

    Raises:
        StyleganInvertError: the network has classes, or the folder holds another study.
    """
    distance, about_loss = base.distance_of(loss, device)
    about = {"network": net.sha256, **about_loss, "steps": steps, "restarts": restarts, "seed": seed}
    generators = {family: base.generator_of(net, device, family) for family in PRIORS}
    latents = {family: _latents(generator, generated) for family, generator in generators.items()}
    sets = {family: base.rendered(generators[family], z) for family, z in latents.items()}
    folder = base.begin(outdir, {**about, "data": base.hashes(sets)}, shared=True)
    ways = [Way(clip, steps * restarts) for clip in CLIPS]

    def find(part: base.Part, progress: base.Progress) -> base.Arrays:
        generator, z = generators[part.name], latents[part.name].tensors["z"][part.first :][: len(part.pixels)]
        options = {"steps": steps, "restarts": restarts, "seed": seed, "optimizer": "adam", "clip": part.way.clip}
        code = base.fit("z", generator, as_images(part.pixels, device), distance, None, options).code
        images = base.rendered(generator, code)
        squared = (torch.from_numpy(images).double() - torch.from_numpy(part.pixels).double()).square()
        progress(part.work)
        return {
            "psnr": (10 * torch.log10(255**2 / squared.mean(dim=[1, 2, 3]).clamp_min(1e-3))).numpy(),
            "error": (code.tensors["z"] - z).square().mean(dim=1).sqrt().cpu().numpy(),
            "outside": (code.tensors["z"].abs() > generator.prior.bound).float().mean(dim=1).cpu().numpy(),
        }

    parts = [
        part
        for family, pictures in sets.items()
        for way in ways
        for part in base.split(family, way, pictures, BATCH, f"{family}-{way.clip}-{{:05d}}.npz")
    ]
    found = base.find_parts(parts, folder / "parts", find, counting)
    priors: dict[str, dict[str, dict[str, list[float]]]] = {family: {} for family in PRIORS}
    for (family, way), arrays in found.items():
        keys = ("psnr", "error", "outside")
        priors[family][way.clip] = {key: base.stacked(arrays, key).tolist() for key in keys}
    results = {**about, "priors": priors}
    return base.finish(folder, results, table(results))


def _latents(generator: Any, count: int) -> Code:
    (shape,) = generator.code_shapes("z").values()
    return Code("z", {"z": generator.prior.sample([count, *shape], torch.Generator(generator.device).manual_seed(1))})


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    count = len(results["priors"][PRIORS[0]][CLIPS[0]]["psnr"])
    about = f"{count} pictures, {results['restarts']} restarts, {results['steps']} steps"
    lines = [
        f"| {about} | PSNR, dB (quartiles) | above {GOOD} dB | error of z | outside |",
        "|---|---:|---:|---:|---:|",
    ]
    for family, clips in results["priors"].items():
        for clip, values in clips.items():
            low, middle, high = base.quartiles(values["psnr"])
            good = np.mean(np.array(values["psnr"]) > GOOD)
            lines.append(
                f"| {family} prior, clipping {clip} | {middle:.1f} ({low:.1f} to {high:.1f}) | {good:.0%} "
                f"| {np.median(values['error']):.4f} | {np.mean(values['outside']):.2%} |"
            )
    return "\n".join(lines) + "\n"
