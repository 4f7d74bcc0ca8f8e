"""What the shipped classifier of spoken digits says of sounds: classes, features, inception scores, distances of sets."""

from collections.abc import Iterable
from typing import NamedTuple

import torch

from ..losses.digits import digit_classifier, levels
from .distribution import frechet_distance, kid

BATCH = 100


class Judgement(NamedTuple):
    """What the classifier says of N sounds.

    Attributes:
        features: (N, 96) float64, from which the classes are computed.
        probabilities: (N, 10) float64, of the digits 0 to 9.
    """

    features: torch.Tensor
    probabilities: torch.Tensor

    @property
    def digits(self) -> torch.Tensor:
        """The most likely digits (N,)."""
        return self.probabilities.argmax(dim=1)


def judge(sounds: torch.Tensor | Iterable[torch.Tensor], rate: int) -> Judgement:
    """The classifier's judgement.

    Args:
        sounds: (N, 1, T) float32 in [-1, 1], or several such batches.
        rate: their samples per second.
    """
    network, features = digit_classifier(), []
    batches = sounds.split(BATCH) if isinstance(sounds, torch.Tensor) else sounds
    with torch.no_grad():
        for batch in batches:
            features.append(network.pooled(network.maps(levels(batch.cpu(), rate))[-1]))
        probabilities = network.out(torch.cat(features)).double().softmax(dim=1)
    return Judgement(torch.cat(features).double(), probabilities)


def inception_score(probabilities: torch.Tensor, splits: int = 1) -> tuple[float, float]:
    """The inception score of sounds, and its standard deviation over parts of them.

    It is the exponential of the mean Kullback-Leibler divergence of each sound's classes from those of all: 1 if all sounds are
    judged alike, and the number of classes if each is judged with certainty and all classes are equally frequent.

    Args:
        probabilities: (N, classes), of each sound, in random order.
        splits: the parts of equal size for which it is computed; their mean is returned.

    Source: Salimans et al., "Improved techniques for training GANs" (2016), section 4.
    """
    scores = []
    for p in probabilities.double().tensor_split(splits):
        p = p.clamp(min=1e-30)
        scores.append(float((p * (p.log() - p.mean(dim=0).log())).sum(dim=1).mean().exp()))
    values = torch.tensor(scores, dtype=torch.float64)
    return float(values.mean()), float(values.std(unbiased=False))


def set_measures(real: Judgement, generated: Judgement) -> dict[str, float]:
    """How generated sounds compare with real ones, as sets.

    Returns:
        "digit_confidence": the mean probability of the most likely digit of a generated sound. "digit_entropy": how evenly the
        generated sounds are spread over the digits, from 0 (one digit) to 1 (all alike). "inception_score" of the generated
        sounds. "frechet_digits" and "kid_digits": the Fréchet and the kernel distance of the classifier's features.
    """
    shares = generated.digits.bincount(minlength=10).double() / len(generated.digits)
    entropy = -(shares * shares.clamp(min=1e-30).log()).sum() / torch.tensor(10.0, dtype=torch.float64).log()
    return {
        "digit_confidence": float(generated.probabilities.amax(dim=1).mean()),
        "digit_entropy": float(entropy),
        "inception_score": inception_score(generated.probabilities)[0],
        "frechet_digits": frechet_distance(real.features, generated.features),
        "kid_digits": kid(real.features, generated.features)[0],
    }
