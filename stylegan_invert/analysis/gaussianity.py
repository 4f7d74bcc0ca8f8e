"""Whether V is Gaussian: what `stylegan-invert stats` reports of a network."""

from typing import Any, NamedTuple

import torch

from ..generator import Gaussian, StyleAdapter

SAMPLES = 20_000
SEED = 1  # not that of the samples that the Gaussian is from
PAIRS = 3


class HeldOut(NamedTuple):
    """Fresh samples, (N, w_dim) float64 each: w, v, and v in whitened coordinates."""

    w: torch.Tensor
    v: torch.Tensor
    whitened: torch.Tensor


def held_out(generator: StyleAdapter, c: torch.Tensor | None = None, count: int = SAMPLES) -> HeldOut:
    """Samples that the Gaussian has not seen."""
    w = generator.sample_w(c, SEED)(count)
    gaussian = generator.gaussian(c).to("cpu")
    return HeldOut(w.double(), gaussian.to_v(w), gaussian.whiten(w))


def diagnose(gaussian: Gaussian, samples: HeldOut) -> dict[str, Any]:
    """How Gaussian V is.

    Returns:
        "samples", "whitened_error", "rank": see `Gaussian`. "condition": largest over smallest variance of those counted in
        the rank. "effective_rank": the exponential of the entropy of the variances' shares (Roy & Vetterli, 2007).
        "skewness_w", "skewness_v": mean absolute skewness of the entries; "kurtosis_w", "kurtosis_v": their mean excess kurtosis.
        "mahalanobis_mean", "mahalanobis_variance": of the held-out samples, over those of the chi-square distribution with
        "rank" degrees of freedom: one, for a Gaussian. "held_out": their number.
    """
    shares = gaussian.variances / gaussian.variances.sum()
    shares = shares[shares > 0]
    distances = samples.whitened.square().sum(dim=1)
    skewness_w, kurtosis_w = _moments(samples.w)
    skewness_v, kurtosis_v = _moments(samples.v)
    return {
        "samples": gaussian.samples,
        "whitened_error": gaussian.error,
        "dimensions": len(gaussian.mean),
        "rank": gaussian.rank,
        "condition": float(gaussian.variances[0] / gaussian.variances[gaussian.rank - 1]),
        "effective_rank": float((-(shares * shares.log()).sum()).exp()),
        "skewness_w": skewness_w,
        "skewness_v": skewness_v,
        "kurtosis_w": kurtosis_w,
        "kurtosis_v": kurtosis_v,
        "mahalanobis_mean": float(distances.mean() / gaussian.rank),
        "mahalanobis_variance": float(distances.var() / (2 * gaussian.rank)),
        "held_out": len(distances),
    }


def _moments(x: torch.Tensor) -> tuple[float, float]:
    """Mean absolute skewness and mean excess kurtosis of the columns that vary."""
    x = x[:, x.std(dim=0) > 0]
    x = (x - x.mean(dim=0)) / x.std(dim=0)
    return float(x.pow(3).mean(dim=0).abs().mean()), float(x.pow(4).mean(dim=0).mean() - 3)


def figure1(samples: HeldOut) -> Any:
    """Marginals and pairs of the first entries of w and of v: the paper's Figure 1, as a matplotlib figure."""
    from .plots import figure

    count = min(PAIRS, samples.w.shape[1] // 2)
    drawing, axes = figure(4, count, side=2)
    for row, (name, x) in enumerate((("w", samples.w), ("v", samples.v))):
        x = x - x.mean(dim=0)
        limit = float(x[:, : 2 * count].abs().amax())
        for i in range(count):
            above, below = axes[2 * row][i], axes[2 * row + 1][i]
            above.hist(x[:, i].numpy(), bins=80, range=(-limit, limit), density=True)
            above.set_xlabel(f"{name}[{i}]")
            below.plot(x[:4000, 2 * i].numpy(), x[:4000, 2 * i + 1].numpy(), ".", markersize=1, alpha=0.4)
            below.set_xlim(-limit, limit)
            below.set_ylim(-limit, limit)
            below.set_xlabel(f"{name}[{2 * i}], {name}[{2 * i + 1}]")
    return drawing


def figure_chi_square(gaussian: Gaussian, samples: HeldOut) -> Any:
    """Squared Mahalanobis distances of held-out samples, and the chi-square density that a Gaussian would give."""
    import numpy as np
    import scipy.stats

    from .plots import figure

    distances = samples.whitened.square().sum(dim=1).numpy()
    drawing, axes = figure(1, 1, side=4)
    ((ax,),) = axes
    ax.hist(distances, bins=80, density=True, label="held-out samples")
    x = np.linspace(distances.min(), distances.max(), 300)
    ax.plot(x, scipy.stats.chi2.pdf(x, gaussian.rank), label=f"chi-square, {gaussian.rank}")
    ax.set_xlabel("squared Mahalanobis distance")
    ax.legend()
    return drawing
