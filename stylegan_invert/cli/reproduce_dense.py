"""``stylegan-invert reproduce dense``"""

from pathlib import Path
from typing import Any

import click

from .common import (
    Number,
    counting,
    data_option,
    device_option,
    hashes,
    loss_option,
    network_option,
    open_network,
    outdir_option,
    pick_device,
    quiet_option,
    real_pictures,
    same_study,
    write_study,
    z_prior_option,
)

FRAMES = 9
SHOWN = 4


@click.command()
@network_option
@data_option
@click.option("--generated", type=click.IntRange(min=2), default=100, show_default=True, help="Generated pictures.")
@click.option("--real", type=click.IntRange(min=2), default=100, show_default=True, help="Real pictures, at most.")
@click.option("--layer", metavar="NAME", help="Where to split.  [default: the first dense layer]")
@click.option("--steps", type=click.IntRange(min=1), default=300, show_default=True, help="Steps to z.")
@click.option(
    "--layer-steps", type=click.IntRange(min=1), default=500, show_default=True, help="Steps of the displacement."
)
@click.option("--lambda-z", type=Number(0, 1e9), default=0.1, show_default=True, help="Weight of -log P(z), a mean.")
@click.option(
    "--lambda-delta",
    type=Number(0, 1e9),
    default=0.9,
    show_default=True,
    help="Weight of the displacement's L1 norm, a mean.",
)
@loss_option("mse=0.25,features=1")
@outdir_option
@z_prior_option
@device_option
@quiet_option
def command(
    network: str, data: str | None, pictures: tuple[int, int | None] | None, generated: int, real: int, layer: str | None, steps: int,
    layer_steps: int, lambda_z: float, lambda_delta: float, loss: str, outdir: str, z_prior: str | None, device: str, quiet: bool,
) -> None:  # fmt: skip
    """Find pictures in z and at a layer, with and without regularisation: Pividori et al., Figures 3 to 5, 13 and 14.

    DIR gets table.md and results.json, and for the first pictures of each set the sheets figure3-*.png (from the layer's code
    to z), figure4-*.png (between two pictures: in z, at the layer free, and regularised), figure9-*.png (to random samples)
    and figure13-*.png (picture, layer, its projection onto the span of G1). A study that was stopped goes on when it is
    called again with the same options.

    \b
    stylegan-invert reproduce dense -n dcgan.pt --data faces/ -o out/dense
    """
    import numpy as np

    from ..analysis.distribution import PictureFeatures, generated_pictures, realism
    from ..analysis.sheets import sheet
    from ..generator import Code, adapt, set_prior
    from ..media.pictures import write_png
    from ..projectors.dense import DenseOptions
    from ..projectors.projection import render_pixels
    from ..projectors.run import build_loss
    from ..studies import dense as study

    where = pick_device(device)
    net = open_network(network, quiet)
    generator = adapt(net.G.to(where))
    set_prior(generator, z_prior)
    if generator.c_dim:
        raise click.ClickException(f"{network}: it has classes; this study is for networks without")
    if layer is None and generator.dense is None:
        raise click.UsageError(
            f"This network does not begin with a dense layer; choose --layer from {', '.join(generator.layers())}."
        )
    (shape,) = generator.code_shapes("z").values()
    latents = [Code("z", {"z": generator.prior.of_seed(seed, [1, *shape])}).to(where) for seed in range(generated)]
    sets = {"generated": np.stack([render_pixels(generator, code) for code in latents])}
    if data is not None:
        sets["real"] = real_pictures(data, pictures, generator, real)
    options = DenseOptions(
        steps=steps, layer_steps=layer_steps, layer=layer, lambda_z=lambda_z, lambda_delta=lambda_delta
    )
    folder = Path(outdir)
    if options.layer is not None and options.layer not in generator.layers():
        raise click.UsageError(f"There is no layer {layer!r}; choose --layer from {', '.join(generator.layers())}.")
    distance, about_loss = build_loss(loss, None, None, where)
    settings = {
        "network": net.sha256, **about_loss, "data": hashes(sets),
        "layer": layer or generator.dense, "steps": steps, "layer_steps": layer_steps,
        "lambda_z": lambda_z, "lambda_delta": lambda_delta, "z_prior": generator.prior.family,
        "pictures": {name: len(p) for name, p in sets.items()},
    }  # fmt: skip
    same_study(folder, settings)
    with counting(sum(map(len, sets.values())) * len(study.WAYS), "codes", quiet) as progress:
        study.invert(generator, sets, distance, options, folder / "codes", progress)

    features = PictureFeatures(where)
    reference = features.of(generated_pictures(generator, 1000, seed=99))
    D = net.D.to(where) if net.D is not None else None
    results: dict[str, Any] = {**settings, "sets": {}}
    for name, shown in sets.items():
        found = {way: study.gather(generator, folder / "codes", name, len(shown), way) for way in study.WAYS}
        results["sets"][name] = {
            way: {
                **{key: study.quartiles(v) for key, v in study.errors(f, shown).items()},
                "midpoints": realism(study.midpoints(generator, f), reference, features, D),
            }
            for way, f in found.items()
        }
        few = range(min(SHOWN, len(shown)))
        write_png(
            folder / f"figure3-{name}.png",
            sheet([[shown[i], *study.gap(generator, found["dense"][i].code, FRAMES)] for i in few], 64),
        )
        rows = []
        for i in list(few)[::2]:
            j = min(i + 1, len(shown) - 1)
            for way in ("z", "free", "dense"):
                ends = found[way][i].code, found[way][j].code
                rows.append([shown[i], *study.line(generator, *ends, FRAMES), shown[j]])
        write_png(folder / f"figure4-{name}.png", sheet(rows, 64))
        rows = [
            [shown[i], *study.line(generator, found["dense"][i].code, latents[-1 - i % len(latents)], FRAMES)]
            for i in few
        ]
        write_png(folder / f"figure9-{name}.png", sheet(rows, 64))
        if (layer or generator.dense) == generator.dense:
            spans = [study.span(generator, f.code) for f in found["dense"]]
            rows = [[shown[i], found["dense"][i].picture, spans[i][0]] for i in few]
            write_png(folder / f"figure13-{name}.png", sheet(list(zip(*rows)), 64))
            results["sets"][name]["dense"]["left_of_span"] = study.quartiles([left for _, left in spans])
    write_study(folder, results, table(results), quiet, " and the figures' sheets")


def table(results: dict[str, Any]) -> str:
    """The results as Markdown: medians, with quartiles for the distance (Figure 5)."""
    from ..studies.dense import WAYS

    lines = []
    for name, ways in results["sets"].items():
        lines.append(
            f"| {results['pictures'][name]} {name} pictures | distance (quartiles) | LPIPS | PSNR, dB | SSIM | midpoints: KID | logit |"
        )
        lines.append("|---|---:|---:|---:|---:|---:|---:|")
        for way, row in ways.items():
            low, middle, high = row["distance"]
            m = row["midpoints"]
            real = f"{m['kid']:.4f} ± {m['kid_stderr']:.4f}" if "kid" in m else ""
            logit = f"{m['logit']:.2f}" if "logit" in m else ""
            cells = [
                f"{middle:.4f} ({low:.4f} to {high:.4f})",
                f"{row['lpips'][1]:.4f}",
                f"{row['psnr'][1]:.2f}",
                f"{row['ssim'][1]:.3f}",
            ]
            lines.append(f"| {WAYS[way].title} | " + " | ".join([*cells, real, logit]) + " |")
        lines.append("")
    return "\n".join(lines)
