"""The objective for the targets of one pass. Only this file compares rendered outputs with targets."""

from collections.abc import Callable
from typing import Any

import torch

from stylegan_invert.generator import Code, GeneratorAdapter
from stylegan_invert.losses import Distance

Observation = Callable[[torch.Tensor], torch.Tensor]


class Objective:
    """distance(target, observe(render(code))), one number per row of a code.

    Args:
        generator: renders codes.
        distance: compares outputs with targets.
        target: (N, ...) float32 in [-1, 1], in the shape of the generator's outputs.
        observe: a function that is applied to outputs and targets before they are compared, as blurring or masking;
            None compares them as they are. It maps (M, ...) to (M, ...), row by row, and has gradients.
        prepared: the result of ``distance.prepare`` for the target, if it was computed before; ``target`` is then not
            read.
    """

    def __init__(
        self,
        generator: GeneratorAdapter,
        distance: Distance,
        target: torch.Tensor | None,
        observe: Observation | None = None,
        prepared: Any = None,
    ):
        self.generator, self.distance, self.observe = generator, distance, observe
        if prepared is None:
            prepared = distance.prepare(target if observe is None else observe(target))
        self.prepared = prepared
        self.evaluations = [0]  # rows whose distance and gradient were asked for; parts count together

    def __call__(self, code: Code) -> torch.Tensor:
        """The distances (M,) of M codes, which stand in the order of the targets."""
        output = self.generator.render(code)
        if torch.is_grad_enabled():
            self.evaluations[0] += len(output)
        return self.distance(self.prepared, output if self.observe is None else self.observe(output))

    def part(self, rows: slice) -> "Objective":
        """The objective of some of the rows."""
        return self._with(map_prepared(self.prepared, lambda x: x[rows]))

    def repeated(self, times: int) -> "Objective":
        """The objective of several codes per target; those of one target lie side by side."""
        return (
            self if times == 1 else self._with(map_prepared(self.prepared, lambda x: x.repeat_interleave(times, dim=0)))
        )

    def _with(self, prepared: Any) -> "Objective":
        other = Objective(self.generator, self.distance, None, self.observe, prepared)
        other.evaluations = self.evaluations
        return other


def map_prepared(prepared: Any, function: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """A function applied to every tensor in what `Distance.prepare` returned: a tensor, or nested lists of them."""
    if isinstance(prepared, torch.Tensor):
        return function(prepared)
    return [map_prepared(part, function) for part in prepared]
