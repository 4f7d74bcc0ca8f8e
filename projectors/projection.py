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

from stylegan_invert.generator import NOISE, Code, GeneratorAdapter
from stylegan_invert.io.codes import other_file, write_code
from stylegan_invert.io.files import staged
from stylegan_invert.media.pictures import projector_pixels, write_png
from stylegan_invert.media.video import write_mp4


@dataclass(frozen=True)
class Projection:
    """What one picture became.

    Attributes:
        code: the code (N = 1), on the CPU. It has noise maps only if they were asked to be kept.
        target: (C, H, W) uint8, the picture as the network was shown it.
        image: (C, H, W) uint8, what the code renders to: this is the picture that is saved.
        metrics: of ``image`` against ``target``: "lpips" (by the network "lpips_network"), "psnr" in dB, "ssim".
        distance: the optimised distance before each step; methods that search in z add that of the result.
        record: everything else that result.json says.
        steps: the code after each step, without noise maps; None unless asked for.
        generator: what rendered it.
    """

    code: Code
    target: torch.Tensor
    image: torch.Tensor
    metrics: dict[str, Any]
    distance: torch.Tensor
    record: dict[str, Any]
    steps: list[Code] | None = field(default=None, repr=False)
    generator: GeneratorAdapter | None = field(default=None, repr=False)

    def save(self, outdir: str | os.PathLike, video: bool | None = None) -> Path:
        """Write the official files and result.json, all of them or none.

        ``target.png``, ``proj.png``, the code (``projected_w.npz`` for networks with w, as official tools write and read it,
        else ``projected_z.npz``; see `io.codes`), ``result.json`` and, if the steps were kept, ``proj.mp4`` (target and
        picture side by side).

        Args:
            outdir: the folder; made if missing.
            video: None writes one if the steps were kept.

        A video of an earlier result in the folder is removed.

        Raises:
            ValueError: a video is asked for and the steps were not kept.
            OSError: the folder cannot be made or written into.
        """
        if video and self.steps is None:
            raise ValueError("a video needs the steps of the optimisation; project with keep_steps=True")
        with_video = video or (video is None and self.steps is not None)
        with staged(outdir) as folder:
            write_png(folder / "target.png", self.target.numpy())
            write_png(folder / "proj.png", self.image.numpy())
            write_code(folder, self.code, self.generator)
            if with_video:
                write_mp4(folder / "proj.mp4", self.frames())
            (folder / "result.json").write_text(json.dumps(self.as_dict(), indent=2) + "\n")
        other_file(outdir, self.generator).unlink(missing_ok=True)  # of an earlier result, with another network
        if not with_video:
            (Path(outdir) / "proj.mp4").unlink(missing_ok=True)  # of an earlier result
        return Path(outdir)

    def frames(self) -> Iterator[np.ndarray]:
        """A video's frames (C, H, 2 W) uint8: target and picture after each step, with the noise maps of the result."""
        noise = {k: v for k, v in self.code.tensors.items() if k.startswith(NOISE)}
        for step in self.steps:
            code = Code(step.space, {**step.tensors, **noise}, step.c)
            yield np.concatenate([self.target.numpy(), render_pixels(self.generator, code)], axis=2)

    def as_dict(self) -> dict[str, Any]:
        """What result.json holds."""
        last = float(self.distance[-1]) if len(self.distance) else math.nan
        return {"metrics": self.metrics, "distance": last if math.isfinite(last) else None, **self.record}


def render_pixels(generator: GeneratorAdapter, code: Code) -> np.ndarray:
    """The picture (C, H, W) uint8 of one code, rounded as the official projector does.

    Codes are rendered one at a time, here and in `stylegan-invert generate`: in a batch, sums are taken in another
    order, and a pixel could come out one step different.
    """
    with torch.no_grad():
        return projector_pixels(generator.render(code.to(generator.device))[0])
