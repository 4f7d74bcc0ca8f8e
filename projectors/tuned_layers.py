"""Which parameters of a generator are tuned, and at which resolution each of them works."""

import fnmatch
import re
from collections.abc import Mapping, Sequence

from stylegan_invert.errors import ProjectionError, printable
from stylegan_invert.generator import GeneratorAdapter


def sides(generator: GeneratorAdapter) -> dict[str, int | None]:
    """The resolution of each tunable parameter by name: the side of the maps that its layer makes.

    A parameter belongs to the outermost of the generator's ``layers`` in which it lies. One beside the layers, as those of
    ToRGB, belongs where its neighbours do, which are the layers in the same module; None if these are of several
    resolutions.
    """
    names = {id(module): name for name, module in generator.network.named_modules()}
    layers = {names[id(generator.layer_module(name))]: shape[-1] for name, shape in generator.layers().items()}
    return {name: _side(name.split("."), layers) for name in generator.tunable()}


def _side(path: Sequence[str], layers: Mapping[str, int]) -> int | None:
    for length in range(1, len(path)):
        if ".".join(path[:length]) in layers:
            return layers[".".join(path[:length])]
    for length in range(len(path) - 1, 0, -1):
        beginning = ".".join(path[:length]) + "."
        found = {side for name, side in layers.items() if name.startswith(beginning)}
        if found:
            return found.pop() if len(found) == 1 else None
    return None


def chosen(generator: GeneratorAdapter, text: str | None) -> dict[str, int | None]:
    """The parameters that a text chooses, with their resolutions, as `sides` has them.

    Args:
        text: names of parameters, as patterns with * and ? ("synthesis.b8.*"; "synthesis." may be left out), and
            resolutions ("16", "8-32"), with commas between them. None chooses all that are tunable.

    Raises:
        ProjectionError: a part of the text chooses nothing; with all that there is.
    """
    known = sides(generator)
    if text is None:
        return known
    found: set[str] = set()
    for part in (part.strip() for part in text.split(",")):
        span = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", part)
        if span:
            low, high = int(span[1]), int(span[2] or span[1])
            matching = {name for name, side in known.items() if side is not None and low <= side <= high}
        else:
            matching = {
                name
                for name in known
                if any(fnmatch.fnmatchcase(name.removeprefix(start), part) for start in ("", "synthesis."))
            }
        if not matching:
            raise ProjectionError(f"tune_layers: no parameter fits {printable(part, 80)!r}; {_in_words(known)}")
        found |= matching
    return {name: side for name, side in known.items() if name in found}


def _in_words(known: Mapping[str, int | None]) -> str:
    resolutions = sorted({side for side in known.values() if side is not None})
    modules = dict.fromkeys(f"{name.removeprefix('synthesis.').rpartition('.')[0]}.*" for name in known)
    return (
        f"there are the resolutions {', '.join(map(str, resolutions))}, and the names "
        f"{printable(', '.join(modules), 1500)}"
    )
