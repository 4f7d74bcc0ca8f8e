"""Write real faces for ``stylegan-invert reproduce dense``: python docs/reproduce/make_faces.py FOLDER

FOLDER/faces gets the first 100 pictures of scikit-image's ``lfw_subset``, the faces among them: grey, 25x25, from Labeled
Faces in the Wild, for tables only. FOLDER/astronaut gets the face of its ``astronaut``, a NASA photograph in the public
domain, which may be shown. Needs scikit-image (pip install -c constraints.txt scikit-image).
"""

import sys
from pathlib import Path

import PIL.Image
import skimage.data

FACE = (150, 25, 300, 175)  # left, upper, right, lower


def main(folder: Path) -> None:
    for name in ("faces", "astronaut"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for i, face in enumerate(skimage.data.lfw_subset()[:100]):
        PIL.Image.fromarray((face * 255).round().astype("uint8")).save(folder / "faces" / f"{i:03d}.png")
    PIL.Image.fromarray(skimage.data.astronaut()).crop(FACE).save(folder / "astronaut" / "astronaut.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
