"""The pictures or sounds that a user names as targets: files, folders, patterns, zips and lists."""

import glob
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BufferedIOBase
from pathlib import Path

from ..errors import ImageFileError, printable
from ..files.archive import Archive
from ..files.door import PICTURE, Kind, opened, read_bytes
from . import sounds
from .decoding import HEIF_SUFFIXES, NO_HEIF, SUFFIXES, heif_is_read

LIST_SUFFIX, ZIP_SUFFIX = ".txt", ".zip"

_LIST = Kind("a list of pictures", 2**27, ImageFileError)
_ZIP = Kind("a zip of pictures", 2**40, ImageFileError)
_DIRECTORY = Kind("a zip's list of files", 2**27, ImageFileError)


@dataclass(frozen=True)
class ZipPicture:
    """A picture, or a sound, in a zip.

    Attributes:
        archive: the zip.
        file: its path.
        member: the name of the picture in it.
    """

    archive: Archive = field(repr=False, compare=False)
    file: str
    member: str

    def __str__(self) -> str:
        return f"{self.file}/{self.member}"

    @property
    def name(self) -> str:
        """The last part of its name."""
        return self.member.rpartition("/")[2]

    def read(self) -> bytearray:
        """The bytes of its file.

        Raises:
            ImageFileError: the zip is damaged here, or the picture is too large.
        """
        return self.archive.read(self.member, PICTURE, printable(str(self), 300))

    def open(self) -> BufferedIOBase:
        """A stream of its bytes; errors are those of `read`."""
        return io.BytesIO(self.read())


def contents(target: "str | os.PathLike | ZipPicture") -> bytearray:
    """The bytes of a target's file.

    Raises:
        ImageFileError: it cannot be read.
    """
    return target.read() if isinstance(target, ZipPicture) else read_bytes(target, PICTURE)


def find_targets(targets: list[str], say: Callable[[str], object] | None = None) -> list["Path | ZipPicture"]:
    """List the pictures that a user names, in order and without repetition.

    Args:
        targets: files, folders, patterns such as "cats/*.jpg", zips, and lists. A folder stands for the pictures directly
            in it, and a zip for all pictures in it, which are recognised by their suffix; hidden files are left out, and
            HEIC photographs where pillow-heif is missing. Where there are no pictures, it stands for the sounds in it. A list
            is a file with the suffix .txt, which names a picture or sound
            in each line, relative to its own folder; empty lines and lines that begin with # are left out.
        say: called with a sentence about pictures that are left out.

    Raises:
        ImageFileError: a file is missing, a folder, zip or list has no pictures, or no file matches a pattern.
    """
    found: dict[str, Path | ZipPicture] = {}  # by absolute path, so that none is listed twice
    for target in targets:
        path = Path(os.path.expanduser(target))
        if path.is_dir():
            files: Sequence[Path | ZipPicture] = _of_folder(path, target, say)
        elif not path.exists() and glob.has_magic(target):
            files = sorted(p for p in map(Path, glob.glob(str(path), recursive=True)) if p.is_file())
            if not files:
                raise ImageFileError(f"{target}: no file matches this pattern")
        elif not path.exists():
            raise ImageFileError(f"{target}: there is no such file")
        elif path.suffix.lower() == ZIP_SUFFIX:
            files = _of_zip(path, target)
        elif path.suffix.lower() == LIST_SUFFIX:
            files = _of_list(path, target)
        else:
            files = [path]
        for file in files:
            found.setdefault(os.path.abspath(str(file)), file)
    return list(found.values())


def is_single(targets: list[str]) -> bool:
    """True if a user named one picture, and not a place that may have several."""
    if len(targets) != 1 or not Path(targets[0]).is_file():
        return False
    return Path(targets[0]).suffix.lower() not in (ZIP_SUFFIX, LIST_SUFFIX)


def _of_zip(path: Path, target: str) -> list[ZipPicture]:
    """The pictures in a zip, sorted."""
    archive = Archive(opened(path, _ZIP), target, _ZIP, _DIRECTORY, "it is no whole zip")
    names: list[str] = []
    for suffixes in (SUFFIXES, sounds.SUFFIXES):
        of_suffix = sorted(n for n in archive.sizes if Path(n).suffix.lower() in suffixes)
        names = names or [n for n in of_suffix if not n.startswith("__MACOSX")]
    if not names:
        raise ImageFileError(f"{target}: there are no pictures in this zip, and no sounds")
    return [ZipPicture(archive, target, name) for name in names]


def _of_list(path: Path, target: str) -> list[Path]:
    """The pictures that a list names."""
    try:
        lines = bytes(read_bytes(path, _LIST, target)).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as e:
        raise ImageFileError(
            f"{target}: byte {e.start} is not UTF-8; expected a list of pictures, one in a line"
        ) from None
    names = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if any("\0" in name for name in names):
        raise ImageFileError(f"{target}: it holds a byte 0; expected a list of pictures, one in a line")
    if not names:
        raise ImageFileError(f"{target}: there are no pictures in this list")
    return [path.parent / os.path.expanduser(name) for name in names]


def _of_folder(folder: Path, target: str, say: Callable[[str], object] | None) -> list[Path]:
    """The pictures directly in a folder, which are regular files of known suffixes, sorted."""
    visible = sorted(p for p in folder.iterdir() if p.is_file() and p.name[0] != ".")
    files = [p for p in visible if p.suffix.lower() in SUFFIXES]
    files = files or [p for p in visible if p.suffix.lower() in sounds.SUFFIXES]
    heifs = [p for p in files if p.suffix.lower() in HEIF_SUFFIXES]
    if heifs and not heif_is_read():
        files = [p for p in files if p not in heifs]
        if not files:
            raise ImageFileError(
                f"{target}: all {len(heifs)} pictures in this folder are HEIC; {heifs[0].name}: {NO_HEIF}"
            )
        if say is not None:
            say(f"{printable(target, 300)}: {len(heifs)} HEIC left out; {printable(heifs[0].name, 80)}: {NO_HEIF}")
    if not files:
        raise ImageFileError(f"{target}: there are no pictures in this folder, and no sounds")
    return files
