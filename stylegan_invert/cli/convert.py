"""``stylegan-invert convert``"""

import os

import click

from .common import Choice, NetworkSource, UserPath, assume_option, open_network, quiet_option, say

FORMATS = ("pickle", "rosinality", "safetensors")


@click.command()
@click.argument("source", metavar="IN", type=NetworkSource())
@click.argument("out", metavar="OUT", type=UserPath())
@click.option(
    "--format",
    "form",
    type=Choice(FORMATS),
    help="Format to write.  [default: by the ending of OUT: .pkl is an official pickle, .pt is a state dict of "
    "rosinality's stylegan2-pytorch, .safetensors is this package's own format]",
)
@assume_option
@quiet_option
def command(source: str, out: str, form: str | None, quiet: bool) -> None:
    """Write a network file in another format, and compare pictures of both.

    IN is a path, a URL or a short name. It is read as data; nothing in it is executed. OUT is read back and kept only
    if its networks make the same pictures, to 1e-5 of the pictures' scale. Parts of IN that the other format cannot
    hold are listed. If such a part would change the pictures, nothing is written.
    """
    from ..generator import adapt
    from ..network_files.convert import FORMATS as WRITERS
    from ..network_files.convert import convert, format_of

    form = form or format_of(out)
    if form is None:
        endings = ", ".join(writer.ending for writer in WRITERS.values())
        raise click.UsageError(f"{out} ends in none of {endings}; choose the format with --format")
    if os.path.isdir(out):
        raise click.UsageError(f"{out} is a directory; expected a file name")
    net = open_network(source, quiet)
    info = adapt(net.G).info()
    sizes = f"{info['resolution']}x{info['resolution']}, {info['channels']} channels, {info['classes']} classes"
    others = [role for role in ("G", "D") if net[role] is not None and net[role] is not net.G]
    say(quiet, f"read {net.file}: {info['family']}, {sizes}{', with ' + ' and '.join(others) if others else ''}")
    report = convert(net, out, form)
    say(quiet, f"wrote {out}: {WRITERS[form].title}")
    for lost in report.left_out:
        say(quiet, f"  not in it: {lost}")
    for difference in report.differences:
        what = "judgements of D" if difference.role == "D" else f"pictures of {difference.role}"
        say(quiet, f"  {what}: largest difference {difference.error:.1e} on a scale of {difference.scale:.2g}")
