"""The choice of the feature layer, for Pividori et al., "Exploiting GAN Internal Capacity", section 4.1.

The paper found that a search for z that minimises the mean squared error alone often does not find the latent of a generated
picture, and that a difference of features helps, best of them those of InceptionV3's Mixed_7a. Here generated pictures, whose
latents are known, are found with the mean squared error alone, and with the features of each layer beside it.
"""

import math
import os
from typing import Any

import numpy as np
import torch

from ..generator import Code, with_prior
from ..io.download import inception_file
from ..losses import MSE, Distance, FeatureDistance, WeightedSum
from ..losses.features import inception_features, squeezenet_features
from ..media.picture_set import PictureSet
from ..media.pictures import as_images
from ..network_files.file import NetworkFile
from ..networks.backbones import SqueezeNet
from ..networks.inception import INCEPTION_LAYERS
from . import base
from .displacement import Found, Pictures, Way, about, errors, gather, invert, latents, real_set, rendered_set

MSE_ALONE = Way("mse", "MSE alone", "random", None)
MSE_WEIGHT = 0.25  # the mean squared error on the scale [0, 1], where the paper has it
FOUND = 30.0  # a generated picture counts as found from this PSNR on, in dB
FOUND_ANGLE = 10.0  # and its latent up to this angle, in degrees


def run(
    net: NetworkFile,
    outdir: str | os.PathLike,
    data: PictureSet | None = None,
    *,
    generated: int = 16,
    real: int = 8,
    class_idx: int | None = None,
    steps: int = 150,
    lambda_z: float = 0.1,
    inception: str | os.PathLike | None = None,
    z_prior: str | None = None,
    device: torch.device | str = "cpu",
    counting: base.Counting = base.uncounted,
) -> dict[str, Any]:
    """Find pictures in z by the mean squared error alone, and by the features of each layer beside it.

    Args:
        net: the network.
        outdir: the study's folder; see `studies.base`.
        data: real pictures, as `base.picture_set` reads them; None leaves them out.
        inception: the file of InceptionV3, as for `io.download.inception_file`; None takes the shipped SqueezeNet.
        generated, real, class_idx, steps, lambda_z, z_prior, device, counting: as for `dense.run`.

    Returns:
        The contents of results.json.

    Raises:
        StyleganInvertError: the pictures or labels do not fit the network, or the folder holds another study.
        ValueError: the file of InceptionV3 is missing or wrong.
    """
    generator = with_prior(base.generator_of(net, device, classes=True), z_prior)
    drawn = latents(generator, generated, class_idx)
    sets = {"generated": rendered_set(generator, drawn)}
    if data is not None:
        sets["real"] = real_set(data, generator, real, class_idx)
    distances = {name: distance.to(device) for name, distance in feature_layers(inception).items()}
    units = {name: _unit(distance, sets["generated"], device) for name, distance in distances.items()}
    losses: dict[str, Distance] = {"mse": WeightedSum([(MSE_WEIGHT, MSE())]).to(device)}
    for name, distance in distances.items():
        distance.unit *= units[name]
        losses[name] = WeightedSum([(MSE_WEIGHT, MSE()), (1.0, distance)]).to(device)
    ways = [MSE_ALONE, *(Way(name, f"MSE and {distances[name].name}", "random", None) for name in distances)]
    options = {"steps": steps, "lambda_z": lambda_z}
    searched = {"units": units, "z_prior": generator.prior.family}
    settings = {"network": net.sha256, **about(sets), **options, **searched}
    folder = base.begin(outdir, settings)
    invert(generator, sets, ways, losses, options, folder / "codes", counting)

    results: dict[str, Any] = {**settings, "found": FOUND, "found_angle": FOUND_ANGLE, "sets": {}}
    for name, (pixels, _) in sets.items():
        rows = results["sets"][name] = {}
        for way in ways:
            found = gather(generator, folder / "codes", name, len(pixels), way)
            row = {"title": way.title, **errors(found, pixels)}
            rows[way.name] = {**row, **(_recovered(found, drawn, pixels) if name == "generated" else {})}
    return base.finish(folder, results, table(results))


def feature_layers(inception: str | os.PathLike | None) -> dict[str, FeatureDistance]:
    """The distances by the features of each layer: of InceptionV3 if there is its file, else of the shipped SqueezeNet."""
    file = inception_file(inception)
    if file is None:
        return {f"features.{layer}": squeezenet_features(layer=layer) for layer in SqueezeNet.taps}
    return {layer: inception_features(file, layer=layer) for layer in INCEPTION_LAYERS}


def _unit(distance: FeatureDistance, pictures: Pictures, device: torch.device | str) -> float:
    """By what to divide a layer's features, so that two of the pictures have the same distance, on average, as by the mean
    squared error. The weight of the features then means the same for every layer.
    """
    images = as_images(pictures.pixels, device)
    others = images.roll(1, dims=0)
    with torch.no_grad():
        by_features = distance.between(others, images).mean()
        by_pixels = MSE_WEIGHT * MSE().to(device).between(others, images).mean()
    return math.sqrt(float(by_features) / max(float(by_pixels), 1e-30)) or 1.0


def _recovered(found: list[Found], drawn: list[Code], pixels: np.ndarray) -> dict[str, Any]:
    """The angles between the latents that were found and the true ones, and the shares of those that were found."""
    a, b = (
        torch.cat([code.tensors["z"] for code in codes]).cpu().double() for codes in ([f.code for f in found], drawn)
    )
    cosines = torch.nn.functional.cosine_similarity(a, b, dim=1).clamp(-1, 1)
    to_truth = cosines.acos().rad2deg().numpy()
    error = np.square((np.stack([f.picture for f in found]).astype(float) - pixels) / 255).mean(axis=(1, 2, 3))
    return {
        "angle": base.quartiles(to_truth),
        "pictures_found": float((error <= 10 ** (-FOUND / 10)).mean()),
        "latents_found": float((to_truth <= FOUND_ANGLE).mean()),
    }


def table(results: dict[str, Any]) -> str:
    """The results as Markdown: medians, and shares of pictures."""
    lines = []
    for name, rows in results["sets"].items():
        titles = ["LPIPS", "PSNR, dB", "SSIM"]
        if name == "generated":
            titles += [f"above {results['found']:g} dB", "angle to the true z", f"below {results['found_angle']:g}°"]
        lines.append(f"| {results['pictures'][name]} {name} pictures | " + " | ".join(titles) + " |")
        lines.append("|---" + "|---:" * len(titles) + "|")
        for row in rows.values():
            cells = [f"{row['lpips'][1]:.4f}", f"{row['psnr'][1]:.2f}", f"{row['ssim'][1]:.3f}"]
            if name == "generated":
                cells += [f"{row['pictures_found']:.2f}", f"{row['angle'][1]:.1f}°", f"{row['latents_found']:.2f}"]
            lines.append(f"| {row['title']} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)
