"""Runs the kernels of ops/csrc/cuda.cu on a CPU, and compares them with the reference operations in float64.

`build` compiles the source with cuda_shim.h in the place of CUDA's headers. `check` calls every exported function, in all dtypes and
layouts. As a program, ``python cuda_kernels.py LIBRARY`` checks a library; test_cuda_kernels.py runs it so under sanitizers.
"""

import ctypes
import itertools
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import torch

from stylegan_invert.ops import ACTIVATIONS
from stylegan_invert.ops.bias_act import reference as bias_act
from stylegan_invert.ops.normalize import reference as pixel_norm
from stylegan_invert.ops.upfirdn2d import reference as upfirdn2d_reference

HERE = Path(__file__).parent
SOURCE = HERE.parent / "ops" / "csrc" / "cuda.cu"
DTYPES = {torch.float32: "f32", torch.float64: "f64", torch.float16: "f16", torch.bfloat16: "bf16"}
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-14, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
SANITIZERS = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def build(folder, flags=("-O1",), source=None):
    """Compile the kernels for this machine; returns the library's path."""
    source = SOURCE.read_text() if source is None else source
    source, headers = re.subn(r"#include <cuda\w*\.h>", '#include "cuda_shim.h"', source)
    source, launches = re.subn(r"(\w+<[\w, ]+>)<<<(.*)>>>(\(.*\));", r"shim::launch(\2, [&] { \1\3; });", source)
    assert headers == 3 and launches == source.count("shim::launch") > 8 and "<<<" not in source
    (folder / "kernels.cpp").write_text(source)
    library = folder / "kernels.so"
    compiler = os.environ.get("CXX", "c++").split()
    command = [*compiler, "-std=c++17", "-shared", "-fPIC", "-Wno-unknown-pragmas", *flags, "-I", HERE]
    result = subprocess.run([*command, folder / "kernels.cpp", "-o", library], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[:3000]
    return library


class Kernels:
    """The functions of a library, which take CPU tensors, None, whole numbers and floats."""

    def __init__(self, library):
        self.library = ctypes.CDLL(str(library))

    def __call__(self, name, dtype, *arguments, error=0):
        function = getattr(self.library, f"{name}_{DTYPES[dtype]}_cuda")
        kinds = [
            ctypes.c_double if isinstance(a, float) else ctypes.c_int64 if isinstance(a, int) else ctypes.c_void_p
            for a in arguments
        ]
        function.argtypes = [*kinds, ctypes.c_void_p]
        status = function(*[a.data_ptr() if isinstance(a, torch.Tensor) else a for a in arguments], None)
        assert status == error, f"{name} returned {status}"

    def in_both_orders(self, run):
        """The results of a function that calls kernels. They must not depend on the order in which threads and blocks run."""
        results = []
        for backwards in (0, 1):
            self.library.shim_backwards(backwards)
            results.append(run())
        self.library.shim_backwards(0)
        for a, b in zip(*results):
            assert a is None or torch.equal(a.nan_to_num(), b.nan_to_num()), (
                "the result depends on the order of threads"
            )
        return results[0]


class Random:
    """Makes tensors with normally distributed numbers."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape, dtype, last=False, offset=0):
        """Of a shape (n, c, h, w), in one of the two layouts; it begins ``offset`` numbers behind an aligned address."""
        values = torch.randn(shape, generator=self.generator, dtype=torch.float64).to(dtype)
        memory = torch.cat([values.new_zeros(offset), (values.movedim(1, -1) if last else values).flatten()])[offset:]
        return memory.view(values.movedim(1, -1).shape).movedim(-1, 1) if last else memory.view(shape)


def empty_like(x):
    """A tensor of the same layout, full of nan, so that a number that is not written shows."""
    return torch.full_like(x, math.nan)


def agree(result, expected, dtype, what, scale=1.0):
    error = float((result.double() - expected).abs().max()) / max(1.0, float(expected.abs().max()))
    assert error <= TOLERANCE[dtype] * scale, f"{what}, {dtype}: differs by {error:.2g}"


def settings_of(act):
    return list(ACTIVATIONS).index(act), ACTIVATIONS[act].slope or 0.0


def check_bias_act(kernels, dtype, act, last, shape, parts):
    random, (n, c, h, w) = Random(1), shape
    has_bias, noise_n, has_scale, offset = parts
    x = random(n, c, h, w, dtype=dtype, last=last, offset=offset)
    x[x.abs() < 0.02] = 0.1  # rounding must not carry a number over a jump of the derivative at 0
    shift = act in ("tanh", "sigmoid", "softplus", "swish")  # the others have such a jump, so zeros are added
    b = random(c, dtype=dtype) * shift if has_bias else None
    noise = random(noise_n, 1, h, w, dtype=dtype) * shift if noise_n else None
    scale = random(n, c, dtype=dtype).abs() + 1 if has_scale else None
    m = random(n, c, h, w, dtype=dtype, last=last, offset=offset)
    gain, clamp = 1.3, math.inf if act != "swish" else 0.9

    u = x.double()
    if scale is not None:
        u = u * scale.double()[:, :, None, None]
    if noise is not None:
        u = u + noise.double()
    if b is not None:
        u = u + b.double()[:, None, None]
    u.requires_grad_(True)
    y = bias_act(u, None, act, gain, None if clamp == math.inf else clamp)
    (first,) = torch.autograd.grad(y, u, torch.ones_like(y), create_graph=True)
    second = torch.autograd.grad(first, u, torch.ones_like(y))[0] if first.requires_grad else torch.zeros_like(y)
    near_clamp = (y.abs() - clamp).abs() < 0.05
    for order, expected in enumerate((y, first * m.double(), second * m.double())):
        result = empty_like(x)
        inputs = [x, b, noise, noise_n, scale, result, n, c, h * w, int(last), *settings_of(act), gain, clamp]
        kernels("bias_act", dtype, order, m if order else None, *inputs)
        if order:  # the derivative jumps there
            result, expected = result.masked_fill(near_clamp, 0), expected.masked_fill(near_clamp, 0)
        agree(result, expected.detach(), dtype, f"bias_act {act}, order {order}", 3)
    if clamp == math.inf:
        check_backward(kernels, dtype, act, last, shape, (x, b, noise, scale), m, gain)


def check_backward(kernels, dtype, act, last, shape, inputs, m, gain):
    n, c, h, w = shape
    exact = [None if t is None else t.double().requires_grad_(True) for t in inputs]
    leaves = [t for t in exact if t is not None]
    expected = iter(torch.autograd.grad(bias_act(exact[0], exact[1], act, gain, None, *exact[2:]), leaves, m.double()))
    expected = [None if t is None else next(expected) for t in exact]
    x, b, noise, scale = inputs
    for parts in (1, 3):

        def run(parts=parts):
            dx, sums = empty_like(x), [torch.full([parts, n, c], math.nan, dtype=torch.float64) for _ in range(2)]
            dnoise = torch.full([n, 1, h, w], math.nan, dtype=dtype)
            given = [
                m,
                x,
                b,
                noise,
                0 if noise is None else len(noise),
                scale,
                dx,
                *sums,
                dnoise,
                parts,
                n,
                c,
                h * w,
                int(last),
            ]
            kernels("bias_act_backward", dtype, *given, *settings_of(act), gain, math.inf)
            return dx, *sums, dnoise

        dx, db, dscale, dnoise = kernels.in_both_orders(run)
        agree(dx, expected[0], dtype, f"dx of {act}", 3)
        sums = torch.float32 if dtype != torch.float64 else dtype  # half precisions are added in float32
        if b is not None:
            agree(db.sum(dim=[0, 1]), expected[1], sums, f"dbias of {act}", 10)
        if scale is not None:
            agree(dscale.sum(dim=0), expected[3], sums, f"dscale of {act}", 10)
        if noise is not None:
            dnoise = dnoise.double() if len(noise) == n else dnoise.double().sum(dim=0, keepdim=True)
            agree(dnoise, expected[2], dtype, f"dnoise of {act}", 10)
    only = torch.full([1, n, c], math.nan, dtype=torch.float64)  # one result, and no room for the others
    given = [
        m,
        x,
        b,
        noise,
        0 if noise is None else len(noise),
        scale,
        None,
        only,
        None,
        None,
        1,
        n,
        c,
        h * w,
        int(last),
    ]
    kernels("bias_act_backward", dtype, *given, *settings_of(act), gain, math.inf)
    assert torch.allclose(only.sum(dim=0), db.sum(dim=0), rtol=1e-5, atol=1e-5)


def check_upfirdn2d(kernels, dtype, last, size, taps, up, down, padding, separable):
    random, (n, c, h, w), (fh, fw) = Random(2), (2, 3, *size), taps
    x = random(n, c, h, w, dtype=dtype, last=last, offset=1)
    sums = torch.float64 if dtype == torch.float64 else torch.float32
    fx, fy = random(fw, dtype=sums), random(fh, dtype=sums)
    f = torch.outer(fy.double(), fx.double()) if separable else random(fh, fw, dtype=sums).double()
    expected = upfirdn2d_reference(x.double(), f.flip(0, 1), up, down, padding, 1.0)
    left, _, above, _ = padding
    planes, inner = (n, c) if last else (n * c, 1)
    oh, ow = expected.shape[2:]

    def run():
        y = random(n, c, oh, ow, dtype=dtype, last=last).fill_(math.nan)
        shape = [planes, h, w, inner, oh, ow, fh, fw, up, down, left, above]
        if separable:
            kernels(
                "upfirdn2d_separable",
                dtype,
                x,
                fx,
                fy,
                torch.full([planes, h, ow, inner], math.nan, dtype=sums),
                y,
                *shape,
            )
        else:
            kernels("upfirdn2d_full", dtype, x, f.to(sums), y, *shape)
        return (y,)

    agree(kernels.in_both_orders(run)[0], expected, dtype, f"upfirdn2d {taps} {up} {down} {padding}", 2)


def check_pixel_norm(kernels, dtype, last, shape):
    n, c, h, w = shape
    random = Random(3)
    x, g = (random(n, c, h, w, dtype=dtype, last=last) for _ in range(2))
    exact = x.double().requires_grad_(True)
    y = pixel_norm(exact, 1, 1e-3)
    for gradient, expected in ((None, y.detach()), (g, torch.autograd.grad(y, exact, g.double())[0])):

        def run(gradient=gradient):
            result = empty_like(x)
            kernels("pixel_norm", dtype, x, gradient, result, n, c, h * w, int(last), 1e-3)
            return (result,)

        agree(kernels.in_both_orders(run)[0], expected, dtype, "pixel_norm", 3)


def check_nan(kernels, dtype):
    """It passes every activation, clamped or not, and so do its derivatives where those depend on it."""
    x, one = torch.tensor([math.nan, 1.0], dtype=dtype), torch.ones(2, dtype=dtype)
    for act, clamp in itertools.product(ACTIVATIONS, (math.inf, 0.5)):
        for order in (0, 1):
            y = torch.zeros(2, dtype=dtype)
            kernels("bias_act", dtype, order, one, x, None, None, 0, None, y, 1, 1, 2, 0, *settings_of(act), 1.0, clamp)
            if order == 0 or act not in ("linear", "relu", "lrelu"):
                assert y[0].isnan(), (act, clamp, order)
            else:
                assert y[0] != 0, (act, clamp)
            assert not y[1].isnan()


def check(library):
    """Call every exported function in every dtype.

    Raises:
        AssertionError: a result is wrong.
    """
    kernels = Kernels(library)
    parts = itertools.cycle(
        [(True, 2, True, 0), (True, 1, False, 0), (False, 0, True, 1), (False, 0, False, 0), (True, 0, True, 3)]
    )
    for dtype, last in itertools.product(DTYPES, (False, True)):
        for act in ACTIVATIONS:
            check_bias_act(kernels, dtype, act, last, (2, 5, 3, 7), next(parts))
        check_bias_act(kernels, dtype, "swish", last, (2, 8, 4, 6), (True, 2, True, 0))  # packs of neighbours
        check_bias_act(kernels, dtype, "tanh", last, (1, 70, 3, 5), (True, 1, True, 0))  # a warp for each position
        check_bias_act(
            kernels, dtype, "softplus", last, (1, 2, 75, 75), (True, 1, True, 0)
        )  # more than one run of a thread
        for separable in (False, True):
            for case in (
                ((9, 40), (4, 4), 1, 1, [2, 1, 2, 1]),  # the kernel for four by four taps
                ((6, 5), (3, 5), 2, 1, [2, 1, 2, 2]),
                ((7, 12), (4, 2), 3, 2, [-2, 5, 3, -1]),
                ((8, 9), (6, 6), 1, 3, [0, 7, 6, 0]),
                ((1, 1), (12, 12), 4, 1, [9, 8, 9, 8]),
            ):
                check_upfirdn2d(kernels, dtype, last, *case, separable)
        check_upfirdn2d(kernels, dtype, last, (50, 5), (40, 60), 2, 1, [30, 30, 0, 0], True)
        for shape in ((1, 64, 1, 1), (3, 33, 5, 2), (2, 5, 7, 40)):
            check_pixel_norm(kernels, dtype, last, shape)
    check_pixel_norm(kernels, torch.float16, False, (1, 32, 160, 256))  # enough positions for a thread each
    for dtype in DTYPES:
        check_nan(kernels, dtype)
    one = torch.zeros(1)
    kernels("upfirdn2d_full", torch.float32, one, one, one, 1, 40, 40, 1, 1, 1, 33, 32, 1, 1, 0, 0, error=1)
    kernels(
        "upfirdn2d_separable", torch.float32, one, one, one, one, one, 1, 1, 1, 1, 1, 1, 1, 1025, 1, 1, 0, 0, error=1
    )


if __name__ == "__main__":
    check(sys.argv[1])
