"""The weight of the displacement's penalty, for Pividori et al., "Exploiting GAN Internal Capacity", section 3.3 (lambda_2).

The weight is found for each picture from a share of the distance's slopes (`projectors.dense.DisplacementSearch.weigh`). The
study compares shares on one network: how much of z's distance the displacement leaves, and how real midpoints of two codes look.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..generator import with_prior
from ..media.picture_set import PictureSet
from ..network_files.file import NetworkFile
from ..projectors.settings import DenseOptions
from . import base
from .displacement import (
    Realism,
    Way,
    Z,
    about,
    chosen_layer,
    errors,
    gather,
    invert,
    latents,
    left,
    real_set,
    realism_cells,
    rendered_set,
)

MOST_LEFT = 0.5  # of z's distance on real pictures, with which a share is called good
FREE = Way("free", "free", options={"lambda_delta": 0.0})


def run(
    net: NetworkFile,
    outdir: str | os.PathLike,
    data: PictureSet | None = None,
    *,
    shares: Sequence[float] = (0.6, 0.7, 0.8),
    generated: int = 8,
    real: int = 24,
    layer: str | None = None,
    class_idx: int | None = None,
    steps: int = 80,
    layer_steps: int = 120,
    lambda_z: float = 0.1,
    loss: str = "mse=0.25,features=1",
    z_prior: str | None = None,
    device: torch.device | str = "cpu",
    counting: base.Counting = base.uncounted,
) -> dict[str, Any]:
    """Find displacements with several weights of their penalty, and judge each share.

    Args:
        net: the network.
        outdir: the study's folder; see `studies.base`.
        data: real pictures, as `base.picture_set` reads them; None leaves them out.
        shares: the shares that are compared (``delta_share`` of `DenseOptions`). The default share is always among them.
        generated, real, layer, class_idx, steps, layer_steps, lambda_z, loss, z_prior, device, counting: as for `dense.run`.

    Returns:
        The contents of results.json. For real pictures, "judged" says of each share whether it leaves at most half of z's
        distance, and whether midpoints are more real than those of a free displacement.

    Raises:
        StyleganInvertError: as for `dense.run`.
    """
    generator = with_prior(base.generator_of(net, device, classes=True), z_prior)
    options = {
        "layer": chosen_layer(generator, layer),
        "steps": steps,
        "layer_steps": layer_steps,
        "lambda_z": lambda_z,
    }
    sets = {"generated": rendered_set(generator, latents(generator, generated, class_idx))}
    if data is not None:
        sets["real"] = real_set(data, generator, real, class_idx)
    shares = sorted({*shares, DenseOptions.delta_share})
    ways = [Z, *(Way(f"share-{s:g}", f"share {s:g}", options={"delta_share": s}) for s in shares), FREE]
    distance, about_loss = base.distance_of(loss, device)
    prior = generator.prior.family
    settings = {"network": net.sha256, **about_loss, **about(sets), **options, "shares": shares, "z_prior": prior}
    folder = base.begin(outdir, settings)
    invert(generator, sets, ways, distance, options, folder / "codes", counting)

    realism = Realism(generator, net.D, sets)
    results: dict[str, Any] = {**settings, "sets": {}}
    for name, (pixels, classes) in sets.items():
        found = {way.name: gather(generator, folder / "codes", name, len(pixels), way) for way in ways}
        rows = results["sets"][name] = {}
        for way in ways:
            ones = found[way.name]
            weights = [one.weight for one in ones if one.weight is not None]
            rows[way.name] = {
                "title": way.title,
                "weight": float(np.mean(weights)) if weights else None,
                **left(ones, found["z"]),
                **errors(ones, pixels),
                "midpoints": realism.of_midpoints(ones, classes),
            }
    if "real" in sets:
        results["judged"] = {f"{s:g}": judged(results["sets"]["real"], f"share-{s:g}") for s in shares}
    return base.finish(folder, results, table(results))


def judged(rows: Mapping[str, Any], way: str) -> dict[str, bool]:
    """Whether a way leaves at most half of z's distance, and whether its midpoints are more real than free ones.

    Args:
        rows: the rows of a set by way, with "left" and "midpoints".
        way: the name of the way.

    Returns:
        "half", and for each measure of realism that is there "kid" and "logit".
    """
    own, free = rows[way]["midpoints"], rows["free"]["midpoints"]
    result = {"half": rows[way]["left"] <= MOST_LEFT}
    if "kid" in own and "kid" in free:
        result["kid"] = own["kid"] < free["kid"]
    if "logit" in own and "logit" in free:
        result["logit"] = own["logit"] > free["logit"]
    return result


def table(results: dict[str, Any]) -> str:
    """The results as Markdown. What is left of z's distance is a ratio of means; the median is of each picture's ratio."""
    lines = []
    for name, rows in results["sets"].items():
        lines += [
            f"| {results['pictures'][name]} {name} pictures | weight | left of z's | median | LPIPS | midpoints: KID | logit |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
        for row in rows.values():
            weight = "" if row["weight"] is None else f"{row['weight']:.3g}"
            numbers = [weight, f"{row['left']:.2f}", f"{row['left_median']:.2f}", f"{row['lpips'][1]:.4f}"]
            lines.append(f"| {row['title']} | " + " | ".join([*numbers, *realism_cells(row["midpoints"])]) + " |")
        lines.append("")
    words = {"half": "leaves at most half of z's distance", "kid": "midpoints nearer by KID", "logit": "a higher logit"}
    for share, verdict in results.get("judged", {}).items():
        said = [f"{words[key]}: {'yes' if good else 'no'}" for key, good in verdict.items()]
        lines.append(f"Share {share}, real pictures, beside a free displacement: {'; '.join(said)}.")
    return "\n".join(lines) + "\n"
