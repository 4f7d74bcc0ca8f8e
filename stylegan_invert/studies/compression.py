"""The experiments of Wulff & Torralba, section 4: truncation and compression at equal Fréchet distance, and what artifacts have
in common."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ..analysis.distribution import BATCH, PictureFeatures, rounded
from ..generator import Code, GeneratorAdapter

COMPONENTS = 30  # that Figure 5 shows
NEIGHBOURS = 3


class Correction(NamedTuple):
    """Truncation with psi, compression with tau, or nothing."""

    kind: str  # "truncation", "compression" or "none"
    value: float = 1.0

    def __call__(self, generator: GeneratorAdapter, code: Code) -> Code:
        if self.kind == "none":
            return code
        return (generator.truncated if self.kind == "truncation" else generator.compressed)(code, self.value)


def pictures(generator: GeneratorAdapter, code: Code, correction: Correction) -> Iterator[torch.Tensor]:
    """Corrected pictures (<= 64, C, R, R) uint8 at a time."""
    for first in range(0, len(code), BATCH):
        with torch.no_grad():
            x = generator.render(correction(generator, code[first : first + BATCH]))
        yield rounded(x)


def aligned(
    truncations: Sequence[tuple[float, float]], compressions: Sequence[tuple[float, float]]
) -> list[tuple[float, float, float]]:
    """For each psi the tau with the same Fréchet distance.

    Args:
        truncations, compressions: (psi or tau, distance), measured; linear between neighbours, tau on a logarithmic scale.

    Returns:
        (psi, tau, distance) for every psi whose distance lies between those of two neighbouring tau. Where there are several,
        the weakest compression is taken.
    """
    found = []
    steps = sorted(compressions, reverse=True)
    for psi, distance in sorted(truncations, reverse=True):
        for (a, da), (b, db) in zip(steps, steps[1:]):
            if min(da, db) <= distance <= max(da, db) and da != db:
                share = (distance - da) / (db - da)
                found.append((psi, float(np.exp(np.log(a) + share * (np.log(b) - np.log(a)))), distance))
                break
    return found


def diversity(shown: np.ndarray) -> float:
    """The standard deviation of a pixel over pictures (N, C, R, R) uint8, the mean over pixels, on the scale [0, 255]."""
    return float(shown.astype(np.float64).std(axis=0).mean())


def similarity(features: torch.Tensor, others: torch.Tensor) -> float:
    """The mean cosine between features (N, F) of pictures and of their corrections, both taken from the mean of the first:
    zero for unrelated pictures, one where nothing changed."""
    mean = features.mean(dim=0)
    return float(torch.nn.functional.cosine_similarity(features - mean, others - mean, dim=1).mean())


def realism(features: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """How near pictures' features (N, F) lie to real ones (M, F), for their density there: (N,).

    The largest ratio of a real picture's distance to its third neighbour to its distance to the picture, over the half of the
    real pictures with the smaller such distances (Kynkäänniemi et al. 2019, section 4).
    """
    radii = torch.cat([torch.cdist(part, real).kthvalue(NEIGHBOURS + 1, dim=1).values for part in real.split(1000)])
    dense = radii <= radii.median()
    kept, radii = real[dense], radii[dense]
    parts = [(radii / torch.cdist(part, kept).clamp_min(1e-12)).amax(dim=1) for part in features.split(1000)]
    return torch.cat(parts)


def components(generator: GeneratorAdapter, code: Code, flagged: torch.Tensor) -> dict[str, list[float]]:
    """Figure 5: the mean size of the first principal components of V, of flagged (N,) and of other codes in W.

    Returns:
        "flagged", "others", and "deviation", the standard deviation along each axis.
    """
    gaussian = generator.gaussian()
    size = gaussian.components(code.tensors["w"]).abs().cpu()[:, :COMPONENTS]
    return {
        "flagged": size[flagged].mean(dim=0).tolist(),
        "others": size[~flagged].mean(dim=0).tolist(),
        "deviation": gaussian.deviations.cpu()[:COMPONENTS].tolist(),
    }


def features_of(
    generator: GeneratorAdapter, code: Code, correction: Correction, features: PictureFeatures
) -> torch.Tensor:
    """Features (N, F) of corrected pictures."""
    return features.of(pictures(generator, code, correction))


def figure5(found: dict[str, list[float]]) -> Any:
    """`components` as a figure."""
    from ..analysis.plots import figure

    drawing, (axes,) = figure(1, 2, side=3, ratio=1.3)
    top = 1.05 * max(max(found[key]) for key in ("flagged", "others", "deviation"))
    for ax, key, title in zip(axes, ("flagged", "others"), ("flagged", "not flagged")):
        ax.bar(range(1, len(found[key]) + 1), found[key])
        ax.plot(range(1, len(found[key]) + 1), found["deviation"], "--", color="black", label="one standard deviation")
        ax.set_ylim(0, top)
        ax.set_title(title)
        ax.set_xlabel("principal component of V")
        ax.legend(fontsize="small")
    return drawing


def figure6(
    truncations: Sequence[tuple[float, float]],
    compressions: Sequence[tuple[float, float]],
    rows: Sequence[dict[str, Any]],
) -> Any:
    """Fréchet distance over psi and tau, and similarity at equal distance."""
    from ..analysis.plots import figure

    drawing, (axes,) = figure(1, 3, side=3, ratio=1.2)
    for ax, curve, name in zip(axes, (truncations, compressions), ("ψ", "τ")):
        ax.plot(*zip(*sorted(curve)), "o-")
        ax.invert_xaxis()
        ax.set_xlabel(name)
        ax.set_ylabel("Fréchet distance")
    for kind, colour in (("truncation", "tab:red"), ("compression", "tab:blue")):
        at = [(row["frechet"], row[kind]["similarity"]) for row in rows]
        axes[2].plot(*zip(*sorted(at)), "o-", color=colour, label=kind)
    axes[2].set_xlabel("Fréchet distance")
    axes[2].set_ylabel("similarity to the uncorrected picture")
    axes[2].legend()
    return drawing
