"""``stylegan-invert app``"""

import importlib.util
from typing import Any

import click

from ..files.door import size_of
from ..network_files.sources import OF_PICTURES
from .common import NetworkSource, UserPath, device_option, pick_device, quiet_option, say

MISSING = "the page needs the package Gradio, which is not installed; pip install 'stylegan-invert[app]' installs it"


def _size(ctx: click.Context, param: click.Parameter, text: str) -> int:
    """A click callback that reads a size in bytes."""
    try:
        return size_of(text)
    except ValueError as e:
        raise click.BadParameter(str(e)) from None


@click.command()
@click.option(
    "--network",
    "-n",
    "networks",
    multiple=True,
    type=NetworkSource(),
    metavar="NET",
    help="A network that the page offers: a path, a URL or a short name. The option may be repeated.  "
    f"[default: those that come with this package: {', '.join(OF_PICTURES)}]",
)
@click.option(
    "--directions",
    multiple=True,
    type=UserPath(),
    metavar="FILE|DIR",
    help="Directions that the page offers, besides those that come with this package: a file of 'stylegan-invert directions', or "
    "a folder of them. The option may be repeated.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Address to listen at. The default can be reached from this machine only; 0.0.0.0 lets in everybody who can reach this "
    "machine, without a password.",
)
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Port to listen at.  [default: the first free one from 7860 on]"
)
@click.option(
    "--max-upload",
    default="20M",
    show_default=True,
    metavar="SIZE",
    callback=_size,
    help="Largest file that the page takes, such as 20M.",
)
@click.option("--allow-networks", is_flag=True, help="Also take network files from the page. They are read as data.")
@device_option
@quiet_option
def command(
    networks: tuple[str, ...],
    directions: tuple[str, ...],
    host: str,
    port: int | None,
    max_upload: int,
    allow_networks: bool,
    device: str,
    quiet: bool,
) -> None:
    """Open a page in the browser: project a photograph and edit it.

    Drop a photograph, choose a network and a method, and watch the picture converge. Then move sliders for directions, style
    mixing, truncation and compression, and download the picture, a video, the code or a tuned network. The page needs the
    extra 'app' (pip install 'stylegan-invert[app]'). Nothing is sent to other machines. Ctrl-C ends it.

    \b
    stylegan-invert app
    stylegan-invert app -n ffhq -n mine.pkl --directions out/pca --device cuda
    """
    if importlib.util.find_spec("gradio") is None:
        raise click.ClickException(MISSING)
    from ..app.offer import Offer, direction_files
    from ..app.server import serve
    from ..io.direction_file import read_description

    for name in directions:
        for path in direction_files(name):
            read_description(path)  # a file that is no direction is refused before the page is opened
    offer = Offer(networks or OF_PICTURES, directions, pick_device(device), allow_networks)

    def started(address: str) -> None:
        say(quiet, f"the page is at {address} (Ctrl-C ends it)")

    _until_interrupted(serve, offer, host, port, max_upload, started)
    say(quiet, "stopped")


def _until_interrupted(function: Any, *arguments: Any) -> None:
    """Call a function that an interruption ends, as is usual for a server."""
    try:
        function(*arguments)
    except KeyboardInterrupt:
        pass
