"""Assessors from files: TorchScript programs that give each picture a score, as memorability or how much it smiles."""

import os

import torch

from ..errors import NetworkFileError, printable
from ..files.door import Kind
from ..files.saved import read_saved_bytes
from ..files.torch_file import is_torchscript
from .base import as_rgb

_ASSESSOR = Kind("a TorchScript program that scores pictures (torch.jit.save)", 2**30, ValueError)


class ScriptedAssessor(torch.nn.Module):
    """An assessor in TorchScript: it takes pictures (N, 3, H, W) float32 from 0 to 1, and returns scores (N,) or (N, 1).

    The file is a program, which this class runs: see `load_assessor`.

    Raises:
        ValueError: torch cannot open the file, or the program fails or returns something else.
    """

    def __init__(self, file: str | os.PathLike):
        super().__init__()
        self.file = printable(os.fspath(file), 300)
        try:
            self.network = torch.jit.load(os.fspath(file), map_location="cpu").eval()
            for parameter in self.network.parameters():  # a ScriptModule has no requires_grad_ of its own
                parameter.requires_grad_(False)
        except Exception as e:  # a program can raise anything
            raise self._refusal("torch cannot open this TorchScript file", e) from None

    def _refusal(self, what: str, error: Exception | None = None) -> ValueError:
        line = "" if error is None else (str(error).strip().splitlines() or [type(error).__name__])[-1]
        reason = f" ({printable(line, 150)})" if line else ""
        return ValueError(f"{self.file}: {what}{reason}; expected a program from pictures (N, 3, H, W) to N scores")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The scores (N,) of images (N, C, H, W) in [-1, 1], with gradients."""
        try:
            scores = self.network((as_rgb(images).clamp(-1, 1) + 1) / 2)
        except Exception as e:
            raise self._refusal("its program failed", e) from None
        if not isinstance(scores, torch.Tensor) or tuple(scores.shape) not in ((len(images),), (len(images), 1)):
            raise self._refusal("its program returns something else than a score for each picture")
        return scores.flatten().to(torch.float32)


def load_assessor(file: str | os.PathLike, run_torchscript: bool = False) -> ScriptedAssessor:
    """An assessor from a TorchScript file.

    Args:
        file: the file.
        run_torchscript: True allows the program in the file to run. It can do what torch can, such as writing files.

    Raises:
        ValueError: there is no such file, it is no such program, or it may not be run.
    """
    name = printable(os.fspath(file), 300)
    try:
        scripted = is_torchscript(memoryview(read_saved_bytes(file, _ASSESSOR)), name)
    except NetworkFileError as e:
        raise ValueError(f"{name}: {e.reason}; expected {_ASSESSOR.words}") from None
    if not scripted:
        raise ValueError(f"{name}: it holds weights and no program; expected {_ASSESSOR.words}")
    if not run_torchscript:
        raise ValueError(
            f"{name}: it is a TorchScript program, which can write files when it is run; if you trust the file, allow it "
            "with --run-torchscript (in Python run_torchscript=True)"
        )
    return ScriptedAssessor(file)
