"""``stylegan-invert detect``"""

import json
from typing import Any

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
@click.argument("queries", nargs=-1, metavar="[FOLDER...]")
@network_option
@click.option(
    "--real", type=UserPath(), required=True, metavar="FOLDER",
    help="Results of pictures that the network did not draw, of the kind that the question is about.",
)  # fmt: skip
@click.option(
    "--generated", type=UserPath(), required=True, metavar="FOLDER",
    help="Results of pictures that the network drew, of random seeds.",
)  # fmt: skip
@outdir_option
@foreign_codes_option
@class_option
@z_prior_option
@device_option
@quiet_option
def command(
    queries: tuple[str, ...],
    network: str,
    real: str,
    generated: str,
    outdir: str,
    class_idx: int | str | None,
    z_prior: str | None,
    device: str,
    quiet: bool,
) -> None:
    """Judge whether pictures were drawn by this network, by how well it rebuilds them and how likely their codes are.

    All FOLDERs have results of 'project', made in the same way. Prints for each result of FOLDER the recovery gap (LPIPS), the
    prior value (near 1 for codes as the network draws them), and how much more it is like the generated than like the real
    pictures, between 0 and 1; and how well these two groups can be told apart, as the area under the ROC curve (AUC; 0.5 is
    guessing). Writes detect.json and roc.png.

    It compares with these two groups and knows no others: a picture that another network drew, or that was scaled, cropped or
    compressed after it was drawn, is often taken for a real one. Nothing here proves that a photograph is genuine.

    \b
    stylegan-invert generate -n cats64-de --seeds 0-19 -o own
    stylegan-invert project -n cats64-de -t own -o out/own
    stylegan-invert project -n cats64-de -t photos -o out/photos
    stylegan-invert detect out/unknown -n cats64-de --real out/photos --generated out/own -o out/detected
    """
    import numpy as np

    from ..analysis.detection import TRAITS, check_groups, judged, traits
    from ..analysis.plots import roc_curves, write_figure
    from ..analysis.results import read_results
    from ..files.writing import staged
    from ..generator.directions import Coordinates

    _, generator, c = open_generator(network, device, quiet, class_idx, z_prior, whitened=True)
    groups = {path: read_results(path, generator, c) for path in (real, generated, *queries)}
    check_groups(groups)
    coordinates = Coordinates(generator, c)
    known = [traits(coordinates, groups[path]) for path in (real, generated)]
    asked = [one for path in queries for one in groups[path]]
    values = np.concatenate([np.zeros([0, len(TRAITS)]), *(traits(coordinates, groups[path]) for path in queries)])
    report = judged(known[0], known[1], values)
    rows: list[dict[str, Any]] = [
        {"result": one.name, **dict(zip(TRAITS, map(float, row))), "drawn": drawn}
        for one, row, drawn in zip(asked, values, report.pop("drawn"))
    ]
    drawing = roc_curves(report["roc"], report["auc"])
    with staged(outdir) as folder:
        (folder / "detect.json").write_text(json.dumps({**report, "results": rows}, indent=2) + "\n")
        write_figure(folder / "roc.png", drawing)
    for row in rows:
        tell(f"{row['drawn']:6.2f}  gap {row['gap']:.4f}  prior {row['prior']:.2f}  {row['result']}")
    areas = ", ".join(f"{name} {area:.3f}" for name, area in report["auc"].items())
    tell(
        f"AUC: {areas}; accuracy {report['accuracy']:.3f} on {len(known[0])} real and {len(known[1])} generated pictures"
    )
    say(quiet, f"wrote detect.json and roc.png to {outdir}")
