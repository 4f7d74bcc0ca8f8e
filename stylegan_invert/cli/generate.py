"""``stylegan-invert generate``"""

import os
import re

import click

from ..errors import StyleganInvertError
from .common import (
    Choice,
    Number,
    UserPath,
    class_option,
    counting,
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

MANY = 1000  # before more pictures than this are rendered, a line says how many


def parse_seeds(ctx: click.Context, param: click.Parameter, text: str | None) -> list[int] | None:
    """A click callback that reads seeds from a text such as "1,5,7-9"."""
    if text is None:
        return None
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < 2**32 or last - first >= 100_000:
            raise click.BadParameter(f"{part!r}; expected numbers and ranges, as in 1,5,7-9")
        seeds += range(first, last + 1)
    return seeds


@click.command()
@network_option
@click.option("--seeds", callback=parse_seeds, metavar="LIST", help="Seeds to render, as in 85,265,297-299.")
@click.option(
    "--projected-w",
    type=UserPath(),
    metavar="FILE",
    help="File of codes to render: projected_w.npz or projected_z.npz, of this package or the official projector; or the "
    "folder of a result.",
)
@click.option(
    "--rounding",
    type=Choice(["projector", "generate"]),
    help="How numbers become levels from 0 to 255. projector: as the official projector.py does, (x + 1) * 127.5. "
    "generate: as the official generate.py does, x * 127.5 + 128. Half of all numbers differ by one level.  "
    "[default: projector for --projected-w, generate for --seeds]",
)
@foreign_codes_option
@outdir_option
@click.option(
    "--trunc",
    "truncation_psi",
    type=Number(-100, 100),
    default=1,
    show_default=True,
    metavar="PSI",
    help="Truncation: w is moved towards the network's mean, all the way for 0. For a BigGAN, z is drawn from a "
    "truncated normal distribution.",
)
@click.option(
    "--compress",
    "tau",
    type=Number(0, 1e6, min_open=True),
    metavar="TAU",
    help="Compress the principal components of V that are above TAU times the largest standard deviation. It makes "
    "unlikely pictures more regular. (V is W before the last nonlinearity of the mapping network.)",
)
@class_option
@z_prior_option
@click.option(
    "--noise-mode",
    type=Choice(["const", "random", "none"]),
    default="const",
    show_default=True,
    help="Noise maps. const: those saved with the codes, else those in the network. random: new ones. none: no noise.",
)
@device_option
@quiet_option
def command(
    network: str,
    seeds: list[int] | None,
    projected_w: str | None,
    rounding: str | None,
    outdir: str,
    truncation_psi: float,
    tau: float | None,
    class_idx: int | str | None,
    z_prior: str | None,
    noise_mode: str,
    device: str,
    quiet: bool,
) -> None:
    """Render seeds (seed0085.png, ...), or codes from a projection (proj00.png, ...); sounds are .wav files.

    A projected code renders to exactly the picture that the projection saved. Official generate.py rounds the same
    picture differently, as --rounding generate does, and leaves out noise maps that were saved with the code. For
    networks that make a picture from z and a class, --class renders the same z with another class.

    \b
    stylegan-invert generate -n ffhq --seeds 85,265 --trunc 0.7 -o out
    stylegan-invert generate -n ffhq --seeds 85,265 --compress 0.8 -o out
    stylegan-invert generate -n ffhq --projected-w out/projected_w.npz -o out
    """
    if (seeds is None) == (projected_w is None):
        raise click.UsageError("Give either --seeds or --projected-w.")
    import torch

    from ..files.writing import staged
    from ..generator import Code, adapt, class_label, with_prior
    from ..io.codes import check_codes, code_file, read_codes
    from ..io.gaussian_file import with_gaussian
    from ..media.medium import medium_of

    if projected_w is not None and os.path.isdir(projected_w):
        projected_w = str(code_file(projected_w))
    code = read_codes(projected_w) if projected_w is not None else None
    where = pick_device(device)
    generator = with_prior(adapt(open_network(network, quiet).G.to(where)), z_prior)
    # Seeds need the class. So does --compress, because a saved w does not say of which class it is, and each class has
    # its own Gaussian of V.
    needed = code is None or tau is not None or class_idx is not None
    c = class_label(generator, class_idx) if needed else None
    c = None if c is None else c.to(where)
    if code is not None and c is not None and tau is None:
        if generator.base != "z":
            raise click.UsageError(
                "--class is for --seeds, for --compress, and for codes of z; a code with w has its class in its w."
            )
        code = Code(code.space, code.tensors, c.cpu().expand(len(code), -1), code.network)
    medium = medium_of(generator)
    ending = os.path.splitext(medium.output_file)[1]
    with torch.no_grad():
        if code is not None:
            check_codes(code, generator, str(projected_w))
            names = [f"proj{i:02d}{ending}" for i in range(len(code))]
            codes = [generator.truncated(one, truncation_psi) for one in code.to(where)]
        else:
            (shape,) = generator.code_shapes("z").values()
            z = [generator.prior.of_seed(seed, [1, *shape]).to(where) for seed in seeds or []]
            # One at a time, as official code does: in a batch the last digits differ.
            codes = [generator.truncated(Code("z", {"z": one}, c), truncation_psi) for one in z]
            names = [f"seed{seed:04d}{ending}" for seed in seeds or []]
        if tau is not None:
            with sampling(quiet) as progress:
                generator = with_gaussian(generator, c, progress=progress)
            codes = [generator.compressed(Code(one.space, one.tensors, c), tau) for one in codes]
        rounding = rounding or ("generate" if code is None else "projector")
        if len(names) > MANY:
            say(quiet, f"rendering {len(names):,} {generator.medium}s")
        with staged(outdir) as folder, counting(len(names), f"{generator.medium}s", quiet) as progress:
            for name, one in zip(names, codes):
                try:
                    medium.write(folder / name, medium.rounded(generator.render(one, noise_mode)[0], rounding))
                except StyleganInvertError as e:
                    raise click.ClickException(f"{name}: {e}") from None
                progress(1)
    say(quiet, f"wrote {len(names)} {generator.medium}{'s' * (len(names) > 1)} to {outdir}")
