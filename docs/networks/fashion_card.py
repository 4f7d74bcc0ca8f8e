"""Makes the shipped network fashion32 of a snapshot of its training, and what its card shows:

    python docs/networks/fashion_card.py RUN/network-snapshot-000240.safetensors FASHION.zip

FASHION.zip is what fashion.py makes. Printed are the Fréchet and kernel distances (SqueezeNet) of as many generated pictures as
there are test pictures, 1,000 of each class, to these, for each class and for all; beside them those of as many training
pictures, which are what is best; and how well the head finds z.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from fashion import CLASSES
from shipping import ship

import stylegan_invert as si
from stylegan_invert import pretrained
from stylegan_invert.analysis.distribution import PictureFeatures, frechet_distance, generated_pictures, kid
from stylegan_invert.analysis.sheets import grid
from stylegan_invert.generator import adapt
from stylegan_invert.generator.adapt import one_hot
from stylegan_invert.media.picture_set import PictureSet
from stylegan_invert.media.pictures import write_png

HERE, SHIPPED = Path(__file__).parent, Path(pretrained.__file__).parent / "fashion32.safetensors"
TRAINING, OF_CLASS, SHOWN = 60_000, 1000, 10


def main(snapshot: str, data: str) -> None:
    ship(snapshot, SHIPPED, class_names=CLASSES)
    net = si.load(SHIPPED)
    generator, features = adapt(net.G), PictureFeatures()
    drawn = [torch.cat([*generated_pictures(generator, OF_CLASS, k, one_hot(10, k))]) for k in range(10)]
    write_png(HERE / "fashion-samples.png", grid(torch.cat([rows[:SHOWN] for rows in drawn]).numpy(), SHOWN))
    sets = {
        "training": PictureSet(data, 32, 3, use_labels=True, last=TRAINING),
        "test": PictureSet(data, 32, 3, use_labels=True, first=TRAINING),
    }
    found = {"generated": [features.of(rows.split(64)) for rows in drawn]}
    for name, pictures in sets.items():
        chosen = [np.flatnonzero(pictures.labels[:, k])[:OF_CLASS] for k in range(10)]
        parts = [np.array_split(rows, 16) for rows in chosen]
        found[name] = [features.of(torch.from_numpy(pictures.pictures(part)) for part in rows) for rows in parts]
    print("class: Fréchet distance to the test pictures, of training pictures, kernel distance, of training pictures")
    for k, name in [*enumerate(CLASSES), (slice(None), "all")]:
        test = found["test"][k] if isinstance(k, int) else torch.cat(found["test"])
        values = []
        for kind in ("generated", "training"):
            rows = found[kind][k] if isinstance(k, int) else torch.cat(found[kind])
            values.append((frechet_distance(test, rows), kid(test, rows)[0]))
        (f, d), (f_best, d_best) = values
        print(f"| {name} | {f:.1f} | {f_best:.1f} | {d:.3f} | {d_best:.3f} |")
    head(net, drawn)


def head(net: si.NetworkFile, drawn: list[torch.Tensor]) -> None:
    """Print the angle between the latents of generated pictures and those that the head finds."""
    generator = adapt(net.G)
    z = generator.prior.sample([500, net.G.z_dim], torch.Generator().manual_seed(1))
    c = torch.eye(10).repeat(50, 1)
    with torch.no_grad():
        guess = net.direction.invert(torch.cat([net.G(*part) for part in zip(z.split(50), c.split(50))]))
    for name, other in (("found", z), ("random", z.roll(1, 0))):
        angle = torch.rad2deg(torch.arccos(torch.cosine_similarity(guess, other).clamp(-1, 1))).mean()
        print(f"mean angle between the latents found and those of {name} pictures: {float(angle):.1f} degrees")


if __name__ == "__main__":
    main(*sys.argv[1:])
