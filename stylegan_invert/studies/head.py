"""How a direction head is best trained: short trainings of equal length, each with one setting changed.

Each row of the table is a setting, trained once for each of some seeds and then measured: how well one pass of the
discriminator finds latents, and how good the generator's pictures are. Without a network, the rows change one setting of a
small training from random weights. With a network whose discriminator has no head, they are ways to give it one.

Source of what is compared: Cho, "Inverting generator of GAN through direction embedding discriminator".
"""

import dataclasses
import functools
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from ..analysis.distribution import PictureFeatures, kid
from ..analysis.distribution import generated_pictures as batches_of_pictures
from ..analysis.plots import write_figure
from ..errors import StyleganInvertError
from ..generator import Code, adapt
from ..io.codes import write_codes
from ..losses import SqueezeLPIPS
from ..media.picture_set import PictureSet
from ..media.pictures import as_images
from ..network_files.file import NetworkFile, load
from ..training.architectures.stylegan2 import settings_of
from ..training.configs import SAMPLINGS, Options
from ..training.gan import train
from . import base, spherical
from .direction import angles, generated_pictures

SIZES = {"z_dim": 127, "w_dim": 64, "channel_base": 256, "channel_max": 64}
"""The sizes of the small networks, in which the rows of `ROWS` are compared."""

LPIPS_SIDE = 32  # smaller pictures are enlarged to this before LPIPS is computed
REAL_FEATURES = 3000  # training pictures, at most, with which generated ones are compared


class Row(NamedTuple):
    """A setting.

    Attributes:
        title: its words in the table.
        changes: fields of `training.configs.Options` that differ from those of the first row.
        later: the share of the training after which ``embedding_weight_later`` applies.
        attached: True for a training that begins with the network's weights.
    """

    title: str
    changes: dict[str, Any] = {}
    later: float = 0.5
    attached: bool = False


def _sampling(name: str) -> dict[str, bool]:
    return dict(zip(("normalize_z", "uniform_z"), SAMPLINGS[name]))


ROWS = {
    "base": Row("λ_emb 1, then 10 from half of the training on; z of 127, normalised; NSGAN + R1; head for both"),
    "none": Row("without a head", {"head": "none"}),
    "weight-1": Row("λ_emb 1 always", {"embedding_weight_later": 1}),
    "weight-10": Row("λ_emb 10 always", {"embedding_weight": 10}),
    "early": Row("λ_emb 1, then 10 from a quarter on", later=0.25),
    "weight-30": Row("λ_emb 1, then 30 from half on", {"embedding_weight_later": 30}),
    "discriminator": Row("head for D only", {"embedding_for": "discriminator"}),
    "z-31": Row("z of 31", {"z_dim": 31}),
    "z-511": Row("z of 511", {"z_dim": 511}),
    "angles": Row("the paper's sampling, N(0, 1)", _sampling("angles")),
    "uniform": Row("the paper's sampling, U(-1, 1)", _sampling("uniform")),
    "lsgan": Row("LSGAN + R1", {"loss": "lsgan"}),
    "wgan-gp": Row("WGAN-GP", {"loss": "wgan-gp"}),
    "hinge": Row("hinge + R1", {"loss": "hinge"}),
}
"""The settings that are compared in trainings from random weights. The first is what the others are compared with."""

ATTACHED = {
    "scratch": Row("from the start, λ_emb 1"),
    "attach-head": Row("attached, head alone", {"train": "head"}, attached=True),
    "attach-discriminator": Row("attached, discriminator", {"train": "discriminator"}, attached=True),
    "attach-all": Row("attached, all", {"train": "all"}, attached=True),
}
"""The settings that are compared for a network."""

COLUMNS = {
    "angle": ("angle, degrees", 1),
    "constant": ("of the best constant guess", 1),
    "generated": ("LPIPS, generated", 3),
    "real": ("LPIPS, held-out", 3),
    "kid": ("KID", 3),
    "seconds": ("CPU seconds", 0),
}
"""The table's columns: the title of a value, and its digits. `measure` says what they are."""


def run(
    net: NetworkFile | None,
    outdir: str | os.PathLike,
    *,
    source: str,
    span: tuple[int, int] = (0, 15300),
    held: int = 300,
    rows: Sequence[str] = (),
    resolution: int = 16,
    kimg: float = 20,
    seeds: int = 2,
    generated: int = 300,
    device: torch.device | str = "cpu",
    counting: base.Counting = base.uncounted,
) -> dict[str, Any]:
    """Train and measure each setting.

    Args:
        net: a StyleGAN2 without classes whose discriminator has no head, for `ATTACHED`; None for `ROWS`.
        outdir: the study's folder; see `studies.base`. It also gets the figure ``spherical.png``.
        source: a dataset zip or folder.
        span: train with the pictures from the first to, not including, the second, each also mirrored.
        held: the number of pictures after these by which one pass is measured, at most.
        rows: which settings, by name; none takes all.
        resolution: the side of the pictures without ``net``.
        kimg: thousands of pictures of each training.
        seeds: the number of trainings of each setting.
        generated: the number of generated pictures by which one pass is measured; twice as many are compared with real ones.
        device: where to compute.
        counting: shows the progress.

    Returns:
        The contents of results.json. "rows" has for each setting the values of `measure`, one for each seed; "spread" the
        standard deviation of a value from one seed to another, pooled over settings, if there are several seeds.

    Raises:
        StyleganInvertError: a name in ``rows`` is unknown, the network is not as it must be, or the folder holds another study.
        TrainingError: the pictures cannot be read.
    """
    known = ROWS if net is None else ATTACHED
    if unknown := [name for name in rows if name not in known]:
        raise StyleganInvertError(f"there is no setting {unknown[0]!r} here; expected some of {', '.join(known)}")
    if net is not None and (net.G.c_dim or net.direction is not None):
        raise StyleganInvertError(
            f"{net.file}: it has classes or a head already; this study is for networks with neither"
        )
    chosen = [name for name in known if name in rows or not rows]
    channels, side = (3, resolution) if net is None else adapt(net.G).output_shape[:2]
    data = PictureSet(source, side, channels, mirror=True, first=span[0], last=span[1])
    unseen = PictureSet(source, side, channels, first=span[1], last=span[1] + held)
    for one in (data, unseen):
        one.check()
    shown = {"real": unseen.pictures(range(len(unseen)))}
    settings: dict[str, Any] = {"network": None if net is None else net.sha256, "device": str(torch.device(device))}
    settings |= {"data": base.hashes({**shown, "training": data.pictures(range(min(100, len(data))))})}
    settings |= {"pictures": [len(data.names), len(unseen)], "resolution": side, "kimg": kimg, "seeds": seeds}
    settings |= {"generated": generated, "rows": chosen}
    folder = base.begin(outdir, settings)
    parts = folder / "parts"
    parts.mkdir(exist_ok=True)
    meter = Meter(data, shown["real"], generated, device)
    values: dict[str, dict[str, list[float]]] = {name: {} for name in chosen}
    with counting(seeds * len(chosen), "trainings") as progress:
        for seed in range(seeds):
            for name in chosen:
                path = parts / f"{name}-{seed}.npz"
                if not path.exists():
                    write_codes(path, trained(known[name], net, data, kimg, seed, device, meter))
                for key, value in base.read_part(path).items():
                    values[name].setdefault(key, []).append(float(value))
                progress(1)
    results = {**settings, "rows": {name: {"title": known[name].title, **values[name]} for name in chosen}}
    results["spread"] = spread(values.values())
    results["spherical"] = spherical.compare()
    write_figure(folder / "spherical.png", spherical.draw(results["spherical"]))
    return base.finish(folder, results, table(results))


def trained(
    row: Row,
    net: NetworkFile | None,
    data: PictureSet,
    kimg: float,
    seed: int,
    device: torch.device | str,
    meter: "Meter",
) -> base.Arrays:
    """Train with one setting and measure the network: the values of `Meter.measure`, and "seconds" of the training."""
    options = options_of(row, net, data, kimg, seed)
    clock = time.process_time if torch.device(device).type == "cpu" else time.perf_counter
    with tempfile.TemporaryDirectory() as folder:
        began = clock()
        start = net if row.attached else None
        file = train(data, options, Path(folder) / "run", device, start=start, snapshot_ticks=10**6, metric_samples=0)
        seconds = clock() - began
        values = {**meter.measure(load(file)), "seconds": seconds}
    return {key: np.array(value) for key, value in values.items()}


def options_of(row: Row, net: NetworkFile | None, data: PictureSet, kimg: float, seed: int) -> Options:
    """The options of one training.

    A network that is trained from the start beside an attached one has its sizes, and a discriminator that does not compare
    the pictures of a batch.
    """
    settings: dict[str, Any] = {
        "head": "direction",
        "kimg": kimg,
        "seed": seed,
        "embedding_later_kimg": kimg * row.later,
    }
    if net is None:
        settings |= SIZES
    else:
        sizes = settings_of(net)
        if not row.attached:
            kept = ("z_dim", "w_dim", "mapping_layers", "channel_base", "channel_max")
            sizes = {name: sizes[name] for name in kept if name in sizes}
        settings |= {key: value for key, value in sizes.items() if key not in ("resolution", "channels")}
        settings["embedding_weight_later"] = 1
    settings |= row.changes
    options = Options.for_resolution(data.resolution, channels=data.channels, **settings)
    # The official 10 thousand pictures are a large part of these trainings.
    return dataclasses.replace(options, ema_kimg=min(options.ema_kimg, kimg / 20))


class Meter:
    """Measures trained networks.

    Args:
        data: the training set.
        real: pictures (N, C, R, R) uint8 on which no network is trained.
        generated: the number of generated pictures.
        device: where to compute.
    """

    def __init__(self, data: PictureSet, real: np.ndarray, generated: int, device: torch.device | str):
        self.data, self.real, self.generated, self.device = data, real, generated, torch.device(device)
        self.lpips = SqueezeLPIPS().to(self.device)
        self._features = PictureFeatures(self.device)

    @functools.cached_property
    def _of_real(self) -> torch.Tensor:
        """The features (N, 512) of training pictures."""
        chosen = np.random.RandomState(0).permutation(len(self.data))[:REAL_FEATURES]
        parts = np.array_split(chosen, -(-len(chosen) // 64))
        return self._features.of(torch.from_numpy(self.data.pictures(part)) for part in parts)

    def measure(self, net: NetworkFile) -> dict[str, float]:
        """Measure a network without classes.

        Returns:
            "kid", the kernel distance from the training set. For a network with a head also "angle", the mean angle in degrees
            between the embedding of generated pictures and their latents; "constant", that of the best constant guess; and
            "generated" and "real", the mean LPIPS of one pass on generated and on real pictures, divided by that of random
            pairs of these pictures.
        """
        generator = base.generator_of(net, self.device)
        made = self._features.of(batches_of_pictures(generator, 2 * self.generated, seed=1))
        values = {"kid": kid(self._of_real, made)[0]}
        if net.direction is None:
            return values
        D = net.direction.to(self.device)
        shown, z = generated_pictures(generator, self.generated, seed=2)
        found = {"generated": self._embedded(D, shown), "real": self._embedded(D, self.real)}
        means = angles(D.to("cpu"), found["generated"], z)
        values |= {"angle": means["found"], "constant": means["best constant"]}
        for name, pictures in (("generated", shown), ("real", self.real)):
            with torch.no_grad():
                z = D.latents(torch.from_numpy(found[name]))
            again = base.rendered(generator, Code("z", {"z": z.to(self.device)}))
            half = len(pictures) // 2
            pairs = self._distance(pictures[:half], pictures[half : 2 * half])
            values[name] = self._distance(pictures, again) / pairs
        return values

    def _embedded(self, D: Any, pictures: np.ndarray) -> np.ndarray:
        """The unit vectors (N, n) that a discriminator finds in pictures."""
        with torch.no_grad():
            parts = as_images(pictures, self.device).split(64)
            return torch.cat([D.embed(part).direction for part in parts]).cpu().numpy()

    def _distance(self, a: np.ndarray, b: np.ndarray) -> float:
        """The mean LPIPS of pairs of pictures."""

        def enlarged(x: torch.Tensor) -> torch.Tensor:
            side = max(LPIPS_SIDE, x.shape[2])
            return F.interpolate(x, [side, side], mode="bilinear", align_corners=False)

        pairs = zip(as_images(a, self.device).split(64), as_images(b, self.device).split(64))
        with torch.no_grad():
            return float(torch.cat([self.lpips.between(enlarged(x), enlarged(y)) for x, y in pairs]).mean())


def spread(rows: Any) -> dict[str, float]:
    """The standard deviation of each value from one seed to another, pooled over settings; empty for a single seed."""
    result = {}
    for key in COLUMNS:
        variances = [np.var(row[key], ddof=1) for row in rows if len(row.get(key, ())) > 1]
        if variances:
            result[key] = float(np.sqrt(np.mean(variances)))
    return result


def table(results: dict[str, Any]) -> str:
    """The results as Markdown: a row for each setting, and a table of the two transforms.

    An asterisk stands at means that differ from those of the first row by more than three times the pooled standard deviation.
    For two seeds that is the standard deviation of such a difference, too.
    """
    rows, scale = results["rows"], results["spread"]
    first = next(iter(rows.values()))
    titles = " | ".join(title for title, _ in COLUMNS.values())
    lines = [f"| {results['kimg']:g} thousand pictures, {results['resolution']}×{results['resolution']} | {titles} |"]
    lines += ["|---" + "|---:" * len(COLUMNS) + "|"]
    for row in rows.values():
        cells = []
        for key, (_, digits) in COLUMNS.items():
            if key not in row:
                cells.append("")
                continue
            mean = np.mean(row[key])
            far = key in scale and key in first and abs(mean - np.mean(first[key])) > 3 * scale[key]
            around = f" ± {(max(row[key]) - min(row[key])) / 2:.{digits}f}" if len(row[key]) > 1 else ""
            star = "*" if far and key not in ("constant", "seconds") else ""
            cells.append(f"{mean:.{digits}f}{around}{star}")
        lines.append(f"| {row['title']} | {' | '.join(cells)} |")
    if scale:
        deviations = ", ".join(f"{COLUMNS[key][0]} {value:.{COLUMNS[key][1] + 1}f}" for key, value in scale.items())
        lines += ["", f"Standard deviation from one seed to another, pooled over the rows: {deviations}."]
    lines += ["", *spherical.table(results["spherical"])]
    return "\n".join(lines) + "\n"
