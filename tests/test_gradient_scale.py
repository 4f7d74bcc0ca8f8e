"""The scale of gradients in half precision: what it mends, and that it changes nothing in float32."""
# Takes at most 10 CPU seconds.

import pytest
import torch

import stylegan_invert as si
from stylegan_invert.generator import Code, adapt
from stylegan_invert.networks import stylegan2
from stylegan_invert.networks.layers import compute_format
from stylegan_invert.projectors.gradient_scale import EXPONENT, GradientScale, computes_in_half
from stylegan_invert.projectors.loss import build_loss
from stylegan_invert.projectors.objective import Objective

from conftest import make_network
from simulated_cuda import simulated_gpu


def half_on_any_device(x, use_fp16, channels_last, force_fp32):
    return torch.float16 if use_fp16 and not force_fp32 else torch.float32, torch.contiguous_format


def gradients(monkeypatch, loss, scaled, in_half=True):
    """Of w and of all noise maps, at two codes of a network whose every block from 8x8 on computes in float16."""
    monkeypatch.setattr(stylegan2, "compute_format", half_on_any_device if in_half else compute_format)
    G = si.load("cats32").G
    for resolution in (8, 16, 32):
        G.synthesis.get_submodule(f"b{resolution}").use_fp16 = True
    generator = adapt(G)
    random = torch.Generator().manual_seed(0)
    target = torch.rand(2, 3, 32, 32, generator=random) * 2 - 1
    objective = Objective(generator, build_loss(loss, {}, "cpu")[0], target)
    objective.in_half = scaled
    w = G.mapping(torch.randn(2, G.z_dim, generator=random)).requires_grad_()
    noise = {n: torch.randn(2, *s, generator=random).requires_grad_() for n, s in generator.noise_shapes().items()}
    objective(Code("w+", {"w": w, **{f"noise.{name}": value for name, value in noise.items()}})).sum().backward()
    return [w.grad, *(value.grad for value in noise.values())]


@pytest.mark.parametrize("loss", ["mse=1", "mse=1e-6", "sse=1", "lpips-squeeze=1"])
def test_gradients_in_float32_stay_as_they_are(monkeypatch, loss):
    without, scaled = (gradients(monkeypatch, loss, scaled, in_half=False) for scaled in (False, True))
    assert all(torch.equal(a, b) and a.abs().max() > 0 for a, b in zip(without, scaled))


def test_small_gradients_in_half_precision_are_kept(monkeypatch):
    """The weight makes the slopes at the pixels of this small picture as large as a mean makes them at 1024x1024."""
    loss = f"mse={(32 / 1024) ** 2}"
    exact = gradients(monkeypatch, loss, False, in_half=False)

    def errors(scaled):
        found = gradients(monkeypatch, loss, scaled)
        return [float((a - b).norm() / b.norm()) for a, b in zip(found, exact)]

    without, scaled = errors(False), errors(True)
    assert scaled[0] < 0.03 < without[0]


def test_the_scale_is_of_each_row_and_bounded():
    """The largest slope of a row is brought into [2^-9, 2^-8); zero, infinity and nan stay what they are."""
    code = Code("w", {"w": torch.ones(6, 1).requires_grad_()})
    slopes = torch.tensor([[1e-12, 1e-15], [3.0, -1e6], [0, 0], [1e-30, 1e-30], [torch.inf, 1], [torch.nan, 1]])
    seen = []

    class Watched(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.expand(-1, 2).clone()

        @staticmethod
        def backward(ctx, slope):
            seen.append(slope)
            return slope.sum(dim=1, keepdim=True)

    scale = GradientScale()
    scale.leave(Watched.apply(scale.enter(code).tensors["w"])).backward(slopes)
    largest = seen[0].abs().amax(dim=1)
    assert all(2.0 ** (EXPONENT - 1) <= x < 2.0**EXPONENT for x in largest[:2]) and 0 < largest[3] < 2.0**EXPONENT
    expected = slopes.sum(dim=1, keepdim=True)
    assert torch.equal(torch.nan_to_num(code.tensors["w"].grad, 7, 8), torch.nan_to_num(expected, 7, 8))


def test_only_networks_that_compute_in_half_precision_are_scaled():
    assert not computes_in_half(adapt(make_network(num_fp16_res=2).G))
    with simulated_gpu() as device:
        assert computes_in_half(adapt(make_network(num_fp16_res=2).G.to(device)))
        assert not computes_in_half(adapt(make_network().G.to(device)))
