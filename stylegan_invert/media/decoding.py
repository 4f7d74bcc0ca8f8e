"""Which kinds of picture files are read, and how they are decoded within limits.

Pillow chooses a decoder by a file's contents, and one of its decoders starts Ghostscript, which runs a program that the
picture holds. So a file is only ever given to the decoders in `FORMATS`. Its header says how many pixels it has, and a
picture of too many is refused before it is decoded.
"""

import contextlib
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from typing import Any

import PIL.Image

from ..errors import ImageFileError, printable

MAX_PIXELS = 2**27  # a camera of 100 megapixels stays below it; decoded, they take at most 4 bytes each
MAX_COSTLY = 2**26  # pixels in formats whose decoders take about 16 bytes for each
MAX_SIDE = 2**20  # pixels
MAX_SCANNED = 2**31  # pixels times passes over them in a progressive JPEG; encoders make about 10 passes
BIG = 2**24  # pixels; pictures above this are decoded one at a time


@dataclass(frozen=True)
class Format:
    """A kind of picture file.

    Attributes:
        suffixes: the endings of file names, in lower case.
        most: the largest number of pixels.
        begins: what its files begin with, for kinds of which the decoder may be missing.
    """

    suffixes: tuple[str, ...]
    most: int = MAX_PIXELS
    begins: tuple[bytes, ...] = ()


FORMATS = {
    "PNG": Format((".png", ".apng")),
    "JPEG": Format((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo")),  # Pillow reads MPO, several JPEGs in one, with it
    "WEBP": Format((".webp",), MAX_COSTLY),
    "GIF": Format((".gif",)),
    "BMP": Format((".bmp",)),
    "TIFF": Format((".tif", ".tiff")),
    "PPM": Format((".ppm", ".pgm", ".pbm", ".pnm")),
    "AVIF": Format((".avif", ".avifs"), MAX_COSTLY),
    "JPEG2000": Format((".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"), MAX_COSTLY),
    "HEIF": Format(
        (".heic", ".heif", ".hif"),
        MAX_COSTLY,
        tuple(b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")),
    ),
}
"""The kinds of picture files that are read, by Pillow's name. HEIF, the photographs of iPhones, needs pillow-heif."""

SUFFIXES = frozenset(suffix for format_ in FORMATS.values() for suffix in format_.suffixes)
HEIF_SUFFIXES = frozenset(FORMATS["HEIF"].suffixes)
NO_HEIF = (
    "it is a HEIC photograph, which needs the package pillow-heif (pip install 'stylegan-invert[heic]'); or save it as "
    "JPEG"
)
NO_PICTURE = (
    "it is not a picture of a kind that is read; expected PNG, JPEG, WebP, GIF, BMP, TIFF, PPM, AVIF or JPEG 2000"
)
# A damaged picture can cause tens of thousands of warnings; what matters is said by the error. The filter is for the whole
# process, because warnings.catch_warnings works in one thread only.
warnings.filterwarnings("ignore", module=r"PIL\.")
_one_big_picture = threading.Lock()
_no_picture_is_big = contextlib.nullcontext()


def heif_is_read() -> bool:
    """True if pillow-heif is installed. Its decoder is registered with Pillow then."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener(thumbnails=False)
    return True


@contextlib.contextmanager
def decoded(file: BufferedIOBase, name: str, wanted: int) -> Iterator[tuple[PIL.Image.Image, int]]:
    """A context manager that decodes a picture.

    Args:
        file: an open file, at its beginning.
        name: its name in errors.
        wanted: the side in pixels below which the picture's shorter side should not be reduced.

    Returns:
        Pillow's picture, and by how much its width and height were divided: 1, but 2 for a JPEG that has more pixels than
        allowed and can be decoded at half its size.

    Raises:
        ImageFileError: it is no picture of the kinds in `FORMATS`, is damaged, or has too many pixels.
    """
    with _guarded(name), _opened(file, name) as picture:
        divided = _within_limits(picture, file, name, wanted)
        width, height = picture.size
        with _one_big_picture if width * height > BIG else _no_picture_is_big:
            picture.load()
            if sorted(picture.size) != sorted((width, height)):  # a TIFF may have been turned
                raise ImageFileError(f"{name}: its header says {width}x{height} pixels, and it has {picture.size}")
            yield picture, divided


@contextlib.contextmanager
def _guarded(name: str) -> Iterator[None]:
    """Turn what Pillow raises into ImageFileError."""
    try:
        yield
    except ImageFileError:
        raise
    except MemoryError:
        raise ImageFileError(f"{name}: there is not enough memory for it; make it smaller first") from None
    except Exception as e:  # Pillow's decoders raise OSError, SyntaxError, struct.error and others on damaged files
        reason = printable(str(e), 120) or type(e).__name__
        raise ImageFileError(f"{name}: it is damaged or cut short ({reason})") from None


def _opened(file: BufferedIOBase, name: str) -> PIL.Image.Image:
    """The picture with its header read. Pillow's own `open` refuses large JPEGs that could be decoded at half size."""
    head = file.read(16)
    file.seek(0)
    if not head:
        raise ImageFileError(f"{name}: it is empty; expected a picture")
    PIL.Image.preinit()
    for format_, about in FORMATS.items():
        if about.begins and head[4:12] in about.begins and not heif_is_read():
            raise ImageFileError(f"{name}: {NO_HEIF}")
        if format_ not in PIL.Image.OPEN:
            PIL.Image.init()
        decoder: Any = PIL.Image.OPEN.get(format_, (None, None))
        factory, accepts = decoder
        accepted = factory is not None and accepts(head)
        if isinstance(accepted, str):  # the reason why this Pillow lacks the decoder
            raise ImageFileError(f"{name}: {printable(accepted, 200)}")
        if accepted:
            return factory(file, name)
    raise ImageFileError(f"{name}: {NO_PICTURE}")


def _within_limits(picture: PIL.Image.Image, file: BufferedIOBase, name: str, wanted: int) -> int:
    """Refuse a picture whose decoding takes too much; the number by which its sides are divided in decoding."""
    width, height = picture.size
    most = FORMATS["JPEG" if picture.format == "MPO" else picture.format or ""].most
    divided = 1
    progressive = "progressive" in picture.info or "progression" in picture.info
    if picture.format in ("JPEG", "MPO"):
        if width * height > most and not progressive and min(width, height) // 2 >= wanted:
            divided = 2
        if progressive and width * height <= most and (scans := _scans(file)) * width * height > MAX_SCANNED:
            raise ImageFileError(f"{name}: it has {scans} scans; save it again as an ordinary JPEG")
    if width * height > most * divided**2 or max(width, height) > MAX_SIDE:
        raise ImageFileError(
            f"{name}: it has {width}x{height} pixels, and a {picture.format} picture may have {most:,}; make it smaller "
            "first"
        )
    if divided > 1:
        picture.draft(None, (width // divided, height // divided))
    if picture.format == "TIFF":
        tile = [getattr(picture, "tag_v2", {}).get(tag, 1) for tag in (322, 323)]  # TileWidth, TileLength
        if not all(isinstance(n, int) for n in tile) or tile[0] * tile[1] > most:
            raise ImageFileError(f"{name}: its tiles have {tile} pixels; save it again without tiles")
    return divided


def _scans(file: BufferedIOBase) -> int:
    """The number of markers of scans in a JPEG."""
    place, count, last = file.tell(), 0, b""
    file.seek(0)
    while piece := file.read(2**20):
        count += (last + piece).count(b"\xff\xda")
        last = piece[-1:] if piece[-1:] == b"\xff" else b""
    file.seek(place)
    return count
