"""``stylegan-invert directions assessor``"""

from typing import Any

import click

from .common import (
    SEED,
    UserPath,
    class_option,
    counting,
    device_option,
    network_option,
    quiet_option,
    say,
    tell,
    z_prior_option,
)
from .directions import layers_option, named, out_option
from .ends import layers_of, open_generator


@click.command()
@network_option
@click.option(
    "--assessor", type=UserPath(), metavar="FILE",
    help="A TorchScript program from pictures (N, 3, H, W), float32 from 0 to 1, to N scores.",
)  # fmt: skip
@click.option(
    "--pictures", type=(UserPath(), UserPath()), metavar="HIGH LOW",
    help="Two folders of pictures, real or generated: the assessor is then a logistic regression on features of the shipped "
    "SqueezeNet, which tells the first folder from the second.",
)  # fmt: skip
@click.option(
    "--run-torchscript", is_flag=True,
    help="Run the program in --assessor. It can do what torch can, such as writing files.",
)  # fmt: skip
@layers_option
@click.option("--steps", type=click.IntRange(1, 10**6), default=200, show_default=True, help="Number of steps of Adam.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Random seed of the codes.")
@out_option
@class_option
@z_prior_option
@device_option
@quiet_option
def command(
    network: str,
    assessor: str | None,
    pictures: tuple[str, str] | None,
    run_torchscript: bool,
    layers: str | None,
    steps: int,
    seed: int,
    out: str,
    name: str | None,
    class_idx: int | str | None,
    z_prior: str | None,
    device: str,
    quiet: bool,
) -> None:
    """Train a direction along which an assessor's score of the network's pictures rises (GANalyze, 2019).

    Prints how much one unit of strength raises the score, in standard deviations of the scores of the network's own pictures,
    and for how many pictures it rises, both measured on codes that were not trained on.

    \b
    stylegan-invert directions assessor -n ffhq --assessor memorability.pt --run-torchscript -o memorable.safetensors
    stylegan-invert directions assessor -n cats64-de --pictures photos/ginger photos/grey -o ginger.safetensors
    """
    if (assessor is None) == (pictures is None):
        raise click.UsageError("Give either --assessor or --pictures.")
    if run_torchscript and assessor is None:
        raise click.UsageError("--run-torchscript is for --assessor.")
    from ..editing.assessor import assessed
    from ..generator.directions import Coordinates
    from ..io.direction_file import write_direction
    from ..losses.assessor import load_assessor

    scorer: Any = load_assessor(assessor, run_torchscript) if assessor is not None else None
    _, generator, c = open_generator(network, device, quiet, class_idx, z_prior, whitened=True)
    if pictures is not None:
        scorer = _of_pictures(generator, pictures, quiet)
    else:
        scorer = scorer.to(generator.device)
    with counting(steps, "training", quiet) as progress:
        direction, measured = assessed(
            Coordinates(generator, c), scorer, layers_of(layers, generator), steps, seed=seed, progress=progress
        )
    write_direction(out, named(direction, name, out))
    tell(
        f"strength 1 raises the score by {measured['raises']:.2f} deviations; it rises for {measured['rising']:.0%} of "
        "held-out codes"
    )


def _of_pictures(generator: Any, folders: tuple[str, str], quiet: bool) -> Any:
    """The assessor that tells the pictures of two folders apart."""
    from ..analysis.distribution import stored_pictures
    from ..editing.assessor import PictureAssessor
    from ..media.picture_set import PictureSet

    sets = [PictureSet(folder, generator.img_resolution, generator.img_channels) for folder in folders]
    for one in sets:
        one.check()
    plus, minus = map(stored_pictures, sets)
    made = PictureAssessor(plus, minus, generator.device)
    say(quiet, f"the assessor tells {made.held_out_accuracy:.3f} of held-out pictures apart (guessing: 0.5)")
    return made
