"""Makes the figures of the pages about methods: ``python docs/methods/make.py [METHOD...]``.

All of them take about ten minutes of one core. A figure is the photograph of Chelsea that comes with the package, as the
network is shown it, and the pictures of the codes at some steps of the search, the last of which is the result.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

import stylegan_invert as si
from stylegan_invert import pretrained
from stylegan_invert.analysis.sheets import sheet
from stylegan_invert.projectors import Projector
from stylegan_invert.projectors.methods import METHODS
from stylegan_invert.projectors.projection import render_rounded

HERE = Path(__file__).parent
PHOTO = pretrained.path(pretrained.DEMO_PICTURE)
WITHOUT_W = {"fast-z", "fast-dense", "z", "dense", "pividori-code", "pividori-paper"}
SEARCHED_TWICE = {"fast-dense", "dense", "pividori-code", "pividori-paper", "robust"}

OPTIONS: dict[str, dict[str, Any]] = {
    "restore": {"observe": "downsample:4"},
    "robust": {"observe": "noise:0.2"},
    "wulff-w+": {"steps": 1000},
    "pividori-code": {"steps": 1500, "layer_steps": 1500},
    "pividori-paper": {"steps": 1500, "layer_steps": 1500},
}
"""Options of the figures beside the defaults; the last three have a tenth of their steps."""

SHARES = (0.001, 0.05, 0.25)
SHARES_OF_TWO = (0.025, 0.5, 0.6)  # the first search has ended at a half
"""The steps that are shown beside the last, as shares of all steps. The first step is shown at least."""


def figure(method: str) -> np.ndarray:
    """The figure of a method: (3, height, width) uint8."""
    net = si.load("faces64" if method in WITHOUT_W else "cats64-de")
    projector = Projector(net, method, **OPTIONS.get(method, {}))
    shares, shots = SHARES_OF_TWO if method in SEARCHED_TWICE else SHARES, {}

    def keep(_: int, step: Any) -> None:
        if step.number in {max(1, round(share * step.total)) for share in shares}:
            shots[step.number] = picture(projector, step.code)

    (result,) = projector.project([PHOTO], callback=keep)
    print(method, list(shots), result.metrics, flush=True)
    if METHODS[method].one_pass:
        (shots[0],) = (result.image,)
        (result,) = Projector(net, "fast-w+", steps=50).project([PHOTO], init=method)
    found, target = np.asarray(result.image), np.asarray(result.target)
    return sheet([[enlarged(target, len(found[0])), *(np.asarray(shot) for shot in shots.values()), found]])


def picture(projector: Projector, code: si.Code) -> np.ndarray:
    """The picture of a code as it would be saved: (C, H, W) uint8."""
    return render_rounded(projector.generator, code.without_noise().detach())


def enlarged(picture: np.ndarray, side: int) -> np.ndarray:
    """A picture that the search was shown smaller, with its pixels repeated."""
    times = side // picture.shape[1]
    return picture.repeat(times, axis=1).repeat(times, axis=2)


if __name__ == "__main__":
    for name in sys.argv[1:] or METHODS:
        pixels = figure(name)
        PIL.Image.fromarray(pixels.transpose(1, 2, 0)).save(HERE / f"{name}.png", optimize=True)
