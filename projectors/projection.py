"""The result of a projection, and its files."""

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stylegan_invert.errors import CodeFileError
from stylegan_invert.files import plain
from stylegan_invert.files.door import Kind
from stylegan_invert.files.writing import staged
from stylegan_invert.generator import NOISE, Code, GeneratorAdapter
from stylegan_invert.io.codes import code_file, other_file, read_codes, write_code
from stylegan_invert.media.medium import MEDIA, Medium, medium_of

FORMAT = 1  # the version of the format of result.json
RECORD = "result.json"


@dataclass(frozen=True, eq=False)
class Projection:
    """The result for one target. Two are equal if everything that `save` writes is equal.

    Attributes:
        code: the code (N = 1), on the CPU. It has noise maps only if they were asked to be kept.
        target: the target as it was compared; (C, H, W) uint8 for pictures, (C, T) int16 for sounds. If something was
            observed of the outputs, it is what is observed of the whole target, and may be smaller.
        image: the rendered code, in the same form; `save` writes it.
        metrics: measures of ``image``, as it is observed, against ``target``; for pictures "lpips" (by the network
            "lpips_network"), "psnr" in dB, "ssim", and, where a face embedder was named, "identity", one minus the cosine of the
            faces' embeddings. Of a known truth: under "truth" those of ``image`` against it, and under "composed" those of
            ``composed``.
        distance: (steps,) float32, the optimised distance before each step; methods that search z add that of the result.
        record: everything else that result.json says: method, space, options, network, target, seconds, versions.
        steps: the code after each step, without noise maps; None unless asked for.
        generator: the generator that rendered it; None for a result that was read.
        pivot: the result before the network was tuned to the picture, with the same code; None if it was not tuned. Of one
            that was read, only the code, the target, the image and the metrics are known.
        tuned: the tuned network, which `save` writes, too (a `tuning.TunedNetwork`).
        truth: the whole target, where an observation of it was compared; None if it is not known.
        composed: ``image`` with what the target shows of it (known pixels, or brightness); None unless asked for.
    """

    code: Code
    target: torch.Tensor
    image: torch.Tensor
    metrics: dict[str, Any]
    distance: torch.Tensor
    record: dict[str, Any]
    steps: list[Code] | None = field(default=None, repr=False)
    generator: GeneratorAdapter | None = field(default=None, repr=False)
    pivot: "Projection | None" = field(default=None, repr=False)
    tuned: Any = field(default=None, repr=False)
    truth: torch.Tensor | None = field(default=None, repr=False)
    composed: torch.Tensor | None = field(default=None, repr=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Projection):
            return NotImplemented
        mine, theirs = self._kept_code(), other._kept_code()
        return (
            mine.space == theirs.space
            and mine.tensors.keys() == theirs.tensors.keys()
            and all(torch.equal(value, theirs.tensors[name]) for name, value in mine.tensors.items())
            and torch.equal(self.target, other.target)
            and torch.equal(self.image, other.image)
            and _equal(self.pivot.image if self.pivot else None, other.pivot.image if other.pivot else None)
            and _equal(self.truth, other.truth)
            and _equal(self.composed, other.composed)
            and np.array_equal(self.distance.numpy(), other.distance.numpy(), equal_nan=True)
            and json.dumps(self.as_dict()) == json.dumps(other.as_dict())
        )

    @property
    def medium(self) -> Medium:
        """How the target and the result are read and written."""
        if self.generator is not None:
            return medium_of(self.generator)
        kind, about = MEDIA[self.record.get("medium", "picture")], self.record["network"]
        return kind(tuple(self.image.shape), **{name: about.get(name) for name in kind.facts})

    @property
    def _extra(self) -> dict[str, torch.Tensor | None]:
        """The outputs that only some results have, by the names of their files."""
        return {self.medium.truth_file: self.truth, self.medium.composed_file: self.composed}

    def _kept_code(self) -> Code:
        """The code as files keep it: in the base space, unless it lies at a layer."""
        if self.generator is None or self.code.space not in self.generator.spaces:
            return self.code
        code = self.code.to(self.generator.device)
        return (code if code.space == "z" else self.generator.convert(code, self.generator.base)).to("cpu")

    def save(self, outdir: str | os.PathLike, video: bool | None = None) -> Path:
        """Write the official files and result.json, all of them or none.

        ``target.png``, ``proj.png``, the code (``projected_w.npz`` for networks with w, as official tools write and read it,
        else ``projected_z.npz``; see `io.codes`), ``result.json`` and, if the steps were kept, ``proj.mp4`` (target and
        picture side by side). If the network was tuned, also ``pivot.png``, the picture before, and the tuned network;
        the video shows the search before. If something was observed, ``truth.png`` is the whole target, where it is known,
        and ``composed.png`` the picture with what the target shows of it, where asked for. `read` reads them back, except
        for video and network.

        Args:
            outdir: the folder; made if missing.
            video: None writes one if the steps were kept.

        A video and a ``pivot.png`` of an earlier result in the folder are removed.

        Raises:
            ValueError: a video is asked for and the steps were not kept, or this result was read from a folder.
            OSError: the folder cannot be made or written into.
        """
        if self.generator is None:
            raise ValueError("this result was read from a folder, without its network; it cannot be saved again")
        searched = self if self.pivot is None else self.pivot
        if video and searched.steps is None:
            raise ValueError("a video needs the steps of the optimisation; project with keep_steps=True")
        with_video = video or (video is None and searched.steps is not None)
        medium = self.medium
        with staged(outdir) as folder:
            medium.write(folder / medium.target_file, self.target.numpy())
            medium.write(folder / medium.output_file, self.image.numpy())
            medium.write_beside(folder, self.target.numpy(), self.image.numpy())
            for name, value in self._extra.items():
                if value is not None:
                    medium.write(folder / name, value.numpy())
            write_code(folder, self.code, self.generator)
            if with_video:
                medium.write_steps(folder / medium.steps_file, self.target.numpy(), searched.outputs())
            if self.pivot is not None:
                medium.write(folder / _pivot_file(medium), self.pivot.image.numpy())
            if self.tuned is not None:
                self.tuned.write(Path(outdir), folder)
            (folder / RECORD).write_text(self._text())
        other_file(outdir, self.generator).unlink(missing_ok=True)  # of an earlier result, with another network
        for name, value in self._extra.items():
            if value is None:
                (Path(outdir) / name).unlink(missing_ok=True)  # of an earlier result
        if not with_video:
            (Path(outdir) / medium.steps_file).unlink(missing_ok=True)  # of an earlier result
        if self.pivot is None:
            (Path(outdir) / _pivot_file(medium)).unlink(missing_ok=True)
        return Path(outdir)

    @classmethod
    def read(cls, folder: str | os.PathLike) -> "Projection":
        """The result that `save` wrote into a folder. It is equal to the one that was saved, and has no network.

        Raises:
            CodeFileError: result.json is missing, damaged or of another format, or the code is.
            ValueError: one of the pictures or sounds is missing or damaged (`ImageFileError`, `SoundFileError`).
        """
        file = Path(folder) / RECORD
        values = _read_record(file)
        metrics, history = values.pop("metrics"), values.pop("history")
        for name in ("format", "distance"):
            values.pop(name)
        medium = MEDIA[values.get("medium", "picture")]
        names = (medium.target_file, medium.output_file)
        target, image = (torch.from_numpy(medium.read_back(Path(folder) / name)) for name in names)
        paths = (Path(folder) / name for name in (medium.truth_file, medium.composed_file))
        truth, composed = (torch.from_numpy(medium.read_back(path)) if path.exists() else None for path in paths)
        code = read_codes(code_file(folder), prefer_z=values["space"] == "z")
        distance = torch.tensor([math.nan if x is None else x for x in history], dtype=torch.float32)
        pivot = None
        if "tuning" in values:
            before = torch.from_numpy(medium.read_back(Path(folder) / _pivot_file(medium)))
            pivot = cls(code, target, before, values["tuning"]["pivot"], distance, {})
        result = cls(code, target, image, metrics, distance, values, pivot=pivot, truth=truth, composed=composed)
        _ = result.medium  # a SoundFileError if result.json describes no sound
        return result

    def outputs(self) -> Iterator[np.ndarray]:
        """The rendered code after each step, with the noise maps of the result."""
        noise = {k: v for k, v in self.code.tensors.items() if k.startswith(NOISE)}
        if self.steps is None or self.generator is None:
            raise ValueError("the steps of the search were not kept, or this result was read from a folder")
        for step in self.steps:
            yield render_rounded(self.generator, Code(step.space, {**step.tensors, **noise}, step.c))

    def as_dict(self) -> dict[str, Any]:
        """The contents of result.json without the distances of all steps of the search."""
        last = float(self.distance[-1]) if len(self.distance) else math.nan
        return {
            "format": FORMAT,
            "metrics": self.metrics,
            "distance": last if math.isfinite(last) else None,
            **self.record,
        }

    def _text(self) -> str:
        """result.json: indented, and the distances of all steps on one line, in as few digits as float32 needs."""
        contents = self.as_dict()
        lists = {"history": short(self.distance.numpy())}
        if "tuning_history" in contents:
            lists["tuning_history"] = contents.pop("tuning_history")
        lines = "".join(f',\n  "{name}": {json.dumps(numbers)}' for name, numbers in lists.items())
        return f"{json.dumps(contents, indent=2)[:-2]}{lines}\n}}\n"


def short(values: np.ndarray) -> list[float | None]:
    """Numbers in as few digits as float32 needs; None for those that are not finite."""
    return [float(np.format_float_scientific(x)) if np.isfinite(x) else None for x in values]


def _pivot_file(medium: Medium | type[Medium]) -> str:
    """The name of the file of the output before tuning, with the ending that outputs have: "pivot.png"."""
    return "pivot" + Path(medium.output_file).suffix


_FILE = Kind("the record of a projection", 2**24, CodeFileError)
_FORM = plain.table(
    {
        "format": plain.whole(FORMAT, FORMAT),
        "space": plain.text(),
        "metrics": plain.table({}, more=plain.anything),
        "options": plain.table({}, more=plain.anything),
        "network": plain.table({}, more=plain.anything),
        "distance": plain.maybe(plain.number()),
        "history": plain.items(plain.maybe(plain.number())),
    },
    {
        "medium": plain.text(*MEDIA),
        "tuning": plain.table({"pivot": plain.table({}, more=plain.anything)}, more=plain.anything),
        "tuning_history": plain.items(plain.number()),
    },
    more=plain.anything,
)


def _read_record(file: Path) -> dict[str, Any]:
    values = plain.read_json(file, _FILE, plain.table({}, more=plain.unchecked))
    if values.get("format") != FORMAT:
        found = plain.shown(values.get("format"))
        raise CodeFileError(f"{file}: its format is {found}; expected {FORMAT}. Project the target again")
    try:
        return _FORM(values, "")
    except plain.Misfit as e:
        raise CodeFileError(f"{file}: {e}; the file is damaged") from None


def _equal(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    return a is b if a is None or b is None else torch.equal(a, b)


def render_rounded(generator: GeneratorAdapter, code: Code) -> np.ndarray:
    """The rendered code, as it is stored; pictures (C, H, W) uint8 are rounded as the official projector does.

    Codes are rendered one at a time, here and in `stylegan-invert generate`: in a batch, sums are taken in another order, and
    a pixel could come out one step different.
    """
    with torch.no_grad():
        return medium_of(generator).rounded(generator.render(code.to(generator.device))[0])
