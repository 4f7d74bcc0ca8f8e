"""``stylegan-invert directions keep``"""

import click

from .common import class_option, device_option, foreign_codes_option, network_option, quiet_option, say, z_prior_option
from .directions import named, out_option
from .ends import open_generator


@click.command()
@click.argument("direction", metavar="FILE")
@click.argument("others", nargs=-1, required=True, metavar="KEPT...")
@network_option
@out_option
@foreign_codes_option
@class_option
@z_prior_option
@device_option
@quiet_option
def command(
    direction: str,
    others: tuple[str, ...],
    network: str,
    out: str,
    name: str | None,
    class_idx: int | str | None,
    z_prior: str | None,
    device: str,
    quiet: bool,
) -> None:
    """Take from a direction its parts along others, so that what these measure stays when it is applied.

    The directions are set at right angles in the network's coordinates: whitened V, or z where there is no w.

    \b
    stylegan-invert directions keep smile.safetensors age.safetensors pose.safetensors -n ffhq -o smile-only.safetensors
    """
    from ..editing.finding import keeping
    from ..generator.directions import Coordinates
    from ..io.direction_file import find_direction, read_direction, write_direction

    _, generator, c = open_generator(network, device, quiet, class_idx, z_prior, whitened=True)
    first, *kept = (read_direction(find_direction(file), generator) for file in (direction, *others))
    made = keeping(Coordinates(generator, c), first, kept, first.name)
    write_direction(out, named(made, name, out))
    say(quiet, f"wrote {out}")
