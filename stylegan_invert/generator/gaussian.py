"""The Gaussian distribution that describes StyleGAN's latents well in the V space.

V is W before the last nonlinearity of the mapping network, a leaky ReLU of slope 0.2. A leaky ReLU of slope 5 undoes
it: v = LRU_5(w) and w = LRU_0.2(v). LRU_a is the leaky ReLU of slope a.

Source: Wulff & Torralba, "Improving Inversion and Generation Diversity in StyleGAN using a Gaussianized Latent Space"
(2020).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..networks.layers import widest_dtype

FLOOR = 1e-8  # a direction is called weak if its variance is below this fraction of the largest variance
TARGET_ERROR = 0.05  # sampling goes on until the estimated `Gaussian.error` is at most this
SAMPLES_PER_DIMENSION = 2000  # at first; the error is then about 2 / sqrt(SAMPLES_PER_DIMENSION)
MIN_SAMPLES = 20_000  # the first number of samples is at least this, for networks with few dimensions
BATCH = 4096  # the number of samples that are drawn at once
MAX_GROWTH = 4  # at most this many times the first number of samples are drawn


@dataclass(frozen=True)
class Gaussian:
    """Mean and covariance of v, and conversions between W and V.

    A direction is weak if its variance is below 1e-8 of the largest variance. Where a formula divides by the variance
    of a weak direction, that limit takes its place.

    Attributes:
        mean: (d,) float64, the mean of v. It differs from LRU_5 of the mean of w.
        variances: (d,) float64, the eigenvalues of the covariance, the largest first.
        axes: (d, d) float64, the eigenvectors of the covariance, as columns.
        slope: the slope of the leaky ReLU that ends the mapping network; 0.2 in official networks.
        samples: the number of samples from which mean and covariance were computed.
        error: the estimated relative error of the covariance. S is the true covariance and S' the computed one. The
            error is the largest relative error of the variance over all directions that are not weak. It is estimated
            by comparing two halves of the samples. As a formula, it is the spectral norm of S^-1/2 (S' - S) S^-1/2.
    """

    mean: torch.Tensor
    variances: torch.Tensor
    axes: torch.Tensor
    slope: float
    samples: int
    error: float

    @property
    def rank(self) -> int:
        """The number of directions that are not weak. It is also the expected value of `mahalanobis`."""
        return int((self.variances > self._floor).sum())

    @property
    def covariance(self) -> torch.Tensor:
        """The covariance of v, (d, d)."""
        return (self.axes * self.variances) @ self.axes.t()

    @property
    def deviations(self) -> torch.Tensor:
        """The standard deviations along the axes, (d,). Those of weak directions are raised to the limit."""
        return self.variances.clamp_min(self._floor).sqrt()

    @property
    def _floor(self) -> torch.Tensor:
        return self.variances[0] * FLOOR

    def to(self, device: torch.device | str) -> "Gaussian":
        """The Gaussian on a device: in float64, or in float32 on "mps", which has no float64."""
        dtype = widest_dtype(device)
        mean, variances, axes = (x.to(device=device, dtype=dtype) for x in (self.mean, self.variances, self.axes))
        return Gaussian(mean, variances, axes, self.slope, self.samples, self.error)

    def to_v(self, w: torch.Tensor) -> torch.Tensor:
        """v = LRU_5(w) of w (..., d), in the precision of ``mean``."""
        return inverse_leaky_relu(w.to(self.mean.dtype), self.slope)

    def to_w(self, v: torch.Tensor) -> torch.Tensor:
        """w = LRU_0.2(v) of v (..., d), float32."""
        return torch.nn.functional.leaky_relu(v, self.slope).to(torch.float32)

    def components(self, w: torch.Tensor) -> torch.Tensor:
        """The principal components E^T (v - mu), (..., d), of w (..., d); E are ``axes``, mu is ``mean``."""
        return (self.to_v(w) - self.mean) @ self.axes

    def whiten(self, w: torch.Tensor) -> torch.Tensor:
        """The principal components of w (..., d), each divided by its standard deviation: mean 0, covariance 1."""
        return self.components(w) / self.deviations

    def unwhiten(self, u: torch.Tensor) -> torch.Tensor:
        """The inverse of `whiten`: the w (..., d), float32, of whitened coordinates (..., d)."""
        return self.to_w((u.to(self.mean.dtype) * self.deviations) @ self.axes.t() + self.mean)

    def mahalanobis(self, w: torch.Tensor) -> torch.Tensor:
        """The squared Mahalanobis distance (v - mu)^T Sigma^-1 (v - mu) of w (..., d) from the mean: (...).

        Source: equations 2 and 4 of Wulff & Torralba.
        """
        return self.whiten(w).square().sum(dim=-1)

    def compress(self, w: torch.Tensor, tau: float) -> torch.Tensor:
        """Shrink large principal components by a logarithm, which removes artefacts of unlikely latents.

        Let sigma be the largest of all standard deviations. A component x with |x| > tau sigma becomes
        sign(x) tau sigma (log(|x| / (tau sigma)) + 1). Smaller components stay as they are.

        Source: equation 6 of Wulff & Torralba.

        Args:
            w: (..., d).
            tau: the limit, in units of sigma.

        Returns:
            (..., d) float32.

        Raises:
            ValueError: tau is not positive.
        """
        if not tau > 0:
            raise ValueError(f"tau is {tau}; expected a positive number")
        limit = tau * self.variances[0].sqrt()
        x = self.components(w)
        size = x.abs()
        smaller = torch.where(size > limit, x.sign() * limit * (torch.log(size.clamp_min(limit) / limit) + 1), x)
        return self.to_w(self.to_v(w) + (smaller - x) @ self.axes.t())


def inverse_leaky_relu(w: torch.Tensor, slope: float) -> torch.Tensor:
    """The inverse of a leaky ReLU: the tensor that a leaky ReLU of this slope turns into w."""
    return torch.where(w >= 0, w, w / slope)


class Moments:
    """Running count, mean and covariance of rows of numbers.

    Sums are taken of the rows minus an origin. If the origin is near the mean, little precision is lost to
    cancellation.

    Args:
        origin: (d,) float64, a vector near the mean.
    """

    def __init__(self, origin: torch.Tensor):
        self.origin = origin
        self.count = 0
        self.sum = torch.zeros_like(origin)
        self.squares = torch.zeros([len(origin), len(origin)], dtype=origin.dtype, device=origin.device)

    def add(self, rows: torch.Tensor) -> None:
        """Add rows (n, d)."""
        x = rows - self.origin
        self.count += len(x)
        self.sum += x.sum(dim=0)
        self.squares += x.t() @ x

    def combined(self, other: "Moments") -> "Moments":
        """The moments of the rows of both objects together. Both must have the same origin."""
        both = Moments(self.origin)
        both.count = self.count + other.count
        both.sum, both.squares = self.sum + other.sum, self.squares + other.squares
        return both

    @property
    def mean(self) -> torch.Tensor:
        return self.origin + self.sum / self.count

    @property
    def covariance(self) -> torch.Tensor:
        shift = self.sum / self.count
        return (self.squares - self.count * torch.outer(shift, shift)) / (self.count - 1)


def fit_gaussian(
    sample: Callable[[int], torch.Tensor],
    slope: float,
    dimensions: int,
    progress: Callable[[int, int], None] | None = None,
) -> Gaussian:
    """Fit a Gaussian in V to random samples of w.

    Sampling starts with 2000 samples per dimension, and at least 20,000. It goes on until the estimated relative error
    of the covariance (`Gaussian.error`) is at most 0.05, but to no more than four times as many samples.

    Args:
        sample: called with n, returns n new samples of w, (n, d), on the CPU.
        slope: the slope of the leaky ReLU that ends the mapping network.
        dimensions: d.
        progress: called with the number of samples drawn so far and the number expected in all.

    Raises:
        ValueError: the samples are all equal, or are not finite.
    """
    enough = max(MIN_SAMPLES, SAMPLES_PER_DIMENSION * dimensions)
    most = MAX_GROWTH * enough
    first = inverse_leaky_relu(sample(BATCH).double(), slope)
    if not torch.isfinite(first).all():
        raise ValueError("the mapping network gives numbers that are not finite, so V has no Gaussian")
    halves = [Moments(first.mean(dim=0)), Moments(first.mean(dim=0))]
    halves[0].add(first)
    turn, count = 1, BATCH  # batches go to the two halves by turns
    while True:
        while count < enough:
            halves[turn].add(inverse_leaky_relu(sample(BATCH).double(), slope))
            turn, count = 1 - turn, count + BATCH
            if progress is not None:
                progress(count, max(enough, count))
        moments = halves[0].combined(halves[1])
        variances, axes = torch.linalg.eigh(moments.covariance)
        variances, axes = variances.flip(0).clamp_min(0), axes.flip(1)
        if not variances[0] > 0:
            raise ValueError("the mapping network gives the same w for every z, so V has no Gaussian")
        strong = variances > variances[0] * FLOOR
        inverse_root = axes[:, strong] / variances[strong].sqrt()
        # The error of a half is sqrt(2) times the error of all samples, because a half has half as many. The errors of
        # the two halves are independent, so their difference is sqrt(2) times larger again: twice the error of all
        # samples.
        difference = inverse_root.t() @ (halves[0].covariance - halves[1].covariance) @ inverse_root / 2
        error = float(torch.linalg.matrix_norm(difference, 2))
        if error <= TARGET_ERROR or count >= most:
            return Gaussian(moments.mean, variances, axes, slope, count, error)
        enough = min(most, count + count // 4)
