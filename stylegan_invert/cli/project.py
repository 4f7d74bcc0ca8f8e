"""``stylegan-invert project``"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from ..io.weights import WEIGHTS
from ..media.reading import PictureReading
from ..options import flags
from ..projectors.methods import METHODS, all_methods
from .common import (
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
from .options import class_options, click_option, shown


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


def method_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of all methods, those of other packages too; an option that several methods have is there once."""
    fields: dict[str, dataclasses.Field] = {}
    defaults: dict[str, dict[str, list[str]]] = {}  # field to default to the methods that have it
    for name, method in all_methods().items():
        for field in dataclasses.fields(method.options):
            if not flags(field):
                continue
            fields.setdefault(field.name, field)
            if field.name not in method.preset:
                text = field.metadata["unset"] or shown(field.default)
                defaults.setdefault(field.name, {}).setdefault(text, []).append(name)
    for name, field in reversed(fields.items()):
        texts = defaults[name]
        one = next(iter(texts)) if len(texts) == 1 else None
        text = one or "; ".join(f"{default} for {_listed(methods)}" for default, methods in texts.items())
        function = click_option(field, text)(function)
    return function


def weight_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """An option for each weight file that a loss may need."""
    for name, weights in reversed(WEIGHTS.items()):
        function = click.option(f"--{name}", type=UserPath(), metavar=weights.metavar, help=weights.help)(function)
    return function


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


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
    metavar=f"[{'|'.join(METHODS)}]",
    help=". ".join(f"{name}: {method.about}" for name, method in METHODS.items()) + ".",
)
@click.option(
    "--loss",
    metavar="NAME=W,...",
    help="Distances by weight: lpips-squeeze, lpips-vgg, mse, l1, sse, features, features-sum.  "
    "[default: lpips-squeeze=1,mse=1; z, dense and the papers' methods have their own]",
)
@weight_options
@click.option(
    "--class",
    "class_idx",
    type=Class(),
    metavar="INT|search|relaxed",
    help="Class, for networks that have classes. search: the one whose pictures come nearest. relaxed: a mixture of all of "
    "them, found together with z; for z and dense.",
)
@click.option(
    "--init",
    type=UserPath(),
    metavar="[mean|random|de|FILE]",
    help="Start from the mean, from a random code, from what the network's discriminator finds (de), from a projected_w.npz, "
    "or from the folder of an earlier run with the same targets.  [default: the mean; a random code for z and dense]",
)
@click.option(
    "--sequence", is_flag=True, help="The targets are frames of a video: each starts from the result of the one before."
)
@method_options
@click.option(
    "--stats",
    "statistics",
    type=UserPath(),
    metavar="FILE",
    help="The Gaussian of V, as 'stylegan-invert stats' writes it.  [default: made once, and kept in the cache]",
)
@z_prior_option
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
@class_options(PictureReading)
@device_option
@quiet_option
def command(
    network: str, targets: tuple[str, ...], outdir: str, quiet: bool, device: str, init: str | None, **options: Any
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
    """The start of each target: a name or a code file for all, or each one's own result in the folder of an earlier run."""
    from ..io.codes import code_file

    if init is None or not Path(init).is_dir() or code_file(init).exists():
        return init
    tries = [[code_file(Path(init) / folder) for folder in (name, Path(name).stem)] for name in names]
    files = [next((p for p in paths if p.exists()), None) for paths in tries]
    if None in files:
        file, missing = code_file(init).name, names[files.index(None)]
        raise click.UsageError(f"--init {init}: there is neither {file} nor {missing}/{file} in this folder.")
    return [str(p) for p in files]


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
    with sampling(quiet) as samples, _bars(pictures, quiet) as callback:
        results = project_each(
            net, [str(p) for p in pictures], keep_steps=video, callback=callback, progress=samples, **options
        )
        for picture, outdir, result in zip(pictures, outdirs, results):
            result.save(outdir)
            say(quiet, f"{picture} -> {outdir}: {_summary(result)}")


@contextlib.contextmanager
def _bars(pictures: list[Path], quiet: bool) -> Iterator[Callable[[int, Any], None]]:
    """A callback of a projector that shows a bar for each pass."""
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
        yield progress
    finally:
        if bar is not None:
            bar.close()


def _summary(result: Any) -> str:
    numbers = [
        f"{name} {result.metrics[key]:.{digits}f}"
        for name, key, digits in (("LPIPS", "lpips", 4), ("PSNR", "psnr", 2), ("SSIM", "ssim", 4))
        if result.metrics[key] is not None
    ]
    return f"{', '.join(numbers)} ({result.record['seconds']:.1f} s)"
