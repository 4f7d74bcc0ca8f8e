"""``stylegan-invert align``"""

import functools
import json
import os
from pathlib import Path
from typing import Any

import click

from ..errors import ImageFileError
from ..files.writing import atomic, folder_names
from .common import DEVICES, Choice, UserPath, check_outdir, counting, outdir_option, pick_device, quiet_option, say

FILE = "landmarks.json"


@click.command()
@click.argument("pictures", nargs=-1, required=True, type=UserPath(), metavar="PICTURE...")
@outdir_option
@click.option(
    "--landmarks",
    type=UserPath(),
    metavar="FILE",
    help="Use these landmarks, see --align of 'stylegan-invert project'.  [default: find them with the package "
    "face-alignment, which the extra 'align' installs]",
)
@click.option(
    "--resolution",
    type=click.IntRange(4, 4096),
    default=1024,
    show_default=True,
    help="Side of the aligned pictures in pixels.",
)
@click.option("--background", default="white", show_default=True, metavar="COLOUR", help="Behind transparent pixels.")
@click.option(
    "--device",
    type=Choice(DEVICES),
    default="auto",
    show_default=True,
    help="Where faces are sought. auto: on a GPU if there is one.",
)
@quiet_option
def command(
    pictures: tuple[str, ...],
    outdir: str,
    landmarks: str | None,
    resolution: int,
    background: str,
    device: str,
    quiet: bool,
) -> None:
    """Cut faces out of photographs, as the data set FFHQ does.

    A PICTURE is a file, a folder, a zip or a pattern in quotes. DIR gets the largest face of each as a PNG of the photograph's
    name, and landmarks.json, which 'project --align' and 'paste' read.

    \b
    stylegan-invert align photos/ -o aligned
    stylegan-invert align photo.jpg --landmarks photo.pts -o aligned --resolution 256
    stylegan-invert project -n ffhq -t photo.jpg --align aligned/landmarks.json -o out
    """
    from ..media.alignment import read_aligned
    from ..media.pictures import write_png
    from ..media.reading import PictureReading
    from ..media.targets import ZipPicture, find_targets

    check_outdir(outdir)
    files = find_targets(list(pictures), functools.partial(say, quiet))
    options = PictureReading(background=background, align=landmarks)
    options.check(files)
    finder = _finder(pick_device(device)) if landmarks is None else None

    def stream(file: Any) -> Any:
        return file.open() if isinstance(file, ZipPicture) else file

    found: dict[str, Any] = {}
    left_out: list[str] = []
    names = dict(zip(files, folder_names([str(file) for file in files])))
    keys = _keys(files)
    with counting(len(files), "aligning", quiet or len(files) < 10) as progress:
        for file in files:
            try:
                face, count = finder.find(stream(file), str(file)) if finder else (options.landmarks.of(str(file)), 1)
                if face is None:
                    raise ImageFileError(f"{file}: no face was found in it")
                pixels, _ = read_aligned(stream(file), face, resolution, 3, background, str(file))
            except ImageFileError as e:
                left_out.append(str(e))
            else:
                if count > 1:
                    say(quiet, f"{file}: it shows {count} faces; the largest is taken")
                Path(outdir).mkdir(parents=True, exist_ok=True)
                write_png(Path(outdir) / f"{names[file]}.png", pixels)
                found[keys[file]] = face.points.round(3).tolist()
            progress(1)
    if not found:
        more = f"; and {len(left_out) - 10} more" if len(left_out) > 10 else ""
        raise ImageFileError(f"no face could be cut out: {'; '.join(left_out[:10])}{more}")
    with atomic(Path(outdir) / FILE) as temporary:
        temporary.write_text(json.dumps(found) + "\n")
    for reason in left_out:
        say(quiet, f"left out: {reason}")
    say(quiet, f"{len(found)} of {len(files)} pictures -> {outdir}")


def _finder(device: Any) -> Any:
    from ..media.face_finder import FaceFinder

    return FaceFinder(str(device))


def _keys(files: list[Any]) -> dict[Any, str]:
    """A name for each file in landmarks.json: its own, with its folders where several files have the same."""
    names = [file.name for file in files]
    return {
        file: file.name if names.count(file.name) == 1 else Path(os.path.abspath(str(file))).as_posix()
        for file in files
    }
