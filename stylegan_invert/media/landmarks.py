"""Files of landmarks: where the eyes and the mouth of a face are in a picture.

Coordinates are pixels of the picture after it was turned as its EXIF data say: x to the right and y downwards, and (0, 0)
is the centre of the first pixel. Two sets of points are known:

* 68 points, as dlib and face-alignment find them, in the order of the data set 300-W.
* 5 points: the left eye, the right eye, the nose, the left and the right corner of the mouth, as MTCNN and InsightFace
  find them. Left is the left side of the picture.

Nothing here imports torch.
"""

import functools
import math
import os
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ImageFileError, printable
from ..files import plain
from ..files.door import HEAD, Kind, opened, read_bytes

COUNTS = (5, 68)
FAR = 2**21  # pixels; twice the longest side that a picture may have
TABLE = Kind("a file of landmarks", 2**28, ImageFileError)  # that of FFHQ has 268 MB
ONE = Kind("the landmarks of one picture", 2**20, ImageFileError)


@dataclass(frozen=True)
class Face:
    """The landmarks of one face.

    Attributes:
        points: (5, 2) or (68, 2) float64, in pixels.
        size: (width, height) of the picture to which they belong; None if that is not known.
    """

    points: np.ndarray
    size: tuple[int, int] | None = None

    def features(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The left eye, the right eye, the left and the right corner of the mouth; each (2,)."""
        if len(self.points) == 5:
            return self.points[0], self.points[1], self.points[3], self.points[4]
        eyes = self.points[36:42].mean(axis=0), self.points[42:48].mean(axis=0)
        return *eyes, self.points[48], self.points[54]


class Landmarks:
    """The landmarks of one picture or of many.

    Args:
        file: where they come from, for errors.
        faces: a face; or faces by the names of their pictures. A name is a file's name, with as many folders in front as
            are needed to tell it from others: "a.png" or "holiday/a.png".

    Attributes:
        single: True for a face without a name, which belongs to whatever picture it is used with.
    """

    def __init__(self, file: str | os.PathLike, faces: Face | dict[str, Face]):
        self.file = printable(os.fspath(file), 300)
        self.single = isinstance(faces, Face)
        self._faces: dict[tuple[str, ...], Face] = {(): faces} if isinstance(faces, Face) else {}
        for name, face in {}.items() if isinstance(faces, Face) else faces.items():
            parts = _parts(name)
            if not parts or parts in self._faces:
                why = "is a name twice, if folders are written in one way" if parts else "is no name of a file"
                raise ImageFileError(f'{self.file}: "{printable(name, 60)}" {why}')
            self._faces[parts] = face

    def of(self, picture: str | os.PathLike) -> Face:
        """The landmarks of a picture: those of the longest name with which its path ends.

        Raises:
            ImageFileError: there are none.
        """
        parts = _parts(os.path.abspath(picture))
        for start in range(len(parts) + 1):  # from the whole path to the mere name, and to () at last
            if parts[start:] in self._faces:
                return self._faces[parts[start:]]
        known = ", ".join("/".join(name) for name in list(self._faces)[:3])
        raise ImageFileError(
            f'{self.file}: it has no landmarks of "{printable(parts[-1], 80)}"; it has those of {len(self._faces)} '
            f"pictures, such as {printable(known, 120) or 'none'}"
        )


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part for part in str(name).replace("\\", "/").split("/") if part not in ("", "."))


def read_landmarks(path: str | os.PathLike) -> Landmarks:
    """Read a file of landmarks.

    It is one of these:

    * a JSON list of points [x, y], for a single picture;
    * a JSON table from names of pictures to such lists;
    * ``ffhq-dataset-v2.json`` of the data set FFHQ, or a part of it. Of each entry, ``in_the_wild.face_landmarks`` is
      read, and belongs to the file name in ``in_the_wild.file_path``;
    * a text with a point "x y" in each line, for a single picture. Where it begins with "version:", as the ``.pts`` files
      of 300-W do, its coordinates begin with 1 and not with 0.

    Raises:
        ImageFileError: the file is missing, too large or damaged, or it holds something else.
    """
    with opened(path, TABLE) as file:
        head = file.read(HEAD).removeprefix(b"\xef\xbb\xbf").lstrip()
        about = os.fstat(file.fileno())
    return _read(os.fspath(path), head[:1], about.st_mtime_ns, about.st_size)


@functools.lru_cache(maxsize=2)  # a run reads them more than once, and those of FFHQ take seconds
def _read(path: str, begins: bytes, time: int, size: int) -> Landmarks:
    if begins == b"{":
        return Landmarks(path, _named(path))
    if begins == b"[":
        return Landmarks(path, Face(plain.read_json(path, ONE, _points)))
    return Landmarks(path, Face(_read_text(path)))


def _named(path: str | os.PathLike) -> dict[str, Face]:
    faces: dict[str, Face] = {}
    for key, (name, face) in plain.read_entries(path, TABLE, _face):
        name = name or key
        if name in faces:
            raise ImageFileError(f'{printable(os.fspath(path), 300)}: it has "{printable(name, 60)}" twice')
        faces[name] = face
    return faces


def _points(value: Any, place: str) -> np.ndarray:
    """A form: the points of a face."""
    if not isinstance(value, (list, tuple)) or len(value) not in COUNTS:
        raise plain.misfit(value, place, "a list of 5 or 68 points [x, y]")
    for i, point in enumerate(value):
        if not isinstance(point, (list, tuple)) or len(point) != 2 or not all(map(_is_coordinate, point)):
            raise plain.misfit(point, f"{place}[{i}]", f"a point [x, y] of two numbers from {-FAR} to {FAR}")
    return np.array(value, dtype=np.float64)


def _is_coordinate(x: Any) -> bool:
    return type(x) in (int, float) and -FAR <= x <= FAR  # nan is not


_ENTRY = plain.table(
    {
        "in_the_wild": plain.table(
            {"face_landmarks": _points, "file_path": plain.text()},
            {"pixel_size": plain.items(plain.whole(1, 2**20), 2, 2)},
            more=plain.unchecked,
        )
    },
    more=plain.unchecked,
)


def _face(value: Any, place: str) -> tuple[str | None, Face]:
    """A form: a list of points, or an entry of FFHQ, which has a name of its own."""
    if not isinstance(value, dict):
        return None, Face(_points(value, place))
    entry = _ENTRY(value, place)["in_the_wild"]
    size = tuple(entry["pixel_size"]) if "pixel_size" in entry else None
    parts = _parts(entry["file_path"])
    if not parts:
        raise plain.misfit(entry["file_path"], f"{place}.in_the_wild.file_path", "the name of a file")
    return parts[-1], Face(entry["face_landmarks"], size)


def _read_text(path: str | os.PathLike) -> np.ndarray:
    name = printable(os.fspath(path), 300)
    try:
        lines = read_bytes(path, ONE).decode("utf-8-sig").split("\n", 200)
    except UnicodeDecodeError:
        lines = []
    rows = [line.split() for line in lines if line.strip() and not re.match(r"\s*([{}#]|version:|n_points:)", line)]
    try:
        points = [[float(x) for x in row] for row in rows]
    except ValueError:
        points = []
    good = all(len(point) == 2 and all(math.isfinite(x) and abs(x) <= FAR for x in point) for point in points)
    if len(points) not in COUNTS or not good:
        raise ImageFileError(
            f"{name}: it is no file of landmarks; expected JSON, or a text with 5 or 68 lines of two numbers"
        )
    return np.array(points) - lines[0].strip().startswith("version:")
