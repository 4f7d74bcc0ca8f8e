"""``stylegan-invert directions boundary``"""

import click

from .common import (
    Number,
    class_option,
    device_option,
    foreign_codes_option,
    network_option,
    quiet_option,
    tell,
    z_prior_option,
)
from .directions import layers_option, named, out_option
from .ends import layers_of, open_generator


@click.command()
@click.argument("plus", metavar="GROUP")
@click.argument("minus", metavar="GROUP")
@network_option
@layers_option
@click.option(
    "--ridge", type=Number(0, 1e9, min_open=True), default=1.0, show_default=True, metavar="FLOAT",
    help="Weight of the squared length of the boundary's normal, which keeps it from following single codes.",
)  # fmt: skip
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
    layers: str | None,
    ridge: float,
    out: str,
    name: str | None,
    class_idx: int | str | None,
    z_prior: str | None,
    device: str,
    quiet: bool,
) -> None:
    """Write the direction across the boundary between two groups of codes, to the first from the second.

    A GROUP is a folder of results of 'project', a file of codes, or a folder of pictures named as 'generate' names them
    (seed0085.png): generate some hundred pictures and sort them into two folders. The boundary is drawn by logistic
    regression in whitened V (in W or z where there is no V). Prints how many codes that were held out lie on the right side.

    \b
    stylegan-invert directions boundary sorted/smiling sorted/other -n ffhq -o smile.safetensors
    """
    from ..analysis.groups import read_group
    from ..editing.finding import boundary
    from ..generator.directions import Coordinates
    from ..io.direction_file import write_direction

    _, generator, c = open_generator(network, device, quiet, class_idx, z_prior, whitened=True)
    more, less = (read_group(group, generator, c) for group in (plus, minus))
    direction, right = boundary(Coordinates(generator, c), more, less, layers_of(layers, generator), ridge)
    write_direction(out, named(direction, name, out))
    tell(f"{len(more)} and {len(less)} codes; accuracy on held-out codes {right:.3f} (guessing: 0.5)")
