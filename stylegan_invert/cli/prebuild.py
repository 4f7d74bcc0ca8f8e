"""``stylegan-invert prebuild``"""

import click

from .common import quiet_option, say


@click.command()
@click.option(
    "--arch", "archs", multiple=True, metavar="X.Y",
    help="A GPU's architecture, such as 9.0; may be repeated. Needs nvcc, but no GPU.  [default: those of this machine's GPUs]",
)  # fmt: skip
@quiet_option
def command(archs: tuple[str, ...], quiet: bool) -> None:
    """Build the native operations now, into the cache: for images and clusters.

    Processes that start later find them there if STYLEGAN_INVERT_CACHE names the same folder. It must be an absolute path, belong
    to root or to the user who runs them, and be writable by nobody else.
    """
    import re

    import torch

    from ..ops import build

    for arch in archs:
        if not re.fullmatch(r"\d+\.\d+a?", arch):
            raise click.BadParameter(f"{arch!r}; expected an architecture such as 8.0", param_hint="--arch")
    if not archs and torch.cuda.is_available():
        capabilities = {torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())}
        archs = tuple(f"{major}.{minor}" for major, minor in sorted(capabilities))
    targets: list[str | None] = [None, *archs]
    for target in targets:
        say(quiet, f"{'CPU' if target is None else f'CUDA {target}'}: {build.build(build.Target(target))}")
