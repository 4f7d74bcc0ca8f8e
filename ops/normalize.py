"""Second-moment ("pixel") normalisation."""

from typing import Any

import torch

from . import native


def normalize_2nd_moment(x: torch.Tensor, dim: int = 1, eps: float = 1e-8) -> torch.Tensor:
    """Scale ``x`` so that the mean of its squares along ``dim`` is one.

    Args:
        x: floating tensor of any shape.
        dim: the axis along which the mean is taken. The native form is for 1; others run in the reference form.
        eps: added to the mean square before the root.

    Returns:
        Tensor of the shape and dtype of ``x``.

    Source: Karras et al., "Progressive Growing of GANs", section 4.2; StyleGAN2 has it in front of its mapping network.
    """
    if dim == 1 and x.ndim >= 2 and x.numel() and native.is_native(x):
        return _pixel_norm(x, eps)
    return reference(x, dim, eps)


def reference(x: torch.Tensor, dim: int, eps: float) -> torch.Tensor:
    """`normalize_2nd_moment` in torch's own operations."""
    return x * (x.square().mean(dim=dim, keepdim=True) + eps).rsqrt()


# --------------------------------------------------------------------------------------------------------------- native


def _run(x: torch.Tensor, g: torch.Tensor | None, eps: float) -> torch.Tensor:
    x, shape = native.layout(x)
    g = None if g is None else g.contiguous(memory_format=native.memory_format(shape[3]))
    y = torch.empty_like(x)
    if x.numel():
        native.run("pixel_norm", x, x, g, y, *shape, eps)
    return y


def _forward(x: torch.Tensor, eps: float) -> torch.Tensor:
    return _run(x, None, eps)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, ctx.eps = inputs
    ctx.save_for_backward(x)


def _first(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    return _pixel_norm_backward(g, *ctx.saved_tensors, ctx.eps), None


def _backward(g: torch.Tensor, x: torch.Tensor, eps: float) -> torch.Tensor:
    return _run(x, g, eps)


def _keep_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    g, x, ctx.eps = inputs
    ctx.save_for_backward(g, x)


def _second(ctx: Any, v: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    # With r = rsqrt(mean x^2 + eps) the first gradient is r g - r^3 x mean(g x). It is linear in g by a symmetric matrix, so its
    # gradient for g is the same operation. The gradient for x is written in torch's own operations, which have further derivatives.
    g, x = ctx.saved_tensors
    r = (x.square().mean(dim=1, keepdim=True) + ctx.eps).rsqrt()
    gx, vx, gv = ((a * b).mean(dim=1, keepdim=True) for a, b in ((g, x), (v, x), (g, v)))
    dx = -r.pow(3) * (x * gv + v * gx + g * vx) + 3 * r.pow(5) * x * gx * vx
    return _pixel_norm_backward(v, x, ctx.eps), dx, None


def _fake(x: torch.Tensor, eps: float) -> torch.Tensor:
    return torch.empty_like(native.layout(x)[0])


def _fake_backward(g: torch.Tensor, x: torch.Tensor, eps: float) -> torch.Tensor:
    return _fake(x, eps)


_pixel_norm = native.operation("pixel_norm", _forward, _fake, _first, _keep)
_pixel_norm_backward = native.operation("pixel_norm_backward", _backward, _fake_backward, _second, _keep_backward)
