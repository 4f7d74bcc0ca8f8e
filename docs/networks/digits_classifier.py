"""Trains the classifier of spoken digits that comes with this package:

    python docs/networks/digits_classifier.py FSDD.zip OUT.safetensors

FSDD.zip is the Free Spoken Digit Dataset (https://github.com/Jakobovski/free-spoken-digit-dataset, CC BY-SA 4.0). Two of its
six speakers are never heard in training; the accuracy on them is printed at the end, as is the accuracy on the speakers that
were.
"""

import sys
import time

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from stylegan_invert.losses.digits import RATE, levels
from stylegan_invert.media.sound_set import SoundSet
from stylegan_invert.networks.digits import DigitClassifier

UNHEARD = ("*_theo_*", "*_yweweler_*")
LENGTH = 8192
EPOCHS, BATCH, RATE_OF_ADAM = 24, 64, 3e-3


def spectrograms(path: str, **chosen: object) -> tuple[torch.Tensor, torch.Tensor]:
    """The spectrograms (N, 1, 40, 128) of recordings, and their digits (N,)."""
    data = SoundSet(path, LENGTH, RATE, "peak", "names", **chosen)
    data.check()
    parts = [
        levels(torch.from_numpy(data.sounds(range(i, min(i + 100, len(data))))) / 32767)
        for i in range(0, len(data), 100)
    ]
    return torch.cat(parts), torch.from_numpy(data.labels).argmax(dim=1)


def augmented(x: torch.Tensor) -> torch.Tensor:
    """Spectrograms of other voices, rooms and speeds: stretched and moved, with another balance of frequencies, noise, gaps."""
    n, _, bands, frames = x.shape
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = torch.empty(n).uniform_(0.75, 1.35)  # frames
    theta[:, 1, 1] = torch.empty(n).uniform_(0.85, 1.18)  # bands
    theta[:, 0, 2] = theta[:, 0, 0] - 1 - torch.rand(n) * 0.3  # begins up to 15 % of the sound later
    theta[:, 1, 2] = theta[:, 1, 1] - 1 + torch.empty(n).uniform_(-0.1, 0.1)
    x = F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)
    tilt = torch.randn(n, 1, 4, 1) * 0.12
    x = x + F.interpolate(tilt, [bands, 1], mode="bilinear", align_corners=True)
    floor = torch.rand(n, 1, 1, 1) * 0.5 - 0.1  # the level of the room's noise
    x = torch.maximum(x, floor + torch.randn(n, 1, bands, frames) * 0.08)
    x = x.clamp(min=0) / x.amax(dim=[1, 2, 3], keepdim=True).clamp(min=0.1)
    for axis, size, most in ((2, bands, 8), (3, frames, 20)):
        first = torch.randint(0, size, [n, 1]) - torch.randint(0, most, [n, 1])
        place = torch.arange(size)[None]
        hidden = (place >= first) & (place < first + torch.randint(0, most, [n, 1]))
        x = x.masked_fill(hidden.reshape([n, 1] + [size if a == axis else 1 for a in (2, 3)]), 0)
    return x


def accuracy(network: DigitClassifier, x: torch.Tensor, digits: torch.Tensor) -> float:
    with torch.no_grad():
        return float((torch.cat([network(part) for part in x.split(200)]).argmax(dim=1) == digits).float().mean())


def main(path: str, out: str) -> None:
    torch.manual_seed(0)
    start = time.process_time()
    x, digits = spectrograms(path, leave_out=UNHEARD)
    network = DigitClassifier()
    adam = torch.optim.AdamW(network.parameters(), RATE_OF_ADAM, weight_decay=0.02)
    steps = EPOCHS * (len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, RATE_OF_ADAM, total_steps=steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x))[: len(x) // BATCH * BATCH].split(BATCH):
            loss = F.cross_entropy(network(augmented(x[rows])), digits[rows])
            adam.zero_grad()
            loss.backward()
            adam.step()
            schedule.step()
    network.eval()
    print(
        f"{time.process_time() - start:.0f} CPU seconds; on the speakers that it heard: {accuracy(network, x, digits):.1%}"
    )
    for pattern in UNHEARD:
        print(f"on {pattern}, never heard: {accuracy(network, *spectrograms(path, only=[pattern])):.1%}")
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
