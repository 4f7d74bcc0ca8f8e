"""``stylegan-invert train-encoder``"""

import dataclasses
from typing import Any

import click

from ..io.weights import WEIGHTS
from ..options import flags
from ..training.encoder_options import EncoderOptions
from .common import (
    NetworkSource,
    Number,
    Span,
    UserPath,
    assume_option,
    check_outdir,
    device_option,
    open_network,
    pick_device,
    quiet_option,
    say,
    z_prior_option,
)
from .options import class_options
from .project import weight_options
from .train import Watch, check, stopping

GOING_ON = {"network", "resume", "kimg", "data", "device", "quiet", "z_prior", "run_torchscript", *WEIGHTS}


@click.command()
@click.argument("network", type=NetworkSource(), metavar="NET")
@click.option("--outdir", "-o", type=UserPath(), metavar="DIR", help="Folder of the run; made if it is missing.")
@click.option("--resume", type=UserPath(), metavar="DIR", help="Go on with a stopped run, with its own settings.")
@click.option(
    "--data", type=UserPath(), metavar="PATH", help="Real pictures besides the network's own: a zip or a folder."
)
@click.option("--pictures", type=Span(), metavar="FIRST:LAST", help="Take these real pictures only, by name's order.")
@click.option("--mirror", is_flag=True, help="Show every real picture mirrored, too.")
@click.option("--iterative", is_flag=True, help="Train for several passes over a picture, each from the one before.")
@click.option(
    "--weights", type=UserPath(), metavar="FILE", help="Begin with a ResNet-18's state dict; the width is then 64."
)
@class_options(EncoderOptions)
@weight_options
@click.option(
    "--tick",
    type=Number(0, 1e6, min_open=True),
    default=1,
    show_default=True,
    help="Thousands of pictures per line of the log.",
)
@click.option(
    "--snap", type=click.IntRange(min=1), default=10, show_default=True, help="Ticks per checkpoint and sheet."
)
@assume_option
@z_prior_option
@device_option
@quiet_option
@click.pass_context
def command(
    ctx: click.Context, network: str, outdir: str | None, resume: str | None, device: str, quiet: bool, **chosen: Any
) -> None:
    """Train an encoder for a network: one pass of it finds the code of a picture.

    The network itself is not changed, and may be of any family. DIR gets encoder.safetensors, sheets of pictures over
    their reconstructions, log.jsonl and a checkpoint. A run that was stopped goes on with --resume DIR. With torchrun
    several processes share each batch, and the encoder becomes the same as with one.

    \b
    stylegan-invert train-encoder cats32 -o runs/encoder --data photos
    stylegan-invert project -n cats32 -t photo.jpg -o out --method encoder --encoder runs/encoder
    torchrun --nproc-per-node 2 -m stylegan_invert train-encoder cats32 -o runs/encoder --kimg 50
    """
    from ..generator import adapt, with_prior
    from ..training import distributed
    from ..training.encoder import train_encoder

    where = distributed.own_device(pick_device(device))
    quiet = quiet or not distributed.prints()
    on_line = {n for n in ctx.params if ctx.get_parameter_source(n) is click.core.ParameterSource.COMMANDLINE}
    folder = resume or outdir
    if folder is None:
        raise click.UsageError("--outdir is needed, or --resume with the folder of a stopped run.")
    if resume is None and outdir is not None:
        check_outdir(outdir)
    elif on_line - GOING_ON:
        names = ", ".join(sorted(p.opts[0] for p in ctx.command.params if p.name in on_line - GOING_ON))
        raise click.UsageError(f"{names} cannot be changed when a run goes on; it keeps its own settings.")
    net = open_network(network, quiet, "picture")
    net.G.to(where)
    generator = with_prior(adapt(net.G), chosen["z_prior"])
    if resume is not None:
        data, options, rhythm = stopped_run(resume, chosen, quiet)
    else:
        data, options = new_run(generator, chosen, quiet)
        rhythm = {"tick_kimg": chosen["tick"], "snapshot_ticks": chosen["snap"]}
    files = {name: chosen[name] for name in WEIGHTS if chosen.get(name)}
    start = resnet(chosen["weights"]) if chosen["weights"] else None
    real = f", and {len(data.names):,} real pictures" if data is not None else ""
    say(
        quiet,
        f"training an encoder to {options.space} on pictures of {network}{real}, on {where}{distributed.about()}, for "
        f"{options.kimg:g} thousand",
    )
    with stopping():
        newest = train_encoder(
            generator, options, folder, data, resume=resume is not None, start=start, files=files,
            run_torchscript=chosen["run_torchscript"], callback=Watch(quiet), **rhythm,
        )  # fmt: skip
    say(quiet, f"wrote {newest}; sheets of reconstructions are beside it")


def new_run(generator: Any, chosen: dict[str, Any], quiet: bool) -> tuple[Any, EncoderOptions]:
    """The real pictures, if any, and the options of a new run."""
    from ..networks.encoder import input_size, usual_width

    declared = [field.name for field in dataclasses.fields(EncoderOptions) if field.metadata and flags(field)]
    given = {name: chosen[name] for name in declared if chosen[name] is not None}
    given.setdefault("space", "w+" if "w+" in generator.spaces else "z")
    given.setdefault("width", 64 if chosen["weights"] else usual_width(input_size(generator.output_shape[1])))
    options = EncoderOptions(**given, iterative=chosen["iterative"])
    first, last = chosen["pictures"] or (0, None)
    return real_pictures(generator, chosen["data"], chosen["mirror"], first, last, quiet), options


def real_pictures(generator: Any, path: str | None, mirror: bool, first: int, last: int | None, quiet: bool) -> Any:
    """The real pictures at the generator's size, with labels if it has classes; None if there is no path."""
    from ..media.picture_set import PictureSet

    if path is None:
        return None
    channels, resolution = generator.output_shape[:2]
    data = PictureSet(path, resolution, channels, generator.c_dim > 0, mirror, first, last)
    check(data, quiet)
    return data


def stopped_run(folder: str, chosen: dict[str, Any], quiet: bool) -> tuple[Any, EncoderOptions, dict[str, Any]]:
    """The real pictures, the options and the rhythm of a stopped run."""
    from ..media.picture_set import PictureSet
    from ..training.loop import read_options

    record = read_options(folder, EncoderOptions)
    options = record["options"]
    if chosen["kimg"] is not None:
        options = dataclasses.replace(options, kimg=chosen["kimg"])
    data = None
    if record["data"]:
        data = PictureSet(**{**record["data"], **({"path": chosen["data"]} if chosen["data"] else {})})
        check(data, quiet)
    return data, options, record["rhythm"]


def resnet(path: str) -> tuple[dict[str, Any], str]:
    """The tensors of a state dict by name, as records, and the name of its file."""
    from ..errors import TrainingError
    from ..files.door import Kind
    from ..files.saved import read_saved
    from ..files.tensors import tables

    kind = Kind("torchvision's state dict of a ResNet-18", 2**30, TrainingError)
    found = [tensors for _, tensors, _ in tables(read_saved(path, kind))]
    return max(found, key=len, default={}), path
