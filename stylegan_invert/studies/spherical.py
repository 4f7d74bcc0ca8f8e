"""The two ways from angles to a point on a sphere, by the number of coordinates: the tree and the sequential transform.

The point on a sphere of n dimensions has n coordinates and n - 1 angles. In the sequential transform a coordinate is a product
of up to n - 1 sines, in the tree of `networks.direction` a product of ceil(log2 n) sines and cosines. Here are measured the
smallest coordinate, how far the point moves with the angle that moves it least, and which angles can be found again.

Source: Cho, "Inverting generator of GAN through direction embedding discriminator", section 3.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..analysis.plots import figure
from ..networks.direction import cartesian_to_spherical, spherical_to_cartesian

SIZES = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
TABLED = (8, 32, 128, 512)  # the numbers of coordinates in the table
DRAWS = 200
NEAR = 0.1  # radians; an angle counts as found again if it is off by at most this
OFF = 5.0  # degrees by which a point is moved before its angles are computed
SMALLEST = torch.finfo(torch.float32).tiny
COLUMNS = {
    "smallest": "smallest coordinate",
    "zeros": "coordinates that are zero in float32",
    "slope": "movement with the angle that moves the point least",
    "found": "angles found again",
    "found_off": f"found again from a point {OFF:g}° off",
}

LOGARITHMS = ("smallest", "slope")


def sequential_to_cartesian(angles: torch.Tensor) -> torch.Tensor:
    """The point on the unit sphere with given angles, by the sequential transform.

    Args:
        angles: (N, n - 1), floating, in [0, pi / 2].

    Returns:
        (N, n), of the dtype of ``angles``: cos(a1), sin(a1) cos(a2), sin(a1) sin(a2) cos(a3), ..., and the product of all
        sines.
    """
    one = angles.new_ones([len(angles), 1])
    sines = torch.cat([one, angles.sin().cumprod(dim=1)], dim=1)
    return sines * torch.cat([angles.cos(), one], dim=1)


def cartesian_to_sequential(x: torch.Tensor) -> torch.Tensor:
    """The angles (N, n - 1) of points (N, n) without negative coordinates, the inverse of `sequential_to_cartesian`."""
    # ends[:, k] is the length of the coordinates from k on. It is computed without squares, which would underflow earlier.
    ends = [x[:, -1]]
    for k in range(x.shape[1] - 2, -1, -1):
        ends.insert(0, torch.hypot(x[:, k], ends[0]))
    return torch.atan2(torch.stack(ends[1:], dim=1), x[:, :-1])


TRANSFORMS: dict[str, tuple[Callable, Callable]] = {
    "tree": (spherical_to_cartesian, cartesian_to_spherical),
    "sequential": (sequential_to_cartesian, cartesian_to_sequential),
}
"""The ways from angles to coordinates and back, by name."""


def slopes(name: str, angles: torch.Tensor) -> torch.Tensor:
    """How far a point moves with each of its angles: the lengths (N, n - 1) of its derivatives by the angles (N, n - 1).

    Such a derivative is as long as the product that stands before the sine and the cosine of its angle: the value of the
    angle's node in the tree, and the product of the sines of all earlier angles in the sequential transform.
    """
    lengths = [torch.ones_like(angles[:, 0])]
    for k in range(1, angles.shape[1]):
        parent = (k - 1) // 2 if name == "tree" else k - 1
        a = angles[:, parent]
        lengths.append(lengths[parent] * (a.cos() if name == "tree" and k % 2 == 0 else a.sin()))
    return torch.stack(lengths, dim=1)


def measure(name: str, n: int, draws: int = DRAWS, seed: int = 0) -> dict[str, float]:
    """What becomes of uniformly drawn angles in one transform.

    Args:
        name: a key of `TRANSFORMS`.
        n: the number of coordinates.
        draws: the number of points.
        seed: the random seed of the angles.

    Returns:
        "smallest", the base-10 logarithm of the smallest coordinate of a point, its median over points, computed in float64.
        "zeros", the share of coordinates that are zero in float32. "slope", the base-10 logarithm of the least length of the
        derivative of the point with respect to an angle, its median over points. "found", the share of angles that are off
        by at most `NEAR` when they are computed from the coordinates, both in float32. "found_off", the same for a point
        that was moved by `OFF` degrees in a random direction; negative coordinates then count as zero.
    """
    there, back = TRANSFORMS[name]
    random = torch.Generator().manual_seed(seed)
    angles = torch.rand([draws, n - 1], generator=random, dtype=torch.float64) * (math.pi / 2)
    exact, x = there(angles), there(angles.float())
    noise = torch.randn(x.shape, generator=random)
    noise = noise - (noise * x).sum(dim=1, keepdim=True) * x
    moved = x + noise / noise.norm(dim=1, keepdim=True) * math.tan(math.radians(OFF))

    def found(points: torch.Tensor) -> float:
        return float(((back(points).double() - angles).abs() <= NEAR).double().mean())

    return {
        "smallest": float(exact.amin(dim=1).log10().median()),
        "zeros": float((x == 0).double().mean()),
        "slope": float(slopes(name, angles).amin(dim=1).log10().median()),
        "found": found(x),
        "found_off": found(moved.clamp_min(0)),
    }


def compare(sizes: Sequence[int] = SIZES) -> dict[str, dict[str, list[float]]]:
    """What `measure` says of each transform, by the names of its values, in the order of ``sizes``."""
    measured = {name: [measure(name, n) for n in sizes] for name in TRANSFORMS}
    return {name: {key: [row[key] for row in rows] for key in COLUMNS} for name, rows in measured.items()}


def draw(found: dict[str, dict[str, list[float]]], sizes: Sequence[int] = SIZES) -> Any:
    """A figure of what `compare` returned: smallest coordinates, least movements, and angles that are found again."""
    drawing, (axes,) = figure(1, 3, side=3, ratio=1.3)
    titles = {"smallest": "smallest coordinate", "slope": "least movement"}
    for ax, (key, title) in zip(axes, titles.items()):
        for name, values in found.items():
            ax.plot(sizes, values[key], label=name, marker=".")
        ax.axhline(math.log10(SMALLEST), color="grey", linestyle=":", label="least normal float32")
        ax.set_ylabel(f"{title}, log10")
    for name, values in found.items():
        (line,) = axes[2].plot(sizes, values["found"], label=name, marker=".")
        axes[2].plot(
            sizes, values["found_off"], label=f"{name}, point {OFF:g}° off", color=line.get_color(), linestyle="--"
        )
    axes[2].set_ylabel("share of angles found again")
    axes[2].set_ylim(0, 1.05)
    for ax in axes:
        ax.set_xscale("log", base=2)
        ax.set_xlabel("coordinates n")
        ax.legend(fontsize="small", framealpha=0.5)
    return drawing


def table(found: dict[str, dict[str, list[float]]]) -> list[str]:
    """The lines of a Markdown table of what `compare` returned for `SIZES`, with the rows of `TABLED`."""
    lines = [f"| transform | n | {' | '.join(COLUMNS.values())} |", "|---|---:" + "|---:" * len(COLUMNS) + "|"]
    for n in TABLED:
        for name, values in found.items():
            row = {key: values[key][SIZES.index(n)] for key in COLUMNS}
            cells = [f"10^{v:.1f}" if key in LOGARITHMS else f"{100 * v:.0f} %" for key, v in row.items()]
            lines.append(f"| {name} | {n} | {' | '.join(cells)} |")
    return lines
