"""Latent codes: named tensors, and the name of the latent space in which they are points."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

NOISE = "noise."  # the beginning of a noise map's name among a code's tensors


@dataclass(frozen=True)
class Code:
    """Points of a latent space, one per output.

    Attributes:
        space: a name in the generator's ``spaces`` ("z", "w", "w+", "v", "v+"), or "f:NAME" for the outputs of the
            layer NAME.
        tensors: float32 tensors (N, ...) by name.
            Space "z" has "z" (N, z_dim).
            Space "w" has "w" (N, w_dim), and space "w+" has "w" (N, num_ws, w_dim).
            Space "v" has "v" (N, w_dim), and space "v+" has "v" (N, num_ws, w_dim); see `gaussian.Gaussian.whiten`.
            Space "f:NAME" has "h" (N, C, H, W), the layer's output, and the tensors of the generator's base space.
            A code may also hold its own noise maps (N, H, W), named "noise." and the layer ("noise.b8.conv0"). A code
            without noise maps is rendered with those stored in the network.
        c: class weights (N, c_dim). One-hot for a single class, a mixture that sums to one for ``--class relaxed``.
            None if the network has no classes or the space does not need them.
        network: the hash of the network of which the code is (`GeneratorAdapter.code_sha256`), for a code that was read
            from a file that says it; else None. Codes that are computed from this one do not have it.
    """

    space: str
    tensors: dict[str, torch.Tensor] = field(repr=False)
    c: torch.Tensor | None = field(default=None, repr=False)
    network: str | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, index: slice | torch.Tensor) -> "Code":
        """The codes in a slice, or of the rows (M,) that a tensor names, as one `Code`."""
        return Code(
            self.space, {k: v[index] for k, v in self.tensors.items()}, None if self.c is None else self.c[index]
        )

    def __iter__(self) -> Iterator["Code"]:
        """Each point as a `Code` of length one."""
        return (self[i : i + 1] for i in range(len(self)))

    @property
    def noise(self) -> dict[str, torch.Tensor]:
        """The code's own noise maps (N, H, W) by layer name; empty if it has none."""
        return {k.removeprefix(NOISE): v for k, v in self.tensors.items() if k.startswith(NOISE)}

    def without_noise(self) -> "Code":
        return Code(self.space, {k: v for k, v in self.tensors.items() if not k.startswith(NOISE)}, self.c)

    def to(self, device: torch.device | str) -> "Code":
        """The code with all its tensors moved to a device."""
        c = None if self.c is None else self.c.to(device)
        return Code(self.space, {k: v.to(device) for k, v in self.tensors.items()}, c)

    def detach(self) -> "Code":
        """The code without gradients. Like torch's detach: it shares memory with this code."""
        return Code(self.space, {k: v.detach() for k, v in self.tensors.items()}, self.c)

    def detached_copy(self) -> "Code":
        """A copy of the code without gradients. It shares no memory with this code."""
        return Code(self.space, {k: v.detach().clone() for k, v in self.tensors.items()}, self.c)


def joined(codes: Sequence[Code]) -> Code:
    """Concatenate codes of one space into one code.

    Tensors that some of the codes lack, such as noise maps, are left out.
    """
    first = codes[0]
    keys = [k for k in first.tensors if all(k in code.tensors for code in codes)]
    labels = [code.c for code in codes if code.c is not None]
    c = None if first.c is None else torch.cat(labels)
    return Code(first.space, {k: torch.cat([code.tensors[k] for code in codes]) for k in keys}, c)
