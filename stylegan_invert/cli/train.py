"""``stylegan-invert train``"""

import dataclasses
import os
from typing import Any

import click

from .common import SEED, Number, Span, UserPath, check_outdir, counting, device_option, pick_device, quiet_option, say

AUGMENTS = {"noaug": "none", "ada": "ada", "fixed": "fixed"}  # the official words, and those of training.configs
SAME = (  # options that `training.configs.Options` knows under the same name
    "kimg", "seed", "head", "embedding_weight", "embedding_weight_later", "embedding_later_kimg", "batch", "batch_gpu", "lr",
    "gamma", "mixing", "pl_weight", "z_dim", "w_dim", "mapping_layers", "mapping_lr", "channel_base", "channel_max", "ema_kimg",
)  # fmt: skip
SETTINGS = {**{name: name for name in SAME}, "p": "augment_p", "target": "ada_target"}
NEEDS = {  # options that mean nothing without another
    "p": "--aug", "target": "--aug ada", "embedding_weight": "--head direction", "embedding_weight_later": "--head direction",
    "embedding_later_kimg": "--head direction",
}  # fmt: skip
GOING_ON = {"resume", "kimg", "data", "device", "quiet"}  # what may be said anew when a stopped run goes on


@click.command()
@click.option(
    "--data", type=UserPath(), metavar="PATH",
    help="Training set: an official dataset zip or folder, or any folder of pictures.",
)  # fmt: skip
@click.option("--outdir", "-o", type=UserPath(), metavar="DIR", help="Folder of the run; made if it is missing.")
@click.option(
    "--resume", type=UserPath(), metavar="PATH",
    help="Go on with a stopped run (its folder), or start from the weights of a network file.",
)  # fmt: skip
@click.option(
    "--kimg",
    type=Number(0, 1e9, min_open=True),
    metavar="N",
    help="Thousands of pictures to show in all.  [default: 25000]",
)
@click.option(
    "--resolution",
    type=int,
    metavar="INT",
    help="Side of the pictures, a power of two.  [default: from the first picture]",
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
    "--head", type=click.Choice(["none", "direction"]), default="none", show_default=True,
    help="direction: the discriminator learns to find latents while it learns to judge; for project --method de.",
)  # fmt: skip
@click.option(
    "--embedding-weight",
    type=Number(0, 1e6),
    default=1,
    show_default=True,
    help="Weight of the direction's loss, at first.",
)
@click.option("--embedding-weight-later", type=Number(0, 1e6), default=10, show_default=True, help="And later.")
@click.option("--embedding-later-kimg", type=Number(0, 1e9), default=300, show_default=True, help="When later begins.")
@click.option(
    "--sampling", type=click.Choice(["normal", "angles"]), default="normal", show_default=True,
    help="normal: as official networks, which normalise z. angles: as in the paper of the direction head, without that.",
)  # fmt: skip
@click.option("--batch", type=click.IntRange(min=1), help="Pictures per step.  [default: by resolution]")
@click.option("--batch-gpu", type=click.IntRange(min=1), help="Pictures at a time, if not all fit.  [default: all]")
@click.option("--lr", type=Number(0, 1, min_open=True), help="Adam's rate.  [default: by resolution]")
@click.option("--gamma", type=Number(0, 1e6), help="Weight of R1.  [default: by resolution]")
@click.option("--mixing", type=Number(0, 1), help="Probability of style mixing.  [default: by resolution]")
@click.option(
    "--pl-weight", type=Number(0, 1e6), help="Weight of path-length regularisation.  [default: by resolution]"
)
@click.option("--z-dim", type=click.IntRange(1, 4096), help="Size of z.  [default: by resolution]")
@click.option("--w-dim", type=click.IntRange(1, 4096), help="Size of w.  [default: by resolution]")
@click.option("--mapping-layers", type=click.IntRange(1, 64), help="Layers of the mapping.  [default: by resolution]")
@click.option(
    "--mapping-lr", type=Number(0, 100, min_open=True),
    help="The mapping's learning rate, as a share of --lr.  [default: 0.01; 0.1 with --head direction]",
)  # fmt: skip
@click.option(
    "--channel-base",
    type=click.IntRange(min=32),
    help="Channels at r x r are this over r, ...  [default: by resolution]",
)
@click.option("--channel-max", type=click.IntRange(min=1), help="... but at most this.  [default: by resolution]")
@click.option("--ema-kimg", type=Number(0, 1e6), help="Half-life of the averaged weights.  [default: 10 at batch 32]")
@click.option(
    "--aug", type=click.Choice(list(AUGMENTS)), default="noaug", show_default=True,
    help="Augment what the discriminator sees: never, as much as it needs, or with --p.",
)  # fmt: skip
@click.option(
    "--p", type=Number(0, 1), default=0, show_default=True, help="Probability of augmentation, at the start for ada."
)
@click.option(
    "--target",
    type=Number(0, 1),
    default=0.6,
    show_default=True,
    help="Mean sign of the discriminator that ada aims at.",
)
@click.option("--fp32", is_flag=True, help="Compute in full precision on CUDA.")
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
    "--metric-samples", type=click.IntRange(min=0), default=2000, show_default=True,
    help="Pictures for the distance to the training set at each snapshot: KID, from 10,000 on Frechet's too; 0 for none.",
)  # fmt: skip
@click.option("--seed", type=SEED, default=0, show_default=True, help="Random seed.")
@device_option
@quiet_option
@click.pass_context
def command(ctx: click.Context, resume: str | None, device: str, quiet: bool, **chosen: Any) -> None:
    """Train a StyleGAN2 network.

    DIR gets log.jsonl, sample grids, official network files and a checkpoint. A run that was stopped, however it was,
    goes on with --resume DIR as if it had not been.

    \b
    stylegan-invert train --data cats.zip --outdir runs/cats --mirror --kimg 500
    stylegan-invert train --data photos/ --outdir runs/photos --resolution 32 --head direction --aug ada
    stylegan-invert train --resume runs/cats
    """
    given = {n for n in ctx.params if ctx.get_parameter_source(n) is click.core.ParameterSource.COMMANDLINE}
    run(resume, device, quiet, given, **chosen)


def run(resume: str | None, device: str, quiet: bool, given: set[str], **chosen: Any) -> None:
    """Train with the options of the command line; ``given`` are those that were said."""
    from ..media.picture_set import PictureSet
    from ..network_files.file import load
    from ..training.configs import Options
    from ..training.loop import read_checkpoint, read_options, train

    where = pick_device(device)
    going_on = resume is not None and os.path.isdir(resume)
    if going_on:
        if given - GOING_ON:
            names = ", ".join(f"--{n.replace('_', '-')}" for n in sorted(given - GOING_ON))
            raise click.UsageError(f"{names} cannot be changed when a run goes on; it keeps its own settings.")
        outdir, net = resume, None
        read_checkpoint(outdir)
        record = read_options(outdir)
        options = Options(**record["options"])
        if chosen["kimg"] is not None:
            options = dataclasses.replace(options, kimg=chosen["kimg"])
        data = PictureSet(**{**record["data"], **({"path": chosen["data"]} if chosen["data"] else {})})
        rhythm = record["rhythm"]
    else:
        outdir = chosen["outdir"]
        net = load(resume) if resume is not None else None
        if chosen["data"] is None or outdir is None:
            raise click.UsageError("--data and --outdir are needed, or --resume with the folder of a stopped run.")
        check_outdir(outdir)
        if net is not None and given & {"resolution", "grey"}:
            raise click.UsageError(
                "--resolution and --grey cannot be chosen for the weights of a network file; it has its own."
            )
        sizes = sizes_of(net.G) if net is not None else {"channels": 1 if chosen["grey"] else 3}
        first, last = chosen["pictures"] or (0, None)
        data = PictureSet(
            chosen["data"], sizes.pop("resolution", chosen["resolution"]), sizes.pop("channels"),
            use_labels=chosen["cond"], mirror=chosen["mirror"], first=first, last=last,
        )  # fmt: skip
        said = [
            name for name in SETTINGS if chosen[name] is not None and (name in given or SETTINGS[name] not in sizes)
        ]
        settings = {**sizes, **{SETTINGS[name]: chosen[name] for name in said}}
        present = {"--aug": chosen["aug"] != "noaug", "--aug ada": chosen["aug"] == "ada"}
        present["--head direction"] = chosen["head"] == "direction"
        for name in sorted(given & set(NEEDS)):
            if not present[NEEDS[name]]:
                raise click.UsageError(f"--{name.replace('_', '-')} has no meaning without {NEEDS[name]}.")
        settings["augment"] = AUGMENTS[chosen["aug"]]
        settings["normalize_z"] = chosen["sampling"] == "normal"
        settings["fp16"] = where.type == "cuda" and not chosen["fp32"]
        options = Options.for_resolution(data.resolution, channels=data.channels, c_dim=data.c_dim, **settings)
        rhythm = {
            "tick_kimg": chosen["tick"],
            "snapshot_ticks": chosen["snap"],
            "metric_samples": chosen["metric_samples"],
        }

    check(data, quiet)
    if going_on and len(data.names) != record["pictures"]:
        raise click.ClickException(
            f"{data.path}: {len(data.names)} of its pictures can be read; the run began with {record['pictures']}. It can "
            "only go on with the same ones"
        )
    classes = f", {data.c_dim} classes" if data.c_dim else ""
    size = f"{data.resolution}x{data.resolution}"
    say(quiet, f"training on {len(data.names):,} pictures, {size}{classes}, on {where}, for {options.kimg:g} thousand")
    if not options.normalize_z:
        say(quiet, "note: official code divides z by its root mean square; it will show other pictures for the same z")
    newest = train(data, options, outdir, where, resume=going_on, start=net, callback=Watch(quiet), **rhythm)
    say(quiet, f"wrote {newest}; a picture of its samples is beside it")


def sizes_of(G: Any) -> dict[str, Any]:
    """The settings under which a generator of the same sizes is made."""
    from ..networks.stylegan2 import Generator

    if not isinstance(G, Generator):
        raise click.UsageError("--resume takes the network file of a StyleGAN2, or the folder of a stopped run.")
    synthesis = G.init_kwargs.get("synthesis_kwargs") or {}
    names = ("channel_base", "channel_max")
    return {
        "resolution": G.img_resolution, "channels": G.img_channels, "z_dim": G.z_dim, "w_dim": G.w_dim,
        "mapping_layers": G.mapping.num_layers, "mapping_lr": G.mapping.fc0.bias_gain, **{n: synthesis[n] for n in names if n in synthesis},
    }  # fmt: skip


def check(data: Any, quiet: bool) -> None:
    """Look at every picture before the first step, and say which are left out."""
    with counting(len(data.names), "checking pictures", quiet) as progress:
        data.check(progress)
    if data.broken:
        shown = [f"{name} ({reason})" for name, reason in list(data.broken.items())[:5]]
        more = f", and {len(data.broken) - 5} more" if len(data.broken) > 5 else ""
        plural = "s" * (len(data.broken) > 1)
        say(quiet, f"left out {len(data.broken)} picture{plural} that cannot be read: {', '.join(shown)}{more}")


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
