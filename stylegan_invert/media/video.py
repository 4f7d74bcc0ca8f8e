"""Videos of an optimisation."""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterable

import numpy as np

from ..io.files import atomic


def write_mp4(path: str | os.PathLike, frames: Iterable[np.ndarray], fps: int = 10, bitrate: str = "16M") -> None:
    """Write frames (C, H, W) uint8 of one size as H.264, at once or not at all.

    The codec wants even sides of some size: frames below 64 pixels high are enlarged by a whole even factor, pixel by pixel.

    Raises:
        OSError: ffmpeg (the one of imageio-ffmpeg) did not finish; with its own words.
    """
    import imageio_ffmpeg

    process = None
    with atomic(path) as temporary, tempfile.TemporaryFile() as log:
        try:
            for frame in frames:
                frame = np.repeat(frame, 3, axis=0) if frame.shape[0] == 1 else frame[:3]
                factor = -(-64 // frame.shape[1])
                frame = frame.repeat(factor, axis=1).repeat(factor, axis=2)
                if process is None:
                    command = [
                        imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24",
                        "-s", f"{frame.shape[2]}x{frame.shape[1]}", "-r", str(fps), "-i", "-", "-an", "-vcodec", "libx264",
                        "-pix_fmt", "yuv420p", "-b:v", bitrate, "-f", "mp4", str(temporary),
                    ]  # fmt: skip
                    # A session of its own: Ctrl-C is for us to handle, and ffmpeg would talk about it.
                    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=log, start_new_session=True)
                process.stdin.write(np.ascontiguousarray(frame.transpose(1, 2, 0)).data)
            process.stdin.close()
            failed = process.wait() != 0
        except BrokenPipeError:
            failed = True
        finally:
            if process is not None:
                if process.poll() is None:
                    process.kill()
                    process.wait()
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
        if failed:
            log.seek(0)
            words = log.read().decode(errors="replace").strip().splitlines()
            raise OSError(f"{path}: the video could not be written ({words[-1][:200] if words else 'ffmpeg stopped'})")
