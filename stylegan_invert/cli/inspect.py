"""``stylegan-invert inspect``"""

from typing import Any

import click

from .common import NetworkSource, assume_option, open_network, tell, tell_json


@click.command()
@click.argument("network", metavar="NET", type=NetworkSource())
@assume_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(network: str, as_json: bool) -> None:
    """Print what a network file holds: family, resolution, channels, classes, spaces, parameters, SHA-256.

    NET is a path, a URL or an official short name. The file is read as data; nothing in it is executed.
    """
    info = open_network(network, quiet=True).info  # it also lists what was assumed
    if as_json:
        tell_json(info, 2)
        return
    width = max(map(len, info))
    for name, value in info.items():
        tell(f"{name.replace('_', ' '):<{width}}  {_text(value)}")


def _text(value: Any) -> str:
    """A value as a person reads it: sizes as "3x32x32", lists with commas, None as "none"."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{k} {'x'.join(map(str, v))}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)
