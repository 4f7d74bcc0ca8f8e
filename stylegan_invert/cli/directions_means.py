"""``stylegan-invert directions means``"""

import click

from .common import class_option, device_option, foreign_codes_option, network_option, quiet_option, say, z_prior_option
from .directions import named, out_option
from .ends import open_generator


@click.command()
@click.argument("plus", metavar="GROUP")
@click.argument("minus", metavar="GROUP")
@network_option
@out_option
@foreign_codes_option
@class_option
@z_prior_option
@device_option
@quiet_option
def command(
    plus: str,
    minus: str,
    network: str,
    out: str,
    name: str | None,
    class_idx: int | str | None,
    z_prior: str | None,
    device: str,
    quiet: bool,
) -> None:
    """Write the direction to the mean of one group of codes from that of another.

    Strength 1 is the whole difference. A GROUP is what 'directions boundary' takes; means are taken in V where the network has
    it, and of each layer by itself.

    \b
    stylegan-invert directions means out/ginger out/grey -n cats64-de -o ginger.safetensors
    """
    from ..analysis.groups import read_group
    from ..editing.finding import difference
    from ..io.direction_file import write_direction

    _, generator, c = open_generator(network, device, quiet, class_idx, z_prior)
    more, less = (read_group(group, generator, c) for group in (plus, minus))
    write_direction(out, named(difference(generator, more, less), name, out))
    say(quiet, f"wrote {out}, from {len(more)} and {len(less)} codes")
