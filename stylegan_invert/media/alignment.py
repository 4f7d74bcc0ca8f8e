"""Cut a face out of a photograph as the data set FFHQ does, and put it back.

The square around a face is that of Karras, Aila, Laine & Lehtinen, "Progressive Growing of GANs", appendix C; the data
set FFHQ (Karras, Laine & Aila, "A Style-Based Generator Architecture") is cut out in this way, by the function
``recreate_aligned_images`` of NVlabs/ffhq-dataset, which the tests compare. Networks that were trained on FFHQ need
pictures like these.

A *quad* is an array (4, 2) of the square's corners, in pixels of the photograph as in `landmarks`: upper left, lower left,
lower right and upper right as the face sees itself upright. It may be turned by any angle and reach beyond the photograph.
"""

import contextlib
import hashlib
import os
from dataclasses import asdict, dataclass
from io import BufferedIOBase
from typing import Any

import numpy as np
import PIL.Image

from ..errors import ImageFileError, printable
from ..files import plain
from ..files.door import PICTURE, Kind, opened
from .landmarks import FAR, Face
from .pictures import BAND, MODES, Upright, pixels_of, read_upright

TRANSFORM = 4096  # the side at which official code samples the square
SAMPLES = 16  # samples along each side of a pixel are enough: more change at most one level of 255
LEAST_SIDE = 4  # pixels of the photograph
MOST_SIDE = 16  # times the photograph's longer side


@dataclass(frozen=True)
class Aligned:
    """A record of how a face was cut out of a photograph.

    Attributes:
        file: the name of the photograph.
        sha256: the hash of its file.
        size: (width, height) in pixels, after it was turned as its EXIF data say.
        mode: Pillow's name for its kind of pixels, such as "RGB".
        exif_rotated: True if the photograph was turned.
        background: the colour behind transparent pixels; None if there were none.
        points: the number of landmarks, 5 or 68.
        quad: the corners of the square in pixels of the turned photograph.
        resolution: the side of the result in pixels.
    """

    file: str
    sha256: str
    size: tuple[int, int]
    mode: str
    exif_rotated: bool
    background: str | None
    points: int
    quad: list[list[float]]
    resolution: int

    def as_dict(self) -> dict[str, Any]:
        """The attributes by name, and "enlarged": True if the square in the photograph is smaller than the result."""
        side = float(np.hypot(*np.subtract(self.quad[3], self.quad[0])))
        return {**asdict(self), "enlarged": self.resolution > side}


def _corners(value: Any, place: str) -> np.ndarray:
    """A form: the corners of a square."""
    corners = np.array(plain.items(plain.items(plain.number(-64 * FAR, 64 * FAR), 2, 2), 4, 4)(value, place))
    right, down = corners[3] - corners[0], corners[1] - corners[0]
    is_square = np.allclose(down, [-right[1], right[0]], atol=1e-3) and np.allclose(
        corners[2], corners[0] + right + down, atol=1e-3
    )
    if not is_square or np.hypot(*right) < 1:
        raise plain.Misfit(f"{place} are not the corners of a square")
    return corners


ALIGNED = plain.table(
    {
        "sha256": plain.text(limit=64),
        "size": plain.items(plain.whole(1, 2**20), 2, 2),
        "quad": _corners,
        "resolution": plain.whole(1, 2**14),
    },
    more=plain.unchecked,
)
"""The form of an `Aligned` in a file, with what `paste` needs."""
_RECORD = Kind("the record of a projection", 2**24, ImageFileError)


def face_quad(face: Face) -> np.ndarray:
    """The square around a face ("Progressive Growing of GANs", appendix C).

    Args:
        face: its landmarks. For 68 points an eye is the mean of the six points around it; for 5 points it is given. All
            else is the same for both.

    Returns:
        The quad, (4, 2) float64.

    Raises:
        ImageFileError: no square follows from the points, because they are all the same or their order is wrong.
    """
    left, right, mouth_left, mouth_right = face.features()
    between = right - left  # x' in the paper
    eyes, mouth = (left + right) / 2, (mouth_left + mouth_right) / 2
    down = mouth - eyes  # -y'
    across = np.array([down[1], -down[0]])  # ``down``, turned to point where the right eye should be
    lengths = [float(np.hypot(*v)) for v in (between, down)]
    side = max(4 * lengths[0], 3.6 * lengths[1])
    if side < LEAST_SIDE:
        raise ImageFileError(
            "the eyes and the mouth of its landmarks are in one place; expected points of a face that is larger than that"
        )
    if between @ across < 0 and lengths[0] > lengths[1] / 2:
        raise ImageFileError(
            "its landmarks have the mouth above the eyes, or left and right exchanged; the left eye is the one on the "
            "left side of the picture"
        )
    x = between + across
    x *= side / 2 / np.hypot(*x)
    y = np.array([-x[1], x[0]])
    centre = eyes + 0.1 * down
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y])


@dataclass(frozen=True)
class Placement:
    """The steps in which a square is cut out of a picture, as official code takes them.

    Attributes:
        shrunk: (width, height) to which the whole picture is resized first.
        box: the part of it that is used, (left, top, right, bottom).
        pad: by how many pixels that part is continued on each side, (left, top, right, bottom); all 0 if the square lies
            inside the picture.
        corners: (4, 2), the square in the padded part; 0 is the edge of the first pixel.
        side: the side of the square there.
    """

    shrunk: tuple[int, int]
    box: tuple[int, int, int, int]
    pad: tuple[int, int, int, int]
    corners: np.ndarray
    side: float

    def fade(self, axis: int, at: np.ndarray) -> np.ndarray:
        """How far places lie in the padding, along one axis: 1 at the outer edge, 0 at the picture's, negative inside.

        Args:
            axis: 0 for x, 1 for y.
            at: pixels of the padded part, as whole numbers or between.
        """
        before, after = self.pad[axis], self.pad[axis + 2]
        last = self.box[axis + 2] - self.box[axis] + before + after - 1
        at = np.asarray(at, dtype=np.float32)
        return 1 - np.minimum(at / np.float32(before), (last - at) / np.float32(after))


def placement(quad: np.ndarray, size: tuple[int, int], resolution: int) -> Placement:
    """How a square is cut out of a picture.

    Args:
        quad: the corners, (4, 2).
        size: (width, height) of the picture.
        resolution: the side of the result in pixels.

    Raises:
        ImageFileError: the square does not meet the picture, or is much larger than it.
    """
    side = float(np.hypot(*(quad[3] - quad[0])))
    low, high = quad.min(axis=0), quad.max(axis=0)
    if (high <= 0).any() or (low >= np.array(size) - 1).any():
        raise ImageFileError(f"its landmarks lie outside the picture, which has {size[0]}x{size[1]} pixels")
    if side > MOST_SIDE * max(size):
        raise ImageFileError(
            f"the square around the face would have a side of {side:.0f} pixels, and the picture has {size[0]}x{size[1]}; "
            "are these its landmarks?"
        )
    divisor = max(1, int(side / resolution / 2))
    w, h = (max(1, round(n / divisor)) if divisor > 1 else n for n in size)
    quad, side = quad / divisor, side / divisor
    border = max(round(0.1 * side), 3)
    low, high = np.floor(quad.min(axis=0)).astype(int) - border, np.ceil(quad.max(axis=0)).astype(int) + border
    left, top = (min(max(int(n), 0), m - 1) for n, m in zip(low, (w, h)))
    right, bottom = (max(min(int(n), m), 1) for n, m in zip(high, (w, h)))
    pad = (max(-int(low[0]), 0), max(-int(low[1]), 0), max(int(high[0]) - w, 0), max(int(high[1]) - h, 0))
    outside = max(pad) > border - 4
    a, b, c, d = (max(n, round(0.3 * side)) if outside else 0 for n in pad)
    pad = (a, b, c, d)
    corners = quad - (left, top) + pad[:2] + 0.5
    return Placement((w, h), (left, top, right, bottom), pad, corners, side)


def crop(
    picture: PIL.Image.Image, quad: np.ndarray, resolution: int, transform_size: int | None = None
) -> PIL.Image.Image:
    """Cut a square out of a picture and resize it, as ``recreate_aligned_images`` of NVlabs/ffhq-dataset does.

    A picture that is much larger than the result is shrunk first. Where the square reaches beyond the picture, the
    picture is mirrored there, blurred, and fades into its median colour. The square is then sampled bilinearly, and
    resized with a Lanczos filter.

    Args:
        picture: Pillow's picture, of mode L, RGB or RGBA.
        quad: the corners of the square, (4, 2).
        resolution: the side of the result in pixels.
        transform_size: the side at which the square is sampled. None takes 16 samples along each side of a pixel, but at
            most 4096; the official value is always 4096, which differs by at most one level of 255 and takes longer.

    Returns:
        A picture of the same mode, ``resolution`` pixels wide and high.

    Raises:
        ImageFileError: the square does not meet the picture, or is much larger than it.
    """
    place = placement(quad, picture.size, resolution)
    transform_size = min(SAMPLES * resolution, TRANSFORM) if transform_size is None else transform_size
    if place.shrunk != picture.size:
        picture = picture.resize(place.shrunk, PIL.Image.Resampling.LANCZOS)
    picture = picture.crop(place.box)
    if any(place.pad):
        picture = _padded(picture, place)
    size, data = (transform_size, transform_size), tuple(place.corners.flatten())
    picture = picture.transform(size, PIL.Image.Transform.QUAD, data, PIL.Image.Resampling.BILINEAR)
    return (
        picture.resize((resolution, resolution), PIL.Image.Resampling.LANCZOS)
        if resolution < transform_size
        else picture
    )


def _padded(picture: PIL.Image.Image, place: Placement) -> PIL.Image.Image:
    """A picture that is continued on all sides: mirrored, then blurred and faded to its median with distance."""
    columns, rows = (
        _mirrored(n, place.pad[axis], place.pad[axis + 2]) for axis, n in enumerate((picture.width, picture.height))
    )
    fade = np.maximum(place.fade(0, np.arange(len(columns)))[None], place.fade(1, np.arange(len(rows)))[:, None])
    bands = []
    for band in picture.split():  # one after another, because each takes four bytes per pixel
        values = np.asarray(band)[np.ix_(rows, columns)].astype(np.float32)
        values += (_blurred(values, 0.02 * place.side) - values) * np.clip(3 * fade + 1, 0, 1)
        values += (np.median(values) - values) * np.clip(fade, 0, 1)
        bands.append(PIL.Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8)))
    return PIL.Image.merge(picture.mode, bands)


def _mirrored(n: int, before: int, after: int) -> np.ndarray:
    """The indices of n pixels, continued by mirroring at the first and at the last one, as often as needed."""
    period = max(2 * (n - 1), 1)
    i = np.arange(-before, n + after) % period
    return np.minimum(i, period - i) if n > 1 else np.zeros_like(i)


def _blurred(values: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian blur of an array (H, W), as that of `scipy.ndimage.gaussian_filter`.

    The array is continued by mirroring, so its cosine coefficients are multiplied by the kernel's. This takes the same
    time for every sigma, and official pictures have sigmas of up to 80 pixels.
    """
    import scipy.fft

    reach = np.arange(-int(4 * sigma + 0.5), int(4 * sigma + 0.5) + 1)
    weights = np.exp(-0.5 * (reach / sigma) ** 2)
    coefficients = scipy.fft.dctn(values, norm="ortho")
    for axis, n in enumerate(values.shape):
        kernel = np.bincount(reach % (2 * n), weights / weights.sum(), minlength=2 * n)
        gains = scipy.fft.fft(kernel).real[:n].astype(np.float32)
        coefficients *= gains[:, None] if axis == 0 else gains
    return scipy.fft.idctn(coefficients, norm="ortho")


def read_aligned(
    path: str | os.PathLike | BufferedIOBase,
    face: Face,
    resolution: int,
    channels: int,
    background: str = "white",
    name: str | None = None,
) -> tuple[np.ndarray, Aligned]:
    """Read a photograph, and cut a face out of it as FFHQ does.

    Args:
        path: a file of a kind in `decoding.FORMATS`, or an open binary stream of it. It is turned as its EXIF data say,
            and the landmarks belong to the turned picture.
        face: the landmarks.
        resolution: the side of the result in pixels.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).
        background: the colour behind transparent pixels, by name or as "#rrggbb".
        name: the name in errors and in the record; None takes the path. It is needed for a stream.

    Returns:
        The pixels (channels, resolution, resolution) uint8, and the record of how they were made.

    Raises:
        ImageFileError: the photograph cannot be read, or the landmarks do not belong to it.
    """
    if channels not in MODES:
        raise ImageFileError(
            f"a network with {channels} channels; pictures can be made for 1 (grey), 3 (RGB) or 4 (RGBA)"
        )
    name = str(path) if name is None else name
    with opened(path, PICTURE, name) if isinstance(path, (str, os.PathLike)) else contextlib.nullcontext(path) as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        upright = read_upright(file, resolution, MODES[channels], background, name)
    size = upright.stored_size
    try:
        if face.size not in (None, size):
            raise ImageFileError(
                f"it has {size[0]}x{size[1]} pixels, and its landmarks are of a picture of {face.size[0]}x{face.size[1]}; "
                "a picture that is aligned already needs none"
            )
        quad = face_quad(face)
        cut = crop(upright.picture, (quad + 0.5) / upright.divided - 0.5, resolution)
    except ImageFileError as e:
        raise ImageFileError(f"{upright.name}: {e}") from None
    about = (upright.mode, upright.turned, background if upright.filled else None, len(face.points), quad.tolist())
    return pixels_of(cut), Aligned(upright.name, sha256, size, *about, resolution)


def read_record(path: str | os.PathLike) -> dict[str, Any]:
    """How the target of a projection was cut out.

    Args:
        path: the file result.json of the projection.

    Returns:
        The entries of an `Aligned` by name; "quad" is an array (4, 2).

    Raises:
        ImageFileError: the file is missing or damaged, or its target was not aligned.
    """
    target = plain.read_json(path, _RECORD, plain.table({"target": plain.unchecked}, more=plain.unchecked))["target"]
    name = printable(os.fspath(path), 300)
    if not isinstance(target, dict) or "quad" not in target:
        raise ImageFileError(f"{name}: its target was not aligned; expected a projection that was made with --align")
    try:
        return ALIGNED(target, "target")
    except plain.Misfit as e:
        raise ImageFileError(f"{name}: {e}; the file is damaged") from None


def paste(
    photograph: PIL.Image.Image, edited: PIL.Image.Image, quad: np.ndarray, resolution: int, feather: float = 0
) -> PIL.Image.Image:
    """Put a face that was cut out by `crop`, and edited, back into its photograph.

    Only pixels whose centre lies inside the square are changed. Where the square reaches beyond the photograph, `crop`
    blurs the last pixels before the edge, so these keep what the photograph has.

    Args:
        photograph: of mode L, RGB or RGBA. Its transparency stays.
        edited: the face, a square of any size.
        quad: the corners of the square in the photograph, (4, 2).
        resolution: the side in pixels with which the face was cut out.
        feather: the width of the border over which the face fades in, as a share of the square's side, from 0 to 0.5.

    Returns:
        A new picture of the size and mode of the photograph.

    Raises:
        ImageFileError: the edited face is no square, or the square in the photograph does not meet it.
    """
    if edited.width != edited.height:
        raise ImageFileError(f"the edited face has {edited.width}x{edited.height} pixels; expected a square")
    place = placement(quad, photograph.size, resolution)
    scale = np.array(photograph.size) / place.shrunk
    offset = np.array(place.box[:2]) - place.pad[:2]
    corners = (place.corners + offset) * scale  # in the photograph; 0 is the edge of its first pixel
    side = float(np.hypot(*(corners[3] - corners[0])))
    face = edited.convert("L" if photograph.mode == "L" else "RGB")
    if 2 * side < face.width:  # sampling does not average over what it leaves out
        face = face.resize((max(1, round(2 * side)),) * 2, PIL.Image.Resampling.LANCZOS)
    to_face = np.linalg.inv(np.stack([corners[3] - corners[0], corners[1] - corners[0]], axis=1))
    start = -to_face @ corners[0]
    left, top = map(int, np.clip(np.floor(corners.min(axis=0)), 0, photograph.size))
    right, bottom = map(int, np.clip(np.ceil(corners.max(axis=0)), 0, photograph.size))
    result = photograph.copy()
    x = np.arange(left, right, dtype=np.float32) + 0.5
    fade_x = place.fade(0, x / scale[0] - 0.5 - offset[0]) if any(place.pad) else None
    rows = max(1, BAND // max(right - left, 1))
    for first in range(top, bottom, rows):
        last = min(first + rows, bottom)
        y = np.arange(first, last, dtype=np.float32) + 0.5
        s, t = (to_face[i, 0] * x + to_face[i, 1] * y[:, None] + start[i] for i in (0, 1))
        inside = np.minimum(np.minimum(s, 1 - s), np.minimum(t, 1 - t)) * side  # pixels to the nearest edge
        weight = np.clip(inside / max(feather * side, 1), 0, 1)
        weight = weight * weight * (3 - 2 * weight)
        if fade_x is not None:
            fade = np.maximum(fade_x, place.fade(1, y / scale[1] - 0.5 - offset[1])[:, None])
            weight *= 1 - np.clip(3 * fade + 1, 0, 1)
        box = (left, first, right, last)
        before = photograph.crop(box)
        moved = start + to_face @ (left, first)
        data = [face.width * n for i in (0, 1) for n in (*to_face[i], moved[i])]
        after = face.transform(before.size, PIL.Image.Transform.AFFINE, data, PIL.Image.Resampling.BICUBIC)
        result.paste(_mixed(before, after, weight), box)
    return result


def _mixed(before: PIL.Image.Image, after: PIL.Image.Image, weight: np.ndarray) -> PIL.Image.Image:
    """``after`` over ``before``, by a weight (H, W) from 0 to 1; a fourth channel of ``before`` stays."""
    bands = list(before.split())
    for i, band in enumerate(after.split()):
        old, new = (np.asarray(b, dtype=np.float32) for b in (bands[i], band))
        bands[i] = PIL.Image.fromarray(np.rint(old + weight * (new - old)).astype(np.uint8))
    return PIL.Image.merge(before.mode, bands)


def read_photograph(path: str | os.PathLike) -> tuple[Upright, str]:
    """A photograph at its full size, of mode L, RGB or RGBA, turned as its EXIF data say; and the hash of its file.

    Raises:
        ImageFileError: it cannot be read, or has more pixels than can be decoded.
    """
    with opened(path, PICTURE) as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        return read_upright(file, FAR, name=os.fspath(path)), sha256
