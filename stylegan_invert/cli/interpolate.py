"""``stylegan-invert interpolate``"""

from pathlib import Path
from typing import Any

import click

from .common import (
    device_option,
    network_option,
    outdir_option,
    pick_device,
    quiet_option,
    say,
    z_prior_option,
)


@click.command()
@network_option
@click.argument("ends", nargs=-1, required=True, metavar="END END...")
@outdir_option
@click.option(
    "--frames", type=click.IntRange(min=2), default=9, show_default=True, help="Pictures per stretch, its ends counted."
)
@click.option("--video", is_flag=True, help="Write interpolation.mp4 too, of these frames there and back.")
@z_prior_option
@device_option
@quiet_option
def command(
    network: str, ends: tuple[str, ...], outdir: str, frames: int, video: bool, z_prior: str | None, device: str, quiet: bool
) -> None:  # fmt: skip
    """Render the straight lines between codes.

    An END is a file of codes or the folder of a projection, seed:N for the latent of a seed, or "latent" for the code before
    it without its displacement (after --method dense). Writes frame0000.png, ..., and sheet.png.

    \b
    stylegan-invert interpolate -n cats32 out/one out/two -o out/between --video
    stylegan-invert interpolate -n dcgan.pt out/face latent -o out/gap
    stylegan-invert interpolate -n dcgan.pt out/face seed:7 -o out/random
    """
    import numpy as np
    import torch

    from ..analysis.paths import between
    from ..analysis.sheets import sheet
    from ..generator import adapt, set_prior
    from ..io.files import staged
    from ..io.images import write_png
    from ..io.network_file import load
    from ..io.video import write_mp4
    from ..projectors.projection import render_pixels

    if len(ends) < 2:
        raise click.UsageError("Give at least two ends.")
    where = pick_device(device)
    generator = adapt(load(network).G.to(where))
    set_prior(generator, z_prior)
    codes: list[Any] = []
    for end in ends:
        codes.append(_code(generator, end, codes[-1] if codes else None))
    rows = []
    for a, b in zip(codes, codes[1:]):
        with torch.no_grad():
            line = between(generator, a, b, np.linspace(0, 1, frames))
        rows.append([render_pixels(generator, code) for code in line])
    pictures = rows[0] + [picture for row in rows[1:] for picture in row[1:]]
    with staged(outdir) as folder:
        for i, picture in enumerate(pictures):
            write_png(folder / f"frame{i:04d}.png", picture)
        write_png(folder / "sheet.png", sheet(rows))
        if video:
            write_mp4(folder / "interpolation.mp4", iter(pictures + pictures[-2:0:-1]))
    say(quiet, f"wrote {len(pictures)} pictures and sheet.png to {outdir}")


def _code(generator: Any, end: str, before: Any) -> Any:
    """The code that an END names, on the generator's device."""
    from ..analysis.paths import underlying
    from ..generator import check_code
    from ..io.codes import code_file, read_codes
    from ..spaces import Code

    if end == "latent":
        if before is None:
            raise click.UsageError("'latent' takes the displacement off the code before it, and there is none.")
        return underlying(generator, before)
    if end.startswith("seed:"):
        number = end.removeprefix("seed:")
        if not number.isdigit() or int(number) >= 2**32:
            raise click.UsageError(f"{end!r}; expected seed:N with a number.")
        if generator.c_dim:
            raise click.UsageError("seed:N is for networks without classes.")
        (shape,) = generator.code_shapes("z").values()
        return Code("z", {"z": generator.prior.of_seed(int(number), [1, *shape])}).to(generator.device)
    path = Path(end).expanduser()
    code = read_codes(code_file(path) if path.is_dir() else path)
    check_code(code, generator, end)
    if len(code) != 1:
        raise click.ClickException(f"{end}: it holds {len(code)} codes; expected one")
    return code.without_noise().to(generator.device)
