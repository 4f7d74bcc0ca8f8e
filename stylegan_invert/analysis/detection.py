"""Whether a picture was drawn by a network: by how well the network rebuilds it, and how likely the code is.

The network rebuilds its own pictures better than others, and with likelier codes. Both are compared with those of pictures whose
origin is known, so this says which of these two groups a picture is more like, and nothing of other networks.

Source: the recovery gap is that of Albright & McCloskey, "Source Generator Attribution via Inversion" (2019).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import CodeFileError
from ..generator.directions import Coordinates
from . import logistic
from .results import Result, check_alike, priors

TRAITS = ("gap", "prior")
LEAST = 4  # results that each group needs


def traits(coordinates: Coordinates, results: Sequence[Result]) -> np.ndarray:
    """The recovery gap and the prior value of results, (N, 2) float64."""
    return np.stack([np.array([one.error for one in results]), priors(coordinates, results)], axis=1)


def judged(real: np.ndarray, generated: np.ndarray, query: np.ndarray) -> dict[str, Any]:
    """Compare pictures with real and generated ones.

    Args:
        real: traits (N, 2) of pictures that the network did not draw.
        generated: traits (M, 2) of pictures that it drew, with latents that were not chosen.
        query: traits (K, 2) of the pictures in question; K may be 0.

    Returns:
        "auc" of each trait and of "both" by logistic regression, whose scores are of held-out pictures; "accuracy" of both on
        held-out pictures; "roc", the curves by name, as `logistic.roc` gives them; "drawn", (K,) between 0 and 1: how much more
        a picture is like those that the network drew.

    Raises:
        ValueError: a group has fewer than four pictures.
    """
    if min(len(real), len(generated)) < LEAST:
        raise ValueError(
            f"{len(real)} real and {len(generated)} generated pictures; expected at least {LEAST} of each to compare with"
        )
    known = np.log(np.concatenate([real, generated]) + 1e-9)
    labels = np.arange(len(known)) >= len(real)
    mean, deviation = known.mean(axis=0), known.std(axis=0) + 1e-9
    x = (known - mean) / deviation
    both = logistic.held_out_scores(x, labels)
    scores = {**{name: -x[:, i] for i, name in enumerate(TRAITS)}, "both": both}
    drawn = logistic.fit(x, labels).scores((np.log(query + 1e-9) - mean) / deviation)
    return {
        "auc": {name: logistic.auc(values, labels) for name, values in scores.items()},
        "accuracy": logistic.accuracy(both, labels),
        "roc": {name: [part.tolist() for part in logistic.roc(values, labels)] for name, values in scores.items()},
        "drawn": (1 / (1 + np.exp(-drawn))).tolist(),
    }


def check_groups(groups: Mapping[str, Sequence[Result]]) -> None:
    """Check that the results of all groups were made in one way.

    Raises:
        CodeFileError: they were not.
    """
    (first, one), *others = groups.items()
    for name, other in others:
        try:
            check_alike([one[0], other[0]])
        except CodeFileError as e:
            raise CodeFileError(f"{first} and {name}: {e}") from None
