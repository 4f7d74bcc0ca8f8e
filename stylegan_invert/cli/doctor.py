"""``stylegan-invert doctor``"""

import sys

import click

from .common import device_option, pick_device, tell, tell_json


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@device_option
def command(as_json: bool, device: str) -> None:
    """Say what the native operations need, what is missing, and the one step that mends it.

    Builds them if they are not built, and runs each. The exit status is 0 if they work and 1 if they do not; everything else
    then still works, in the slower reference form.
    """
    from ..ops.doctor import examine

    report = examine(pick_device(device))
    if as_json:
        tell_json(report, 2)
    else:
        for check in report["checks"]:
            tell(f"{'ok ' if check['ok'] else 'NO '} {check['name']}: {check['found']}")
            if check["remedy"]:
                tell(f"     {check['remedy']}")
        tell(f"native operations on {report['device']}: {'they work' if report['works'] else 'they do not work'}")
    sys.exit(0 if report["works"] else 1)
