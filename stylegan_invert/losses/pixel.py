"""Distances that compare pixels, or the samples of sounds."""

import torch

from .base import Distance, check_sounds


class _Elementwise(Distance):
    """A distance that takes pictures (N, C, H, W) and sounds (N, C, T)."""

    def check(self, outputs: torch.Tensor) -> None:
        if outputs.ndim == 3:
            check_sounds(outputs)
        else:
            super().check(outputs)

    def features(self, outputs: torch.Tensor) -> torch.Tensor:
        return outputs


class MSE(_Elementwise):
    """Mean squared error: the mean of squared differences over channels and pixels or samples, on the scale [-1, 1]."""

    def compare(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).square().flatten(1).mean(dim=1)


class L1(_Elementwise):
    """Mean absolute error: the mean of absolute differences over channels and pixels or samples, on the scale [-1, 1]."""

    def compare(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).abs().flatten(1).mean(dim=1)


class SSE(Distance):
    """Sum of squared errors: the sum of squared differences over channels and pixels, on the scale [0, 1].

    Source: |x - y|^2 of Pividori et al., "Exploiting GAN internal capacity for high-quality reconstruction of natural
    images" (2019).
    """

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def compare(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return ((a - b) / 2).square().sum(dim=[1, 2, 3])
