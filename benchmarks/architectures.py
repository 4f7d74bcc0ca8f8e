"""The speed of training of each architecture: OMP_NUM_THREADS=2 python benchmarks/architectures.py

Steps with random pictures and the default sizes of a resolution. Said are real pictures per second on the clock and per second
of processor time, after the rate of a product of two matrices of 1024x1024 on the same machine.
"""

import argparse
import time

import numpy as np
import torch

from stylegan_invert.training.architectures import ARCHITECTURES
from stylegan_invert.training.gan import GANTrainer
from stylegan_invert.training.run_options import PictureOptions

OF_PICTURES = [name for name, line in ARCHITECTURES.items() if issubclass(line.options, PictureOptions)]


class Noise:
    """A training set of random pictures."""

    path, mirror, c_dim, channels = "noise", False, 0, 3

    def __init__(self, resolution: int):
        self.resolution, self.names = resolution, list(range(64))
        self.labels = np.zeros([64, 0], np.float32)

    def __len__(self) -> int:
        return len(self.names)

    def batches(self, batch: int, *rest: object):
        while True:
            pixels = torch.randint(0, 256, [batch, 3, self.resolution, self.resolution], dtype=torch.uint8)
            yield pixels, torch.zeros([batch, 0])


def product_rate() -> float:
    """GFLOP per second of processor time of a product of two matrices."""
    a = torch.randn([1024, 1024])
    a @ a
    start = time.process_time()
    for _ in range(10):
        a @ a
    return 10 * 2 * 1024**3 / (time.process_time() - start) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--arch", nargs="*", choices=OF_PICTURES, default=OF_PICTURES)
    given = parser.parse_args()
    product = product_rate()
    print(f"{torch.get_num_threads()} threads, {product:.0f} GFLOP per second of processor time")
    for arch in given.arch:
        whole = {"grow_kimg": 0, "fade_kimg": 0} if arch == "progan" else {}
        data = Noise(given.resolution)
        trainer = GANTrainer(ARCHITECTURES[arch].options.for_data(data, **whole), data)
        trainer.step()
        shown, wall, cpu = trainer.nimg, time.perf_counter(), time.process_time()
        for _ in range(given.steps):
            trainer.step()
        shown, wall, cpu = trainer.nimg - shown, time.perf_counter() - wall, time.process_time() - cpu
        print(f"{arch:10} {shown / wall:8.1f} pictures/s {shown / cpu:8.1f} per second of processor time")


if __name__ == "__main__":
    main()
