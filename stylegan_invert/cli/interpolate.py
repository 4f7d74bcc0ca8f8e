"""``stylegan-invert interpolate``"""

import os
from typing import Any

import click

from .common import (
    Choice,
    UserPath,
    class_option,
    device_option,
    foreign_codes_option,
    network_option,
    open_network,
    outdir_option,
    pick_device,
    quiet_option,
    sampling,
    say,
    z_prior_option,
)
from .ends import code_of


@click.command()
@network_option
@click.argument("ends", nargs=-1, required=True, metavar="END END...")
@outdir_option
@click.option(
    "--frames",
    type=click.IntRange(min=2),
    default=9,
    show_default=True,
    help="Number of pictures on the line between two ends, with the ends.",
)
@click.option(
    "--video", is_flag=True, help="Also write interpolation.mp4, which shows the pictures forwards and backwards."
)
@click.option(
    "--space",
    type=Choice(["z", "w", "w+", "v", "v+"]),
    help="Space in which the lines are straight.  [default: the space of the codes]",
)
@click.option(
    "--true",
    "true_ends",
    type=UserPath(),
    multiple=True,
    metavar="END",
    help="The true code of an END, for pictures whose code is known. Give one for each END, in the same order. Errors "
    "are then written to errors.json and errors.png.",
)
@foreign_codes_option
@class_option
@z_prior_option
@device_option
@quiet_option
def command(
    network: str,
    ends: tuple[str, ...],
    outdir: str,
    frames: int,
    video: bool,
    space: str | None,
    true_ends: tuple[str, ...],
    class_idx: int | str | None,
    z_prior: str | None,
    device: str,
    quiet: bool,
) -> None:
    """Render the straight lines between codes.

    An END is a file of codes, the folder of a projection, or seed:N for the latent of a seed. After a result of
    --method dense, which is a latent and a displacement at a layer, the END "latent" is the same code without its
    displacement.

    Writes frame0000.png, ..., and sheet.png; of sounds frame0000.wav, ..., and a sheet of their spectrograms, and with
    --video interpolation.wav. With --true, the pictures are compared with those between the true codes: by the
    perceptual distance LPIPS, and by the distance of the codes in W and in whitened V.

    \b
    stylegan-invert interpolate -n cats32 out/one out/two -o out/between --video
    stylegan-invert interpolate -n cats32 out/one out/two --true seed:1 --true seed:2 --space v+ -o out/errors
    stylegan-invert interpolate -n dcgan.pt out/face latent -o out/gap
    stylegan-invert interpolate -n dcgan.pt out/face seed:7 -o out/random
    """
    import numpy as np
    import torch

    from ..analysis.paths import between, line_errors
    from ..generator import adapt, class_label, with_prior
    from ..io.gaussian_file import with_gaussian
    from ..losses import SqueezeLPIPS
    from ..media.medium import medium_of
    from ..projectors.projection import render_rounded

    if len(ends) < 2:
        raise click.UsageError("Give at least two ends.")
    where = pick_device(device)
    generator = with_prior(adapt(open_network(network, quiet).G.to(where)), z_prior)
    if true_ends and len(true_ends) != len(ends):
        raise click.UsageError(f"--true was given {len(true_ends)} times for {len(ends)} ends.")
    needs_v = bool(true_ends) or (space or "").startswith("v")
    c = class_label(generator, class_idx) if class_idx is not None or needs_v else None
    c = None if c is None else c.to(where)
    if needs_v:
        with sampling(quiet) as progress:
            generator = with_gaussian(generator, c, progress=progress)
    alphas = np.linspace(0, 1, frames)

    def lines(names: tuple[str, ...]) -> list[list[Any]]:
        """The codes on the line from each END to the next."""
        codes: list[Any] = []
        for name in names:
            codes.append(_code(generator, name, codes[-1] if codes else None, c))
        with torch.no_grad():
            return [between(generator, a, b, alphas, space) for a, b in zip(codes, codes[1:])]

    codes_of_lines = lines(ends)
    rows = [[render_rounded(generator, code) for code in line] for line in codes_of_lines]
    pictures = rows[0] + [picture for row in rows[1:] for picture in row[1:]]
    errors: list[dict[str, Any]] = []
    if true_ends:
        lpips = SqueezeLPIPS()
        for line, true_line in zip(codes_of_lines, lines(true_ends)):
            errors.append({"alpha": alphas.tolist(), **line_errors(generator, line, true_line, lpips)})
    _write(outdir, medium_of(generator), rows, pictures, errors, video)
    say(quiet, f"wrote {len(pictures)} {generator.medium}s and sheet.png to {outdir}")


def _write(
    outdir: str, medium: Any, rows: list[list[Any]], pictures: list[Any], errors: list[dict[str, Any]], video: bool
) -> None:
    """Write the frames, the sheet and, if there are any, the errors and the video: all of them or none.

    Args:
        outdir: the folder.
        medium: writes the outputs.
        rows: the outputs of each line.
        pictures: all outputs in order, without the ends that two lines share.
        errors: the errors of each line.
        video: write a video of the way there and back.
    """
    import json

    from ..analysis.plots import curves, write_figure
    from ..analysis.sheets import sheet
    from ..files.writing import staged
    from ..media.pictures import write_png

    with staged(outdir) as folder:
        for i, picture in enumerate(pictures):
            medium.write(folder / f"frame{i:04d}{os.path.splitext(medium.output_file)[1]}", picture)
        write_png(folder / "sheet.png", sheet([[medium.seen(output) for output in row] for row in rows]))
        if errors:
            (folder / "errors.json").write_text(json.dumps(errors, indent=2) + "\n")
            write_figure(folder / "errors.png", curves([{"": of_line} for of_line in errors]))
        if video:
            medium.write_sequence(folder / medium.sequence_file, pictures + pictures[-2:0:-1])


def _code(generator: Any, end: str, before: Any, c: Any) -> Any:
    """The code that an END names, on the generator's device.

    Args:
        generator: the adapter of the network.
        end: the END.
        before: the code of the END before it; None for the first.
        c: the label (1, c_dim) of the class; None for a network without classes, or to keep that of a file.
    """
    from ..analysis.paths import underlying

    if end == "latent":
        if before is None:
            raise click.UsageError(
                "'latent' stands for the code before it without its displacement; no code is before it."
            )
        return underlying(generator, before)
    return code_of(generator, end, c)
