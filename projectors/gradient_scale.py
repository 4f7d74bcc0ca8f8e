"""Gradients of networks that compute in half precision, scaled so that they do not become zero on the way."""

from typing import Any

import torch

from stylegan_invert.generator import Code, GeneratorAdapter

EXPONENT = -8  # of two: the largest slope of an output in the range [2^-9, 2^-8), as the network is given it
MOST = 60  # the largest exponent of a scale; a smaller slope than 2^-68 stays as small


class GradientScale:
    """Multiplies the slopes at outputs by a power of two, and divides the gradients of codes by it.

    A mean over the pixels of a picture of 1024x1024 has slopes of about 1e-7, and float16 has no normal number below 6e-5. The
    scale brings the largest slope of each output near 2^-8. That leaves room for the sums over all pixels which a network's
    backward pass computes, since float16 ends at 65504. A power of two changes no digit of a number, so in float32 the
    gradients are the same with the scale and without it. Nothing is read from the device.

    The scale is of each row, so rows do not depend on their neighbours. One object serves one evaluation: `enter`, then
    the network, then `leave`, and one backward pass.
    """

    def __init__(self) -> None:
        self.exponent: torch.Tensor | None = None  # (M,) int32, known once the backward pass has begun

    def enter(self, code: Code) -> Code:
        """The same code (M). Gradients that pass here are divided by the scale."""
        tensors = {
            name: _Unscale.apply(value, self) if value.requires_grad else value for name, value in code.tensors.items()
        }
        c = _Unscale.apply(code.c, self) if code.c is not None and code.c.requires_grad else code.c
        return Code(code.space, tensors, c)

    def leave(self, output: torch.Tensor) -> torch.Tensor:
        """The same outputs (M, ...). Slopes that pass here are multiplied by the scale."""
        return _Scale.apply(output, self)


def computes_in_half(generator: GeneratorAdapter) -> bool:
    """True if a network has layers that compute in float16 where it is now; see `networks.layers.compute_format`."""
    modules = getattr(getattr(generator, "network", None), "modules", None)
    if modules is None or generator.device.type != "cuda":
        return False
    return any(getattr(module, "use_fp16", False) for module in modules())


class _Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, output: torch.Tensor, scale: GradientScale) -> torch.Tensor:
        ctx.scale = scale
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor, None]:
        largest = slope.detach().flatten(1).abs().amax(dim=1)
        found = torch.frexp(torch.where(torch.isfinite(largest) & (largest > 0), largest, 1.0)).exponent
        ctx.scale.exponent = (EXPONENT - found).clamp(-MOST, MOST)
        return _times_power(slope, ctx.scale.exponent), None


class _Unscale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, scale: GradientScale) -> torch.Tensor:
        ctx.scale = scale
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _times_power(slope, -ctx.scale.exponent), None


def _times_power(x: torch.Tensor, exponent: torch.Tensor) -> torch.Tensor:
    """Each row of x (M, ...) times two to its exponent (M,)."""
    return x * torch.ldexp(torch.ones_like(exponent, dtype=x.dtype), exponent).reshape(-1, *[1] * (x.ndim - 1))
