"""Pivotal tuning (Roich et al. 2021) on any StyleGAN: how much nearer pictures come, and whether codes can still be edited.

Each real picture is projected, which gives the pivot, and the network is tuned to it. Then the original and the tuned network
make the same edits of the pivot, and the same pictures half-way between the pivot and random codes.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..analysis.distribution import PictureFeatures, generated_pictures, kid, logits
from ..analysis.sheets import sheet
from ..generator import Adapter, Code
from ..media.picture_set import PictureSet
from ..media.pictures import write_png
from ..network_files.file import NetworkFile
from ..projectors.methods import find_method
from ..projectors.projector import Projector
from ..projectors.settings import TuningOptions
from ..projectors.tuning import Tuner
from . import base

DIRECTIONS = 2  # principal components of V along which pivots are edited; the second is also the first one's control
STRENGTH = 2.0  # the length of an edit, in standard deviations of the component
REFERENCE = 1000  # pictures of the original network, with which those half-way are compared
COLUMNS = {
    "lpips": ("LPIPS", 4),
    "psnr": ("PSNR, dB", 2),
    "ssim": ("SSIM", 3),
    "logit": ("D, half-way", 2),
    "kid": ("KID, half-way", 4),
    "moved": ("moved by the edit", 3),
    "seconds": ("CPU seconds", 1),
}
"""The table's columns: the title of a value, and its digits."""


class Way(NamedTuple):
    """How a picture is projected, and how the network is tuned.

    Attributes:
        method: the method that finds the pivot.
        steps: of the tuning.
        locality: the weight of its locality penalty.
    """

    method: str
    steps: int = 350
    locality: float = 0.0

    @property
    def name(self) -> str:
        """The title of its rows."""
        return self.method + (f", locality {self.locality:g}" if self.locality else "")


def read_ways(text: str) -> list[Way]:
    """Ways from a text such as "fast-w,fast-w+:350:0.1".

    Raises:
        ValueError: the text cannot be read, a method is unknown, or two ways are alike.
    """
    ways = []
    for part in text.split(","):
        method, *rest = part.strip().split(":")
        find_method(method)
        try:
            way = Way(method, *(kind(number) for kind, number in zip((int, float), rest, strict=False)))
        except ValueError:
            way = None
        if way is None or len(rest) > 2 or way.steps < 1 or not 0 <= way.locality < 1e6:
            raise ValueError(f"{part!r}; expected METHOD, METHOD:STEPS or METHOD:STEPS:LOCALITY, as fast-w:350:0.1")
        ways.append(way)
    if len(set(ways)) < len(ways):
        raise ValueError("two ways are alike")
    return ways


def run(
    net: NetworkFile,
    outdir: str | os.PathLike,
    data: PictureSet,
    *,
    ways: Sequence[Way],
    real: int = 8,
    halves: int = 8,
    seed: int = 1,
    device: torch.device | str = "cpu",
    counting: base.Counting = base.uncounted,
) -> dict[str, Any]:
    """Project real pictures, tune the network to each, and edit with both networks.

    Args:
        net: the file of a network with a V space, without classes.
        outdir: the study's folder; see `studies.base`. It also gets a strip of pictures for each way.
        data: real pictures, as `base.picture_set` reads them.
        ways: see `Way`.
        real: the number of real pictures, at most.
        halves: random codes for each picture; half-way between these and the pivot lie the codes whose realism is measured.
        seed: the random seed for these codes.
        device: where to compute.
        counting: shows the progress.

    Returns:
        The contents of results.json.

    Raises:
        StyleganInvertError: the network has classes, or the folder holds another study.
        ValueError: the network has no V.
    """
    generator = base.find_gaussian(base.generator_of(net, device), counting)
    pictures = base.first_pictures(data, generator, real)
    settings: dict[str, Any] = {
        "network": net.sha256,
        "data": base.hashes({"real": pictures}),
        "ways": [list(way) for way in ways],
    }
    settings |= {"halves": halves, "seed": seed, "device": str(torch.device(device)), "strength": STRENGTH}
    folder = base.begin(outdir, {**settings, "pictures": {"real": len(pictures)}}, shared=True)
    parts = [
        part for way in ways for part in base.split("real", way, pictures, 1, f"{'-'.join(map(str, way))}-{{:04d}}.npz")
    ]
    found = base.find_parts(parts, folder / "parts", _Finder(net, generator, halves, seed), counting)
    measured = _Realism(net, generator, seed)
    rows: dict[str, dict[str, float]] = {}
    comparisons = {}
    for way in ways:
        arrays = {key: base.stacked(found["real", way], key) for key in found["real", way][0]}
        for which in ("pivot", "tuned"):
            rows[f"{way.name}: {which}"] = {**_means(arrays, which), **measured(arrays[f"{which}_halves"])}
        comparisons[way.name] = _comparison(arrays)
        _write_strip(folder / f"strip-{way.name.replace(', ', '-').replace(' ', '-')}.png", pictures, arrays)
    results = {**settings, "pictures": {"real": len(pictures)}, "sets": {"real": rows}, "comparisons": comparisons}
    return base.finish(folder, results, table(results))


class _Realism:
    """Measures how real pictures look: the discriminator's mean logit, and the kernel distance to generated pictures."""

    def __init__(self, net: NetworkFile, generator: Adapter, seed: int):
        self.D = net.D.to(generator.device) if net.D is not None else None
        self.features = PictureFeatures(generator.device)
        self.reference = self.features.of(generated_pictures(generator, REFERENCE, seed + 1))

    def __call__(self, pictures: np.ndarray) -> dict[str, float]:
        """ "kid" and, with a discriminator, "logit" of pictures (..., C, R, R) uint8."""
        flat = pictures.reshape(-1, *pictures.shape[-3:])
        result = {"kid": kid(self.features(torch.from_numpy(flat)), self.reference)[0]}
        return result if self.D is None else {**result, "logit": float(logits(self.D, flat).mean())}


class _Finder:
    """Projects the picture of a part, tunes the network to it, and edits. The arrays of "pivot" and "tuned" are
    "NAME_images" (1, C, R, R); "NAME_lpips", "NAME_psnr", "NAME_ssim" and "NAME_seconds" (1,), of which those of "tuned"
    include the search; "NAME_edits" (1, DIRECTIONS, C, R, R); and "NAME_halves" (1, halves, C, R, R).
    """

    def __init__(self, net: NetworkFile, generator: Adapter, halves: int, seed: int):
        self.net, self.generator, self.halves, self.seed = net, generator, halves, seed
        self.projectors: dict[str, Projector] = {}

    def __call__(self, part: base.Part, progress: base.Progress) -> base.Arrays:
        way: Way = part.way
        if way.method not in self.projectors:
            self.projectors[way.method] = Projector(self.net, way.method)
            if self.projectors[way.method].method.start == "regression":
                self.projectors[way.method].samples()  # drawn once per network, and not counted as time
        projector = self.projectors[way.method]
        tuner = Tuner(projector, TuningOptions(tune=way.steps, tune_locality=way.locality))
        began = time.process_time()
        pivot = next(projector.project([part.pixels[0]]))
        searched = time.process_time()
        (tuned,) = tuner([pivot], lambda first, step: progress(1))
        seconds = {"pivot": searched - began, "tuned": time.process_time() - began}
        arrays: base.Arrays = {}
        for name, result in (("pivot", pivot), ("tuned", tuned)):
            assert result.generator is not None
            generator = self.generator.with_network(result.generator.network)
            values = {key: result.metrics[key] for key in ("lpips", "psnr", "ssim")}
            arrays |= {f"{name}_{key}": np.array([x], np.float64) for key, x in values.items()}
            arrays[f"{name}_seconds"] = np.array([seconds[name]])
            arrays[f"{name}_images"] = result.image.numpy()[None]
            arrays[f"{name}_edits"] = base.rendered(generator, self._edits(pivot.code))[None]
            pairs = ((pivot.code.to(generator.device), other) for other in self._others(part.first))
            arrays[f"{name}_halves"] = base.midpoints(generator, pairs)[None]
        return arrays

    def _edits(self, code: Code) -> list[Code]:
        """The code, moved along each of the first principal components of V."""
        v = self.generator.convert(code.to(self.generator.device), "v+")
        moved = []
        for i in range(DIRECTIONS):
            whitened = v.tensors["v"].clone()
            whitened[..., i] += STRENGTH
            moved.append(self.generator.convert(Code("v+", {"v": whitened}), "w+"))
        return moved

    def _others(self, number: int) -> list[Code]:
        """Random codes for the picture of this number."""
        (shape,) = self.generator.code_shapes("z").values()
        random = torch.Generator().manual_seed(self.seed * 10**6 + number)
        z = self.generator.prior.sample([self.halves, *shape], random).to(self.generator.device)
        return [self.generator.convert(one, "w+") for one in Code("z", {"z": z})]


def _changes(arrays: base.Arrays, which: str) -> np.ndarray:
    """How edits change the pixels, (N, DIRECTIONS, C * R * R) float64 on the scale [0, 1]."""
    before, after = (arrays[f"{which}_{key}"].astype(np.float64) / 255 for key in ("images", "edits"))
    return (after - before[:, None]).reshape(*after.shape[:2], -1)


def _means(arrays: base.Arrays, which: str) -> dict[str, float]:
    """Means over pictures. "moved" is the root mean square of the first edit's change of pixels, on the scale [0, 1]."""
    row = {key: float(arrays[f"{which}_{key}"].mean()) for key in ("lpips", "psnr", "ssim", "seconds")}
    return {**row, "moved": float(np.sqrt(np.square(_changes(arrays, which)[:, 0]).mean(axis=1)).mean())}


def _comparison(arrays: base.Arrays) -> dict[str, float | list[float]]:
    """The tuned networks beside the original.

    Returns:
        "times" is how many times smaller LPIPS became: of each picture. "cosine" is that between the changes of pixels that
        the first edit makes in both networks, the mean over pictures; "control" is the same between the first edit in the
        tuned network and the second in the original.
    """
    tuned, pivot = _changes(arrays, "tuned"), _changes(arrays, "pivot")

    def cosine(i: int) -> float:
        a, b = tuned[:, 0], pivot[:, i]
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        return float(((a * b).sum(axis=1) / lengths.clip(1e-30)).mean())

    times = (arrays["pivot_lpips"] / arrays["tuned_lpips"].clip(1e-12)).tolist()
    return {"times": times, "cosine": cosine(0), "control": cosine(1)}


def _write_strip(path: Path, pictures: np.ndarray, arrays: base.Arrays) -> None:
    """A row for each picture: target, pivot, tuned, and the first edit by the original and by the tuned network."""
    columns = [pictures, arrays["pivot_images"], arrays["tuned_images"]]
    columns += [arrays[f"{which}_edits"][:, 0] for which in ("pivot", "tuned")]
    write_png(path, sheet(list(zip(*columns))))


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [base.table_of_sets(results, COLUMNS)]
    lines.append("| | LPIPS smaller, times: median (least) | cosine of the edits | control: of another edit |")
    lines.append("|---|---:|---:|---:|")
    for name, row in results["comparisons"].items():
        times = f"{np.median(row['times']):.1f} ({min(row['times']):.1f})"
        lines.append(f"| {name} | {times} | {row['cosine']:.2f} | {row['control']:.2f} |")
    return "\n".join(lines) + "\n"
