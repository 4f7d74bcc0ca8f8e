"""The experiments of Pividori et al., "Exploiting GAN Internal Capacity", on any network from z.

The network is G2(G1(z)), split at a layer. Generated and real pictures are found in z, and at the layer, where the displacement
from G1(z) is regularised or free. The study measures the errors (Figure 5), shows ways between codes (Figures 3, 4, 9 and 14)
and projections onto the span of G1 (Figure 13), and judges how real the pictures half-way between two codes look.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..analysis.distribution import PictureFeatures, generated_pictures, quality
from ..analysis.paths import between, onto_span, underlying
from ..analysis.sheets import sheet
from ..errors import StyleganInvertError
from ..generator import FEATURES, Code, GeneratorAdapter, joined, with_prior
from ..io.codes import read_codes, write_codes
from ..losses import Distance, SqueezeLPIPS
from ..media.picture_set import PictureSet
from ..media.pictures import as_images, write_png
from ..network_files.file import NetworkFile
from ..projectors.objective import Objective
from . import base

BATCH = 8  # the number of pictures that share passes
FRAMES = 9  # the number of pictures on a line between two codes
SHOWN = 4  # the number of pictures of each set in the sheets


class Way(NamedTuple):
    """How a code is found.

    Attributes:
        name: the name of the way in the names of files.
        title: the title of its row in the table.
        start: "random", or the name of the way whose result it starts from.
        regularised: True if the norm of the displacement is a part of the objective.
    """

    name: str
    title: str
    start: str
    regularised: bool = True


WAYS = {
    way.name: way
    for way in (
        Way("z", "z", "random"),
        Way("dense", "layer, two steps, regularised", "z"),
        Way("free", "layer, two steps, free", "z", regularised=False),
        Way("onestep", "layer, one step, free", "random", regularised=False),
    )
}


class Found(NamedTuple):
    """The result for one picture in one way.

    Attributes:
        code: the code (N = 1).
        distance: the distance that was minimised.
        picture: the code's picture (C, R, R) uint8.
    """

    code: Code
    distance: float
    picture: np.ndarray


def run(
    net: NetworkFile,
    outdir: str | os.PathLike,
    data: PictureSet | None = None,
    *,
    generated: int = 100,
    real: int = 100,
    layer: str | None = None,
    steps: int = 300,
    layer_steps: int = 500,
    lambda_z: float = 0.1,
    lambda_delta: float | None = None,
    loss: str = "mse=0.25,features=1",
    z_prior: str | None = None,
    device: torch.device | str = "cpu",
    counting: base.Counting = base.uncounted,
) -> dict[str, Any]:
    """Find pictures in z and at a layer, with and without regularisation.

    Args:
        net: a network without classes.
        outdir: the study's folder; see `studies.base`. Codes are kept in ``codes/``, one file for each picture and way.
        data: real pictures, as `base.picture_set` reads them; None leaves them out.
        generated: the number of generated pictures.
        real: the number of real pictures, at most.
        layer: where to split the network; None takes the first dense layer.
        steps: the number of steps of the search for z.
        layer_steps: the number of steps of the search for the displacement.
        lambda_z: the weight of -log P(z), a mean over entries.
        lambda_delta: the weight of the displacement's L1 norm, a mean over entries, where it is regularised; None finds one
            for each picture, as ``--method dense`` does.
        loss: the distance, by name.
        z_prior: the distribution of z, for networks whose files do not say it.
        device: where to compute.
        counting: shows the progress.

    Returns:
        The contents of results.json.

    Raises:
        StyleganInvertError: the network has classes or lacks the layer, or the folder holds another study.
    """
    generator = base.generator_of(net, device)
    generator = with_prior(generator, z_prior)
    layer = _layer(generator, layer)
    (shape,) = generator.code_shapes("z").values()
    latents = [Code("z", {"z": generator.prior.of_seed(i, [1, *shape])}).to(device) for i in range(generated)]
    sets = {"generated": base.rendered(generator, latents)}
    if data is not None:
        sets["real"] = base.first_pictures(data, generator, real)
    distance, about_loss = base.distance_of(loss, device)
    options = {"layer": layer, "steps": steps, "layer_steps": layer_steps}
    options |= {"lambda_z": lambda_z, "lambda_delta": lambda_delta}
    settings = {
        "network": net.sha256,
        **about_loss,
        "data": base.hashes(sets),
        **options,
        "z_prior": generator.prior.family,
        "pictures": {name: len(pictures) for name, pictures in sets.items()},
    }
    folder = base.begin(outdir, settings)
    with counting(sum(map(len, sets.values())) * len(WAYS), "codes") as progress:
        invert(generator, sets, distance, options, folder / "codes", progress)

    features = PictureFeatures(generator.device)
    reference = features.of(generated_pictures(generator, 1000, seed=99))
    D = net.D.to(generator.device) if net.D is not None else None
    results: dict[str, Any] = {**settings, "sets": {}}
    for name, pictures in sets.items():
        found = {way: gather(generator, folder / "codes", name, len(pictures), way) for way in WAYS}
        rows = results["sets"][name] = {}
        for way, ones in found.items():
            pairs = [(a.code, b.code) for a, b in zip(ones, [*ones[1:], ones[0]])]
            middles = quality(base.midpoints(generator, pairs), reference, features, D)
            rows[way] = {**_errors(ones, pictures), "midpoints": middles}
        _write_sheets(generator, folder, name, pictures, found, latents)
        if layer == generator.dense:
            rows["dense"]["left_of_span"] = _write_spans(generator, folder, name, pictures, found["dense"])
    return base.finish(folder, results, table(results))


def _layer(generator: GeneratorAdapter, layer: str | None) -> str:
    """The layer to split at: the named one, or the first dense layer."""
    layers = ", ".join(generator.layers())
    if layer is None and generator.dense is None:
        raise StyleganInvertError(f"This network does not begin with a dense layer; choose --layer from {layers}.")
    if layer is not None and layer not in generator.layers():
        raise StyleganInvertError(f"There is no layer {layer!r}; choose --layer from {layers}.")
    return layer or generator.dense or ""


def invert(
    generator: GeneratorAdapter,
    sets: Mapping[str, np.ndarray],
    loss: Distance,
    options: Mapping[str, Any],
    folder: Path,
    progress: base.Progress,
) -> None:
    """Find a code for each picture in each way, and write it to a file of its own. Existing files are left as they are.

    Args:
        generator: the network's adapter.
        sets: name to pictures (N, C, R, R) uint8.
        loss: the distance, on the generator's device.
        options: the options of both steps, by name; ``lambda_delta`` is for the regularised way.
        folder: the folder of the codes; made if it is missing.
        progress: called with how many codes are there, after each few.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, pictures in sets.items():
        for first in range(0, len(pictures), BATCH):
            some = range(first, min(first + BATCH, len(pictures)))
            for way in WAYS.values():
                missing = [i for i in some if not code_path(folder, name, i, way.name).exists()]
                if missing:
                    target = as_images(pictures[missing], generator.device)
                    starts = [code_path(folder, name, i, way.start) for i in missing]
                    code = _find(generator, target, loss, options, way, starts)
                    with torch.no_grad():
                        distances = Objective(generator, loss, target)(code).cpu().double()
                    for i, one, distance in zip(missing, code, distances):
                        _write_code(code_path(folder, name, i, way.name), one, distance)
                progress(len(some))


def _find(
    generator: GeneratorAdapter,
    target: torch.Tensor,
    loss: Distance,
    options: Mapping[str, Any],
    way: Way,
    starts: Sequence[Path],
) -> Code:
    """The codes of pictures (N, C, R, R) in one way; ``starts`` are the files of the codes to start from."""
    if way.name == "z":
        of_z = {key: options[key] for key in ("steps", "lambda_z")}
        return base.fit("z", generator, target, loss, None, of_z).code
    changes = {"first_step": "none", **({} if way.regularised else {"lambda_delta": 0.0})}
    start = None
    if way.start != "random":
        start = joined([read_codes(path) for path in starts]).to(generator.device)
    return base.fit("dense", generator, target, loss, start, {**options, **changes}).code


def code_path(folder: Path, name: str, i: int, way: str) -> Path:
    """The file of picture ``i`` of a set in one way."""
    return folder / f"{name}-{i:04d}-{way}.npz"


def _write_code(path: Path, code: Code, distance: torch.Tensor) -> None:
    arrays = {key: value.cpu().numpy() for key, value in code.tensors.items()}
    if "h" in arrays:
        arrays["layer"] = np.array(code.space.removeprefix(FEATURES))
    write_codes(path, {**arrays, "distance": distance[None].numpy()})


def gather(generator: GeneratorAdapter, folder: Path, name: str, count: int, way: str) -> list[Found]:
    """What `invert` kept of the pictures of one set in one way."""
    results = []
    for i in range(count):
        path = code_path(folder, name, i, way)
        code = read_codes(path).to(generator.device)
        results.append(Found(code, float(base.read_part(path)["distance"][0]), base.rendered(generator, code)[0]))
    return results


def _errors(found: Sequence[Found], pictures: np.ndarray) -> dict[str, list[float]]:
    """Quartiles over the pictures: the distance that was minimised, LPIPS, PSNR and SSIM."""
    values = base.metrics(pictures, np.stack([one.picture for one in found]), SqueezeLPIPS())
    values = {"distance": np.array([one.distance for one in found]), **values}
    return {key: base.quartiles(value) for key, value in values.items()}


def _line(generator: GeneratorAdapter, a: Code, b: Code) -> np.ndarray:
    """The pictures on the straight line from one code to another."""
    return base.rendered(generator, between(generator, a, b, np.linspace(0, 1, FRAMES)))


def _write_sheets(
    generator: GeneratorAdapter,
    folder: Path,
    name: str,
    pictures: np.ndarray,
    found: Mapping[str, Sequence[Found]],
    latents: Sequence[Code],
) -> None:
    """The sheets as Figures 3 (from h* to G1(z*)), 4 (between two pictures) and 9 (to random samples)."""
    few = range(min(SHOWN, len(pictures)))
    at_layer = [one.code for one in found["dense"]]
    figure3 = [[pictures[i], *_line(generator, at_layer[i], underlying(generator, at_layer[i]))] for i in few]
    figure4 = []
    for i in few[::2]:
        j = min(i + 1, len(pictures) - 1)
        for way in ("z", "free", "dense"):
            line = _line(generator, found[way][i].code, found[way][j].code)
            figure4.append([pictures[i], *line, pictures[j]])
    figure9 = [[pictures[i], *_line(generator, at_layer[i], latents[-1 - i % len(latents)])] for i in few]
    for number, rows in ((3, figure3), (4, figure4), (9, figure9)):
        write_png(folder / f"figure{number}-{name}.png", sheet(rows, 64))


def _write_spans(
    generator: GeneratorAdapter, folder: Path, name: str, pictures: np.ndarray, found: Sequence[Found]
) -> list[float]:
    """The sheet as Figure 13 (picture, h*, its projection onto the span of G1); returns the quartiles of the share left over."""
    spans = [onto_span(generator, one.code) for one in found]
    rows = [
        [picture, one.picture, base.rendered(generator, on_span)[0]]
        for picture, one, (on_span, _) in list(zip(pictures, found, spans))[:SHOWN]
    ]
    write_png(folder / f"figure13-{name}.png", sheet(list(zip(*rows)), 64))
    return base.quartiles([float(left[0]) for _, left in spans])


def table(results: dict[str, Any]) -> str:
    """The results as Markdown: medians, with quartiles for the distance (Figure 5)."""
    lines = []
    for name, ways in results["sets"].items():
        about = f"{results['pictures'][name]} {name} pictures"
        lines.append(f"| {about} | distance (quartiles) | LPIPS | PSNR, dB | SSIM | midpoints: KID | logit |")
        lines.append("|---|---:|---:|---:|---:|---:|---:|")
        for way, row in ways.items():
            low, middle, high = row["distance"]
            middles = row["midpoints"]
            cells = [
                f"{middle:.4f} ({low:.4f} to {high:.4f})",
                f"{row['lpips'][1]:.4f}",
                f"{row['psnr'][1]:.2f}",
                f"{row['ssim'][1]:.3f}",
                f"{middles['kid']:.4f} ± {middles['kid_stderr']:.4f}" if "kid" in middles else "",
                f"{middles['logit']:.2f}" if "logit" in middles else "",
            ]
            lines.append(f"| {WAYS[way].title} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)
