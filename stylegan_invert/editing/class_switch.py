"""Another class for inverted pictures and sequences of frames, and how much a sequence flickers.

Pividori et al., "Exploiting GAN Internal Capacity for High-Quality Reconstruction of Natural Images", Figure 12.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..analysis.paths import underlying
from ..generator import FEATURES, Code, GeneratorAdapter, base_code, class_label
from ..losses import SqueezeLPIPS, picture_metrics

MOST_FLICKER = 1.3  # times that of the reconstruction, with which a switched sequence counts as steady


def switched(generator: GeneratorAdapter, code: Code, class_idx: int) -> Code:
    """The same latents and displacement with another class: G1(z*, new class) + delta* at a layer.

    In a BigGAN the first dense layer does not depend on the class, so that its output stays. In networks where it does, as in a
    BigGAN-deep or a DCGAN with labels, the displacement stays.

    Args:
        generator: the network's adapter.
        code: codes (N) in z, or at a layer.
        class_idx: the new class.

    Raises:
        ValueError: the network has no such class, or its codes have their class in w.
    """
    if generator.base != "z":
        raise ValueError(
            "this network's w is made of z and the class, so a code in w has no class that could be switched"
        )
    c = class_label(generator, class_idx)
    c = None if c is None else c.to(generator.device).expand(len(code), -1)
    if not code.space.startswith(FEATURES):
        return Code(code.space, code.tensors, c)
    delta = code.tensors["h"] - underlying(generator, code).tensors["h"]
    latent = base_code(generator, code)
    h = generator.convert(Code(latent.space, latent.tensors, c), code.space).tensors["h"]
    return Code(code.space, {**code.tensors, "h": h + delta}, c)


def frame_distance(pictures: Sequence[np.ndarray], lpips: SqueezeLPIPS) -> dict[str, float]:
    """The mean distance of each picture of a sequence and the one before.

    Args:
        pictures: (C, H, W) uint8, at least two.
        lpips: the perceptual distance.

    Returns:
        "pixels", the root of the mean squared difference on the scale [0, 1]; and "lpips", if the pictures are large enough.
    """
    pairs = list(zip(pictures[1:], pictures))
    pixels = [np.sqrt(np.square((a.astype(float) - b) / 255).mean()) for a, b in pairs]
    result = {"pixels": float(np.mean(pixels))}
    with torch.no_grad():
        rows = [picture_metrics(torch.from_numpy(a), torch.from_numpy(b), {"lpips": lpips})["lpips"] for a, b in pairs]
    found = [row for row in rows if row is not None]
    if len(found) == len(rows):
        result["lpips"] = float(np.mean(found))
    return result


def flicker(reconstruction: dict[str, float], other: dict[str, float]) -> dict[str, Any]:
    """How much another sequence changes from frame to frame, beside the reconstruction.

    Args:
        reconstruction: `frame_distance` of the reconstructed frames.
        other: that of the other sequence.

    Returns:
        The distances of ``other``; "ratio", each divided by that of the reconstruction (None if that is zero, 1 if both are);
        and "steady", True if every ratio is at most `MOST_FLICKER`.
    """
    ratio = {
        key: other[key] / value if value else (1.0 if not other[key] else None) for key, value in reconstruction.items()
    }
    steady = all(value is not None and value <= MOST_FLICKER for value in ratio.values())
    return {**other, "ratio": ratio, "steady": steady}
