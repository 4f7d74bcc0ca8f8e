"""What a JPEG file keeps of a picture, as a function with gradients.

Source: ITU-T T.81 (the transform of section A.3.3, the example tables K.1 and K.2), and JFIF 1.02 for the colours. Where
these leave a choice, it is that of libjpeg, which Pillow uses: the scaling of the tables by the quality, chroma at half the
size, and the triangle filter that enlarges it again.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from stylegan_invert.losses.base import total

# Tables K.1 and K.2: the steps of the quantisation at quality 50, by rows of falling vertical period.
_LUMA = """
16 11 10 16 24 40 51 61
12 12 14 19 26 58 60 55
14 13 16 24 40 57 69 56
14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77
24 35 55 64 81 104 113 92
49 64 78 87 103 121 120 101
72 92 95 98 112 100 103 99
"""
_CHROMA = """
17 18 24 47 99 99 99 99
18 21 26 66 99 99 99 99
24 26 56 99 99 99 99 99
47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99
99 99 99 99 99 99 99 99
99 99 99 99 99 99 99 99
99 99 99 99 99 99 99 99
"""

_TO_YCC = ((0.299, 0.587, 0.114), (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))
_TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136286, -0.714136286), (1.0, 1.772, 0.0))


def rounded(x: torch.Tensor) -> torch.Tensor:
    """The nearest whole numbers, with the gradient of x itself, since rounding has none ("straight-through")."""
    return floored(x + 0.5)


def floored(x: torch.Tensor) -> torch.Tensor:
    """The whole numbers below, with the gradient of x itself."""
    return x + (torch.floor(x) - x).detach()


def tables(quality: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The quantisation tables (8, 8) of luma and chroma at a quality from 1 to 100, scaled as libjpeg does."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    base = [torch.tensor([float(n) for n in text.split()]).reshape(8, 8) for text in (_LUMA, _CHROMA)]
    luma, chroma = (((table * scale + 50) / 100).floor().clamp(1, 255) for table in base)
    return luma, chroma


def cosines() -> torch.Tensor:
    """The orthogonal matrix (8, 8) of the discrete cosine transform, one row per frequency."""
    n = torch.arange(8, dtype=torch.float64)
    basis = torch.cos((2 * n[None] + 1) * n[:, None] * math.pi / 16) / 2
    basis[0] /= math.sqrt(2)
    return basis.to(torch.float32)


def jpeg(images: torch.Tensor, luma: torch.Tensor, chroma: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """Pictures as they come back from a JPEG file.

    Args:
        images: (N, C, H, W) in [-1, 1] with 1 or 3 channels, grey or RGB; what is outside is cut off.
        luma, chroma: see `tables`.
        basis: see `cosines`.

    Returns:
        (N, C, H, W) in [-1, 1], whole numbers on the scale from 0 to 255. Gradients pass through every rounding.
    """
    h, w = images.shape[2:]
    x = rounded(images.clamp(-1, 1) * 127.5 + 127.5)
    if x.shape[1] == 1:
        x = _quantised(_padded(x, 8), luma, basis)[..., :h, :w]
    else:
        ycc = rounded(mixed(x, _TO_YCC, (0, 128, 128)))
        y = _quantised(_padded(ycc[:, :1], 16), luma, basis)
        small = F.avg_pool2d(_padded(ycc[:, 1:], 16), 2)
        even, odd = small[..., 0::2] + 0.25, small[..., 1::2] + 0.5  # libjpeg rounds columns by turns
        small = floored(torch.stack([even, odd], dim=4).flatten(3))
        small = _quantised(small, chroma, basis)[..., : (h + 1) // 2, : (w + 1) // 2]
        c = rounded(_doubled(_doubled(small, 2), 3))[..., :h, :w] - 128
        x = mixed(torch.cat([y[..., :h, :w], c], dim=1), _TO_RGB)
    return rounded(x).clamp(0, 255) / 127.5 - 1


def mixed(images: torch.Tensor, weights: Sequence[Sequence[float]], added: Sequence[float] = (0, 0, 0)) -> torch.Tensor:
    """Pictures (N, C, H, W) whose channels are sums of the old ones with the weights of a row, and a number added to each.

    The numbers stay in Python, so nothing has to be copied to a GPU.
    """
    channels = images.unbind(dim=1)
    return torch.stack([total(w * c for w, c in zip(row, channels)) + a for row, a in zip(weights, added)], dim=1)


def _padded(x: torch.Tensor, multiple: int) -> torch.Tensor:
    """The last rows and columns repeated up to a multiple of the block's size."""
    h, w = x.shape[2:]
    return F.pad(x, [0, -w % multiple, 0, -h % multiple], mode="replicate")


def _quantised(x: torch.Tensor, table: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """Each block of 8x8 pixels transformed, divided by the table, rounded and brought back."""
    n, c, h, w = x.shape
    blocks = (x - 128).reshape(n, c, h // 8, 8, w // 8, 8).transpose(3, 4)
    kept = rounded(basis @ blocks @ basis.t() / table) * table
    pixels = basis.t() @ kept @ basis
    return rounded(pixels.transpose(3, 4).reshape(n, c, h, w) + 128).clamp(0, 255)


def _doubled(x: torch.Tensor, axis: int) -> torch.Tensor:
    """Twice the size along an axis: each pixel is three quarters of the nearest and one quarter of the next one."""
    size = x.shape[axis]
    before = torch.cat([x.narrow(axis, 0, 1), x.narrow(axis, 0, size - 1)], axis)
    after = torch.cat([x.narrow(axis, 1, size - 1), x.narrow(axis, size - 1, 1)], axis)
    pairs = torch.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], dim=axis + 1)
    return pairs.flatten(axis, axis + 1)
