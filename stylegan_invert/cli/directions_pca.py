"""``stylegan-invert directions pca``"""

import click

from .common import class_option, device_option, network_option, outdir_option, quiet_option, say
from .directions import components_option, layers_option, seeds_option, write_all
from .ends import layers_of, open_generator


@click.command()
@network_option
@components_option("the largest variance")
@layers_option
@seeds_option
@outdir_option
@class_option
@device_option
@quiet_option
def command(
    network: str,
    numbers: list[int],
    layers: str | None,
    seeds: list[int],
    outdir: str,
    class_idx: int | str | None,
    device: str,
    quiet: bool,
) -> None:
    """Write the principal components of V as directions: pca00.safetensors, ...

    V is W before the last activation of the mapping network, where codes are nearly Gaussian. Strength 1 is the standard
    deviation along the component. In sheet.png each row shows a component from -3 to +3: look what moves, then rename it.

    \b
    stylegan-invert directions pca -n cats64-de --components 0-9 --seeds 1,2 -o out/pca
    """
    from ..editing.finding import pca

    _, generator, c = open_generator(network, device, quiet, class_idx, whitened=True)
    found = pca(generator, numbers, layers_of(layers, generator), c)
    write_all(generator, found, [f"pca{i:02d}" for i in numbers], outdir, seeds, c)
    say(quiet, f"wrote {len(found)} directions and sheet.png to {outdir}")
