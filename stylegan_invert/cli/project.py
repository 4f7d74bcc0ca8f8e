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
    device_option,
    network_option,
    open_network,
    outdir_option,
    pick_device,
    quiet_option,
    sampling,
    say,
    z_prior_option,
)


class Batch(click.IntRange):
    """A number of targets, or "auto"."""

    def __init__(self) -> None:
        super().__init__(min=1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        return value if value == "auto" else super().convert(value, param, ctx)


class Class(click.ParamType):
    """The number of a class, or how it is found."""

    name = "class"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        if value in ("search", "relaxed") or isinstance(value, int):
            return value
        try:
            return int(value)
        except ValueError:
            self.fail(f"{value!r}; expected a number, search or relaxed", param, ctx)


METHODS = "[w|w+|v|v+|wulff-w|wulff-w+|de|z|dense|pividori-code|pividori-paper]"


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
    metavar=METHODS,
    help="w: one w for all layers. w+: one per layer, closer to the target. v, v+: the same in whitened coordinates of V. "
    "wulff-w, wulff-w+: w, w+ with the Gaussian prior in V, as that paper does it. de: what the network's discriminator finds "
    "in one pass; for networks trained with --head direction. z: the latent. dense: z, then a displacement at a layer; "
    "pividori-...: the same with all settings of that paper's code, or in its notation.",
)
@click.option(
    "--steps", "--num-steps", type=click.IntRange(min=1),
    help="Optimisation steps.  [default: 1000 for w, w+, v and v+, 500 for z and dense]",
)  # fmt: skip
@click.option("--seed", type=SEED, help="Random seed; each target starts from it.  [default: 303]")
@click.option(
    "--lr", "initial_learning_rate", type=Number(0, 1e6, min_open=True), help="Peak learning rate.  [default: 0.1]"
)
@click.option(
    "--loss", metavar="NAME=W,...",
    help="Distances by weight: lpips-squeeze, lpips-vgg, mse, l1, sse, features, features-sum.  "
    "[default: lpips-squeeze=1,mse=1; z, dense and pividori-... have their own]",
)  # fmt: skip
@click.option(
    "--vgg16",
    type=UserPath(),
    metavar="FILE",
    help="VGG16 for lpips-vgg: a TorchScript file like the official vgg16.pt, or torchvision's state dict. "
    "Default: $STYLEGAN_INVERT_VGG16, else the official file, downloaded once.",
)
@click.option(
    "--inception", type=UserPath(), metavar="[FILE|download]",
    help="InceptionV3 for features: torchvision's state dict.  [default: $STYLEGAN_INVERT_INCEPTION, else the shipped SqueezeNet]",
)  # fmt: skip
@click.option(
    "--class", "class_idx", type=Class(), metavar="INT|search|relaxed",
    help="Class, for networks that have classes. search: the one whose pictures come nearest. relaxed: a mixture of all of them, "
    "found together with z; for z and dense.",
)  # fmt: skip
@click.option(
    "--init",
    type=UserPath(),
    metavar="[de|FILE]",
    help="Start from what the network's discriminator finds (de), from a projected_w.npz, or from the folder of an earlier "
    "run with the same targets, instead of the mean.",
)
@click.option(
    "--sequence", is_flag=True, help="The targets are frames of a video: each starts from the result of the one before."
)
@click.option(
    "--prior-weight", type=Number(0, 1e9),
    help="Weight of the Gaussian prior in V, a sum over dimensions and layers, for StyleGAN2; a good one is 1e-4.  [default: 0]",
)  # fmt: skip
@click.option(
    "--stats", "statistics", type=UserPath(), metavar="FILE",
    help="The Gaussian, as 'stylegan-invert stats' writes it.  [default: made once, and kept in the cache]",
)  # fmt: skip
@click.option(
    "--noise-factor", "initial_noise_factor", type=Number(0, 1e6),
    help="Exploration noise on w at the start, in its deviations; 0 suits a start that is near.  [default: 0.05]",
)  # fmt: skip
@click.option(
    "--noise-maps", type=click.Choice(["optimised", "fixed"]),
    help="For w, w+, v, v+: fit the noise maps too, or leave the network's own.  [default: optimised; wulff-...: fixed]",
)  # fmt: skip
@click.option("--optimizer", type=click.Choice(["adam", "lbfgs", "lbfgs-b"]), help="For z.  [default: lbfgs-b]")
@click.option(
    "--clip", type=click.Choice(["none", "standard", "stochastic"]),
    help="For z: what happens to entries that leave the bounds, at every step.  [default: none]",
)  # fmt: skip
@click.option("--bound", type=Number(0, 1e6, min_open=True), help="The bounds.  [default: the prior's, 1 or 3]")
@z_prior_option
@click.option("--lambda-z", type=Number(0, 1e9), help="For z: weight of -log P(z).  [default: 0]")
@click.option(
    "--lambda-delta", type=Number(0, 1e9), help="For dense: weight of the displacement's L1 norm.  [default: 0.9]"
)
@click.option(
    "--penalty",
    type=click.Choice(["mean", "sum"]),
    help="Whether these two are means over entries, or sums.  [default: mean]",
)
@click.option(
    "--delta-unit", type=click.Choice(["one", "spread"]), help="For dense: what the displacement is measured in for that: one, "
    "or the layer's own spread.  [default: spread]",
)  # fmt: skip
@click.option("--restarts", type=click.IntRange(min=1), help="For z: starts to try; the best counts.  [default: 1]")
@click.option(
    "--start-bound", type=Number(0, 1e6), help="For z: draw starts with no entry beyond this.  [default: no limit]"
)
@click.option(
    "--layer", metavar="NAME", help="For dense: where to split, a layer that inspect lists.  [default: the dense one]"
)
@click.option(
    "--first-step", type=click.Choice(["z", "none"]), help="For dense: none leaves out the search for z.  [default: z]"
)
@click.option("--layer-steps", type=click.IntRange(min=1), help="For dense: steps of the displacement.  [default: 500]")
@click.option(
    "--layer-lr",
    "layer_learning_rate",
    type=Number(0, 1e6, min_open=True),
    help="For dense: its rate.  [default: 0.05]",
)
@click.option(
    "--styles",
    type=click.Choice(["held", "optimised"]),
    help="For dense: what else the network reads, as w.  [default: held]",
)
@click.option(
    "--save-noise", is_flag=True, help="Keep the optimised noise maps in projected_w.npz and render with them."
)
@click.option(
    "--video/--no-video", default=False, show_default=True, help="Write proj.mp4, a video of the optimisation."
)
@click.option(
    "--batch",
    type=Batch(),
    default=1,
    show_default=True,
    metavar="N|auto",
    help="Targets that share a pass on a GPU; auto: as many as its memory holds.",
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
def command(
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
    from ..media.pictures import find_pictures

    pictures = find_pictures(list(targets))
    names = result_names(pictures)
    several = len(pictures) > 1 or Path(targets[0]).is_dir()
    outdirs = [Path(outdir) / name for name in names] if several else [Path(outdir)]
    options = {name: value for name, value in options.items() if value is not None}
    run(network, pictures, outdirs, pick_device(device), quiet, init=starts(init, names), **options)


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
    from ..io.codes import code_file

    if init in (None, "de", "mean") or not Path(init).is_dir() or code_file(init).exists():
        return init
    tries = [[code_file(Path(init) / folder) for folder in (name, Path(name).stem)] for name in names]
    found = [next((p for p in files if p.exists()), None) for files in tries]
    if None in found:
        file, missing = code_file(init).name, names[found.index(None)]
        raise click.UsageError(f"--init {init}: there is neither {file} nor {missing}/{file} in this folder.")
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
    from ..losses import DEFAULT_LOSS, parse_terms
    from ..projectors import find_method, project_each

    # What can be refused before a network is loaded or fetched is refused now.
    method = find_method(options["method"])
    parse_terms(options.get("loss") or method.preset.get("loss") or DEFAULT_LOSS)
    for outdir in outdirs:
        check_outdir(str(outdir))
    net = open_network(network, quiet)
    net.G.to(device)
    say(quiet, f"network {network}: {net.G.img_resolution}x{net.G.img_resolution}, on {device}")
    bar: Progress | None = None

    def progress(first: int, step: Any) -> None:
        nonlocal bar
        if bar is None or step.number == 1:
            last = first + len(step.distance)
            what = pictures[first].name if last - first == 1 else f"targets {first + 1}-{last} of {len(pictures)}"
            bar = Progress(step.total, what, quiet)
        bar(step)
        if step.number == step.total:
            bar.close()

    try:
        with sampling(quiet) as samples:
            results = project_each(
                net, [str(p) for p in pictures], keep_steps=video, callback=progress, progress=samples, **options
            )
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
