"""``stylegan-invert convert``"""

import os

import click

from .common import NetworkSource, UserPath, assume_option, open_network, quiet_option, say

FORMATS = ("pickle", "rosinality", "safetensors")


@click.command()
@click.argument("source", metavar="IN", type=NetworkSource())
@click.argument("out", metavar="OUT", type=UserPath())
@click.option(
    "--format", "form", type=click.Choice(FORMATS),
    help="What to write.  [default: by OUT's ending: .pkl an official pickle, .pt rosinality's state dict, .safetensors]",
)  # fmt: skip
@assume_option
@quiet_option
def command(source: str, out: str, form: str | None, quiet: bool) -> None:
    """Write a network file in another format, and compare pictures of both.

    IN is a path, a URL or a short name; it is read as data. OUT is written if networks read from it give the same pictures,
    to 1e-5 of their scale; what its format does not keep is named, and what would change pictures is refused.
    """
    from ..generator import adapt
    from ..network_files.convert import FORMATS as WRITERS
    from ..network_files.convert import convert, format_of

    form = form or format_of(out)
    if form is None:
        endings = ", ".join(writer.ending for writer in WRITERS.values())
        raise click.UsageError(f"{out} ends in none of {endings}; choose what to write with --format")
    if os.path.isdir(out):
        raise click.UsageError(f"{out} is a directory; expected a file name")
    net = open_network(source, quiet)
    info = adapt(net.G).info()
    sizes = f"{info['resolution']}x{info['resolution']}, {info['channels']} channels, {info['classes']} classes"
    also = [role for role in ("G", "D") if net[role] is not None and net[role] is not net.G]
    say(quiet, f"read {source}: {info['family']}, {sizes}{', with ' + ' and '.join(also) if also else ''}")
    report = convert(net, out, form)
    say(quiet, f"wrote {out}: {WRITERS[form].title}")
    for lost in report.left_out:
        say(quiet, f"  not in it: {lost}")
    for found in report.differences:
        what = "judgements of D" if found.role == "D" else f"pictures of {found.role}"
        say(quiet, f"  {what}: largest difference {found.error:.1e} on a scale of {found.scale:.2g}")
