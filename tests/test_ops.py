"""The operations against independent calculations, and their gradients."""
# Takes at most 5 CPU seconds.

import math

import numpy as np
import pytest
import scipy.signal
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from stylegan_invert import ops

TAPS = [[1, 3, 3, 1], [1, 2, 1], [1, 1], [1], [1, 2, 3, 4, 4, 3, 2, 1]]


@settings(deadline=None, max_examples=60)
@given(
    taps=st.sampled_from(TAPS),
    up=st.integers(1, 3),
    down=st.integers(1, 3),
    padding=st.tuples(*[st.integers(-2, 5)] * 4),
    size=st.tuples(st.integers(5, 9), st.integers(5, 9)),
)
def test_upfirdn2d_is_scipys(taps, up, down, padding, size):
    x = np.random.RandomState(0).randn(*size)
    f = ops.setup_filter(taps)
    kernel = (torch.outer(f, f) if f.ndim == 1 else f).double().numpy()
    grown = np.zeros([n * up for n in size])
    grown[::up, ::up] = x
    left, right, top, bottom = padding
    grown = np.pad(grown, [(max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))])
    grown = grown[max(-top, 0) : grown.shape[0] - max(-bottom, 0), max(-left, 0) : grown.shape[1] - max(-right, 0)]
    if grown.shape[0] < kernel.shape[0] or grown.shape[1] < kernel.shape[1]:
        return
    expected = scipy.signal.convolve2d(grown, kernel, mode="valid")[::down, ::down] * 1.7
    got = ops.upfirdn2d(torch.from_numpy(x)[None, None], f, up=up, down=down, padding=padding, gain=1.7)
    np.testing.assert_allclose(got[0, 0].numpy(), expected, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(
    taps=st.sampled_from(TAPS),
    kernel=st.sampled_from([1, 3, 5]),
    resampling=st.sampled_from([(1, 1), (2, 1), (1, 2)]),
    flip=st.booleans(),
    groups=st.sampled_from([1, 2]),
    size=st.sampled_from([6, 7, 8]),
)
def test_conv2d_resample_is_filter_then_convolution(taps, kernel, resampling, flip, groups, size):
    up, down = resampling
    gen = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, size, size, generator=gen, dtype=torch.float64)
    w = torch.randn(6, 4 // groups, kernel, kernel, generator=gen, dtype=torch.float64)
    f = ops.setup_filter(taps)
    got = ops.conv2d_resample(x, w, f=f, up=up, down=down, padding=kernel // 2, flip_weight=flip, groups=groups)
    # The definition: upsample and low-pass, convolve, low-pass and decimate, with the padding of the whole chain in front.
    n, k = f.shape[0], kernel // 2
    pad = [k + ((n + up - 1) // 2 if up > 1 else 0) + ((n - down + 1) // 2 if down > 1 else 0)]
    pad += [k + ((n - up) // 2 if up > 1 else 0) + ((n - down) // 2 if down > 1 else 0)]
    y = ops.upfirdn2d(x, f if up > 1 else torch.ones(1, 1), up=up, padding=pad * 2, gain=up**2)
    y = F.conv2d(y, w if flip else w.flip(2, 3), groups=groups)
    y = ops.upfirdn2d(y, f, down=1) if down > 1 else y
    torch.testing.assert_close(got, y[:, :, ::down, ::down], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("act", ops.ACTIVATIONS)
def test_bias_act_is_its_formula(act):
    x = torch.linspace(-3, 3, 24, dtype=torch.float64).reshape(2, 3, 2, 2)
    b = torch.tensor([0.5, -0.25, 0.0], dtype=torch.float64)
    formulas = {
        "linear": lambda v: v,
        "relu": lambda v: max(v, 0.0) * math.sqrt(2),
        "lrelu": lambda v: (v if v > 0 else 0.2 * v) * math.sqrt(2),
        "tanh": math.tanh,
        "sigmoid": lambda v: 1 / (1 + math.exp(-v)),
        "elu": lambda v: v if v > 0 else math.exp(v) - 1,
        "selu": lambda v: 1.0507009873554805 * (v if v > 0 else 1.6732632423543772 * (math.exp(v) - 1)),
        "softplus": lambda v: math.log1p(math.exp(v)),
        "swish": lambda v: v / (1 + math.exp(-v)) * math.sqrt(2),
    }
    biased = (x + b.reshape(1, 3, 1, 1)).flatten().tolist()
    expected = torch.tensor([min(max(formulas[act](v), -1.5), 1.5) for v in biased], dtype=torch.float64).reshape(
        x.shape
    )
    torch.testing.assert_close(ops.bias_act(x, b, act=act, clamp=1.5), expected)
    torch.testing.assert_close(ops.bias_act(x, act=act, gain=2.0), ops.bias_act(x, act=act, gain=1.0) * 2)


def test_modulated_conv2d_is_its_definition():
    gen = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 5, 5, generator=gen, dtype=torch.float64)
    w = torch.randn(4, 3, 3, 3, generator=gen, dtype=torch.float64)
    s = torch.randn(2, 3, generator=gen, dtype=torch.float64)
    for demodulate in (True, False):
        for fused in (True, False):
            got = ops.modulated_conv2d(x, w, s, padding=1, demodulate=demodulate, fused_modconv=fused)
            for i in range(2):
                kernel = w * s[i][None, :, None, None]
                if demodulate:
                    kernel = kernel / (kernel.square().sum(dim=[1, 2, 3], keepdim=True) + 1e-8).sqrt()
                torch.testing.assert_close(got[i : i + 1], F.conv2d(x[i : i + 1], kernel, padding=1))


def test_normalize_2nd_moment():
    x = torch.randn(5, 7, dtype=torch.float64)
    torch.testing.assert_close(ops.normalize_2nd_moment(x).square().mean(1), torch.ones(5, dtype=torch.float64))


def _cases():
    gen = torch.Generator().manual_seed(0)

    def leaf(*shape):
        return torch.randn(shape, generator=gen, dtype=torch.float64).requires_grad_(True)

    f = ops.setup_filter([1, 3, 3, 1])
    yield "upfirdn2d", lambda x: ops.upfirdn2d(x, f, up=2, padding=(2, 1, 2, 1), gain=4), (leaf(1, 2, 4, 4),)
    yield "bias_act", lambda x, b: ops.bias_act(x, b, act="swish", clamp=0.9), (leaf(2, 3), leaf(3))
    for up in (1, 2):
        yield (
            f"modulated_conv2d_up{up}",
            lambda x, w, s, up=up: ops.modulated_conv2d(
                x, w, s, up=up, padding=1, resample_filter=f, flip_weight=up == 1
            ),
            (leaf(2, 2, 3, 3), leaf(2, 2, 3, 3), leaf(2, 2)),
        )


@pytest.mark.parametrize("function, inputs", [pytest.param(f, i, id=name) for name, f, i in _cases()])
def test_first_and_second_derivatives(function, inputs):
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="unknown activation 'gelu'"):
        ops.bias_act(torch.zeros(1, 2), act="gelu")
    with pytest.raises(ValueError, match=r"bias of shape \(3,\) for an input of shape \(1, 2\)"):
        ops.bias_act(torch.zeros(1, 2), torch.zeros(3))
    with pytest.raises(ValueError, match="up=2, down=2"):
        ops.conv2d_resample(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 1, 1), f=torch.ones(1, 1), up=2, down=2)
    with pytest.raises(ValueError, match="expected a list"):
        ops.setup_filter([])
