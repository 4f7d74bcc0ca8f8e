"""Logistic regression with a ridge, its accuracy on held-out rows, and the area under the ROC curve."""

from typing import NamedTuple

import numpy as np

FOLDS = 5


class Classifier(NamedTuple):
    """The score of a row x is x @ weights + bias; it is positive on the side of the rows labelled True.

    Attributes:
        weights: (d,) float64.
        bias: a number.
    """

    weights: np.ndarray
    bias: float

    def scores(self, x: np.ndarray) -> np.ndarray:
        """The scores (N,) of rows (N, d)."""
        return x @ self.weights + self.bias


def fit(x: np.ndarray, labels: np.ndarray, ridge: float = 1.0) -> Classifier:
    """The classifier with the smallest sum of log(1 + exp(-margin)) over all rows, plus ridge / 2 * |weights|^2.

    Both classes weigh alike, however many rows they have.

    Args:
        x: rows (N, d).
        labels: (N,) bool, with both values.
        ridge: above 0.
    """
    import scipy.optimize

    sign = np.where(labels, 1.0, -1.0)
    share = np.where(labels, len(x) / 2 / labels.sum(), len(x) / 2 / (~labels).sum())

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (x @ parameters[:-1] + parameters[-1])
        slope = -share * sign * scipy.special.expit(-margin)
        value = (share * np.logaddexp(0, -margin)).sum() + ridge / 2 * (parameters[:-1] ** 2).sum()
        return value, np.append(slope @ x + ridge * parameters[:-1], slope.sum())

    found = scipy.optimize.minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B", options={"gtol": 1e-8})
    return Classifier(found.x[:-1], float(found.x[-1]))


def held_out_scores(x: np.ndarray, labels: np.ndarray, ridge: float = 1.0, seed: int = 0) -> np.ndarray:
    """The scores (N,) of all rows, each by a classifier that was fitted without it, in at most `FOLDS` parts of the rows.

    Args:
        x: rows (N, d).
        labels: (N,) bool, with at least two rows of each value.
        ridge: as for `fit`.
        seed: of the division into parts, in each of which both values are as frequent as in all rows.
    """
    folds = min(FOLDS, labels.sum(), (~labels).sum())
    random = np.random.RandomState(seed)
    part = np.empty(len(x), int)
    for value in (True, False):
        rows = random.permutation(np.flatnonzero(labels == value))
        part[rows] = np.arange(len(rows)) % folds
    scores = np.empty(len(x))
    for i in range(folds):
        scores[part == i] = fit(x[part != i], labels[part != i], ridge).scores(x[part == i])
    return scores


def accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """The share of rows on the right side, averaged over the two classes: 0.5 for guessing."""
    return float(((scores[labels] > 0).mean() + (scores[~labels] <= 0).mean()) / 2)


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """The area under the ROC curve: how often a row labelled True has a higher score than another; ties count half."""
    differences = scores[labels][:, None] - scores[~labels][None]
    return float((differences > 0).mean() + (differences == 0).mean() / 2)


def roc(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ROC curve: the shares of rows labelled False and True that are at or above each threshold, from (0, 0) to (1, 1)."""
    thresholds = np.append(np.inf, np.sort(np.unique(scores))[::-1])
    false, true = (np.array([(scores[side] >= t).mean() for t in thresholds]) for side in (~labels, labels))
    return false, true
