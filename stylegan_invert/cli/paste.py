"""``stylegan-invert paste``"""

import os
from pathlib import Path
from typing import Any

import click

from ..errors import ImageFileError
from .common import Number, UserPath, quiet_option, say


@click.command()
@click.argument("aligned", type=UserPath(), metavar="RESULT")
@click.option(
    "--picture",
    required=True,
    type=UserPath(),
    metavar="FILE",
    help="The edited face: a square picture of any size, in the place of target.png.",
)
@click.option(
    "--onto", required=True, type=UserPath(), metavar="FILE", help="The photograph from which the face was cut out."
)
@click.option("--out", "-o", required=True, type=UserPath(), metavar="FILE", help="The PNG file to write.")
@click.option(
    "--feather",
    type=Number(0, 0.5),
    default=0.05,
    show_default=True,
    help="Width of the border over which the face fades in, as a share of the side of its square.",
)
@quiet_option
def command(aligned: str, picture: str, onto: str, out: str, feather: float, quiet: bool) -> None:
    """Put an edited face back into the photograph from which --align cut it out.

    RESULT is the folder of a projection that was made with --align, or the file of landmarks. The photograph keeps its
    size, and only pixels inside the square of the face are changed. A photograph that its EXIF data turn is written
    turned, and one of 16 bits per channel with 8 bits.

    \b
    stylegan-invert project -n ffhq -t photo.jpg --align aligned/landmarks.json -o out
    stylegan-invert paste out --picture out/proj.png --onto photo.jpg -o pasted.png
    """
    from ..files.writing import atomic
    from ..media.alignment import paste, read_photograph
    from ..media.pictures import read_upright

    if Path(out).suffix.lower() != ".png":
        raise click.UsageError(f"--out {out}: a PNG file is written; expected a name that ends in .png.")
    if any(os.path.exists(out) and os.path.samefile(out, path) for path in (picture, onto) if os.path.exists(path)):
        raise click.UsageError(f"--out {out}: this would replace a picture that is read; choose another name.")
    photograph, sha256 = read_photograph(onto)
    face = read_upright(picture, 2**21).picture
    about = _about(aligned, onto, photograph, face.width)
    if tuple(about["size"]) != photograph.size:
        was, now = ("x".join(map(str, size)) for size in (about["size"], photograph.size))
        raise ImageFileError(f"{onto}: it has {now} pixels, and the face was cut out of a picture of {was}")
    if about.get("sha256", sha256) != sha256:
        say(quiet, f"note: {onto} is not the file from which the face was cut out, though it has the same size")
    try:
        result = paste(photograph.picture, face, about["quad"], about["resolution"], feather)
    except ImageFileError as e:
        raise ImageFileError(f"{picture} onto {onto}: {e}") from None
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    with atomic(out) as temporary:
        result.save(temporary, format="PNG", icc_profile=photograph.profile)
    say(quiet, f"{picture} onto {onto} -> {out}")


def _about(aligned: str, onto: str, photograph: Any, resolution: int) -> dict[str, Any]:
    """Where the face was: from the folder of a result, or from a file of landmarks and the size of the face."""
    from ..media.alignment import face_quad, read_record
    from ..media.landmarks import read_landmarks

    if os.path.isdir(aligned):
        return read_record(os.path.join(aligned, "result.json"))
    face = read_landmarks(aligned).of(onto)
    return {"quad": face_quad(face), "size": face.size or photograph.size, "resolution": resolution}
