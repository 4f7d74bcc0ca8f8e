"""``stylegan-invert reproduce clipping``"""

from pathlib import Path

import click

from .common import (
    SEED,
    counting,
    device_option,
    loss_option,
    network_option,
    open_network,
    outdir_option,
    pick_device,
    quiet_option,
    write_study,
)

PRIORS = ("normal", "uniform")
GOOD = 30  # dB


@click.command()
@network_option
@click.option("--generated", type=click.IntRange(min=1), default=64, show_default=True, help="Pictures per prior.")
@click.option("--steps", type=click.IntRange(min=1), default=500, show_default=True, help="Steps of Adam.")
@click.option(
    "--restarts", type=click.IntRange(min=1), default=3, show_default=True, help="Starts per picture; the best counts."
)
@click.option("--seed", type=SEED, default=303, show_default=True, help="Random seed of the starts.")
@loss_option("mse=1")
@outdir_option
@device_option
@quiet_option
def command(
    network: str, generated: int, steps: int, restarts: int, seed: int, loss: str, outdir: str, device: str, quiet: bool
) -> None:  # fmt: skip
    """Recover latents with and without clipping, for a normal and a uniform prior, with restarts equal.

    DIR gets table.md and results.json: PSNR, the share of pictures above 30 dB, the error of the latent, and the share of its
    entries that ended outside the prior's bounds.

    \b
    stylegan-invert reproduce clipping -n faces64 -o out/clipping
    """
    import numpy as np

    from ..generator import adapt
    from ..projectors.run import build_loss
    from ..projectors.z import CLIPS, LatentOptions
    from ..studies.clipping import recover
    from ..studies.dense import quartiles

    where = pick_device(device)
    net = open_network(network, quiet)
    generator = adapt(net.G.to(where))
    if generator.c_dim:
        raise click.ClickException(f"{network}: it has classes; this study is for networks without")
    distance, about_loss = build_loss(loss, None, None, where)
    options = LatentOptions(steps=steps, restarts=restarts, seed=seed, optimizer="adam")
    folder = Path(outdir)
    folder.mkdir(parents=True, exist_ok=True)
    with counting(generated * len(CLIPS) * len(PRIORS), "pictures", quiet) as progress:
        found = {
            family: recover(generator, family, generated, distance, options, progress=progress) for family in PRIORS
        }
    lines = [
        f"| {generated} pictures, {restarts} restarts, {steps} steps | PSNR, dB (quartiles) | above {GOOD} dB | error of z | outside |",
        "|---|---:|---:|---:|---:|",
    ]
    for family, clips in found.items():
        for clip, rows in clips.items():
            low, middle, high = quartiles(rows["psnr"])
            good = np.mean(np.array(rows["psnr"]) > GOOD)
            lines.append(
                f"| {family} prior, clipping {clip} | {middle:.1f} ({low:.1f} to {high:.1f}) | {good:.0%} "
                f"| {np.median(rows['error']):.4f} | {np.mean(rows['outside']):.2%} |"
            )
    text = "\n".join(lines) + "\n"
    settings = {"network": net.sha256, **about_loss, "steps": steps, "restarts": restarts, "seed": seed}
    write_study(folder, {**settings, "priors": found}, text, quiet)
