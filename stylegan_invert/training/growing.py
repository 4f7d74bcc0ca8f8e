"""Growing: the weights of a StyleGAN2 network at a larger resolution, from those at a smaller one.

Both networks get a new block for each doubling, and begin as what they were. The grown generator makes the old picture,
enlarged by its own upsampling filter. The grown discriminator reduces its picture, and judges it as it did before. Both
hold exactly, because the weights of the new blocks say so: no layer has to be faded in, and the file is an official one.
"""

import math
from collections.abc import Mapping

import torch

from ..networks.discriminators import Discriminator
from ..networks.stylegan2 import Generator
from ..ops import ACTIVATIONS

SIDE, CENTRE = -0.5, 2.0
"""The grown discriminator reduces a picture with the low-pass filter (1, 3, 3, 1) / 8 of its blocks, along rows and columns.
With this filter alone the reduced picture is blurred. A second filter (SIDE, CENTRE, SIDE) sharpens it: together they are
(-1, 1, 8, 8, 1, -1) / 16. With these values the discriminator of ``cats32-de``, grown to 64x64, says of held-out cats nearly
what the old one says of the same cats reduced by a Lanczos filter: the correlation of v is 0.998, and 0.967 with (0, 1, 0).
"""

Tensors = Mapping[str, torch.Tensor]


def grown_generator(fresh: Generator, old: Tensors, resolution: int) -> dict[str, torch.Tensor]:
    """The weights of a generator whose pictures are those of a smaller one, enlarged.

    The architecture is "skip": each block adds its own picture to the enlarged one of the block before. The layers of the
    new blocks stay as they are in ``fresh``, but the weights of their pictures are zero.

    Args:
        fresh: a generator of the larger resolution, before training.
        old: the tensors of the smaller generator.
        resolution: the side of its pictures.

    Returns:
        All tensors for ``fresh``.

    Raises:
        ValueError: it has another architecture.
    """
    _check_architecture(fresh.synthesis.b4, "generator", "skip")
    tensors = {**fresh.state_dict(), **old}
    for res in fresh.synthesis.block_resolutions:
        if res > resolution:
            for name in ("weight", "bias"):
                name = f"synthesis.b{res}.torgb.{name}"
                tensors[name] = torch.zeros_like(tensors[name])
    return tensors


def grown_discriminator(fresh: Discriminator, old: Tensors, resolution: int) -> dict[str, torch.Tensor]:
    """The weights of a discriminator that reduces a picture and judges it as a smaller one does.

    The architecture is "resnet". See `_reducing_block` for the new blocks.

    Args:
        fresh: a discriminator of the larger resolution, before training.
        old: the tensors of the smaller discriminator.
        resolution: the side of its pictures.

    Returns:
        All tensors for ``fresh``.

    Raises:
        ValueError: it has another architecture, or a new block has too few channels to carry the picture.
    """
    block = getattr(fresh, f"b{fresh.img_resolution}")
    _check_architecture(block, "discriminator", "resnet")
    if block.conv0.activation != "lrelu":
        raise ValueError(
            f"its discriminator has the activation {block.conv0.activation}; only lrelu can carry the picture"
        )
    tensors = {**fresh.state_dict(), **old}
    while resolution < fresh.img_resolution:
        first = f"b{resolution}.fromrgb"
        weight, bias = tensors.pop(f"{first}.weight"), tensors.pop(f"{first}.bias")
        resolution *= 2
        tensors |= _reducing_block(fresh, resolution, weight, bias)
    return {name: tensors[name] for name in fresh.state_dict()}


def _check_architecture(block: torch.nn.Module, what: str, expected: str) -> None:
    if block.architecture != expected:
        raise ValueError(
            f"its {what} has the architecture {block.architecture!r}; only {expected!r} can begin as what it was"
        )


def _reducing_block(
    fresh: Discriminator, resolution: int, weight: torch.Tensor, bias: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The tensors of a block that gives what the layer ``fromrgb`` of a smaller network gives for the reduced picture.

    Each channel x of the picture passes the two layers before the reduction as a pair lrelu(x), lrelu(-x), whose
    difference is 1.2 x. The layer that reduces then has the weights of the old ``fromrgb``. The other channels begin with
    random weights, as in ``fresh``. What reads them is zero, as is the linear path beside these layers; both learn from
    the first step on.

    Args:
        fresh: the larger discriminator, before training.
        resolution: that of the block.
        weight: of the old ``fromrgb``, (out, C, 1, 1).
        bias: of the old ``fromrgb``, (out,).
    """
    block, name = getattr(fresh, f"b{resolution}"), f"b{resolution}"
    width, rgb = block.conv0.in_channels, fresh.img_channels
    if width < 2 * rgb:
        raise ValueError(
            f"the discriminator's new block at {resolution}x{resolution} has {width} channels; expected at least "
            f"{2 * rgb}, which carry the picture. Choose a larger --channel-base"
        )
    pairs = torch.kron(torch.eye(rgb), torch.tensor([[1.0], [-1.0]]))  # (2 C, C): x and -x
    apart = pairs.t() / (1.2 * ACTIVATIONS["lrelu"].gain)  # (C, 2 C): x from what a layer makes of x and -x
    sharpen = torch.tensor([SIDE, CENTRE, SIDE])

    # Layers multiply their weights by a gain when they are used, so the weights are divided by it here. Only the first
    # block of a network has ``fromrgb``; that of a block in between is taken over by the next larger one.
    fromrgb = torch.randn([width, rgb, 1, 1])
    fromrgb[: 2 * rgb] = pairs[:, :, None, None] * math.sqrt(rgb)
    conv0 = block.conv0.weight.detach().clone()
    conv0[: 2 * rgb] = 0
    conv0[: 2 * rgb, : 2 * rgb, 1, 1] = pairs @ apart / block.conv0.weight_gain
    # The block divides its sum of two paths by the root of two, and this is the only one that is not zero.
    reducing = torch.einsum("oc,cp,h,w->ophw", weight[:, :, 0, 0] / math.sqrt(rgb), apart, sharpen, sharpen)
    conv1 = torch.zeros_like(block.conv1.weight)
    conv1[:, : 2 * rgb] = reducing * math.sqrt(2) / block.conv1.weight_gain
    return {
        f"{name}.fromrgb.weight": fromrgb,
        f"{name}.fromrgb.bias": torch.zeros([width]),
        f"{name}.conv0.weight": conv0,
        f"{name}.conv0.bias": torch.zeros([width]),
        f"{name}.conv1.weight": conv1,
        f"{name}.conv1.bias": bias * math.sqrt(2),
        f"{name}.skip.weight": torch.zeros_like(block.skip.weight),
    }
