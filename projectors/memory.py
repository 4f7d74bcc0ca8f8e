"""How many targets fit into a GPU's memory side by side."""

from dataclasses import dataclass

import torch

from stylegan_invert.generator import Code, GeneratorAdapter, joined
from stylegan_invert.losses import Distance

SPARE = 0.9  # of what is free: the rest is for what fragments, and for others


@dataclass(frozen=True)
class Memory:
    """Bytes of a GPU that a step takes: ``fixed``, and ``per_target``."""

    fixed: int
    per_target: int

    def fitting(self, free: int) -> int:
        """The most targets for which ``free`` bytes are enough; at least one."""
        return max(1, int((free * SPARE - self.fixed) // self.per_target))


def measure(generator: GeneratorAdapter, loss: Distance, target: torch.Tensor, code: Code) -> Memory:
    """What one step takes on the generator's GPU, from the peaks of steps with one and with two targets.

    Args:
        target: (1, C, H, W) float32 in [-1, 1]. code: N = 1, in any space.
    """
    peaks = [_peak(generator, loss, target, code, count) for count in (1, 1, 2)]  # the first one loads libraries
    per_target = max(1, peaks[2] - peaks[1])
    return Memory(max(0, peaks[1] - per_target), per_target)


def free(device: torch.device) -> int:
    """Bytes of a GPU that this process can still take: those of nobody, and those that torch holds in reserve."""
    reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + reserve


def _peak(generator: GeneratorAdapter, loss: Distance, target: torch.Tensor, code: Code, count: int) -> int:
    torch.cuda.synchronize(generator.device)
    before = torch.cuda.memory_allocated(generator.device)
    torch.cuda.reset_peak_memory_stats(generator.device)
    several = joined([code] * count)
    leaves = {key: value.detach().clone().requires_grad_(True) for key, value in several.tensors.items()}
    prepared = loss.prepare(target.expand(count, -1, -1, -1))
    loss(prepared, generator.render(Code(code.space, leaves, several.c))).sum().backward()
    torch.cuda.synchronize(generator.device)
    return torch.cuda.max_memory_allocated(generator.device) - before
