"""``stylegan-invert project``"""

import contextlib
import dataclasses
import functools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from ..files.writing import folder_names
from ..io.download import shown_url
from ..io.weights import RUN_TORCHSCRIPT, WEIGHTS
from ..media.reading import PictureReading, SoundReading
from ..options import flags
from ..projectors.methods import DEFAULTS, METHODS, STARTS, all_methods, default_method
from ..projectors.settings import (
    AnchorOptions,
    DenseOptions,
    EncoderMethodOptions,
    LatentOptions,
    PriorOptions,
    RobustOptions,
    StoppingOptions,
    TuningOptions,
    WOptions,
)
from ..signals import signals_wait
from .common import (
    Class,
    Progress,
    UserPath,
    check_outdir,
    counting,
    device_option,
    foreign_codes_option,
    network_option,
    open_network,
    outdir_option,
    pick_device,
    quiet_option,
    sampling,
    say,
    stopping,
    tell,
    tell_json,
    z_prior_option,
)
from .dry_run import estimate, in_words
from .help import LongCommand
from .options import class_options, click_option, text_of_default

SECONDS = 60.0  # between two checkpoints


class Batch(click.IntRange):
    """The parameter type of ``--batch``: a number of targets, or "auto"."""

    def __init__(self) -> None:
        super().__init__(min=1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == "auto" else super().convert(value, param, ctx)


class Tune(click.IntRange):
    """The parameter type of ``--tune``: a number of steps, or True where the option stands alone."""

    name = "steps"

    def __init__(self) -> None:
        super().__init__(min=1, max=10**6)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | bool:
        return value if value is True else super().convert(value, param, ctx)


def method_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of all methods, also of methods from other packages. Shared options are added once."""
    fields: dict[str, dataclasses.Field] = {}
    taken: set[str] = set()
    defaults: dict[
        str, dict[str | None, list[str]]
    ] = {}  # for each field, its defaults, and the methods that have each default
    for name, method in all_methods().items():
        for field in dataclasses.fields(method.options):
            if not field.metadata or not flags(field):
                continue
            if field.name not in fields and taken & set(flags(field)):
                continue  # another package's option, under a flag that means something else already
            fields.setdefault(field.name, field)
            taken |= set(flags(field))
            if field.name not in method.preset:
                text = field.metadata["unset"] or text_of_default(field.default)
                defaults.setdefault(field.name, {}).setdefault(text, []).append(name)
    for name, field in reversed(fields.items()):
        texts = defaults[name]
        only = next(iter(texts)) if len(texts) == 1 else None
        text = only or "; ".join(f"{default} for {_listed(methods)}" for default, methods in texts.items())
        function = click_option(field, text)(function)
    return function


def run_torchscript_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--run-torchscript``."""
    return click.option("--run-torchscript", is_flag=True, help=RUN_TORCHSCRIPT)(function)


def weight_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each weight file that a loss may need, and ``--run-torchscript``."""
    function = run_torchscript_option(function)
    for name, weights in reversed(WEIGHTS.items()):
        function = click.option(f"--{name}", type=UserPath(), metavar=weights.metavar, help=weights.help)(function)
    return function


def _method_name(ctx: click.Context, param: click.Parameter, name: str | None) -> str | None:
    """A click callback that gives the name of a method in the case in which it is declared."""
    return name and next((known for known in all_methods() if known.casefold() == name.casefold()), name)


def _listed(names: list[str]) -> str:
    """Names as in a sentence: "a, b and c"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _declared(*classes: type) -> set[str]:
    """The options that classes declare themselves, and do not inherit."""
    return {name for cls in classes for name in vars(cls).get("__annotations__", {})}


COMMON = ["network", "targets", "outdir", "method", "loss", "class_idx", "init", "observe", "steps", "tune", "video"]
COMMON += ["batch", "device", "quiet"]
"""What ``--help`` shows."""

GROUPS = {
    "Targets, and runs over many of them": [
        "assume",
        *_declared(PictureReading),
        "sequence",
        "checkpoint",
        "overwrite",
        "dry_run",
        "as_json",
    ],
    "Damaged targets, and strokes": ["observed", "truth", "compose", *_declared(AnchorOptions)],
    "When a search ends": _declared(StoppingOptions),
    "The Gaussian of V": [*_declared(PriorOptions), "statistics"],
    "Search in W, W+, V and V+": _declared(WOptions, RobustOptions),
    "Search for z": [*_declared(LatentOptions), "z_prior"],
    "Displacement at a layer": _declared(DenseOptions),
    "Encoders": [*_declared(EncoderMethodOptions), "encoder", "assume_encoder"],
    "Tuning of the network": [*_declared(TuningOptions), "tune_together"],
    "Files of weights": [*WEIGHTS, "run_torchscript"],
}
"""The groups of ``--help-all``."""


@click.command(cls=LongCommand, common=COMMON, groups=GROUPS)
@network_option
@click.option(
    "--target",
    "-t",
    "targets",
    type=UserPath(),
    required=True,
    multiple=True,
    metavar="FILE",
    help="A picture, a folder or zip of pictures, a pattern in quotes, or a list (.txt) with a picture in each line. The "
    "option may be repeated.",
)
@click.argument("unquoted", nargs=-1, metavar="")
@outdir_option
@click.option(
    "--method",
    callback=_method_name,
    metavar=f"[{'|'.join(METHODS)}]",
    shell_complete=lambda ctx, param, begun: [name for name in METHODS if name.startswith(begun.lower())],
    help=". ".join(f"{name}: {method.about}" for name, method in METHODS.items())
    + f".  [default: {'; '.join(f'{name} for {networks}' for name, networks in DEFAULTS.items())}]",
)
@click.option(
    "--loss",
    metavar="NAME=W,...",
    help="Distances to minimise, each with a weight. The names are lpips-squeeze, lpips-vgg, multi-squeeze, multi-vgg, mse, "
    "l1, sse, features, features-sum, identity, identity-ffhq; multi is LPIPS at several sizes. For "
    "sounds: mse, l1, spectrogram, spectrogram-real, log-mel, multi-stft, digits.  "
    "[default: lpips-squeeze=1,mse=1; z, dense and the methods named after papers have their own; multi-stft=1,l1=1 for sounds]",
)
@weight_options
@click.option(
    "--class",
    "class_idx",
    type=Class(),
    metavar="INT|NAME|search|relaxed",
    help="Number or name of the class, for networks that have classes. search: the class whose pictures are most similar to "
    "the target. relaxed: a mixture of all classes, optimised together with z, for the methods z and dense.",
)
@click.option(
    "--init",
    type=UserPath(),
    metavar="[mean|random|de|encoder|nearest|regression|FILE]",
    help="Where the search starts. mean: the mean code. random: a random code. de: the code that the network's "
    "discriminator finds, if it was trained to (direction embedding). encoder: the code that --encoder finds. nearest: "
    "the mean of those samples of the network that come nearest to the target. regression: the code that a regression "
    "predicts, which is fitted to samples of the network. FILE: a projected_w.npz, or the folder of an earlier run with "
    "the same targets.  [default: mean; random for z and dense; regression for the fast methods]",
)
@foreign_codes_option
@click.option(
    "--observe",
    multiple=True,
    metavar="NAME[:VALUE],...",
    help="What happens to a picture before it is compared, for restoring damaged pictures. mask:FILE: only the white pixels of "
    "FILE are seen. downsample:FACTOR[:KERNEL]: smaller by a whole factor, by the filter area, bilinear, bicubic (the default) "
    "or lanczos. grey: without colours. jpeg:QUALITY: as from a JPEG file, 1 to 100. noise:SIGMA: with normal noise, as a share "
    "of the range from black to white. blur:SIGMA: blurred, in pixels. Several follow one another, as in blur:1,downsample:4; "
    "the option may also be repeated.",
)
@click.option(
    "--observed",
    is_flag=True,
    help="The targets are damaged already and are compared as they are, at the size that --observe gives. Without this option "
    "they are whole, and are damaged first.",
)
@click.option(
    "--truth",
    type=UserPath(),
    multiple=True,
    metavar="FILE",
    help="With --observed and one target: the whole picture, to measure how well it was found.",
)
@click.option(
    "--compose",
    is_flag=True,
    help="Also write composed.png: the result with what the target shows of it, its own pixels where the mask of --observe is "
    "white, or its brightness with --observe grey.",
)
@click.option(
    "--sequence",
    is_flag=True,
    help="Treat the targets as frames of a video: each search starts from the result of the frame before.",
)
@method_options
@click.option(
    "--stats",
    "statistics",
    type=UserPath(),
    metavar="FILE",
    help="The Gaussian of V, a file of 'stylegan-invert stats --out'.  [default: fitted at the first use, then kept in "
    "the cache]",
)
@z_prior_option
@click.option(
    "--encoder",
    type=UserPath(),
    metavar="FILE",
    help="An encoder that train-encoder made for this network, for --method encoder and --init encoder.  [default: the "
    "one that comes with this package, for the networks that come with it]",
)
@click.option(
    "--assume-encoder",
    is_flag=True,
    help="Take the encoder even if it was trained for another network, as for a tuned copy of its own.",
)
@click.option(
    "--tune",
    type=Tune(),
    is_flag=False,
    flag_value=True,
    metavar="[STEPS]",
    help="After the search, tune the network to each target (Pivotal Tuning Inversion): the code stays, and the network's "
    "weights move by at most STEPS steps until its picture fits. The tuned network is written beside the code.  "
    "[default for STEPS: 350; 1000 with --tune-schedule progressive]",
)
@click.option("--tune-together", is_flag=True, help="Tune one network to all targets, and write it into DIR.")
@class_options(TuningOptions)
@click.option(
    "--save-noise",
    is_flag=True,
    help="Save the optimised noise maps in projected_w.npz, and render proj.png with them. 'stylegan-invert generate' "
    "reads them; official generate.py renders the code without them.",
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
    help="Number of targets that are projected together on a GPU. auto: as many as its memory holds. A CPU takes one "
    "after another.",
)
@click.option(
    "--checkpoint",
    type=click.FloatRange(min=0),
    default=SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="Write the state of a search so often. After an interruption the same command goes on from it, and ends at the "
    "same result.",
)
@click.option(
    "--overwrite",
    is_flag=True,
    help="With several targets, forget what an earlier run has written into DIR, and begin anew.",
)
@click.option("--json", "as_json", is_flag=True, help="Print each result as a line of JSON on stdout.")
@click.option(
    "--dry-run", is_flag=True, help="Say what would be done and about how long it would take; a few steps are timed."
)
@class_options(PictureReading)
@class_options(SoundReading)
@device_option
@quiet_option
def command(
    network: str,
    targets: tuple[str, ...],
    unquoted: tuple[str, ...],
    outdir: str,
    quiet: bool,
    device: str,
    init: str | None,
    observe: tuple[str, ...],
    truth: tuple[str, ...],
    **options: Any,
) -> None:
    """Find the latent codes of pictures.

    For one file, writes into DIR; for a folder, a pattern or several --target, into a folder of DIR for each picture,
    which has the picture's name without its suffix. The files are: the target at the network's size
    (target.png), the picture that the code makes (proj.png), the code (projected_w.npz), and all settings and measures
    of similarity (result.json); with --tune also the tuned network (tuned.pkl) and the picture before (pivot.png). The
    measures are LPIPS, a perceptual distance; PSNR, the peak signal-to-noise ratio in decibels; and SSIM, the structural
    similarity; with --identity also the cosine distance of the faces. With --observe, target.png is the damaged picture
    that was compared, truth.png the whole one, and the measures are of the damaged pictures and, under "truth", of the
    whole ones.

    \b
    stylegan-invert project -n ffhq -t photo.jpg -o out --method w+
    stylegan-invert project -n cats32 -t 'cats/*.jpg' -o out --batch 8
    stylegan-invert project -n cats64-de -t photo.jpg -o out/mine --method fast-w --tune
    stylegan-invert project -n ffhq -t small.png -o out --observe downsample:8 --observed
    """
    from ..media.targets import find_targets, is_single

    if unquoted:
        remedy = "Put a pattern in quotes, as -t 'pictures/*.png', or repeat -t for each file."
        if not all(map(os.path.exists, unquoted)):
            remedy = "Options begin with -, and -t names a target."
        raise click.UsageError(f"Got {len(unquoted)} unexpected extra arguments, as {unquoted[0]}. {remedy}")
    for target in targets:
        if re.match(r"https?://", target, re.IGNORECASE):
            raise click.UsageError(f"-t {shown_url(target)}: download the picture first, and name the file.")
    pictures = find_targets(list(targets), functools.partial(say, quiet))
    names = folder_names([str(picture) for picture in pictures])
    # The layout follows from what was asked for, not from how many files a pattern matches or a folder holds.
    single = is_single(list(targets))
    outdirs = [Path(outdir)] if single else [Path(outdir) / name for name in names]
    options = {name: value for name, value in options.items() if value is not None}
    if observe:
        options["observe"] = ",".join(observe)
    if truth:
        if not single:
            raise click.UsageError("--truth is for one target; project several one by one.")
        options["truth"] = find_targets(list(truth), functools.partial(say, quiet))
    options |= {"init": starts(init, names)} if init is not None else {}
    if single or options["tune_together"]:
        if options.pop("overwrite"):
            raise click.UsageError(
                "--overwrite is for several targets, each with a network of its own; other results are always replaced."
            )
        run(network, pictures, outdirs, pick_device(device), quiet, **options)
    else:
        from .project_many import run_many

        run_many(network, pictures, outdirs, Path(outdir), pick_device(device), quiet, **options)


def starts(init: str | None, names: list[str]) -> Any:
    """The starts that ``--init`` names.

    Args:
        init: the value of ``--init``.
        names: the folder names of the targets' results.

    Returns:
        A name of a start or a code file, for all targets; or, for the folder of an earlier run, a list with the code
        file of each target there. None if ``init`` is None.

    Raises:
        click.UsageError: the folder has no code of a target.
    """
    from ..io.codes import code_file

    if init is None or init in STARTS or not Path(init).is_dir() or code_file(init).exists():
        return init
    candidates = [[code_file(Path(init) / folder) for folder in (name, Path(name).stem)] for name in names]
    files = [next((p for p in paths if p.exists()), None) for paths in candidates]
    if None in files:
        file, missing = code_file(init).name, names[files.index(None)]
        raise click.UsageError(f"--init {init}: there is neither {file} nor {missing}/{file} in this folder.")
    return [str(p) for p in files]


def run(
    network: str,
    pictures: list[Any],
    outdirs: list[Path],
    device: Any,
    quiet: bool,
    video: bool = False,
    checkpoint: float = SECONDS,
    as_json: bool = False,
    dry_run: bool = False,
    **options: Any,
) -> None:
    """Project pictures, and save each result as soon as it is computed. The first that fails ends the run.

    Args:
        network: the value of ``--network``.
        pictures: the targets.
        outdirs: a folder for the result of each target.
        device: the torch device.
        quiet: True prints nothing.
        video: True also writes a video of each optimisation.
        checkpoint: seconds between two checkpoints.
        as_json: True prints each result on stdout.
        dry_run: True only says what would be done.
        options: further arguments of `projectors.project_each`.
    """
    from ..projectors.checkpoint import Checkpoints
    from ..projectors.observations import parse
    from ..projectors.run import prepared

    # What is wrong is reported before the network and the weights of losses are loaded, which may take a download.
    check_loss(options)
    parse(options.get("observe"))
    for outdir in outdirs:
        check_outdir(str(outdir))
    check_targets([*pictures, *options.get("truth", ())], quiet, options)
    net = open_for(pictures, network, device, quiet, options)
    settings = repr([net.sha256, *sorted(options.items())])
    with (
        sampling(quiet) as samples,
        bars([str(p) for p in pictures], quiet) as callback,
        stopping(),
        signals_wait() as arrived,
    ):
        projector, of_run = prepared(net, **options, keep_steps=video, callback=callback, progress=samples)
        if dry_run:
            return tell(in_words(len(pictures), estimate(projector, pictures[0], of_run)))
        checkpoints = Checkpoints(outdirs, settings, checkpoint, arrived)
        for i, result in enumerate(projector.project(pictures, checkpoints=checkpoints, **of_run)):
            result.save(outdirs[i])
            which = f"{i + 1} of {len(pictures)}: " if len(pictures) > 1 else ""
            say(quiet, f"{which}{pictures[i]} -> {outdirs[i]}: {summary(result)}")
            tell_result(as_json, str(pictures[i]), outdirs[i], result)


def tell_result(as_json: bool, target: str, folder: Path, result: Any, error: str | None = None) -> None:
    """Print a result, or why there is none, as a line of JSON, if that was asked for."""
    if as_json:
        found = {"error": error} if result is None else result.as_dict()
        tell_json({"name": target, "folder": str(folder), **found})


def check_loss(options: dict[str, Any]) -> None:
    """Refuse a wrong ``--loss``. It is that of the options, of the method's preset, or the default."""
    from ..losses import DEFAULT_LOSS, parse_terms
    from ..projectors import find_method

    preset = find_method(options["method"]).preset if "method" in options else {}
    parse_terms(options.get("loss") or preset.get("loss") or DEFAULT_LOSS)


def open_for(pictures: list[Any], network: str, device: Any, quiet: bool, options: dict[str, Any]) -> Any:
    """Open the network of a run on its device, and say what will be done."""
    from ..generator import adapt
    from ..media.medium import medium_of
    from ..projectors import find_method

    net = open_network(network, quiet)
    net.G.to(device)
    name = options.get("method") or _default(net)
    say(quiet, f"network {net.file}: {medium_of(adapt(net.G)).describe()}, on {device}; method {name}")
    if device.type == "cpu" and len(pictures) > 1 and options.get("batch", 1) != 1 and not find_method(name).one_pass:
        say(quiet, "note: --batch has no effect on a CPU, where targets are projected one after another")
    if options.get("save_noise"):
        say(quiet, "note: official generate.py will render these codes without the noise maps, so its pictures differ")
    return net


def reading_of(options: dict[str, Any], cls: type = PictureReading) -> Any:
    """Those of a command's options that say how files are read, as an instance of the class of a medium's options."""
    return cls(**{f.name: options[f.name] for f in dataclasses.fields(cls) if f.name in options})


def check_targets(pictures: list[Any], quiet: bool, options: dict[str, Any]) -> None:
    """Read every picture or sound, and name all that cannot be read.

    Args:
        pictures: the files.
        quiet: True shows no progress.
        options: those of the command.

    Raises:
        StyleganInvertError: files cannot be read.
    """
    from ..errors import ImageFileError, SoundFileError
    from ..media.medium import medium_of_file

    reading_of(options).check(pictures)
    wrong = []
    with counting(len(pictures), "checking pictures", quiet or len(pictures) < 10) as progress:
        for picture in pictures:
            try:
                medium = medium_of_file(picture)
                medium.check_file(picture, reading_of(options, medium.reading))
            except (ImageFileError, SoundFileError) as e:
                wrong.append(str(e))
            progress(1)
    if wrong:
        more = f"; and {len(wrong) - 10} more" if len(wrong) > 10 else ""
        head = f"{len(wrong)} of {len(pictures)} files cannot be read: " if len(pictures) > 1 else ""
        raise ImageFileError(f"{head}{'; '.join(wrong[:10])}{more}")


def _default(net: Any) -> str:
    from ..generator import adapt

    generator = adapt(net.G)
    return default_method(generator.spaces, generator.dense)


@contextlib.contextmanager
def bars(names: list[str], quiet: bool) -> Iterator[Callable[[int, Any], None]]:
    """A context manager that gives a callback for a projector. It shows a progress bar for the targets in work."""
    bar: Progress | None = None

    def progress(first: int, step: Any) -> None:
        nonlocal bar
        if bar is not None and step.number == 1:
            bar.close()
        if bar is None or step.number == 1:
            last = first + len(step.distance)
            what = os.path.basename(names[first]) if last - first == 1 else "targets"
            if len(names) > 1:
                what = f"{what}, {first + 1}{f'-{last}' if last - first > 1 else ''} of {len(names)}"
            bar = Progress(step.total, what, quiet)
        bar(step)
        if step.number == step.total:
            bar.close()

    try:
        yield progress
    finally:
        if bar is not None:
            bar.close()


def summary(result: Any) -> str:
    """The measures of similarity of a result, and the time it took; for a tuned one also those before."""
    numbers = [
        f"{name} {result.metrics[key]:.{digits}f}"
        for name, key, digits in (
            ("LPIPS", "lpips", 4),
            ("PSNR", "psnr", 2),
            ("SSIM", "ssim", 4),
            ("identity", "identity", 4),
            ("correlation", "correlation", 4),
            ("SNR in dB", "snr", 2),
        )
        if result.metrics.get(key) is not None
    ]
    text = ", ".join(numbers)
    if result.pivot is None:
        return f"{text} ({result.record['seconds']:.1f} s)"
    tuning = result.record["tuning"]
    return f"{summary(result.pivot)}; tuned: {text} ({tuning['seconds']:.1f} s, {tuning['steps']} steps)"
