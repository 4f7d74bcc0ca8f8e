"""How many codes fit into a GPU's memory side by side."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from stylegan_invert.generator import Code, GeneratorAdapter, joined
from stylegan_invert.losses import Distance

from .objective import Objective

USED = 0.9  # share of the free memory that is used; the rest is left for fragmentation and for other processes


@dataclass(frozen=True)
class Memory:
    """The bytes of GPU memory that a step takes.

    Attributes:
        fixed: the part that does not depend on the number of codes.
        per_target: the part for each code.
    """

    fixed: int
    per_target: int

    def fitting(self, free: int) -> int:
        """The most codes for which ``free`` bytes are enough; at least one."""
        return max(1, int((free * USED - self.fixed) // self.per_target))


def measure(
    generator: GeneratorAdapter,
    distance: Distance,
    target: torch.Tensor,
    code: Code,
    observe: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Memory:
    """The memory of one step on the generator's GPU, from the peaks of steps with one and with two codes.

    Args:
        generator: a generator on a CUDA device.
        distance: compares outputs with targets.
        target: (1, ...) float32 in [-1, 1].
        code: a code (N = 1) in any space.
        observe: as for `Objective`.
    """
    peaks = [
        _peak(generator, distance, target, code, count, observe) for count in (1, 1, 2)
    ]  # the first one loads libraries
    per_target = max(1, peaks[2] - peaks[1])
    return Memory(max(0, peaks[1] - per_target), per_target)


def free(device: torch.device) -> int:
    """The bytes of GPU memory that this process can still take: unused ones, and those that torch holds in reserve."""
    reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + reserve


def _peak(
    generator: GeneratorAdapter,
    distance: Distance,
    target: torch.Tensor,
    code: Code,
    count: int,
    observe: Callable[[torch.Tensor], torch.Tensor] | None,
) -> int:
    torch.cuda.synchronize(generator.device)
    before = torch.cuda.memory_allocated(generator.device)
    torch.cuda.reset_peak_memory_stats(generator.device)
    several = joined([code] * count)
    leaves = {key: value.detach().clone().requires_grad_(True) for key, value in several.tensors.items()}
    objective = Objective(generator, distance, target.expand(count, *target.shape[1:]), observe)
    objective(Code(code.space, leaves, several.c)).sum().backward()
    torch.cuda.synchronize(generator.device)
    return torch.cuda.max_memory_allocated(generator.device) - before
