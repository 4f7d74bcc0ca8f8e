"""The native operations against the reference ones, and how they are built."""
# Takes at most 90 CPU seconds.

import ctypes
import gc
import importlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import stylegan_invert as si
from stylegan_invert import ops
from stylegan_invert.cache import cache_dir
from stylegan_invert.cli.main import cli
from stylegan_invert.generator import adapt
from stylegan_invert.ops import ACTIVATIONS, build, frozen, native, winograd

from conftest import make_network
from support import assert_close

ROOT = Path(__file__).parent.parent
upfirdn2d_module = importlib.import_module("stylegan_invert.ops.upfirdn2d")  # the package's attribute is the function
needs_compiler = pytest.mark.skipif(
    build.version_of(build.compiler()) is None, reason="needs a C++ compiler: install g++, or set CXX"
)
pytestmark = needs_compiler


@pytest.fixture(scope="module", autouse=True)
def built(tmp_path_factory):
    """A cache for this file, with the library in it."""
    with pytest.MonkeyPatch.context() as m:
        m.setenv("STYLEGAN_INVERT_CACHE", str(tmp_path_factory.mktemp("cache")))
        m.setattr(native, "_libraries", {})
        with native.using("native"):
            yield


@pytest.fixture(scope="module")
def good_library(built, tmp_path_factory):
    """A copy of the library that this file has built."""
    path = native.library(torch.device("cpu"))._name
    return Path(shutil.copy(path, tmp_path_factory.mktemp("good") / "good.so"))


def both(function, *inputs):
    """Outputs and gradients of a function, native and reference, for the same gradient of the output."""
    results = []
    for name in ("native", "reference"):
        own = [t.detach().clone().requires_grad_(True) for t in inputs]
        with native.using(name):
            y = function(*own)
            g = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
            results.append([y.detach(), *torch.autograd.grad(y, own, g)])
    return results


def agree(function, *inputs, tolerance=1e-5):
    before = sum(native.counts.values())
    for a, b in zip(*both(function, *inputs)):
        limit = tolerance if a.dtype == torch.float32 else 1e-12
        torch.testing.assert_close(a, b, rtol=limit, atol=limit * max(1.0, float(b.abs().max()) if b.numel() else 1))
    assert sum(native.counts.values()) > before, "the native kernel did not run"


def random(*shape, dtype=torch.float64, seed=0, last=False):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return x.to(memory_format=torch.channels_last) if last else x


@settings(deadline=None, max_examples=60)
@given(
    act=st.sampled_from(list(ACTIVATIONS)),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 7), st.integers(1, 50)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    clamp=st.sampled_from([None, 0.7]),
    parts=st.tuples(st.booleans(), st.sampled_from(["none", "one", "each"]), st.booleans()),
    last=st.booleans(),
)
def test_bias_act(act, shape, dtype, clamp, parts, last):
    has_bias, noise_for, has_scale = parts
    n, c, h, w = shape
    inputs = {"x": random(*shape, dtype=dtype, last=last)}
    if has_bias:
        inputs["b"] = random(c, dtype=dtype, seed=2)
    if noise_for != "none":
        inputs["noise"] = random(n if noise_for == "each" else 1, 1, h, w, dtype=dtype, seed=3)
    if has_scale:
        inputs["scale"] = random(n, c, dtype=dtype, seed=4)
    agree(
        lambda *t: ops.bias_act(**dict(zip(inputs, t)), act=act, gain=1.3, clamp=clamp),
        *inputs.values(),
        tolerance=1e-4,
    )


@pytest.mark.parametrize("act", list(ACTIVATIONS))
@pytest.mark.parametrize("last", [False, True])
def test_nan_passes(act, last):
    """Through every activation, clamped or not, so that a check for numbers sees it; and as in the reference form."""
    x = random(1, 3, 4, 4, dtype=torch.float32, last=last)
    x[0, 1, 2, 3] = math.nan
    for clamp in (None, 0.5):
        y = ops.bias_act(x, act=act, clamp=clamp)
        with native.using("reference"):
            torch.testing.assert_close(y, ops.bias_act(x, act=act, clamp=clamp), equal_nan=True)
        assert y[0, 1, 2, 3].isnan() and y.isnan().sum() == 1
    gradients = [gradient for _, gradient in both(lambda x: ops.bias_act(x, act=act), x)]
    if act in ("elu", "selu"):  # torch takes their slope at nan from the positive side
        assert gradients[0][0, 1, 2, 3].isnan()
        gradients = [
            g.nan_to_num().index_put([torch.tensor(k) for k in (0, 1, 2, 3)], torch.tensor(0.0)) for g in gradients
        ]
    torch.testing.assert_close(*gradients, equal_nan=True)


def test_bias_act_on_large_planes_and_other_shapes():
    """More than one chunk of positions, two axes, a view that is in neither layout, and nothing at all."""
    agree(
        lambda x, n, s: ops.bias_act(x, None, "lrelu", noise=n, scale=s),
        random(2, 3, 70, 80),
        random(1, 1, 70, 80),
        random(2, 3),
    )
    agree(lambda x, b: ops.bias_act(x, b, "swish"), random(5, 7), random(7))
    agree(lambda x: ops.bias_act(x.transpose(2, 3), None, "tanh"), random(2, 3, 4, 5))
    assert ops.bias_act(torch.zeros([0, 3, 4, 4]), torch.zeros([3])).shape == (0, 3, 4, 4)


@settings(deadline=None, max_examples=100)
@given(
    taps=st.sampled_from(
        [[1, 3, 3, 1], [1, 2, 1], [1, 1], [1], [1, 2, 3, 4, 4, 3, 2, 1], [[1, 2, 0], [0, 1, 5]], [[1, 2], [2, 4]]]
    ),
    up=st.integers(1, 3),
    down=st.integers(1, 3),
    padding=st.tuples(*[st.integers(-2, 5)] * 4),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    last=st.booleans(),
)
def test_upfirdn2d(taps, up, down, padding, size, dtype, last):
    f = ops.setup_filter(taps)
    x = random(2, 3, *size, dtype=dtype, last=last)
    try:
        with native.using("reference"):
            ops.upfirdn2d(x, f, up, down, padding)
    except (ValueError, RuntimeError):
        with pytest.raises(ValueError, match="smaller than the filter"):
            ops.upfirdn2d(x, f, up, down, padding)
        return
    agree(lambda x: ops.upfirdn2d(x, f, up, down, padding, 1.7), x)


@pytest.mark.parametrize("shape", [(4, 9), (2, 5, 3, 4), (1, 3, 20, 30)])
@pytest.mark.parametrize("last", [False, True])
def test_pixel_norm(shape, last):
    if last and len(shape) < 4:
        return
    agree(ops.normalize_2nd_moment, random(*shape, last=last))
    agree(ops.normalize_2nd_moment, random(*shape, last=last, dtype=torch.float32))


@settings(deadline=None, max_examples=30)
@given(
    up=st.sampled_from([1, 2]),
    kernel=st.sampled_from([1, 3]),
    demodulate=st.booleans(),
    fused=st.booleans(),
    n=st.integers(1, 2),
    size=st.integers(4, 9),
)
def test_modulated_conv2d(up, kernel, demodulate, fused, n, size):
    f = ops.setup_filter([1, 3, 3, 1])
    inputs = [
        random(n, 3, size, size),
        random(4, 3, kernel, kernel, seed=1),
        random(n, 3, seed=2),
        random(1, 1, size * up, size * up, seed=3),
    ]

    def layer(x, weight, styles, noise, b):
        return ops.modulated_conv2d(
            x, weight, styles, noise, up, kernel // 2, f, demodulate, flip_weight=up == 1, fused_modconv=fused, bias=b, act="lrelu"
        )  # fmt: skip

    agree(layer, *inputs, random(4, seed=5))


@settings(deadline=None, max_examples=30)
@given(
    channels=st.tuples(*[st.sampled_from([3, 16, 32, 48, 112])] * 2),
    size=st.tuples(st.integers(3, 21), st.integers(3, 21)),
    n=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.integers(0, 1),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    last=st.booleans(),
)
def test_conv2d(channels, size, n, stride, padding, dtype, last):
    """By Winograd's tiles where there are enough of them, which have to end where the picture does."""
    (i, o), tiles = channels, n * -(-size[0] // 2) * -(-size[1] // 2)
    weight, b = random(o, i, 3, 3, seed=1, dtype=dtype), random(o, seed=2, dtype=dtype)
    before = native.counts["winograd cpu"]
    agree(lambda x: ops.conv2d(x, weight, b, stride, padding, "relu"), random(n, i, *size, dtype=dtype, last=last))
    assert (native.counts["winograd cpu"] > before) == (
        stride == padding == 1 and i % 16 == o % 16 == 0 and min(i, o) >= 32 and tiles >= 64 and min(size) >= 8
    )


@settings(deadline=None, max_examples=20)
@given(
    up=st.integers(1, 3),
    flip_weight=st.booleans(),
    size=st.tuples(st.integers(12, 20), st.integers(12, 20)),
    taps=st.sampled_from([[1, 3, 3, 1], [1, 2, 1], [1, 1]]),
)
def test_modulated_conv2d_by_tiles(up, flip_weight, size, taps):
    weight, f = random(48, 32, 3, 3, seed=3), ops.setup_filter(taps)

    def layer(x, styles):
        return ops.modulated_conv2d(
            x, weight, styles, up=up, padding=1, resample_filter=f, flip_weight=flip_weight, act="lrelu"
        )

    before = native.counts["winograd cpu"]
    agree(layer, random(2, 32, *size), random(2, 32, seed=1))
    assert native.counts["winograd cpu"] == before + (2 if up == 1 or (up == 2 and min(size) >= 16) else 0)


@pytest.mark.parametrize("up, down, size", [(1, 1, 9), (2, 1, 17), (1, 2, 34)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_trained_convolutions_by_tiles(up, down, size, dtype):
    """Value, first and second derivatives of a layer whose weight is trained equal those of torch's convolution."""
    f = ops.setup_filter([1, 3, 3, 1])
    x, weight = random(3, 32, size, size + 2, dtype=dtype), random(48, 32, 3, 3, seed=1, dtype=dtype)
    x, weight = x.requires_grad_(True), (weight / 17).requires_grad_(True)

    def derivatives():
        y = ops.conv2d_resample(x, weight, f, up, down, padding=1, flip_weight=up == 1)
        slopes = random(*y.shape, seed=2, dtype=dtype).requires_grad_(True)
        first = torch.autograd.grad(y, (x, weight), slopes, create_graph=True)
        # As in R1: of a gradient for x alone, with all that it depends on.
        with ops.no_weight_gradients():
            (alone,) = torch.autograd.grad(y, x, slopes, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in (*first, alone)), (x, weight, slopes))
        return y, *first, alone, *second

    before = native.counts["winograd_weight cpu"]
    got = derivatives()
    assert (
        native.counts["winograd_weight cpu"] == before + 3
    )  # one for first, none for alone, one for each in the second
    with native.using("reference"):
        expected = derivatives()
    for a, b in zip(got, expected):
        torch.testing.assert_close(
            a, b, rtol=0, atol=(1e-5 if dtype == torch.float32 else 1e-13) * float(b.detach().abs().max())
        )


def test_gradients_of_weights_are_left_out_where_nobody_wants_them():
    x, weight = random(2, 32, 12, 12).requires_grad_(True), random(32, 32, 3, 3, seed=1).requires_grad_(True)
    before = native.counts["winograd_weight cpu"]
    with ops.no_weight_gradients():
        ops.conv2d(x, weight, padding=1).sum().backward()
    assert weight.grad is None and x.grad is not None and native.counts["winograd_weight cpu"] == before
    ops.conv2d(x, weight, padding=1).sum().backward()
    assert weight.grad is not None
    with torch.no_grad():
        weight.requires_grad_(False)
    ops.conv2d(x, weight, padding=1).sum().backward()
    assert native.counts["winograd_weight cpu"] == before + 1


@pytest.mark.parametrize("act", list(ACTIVATIONS))
def test_derivatives_of_bias_act(act):
    inputs = [
        t.requires_grad_(True)
        for t in (random(2, 3, 2, 2), random(3, seed=1), random(1, 1, 2, 2, seed=2), random(2, 3, seed=3))
    ]

    def function(x, b, noise, scale):
        return ops.bias_act(x, b, act, 1.3, 2.0, noise, scale)

    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_derivatives_of_the_others():
    f = ops.setup_filter([1, 3, 3, 1])
    x = random(1, 2, 4, 5).requires_grad_(True)
    functions = [
        lambda x: ops.upfirdn2d(x, f, 2, 1, [2, 1, 2, 1], 4),
        lambda x: ops.upfirdn2d(x, f, 1, 2, [1, 1, 1, 1]),
        ops.normalize_2nd_moment,
    ]
    for function in functions:
        assert torch.autograd.gradcheck(function, x) and torch.autograd.gradgradcheck(function, x)
    weight, styles = random(3, 2, 3, 3, seed=1).requires_grad_(True), random(1, 2, seed=2).requires_grad_(True)

    def layer(x, weight, styles):
        return ops.modulated_conv2d(
            x, weight, styles, up=2, padding=1, resample_filter=f, flip_weight=False, act="swish", gain=1
        )

    assert torch.autograd.gradcheck(layer, (x, weight, styles))
    assert torch.autograd.gradgradcheck(layer, (x, weight, styles))
    many = random(64, 16, 1, 2).requires_grad_(True)
    for way in (winograd.SAME, winograd.UP):
        kernel = winograd.transformed(random(32, 16, 3, 3, seed=1), way)
        assert torch.autograd.gradcheck(lambda x: winograd.convolve(x, kernel).square(), many, fast_mode=True)  # noqa: B023
        assert torch.autograd.gradgradcheck(lambda x: winograd.convolve(x, kernel).square(), many, fast_mode=True)  # noqa: B023
    # A matrix product in place of a 1x1 convolution: in both layouts, for a picture and for two.
    flat = random(4, 2, 1, 1, seed=1).requires_grad_(True)
    for n, last in ((1, False), (1, True), (2, True)):
        inputs = random(n, 2, 3, 4, last=last).requires_grad_(True), flat, random(n, 2, seed=2).requires_grad_(True)

        def pointwise(x, weight, styles):
            return ops.modulated_conv2d(x, weight, styles, demodulate=False, act="tanh")

        assert torch.autograd.gradcheck(pointwise, inputs) and torch.autograd.gradgradcheck(pointwise, inputs)


def test_operators_are_registered_well():
    x, b = random(2, 3, 4, 4).requires_grad_(True), random(3, seed=1).requires_grad_(True)
    library, taps = torch.ops.stylegan_invert, random(32, 16, 3, 3).requires_grad_(True)
    f, up = ops.setup_filter([1, 3, 3, 1]), winograd.transformed(random(32, 16, 3, 3), winograd.UP)
    for operator, arguments in (
        (library.bias_act, (x, b, None, None, "swish", 1.4, math.inf)),
        (library.bias_act_derivative, (x.detach().clone().requires_grad_(True), x, b, None, None, 1, "swish", 1.4, math.inf)),
        (library.bias_act_backward, (x.detach(), x.detach(), b.detach(), None, None, [True, True, False, False], "swish", 1.4, math.inf)),
        (library.upfirdn2d, (x, f, 2, 1, [2, 1, 2, 1], False, 4.0)),
        (library.winograd, (random(1, 16, 4, 4).requires_grad_(True), *up[1:3], winograd.UP, 32)),
        (library.winograd_trained, (random(1, 16, 4, 4).requires_grad_(True), taps, winograd.UP, False)),
        (library.winograd_trained, (random(1, 32, 5, 7).requires_grad_(True), taps, winograd.UP, True)),
        (library.winograd_weight, (random(1, 16, 4, 4).requires_grad_(True), random(1, 32, 9, 9).requires_grad_(True), winograd.UP)),
        (library.pixel_norm, (x, 1e-8)),
        (library.pixel_norm_backward, (x.detach().clone().requires_grad_(True), x, 1e-8)),
    ):  # fmt: skip
        torch.library.opcheck(operator, arguments)


def test_compiled_whole():
    f = ops.setup_filter([1, 3, 3, 1])

    def layer(x, w, s, b):
        return ops.modulated_conv2d(
            x, w, s, up=2, padding=1, resample_filter=f, flip_weight=False, bias=b, act="lrelu", gain=1
        )

    inputs = [random(1, 2, 4, 4), random(3, 2, 3, 3), random(1, 2), random(3)]
    inputs = [t.requires_grad_(True) for t in inputs]
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(*inputs), layer(*inputs))
    for a, b in zip(*(torch.autograd.grad(run(*inputs).sum(), inputs) for run in (compiled, layer))):
        torch.testing.assert_close(a, b)


def test_networks_agree_and_follow_their_weights():
    G = make_network(resolution=16).G
    ws = torch.randn([2, G.num_ws, 8])
    for _ in range(2):
        agree(lambda w: G.synthesis(w, noise_mode="const"), ws, tolerance=1e-4)
        for p in G.parameters():
            p.data.mul_(1.1)


def test_gradients_of_a_networks_weights_while_they_move():
    """As in tuning: pictures without gradients between the steps must not be made with old weights."""
    G = make_network(16, channel_base=512, channel_max=32).G
    ws = torch.randn([1, G.num_ws, 8], generator=torch.Generator().manual_seed(0))
    before = native.counts["winograd_weight cpu"]

    def measured():
        with torch.no_grad():
            picture = G.synthesis(ws, noise_mode="const")
        G.synthesis.requires_grad_(True)
        names, weights = zip(*G.synthesis.named_parameters())
        gradients = torch.autograd.grad(G.synthesis(ws, noise_mode="const").square().mean(), weights)
        G.synthesis.requires_grad_(False)
        return {"picture": picture, **dict(zip(names, gradients))}

    for _ in range(3):
        found = measured()
        with native.using("reference"):
            expected = measured()
        for name, value in expected.items():
            # A noise strength's gradient is a sum over all pixels, in which most of the digits cancel.
            assert_close(name, found[name].numpy(), value.numpy(), 1e-4 if value.ndim else 1e-2)
        for name, weight in G.synthesis.named_parameters():
            weight.data.sub_(0.1 * expected[name] / (expected[name].abs().max() + 1e-8))
    assert native.counts["winograd_weight cpu"] > before


def test_modes():
    x = torch.randn([1, 2, 3, 3])
    before = native.counts.copy()
    with native.using("reference"):
        ops.bias_act(x)
    assert native.counts == before
    with pytest.raises(si.OpsError, match="no native operations for torch.float16 on cpu"):
        ops.bias_act(x.half())
    with native.using("auto"):
        assert ops.bias_act(x.half()).dtype == torch.float16
    with pytest.raises(ValueError, match="expected one of auto, native, reference"):
        native.set_mode("fast")


def test_what_is_kept_follows_the_weights():
    """Also where torch's own count of changes does not see them."""
    x, s = random(1, 6, 5, 5, dtype=torch.float32), random(1, 6, dtype=torch.float32, seed=1)
    weight = torch.nn.Parameter(random(4, 6, 3, 3, dtype=torch.float32, seed=2), requires_grad=False)

    def same():
        with native.using("reference"):
            expected = ops.modulated_conv2d(x, weight, s, padding=1)
        found = ops.modulated_conv2d(x, weight, s, padding=1)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        return found

    first = same()
    assert torch.equal(same(), first)
    for change in (
        lambda: weight[:, 0].mul_(2),
        lambda: weight.data.mul_(-1),
        lambda: weight.data.copy_(weight.data.flip(0)),  # the same numbers in another order
        lambda: weight.data.view(-1)[7].add_(1),
        lambda: setattr(weight, "data", weight.data + 1),
    ):
        change()
        assert not torch.equal(same(), first)
    weight.requires_grad_(True)  # while training nothing is kept: its gradient has to come through
    ops.modulated_conv2d(x, weight, s, padding=1).sum().backward()
    assert weight.grad.abs().sum() > 0


def test_a_weight_is_not_kept_alive():
    """Also if the kernel that is made of it shares its memory, as a 1x1 kernel does in both layouts."""
    weight = random(4, 6, 1, 1, dtype=torch.float32)
    alive = weakref.ref(weight)
    ops.conv2d(random(1, 6, 5, 5, dtype=torch.float32), weight)
    assert frozen.keeps(weight) and len(frozen._entries[weight].results) == 1
    del weight
    gc.collect()
    assert alive() is None


def test_changes_that_are_seen_without_reading_the_weight():
    """Of a weight on a GPU; the meta device stands for one."""
    weight = torch.zeros([4, 3], device="meta")
    before = frozen._fingerprint(weight)
    assert frozen._fingerprint(weight) == before
    with torch.no_grad():
        weight.mul_(2)
    changed = frozen._fingerprint(weight)
    weight[0].zero_()
    assert len({before, changed, frozen._fingerprint(weight)}) == 3


def test_filters_that_are_too_large_for_a_gpu():
    """They run in the reference form there; a CPU takes any."""
    assert upfirdn2d_module._fits(torch.zeros([1], device="meta"), torch.zeros([1024]))
    assert not upfirdn2d_module._fits(torch.zeros([1], device="meta"), torch.zeros([33, 32]))
    agree(lambda x: ops.upfirdn2d(x, ops.setup_filter(list(range(1, 41)))), random(1, 2, 45, 50))


def test_what_inference_mode_kept_serves_gradients():
    x, weight = random(1, 32, 16, 16), random(32, 32, 3, 3, seed=1)
    with torch.inference_mode():
        before = ops.conv2d(x, weight, padding=1)
    y = ops.conv2d(x.clone().requires_grad_(True), weight, padding=1)
    y.sum().backward()
    assert torch.equal(y.detach(), before.clone())
    with torch.inference_mode():
        ops.conv2d(x, weight.clone(), padding=1)
    assert winograd.convolve(x[:0], winograd.transformed(weight, winograd.UP)).shape == (0, 32, 33, 33)


# ----------------------------------------------------------------------------------------------------------------- build


def test_the_key_follows_what_matters(monkeypatch, tmp_path):
    first = build.key(build.Target())
    assert first == build.key(build.Target()) != build.key(build.Target("9.0"))
    with monkeypatch.context() as m:
        m.setattr(build, "CFLAGS", ["-O1"])
        assert build.key(build.Target()) != first
    with monkeypatch.context() as m:
        m.setattr(build, "cpu_features", lambda: "another processor")
        assert build.key(build.Target()) != first
    with monkeypatch.context() as m:
        m.setattr(torch, "__version__", "2.99")
        assert build.key(build.Target()) != first
    with monkeypatch.context() as m:
        m.setattr(build, "version_of", lambda program: "another compiler")
        other = build.built(build.Target())
    assert other != build.built(build.Target()) and build.key(build.Target()) in other.stem
    shutil.copytree(build.SOURCES, tmp_path / "csrc")
    with open(tmp_path / "csrc" / "cpu.cpp", "a") as f:
        f.write("// changed\n")
    with monkeypatch.context() as m:
        m.setattr(build, "SOURCES", tmp_path / "csrc")
        assert build.key(build.Target()) != first


SLOW_BUILD = """
import sys, time
from pathlib import Path
from stylegan_invert.ops import build
def compiled(target, work):
    with open(sys.argv[1], "a") as f: f.write("began\\n")
    time.sleep(2)
    (work / "x.so").write_text("whole")
    return work / "x.so"
build.compiled = compiled
path = build.build(build.Target())
assert path.read_text() == "whole"
print("done")
"""


def start(cache, log):
    environment = {**os.environ, "STYLEGAN_INVERT_CACHE": str(cache), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", SLOW_BUILD, str(log)], env=environment, stdout=subprocess.PIPE, cwd=ROOT
    )


def test_ten_processes_and_one_is_killed(tmp_path):
    """The one that builds is killed in the middle; another takes over, and all the others finish, with one build more."""
    log = tmp_path / "log"
    processes = [start(tmp_path / "cache", log) for _ in range(10)]
    while not log.exists():
        time.sleep(0.05)
    (lock,) = (tmp_path / "cache" / "ops").glob("*.lock")
    time.sleep(0.3)
    owner = json.loads(lock.read_text())["pid"]
    os.kill(owner, signal.SIGKILL)
    outputs = {p.pid: p.communicate(timeout=120)[0] for p in processes}
    assert {pid for pid, out in outputs.items() if out != b"done\n"} == {owner}
    assert log.read_text().count("began") == 2
    assert sorted(p.suffix for p in (tmp_path / "cache" / "ops").iterdir()) == [".json", ".lock", ".so"]


def test_locks(tmp_path, monkeypatch):
    lock = tmp_path / "x.lock"
    lock.write_text('{"pid": 1, "host": "elsewhere"}')  # left behind by somebody
    assert build.held_by(lock) is None
    with build.locked(lock) as held:
        assert held and json.loads(build.held_by(lock))["pid"] == os.getpid()
        began = time.monotonic()
        with build.locked(lock, wait=0.5) as again:
            assert not again and time.monotonic() - began > 0.4
        with build.locked(lock, until=lambda: True) as again:
            assert not again
    assert build.held_by(lock) is None
    # Nobody waits for ever: when the time is over, each builds for itself.
    monkeypatch.setenv("STYLEGAN_INVERT_CACHE", str(tmp_path))
    monkeypatch.setattr(build, "WAIT", 0.3)
    monkeypatch.setattr(build, "compiled", lambda target, work: (work / "x.so", (work / "x.so").write_text("whole"))[0])
    build.folder().mkdir()
    with build.locked(build.built(build.Target()).with_suffix(".lock")):
        assert build.build(build.Target()).read_text() == "whole"


def test_half_built_folders_heal(fresh, monkeypatch):
    build.folder().mkdir(parents=True)
    name = build.built(build.Target()).stem
    (build.folder() / f".{name}-killed").mkdir()
    (build.folder() / f".{name}-killed" / "x.o").write_text("half")
    monkeypatch.setattr(build, "compiled", lambda target, work: (work / "x.so", (work / "x.so").write_text("whole"))[0])
    assert build.build(build.Target()).read_text() == "whole"
    assert {p.suffix for p in build.folder().iterdir()} == {".so", ".json", ".lock"}


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """An empty cache, and no library loaded."""
    monkeypatch.setenv("STYLEGAN_INVERT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(native, "_libraries", {})
    return tmp_path / "cache"


def test_without_a_compiler(fresh, monkeypatch, capsys):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(si.OpsError, match="there is no C\\+\\+ compiler .*install g"):
        ops.bias_act(torch.zeros([1, 1, 2, 2]))
    monkeypatch.setattr(native, "_libraries", {})
    with native.using("auto"):
        for _ in range(3):
            assert ops.bias_act(torch.ones([1, 1, 2, 2])).sum() == 4
    assert capsys.readouterr().err.count("no C++ compiler") == 1  # said once


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A function that replaces the C++ source by a text, so that compiling takes no time."""

    def replace(text):
        (tmp_path / "csrc").mkdir(exist_ok=True)
        (tmp_path / "csrc" / "cpu.cpp").write_text(text)
        (tmp_path / "csrc" / "cuda.cu").touch()
        monkeypatch.setattr(build, "SOURCES", tmp_path / "csrc")

    return replace


def script(path, text):
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


def test_a_compiler_that_fails(fresh, sources):
    """The message has the compiler's own error, and not the command line that ninja prints before it."""
    sources("this is no C++")
    with pytest.raises(si.OpsError, match=r"compiling failed: .*cpu\.cpp:1:1: error: .*this"):
        ops.bias_act(torch.zeros([1, 1, 2, 2]))
    assert not [p for p in (fresh / "ops").iterdir() if p.suffix == ".so"]


@pytest.mark.parametrize(
    "output, message",
    [
        ("[1/2] c++ -c a.cpp -o a.o\nFAILED: a.o \nc++ -c a.cpp -o a.o\na.cpp:3:1: fatal error: x.h: No such file\n", "a.cpp:3:1: fatal"),
        ("[1/1] nvcc -c a.cu -o a.o\nnvcc fatal   : Unsupported gpu architecture 'compute_990'\n", "nvcc fatal"),
        ("FAILED: x.so\nc++ -shared a.o -o x.so -lq\n/usr/bin/ld: cannot find -lq\ncollect2: error: ld returned 1\n", "/usr/bin/ld"),
        ("", "no output"),
    ],
)  # fmt: skip
def test_the_first_error(output, message):
    assert build._first_error(output).startswith(message)


def test_a_compiler_with_arguments(fresh, sources, monkeypatch, tmp_path, capsys):
    """As "ccache g++ -m64" is one."""
    sources('extern "C" __attribute__((visibility("default"))) int three() { return MEASURE; }')
    wrapper = script(tmp_path / "wrapper", 'exec "$@"')
    monkeypatch.setenv("CXX", f"{wrapper} {os.environ.get('CXX', 'c++')} -DMEASURE=3")
    path = build.build(build.Target())
    assert ctypes.CDLL(str(path)).three() == 3
    first, last = capsys.readouterr().err.splitlines()  # the first build says what it does, and how long it took
    assert f"compiling the native operations for this processor with {wrapper}" in first and "15 seconds" in first
    assert re.fullmatch(r"stylegan-invert: compiled in \d+ seconds", last)
    assert build.build(build.Target()) == path and capsys.readouterr().err == ""
    monkeypatch.setenv("CXX", "'c++")
    with pytest.raises(si.OpsError, match="no command line"):
        build.build(build.Target())


def test_ninja_is_found_where_pip_put_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert os.access(build.ninja(), os.X_OK)
    monkeypatch.setitem(sys.modules, "ninja", None)  # beside the interpreter, if the package cannot be imported
    script(tmp_path / "ninja", "exit 0")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", "")
    assert build.ninja() == str(tmp_path / "ninja")


def test_sigterm_ends_the_compiler(tmp_path):
    """Also when the signal goes to this process alone, as `docker stop` and Slurm send it. Nothing is left behind."""
    slow = script(
        tmp_path / "slow", f'[ "$1" = --version ] && exit 0\ntouch {tmp_path}/began\nsleep 3\ntouch {tmp_path}/survived'
    )
    environment = {
        **os.environ,
        "STYLEGAN_INVERT_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": str(ROOT),
        "CXX": str(slow),
    }
    code = "from stylegan_invert.ops import build\nbuild.build(build.Target())"
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=ROOT)
    end = time.monotonic() + 60
    while not (tmp_path / "began").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    process.terminate()
    assert process.wait(timeout=20) == -signal.SIGTERM
    time.sleep(3.5)
    assert not (tmp_path / "survived").exists()
    assert [p.suffix for p in (tmp_path / "cache" / "ops").iterdir()] == [".lock"]


def test_an_unknown_architecture(fresh, sources, monkeypatch, capsys, tmp_path):
    """One line, and the reference form."""
    sources("int nothing;")
    nvcc = script(tmp_path / "nvcc", "echo \"nvcc fatal   : Unsupported gpu architecture 'compute_990'\"; exit 1")
    monkeypatch.setattr(build, "nvcc", lambda: str(nvcc))
    monkeypatch.setattr(build.Target, "of", classmethod(lambda cls, device: cls("99.0")))
    with native.using("auto"):
        for _ in range(2):
            assert not native.is_native(torch.zeros([1]))
    assert capsys.readouterr().err.count("Unsupported gpu architecture") == 1


# ----------------------------------------------------------------------------------------------------------------- trust


@pytest.mark.parametrize(
    "environment, place",
    [
        ({"XDG_CACHE_HOME": "/x/cache", "HOME": "/home/me"}, "/x/cache/stylegan-invert"),
        ({"XDG_CACHE_HOME": "", "HOME": "/home/me"}, "/home/me/.cache/stylegan-invert"),
        ({"XDG_CACHE_HOME": "here", "HOME": "/home/me"}, "/home/me/.cache/stylegan-invert"),
        ({"XDG_CACHE_HOME": "/x/cache", "STYLEGAN_INVERT_CACHE": ""}, "/x/cache/stylegan-invert"),
        ({"XDG_CACHE_HOME": "/x/cache", "STYLEGAN_INVERT_CACHE": "/y"}, "/y"),
        ({"HOME": "here"}, None),
    ],
)
def test_the_cache_is_absolute(environment, place, monkeypatch):
    for name in ("XDG_CACHE_HOME", "STYLEGAN_INVERT_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_dir().is_absolute() and str(cache_dir()) == (place or str(cache_dir()))


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda folder: folder.chmod(0o777), id="writable by all"),
        pytest.param(lambda folder: folder.parent.chmod(0o757), id="a folder above is writable by all"),
        pytest.param(lambda folder: (os.chown(folder, -1, 12345), folder.chmod(0o775)), id="writable by another group"),
        pytest.param(lambda folder: os.chown(folder, 65534, -1), id="of another user"),
        pytest.param(lambda folder: os.chown(folder.parent, 65534, -1), id="in a folder of another user"),
    ],
)
def test_a_cache_that_others_can_write_is_not_used(spoil, fresh, monkeypatch, capsys):
    """Not even if the library in it has its right checksum."""
    monkeypatch.setattr(build, "compiled", lambda target, work: (work / "x.so", (work / "x.so").write_text("own"))[0])
    path = build.build(build.Target())
    assert path.read_text() == "own" and path.is_relative_to(fresh) and build.is_whole(path)
    try:
        spoil(build.folder())
    except PermissionError:
        pytest.skip("giving folders away needs root")
    for _ in range(2):
        other = build.build(build.Target())
        assert other.read_text() == "own" and not other.is_relative_to(fresh)
    message = capsys.readouterr().err
    assert message.count("is not used for native operations") == 1 and (
        "can be written" in message or "another user" in message
    )


def test_a_relative_cache_is_not_used(fresh, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STYLEGAN_INVERT_CACHE", "here")
    monkeypatch.setattr(build, "compiled", lambda target, work: (work / "x.so", (work / "x.so").write_text("own"))[0])
    assert build.build(build.Target()).is_absolute() and not (tmp_path / "here").exists()
    assert "not an absolute path" in capsys.readouterr().err


def test_the_cache_is_made_for_the_user_alone(fresh, monkeypatch):
    monkeypatch.setattr(build, "compiled", lambda target, work: (work / "x.so", (work / "x.so").write_text("own"))[0])
    before = os.umask(0)
    try:
        assert build.build(build.Target()).is_relative_to(fresh)
    finally:
        os.umask(before)
    assert fresh.stat().st_mode & 0o77 == 0
    assert not any(path.stat().st_mode & 0o22 for path in (fresh / "ops").iterdir() if path.suffix != ".lock")


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda so, record: os.truncate(so, so.stat().st_size // 2), id="cut short"),
        pytest.param(lambda so, record: os.truncate(so, 0), id="empty"),
        pytest.param(lambda so, record: so.write_bytes(bytes(so.stat().st_size)), id="other bytes of the same size"),
        pytest.param(lambda so, record: record.unlink(), id="no record"),
        pytest.param(lambda so, record: record.write_text("[" * 4000), id="a record that is no JSON"),
        pytest.param(lambda so, record: record.write_text("[1]"), id="a record of another form"),
        pytest.param(lambda so, record: (so.unlink(), os.mkfifo(so)), id="a pipe"),
        pytest.param(lambda so, record: (so.rename(so.parent / "other"), so.symlink_to("other")), id="a link"),
        pytest.param(lambda so, record: so.chmod(0o777), id="a file that others can write"),
        pytest.param(lambda so, record: record.chmod(0o666), id="a record that others can write"),
    ],
)
def test_a_damaged_library_is_built_again(damage, fresh, good_library, monkeypatch):
    monkeypatch.setattr(
        build, "compiled", lambda target, work: shutil.copy(good_library, work / "x.so") and work / "x.so"
    )
    path = build.build(build.Target())
    assert build.is_whole(path)
    damage(path, path.with_suffix(".json"))
    assert not build.is_whole(path)
    ops.bias_act(torch.zeros([1, 1, 2, 2]))  # loads it
    assert build.is_whole(path)


def test_a_library_that_lacks_a_function(fresh, good_library, sources, monkeypatch, capsys):
    """It is built once more, and if that does not help, one sentence says so."""
    sources("int nothing;")
    poor, made = Path(shutil.copy(build.build(build.Target()), fresh / "poor.so")), []

    def compiled(target, work):
        made.append(work)
        return Path(shutil.copy(good_library if len(made) == 1 else poor, work / "x.so"))

    monkeypatch.setattr(build, "compiled", compiled)
    ops.bias_act(torch.zeros([1, 1, 2, 2]))
    assert len(made) == 1
    for library, message in ((poor, "lacks the function bias_act_f32"), (Path(__file__), "cannot be loaded: .*\\.so")):
        poor = library
        monkeypatch.setattr(native, "_libraries", {})
        monkeypatch.setenv("STYLEGAN_INVERT_CACHE", str(fresh / library.stem))
        with pytest.raises(si.OpsError, match=message):
            ops.bias_act(torch.zeros([1, 1, 2, 2]))
    assert len(made) == 5


def test_the_form_for_small_networks():
    with native.using("auto"):
        assert [native.mode_for(size) for size in (32, 63, 64, 1024)] == ["reference", "reference", "auto", "auto"]
    assert native.mode_for(32) == "native"


def test_small_networks_start_no_build(monkeypatch):
    """The largest network of the process decides; "native" asks for a build whatever its size."""
    asked = []

    def library(device):
        asked.append(device)
        return si.OpsError("there is no compiler here")

    monkeypatch.setattr(native, "library", library)
    monkeypatch.setattr(native, "_largest", 0)
    with native.using("auto"):
        G = make_network(resolution=32).G
        si.project(G, torch.zeros([3, 32, 32], dtype=torch.uint8), "w+", steps=1)
        assert native._largest == 32 and not asked
        with native.using("native"), pytest.raises(si.OpsError, match="no compiler here"):
            adapt(G).center("w+")
        asked.clear()
        make_network(resolution=64)
        adapt(G).render(adapt(G).center("w+"))
        assert asked
    monkeypatch.setattr(native, "_largest", 0)
    with native.using("auto"):  # no network was made
        asked.clear()
        ops.bias_act(torch.zeros([1, 1, 2, 2]))
        assert asked


def test_tensors_of_two_devices_are_refused():
    x = torch.zeros([1, 4, 4, 4])
    with pytest.raises(
        RuntimeError, match="bias_act: one tensor is on meta and another on cpu; expected all on the same"
    ):
        ops.bias_act(x, torch.zeros([4], device="meta"))
    with pytest.raises(RuntimeError, match="on the same device"):
        native.run("pixel_norm", x, x, None, x.to("meta"), 1, 4, 16, 0, 1e-8)


def test_a_cache_that_cannot_be_used(fresh, monkeypatch, capsys):
    fresh.write_text("a file where the folder should be")
    monkeypatch.setattr(build, "compiled", lambda target, work: work / "x.so")
    assert build.build(build.Target()).name == "x.so"
    assert "is not used for native operations: Not a directory" in capsys.readouterr().err


def test_doctor(good_library, monkeypatch, tmp_path):
    monkeypatch.setattr(native, "_libraries", {})
    whole = CliRunner().invoke(cli, ["doctor", "--json", "--device", "cpu"])
    assert whole.exit_code == 0 and json.loads(whole.stdout)["works"]
    assert "they work" in CliRunner().invoke(cli, ["doctor", "--device", "cpu"]).stdout
    # Without a compiler the library that another machine has made, as in an image, is still found.
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert CliRunner().invoke(cli, ["doctor", "--device", "cpu"]).exit_code == 0
    monkeypatch.setenv("STYLEGAN_INVERT_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr(native, "_libraries", {})
    broken = CliRunner().invoke(cli, ["doctor", "--json", "--device", "cpu"])
    found = {c["name"]: c for c in json.loads(broken.stdout)["checks"]}
    assert broken.exit_code == 1 and "apt install" in found["C++ compiler"]["remedy"] and not found["library"]["ok"]


@pytest.mark.skipif(
    build.nvcc() is None and shutil.which("nvcc") is None, reason="needs nvcc: install the CUDA toolkit"
)
def test_cuda_sources_compile(tmp_path):
    """By nvcc alone, without a GPU and without torch."""
    codes = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in (75, 80, 90)]
    command = [build.nvcc() or "nvcc", "-O1", "-std=c++17", "--threads", "0", *codes, "-Xcompiler", "-fPIC", "-shared"]
    result = subprocess.run(
        [*command, build.SOURCES / "cuda.cu", "-o", tmp_path / "x.so"], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]
