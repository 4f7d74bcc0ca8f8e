"""Videos of an optimisation."""

import os
from collections.abc import Iterable

import numpy as np

from .files import atomic


def write_mp4(path: str | os.PathLike, frames: Iterable[np.ndarray], fps: int = 10, bitrate: str = "16M") -> None:
    """Write frames (C, H, W) uint8 as H.264, at once or not at all.

    The codec wants even sides of some size; frames below 64 pixels high are enlarged by a whole factor, pixel by pixel.
    """
    import imageio_ffmpeg

    writer = None
    with atomic(path) as temporary:
        try:
            for frame in frames:
                frame = np.repeat(frame, 3, axis=0) if frame.shape[0] == 1 else frame[:3]
                factor = -(-64 // frame.shape[1])
                frame = frame.repeat(factor, axis=1).repeat(factor, axis=2)
                frame = np.ascontiguousarray(frame.transpose(1, 2, 0))
                if writer is None:
                    size = (frame.shape[1], frame.shape[0])
                    writer = imageio_ffmpeg.write_frames(
                        str(temporary),
                        size,
                        fps=fps,
                        codec="libx264",
                        bitrate=bitrate,
                        quality=None,
                        macro_block_size=2,
                        ffmpeg_log_level="error",
                    )
                    writer.send(None)
                writer.send(frame)
        finally:
            if writer is not None:
                writer.close()
