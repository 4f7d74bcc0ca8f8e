"""``stylegan-invert directions rename``"""

import dataclasses

import click

from .common import UserPath
from .directions import valid_name


@click.command()
@click.argument("file", type=UserPath(), metavar="FILE")
@click.argument("name", callback=valid_name, metavar="NAME")
def command(file: str, name: str) -> None:
    """Give a direction a name that says what moves along it. The file keeps its own name.

    \b
    stylegan-invert directions rename out/pca/pca03.safetensors 'brighter background'
    """
    from ..io.direction_file import read_description, write_direction

    write_direction(file, dataclasses.replace(read_description(file), name=name))
