"""Which class of a network a picture shows, where nobody says it."""

import torch

from stylegan_invert.generator import Code, GeneratorAdapter, label
from stylegan_invert.losses import Distance

from .z import LatentOptions, latent

DRAWS = 4  # latents that every class is tried with
FINALISTS = 5  # classes that are optimised
STEPS = 30  # for each of them


def find_class(generator: GeneratorAdapter, target: torch.Tensor, loss: Distance, seed: int) -> int:
    """The class whose pictures come nearest to one picture.

    Every class is tried with the same few latents, drawn with entries of at most one deviation; the classes nearest to the
    picture are then optimised for some steps of Adam, each from its best latent, and the nearest of these is the result.

    Args:
        target: (1, C, H, W) float32 in [-1, 1].
        seed: of the latents.
    """
    (shape,) = generator.code_shapes("z").values()
    random = torch.Generator(generator.device).manual_seed(seed)
    z = generator.prior.sample([DRAWS, *shape], random, bound=1.0)
    prepared = loss.prepare(target)
    distances, codes = [], []
    with torch.no_grad():
        for index in range(generator.c_dim):
            c = label(generator.c_dim, index).to(generator.device).expand(DRAWS, -1)
            code = Code("z", {"z": z}, c)
            found = torch.cat([loss(prepared, generator.render(one)) for one in code])
            best = int(found.argmin())
            distances.append(float(found[best]))
            codes.append(code[best : best + 1])
    nearest = sorted(range(generator.c_dim), key=distances.__getitem__)[:FINALISTS]
    options = LatentOptions(steps=STEPS, optimizer="adam", seed=seed)
    ends = [float(latent(generator, target, loss, codes[index], options).distance[-1, 0]) for index in nearest]
    return nearest[ends.index(min(ends))]
