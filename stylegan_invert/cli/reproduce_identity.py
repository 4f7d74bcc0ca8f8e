"""``stylegan-invert reproduce identity``"""

from typing import Any

import click

from .common import Choice, UserPath, device_option, network_option, outdir_option, quiet_option
from .project import run_torchscript_option
from .reproduce import run_study


def check_ways(ctx: click.Context, param: click.Parameter, ways: tuple[str, ...]) -> tuple[str, ...]:
    """A click callback that refuses what the study would refuse, before a network is read."""
    from ..studies.identity import way_of

    for text in ways:
        try:
            way_of(text)
        except ValueError as e:
            raise click.BadParameter(str(e)) from None
    return ways


@click.command()
@network_option
@click.option(
    "--people", required=True, type=UserPath(), metavar="PATH",
    help="Pictures of people: a folder or zip with a folder for each person.",
)  # fmt: skip
@click.option(
    "--labels", is_flag=True, help="Take the people from the class numbers in dataset.json, not from folders."
)
@click.option("--count", type=click.IntRange(min=2), default=40, show_default=True, help="People, at most.")
@click.option(
    "--way", "ways", multiple=True, metavar="METHOD[:OPTION=VALUE,...]", default=("fast-w+",), show_default=True,
    callback=check_ways,
    help="A method, with its own preset or with other values of its options; init=NAME is where it starts. Give the option "
    "again for each further method.",
)  # fmt: skip
@click.option("--encoder", type=UserPath(), metavar="FILE", help="An encoder of the network, for ways that use one.")
@click.option("--loss", metavar="NAME=W,...", help="What the methods minimise.  [default: each method's own]")
@click.option(
    "--identity", type=UserPath(), metavar="FILE",
    help="The face embedder that recognises people: facenet-pytorch's InceptionResnetV1, or a backbone of InsightFace's "
    "arcface_torch.",
)  # fmt: skip
@click.option(
    "--features", type=Choice(["identity", "identity-ffhq", "squeezenet"]), default="identity", show_default=True,
    help="identity: the --identity file. identity-ffhq: the same on the middle of pictures that are aligned as FFHQ's. "
    "squeezenet: the shipped SqueezeNet, which was not trained on faces.",
)  # fmt: skip
@run_torchscript_option
@outdir_option
@device_option
@quiet_option
def command(**options: Any) -> None:
    """Measure whether people are recognised in reconstructions, as Bayat's Table 2.2.

    The last picture of each person is reconstructed. Then the person is looked for by the reconstruction, among the originals
    of all reconstructed pictures, and among the other pictures of the same people. DIR gets table.md and results.json with
    the share of people that are found at rank 1, 5, 10 and 20, and a sheet of reconstructions.

    \b
    stylegan-invert reproduce identity -n ffhq --people faces/ --identity vggface2.pt -o out/identity
    stylegan-invert reproduce identity -n cats32 --people cats/ --features squeezenet --way encoder --encoder runs/encoder \\
      --way fast-w+:steps=50,init=encoder -o out/identity
    """
    from ..studies import identity

    run_study(identity, figures=" and sheet.png", **options)
