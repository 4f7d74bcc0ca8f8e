"""The settings of CUDA's libraries in a training."""

import contextlib

import torch

from ..ops.precision import full_precision


def training_settings(device: torch.device | str) -> contextlib.AbstractContextManager[None]:
    """Compute float32 in full precision on CUDA, and let cuDNN choose its algorithms by measuring them.

    Official training switches TF32 off, and ``torch.backends.cudnn.benchmark`` on. The settings are put back when the block
    ends. On other devices nothing is changed.

    Source: ``training/training_loop.py`` of stylegan2-ada-pytorch, with its defaults.
    """
    return full_precision(device, [(torch.backends.cudnn, "benchmark", True)])
