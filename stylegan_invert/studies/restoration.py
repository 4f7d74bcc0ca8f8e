"""Damaged pictures restored: by this project's fast search, by the stages of a paper, and by a plain search in W+.

Each method sees the same damaged pictures, and its results are compared with the whole ones. Beside them stand the answers that
need no network: the damaged picture as it is or enlarged, and hidden pixels filled with the nearest known one or with the mean.
"""

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import torch
from scipy import ndimage

from ..analysis.sheets import sheet
from ..errors import ProjectionError, StyleganInvertError
from ..generator import Adapter
from ..losses import Distance, SqueezeLPIPS
from ..media.picture_set import PictureSet
from ..media.pictures import as_images, to_pil, write_png
from ..network_files.file import NetworkFile
from ..projectors.methods import find_method
from ..projectors.projector import Projector
from ..projectors.view import View
from . import base

BATCH = 5  # targets that are computed side by side
DAMAGES = (
    "mask:half",
    "mask:random",
    "downsample:4",
    "downsample:8",
    "grey",
    "jpeg:10",
    "noise:0.2",
    "blur:2",
    "blur:1,downsample:4,noise:0.05",
)
"""What is done to the pictures, as `projectors.observations` reads it; "mask:half" and "mask:random" are the study's own."""


class Way(NamedTuple):
    """A method, and on how many of the pictures it is tried.

    Attributes:
        method: its name.
        pictures: the number of pictures, the first ones; None takes all.
        options: options of the method that differ from its preset.
    """

    method: str
    pictures: int | None = None
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def steps(self) -> int:
        """The steps of one picture."""
        known = find_method(self.method)
        preset = {key: value for key, value in known.preset.items() if key != "loss"}
        return known.options(**{**preset, **dict(self.options)}).total_steps(1)


def read_ways(text: str) -> list[Way]:
    """Ways from a text such as "restore,robust:5,w+:5".

    Raises:
        ValueError: a method is unknown or a number is none.
    """
    ways = []
    for part in text.split(","):
        method, colon, count = part.strip().partition(":")
        find_method(method)
        if colon and not (count.isdigit() and int(count)):
            raise ValueError(f"{part!r}; expected METHOD or METHOD:PICTURES, as robust:6")
        ways.append(Way(method, int(count) if colon else None))
    return ways


def run(
    net: NetworkFile,
    outdir: str | os.PathLike,
    data: PictureSet,
    *,
    ways: Sequence[Way],
    damages: Sequence[str] | None = None,
    real: int = 20,
    steps: int = 300,
    device: torch.device | str = "cpu",
    counting: base.Counting = base.uncounted,
) -> dict[str, Any]:
    """Damage real pictures in several ways, and restore them by several methods.

    Args:
        net: the network file, without classes.
        outdir: the study's folder; see `studies.base`. It also gets the masks and the sheet.
        data: real pictures, as `base.picture_set` reads them.
        ways: the methods. That of the first is the one of which the table says where it wins.
        damages: see `DAMAGES`; None takes all of them.
        real: the number of pictures, at most.
        steps: of the methods "w" and "w+", whose own number is 1,000.
        device: where to compute.
        counting: shows the progress.

    Returns:
        The contents of results.json: "sets" has, for each damage and each answer, the values of each picture.

    Raises:
        StyleganInvertError: the network has classes, or the folder holds another study.
        ValueError: a damage does not fit the network's pictures.
    """
    damages = DAMAGES if damages is None else damages
    generator = base.generator_of(net, device)
    lpips = SqueezeLPIPS().to(generator.device)
    if generator.img_resolution < lpips.min_size:
        raise StyleganInvertError(f"{net.file}: LPIPS needs pictures of at least {lpips.min_size} pixels a side")
    if "v" in generator.spaces:
        generator = base.find_gaussian(generator, counting)
    pictures = base.first_pictures(data, generator, real)
    ways = [way._replace(options=(("steps", steps),)) if way.method in ("w", "w+") else way for way in ways]
    settings: dict[str, Any] = {"network": net.sha256, "data": base.hashes({"real": pictures}), "steps": steps}
    settings |= {"device": str(torch.device(device)), "damages": list(damages), "pictures": len(pictures)}
    settings |= {"ways": [[way.method, way.pictures, {**find_method(way.method).preset}] for way in ways]}
    folder = base.begin(outdir, settings, shared=True)
    observations = with_masks(damages, folder, generator.img_resolution)
    parts = [
        part
        for number, damage in enumerate(damages)
        for way in ways
        for part in base.split(damage, way, pictures[: way.pictures], BATCH, f"{number}-{way.method}-{{:04d}}.npz")
    ]
    found = base.find_parts(parts, folder / "parts", _Finder(generator, observations, lpips), counting)
    results: dict[str, Any] = {**settings, "sets": {}}
    rows = []
    for damage in damages:
        view = View(generator, observations[damage], False)
        seen = view.stored(torch.from_numpy(pictures)).numpy()
        plain = {name: np.stack(images) for name, images in plain_answers(view, seen).items()}
        answers = {name: base.metrics(pictures, images, lpips) for name, images in plain.items()}
        for way in ways:
            parts_of_way = found[damage, way]
            answers[way.method] = {key: base.stacked(parts_of_way, key) for key in ("lpips", "psnr", "ssim", "seconds")}
        results["sets"][damage] = {
            name: {key: np.asarray(value).tolist() for key, value in one.items()} for name, one in answers.items()
        }
        images = [base.stacked(found[damage, way], "images") for way in ways]
        for i in range(min(2, *map(len, images))):
            rows.append([pictures[i], _shown(seen[i], pictures[i]), *(x[i] for x in (*plain.values(), *images))])
    width = max(map(len, rows))
    blank = np.full_like(pictures[0], 255)
    write_png(folder / "restoration.png", sheet([row[:2] + [blank] * (width - len(row)) + row[2:] for row in rows]))
    return base.finish(folder, results, table(results))


def composed_answers(
    view: View, name: str, pictures: np.ndarray, seen: np.ndarray, images: np.ndarray, lpips: Distance
) -> dict[str, base.Arrays]:
    """The measures of a method's results with what the damaged pictures show of them, where this can be told."""
    try:
        view.check_compose()
    except ProjectionError:
        return {}
    pairs = zip(torch.from_numpy(seen), torch.from_numpy(images))
    made = np.stack([view.composed(*pair).numpy() for pair in pairs])
    return {f"{name}, composed": base.metrics(pictures[: len(made)], made, lpips)}


def with_masks(damages: Sequence[str], folder: Path, side: int) -> dict[str, str]:
    """The observations of the damages, by damage. The masks that they need are written into a folder.

    "half" knows the left half, "random" a tenth of the pixels.
    """
    masks = {"half": np.arange(side)[None] < side // 2, "random": np.random.RandomState(0).rand(side, side) < 0.1}
    used = {name for damage in damages for name in re.findall(r"mask:(half|random)\b", damage)}
    for name in used:
        known = np.broadcast_to(masks[name], (side, side)).astype(np.uint8) * 255
        write_png(folder / f"{name}.png", known[None])
    return {damage: re.sub(r"mask:(half|random)\b", rf"mask:{folder}/\1.png", damage) for damage in damages}


class _Finder:
    """Restores the pictures of a part, and compares the results with the whole pictures.

    Returns "lpips", "psnr" and "ssim" (n,), "seconds" (n,), the processor time per picture, and "images" (n, C, R, R) uint8.
    """

    def __init__(self, generator: Adapter, observations: dict[str, str], lpips: Distance):
        self.generator, self.observations, self.lpips = generator, observations, lpips
        self.projector: tuple[tuple[str, Way], Projector] | None = None  # the last one; its samples are made once

    def __call__(self, part: base.Part, progress: base.Progress) -> base.Arrays:
        key = (part.name, part.way)
        if self.projector is None or self.projector[0] != key:
            options = dict(part.way.options)
            made = Projector(self.generator, part.way.method, observe=self.observations[part.name], **options)
            if made.method.start in ("nearest", "regression"):
                made.samples()
            self.projector = key, made
        projector = self.projector[1]
        stored = projector.view.stored(torch.from_numpy(part.pixels))
        shown = as_images(stored, self.generator.device)
        began = time.process_time()
        code = projector.fit_compared(shown).code.without_noise()
        seconds = (time.process_time() - began) / len(shown)
        images = base.rendered(self.generator, code)
        progress(part.work)
        measured = base.metrics(part.pixels, images, self.lpips)
        return {"images": images, "seconds": np.full(len(shown), seconds), **measured}


def plain_answers(view: View, seen: np.ndarray) -> dict[str, list[np.ndarray]]:
    """Restorations that need no network, each a picture (C, R, R) uint8, of damaged pictures (N, C', R', R') uint8."""
    shape = view.medium.shape
    known = None if view.observe is None else view.observe.known()
    if known is not None:
        places = ndimage.distance_transform_edt(~known.numpy(), return_distances=False, return_indices=True)
        mean = [_filled(x, known.numpy()) for x in seen]
        return {"nearest known pixel": [x[:, places[0], places[1]] for x in seen], "mean of known pixels": mean}
    if view.seen.shape[1:] != shape[1:]:
        filters = {"nearest-neighbour": PIL.Image.Resampling.NEAREST, "bicubic": PIL.Image.Resampling.BICUBIC}
        return {name: [_enlarged(x, shape, how) for x in seen] for name, how in filters.items()}
    return {"as it is": [_enlarged(x, shape, PIL.Image.Resampling.NEAREST) for x in seen]}


def _filled(picture: np.ndarray, known: np.ndarray) -> np.ndarray:
    mean = np.rint(picture[:, known].mean(axis=1)).astype(np.uint8)
    return np.where(known, picture, mean[:, None, None])


def _enlarged(picture: np.ndarray, shape: tuple[int, ...], how: PIL.Image.Resampling) -> np.ndarray:
    """A picture (C', R', R') in the shape (C, R, R), with grey as all colours."""
    pixels = np.asarray(to_pil(picture).resize((shape[2], shape[1]), how))
    pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(np.broadcast_to(pixels, shape))


def _shown(seen: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """A damaged picture for the sheet, in the shape of the whole one."""
    return _enlarged(seen, whole.shape, PIL.Image.Resampling.NEAREST)


def table(results: dict[str, Any]) -> str:
    """The results as Markdown: a table for each damage, and where the first method does not win."""
    first = results["ways"][0][0]
    methods = {name for way in results["ways"] for name in (way[0], f"{way[0]}, composed")}
    lines, lost = [], []
    for damage, answers in results["sets"].items():
        plain = {name: np.array(values["lpips"]) for name, values in answers.items() if name not in methods}
        best = min(plain, key=lambda name: plain[name].mean())
        lines += [
            f"| {damage} | pictures | LPIPS | PSNR, dB | better LPIPS than {best} | CPU seconds |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        for name, values in answers.items():
            lpips = np.array(values["lpips"])
            wins = int((lpips < plain[best][: len(lpips)]).sum())
            seconds = f"{np.mean(values['seconds']):.1f}" if "seconds" in values else ""
            lines.append(
                f"| {name} | {len(lpips)} | {lpips.mean():.3f} | {np.mean(values['psnr']):.2f} | "
                f"{'' if name == best else f'{wins} of {len(lpips)}'} | {seconds} |"
            )
        lines.append("")
        ours = np.array(answers[first]["lpips"])
        theirs = plain[best][: len(ours)]
        if ours.mean() >= theirs.mean():
            lost.append(f"{damage} ({ours.mean():.3f} against {theirs.mean():.3f} of {best})")
    lines.append(
        f"In mean LPIPS to the truth, {first} beats every plain answer"
        + (f", except for {', '.join(lost)}." if lost else " for every damage.")
    )
    return "\n".join(lines) + "\n"
