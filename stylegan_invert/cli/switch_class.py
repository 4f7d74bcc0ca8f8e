"""``stylegan-invert switch-class``"""

import json
import tempfile
from pathlib import Path
from typing import Any

import click

from .common import (
    Class,
    check_outdir,
    counting,
    device_option,
    network_option,
    outdir_option,
    quiet_option,
    say,
    z_prior_option,
)
from .ends import open_generator

COLUMNS = 8  # the number of frames in the sheet, at most


@click.command()
@click.argument("frames", nargs=-1, required=True, metavar="FRAMES...")
@network_option
@click.option(
    "--class",
    "class_idx",
    type=Class(),
    required=True,
    metavar="INT|NAME|search",
    help="Class of the frames. search tries every class on the first frame.",
)
@click.option(
    "--to",
    type=Class(),
    multiple=True,
    required=True,
    metavar="INT|NAME",
    help="New class. The option may be repeated.",
)
@click.option(
    "--method",
    type=click.Choice(["dense", "fast-dense", "z", "fast-z"]),
    default="dense",
    show_default=True,
    help="How frames are found: z and then a displacement at a layer, or z alone; fast-* by L-BFGS.",
)
@click.option("--layer", metavar="NAME", help="For dense: where to split.  [default: the first dense layer]")
@click.option("--steps", type=click.IntRange(min=1), help="Steps to z.  [default: that of the method]")
@click.option(
    "--layer-steps",
    type=click.IntRange(min=1),
    help="For dense: steps of the displacement.  [default: that of the method]",
)
@click.option(
    "--loss", metavar="NAME=W,...", help="Distances to minimise, as for project.  [default: that of the method]"
)
@click.option(
    "--fps", type=click.IntRange(1, 120), default=10, show_default=True, help="Frames per second of the videos."
)
@outdir_option
@z_prior_option
@device_option
@quiet_option
def command(
    frames: tuple[str, ...],
    network: str,
    class_idx: int | str,
    to: tuple[int | str, ...],
    method: str,
    layer: str | None,
    steps: int | None,
    layer_steps: int | None,
    loss: str | None,
    fps: int,
    outdir: str,
    z_prior: str | None,
    device: str,
    quiet: bool,
) -> None:
    """Find a sequence of frames, and draw it again as other classes (Pividori et al., Figure 12).

    FRAMES are pictures, folders, lists (.txt), zips, videos (MP4, MOV, MKV, WebM, AVI) and animations (GIF, WebP, PNG). Each
    search starts from the result of the frame before.

    Writes compare.mp4 (frame, reconstruction and each new class side by side), class-3.mp4 of each new class, sheet.png (the same
    rows as Figure 12), the codes (codes.npz, for 'generate'), and flicker.json: how much each sequence changes from frame to
    frame, and how that compares with the reconstruction. At most 1.3 times as much counts as steady.

    \b
    stylegan-invert switch-class frames/ -n biggan.pth --class 207 --to 208 --to 222 -o out/dogs
    stylegan-invert switch-class walk.mp4 -n biggan.pth --class search --to 9 -o out/walk
    """
    from ..generator import class_label
    from ..media.frames import find_frames
    from ..projectors.projector import Projector

    check_outdir(outdir)
    _, generator, _ = open_generator(network, device, quiet, None, z_prior)
    if not generator.c_dim or generator.base != "z":
        raise click.ClickException("switch-class is for networks from z with classes, as a BigGAN; this one is none.")

    def number(k: int | str) -> int:
        c = class_label(generator, k)  # raises if there is no such class
        assert c is not None  # as the network has classes
        return int(c.argmax())

    new = [number(k) for k in to]
    if class_idx == "relaxed":
        raise click.UsageError(
            "--class relaxed mixes classes, and a switch goes from one to another; expected a number, a name or search."
        )
    options: dict[str, Any] = {"steps": steps, "layer_steps": layer_steps, "layer": layer, "loss": loss}
    options = {key: value for key, value in options.items() if value is not None}
    with tempfile.TemporaryDirectory() as folder:
        targets = find_frames(list(frames), Path(folder), lambda text: say(quiet, text))
        if len(targets) < 2:
            raise click.UsageError(f"{len(targets)} frame was found; a sequence has at least two.")
        if class_idx == "search":
            (first,) = Projector(generator, method, class_idx=class_idx, **options).project(targets[:1])
            assert first.code.c is not None  # a code of a network with classes has its class
            class_idx = int(first.code.c[0].argmax())
            say(quiet, f"the first frame is of class {class_idx}")
        projector = Projector(generator, method, class_idx=class_idx, **options)
        results = []
        with counting(len(targets), "frames", quiet) as progress:
            for result in projector.project(targets, sequence=True):
                results.append(result)
                progress(1)
    record = _write(Path(outdir), generator, results, number(class_idx), new, fps)
    for k, row in record["switched"].items():
        ratios = ", ".join(f"{name} {'-' if v is None else format(v, '.2f')}" for name, v in row["ratio"].items())
        steady = "steady" if row["steady"] else "not steady"
        say(quiet, f"class {k}: frame-to-frame distance beside the reconstruction's: {ratios} ({steady})")
    say(quiet, f"wrote compare.mp4, sheet.png, flicker.json and codes of {len(results)} frames to {outdir}")


def _write(outdir: Path, generator: Any, results: list[Any], class_idx: int, to: list[int], fps: int) -> dict[str, Any]:
    """Write all files or none; returns the contents of flicker.json."""
    import numpy as np

    from ..analysis.sheets import sheet
    from ..editing.class_switch import MOST_FLICKER, flicker, frame_distance, switched
    from ..files.writing import staged
    from ..generator import joined
    from ..io.codes import write_code
    from ..losses import SqueezeLPIPS
    from ..media.pictures import write_png
    from ..media.video import write_mp4
    from ..projectors.projection import render_rounded

    lpips = SqueezeLPIPS()
    codes = [result.code.to(generator.device) for result in results]
    rows = {"original": [r.target.numpy() for r in results], "reconstruction": [r.image.numpy() for r in results]}
    rows |= {str(k): [render_rounded(generator, switched(generator, code, k)) for code in codes] for k in to}
    distances = {name: frame_distance(row, lpips) for name, row in rows.items()}
    record = {
        "frames": len(results),
        "class": class_idx,
        "limit": MOST_FLICKER,
        "original": distances["original"],
        "reconstruction": distances["reconstruction"],
        "switched": {str(k): flicker(distances["reconstruction"], distances[str(k)]) for k in to},
    }
    shown = np.linspace(0, len(results) - 1, min(COLUMNS, len(results))).round().astype(int)
    with staged(outdir) as folder:
        write_png(folder / "sheet.png", sheet([[row[i] for i in shown] for row in rows.values()]))
        write_mp4(folder / "compare.mp4", (np.concatenate(columns, axis=2) for columns in zip(*rows.values())), fps)
        for k in to:
            write_mp4(folder / f"class-{k}.mp4", iter(rows[str(k)]), fps)
        write_code(folder, joined(codes), generator, "codes.npz")
        (folder / "flicker.json").write_text(json.dumps(record, indent=2) + "\n")
    return record
