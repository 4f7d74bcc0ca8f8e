"""The comparisons of Bayat's thesis, chapter 2 (Tables 2.1 and 2.3), on any network: encoder, optimisation and hybrids.

Generated and real pictures are reconstructed by an encoder in one pass, by optimisation from a random code or from the mean,
by hybrids, which optimise from the encoder's code, and by simple guesses that any method should beat. Every way has the same
targets, and those with a random start have the same one.
"""

import os
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ..analysis.distribution import FEWEST, PictureFeatures, frechet_distance
from ..analysis.sheets import sheet
from ..errors import StyleganInvertError
from ..generator import Code, GeneratorAdapter, joined
from ..generator.encoding import Encoding
from ..io.encoder_file import read_encoder
from ..losses import Distance, reported_lpips
from ..media.picture_set import PictureSet
from ..media.pictures import as_images, write_png
from ..network_files.file import NetworkFile
from ..projectors.samples import Samples
from . import base
from .direction import generated_pictures

BATCH = 50  # targets that are computed side by side; a study needs only means
SHOWN = 8  # pictures of each set in the sheets
OPTIMISERS = ("adam", "lbfgs", "clipped")
STARTS = {
    "encoder": "encoder",
    "de": "direction head",
    "nearest": "nearest samples",
    "regression": "regression on samples",
    "random": "a random code",
    "mean": "the mean code",
}
"""The title of each start in the table."""
COLUMNS = {"lpips": ("LPIPS", 4), "psnr": ("PSNR, dB", 2), "ssim": ("SSIM", 3), "frechet": ("Frechet (SqueezeNet)", 2)}
COLUMNS |= {"seconds": ("seconds", 3)}
"""The table's columns: the title of a value, and its digits."""


class Way(NamedTuple):
    """One row of the table.

    Attributes:
        start: a key of `STARTS`.
        steps: the steps from there; 0 takes the start as it is.
        optimiser: "adam", "lbfgs", or "clipped": Adam whose z is held within the prior's bounds by stochastic clipping
            after every step, which is for z alone.
    """

    start: str
    steps: int = 0
    optimiser: str = "adam"

    @property
    def name(self) -> str:
        """The row's title."""
        how = {"adam": "Adam", "lbfgs": "L-BFGS", "clipped": "Adam with stochastic clipping"}[self.optimiser]
        return f"{STARTS[self.start]}, then {self.steps} steps of {how}" if self.steps else STARTS[self.start]


def read_ways(text: str) -> list[Way]:
    """Ways from a text such as "encoder:0,encoder:50:lbfgs,mean:200".

    Raises:
        ValueError: the text cannot be read, or two rows are alike.
    """
    ways = []
    for part in text.split(","):
        start, *rest = part.strip().split(":")
        if (
            start not in STARTS
            or len(rest) > 2
            or not all(n.isdigit() for n in rest[:1])
            or rest[1:] not in _OPTIMISERS
        ):
            raise ValueError(
                f"{part!r}; expected START:STEPS or START:STEPS:OPTIMISER, as encoder:50:lbfgs; starts are "
                f"{', '.join(STARTS)}, optimisers {', '.join(OPTIMISERS)}"
            )
        ways.append(Way(start, int(rest[0]) if rest else 0, *rest[1:]))
    if len(set(ways)) < len(ways):
        raise ValueError("two rows are alike")
    return ways


_OPTIMISERS = [[], *([name] for name in OPTIMISERS)]


def run(
    net: NetworkFile,
    outdir: str | os.PathLike,
    data: PictureSet | None = None,
    *,
    encoder: str | os.PathLike,
    ways: Sequence[Way],
    generated: int = 50,
    real: int = 50,
    seed: int = 1,
    loss: str = "lpips-squeeze=1,mse=1",
    device: torch.device | str = "cpu",
    counting: base.Counting = base.uncounted,
) -> dict[str, Any]:
    """Reconstruct generated and real pictures in each of several ways.

    Args:
        net: the network file, without classes.
        outdir: the study's folder; see `studies.base`. It also gets a sheet of each set.
        data: real pictures, as `base.picture_set` reads them; None leaves them out.
        encoder: the file of an encoder of this network, or the folder of its run. Codes are searched in its space.
        ways: the rows of the table.
        generated: the number of generated pictures.
        real: the number of real pictures, at most.
        seed: the random seed for the generated pictures.
        loss: the distance that the optimisations lower, by name.
        device: where to compute.
        counting: shows the progress.

    Returns:
        The contents of results.json.

    Raises:
        StyleganInvertError: the network has classes, the encoder is another network's, a way does not fit the encoder's
            space, or the folder holds another study.
    """
    generator = base.generator_of(net, device)
    encoding, about = read_encoder(encoder, generator)
    _check(ways, encoding.space, net)
    sets = {"generated": generated_pictures(generator, generated, seed)[0]}
    if data is not None:
        sets["real"] = base.first_pictures(data, generator, real)
    distance, about_loss = base.distance_of(loss, device)
    settings = {"network": net.sha256, "encoder": about.images, "space": encoding.space, **about_loss}
    settings |= {"data": base.hashes(sets), "seed": seed, "device": str(torch.device(device))}
    settings |= {"ways": [list(way) for way in ways], "pictures": {name: len(p) for name, p in sets.items()}}
    folder = base.begin(outdir, settings)
    parts = [
        part
        for way in ways
        for name, pictures in sets.items()
        for part in base.split(name, way, pictures, BATCH, f"{name}-{'-'.join(map(str, way))}-{{:05d}}.npz")
    ]
    lpips = reported_lpips(distance)[1].to(generator.device)
    finder = _Finder(net, generator, encoding, about.passes - 1, distance, lpips)
    found = base.find_parts(parts, folder / "parts", finder, counting)
    results: dict[str, Any] = {**settings, "sets": {}}
    for name, pictures in sets.items():
        results["sets"][name] = {way.name: _row(found[name, way], pictures) for way in ways}
        shown = [base.stacked(found[name, way], "images")[:SHOWN] for way in ways]
        write_png(folder / f"sheet-{name}.png", sheet(list(zip(pictures[:SHOWN], *shown))))
    return base.finish(folder, results, table(results))


def _check(ways: Sequence[Way], space: str, net: NetworkFile) -> None:
    """Raise StyleganInvertError if a way cannot be taken with this network or space."""
    for way in ways:
        if way.optimiser == "clipped" and space != "z":
            raise StyleganInvertError(
                f"clipping is for z, and the encoder finds codes in {space}; leave out {way.name!r}"
            )
        if way.start == "de" and net.direction is None:
            raise StyleganInvertError(f"{net.file}: it has no direction head; leave out {way.name!r}")


class _Finder:
    """Finds the codes of a part's pictures in the part's way, and compares the rendered codes with the pictures.

    Returns "lpips", "psnr" and "ssim" (n,); "seconds", a scalar, the time per picture; and "images" (n, C, R, R) uint8.
    Drawing samples, which is done once per network, is not counted as time.
    """

    def __init__(
        self,
        net: NetworkFile,
        generator: GeneratorAdapter,
        encoding: Encoding,
        refine: int,
        distance: Distance,
        lpips: Distance,
    ):
        self.net, self.generator, self.encoding, self.refine = net, generator, encoding, refine
        self.distance, self.lpips = distance, lpips
        self.samples: Samples | None = None

    def __call__(self, part: base.Part, progress: base.Progress) -> base.Arrays:
        way, shown = part.way, as_images(part.pixels, self.generator.device)
        if way.start in ("nearest", "regression") and self.samples is None:
            self.samples = Samples(self.generator, self.distance, None, None)
        began = time.perf_counter()
        code = self._start(way.start, shown)
        if way.steps:
            method = "z" if self.encoding.space == "z" else "w"
            code = base.fit(method, self.generator, shown, self.distance, code, self._options(way)).code.without_noise()
        images = base.rendered(self.generator, code)
        seconds = (time.perf_counter() - began) / len(shown)
        progress(part.work)
        return {"images": images, "seconds": np.float64(seconds), **base.metrics(part.pixels, images, self.lpips)}

    def _options(self, way: Way) -> dict[str, Any]:
        options: dict[str, Any] = {"steps": way.steps, "optimizer": "lbfgs" if way.optimiser == "lbfgs" else "adam"}
        if self.encoding.space != "z":
            return {**options, "initial_noise_factor": 0.0, "noise_maps": "fixed"}
        return {**options, "clip": "stochastic"} if way.optimiser == "clipped" else options

    def _start(self, start: str, shown: torch.Tensor) -> Code:
        generator, space = self.generator, self.encoding.space
        if start == "encoder":
            return self.encoding.encode(shown, None, self.refine)
        if start == "mean":
            return joined([generator.center(space)] * len(shown))
        if start == "de":
            with torch.no_grad():
                code = Code("z", {"z": self.net.direction.to(generator.device).invert(shown)})
        elif start == "random":
            (shape,) = generator.code_shapes("z").values()
            random = torch.Generator().manual_seed(0)
            code = Code("z", {"z": generator.prior.sample([len(shown), *shape], random).to(generator.device)})
        else:
            choose = self.samples.nearest if start == "nearest" else self.samples.regressed
            code = choose(shown, "z" if space == "z" else "w")
        return generator.convert(code, space)


def _row(parts: Sequence[base.Arrays], pictures: np.ndarray) -> dict[str, float]:
    """Means over the pictures of one set."""
    row = {key: float(base.stacked(parts, key).mean()) for key in ("lpips", "psnr", "ssim")}
    if len(pictures) >= FEWEST:
        features = PictureFeatures("cpu")
        of = [features.of([torch.from_numpy(x)]) for x in (pictures, base.stacked(parts, "images"))]
        row["frechet"] = float(frechet_distance(*of))
    seconds = [np.full(len(part["lpips"]), part["seconds"]) for part in parts]
    return {**row, "seconds": float(np.concatenate(seconds).mean())}


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    return base.table_of_sets(results, COLUMNS)
