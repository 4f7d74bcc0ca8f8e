"""The error against the depth of the layer, for Pividori et al., "Exploiting GAN Internal Capacity", section 3.1.

Every picture that a layer can represent can be represented by each later layer, so the error can only fall with depth. A search
at a later layer takes longer to get there; so a free displacement starts from that of the layer before it. The paper expects
that of all pictures a well-trained network represents natural ones best in its first layers, and white noise worst.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..analysis.plots import lines as draw_lines
from ..analysis.plots import write_figure
from ..errors import StyleganInvertError
from ..generator import Adapter, Code, GeneratorAdapter, with_prior
from ..media.picture_set import PictureSet
from ..network_files.file import NetworkFile
from ..projectors.dense import read_behind
from . import base
from .displacement import (
    Pictures,
    Realism,
    Way,
    Z,
    about,
    chosen_layer,
    errors,
    gather,
    invert,
    latents,
    left,
    real_set,
    realism_cells,
    rendered_set,
)

FREE = {"lambda_delta": 0.0, "layer_optimizer": "lbfgs"}  # which comes nearer than Adam in as many steps
KINDS = {
    "free": ("free", FREE),
    "regularised": ("regularised", {}),
    "inputs": ("free, with what later layers read", {**FREE, "styles": "optimised"}),
}
"""How a layer is searched: the words of the table, and options of the method. "regularised" is what ``--method dense`` does; it
starts from z*, the others from the free displacement of the layer before, where that is searched.
"""


def run(
    net: NetworkFile,
    outdir: str | os.PathLike,
    data: PictureSet | None = None,
    *,
    layers: Sequence[str] = (),
    kinds: Sequence[str] = ("free", "regularised"),
    generated: int = 4,
    real: int = 8,
    noise: int = 4,
    class_idx: int | None = None,
    steps: int = 80,
    layer_steps: int = 120,
    lambda_z: float = 0.1,
    loss: str = "mse=0.25,features=1",
    z_prior: str | None = None,
    device: torch.device | str = "cpu",
    counting: base.Counting = base.uncounted,
) -> dict[str, Any]:
    """Find displacements at several layers.

    Args:
        net: the network.
        outdir: the study's folder; see `studies.base`.
        data: real pictures, as `base.picture_set` reads them; None leaves them out.
        layers: the layers, in any order; none takes those of `cuts`.
        kinds: how each is searched, names in `KINDS`. "inputs" is left out at layers behind which nothing more is read.
        noise: the number of pictures of white noise.
        generated, real, class_idx, steps, layer_steps, lambda_z, loss, z_prior, device, counting: as for `dense.run`.

    Returns:
        The contents of results.json.

    Raises:
        StyleganInvertError: as for `dense.run`, or a kind is unknown.
    """
    generator = with_prior(base.generator_of(net, device, classes=True), z_prior)
    for unknown in [kind for kind in kinds if kind not in KINDS]:
        raise StyleganInvertError(f"there is no kind {unknown!r}; choose from {', '.join(KINDS)}")
    order = list(generator.layers())
    layers = sorted({chosen_layer(generator, name) for name in layers} or cuts(generator), key=order.index)
    drawn = latents(generator, generated, class_idx)
    sets = {"generated": rendered_set(generator, drawn)}
    if data is not None:
        sets["real"] = real_set(data, generator, real, class_idx)
    if noise:
        sets["noise"] = _noise(generator, noise, sets["generated"].classes)
    ways = _ways(generator, layers, kinds, drawn[0])
    options = {"steps": steps, "layer_steps": layer_steps, "lambda_z": lambda_z}
    distance, about_loss = base.distance_of(loss, device)
    searched = {"layers": layers, "kinds": list(kinds), "z_prior": generator.prior.family}
    settings = {"network": net.sha256, **about_loss, **about(sets), **options, **searched}
    folder = base.begin(outdir, settings)
    invert(generator, sets, ways, distance, options, folder / "codes", counting)

    realism = Realism(generator, net.D, sets)
    results: dict[str, Any] = {**settings, "sets": {}}
    for name, (pixels, classes) in sets.items():
        at_z = gather(generator, folder / "codes", name, len(pixels), Z)
        rows = results["sets"][name] = {}
        for way in ways:
            ones = gather(generator, folder / "codes", name, len(pixels), way)
            row: dict[str, Any] = {
                "layer": (way.options or {}).get("layer", "z"),
                "kind": way.title,
                **left(ones, at_z),
            }
            row["numbers"] = int(np.prod(generator.layers()[row["layer"]])) if way.options is not None else None
            rows[way.name] = {**row, **errors(ones, pixels), "midpoints": realism.of_midpoints(ones, classes)}
    panels = {KINDS[kind][0]: _curves(results, kind) for kind in kinds if kind != "inputs"}
    if panels:
        write_figure(folder / "depth.png", draw_lines(panels, ["z", *layers], "distance, of z's"))
    return base.finish(folder, results, table(results))


def _ways(generator: GeneratorAdapter, layers: Sequence[str], kinds: Sequence[str], code: Code) -> list[Way]:
    """The ways of all layers; ``code`` is any code, by which is seen what is read behind a layer."""
    ways, before = [Z], Z.name
    for name in layers:
        for kind in kinds:
            if kind == "inputs" and read_behind(generator, name, code) is None:
                continue
            start = Z.name if kind == "regularised" else before
            ways.append(Way(f"{name}-{kind}", KINDS[kind][0], start, {"layer": name, **KINDS[kind][1]}))
        before = f"{name}-free" if "free" in kinds else before
    return ways


def cuts(generator: GeneratorAdapter) -> list[str]:
    """The first dense layer, if there is one, and of each larger map the last layer that is no part of another one."""
    names = list(generator.layers())
    shapes = {k: v for k, v in generator.layers().items() if not any(k.startswith(f"{name}.") for name in names)}
    first = [] if generator.dense is None else [generator.dense]
    side = shapes[first[0]][-1] if first else 0
    last = {shape[-1]: name for name, shape in shapes.items() if shape[-1] > side}
    return [*first, *last.values()]


def _noise(generator: Adapter, count: int, classes: Sequence[int | None]) -> Pictures:
    """White noise, with the classes of the generated pictures."""
    random = np.random.RandomState(0)
    size = (count, *generator.output_shape)
    of_each = [classes[i % len(classes)] for i in range(count)]
    return Pictures(random.randint(0, 256, size).astype(np.uint8), of_each)


def _curves(results: dict[str, Any], kind: str) -> dict[str, list[float]]:
    """What is left of z's distance at z (1) and at each layer, by set."""
    return {
        name: [1.0, *(rows[f"{layer}-{kind}"]["left"] for layer in results["layers"])]
        for name, rows in results["sets"].items()
    }


def table(results: dict[str, Any]) -> str:
    """The results as Markdown. What is left of z's distance is a ratio of means; the other values are medians."""
    lines = []
    for name, rows in results["sets"].items():
        titles = "numbers | displacement | left of z's | distance | LPIPS | PSNR, dB | midpoints: KID | logit"
        lines += [
            f"| {results['pictures'][name]} {name} pictures | {titles} |",
            "|---|---:|---|---:|---:|---:|---:|---:|---:|",
        ]
        for row in rows.values():
            cells = [
                "" if row["numbers"] is None else f"{row['numbers']:,}",
                "" if row["numbers"] is None else row["kind"],
                f"{row['left']:.2f}",
                f"{row['distance'][1]:.4f}",
                f"{row['lpips'][1]:.4f}",
                f"{row['psnr'][1]:.2f}",
                *realism_cells(row["midpoints"]),
            ]
            lines.append(f"| {row['layer']} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)
