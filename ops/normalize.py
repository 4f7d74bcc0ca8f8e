"""Second-moment ("pixel") normalisation."""

import torch


def normalize_2nd_moment(x: torch.Tensor, dim: int = 1, eps: float = 1e-8) -> torch.Tensor:
    """Scale ``x`` so that the mean of its squares along ``dim`` is one.

    Args:
        x: floating tensor of any shape.
        dim: the axis along which the mean is taken.
        eps: added to the mean square before the root.

    Returns:
        Tensor of the shape and dtype of ``x``.

    Source: StyleGAN2, the normalisation in front of the mapping network (formats.md, section 5).
    """
    return x * (x.square().mean(dim=dim, keepdim=True) + eps).rsqrt()
