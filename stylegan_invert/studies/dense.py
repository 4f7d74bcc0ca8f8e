"""The experiments of Pividori et al., "Exploiting GAN Internal Capacity", on any network from z.

Generated and real pictures are found in z, and at a layer with and without the regularisation in two steps; what comes out are
errors (Figure 5), ways between codes (Figures 3, 4 and 14), projections onto the span of G1 (Figure 13), and how real the
pictures half-way between two codes look.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..analysis.paths import between, onto_span, underlying
from ..generator import FEATURES, Code, GeneratorAdapter, joined
from ..io.codes import read_codes, write_codes
from ..losses import Distance, SqueezeLPIPS, picture_metrics
from ..media.pictures import as_images
from ..projectors.dense import DenseOptions, dense
from ..projectors.projection import render_pixels
from ..projectors.z import drawn, latent

BATCH = 8  # pictures that share passes


class Way(NamedTuple):
    """How a code is found: ``start`` is "random", or the name of the way whose result it starts from."""

    name: str
    title: str
    start: str
    regularised: bool = True


WAYS = {
    w.name: w
    for w in (
        Way("z", "z", "random"),
        Way("dense", "layer, two steps, regularised", "z"),
        Way("free", "layer, two steps, free", "z", regularised=False),
        Way("onestep", "layer, one step, free", "random", regularised=False),
    )
}


def invert(
    generator: GeneratorAdapter,
    sets: dict[str, np.ndarray],
    loss: Distance,
    options: DenseOptions,
    folder: Path,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Find a code for each picture in each way, and keep it in a file of its own; those that are there are left.

    Args:
        sets: name to pictures (N, C, R, R) uint8.
        options: of both steps; ``lambda_delta`` is for the regularised way.
        progress: called with how many codes are there, after each few.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, pictures in sets.items():
        for first in range(0, len(pictures), BATCH):
            some = range(first, min(first + BATCH, len(pictures)))
            for way in WAYS.values():
                wanted = [i for i in some if not code_path(folder, name, i, way.name).exists()]
                if wanted:
                    starts = [code_path(folder, name, i, way.start) for i in wanted]
                    shown = as_images(pictures[wanted], generator.device)
                    code = _find(generator, shown, loss, options, way, starts)
                    with torch.no_grad():
                        distances = loss(loss.prepare(shown), generator.render(code)).cpu().double()
                    for i, one, distance in zip(wanted, code, distances):
                        _keep(code_path(folder, name, i, way.name), one, distance)
                if progress is not None:
                    progress(len(some))


def _find(
    generator: GeneratorAdapter,
    shown: torch.Tensor,
    loss: Distance,
    options: DenseOptions,
    way: Way,
    starts: Sequence[Path],
) -> Code:
    random = drawn(generator, options, len(shown))
    if way.name == "z":
        return latent(generator, shown, loss, random, options).code
    changes = {"first_step": "none", **({} if way.regularised else {"lambda_delta": 0.0})}
    start = random if way.start == "random" else joined([read_codes(path) for path in starts]).to(generator.device)
    return dense(generator, shown, loss, start, dataclasses.replace(options, **changes)).code


def _keep(path: Path, code: Code, distance: torch.Tensor) -> None:
    arrays = {k: v.cpu().numpy() for k, v in code.tensors.items()}
    layer = {"layer": np.array(code.space.removeprefix(FEATURES))} if "h" in arrays else {}
    write_codes(path, {**arrays, **layer, "distance": distance[None].numpy()})


def code_path(folder: Path, name: str, i: int, way: str) -> Path:
    return folder / f"{name}-{i:04d}-{way}.npz"


class Found(NamedTuple):
    """What `invert` kept of one picture in one way: the code, its distance, and the picture (C, R, R) uint8."""

    code: Code
    distance: float
    picture: np.ndarray


def gather(generator: GeneratorAdapter, folder: Path, name: str, count: int, way: str) -> list[Found]:
    """What `invert` kept of one set in one way."""
    found = []
    for i in range(count):
        path = code_path(folder, name, i, way)
        code = read_codes(path).to(generator.device)
        with np.load(path) as data:
            distance = float(data["distance"][0])
        found.append(Found(code, distance, render_pixels(generator, code)))
    return found


def errors(found: Sequence[Found], pictures: np.ndarray) -> dict[str, list[float]]:
    """Of each picture: the distance that was minimised, LPIPS, PSNR and SSIM."""
    lpips = SqueezeLPIPS()
    rows = [
        picture_metrics(torch.from_numpy(p), torch.from_numpy(f.picture), {"lpips": lpips})
        for f, p in zip(found, pictures)
    ]
    return {
        "distance": [f.distance for f in found],
        **{key: [r[key] for r in rows] for key in ("lpips", "psnr", "ssim")},
    }


def midpoints(generator: GeneratorAdapter, found: Sequence[Found]) -> np.ndarray:
    """The pictures half-way between codes 0 and 1, 1 and 2, ..., and the last and the first: (N, C, R, R) uint8."""
    pairs = zip(found, [*found[1:], found[0]])
    return np.stack([render_pixels(generator, between(generator, a.code, b.code, [0.5])[0]) for a, b in pairs])


def gap(generator: GeneratorAdapter, code: Code, frames: int) -> list[np.ndarray]:
    """From h* to G1(z*): Figure 3."""
    return [
        render_pixels(generator, c)
        for c in between(generator, code, underlying(generator, code), np.linspace(0, 1, frames))
    ]


def line(generator: GeneratorAdapter, a: Code, b: Code, frames: int) -> list[np.ndarray]:
    """From one code to another: Figures 4, 9 and 14."""
    return [render_pixels(generator, c) for c in between(generator, a, b, np.linspace(0, 1, frames))]


def span(generator: GeneratorAdapter, code: Code) -> tuple[np.ndarray, float]:
    """The picture of the projection of h* onto the span of G1, and the share of h* that is left over: Figure 13."""
    on, left = onto_span(generator, code)
    return render_pixels(generator, on), float(left[0])


def quartiles(values: Sequence[float]) -> list[float]:
    """Lower quartile, median and upper quartile."""
    return np.quantile(np.array(values, dtype=np.float64), [0.25, 0.5, 0.75]).tolist()
