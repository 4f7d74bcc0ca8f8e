"""Read pictures of any kind and size in the shape that a network needs, and write pictures."""

import os
import threading
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL.Image
import PIL.ImageColor
import PIL.ImageOps
import torch

from ..errors import ImageFileError
from ..files.writing import atomic

PICTURE_SUFFIXES = frozenset(s for s, kind in PIL.Image.registered_extensions().items() if kind in PIL.Image.OPEN)
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's name for pictures of 8 bits with this many channels
FITS = ("crop", "pad")
_one_at_a_time = threading.Lock()  # held while warnings are silenced, because that concerns all threads


@dataclass(frozen=True)
class Fitted:
    """A record of how a picture was brought to the network's shape.

    Cameras write the orientation of a photograph into its EXIF data, and the picture is turned accordingly.

    Attributes:
        file: the name of the picture.
        size: (width, height) in pixels, after turning.
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
    path: str | os.PathLike | BinaryIO,
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
        path: a file that Pillow can read, or an open binary stream of it.
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
    try:
        colour = PIL.ImageColor.getrgb(background)
    except ValueError:
        raise ImageFileError(
            f"background {background!r} is no colour; expected a name like 'white' or '#rrggbb'"
        ) from None
    name = os.fspath(path) if name is None else name
    picture, mode, rotated = _open(path, name)
    used_background = None
    if picture.mode == "RGBA" and channels != 4:
        picture, used_background = _composite(picture, colour), background
    picture = picture.convert(MODES[channels])

    w, h = picture.size
    if fit == "pad" and w != h:
        s = max(w, h)
        box = ((w - s) // 2, (h - s) // 2, (w - s) // 2 + s, (h - s) // 2 + s)
        canvas = PIL.Image.new("RGB", (s, s), colour).convert(picture.mode)
        canvas.paste(picture, (-box[0], -box[1]))
        picture, used_background = canvas, background
    else:
        s = min(w, h)
        box = ((w - s) // 2, (h - s) // 2, (w + s) // 2, (h + s) // 2)
        picture = picture.crop(box)
    picture = picture.resize((resolution, resolution), PIL.Image.LANCZOS)
    pixels = np.array(picture, dtype=np.uint8).reshape(resolution, resolution, channels)
    fitted = Fitted(name, (w, h), mode, rotated, used_background, fit, box, resolution)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)), fitted


def _open(path: str | os.PathLike | BinaryIO, name: str) -> tuple[PIL.Image.Image, str, bool]:
    """The picture in mode L, RGB or RGBA, turned as its EXIF data say; its original mode; True if it was turned."""
    is_file = isinstance(path, (str, os.PathLike))
    if is_file and os.path.isdir(path):
        raise ImageFileError(f"{name}: it is a directory; expected a picture")
    try:
        with _one_at_a_time, warnings.catch_warnings():
            # Pillow warns of pictures above a limit, and raises an error above twice that limit. Only the error is
            # wanted.
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
            opened = PIL.Image.open(path)
        with opened:
            opened.load()
            turned = PIL.ImageOps.exif_transpose(opened)
            rotated = opened.getexif().get(0x0112, 1) not in (0, 1)
            mode = opened.mode
    except FileNotFoundError:
        raise ImageFileError(f"{name}: there is no such file") from None
    except PIL.UnidentifiedImageError:
        empty = is_file and os.path.getsize(path) == 0
        problem = "it is empty" if empty else "it is not a picture that Pillow can read"
        raise ImageFileError(f"{name}: {problem}; expected PNG, JPEG or the like") from None
    except PIL.Image.DecompressionBombError:
        limit = PIL.Image.MAX_IMAGE_PIXELS * 2
        raise ImageFileError(
            f"{name}: it has more pixels than a picture should ({limit:,}); make it smaller first"
        ) from None
    except PermissionError:
        raise ImageFileError(f"{name}: it may not be read (permission denied)") from None
    except Exception as e:  # Pillow's decoders raise OSError, SyntaxError, struct.error and others on damaged files
        raise ImageFileError(f"{name}: it is damaged or cut short ({str(e)[:120] or type(e).__name__})") from None
    return _eight_bits(turned, name), mode, rotated


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
    """Convert (C, H, W) floats in [-1, 1] to uint8 as the official projector.py does: (x + 1) * 127.5, rounded down."""
    return ((image + 1) * (255 / 2)).clamp(0, 255).to(torch.uint8).cpu().numpy()


def generator_pixels(image: torch.Tensor) -> np.ndarray:
    """Convert (C, H, W) floats in [-1, 1] to uint8 as the official generate.py does: x * 127.5 + 128, rounded down."""
    return (image * 127.5 + 128).clamp(0, 255).to(torch.uint8).cpu().numpy()


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
    try:
        with PIL.Image.open(path, formats=["PNG"]) as picture:
            pixels = np.asarray(picture)
    except FileNotFoundError:
        raise ImageFileError(f"{os.fspath(path)}: there is no such file") from None
    except Exception as e:  # Pillow raises OSError, SyntaxError and others on damaged files
        raise ImageFileError(f"{os.fspath(path)}: it is damaged ({str(e)[:120] or type(e).__name__})") from None
    if pixels.dtype != np.uint8 or picture.mode not in MODES.values():
        raise ImageFileError(f"{os.fspath(path)}: its mode is {picture.mode}; expected 8 bits, grey, RGB or RGBA")
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def find_pictures(targets: list[str]) -> list[Path]:
    """List the pictures that a user names, in order and without repetition.

    Args:
        targets: files, folders, and patterns such as "cats/*.jpg". A folder stands for the pictures directly in it,
            which are recognised by their suffix; hidden files are left out.

    Raises:
        ImageFileError: a file is missing, a folder has no pictures, or no file matches a pattern.
    """
    import glob

    pictures: dict[str, Path] = {}  # by absolute path, so that none is listed twice
    for target in targets:
        path = Path(os.path.expanduser(target))
        if path.is_dir():
            files = sorted(
                p for p in path.iterdir() if p.is_file() and p.suffix.lower() in PICTURE_SUFFIXES and p.name[0] != "."
            )
            if not files:
                raise ImageFileError(f"{target}: there are no pictures in this folder")
        elif not path.exists() and glob.has_magic(target):
            files = sorted(p for p in map(Path, glob.glob(str(path), recursive=True)) if p.is_file())
            if not files:
                raise ImageFileError(f"{target}: no file matches this pattern")
        elif not path.exists():
            raise ImageFileError(f"{target}: there is no such file")
        else:
            files = [path]
        for file in files:
            pictures.setdefault(os.path.abspath(file), file)
    return list(pictures.values())
