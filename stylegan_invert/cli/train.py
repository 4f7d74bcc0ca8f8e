"""``stylegan-invert train``"""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import click

from ..options import flags
from ..training.architectures import ARCHITECTURES
from ..training.configs import SAMPLINGS
from ..training.run_options import RunOptions
from .common import (
    Choice,
    Number,
    Span,
    UserPath,
    check_outdir,
    counting,
    device_option,
    pick_device,
    quiet_option,
    say,
    stopping,
)
from .options import click_option, text_of_default

AUGMENTS = {"noaug": "none", "ada": "ada", "fixed": "fixed"}  # the official words, and those of `Options.augment`
NEEDS = {  # options that mean nothing without another
    "augment_p": "--aug",
    "ada_target": "--aug ada",
    "attach_kimg": "--head direction",
    "embedding_weight": "--head direction",
    "embedding_weight_later": "--head direction",
    "embedding_later_kimg": "--head direction",
    "embedding_for": "--head direction",
}
GOING_ON = {"resume", "kimg", "data", "device", "quiet"}  # what may be given anew when a stopped run goes on
STYLEGAN2_ONLY = ("sampling", "fp32")  # options that this file declares and that other architectures have no use for


def declared(options: type[RunOptions]) -> dict[str, dataclasses.Field]:
    """The options of an architecture that have a flag, by name."""
    return {field.name: field for field in dataclasses.fields(options) if field.metadata and flags(field)}


def default_text(options: type[RunOptions], field: dataclasses.Field) -> str:
    """The default of an option of an architecture, as ``--help`` states it."""
    if field.name in options.by_data:
        return "by resolution"
    return options.default_texts.get(field.name) or text_of_default(field.default) or ""


def architecture_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that gives a command the options of all architectures, each once."""
    users: dict[str, list[str]] = {}  # the architectures that have an option, by its name
    for arch, line in ARCHITECTURES.items():
        for name in declared(line.options):
            users.setdefault(name, []).append(arch)
    for name, archs in reversed(users.items()):
        texts: dict[str, list[str]] = {}
        for arch in archs:
            options = ARCHITECTURES[arch].options
            texts.setdefault(default_text(options, declared(options)[name]), []).append(arch)
        several = "; ".join(f"{text} for {' and '.join(which)}" for text, which in texts.items())
        note = "" if len(archs) == len(ARCHITECTURES) else f" For {' and '.join(archs)}."
        field = declared(ARCHITECTURES[archs[0]].options)[name]
        function = click_option(field, next(iter(texts)) if len(texts) == 1 else several, note)(function)
    return function


@click.command()
@click.option(
    "--data",
    type=UserPath(),
    metavar="PATH",
    help="Training set: an official dataset zip or folder, or any folder of pictures.",
)
@click.option("--outdir", "-o", type=UserPath(), metavar="DIR", help="Folder of the run; made if it is missing.")
@click.option(
    "--resume",
    type=UserPath(),
    metavar="PATH",
    help="Go on with a stopped run (its folder), or start from the weights of a network file.",
)
@click.option(
    "--resolution",
    type=int,
    metavar="INT",
    help="Side of the pictures, a power of two. A network file of a lower resolution grows.  [default: from the network "
    "file or the first picture]",
)
@click.option("--cond", is_flag=True, help="Train a network with classes; labels are read from dataset.json.")
@click.option("--mirror", is_flag=True, help="Show every picture mirrored, too.")
@click.option("--grey", is_flag=True, help="Train on grey pictures, with one channel.")
@click.option(
    "--pictures",
    type=Span(),
    metavar="FIRST:LAST",
    help="Take these pictures only, in the order of their names, as 0:15300.",
)
@click.option(
    "--length",
    type=click.IntRange(min=32),
    default=16384,
    show_default=True,
    help="For wavegan. Samples of a sound, a power of two.",
)
@click.option(
    "--sample-rate",
    type=click.IntRange(min=1000),
    default=16000,
    show_default=True,
    metavar="INT",
    help="For wavegan. Samples per second, to which recordings are brought.",
)
@click.option(
    "--level",
    type=click.Choice(["as-is", "peak"]),
    default="as-is",
    show_default=True,
    help="For wavegan. as-is: keep the loudness of recordings. peak: make the largest sample of each full scale.",
)
@click.option(
    "--only",
    metavar="PATTERNS",
    help="For wavegan. Take the recordings only whose file names match one of these patterns, as '*_jackson_*,*_lucas_*'.",
)
@click.option(
    "--leave-out",
    metavar="PATTERNS",
    help="For wavegan. Leave out the recordings whose file names match one of these patterns.",
)
@click.option(
    "--arch",
    type=Choice(list(ARCHITECTURES)),
    default="stylegan2",
    show_default=True,
    help="The networks to train. Options that are for some of them only say so.",
)
@architecture_options
@click.option(
    "--sampling",
    type=Choice(list(SAMPLINGS)),
    default="normal",
    show_default=True,
    help="normal: as official networks, which normalise z. The paper of the direction head has two others, without that: "
    "angles gives the network numbers from N(0, 1), uniform from U(-1, 1).",
)
@click.option(
    "--aug",
    type=Choice(list(AUGMENTS)),
    default="noaug",
    show_default=True,
    help="Augment what the discriminator sees: never, as much as it needs, or with --p.",
)
@click.option(
    "--fp32",
    is_flag=True,
    help="Compute everything in float32 on CUDA, and nothing in half precision. TF32 is off in every training.",
)
@click.option(
    "--tick",
    type=Number(0, 1e6, min_open=True),
    default=4,
    show_default=True,
    help="Thousands of pictures per line of the log.",
)
@click.option(
    "--snap",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Ticks per checkpoint, network file and sample grid.",
)
@click.option(
    "--metric-samples",
    type=click.IntRange(min=0),
    default=2000,
    show_default=True,
    help="Pictures for the distance to the training set at each snapshot: KID, from 10,000 on Frechet's too; 0 for none.",
)
@device_option
@quiet_option
@click.pass_context
def command(ctx: click.Context, resume: str | None, device: str, quiet: bool, **chosen: Any) -> None:
    """Train a GAN: a StyleGAN2 or another of --arch.

    DIR gets log.jsonl, sample grids, network files and a checkpoint. A run that was stopped, however it was,
    goes on with --resume DIR as if it had not been. Ctrl-C and SIGTERM write a checkpoint first; a second Ctrl-C ends
    the run at once. With torchrun several processes share each batch, and the networks become the same as with one.

    \b
    stylegan-invert train --data cats.zip --outdir runs/cats --mirror --kimg 500
    stylegan-invert train --data photos/ --outdir runs/photos --resolution 32 --head direction --aug ada
    stylegan-invert train --data clothes.zip --outdir runs/clothes --arch biggan --cond --kimg 2000 --head direction
    stylegan-invert train --data digits.zip --outdir runs/digits --arch wavegan --sample-rate 8000 --length 8192
    stylegan-invert train --resume runs/cats
    stylegan-invert train --resume cats32-de --resolution 64 --data cats.zip --outdir runs/cats64 --head direction
    torchrun --nproc-per-node 2 -m stylegan_invert train --data cats.zip --outdir runs/cats --mirror
    stylegan-invert train --resume cats32 --head direction --train head --data cats.zip --outdir runs/attached --kimg 100
    """
    from ..training import distributed
    from ..training.gan import train

    where = distributed.own_device(pick_device(device))
    quiet = quiet or not distributed.prints()
    on_line = {n for n in ctx.params if ctx.get_parameter_source(n) is click.core.ParameterSource.COMMANDLINE}
    if resume is not None and os.path.isdir(resume):
        data, options, arguments = stopped_run(ctx, resume, on_line - GOING_ON, quiet, **chosen)
    else:
        data, options, arguments = new_run(resume, where, on_line, quiet, **chosen)
    classes = f", {data.c_dim} classes" if data.c_dim else ""
    say(
        quiet,
        f"training on {len(data.names):,} {data.what}, {data.size}{classes}, on {where}{distributed.about()}, for "
        f"{options.kimg:g} thousand",
    )
    if options.arch == "stylegan2" and not options.normalize_z:
        say(quiet, "note: official code divides z by its root mean square; it will show other pictures for the same z")
    with stopping():
        newest = train(data, options, device=where, callback=Watch(quiet), **arguments)
    say(quiet, f"wrote {newest}; a picture of its samples is beside it")


def stopped_run(
    ctx: click.Context, folder: str, changed: set[str], quiet: bool, **chosen: Any
) -> tuple[Any, RunOptions, dict[str, Any]]:
    """The pictures and options of a stopped run, and the other arguments of `training.gan.train` that let it go on.

    Args:
        ctx: the command's context.
        folder: the run's folder.
        changed: the options on the command line that cannot be changed; there should be none.
        quiet: print nothing but errors.
        chosen: the options of the command; "kimg" and "data" may differ from those of the run.
    """
    from ..training.architectures import class_of
    from ..training.gan import RHYTHM, architecture_of_run
    from ..training.loop import read_checkpoint, read_options

    if changed:
        names = ", ".join(sorted(p.opts[0] for p in ctx.command.params if p.name in changed))
        raise click.UsageError(f"{names} cannot be changed when a run goes on; it keeps its own settings.")
    read_checkpoint(folder)
    arch = architecture_of_run(folder)
    record = read_options(folder, ARCHITECTURES[arch].options, RHYTHM)
    options = record["options"]
    if chosen["kimg"] is not None:
        options = dataclasses.replace(options, kimg=chosen["kimg"])
    data = class_of(arch).data_class(**{**record["data"], **({"path": chosen["data"]} if chosen["data"] else {})})
    check(data, quiet)
    if len(data.names) != record["pictures"]:
        raise click.ClickException(
            f"{data.path}: {len(data.names)} of its {data.what} can be read; the run began with {record['pictures']}. It can "
            "only go on with the same ones"
        )
    return data, options, {"outdir": folder, "resume": True, **record["rhythm"]}


def new_run(
    start: str | None, where: Any, on_line: set[str], quiet: bool, **chosen: Any
) -> tuple[Any, RunOptions, dict[str, Any]]:
    """The pictures and options of a new run, and the other arguments of `training.gan.train`.

    Args:
        start: the network file whose weights the run begins with, or None.
        where: the device.
        on_line: the options on the command line.
        quiet: print nothing but errors.
        chosen: the options of the command.
    """
    from ..network_files.file import load
    from ..training.architectures import class_of

    architecture, kind = ARCHITECTURES[chosen["arch"]], class_of(chosen["arch"])
    own = declared(architecture.options)
    refuse_foreign(chosen["arch"], on_line)
    net = load(start) if start is not None else None
    if chosen["data"] is None or chosen["outdir"] is None:
        raise click.UsageError("--data and --outdir are needed, or --resume with the folder of a stopped run.")
    check_outdir(chosen["outdir"])
    present = {"--aug": chosen["aug"] != "noaug", "--aug ada": chosen["aug"] == "ada"}
    present["--head direction"] = chosen["head"] == "direction"
    given = [name for name in own if chosen[name] is not None]
    for name, needed in NEEDS.items():
        if name in given and not present[needed]:
            raise click.UsageError(f"{flags(own[name])[0]} has no meaning without {needed}.")
    if net is not None:
        sizes = sizes_of(kind, net, on_line, chosen)
    elif chosen["train"] not in (None, "all"):
        raise click.UsageError(f"--train {chosen['train']} has no meaning without --resume and a network file.")
    else:
        sizes = {"resolution": chosen["resolution"]}
    data = kind.data(chosen["data"], chosen, sizes)
    settings = {**sizes, **{name: chosen[name] for name in given}}
    if "augment" in {field.name for field in dataclasses.fields(architecture.options)}:
        settings["augment"] = AUGMENTS[chosen["aug"]]
    if chosen["arch"] == "stylegan2":
        settings |= dict(zip(("normalize_z", "uniform_z"), SAMPLINGS[chosen["sampling"]]))
        settings["fp16"] = where.type == "cuda" and not chosen["fp32"]
    options = architecture.options.for_data(data, **settings)
    check(data, quiet)
    rhythm = {"tick_kimg": chosen["tick"], "snapshot_ticks": chosen["snap"]}
    return (
        data,
        options,
        {"outdir": chosen["outdir"], "start": net, **rhythm, "metric_samples": chosen["metric_samples"]},
    )


def refuse_foreign(arch: str, on_line: set[str]) -> None:
    """Refuse options on the command line that only other architectures have.

    Raises:
        click.UsageError: there is one.
    """
    foreign = {name: flags(f)[0] for line in ARCHITECTURES.values() for name, f in declared(line.options).items()}
    foreign |= {name: f"--{name}" for name in STYLEGAN2_ONLY}
    data_options = {name for line in ARCHITECTURES.values() for name in line.options.data_options}
    foreign |= {name: f"--{name.replace('_', '-')}" for name in data_options}
    own = {*declared(ARCHITECTURES[arch].options), *ARCHITECTURES[arch].options.data_options}
    named = [flag for name, flag in foreign.items() if name in on_line and name not in own]
    if arch == "stylegan2":
        named = [flag for flag in named if flag.removeprefix("--") not in STYLEGAN2_ONLY]
    if named:
        raise click.UsageError(f"{', '.join(named)} has no meaning with --arch {arch}.")


def sizes_of(kind: Any, net: Any, on_line: set[str], chosen: dict[str, Any]) -> dict[str, Any]:
    """The settings under which networks of the form of a file's are built, at the chosen resolution.

    Args:
        kind: the class of the architecture.
        net: the network file.
        on_line: the options on the command line.
        chosen: the options of the command.
    """
    own_options = declared(ARCHITECTURES[chosen["arch"]].options)
    fixed = {"grey": "--grey", **{name: flags(own_options[name])[0] for name in kind.fixed_by_file}}
    named = ", ".join(flag for name, flag in fixed.items() if name in on_line)
    if named:
        raise click.UsageError(
            f"{named} cannot be chosen for the weights of a network file; its networks have their own."
        )
    changed = {name: chosen[name] for name in kind.changeable if chosen[name] is not None}
    sizes = kind.settings_of(net, **changed, **({"num_fp16_res": 0} if chosen["fp32"] else {}))
    if "resolution" not in sizes:
        return sizes
    own, resolution = sizes["resolution"], chosen["resolution"]
    if resolution is not None and resolution != own and not (kind.grows and resolution > own):
        can = "can only grow" if kind.grows else "keeps its resolution"
        raise click.UsageError(f"--resolution is {resolution}; a network of {own}x{own} {can}.")
    return {**sizes, "resolution": resolution or own}


def check(data: Any, quiet: bool) -> None:
    """Look at every picture before the first step, and say which are left out."""
    with counting(len(data.names), f"checking {data.what}", quiet) as progress:
        data.check(progress)
    if data.broken:
        shown = [f"{name} ({reason})" for name, reason in list(data.broken.items())[:5]]
        more = f", and {len(data.broken) - 5} more" if len(data.broken) > 5 else ""
        what = data.what if len(data.broken) > 1 else data.what.removesuffix("s")
        say(quiet, f"left out {len(data.broken)} {what} that cannot be read: {', '.join(shown)}{more}")


class Watch:
    """A line per tick on stderr."""

    def __init__(self, quiet: bool):
        self.quiet = quiet

    def __call__(self, report: Any) -> None:
        v = report.values
        parts = [f"kimg {v['kimg']:<8.1f} {v['images_per_second']:.1f} images/s, {_clock(v['seconds_left'])} left"]
        for name, title in (
            ("loss/G", "G"),
            ("loss/D_real", "D real"),
            ("loss/D_fake", "D fake"),
            ("augment_p", "augment"),
            ("loss/latent", "code"),
            ("loss/generated", "generated"),
            ("loss/real", "real"),
            ("lpips_generated", "LPIPS of generated pictures"),
            ("lpips_real", "of real ones"),
            ("digit_confidence", "confidence in digits"),
            ("inception_score", "inception score"),
        ):
            if name in v:
                parts.append(f"{title} {v[name]:.3f}")
        if "angle" in v:
            parts.append(f"angle {v['angle']:.1f} degrees")
        if "kid_squeezenet" in v:
            parts.append(f"KID (SqueezeNet) {v['kid_squeezenet']:.4f} +- {v['kid_squeezenet_stderr']:.4f}")
        if "frechet_squeezenet" in v:
            parts.append(f"Frechet (SqueezeNet) {v['frechet_squeezenet']:.3f}")
        say(self.quiet, ", ".join(parts))


def _clock(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    return f"{hours}h {rest // 60:02d}m" if hours else f"{rest // 60}m {rest % 60:02d}s"
