"""Many pictures as one."""

from collections.abc import Sequence

import numpy as np


def grid(pictures: np.ndarray, columns: int) -> np.ndarray:
    """Pictures (N, C, H, W) uint8 as one (C, rows * H, columns * W), row by row; what is left of the last row is white."""
    n, c, h, w = pictures.shape
    rows = -(-n // columns)
    full = np.full([rows * columns, c, h, w], 255, np.uint8)
    full[:n] = pictures
    return full.reshape(rows, columns, c, h, w).transpose(2, 0, 3, 1, 4).reshape(c, rows * h, columns * w)


def sheet(rows: Sequence[Sequence[np.ndarray]], height: int = 128, gap: int = 8) -> np.ndarray:
    """Rows of pictures (C, H, W) uint8 of one size, set apart by white, and enlarged pixel by pixel to about ``height``.

    All pictures come out with three channels: grey is repeated, alpha left out.
    """
    rows = [[p.repeat(3, axis=0) if len(p) == 1 else p[:3] for p in row] for row in rows]
    factor = max(1, height // rows[0][0].shape[1])

    def framed(picture: np.ndarray) -> np.ndarray:
        large = picture.repeat(factor, axis=1).repeat(factor, axis=2)
        return np.pad(large, [(0, 0), (0, gap), (0, gap)], constant_values=255)

    lines = [np.concatenate([framed(p) for p in row], axis=2) for row in rows]
    return np.concatenate(lines, axis=1)[:, :-gap, :-gap]
