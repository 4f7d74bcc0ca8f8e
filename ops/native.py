"""Which implementation of the operations runs: the native library, loaded when it is first wanted, or the reference.

``mode()`` is "auto" (native where it can be had, else the reference, and one line that says why), "native" (an error where it
cannot) or "reference": what `set_mode` chose, else the environment variable ``STYLEGAN_INVERT_OPS``, or "auto".
"""

import contextlib
import ctypes
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode

from stylegan_invert.errors import OpsError

MODES = ("auto", "native", "reference")
DTYPES = {
    "cpu": {torch.float32: "f32", torch.float64: "f64"},
    "cuda": {torch.float32: "f32", torch.float64: "f64", torch.float16: "f16", torch.bfloat16: "bf16"},
}

GRAIN = 32768  # numbers for each thread of a CPU, at least

PLAIN = (torch.Tensor, torch.nn.Parameter)  # what has memory to point at, unlike fake tensors

counts: Counter[str] = Counter()
"""How often each kernel has run, as "bias_act cpu": nothing else proves that it was the native one."""

_mode: str | None = None  # what was chosen in this process
_libraries: dict[str, ctypes.CDLL | OpsError] = {}


def mode() -> str:
    """The mode in use.

    Raises:
        OpsError: the environment variable says something else.
    """
    if _mode is not None:
        return _mode
    name = os.environ.get("STYLEGAN_INVERT_OPS", "auto")
    if name not in MODES:
        raise OpsError(f"STYLEGAN_INVERT_OPS is {name!r}; expected one of {', '.join(MODES)}")
    return name


def set_mode(name: str) -> None:
    """Choose "auto", "native" or "reference", for this process."""
    global _mode
    if name not in MODES:
        raise ValueError(f"ops mode {name!r}; expected one of {', '.join(MODES)}")
    _mode = name


@contextlib.contextmanager
def using(name: str) -> Iterator[None]:
    """A mode for a block."""
    global _mode
    before = _mode
    set_mode(name)
    try:
        yield
    finally:
        _mode = before


def is_native(x: torch.Tensor) -> bool:
    """Whether operations on this tensor run natively, as far as the mode, its device and its dtype go.

    Raises:
        OpsError: the mode is "native", and they cannot.
    """
    return _is_native(x.device, x.dtype)


def _is_native(device: torch.device, dtype: torch.dtype) -> bool:
    chosen = mode()
    if chosen == "reference":
        return False
    if dtype not in DTYPES.get(device.type, {}):
        if chosen == "native":
            raise OpsError(
                f"there are no native operations for {dtype} on {device.type}; choose --ops auto or reference"
            )
        return False
    found = library(device)
    if isinstance(found, OpsError):
        if chosen == "native":
            raise OpsError(f"{found} (--ops native was asked for; 'stylegan-invert doctor' says more)") from found
        return False
    return True


# What torch.compiler.assume_constant_result does, which would import all of torch._dynamo: a second, and only torch.compile
# needs it.
_is_native._dynamo_marked_constant = True  # type: ignore[attr-defined]


def library(device: torch.device) -> ctypes.CDLL | OpsError:
    """The library for a device, built and loaded when first asked for; or why it cannot be had, which is said once."""
    from . import build

    target = build.Target.of(device)
    name = target.arch or "cpu"
    if name not in _libraries:
        try:
            _libraries[name] = ctypes.CDLL(str(build.build(target)))
        except OpsError as e:
            _libraries[name] = e
        except OSError as e:
            _libraries[name] = OpsError(f"the library that was built cannot be loaded: {e}")
        if isinstance(_libraries[name], OpsError) and mode() == "auto":
            print(f"stylegan-invert: {_libraries[name]}; the operations run in their reference form", file=sys.stderr)
    return _libraries[name]


def run(op: str, x: torch.Tensor, *arguments: Any) -> None:
    """Run a kernel and count it: the library's "NAME_f32" for float32, on the device and in the dtype of ``x``.

    Args:
        arguments: tensors (their memory is passed), None, whole numbers, and floats, in the function's order. The number of
            threads, or the CUDA stream, is added.
    """
    _call(op, x, *arguments)
    counts[f"{op} {x.device.type}"] += 1


def _call(op: str, x: torch.Tensor, *arguments: Any) -> None:
    kind = x.device.type
    function = _function(op, x.device, x.dtype)
    if not function.argtypes:
        function.argtypes = [*map(_c_type, arguments), ctypes.c_void_p if kind == "cuda" else ctypes.c_int]
    values = [a.data_ptr() if isinstance(a, torch.Tensor) else a for a in arguments]
    if kind == "cuda":
        with torch.cuda.device(x.device):
            error = function(*values, torch.cuda.current_stream(x.device).cuda_stream)
        if error:
            raise RuntimeError(f"CUDA error {error} in {op}")
    else:
        # As torch's own operations do, take no more threads than have some thousand numbers each: waking them costs time.
        function(*values, max(1, min(torch.get_num_threads(), x.numel() // GRAIN)))


def _function(op: str, device: torch.device, dtype: torch.dtype) -> Any:
    """The library's function; ctypes keeps it, so that its types have to be said once."""
    found = library(device)
    assert isinstance(found, ctypes.CDLL)
    return getattr(found, f"{op}_{DTYPES[device.type][dtype]}" + ("_cuda" if device.type == "cuda" else ""))


def _c_type(a: Any) -> type:
    if a is None or isinstance(a, torch.Tensor):
        return ctypes.c_void_p
    return ctypes.c_double if isinstance(a, float) else ctypes.c_int64


def checksum(x: torch.Tensor) -> int:
    """A number of 64 bits that changes with any number of a contiguous tensor on the CPU, and with their order and shape."""
    result = torch.zeros([], dtype=torch.int64)
    _call("checksum", x, x, x.numel(), result)  # no operation, so it is not counted as one
    return hash((int(result), x.shape))


def operation(
    name: str,
    forward: Callable[..., Any],
    fake: Callable[..., Any],
    backward: Callable[..., Any] | None = None,
    setup_context: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """Register an operator with `torch.library`, as ``torch.ops.stylegan_invert.NAME``.

    Args:
        forward: runs the kernel; its annotations make the operator's schema.
        fake: tensors like its results, without numbers.
        backward, setup_context: as for `torch.library.register_autograd`.

    Returns:
        The operator to call. Where no compiler, tracer or other transformation of torch looks on, it does without
        `torch.library`, whose price is some hundred microseconds for a call and its gradient: more than a small picture's
        arithmetic.
    """
    registered = torch.library.custom_op(f"stylegan_invert::{name}", forward, mutates_args=())
    registered.register_fake(fake)
    direct = forward
    if backward is not None:
        registered.register_autograd(backward, setup_context=setup_context)

        def together(ctx: Any, *arguments: Any) -> Any:  # torch takes long to call a setup_context of its own
            output = forward(*arguments)
            setup_context(ctx, arguments, output)
            return output

        methods = {"forward": staticmethod(together), "backward": staticmethod(backward)}
        direct = type(name, (torch.autograd.Function,), methods).apply

    def call(x: torch.Tensor, *arguments: Any) -> Any:
        watched = (
            torch.compiler.is_compiling()
            or _get_current_dispatch_mode() is not None
            or torch._C._are_functorch_transforms_active()
        )
        return (registered if watched or type(x) not in PLAIN else direct)(x, *arguments)

    return call


def memory_format(last: int | bool) -> torch.memory_format:
    """Torch's name for a layout of `layout`."""
    return torch.channels_last if last else torch.contiguous_format


def layout(x: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int, int, int]]:
    """A tensor (N, C, ...) in one of the layouts that the kernels take, and its n, c, p and whether c runs fastest.

    Contiguous and channels-last tensors are taken as they are; others are copied.
    """
    n, c = x.shape[:2]
    p = x.shape[2:].numel()
    last = x.ndim == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return (x if last else x.contiguous()), (n, c, p, int(last))
