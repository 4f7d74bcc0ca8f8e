"""`project`: from targets and a network to projections in one call. `Projector` is for whoever projects more than once."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, overload

import torch

from stylegan_invert.errors import ProjectionError
from stylegan_invert.generator import GeneratorAdapter
from stylegan_invert.media.medium import MEDIA
from stylegan_invert.network_files.file import NetworkFile

from .projection import Projection
from .projector import Projector
from .settings import TuningOptions, build_options
from .targets import Target
from .tuning import Tuner

OF_THE_RUN = ("init", "sequence", "save_noise", "keep_steps", "batch", "truth", "compose", "callback", "checkpoints")
OF_TUNING = {field.name for field in dataclasses.fields(TuningOptions)} - {"tune"}


T = TypeVar("T", bound=Target)


@overload
def project(
    G: torch.nn.Module | GeneratorAdapter | NetworkFile, target: Target, method: str | None = None, **arguments: Any
) -> Projection: ...


@overload
def project(
    G: torch.nn.Module | GeneratorAdapter | NetworkFile,
    target: list[T] | tuple[T, ...],
    method: str | None = None,
    **arguments: Any,
) -> list[Projection]: ...


def project(
    G: torch.nn.Module | GeneratorAdapter | NetworkFile, target: Any, method: str | None = None, **arguments: Any
) -> Projection | list[Projection]:
    """Find the codes of targets.

    Args:
        G: a generator, also one that official code has in memory (see `network_files.live.adopt`), or a network file.
        target: a file, a (C, H, W) uint8 array or tensor of the network's size, or a list of these.
        method: "w", "w+", "de", or another of `methods.METHODS` or of another package; None takes the fast search, see
            `methods.default_method`.
        arguments: steps=100, seed=303, loss=..., class_idx=..., init=..., save_noise=..., tune=..., and all others of
            `project_each`.

    Returns:
        A `Projection` for one target, a list for several (also for a list of one).

    Raises:
        ValueError: see `Projector` and `Projector.project`.
    """
    several = isinstance(target, (list, tuple))
    results = list(project_each(G, target if several else [target], method, **arguments))
    return results if several else results[0]


def project_each(
    G: torch.nn.Module | GeneratorAdapter | NetworkFile,
    targets: Sequence[Target],
    method: str | None = None,
    **arguments: Any,
) -> Iterator[Projection]:
    """`project` for many targets: yields each projection as soon as it is made, and keeps none.

    Args:
        G: a generator, or a network file.
        targets: files, or arrays or tensors of the network's size.
        method: as for `project`.
        arguments: all other arguments of `Projector`, of `Projector.project` and of `prepared`.

    Raises:
        ValueError: an argument is wrong. All are checked at the call, and all targets are read, before the first is
            projected.
    """
    projector, of_run = prepared(G, method, **arguments)
    return projector.project(targets, **of_run)


def prepared(
    G: torch.nn.Module | GeneratorAdapter | NetworkFile,
    method: str | None = None,
    *,
    tune: int | bool | None = None,
    tune_together: bool = False,
    **arguments: Any,
) -> tuple[Projector | Tuner, dict[str, Any]]:
    """A projector, or one that tunes afterwards, and those of the arguments that are for its method ``project``.

    Args:
        G, method, arguments: as for `project`; with ``tune``, also the other fields of `settings.TuningOptions`.
        tune: after the search, tune the network to each target, with at most so many steps; True takes the usual number.
            The projections then have the tuned network. See `tuning`.
        tune_together: tune one network to all targets. Then the first projection is made when all have been searched.
    """
    of_reading = {field.name for medium in MEDIA.values() for field in dataclasses.fields(medium.reading)}
    of_run = {name: arguments.pop(name) for name in (*OF_THE_RUN, *of_reading) if name in arguments}
    chosen = {name: arguments.pop(name) for name in OF_TUNING if name in arguments}
    if tune is None or tune is False:
        idle = [*chosen, *(["tune_together"] if tune_together else [])]
        if idle:
            raise ProjectionError(f"{', '.join(idle)} has no effect without tune (on the command line --tune)")
        return Projector(G, method, **arguments), of_run
    options = build_options(TuningOptions, {}, {"tune": None if tune is True else tune, **chosen})
    return Tuner(Projector(G, method, **arguments), options, tune_together), of_run
