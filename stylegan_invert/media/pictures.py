"""Pictures in and out: any picture a user has, to the shape a network wants."""

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
from ..io.files import atomic

PICTURE_SUFFIXES = frozenset(s for s, kind in PIL.Image.registered_extensions().items() if kind in PIL.Image.OPEN)
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
FITS = ("crop", "pad")
_one_at_a_time = threading.Lock()  # Python's warning filters belong to all threads


@dataclass(frozen=True)
class Fitted:
    """How a picture was brought to the network's shape; all sizes are (width, height) in pixels.

    Attributes:
        file: the picture.
        size: its size, after turning it as its EXIF data ask.
        mode: Pillow's name for its kind of pixels.
        exif_rotated: whether it was turned.
        background: the colour that shows through transparent pixels and fills padding; None if neither came up.
        fit: "crop" or "pad".
        box: the square that was taken, (left, top, right, bottom) in the turned picture; outside it for padding.
        resolution: the side it was resized to, with Lanczos' filter.
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

    Args:
        path: any file that Pillow reads, or a stream of one. 16-bit grey is scaled to 8 bits, palettes are resolved, EXIF rotation is
            applied, transparency is composited on ``background`` (unless the network has an alpha channel). Of an
            animation the first frame counts. Floating-point pixels, whose range nobody knows, are refused.
        resolution: side of the result.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).
        fit: "crop" takes the square in the centre, as the official projector does; "pad" fills up to a square.
        background: a colour by name or as "#rrggbb".
        name: what errors and the result call it; needed for a stream.

    Returns:
        (channels, resolution, resolution) uint8, and how it was made.

    Raises:
        ImageFileError: it is not a picture, is damaged, missing or too large.
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
    """The picture in mode L, RGB or RGBA, the right way up; its original mode; and whether it was turned."""
    is_file = isinstance(path, (str, os.PathLike))
    if is_file and os.path.isdir(path):
        raise ImageFileError(f"{name}: it is a directory; expected a picture")
    try:
        with _one_at_a_time, warnings.catch_warnings():
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)  # the error at twice the size stays
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
        raise ImageFileError(
            f"{name}: {'it is empty' if empty else 'it is not a picture that Pillow can read'}; expected PNG, JPEG or the like"
        ) from None
    except PIL.Image.DecompressionBombError:
        raise ImageFileError(
            f"{name}: it has more pixels than a picture should ({PIL.Image.MAX_IMAGE_PIXELS * 2:,}); make it smaller first"
        ) from None
    except PermissionError:
        raise ImageFileError(f"{name}: it may not be read (permission denied)") from None
    except Exception as e:  # Pillow's decoders raise OSError, SyntaxError, struct.error and others on damaged files
        raise ImageFileError(f"{name}: it is damaged or cut short ({str(e)[:120] or type(e).__name__})") from None
    return _eight_bits(turned, name), mode, rotated


def _eight_bits(picture: PIL.Image.Image, name: str) -> PIL.Image.Image:
    if picture.mode.startswith("I;16") or picture.mode == "I":
        # Pillow's own conversion cuts 16-bit values off at 255.
        values = np.asarray(picture).astype(np.float64)
        if values.min(initial=0) < 0 or values.max(initial=0) > 65535:
            found = f"its pixels are from {values.min():g} to {values.max():g}"
            raise ImageFileError(f"{name}: {found}; expected 8 or 16 bits. Save it as an 8-bit PNG")
        grey = PIL.Image.fromarray(np.round(values / 257).astype(np.uint8))
        hidden = picture.info.get("transparency")  # PNG's one grey value that is not seen
        if isinstance(hidden, int):
            grey.putalpha(PIL.Image.fromarray(np.where(values == hidden, 0, 255).astype(np.uint8)))
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
    """uint8 pixels of any shape as float32 in [-1, 1], on a device."""
    return torch.as_tensor(pixels).to(device).to(torch.float32) / 127.5 - 1


def projector_pixels(image: torch.Tensor) -> np.ndarray:
    """(C, H, W) float in [-1, 1] to uint8 as the official projector rounds: (x + 1) * 127.5, cut off."""
    return ((image + 1) * (255 / 2)).clamp(0, 255).to(torch.uint8).cpu().numpy()


def generator_pixels(image: torch.Tensor) -> np.ndarray:
    """(C, H, W) float in [-1, 1] to uint8 as the official generate.py rounds: x * 127.5 + 128, cut off."""
    return (image * 127.5 + 128).clamp(0, 255).to(torch.uint8).cpu().numpy()


def to_pil(pixels: np.ndarray) -> PIL.Image.Image:
    """A Pillow picture from (C, H, W) uint8 with C of 1, 3 or 4."""
    return PIL.Image.fromarray(pixels[0] if pixels.shape[0] == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def write_png(path: str | os.PathLike, pixels: np.ndarray) -> None:
    """Write (C, H, W) uint8 with C of 1, 3 or 4 as PNG, at once or not at all."""
    with atomic(path) as temporary:
        to_pil(pixels).save(temporary, format="PNG")


def read_png(path: str | os.PathLike) -> np.ndarray:
    """What `write_png` has written: (C, H, W) uint8.

    Raises:
        ImageFileError: it is no picture, or not of 8 bits with 1, 3 or 4 channels.
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
    """The pictures that files, folders and glob patterns name, in order, none twice.

    A folder stands for the pictures directly in it, by their suffix; hidden files are left out.

    Raises:
        ImageFileError: one of them names nothing.
    """
    import glob

    found: dict[str, Path] = {}
    for target in targets:
        path = Path(target).expanduser()
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
            found.setdefault(os.path.abspath(file), file)
    return list(found.values())
