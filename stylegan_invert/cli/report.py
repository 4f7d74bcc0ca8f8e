"""``stylegan-invert report``"""

import click

from .common import UserPath, quiet_option, say


@click.command()
@click.argument("folder", type=UserPath(), metavar="DIR")
@click.option("--output", "-o", type=UserPath(), metavar="FILE", help="The page.  [default: DIR/report.html]")
@quiet_option
def command(folder: str, output: str | None, quiet: bool) -> None:
    """Write one HTML page about the results in DIR.

    DIR is the folder of a projection, or has such folders at any depth. The page shows targets and results with a slider
    between them, the curve of the distance, a table that can be sorted, sheets of interpolations and edits, and all
    options and hashes. Everything is in the one file, which needs no network.

    \b
    stylegan-invert report out/photos
    """
    from ..analysis.report import write_report

    path, count = write_report(folder, output)
    say(quiet, f"wrote {path}: {count:,} results")
