"""Codes in z and displacements at a layer, for the studies of Pividori et al., "Exploiting GAN Internal Capacity".

A study has sets of pictures and ways to find their codes. Each way is searched for each picture once, and its code is kept in a
file of its own, so that a study that was stopped goes on.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..analysis.distribution import PictureFeatures, generated_pictures, quality
from ..analysis.paths import deeper
from ..errors import StyleganInvertError
from ..generator import FEATURES, Code, GeneratorAdapter, class_label, joined
from ..io.codes import read_codes, write_codes
from ..losses import Distance, SqueezeLPIPS
from ..media.picture_set import PictureSet
from ..media.pictures import as_images
from ..projectors.descent import Fit
from ..projectors.objective import Objective
from . import base

BATCH = 8  # the number of pictures that share passes
OF_Z = ("steps", "lambda_z", "restarts")  # the options that a search in z takes of those of the study
REFERENCE = 1000  # the number of generated pictures with which midpoints are compared


class Way(NamedTuple):
    """How a code is found.

    Attributes:
        name: the name of the way in the names of files.
        title: the title of its row in the table.
        start: "random", or the name of the way whose result it starts from; of an earlier layer, it is brought to this one.
        options: options of the method "dense" that are this way's own, by name; None for a search in z.
    """

    name: str
    title: str
    start: str = "z"
    options: Mapping[str, Any] | None = {}


Z = Way("z", "z", "random", None)
"""The search in z, the first of the two steps."""


class Pictures(NamedTuple):
    """The pictures of a set.

    Attributes:
        pixels: (N, C, R, R) uint8.
        classes: the number of the class of each; None of each for a network without classes.
    """

    pixels: np.ndarray
    classes: list[int | None]


class Found(NamedTuple):
    """The result for one picture in one way.

    Attributes:
        code: the code (N = 1).
        distance: the distance that was minimised.
        weight: the weight of the displacement's penalty; None for a code in z.
        picture: the code's picture (C, R, R) uint8.
    """

    code: Code
    distance: float
    weight: float | None
    picture: np.ndarray


# The pictures


def latents(generator: GeneratorAdapter, count: int, class_idx: int | None) -> list[Code]:
    """Codes in z, one each, of the seeds from 0 on.

    Without ``class_idx`` every two of them have the next class of the network, so that there are pairs within a class.

    Raises:
        ValueError: the class is not one of the network's.
    """
    (shape,) = generator.code_shapes("z").values()
    classes = [
        class_idx if class_idx is not None or not generator.c_dim else i // 2 % generator.c_dim for i in range(count)
    ]
    return [
        Code("z", {"z": generator.prior.of_seed(i, [1, *shape])}, class_label(generator, k)).to(generator.device)
        for i, k in enumerate(classes)
    ]


def rendered_set(generator: GeneratorAdapter, codes: Sequence[Code]) -> Pictures:
    """The pictures that the network draws from codes, one each."""
    return Pictures(base.rendered(generator, codes), [_class(code) for code in codes])


def real_set(data: PictureSet, generator: GeneratorAdapter, limit: int, class_idx: int | None) -> Pictures:
    """The first real pictures, at most ``limit``, with their classes.

    Args:
        data: the pictures; with labels if the network has classes and ``class_idx`` is None.
        generator: the network's adapter.
        limit: the largest number of pictures.
        class_idx: the class of all; None takes the labels.

    Raises:
        StyleganInvertError: the pictures or labels do not fit the network.
    """
    pixels = base.first_pictures(data, generator, limit)
    if not generator.c_dim or class_idx is not None:
        class_label(generator, class_idx)  # raises if there is no such class
        return Pictures(pixels, [class_idx] * len(pixels))
    if data.c_dim != generator.c_dim:
        raise StyleganInvertError(
            f"{data.path}: its labels have {data.c_dim} classes, and this network has {generator.c_dim}; choose one for all "
            "pictures with --class"
        )
    return Pictures(pixels, [int(row.argmax()) for row in data.labels[: len(pixels)]])


def _class(code: Code) -> int | None:
    return None if code.c is None else int(code.c[0].argmax())


def about(sets: Mapping[str, Pictures]) -> dict[str, Any]:
    """The entries in a study's settings about its pictures."""
    classes = {name: one.classes for name, one in sets.items() if any(k is not None for k in one.classes)}
    return {
        "data": base.hashes({name: one.pixels for name, one in sets.items()}),
        "pictures": {name: len(one.pixels) for name, one in sets.items()},
        **({"classes": classes} if classes else {}),
    }


def pairs(classes: Sequence[int | None]) -> list[tuple[int, int]]:
    """Each picture and the next of its class, in a ring; none for a picture that is alone in its class."""
    groups: dict[int | None, list[int]] = {}
    for i, k in enumerate(classes):
        groups.setdefault(k, []).append(i)
    return [(a, b) for group in groups.values() if len(group) > 1 for a, b in zip(group, [*group[1:], group[0]])]


# The search for codes


def chosen_layer(generator: GeneratorAdapter, layer: str | None) -> str:
    """The layer to split at: the named one, or the first dense layer."""
    layers = ", ".join(generator.layers())
    if layer is None and generator.dense is None:
        raise StyleganInvertError(f"This network does not begin with a dense layer; choose --layer from {layers}.")
    if layer is not None and layer not in generator.layers():
        raise StyleganInvertError(f"There is no layer {layer!r}; choose --layer from {layers}.")
    return layer or generator.dense or ""


def invert(
    generator: GeneratorAdapter,
    sets: Mapping[str, Pictures],
    ways: Sequence[Way],
    loss: Distance | Mapping[str, Distance],
    options: Mapping[str, Any],
    folder: Path,
    counting: base.Counting,
) -> None:
    """Find a code for each picture in each way, and write it to a file of its own. Existing files are left as they are.

    Args:
        generator: the network's adapter.
        sets: name to pictures.
        ways: the ways; one that starts from another comes after it.
        loss: the distance, on the generator's device; or one for each way, by its name.
        options: the options of both steps that all ways share, by name.
        folder: the folder of the codes; made if it is missing.
        counting: shows the progress.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with counting(sum(len(one.pixels) for one in sets.values()) * len(ways), "codes") as progress:
        for name, (pixels, classes) in sets.items():
            for k, some in _batches(classes):
                for way in ways:
                    missing = [i for i in some if not code_path(folder, name, i, way.name).exists()]
                    if missing:
                        target = as_images(pixels[missing], generator.device)
                        starts = [code_path(folder, name, i, way.start) for i in missing]
                        of_way = loss if isinstance(loss, Distance) else loss[way.name]
                        fit = _find(generator, target, k, of_way, options, way, starts)
                        with torch.no_grad():
                            distances = Objective(generator, of_way, target)(fit.code).cpu().tolist()
                        weights = fit.notes.get("lambda_delta", [None] * len(missing))
                        for i, one, distance, weight in zip(missing, fit.code, distances, weights):
                            _write_code(code_path(folder, name, i, way.name), one, distance, weight)
                    progress(len(some))


def _batches(classes: Sequence[int | None]) -> Iterable[tuple[int | None, list[int]]]:
    """The numbers of the pictures that share passes, which are of one class, and the class."""
    for k in dict.fromkeys(classes):
        of_class = [i for i, other in enumerate(classes) if other == k]
        for first in range(0, len(of_class), BATCH):
            yield k, of_class[first : first + BATCH]


def _find(
    generator: GeneratorAdapter,
    target: torch.Tensor,
    k: int | None,
    loss: Distance,
    options: Mapping[str, Any],
    way: Way,
    starts: Sequence[Path],
) -> Fit:
    """The codes of pictures (N, C, R, R) of one class in one way; ``starts`` are the files of the codes to start from."""
    if way.options is None:
        of_z = {key: value for key, value in options.items() if key in OF_Z}
        return base.fit("z", generator, target, loss, None, of_z, class_idx=k)
    start = None
    chosen = {**options, "first_step": "none", **way.options}
    if way.start != "random":
        start = joined([read_codes(path) for path in starts]).to(generator.device)
        if start.space not in ("z", generator.base, FEATURES + chosen["layer"]):
            start = deeper(generator, start, chosen["layer"])
    return base.fit("dense", generator, target, loss, start, chosen, class_idx=k)


def code_path(folder: Path, name: str, i: int, way: str) -> Path:
    """The file of picture ``i`` of a set in one way."""
    return folder / f"{name}-{i:04d}-{way}.npz"


def _write_code(path: Path, code: Code, distance: float, weight: float | None) -> None:
    arrays = {key: value.cpu().numpy() for key, value in code.tensors.items()}
    if "h" in arrays:
        arrays["layer"] = np.array(code.space.removeprefix(FEATURES))
    if code.c is not None:
        arrays["c"] = code.c.cpu().numpy()
    if weight is not None:
        arrays["weight"] = np.array([weight])
    write_codes(path, {**arrays, "distance": np.array([distance])})


def gather(generator: GeneratorAdapter, folder: Path, name: str, count: int, way: Way) -> list[Found]:
    """What `invert` kept of the pictures of one set in one way."""
    results = []
    for i in range(count):
        path = code_path(folder, name, i, way.name)
        code = read_codes(path).to(generator.device)
        arrays = base.read_part(path)
        weight = float(arrays["weight"][0]) if "weight" in arrays else None
        results.append(Found(code, float(arrays["distance"][0]), weight, base.rendered(generator, code)[0]))
    return results


# Measures


def errors(found: Sequence[Found], pixels: np.ndarray) -> dict[str, list[float]]:
    """Quartiles over the pictures: the distance that was minimised, LPIPS, PSNR and SSIM."""
    values = base.metrics(pixels, np.stack([one.picture for one in found]), SqueezeLPIPS())
    values = {"distance": np.array([one.distance for one in found]), **values}
    return {key: base.quartiles(value) for key, value in values.items()}


def left(found: Sequence[Found], at_z: Sequence[Found]) -> dict[str, float]:
    """How much of z's distance a way leaves.

    Returns:
        "left", the ratio of the means; "left_median", the median of each picture's ratio; and "below_half", the share of
        pictures with at most half of z's distance.
    """
    now, before = (np.array([one.distance for one in ones]) for ones in (found, at_z))
    ratios = now / np.maximum(before, 1e-30)
    return {
        "left": float(now.mean() / max(before.mean(), 1e-30)),
        "left_median": float(np.median(ratios)),
        "below_half": float((ratios <= 0.5).mean()),
    }


class Realism:
    """Judges how real the pictures half-way between two codes look.

    Args:
        generator: the network's adapter.
        D: its discriminator, or None.
        sets: the pictures of the study, whose classes are those of the pictures with which midpoints are compared.
    """

    def __init__(self, generator: GeneratorAdapter, D: torch.nn.Module | None, sets: Mapping[str, Pictures]):
        self.generator, self.D = generator, None if D is None else D.to(generator.device)
        self.features = PictureFeatures(generator.device)
        classes = sorted({k for one in sets.values() for k in one.classes if k is not None})
        labels = torch.eye(generator.c_dim)[classes] if classes else None
        self.reference = self.features.of(generated_pictures(generator, REFERENCE, 99, labels))

    def of_midpoints(self, found: Sequence[Found], classes: Sequence[int | None]) -> dict[str, float]:
        """`distribution.quality` of the midpoints of each code and the next of its class."""
        ends = [(found[a].code, found[b].code) for a, b in pairs(classes)]
        if not ends:
            return {}
        c = None if ends[0][0].c is None else torch.cat([a.c for a, _ in ends if a.c is not None])
        return quality(base.midpoints(self.generator, ends), self.reference, self.features, self.D, c)


def realism_cells(middles: Mapping[str, float]) -> list[str]:
    """Two cells of a table: KID with its standard error, and the discriminator's logit; empty where there is none."""
    kid = f"{middles['kid']:.4f} ± {middles['kid_stderr']:.4f}" if "kid" in middles else ""
    return [kid, f"{middles['logit']:.2f}" if "logit" in middles else ""]
