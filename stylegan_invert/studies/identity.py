"""Whether reconstructions are still recognised (Bayat's thesis, chapter 2, Table 2.2): rank-k of people, on any network.

One picture of each person is reconstructed, and its embedding is compared with those of a gallery of original pictures. The
rank of the person is one plus the number of other people who have a picture that is at least as similar. Two galleries
are used: the reconstructed pictures' own originals, as in the thesis, and the other pictures of the same people, where the
original itself is missing. In the second one the originals themselves show the best that reconstructions can reach.
"""

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from ..analysis.distribution import PictureFeatures
from ..analysis.sheets import sheet
from ..errors import StyleganInvertError
from ..files.writing import sha256_of_file
from ..io.encoder_file import read_encoder
from ..losses import load_identity
from ..media.labels import LABELS
from ..media.picture_set import PictureSet
from ..media.pictures import as_images, write_png
from ..network_files.file import NetworkFile
from ..options import read_values
from ..projectors.methods import find_method
from ..projectors.projector import Projector
from ..projectors.settings import build_options
from ..projectors.starts import STARTS
from . import base

RANKS = (1, 5, 10, 20)
BATCH = 16  # pictures in a part of the results, and in a pass on a GPU
SHOWN = 8
FEATURES = ("identity", "identity-ffhq", "squeezenet")
"""What pictures are compared by: a face embedder, a face embedder on the middle of pictures that are aligned as FFHQ's, or the
shipped SqueezeNet, which knows nothing of people."""
ORIGINALS = "the originals themselves"

Embed = Callable[[np.ndarray], torch.Tensor]


class Way(NamedTuple):
    """One row of the table: a method with its options.

    Attributes:
        title: the text that names it.
        method: the method's name.
        init: the start, or None for the method's own.
        chosen: the options that were named, as pairs.
    """

    title: str
    method: str
    init: str | None = None
    chosen: tuple[tuple[str, Any], ...] = ()

    @property
    def steps(self) -> int:
        """The number of steps, by which progress is counted; 0 for a method without."""
        known = find_method(self.method)
        if known.one_pass:
            return 0
        preset = {name: value for name, value in known.preset.items() if name != "loss"}
        return build_options(known.options, preset, dict(self.chosen)).total_steps(1)

    @property
    def encoded(self) -> bool:
        """True if an encoder is needed."""
        return "encoder" in (self.method, self.init)


def way_of(text: str) -> Way:
    """A method, as "encoder", or with options and a start, as "fast-w+:steps=50,init=encoder".

    Raises:
        ValueError: the method, the start or an option is unknown, or a value is not accepted.
    """
    method, _, rest = text.partition(":")
    known = find_method(method)
    parts = [part.strip() for part in rest.split(",") if part.strip()]
    starts = [part.removeprefix("init=") for part in parts if part.startswith("init=")]
    if len(starts) > 1 or not set(starts) <= set(STARTS):
        raise ValueError(f"{text!r}: expected one start, as init=encoder; starts are {', '.join(STARTS)}")
    chosen = read_values(known.options, ",".join(part for part in parts if not part.startswith("init=")))
    way = Way(text, method, starts[0] if starts else None, tuple(sorted(chosen.items())))
    way.steps  # refuses options that do not go together  # noqa: B018
    return way


def people_of(data: PictureSet) -> list[str]:
    """The person in each picture: its class, if the set was read with labels, or else its folder.

    Raises:
        StyleganInvertError: a picture lies in no folder of its own person, or a label is no class.
    """
    if data.c_dim:
        if not ((data.labels == 1).sum(1) == 1).all():
            raise StyleganInvertError(
                f"{data.path}: {LABELS} has other labels than class numbers; expected one for each person"
            )
        return [str(number) for number in data.labels.argmax(1)]
    people = [Path(name).parent.as_posix() for name in data.names]
    if "." in people:
        name = data.names[people.index(".")]
        raise StyleganInvertError(
            f"{data.path}: {name} lies in no folder; expected a folder for each person, or labels in {LABELS}, with --labels"
        )
    return people


def split(people: Sequence[str], count: int) -> tuple[list[int], list[int]]:
    """The pictures to reconstruct, the last one of each of the first ``count`` people, and these people's other pictures.

    Raises:
        StyleganInvertError: fewer than two people.
    """
    chosen = list(dict.fromkeys(people))[:count]
    if len(chosen) < 2:
        raise StyleganInvertError(f"the pictures are of {len(chosen)} person; expected at least two people")
    last = {person: i for i, person in enumerate(people)}
    probes = [last[person] for person in chosen]
    return probes, [i for i, person in enumerate(people) if person in set(chosen) and last[person] != i]


def ranks(similarity: torch.Tensor, rows: Sequence[str], columns: Sequence[str]) -> np.ndarray:
    """The rank of each row's own person among the people of the columns; one is the best.

    Args:
        similarity: (N, M), greater for more similar pictures.
        rows: the people of the N pictures; each has a column.
        columns: the people of the M pictures of the gallery.

    Returns:
        (N,) int64: one plus the number of other people whose best picture is at least as similar as the best one of the row's
        own person.
    """
    people = list(dict.fromkeys(columns))
    best = torch.stack(
        [similarity[:, [i for i, one in enumerate(columns) if one == person]].amax(1) for person in people], dim=1
    )
    own = best.gather(1, torch.tensor([[people.index(person)] for person in rows]))
    return (best >= own).sum(1).numpy()  # the own person counts as one


def embedder(
    features: str, identity: str | os.PathLike | None, device: torch.device, run_torchscript: bool = False
) -> tuple[Embed, dict[str, Any]]:
    """A function from pictures (N, C, R, R) uint8 to embeddings (N, F) of length one, and its entries in the settings.

    Raises:
        StyleganInvertError: a face embedder is needed and was not named, or was named and is not needed.
        ValueError: see `losses.load_identity`.
    """
    if (identity is None) == features.startswith("identity"):
        reason = "needs the file of a face embedder (--identity FILE)" if identity is None else "uses no --identity"
        raise StyleganInvertError(
            f"--features {features} {reason}; squeezenet compares by the shipped SqueezeNet, which was not trained on faces"
        )
    if identity is None:
        squeezenet = PictureFeatures(device)

        def embed(pictures: np.ndarray) -> torch.Tensor:
            return F.normalize(squeezenet.of(torch.from_numpy(pictures).split(BATCH)))

        return embed, {"features": "SqueezeNet, not a face embedder"}
    distance = load_identity(identity, run_torchscript, features == "identity-ffhq").to(device)

    def embed_faces(pictures: np.ndarray) -> torch.Tensor:
        with torch.no_grad():
            parts = [distance.features(as_images(part, device)) for part in torch.from_numpy(pictures).split(BATCH)]
        return torch.cat(parts).cpu()

    crop = ", middle of pictures aligned as FFHQ's" if distance.crop else ""
    return embed_faces, {"features": f"{distance.name}{crop}", "identity": sha256_of_file(identity)}


def run(
    net: NetworkFile,
    outdir: str | os.PathLike,
    *,
    people: str | os.PathLike,
    ways: Sequence[str] = ("fast-w+",),
    features: str = "identity",
    identity: str | os.PathLike | None = None,
    run_torchscript: bool = False,
    encoder: str | os.PathLike | None = None,
    labels: bool = False,
    count: int = 40,
    loss: str | None = None,
    device: torch.device | str = "cpu",
    counting: base.Counting = base.uncounted,
) -> dict[str, Any]:
    """Reconstruct a picture of each person in each of several ways, and look for the person among the originals.

    Args:
        net: the network file, without classes.
        outdir: the study's folder; see `studies.base`. It also gets a sheet: originals over what each way makes of them.
        people: pictures in a folder for each person, in a folder or zip; or a dataset zip or folder with labels.
        ways: the rows of the table; see `way_of`.
        features: a word of `FEATURES`.
        identity: the file of a face embedder; see `losses.load_identity`.
        run_torchscript: see `losses.load_identity`.
        encoder: the file of an encoder of this network, or the folder of its run.
        labels: True takes the people from the labels, and not from the folders.
        count: the number of people, at most.
        loss: what the methods minimise; None takes each method's own.
        device: where to compute.
        counting: shows the progress.

    Returns:
        What results.json holds.

    Raises:
        StyleganInvertError: the pictures, the encoder or the features do not fit, or the folder holds another study.
        ValueError: a way is unknown, or does not fit the network.
    """
    chosen = [way_of(text) for text in dict.fromkeys(ways)]
    if any(way.encoded for way in chosen) != (encoder is not None):
        which = (
            "is needed by the ways"
            if encoder is None
            else "was named, and no way uses it, as encoder or w+:init=encoder"
        )
        raise StyleganInvertError(f"an encoder (--encoder FILE) {which}")
    generator = base.generator_of(net, device)
    embed, about = embedder(features, identity, generator.device, run_torchscript)
    data = PictureSet(people, generator.img_resolution, generator.img_channels, use_labels=labels)
    data.check()
    names = people_of(data)
    probes, others = split(names, count)
    targets = data.pictures(probes)
    settings: dict[str, Any] = {"network": net.sha256, **about, "ways": [way.title for way in chosen], "loss": loss}
    settings |= {"people": len(probes), "others": len(others), "device": str(torch.device(device))}
    settings["data"] = base.hashes({"targets": targets, **({"others": data.pictures(others)} if others else {})})
    settings["encoder"] = None if encoder is None else read_encoder(encoder, generator)[1].images
    folder = base.begin(outdir, settings, shared=True)
    finder = _Finder(net, encoder, loss)
    file = "{}-{{:05d}}.npz"
    parts = [
        part
        for way in chosen
        for part in base.split("people", way, targets, BATCH, file.format(re.sub("[:=,]", "-", way.title)))
    ]
    found = base.find_parts(parts, folder / "parts", finder, counting)
    images = {way.title: base.stacked(found["people", way], "images") for way in chosen}
    write_png(folder / "sheet.png", sheet(list(zip(targets[:SHOWN], *(x[:SHOWN] for x in images.values())))))
    own, shown = embed(targets), [names[i] for i in probes]
    galleries = {"originals": (own, shown)}
    if others:
        galleries["others"] = embed(data.pictures(others)), [names[i] for i in others]
    rows = {ORIGINALS: _row(own, own, shown, galleries)}
    for way in chosen:
        seconds = np.concatenate([part["seconds"] for part in found["people", way]])
        rows[way.title] = {**_row(embed(images[way.title]), own, shown, galleries), "seconds": float(seconds.mean())}
    results = {**settings, "rows": rows}
    return base.finish(folder, results, table(results))


class _Finder:
    """Reconstructs a part's pictures: "images" (n, C, R, R) uint8, and "seconds" (n,), the time per picture."""

    def __init__(self, net: NetworkFile, encoder: str | os.PathLike | None, loss: str | None):
        self.net, self.encoder, self.loss = net, encoder, loss
        self.projectors: dict[Way, Projector] = {}

    def __call__(self, part: base.Part, progress: base.Progress) -> base.Arrays:
        way = part.way
        if way not in self.projectors:
            encoder = self.encoder if way.encoded else None
            self.projectors[way] = Projector(self.net, way.method, loss=self.loss, encoder=encoder, **dict(way.chosen))
        began = time.perf_counter()
        found = list(self.projectors[way].project(list(part.pixels), init=way.init, batch=len(part.pixels)))
        seconds = (time.perf_counter() - began) / len(found)
        progress(part.work)
        return {"images": np.stack([one.image.numpy() for one in found]), "seconds": np.full([len(found)], seconds)}


def _row(
    probes: torch.Tensor,
    own: torch.Tensor,
    people: Sequence[str],
    galleries: Mapping[str, tuple[torch.Tensor, list[str]]],
) -> dict[str, Any]:
    """The shares of people that are found at each rank, in each gallery, and the mean cosine with the original.

    People without a picture in a gallery are left out there.
    """
    row: dict[str, Any] = {"cosine": float((probes * own).sum(1).mean())}
    for name, (embeddings, columns) in galleries.items():
        kept = [i for i, person in enumerate(people) if person in set(columns)]
        found = ranks(probes[kept] @ embeddings.T, [people[i] for i in kept], columns)
        row[name] = {str(k): float((found <= k).mean()) for k in RANKS}
    return row


def table(results: dict[str, Any]) -> str:
    """The results as Markdown: a table for each gallery, a row for each way, in percent."""
    people = results["people"]
    titles = {
        "originals": f"{people} people, among their reconstructed pictures' originals",
        "others": f"{people} people, among {results['others']:,} other pictures of them",
    }
    lines = [f"Features: {results['features']}.", ""]
    ways = list(results["rows"])
    for gallery, title in titles.items():
        if gallery not in results["rows"][ORIGINALS]:
            continue
        lines += [
            f"| {title} | " + " | ".join(f"rank {k}, %" for k in RANKS) + " | cosine with the original | seconds |",
            "|---" + "|---:" * (len(RANKS) + 2) + "|",
            "| by chance | " + " | ".join(f"{100 * min(k / people, 1):.1f}" for k in RANKS) + " | | |",
        ]
        for way in ways:
            row = results["rows"][way]
            shares = " | ".join(f"{100 * row[gallery][str(k)]:.1f}" for k in RANKS)
            seconds = f"{row['seconds']:.3f}" if "seconds" in row else ""
            lines.append(f"| {way} | {shares} | {row['cosine']:.3f} | {seconds} |")
        lines.append("")
    return "\n".join(lines)
