"""The experiments of Cho, "Inverting generator of GAN through direction embedding discriminator", on any network.

Generated and real pictures are found by the discriminator alone, by a short optimisation from there, and by longer ones
from the mean; what comes out is a table, and sheets as the paper's Figures 3 and 4.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..generator import Code, GeneratorAdapter, joined
from ..io.codes import write_codes
from ..losses import Distance, picture_metrics, reported_lpips
from ..media.pictures import as_images
from ..networks.direction import DirectionDiscriminator, angle_degrees
from ..projectors.projection import render_pixels
from ..projectors.w import Options, optimise

BATCH = 50  # pictures that are optimised side by side
SHOWN = 8  # pictures of each set in the sheets


class Way(NamedTuple):
    """One row of the table: where it starts, how many steps it takes, for how many pictures.

    ``start`` is a key of `STARTS`.
    """

    start: str
    steps: int
    first: int | None = None

    @property
    def name(self) -> str:
        return STARTS[self.start].format(self.steps) if self.steps else "DE, one pass"


NEAR = {"initial_noise_factor": 0.0, "noise_maps": "fixed"}  # what exploration and noise maps find, is found already
STARTS = {
    "de": "DE + {} steps of W",
    "mean": "{} steps of W from the mean",
    "mean-near": "{} steps of W from the mean, with the settings of DE +",
}
"""The mean is searched from as the official projector does; DE, without exploration and with the network's own noise maps."""


def generated(generator: GeneratorAdapter, n: int, seed: int) -> tuple[np.ndarray, torch.Tensor]:
    """Pictures (n, C, R, R) uint8 of latents z (n, z_dim) from N(0, I), which are returned too."""
    (shape,) = generator.code_shapes("z").values()
    z = torch.from_numpy(np.random.RandomState(seed).randn(n, *shape)).to(torch.float32)
    return np.stack([render_pixels(generator, one) for one in Code("z", {"z": z})]), z


def reconstruct(
    generator: GeneratorAdapter,
    direction: DirectionDiscriminator,
    sets: dict[str, np.ndarray],
    folder: Path,
    loss: Distance,
    ways: Sequence[Way],
    batch: int = BATCH,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Find the codes of all pictures in all ways, and keep what came out in ``folder``.

    Each batch is a file; those that are there already are not made again, so a stopped study goes on where it was.

    Args:
        sets: name to pictures (N, C, R, R) uint8.
        loss: for the optimisations, on the generator's device.
        batch: pictures that are optimised side by side. On a CPU too: a study needs the mean, not the last digit.
        progress: called with the number of steps taken, times pictures; one pass counts as one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lpips = reported_lpips(loss)[1].to(generator.device)
    for name, way, first, pixels in _parts(sets, ways, batch):
        path = folder / f"{name}-{way.start}-{way.steps}-{first:05d}.npz"
        if not path.exists():
            shown = as_images(pixels, generator.device)
            began = time.perf_counter()
            with torch.no_grad():
                embedding = direction.embed(shown).direction
                code = Code("z", {"z": direction.latents(embedding)})
            if way.steps:
                mean = joined([generator.center("w")] * len(shown))
                start = generator.convert(code, "w") if way.start == "de" else mean
                options = Options(steps=way.steps, **({} if way.start == "mean" else NEAR))
                code = optimise(generator, shown, loss, start, options).code.without_noise()
            images = np.stack([render_pixels(generator, one) for one in code])
            seconds = (time.perf_counter() - began) / len(shown)
            rows = [
                picture_metrics(torch.from_numpy(a), torch.from_numpy(b), {"lpips": lpips})
                for a, b in zip(pixels, images)
            ]
            values = {
                key: np.array([np.nan if r[key] is None else r[key] for r in rows]) for key in ("lpips", "psnr", "ssim")
            }
            kept = {
                "embedding": embedding.cpu().numpy(),
                "images": images[: max(0, SHOWN - first)],
                "seconds": np.float64(seconds),
            }
            write_codes(path, {**kept, **values})
        if progress is not None:
            progress(len(pixels) * max(way.steps, 1))


def work(sets: dict[str, np.ndarray], ways: Sequence[Way]) -> int:
    """How much `reconstruct` will count."""
    return sum(len(pixels) * max(way.steps, 1) for _, way, _, pixels in _parts(sets, ways, BATCH))


def _parts(sets: dict[str, np.ndarray], ways: Sequence[Way], batch: int) -> Iterator[tuple[str, Way, int, np.ndarray]]:
    for way in ways:
        for name, pictures in sets.items():
            chosen = pictures[: way.first]
            for first in range(0, len(chosen), batch):
                yield name, way, first, chosen[first : first + batch]


def gather(folder: Path, name: str, way: Way) -> dict[str, np.ndarray]:
    """What `reconstruct` kept of one set in one way: "lpips", "psnr", "ssim", "embedding", "seconds" for each picture; "images"."""
    parts = []
    for path in sorted(folder.glob(f"{name}-{way.start}-{way.steps}-*.npz")):
        with np.load(path) as part:
            parts.append({**dict(part), "seconds": np.full(len(part["lpips"]), part["seconds"])})
    return {key: np.concatenate([p[key] for p in parts]) for key in parts[0]}


def angles(direction: DirectionDiscriminator, found: np.ndarray, true: torch.Tensor) -> dict[str, float]:
    """Mean angles in degrees to the points on the sphere of true latents (N, z_dim).

    Args:
        found: the embeddings (N, n) of their pictures.

    Returns:
        Those of the embeddings ("found"), of the latents that are made of them ("latents"), of other true latents ("random
        pairs"), and of the best constant ("best constant").
    """
    with torch.no_grad():
        a, b = torch.from_numpy(found), direction.target(true)
        latents = direction.target(direction.latents(a))
    n = len(b) // 2
    return {
        "found": float(angle_degrees(a, b).mean()),
        "latents": float(angle_degrees(latents, b).mean()),
        "random pairs": float(angle_degrees(b[:n], b[n : 2 * n]).mean()),
        "best constant": float(angle_degrees(b.mean(dim=0, keepdim=True).expand_as(b), b).mean()),
    }


def random_pairs_lpips(pictures: np.ndarray, loss: Distance) -> float:
    """Mean LPIPS of the first half of pictures to the second: what a reconstruction must beat."""
    lpips = reported_lpips(loss)[1].to("cpu")
    n = len(pictures) // 2
    a, b = (as_images(x) for x in (pictures[:n], pictures[n : 2 * n]))
    with torch.no_grad():
        return float(torch.cat([lpips.between(x, y) for x, y in zip(a.split(50), b.split(50))]).mean())
