"""Differentiable augmentation of the pictures that the discriminator sees.

The source is Karras et al., "Training Generative Adversarial Networks with Limited Data", section 2 and appendix B. Of its
transforms the "bgc" set is here: x-flips, rotations by 90 degrees and shifts by whole pixels; scaling, rotation, stretching
and shifts by fractions; brightness, contrast, luma flip (mirrors brightness), hue and saturation. The geometric ones
are carried out as one bilinear resampling with mirrored edges, without the paper's wavelet filter. Filters, noise and
cut-outs are left out.
"""

import functools
import math

import torch
import torch.nn.functional as F

SCALE_STD = 0.2  # standard deviation of log2 of the scale, and of log2 of the stretching
SHIFT_STD = 0.125  # standard deviation of shifts by fractions, as a share of the picture's side
WHOLE_SHIFT = 0.125  # the largest shift by whole pixels, as a share of the picture's side
BRIGHTNESS_STD = 0.2  # standard deviation of the added brightness
CONTRAST_STD = 0.5  # standard deviation of log2 of the contrast
SATURATION_STD = 1.0  # standard deviation of log2 of the saturation


class AugmentPipe(torch.nn.Module):
    """Applies each transform to each picture with a probability.

    Args:
        p: the probability at the start. The buffer ``p`` may be changed at any time.
    """

    def __init__(self, p: float = 0):
        super().__init__()
        self.register_buffer("p", torch.tensor(float(p)))

    def forward(self, img: torch.Tensor) -> torch.Tensor:
        """Augmented pictures, differentiable twice. Random numbers come from torch's global generator.

        Args:
            img: pictures (N, C, R, R) in [-1, 1]; C is 1, 3 or 4.
        """
        n, c, side, _ = img.shape
        p = self.p.to(torch.float32)
        inverse = geometry(n, side, p)
        grid = F.affine_grid(inverse[:, :2], [n, c, side, side], align_corners=False)
        img = _Resample.apply(img.to(torch.float32), grid)
        colour = colours(n, p)
        if c == 1:
            # A grey picture is one whose R, G and B are equal, so their weights add up. The new grey value is the mean of
            # the transformed R, G and B.
            row = colour[:, :3].mean(dim=1)
            return img * row[:, :3].sum(dim=1)[:, None, None, None] + row[:, 3][:, None, None, None]
        rgb = torch.einsum("nij,njhw->nihw", colour[:, :3, :3], img[:, :3]) + colour[:, :3, 3, None, None]
        return rgb if c == 3 else torch.cat([rgb, img[:, 3:]], dim=1)


def geometry(n: int, side: int, p: torch.Tensor) -> torch.Tensor:
    """Random matrices (n, 3, 3) that take coordinates in [-1, 1] of the new picture to those of the old one.

    Args:
        n: the number of pictures.
        side: the side of the pictures in pixels.
        p: the probability of each transform.
    """
    device = p.device
    m = torch.eye(3, device=device).repeat(n, 1, 1)

    def applied_sometimes(value: torch.Tensor, identity: float, probability: torch.Tensor = p) -> torch.Tensor:
        return torch.where(torch.rand(n, device=device) < probability, value, torch.full_like(value, identity))

    def normal(std: float) -> torch.Tensor:
        return torch.randn(n, device=device) * std

    flip = 1 - 2 * applied_sometimes(torch.randint(2, [n], device=device).float(), 0)
    m = m @ _stretch(flip, torch.ones_like(flip))
    quarter = applied_sometimes(torch.randint(4, [n], device=device).float(), 0)
    m = m @ _rotation(quarter * (math.pi / 2))
    whole = [applied_sometimes((torch.rand(n, device=device) * 2 - 1) * WHOLE_SHIFT, 0) for _ in range(2)]
    m = m @ _shift(*(torch.round(s * side) / side for s in whole))
    scale = applied_sometimes(torch.exp2(normal(SCALE_STD)), 1)
    m = m @ _stretch(scale, scale)
    # Two rotations with a stretching in between. The probability that there is at least one rotation is p.
    rotate = 1 - (1 - p.clamp(0, 1)).sqrt()
    m = m @ _rotation(applied_sometimes((torch.rand(n, device=device) * 2 - 1) * math.pi, 0, rotate))
    stretch = applied_sometimes(torch.exp2(normal(SCALE_STD)), 1)
    m = m @ _stretch(stretch, 1 / stretch)
    m = m @ _rotation(applied_sometimes((torch.rand(n, device=device) * 2 - 1) * math.pi, 0, rotate))
    return m @ _shift(applied_sometimes(normal(SHIFT_STD), 0), applied_sometimes(normal(SHIFT_STD), 0))


def colours(n: int, p: torch.Tensor) -> torch.Tensor:
    """Random homogeneous transforms (n, 4, 4) of RGB in [-1, 1], each with probability p."""
    device = p.device
    identity = torch.eye(4, device=device)

    def applied_sometimes(value: torch.Tensor, unchanged: float) -> torch.Tensor:
        return torch.where(torch.rand(n, device=device) < p, value, torch.full_like(value, unchanged))

    luma, _ = _about_grey(device)

    brightness = applied_sometimes(torch.randn(n, device=device) * BRIGHTNESS_STD, 0)
    m = identity.repeat(n, 1, 1)
    m[:, :3, 3] = brightness[:, None]
    contrast = applied_sometimes(torch.exp2(torch.randn(n, device=device) * CONTRAST_STD), 1)
    m = torch.diag_embed(torch.stack([contrast, contrast, contrast, torch.ones_like(contrast)], dim=1)) @ m
    flip = applied_sometimes(torch.randint(2, [n], device=device).float(), 0)
    m = (identity - 2 * luma * flip[:, None, None]) @ m
    hue = applied_sometimes((torch.rand(n, device=device) * 2 - 1) * math.pi, 0)
    m = _turn_about_grey(hue) @ m
    saturation = applied_sometimes(torch.exp2(torch.randn(n, device=device) * SATURATION_STD), 1)
    return (luma + (identity - luma) * saturation[:, None, None]) @ m


def _shift(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Shifts (N, 3, 3) by shares of the picture's side."""
    m = torch.eye(3, device=x.device).repeat(len(x), 1, 1)
    m[:, 0, 2], m[:, 1, 2] = 2 * x, 2 * y
    return m


def _stretch(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.diag_embed(torch.stack([1 / x, 1 / y, torch.ones_like(x)], dim=1))


def _rotation(angle: torch.Tensor) -> torch.Tensor:
    m = torch.eye(3, device=angle.device).repeat(len(angle), 1, 1)
    m[:, 0, 0] = m[:, 1, 1] = angle.cos()
    m[:, 0, 1], m[:, 1, 0] = -angle.sin(), angle.sin()
    return m


def _turn_about_grey(angle: torch.Tensor) -> torch.Tensor:
    """Rotation of RGB about the grey axis (Rodrigues' formula)."""
    _, k = _about_grey(angle.device)
    sin, cos = angle.sin()[:, None, None], angle.cos()[:, None, None]
    return torch.eye(4, device=angle.device) + sin * k + (1 - cos) * (k @ k)


@functools.cache
def _about_grey(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The matrices (4, 4) that project RGB onto the grey axis, and that take the cross product with it.

    They are copied to a device once, since a copy to a GPU makes the program wait for it.
    """
    with torch.inference_mode(False):
        grey = torch.tensor([1.0, 1, 1, 0]) / math.sqrt(3)
        cross = torch.tensor([[0.0, -1, 1, 0], [1, 0, -1, 0], [-1, 1, 0, 0], [0, 0, 0, 0]]) / math.sqrt(3)
        return torch.outer(grey, grey).to(device), cross.to(device)


class _Resample(torch.autograd.Function):
    """Bilinear resampling with mirrored edges. It is linear in the picture, so its derivative is a resampling again.

    R1 needs the second derivative, which not every version of torch has for its own grid_sample.
    """

    @staticmethod
    def forward(ctx, img, grid):
        ctx.save_for_backward(grid)
        ctx.shape = img.shape
        return F.grid_sample(img, grid, mode="bilinear", padding_mode="reflection", align_corners=False)

    @staticmethod
    def backward(ctx, slope):
        (grid,) = ctx.saved_tensors
        return _ResampleBackward.apply(slope, grid, ctx.shape), None


class _ResampleBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, slope, grid, shape):
        ctx.save_for_backward(grid)
        bilinear, reflection = 0, 2
        empty = slope.new_zeros(shape)
        return torch.ops.aten.grid_sampler_2d_backward(slope, empty, grid, bilinear, reflection, False, [True, False])[
            0
        ]

    @staticmethod
    def backward(ctx, slope):
        (grid,) = ctx.saved_tensors
        return _Resample.apply(slope, grid), None, None
