"""LPIPS at several resolutions together, and the mean absolute difference at the lowest.

Source: Poirier-Ginter & Lalonde, "Robust Unsupervised StyleGAN Image Restoration" (CVPR 2023), section 4. Degraded pictures
often keep only what is visible from afar, which the lower resolutions compare.
"""

from typing import Any

import torch
import torch.nn.functional as F

from .base import Distance, at_most_256, check_images

SMALLEST = 16  # LPIPS is taken of pictures above this size only, as in the paper's code
L1_WEIGHT = 0.1  # of the mean absolute difference on the scale [0, 1], as there


class MultiResolution(Distance):
    """The sum of a feature distance over a picture, its half, its quarter and so on, and a tenth of L1 at the smallest.

    Pictures above 256 pixels are reduced to that size first. At each resolution above 16 pixels the feature distance is added,
    then the picture is halved; at the first of at most 16 pixels the mean absolute difference on the scale [0, 1] is added.

    Args:
        distance: the feature distance, usually LPIPS.
    """

    def __init__(self, distance: Distance):
        super().__init__()
        self.distance = distance

    def prepare(self, target: torch.Tensor) -> list[Any]:
        check_images(target)
        with torch.no_grad():
            *levels, last = self._levels(target)
            return [*(self.distance.prepare(level) for level in levels), last]

    def features(self, images: torch.Tensor) -> list[Any]:
        *levels, last = self._levels(images)
        return [*(self.distance.features(level) for level in levels), last]

    def compare(self, a: list[Any], b: list[Any]) -> torch.Tensor:
        total = L1_WEIGHT * ((a[-1] - b[-1]) / 2).abs().flatten(1).mean(dim=1)
        for x, y in zip(a[:-1], b[:-1]):
            total = total + self.distance.compare(x, y)
        return total

    def _levels(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The pictures at the resolutions that are compared, the largest first; the last is compared by L1."""
        levels = [at_most_256(images)]
        while min(levels[-1].shape[2:]) > SMALLEST:
            levels.append(F.avg_pool2d(levels[-1], 2))
        return levels
