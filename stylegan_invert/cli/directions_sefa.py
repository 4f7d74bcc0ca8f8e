"""``stylegan-invert directions sefa``"""

import click

from .common import class_option, device_option, network_option, outdir_option, quiet_option, say, z_prior_option
from .directions import components_option, layers_option, seeds_option, write_all
from .ends import layers_of, open_generator


@click.command()
@network_option
@components_option("the largest eigenvalue")
@layers_option
@seeds_option
@outdir_option
@class_option
@z_prior_option
@device_option
@quiet_option
def command(
    network: str,
    numbers: list[int],
    layers: str | None,
    seeds: list[int],
    outdir: str,
    class_idx: int | str | None,
    z_prior: str | None,
    device: str,
    quiet: bool,
) -> None:
    """Write the directions that change a network's styles most: sefa00.safetensors, ...

    They are computed from the weights alone (Shen & Zhou, 2021): from the modulation weights of a StyleGAN's chosen layers, or
    from the first dense layer of a network without w. Strength 1 is the standard deviation of the network's own codes along
    the direction. In sheet.png each row shows a component from -3 to +3.

    \b
    stylegan-invert directions sefa -n cats64-de --layers coarse --components 0-4 -o out/sefa
    """
    from ..editing.finding import sefa

    _, generator, c = open_generator(network, device, quiet, class_idx, z_prior)
    found = sefa(generator, numbers, layers_of(layers, generator), c)
    write_all(generator, found, [f"sefa{i:02d}" for i in numbers], outdir, seeds, c)
    say(quiet, f"wrote {len(found)} directions and sheet.png to {outdir}")
