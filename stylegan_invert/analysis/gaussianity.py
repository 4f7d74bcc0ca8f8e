"""Measures of how Gaussian a network's V space is, as `stylegan-invert stats` reports them."""

from typing import Any, NamedTuple

import torch

from ..generator import Gaussian, StyleAdapter

SAMPLES = 20_000
SEED = 1  # another seed than that of the samples from which the Gaussian was computed
PAIRS = 3  # pairs of entries that Figure 1 shows


class HeldOut(NamedTuple):
    """Fresh samples, (N, w_dim) float64.

    Attributes:
        w: the samples in W.
        v: the same samples in V.
        whitened: the same samples in whitened coordinates of V.
    """

    w: torch.Tensor
    v: torch.Tensor
    whitened: torch.Tensor


def held_out(generator: StyleAdapter, c: torch.Tensor | None = None, count: int = SAMPLES) -> HeldOut:
    """Samples from which the Gaussian was not computed.

    Args:
        generator: the network's adapter.
        c: the class (1, c_dim), for networks with classes.
        count: the number of samples.
    """
    w = generator.sample_w(c, SEED)(count)
    gaussian = generator.gaussian(c).to("cpu")
    return HeldOut(w.double(), gaussian.to_v(w), gaussian.whiten(w))


def diagnose(gaussian: Gaussian, samples: HeldOut) -> dict[str, Any]:
    """How Gaussian V is.

    Returns:
        A table of
        "samples", "whitened_error" and "rank", see `Gaussian`;
        "dimensions": the size of v;
        "condition": the largest variance divided by the smallest of those that count in the rank;
        "effective_rank": the exponential of the entropy of the variances' shares (Roy & Vetterli, 2007);
        "skewness_w" and "skewness_v": the mean absolute skewness of the entries;
        "kurtosis_w" and "kurtosis_v": the mean excess kurtosis of the entries;
        "mahalanobis_mean" and "mahalanobis_variance": mean and variance for the held-out samples, divided by those of the
        chi-square distribution with "rank" degrees of freedom, so that both are one for a Gaussian;
        "held_out": the number of held-out samples.
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
    """Squared Mahalanobis distances of held-out samples, and the chi-square density that they have in a Gaussian."""
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
