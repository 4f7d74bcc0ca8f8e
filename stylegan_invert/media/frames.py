"""The frames of videos and animations, as files of pictures that everything else can read."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from ..errors import ImageFileError, printable
from ..files.door import PICTURE, Kind, opened
from .decoding import MAX_PIXELS, decoded
from .targets import ZipPicture, find_targets

CONTAINERS = {
    **dict.fromkeys((".mp4", ".m4v", ".mov"), "mov"),
    **dict.fromkeys((".mkv", ".webm"), "matroska"),
    ".avi": "avi",
}
"""The kinds of videos that are read, by their endings, and ffmpeg's name of their container."""
ANIMATIONS = (".gif", ".webp", ".png", ".apng")
MOST_FRAMES = 10_000  # of one file
_VIDEO = Kind("a video", 2**32, ImageFileError)


def find_frames(
    targets: list[str], folder: Path, say: Callable[[str], object] | None = None
) -> list[Path | ZipPicture]:
    """List the frames that a user names, in order.

    Args:
        targets: as for `targets.find_targets`; a video, and a GIF, WebP or PNG with several pictures, stands for its frames.
        folder: an existing folder, into which the frames of videos and animations are written as PNG.
        say: called with a sentence about pictures that are left out.

    Raises:
        ImageFileError: as for `find_targets`, or a video or animation is damaged, too large or has too many frames.
    """
    found: list[Path | ZipPicture] = []
    for i, target in enumerate(find_targets(targets, say)):
        ending = target.suffix.lower() if isinstance(target, Path) else ""
        inside = folder / f"{i:06d}"
        if isinstance(target, Path) and ending in CONTAINERS:
            inside.mkdir()
            found += _of_video(target, CONTAINERS[ending], inside)
        elif isinstance(target, Path) and ending in ANIMATIONS:
            found += _of_animation(target, inside)
        else:
            found.append(target)
    return found


def _of_video(path: Path, container: str, folder: Path) -> list[Path]:
    """The frames of a video, written into a folder by ffmpeg in a process of its own.

    The container is named, and no protocol but that of files is allowed, so that a list of other files or addresses that is
    called a video is not followed.
    """
    import imageio_ffmpeg

    name = printable(str(path), 300)
    opened(path, _VIDEO).close()
    before = ["-v", "error", "-nostdin", "-protocol_whitelist", "file", "-f", container, "-max_pixels", str(MAX_PIXELS)]
    after = ["-map", "0:v:0", "-frames:v", str(MOST_FRAMES + 1), "-fps_mode", "passthrough", "-pix_fmt", "rgb24"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), *before, "-i", f"file:{path.absolute()}", *after]
    done = subprocess.run(
        [*command, str(folder / "%06d.png")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    frames = sorted(folder.iterdir())
    if done.returncode or not frames:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        reason = printable(words[-1], 200) if words else "it has no pictures"
        raise ImageFileError(
            f"{name}: ffmpeg cannot read this video ({reason}); save it as MP4, or as a folder of pictures"
        )
    if len(frames) > MOST_FRAMES:
        raise ImageFileError(f"{name}: it has more than {MOST_FRAMES:,} frames; cut it first")
    return frames


def _of_animation(path: Path, folder: Path) -> list[Path]:
    """The frames of an animation, written into a new folder; the file itself if it is a single picture."""
    name = printable(str(path), 300)
    with opened(path, PICTURE) as file, decoded(file, name, 1) as (picture, _):
        count = getattr(picture, "n_frames", 1)
        if count == 1:
            return [path]
        if count > MOST_FRAMES:
            raise ImageFileError(f"{name}: it has {count:,} frames; expected at most {MOST_FRAMES:,}")
        folder.mkdir()
        frames = []
        for i in range(count):
            try:
                picture.seek(i)
                frame = picture.convert("RGBA")
            except Exception as e:  # Pillow's decoders raise many kinds of errors on damaged files
                raise ImageFileError(f"{name}: frame {i} is damaged ({printable(str(e), 120)})") from None
            frames.append(folder / f"{i:06d}.png")
            frame.save(frames[-1])
    return frames
