"""The experiments of Wulff & Torralba, section 4: truncation and compression at equal Fréchet distance, and artefacts.

Truncation with psi moves w towards its mean. Compression takes the logarithm of those principal components of v that exceed a
limit set by tau. Both make pictures more alike and nearer to the data. The study compares them at equal distance from the data.
It also flags artefacts, by the discriminator or by neighbours among real pictures, and shows what the flagged codes have in
common.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..analysis.distribution import BATCH, PictureFeatures, frechet_distance, logits, rounded, stored_pictures
from ..analysis.plots import figure, write_figure
from ..analysis.sheets import sheet
from ..errors import StyleganInvertError
from ..files import plain
from ..files.arrays import read_npy
from ..files.door import PART
from ..files.writing import atomic
from ..generator import Adapter, Code
from ..media.picture_set import PictureSet
from ..media.pictures import write_png
from ..network_files.file import NetworkFile
from . import base
from .prior import drawn

COMPONENTS = 30  # the number of principal components in Figure 5
NEIGHBOURS = 3  # the realism score takes the distance to the third-nearest neighbour
COLUMNS = 8  # the number of samples in Figure 4
FLAGS = ("discriminator", "neighbours")


class Correction(NamedTuple):
    """A change that is made to codes before they are rendered.

    Attributes:
        kind: "truncation", "compression" or "none".
        value: psi or tau.
    """

    kind: str
    value: float = 1.0

    def __call__(self, generator: Adapter, code: Code) -> Code:
        if self.kind == "none":
            return code
        return (generator.truncated if self.kind == "truncation" else generator.compressed)(code, self.value)


PLAIN = Correction("none")
Curve = Sequence[tuple[float, float]]
"""Points (psi or tau, Fréchet distance)."""


def run(
    net: NetworkFile,
    outdir: str | os.PathLike,
    data: PictureSet,
    *,
    samples: int = 10000,
    truncations: Sequence[float] = (1, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5),
    compressions: Sequence[float] = (3, 2, 1.5, 1.2, 1, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1),
    compared: int = 1024,
    shown: float = 0.7,
    flag: str | None = None,
    share: float = 0.05,
    seed: int = 0,
    device: torch.device | str = "cpu",
    counting: base.Counting = base.uncounted,
) -> dict[str, Any]:
    """Compare truncation and compression at equal distance from the data.

    Args:
        net: a network with a V space, without classes.
        outdir: the study's folder; see `studies.base`.
        data: real pictures, as `base.picture_set` reads them.
        samples: the number of pictures for each Fréchet distance.
        truncations: the values of psi to measure.
        compressions: the values of tau to measure.
        compared: the number of pictures whose similarity and diversity are measured.
        shown: Figure 4 shows the psi nearest to this.
        flag: how artefacts are detected, one of `FLAGS`: by the discriminator's value, or by the realism score of
            nearest neighbours. None takes the discriminator if the file has one.
        share: the share of samples that are flagged.
        seed: the random seed for the samples.
        device: where to compute.
        counting: shows the progress.

    Returns:
        The contents of results.json.

    Raises:
        StyleganInvertError: the network has classes, it has no discriminator and ``flag`` asks for one, or the folder
            holds another study.
        ValueError: the network has no V.
    """
    flag = _flag(net, flag)
    generator = base.find_gaussian(base.generator_of(net, device), counting)
    first = base.hashes({"real": base.first_pictures(data, generator, 100)})
    settings: dict[str, Any] = {"network": net.sha256, "data": first, "real": len(data.names), "samples": samples}
    settings |= {"compared": compared, "seed": seed, "flag": flag, "share": share}
    folder = base.begin(outdir, settings)
    features = PictureFeatures(generator.device)
    code = drawn(generator, max(samples, compared), mixed=False, seed=seed)
    values = {"truncation": truncations, "compression": compressions}
    real, measured = _measure(generator, code[:samples], data, values, features, folder / "parts", counting)
    few = code[:compared]
    D = net.D.to(generator.device) if net.D is not None else None
    uncorrected = pictures_of(generator, few, PLAIN)
    before = features.of(_batches(uncorrected))
    scores = logits(D, uncorrected) if D is not None else None
    judged = scores if scores is not None and flag == "discriminator" else realism_scores(before, real)
    flagged = judged <= judged.quantile(share)

    def compare(correction: Correction) -> dict[str, float]:
        after = pictures_of(generator, few, correction)
        row = {"value": correction.value, "diversity": diversity(after)}
        row["similarity"] = similarity(before, features.of(_batches(after)))
        return row | (_mean_logits(logits(D, after), flagged) if D is not None else {})

    rows: list[dict[str, Any]] = []
    for psi, tau, distance in aligned(measured["truncation"], measured["compression"]):
        pair = (Correction("truncation", psi), Correction("compression", tau))
        rows.append({"frechet": distance, **{one.kind: compare(one) for one in pair}})
    results: dict[str, Any] = {**settings, "curves": measured, "aligned": rows, "diversity": diversity(uncorrected)}
    results["components"] = components(generator, few, flagged)
    if scores is not None:
        results |= _mean_logits(scores, flagged)
    if rows:
        nearest = min(rows, key=lambda row: abs(row["truncation"]["value"] - shown))
        _write_figure4(folder, generator, few, uncorrected, nearest)
        write_figure(folder / "figure6.png", figure6(**measured, rows=rows))
    write_figure(folder / "figure5.png", figure5(results["components"]))
    return base.finish(folder, results, table(results))


def _flag(net: NetworkFile, flag: str | None) -> str:
    if flag is None:
        return "discriminator" if net.D is not None else "neighbours"
    if flag not in FLAGS:
        raise StyleganInvertError(f"flag is {flag!r}; expected one of {', '.join(FLAGS)}")
    if flag == "discriminator" and net.D is None:
        raise StyleganInvertError(
            f"{net.file}: it has no discriminator, which --flag discriminator needs; take --flag neighbours"
        )
    return flag


def _measure(
    generator: Adapter,
    code: Code,
    data: PictureSet,
    values: Mapping[str, Sequence[float]],
    features: PictureFeatures,
    folder: Path,
    counting: base.Counting,
) -> tuple[torch.Tensor, dict[str, list[tuple[float, float]]]]:
    """The features (N, F) of real pictures, and the `Curve` of each kind of correction.

    Files from an earlier run are reused.
    """
    folder.mkdir(exist_ok=True)
    corrections = [Correction(kind, value) for kind, some in values.items() for value in some]
    curves: dict[str, list[tuple[float, float]]] = {kind: [] for kind in values}

    def real_features(path: Path) -> None:
        np.save(path, features.of(stored_pictures(data)).numpy())

    with counting(len(corrections) + 1, "distances") as progress:
        real = torch.from_numpy(read_npy(_made(folder / "real.npy", real_features), PART))
        progress(1)
        for correction in corrections:

            def distance(path: Path, correction: Correction = correction) -> None:
                path.write_text(json.dumps(frechet_distance(real, features_of(generator, code, correction, features))))

            path = _made(folder / f"{correction.kind}-{correction.value:g}.json", distance)
            curves[correction.kind].append((correction.value, plain.read_json(path, PART, plain.number())))
            progress(1)
    return real, curves


def _made(path: Path, write: Callable[[Path], None]) -> Path:
    """Return the path, after writing the file if it is missing."""
    if not path.exists():
        with atomic(path) as temporary:
            write(temporary)
    return path


def _corrected(generator: Adapter, code: Code, correction: Correction) -> Iterator[torch.Tensor]:
    """Corrected pictures (<= 64, C, R, R) uint8 at a time."""
    for first in range(0, len(code), BATCH):
        with torch.no_grad():
            x = generator.render(correction(generator, code[first : first + BATCH]))
        yield rounded(x)


def pictures_of(generator: Adapter, code: Code, correction: Correction) -> np.ndarray:
    """Corrected pictures (N, C, R, R) uint8."""
    return torch.cat(list(_corrected(generator, code, correction))).numpy()


def features_of(generator: Adapter, code: Code, correction: Correction, features: PictureFeatures) -> torch.Tensor:
    """Features (N, F) of corrected pictures."""
    return features.of(_corrected(generator, code, correction))


def _batches(pictures: np.ndarray) -> Sequence[torch.Tensor]:
    return torch.from_numpy(pictures).split(BATCH)


def aligned(truncations: Curve, compressions: Curve) -> list[tuple[float, float, float]]:
    """For each psi the tau with the same Fréchet distance.

    Args:
        truncations: points (psi, distance) that were measured.
        compressions: points (tau, distance) that were measured. Between neighbours the distance is taken to be linear in the
            logarithm of tau.

    Returns:
        (psi, tau, distance) for every psi whose distance lies between those of two neighbouring tau. Where there are several
        such tau, the weakest compression is taken.
    """
    points = []
    steps = sorted(compressions, reverse=True)
    for psi, distance in sorted(truncations, reverse=True):
        for (a, da), (b, db) in zip(steps, steps[1:]):
            if min(da, db) <= distance <= max(da, db) and da != db:
                share = (distance - da) / (db - da)
                points.append((psi, float(np.exp(np.log(a) + share * (np.log(b) - np.log(a)))), distance))
                break
    return points


def diversity(pictures: np.ndarray) -> float:
    """The standard deviation of a pixel over pictures (N, C, R, R) uint8, the mean over pixels, on the scale [0, 255]."""
    return float(pictures.astype(np.float64).std(axis=0).mean())


def similarity(features: torch.Tensor, others: torch.Tensor) -> float:
    """The mean cosine between features (N, F) of pictures and of their corrections (N, F).

    The mean of `features` is subtracted from both, so unrelated pictures give 0 and unchanged pictures give 1.
    """
    mean = features.mean(dim=0)
    return float(torch.nn.functional.cosine_similarity(features - mean, others - mean, dim=1).mean())


def realism_scores(features: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """The realism scores of pictures: how near their features lie to those of real pictures.

    For a real picture r let radius(r) be the distance to its third-nearest real neighbour. The score of x is the
    maximum of radius(r) / distance(r, x), over the half of the real pictures with the smallest radii.

    Args:
        features: the features (N, F) of the pictures.
        real: the features (M, F) of the real pictures.

    Returns:
        The scores (N,); higher is more realistic.

    Source: Kynkäänniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models" (2019), section
    4.
    """
    radii = torch.cat([torch.cdist(part, real).kthvalue(NEIGHBOURS + 1, dim=1).values for part in real.split(1000)])
    dense = radii <= radii.median()
    real, radii = real[dense], radii[dense]
    parts = [(radii / torch.cdist(part, real).clamp_min(1e-12)).amax(dim=1) for part in features.split(1000)]
    return torch.cat(parts)


def _mean_logits(scores: torch.Tensor, flagged: torch.Tensor) -> dict[str, float]:
    return {"logit": float(scores.mean()), "logit_flagged": float(scores[flagged].mean())}


def components(generator: Adapter, code: Code, flagged: torch.Tensor) -> dict[str, list[float]]:
    """The mean size of the first principal components of V, of flagged and of other codes in W: Figure 5.

    Args:
        generator: the network's adapter.
        code: codes (N) in W.
        flagged: (N,) bool, True for codes that are flagged.

    Returns:
        "flagged", "others", and "deviation", the standard deviation along each axis.
    """
    gaussian = generator.gaussian()
    size = gaussian.components(code.tensors["w"]).abs().cpu()[:, :COMPONENTS]
    return {
        "flagged": size[flagged].mean(dim=0).tolist(),
        "others": size[~flagged].mean(dim=0).tolist(),
        "deviation": gaussian.deviations.cpu()[:COMPONENTS].tolist(),
    }


def _write_figure4(folder: Path, generator: Adapter, code: Code, uncorrected: np.ndarray, row: dict[str, Any]) -> None:
    """Samples, the mean picture and twice the deviation of each pixel: uncorrected, truncated and compressed as in ``row``."""
    pair = [Correction(kind, row[kind]["value"]) for kind in ("truncation", "compression")]
    lines = []
    for pictures in (uncorrected, *(pictures_of(generator, code, one) for one in pair)):
        deviation = pictures.astype(np.float64).std(axis=0) * 2
        summary = [np.round(x).clip(0, 255).astype(np.uint8) for x in (pictures.mean(axis=0), deviation)]
        lines.append([*pictures[:COLUMNS], *summary])
    write_png(folder / "figure4.png", sheet(lines, 64))


def figure5(sizes: dict[str, list[float]]) -> Any:
    """`components` as a figure."""
    drawing, (axes,) = figure(1, 2, side=3, ratio=1.3)
    top = 1.05 * max(max(sizes[key]) for key in ("flagged", "others", "deviation"))
    for ax, key, title in zip(axes, ("flagged", "others"), ("flagged", "not flagged")):
        ax.bar(range(1, len(sizes[key]) + 1), sizes[key])
        ax.plot(range(1, len(sizes[key]) + 1), sizes["deviation"], "--", color="black", label="one standard deviation")
        ax.set_ylim(0, top)
        ax.set_title(title)
        ax.set_xlabel("principal component of V")
        ax.legend(fontsize="small")
    return drawing


def figure6(truncation: Curve, compression: Curve, rows: Sequence[dict[str, Any]]) -> Any:
    """Fréchet distance over psi and tau, and similarity at equal distance."""
    drawing, (axes,) = figure(1, 3, side=3, ratio=1.2)
    for ax, curve, name in zip(axes, (truncation, compression), ("ψ", "τ")):
        ax.plot(*zip(*sorted(curve)), "o-")
        ax.invert_xaxis()
        ax.set_xlabel(name)
        ax.set_ylabel("Fréchet distance")
    for kind, colour in (("truncation", "tab:red"), ("compression", "tab:blue")):
        at = [(row["frechet"], row[kind]["similarity"]) for row in rows]
        axes[2].plot(*zip(*sorted(at)), "o-", color=colour, label=kind)
    axes[2].set_xlabel("Fréchet distance")
    axes[2].set_ylabel("similarity to the uncorrected picture")
    axes[2].legend()
    return drawing


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    judged = "logit" in results
    lines = [
        "| Fréchet | ψ | τ | diversity, ψ | diversity, τ | similarity, ψ | similarity, τ |"
        + (" discriminator, flagged, ψ | τ |" if judged else ""),
        "|---:" * (9 if judged else 7) + "|",
        f"| | uncorrected | | {results['diversity']:.2f} | | | |"
        + (f" {results['logit_flagged']:.2f} | |" if judged else ""),
    ]
    for row in results["aligned"]:
        a, b = row["truncation"], row["compression"]
        lines.append(
            f"| {row['frechet']:.2f} | {a['value']:.3g} | {b['value']:.3g} | {a['diversity']:.2f} | {b['diversity']:.2f} "
            f"| {a['similarity']:.3f} | {b['similarity']:.3f} |"
            + (f" {a['logit_flagged']:.2f} | {b['logit_flagged']:.2f} |" if judged else "")
        )
    c = results["components"]
    ratio = sum(c["flagged"]) / sum(c["others"])
    lines += [
        "",
        f"Diversity: mean deviation of a pixel over {results['compared']:,} pictures, of 255. Similarity: mean cosine of SqueezeNet's "
        "features, after subtracting the mean over the uncorrected pictures.",
        f"The first {len(c['flagged'])} principal components of flagged samples ({results['share']:.0%}, by {results['flag']}) are "
        f"{ratio:.3f} times those of the others, on average.",
    ]
    for name, kind in (("ψ", "truncation"), ("τ", "compression")):
        points = ", ".join(f"{value:g}: {distance:.2f}" for value, distance in results["curves"][kind])
        lines.append(f"Fréchet distance at {name}: {points}.")
    return "\n".join(lines) + "\n"
