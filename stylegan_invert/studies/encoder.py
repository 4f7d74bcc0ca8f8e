"""The comparisons of Bayat's thesis, chapter 2 (Tables 2.1 and 2.3), on any network: encoder, optimisation and hybrids.

Pictures of the network, real ones, and pictures of other networks are reconstructed by encoders in one pass, by optimisation
from a random code or from the mean, by hybrids, which optimise from an encoder's code, and by simple guesses that any method
should beat. Every way has the same targets, and those with a random start have the same one.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ..analysis.distribution import FEWEST, PictureFeatures, frechet_distance
from ..analysis.plots import distances_over_time, write_figure
from ..analysis.sheets import sheet
from ..errors import StyleganInvertError
from ..files.writing import sha256
from ..generator import Adapter, Code, joined
from ..generator.encoding import Encoding
from ..io.encoder_file import read_encoder
from ..losses import Distance, reported_lpips
from ..media.picture_set import PictureSet
from ..media.pictures import as_images, projector_pixels, write_png
from ..network_files.file import NetworkFile
from ..projectors.descent import Step
from ..projectors.methods import METHODS
from ..projectors.samples import Samples
from . import base
from .direction import generated_pictures

BATCH = 50  # targets that are computed side by side; a study needs only means
TIMED = 50  # the table has the seconds for so many pictures, as the thesis has
SHOWN = 8  # pictures of each set in the sheets
LOOKS = {1, 2, 3, 5, 8, 12, 16, 20, 25, 30, 40, 50, 70, 100, 150, 200, 300, 500, 700, 1000}
"""After these steps the pictures are measured, for the lines of the figure."""

OPTIMISERS = {
    "adam": "Adam",
    "clipped": "Adam with stochastic clipping",
    "lbfgs": "L-BFGS",
    "fast": "the fast search",
}
"""The title of each optimiser in the table."""

STARTS = {
    "de": "direction head",
    "nearest": "the nearest of 512 samples",
    "regression": "regression on samples",
    "random": "a random code",
    "mean": "the mean code",
}
"""The title of each start in the table; the names of encoders are starts, too."""

AT_ONCE = ("mean", "random")  # starts that take no time, which a logarithmic axis cannot show
MEASURES = ("lpips", "psnr", "ssim")  # of each picture
COLUMNS = {"lpips": ("LPIPS", 4), "psnr": ("PSNR, dB", 2), "ssim": ("SSIM", 3), "frechet": ("Frechet (SqueezeNet)", 2)}
COLUMNS |= {"evaluations": ("evaluations", 0), "seconds": (f"seconds for {TIMED}", 2)}
"""The table's columns: the title of a value, and its digits."""


class Way(NamedTuple):
    """One row of the table.

    Attributes:
        start: a key of `STARTS`, or the name of an encoder.
        steps: the steps from there; 0 takes the start as it is.
        optimiser: a key of `OPTIMISERS`. "clipped" is Adam whose z is held within the prior's bounds by stochastic clipping
            after every step, which is for z alone. "fast" has the settings of the methods fast-z and fast-w+: L-BFGS that
            ends when it gains too little, and a small prior in V.
    """

    start: str
    steps: int = 0
    optimiser: str = "adam"

    @property
    def name(self) -> str:
        """The row's title."""
        start = STARTS.get(self.start, self.start)
        return f"{start}, then {self.steps} steps of {OPTIMISERS[self.optimiser]}" if self.steps else start


def read_ways(text: str) -> list[Way]:
    """Ways from a text such as "encoder:0,encoder:50:lbfgs,mean:200".

    Raises:
        ValueError: the text cannot be read, or two rows are alike.
    """
    ways = []
    for part in text.split(","):
        start, *rest = part.strip().split(":")
        number, optimiser = (rest + ["0", "adam"][len(rest) :]) if len(rest) < 3 else ("", "")
        if not start or not number.isdigit() or optimiser not in OPTIMISERS:
            raise ValueError(
                f"{part!r}; expected START:STEPS or START:STEPS:OPTIMISER, as encoder:50:lbfgs; optimisers are "
                f"{', '.join(OPTIMISERS)}"
            )
        ways.append(Way(start, int(number), optimiser))
    if len(set(ways)) < len(ways):
        raise ValueError("two rows are alike")
    return ways


def run(
    net: NetworkFile,
    outdir: str | os.PathLike,
    data: PictureSet | None = None,
    *,
    encoders: Mapping[str, str | os.PathLike],
    ways: Sequence[Way],
    generated: int = 50,
    real: int = 50,
    others: Mapping[str, NetworkFile] | None = None,
    seed: int = 1,
    loss: str = "lpips-squeeze=1,mse=5",
    device: torch.device | str = "cpu",
    counting: base.Counting = base.uncounted,
) -> dict[str, Any]:
    """Reconstruct pictures in each of several ways.

    Args:
        net: the network file, without classes.
        outdir: the study's folder; see `studies.base`. It also gets a sheet of each set and the figure.
        data: real pictures, as `base.picture_set` reads them; None leaves them out.
        encoders: encoders of this network by name: their files, or the folders of their runs. All have the same space, and
            codes are searched in it.
        ways: the rows of the table.
        generated: the number of generated pictures.
        real: the number of real pictures, at most.
        others: further networks without classes, by names that can be parts of file names; ``generated`` pictures of each.
        seed: the random seed for the generated pictures.
        loss: the distance that the optimisations lower, by name.
        device: where to compute.
        counting: shows the progress.

    Returns:
        The contents of results.json. "sets" has the means of each way on each set. "curves" has, for each set and way, the
        "seconds" for one picture, and "lpips" and "psnr" then.

    Raises:
        StyleganInvertError: the network has classes or is too small for LPIPS, an encoder is another network's, a way does
            not fit the encoders' space, or the folder holds another study.
    """
    generator = base.generator_of(net, device)
    generator = base.find_gaussian(generator, counting) if "v" in generator.spaces else generator
    read = {name: read_encoder(file, generator) for name, file in encoders.items()}
    _check(ways, {name: encoding.space for name, (encoding, _) in read.items()}, net)
    sets = {"generated": generated_pictures(generator, generated, seed)[0]}
    sets |= {} if data is None else {"real": base.first_pictures(data, generator, real)}
    for name, other in (others or {}).items():
        sets[name] = resized(generated_pictures(base.generator_of(other, device), generated, seed)[0], generator)
    distance, about_loss = base.distance_of(loss, device)
    lpips = reported_lpips(distance)[1].to(generator.device)
    if generator.img_resolution < lpips.min_size:
        raise StyleganInvertError(f"{net.file}: LPIPS needs pictures of at least {lpips.min_size} pixels a side")
    settings = {"encoders": {name: _hash(encoding) for name, (encoding, _) in read.items()}, **about_loss}
    settings |= {"network": net.sha256, "data": base.hashes(sets), "seed": seed, "device": str(torch.device(device))}
    settings |= {"ways": [list(way) for way in ways], "pictures": {name: len(p) for name, p in sets.items()}}
    folder = base.begin(outdir, settings, shared=True)
    parts = [
        part
        for way in ways
        for name, pictures in sets.items()
        for part in base.split(name, way, pictures, BATCH, f"{name}-{'-'.join(map(str, way))}-{{:05d}}.npz")
    ]
    encode = {
        name: lambda shown, e=encoding, a=about: e.encode(shown, None, a.passes - 1)
        for name, (encoding, about) in read.items()
    }
    space = next(iter(read.values()))[0].space
    finder = _Finder(net, generator, space, encode, distance, lpips)
    found = base.find_parts(parts, folder / "parts", finder, counting)
    results: dict[str, Any] = {**settings, "sets": {}, "curves": {}}
    for name, pictures in sets.items():
        results["sets"][name] = {way.name: _row(found[name, way], pictures) for way in ways}
        drawn = [way for way in ways if way.steps or way.start not in AT_ONCE]
        results["curves"][name] = {way.name: _line(found[name, way]) for way in drawn}
        shown = [base.stacked(found[name, way], "images")[:SHOWN] for way in ways]
        write_png(folder / f"sheet-{name}.png", sheet(list(zip(pictures[:SHOWN], *shown))))
    clock = "CPU seconds for one picture" if generator.device.type == "cpu" else "seconds for one picture"
    panels = {f"{len(pictures)} {name} pictures": results["curves"][name] for name, pictures in sets.items()}
    write_figure(folder / "encoder.png", distances_over_time(panels, clock))
    return base.finish(folder, results, table(results))


def resized(pictures: np.ndarray, generator: Adapter) -> np.ndarray:
    """Pictures (N, C, R, R) uint8 of another network, in the size and with the channels of this one's."""
    channels, side = generator.output_shape[:2]
    shown = as_images(pictures)
    if shown.shape[1] != channels:
        shown = shown.mean(dim=1, keepdim=True).expand(-1, channels, -1, -1)
    if shown.shape[-1] != side:
        shown = torch.nn.functional.interpolate(shown, (side, side), mode="bicubic", antialias=True)
    return np.stack([projector_pixels(one) for one in shown.clamp(-1, 1)])


def _hash(encoding: Encoding) -> str:
    """The SHA-256 of an encoder's weights."""
    return sha256(b"".join(value.cpu().numpy().tobytes() for value in encoding.encoder.state_dict().values()))


def _check(ways: Sequence[Way], spaces: Mapping[str, str], net: NetworkFile) -> None:
    """Raise StyleganInvertError if a way cannot be taken with this network or these encoders, whose spaces are given."""
    if len(set(spaces.values())) != 1:
        found = ", ".join(f"{name} to {space}" for name, space in spaces.items()) or "none"
        raise StyleganInvertError(f"the encoders are {found}; give one or several that find codes in the same space")
    if set(spaces) & set(STARTS):
        raise StyleganInvertError(f"an encoder cannot be named as another start is: {', '.join(STARTS)}")
    for way in ways:
        if way.start not in {**STARTS, **spaces}:
            raise StyleganInvertError(
                f"there is no start {way.start!r}; expected one of {', '.join({**spaces, **STARTS})}"
            )
        if way.optimiser == "clipped" and "z" not in spaces.values():
            raise StyleganInvertError(
                f"clipping is for z, and the encoders find codes elsewhere; leave out {way.name!r}"
            )
        if way.start == "de" and net.direction is None:
            raise StyleganInvertError(f"{net.file}: it has no direction head; leave out {way.name!r}")


class _Clock:
    """The processor's seconds on a CPU, else those of the clock on the wall, without those in which it was stopped.

    Attributes:
        seconds: up to the last `stop`.
    """

    def __init__(self, device: torch.device):
        self.device, self.seconds = device, 0.0
        self.go_on()

    def _now(self) -> float:
        return time.process_time() if self.device.type == "cpu" else time.perf_counter()

    def stop(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds += self._now() - self._began

    def go_on(self) -> None:
        self._began = self._now()


class _Finder:
    """Finds the codes of a part's pictures in the part's way, and compares the rendered codes with the pictures.

    Returns the `MEASURES` (n,); "images" (n, C, R, R) uint8; "evaluations" and "seconds", scalars, those for one picture;
    and "curve" (looks, 3): seconds for one picture, LPIPS and PSNR, after the start and some of the steps. What is done once
    per network, such as drawing samples, is not counted as time, and neither is measuring.
    """

    def __init__(
        self,
        net: NetworkFile,
        generator: Adapter,
        space: str,
        encode: Mapping[str, Callable[[torch.Tensor], Code]],
        distance: Distance,
        lpips: Distance,
    ):
        self.net, self.generator, self.space, self.encode = net, generator, space, encode
        self.distance, self.lpips = distance, lpips
        self.samples: Samples | None = None

    def __call__(self, part: base.Part, progress: base.Progress) -> base.Arrays:
        way, shown = part.way, as_images(part.pixels, self.generator.device)
        if way.start in ("nearest", "regression") and self.samples is None:
            self.samples = Samples(self.generator, self.distance, None, None)
        self._start(way.start, shown[:1])  # what is done once per network is done now
        clock, curve, told = _Clock(self.generator.device), [], 0

        def look(code: Code) -> None:
            curve.append([clock.seconds / len(shown), *self._measure(code, shown)])

        def after(step: Step) -> None:
            nonlocal told
            clock.stop()
            if step.number in LOOKS:
                look(step.code.without_noise())
            progress(len(shown))
            told += len(shown)
            clock.go_on()

        code, evaluations = self._start(way.start, shown), 0.0
        if way.steps and way.start not in AT_ONCE:
            clock.stop()
            look(code)
            clock.go_on()
        if way.steps:
            method = "z" if self.space == "z" else "w"
            fit = base.fit(method, self.generator, shown, self.distance, code, self._options(way), after)
            code, evaluations = fit.code.without_noise(), np.mean(fit.notes["evaluations"])
        clock.stop()
        look(code)
        images = base.rendered(self.generator, code)
        progress(part.work - told)
        numbers = {"seconds": clock.seconds / len(shown), "evaluations": evaluations}
        values = base.metrics(part.pixels, images, self.lpips)
        return {"images": images, "curve": np.array(curve), **{k: np.float64(v) for k, v in numbers.items()}, **values}

    def _measure(self, code: Code, shown: torch.Tensor) -> tuple[float, float]:
        """The mean LPIPS and PSNR of codes, before the pictures are rounded."""
        with torch.no_grad():
            images = self.generator.render(code).clamp(-1, 1)
            errors = (images - shown).square().mean(dim=[1, 2, 3])
            return float(self.lpips.between(shown, images).mean()), float((-10 * (errors / 4).log10()).mean())

    def _options(self, way: Way) -> dict[str, Any]:
        if way.optimiser == "fast":
            preset = METHODS["fast-z" if self.space == "z" else "fast-w+"].preset
            left_out = {"loss"} if "v" in self.generator.spaces else {"loss", "prior_weight"}
            return {**{key: value for key, value in preset.items() if key not in left_out}, "steps": way.steps}
        options: dict[str, Any] = {"steps": way.steps, "optimizer": "lbfgs" if way.optimiser == "lbfgs" else "adam"}
        if self.space != "z":
            return {**options, "initial_noise_factor": 0.0, "noise_maps": "fixed"}
        return {**options, "clip": "stochastic"} if way.optimiser == "clipped" else options

    def _start(self, start: str, shown: torch.Tensor) -> Code:
        generator, space = self.generator, self.space
        if start in self.encode:
            return self.encode[start](shown)
        if start == "mean":
            return joined([generator.center(space)] * len(shown))
        if start == "de":
            with torch.no_grad():
                assert self.net.direction is not None
                code = Code("z", {"z": self.net.direction.to(generator.device).invert(shown)})
        elif start == "random":
            (shape,) = generator.code_shapes("z").values()
            random = torch.Generator().manual_seed(0)
            code = Code("z", {"z": generator.prior.sample([len(shown), *shape], random).to(generator.device)})
        elif self.samples is None:
            raise ValueError(f"the start {start!r} needs samples of the network")
        elif start == "nearest":
            code = self.samples.nearest(shown, "z")
        else:
            code = self.samples.regressed(shown, "z" if space == "z" else "w")
        return generator.convert(code, space)


def _row(parts: Sequence[base.Arrays], pictures: np.ndarray) -> dict[str, float]:
    """Means over the pictures of one set."""
    row = {key: float(base.stacked(parts, key).mean()) for key in MEASURES}
    if len(pictures) >= FEWEST:
        features = PictureFeatures("cpu")
        of = [features.of([torch.from_numpy(x)]) for x in (pictures, base.stacked(parts, "images"))]
        row["frechet"] = float(frechet_distance(*of))
    for key, times in (("evaluations", 1), ("seconds", TIMED)):
        row[key] = times * float(np.average([part[key] for part in parts], weights=_sizes(parts)))
    return row


def _line(parts: Sequence[base.Arrays]) -> dict[str, list[float]]:
    """The curve of one way on one set; parts that ended earlier than others keep their last values."""
    length = max(len(part["curve"]) for part in parts)
    ends = [part["curve"][np.arange(length).clip(max=len(part["curve"]) - 1)] for part in parts]
    return dict(zip(("seconds", "lpips", "psnr"), np.average(ends, axis=0, weights=_sizes(parts)).T.tolist()))


def _sizes(parts: Sequence[base.Arrays]) -> list[int]:
    return [len(part["images"]) for part in parts]


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    return base.table_of_sets(results, COLUMNS)
