"""Segments of inverted pictures from self-attention, and what they are worth: Pividori et al., section 5, Figures 6 and 10.

The paper shows segments and measures nothing. Here they are compared with those from the attention of a network of the same
structure with random weights, which finds the pictures in the same way, and with k-means on the colours of the picture, by two
measures: how well the boundaries of segments agree with that of a foreground that no method has seen, and how far segments stay
the same when the picture is shifted by one pixel.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage
import torch

from ..analysis import segmentation as seg
from ..analysis.sheets import sheet
from ..errors import StyleganInvertError
from ..generator import GeneratorAdapter, adapt, with_prior
from ..media.picture_set import PictureSet
from ..media.pictures import read_mask, write_png
from ..network_files.file import NetworkFile
from ..networks.layers import RecordedModule
from . import base
from .displacement import Found, Pictures, Way, Z, chosen_layer, gather, invert, real_set
from .displacement import about as about_sets

METHODS = {
    "attention": "attention, of the network",
    "untrained": "attention, random weights",
    "colour": "k-means on colour",
}
DENSE = Way("dense", "layer, two steps, regularised")
SHIFT = (0, 1)  # pixels down and to the right
BLACK = "black"
BRIGHT = 26  # a tenth of white; a picture on a black background is foreground where a channel is brighter
SHOWN = 4  # the number of pictures in the sheet
LEAST, MOST = 0.02, 0.98  # shares of a picture between which a mask has a foreground and a background


def run(
    net: NetworkFile,
    outdir: str | os.PathLike,
    data: PictureSet | None = None,
    *,
    masks: str,
    clusters: Sequence[int] = (8, 20, 40),
    real: int = 8,
    attention: str | None = None,
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
    """Segment inverted pictures, and compare the segments with those of an untrained network and of colours.

    Args:
        net: a network with self-attention.
        outdir: the study's folder; see `studies.base`.
        data: real pictures, as `base.picture_set` reads them; needed.
        masks: the folder of the foregrounds, PNGs with the names of the pictures, white in the foreground; or "black" for
            pictures on a black background, see `on_black`. Pictures without a mask, or whose mask has no boundary, are left
            out.
        clusters: the numbers of segments.
        real: the number of pictures, at most.
        attention: the attention map, as for `segmentation.segment`; None takes the largest.
        layer, class_idx, steps, layer_steps, lambda_z, loss, z_prior, device, counting: as for `dense.run`. The layer lies
            before the attention.

    Returns:
        The contents of results.json: for each method and number of segments the means of "f", "recall", "precision" and
        "stability", and for the others "beaten", the shares of pictures on which attention of the network is better.

    Raises:
        StyleganInvertError: the network has no self-attention, no picture has a mask, or as for `dense.run`.
    """
    if data is None:
        raise StyleganInvertError("this study needs real pictures; name them with --data")
    generator = with_prior(base.generator_of(net, device, classes=True), z_prior)
    try:
        name = seg.attention_name(generator, attention)
    except ValueError as e:
        raise StyleganInvertError(f"{net.file}: {e}") from None
    pictures, foregrounds = _with_masks(real_set(data, generator, len(data.names), class_idx), data, masks, real)
    sets = {"real": pictures, "shifted": Pictures(shifted(pictures.pixels), pictures.classes)}
    options = {
        "layer": chosen_layer(generator, layer),
        "steps": steps,
        "layer_steps": layer_steps,
        "lambda_z": lambda_z,
    }
    distance, about_loss = base.distance_of(loss, device)
    searched = {"attention": name, "clusters": list(clusters), "masks": base.hashes({"masks": foregrounds})["masks"]}
    searched["z_prior"] = generator.prior.family
    settings = {"network": net.sha256, **about_loss, **about_sets(sets), **options, **searched}
    folder = base.begin(outdir, settings)

    labels: dict[str, dict[str, list[list[np.ndarray]]]] = {}
    shown: dict[str, list[Found]] = {}
    for method, one in {"attention": generator, "untrained": untrained(net, generator)}.items():
        codes = folder / f"codes-{method}"
        invert(one, sets, [Z, DENSE], distance, options, codes, counting)
        found = {of: gather(one, codes, of, len(pictures.pixels), DENSE) for of in sets}
        labels[method] = {of: [seg.segment(one, each.code, clusters, name) for each in found[of]] for of in sets}
        shown[method] = found["real"]
    size = generator.attention_shapes()[name][:2]
    labels["colour"] = {of: [by_colour(p, clusters, size) for p in sets[of].pixels] for of in sets}

    values = {method: _measured(labels[method], foregrounds, clusters) for method in METHODS}
    results = {**settings, "size": list(size), "methods": _summary(values, clusters)}
    _write_sheet(folder, pictures.pixels, shown["attention"], labels, foregrounds)
    return base.finish(folder, results, table(results))


# The pictures and what they are compared with


def on_black(pixels: np.ndarray) -> np.ndarray:
    """The foreground of a picture (C, H, W) uint8 on black: (H, W) bool, where a channel is brighter than a tenth of white, and
    what such pixels enclose.
    """
    return scipy.ndimage.binary_fill_holes(pixels[:3].max(axis=0) >= BRIGHT)


def _with_masks(pictures: Pictures, data: PictureSet, masks: str, limit: int) -> tuple[Pictures, np.ndarray]:
    """The first pictures that have a mask with a boundary, and these masks (N, R, R) bool."""
    chosen: list[int] = []
    found: list[np.ndarray] = []
    for i, pixels in enumerate(pictures.pixels):
        if len(chosen) == limit:
            break
        mask = on_black(pixels) if masks == BLACK else _mask_of(masks, data.names[i], pixels.shape[1:])
        if mask is not None and LEAST < mask.mean() < MOST:
            chosen.append(i)
            found.append(mask)
    if not chosen:
        words = (
            "is neither black nor white all over" if masks == BLACK else f"has a mask in {masks} (a PNG of its name)"
        )
        raise StyleganInvertError(f"{data.path}: none of its {len(pictures.pixels)} pictures {words}")
    return Pictures(pictures.pixels[chosen], [pictures.classes[i] for i in chosen]), np.stack(found)


def _mask_of(folder: str, name: str, size: tuple[int, int]) -> np.ndarray | None:
    """The mask of a picture from a folder; None if there is none."""
    path = Path(folder, Path(name).stem + ".png")
    if not path.exists():
        return None
    mask = read_mask(path)
    if mask.shape != size:
        raise StyleganInvertError(
            f"{path}: it has {mask.shape[1]}x{mask.shape[0]} pixels; expected {size[1]}x{size[0]}"
        )
    return mask


def shifted(pixels: np.ndarray) -> np.ndarray:
    """Pictures (N, C, H, W) uint8, moved by `SHIFT`. What comes in repeats the edge."""
    down, right = SHIFT
    padded = np.pad(pixels, [(0, 0), (0, 0), (down, 0), (right, 0)], mode="edge")
    return padded[:, :, : pixels.shape[2], : pixels.shape[3]]


def untrained(net: NetworkFile, generator: GeneratorAdapter) -> GeneratorAdapter:
    """The adapter of a network of the same structure with random weights, as torch initialises them, and a fixed seed.

    Raises:
        StyleganInvertError: the network does not say its own structure.
    """
    if not isinstance(net.G, RecordedModule):
        raise StyleganInvertError(
            f"{net.file}: a network like it cannot be made, because it does not say its structure"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        network = type(net.G)(*net.G.init_args, **net.G.init_kwargs)
    return adapt(network.eval().requires_grad_(False).to(generator.device)).with_prior(generator.prior)


def by_colour(pixels: np.ndarray, clusters: Sequence[int], size: tuple[int, int]) -> list[np.ndarray]:
    """Segments by colour in the size of the attention map: of a picture whose pixels are the means of those of the picture."""
    _, height, width = pixels.shape
    rows, columns = max(height // size[0], 1), max(width // size[1], 1)
    cut = pixels[:, : height // rows * rows, : width // columns * columns].astype(np.float64)
    small = cut.reshape(len(pixels), height // rows, rows, width // columns, columns).mean(axis=(2, 4))
    return [seg.colour_segments(small.round().astype(np.uint8), count) for count in clusters]


# Measures


def _measured(
    labels: Mapping[str, Sequence[Sequence[np.ndarray]]], foregrounds: np.ndarray, clusters: Sequence[int]
) -> dict[int, dict[str, np.ndarray]]:
    """The measures of each picture, by the number of segments."""
    result = {}
    for j, count in enumerate(clusters):
        rows = []
        for before, after, mask in zip(labels["real"], labels["shifted"], foregrounds):
            a, b = (seg.at_size(one[j], *mask.shape) for one in (before, after))
            rows.append({**seg.boundary_agreement(before[j], mask), "stability": seg.stability(a, b, *SHIFT)})
        result[count] = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    return result


def _summary(values: Mapping[str, Mapping[int, Mapping[str, np.ndarray]]], clusters: Sequence[int]) -> dict[str, Any]:
    """The means over the pictures; and for other methods than "attention" on how many pictures that is better."""
    result: dict[str, Any] = {}
    for method, of_method in values.items():
        result[method] = {}
        for count in clusters:
            row: dict[str, Any] = {key: float(value.mean()) for key, value in of_method[count].items()}
            if method != "attention":
                own = values["attention"][count]
                row["beaten"] = {key: float((own[key] > of_method[count][key]).mean()) for key in ("f", "stability")}
            result[method][str(count)] = row
    return result


def _write_sheet(
    folder: Path,
    pixels: np.ndarray,
    found: Sequence[Found],
    labels: Mapping[str, Mapping[str, Sequence[Sequence[np.ndarray]]]],
    foregrounds: np.ndarray,
) -> None:
    """The sheet as Figures 6 and 10. Each picture has a row for each method: the picture, its reconstruction, the foreground,
    and the segments of each number in their mean colours.
    """
    rows = []
    for i in range(min(SHOWN, len(pixels))):
        mask = np.repeat(foregrounds[i][None] * np.uint8(255), len(pixels[i]), axis=0)
        for method in METHODS:
            maps = [seg.mean_colours(one, pixels[i]) for one in labels[method]["real"][i]]
            rows.append([pixels[i], found[i].picture, mask, *maps])
    write_png(folder / "segments.png", sheet(rows, 64))


def table(results: dict[str, Any]) -> str:
    """The results as Markdown: means over the pictures, and a sentence on which measure attention is ahead."""
    lines = []
    for count in map(str, results["clusters"]):
        lines += [
            f"| {count} segments, {results['pictures']['real']} pictures | boundary F | recall | precision | stability | "
            "attention better: F | stability |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
        for method, rows in results["methods"].items():
            row = rows[count]
            cells = [f"{row[key]:.3f}" for key in ("f", "recall", "precision", "stability")]
            cells += [f"{row['beaten'][key]:.2f}" if "beaten" in row else "" for key in ("f", "stability")]
            lines.append(f"| {METHODS[method]} | " + " | ".join(cells) + " |")
        own, *others = (results["methods"][method][count] for method in METHODS)
        ahead = {key: all(own[key] > other[key] for other in others) for key in ("f", "stability")}
        said = {"f": "boundary agreement", "stability": "stability"}
        words = [f"{said[key]}: {'yes' if won else 'no'}" for key, won in ahead.items()]
        lines += ["", f"The network's attention is ahead of both others: {'; '.join(words)}.", ""]
    return "\n".join(lines)
