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
@click.option(
    "--fid-inception",
    type=UserPath(),
    metavar="FILE",
    help="Weights of FID's own network, pt_inception-2015-12-05-6726825d.pth of pytorch-fid or torch-fidelity: report FID, too.",
)
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
    fid_inception: str | None,
    as_json: bool,
    device: str,
    quiet: bool,
) -> None:
    """Measure how far a network's pictures are from real ones.

    Prints the kernel distance (KID) with its standard error and, from 10,000 pictures on both sides on, the Frechet
    distance, both by the features of the shipped SqueezeNet: they are no FID, and cannot be compared with published ones.
    With --fid-inception also FID and KID by the features of FID's own network, computed as torch-fidelity computes them.
    Published FIDs are usually of 50,000 generated pictures; fewer give a larger FID.

    \b
    stylegan-invert distance -n runs/cats/network-snapshot-000500.pkl --data cats.zip --mirror
    stylegan-invert distance -n ffhq --data ffhq.zip --samples 50000 --fid-inception pt_inception-2015-12-05-6726825d.pth
    """
    import torch

    from ..analysis.distribution import (
        FIDFeatures,
        PictureFeatures,
        distances,
        features_of,
        fid_distances,
        generated_pictures,
        stored_pictures,
    )
    from ..generator import adapt
    from ..media.picture_set import PictureSet

    where = pick_device(device)
    networks = [PictureFeatures(where), *([] if fid_inception is None else [FIDFeatures(fid_inception, where)])]
    G = open_network(network, quiet, "picture").G.to(where)
    first, last = pictures or (0, None)
    real = PictureSet(
        data, G.img_resolution, G.img_channels, use_labels=G.c_dim > 0, mirror=mirror, first=first, last=last
    )
    with counting(len(real.names), "reading", quiet) as progress:
        real.check(progress)
    if real.broken:
        say(quiet, f"left out {len(real.broken)} pictures that cannot be read, as {next(iter(real.broken))}")
    with counting(len(real) + samples, "features", quiet) as progress:
        a = features_of(networks, stored_pictures(real), progress)
        labels = torch.from_numpy(real.labels) if G.c_dim else None
        b = features_of(networks, generated_pictures(adapt(G), samples, seed, labels), progress)
    result = distances(a[0], b[0])
    if fid_inception is not None:
        result |= fid_distances(a[1], b[1])
    if as_json:
        tell_json(result)
        return
    tell(f"KID (SqueezeNet)      {result['kid_squeezenet']:.5f} +- {result['kid_squeezenet_stderr']:.5f}")
    if "frechet_squeezenet" in result:
        tell(f"Frechet (SqueezeNet)  {result['frechet_squeezenet']:.4f}")
    else:
        tell("Frechet (SqueezeNet)  not given: it needs 10,000 pictures on both sides")
    if "fid" in result:
        tell(f"FID                   {result['fid']:.4f}")
        tell(f"KID                   {result['kid']:.6f} +- {result['kid_stderr']:.6f}")
    tell(f"pictures              {len(a[0]):,} real, {len(b[0]):,} generated")
