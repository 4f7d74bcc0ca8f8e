"""Read pictures of any kind and size in the shape that a network needs, and write pictures."""

import contextlib
import math
import os
from dataclasses import asdict, dataclass
from io import BufferedIOBase
from typing import TypeVar

import numpy as np
import PIL.Image
import PIL.ImageColor
import torch

from ..errors import ImageFileError, StyleganInvertError, printable
from ..files.door import PICTURE, opened
from ..files.writing import atomic
from .decoding import MAX_SIDE, decoded

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's name for pictures of 8 bits with this many channels
FITS = ("crop", "pad")
BAND = 2**20  # pixels that are converted at once
PADDED_SIDE = 2**13  # pixels; the square of this side takes 268 MB
N = TypeVar("N", int, float)
TURNS = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
"""How a picture is turned, by its orientation in the EXIF data."""


@dataclass(frozen=True)
class Fitted:
    """A record of how a picture was brought to the network's shape.

    Cameras write the orientation of a photograph into its EXIF data, and the picture is turned accordingly.

    Attributes:
        file: the name of the picture.
        size: (width, height) in pixels, after turning. A JPEG of more than 134 million pixels is decoded at half this
            size.
        mode: Pillow's name for its kind of pixels, such as "RGB".
        exif_rotated: True if the picture was turned.
        background: the colour behind transparent pixels and padding; None if there were neither.
        fit: "crop" or "pad".
        box: the square that was used, (left, top, right, bottom) in pixels of the turned picture. With padding it
            reaches beyond the picture.
        resolution: the side in pixels to which the square was resized, with a Lanczos filter.
    """

    file: str
    size: tuple[int, int]
    mode: str
    exif_rotated: bool
    background: str | None
    fit: str
    box: tuple[int, int, int, int]
    resolution: int

    def as_dict(self) -> dict:
        """The attributes by name, and "enlarged": True if resizing made the square larger."""
        return {**asdict(self), "enlarged": self.resolution > self.box[2] - self.box[0]}


def read_picture(
    path: str | os.PathLike | BufferedIOBase,
    resolution: int,
    channels: int,
    fit: str = "crop",
    background: str = "white",
    name: str | None = None,
) -> tuple[np.ndarray, Fitted]:
    """Read a picture and bring it to a network's shape.

    The picture is turned as its EXIF data say. Grey values of 16 bits are scaled to 8 bits. Colours of a palette become
    RGB. Transparent pixels are laid over ``background``, unless the network has an alpha channel. An animation is
    represented by its first frame. Floating-point pixels are refused, because their range is unknown.

    Args:
        path: a file of a kind in `decoding.FORMATS`, or an open binary stream of it.
        resolution: the side of the result in pixels.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).
        fit: "crop" takes the square in the centre, as the official projector does; "pad" fills up to a square.
        background: a colour by name or as "#rrggbb".
        name: the name in errors and in the record; None takes the path. It is needed for a stream.

    Returns:
        The pixels (channels, resolution, resolution) uint8, and the record of how they were made.

    Raises:
        ImageFileError: the picture is missing, damaged, too large, or of a kind that cannot be used.
    """
    if channels not in MODES:
        raise ImageFileError(
            f"a network with {channels} channels; pictures can be made for 1 (grey), 3 (RGB) or 4 (RGBA)"
        )
    if fit not in FITS:
        raise ImageFileError(f"fit is {fit!r}; expected one of {', '.join(FITS)}")
    upright = read_upright(path, resolution, MODES[channels], background, name, centre=fit == "crop")
    square, (w, h) = upright.picture, upright.size
    if fit == "pad" and w != h:
        s = max(w, h)
        box = ((w - s) // 2, (h - s) // 2, (w - s) // 2 + s, (h - s) // 2 + s)
        square = _padded(square, resolution, colour_of(background))
    else:
        s = min(w, h)
        box = ((w - s) // 2, (h - s) // 2, (w + s) // 2, (h + s) // 2)
        square = square.resize((resolution, resolution), PIL.Image.Resampling.LANCZOS)
    filled = upright.filled or (fit == "pad" and w != h)
    size = upright.stored_size
    box = (box[0] * upright.divided, box[1] * upright.divided, box[2] * upright.divided, box[3] * upright.divided)
    fitted = Fitted(
        upright.name, size, upright.mode, upright.turned, background if filled else None, fit, box, resolution
    )
    return pixels_of(square), fitted


@dataclass(frozen=True)
class Upright:
    """A picture that was decoded and turned as its EXIF data say.

    Attributes:
        picture: Pillow's picture, with 8 bits per channel; only the square in the centre, if that was asked for.
        size: (width, height) in pixels of the whole picture, as it was decoded and turned.
        divided: by how much its sides were divided in decoding; see `decoding.decoded`.
        name: its name in errors.
        mode: Pillow's name for the kind of pixels in the file, such as "P".
        turned: True if the EXIF data asked for a turn.
        filled: True if it had transparent pixels that were laid over a colour.
        profile: the colour profile (ICC) of the file; None if it has none.
    """

    picture: PIL.Image.Image
    size: tuple[int, int]
    divided: int
    name: str
    mode: str
    turned: bool
    filled: bool
    profile: bytes | None

    @property
    def stored_size(self) -> tuple[int, int]:
        """(width, height) in pixels of the turned picture, before any division."""
        return self.size[0] * self.divided, self.size[1] * self.divided


def read_upright(
    path: str | os.PathLike | BufferedIOBase,
    wanted: int,
    mode: str | None = None,
    background: str = "white",
    name: str | None = None,
    centre: bool = False,
) -> Upright:
    """Read a picture at its own size, turned as its EXIF data say. Its pixels are converted as `read_picture` tells.

    Args:
        path: a file of a kind in `decoding.FORMATS`, or an open binary stream of it.
        wanted: the side in pixels below which the shorter side of a very large JPEG should not be reduced.
        mode: "L", "RGB" or "RGBA"; None takes the one that keeps what the file has.
        background: the colour behind transparent pixels, by name or as "#rrggbb".
        name: the name in errors; None takes the path. It is needed for a stream.
        centre: True gives only the square in the centre.

    Raises:
        ImageFileError: the picture is missing, damaged, too large, or of a kind that cannot be used.
    """
    colour = colour_of(background)
    name = str(path) if name is None else printable(name, 300)
    stream = opened(path, PICTURE, name) if isinstance(path, (str, os.PathLike)) else contextlib.nullcontext(path)
    with stream as file, decoded(file, name, wanted) as (picture, divided):
        orientation = picture.getexif().get(0x0112, 1)
        orientation = orientation if orientation in TURNS else 1
        kind, (w, h) = picture.mode, picture.size
        transparent, profile = _is_transparent(picture), picture.info.get("icc_profile")
        if mode is None:
            mode = "RGBA" if transparent else "L" if kind in ("1", "L") or kind.startswith("I") else "RGB"
        box = _centre(w, h, orientation) if centre else (0, 0, w, h)
        converted = _converted(picture, box, mode, colour, name)
    if orientation != 1:
        converted = converted.transpose(TURNS[orientation])
    size = (h, w) if orientation >= 5 else (w, h)
    return Upright(converted, size, divided, name, kind, orientation != 1, transparent and mode != "RGBA", profile)


def colour_of(background: str) -> tuple[int, ...]:
    """The red, green and blue of a colour by name or as "#rrggbb", each from 0 to 255.

    Raises:
        ImageFileError: it is no colour.
    """
    try:
        return PIL.ImageColor.getrgb(background)
    except ValueError:
        raise ImageFileError(
            f"background {background!r} is no colour; expected a name like 'white' or '#rrggbb'"
        ) from None


def pixels_of(picture: PIL.Image.Image) -> np.ndarray:
    """The pixels of Pillow's picture of mode L, RGB or RGBA: (C, H, W) uint8."""
    pixels = np.array(picture, dtype=np.uint8).reshape(picture.height, picture.width, -1)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def read_mask(path: str | os.PathLike) -> np.ndarray:
    """Where a picture is brighter than half of white: (H, W) bool. It is not turned, cut or resized.

    Raises:
        ImageFileError: it is missing, damaged, too large, or of a kind that cannot be used.
    """
    name = os.fspath(path)
    with opened(path, PICTURE, name) as file, decoded(file, name, MAX_SIDE) as (picture, _):
        return np.asarray(_eight_bits(picture, name).convert("L")) > 127


def _centre(w: int, h: int, orientation: int) -> tuple[int, int, int, int]:
    """The square in the centre of a turned picture, as a box of the picture that is still to be turned.

    Where the margin is odd, one more pixel is left out at the right or bottom of the turned picture.
    """
    s = min(w, h)
    left, top = (w - s) // 2, (h - s) // 2
    if orientation in (2, 3, 7, 8):  # columns change their order
        left = w - s - left
    if orientation in (3, 4, 6, 7):  # rows change their order
        top = h - s - top
    return left, top, left + s, top + s


def _is_transparent(picture: PIL.Image.Image) -> bool:
    """True if a picture has transparent pixels, or a value that stands for them."""
    if picture.mode.startswith("I"):
        return isinstance(picture.info.get("transparency"), int)
    return picture.mode in ("RGBA", "LA", "La", "RGBa", "PA") or "transparency" in picture.info


def _converted(
    picture: PIL.Image.Image, box: tuple[int, int, int, int], mode: str, colour: tuple[int, ...], name: str
) -> PIL.Image.Image:
    """A part of a picture in mode L, RGB or RGBA, converted in bands of rows, so that little memory is taken."""
    left, top, right, bottom = box
    result = PIL.Image.new(mode, (right - left, bottom - top))
    rows = max(1, BAND // max(right - left, 1))
    for y in range(top, bottom, rows):
        band = _eight_bits(picture.crop((left, y, right, min(y + rows, bottom))), name)
        if band.mode == "RGBA" and mode != "RGBA":
            band = _composite(band, colour)
        result.paste(band.convert(mode), (0, y - top))
    return result


def _padded(picture: PIL.Image.Image, resolution: int, colour: tuple[int, ...]) -> PIL.Image.Image:
    """A picture filled up to a square and resized to a side of ``resolution``, as if the square had been made first.

    A Lanczos filter works along one axis after the other, and far from the picture there is padding alone. So the
    square is never made, which for a picture of 60000x1 pixels would have 3.6 billion of them.
    """
    mode = picture.mode
    padding = PIL.Image.new("RGB", (1, 1), colour).convert(mode)
    if mode == "RGBA":  # as Pillow itself does before it resizes
        picture, padding = picture.convert("RGBa"), padding.convert("RGBa")
    w, h = picture.size
    if w < h <= PADDED_SIDE:  # along the rows first, as Pillow does; a larger picture takes less memory the other way
        picture = _with_padding(picture, 0, resolution, padding).resize(
            (resolution, resolution), PIL.Image.Resampling.LANCZOS
        )
    else:
        long = 0 if w > h else 1
        size = (resolution, h) if w > h else (w, resolution)
        picture = _with_padding(
            picture.resize(size, PIL.Image.Resampling.LANCZOS), 1 - long, resolution, padding, max(w, h)
        )
    return picture.convert(mode)


def _with_padding(
    picture: PIL.Image.Image, axis: int, resolution: int, padding: PIL.Image.Image, side: int | None = None
) -> PIL.Image.Image:
    """A picture padded along one axis to ``side`` pixels, and resized along this axis to ``resolution``.

    Args:
        picture: the picture.
        axis: 0 pads at the left and right, 1 above and below.
        resolution: the new size along the axis.
        padding: a picture of one pixel.
        side: the size with the padding; None takes the size along the other axis.
    """
    size = list(picture.size)
    side = size[1 - axis] if side is None else side
    scale = side / resolution
    start = -((size[axis] - side) // 2)  # where the picture begins in the padded one
    # The filter reaches 3 pixels to each side, of the larger of both sizes; these are the first and last rows or columns
    # of the result that the picture can reach, and those of the padded picture on which they depend.
    reach = 4 * max(scale, 1)
    first = max(0, math.floor((start - reach) / scale))
    last = min(resolution, math.ceil((start + size[axis] + reach) / scale))
    low, high = max(0, math.floor(first * scale - reach)), min(side, math.ceil(last * scale + reach))

    def along(across: N, value: N) -> tuple[N, N]:
        return (value, across) if axis == 0 else (across, value)

    across = size[1 - axis]
    canvas = padding.resize(along(across, high - low))
    canvas.paste(picture, along(0, start - low))
    box = (*along(0.0, first * scale - low), *along(float(across), last * scale - low))
    part = canvas.resize(along(across, last - first), PIL.Image.Resampling.LANCZOS, box=box)
    result = padding.resize(along(across, resolution))
    result.paste(part, along(0, first))
    return result


def _eight_bits(picture: PIL.Image.Image, name: str) -> PIL.Image.Image:
    """A picture in mode L, RGB or RGBA, with 8 bits per channel."""
    if picture.mode.startswith("I;16") or picture.mode == "I":
        # Pillow's own conversion cuts 16-bit values off at 255.
        values = np.asarray(picture).astype(np.float64)
        if values.min(initial=0) < 0 or values.max(initial=0) > 65535:
            extent = f"its pixels are from {values.min():g} to {values.max():g}"
            raise ImageFileError(f"{name}: {extent}; expected 8 or 16 bits. Save it as an 8-bit PNG")
        grey = PIL.Image.fromarray(np.round(values / 257).astype(np.uint8))
        transparent = picture.info.get("transparency")  # a grey PNG can declare one grey value to be transparent
        if isinstance(transparent, int):
            grey.putalpha(PIL.Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
            return grey.convert("RGBA")
        return grey
    if picture.mode == "F":
        raise ImageFileError(f"{name}: its pixels are floating-point numbers of unknown range; save it as an 8-bit PNG")
    if picture.mode in ("LA", "La", "RGBa", "PA") or "transparency" in picture.info:
        return picture.convert("RGBA")
    if picture.mode == "1":
        return picture.convert("L")
    return picture if picture.mode in ("L", "RGB", "RGBA") else picture.convert("RGB")


def _composite(picture: PIL.Image.Image, colour: tuple[int, ...]) -> PIL.Image.Image:
    canvas = PIL.Image.new("RGBA", picture.size, (*colour[:3], 255))
    return PIL.Image.alpha_composite(canvas, picture).convert("RGB")


def as_images(pixels: np.ndarray | torch.Tensor, device: torch.device | str = "cpu") -> torch.Tensor:
    """Convert uint8 pixels of any shape to float32 in [-1, 1], on a device."""
    return torch.as_tensor(pixels).to(device).to(torch.float32) / 127.5 - 1


def projector_pixels(image: torch.Tensor) -> np.ndarray:
    """Convert (C, H, W) floats in [-1, 1] to uint8 as the official projector.py does: (x + 1) * 127.5, rounded down.

    Raises:
        StyleganInvertError: a number is not finite.
    """
    return ((_finite(image) + 1) * (255 / 2)).clamp(0, 255).to(torch.uint8).cpu().numpy()


def nearest_pixels(images: torch.Tensor) -> torch.Tensor:
    """Floats in [-1, 1] of any shape as the nearest uint8: (x + 1) * 127.5, rounded. Pixels that were read come back."""
    return ((_finite(images) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def generator_pixels(image: torch.Tensor) -> np.ndarray:
    """Convert (C, H, W) floats in [-1, 1] to uint8 as the official generate.py does: x * 127.5 + 128, rounded down.

    Raises:
        StyleganInvertError: a number is not finite.
    """
    return (_finite(image) * 127.5 + 128).clamp(0, 255).to(torch.uint8).cpu().numpy()


def _finite(image: torch.Tensor) -> torch.Tensor:
    if not torch.isfinite(image).all():
        raise StyleganInvertError(
            "the picture of a code holds numbers that are not finite, because the numbers of the code or of the network "
            "are too large; check where they come from"
        )
    return image


def to_pil(pixels: np.ndarray) -> PIL.Image.Image:
    """A Pillow picture from (C, H, W) uint8 with C of 1, 3 or 4."""
    return PIL.Image.fromarray(pixels[0] if pixels.shape[0] == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def write_png(path: str | os.PathLike, pixels: np.ndarray) -> None:
    """Write (C, H, W) uint8 with 1, 3 or 4 channels as PNG. A failure leaves no half-written file."""
    with atomic(path) as temporary:
        to_pil(pixels).save(temporary, format="PNG")


def read_png(path: str | os.PathLike) -> np.ndarray:
    """Read a PNG of `write_png`: (C, H, W) uint8.

    Raises:
        ImageFileError: the file is missing or damaged, or does not have 8 bits and 1, 3 or 4 channels.
    """
    name = os.fspath(path)
    with opened(path, PICTURE) as file, decoded(file, name, 1) as (picture, _):
        if picture.format != "PNG" or picture.mode not in MODES.values():
            raise ImageFileError(
                f"{name}: it is {picture.format} of mode {picture.mode}; expected PNG, 8 bits, grey, RGB or RGBA"
            )
        pixels = np.asarray(picture)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
