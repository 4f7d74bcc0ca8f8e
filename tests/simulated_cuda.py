"""A simulated GPU: tensors whose ``device`` says "cuda:0" or "mps:0", and whose numbers lie in CPU memory.

`simulated_gpu` makes torch believe in one. Whole programs then run on it without a GPU, and what a real one refuses raises
`WrongDevice`: an operation on tensors of two devices, a random generator of another device, the numbers of a tensor that was not
first copied to the CPU. On "mps" it also refuses float64. It says nothing of speed, of memory, or of how a GPU rounds.

A `Simulated` tensor wraps a CPU tensor. Torch hands every operation on it to `Simulated.__torch_dispatch__`, below autograd.
Every operation that only names the device, such as ``torch.zeros(..., device="cuda")``, goes to `_Creation`.
"""

import contextlib
from collections.abc import Iterator
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

HIDDEN = torch.device("meta", 1)  # where torch's own C++ code believes these tensors to be: a device without a driver
COPIES = {"_to_copy", "copy_", "copy"}  # these may read one device and write another
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_"}  # these may take their indices from the CPU
WAITS = {
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "equal",
    "_unique2",
}  # these make the program wait for a GPU

place = torch.device("cuda", 0)  # the device that is simulated now
waits: list[str] = []  # the operations that made the program wait for the GPU, since `simulated_gpu` was entered
_generators: dict[int, torch.Generator] = {}  # the random generators on the GPU, by the address of what torch passes on


class WrongDevice(RuntimeError):
    """What a real GPU would have refused."""


class Simulated(torch.Tensor):
    """A tensor on the simulated GPU.

    Attributes:
        inner: the CPU tensor with its numbers.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: torch.Tensor):
        if place.type == "mps" and inner.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
        about = dict(strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype, device=HIDDEN)
        self = torch.Tensor._make_wrapper_subclass(cls, inner.shape, **about)
        self.inner = inner
        return self

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return _run(operation, args, kwargs or {})

    @property
    def device(self):
        return place

    is_cuda = property(lambda self: place.type == "cuda")
    is_mps = property(lambda self: place.type == "mps")
    is_cpu = property(lambda self: False)
    is_meta = property(lambda self: False)

    def __repr__(self, *, tensor_contents=None):
        return f"Simulated({self.inner!r}, device={place})"

    # For a list of rows torch fills a tensor by its address, which a simulated tensor does not have.
    def __getitem__(self, index):
        return super().__getitem__(_without_lists(index))

    def __setitem__(self, index, value):
        super().__setitem__(_without_lists(index), value)

    def numpy(self, *, force=False):
        raise WrongDevice(f"the numbers of a tensor on {place} were asked for without a copy to the CPU")

    def __array__(self, *args, **kwargs):
        self.numpy()

    def data_ptr(self):
        raise WrongDevice("the address of a simulated tensor was asked for; use the reference operations")

    def tolist(self):
        waits.append("tolist")
        return self.inner.tolist()

    def __deepcopy__(self, memo):
        found = Simulated(self.inner.clone()).requires_grad_(self.requires_grad)
        memo[id(self)] = found = torch.nn.Parameter(found, self.requires_grad) if _is_parameter(self) else found
        return found

    def __reduce_ex__(self, protocol):  # in a file, as after torch.load(..., map_location="cpu")
        return self.inner.detach().clone().__reduce_ex__(protocol)


def _without_lists(index):
    """An index with tensors in place of lists."""
    if isinstance(index, tuple):
        return tuple(map(_without_lists, index))
    return torch.tensor(index, device=place) if isinstance(index, list) else index


def _is_parameter(x: torch.Tensor) -> bool:
    return isinstance(x, torch.nn.Parameter)


def _there(device: object) -> bool:
    """True if a device, or its name, is the simulated one."""
    return device is not None and torch.device(device).type in (place.type, "meta") and torch.device(device) != META


META = torch.device("meta")  # real tensors without numbers, which readers build networks from


def _run(operation, args, kwargs):
    """Run an operation over the inner tensors, if a GPU would take it."""
    name = operation._opname
    tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
    ours = [x for x in tensors if isinstance(x, Simulated)]
    others = [x for x in tensors if not isinstance(x, Simulated)]
    _check_devices(operation, name, ours, others, args)
    result_there = bool(ours)
    if kwargs.get("device") is not None:
        result_there = _there(kwargs["device"])
        if name == "_to_copy" and result_there != bool(ours):
            if not (kwargs.get("non_blocking") and getattr(args[0], "is_page_locked", False)):
                waits.append("to the GPU" if result_there else "to the CPU")
    elif name in COPIES:
        result_there = isinstance(args[0], Simulated)
        if ours and others:
            waits.append(name)
    by_mask = name in INDEXED and any(x.dtype == torch.bool for x in args[1] if isinstance(x, Simulated))
    if name in WAITS or by_mask or (name in INDEXED and ours and others):
        waits.append(name)
    generator = kwargs.get("generator")
    if generator is not None and (generator._cdata in _generators) != result_there:
        raise WrongDevice(f"{operation}: the random generator is on another device than the tensor")
    before = {id(x.inner): x for x in ours}

    def inner(x):
        if isinstance(x, Simulated):
            return x.inner
        return torch.device("cpu") if isinstance(x, torch.device) and _there(x) else x

    kwargs = {key: value for key, value in kwargs.items() if key != "pin_memory"}
    if name == "_efficientzerotensor":  # autograd's own zeros, of which not every operation takes part in a simulation
        operation = torch.ops.aten.zeros.default
    found = operation(*tree_map(inner, args), **tree_map(inner, kwargs))

    def outer(x):
        if not isinstance(x, torch.Tensor) or not result_there:
            return x
        return before[id(x)] if id(x) in before else Simulated(x)  # an operation in place returns its argument

    return tree_map(outer, found)


def _check_devices(operation, name, ours, others, args) -> None:
    """Raise WrongDevice if an operation mixes devices as CUDA does not allow."""
    if not ours or not others or name in COPIES:
        return
    if name in INDEXED:
        values = args[2] if len(args) > 2 else args[0]
        if isinstance(args[0], Simulated) and (isinstance(values, Simulated) or values.ndim == 0):
            return
    elif torch.Tag.pointwise in operation.tags and not any(x.ndim for x in others):
        if not name.endswith("_") or isinstance(args[0], Simulated):
            return
    shapes = [f"{x.device} {tuple(x.shape)}" for x in (*ours, *others)]
    raise WrongDevice(f"{operation}: expected all tensors on the same device; they are on {', '.join(shapes)}")


class _Creation(TorchDispatchMode):
    """Sees all operations, so also those that make a tensor on the GPU from none."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        generator = getattr(kwargs.get("generator"), "_cdata", None) in _generators
        if generator or Simulated in types or _there(kwargs.get("device")):
            return _run(operation, args, kwargs)
        return operation(*args, **kwargs)


class _Generator(torch.Generator):
    """`torch.Generator`, of which those on the GPU are remembered."""

    def __new__(cls, device="cpu"):
        self = super().__new__(cls)
        if _there(device):
            _generators[self._cdata] = self
        return self

    def manual_seed(self, seed):
        """A seed gives other numbers on a GPU than on a CPU."""
        return super().manual_seed(seed ^ 0x2545F491 if self._cdata in _generators else seed)

    @property
    def device(self):
        return place if self._cdata in _generators else torch.device("cpu")


def _pinned(x: torch.Tensor) -> torch.Tensor:
    """A copy in pinned memory, from which alone a copy to the GPU need not be waited for."""
    copy = x.clone()
    copy.is_page_locked = True
    return copy


def _numbered(x):
    """A device without a number as one with a number, so that torch does not ask a driver for the current one."""
    return place if isinstance(x, (str, torch.device)) and _names_place(x) else x


def _names_place(x) -> bool:
    return str(x) in (place.type, str(place))


@contextlib.contextmanager
def simulated_gpu(kind: str = "cuda") -> Iterator[torch.device]:
    """Make torch believe in one GPU while the block runs.

    Args:
        kind: "cuda" or "mps".

    Yields:
        Its device.
    """
    global place
    before, place = place, torch.device(kind, 0)
    waits.clear()
    original_to, used = torch.Tensor.to, [0]

    def to(self, *args, **kwargs):
        return original_to(self, *map(_numbered, args), **{key: _numbered(value) for key, value in kwargs.items()})

    def made(function):
        def make(data, *args, device=None, requires_grad=False, **kwargs):
            if device is None or not _there(device):
                if not isinstance(data, Simulated):
                    kwargs.update({} if device is None else {"device": device})
                return function(data, *args, **kwargs).requires_grad_(requires_grad)
            return to(function(data, *args, **kwargs), place).requires_grad_(requires_grad)

        return make

    def growing(device=None):
        used[0] += 1000
        return used[0]

    of_cuda = dict(
        is_available=lambda: kind == "cuda", device_count=lambda: int(kind == "cuda"), current_device=lambda: 0,
        get_device_name=lambda device=None: "simulated", get_device_capability=lambda device=None: (9, 0),
        _lazy_init=lambda: None, synchronize=lambda device=None: None, memory_reserved=lambda device=None: 0,
        memory_allocated=lambda device=None: 0, max_memory_allocated=growing, mem_get_info=lambda d=None: (10**9, 10**9),
        reset_peak_memory_stats=lambda device=None: None, get_rng_state=lambda device=None: torch.get_rng_state(),
        set_rng_state=lambda state, device=None: None,
    )  # fmt: skip
    try:
        with contextlib.ExitStack() as stack:
            for name, value in of_cuda.items():
                stack.enter_context(mock.patch.object(torch.cuda, name, value))
            stack.enter_context(mock.patch.object(torch.backends.mps, "is_available", lambda: kind == "mps"))
            stack.enter_context(mock.patch.object(torch, "Generator", _Generator))
            for name in ("tensor", "as_tensor"):  # they look for the device before any mode sees them
                stack.enter_context(mock.patch.object(torch, name, made(getattr(torch, name))))
            stack.enter_context(mock.patch.object(torch.Tensor, "to", to))
            stack.enter_context(mock.patch.object(torch.Tensor, "pin_memory", _pinned))
            stack.enter_context(_Creation())
            yield place
    finally:
        place = before
        _generators.clear()
