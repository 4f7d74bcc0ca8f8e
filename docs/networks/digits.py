"""Makes the shipped network digits-wavegan of a snapshot of its training, and what its card shows:

    python docs/networks/digits.py RUN/network-snapshot-000123.safetensors FSDD.zip

The file holds the averaged generator and the averaged discriminator with its head, in float16. What the classifier of digits
says of 1,000 sounds, and of recordings of the same speakers that were not used for training, is printed.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from shipping import ship

import stylegan_invert as si
from stylegan_invert import pretrained
from stylegan_invert.analysis.digits import judge, set_measures
from stylegan_invert.analysis.sheets import grid
from stylegan_invert.generator import adapt
from stylegan_invert.media.medium import medium_of
from stylegan_invert.media.pictures import write_png
from stylegan_invert.media.sound_set import SoundSet

HERE, SHIPPED = Path(__file__).parent, Path(pretrained.__file__).parent / "digits-wavegan.safetensors"
SAMPLES, SIDE = 1000, 4
UNHEARD = ("*_theo_*", "*_yweweler_*")


def main(snapshot: str, data: str) -> None:
    ship(snapshot, SHIPPED)
    net = si.load(SHIPPED)
    generator, rate = adapt(net.G), net.G.sample_rate
    medium = medium_of(generator)
    z = generator.prior.sample([SAMPLES, net.G.z_dim], torch.Generator().manual_seed(0))
    with torch.no_grad():
        sounds = torch.cat([net.G(part) for part in z.split(50)])
        angles = net.direction.invert(sounds[:200]) - z[:200]
    stored = [medium.rounded(sound) for sound in sounds[: SIDE * SIDE]]
    write_png(HERE / "digits-samples.png", grid(np.stack([medium.seen(sound) for sound in stored]), SIDE))
    medium.write_sequence(HERE / "digits-samples.wav", stored)

    def recordings(**chosen: object) -> torch.Tensor:
        found = SoundSet(data, net.G.length, rate, "peak", "names", leave_out=UNHEARD, **chosen)
        return torch.from_numpy(found.sounds(range(len(found)))) / 32767

    held_out, trained_on = judge(recordings(only=["*_[0-4].wav"]), rate), judge(recordings(), rate)
    judged = judge(sounds, rate)
    print("generated:", rounded(set_measures(trained_on, judged)), judged.digits.bincount(minlength=10).tolist())
    print("held-out recordings:", rounded(set_measures(trained_on, held_out)))
    print(
        "root mean squared error of z by the head:", round(float(angles.square().mean().sqrt()), 3), "(chance: 0.577)"
    )


def rounded(measures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in measures.items()}


if __name__ == "__main__":
    main(*sys.argv[1:])
