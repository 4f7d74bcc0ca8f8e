"""Distances that compare pixels."""

import torch

from .base import Distance


class MSE(Distance):
    """Mean squared error: the mean of squared differences over channels and pixels, on the scale [-1, 1]."""

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def compare(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).square().mean(dim=[1, 2, 3])


class L1(Distance):
    """Mean absolute error: the mean of absolute differences over channels and pixels, on the scale [-1, 1]."""

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def compare(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).abs().mean(dim=[1, 2, 3])


class SSE(Distance):
    """Sum of squared errors: the sum of squared differences over channels and pixels, on the scale [0, 1].

    Source: |x - y|^2 of Pividori et al., "Exploiting GAN internal capacity for high-quality reconstruction of natural
    images" (2019).
    """

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def compare(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return ((a - b) / 2).square().sum(dim=[1, 2, 3])
