"""Makes the shipped directions of cats64-de, and the picture that shows them: ``python docs/networks/directions.py``.

Each is the boundary, in V, between the 300 of 3,000 random pictures in which a measure of the pixels is largest and the 300 in
which it is smallest. Each keeps what the two others measure. Run it again when the weights of cats64-de change.
"""

from pathlib import Path

import torch

import stylegan_invert as si
from stylegan_invert import pretrained
from stylegan_invert.analysis.sheets import sheet
from stylegan_invert.editing.finding import boundary, keeping
from stylegan_invert.editing.outputs import Move, strip
from stylegan_invert.generator import Code, adapt
from stylegan_invert.generator.directions import Coordinates, Direction, moved
from stylegan_invert.io.direction_file import FOLDER, SUFFIX, write_direction
from stylegan_invert.io.gaussian_file import with_gaussian
from stylegan_invert.media.pictures import write_png
from stylegan_invert.projectors.projection import render_rounded

NETWORK = "cats64-de"
SAMPLES, ENDS, SEED = 3000, 300, 0
SHOWN = (3, 8)  # seeds of the pictures in the sheet
FACE = (slice(None), slice(None), slice(20, 56), slice(16, 48))
EYES = (slice(24, 48), slice(12, 52))


def light(x: torch.Tensor) -> torch.Tensor:
    """The brightness of the middle of the picture."""
    return x[FACE].mean(dim=[1, 2, 3])


def warm(x: torch.Tensor) -> torch.Tensor:
    """Red less blue in the middle of the picture: ginger against grey."""
    return (x[FACE][:, 0] - x[FACE][:, 2]).mean(dim=[1, 2])


def turned(x: torch.Tensor) -> torch.Tensor:
    """How far eyes and nose lie to the right of the mean picture's, to first order: the part along its derivative."""
    grey = x.mean(dim=1)
    mean = grey.mean(dim=0)
    mean = (mean + mean.flip(-1)) / 2
    slope = torch.zeros_like(mean)
    slope[:, 1:-1] = (mean[:, :-2] - mean[:, 2:]) / 2
    part, slope = grey[:, EYES[0], EYES[1]], slope[EYES]
    return (part * slope).sum(dim=[1, 2]) / slope.square().sum()


MEASURES = {"light": light, "warm": warm, "turned": turned}
NAMES = {"light": "lighter fur", "warm": "warmer fur", "turned": "face to the right"}


def main() -> None:
    generator = with_gaussian(adapt(si.load(NETWORK).G))
    coordinates = Coordinates(generator)
    code = coordinates.drawn(SAMPLES, SEED)
    with torch.no_grad():
        x = torch.cat([generator.render(code[i : i + 50]).clamp(-1, 1) for i in range(0, SAMPLES, 50)])
    raw: dict[str, Direction] = {}
    for key, measure in MEASURES.items():
        order = measure(x).argsort()
        groups = [Code("w", {"w": code.tensors["w"][rows]}) for rows in (order[-ENDS:], order[:ENDS])]
        raw[key], right = boundary(coordinates, *groups, name=NAMES[key])
        print(f"{key}: accuracy on held-out codes {right:.3f}")
    folder = Path(pretrained.__file__).parent / FOLDER / NETWORK
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for key, one in raw.items():
        direction = keeping(coordinates, one, [other for name, other in raw.items() if name != key], one.name)
        print(f"strength 1 of {key} changes")
        write_direction(folder / f"{key}{SUFFIX}", direction)
        with torch.no_grad():
            ends = [generator.render(moved(generator, code[:200], direction, strength)) for strength in (-1, 1)]
        for name, measure in MEASURES.items():
            print(
                f"  {name} by {float((measure(ends[1]) - measure(ends[0])).mean() / 2 / measure(x).std()):+.2f} deviations"
            )
        for seed in SHOWN:
            z = generator.prior.of_seed(seed, [1, generator.network.z_dim])
            codes = strip(generator, Code("z", {"z": z}), [Move(direction, 3.0)], 7)
            rows.append([render_rounded(generator, one) for one in codes])
    write_png(Path(__file__).parent / f"{NETWORK}-directions.png", sheet(rows, 64))


if __name__ == "__main__":
    main()
