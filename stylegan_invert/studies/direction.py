"""The experiments of Cho, "Inverting generator of GAN through direction embedding discriminator", on any network.

A direction-embedding discriminator (DE) finds the latent of a picture in one pass. Generated and real pictures are found by
it alone, by a short optimisation from there, and by longer ones from the mean; the study makes a table, and sheets as the
paper's Figures 3 and 4.
"""

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ..analysis.sheets import sheet
from ..errors import StyleganInvertError
from ..generator import Adapter, Code, joined
from ..losses import Distance, reported_lpips
from ..media.picture_set import PictureSet
from ..media.pictures import as_images, write_png
from ..network_files.file import NetworkFile
from ..networks.direction import DirectionDiscriminator, angle_degrees
from . import base

# The number of pictures that are optimised side by side. A run on a CPU computes targets one by one for exact
# repeatability. A study needs only means, so it batches there too.
BATCH = 50
SHOWN = 8  # the number of pictures of each set in the sheets
NEAR = {"initial_noise_factor": 0.0, "noise_maps": "fixed"}
"""Options of W for starts close to the target: no exploration, and the noise maps that are stored in the network."""

STARTS = {
    "de": "DE + {} steps of W",
    "mean": "{} steps of W from the mean",
    "mean-near": "{} steps of W from the mean, without exploration, with fixed noise maps",
    "random": "{} steps of W from a random code",
}
"""The title of each start in the table. "mean" and "random" have the official options; "de" and "mean-near" have those in
`NEAR`.
"""

NO_STEPS = {"de": "DE, one pass", "mean": "mean code", "random": "random codes"}
"""The titles of rows without steps."""

COLUMNS = {
    "angle": ("angle, degrees", 1),
    "angle_of_z": ("angle of z", 1),
    "lpips": ("LPIPS", 4),
    "psnr": ("PSNR, dB", 2),
    "ssim": ("SSIM", 3),
    "seconds": ("seconds", 3),
}
"""The table's columns: the title of a value, and its digits."""


class Way(NamedTuple):
    """One row of the table.

    Attributes:
        start: a key of `STARTS`.
        steps: the number of steps in W; 0 takes the start as it is, which for "de" is the latent that the discriminator finds
            in one pass.
        first: the number of pictures of each set that are projected; None for all.
    """

    start: str
    steps: int
    first: int | None = None

    @property
    def name(self) -> str:
        """The row's title."""
        return STARTS[self.start].format(self.steps) if self.steps else NO_STEPS[self.start]


ONE_PASS = Way("de", 0)
WAYS = (ONE_PASS, Way("de", 50), Way("mean", 300), Way("mean", 1000, 100), Way("mean-near", 300, 100))


def read_ways(text: str) -> list[Way]:
    """Ways from a text such as "de:0,de:50,mean:1000:100".

    Raises:
        ValueError: the text cannot be read, two rows have the same start and steps, or the first row is not "de:0".
    """
    ways = []
    for part in text.split(","):
        start, *numbers = part.strip().split(":")
        if start not in STARTS or not 1 <= len(numbers) <= 2 or not all(n.isdigit() for n in numbers):
            raise ValueError(
                f"{part!r}; expected START:STEPS or START:STEPS:FIRST, as de:50 or mean:1000:100; "
                f"starts are {', '.join(STARTS)}"
            )
        if not int(numbers[0]) and start not in NO_STEPS:
            raise ValueError(f"{part!r}; {start} needs steps, and without steps there are {', '.join(NO_STEPS)}")
        ways.append(Way(start, *map(int, numbers)))
    if len({way[:2] for way in ways}) < len(ways):
        raise ValueError("two rows have the same start and steps")
    if ways[0] != ONE_PASS:
        raise ValueError("the first row must be de:0 (one pass of the discriminator)")
    return ways


def run(
    net: NetworkFile,
    outdir: str | os.PathLike,
    data: PictureSet | None = None,
    *,
    generated: int = 1000,
    real: int = 400,
    ways: Sequence[Way] = WAYS,
    seed: int = 1,
    loss: str = "lpips-squeeze=1,mse=1",
    device: torch.device | str = "cpu",
    counting: base.Counting = base.uncounted,
) -> dict[str, Any]:
    """Reconstruct generated and real pictures with a direction-embedding discriminator.

    Args:
        net: a network file with a direction-embedding discriminator, without classes.
        outdir: the study's folder; see `studies.base`. It also gets a sheet of each set.
        data: real pictures, as `base.picture_set` reads them; None leaves them out.
        generated: the number of generated pictures.
        real: the number of real pictures, at most.
        ways: the rows of the table; the first is `ONE_PASS`.
        seed: the random seed for the generated pictures.
        loss: the distance that the optimisations lower, by name.
        device: where to compute.
        counting: shows the progress.

    Returns:
        The contents of results.json.

    Raises:
        StyleganInvertError: the network has no such discriminator or has classes, or the folder holds another study.
    """
    if net.direction is None:
        raise StyleganInvertError(
            f"{net.file}: it has no direction-embedding discriminator. 'stylegan-invert train --head direction' makes "
            "networks that have one"
        )
    generator, D = base.generator_of(net, device), net.direction.to(device)
    made, z = generated_pictures(generator, generated, seed)
    sets = {"generated": made}
    if data is not None:
        sets["real"] = base.first_pictures(data, generator, real)
    distance, about_loss = base.distance_of(loss, device)
    settings = {"network": net.sha256, **about_loss, "data": base.hashes(sets), "seed": seed}
    settings |= {"device": str(torch.device(device)), "ways": [list(way) for way in ways]}
    settings["pictures"] = {name: len(pictures) for name, pictures in sets.items()}
    folder = base.begin(outdir, settings, shared=True)
    parts = [
        part
        for way in ways
        for name, pictures in sets.items()
        for part in base.split(name, way, pictures[: way.first], BATCH, f"{name}-{way.start}-{way.steps}-{{:05d}}.npz")
    ]
    lpips = reported_lpips(distance)[1].to(generator.device)

    def find(part: base.Part, progress: base.Progress) -> base.Arrays:
        arrays = reconstruct(generator, D, part, distance, lpips)
        progress(part.work)
        return arrays

    found = base.find_parts(parts, folder / "parts", find, counting)
    D = D.to("cpu")
    results: dict[str, Any] = {**settings, "sets": {}}
    for name, pictures in sets.items():
        rows = results["sets"][name] = _rows({way: found[name, way] for way in ways}, pictures)
        if name == "generated":
            means = angles(D, base.stacked(found[name, ways[0]], "embedding"), z)
            rows[ways[0].name] |= {"angle": means["found"], "angle_of_z": means["latents"]}
            rows["random pairs"] = {"angle": means["random pairs"]}
            rows["best constant guess"] = {"angle": means["best constant"]}
        rows.setdefault("random pairs", {})["lpips"] = random_pairs_lpips(pictures, distance)
        shown = [base.stacked(found[name, way], "images")[:SHOWN] for way in ways if way.first is None]
        write_png(folder / f"sheet-{name}.png", sheet(list(zip(pictures[:SHOWN], *shown))))
    return base.finish(folder, results, table(results))


def generated_pictures(generator: Adapter, n: int, seed: int) -> tuple[np.ndarray, torch.Tensor]:
    """Pictures (n, C, R, R) uint8 of random latents, and these latents z (n, z_dim) from N(0, I)."""
    (shape,) = generator.code_shapes("z").values()
    z = torch.from_numpy(np.random.RandomState(seed).randn(n, *shape)).to(torch.float32)
    return base.rendered(generator, Code("z", {"z": z})), z


def reconstruct(
    generator: Adapter, direction: DirectionDiscriminator, part: base.Part, loss: Distance, lpips: Distance
) -> base.Arrays:
    """Find the codes of a part's pictures, and compare the rendered codes with the pictures.

    Returns:
        'embedding' (n, z_dim + 1); 'lpips', 'psnr' and 'ssim' (n,); 'seconds', a scalar, the time per picture; 'images'
        (m, C, R, R) uint8, only the first pictures, which are drawn in the sheets.
    """
    way, shown = part.way, as_images(part.pixels, generator.device)
    began = time.perf_counter()
    with torch.no_grad():
        embedding = direction.embed(shown).direction
    if way.start == "de":
        code = Code("z", {"z": direction.latents(embedding)})
    elif way.start == "random":
        z = np.random.RandomState([7, part.first]).randn(len(shown), direction.z_dim)
        code = Code("z", {"z": torch.from_numpy(z).to(torch.float32).to(generator.device)})
    else:
        code = joined([generator.center("w")] * len(shown))
    if way.steps:
        start = code if code.space == "w" else generator.convert(code, "w")
        options = {"steps": way.steps, **({} if way.start in ("mean", "random") else NEAR)}
        code = base.fit("w", generator, shown, loss, start, options).code.without_noise()
    images = base.rendered(generator, code)
    seconds = (time.perf_counter() - began) / len(shown)
    return {
        "embedding": embedding.cpu().numpy(),
        "images": images[: max(0, SHOWN - part.first)],
        "seconds": np.array(seconds),
        **base.metrics(part.pixels, images, lpips),
    }


def _rows(found: Mapping[Way, Sequence[base.Arrays]], pictures: np.ndarray) -> dict[str, dict[str, float]]:
    """Means over the pictures of one set, for each way."""
    rows = {}
    for way, parts in found.items():
        row = {key: float(base.stacked(parts, key).mean()) for key in ("lpips", "psnr", "ssim")}
        seconds = [np.full(len(part["lpips"]), part["seconds"]) for part in parts]
        limited = f" (first {len(pictures[: way.first])})" if way.first else ""
        rows[way.name + limited] = {**row, "seconds": float(np.concatenate(seconds).mean())}
    return rows


def angles(direction: DirectionDiscriminator, embeddings: np.ndarray, true: torch.Tensor) -> dict[str, float]:
    """Mean angles, in degrees, between true latents and four guesses.

    Each latent corresponds to a point on a sphere (see networks.direction).

    Args:
        direction: the discriminator, on the CPU.
        embeddings: the unit vectors (N, n) that the discriminator found in the pictures of the latents.
        true: the true latents (N, z_dim).

    Returns:
        The mean angle between the point of the true latent and: what the discriminator found ("found"); the latent made
        from it ("latents"); another random latent ("random pairs"); the mean of all points ("best constant").
    """
    with torch.no_grad():
        a, b = torch.from_numpy(embeddings), direction.target(true)
        latents = direction.target(direction.latents(a))
    n = len(b) // 2
    return {
        "found": float(angle_degrees(a, b).mean()),
        "latents": float(angle_degrees(latents, b).mean()),
        "random pairs": float(angle_degrees(b[:n], b[n : 2 * n]).mean()),
        "best constant": float(angle_degrees(b.mean(dim=0, keepdim=True).expand_as(b), b).mean()),
    }


def random_pairs_lpips(pictures: np.ndarray, loss: Distance) -> float:
    """Mean LPIPS between the first half of the pictures and the second half. Any reconstruction should be lower."""
    lpips = reported_lpips(loss)[1].to("cpu")
    n = len(pictures) // 2
    a, b = (as_images(x) for x in (pictures[:n], pictures[n : 2 * n]))
    with torch.no_grad():
        return float(torch.cat([lpips.between(x, y) for x, y in zip(a.split(50), b.split(50))]).mean())


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    return base.table_of_sets(results, COLUMNS)
