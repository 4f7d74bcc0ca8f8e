"""The Gaussian of StyleGAN's V space: v = LRU_5(w), the output of the mapping network without its last nonlinearity.

Wulff & Torralba, "Improving Inversion and Generation Diversity in StyleGAN using a Gaussianized Latent Space" (2020).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

FLOOR = 1e-8  # of the largest variance: directions with less are weak ones
ERROR = 0.05  # of the covariance, whitened: how good it has to be
PER_DIMENSION = 2000  # samples; the error is then about 2 / sqrt(PER_DIMENSION)
FEWEST, BATCH = 20_000, 4096
MOST = 4  # times as many samples, if the error asks for them


@dataclass(frozen=True)
class Gaussian:
    """Mean and covariance of v, float64, and the way between W and V.

    Attributes:
        mean: (d,), the mean of v; it is not LRU_5 of the mean of w.
        variances: (d,), the eigenvalues of the covariance, the largest first.
        axes: (d, d), its eigenvectors, as columns.
        slope: of the leaky ReLU that ends the mapping network, 0.2 in official ones.
        samples: how many the moments are from.
        error: the spectral norm of S^-1/2 (S' - S) S^-1/2, for S' the covariance found and S the true one, as estimated from
            the two halves of the samples; weak directions left out.

    A variance below 1e-8 of the largest counts as that, wherever something is divided by it.
    """

    mean: torch.Tensor
    variances: torch.Tensor
    axes: torch.Tensor
    slope: float
    samples: int
    error: float

    @property
    def rank(self) -> int:
        """The number of directions that are not weak: the expectation of `mahalanobis`."""
        return int((self.variances > self._floor).sum())

    @property
    def covariance(self) -> torch.Tensor:
        """(d, d)."""
        return (self.axes * self.variances) @ self.axes.t()

    @property
    def deviations(self) -> torch.Tensor:
        """(d,), the standard deviations along the axes, weak ones raised to the floor."""
        return self.variances.clamp_min(self._floor).sqrt()

    @property
    def _floor(self) -> torch.Tensor:
        return self.variances[0] * FLOOR

    def to(self, device: torch.device | str) -> "Gaussian":
        """On a device; in float32 where there is no float64."""
        dtype = torch.float32 if torch.device(device).type == "mps" else torch.float64
        moved = (x.to(device=device, dtype=dtype) for x in (self.mean, self.variances, self.axes))
        return Gaussian(*moved, self.slope, self.samples, self.error)

    def to_v(self, w: torch.Tensor) -> torch.Tensor:
        """LRU_5(w), (..., d), in the precision of the moments."""
        return ungated(w.to(self.mean.dtype), self.slope)

    def to_w(self, v: torch.Tensor) -> torch.Tensor:
        """LRU_0.2(v), (..., d), float32."""
        return torch.nn.functional.leaky_relu(v, self.slope).to(torch.float32)

    def components(self, w: torch.Tensor) -> torch.Tensor:
        """v^p = E^T (v - mu), (..., d): the principal components of w."""
        return (self.to_v(w) - self.mean) @ self.axes

    def whiten(self, w: torch.Tensor) -> torch.Tensor:
        """Principal components in units of their standard deviations, (..., d)."""
        return self.components(w) / self.deviations

    def unwhiten(self, u: torch.Tensor) -> torch.Tensor:
        """The w, (..., d), float32, of what `whiten` gives."""
        return self.to_w((u.to(self.mean.dtype) * self.deviations) @ self.axes.t() + self.mean)

    def mahalanobis(self, w: torch.Tensor) -> torch.Tensor:
        """(v - mu)^T Sigma^-1 (v - mu) of w (..., d), as a sum over dimensions: (...). Equations 2 and 4."""
        return self.whiten(w).square().sum(dim=-1)

    def compress(self, w: torch.Tensor, tau: float) -> torch.Tensor:
        """w (..., d) with its large principal components logarithmically compressed, float32 (equation 6).

        Components beyond tau sigma, sigma being the largest standard deviation of all, become
        sign(x) tau sigma (log(|x| / (tau sigma)) + 1). What has none comes back as it was.

        Raises:
            ValueError: tau is not positive.
        """
        if not tau > 0:
            raise ValueError(f"tau is {tau}; expected a positive number")
        limit = tau * self.variances[0].sqrt()
        x = self.components(w)
        size = x.abs()
        less = torch.where(size > limit, x.sign() * limit * (torch.log(size.clamp_min(limit) / limit) + 1), x)
        return self.to_w(self.to_v(w) + (less - x) @ self.axes.t())


def ungated(w: torch.Tensor, slope: float) -> torch.Tensor:
    """What a leaky ReLU of this slope turned into w."""
    return torch.where(w >= 0, w, w / slope)


class Moments:
    """Number, mean and covariance of rows, gathered in float64 about an origin near their mean."""

    def __init__(self, origin: torch.Tensor):
        self.origin = origin
        self.count = 0
        self.sum = torch.zeros_like(origin)
        self.squares = torch.zeros([len(origin), len(origin)], dtype=origin.dtype, device=origin.device)

    def add(self, rows: torch.Tensor) -> None:
        """Take rows (n, d) in."""
        x = rows - self.origin
        self.count += len(x)
        self.sum += x.sum(dim=0)
        self.squares += x.t() @ x

    def with_(self, other: "Moments") -> "Moments":
        """Of both, which have the same origin."""
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
    """The Gaussian of samples, as many as bring the whitened error to 0.05, but at most 8000 per dimension.

    Args:
        sample: gives n fresh samples of w, (n, d), on the CPU.
        slope: of the leaky ReLU that made them.
        dimensions: d.
        progress: called with the number of samples so far, and of those expected in all.

    Raises:
        ValueError: the samples are all the same, or no numbers.
    """
    wanted = most = max(FEWEST, PER_DIMENSION * dimensions)
    most *= MOST
    first = ungated(sample(BATCH).double(), slope)
    if not torch.isfinite(first).all():
        raise ValueError("the mapping network gives something else than finite numbers, so V has no Gaussian")
    halves = [Moments(first.mean(dim=0)), Moments(first.mean(dim=0))]
    halves[0].add(first)
    turn, count = 1, BATCH
    while True:
        while count < wanted:
            halves[turn].add(ungated(sample(BATCH).double(), slope))
            turn, count = 1 - turn, count + BATCH
            if progress is not None:
                progress(count, max(wanted, count))
        found = halves[0].with_(halves[1])
        variances, axes = torch.linalg.eigh(found.covariance)
        variances, axes = variances.flip(0).clamp_min(0), axes.flip(1)
        if not variances[0] > 0:
            raise ValueError("the mapping network gives the same w for every z, so V has no Gaussian")
        strong = variances > variances[0] * FLOOR
        inverse_root = axes[:, strong] / variances[strong].sqrt()
        # Each half is off by sqrt(2) of the whole's error, and so their difference by twice that error.
        apart = inverse_root.t() @ (halves[0].covariance - halves[1].covariance) @ inverse_root / 2
        error = float(torch.linalg.matrix_norm(apart, 2))
        if error <= ERROR or count >= most:
            return Gaussian(found.mean, variances, axes, slope, count, error)
        wanted = min(most, count + count // 4)
