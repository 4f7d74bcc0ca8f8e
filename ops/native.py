"""Chooses between the two forms of each operation, loads the native library and calls its functions.

`mode` says which form runs:

* "auto": the native form, unless all networks that the process has made are too small for it (see `made_network`). If the
  library cannot be built or loaded, one line says why, and the reference form runs.
* "native": the native form. If the library cannot be built or loaded, that is an error.
* "reference": the form in torch's own operations.

It is what `set_mode` chose, else the environment variable ``STYLEGAN_INVERT_OPS``, else "auto".
"""

import _ctypes
import contextlib
import ctypes
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode

from stylegan_invert.errors import OpsError

if TYPE_CHECKING:
    from .build import Target

MODES = ("auto", "native", "reference")
DTYPES = {
    "cpu": {torch.float32: "f32", torch.float64: "f64"},
    "cuda": {torch.float32: "f32", torch.float64: "f64", torch.float16: "f16", torch.bfloat16: "bf16"},
}

FUNCTIONS = {
    "cpu": [
        "bias_act",
        "bias_act_backward",
        "upfirdn2d_full",
        "upfirdn2d_separable",
        "pixel_norm",
        "winograd",
        "winograd_kernel",
        "winograd_weight",
    ],
    "cuda": ["bias_act", "bias_act_backward", "upfirdn2d_full", "upfirdn2d_separable", "pixel_norm"],
}
"""What a library exports for each dtype of a device; see `_symbol`."""

GRAIN = 32768  # a CPU thread is given at least this many numbers
PAYING_RESOLUTION = 64  # for networks with fewer pixels to a side a build takes longer than it saves; see `mode_for`

PLAIN = (torch.Tensor, torch.nn.Parameter)  # the tensor classes whose memory can be read, unlike that of fake tensors

counts: Counter[str] = Counter()
"""How often each native kernel has run, by a key such as "bias_act cpu". Tests use it to prove that the native form ran."""

_mode: str | None = None  # the choice of `set_mode`
_largest = 0  # the side in pixels of the largest network that `made_network` was told of
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
    """Choose "auto", "native" or "reference" for this process.

    Raises:
        ValueError: the name is none of these.
    """
    global _mode
    if name not in MODES:
        raise ValueError(f"ops mode {name!r}; expected one of {', '.join(MODES)}")
    _mode = name


@contextlib.contextmanager
def using(name: str) -> Iterator[None]:
    """Use a mode for the length of a block."""
    global _mode
    before = _mode
    set_mode(name)
    try:
        yield
    finally:
        _mode = before


def mode_for(resolution: int) -> str:
    """The mode to use for a network whose pictures have ``resolution`` pixels to a side.

    It is `mode`, except that "auto" becomes "reference" below 64 pixels. At 32x32 the native form saves some four seconds in
    1,000 steps of a projection on one CPU core, and a build takes 15. The answer does not depend on what has been built, so that
    the same command gives the same numbers every time.
    """
    chosen = mode()
    return "reference" if chosen == "auto" and resolution < PAYING_RESOLUTION else chosen


def made_network(resolution: int) -> None:
    """Be told that this process has made a generator whose pictures have ``resolution`` pixels to a side.

    The largest one decides for the whole process what "auto" means, also for discriminators and for distances between
    pictures. A process that has made none takes the native form. So a process that works with small networks alone never
    starts a build. If it makes a larger one later, the last bits of what it computes with the small ones change then; to prevent
    that, choose a mode with `set_mode`.
    """
    global _largest
    _largest = max(_largest, resolution)


def is_native(x: torch.Tensor) -> bool:
    """True if the mode, the device and the dtype of a tensor allow the native form. The library is built if need be.

    Raises:
        OpsError: the mode is "native", and the native form cannot run.
    """
    return _is_native(x.device, x.dtype)


def _is_native(device: torch.device, dtype: torch.dtype) -> bool:
    chosen = mode_for(_largest) if _largest else mode()
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
    """The library for a device, or the reason why there is none. It is built and loaded at the first call for a device."""
    from . import build

    target = build.Target.of(device)
    name = target.arch or "cpu"
    if name not in _libraries:
        try:
            _libraries[name] = _load(target)
        except OpsError as e:
            _libraries[name] = e
            if mode() == "auto":
                print(f"stylegan-invert: {e}; the operations run in their reference form", file=sys.stderr)
    return _libraries[name]


def _load(target: "Target") -> ctypes.CDLL:
    """Build a library and load it. One that cannot be loaded, or that lacks a function, is discarded and built once more.

    Raises:
        OpsError: it cannot be built, or the second one cannot be loaded either.
    """
    from . import build

    reason = ""
    for _ in range(2):
        path = build.build(target)
        try:
            loaded = ctypes.CDLL(str(path))
        except OSError as e:
            reason = f"the library that was built cannot be loaded: {e}"
        else:
            missing = _missing(loaded, "cuda" if target.arch else "cpu")
            if not missing:
                return loaded
            reason = f"the library {path} lacks the function {missing}"
            _ctypes.dlclose(loaded._handle)  # else the next library of this name would not be looked at
        build.discard(path)
    raise OpsError(reason)


def _missing(loaded: ctypes.CDLL, kind: str) -> str | None:
    """The first function that a library for a kind of device should have, and has not."""
    symbols = [_symbol(op, torch.device(kind), dtype) for op in FUNCTIONS[kind] for dtype in DTYPES[kind]]
    return next((symbol for symbol in symbols if not hasattr(loaded, symbol)), None)


def run(op: str, x: torch.Tensor, *arguments: Any) -> None:
    """Run a function of the library, and count it.

    Args:
        op: the function's name, one of `FUNCTIONS`.
        x: the tensor whose device and dtype choose the variant.
        arguments: what the function takes, in its order: tensors, whose address is passed; None; whole numbers; floats. A last
            argument is added, which is the number of threads on a CPU and the stream on a GPU.

    Raises:
        RuntimeError: a tensor is on another device than ``x``, or CUDA reports an error.
    """
    _call(op, x, *arguments)
    counts[f"{op} {x.device.type}"] += 1


def _call(op: str, x: torch.Tensor, *arguments: Any) -> None:
    kind = x.device.type
    function = _function(op, x.device, x.dtype)
    if not function.argtypes:
        function.argtypes = [*map(_c_type, arguments), ctypes.c_void_p if kind == "cuda" else ctypes.c_int]
    values = [_address(op, a, x.device) if isinstance(a, torch.Tensor) else a for a in arguments]
    if kind == "cuda":
        with torch.cuda.device(x.device):
            error = function(*values, torch.cuda.current_stream(x.device).cuda_stream)
        if error:
            raise RuntimeError(f"CUDA error {error} in {op}")
    else:
        # Waking a thread costs time, so each gets some thousand numbers at least, as in torch's own operations.
        function(*values, max(1, min(torch.get_num_threads(), x.numel() // GRAIN)))


def _address(op: str, t: torch.Tensor, device: torch.device) -> int:
    """Where a tensor's numbers lie. A pointer into another device's memory would end the process, so it is not handed over."""
    if t.device != device:
        raise RuntimeError(
            f"{op}: one tensor is on {t.device} and another on {device}; expected all on the same device"
        )
    return t.data_ptr()


def _function(op: str, device: torch.device, dtype: torch.dtype) -> Any:
    """A function of the library. ctypes returns the same object each time, so its argument types are set once."""
    loaded = library(device)
    assert isinstance(loaded, ctypes.CDLL)
    return getattr(loaded, _symbol(op, device, dtype))


def _symbol(op: str, device: torch.device, dtype: torch.dtype) -> str:
    """The name under which a library exports a function, such as "bias_act_f32" or "bias_act_f16_cuda"."""
    return f"{op}_{DTYPES[device.type][dtype]}" + ("_cuda" if device.type == "cuda" else "")


def _c_type(a: Any) -> type:
    if a is None or isinstance(a, torch.Tensor):
        return ctypes.c_void_p
    return ctypes.c_double if isinstance(a, float) else ctypes.c_int64


def checksum(x: torch.Tensor) -> int:
    """A number of 64 bits that depends on every number of a contiguous tensor on the CPU, on their order and on the shape."""
    result = torch.zeros([], dtype=torch.int64)
    _call("checksum", x, x, x.numel(), result)  # not counted in `counts`, since it is no operation of a network
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
        name: the operator's name.
        forward: runs the kernel; its annotations make the operator's schema.
        fake: makes tensors of the same shape and layout as the results, without numbers.
        backward: as for `torch.library.register_autograd`; None for an operator without a gradient.
        setup_context: as for `torch.library.register_autograd`.

    Returns:
        The function to call. It goes through `torch.library` only if a compiler, a tracer or another transformation of torch has
        to see the operator. Otherwise it runs ``forward`` directly, since `torch.library` adds some hundred microseconds to a call
        and its gradient, which is more than the arithmetic of a small picture takes.
    """
    registered = torch.library.custom_op(f"stylegan_invert::{name}", forward, mutates_args=())
    registered.register_fake(fake)
    direct = forward
    if backward is not None and setup_context is not None:
        registered.register_autograd(backward, setup_context=setup_context)

        def together(ctx: Any, *arguments: Any) -> Any:  # faster than a setup_context that torch calls by itself
            output = forward(*arguments)
            setup_context(ctx, arguments, output)
            return output

        methods = {"forward": staticmethod(together), "backward": staticmethod(backward)}
        function: Any = type(name, (torch.autograd.Function,), methods)
        direct = function.apply

    def call(x: torch.Tensor, *arguments: Any) -> Any:
        watched = (
            torch.compiler.is_compiling()
            or _get_current_dispatch_mode() is not None
            or torch._C._are_functorch_transforms_active()
        )
        return (registered if watched or type(x) not in PLAIN else direct)(x, *arguments)

    return call


def memory_format(last: int | bool) -> torch.memory_format:
    """Torch's name for the layout that `layout` describes by its last number: 1 for channels-last, 0 for contiguous."""
    return torch.channels_last if last else torch.contiguous_format


def layout(x: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int, int, int]]:
    """Bring a tensor (N, C, ...) into one of the two layouts that the kernels take.

    Returns:
        The tensor itself if it is contiguous or channels-last, else a contiguous copy.
        (n, c, p, last): the numbers of pictures, channels and positions, and 1 for channels-last or 0 for contiguous.
    """
    n, c = x.shape[:2]
    p = x.shape[2:].numel()
    last = x.ndim == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return (x if last else x.contiguous()), (n, c, p, int(last))
