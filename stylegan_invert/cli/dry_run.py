"""``stylegan-invert project --dry-run``: what would be done, and about how long it would take."""

import time
from typing import Any

STEPS = 5  # that are timed; the first is left out, since it prepares much


class _Enough(Exception):
    """Raised when enough steps were timed."""


def estimate(projector: Any, target: Any, of_run: dict[str, Any]) -> tuple[float, int, float]:
    """Begin to project a target, and stop after some steps.

    Args:
        projector: a `projectors.Projector`, or a `projectors.tuning.Tuner`, whose tuning is not timed.
        target: as for its method ``project``.
        of_run: further arguments of that method.

    Returns:
        The seconds before the first step, the number of steps of a target, and the seconds of one step. There are no
        steps in a method of one pass.
    """
    began = time.perf_counter()
    times: list[float] = []
    total = 0

    def watch(first: int, step: Any) -> None:
        nonlocal total
        float(step.distance.sum())  # waits for a device that computes in the background
        times.append(time.perf_counter())
        total = step.total
        if len(times) == STEPS:
            raise _Enough

    try:
        list(projector.project([target], **{**of_run, "callback": watch, "batch": 1}))
    except _Enough:
        pass
    if not times:
        return time.perf_counter() - began, 0, 0.0
    each = (times[-1] - times[0]) / max(len(times) - 1, 1)
    return times[0] - began, total, each


def in_words(count: int, estimated: tuple[float, int, float]) -> str:
    """The answer of ``--dry-run``.

    Args:
        count: the number of targets.
        estimated: what `estimate` returned.
    """
    once, steps, each = estimated
    if not steps:
        return f"{count:,} targets in one pass each, {once:.2g} s for the first"
    one = steps * each
    return (
        f"{count:,} targets, at most {steps:,} steps each of {each * 1000:.3g} ms, so {_duration(one)} each and "
        f"{_duration(count * one)} in all, besides {_duration(once)} of preparation"
    )


def _duration(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.2g} s"
