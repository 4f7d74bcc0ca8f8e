"""A direction along which an assessor's scores rise (GANalyze), and the assessor that two folders of pictures make.

Source: Goetschalckx et al., "GANalyze: Toward Visual Definitions of Cognitive Image Properties" (2019), equation 1.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from ..analysis import logistic
from ..analysis.distribution import PictureFeatures
from ..generator import Code, GeneratorAdapter
from ..generator.directions import Coordinates, Direction, moved, of_step

Assessor = Callable[[torch.Tensor], torch.Tensor]
"""From images (N, C, H, W) in [-1, 1] to scores (N,), with gradients."""

REACH = 2.0  # codes are moved by up to so many units of strength in either way while the direction is sought
MEASURED = 64  # codes on which scores are scaled before, and the direction is measured after, the training
DECAY = 0.1  # the rate falls to this share of itself in the course of the training


class PictureAssessor:
    """An assessor that tells two groups of pictures apart: logistic regression on features of the shipped SqueezeNet.

    Args:
        plus: pictures (<= 64, C, H, W) uint8 at a time, of those that score high.
        minus: those that score low.
        device: where the images that will be scored are.

    Attributes:
        held_out_accuracy: on pictures that were held out; 0.5 is guessing.

    Raises:
        ValueError: a group has fewer than two pictures.
    """

    def __init__(self, plus: Iterable[torch.Tensor], minus: Iterable[torch.Tensor], device: torch.device | str = "cpu"):
        self.features = PictureFeatures(device)
        groups = [self.features.of(group) for group in (plus, minus)]
        if min(map(len, groups)) < 2:
            raise ValueError(
                f"the groups have {len(groups[0])} and {len(groups[1])} pictures; expected at least 2 each"
            )
        rows = torch.cat(groups)
        labels = np.arange(len(rows)) < len(groups[0])
        self.mean, self.deviation = rows.mean(dim=0), rows.std(dim=0) + 1e-3
        x = ((rows - self.mean) / self.deviation).numpy()
        self.held_out_accuracy = logistic.accuracy(logistic.held_out_scores(x, labels), labels)
        weights, self.bias = logistic.fit(x, labels)
        self.weights = torch.from_numpy(weights)
        self.weights, self.mean, self.deviation = (
            t.to(device, torch.float32) for t in (self.weights, self.mean, self.deviation)
        )

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        x = (self.features.of_images(images.clamp(-1, 1)) - self.mean) / self.deviation
        return x @ self.weights + self.bias


def assessed(
    coordinates: Coordinates,
    assessor: Assessor,
    layers: Sequence[int] | None = None,
    steps: int = 200,
    batch: int = 8,
    lr: float = 0.02,
    seed: int = 0,
    name: str = "assessor",
    progress: Callable[[int], object] | None = None,
) -> tuple[Direction, dict[str, Any]]:
    """Train a direction that raises an assessor's score evenly.

    The vector u, in the network's coordinates, minimises the mean of ((A(G(x + a u)) - A(G(x))) / D - a)^2 over random codes x
    and strengths a, where D is the deviation of the scores of the network's own pictures. So a unit of strength is to raise the
    score by one deviation. Of u only the direction is kept: strength 1 is one standard deviation of the codes, as for all
    directions, and how much it raises the score is measured.

    Args:
        coordinates: those of the network.
        assessor: from pictures to scores.
        layers: the layers to move; None for all.
        steps: of Adam.
        batch: random codes for each step.
        lr: Adam's rate for the direction, whose entries begin at about 1 / sqrt(d).
        seed: of the random codes.
        name: of the direction.
        progress: called with 1 after each step.

    Returns:
        The direction, and what was measured on codes that were not trained on: "deviation", of the scores of the network's own
        pictures; "raises", how much strength 1 raises the score, in these deviations; "rising", the share of codes whose score is
        higher at strength 1 than at -1.

    Raises:
        ValueError: the assessor gives all pictures the same score, so that it has no slope.
    """
    generator, random = coordinates.generator, torch.Generator().manual_seed(seed)
    held_out = coordinates.drawn(MEASURED, seed + 1_000_003)
    before = _scores(generator, assessor, held_out)
    deviation = float(before.std())
    if not deviation > 1e-9:
        raise ValueError("the assessor gives all pictures of this network the same score, so nothing raises it")
    u = (
        torch.randn([coordinates.dimensions], generator=random).to(generator.device)
        * 0.01
        / coordinates.dimensions**0.5
    )
    u.requires_grad_(True)
    optimizer = torch.optim.Adam([u], lr=lr, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - (1 - DECAY) * step / max(steps, 1))
    for _ in range(steps):
        codes = coordinates.drawn(batch, int(torch.randint(2**31, [1], generator=random)))
        strengths = (torch.rand([batch], generator=random) * 2 - 1).to(generator.device) * REACH
        with torch.no_grad():
            base = assessor(generator.render(codes))
        rise = (assessor(generator.render(_shifted(coordinates, codes, u, strengths, layers))) - base) / deviation
        loss = (rise - strengths).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if u.grad is None or not torch.isfinite(u.grad).all():
            raise ValueError("the assessor has no slope, so no direction can be found along it")
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(1)
    unit = u.detach() / u.detach().norm().clamp_min(1e-30)
    made = {"way": "assessor", "steps": steps, "batch": batch}
    direction = of_step(name, coordinates.space, coordinates.step(unit), generator, made, layers)
    up, down = (_scores(generator, assessor, moved(generator, held_out, direction, a)) for a in (1, -1))
    measured = {
        "deviation": deviation,
        "raises": float((up - down).mean() / 2 / deviation),
        "rising": float((up > down).float().mean()),
    }
    return Direction(**{**vars(direction), "made": {**made, **measured}}), measured


def _shifted(
    coordinates: Coordinates, code: Code, u: torch.Tensor, strengths: torch.Tensor, layers: Sequence[int] | None
) -> Code:
    """Random codes (N), each moved along u (d,) by its own strength (N,), with gradients."""
    (key,) = code.tensors
    x = coordinates.of(code)[:, 0].to(torch.float32) + strengths[:, None] * u  # (N, d)
    if coordinates.space == "v":
        latent = coordinates.gaussian.unwhiten(x)
    else:
        latent = x * coordinates.deviation + coordinates.mean
    if layers is None or key == "z":
        return Code(code.space, {key: latent}, code.c)
    w = coordinates.generator.convert(code, "w+").tensors["w"].clone()
    w[:, list(layers)] = latent[:, None]
    return Code("w+", {"w": w}, code.c)


def _scores(generator: GeneratorAdapter, assessor: Assessor, code: Code) -> torch.Tensor:
    """The scores (N,) of codes, a few at a time."""
    parts = [code[first : first + 8] for first in range(0, len(code), 8)]
    with torch.no_grad():
        return torch.cat([assessor(generator.render(part)) for part in parts])
