"""Find the class that a target shows, when the user names none (--class search)."""

import torch

from stylegan_invert.generator import Code, GeneratorAdapter, one_hot

from . import z
from .descent import Descent
from .objective import Objective
from .settings import LatentOptions

DRAWS = 4  # the number of latents with which every class is tried
FINALISTS = 5  # the number of classes that are optimised
STEPS = 30  # the number of steps for each of these classes


def find_class(generator: GeneratorAdapter, objective: Objective, seed: int) -> int:
    """The class whose outputs come nearest to one target.

    Every class is tried with the same few latents, drawn from the prior truncated to [-1, 1]. The classes nearest to
    the target are then optimised for some steps of Adam, each from its best latent. The class that ends nearest is the
    result.

    Args:
        generator: the adapter of a network with classes.
        objective: the objective for one target.
        seed: the random seed for the latents.
    """
    (shape,) = generator.code_shapes("z").values()
    random = torch.Generator(generator.device).manual_seed(seed)
    latents = generator.prior.sample([DRAWS, *shape], random, bound=1.0)
    distances, codes = [], []
    with torch.no_grad():
        for index in range(generator.c_dim):
            c = one_hot(generator.c_dim, index, generator.device).expand(DRAWS, -1)
            code = Code("z", {"z": latents}, c)
            of_draws = torch.cat([objective(one) for one in code])
            best = int(of_draws.argmin())
            distances.append(float(of_draws[best]))
            codes.append(code[best : best + 1])
    nearest = sorted(range(generator.c_dim), key=distances.__getitem__)[:FINALISTS]
    options = LatentOptions(steps=STEPS, optimizer="adam", seed=seed)
    ends = [float(z.fit(generator, objective, codes[i], options, Descent()).distance[-1, 0]) for i in nearest]
    return nearest[ends.index(min(ends))]
