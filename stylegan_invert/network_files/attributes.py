"""Modules of other projects in memory, read by their attributes. Nothing of a module is called here."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


class LiveTensor:
    """A tensor of a module in memory, with the interface of `TensorRecord`.

    Args:
        tensor: a parameter or buffer. It is not changed.
    """

    def __init__(self, tensor: torch.Tensor):
        self.tensor = tensor.detach()
        self.shape, self.dtype, self.nbytes = tuple(tensor.shape), tensor.dtype, tensor.nbytes
        self.numel = tensor.numel()

    def to_tensor(self) -> torch.Tensor:
        """A contiguous copy on the CPU."""
        return self.tensor.to("cpu", copy=True).contiguous()

    def to_float32(self) -> torch.Tensor:
        """A contiguous float32 copy on the CPU."""
        return self.tensor.to("cpu", torch.float32, copy=True).contiguous()


def live_tensors(module: torch.nn.Module, prefix: str = "") -> dict[str, LiveTensor]:
    """The tensors of a module by the names of its state dict, read from its attributes; nothing of it is called."""
    state = vars(module)
    left_out = state.get("_non_persistent_buffers_set", ())
    buffers = {k: v for k, v in state.get("_buffers", {}).items() if k not in left_out}
    own = {**state.get("_parameters", {}), **buffers}
    tensors = {prefix + name: LiveTensor(value) for name, value in own.items() if value is not None}
    for name, part in state.get("_modules", {}).items():
        tensors |= {} if part is None else live_tensors(part, f"{prefix}{name}.")
    return tensors


def live_value(value: Any) -> Any:
    """A value of a module in memory as a file would give it: plain, and a text that names the type for all else."""
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
        return tuple(value) if isinstance(value, list) else value
    if isinstance(value, Mapping):
        return {k: live_value(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        values = map(live_value, value)
        return list(values) if isinstance(value, list) else tuple(values)
    return value if value is None or isinstance(value, (bool, int, float, str)) else f"<{type(value).__name__}>"
