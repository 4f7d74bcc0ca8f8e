"""From the tensors of a file to a network: every tensor is compared first, and only then is memory taken.

All readers end here. A reader builds the module on PyTorch's "meta" device, where tensors have shapes and take no
memory, and says for each of its tensors which tensors of the file it is computed from, and how.

In place of a file's tensors there can be those of a module in memory (`LiveTensor`). The network then lies on their
device, and where its tensor is theirs without a change, both use the same memory.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar

import torch

from ..errors import NetworkFileError
from ..files.tensors import TensorRecord
from .attributes import LiveTensor

Network = TypeVar("Network", bound=torch.nn.Module)
Make = Callable[..., torch.Tensor]
Shape = tuple[int, ...]

ARGUMENTS = "its shape is {found}; its arguments ask for {wanted}"
EXPECTED = "it is of shape {found}; expected {wanted}"
"""Sentences for a tensor of another shape than the network's."""


def unchanged(value: torch.Tensor) -> torch.Tensor:
    """The ``make`` of a tensor that the file holds as the network has it."""
    return value


Record = TensorRecord | LiveTensor | torch.Tensor


class Source(NamedTuple):
    """The inputs of one tensor of a network, and the function that computes it from them.

    Attributes:
        inputs: name in the file to the record of the tensor, or None if the file has none of that name; and the shape
            that it must have, or None if every shape is right from which ``make`` makes one that fits the network.
            Empty for a tensor that such files do not hold.
        make: takes the inputs, as float32 tensors of its own, and returns the network's tensor. Where an input has no
            shape to be compared with, it is first run on the meta device.
        is_view: True if ``make`` returns its one input in another shape, or as it is, and changes none of its numbers.
            It is then given the very memory of a `LiveTensor`.
    """

    inputs: Mapping[str, tuple[Record | None, Shape | None]]
    make: Make = unchanged
    is_view: bool = False


class Budget:
    """The bytes that all tensors made from one file may take, so that tensors which share a storage cannot multiply it.

    Args:
        file: its name, for errors.
        nbytes: the limit, usually twice the size of the file.
    """

    def __init__(self, file: object, nbytes: int):
        self.file, self.left = file, nbytes

    def spend(self, place: str, nbytes: int) -> None:
        """Take bytes for the tensor at a place.

        Raises:
            NetworkFileError: fewer are left.
        """
        self.left -= nbytes
        if self.left < 0:
            raise NetworkFileError(
                self.file, place, "the tensors so far take twice the memory of the file; too many share one storage"
            )


@contextlib.contextmanager
def constructing(file: object, place: str, what: str = "its arguments") -> Iterator[None]:
    """Run the block on the meta device, and turn errors of the constructors in it into a `NetworkFileError`.

    Args:
        file: its name, for errors.
        place: where in the file the network is.
        what: the thing in the file that says how the network is built.
    """
    try:
        with torch.device("meta"):
            yield
    except NetworkFileError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as e:
        reason = str(e).splitlines()[0][:200] if str(e) else type(e).__name__
        raise NetworkFileError(file, place, f"{what} describe no network: {reason}") from None


def by_name(network: torch.nn.Module, records: Mapping[str, TensorRecord]) -> dict[str, Source]:
    """The sources of a network whose tensors have the same names and shapes in the file.

    Args:
        network: built on the meta device.
        records: the file's tensors for it, by name.
    """
    return {name: Source({name: (records.get(name), tuple(t.shape))}) for name, t in network.state_dict().items()}


def assemble(
    network: Network,
    sources: Mapping[str, Source],
    file: object,
    place: str,
    budget: Budget,
    *,
    names: Iterable[str] = (),
    misfit: str = ARGUMENTS,
    unknown: str = "its network has no such tensor",
    not_finite: str = "",
) -> Network:
    """Give a network its tensors: float32 on the CPU (integers keep their type), in eval mode, without gradients.

    If its inputs are a module's in memory, the network is on their device.

    Presence, shape and type of all tensors are compared before the first of them takes memory.

    Args:
        network: a network that was built on the meta device.
        sources: the `Source` of each tensor in the network's ``state_dict()``, by name.
        file: the name of the file, for errors.
        place: where in the file the network is; put in front of names in errors.
        budget: the memory that the tensors may take.
        names: the names of all tensors that the file has for this network. One that is not used is refused. Without
            names nothing is refused.
        misfit: the sentence for a tensor of another shape, see `compare`.
        unknown: the sentence for a tensor that is not used.
        not_finite: the sentence for a tensor that holds infinities or NaN; empty if they are not looked for.

    Returns:
        The network itself.

    Raises:
        NetworkFileError: a tensor is missing or unknown, or does not fit, or they take too much memory.
        ValueError: the sources are not those of this network: an error in the reader.
    """
    expected = network.state_dict()
    if sources.keys() != expected.keys():
        wrong = ", ".join(sorted(sources.keys() ^ expected.keys()))
        raise ValueError(f"sources must be given for the network's tensors and no others; wrong are {wrong}")
    for name, source in sources.items():
        _compare_source(name, source, expected[name], file, place, misfit)
    used = {key for source in sources.values() for key in source.inputs}
    for name in names:
        if name not in used:
            raise NetworkFileError(file, _at(place, name), unknown)
    values: dict[str, torch.Tensor] = {}
    records = (record for source in sources.values() for record, _ in source.inputs.values())
    device = next((record.tensor.device for record in records if isinstance(record, LiveTensor)), "cpu")
    for name, source in sources.items():
        floats = expected[name].dtype.is_floating_point
        where = _at(place, next(iter(source.inputs), name))
        inputs = [record for record, _ in source.inputs.values() if record is not None]  # `compare` refuses None
        budget.spend(where, max(expected[name].nbytes, 4 * sum(map(_numel, inputs)) if floats else 0))
        same = source.is_view or source.make is unchanged
        value = source.make(*(_tensor(record, floats, same) for record in inputs)).to(device).contiguous()
        if not_finite and not bool(torch.isfinite(value).all()):
            raise NetworkFileError(file, where, not_finite)
        values[name] = value
    network.load_state_dict(values, assign=True)
    return network.eval().requires_grad_(False)


def compare(
    record: Record | None,
    shape: Shape | None,
    expected: torch.Tensor,
    file: object,
    place: str,
    misfit: str = ARGUMENTS,
) -> None:
    """Compare one tensor of a file with the required shape and type; no memory is taken.

    Args:
        record: the record of the file's tensor; None if it is missing.
        shape: the shape that it must have; None for any.
        expected: the network's tensor. If it holds floating-point numbers, the file's may be of any such type.
        file: its name, for errors.
        place: where in the file the tensor is.
        misfit: the sentence for another shape, with ``{found}``, ``{dtype}`` and ``{wanted}``. What follows its
            semicolon is also said of a tensor that is missing.

    Raises:
        NetworkFileError: it is missing, or of another shape or type.
    """
    if record is None:
        wanted = tuple(expected.shape) if shape is None else shape
        raise NetworkFileError(file, place, f"it is missing; {misfit.partition('; ')[2].format(wanted=wanted)}")
    if shape is not None and tuple(record.shape) != shape:
        raise NetworkFileError(file, place, misfit.format(found=tuple(record.shape), dtype=record.dtype, wanted=shape))
    floats = expected.dtype.is_floating_point
    if record.dtype != expected.dtype and not (floats and record.dtype.is_floating_point):
        wanted_type = "floating-point numbers" if floats else expected.dtype
        raise NetworkFileError(file, place, f"it is of type {record.dtype}; expected {wanted_type}")


def _compare_source(name: str, source: Source, expected: torch.Tensor, file: object, place: str, misfit: str) -> None:
    for key, (record, shape) in source.inputs.items():
        compare(record, shape, expected, file, _at(place, name if shape is None else key), misfit)
    if any(shape is None for _, shape in source.inputs.values()):
        shapes = [tuple(record.shape) for record, _ in source.inputs.values() if record is not None]
        try:
            fits = source.make(*(torch.empty(shape, device="meta") for shape in shapes)).shape == expected.shape
        except (RuntimeError, IndexError, ValueError, TypeError):  # fewer dimensions than the change of layout needs
            fits = False
        if not fits:
            came = ", ".join(map(str, shapes))
            reason = f"it comes from a shape of {came}; its arguments ask for {tuple(expected.shape)}"
            raise NetworkFileError(file, _at(place, name), reason)


def _at(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _numel(record: Record) -> int:
    return record.numel() if isinstance(record, torch.Tensor) else record.numel


def _tensor(record: Record, floats: bool, same: bool) -> torch.Tensor:
    """The numbers of a record, in memory of their own unless ``same`` asks for those of a module where they are."""
    if isinstance(record, LiveTensor):
        dtype = torch.float32 if floats else record.dtype
        return record.tensor if same and record.dtype == dtype else record.tensor.to(dtype, copy=True)
    if isinstance(record, torch.Tensor):
        return record.detach().to("cpu", torch.float32 if floats else None, copy=True)
    return record.to_float32() if floats else record.to_tensor()
