"""Distances that compare pixels."""

import torch

from .base import Distance


class MSE(Distance):
    """Mean squared error: the mean of squared differences over channels and pixels, on the scale [-1, 1]."""

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def forward(self, prepared: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        return (prepared - images).square().mean(dim=[1, 2, 3])


class L1(Distance):
    """Mean absolute error: the mean of absolute differences over channels and pixels, on the scale [-1, 1]."""

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def forward(self, prepared: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        return (prepared - images).abs().mean(dim=[1, 2, 3])


class SSE(Distance):
    """Sum of squared errors: the sum of squared differences over channels and pixels, on the scale [0, 1].

    Source: |x - y|^2 of Pividori et al., "Exploiting GAN internal capacity for high-quality reconstruction of natural
    images" (2019).
    """

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def forward(self, prepared: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        return ((prepared - images) / 2).square().sum(dim=[1, 2, 3])
