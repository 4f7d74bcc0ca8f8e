"""Cuts ten eyes out of photographs: ``python docs/reproduce/make_eyes.py face_recognition-1.3.0.tar.gz out/eyes``.

The photographs are those of the tests of the package face_recognition (``pip download --no-deps --no-binary :all:
face_recognition``), and scikit-image's ``astronaut`` (NASA, public domain). The pictures are used for tables only.
"""

import sys
import tarfile
from pathlib import Path

import PIL.Image
import skimage.data

# The middle of each eye in pixels, and half the side of the square that is cut.
EYES = {
    "obama": [(442, 212, 36), (556, 212, 36)],
    "obama2": [(247, 367, 36), (360, 382, 36)],
    "obama3": [(730, 386, 30), (833, 388, 30)],
    "biden": [(532, 322, 36), (650, 343, 36)],
    "astronaut": [(203, 100, 15), (247, 103, 15)],
}


def main(archive: str, outdir: str) -> None:
    folder = Path(outdir)
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    with tarfile.open(archive) as files:
        for name, eyes in EYES.items():
            if name == "astronaut":
                photograph = PIL.Image.fromarray(skimage.data.astronaut())
            else:
                member = files.extractfile(f"face_recognition-1.3.0/tests/test_images/{name}.jpg")
                photograph = PIL.Image.open(member).convert("RGB")
            for x, y, half in eyes:
                eye = photograph.crop((x - half, y - half, x + half, y + half))
                eye.resize((128, 128), PIL.Image.Resampling.LANCZOS).save(folder / f"{number}.png")
                number += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
