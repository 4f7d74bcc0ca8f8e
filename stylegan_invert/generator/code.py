"""Latent codes: named tensors and the name of the space they lie in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

NOISE = "noise."


@dataclass(frozen=True)
class Code:
    """Points of a latent space, one per output.

    Attributes:
        space: "z", "w" or "w+"; the generator's ``spaces`` lists what it has.
        tensors: name to float32 tensor (N, ...). "z" is (N, z_dim), in space "w" the tensor "w" is (N, w_dim), in
            space "w+" it is (N, num_ws, w_dim). Noise maps, where the code has its own, are under "noise." and the
            layer's name ("noise.b8.conv0"), (N, H, W); without them the network's stored maps count.
        c: one-hot labels (N, c_dim), where the network has classes and the space needs them.
    """

    space: str
    tensors: dict[str, torch.Tensor] = field(repr=False)
    c: torch.Tensor | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, index: slice) -> "Code":
        """The codes of a slice, as a `Code`."""
        return Code(
            self.space, {k: v[index] for k, v in self.tensors.items()}, None if self.c is None else self.c[index]
        )

    def __iter__(self) -> Iterator["Code"]:
        """Each code alone, as a `Code` of length one."""
        return (self[i : i + 1] for i in range(len(self)))

    @property
    def noise(self) -> dict[str, torch.Tensor]:
        """The code's own noise maps by layer name, (N, H, W); empty without any."""
        return {k.removeprefix(NOISE): v for k, v in self.tensors.items() if k.startswith(NOISE)}

    def without_noise(self) -> "Code":
        return Code(self.space, {k: v for k, v in self.tensors.items() if not k.startswith(NOISE)}, self.c)

    def to(self, device: torch.device | str) -> "Code":
        """The code on a device."""
        c = None if self.c is None else self.c.to(device)
        return Code(self.space, {k: v.to(device) for k, v in self.tensors.items()}, c)

    def detached(self) -> "Code":
        """The code without gradients; it shares memory."""
        return Code(self.space, {k: v.detach() for k, v in self.tensors.items()}, self.c)

    def detach(self) -> "Code":
        """A copy without gradients that shares no memory."""
        return Code(self.space, {k: v.detach().clone() for k, v in self.tensors.items()}, self.c)


def joined(codes: Sequence[Code]) -> Code:
    """The points of several codes in one space as one code. Tensors that not all of them have, as noise maps, are left out."""
    first = codes[0]
    keys = [k for k in first.tensors if all(k in code.tensors for code in codes)]
    c = None if first.c is None else torch.cat([code.c for code in codes])
    return Code(first.space, {k: torch.cat([code.tensors[k] for code in codes]) for k in keys}, c)
