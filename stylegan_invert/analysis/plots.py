"""Curves and histograms, by matplotlib, which the extra "report" brings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import StyleganInvertError
from ..files.writing import atomic


def figure(rows: int, columns: int, side: float = 3, ratio: float = 1.0) -> tuple[Any, list[list[Any]]]:
    """A matplotlib figure and its axes, by row and column.

    Args:
        rows: the number of rows of axes.
        columns: the number of columns of axes.
        side: the height of each in inches.
        ratio: the width of each, divided by its height.

    Raises:
        StyleganInvertError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # without pyplot: no display, no global state
    except ImportError:
        raise StyleganInvertError("figures need matplotlib: pip install 'stylegan-invert[report]'") from None
    drawing = Figure(figsize=(side * columns * ratio, side * rows), layout="constrained")
    axes = drawing.subplots(rows, columns, squeeze=False)
    return drawing, [list(row) for row in axes]


CURVES = {"lpips": "LPIPS", "w": "distance in w", "v": "distance in whitened v"}


def curves(panels: Sequence[Mapping[str, Mapping[str, Sequence[float]]]], titles: Sequence[str] = ()) -> Any:
    """Errors along interpolations, as a figure: a column for each panel, and a row for each kind of error.

    Args:
        panels: for each panel, its curves by name. A curve has the points "alpha", and values for the keys of `CURVES`.
        titles: the titles of the panels.
    """
    drawing, axes = figure(len(CURVES), len(panels), side=2.5, ratio=1.4)
    for j, panel in enumerate(panels):
        for i, (key, title) in enumerate(CURVES.items()):
            ax = axes[i][j]
            for name, curve in panel.items():
                ax.plot(curve["alpha"], curve[key], label=name)
            ax.set_ylim(bottom=0)
            ax.set_ylabel(title)
            if i == 0 and any(panel):
                ax.legend(fontsize="small", framealpha=0.5)
        axes[-1][j].set_xlabel("alpha")
        if titles:
            axes[0][j].set_title(titles[j])
    return drawing


BESIDE_LINES = 5  # the legend of so many lines stands beside them, and that of more lines below the panels


def distances_over_time(panels: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]], time: str) -> Any:
    """LPIPS against seconds, both on logarithmic axes, as a figure with a column for each panel.

    Args:
        panels: by title, the lines by name, each with "seconds" and "lpips" of the same length.
        time: what the seconds are, for the axis.
    """
    drawing, axes = figure(1, len(panels), side=3.5, ratio=1.3)
    for ax, (title, lines) in zip(axes[0], panels.items()):
        for name, line in lines.items():
            ax.plot(line["seconds"], line["lpips"], label=name, marker="." if len(line["seconds"]) == 1 else "")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_title(title)
        ax.set_xlabel(time)
        ax.set_ylabel("LPIPS of the saved picture")
        if len(lines) <= BESIDE_LINES:
            ax.legend(fontsize="small", framealpha=0.5)
    if max(map(len, panels.values()), default=0) > BESIDE_LINES:  # more would hide the lines
        drawing.legend(*axes[0][0].get_legend_handles_labels(), fontsize="small", loc="outside lower center", ncols=2)
    return drawing


def roc_curves(lines: Mapping[str, Sequence[Sequence[float]]], areas: Mapping[str, float]) -> Any:
    """ROC curves in one panel, as a figure.

    Args:
        lines: by name, the shares of false and of true detections along the thresholds.
        areas: by name, the area under the curve.
    """
    drawing, ((ax,),) = figure(1, 1, side=3.5)
    for name, (false, true) in lines.items():
        ax.plot(false, true, label=f"{name}: {areas[name]:.2f}")
    ax.plot([0, 1], [0, 1], color="grey", linewidth=0.5)
    ax.set_xlabel("real pictures called drawn")
    ax.set_ylabel("drawn pictures called drawn")
    ax.legend(title="area", fontsize="small", loc="lower right")
    return drawing


def histograms(samples: Mapping[str, Sequence[float]], title: str, bins: int = 30) -> Any:
    """How often values occur, for several samples in one panel, as a figure.

    Args:
        samples: by name, values of at least 0.
        title: what the values are, for the axis.
        bins: the number of intervals, from 0 to the largest value.
    """
    drawing, ((ax,),) = figure(1, 1, side=3.5, ratio=1.6)
    most = max((max(values) for values in samples.values() if len(values)), default=0) or 1.0
    for name, values in samples.items():
        weights = [1 / len(values)] * len(values)
        ax.hist(values, bins=bins, range=(0, most), weights=weights, histtype="step", linewidth=1.5, label=name)
    ax.set_xlabel(title)
    ax.set_ylabel("share of the pictures")
    ax.legend(fontsize="small")
    return drawing


def lines(panels: Mapping[str, Mapping[str, Sequence[float]]], ticks: Sequence[str], title: str) -> Any:
    """Values over places that have names, such as layers, as a figure with a column for each panel.

    Args:
        panels: by title, the lines by name, with a value for each place.
        ticks: the names of the places.
        title: what the values are, for the axis.
    """
    drawing, axes = figure(1, len(panels), side=3.5, ratio=1.3)
    for ax, (of_panel, by_name) in zip(axes[0], panels.items()):
        for name, values in by_name.items():
            ax.plot(range(len(ticks)), values, marker=".", label=name)
        ax.set_xticks(range(len(ticks)), ticks, rotation=60, ha="right", fontsize="small")
        ax.set_ylim(bottom=0)
        ax.set_title(of_panel)
        ax.set_ylabel(title)
        ax.legend(fontsize="small", framealpha=0.5)
    return drawing


def write_figure(path: Path, drawing: Any) -> None:
    """Write a figure as PNG. It is written whole or not at all."""
    with atomic(path) as temporary:
        drawing.savefig(temporary, dpi=100)
