"""Find the landmarks of faces in photographs, with the package face-alignment (the extra ``align``).

Bulat & Tzimiropoulos, "How far are we from solving the 2D & 3D Face Alignment problem?". The package is imported when it is
needed. It downloads its weights itself at the first use.
"""

import os
import warnings
from io import BufferedIOBase

import numpy as np
import PIL.Image

from ..errors import ImageFileError
from .landmarks import Face
from .pictures import read_upright

LOOKED_AT = 1600  # pixels; longer pictures are shrunk to this side before faces are sought
MISSING = (
    "landmarks are found by the package face-alignment, which is not installed; 'pip install "
    "stylegan-invert[align]' installs it, and --landmarks FILE needs no package"
)


class FaceFinder:
    """Finds the 68 landmarks of faces.

    Args:
        device: the device of the package's networks, such as "cpu" or "cuda".

    Raises:
        ImageFileError: the package is missing, or has no weights.
    """

    def __init__(self, device: str = "cpu"):
        try:
            import face_alignment
        except ImportError:
            raise ImageFileError(MISSING) from None
        kind = face_alignment.LandmarksType.TWO_D
        try:
            self.network = face_alignment.FaceAlignment(kind, device=device, flip_input=False, compile=False)
        except OSError as e:
            raise ImageFileError(f"face-alignment could not load its weights ({e}); it downloads them once") from None

    def find(self, path: str | os.PathLike | BufferedIOBase, name: str | None = None) -> tuple[Face | None, int]:
        """The largest face in a picture, and the number of faces.

        Args:
            path: a picture file, or an open binary stream of it, which is turned as its EXIF data say.
            name: the name in errors; None takes the path.

        Returns:
            The face in pixels of the turned picture, or None; and how many faces were found.

        Raises:
            ImageFileError: the picture cannot be read.
        """
        upright = read_upright(path, LOOKED_AT, "RGB", name=name)
        shrunk = upright.picture.copy()
        shrunk.thumbnail((LOOKED_AT, LOOKED_AT), PIL.Image.Resampling.LANCZOS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns where there is no face
            found = self.network.get_landmarks_from_image(np.asarray(shrunk)) or []
        scale = np.array(upright.stored_size) / shrunk.size
        faces = [(np.asarray(points, dtype=np.float64)[:, :2] + 0.5) * scale - 0.5 for points in found]
        faces = [points for points in faces if points.shape == (68, 2) and np.isfinite(points).all()]
        if not faces:
            return None, 0
        largest = max(faces, key=lambda points: float(np.prod(np.ptp(points, axis=0))))
        return Face(largest, upright.stored_size), len(faces)
