"""``stylegan-invert project``"""

from pathlib import Path
from typing import Any

import click

from .common import (
    SEED,
    Number,
    Progress,
    UserPath,
    check_outdir,
    class_option,
    device_option,
    network_option,
    outdir_option,
    pick_device,
    quiet_option,
    say,
)

FILE = "projected_w.npz"
OF_STEPS = (
    "steps",
    "seed",
    "initial_learning_rate",
    "init",
    "save_noise",
    "video",
)  # options of methods that take steps


@click.command()
@network_option
@click.option(
    "--target",
    "-t",
    "targets",
    type=UserPath(),
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
    metavar="[w|w+|de]",
    help="w: one w for all layers. w+: one per layer, closer to the target. de: what the network's discriminator finds "
    "in one pass, without steps; for networks trained with --head direction.",
)
@click.option(
    "--steps", "--num-steps", type=click.IntRange(min=1), default=1000, show_default=True, help="Optimisation steps."
)
@click.option(
    "--seed",
    type=SEED,
    default=303,
    show_default=True,
    help="Random seed; each target starts from it.",
)
@click.option(
    "--lr",
    "initial_learning_rate",
    type=Number(0, 1e6, min_open=True),
    default=0.1,
    show_default=True,
    help="Peak learning rate.",
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
    type=UserPath(),
    metavar="FILE",
    help="VGG16 for lpips-vgg: a TorchScript file like the official vgg16.pt, or torchvision's state dict. "
    "Default: $STYLEGAN_INVERT_VGG16, else the official file, downloaded once.",
)
@class_option
@click.option(
    "--init",
    type=UserPath(),
    metavar="[de|FILE]",
    help="Start from what the network's discriminator finds (de), from a projected_w.npz, or from the folder of an earlier "
    "run with the same targets, instead of the mean.",
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
@quiet_option
@click.pass_context
def command(
    ctx: click.Context,
    network: str,
    targets: tuple[str, ...],
    outdir: str,
    quiet: bool,
    device: str,
    init: str | None,
    **options: Any,
) -> None:
    """Find the latent codes of pictures.

    Writes target.png, proj.png, projected_w.npz and result.json (LPIPS, PSNR and SSIM of the saved picture, and all
    settings) into DIR, or into a folder per target if there are several.

    \b
    stylegan-invert project -n ffhq -t photo.jpg -o out --method w+
    stylegan-invert project -n cats32 -t 'cats/*.jpg' -o out --batch 8
    """
    from ..io.images import find_pictures
    from ..projectors import find_method

    pictures = find_pictures(list(targets))
    names = result_names(pictures)
    several = len(pictures) > 1 or Path(targets[0]).is_dir()
    outdirs = [Path(outdir) / name for name in names] if several else [Path(outdir)]
    given = {n for n in OF_STEPS if ctx.get_parameter_source(n) is click.core.ParameterSource.COMMANDLINE}
    if find_method(options["method"]).one_pass:
        if given:
            names = ", ".join(p.opts[0] for p in ctx.command.params if p.name in given)
            raise click.UsageError(f"--method {options['method']} takes no steps, so {names} has no meaning for it.")
        options = {n: v for n, v in options.items() if n not in OF_STEPS}
    else:
        options["init"] = starts(init, names)
    run(network, pictures, outdirs, pick_device(device), quiet, **options)


def result_names(pictures: list[Path]) -> list[str]:
    """A folder name for each picture's results: its name without the suffix, or with it where two would be the same."""
    stems = [p.stem for p in pictures]
    names = [p.stem if stems.count(p.stem) == 1 else p.name for p in pictures]
    for i, name in enumerate(names):
        if names.index(name) != i:
            first = pictures[names.index(name)]
            raise click.UsageError(
                f"{first} and {pictures[i]} would both be written to the folder {name}; project them in two runs."
            )
    return names


def starts(init: str | None, names: list[str]) -> Any:
    """The start of each target: a code file for all, or each one's own result in the folder of an earlier run."""
    if init in (None, "de", "mean") or not Path(init).is_dir() or (Path(init) / FILE).exists():
        return init
    found = [
        next((p for p in (Path(init) / name / FILE, Path(init) / Path(name).stem / FILE) if p.exists()), None)
        for name in names
    ]
    if None in found:
        missing = names[found.index(None)]
        raise click.UsageError(f"--init {init}: there is neither {FILE} nor {missing}/{FILE} in this folder.")
    return [str(p) for p in found]


def run(
    network: str,
    pictures: list[Path],
    outdirs: list[Path],
    device: Any,
    quiet: bool,
    video: bool = False,
    **options: Any,
) -> None:
    """Project pictures and save each as soon as it is done."""
    from ..io.network_file import load
    from ..losses import parse_terms
    from ..projectors import find_method, project_each

    # What can be refused before a network is loaded or fetched is refused now.
    find_method(options["method"])
    parse_terms(options["loss"])
    for outdir in outdirs:
        check_outdir(str(outdir))
    net = load(network)
    net.G.to(device)
    say(quiet, f"network {network}: {net.G.img_resolution}x{net.G.img_resolution}, {net.G.num_ws} layers, on {device}")
    bar: Progress | None = None

    def progress(first: int, step: Any) -> None:
        nonlocal bar
        if bar is None or step.number == 1:
            last = first + len(step.distance)
            what = pictures[first].name if last - first == 1 else f"targets {first + 1}-{last} of {len(pictures)}"
            bar = Progress(options["steps"], what, quiet)
        bar(step)
        if step.number == options["steps"]:
            bar.close()

    results = project_each(net, [str(p) for p in pictures], keep_steps=video, callback=progress, **options)
    try:
        for picture, outdir, result in zip(pictures, outdirs, results):
            result.save(outdir)
            say(quiet, f"{picture} -> {outdir}: {_summary(result)}")
    finally:
        if bar is not None:
            bar.close()


def _summary(result: Any) -> str:
    shown = [
        ("LPIPS", result.metrics["lpips"], 4),
        ("PSNR", result.metrics["psnr"], 2),
        ("SSIM", result.metrics["ssim"], 4),
    ]
    numbers = [f"{name} {value:.{digits}f}" for name, value, digits in shown if value is not None]
    return f"{', '.join(numbers)} ({result.record['seconds']:.1f} s)"
