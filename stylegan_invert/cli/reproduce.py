"""``stylegan-invert reproduce``: the papers' experiments, one command per paper."""

import click

from .common import Commands

COMMANDS = {
    "clipping": "Lipton & Tripathi, Bayat: recovery of latents with clipping.",
    "compression": "Wulff & Torralba: truncation and compression in V.",
    "dense": "Pividori et al.: z, and displacements at the dense layer.",
    "direction": "Cho: inversion by a direction-embedding discriminator.",
    "prior": "Wulff & Torralba: inversion with a Gaussian prior in V.",
}


@click.command(cls=Commands, table=COMMANDS, prefix="reproduce_")
def command() -> None:
    """Run a paper's experiments on a network, and write its tables and figures."""
