"""``stylegan-invert edit``"""

import os
from pathlib import Path
from typing import Any

import click

from ..files.writing import folder_names
from .common import (
    UserPath,
    check_outdir,
    class_option,
    device_option,
    foreign_codes_option,
    network_option,
    outdir_option,
    quiet_option,
    say,
    z_prior_option,
)
from .ends import code_of, layers_of, open_generator
from .project import Tune

CODE_SUFFIX = ".npz"
TUNED_BY = "fast-w"  # a code of W edits better than one of W+, and tuning brings its picture as near


@click.command()
@click.argument("codes", nargs=-1, required=True, metavar="CODE...")
@network_option
@outdir_option
@click.option(
    "--apply",
    "applied",
    multiple=True,
    metavar="FILE:STRENGTH[:LAYERS]",
    help="Move along a direction, a file of 'stylegan-invert directions' or a shipped one (cats64-de/light). The strength is "
    "in standard deviations of the network's own codes, and negative for the other way. LAYERS as for --mix; without them "
    "those of the direction. The option may be repeated.",
)
@click.option(
    "--mix",
    "mixes",
    multiple=True,
    metavar="CODE:LAYERS",
    help="Take some layers from another code: coarse, middle, fine, or numbers as 0-6,8. The option may be repeated.",
)
@click.option("--plus", type=UserPath(), metavar="GROUP", help="Add the mean of a group of codes; with --minus.")
@click.option(
    "--minus",
    type=UserPath(),
    metavar="GROUP",
    help="Subtract the mean of a group. A GROUP is a folder of results of 'project', a file of codes, or a folder of "
    "pictures named as 'generate' names them, such as seed0085.png.",
)
@click.option(
    "--frames", type=click.IntRange(2, 1000), default=7, show_default=True, help="Number of pictures in the strip."
)
@click.option(
    "--grid",
    is_flag=True,
    help="Also write grid.png, in which the first --apply goes down and the second to the right.",
)
@click.option(
    "--tune",
    type=Tune(),
    is_flag=False,
    flag_value=True,
    metavar="[STEPS]",
    help="For photographs: project to W, then tune the network to each of them (as 'project --tune'), and edit with the tuned "
    "network, which is written into the folder projection.",
)
@click.option("--video", is_flag=True, help="Also write edit.mp4, from the opposite of the edit to the edit and back.")
@foreign_codes_option
@class_option
@z_prior_option
@device_option
@quiet_option
def command(
    codes: tuple[str, ...],
    network: str,
    outdir: str,
    applied: tuple[str, ...],
    mixes: tuple[str, ...],
    plus: str | None,
    minus: str | None,
    frames: int,
    grid: bool,
    tune: int | bool | None,
    video: bool,
    class_idx: int | str | None,
    z_prior: str | None,
    device: str,
    quiet: bool,
) -> None:
    """Edit pictures through their codes.

    A CODE is a photograph, which is projected first by the default method; the folder of a projection; a file of codes; or
    seed:N. Layers are mixed first (--mix), then means are added (--plus, --minus), then directions (--apply, in their order).

    Writes edited.png, its code (projected_w.npz, for 'generate' and all other commands), and strip.png: from the opposite of
    the edit, over the picture itself, to the edit, with its codes (strip.npz). With several CODEs, each has a folder. A
    photograph's projection is in the folder projection.

    \b
    stylegan-invert edit photo.jpg -n cats64-de --apply cats64-de/light:+2 -o out/lighter --video
    stylegan-invert edit photo.jpg -n cats64-de --apply cats64-de/light:+2 --tune --video -o out/tuned
    stylegan-invert edit out/cat -n cats32 --apply smile.safetensors:+1.5 --apply pose.safetensors:-2:coarse --grid -o out/both
    stylegan-invert edit out/cat -n cats32 --mix seed:7:fine -o out/mixed
    stylegan-invert edit out/cat -n cats32 --plus ginger/ --minus grey/ -o out/ginger
    """
    from ..editing.outputs import Move
    from ..io.direction_file import find_direction, parse_applied, read_direction

    if (plus is None) != (minus is None):
        raise click.UsageError("--plus and --minus go together: the mean of one group less that of the other.")
    if not (applied or mixes or plus):
        raise click.UsageError("Give at least one --apply, --mix, or --plus and --minus.")
    if grid and len(applied) != 2:
        raise click.UsageError(f"--grid shows two directions; --apply was given {len(applied)} times.")
    known = [code for code in codes if not is_picture(code)]
    if tune and known:
        raise click.UsageError(
            f"--tune is for photographs, and {known[0]} is no file of a picture; use 'project --tune' for codes."
        )
    parsed = [parse_applied(text) for text in applied]
    check_outdir(outdir)
    net, generator, c = open_generator(network, device, quiet, class_idx, z_prior)
    moves = _means(generator, plus, minus, c)
    for one in parsed:
        direction = read_direction(find_direction(one.file), generator)
        moves.append(Move(direction, one.strength, layers_of(one.layers, generator)))
    others = [_mix(generator, text, c) for text in mixes]
    outdirs = [Path(outdir)] if len(codes) == 1 else [Path(outdir) / name for name in folder_names(map(_name, codes))]
    projected = _projections(net, generator, codes, c, outdirs, quiet, class_idx, tune)
    for code, folder, (drawing, given) in zip(codes, outdirs, projected):
        _write(drawing, given, others, moves, frames, grid, video, folder)
        say(quiet, f"{code} -> {folder}: edited.png, strip.png")


def _name(code: str) -> Path:
    """The path from which the folder of a CODE has its name."""
    return Path(code.replace(":", ""))


def _means(generator: Any, plus: str | None, minus: str | None, c: Any) -> list[Any]:
    """The move of --plus and --minus, in a list; an empty one without them."""
    from ..analysis.groups import read_group
    from ..editing.finding import difference
    from ..editing.outputs import Move

    if plus is None or minus is None:
        return []
    more, less = (read_group(path, generator, c) for path in (plus, minus))
    return [Move(difference(generator, more, less, name=f"{plus} less {minus}"[:100]), 1.0)]


def _mix(generator: Any, text: str, c: Any) -> tuple[Any, list[int]]:
    """The code and the layers that a --mix names."""
    end, colon, layers = text.rpartition(":")
    if not colon or not end or end == "seed":
        raise click.UsageError(f"--mix {text}: expected CODE:LAYERS, as out/cat:coarse or seed:7:0-6.")
    return code_of(generator, end, c), layers_of(layers, generator) or []


def is_picture(code: str) -> bool:
    """True if a CODE is a file that is no file of codes, and so a picture."""
    return os.path.isfile(os.path.expanduser(code)) and not code.lower().endswith(CODE_SUFFIX)


def _projections(
    net: Any,
    generator: Any,
    codes: tuple[str, ...],
    c: Any,
    outdirs: list[Path],
    quiet: bool,
    class_idx: int | str | None,
    tune: int | bool | None,
) -> list[tuple[Any, Any]]:
    """For each CODE the generator that draws it, which may be a tuned one, and the code.

    Photographs are projected, and the results saved in folders beside the edits.
    """
    from ..projectors import project_each

    pictures = [(i, os.path.expanduser(code)) for i, code in enumerate(codes) if is_picture(code)]
    found: dict[int, Any] = {}
    if pictures:
        say(quiet, f"projecting {len(pictures)} picture{'s' * (len(pictures) > 1)}{', and tuning' if tune else ''}")
        options: dict[str, Any] = {} if class_idx is None else {"class_idx": class_idx}
        options |= {"tune": tune} if tune else {}
        options |= {"method": TUNED_BY} if tune and "w" in generator.spaces else {}
        for (i, _), result in zip(pictures, project_each(net, [path for _, path in pictures], **options)):
            result.save(outdirs[i] / "projection")
            drawing = result.generator if tune else generator
            found[i] = drawing, result.code.without_noise().to(generator.device)
    return [found[i] if i in found else (generator, code_of(generator, code, c)) for i, code in enumerate(codes)]


def _write(
    generator: Any,
    code: Any,
    others: list[tuple[Any, list[int]]],
    moves: list[Any],
    frames: int,
    with_grid: bool,
    with_video: bool,
    folder: Path,
) -> None:
    """Write what is made of one code: all files or none."""
    from ..analysis.sheets import sheet
    from ..editing.mixing import mixed
    from ..editing.outputs import edited, grid, strip
    from ..files.writing import staged
    from ..generator import FEATURES, joined
    from ..io.codes import write_code
    from ..media.pictures import write_png
    from ..media.video import write_mp4
    from ..projectors.projection import render_rounded

    before = code
    for other, layers in others:
        before = mixed(generator, before, other, layers)
    after = edited(generator, before, moves)
    codes = strip(generator, before, moves, frames) if moves else [code, after]
    pictures = [render_rounded(generator, one) for one in codes]
    with staged(folder) as inside:
        write_png(inside / "edited.png", render_rounded(generator, after))
        write_code(inside, after, generator)
        write_png(inside / "strip.png", sheet([pictures]))
        at_base = [one if one.space.startswith(FEATURES) else generator.convert(one, generator.base) for one in codes]
        write_code(inside, joined(at_base), generator, "strip.npz")
        if with_grid:
            rows = grid(generator, before, moves[-2], moves[-1], frames)
            write_png(inside / "grid.png", sheet([[render_rounded(generator, one) for one in row] for row in rows]))
        if with_video:
            write_mp4(inside / "edit.mp4", iter(pictures + pictures[-2:0:-1]))
