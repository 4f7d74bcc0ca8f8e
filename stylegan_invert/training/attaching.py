"""Attaching: a head that finds latents, on a discriminator that was trained without one."""

from collections.abc import Callable

import torch

from ..networks.direction import AttachedDirection, spherical_to_cartesian, z_to_angles
from ..networks.layers import widest_dtype
from ..ops import normalize_2nd_moment

RIDGE = 0.02
"""The ridge of the regression, as a share of the variance of each input."""


@torch.no_grad()
def fit_head(D: AttachedDirection, latents: Callable[[int], tuple[torch.Tensor, torch.Tensor]], pictures: int) -> None:
    """Set the head by ridge regression from the maps of generated pictures to their latents.

    What softplus must be given so that it returns a coordinate of the point on the sphere is nearly linear in z. So a linear
    layer that finds z gives a linear layer that finds the point, exactly for small z. Gradient descent from random weights
    takes far longer to find it, because the maps of a trained discriminator vary by very different amounts in different
    directions.

    Args:
        D: the discriminator; its ``outputs`` are set.
        latents: of a number of pictures: their latents (N, z_dim), and the pictures (N, C, R, R).
        pictures: how many to generate.
    """
    size, device = D.trunk.num_maps, D.outputs.weight.device
    options = dict(dtype=widest_dtype(device), device=device)
    x_sum, z_sum = torch.zeros(size, **options), torch.zeros(D.z_dim, **options)
    xx, xz = torch.zeros(size, size, **options), torch.zeros(size, D.z_dim, **options)
    seen = 0
    while seen < pictures:
        z, img = latents(min(64, pictures - seen))
        x = D.flat(D.trunk.maps(img)[0]).to(xx.dtype)
        z = (normalize_2nd_moment(z) if D.normalize_z else z).to(xx.dtype)
        seen += len(z)
        x_sum, z_sum = x_sum + x.sum(dim=0), z_sum + z.sum(dim=0)
        xx.addmm_(x.t(), x)
        xz.addmm_(x.t(), z)
    x_mean, z_mean = x_sum / seen, z_sum / seen
    covariance = xx / seen - torch.outer(x_mean, x_mean)
    variance = covariance.diagonal()
    covariance += torch.diag(RIDGE * variance + 1e-6 * variance.mean())
    weight = torch.linalg.solve(covariance, xz / seen - torch.outer(x_mean, z_mean)).t()  # (z_dim, size)
    bias = z_mean - weight @ x_mean

    def before_softplus(z: torch.Tensor) -> torch.Tensor:
        return torch.expm1(spherical_to_cartesian(z_to_angles(z[None], normalize=False))[0]).log()

    zero = torch.zeros(D.z_dim, **options)
    with torch.enable_grad():
        slope = torch.autograd.functional.jacobian(before_softplus, zero)  # (z_dim + 1, z_dim)
    start = before_softplus(zero)
    D.outputs.weight.copy_(slope @ weight / D.outputs.weight_gain)
    D.outputs.bias.copy_((start + slope @ bias) / D.outputs.bias_gain)
