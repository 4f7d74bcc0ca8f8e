"""``stylegan-invert reproduce compression``"""

from pathlib import Path
from typing import Any

import click

from .common import (
    SEED,
    Span,
    UserPath,
    counting,
    device_option,
    hashes,
    network_option,
    numbers,
    open_network,
    outdir_option,
    pick_device,
    quiet_option,
    same_study,
    sampling,
    write_study,
)

COLUMNS = 8  # samples that Figure 4 shows


@click.command()
@network_option
@click.option(
    "--data", required=True, type=UserPath(), metavar="PATH", help="Real pictures: a dataset zip or a folder."
)
@click.option("--pictures", type=Span(), metavar="FIRST:LAST", help="Take these of them, in the order of their names.")
@click.option(
    "--samples", type=click.IntRange(min=8), default=10000, show_default=True, help="Pictures per Frechet distance."
)
@click.option(
    "--truncations",
    default="1,0.95,0.9,0.8,0.7,0.6,0.5",
    show_default=True,
    callback=numbers,
    metavar="LIST",
    help="psi.",
)
@click.option(
    "--compressions", default="3,2,1.5,1.2,1,0.8,0.6,0.5,0.4,0.3,0.2,0.1", show_default=True, callback=numbers, metavar="LIST", help="tau."
)  # fmt: skip
@click.option(
    "--compared", type=click.IntRange(min=8), default=1024, show_default=True, help="Pictures per similarity."
)
@click.option(
    "--shown", type=float, default=0.7, show_default=True, metavar="PSI", help="Figure 4 shows the psi nearest to this."
)
@click.option(
    "--flag", type=click.Choice(["discriminator", "neighbours"]),
    help="What tells artifacts: the discriminator's value, or realism by nearest neighbours.  [default: the first, where there is one]",
)  # fmt: skip
@click.option(
    "--share",
    type=click.FloatRange(0.001, 0.5),
    default=0.05,
    show_default=True,
    help="Share of samples that are flagged.",
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Random seed of the samples.")
@outdir_option
@device_option
@quiet_option
def command(
    network: str, data: str, pictures: tuple[int, int | None] | None, samples: int, truncations: list[float], compressions: list[float],
    compared: int, shown: float, flag: str | None, share: float, seed: int, outdir: str, device: str, quiet: bool,
) -> None:  # fmt: skip
    """Compare truncation and compression at equal distance from the data: Wulff & Torralba, Figures 4 to 6.

    DIR gets table.md, results.json, figure4.png (samples, mean picture and deviation per pixel: uncorrected, truncated,
    compressed), figure5.png (principal components of flagged and other samples) and figure6.png. The distance is the Frechet
    distance on the features of the shipped SqueezeNet. A study that was stopped goes on when it is called again with the same
    options.

    \b
    stylegan-invert reproduce compression -n cats32 --data cats64.zip --pictures 0:15300 -o out/compression
    """
    import json

    import numpy as np
    import torch

    from ..analysis.distribution import BATCH, PictureFeatures, frechet_distance, logits, stored_pictures
    from ..analysis.plots import write_figure
    from ..analysis.sheets import sheet
    from ..errors import StyleganInvertError
    from ..generator import adapt
    from ..io.files import atomic
    from ..io.gaussian_file import keep_gaussian
    from ..media.picture_set import PictureSet
    from ..media.pictures import write_png
    from ..studies import compression as study
    from ..studies.prior import drawn

    where = pick_device(device)
    net = open_network(network, quiet)
    generator = adapt(net.G.to(where))
    if generator.c_dim:
        raise StyleganInvertError(f"{network}: it has classes; this study is for networks without")
    if flag == "discriminator" and net.D is None:
        raise click.UsageError("--flag discriminator: this file has none; take --flag neighbours.")
    flag = flag or ("discriminator" if net.D is not None else "neighbours")
    with sampling(quiet) as progress:
        keep_gaussian(generator, progress=progress)
    first, last = pictures or (0, None)
    real_set = PictureSet(data, generator.img_resolution, generator.img_channels, first=first, last=last)
    real_set.check()
    folder = Path(outdir)
    settings = {
        "network": net.sha256, "data": hashes({"real": real_set.pictures(range(min(100, len(real_set.names))))}),
        "real": len(real_set.names), "samples": samples, "compared": compared, "seed": seed, "flag": flag, "share": share,
    }  # fmt: skip
    same_study(folder, settings)
    parts = folder / "parts"
    parts.mkdir(exist_ok=True)
    features = PictureFeatures(where)
    code = drawn(generator, max(samples, compared), False, seed)
    few, plain = code[:compared], study.Correction("none")

    corrections = [study.Correction("truncation", psi) for psi in truncations]
    corrections += [study.Correction("compression", tau) for tau in compressions]
    measured: dict[str, list[tuple[float, float]]] = {"truncation": [], "compression": []}
    with counting(len(corrections) + 1, "distances", quiet) as progress_distances:
        path = parts / "real.npy"
        if not path.exists():
            found = features.of(stored_pictures(real_set))
            with atomic(path) as temporary:
                np.save(temporary, found.numpy())
        real = torch.from_numpy(np.load(path))
        progress_distances(1)
        for correction in corrections:
            path = parts / f"{correction.kind}-{correction.value:g}.json"
            if not path.exists():
                distance = frechet_distance(real, study.features_of(generator, code[:samples], correction, features))
                with atomic(path) as temporary:
                    temporary.write_text(json.dumps(distance))
            measured[correction.kind].append((correction.value, json.loads(path.read_text())))
            progress_distances(1)

    def rendered(correction: Any) -> Any:
        return torch.cat(list(study.pictures(generator, few, correction))).numpy()

    def described(x: Any) -> Any:
        return features.of(torch.from_numpy(x).split(BATCH))

    D = net.D.to(where) if net.D is not None else None
    uncorrected = rendered(plain)
    before = described(uncorrected)
    scores = logits(D, uncorrected) if D is not None else None
    value = scores if flag == "discriminator" else study.realism(before, real)
    flagged = value <= value.quantile(share)
    rows: list[dict[str, Any]] = []
    for psi, tau, distance in study.aligned(measured["truncation"], measured["compression"]):
        row: dict[str, Any] = {"frechet": distance}
        for correction in (study.Correction("truncation", psi), study.Correction("compression", tau)):
            after = rendered(correction)
            row[correction.kind] = {
                "value": correction.value,
                "diversity": study.diversity(after),
                "similarity": study.similarity(before, described(after)),
            }
            if D is not None:
                row[correction.kind] |= _scored(logits(D, after), flagged)
        rows.append(row)
    results: dict[str, Any] = {
        **settings, "curves": measured, "aligned": rows, "diversity": study.diversity(uncorrected),
        "components": study.components(generator, few, flagged),
    }  # fmt: skip
    if scores is not None:
        results |= _scored(scores, flagged)
    if rows:
        row = min(rows, key=lambda r: abs(r["truncation"]["value"] - shown))
        chosen = [plain, *(study.Correction(kind, row[kind]["value"]) for kind in ("truncation", "compression"))]
        lines = []
        for correction in chosen:
            x = uncorrected if correction is plain else rendered(correction)
            deviation = x.astype(np.float64).std(axis=0) * 2
            summary = [np.round(p).clip(0, 255).astype(np.uint8) for p in (x.mean(axis=0), deviation)]
            lines.append([*x[:COLUMNS], *summary])
        write_png(folder / "figure4.png", sheet(lines, 64))
        write_figure(folder / "figure6.png", study.figure6(measured["truncation"], measured["compression"], rows))
    write_figure(folder / "figure5.png", study.figure5(results["components"]))
    write_study(folder, results, table(results), quiet, " and figures 4 to 6")


def _scored(scores: Any, flagged: Any) -> dict[str, float]:
    return {"logit": float(scores.mean()), "logit_flagged": float(scores[flagged].mean())}


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
        "features, from the mean of the uncorrected pictures.",
        f"The first {len(c['flagged'])} principal components of flagged samples ({results['share']:.0%}, by {results['flag']}) are "
        f"{ratio:.3f} times those of the others, on average.",
    ]
    curves = {"ψ": results["curves"]["truncation"], "τ": results["curves"]["compression"]}
    for name, curve in curves.items():
        lines.append(
            f"Fréchet distance at {name}: " + ", ".join(f"{value:g}: {distance:.2f}" for value, distance in curve) + "."
        )
    return "\n".join(lines) + "\n"
