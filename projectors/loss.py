"""The distance of a run, from a text or an object, and its entries in result.json."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from stylegan_invert.errors import ProjectionError
from stylegan_invert.files.writing import sha256_of_file
from stylegan_invert.generator import GeneratorAdapter
from stylegan_invert.io.weights import RUNNABLE, WEIGHTS
from stylegan_invert.losses import (
    DEFAULT_LOSS,
    LOSSES,
    Distance,
    FeatureDistance,
    IdentityDistance,
    WeightedSum,
    parse,
    weights_of,
)

SMALL_LOSS = "mse=1"  # for outputs that are too small for the loss of a method or medium


def default_loss(
    text: str,
    shape: Sequence[int],
    files: Mapping[str, str | os.PathLike | None],
    device: torch.device,
    run_torchscript: bool = False,
) -> tuple[Distance, dict[str, Any]]:
    """`build_loss` of a loss that the user did not choose: the mean squared error where what is compared is too small for it.

    Args:
        text, files, device, run_torchscript: as for `build_loss`.
        shape: of what is compared, without a batch axis.
    """
    named = files, device, run_torchscript
    distance, record = build_loss(text, *named, measured=True)
    if distance.min_size > min(shape[1:], default=0):
        return build_loss(SMALL_LOSS, *named, measured=True)
    return distance, record


def build_loss(
    loss: str | Distance,
    files: Mapping[str, str | os.PathLike | None],
    device: torch.device,
    run_torchscript: bool = False,
    measured: bool = False,
) -> tuple[Distance, dict[str, Any]]:
    """The distance, on a device, and its entries in result.json.

    Args:
        loss: a text like "lpips-squeeze=1,mse=1" (see `losses.LOSSES`), or a `Distance`.
        files: weight files that the user named, by their name in `io.weights.WEIGHTS`.
        device: the device on which it computes.
        run_torchscript: True runs a file of weights that is a TorchScript program; see `losses.load_vgg_lpips`.
        measured: True accepts files that are named only for `measures`.

    Raises:
        ValueError: the text or a file makes no sense, or a file was named that the loss does not need.
    """
    if isinstance(loss, Distance):
        return loss.to(device), {"loss": type(loss).__name__}
    if not isinstance(loss, str):
        raise ProjectionError(f"loss is {loss!r}; expected a text like {DEFAULT_LOSS!r}, or a Distance")
    record: dict[str, Any] = {"loss": loss}
    needed = weights_of(loss)
    paths = {}
    used = needed | (set(also_measured(files)) if measured else set())
    if run_torchscript and not used & RUNNABLE.keys():
        users = " or ".join(RUNNABLE.values())
        raise ProjectionError(
            f"run_torchscript allows the weights of {users} to be a program; {loss!r} has none of them"
        )
    for name, weights in WEIGHTS.items():
        named = files.get(name)
        if name in needed:
            paths[name] = weights.find(named)
        elif named is not None and name not in used:
            user = next(key for key, entry in LOSSES.items() if entry.weights == name)
            raise ProjectionError(
                f"{weights.title} was named ({os.fspath(named)}), and the loss {loss!r} has no {user} to use it"
            )
    distance = parse(loss, run_torchscript, **paths)
    for name, path in paths.items():  # only now, so that no file is hashed that is refused
        if path is not None:
            record[name] = about_file(path)
    names = [part.name for part in distance.distances if isinstance(part, FeatureDistance)]
    return distance.to(device), {**record, **({"feature_network": names[0]} if names else {})}


def told_rate(distance: Distance, generator: GeneratorAdapter) -> Distance:
    """The distance, after it was told the sample rate of the generator's sounds, if it makes sounds."""
    if "sample_rate" in generator.medium_facts:
        distance.at_rate(generator.medium_facts["sample_rate"])
    return distance


def also_measured(files: Mapping[str, str | os.PathLike | None]) -> dict[str, str]:
    """Of the files that the user named, those by which results are measured, too: their names, and that of the loss."""
    return {name: entry.measures for name, entry in WEIGHTS.items() if entry.measures and files.get(name) is not None}


def measures(
    loss: Distance,
    files: Mapping[str, str | os.PathLike | None],
    device: torch.device,
    run_torchscript: bool = False,
) -> tuple[dict[str, Distance], dict[str, Any]]:
    """The distances besides the medium's in which results are reported, by name, and their entries in result.json.

    Args:
        loss: the distance of the run. If it has a distance of this kind, that one is taken.
        files: as for `build_loss`.
        device: the device on which they compute.
        run_torchscript: as for `build_loss`.

    Raises:
        ValueError: a file makes no sense.
    """
    found: dict[str, Distance] = {}
    record: dict[str, Any] = {}
    parts = list(loss.distances) if isinstance(loss, WeightedSum) else [loss]
    for part in parts:
        if isinstance(part, IdentityDistance):
            found.setdefault("identity", part)
    for name, user in also_measured(files).items():
        if user not in found:
            path = WEIGHTS[name].find(files[name])
            found[user] = LOSSES[user].make(path, run_torchscript).to(device)
            record |= {} if path is None else {name: about_file(path)}
    return found, {**record, **({"identity_network": found["identity"].name} if found else {})}


def about_file(path: str | os.PathLike) -> dict[str, str]:
    """A weight file's entry in result.json."""
    return {"file": str(path), "sha256": sha256_of_file(path)}
