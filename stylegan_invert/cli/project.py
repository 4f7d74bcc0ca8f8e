"""``stylegan-invert project``"""

from pathlib import Path
from typing import Any

import click

from .common import Progress, check_outdir, class_option, device_option, network_option, outdir_option, pick_device, say


@click.command(short_help="Find the latent codes of pictures.")
@network_option
@click.option(
    "--target",
    "-t",
    "targets",
    required=True,
    multiple=True,
    metavar="FILE",
    help="Picture, folder of pictures or quoted pattern; may be repeated.",
)
@outdir_option
@click.option(
    "--method",
    default="w",
    show_default=True,
    metavar="[w|w+]",
    help="w: one w for all layers. w+: one per layer, closer to the target.",
)
@click.option(
    "--steps", "--num-steps", type=click.IntRange(min=1), default=1000, show_default=True, help="Optimisation steps."
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=303,
    show_default=True,
    help="Random seed; each target starts from it.",
)
@click.option(
    "--lr", type=click.FloatRange(min=0, min_open=True), default=0.1, show_default=True, help="Peak learning rate."
)
@click.option(
    "--loss",
    default="lpips-squeeze=1,mse=1",
    show_default=True,
    metavar="NAME=W,...",
    help="Distances by weight: lpips-squeeze, lpips-vgg, mse, l1.",
)
@click.option(
    "--vgg16",
    type=click.Path(),
    metavar="FILE",
    help="VGG16 for lpips-vgg: a TorchScript file like the official vgg16.pt, or torchvision's state dict. "
    "Default: $STYLEGAN_INVERT_VGG16, else the official file, downloaded once.",
)
@class_option
@click.option(
    "--init",
    type=click.Path(),
    metavar="FILE",
    help="Start from a projected_w.npz, or from the folder of an earlier run with the same targets, instead of the mean.",
)
@click.option(
    "--save-noise", is_flag=True, help="Keep the optimised noise maps in projected_w.npz and render with them."
)
@click.option(
    "--video/--no-video", default=False, show_default=True, help="Write proj.mp4, a video of the optimisation."
)
@click.option(
    "--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Targets that share a pass on a GPU."
)
@click.option(
    "--fit",
    type=click.Choice(["crop", "pad"]),
    default="crop",
    show_default=True,
    help="Non-square pictures: take the square in the centre, or fill up to one.",
)
@click.option(
    "--background",
    default="white",
    show_default=True,
    metavar="COLOUR",
    help="Colour behind transparent pixels and padding.",
)
@device_option
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")
def command(network: str, targets: tuple[str, ...], outdir: str, quiet: bool, device: str, **options: Any) -> None:
    """Find the latent codes of pictures.

    Writes target.png, proj.png, projected_w.npz and result.json (LPIPS, PSNR and SSIM of the saved picture, and all
    settings) into DIR, or into a folder per target if there are several.

    \b
    stylegan-invert project -n ffhq -t photo.jpg -o out --method w+
    stylegan-invert project -n cats32 -t 'cats/*.jpg' -o out --batch 8
    """
    from ..io.images import find_pictures

    pictures = find_pictures(list(targets))
    several = len(pictures) > 1 or Path(targets[0]).expanduser().is_dir()
    run(network, pictures, folders(Path(outdir), pictures, several), pick_device(device), quiet, **options)


def folders(outdir: Path, pictures: list[Path], several: bool) -> list[Path]:
    """Where each picture's results go: ``outdir`` itself for a single one, else a folder by the picture's name."""
    if not several:
        return [outdir]
    stems = [p.stem for p in pictures]
    names = [p.stem if stems.count(p.stem) == 1 else p.name for p in pictures]
    for i, name in enumerate(names):
        if names.index(name) != i:
            raise click.UsageError(
                f"{pictures[names.index(name)]} and {pictures[i]} would both be written to {outdir / name}; project them in two runs."
            )
    return [outdir / name for name in names]


def run(
    network: str,
    pictures: list[Path],
    outdirs: list[Path],
    device: Any,
    quiet: bool,
    steps: int,
    lr: float,
    video: bool,
    init: str | None,
    batch: int,
    **options: Any,
) -> list[Any]:
    """Project pictures and save each as soon as it is done."""
    from ..io.network_file import load
    from ..projectors import project

    for outdir in outdirs:
        check_outdir(str(outdir))
    net = load(network)
    say(quiet, f"network {network}: {net.G.img_resolution}x{net.G.img_resolution}, {net.G.num_ws} layers, on {device}")
    bars: dict[int, Progress] = {}

    def progress(first: int, step: Any) -> None:
        if first not in bars:
            last = first + len(step.distance)
            label = pictures[first].name if last - first == 1 else f"targets {first + 1}-{last} of {len(pictures)}"
            bars[first] = Progress(steps, label, quiet)
        bars[first](step)
        if step.number == steps:
            bars[first].close()

    def done(i: int, result: Any) -> None:
        result.save(outdirs[i])
        m = result.metrics
        shown = ", ".join(
            f"{name} {m[key]:.{digits}f}"
            for key, name, digits in (("lpips", "LPIPS", 4), ("psnr", "PSNR", 2), ("ssim", "SSIM", 4))
            if m[key] is not None
        )
        say(quiet, f"{pictures[i]} -> {outdirs[i]}: {shown} ({result.record['seconds']:.1f} s)")

    try:
        return project(
            net.G.to(device),
            [str(p) for p in pictures],
            init=starts(init, outdirs),
            keep_steps=video,
            batch=batch,
            steps=steps,
            initial_learning_rate=lr,
            callback=progress,
            done=done,
            **options,
        )
    finally:
        for bar in bars.values():
            bar.close()


def starts(init: str | None, outdirs: list[Path]) -> Any:
    """The start of each target: a code file for all, or each one's own result in the folder of an earlier run."""
    if init is None or not Path(init).is_dir() or (Path(init) / "projected_w.npz").exists():
        return init
    return [str(Path(init) / outdir.name / "projected_w.npz") for outdir in outdirs]
