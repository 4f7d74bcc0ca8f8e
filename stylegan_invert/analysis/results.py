"""Results of projections as a set: how far pictures are from what the network makes of them, and how likely their codes are."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..errors import CodeFileError
from ..generator import Code, GeneratorAdapter
from ..generator.directions import Coordinates
from ..io.codes import check_codes
from ..losses.base import as_rgb
from ..media.pictures import as_images
from ..projectors.projection import Projection
from .groups import plain_code, result_folders

OF_ONE = ("init", "class", "batch", "memory")  # options that may differ from picture to picture


class Result(NamedTuple):
    """One result.

    Attributes:
        name: of its folder.
        target: the picture (C, H, W) uint8.
        image: what the network makes of it, in the same form.
        code: in the base space of the network, without noise maps and displacements.
        error: the recovery gap: LPIPS of target and image, or the mean squared error on the scale [-1, 1] of pictures that are
            too small for LPIPS.
        psnr: in decibels.
        made: what must be equal for errors to be compared: method, options and the network's hash.
    """

    name: str
    target: np.ndarray
    image: np.ndarray
    code: Code
    error: float
    psnr: float | None
    made: dict[str, Any]


def read_results(path: str | os.PathLike, generator: GeneratorAdapter, c: torch.Tensor | None = None) -> list[Result]:
    """The results in a folder, sorted by name.

    Args:
        path: the folder of one result, or of several.
        generator: the adapter of the network.
        c: the class (1, c_dim) of codes that do not have one of their own.

    Raises:
        CodeFileError: there are none, one is damaged or of another network, or they were made in different ways.
    """
    results = [_read(folder, generator, c) for folder in result_folders(path)]
    check_alike(results)
    return results


def _read(folder: Path, generator: GeneratorAdapter, c: torch.Tensor | None) -> Result:
    result = Projection.read(folder)
    check_codes(result.code, generator, str(folder))
    if tuple(result.target.shape) != tuple(generator.output_shape):
        raise CodeFileError(
            f"{folder}: its picture has the shape {tuple(result.target.shape)}; this network makes {generator.output_shape}"
        )
    error = result.metrics.get("lpips")
    if error is None:
        a, b = (as_rgb(as_images(x[None])) for x in (result.target, result.image))
        error = float((a - b).square().mean())
    options = {key: value for key, value in result.record["options"].items() if key not in OF_ONE}
    made = {
        "method": result.record.get("method"),
        "options": options,
        "network": result.record["network"].get("sha256"),
    }
    code = plain_code(generator, result.code, c)
    pictures = result.target.numpy(), result.image.numpy()
    return Result(folder.name, *pictures, code, float(error), result.metrics.get("psnr"), made)


def check_alike(results: Sequence[Result]) -> None:
    """Check that results were made in one way, so that their errors can be compared.

    Raises:
        CodeFileError: two were not.
    """
    first = results[0]
    for other in results[1:]:
        for key, value in first.made.items():
            if other.made[key] != value:
                raise CodeFileError(
                    f"{first.name} and {other.name}: their {key} differ, so their errors cannot be compared; project all "
                    "pictures in one way"
                )


def priors(coordinates: Coordinates, results: Sequence[Result]) -> np.ndarray:
    """The prior value of each result (N,): the mean square of its coordinates, which is near 1 for the network's own codes.

    In V it is the squared Mahalanobis distance from the mean over the number of dimensions, averaged over layers (equation 2 of
    Wulff & Torralba, 2020).
    """
    with torch.no_grad():
        return np.array([float(coordinates.of(one.code).square().mean()) for one in results])


def nearest(coordinates: Coordinates, query: Code, codes: Sequence[Code]) -> np.ndarray:
    """The distances (N,) of codes (N = 1 each) from a query (N = 1): the root mean square over layers of the distance in the
    network's coordinates, which is about sqrt(2 d) between two random codes of d dimensions."""
    with torch.no_grad():
        at = coordinates.of(query)
        return np.array([float((coordinates.of(code) - at).square().sum(-1).mean().sqrt()) for code in codes])


QUANTILE = 0.95  # a picture counts as not rebuilt if its error is above that of so many of the network's own pictures


def unexplained(results: Sequence[Result], reference: Sequence[Result] | None = None) -> dict[str, Any]:
    """Which pictures a network cannot rebuild, from the largest error on: what its training dropped or never saw.

    Args:
        results: of the set.
        reference: results of the network's own pictures, made in the same way; None compares with nothing.

    Returns:
        "order", the indices of the results from the largest error on. With a reference also "limit", the error below which
        95 % of the network's own pictures lie, "missed", the share of the set above it, and "median" of both.

    Raises:
        CodeFileError: the reference was made in another way.

    Source: Bau et al., "Seeing What a GAN Cannot Generate" (2019), section 3.2, compares pictures with their inversions.
    """
    errors = np.array([one.error for one in results])
    report: dict[str, Any] = {"order": np.argsort(-errors, kind="stable").tolist()}
    if reference is not None:
        check_alike([results[0], reference[0]])
        own = np.array([one.error for one in reference])
        limit = float(np.quantile(own, QUANTILE))
        medians = [float(np.median(errors)), float(np.median(own))]
        report |= {"limit": limit, "missed": float((errors > limit).mean()), "medians": medians}
    return report
