"""``stylegan-invert reproduce prior``"""

from pathlib import Path
from typing import Any

import click

from .common import (
    SEED,
    counting,
    data_option,
    device_option,
    hashes,
    loss_option,
    network_option,
    numbers,
    open_network,
    outdir_option,
    pick_device,
    quiet_option,
    real_pictures,
    same_study,
    sampling,
    write_study,
)

SETS = {"real": "R", "single": "G", "mixed": "G+"}
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

FRAMES = 11


@click.command()
@network_option
@data_option
@click.option("--count", type=click.IntRange(min=2), default=20, show_default=True, help="Pictures of each kind.")
@click.option(
    "--pairs",
    "wanted",
    type=click.IntRange(min=1),
    default=80,
    show_default=True,
    help="Interpolated pairs of each kind.",
)
@click.option("--steps", type=click.IntRange(min=1), default=1000, show_default=True, help="Steps in W.")
@click.option("--steps-plus", type=click.IntRange(min=1), default=10000, show_default=True, help="Steps in W+.")
@click.option(
    "--steps-whitened", type=click.IntRange(min=1), default=1000, show_default=True, help="Steps in whitened V and V+."
)
@click.option(
    "--weights",
    default="1e-5,1e-4,1e-3",
    show_default=True,
    callback=numbers,
    metavar="LIST",
    help="Weights of the prior.",
)
@loss_option("lpips-squeeze=1")
@click.option("--seed", type=SEED, default=1, show_default=True, help="Random seed of the generated pictures.")
@click.option(
    "--batch", type=click.IntRange(min=1), default=20, show_default=True, help="Pictures optimised side by side."
)
@outdir_option
@device_option
@quiet_option
def command(
    network: str, data: str | None, pictures: tuple[int, int | None] | None, count: int, wanted: int, steps: int, steps_plus: int,
    steps_whitened: int, weights: list[float], loss: str, seed: int, batch: int, outdir: str, device: str, quiet: bool,
) -> None:  # fmt: skip
    """Invert with and without the Gaussian prior in V: Wulff & Torralba, Tables 1 and 2, Figures 2, 3, 7 and 8.

    Real pictures, pictures of one w ("single") and of another w in every layer ("mixed") are found in W and W+, with and
    without the prior, and in whitened V and V+. DIR gets table.md (with the paper's numbers), results.json, the error curves
    figure2.png, figure7.png, figure8.png, and figure3-*.png, interpolations without (above) and with the prior (below). A study
    that was stopped goes on when it is called again with the same options.

    \b
    stylegan-invert reproduce prior -n cats32 --data cats64.zip --pictures 15300: -o out/prior
    """
    import numpy as np

    from ..analysis.distribution import PictureFeatures, generated_pictures, realism
    from ..analysis.paths import between
    from ..analysis.plots import curves as draw
    from ..analysis.plots import write_figure
    from ..analysis.sheets import sheet
    from ..errors import StyleganInvertError
    from ..generator import adapt, joined
    from ..io.gaussian_file import keep_gaussian
    from ..losses import SqueezeLPIPS
    from ..media.pictures import write_png
    from ..projectors.run import build_loss
    from ..studies import prior as study

    where = pick_device(device)
    net = open_network(network, quiet)
    generator = adapt(net.G.to(where))
    if generator.c_dim:
        raise StyleganInvertError(f"{network}: it has classes; this study is for networks without")
    if generator.img_resolution < SqueezeLPIPS.min_size:
        raise StyleganInvertError(f"{network}: LPIPS needs pictures of at least {SqueezeLPIPS.min_size} pixels a side")
    with sampling(quiet) as progress:
        keep_gaussian(generator, progress=progress)
    true = {name: study.drawn(generator, count, name == "mixed", seed) for name in ("single", "mixed")}
    shown = {name: study.pictures(generator, code) for name, code in true.items()}
    if data is not None:
        shown = {"real": real_pictures(data, pictures, generator, count), **shown}
    budget = {"w": steps, "w+": steps_plus, "v": steps_whitened, "v+": steps_whitened}
    sets = {name: (pixels, study.ways(name, weights, budget)) for name, pixels in shown.items()}
    folder = Path(outdir)
    distance, about_loss = build_loss(loss, None, None, where)
    settings = {
        "network": net.sha256, **about_loss, "data": hashes(shown), "seed": seed, "device": str(where), "steps": budget,
        "weights": weights, "batch": batch, "pictures": {name: len(p) for name, p in shown.items()}, "pairs": wanted,
    }  # fmt: skip
    same_study(folder, settings)
    with counting(study.work(sets), "steps", quiet) as count_steps:
        study.invert(generator, sets, distance, folder / "parts", batch, count_steps)

    alphas = np.linspace(0, 1, FRAMES)
    results: dict[str, Any] = {**settings, "sets": {}, "curves": {}, "steps_saved": {}}
    found: dict[str, dict[Any, Any]] = {}
    for name, (pixels, chosen) in sets.items():
        found[name] = {way: study.gather(generator, folder / "parts", name, way) for way in chosen}
        rows = {"mean": study.errors(generator, joined([generator.center("w")] * len(pixels)), pixels, true.get(name))}
        for way, f in found[name].items():
            rows[way.name] = study.errors(generator, f.code, pixels, true.get(name))
            rows[way.name]["steps"] = way.steps
        results["sets"][name] = rows
        for way in chosen:
            if way.space.startswith("v"):
                plain = next(w for w in chosen if w.space == way.space.replace("v", "w") and w.weight == way.weight)
                reached = found[name][plain].history[-1]
                results["steps_saved"][f"{name} {way.space}"] = {
                    "distance": reached, plain.space: plain.steps, way.space: study.steps_to(found[name][way], reached),
                }  # fmt: skip
    with counting(sum(len(found[name]) for name in true), "interpolations", quiet) as progress_curves:
        for name, code in true.items():
            couples = study.pairs(count, wanted)
            curves = results["curves"][name] = {}
            for way, f in found[name].items():
                curves[way.name] = study.curves(generator, f.code, code, couples, alphas)
                progress_curves(1)
    if "real" in sets:
        features = PictureFeatures(where)
        reference = features.of(generated_pictures(generator, 1000, seed=99))
        D = net.D.to(where) if net.D is not None else None
        couples = study.pairs(len(shown["real"]), len(shown["real"]) ** 2)
        for way, f in found["real"].items():
            middle = study.midpoints(generator, f.code, couples)
            results["sets"]["real"][way.name]["midpoints"] = realism(middle, reference, features, D)
    for name, (_, chosen) in sets.items():
        rows = []
        for i in range(0, min(6, len(shown[name]) - 1), 2):
            for way in _plain_and_prior(chosen):
                ends = [found[name][way].code[k : k + 1] for k in (i, i + 1)]
                line = study.pictures(generator, joined(between(generator, *ends, alphas)))
                rows.append([shown[name][i], *line, shown[name][i + 1]])
        write_png(folder / f"figure3-{name}.png", sheet(rows, 64))
    panels = {name: {w.title: results["curves"][name][w.name] for w in sets[name][1]} for name in ("single", "mixed")}
    few = [{w.title: panels[name][w.title] for w in sets[name][1] if w.weight in (0, study.WEIGHT)} for name in panels]
    write_figure(folder / "figure2.png", draw(few, ["G, in W", "G+, in W+"]))
    for number, name in ((7, "single"), (8, "mixed")):
        plain = {w.title: panels[name][w.title] for w in sets[name][1] if w.space.startswith("w")}
        write_figure(folder / f"figure{number}.png", draw([plain], [SETS[name]]))
    write_study(folder, results, table(results), quiet, " and figures 2, 3, 7 and 8")


def _plain_and_prior(chosen: Any) -> list[Any]:
    """The two ways that Figure 3 compares: the richest space, without and with the prior."""
    from ..studies.prior import WEIGHT

    space = "w+" if any(w.space == "w+" for w in chosen) else "w"
    return [next(w for w in chosen if w.space == space and w.weight == weight) for weight in (0, WEIGHT)]


def table(results: dict[str, Any]) -> str:
    """The results as Markdown, in the layout of Tables 1 and 2."""
    from ..studies.prior import TITLES, WEIGHT

    sets = results["sets"]
    lines: list[str] = []
    rows = {"mean": ("mean code", "")}
    for space in ("w", "w+"):
        rows[f"{space}-0"] = (TITLES[space], space)
        rows[f"{space}-{WEIGHT:g}"] = (f"{TITLES[space]} + prior", f"{space} prior")
    for space in ("v", "v+"):
        rows[f"{space}-{WEIGHT:g}"] = (f"{TITLES[space]} + prior, {results['steps'][space]:,} steps", "")
    classes = ("faces", "cars", "horses", "churches")
    for key, title, digits in (("lpips", "LPIPS", 3), ("w", "distance in w", 2), ("v", "distance in whitened v", 2)):
        columns = [s for s in sets if any(key in row for row in sets[s].values())]
        paper = PAPER.get(key, {})
        theirs = [s for s in SETS if any(s in row for row in paper.values())]
        heads = [f"{SETS[s]}, this network" for s in columns] + [
            f"{SETS[s]}, paper ({', '.join(classes)})" for s in theirs
        ]
        lines += [f"| {title} | " + " | ".join(heads) + " |", "|---" + "|---:" * len(heads) + "|"]
        for name, (text, published) in rows.items():
            own = [
                f"{sets[s][name][key]:.{digits}f}" if name in sets[s] and key in sets[s][name] else "" for s in columns
            ]
            row = paper.get(published, {})
            others = [", ".join(f"{x:g}" for x in row.get(s, [])) for s in theirs]
            if any(own):
                lines.append(f"| {text} | " + " | ".join(own + others) + " |")
        lines.append("")
    lines += [
        "| weight of the prior | set | LPIPS | distance in w | in whitened v | prior per dimension | midpoint LPIPS | midpoint w |"
    ]
    lines += ["|---|---|---:|---:|---:|---:|---:|---:|"]
    for name, ways in results["curves"].items():
        for way, curve in ways.items():
            row, middle = sets[name][way], len(curve["alpha"]) // 2
            lines.append(
                f"| {way.split('-', 1)[1]} ({TITLES[way.split('-', 1)[0]]}, {row['steps']:,} steps) | {SETS[name]} | {row['lpips']:.3f} "
                f"| {row['w']:.2f} | {row['v']:.2f} | {row['prior']:.2f} | {curve['lpips'][middle]:.3f} | {curve['w'][middle]:.2f} |"
            )
    lines.append("")
    for name, saved in results["steps_saved"].items():
        (space, steps), (whitened, fewer) = [(k, v) for k, v in saved.items() if k != "distance"]
        reached = f"after {fewer:,}" if fewer is not None else "never"
        lines.append(
            f"* {SETS[name.split()[0]]}: {TITLES[space]} + prior ends at a distance of {saved['distance']:.4f} after {steps:,} "
            f"steps; {TITLES[whitened]} + prior is there {reached}."
        )
    if "real" in sets:
        lines += ["", "| midpoints between real pictures | discriminator | KID x 1000 |", "|---|---:|---:|"]
        for way, row in sets["real"].items():
            if "midpoints" in row:
                m = row["midpoints"]
                logit = f"{m['logit']:.2f}" if "logit" in m else ""
                kid = f"{m['kid'] * 1000:.1f} ± {m['kid_stderr'] * 1000:.1f}" if "kid" in m else ""
                space, weight = way.split("-", 1)
                lines.append(f"| {TITLES[space]}{'' if weight == '0' else ' + prior ' + weight} | {logit} | {kid} |")
    return "\n".join(lines) + "\n"
