"""The objective for the targets of one pass. Only this file compares rendered outputs with targets."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch

from stylegan_invert.generator import Code, GeneratorAdapter
from stylegan_invert.losses import Distance

from .gradient_scale import GradientScale, computes_in_half


class Objective:
    """distance(target, observe(render(code))), one number per row of a code.

    Args:
        generator: renders codes.
        distance: compares outputs with targets.
        target: (N, ...) float32 in [-1, 1], in the shape of what is observed of outputs.
        observe: is applied to outputs before they are compared, as blurring or masking, usually an
            `observations.Observation`; None compares them as they are. It maps (M, ...) to (M, ...), row by row, and has
            gradients.
    """

    def __init__(
        self,
        generator: GeneratorAdapter,
        distance: Distance,
        target: torch.Tensor,
        observe: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ):
        self.generator, self.distance, self.observe = generator, distance, observe
        self.prepared = distance.prepare(target)
        self.targets: Sequence[int] = range(len(target))  # that of each row
        self.evaluations = [0] * len(self.targets)  # of each target: how often its distance and gradient were asked for
        self.in_half = computes_in_half(generator)

    def __call__(self, code: Code) -> torch.Tensor:
        """The distances (M,) of M codes, which stand in the order of the targets."""
        if torch.is_grad_enabled():
            for target in self.targets:
                self.evaluations[target] += 1
        if self.in_half and torch.is_grad_enabled():
            scale = GradientScale()
            output = scale.leave(self.generator.render(scale.enter(code)))
        else:
            output = self.generator.render(code)
        return self.distance(self.prepared, output if self.observe is None else self.observe(output))

    def part(self, rows: Sequence[int]) -> "Objective":
        """The objective of some of the rows."""
        return self._with(map_prepared(self.prepared, lambda x: x[rows]), [self.targets[row] for row in rows])

    def repeated(self, times: int) -> "Objective":
        """The objective of several codes per target; those of one target lie side by side."""
        if times == 1:
            return self
        prepared = map_prepared(self.prepared, lambda x: x.repeat_interleave(times, dim=0))
        return self._with(prepared, [target for target in self.targets for _ in range(times)])

    def _with(self, prepared: Any, targets: Sequence[int]) -> "Objective":
        other = copy.copy(self)
        other.prepared, other.targets = prepared, targets
        return other


def map_prepared(prepared: Any, function: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """A function applied to every tensor in what `Distance.prepare` returned: a tensor, or nested lists of them."""
    if isinstance(prepared, torch.Tensor):
        return function(prepared)
    return [map_prepared(part, function) for part in prepared]
