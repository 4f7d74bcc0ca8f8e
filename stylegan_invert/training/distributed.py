"""Training on several processes and machines that ``torchrun`` has started.

A step shows one batch, as with one process, and its rounds are shared out: with R rounds and P processes, each process
computes R / P of them. After each phase of a step the gradients, running averages and measured values of all rounds are
added up over the processes, so every process holds the same numbers as all others, and a checkpoint holds nothing that
depends on the number of processes. Without torchrun there is one process, and nothing here communicates.
"""

import contextlib
import datetime
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.distributed as dist

from ..errors import TrainingError
from .means import Statistics

PATIENCE = datetime.timedelta(hours=1)
"""How long a process waits for one that lives and does not answer. One that has ended is noticed at once."""

_control: list[dist.ProcessGroup] = []  # the group in which numbers on the CPU are exchanged, while a run is joined


def launched() -> bool:
    """True in a process that torchrun has started beside others."""
    return "RANK" in os.environ and "MASTER_ADDR" in os.environ and int(os.environ.get("WORLD_SIZE", 1)) > 1


def prints() -> bool:
    """True in the process that prints, which is number 0 of those that torchrun has started."""
    return not launched() or os.environ["RANK"] == "0"


def place() -> tuple[int, int]:
    """The number of this process, and how many torchrun has started; (0, 1) without it. No process is waited for."""
    return (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) if launched() else (0, 1)


def about() -> str:
    """A few words for the first line of a run: the number of processes, or nothing for one."""
    return f" in {os.environ['WORLD_SIZE']} processes" if launched() else ""


def rank() -> int:
    """The number of this process; 0 outside `joined`. Process 0 writes the files."""
    return dist.get_rank() if _control else 0


def count() -> int:
    """The number of processes that train together; 1 outside `joined`."""
    return dist.get_world_size() if _control else 1


def own_device(device: torch.device) -> torch.device:
    """The device of this process: of several GPUs of a machine, each process has its own."""
    if device.type != "cuda" or device.index is not None or not launched():
        return device
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))


def chosen_device(device: torch.device) -> torch.device:
    """The same device, which from now on means that of this process (see `own_device`), also where it is named "cuda"."""
    if (own := own_device(device)) != device:
        torch.cuda.set_device(own)
    return device


@contextlib.contextmanager
def joined(device: torch.device | str) -> Iterator[None]:
    """Meet the other processes of torchrun: with NCCL for CUDA, else with gloo. Without torchrun nothing happens.

    Raises:
        TrainingError: the others do not come, or this machine lacks the GPU.
    """
    device = torch.device(device)
    if not launched() or _control:
        yield
        return
    on_cuda = device.type == "cuda"
    if on_cuda:
        if device.index is None or device.index >= torch.cuda.device_count():
            raise TrainingError(
                f"process {os.environ['RANK']} should compute on {device}, and this machine has {torch.cuda.device_count()} GPUs; start "
                "one process per GPU, with torchrun --nproc-per-node"
            )
        torch.cuda.set_device(device)
    with _answered():
        dist.init_process_group("nccl" if on_cuda else "gloo", timeout=PATIENCE)
        _control.append(dist.new_group(backend="gloo", timeout=PATIENCE))
    try:
        yield
    finally:
        _control.clear()
        dist.destroy_process_group()


@contextlib.contextmanager
def _answered() -> Iterator[None]:
    """Say in one sentence that another process has ended."""
    try:
        yield
    except RuntimeError as e:  # torch.distributed raises nothing more special
        reason = str(e).strip().split("\n")[0][:200]
        raise TrainingError(
            f"process {os.environ.get('RANK')} stops, because another process of this run has ended or does not answer; the "
            f"message of that process says why ({reason})"
        ) from None


def agree(*numbers: int) -> list[int]:
    """Of each number the greatest that any process gives. All processes must call this together."""
    if not _control:
        return list(numbers)
    together = torch.tensor(numbers, dtype=torch.int64)
    with _answered():
        dist.all_reduce(together, dist.ReduceOp.MAX, group=_control[0])
    return together.tolist()


def check_same(text: str) -> None:
    """Check that all processes were started for the same run.

    Args:
        text: everything that must be the same in all of them.

    Raises:
        TrainingError: it differs.
    """
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
    greatest, least = agree(number, -number)
    if greatest != -least:
        raise TrainingError(
            "the processes of this run differ in their options, their training pictures or their checkpoint; start all with "
            "the same command, and let all machines see the same files"
        )


@torch.no_grad()
def copy_from_first(values: object) -> None:
    """Overwrite the tensors of floating-point numbers in nested tables by those of process 0."""
    if not _control:
        return
    if isinstance(values, dict):
        for value in values.values():
            copy_from_first(value)
    elif isinstance(values, torch.Tensor) and values.is_floating_point():
        with _answered():
            dist.broadcast(values, 0, group=_control[0] if values.device.type == "cpu" else None)


def share(rounds: int) -> range:
    """The numbers of the rounds that this process computes; ``rounds`` is a multiple of the number of processes."""
    each = rounds // count()
    first = each * rank()
    return range(first, first + each)


def round_size(batch: int, wanted: int) -> int:
    """The pictures of a round: as many as asked for, but at most a process's share of the batch.

    Raises:
        TrainingError: the batch cannot be shared out.
    """
    size = min(wanted, batch // count())
    if size == 0 or batch % (count() * size):
        raise TrainingError(
            f"a batch of {batch} in rounds of {max(size, 1)} cannot be shared by {count()} processes; choose a --batch that "
            f"is a multiple of {count()} times --batch-gpu"
        )
    return size


def in_rounds(
    compute: Callable[[int], None],
    rounds: int,
    parameters: Sequence[torch.nn.Parameter],
    averages: Sequence[torch.Tensor],
    statistics: Sequence[Statistics],
) -> None:
    """Compute the rounds of a phase, each in one process, and give every process what all rounds have brought.

    Every round starts from the same averages, and from random numbers of its own that depend on its number and on torch's
    random state. The order of addition is that of the rounds within a process. So P processes with one round each end as
    one process with P rounds: for two processes to the last bit, for more up to rounding.

    Args:
        compute: computes a round by its number. It adds to the gradients of the parameters, changes the averages and adds to
            the statistics.
        rounds: the rounds of all processes.
        parameters: their gradients are empty before, and the sums over all rounds after.
        averages: tensors; afterwards each has changed by the mean of the changes that the rounds made.
        statistics: they get the values of all rounds.
    """
    device = parameters[0].device
    seed = int(torch.randint(2**62, []))  # the same in all processes
    earlier = [s.sums for s in statistics]
    before = [a.clone() for a in averages]
    flat: torch.Tensor | None = None
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        for i in share(rounds):
            torch.manual_seed(seed + i)
            if rounds == 1:
                return compute(i)
            for average, value in zip(averages, before):
                average.copy_(value)
            for s in statistics:
                s.sums = {}
            compute(i)
            grown = [p for p in parameters if p.grad is not None]
            changes = [(a - b) / rounds for a, b in zip(averages, before)]
            sums = [total for s in statistics for total, _ in s.sums.values()]
            parts = torch.cat([x.detach().reshape(-1) for x in [*[p.grad for p in grown], *changes, *sums]])
            flat = parts if flat is None else flat.add_(parts)
            for p in grown:
                p.grad = None
    if _control:
        with _answered():
            dist.all_reduce(flat)
    rest = iter(flat.split([x.numel() for x in [*grown, *averages, *sums]]))
    for p in grown:
        p.grad = next(rest).view_as(p)
    for average, value in zip(averages, before):
        average.copy_(value + next(rest).view_as(value))
    for s, old in zip(statistics, earlier):
        added = {name: (next(rest)[0], n * rounds) for name, (_, n) in s.sums.items()}
        s.sums = old
        s.merge(added)
