"""Write videos."""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterable
from typing import IO

import numpy as np

from ..files.writing import atomic


def write_mp4(path: str | os.PathLike, frames: Iterable[np.ndarray], fps: int = 10, bitrate: str = "16M") -> None:
    """Write an H.264 video with the program ffmpeg. A failure leaves no half-written file.

    The codec needs sides that are even and not very small. Frames of less than 64 pixels in height are therefore
    enlarged by a whole factor, by repeating pixels.

    Args:
        path: the file.
        frames: (C, H, W) uint8, all of one size. With one channel they are grey; a fourth channel is left out.
        fps: frames per second.
        bitrate: the target bit rate, in ffmpeg's notation.

    Raises:
        OSError: ffmpeg (the copy in the package imageio-ffmpeg) failed. The message ends with what ffmpeg reported.
    """
    import imageio_ffmpeg

    process: subprocess.Popen[bytes] | None = None
    stdin: IO[bytes] | None = None
    with atomic(path) as temporary, tempfile.TemporaryFile() as log:
        try:
            for frame in frames:
                frame = np.repeat(frame, 3, axis=0) if frame.shape[0] == 1 else frame[:3]
                factor = -(-64 // frame.shape[1])
                frame = frame.repeat(factor, axis=1).repeat(factor, axis=2)
                if process is None:
                    size = f"{frame.shape[2]}x{frame.shape[1]}"
                    source = f"-y -v error -f rawvideo -pix_fmt rgb24 -s {size} -r {fps} -i -"
                    result = f"-an -vcodec libx264 -pix_fmt yuv420p -b:v {bitrate} -f mp4"
                    command = [imageio_ffmpeg.get_ffmpeg_exe(), *source.split(), *result.split(), str(temporary)]
                    # In a session of its own ffmpeg does not receive Ctrl-C, which this process handles.
                    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=log, start_new_session=True)
                    stdin = process.stdin
                assert stdin is not None
                stdin.write(np.ascontiguousarray(frame.transpose(1, 2, 0)).data)
            if process is None or stdin is None:
                raise OSError(f"{path}: a video needs at least one picture")
            stdin.close()
            failed = process.wait() != 0
        except BrokenPipeError:
            failed = True
        finally:
            if process is not None:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            if stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    stdin.close()
        if failed:
            log.seek(0)
            words = log.read().decode(errors="replace").strip().splitlines()
            raise OSError(f"{path}: the video could not be written ({words[-1][:200] if words else 'ffmpeg stopped'})")
