"""The experiments of Wulff & Torralba, section 3, on any network with a V space: inversion with and without the prior."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..analysis.paths import between, latent_distances, line_errors
from ..generator import Code, GeneratorAdapter, StyleAdapter, joined
from ..io.codes import write_codes
from ..losses import Distance, SqueezeLPIPS, picture_metrics
from ..media.pictures import as_images
from ..projectors.projection import render_pixels
from ..projectors.v_prior import v_prior
from ..projectors.w import Options, optimise

WEIGHT = 1e-4  # the paper's
HISTORY = 100  # points that are kept of a run's distances
RATES = {"w": 0.1, "w+": 0.05, "v": 0.1, "v+": 0.05}
TITLES = {"w": "W", "w+": "W+", "v": "V, whitened", "v+": "V+, whitened"}


class Way(NamedTuple):
    """One row: in which space, with which weight of the prior, in how many steps."""

    space: str
    weight: float
    steps: int

    @property
    def name(self) -> str:
        return f"{self.space}-{self.weight:g}"

    @property
    def title(self) -> str:
        return TITLES[self.space] + (f" + prior {self.weight:g}" if self.weight else "")

    @property
    def options(self) -> Options:
        """The paper's: the official schedules, noise maps fixed."""
        rate = RATES[self.space]
        return Options(steps=self.steps, initial_learning_rate=rate, prior_weight=self.weight, noise_maps="fixed")


def ways(name: str, weights: Sequence[float], steps: Mapping[str, int]) -> list[Way]:
    """The rows for a set: "single" is found in W and "mixed" in W+, with every weight; "real" in both, with the paper's.

    Args:
        steps: by space, "w", "w+", "v" and "v+".
    """
    spaces = {"real": ("w", "w+"), "single": ("w",), "mixed": ("w+",)}[name]
    chosen = [0.0, *([WEIGHT] if name == "real" else sorted({*weights, WEIGHT}))]
    found = [Way(space, weight, steps[space]) for space in spaces for weight in chosen]
    return found + [Way(s, WEIGHT, steps[s]) for s in (space.replace("w", "v") for space in spaces)]


def drawn(generator: StyleAdapter, count: int, mixed: bool, seed: int) -> Code:
    """Codes of generated pictures: in W, or in W+ with another w for each layer."""
    sample = generator.sample_w(None, seed)
    if not mixed:
        return Code("w", {"w": sample(count)}).to(generator.device)
    layers, dimensions = generator.code_shapes("w+")["w"]
    return Code("w+", {"w": sample(count * layers).reshape(count, layers, dimensions)}).to(generator.device)


def pictures(generator: GeneratorAdapter, code: Code) -> np.ndarray:
    """(N, C, R, R) uint8, each rendered alone."""
    return np.stack([render_pixels(generator, one) for one in code])


def invert(
    generator: GeneratorAdapter,
    sets: Mapping[str, tuple[np.ndarray, Sequence[Way]]],
    loss: Distance,
    folder: Path,
    batch: int,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Find the codes of all pictures in all ways, and keep each batch in a file; those that are there are left.

    Args:
        sets: name to pictures (N, C, R, R) uint8 and their ways.
        batch: pictures that are optimised side by side, on a CPU too: each has its own random numbers, but not the last digits
            that it has alone.
        progress: called with the number of steps taken, times pictures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, way, first, pixels in _parts(sets, batch):
        path = folder / f"{name}-{way.name}-{first:04d}.npz"
        if not path.exists():
            start = joined([generator.center(way.space)] * len(pixels))
            shown = as_images(pixels, generator.device)
            count = None if progress is None else lambda step: progress(len(step.distance))
            fit = optimise(generator, shown, loss, start, way.options, count)
            code = generator.convert(fit.code, way.space.replace("v", "w"))
            every = np.linspace(0, way.steps - 1, min(HISTORY, way.steps)).round().astype(int)
            arrays = {"w": code.tensors["w"].cpu().numpy(), "steps": every, "history": fit.distance[every].numpy()}
            write_codes(path, arrays)
        elif progress is not None:
            progress(len(pixels) * way.steps)


def work(sets: Mapping[str, tuple[np.ndarray, Sequence[Way]]]) -> int:
    """How much `invert` will count."""
    return sum(len(pixels) * way.steps for pixels, chosen in sets.values() for way in chosen)


def _parts(
    sets: Mapping[str, tuple[np.ndarray, Sequence[Way]]], batch: int
) -> Iterator[tuple[str, Way, int, np.ndarray]]:
    for name, (pixels, chosen) in sets.items():
        for way in chosen:
            for first in range(0, len(pixels), batch):
                yield name, way, first, pixels[first : first + batch]


class Found(NamedTuple):
    """What `invert` kept of one set in one way: codes (N), and the mean distance at some of the steps."""

    code: Code
    steps: list[int]
    history: list[float]


def gather(generator: GeneratorAdapter, folder: Path, name: str, way: Way) -> Found:
    """What `invert` kept of one set in one way."""
    parts = [np.load(path) for path in sorted(folder.glob(f"{name}-{way.name}-[0-9]*.npz"))]
    w = torch.from_numpy(np.concatenate([part["w"] for part in parts])).to(generator.device)
    history = np.concatenate([part["history"] for part in parts], axis=1).mean(axis=1)
    return Found(Code(way.space.replace("v", "w"), {"w": w}), parts[0]["steps"].tolist(), history.tolist())


def errors(generator: GeneratorAdapter, code: Code, shown: np.ndarray, true: Code | None) -> dict[str, float]:
    """Means over pictures: LPIPS and PSNR of the rendered codes, the prior's value per dimension ("prior") and, where the true
    codes are known, the distances of `latent_distances` ("w", "v")."""
    lpips = SqueezeLPIPS()
    rows = [
        picture_metrics(torch.from_numpy(a), torch.from_numpy(b), {"lpips": lpips})
        for a, b in zip(shown, pictures(generator, code))
    ]
    with torch.no_grad():
        dimensions = generator.styles(code).shape[1] * generator.gaussian().rank
        result = {"prior": float(v_prior(generator, code).mean()) / dimensions}
    result |= {key: float(np.mean([r[key] for r in rows])) for key in ("lpips", "psnr")}
    if true is not None:
        away = [latent_distances(generator, a, b) for a, b in zip(code, true)]
        result |= {key: float(np.mean([d[key] for d in away])) for key in ("w", "v")}
    return result


def pairs(count: int, wanted: int) -> list[tuple[int, int]]:
    """At most ``wanted`` different pairs of ``count`` things, always the same ones."""
    every = [(i, j) for i in range(count) for j in range(i + 1, count)]
    order = np.random.RandomState(0).permutation(len(every))
    return [every[k] for k in order[:wanted]]


def curves(
    generator: GeneratorAdapter, code: Code, true: Code, chosen: Sequence[tuple[int, int]], alphas: Sequence[float]
) -> dict[str, list[float]]:
    """Errors along interpolations between found codes, against those between the true ones: Figure 2.

    Returns:
        "alpha", and "lpips", "w" and "v" at each, means over the pairs.
    """
    lpips = SqueezeLPIPS()
    rows = [
        line_errors(
            generator, *(between(generator, x[i : i + 1], x[j : j + 1], alphas) for x in (code, true)), lpips=lpips
        )
        for i, j in chosen
    ]
    means = {key: np.mean([row[key] for row in rows], axis=0).tolist() for key in rows[0]}
    return {"alpha": [float(a) for a in alphas], **means}


def midpoints(generator: GeneratorAdapter, code: Code, chosen: Sequence[tuple[int, int]]) -> np.ndarray:
    """Pictures half-way between the codes of pairs: (N, C, R, R) uint8."""
    halves = [between(generator, code[i : i + 1], code[j : j + 1], [0.5])[0] for i, j in chosen]
    return pictures(generator, joined(halves))


def steps_to(found: Found, distance: float) -> int | None:
    """The first kept step at which the mean distance is as low as ``distance``; None if there is none."""
    return next((step for step, value in zip(found.steps, found.history) if value <= distance), None)
