"""Shuffled batches of a set without end, read ahead by other threads."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

Batch = TypeVar("Batch")


def shuffled_batches(
    load: Callable[[list[int]], Batch],
    size: int,
    batch: int,
    seed: int,
    start: int = 0,
    rows: range | None = None,
    threads: int = 1,
    ahead: int = 1,
) -> Iterator[Batch]:
    """Batches of the members of a set, in another order in every pass over it.

    Member number k of the stream depends on ``seed`` and k alone. A training that stopped after ``start`` members can
    therefore continue with exactly those that it would have seen.

    Args:
        load: called in another thread with the indices of the members of a batch; what it returns is yielded.
        size: the number of members of the set.
        batch: the number of members in a batch.
        seed: the seed of the shuffling.
        start: the number of members of the stream to skip.
        rows: the rows of each batch that are loaded; None for all.
        threads: how many batches are loaded at the same time.
        ahead: how many batches are loaded before they are asked for.
    """
    order: dict[int, np.ndarray] = {}  # the shuffled indices of a pass (epoch) over the set

    def index(k: int) -> int:
        epoch, place = divmod(k, size)
        if epoch not in order:
            if len(order) > 1:
                order.clear()
            order[epoch] = np.random.default_rng([seed, epoch]).permutation(size)
        return int(order[epoch][place])

    with ThreadPoolExecutor(threads) as pool:
        waiting: list[Future] = []
        k = start
        while True:
            while len(waiting) <= ahead:
                waiting.append(pool.submit(load, [index(k + i) for i in rows or range(batch)]))
                k += batch
            yield waiting.pop(0).result()
