"""``stylegan-invert explain``"""

import json

import click

from .common import (
    UserPath,
    class_option,
    device_option,
    foreign_codes_option,
    network_option,
    outdir_option,
    quiet_option,
    say,
    tell,
    z_prior_option,
)
from .ends import open_generator


@click.command()
@click.argument("folder", metavar="FOLDER", type=UserPath())
@network_option
@click.option(
    "--reference", type=UserPath(), metavar="FOLDER",
    help="Results of the network's own pictures (of 'generate'), projected in the same way: says which errors are usual.",
)  # fmt: skip
@click.option(
    "--rows", type=click.IntRange(1, 1000), default=16, show_default=True, help="Pictures in the sheet, at most."
)
@outdir_option
@foreign_codes_option
@class_option
@z_prior_option
@device_option
@quiet_option
def command(
    folder: str,
    network: str,
    reference: str | None,
    rows: int,
    outdir: str,
    class_idx: int | str | None,
    z_prior: str | None,
    device: str,
    quiet: bool,
) -> None:
    """Show which pictures of a set a network cannot rebuild: what it never learned, or dropped.

    FOLDER has results of 'project', one in each folder. Writes explain.json and explain.png: picture, what the network makes of
    it, and the difference, from the largest error on. Prints the same as a table: LPIPS, PSNR, and the prior value, which is
    near 1 for codes as the network draws them. With --reference, pictures whose error is above that of 95 % of the network's own
    pictures count as missed.

    \b
    stylegan-invert explain out/photos -n cats64-de --reference out/own -o out/explained
    """
    import numpy as np

    from ..analysis.results import priors, read_results, unexplained
    from ..analysis.sheets import sheet
    from ..files.writing import staged
    from ..generator.directions import Coordinates
    from ..media.pictures import write_png

    _, generator, c = open_generator(network, device, quiet, class_idx, z_prior, whitened=True)
    results = read_results(folder, generator, c)
    own = read_results(reference, generator, c) if reference is not None else None
    report = unexplained(results, own)
    values = priors(Coordinates(generator, c), results)
    order = report.pop("order")
    table = [
        {"result": one.name, "error": round(one.error, 6), "psnr": one.psnr, "prior": round(float(values[i]), 4)}
        for i, one in ((i, results[i]) for i in order)
    ]
    shown = [results[i] for i in order[:rows]]
    differences = [np.abs(one.target.astype(int) - one.image).astype(np.uint8) for one in shown]
    with staged(outdir) as inside:
        (inside / "explain.json").write_text(json.dumps({**report, "results": table}, indent=2) + "\n")
        write_png(inside / "explain.png", sheet([[r.target, r.image, d] for r, d in zip(shown, differences)], 64))
    tell(f"{'error':>9}{'PSNR':>8}{'prior':>10}  result")
    for row in table:
        psnr = "" if row["psnr"] is None else f"{row['psnr']:.2f}"
        missed = " (missed)" if own is not None and row["error"] > report["limit"] else ""
        tell(f"{row['error']:>9.4f}{psnr:>8}{row['prior']:>10.2f}  {row['result']}{missed}")
    if own is not None:
        medians = report["medians"]
        tell(
            f"missed: {report['missed']:.0%}, above {report['limit']:.4f}; median {medians[0]:.4f}, own {medians[1]:.4f}"
        )
    say(quiet, f"wrote explain.json and explain.png to {outdir}")
