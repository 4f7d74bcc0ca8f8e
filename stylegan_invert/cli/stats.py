"""``stylegan-invert stats``"""

import json
from pathlib import Path
from typing import Any

import click

from .common import (
    Class,
    NetworkSource,
    UserPath,
    assume_option,
    device_option,
    open_network,
    pick_device,
    quiet_option,
    sampling,
    say,
    tell,
    tell_json,
)

# The numbers that are printed, by their name in the JSON output, with their titles.
LINES = {
    "samples": "samples",
    "whitened_error": "whitened error",
    "dimensions": "dimensions",
    "rank": "rank",
    "effective_rank": "effective rank",
    "condition": "condition number",
    "skewness_w": "mean |skewness|, W",
    "skewness_v": "mean |skewness|, V",
    "kurtosis_w": "mean excess kurtosis, W",
    "kurtosis_v": "mean excess kurtosis, V",
    "mahalanobis_mean": "Mahalanobis / chi-square, mean",
    "mahalanobis_variance": "Mahalanobis / chi-square, variance",
    "held_out": "held-out samples",
}


@click.command()
@click.argument("network", metavar="NET", type=NetworkSource())
@assume_option
@click.option(
    "--class",
    "class_idx",
    type=Class(),
    metavar="INT|NAME",
    help="Number or name of a class. Without it, all classes are done.",
)
@click.option(
    "--out", type=UserPath(), metavar="FILE", help="Save the Gaussian in this file (.safetensors) instead of the cache."
)
@click.option(
    "--outdir",
    "-o",
    type=UserPath(),
    metavar="DIR",
    help="Folder for stats.json, figure1.png (distributions of single and paired dimensions in W and V) and "
    "chi-square.png. Needs the package matplotlib.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@device_option
@quiet_option
def command(
    network: str,
    class_idx: int | str | None,
    out: str | None,
    outdir: str | None,
    as_json: bool,
    device: str,
    quiet: bool,
) -> None:
    """Fit the Gaussian of a network's V space, and measure how well it describes samples.

    V is W before the last leaky ReLU of the mapping network. Its samples are nearly normally distributed (Wulff &
    Torralba, 2020). Mean and covariance are saved in the cache, where other commands find them. Commands that need them
    also fit them, so this command need not be called first.

    \b
    stylegan-invert stats cats32 -o out/stats
    """
    from ..analysis import gaussianity
    from ..generator import StyleAdapter, adapt, class_label
    from ..io.gaussian_file import keep_gaussian

    where = pick_device(device)
    generator = adapt(open_network(network, quiet).G.to(where))
    if generator.c_dim and class_idx is None:
        if out is not None:
            raise click.UsageError("--out is for one class; choose it with --class.")
        classes: list[int | str | None] = list(range(generator.c_dim))
    else:
        classes = [class_idx]
    diagnoses: dict[str, Any] = {}  # by class; "" for a network without classes
    for index in classes:
        c = class_label(generator, index)
        with sampling(quiet) as progress:
            gaussian = keep_gaussian(generator, c, out, progress).to("cpu")
        assert isinstance(generator, StyleAdapter)  # no other network has a Gaussian of V
        samples = gaussianity.held_out(generator, c)
        name = "" if c is None else f"class{int(c.argmax())}"
        diagnoses[name] = gaussianity.diagnose(gaussian, samples)
        if outdir is not None:
            from ..analysis.plots import write_figure

            folder = Path(outdir, name)
            folder.mkdir(parents=True, exist_ok=True)
            write_figure(folder / "figure1.png", gaussianity.figure1(samples))
            write_figure(folder / "chi-square.png", gaussianity.figure_chi_square(gaussian, samples))
    result = diagnoses.get("", diagnoses)
    if outdir is not None:
        from ..files.writing import atomic

        with atomic(Path(outdir) / "stats.json") as temporary:
            temporary.write_text(json.dumps(result, indent=2) + "\n")
    if as_json:
        tell_json(result)
        return
    for name, facts in diagnoses.items():
        if name:
            tell(name)
        for key, title in LINES.items():
            value = facts[key]
            tell(f"{title:<36}{value:>12,}" if isinstance(value, int) else f"{title:<36}{value:>12.4g}")
    if outdir is not None:
        say(quiet, f"wrote stats.json and figures to {outdir}")
