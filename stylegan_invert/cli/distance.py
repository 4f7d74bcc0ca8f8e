"""``stylegan-invert distance``"""

import click

from .common import (
    SEED,
    Span,
    UserPath,
    counting,
    device_option,
    network_option,
    open_network,
    pick_device,
    quiet_option,
    say,
    tell,
    tell_json,
)


@click.command()
@network_option
@click.option(
    "--data", required=True, type=UserPath(), metavar="PATH", help="Real pictures: a dataset zip or a folder."
)
@click.option(
    "--pictures", type=Span(), metavar="FIRST:LAST", help="Take these pictures only, in the order of their names."
)
@click.option("--mirror", is_flag=True, help="Take every picture mirrored, too.")
@click.option("--samples", type=click.IntRange(min=8), default=10000, show_default=True, help="Pictures to generate.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Random seed of the latents.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@device_option
@quiet_option
def command(
    network: str,
    data: str,
    pictures: tuple[int, int | None] | None,
    mirror: bool,
    samples: int,
    seed: int,
    as_json: bool,
    device: str,
    quiet: bool,
) -> None:
    """Measure how far a network's pictures are from real ones.

    Prints the kernel distance (KID) with its standard error and, from 10,000 pictures on both sides on, the Frechet
    distance, both by the features of the shipped SqueezeNet: they are no FID, and cannot be compared with published ones.

    \b
    stylegan-invert distance -n runs/cats/network-snapshot-000500.pkl --data cats.zip --mirror
    """
    import torch

    from ..analysis.distribution import PictureFeatures, distances, generated_pictures, stored_pictures
    from ..generator import adapt
    from ..media.picture_set import PictureSet

    where = pick_device(device)
    G = open_network(network, quiet).G.to(where)
    first, last = pictures or (0, None)
    real = PictureSet(
        data, G.img_resolution, G.img_channels, use_labels=G.c_dim > 0, mirror=mirror, first=first, last=last
    )
    with counting(len(real.names), "reading", quiet) as progress:
        real.check(progress)
    if real.broken:
        say(quiet, f"left out {len(real.broken)} pictures that cannot be read, as {next(iter(real.broken))}")
    features = PictureFeatures(where)
    with counting(len(real) + samples, "features", quiet) as progress:
        a = features.of(stored_pictures(real), progress)
        labels = torch.from_numpy(real.labels) if G.c_dim else None
        b = features.of(generated_pictures(adapt(G), samples, seed, labels), progress)
    result = distances(a, b)
    if as_json:
        tell_json(result)
        return
    tell(f"KID (SqueezeNet)      {result['kid_squeezenet']:.5f} +- {result['kid_squeezenet_stderr']:.5f}")
    if "frechet_squeezenet" in result:
        tell(f"Frechet (SqueezeNet)  {result['frechet_squeezenet']:.4f}")
    else:
        tell("Frechet (SqueezeNet)  not given: it needs 10,000 pictures on both sides")
    tell(f"pictures              {len(a):,} real, {len(b):,} generated")
