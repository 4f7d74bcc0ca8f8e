"""``stylegan-invert directions list``"""

from pathlib import Path
from typing import Any

import click

from ..errors import printable
from .common import tell, tell_json


@click.command(name="list")
@click.argument("files", nargs=-1, metavar="[FILE...]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(files: tuple[str, ...], as_json: bool) -> None:
    """Say what directions are: name, space, layers, network and how each was made.

    A FILE may also be a folder, which stands for all directions in it. Without a FILE the shipped directions are listed.
    """
    from .. import pretrained
    from ..io.direction_file import FOLDER, SUFFIX, find_direction, read_description

    shipped = Path(pretrained.__file__).parent / FOLDER
    paths: dict[str, Path] = {}
    for file in files or [str(shipped)]:
        path = find_direction(file)
        inside = sorted(path.rglob(f"*{SUFFIX}")) if path.is_dir() else [path]
        if not inside:
            raise click.ClickException(f"{printable(file, 300)}: there are no directions (*{SUFFIX}) in this folder")
        for one in inside:
            at_home = one.is_relative_to(shipped)
            paths[one.relative_to(shipped).with_suffix("").as_posix() if at_home else str(one)] = one
    rows = [{"file": name, **_facts(read_description(path))} for name, path in paths.items()]
    if as_json:
        tell_json(rows)
        return
    for row in rows:
        layers = "all layers" if row["layers"] is None else f"layers {','.join(map(str, row['layers']))}"
        made = ", ".join(f"{key} {value}" for key, value in row["made"].items())
        tell(f"{row['file']}: {row['name']}; in {row['space']}, {layers}; network {row['network'][:12]}; {made}")


def _facts(direction: Any) -> dict[str, Any]:
    fields = ("name", "space", "sigma", "layers", "network", "made")
    return {field: getattr(direction, field) for field in fields}
