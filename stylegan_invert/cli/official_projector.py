"""``python -m stylegan_invert.projector``: the flags, defaults and files of stylegan2-ada-pytorch's projector.py."""

from pathlib import Path
from typing import Any

import click

from .common import SEED, NetworkSource, UserPath, class_option, device_option, pick_device
from .project import run, run_torchscript_option


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--network", required=True, type=NetworkSource(), help="Network pickle filename or URL, or an official short name"
)
@click.option("--target", required=True, type=UserPath(), metavar="FILE", help="Target image file to project to")
@click.option(
    "--num-steps", type=click.IntRange(min=1), default=1000, show_default=True, help="Number of optimization steps"
)
@click.option("--seed", type=SEED, default=303, show_default=True, help="Random seed")
@click.option(
    "--save-video", type=bool, default=True, show_default=True, help="Save an mp4 video of optimization progress"
)
@click.option("--outdir", required=True, type=UserPath(), metavar="DIR", help="Where to save the output images")
@class_option
@click.option(
    "--loss",
    default="lpips-vgg",
    show_default=True,
    metavar="NAME=W,...",
    help="Distances to minimise, with their weights; lpips-squeeze needs no download",
)
@click.option(
    "--vgg16",
    type=UserPath(),
    metavar="FILE",
    help="The official vgg16.pt, or torchvision's state dict of VGG16; downloaded if this is left out",
)
@run_torchscript_option
@device_option
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors")
def command(
    network: str,
    target: str,
    num_steps: int,
    seed: int,
    save_video: bool,
    outdir: str,
    class_idx: int | str | None,
    loss: str,
    vgg16: str | None,
    run_torchscript: bool,
    device: str,
    quiet: bool,
) -> None:
    """Project given image to the latent space of pretrained network pickle.

    The flags and their defaults are the official ones; --class, --loss, --vgg16, --run-torchscript, --device, --ops
    and --quiet are additions. Like the official projector it writes proj.mp4, target.png, proj.png and projected_w.npz. It also writes
    result.json.

    \b
    python -m stylegan_invert.projector --outdir=out --target=photo.png --network=ffhq
    """
    options: dict[str, Any] = {"steps": num_steps, "seed": seed, "loss": loss, "class_idx": class_idx}
    options |= {"vgg16": vgg16, "run_torchscript": run_torchscript}
    where = pick_device(device)
    run(network, [Path(target)], [Path(outdir)], where, quiet, video=save_video, method="w", **options)
