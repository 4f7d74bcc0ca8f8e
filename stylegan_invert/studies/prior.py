"""The experiments of Wulff & Torralba, section 3, on any network with a V space: inversion with and without the prior.

The paper is "Improving Inversion and Generation Diversity in StyleGAN using a Gaussianized Latent Space". V is W before the last
leaky ReLU of the mapping network, where the codes are nearly Gaussian; the prior is the squared Mahalanobis distance there.
"""

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..analysis.distribution import PictureFeatures, generated_pictures, quality
from ..analysis.paths import between, latent_distances, line_errors
from ..analysis.plots import curves as draw_curves
from ..analysis.plots import write_figure
from ..analysis.sheets import sheet
from ..errors import StyleganInvertError
from ..generator import Adapter, Code, StyleAdapter, joined
from ..losses import Distance, SqueezeLPIPS
from ..media.picture_set import PictureSet
from ..media.pictures import as_images, write_png
from ..network_files.file import NetworkFile
from ..projectors.v_prior import v_prior
from . import base

WEIGHT = 1e-4  # the paper's weight of the prior
HISTORY = 100  # the number of distances of a search that are kept
ALPHAS = np.linspace(0, 1, 11)  # the points of an interpolation
RATES = {"w": 0.1, "w+": 0.05, "v": 0.1, "v+": 0.05}  # the paper's learning rates
TITLES = {"w": "W", "w+": "W+", "v": "V, whitened", "v+": "V+, whitened"}
SETS = {"real": "R", "single": "G", "mixed": "G+"}  # the paper's names
PAPER = {
    "lpips": {
        "w": {"real": [0.29, 0.22, 0.34, 0.32], "single": [0.07, 0.12, 0.27, 0.11]},
        "w prior": {"real": [0.35, 0.27, 0.40, 0.39], "single": [0.05, 0.04, 0.22, 0.14]},
        "w+": {"real": [0.15, 0.11, 0.15, 0.13], "mixed": [0.06, 0.06, 0.11, 0.07]},
        "w+ prior": {"real": [0.20, 0.15, 0.22, 0.21], "mixed": [0.05, 0.05, 0.17, 0.09]},
    },
    "w": {
        "w": {"single": [18.00, 32.53, 50.14, 37.69]},
        "w prior": {"single": [3.10, 5.50, 20.40, 15.66]},
        "w+": {"mixed": [227.65, 316.28, 493.26, 414.96]},
        "w+ prior": {"mixed": [31.02, 59.64, 151.23, 101.55]},
    },
}
"""Tables 1 and 2: faces, cars, horses, churches. In Table 2 the scan has lost a column's rule (W: 18.00, 32.53, 50.14, 37.69)."""

CLASSES = ("faces", "cars", "horses", "churches")


class Way(NamedTuple):
    """One row of the table.

    Attributes:
        space: "w", "w+", "v" or "v+".
        weight: the weight of the prior.
        steps: the number of steps of the search.
    """

    space: str
    weight: float
    steps: int

    @property
    def name(self) -> str:
        """The row's name in results.json, and in the names of files."""
        return f"{self.space}-{self.weight:g}"

    @property
    def title(self) -> str:
        """The row's name in figures."""
        return TITLES[self.space] + (f" + prior {self.weight:g}" if self.weight else "")

    @property
    def options(self) -> dict[str, Any]:
        """The paper's options: the official schedules, and noise maps fixed."""
        rate = RATES[self.space]
        return {
            "steps": self.steps,
            "initial_learning_rate": rate,
            "prior_weight": self.weight,
            "noise_maps": "fixed",
        }


class Found(NamedTuple):
    """The result for one set in one way.

    Attributes:
        code: codes (N) in W or W+.
        steps: the numbers of some steps of the search.
        history: the mean distance at these steps.
    """

    code: Code
    steps: list[int]
    history: list[float]


def run(
    net: NetworkFile,
    outdir: str | os.PathLike,
    data: PictureSet | None = None,
    *,
    count: int = 20,
    pairs: int = 80,
    steps: int = 1000,
    steps_plus: int = 10000,
    steps_whitened: int = 1000,
    weights: Sequence[float] = (1e-5, 1e-4, 1e-3),
    loss: str = "lpips-squeeze=1",
    seed: int = 1,
    batch: int = 20,
    device: torch.device | str = "cpu",
    counting: base.Counting = base.uncounted,
) -> dict[str, Any]:
    """Invert pictures with and without the Gaussian prior in V.

    Args:
        net: a network with a V space, without classes.
        outdir: the study's folder; see `studies.base`.
        data: real pictures, as `base.picture_set` reads them; None leaves them out.
        count: the number of pictures of each kind: real, "single" (one w) and "mixed" (another w in every layer).
        pairs: the largest number of pairs of pictures of each kind between which the study interpolates.
        steps: the number of steps in W.
        steps_plus: the number of steps in W+.
        steps_whitened: the number of steps in whitened V and V+.
        weights: the weights of the prior for generated pictures; the paper's weight is always added.
        loss: the distance, by name.
        seed: the random seed for the generated pictures.
        batch: the number of pictures that are optimised side by side, on a CPU too. Each has its own random numbers,
            but its last digits depend on the batch.
        device: where to compute.
        counting: shows the progress.

    Returns:
        The contents of results.json.

    Raises:
        StyleganInvertError: the network has classes or is too small for LPIPS, or the folder holds another study.
        ValueError: the network has no V.
    """
    generator = base.generator_of(net, device)
    if generator.img_resolution < SqueezeLPIPS.min_size:
        raise StyleganInvertError(f"{net.file}: LPIPS needs pictures of at least {SqueezeLPIPS.min_size} pixels a side")
    generator = base.find_gaussian(generator, counting)
    true = {name: drawn(generator, count, name == "mixed", seed) for name in ("single", "mixed")}
    real = {} if data is None else {"real": base.first_pictures(data, generator, count)}
    sets = {**real, **{name: base.rendered(generator, code) for name, code in true.items()}}
    budget = {"w": steps, "w+": steps_plus, "v": steps_whitened, "v+": steps_whitened}
    ways = {name: ways_of(name, weights, budget) for name in sets}
    distance, about_loss = base.distance_of(loss, device)
    settings = {"network": net.sha256, **about_loss, "data": base.hashes(sets), "seed": seed}
    settings |= {"device": str(torch.device(device)), "steps": budget, "weights": list(weights), "batch": batch}
    settings |= {"pictures": {name: len(pictures) for name, pictures in sets.items()}, "pairs": pairs}
    folder = base.begin(outdir, settings, shared=True)
    parts = [
        part
        for name, pictures in sets.items()
        for way in ways[name]
        for part in base.split(name, way, pictures, batch, f"{name}-{way.name}-{{:04d}}.npz")
    ]
    find = functools.partial(invert, generator, distance)
    arrays = base.find_parts(parts, folder / "parts", find, counting)
    found = {name: {way: _found(generator, way, arrays[name, way]) for way in ways[name]} for name in sets}
    rows = {name: _rows(generator, found[name], pictures, true.get(name)) for name, pictures in sets.items()}
    if "real" in sets:
        for way, values in _judge_midpoints(generator, net.D, found["real"]).items():
            rows["real"][way.name]["midpoints"] = values
    results: dict[str, Any] = {
        **settings,
        "sets": rows,
        "curves": _all_curves(generator, true, found, choose_pairs(count, pairs), counting),
        "steps_saved": _steps_saved(found),
    }
    _write_figures(generator, folder, sets, found, results["curves"])
    return base.finish(folder, results, table(results))


def ways_of(name: str, weights: Sequence[float], steps: Mapping[str, int]) -> list[Way]:
    """The ways for a set: "single" is found in W and "mixed" in W+, with every weight; "real" in both, with the paper's.

    Args:
        name: the name of the set.
        weights: the weights of the prior.
        steps: the number of steps for each space, "w", "w+", "v" and "v+".
    """
    spaces = {"real": ("w", "w+"), "single": ("w",), "mixed": ("w+",)}[name]
    chosen = [0.0, *([WEIGHT] if name == "real" else sorted({*weights, WEIGHT}))]
    ways = [Way(space, weight, steps[space]) for space in spaces for weight in chosen]
    return ways + [Way(s, WEIGHT, steps[s]) for s in (space.replace("w", "v") for space in spaces)]


def drawn(generator: StyleAdapter, count: int, mixed: bool, seed: int) -> Code:
    """Codes of generated pictures: in W, or in W+ with another w for each layer."""
    sample = generator.sample_w(None, seed)
    if not mixed:
        return Code("w", {"w": sample(count)}).to(generator.device)
    layers, dimensions = generator.code_shapes("w+")["w"]
    return Code("w+", {"w": sample(count * layers).reshape(count, layers, dimensions)}).to(generator.device)


def invert(generator: Adapter, loss: Distance, part: base.Part, progress: base.Progress) -> base.Arrays:
    """Find the codes of a part's pictures, from the mean.

    Returns:
        "w" (n, ...) of the codes in W or W+, "steps", the numbers of some steps, and "history" (steps, n), the distances
        there.
    """
    way = part.way
    start = joined([generator.center(way.space)] * len(part.pixels))
    shown = as_images(part.pixels, generator.device)
    fit = base.fit("w", generator, shown, loss, start, way.options, lambda step: progress(len(step.distance)))
    code = generator.convert(fit.code, way.space.replace("v", "w"))
    steps = np.linspace(0, way.steps - 1, min(HISTORY, way.steps)).round().astype(int)
    return {"w": code.tensors["w"].cpu().numpy(), "steps": steps, "history": fit.distance[steps].numpy()}


def _found(generator: Adapter, way: Way, parts: Sequence[base.Arrays]) -> Found:
    w = torch.from_numpy(base.stacked(parts, "w")).to(generator.device)
    history = np.concatenate([part["history"] for part in parts], axis=1).mean(axis=1)
    return Found(Code(way.space.replace("v", "w"), {"w": w}), parts[0]["steps"].tolist(), history.tolist())


def errors(generator: Adapter, code: Code, pictures: np.ndarray, true: Code | None) -> dict[str, float]:
    """Means over pictures (N, C, R, R) uint8.

    Returns:
        "lpips" and "psnr" of the rendered codes, "prior", the prior's value per dimension, and, where the true codes are
        known, the distances "w" and "v" of `latent_distances`.
    """
    measured = base.metrics(pictures, base.rendered(generator, code), SqueezeLPIPS())
    with torch.no_grad():
        dimensions = generator.styles(code).shape[1] * generator.gaussian().rank
        result = {"prior": float(v_prior(generator, code).mean()) / dimensions}
    result |= {key: float(np.mean(measured[key])) for key in ("lpips", "psnr")}
    if true is not None:
        away = [latent_distances(generator, a, b) for a, b in zip(code, true)]
        result |= {key: float(np.mean([one[key] for one in away])) for key in ("w", "v")}
    return result


def _rows(
    generator: Adapter, found: Mapping[Way, Found], pictures: np.ndarray, true: Code | None
) -> dict[str, dict[str, Any]]:
    """The `errors` of the mean code and of each way, for one set."""
    mean = joined([generator.center("w")] * len(pictures))
    rows: dict[str, dict[str, Any]] = {"mean": errors(generator, mean, pictures, true)}
    for way, one in found.items():
        rows[way.name] = {**errors(generator, one.code, pictures, true), "steps": way.steps}
    return rows


def choose_pairs(count: int, limit: int) -> list[tuple[int, int]]:
    """At most ``limit`` different pairs of ``count`` things, always the same ones."""
    every = [(i, j) for i in range(count) for j in range(i + 1, count)]
    order = np.random.RandomState(0).permutation(len(every))
    return [every[k] for k in order[:limit]]


def _pairs_of(code: Code, pairs: Sequence[tuple[int, int]]) -> list[tuple[Code, Code]]:
    return [(code[i : i + 1], code[j : j + 1]) for i, j in pairs]


def curves(
    generator: Adapter, code: Code, true: Code, pairs: Sequence[tuple[int, int]], alphas: Sequence[float] | np.ndarray
) -> dict[str, list[float]]:
    """Errors along interpolations between codes that were found, against those between the true ones: Figure 2.

    Returns:
        "alpha", and "lpips", "w" and "v" at each, means over the pairs.
    """
    lpips = SqueezeLPIPS()
    rows = []
    for own, others in zip(_pairs_of(code, pairs), _pairs_of(true, pairs)):
        found, true_line = (between(generator, a, b, alphas) for a, b in (own, others))
        rows.append(line_errors(generator, found, true_line, lpips=lpips))
    means = {key: np.mean([row[key] for row in rows], axis=0).tolist() for key in rows[0]}
    return {"alpha": [float(a) for a in alphas], **means}


def _all_curves(
    generator: Adapter,
    true: Mapping[str, Code],
    found: Mapping[str, Mapping[Way, Found]],
    pairs: Sequence[tuple[int, int]],
    counting: base.Counting,
) -> dict[str, dict[str, dict[str, list[float]]]]:
    """The `curves` of all sets whose true codes are known, by set and way."""
    results: dict[str, dict[str, dict[str, list[float]]]] = {}
    with counting(sum(len(found[name]) for name in true), "interpolations") as progress:
        for name, code in true.items():
            results[name] = {}
            for way, one in found[name].items():
                results[name][way.name] = curves(generator, one.code, code, pairs, ALPHAS)
                progress(1)
    return results


def steps_to(found: Found, distance: float) -> int | None:
    """The first kept step at which the mean distance is as low as ``distance``; None if there is none."""
    return next((step for step, value in zip(found.steps, found.history) if value <= distance), None)


def _steps_saved(found: Mapping[str, Mapping[Way, Found]]) -> dict[str, dict[str, Any]]:
    """For each search in V or V+: when it is as near as the search in W or W+ with the same prior is at its end."""
    saved = {}
    for name, ways in found.items():
        for way in ways:
            if way.space.startswith("v"):
                plain = next(w for w in ways if w.space == way.space.replace("v", "w") and w.weight == way.weight)
                reached = ways[plain].history[-1]
                steps = {plain.space: plain.steps, way.space: steps_to(ways[way], reached)}
                saved[f"{name} {way.space}"] = {"distance": reached, **steps}
    return saved


def _judge_midpoints(
    generator: Adapter, D: torch.nn.Module | None, found: Mapping[Way, Found]
) -> dict[Way, dict[str, float]]:
    """How real the pictures half-way between all pairs of real pictures look, for each way."""
    features = PictureFeatures(generator.device)
    reference = features.of(generated_pictures(generator, 1000, seed=99))
    D = D.to(generator.device) if D is not None else None
    judged = {}
    for way, one in found.items():
        pairs = _pairs_of(one.code, choose_pairs(len(one.code), len(one.code) ** 2))
        judged[way] = quality(base.midpoints(generator, pairs), reference, features, D)
    return judged


def _write_figures(
    generator: Adapter,
    folder: Path,
    sets: Mapping[str, np.ndarray],
    found: Mapping[str, Mapping[Way, Found]],
    error_curves: Mapping[str, Mapping[str, Any]],
) -> None:
    """Figures 2, 3, 7 and 8."""
    for name, pictures in sets.items():
        rows = []
        for i in range(0, min(6, len(pictures) - 1), 2):
            for way in _plain_and_prior(found[name]):
                ((a, b),) = _pairs_of(found[name][way].code, [(i, i + 1)])
                line = base.rendered(generator, joined(between(generator, a, b, ALPHAS)))
                rows.append([pictures[i], *line, pictures[i + 1]])
        write_png(folder / f"figure3-{name}.png", sheet(rows, 64))

    def panel(name: str, ways: Sequence[Way]) -> dict[str, Any]:
        return {way.title: error_curves[name][way.name] for way in ways}

    few = [panel(name, [way for way in found[name] if way.weight in (0, WEIGHT)]) for name in ("single", "mixed")]
    write_figure(folder / "figure2.png", draw_curves(few, ["G, in W", "G+, in W+"]))
    for number, name in ((7, "single"), (8, "mixed")):
        plain = panel(name, [way for way in found[name] if way.space.startswith("w")])
        write_figure(folder / f"figure{number}.png", draw_curves([plain], [SETS[name]]))


def _plain_and_prior(ways: Mapping[Way, Found]) -> list[Way]:
    """The two ways that Figure 3 compares: the richest space, without and with the prior."""
    space = "w+" if any(way.space == "w+" for way in ways) else "w"
    return [next(way for way in ways if way.space == space and way.weight == weight) for weight in (0, WEIGHT)]


def table(results: dict[str, Any]) -> str:
    """The results as Markdown, in the layout of Tables 1 and 2."""
    lines = [*_paper_tables(results), *_weights_table(results), ""]
    for name, saved in results["steps_saved"].items():
        (space, steps), (whitened, fewer) = [(k, v) for k, v in saved.items() if k != "distance"]
        reached = f"after {fewer:,}" if fewer is not None else "never"
        lines.append(
            f"* {SETS[name.split()[0]]}: {TITLES[space]} + prior ends at a distance of {saved['distance']:.4f} after {steps:,} "
            f"steps; {TITLES[whitened]} + prior is there {reached}."
        )
    if "real" in results["sets"]:
        lines += ["", "| midpoints between real pictures | discriminator | KID x 1000 |", "|---|---:|---:|"]
        for way, row in results["sets"]["real"].items():
            if "midpoints" in row:
                m = row["midpoints"]
                logit = f"{m['logit']:.2f}" if "logit" in m else ""
                kid = f"{m['kid'] * 1000:.1f} ± {m['kid_stderr'] * 1000:.1f}" if "kid" in m else ""
                space, weight = way.split("-", 1)
                lines.append(f"| {TITLES[space]}{'' if weight == '0' else ' + prior ' + weight} | {logit} | {kid} |")
    return "\n".join(lines) + "\n"


def _paper_tables(results: dict[str, Any]) -> list[str]:
    """A table for each kind of error, with the paper's numbers beside."""
    sets = results["sets"]
    lines: list[str] = []
    rows = {"mean": ("mean code", "")}
    for space in ("w", "w+"):
        rows[f"{space}-0"] = (TITLES[space], space)
        rows[f"{space}-{WEIGHT:g}"] = (f"{TITLES[space]} + prior", f"{space} prior")
    for space in ("v", "v+"):
        rows[f"{space}-{WEIGHT:g}"] = (f"{TITLES[space]} + prior, {results['steps'][space]:,} steps", "")
    for key, title, digits in (("lpips", "LPIPS", 3), ("w", "distance in w", 2), ("v", "distance in whitened v", 2)):
        columns = [s for s in sets if any(key in row for row in sets[s].values())]
        paper = PAPER.get(key, {})
        theirs = [s for s in SETS if any(s in row for row in paper.values())]
        heads = [f"{SETS[s]}, this network" for s in columns]
        heads += [f"{SETS[s]}, paper ({', '.join(CLASSES)})" for s in theirs]
        lines += [f"| {title} | " + " | ".join(heads) + " |", "|---" + "|---:" * len(heads) + "|"]
        for name, (text, published) in rows.items():
            values = [sets[s].get(name, {}).get(key) for s in columns]
            own = ["" if value is None else f"{value:.{digits}f}" for value in values]
            row = paper.get(published, {})
            others = [", ".join(f"{x:g}" for x in row.get(s, [])) for s in theirs]
            if any(own):
                lines.append(f"| {text} | " + " | ".join(own + others) + " |")
        lines.append("")
    return lines


def _weights_table(results: dict[str, Any]) -> list[str]:
    """A table of all weights of the prior."""
    heads = ["weight of the prior", "set", "LPIPS", "distance in w", "in whitened v", "prior per dimension"]
    lines = [f"| {' | '.join(heads)} | midpoint LPIPS | midpoint w |", "|---|---|---:|---:|---:|---:|---:|---:|"]
    for name, ways in results["curves"].items():
        for way, curve in ways.items():
            (space, weight), row, middle = way.split("-", 1), results["sets"][name][way], len(curve["alpha"]) // 2
            lines.append(
                f"| {weight} ({TITLES[space]}, {row['steps']:,} steps) | {SETS[name]} | {row['lpips']:.3f} "
                f"| {row['w']:.2f} | {row['v']:.2f} | {row['prior']:.2f} | {curve['lpips'][middle]:.3f} | {curve['w'][middle]:.2f} |"
            )
    return lines
