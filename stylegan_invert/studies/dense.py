"""The experiments of Pividori et al., "Exploiting GAN Internal Capacity", on any network from z.

The network is G2(G1(z)), split at a layer. Generated and real pictures are found in z, and at the layer, where the displacement
from G1(z) is regularised or free. The study measures the errors and shows their distribution (Figures 2 and 5), shows ways
between codes (Figures 3, 4, 8, 9, 11 and 14) and projections onto the span of G1 (Figure 13), and judges how real the pictures
half-way between two codes look.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..analysis.paths import between, onto_span, underlying
from ..analysis.plots import histograms, write_figure
from ..analysis.sheets import sheet
from ..generator import Code, GeneratorAdapter, with_prior
from ..media.picture_set import PictureSet
from ..media.pictures import write_png
from ..network_files.file import NetworkFile
from . import base
from .displacement import (
    Found,
    Pictures,
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
    pairs,
    real_set,
    realism_cells,
    rendered_set,
)

FRAMES = 9  # the number of pictures on a line between two codes
SHOWN = 4  # the number of pictures of each set in the sheets

WAYS = {
    way.name: way
    for way in (
        Z,
        Way("dense", "layer, two steps, regularised"),
        Way("free", "layer, two steps, free", options={"lambda_delta": 0.0}),
        Way("onestep", "layer, one step, free", "random", {"lambda_delta": 0.0}),
    )
}


def run(
    net: NetworkFile,
    outdir: str | os.PathLike,
    data: PictureSet | None = None,
    *,
    generated: int = 100,
    real: int = 100,
    layer: str | None = None,
    class_idx: int | None = None,
    steps: int = 300,
    layer_steps: int = 500,
    lambda_z: float = 0.1,
    lambda_delta: float | None = None,
    loss: str = "mse=0.25,features=1",
    z_prior: str | None = None,
    device: torch.device | str = "cpu",
    counting: base.Counting = base.uncounted,
) -> dict[str, Any]:
    """Find pictures in z and at a layer, with and without regularisation.

    Args:
        net: the network.
        outdir: the study's folder; see `studies.base`. Codes are kept in ``codes/``, one file for each picture and way.
        data: real pictures, as `base.picture_set` reads them; None leaves them out.
        generated: the number of generated pictures.
        real: the number of real pictures, at most.
        layer: where to split the network; None takes the first dense layer.
        class_idx: the class of all pictures, for a network with classes; None takes every class for generated pictures, and
            the labels of ``data`` for real ones.
        steps: the number of steps of the search for z.
        layer_steps: the number of steps of the search for the displacement.
        lambda_z: the weight of -log P(z), a mean over entries.
        lambda_delta: the weight of the displacement's L1 norm, a mean over entries, where it is regularised; None finds one
            for each picture, as ``--method dense`` does.
        loss: the distance, by name.
        z_prior: the distribution of z, for networks whose files do not say it.
        device: where to compute.
        counting: shows the progress.

    Returns:
        The contents of results.json.

    Raises:
        StyleganInvertError: the network lacks the layer, the pictures or labels do not fit it, or the folder holds another
            study.
    """
    generator = with_prior(base.generator_of(net, device, classes=True), z_prior)
    layer = chosen_layer(generator, layer)
    drawn = latents(generator, generated, class_idx)
    sets = {"generated": rendered_set(generator, drawn)}
    if data is not None:
        sets["real"] = real_set(data, generator, real, class_idx)
    distance, about_loss = base.distance_of(loss, device)
    options = {"layer": layer, "steps": steps, "layer_steps": layer_steps}
    options |= {"lambda_z": lambda_z, "lambda_delta": lambda_delta}
    settings = {"network": net.sha256, **about_loss, **about(sets), **options, "z_prior": generator.prior.family}
    folder = base.begin(outdir, settings)
    invert(generator, sets, list(WAYS.values()), distance, options, folder / "codes", counting)

    realism = Realism(generator, net.D, sets)
    results: dict[str, Any] = {**settings, "sets": {}}
    distances: dict[str, Any] = {}
    for name, (pixels, classes) in sets.items():
        found = {way: gather(generator, folder / "codes", name, len(pixels), WAYS[way]) for way in WAYS}
        rows = results["sets"][name] = {}
        for way, ones in found.items():
            middles = realism.of_midpoints(ones, classes)
            rows[way] = {**errors(ones, pixels), **left(ones, found["z"]), "midpoints": middles}
        distances |= {f"{name}, {way}": [one.distance for one in found[way]] for way in ("z", "dense")}
        _write_sheets(generator, folder, name, sets[name], found, drawn)
        if layer == generator.dense:
            rows["dense"]["left_of_span"] = _write_spans(generator, folder, name, pixels, found["dense"])
    write_figure(folder / "figure5.png", histograms(distances, "distance"))
    return base.finish(folder, results, table(results))


def _line(generator: GeneratorAdapter, a: Code, b: Code) -> np.ndarray:
    """The pictures on the straight line from one code to another."""
    return base.rendered(generator, between(generator, a, b, np.linspace(0, 1, FRAMES)))


def _write_sheets(
    generator: GeneratorAdapter,
    folder: Path,
    name: str,
    pictures: Pictures,
    found: Mapping[str, Sequence[Found]],
    drawn: Sequence[Code],
) -> None:
    """The sheets as Figures 2 (picture, z, layer), 3 (from h* to G1(z*)), 4 (between two pictures of a class; 8 and 11 are its
    rows without "free") and 9 (to random samples of the class).
    """
    pixels, classes = pictures
    few = range(min(SHOWN, len(pixels)))
    at_layer = [one.code for one in found["dense"]]
    several = range(min(2 * SHOWN, len(pixels)))
    figure2 = [[pixels[i] for i in several], *([found[way][i].picture for i in several] for way in ("z", "dense"))]
    figure3 = [[pixels[i], *_line(generator, at_layer[i], underlying(generator, at_layer[i]))] for i in few]
    figure4 = []
    for a, b in [(a, b) for a, b in pairs(classes) if a < b][: SHOWN // 2]:
        for way in ("z", "free", "dense"):
            figure4.append([pixels[a], *_line(generator, found[way][a].code, found[way][b].code), pixels[b]])
    figure9 = []
    for i in few:
        c = at_layer[i].c
        of_class = [code for code in drawn if code.c is None or (c is not None and code.c.equal(c))]
        if of_class:
            figure9.append([pixels[i], *_line(generator, at_layer[i], of_class[-1 - i % len(of_class)])])
    for number, rows in ((2, figure2), (3, figure3), (4, figure4), (9, figure9)):
        if rows:
            write_png(folder / f"figure{number}-{name}.png", sheet(rows, 64))


def _write_spans(
    generator: GeneratorAdapter, folder: Path, name: str, pictures: np.ndarray, found: Sequence[Found]
) -> list[float]:
    """The sheet as Figure 13 (picture, h*, its projection onto the span of G1); returns the quartiles of the share left over."""
    spans = [onto_span(generator, one.code) for one in found]
    rows = [
        [picture, one.picture, base.rendered(generator, on_span)[0]]
        for picture, one, (on_span, _) in list(zip(pictures, found, spans))[:SHOWN]
    ]
    write_png(folder / f"figure13-{name}.png", sheet(list(zip(*rows)), 64))
    return base.quartiles([float(left[0]) for _, left in spans])


def table(results: dict[str, Any]) -> str:
    """The results as Markdown: medians, with quartiles for the distance (Figure 5); what is left of z's distance is a ratio of means."""
    lines = []
    for name, ways in results["sets"].items():
        of_set = f"{results['pictures'][name]} {name} pictures"
        lines.append(
            f"| {of_set} | distance (quartiles) | left of z's | LPIPS | PSNR, dB | SSIM | midpoints: KID | logit |"
        )
        lines.append("|---|---:|---:|---:|---:|---:|---:|---:|")
        for way, row in ways.items():
            low, middle, high = row["distance"]
            cells = [
                f"{middle:.4f} ({low:.4f} to {high:.4f})",
                f"{row['left']:.2f}",
                f"{row['lpips'][1]:.4f}",
                f"{row['psnr'][1]:.2f}",
                f"{row['ssim'][1]:.3f}",
                *realism_cells(row["midpoints"]),
            ]
            lines.append(f"| {WAYS[way].title} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)
