"""Training a WaveGAN: the `loop.Trainer` of its two networks.

Source: Donahue, McAuley & Puckette, "Adversarial Audio Synthesis" (2019); their code is chrisdonahue/wavegan.
"""

import copy
import dataclasses
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..analysis.sheets import grid
from ..errors import TrainingError
from ..files import plain
from ..files.saved import tensor
from ..generator.prior import Prior
from ..losses.spectrogram import decibels
from ..media.pictures import write_png
from ..media.sound_set import SoundSet
from ..network_files.families.direction_head import direction_tensors
from ..network_files import safetensors_file
from ..network_files.file import NetworkFile
from ..networks.direction import DirectionDiscriminator
from ..networks.wavegan import SpectrogramDiscriminator, WaveGANDiscriminator, WaveGANGenerator
from . import loop
from .gan_losses import DirectionLoss, StyleGAN2Loss
from .precision import training_settings
from .state import COUNT, SECONDS, adam_state, module_state, random_state, running_means
from .wavegan_options import WaveGANOptions

SIDE = 4  # rows and columns of a sheet of spectrograms
PRIOR = Prior("uniform")


class WaveGANTrainer:
    """A WaveGAN in training.

    A step shows ``d_steps`` batches of recordings to the discriminator, and then improves the generator once.

    Args:
        options: see `WaveGANOptions`.
        data: the recordings, of the options' length and sample rate; ``data.check()`` has been called.
        device: where to compute.

    Attributes:
        G, D: the networks as they are trained.
        G_ema, D_ema: their averages; without averaging they are equal to G and D after each step.
        nimg: the recordings shown so far.
        steps: the batches shown so far.
        ticks, seconds: see `loop.Trainer`.
    """

    def __init__(self, options: WaveGANOptions, data: SoundSet, device: torch.device | str = "cpu"):
        self.options, self.data, self.device = options, data, torch.device(device)
        torch.manual_seed(options.seed)
        G, D = (network.train().requires_grad_(False).to(device) for network in build(options))
        self.G, self.D = G, D
        self.G_ema, self.D_ema = copy.deepcopy(G).eval(), copy.deepcopy(D).eval()
        self.nimg = self.steps = self.ticks = 0
        self.seconds = 0.0
        kind = DirectionLoss if options.head == "direction" else StyleGAN2Loss
        further = {"embedding_weight": options.embedding_weight} if options.head == "direction" else {}
        self.loss = kind(
            self.device, _unmapped, self._sounds, D, style_mixing_prob=0, r1_gamma=options.gamma,
            pl_weight=0, adversarial=options.loss, **further,
        )  # fmt: skip
        self.S = None
        if options.spectrogram_weight > 0:
            shape = spectrograms(torch.zeros([1, 1, options.length])).shape
            self.S = SpectrogramDiscriminator(*shape[1:], options.dim).requires_grad_(False).to(device)
        self.optimisers = {
            name: torch.optim.Adam(module.parameters(), options.lr, (options.beta1, options.beta2))
            for name, module in (("G", G), ("D", D), ("S", self.S))
            if module is not None
        }
        self._batches: Iterator[tuple[torch.Tensor, torch.Tensor]] | None = None

    def step(self) -> None:
        o = self.options
        for _ in range(o.d_steps):
            if self._batches is None:
                self._batches = self.data.batches(o.batch, o.seed, self.nimg)
            sounds, c = next(self._batches)
            real = self.data.medium.tensor(sounds, self.device), c.to(self.device)
            self._phase("D", "main", *real, 1)
            if self.steps % o.penalty_interval == 0:
                self._phase("D", "reg", *real, o.penalty_interval)
            if self.S is not None:
                self._judge_spectrograms(real[0])
            self.nimg += o.batch
            self.steps += 1
        self._phase("G", "main", *real, 1)
        self._average()
        self.check_numbers()

    def _phase(self, name: str, kind: str, real: torch.Tensor, c: torch.Tensor, gain: float) -> None:
        module, optimiser = getattr(self, name), self.optimisers[name]
        z = PRIOR.sample([self.options.batch, self.options.z_dim], torch.default_generator).to(self.device)
        optimiser.zero_grad(set_to_none=True)
        module.requires_grad_(True)
        if name == "G" and self.S is not None:
            self._please_spectrograms(z, c)
        else:
            self.loss.accumulate_gradients(name + kind, real, c, z, c, gain)
        module.requires_grad_(False)
        optimiser.step()

    def _please_spectrograms(self, z, c):
        a = self.loss.adversarial
        logits, further = self.loss.judge_generated(z, c, for_G=True)
        loss = a.G(logits)
        self.loss.stats.add("loss/G", loss)
        seen = a.G(self.S(spectrograms(self._shown)))
        self.loss.stats.add("loss/G_spec", seen)
        (loss + further + self.options.spectrogram_weight * seen).mean().backward()

    def _judge_spectrograms(self, real):
        o, a, S = self.options, self.loss.adversarial, self.S
        self.optimisers["S"].zero_grad(set_to_none=True)
        S.requires_grad_(True)
        reg = self.steps % o.penalty_interval == 0
        fake, real = spectrograms(self._shown.detach()), spectrograms(real).requires_grad_(reg)
        lf, lr = S(fake), S(real)
        self.loss.stats.add("spec/fake", lf)
        self.loss.stats.add("spec/real", lr)
        loss = (a.D_fake(lf) + a.D_real(lr)).mean()
        if reg:
            (slope,) = torch.autograd.grad(lr.sum(), real, create_graph=True)
            loss = loss + o.penalty_interval * o.spectrogram_gamma / 2 * slope.square().flatten(1).sum(1).mean()
        loss.backward()
        S.requires_grad_(False)
        self.optimisers["S"].step()

    def _sounds(self, ws: torch.Tensor) -> torch.Tensor:
        self._shown = self.G(ws[:, 0])
        return self._shown

    @torch.no_grad()
    def _average(self) -> None:
        shown = self.options.d_steps * self.options.batch
        beta = 0.5 ** (shown / max(min(self.options.ema_kimg * 1000, self.nimg * 0.05), 1e-8))
        for average, module in ((self.G_ema, self.G), (self.D_ema, self.D)):
            torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), 1 - beta)

    @property
    def total(self) -> int:
        return max(1, round(self.options.kimg * 1000))

    def values(self) -> dict[str, float]:
        return self.loss.stats.means()

    def clear_values(self) -> None:
        self.loss.stats.clear()

    def check_numbers(self) -> None:
        if not self.loss.stats.finite():
            bad = [name for name, mean in self.loss.stats.means().items() if not math.isfinite(mean)]
            raise TrainingError(
                f"{', '.join(bad)} became nan or infinite after {self.nimg:,} recordings; try a lower --lr or another --gamma"
            )

    def _modules(self) -> dict[str, torch.nn.Module]:
        modules = {"G": self.G, "D": self.D, "G_ema": self.G_ema, "D_ema": self.D_ema, "S": self.S}
        return {name: module for name, module in modules.items() if module is not None}

    def state(self) -> dict[str, Any]:
        """Everything a checkpoint must hold: tensors and plain values."""
        return {
            "options": dataclasses.asdict(self.options),
            **{name: getattr(self, name) for name in ("nimg", "steps", "ticks", "seconds")},
            "modules": {name: m.state_dict() for name, m in self._modules().items()},
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
            "means": self.loss.stats.state(),
            "random": torch.get_rng_state(),
            "random_device": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        on_cuda = self.device.type == "cuda"
        random_device = tensor(torch.cuda.get_rng_state(self.device)) if on_cuda else lambda value, place: None
        form = plain.table(
            {
                **{"nimg": COUNT, "steps": COUNT, "ticks": COUNT, "seconds": SECONDS},
                "modules": plain.table({name: module_state(m) for name, m in self._modules().items()}),
                "optimisers": plain.table({name: adam_state(adam) for name, adam in self.optimisers.items()}),
                "means": running_means,
                "random": random_state,
                "random_device": plain.maybe(random_device),
            },
            more=plain.unchecked,
        )
        state = form(state, "")
        for name, module in self._modules().items():
            module.load_state_dict(state["modules"][name])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        for name in ("nimg", "steps", "ticks", "seconds"):
            setattr(self, name, state[name])
        self.loss.stats.sums = state["means"]
        torch.set_rng_state(state["random"])
        if state["random_device"] is not None:
            torch.cuda.set_rng_state(state["random_device"], self.device)
        self._batches = None

    def record(self) -> dict[str, Any]:
        """What ``training_options.json`` holds."""
        return {"options": dataclasses.asdict(self.options), **loop.about_data(self.data)}

    def begin(self, outdir: Path) -> None:
        """Write ``reals.wav`` and ``reals.png``: some recordings, one after another, and their spectrograms."""
        chosen = np.random.RandomState(0).permutation(len(self.data))[: SIDE * SIDE]
        self._write(outdir / "reals", self.data.sounds(chosen))

    def network_path(self, outdir: Path) -> Path:
        """The file that a snapshot writes now."""
        return outdir / f"network-snapshot-{self.nimg // 1000:06d}.safetensors"

    def snapshot(self, outdir: Path) -> tuple[list[Path], dict[str, Any]]:
        """Write the networks, and ``fakes*.wav`` and ``fakes*.png`` of the same latents every time."""
        network = self.network_path(outdir)
        safetensors_file.write(self.network_file(), network)
        return [network, *self._write(outdir / f"fakes{self.nimg // 1000:06d}", self.samples(SIDE * SIDE))], {}

    def samples(self, count: int) -> np.ndarray:
        """Sounds (count, 1, length) int16 of the averaged generator, of the latents of seed 0."""
        z = PRIOR.of_seed(0, [count, self.options.z_dim]).to(self.device)
        with torch.no_grad():
            return np.stack([self.data.medium.rounded(sound) for part in z.split(16) for sound in self.G_ema(part)])

    def _write(self, path: Path, sounds: np.ndarray) -> list[Path]:
        medium = self.data.medium
        medium.write_sequence(path.with_suffix(".wav"), list(sounds))
        write_png(path.with_suffix(".png"), grid(np.stack([medium.seen(sound) for sound in sounds]), SIDE))
        return [path.with_suffix(".wav"), path.with_suffix(".png")]

    def network_file(self) -> NetworkFile:
        """The networks as they are now, for `network_files.file.save`."""

        def still(module: torch.nn.Module) -> torch.nn.Module:
            return copy.deepcopy(module).eval().requires_grad_(False).cpu()

        D, extra = still(self.D), None
        if isinstance(D, DirectionDiscriminator):
            D, extra = D.trunk, {"direction": direction_tensors(D, still(self.D_ema))}
        about = {"path": os.path.basename(os.path.normpath(self.data.path)), "recordings": len(self.data)}
        networks = {"G": still(self.G), "D": D, "G_ema": still(self.G_ema)}
        return NetworkFile(networks, training_set_kwargs=about, extra=extra)


def build(o: WaveGANOptions) -> tuple[WaveGANGenerator, WaveGANDiscriminator | DirectionDiscriminator]:
    """Fresh networks, on the CPU; their weights come from torch's global random state."""
    G = WaveGANGenerator(o.length, o.z_dim, o.dim, sample_rate=o.sample_rate, z_prior=PRIOR.family)
    D = WaveGANDiscriminator(o.length, o.dim, phase_shuffle=o.phase_shuffle)
    if o.head == "direction":
        return G, DirectionDiscriminator(D, o.z_dim, False, PRIOR.family)
    return G, D


def spectrograms(sounds: torch.Tensor) -> torch.Tensor:
    return decibels(sounds, 256, 64).clamp(min=-60)[:, :, :128] / 30 + 1


def _unmapped(z: torch.Tensor, c: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    """z (N, 1, z_dim) in the place of what a mapping network gives, which a WaveGAN does not have."""
    return z[:, None]


def train(
    data: SoundSet,
    options: WaveGANOptions,
    outdir: str | os.PathLike,
    device: torch.device | str = "cpu",
    *,
    resume: bool = False,
    tick_kimg: float = 4,
    snapshot_ticks: int = 10,
    callback: Callable[[loop.Report], None] | None = None,
) -> Path:
    """Train a WaveGAN, and write its log, networks, samples and checkpoints; see `loop.train`.

    Args:
        data: the recordings, of the options' length and sample rate; ``data.check()`` has been called.
        options: see `WaveGANOptions`.
        outdir, resume, tick_kimg, snapshot_ticks, callback: see `loop.train`.
        device: where to compute.

    Raises:
        TrainingError: the run cannot start as asked, or a loss became nan; the last good checkpoint is named.
    """
    with training_settings(device):
        trainer = WaveGANTrainer(options, data, device)
        rhythm = {"tick_kimg": tick_kimg, "snapshot_ticks": snapshot_ticks}
        return loop.train(trainer, outdir, resume=resume, **rhythm, callback=callback)
