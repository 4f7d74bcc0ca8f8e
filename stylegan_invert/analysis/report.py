"""One self-contained HTML page about the results in a folder. It needs no network and runs no script but its own."""

import base64
import hashlib
import html
import io
import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CodeFileError, StyleganInvertError, printable
from ..files.writing import atomic
from ..media.medium import MEDIA
from ..media.pictures import to_pil
from ..projectors.projection import RECORD, Projection

PAGE = "report.html"
LARGEST = 512  # pixels of a side; larger pictures are reduced
PIXELS = (
    2**24
)  # of all targets and results together; those of many results are reduced further, to 91x91 for a thousand
STRIPS = ("sheet.png", "strip.png", "grid.png")
"""Pictures that `interpolate` and `edit` write, and that are shown beside the results in the same folder."""

COLUMNS = {"lpips": ("LPIPS", 4), "psnr": ("PSNR, dB", 2), "ssim": ("SSIM", 4), "distance": ("distance", 4)}
COLUMNS |= {"correlation": ("correlation", 4), "snr": ("SNR, dB", 2)}
COLUMNS |= {"log_spectral_distance": ("log-spectral distance, dB", 2), "spectrogram_ssim": ("SSIM of spectrograms", 4)}
COLUMNS |= {"evaluations": ("evaluations", 0), "seconds": ("seconds", 1)}
"""Values of results by name: their title, and the number of digits."""


def write_report(folder: str | os.PathLike, file: str | os.PathLike | None = None) -> tuple[Path, int]:
    """Write a page about the results in a folder: targets, results, curves of the distance, a table, options and hashes.

    Args:
        folder: a folder with a result, or with folders of results, at any depth.
        file: the page; None writes ``report.html`` into the folder.

    Returns:
        The page, and the number of results on it. Results that are damaged are named on the page.

    Raises:
        CodeFileError: there is no result in the folder.
        OSError: the page cannot be written.
    """
    root = Path(folder)
    places = sorted(path.parent for path in root.rglob(RECORD) if not _hidden(path.relative_to(root)))
    if not places:
        raise CodeFileError(f"{root}: there is no {RECORD} in it; expected the folder of a projection, or of several")
    strips = [path for name in STRIPS for path in sorted(root.rglob(name)) if not _hidden(path.relative_to(root))]
    side = min(LARGEST, math.isqrt(PIXELS // (2 * len(places))))
    results, articles, damaged = [], [], []
    for number, place in enumerate(places):
        name = place.relative_to(root).as_posix() if place != root else root.name or "."
        try:
            result = Projection.read(place)
        except StyleganInvertError as e:
            damaged.append(f"<p>{_text(name)} is left out: {_text(str(e))}</p>")
            continue
        own = [path for path in strips if path.is_relative_to(place) and place != root]
        strips = [path for path in strips if path not in own]
        results.append((number, name, _values(result)))
        articles.append(_article(number, name, result, own, side))
    articles += [_strip(path, root) for path in strips]
    count = len(results)
    shown = [key for key in COLUMNS if any(values[key] is not None for _, _, values in results)]
    title = f"{root.resolve().name}: {count:,} result{'s' if count != 1 else ''}"
    path = Path(file) if file is not None else root / PAGE
    with atomic(path) as temporary:
        temporary.write_text(
            _page(title, shown, [_row(*result, shown) for result in results], damaged + articles), encoding="utf-8"
        )
    return path, count


def _page(title: str, shown: Sequence[str], rows: Sequence[str], articles: Sequence[str]) -> str:
    here = Path(__file__)
    script = here.with_suffix(".js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    heads = "".join(
        f'<th scope="col"><button type="button">{name}</button></th>'
        for name in ("target", *(COLUMNS[key][0] for key in shown))
    )
    table = f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    values = {
        "title": _text(title),
        "lead": "A click on the head of a column sorts the table. The slider below a picture shows more of the target or "
        "more of the result; the arrow keys move it.",
        "table": table,
        "articles": "\n".join(articles),
        "script": script,
        "script_hash": f"sha256-{digest}",
    }
    # In one pass, so that braces in a name are not taken for a place of the page.
    return re.sub(r"\{(\w+)\}", lambda place: values[place[1]], here.with_suffix(".html").read_text())


def _values(result: Projection) -> dict[str, float | None]:
    found = {**result.metrics, **result.record, "distance": result.as_dict()["distance"]}
    return {name: found[name] if isinstance(found.get(name), (int, float)) else None for name in COLUMNS}


def _row(number: int, name: str, values: dict[str, float | None], columns: Sequence[str]) -> str:
    cells = [f'<td><a href="#r{number}">{_text(name)}</a></td>']
    for key in columns:
        value = values[key]
        shown = "" if value is None else f"{value:,.{COLUMNS[key][1]}f}"
        cells.append(f'<td data-value="{"" if value is None else repr(float(value))}">{shown}</td>')
    return f"<tr>{''.join(cells)}</tr>"


def _article(number: int, name: str, result: Projection, strips: Sequence[Path], side: int) -> str:
    medium, arrays = result.medium, [result.target.numpy(), result.image.numpy()]
    target, output = (_image(medium.seen(array), side) for array in arrays)
    values = ", ".join(
        f"{COLUMNS[key][0]} {value:,.{COLUMNS[key][1]}f}" for key, value in _values(result).items() if value is not None
    )
    record = json.dumps(printed({**result.record, "metrics": result.metrics}), indent=2)
    return f"""<article id="r{number}">
<h2>{_text(name)}</h2>
<p>{_text(values)}</p>
<div class="parts">
<div><div class="compare" id="c{number}"><img src="{target}" alt="the target"><img src="{output}" alt="the result"></div>
<input type="range" min="0" max="100" value="50" data-of="c{number}" aria-label="target on the left, result on the right"></div>
{_curve(result.distance.numpy())}
</div>
{_players(*(medium.heard(array) for array in arrays))}{"".join(_strip(path, path.parent) for path in strips)}
<details><summary>options, network and versions</summary><pre>{_text(record)}</pre></details>
</article>"""


def _players(*files: tuple[str, bytes] | None) -> str:
    """A player for the target and one for the result, of outputs that are heard."""
    parts = [
        f'<figure><audio controls src="data:{file[0]};base64,{base64.b64encode(file[1]).decode()}"></audio>'
        f"<figcaption>{name}</figcaption></figure>"
        for name, file in zip(("the target", "the result"), files)
        if file is not None
    ]
    return f'<div class="parts">{"".join(parts)}</div>' if parts else ""


def printed(value: Any) -> Any:
    """A value of a record with escapes in place of characters that do not print."""
    if isinstance(value, dict):
        return {printable(str(key), 200): printed(one) for key, one in value.items()}
    if isinstance(value, list):
        return [printed(one) for one in value]
    return printable(value, 2000) if isinstance(value, str) else value


def _curve(distance: np.ndarray) -> str:
    """The distance of each step as a drawing, on a logarithmic scale."""
    steps = np.arange(1, len(distance) + 1)
    good = np.isfinite(distance) & (distance > 0)
    if good.sum() < 2:
        return ""
    steps, values = steps[good], np.log10(distance[good].astype(np.float64))
    keep = np.unique(np.linspace(0, len(steps) - 1, 400).astype(int))
    low, high = values.min(), max(values.max(), values.min() + 1e-3)
    x = 50 + (steps[keep] - 1) / max(steps[-1] - 1, 1) * 295
    y = 190 - (values[keep] - low) / (high - low) * 175
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y))
    marks = [(190, low), (15, high)]
    ticks = "".join(f'<text x="45" y="{at + 4}" text-anchor="end">{10**value:.3g}</text>' for at, value in marks)
    return (
        '<svg viewBox="0 0 352 220" role="img" aria-label="the distance after each step">'
        f'<path d="M50 15V190H345" fill="none" stroke="currentColor" opacity=".4"/>{ticks}'
        f'<polyline points="{line}" fill="none" stroke="var(--accent)" stroke-width="2"/>'
        f'<text x="345" y="208" text-anchor="end">step {steps[-1]:,}</text><text x="50" y="208">distance</text></svg>'
    )


def _strip(path: Path, root: Path) -> str:
    name = path.relative_to(root).as_posix()
    try:
        picture = MEDIA["picture"].read_back(path)
    except StyleganInvertError as e:
        return f"<p>{_text(name)} is left out: {_text(str(e))}</p>"
    return f'<figure><img src="{_image(picture, 4 * LARGEST)}" alt=""><figcaption>{_text(name)}</figcaption></figure>'


def _image(pixels: np.ndarray, largest: int) -> str:
    """A picture (C, H, W) uint8 as a data URL."""
    picture = to_pil(pixels)
    scale = min(1.0, largest / max(picture.size))
    if scale < 1:
        picture = picture.resize([max(1, math.floor(n * scale)) for n in picture.size])
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _text(text: str) -> str:
    """A text for HTML, whatever is in it."""
    return html.escape(printable(text) if "\n" not in text else text, quote=True)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
