"""How soon fast methods reach what the official projector reaches, measured side by side in one process.

The official projector, method "w", is run to its end; a network without w has method "z" in its place. It sets two marks.
One is the saved picture, with its LPIPS and its PSNR: its fitted noise maps are dropped, as the official tool drops them. The
other is the LPIPS of the picture that is rendered with the fitted noise maps, which is lower. Each other method is then run on
the same picture. After every step the picture that would be saved at that moment is compared with the marks. The clock stands
still while a picture is measured.
"""

import os
import re
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ..analysis.plots import distances_over_time, write_figure
from ..cache import empty_cache
from ..errors import StyleganInvertError
from ..generator import Adapter, Code
from ..losses import DEFAULT_LOSS, Distance, SqueezeLPIPS
from ..losses.lpips import load_vgg_lpips
from ..media.medium import medium_of
from ..media.picture_set import PictureSet
from ..media.pictures import as_images
from ..network_files.file import NetworkFile
from ..options import read_values
from ..projectors.descent import Step
from ..projectors.methods import find_method
from ..projectors.projector import Projector
from ..projectors.settings import build_options
from ..projectors.v_prior import v_prior
from . import base
from .direction import generated_pictures

OFFICIAL = "w"
WITHOUT_W = "z"  # the method that stands in its place for a network without w
LOOKS = 100  # so many pictures of an official run are measured, for its line in the figure
GOALS = {"saved": "the official saved picture", "fitted": "the official LPIPS with fitted noise maps"}
"""What is to be reached: the mark of the saved picture, and that of the picture with fitted noise maps."""

CLOCKS = ("cpu", "wall")
POINTS = 60  # of a line in the figure


class Way(NamedTuple):
    """A row of the table.

    Attributes:
        method: its name.
        steps: the number of its steps.
        reference: True for the method that sets the marks.
        vgg16: as for `run`.
        chosen: options that differ from the method's preset, as (name, value).
        title: the text that asked for it.
    """

    method: str
    steps: int
    reference: bool = False
    vgg16: str | None = None
    chosen: tuple[tuple[str, Any], ...] = ()
    title: str = ""

    @property
    def file(self) -> str:
        """The title as a part of a file's name."""
        return re.sub("[:=,]", "-", self.title)

    @property
    def options(self) -> dict[str, Any]:
        """What the method is given beside its own preset. With VGG16, its loss has that in place of SqueezeNet."""
        options: dict[str, Any] = {"steps": self.steps} if self.reference else dict(self.chosen)
        if self.vgg16 is not None:
            loss = find_method(self.method).preset.get("loss", DEFAULT_LOSS)
            options["loss"] = loss.replace("lpips-squeeze", "lpips-vgg")
            options |= {"vgg16": self.vgg16} if "lpips-vgg" in options["loss"] else {}
        return options


def way_of(text: str, vgg16: str | None = None) -> Way:
    """A method with its own preset, or with options that differ from it.

    Args:
        text: "fast-w+", or with options as in "v+:optimizer=lbfgs,steps=100", by the names of the method's options class.
        vgg16: as for `run`.

    Raises:
        ValueError: the method takes no steps or is unknown, or an option is unknown or has a value that it does not accept.
    """
    method, _, rest = text.partition(":")
    known = find_method(method)
    if known.one_pass:
        raise ValueError(f"method {method!r} takes no steps, so there is nothing to measure after each of them")
    preset = {key: value for key, value in known.preset.items() if key != "loss"}
    chosen = read_values(known.options, rest)
    steps = build_options(known.options, preset, chosen).total_steps(1)
    return Way(method, steps, vgg16=vgg16, chosen=tuple(sorted(chosen.items())), title=text)


def run(
    net: NetworkFile,
    outdir: str | os.PathLike,
    data: PictureSet | None = None,
    *,
    generated: int = 20,
    real: int = 20,
    ways: Sequence[str] = ("fast-w+", "fast-w"),
    steps: int = 1000,
    seed: int = 1,
    vgg16: str | os.PathLike | None = None,
    device: torch.device | str = "cpu",
    counting: base.Counting = base.uncounted,
) -> dict[str, Any]:
    """Run the official projector and other methods on the same pictures, and compare their times.

    Args:
        net: a network without classes.
        outdir: the study's folder; see `studies.base`. It also gets the figure.
        data: real pictures, as `base.picture_set` reads them; None leaves them out.
        generated: the number of generated pictures.
        real: the number of real pictures, at most.
        ways: the methods that are compared, each with its own preset or with options; see `way_of`.
        steps: of the official projector.
        seed: of the generated pictures.
        vgg16: the file of a VGG16, as for `projectors.Projector`; LPIPS is then computed with it, in all losses and tables.
        device: where to compute.
        counting: shows the progress.

    Returns:
        What results.json holds. "setup" has, for each method, the seconds that are paid once per network. "sets" has, for
        each set and method, a value for each picture; see `_values`. "curves" has the lines of the figure.

    Raises:
        StyleganInvertError: the network has classes or is too small for LPIPS, or the folder holds another study.
        ValueError: a method is unknown or takes no steps, or the network has not its space.
    """
    generator = base.generator_of(net, device)
    lpips = (SqueezeLPIPS() if vgg16 is None else load_vgg_lpips(vgg16)).to(generator.device)
    if generator.img_resolution < lpips.min_size:
        raise StyleganInvertError(f"{net.file}: LPIPS needs pictures of at least {lpips.min_size} pixels a side")
    generator = base.find_gaussian(generator, counting) if "v" in generator.spaces else generator
    made, z = generated_pictures(generator, generated, seed)
    true = None
    if "w" in generator.spaces:
        true = generator.styles(Code("z", {"z": z.to(generator.device)})).cpu()
    sets = {} if data is None else {"real": base.first_pictures(data, generator, real)}
    sets["generated"] = made
    reference = OFFICIAL if "w" in generator.spaces else WITHOUT_W
    file = None if vgg16 is None else os.fspath(vgg16)
    others = (way_of(text, file) for text in dict.fromkeys(ways) if text != reference)
    chosen = [Way(reference, steps, True, file, title=reference), *others]
    settings: dict[str, Any] = {"network": net.sha256, "data": base.hashes(sets), "seed": seed}
    settings |= {"device": str(torch.device(device)), "threads": torch.get_num_threads(), "steps": steps}
    loss = {"loss": medium_of(generator).default_loss}
    settings |= {"ways": {way.title: {**loss, **find_method(way.method).preset, **way.options} for way in chosen}}
    settings["pictures"] = {name: len(pictures) for name, pictures in sets.items()}
    folder = base.begin(outdir, settings, shared=True)
    parts = [
        part
        for name, pictures in sets.items()
        for way in chosen
        for part in base.split(name, way, pictures, 1, f"{name}-{way.file}-{{:04d}}.npz")
    ]
    parts.sort(key=lambda part: part.first)  # all methods on one picture, then all on the next
    projectors: dict[Way, tuple[Projector, np.ndarray]] = {}

    def find(part: base.Part, progress: base.Progress) -> base.Arrays:
        if part.way not in projectors:
            projectors[part.way] = set_up(base.generator_of(net, device), part)
        projector, setup = projectors[part.way]
        target = true[part.first] if part.name == "generated" and true is not None else None
        return {**trace(projector, generator, part, lpips, target, progress), "setup": setup}

    found = base.find_parts(parts, folder / "parts", find, counting)
    results = {**settings, **_results(generator, chosen, sets, found, true, lpips)}
    panels = {f"{len(pictures)} {name} pictures": results["curves"][name] for name, pictures in sets.items()}
    write_figure(folder / "speed.png", distances_over_time(panels, _seconds(results)))
    return base.finish(folder, results, table(results))


def _results(
    generator: Adapter,
    chosen: Sequence[Way],
    sets: dict[str, np.ndarray],
    found: dict[tuple[str, Any], list[base.Arrays]],
    true: torch.Tensor | None,
    lpips: Distance,
) -> dict[str, Any]:
    """What results.json holds besides the settings: set-up, values and curves of each method on each set."""
    results: dict[str, Any] = {"setup": {}, "sets": {}, "curves": {}}
    results["clock"] = "cpu" if generator.device.type == "cpu" else "wall"
    for way in chosen:
        paid = np.median([part["setup"] for name in sets for part in found[name, way]], axis=0)
        results["setup"][way.title] = dict(zip(CLOCKS, paid.tolist()))
    for name in sets:
        official = found[name, chosen[0]]
        results["sets"][name] = {w.title: _values(found[name, w], official, results["clock"]) for w in chosen}
        results["curves"][name] = {w.title: _curve(found[name, w], results["clock"]) for w in chosen}
        if true is not None:
            for way in chosen:
                known = true if name == "generated" else None
                results["sets"][name][way.title] |= midpoints(generator, found[name, way], known, lpips)
    return results


# What is measured of one picture


class _Clock:
    """CPU and wall-clock seconds since it was made, without those in which it was stopped.

    Attributes:
        seconds: (2,), in the order of `CLOCKS`, up to the last `stop`.
    """

    def __init__(self) -> None:
        self.seconds = np.zeros(2)
        self.go_on()

    @staticmethod
    def _now() -> np.ndarray:
        return np.array([time.process_time(), time.perf_counter()])

    def stop(self) -> None:
        self.seconds = self.seconds + self._now() - self._began

    def go_on(self) -> None:
        self._began = self._now()


class _FirstStep(Exception):
    """Raised after the first step, to end a run whose set-up was to be timed."""


def set_up(generator: Adapter, part: base.Part) -> tuple[Projector, np.ndarray]:
    """A projector that has done everything that is done once per network, and the seconds that this took.

    The seconds go from the new adapter to the end of the first step on a first picture, with an empty cache.

    Args:
        generator: a new adapter, which knows nothing of its network yet.
        part: its way and its picture.

    Returns:
        The projector, and (2,) seconds in the order of `CLOCKS`.
    """

    def leave(step: Step) -> None:
        raise _FirstStep

    with empty_cache():
        clock = _Clock()
        projector = Projector(generator, part.way.method, **part.way.options)
        try:
            projector.fit(as_images(part.pixels, generator.device), callback=leave)
        except _FirstStep:
            clock.stop()
    return projector, clock.seconds


def trace(
    projector: Projector,
    generator: Adapter,
    part: base.Part,
    lpips: Distance,
    true: torch.Tensor | None,
    progress: base.Progress,
) -> base.Arrays:
    """Project a picture, and measure the picture that would be saved after each step.

    Args:
        projector: see `set_up`.
        generator: the network's adapter, with the Gaussian of V.
        part: one picture and how it is searched.
        lpips: the distance that is reported.
        true: the w (1, w_dim) from which the picture was generated; None for a real picture.
        progress: is told of each step.

    Returns:
        One row per measured step: "evaluations", "cpu" and "wall" until then, and "lpips" and "psnr" of the picture. And
        single numbers: "total_cpu", "total_wall" and "total_evaluations" of the whole run, "fitted", the LPIPS of the last
        picture with its noise maps, if they were fitted, "prior", the value of the prior in V per dimension (nan without
        V), and "w", the root mean square over layers of the distance from the true w (nan if there is none). And "styles",
        the w of the code (L, w_dim), empty for a network without w.
    """
    rows: list[list[float]] = []
    every = max(1, part.way.steps // LOOKS) if part.way.reference else 1
    told = 0

    def measure(code: Code) -> list[float]:
        values = base.metrics(part.pixels, base.rendered(projector.generator, code), lpips)
        return [float(values["lpips"][0]), float(values["psnr"][0])]

    def look(step: Step) -> None:
        nonlocal told
        float(next(iter(step.code.tensors.values())).sum())  # waits for a device that computes in the background
        clock.stop()
        if step.number % every == 0 or step.number in (1, step.total):
            rows.append([step.state()["evaluations"][0], *clock.seconds, *measure(step.code.without_noise())])
        progress(1)
        told += 1
        clock.go_on()

    shown = as_images(part.pixels, generator.device)
    clock = _Clock()
    fit = projector.fit(shown, callback=look)
    clock.stop()
    progress(part.work - told)
    w = torch.zeros([1, 0, 0])
    if "w" in generator.spaces:
        with torch.no_grad():
            w = projector.generator.styles(fit.code).cpu()
    prior = prior_of(generator, w)
    away = np.nan if true is None else float((w[0] - true).double().square().sum(dim=1).mean().sqrt())
    columns = zip(("evaluations", *CLOCKS, "lpips", "psnr"), np.array(rows, dtype=np.float64).T)
    totals = dict(zip(("total_cpu", "total_wall"), clock.seconds), total_evaluations=fit.notes["evaluations"][0])
    numbers = {**totals, "fitted": measure(fit.code)[0], "prior": prior, "w": away}
    return {**dict(columns), **{key: np.float64(value) for key, value in numbers.items()}, "styles": w[0].numpy()}


def prior_of(generator: Adapter, w: torch.Tensor) -> float:
    """The prior in V of one code (1, L, w_dim) per dimension; nan for a network without V."""
    if "v" not in generator.spaces:
        return np.nan
    with torch.no_grad():
        value = float(v_prior(generator, Code("w+", {"w": w.to(generator.device)})))
    return value / (w.shape[1] * generator.gaussian().rank)


def midpoints(
    generator: Adapter, runs: Sequence[base.Arrays], true: torch.Tensor | None, lpips: Distance
) -> dict[str, list[float]]:
    """How real the points half-way between the codes of two pictures are, for the pictures 1 and 2, 3 and 4, ...

    Args:
        generator: a network with w.
        runs: what `trace` gave for each picture.
        true: the w (N, 1, w_dim) of the pictures; None for real pictures.
        lpips: the distance that is reported.

    Returns:
        A number for each pair: "mid_prior", the prior in V per dimension there; and "mid_lpips", the distance of the picture
        there from the one half-way between the true w, if they are known.
    """
    found: dict[str, list[float]] = {name: [] for name in ("mid_prior", *([] if true is None else ["mid_lpips"]))}

    def picture(w: torch.Tensor) -> torch.Tensor:
        ws = w.expand(-1, generator.code_shapes("w+")["w"][0], -1).to(generator.device)
        with torch.no_grad():
            return generator.render(Code("w+", {"w": ws})).clamp(-1, 1)

    for i in range(0, len(runs) - 1, 2):
        middle = torch.from_numpy((runs[i]["styles"] + runs[i + 1]["styles"]) / 2)[None]
        found["mid_prior"].append(prior_of(generator, middle))
        if true is not None:
            wanted = picture((true[i] + true[i + 1])[None] / 2)
            with torch.no_grad():
                found["mid_lpips"].append(float(lpips.between(wanted, picture(middle))))
    return found


# What is made of the measurements


def first_reached(one: base.Arrays, official: base.Arrays, goal: str) -> int | None:
    """The row of a run at which it first reached what the official run on the same picture reached at its end.

    Args:
        one: what `trace` gave for the run.
        official: what `trace` gave for the official run.
        goal: a key of `GOALS`. "saved" asks for the LPIPS and for the PSNR, "fitted" for the LPIPS with fitted noise maps.

    Returns:
        The row; None if it was not reached.
    """
    if goal == "fitted":
        good = one["lpips"] <= official["fitted"]
    else:
        good = (one["lpips"] <= official["lpips"][-1]) & (one["psnr"] >= official["psnr"][-1])
    return int(good.argmax()) if good.any() else None


def _values(runs: Sequence[base.Arrays], official: Sequence[base.Arrays], clock: str) -> dict[str, Any]:
    """What results.json says of the runs of one method on one set.

    Args:
        runs: what `trace` gave for each picture.
        official: the same for the official runs.
        clock: "cpu" or "wall", the seconds that "faster" compares.

    Returns:
        "lpips" and "psnr" of the saved pictures, and "fitted", "prior", "w" (if the true w is known), "evaluations", "cpu"
        and "wall" of whole runs: a number for each picture. "until" has, for each key of `GOALS`, "evaluations", "cpu" and
        "wall" until it was reached, and "faster", the seconds of the whole official run divided by these: a number for each
        picture, None if it was not reached. It is not there for the official runs themselves.
    """
    result: dict[str, Any] = {key: [float(run[key][-1]) for run in runs] for key in ("lpips", "psnr")}
    result |= {key: [float(run[key]) for run in runs] for key in ("fitted", "prior") if not np.isnan(runs[0][key])}
    result |= {key: [float(run[f"total_{key}"]) for run in runs] for key in ("evaluations", *CLOCKS)}
    if not np.isnan(runs[0]["w"]):
        result["w"] = [float(run["w"]) for run in runs]
    if runs is official:
        return result
    result["until"] = {}
    for goal in GOALS:
        places = [first_reached(one, other, goal) for one, other in zip(runs, official)]
        until = {
            key: [None if at is None else float(run[key][at]) for run, at in zip(runs, places)]
            for key in ("evaluations", *CLOCKS)
        }
        until["faster"] = [
            None if seconds is None else float(other[f"total_{clock}"]) / seconds
            for seconds, other in zip(until[clock], official)
        ]
        result["until"][goal] = until
    return result


def _curve(runs: Sequence[base.Arrays], clock: str) -> dict[str, list[float]]:
    """The median over pictures of the LPIPS that runs have after some seconds. A run that has ended stays where it ended."""
    times = np.geomspace(max(run[clock][0] for run in runs), max(run[clock][-1] for run in runs), POINTS)
    values = [run["lpips"][np.maximum(np.searchsorted(run[clock], times, "right") - 1, 0)] for run in runs]
    return {"seconds": times.tolist(), "lpips": np.median(values, axis=0).tolist()}


def reached_quartiles(values: Sequence[float | None], missing: float) -> list[float | None]:
    """Lower quartile, median and upper quartile of values some of which are missing.

    Args:
        values: None for a goal that was not reached.
        missing: what such a value counts as, ``inf`` for seconds and ``-inf`` for how many times faster.

    Returns:
        The quartiles; None for one that lies among the missing values.
    """
    ordered = sorted(missing if value is None else value for value in values)
    result = []
    for share in (0.25, 0.5, 0.75):
        place = share * (len(ordered) - 1)
        low, high = ordered[int(np.floor(place))], ordered[int(np.ceil(place))]
        finite = np.isfinite(low) and np.isfinite(high)
        result.append(float(low + (high - low) * (place % 1)) if finite else None)
    return result


# The table


def _seconds(results: dict[str, Any]) -> str:
    return "CPU seconds" if results["clock"] == "cpu" else "seconds"


def _cell(values: Sequence[float | None], digits: int, missing: float = np.inf) -> str:
    """Median and quartiles, and how many pictures did not reach the goal."""
    low, middle, high = ("–" if x is None else f"{x:,.{digits}f}" for x in reached_quartiles(values, missing))
    lacking = sum(value is None for value in values)
    if lacking == len(values):
        return "not reached"
    return f"{middle} ({low} to {high})" + (f", {lacking} of {len(values)} not" if lacking else "")


def table(results: dict[str, Any]) -> str:
    """The results as Markdown: for each set a table of whole runs, and one of what it takes to reach the official result."""
    clock, seconds, lines = results["clock"], _seconds(results), []
    for name, ways in results["sets"].items():
        columns = {"lpips": ("LPIPS", 5), "psnr": ("PSNR, dB", 2), "fitted": ("LPIPS with fitted noise maps", 5)}
        columns |= {"evaluations": ("evaluations", 0), clock: (seconds, 2), "prior": ("prior per dimension", 1)}
        columns |= {"w": ("distance from the true w", 2), "mid_prior": ("prior per dimension of midpoints", 1)}
        columns |= {"mid_lpips": ("LPIPS of midpoints from the true ones", 4)}
        columns = {key: about for key, about in columns.items() if all(key in values for values in ways.values())}
        titles = " | ".join(title for title, _ in columns.values())
        lines += [f"| {results['pictures'][name]} {name} pictures, whole runs: median (quartiles) | {titles} |"]
        lines += ["|---" + "|---:" * len(columns) + "|"]
        for method, values in ways.items():
            cells = " | ".join(_cell(values[key], digits) for key, (_, digits) in columns.items())
            lines.append(f"| {_title(method, results)} | {cells} |")
        lines += ["", f"| {name} pictures, until it has reached | evaluations | {seconds} | times faster |"]
        lines += ["|---|---:|---:|---:|"]
        for goal, title in GOALS.items():
            for method, values in ways.items():
                if "until" in values:
                    at = values["until"][goal]
                    times = [_cell(at["evaluations"], 0), _cell(at[clock], 2), _cell(at["faster"], 1, -np.inf)]
                    lines.append(f"| {title}: {method} | {' | '.join(times)} |")
        lines.append("")
    paid = ", ".join(f"{method} {times[clock]:.1f}" for method, times in results["setup"].items())
    lines.append(f"Set-up, which is paid once per network and is not in the tables, in {seconds}: {paid}.")
    return "\n".join(lines) + "\n"


def _title(title: str, results: dict[str, Any]) -> str:
    """The title of a way, with the number of steps for the reference, which is the first of the ways."""
    if title != next(iter(results["ways"])):
        return title
    return f"{title}, {'official, ' if title == OFFICIAL else ''}{results['steps']:,} steps"
