"""Filters along rows and columns, as products with matrices: reducing pictures as Pillow does, and blurring them."""

from collections.abc import Callable
from typing import NamedTuple

import torch


class Kernel(NamedTuple):
    """A filter along one axis.

    Attributes:
        value: its value at distances (...), in pixels of the smaller picture.
        reach: the distance from which on it is zero.
    """

    value: Callable[[torch.Tensor], torch.Tensor]
    reach: float


def _area(x: torch.Tensor) -> torch.Tensor:
    return ((x > -0.5) & (x <= 0.5)).to(x)


def _bilinear(x: torch.Tensor) -> torch.Tensor:
    return (1 - x.abs()).clamp(min=0)


def _bicubic(x: torch.Tensor) -> torch.Tensor:
    """Keys, "Cubic convolution interpolation for digital image processing" (1981), with a = -0.5."""
    x = x.abs()
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def _lanczos(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x.abs() < 3, torch.sinc(x) * torch.sinc(x / 3), torch.zeros_like(x))


KERNELS = {
    "area": Kernel(_area, 0.5),
    "bilinear": Kernel(_bilinear, 1),
    "bicubic": Kernel(_bicubic, 2),
    "lanczos": Kernel(_lanczos, 3),
}
"""The filters of Pillow's ``resize``, by name."""


def gaussian(sigma: float) -> Kernel:
    """The Gaussian of a standard deviation of ``sigma`` pixels, up to four deviations."""
    return Kernel(lambda x: torch.exp(-(x / sigma).square() / 2), 4 * sigma)


def matrix(size: int, factor: int, kernel: Kernel) -> torch.Tensor:
    """The matrix (size / factor, size) that filters one axis and keeps every pixel of the smaller picture.

    The filter is widened by ``factor``, which is Pillow's protection against aliasing. At the borders, weights that fall
    outside the picture are left out, and the others are scaled to a sum of one.
    """
    centres = (torch.arange(size // factor, dtype=torch.float64) + 0.5) * factor
    pixels = torch.arange(size, dtype=torch.float64) + 0.5
    distances = (pixels[None] - centres[:, None]) / factor
    inside = distances.abs() <= kernel.reach
    weights = torch.where(inside, kernel.value(distances), torch.zeros_like(distances))
    return (weights / weights.sum(dim=1, keepdim=True)).to(torch.float32)


def filtered(images: torch.Tensor, along: torch.Tensor) -> torch.Tensor:
    """Square pictures (N, C, H, H), filtered along both axes by a matrix (H', H): (N, C, H', H')."""
    return along @ images @ along.t()
