"""WaveGAN in training: uniform latents, samples that are heard and seen, and a discriminator of spectrograms if asked for."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...analysis.digits import Judgement, judge, set_measures
from ...analysis.distribution import FEWEST
from ...analysis.sheets import grid
from ...errors import TrainingError
from ...generator.prior import Prior
from ...media.pictures import write_png
from ...media.sound_medium import Sounds
from ...media.sound_set import SoundSet
from ...network_files.file import NetworkFile
from ...networks.direction import DirectionDiscriminator
from ...networks.wavegan import SpectrogramDiscriminator, WaveGANDiscriminator, WaveGANGenerator
from ..gan_losses import GANLoss
from ..spectrogram_loss import LOSSES, SECOND, spectrograms
from . import base

PRIOR = Prior("uniform")
SIDE = 4  # rows and columns of a sheet of spectrograms


class Architecture(base.Architecture):
    """A WaveGAN. Its training sets are recordings, without classes."""

    title = "WaveGAN"
    data_class = SoundSet
    fixed_by_file = ("dim", "z_dim")

    @property
    def medium(self) -> Sounds:
        """The medium of the sounds."""
        return Sounds((1, self.options.length), self.options.sample_rate)

    @classmethod
    def data(cls, path: str, chosen: dict[str, Any], sizes: dict[str, Any]) -> SoundSet:
        """The training set that options of the command line name."""
        sizes.pop("resolution", None)
        shape = {
            "length": sizes.pop("length", None) or chosen["length"],
            "sample_rate": sizes.pop("sample_rate", None) or chosen["sample_rate"],
        }
        patterns = {name: [p for p in (chosen[name] or "").split(",") if p] for name in ("only", "leave_out")}
        return SoundSet(path, **shape, level=chosen["level"], **patterns)

    def as_outputs(self, batch: torch.Tensor, device: torch.device) -> torch.Tensor:
        """A batch of the training set as the discriminator is shown it."""
        return self.medium.tensor(batch, device)

    def build(self) -> tuple[torch.nn.Module, torch.nn.Module]:
        """Fresh networks; the discriminator has that of spectrograms in it, if there is one."""
        o = self.options
        G = WaveGANGenerator(o.length, o.z_dim, o.dim, sample_rate=o.sample_rate, z_prior=PRIOR.family)
        D: torch.nn.Module = WaveGANDiscriminator(o.length, o.dim, phase_shuffle=o.phase_shuffle)
        if o.head == "direction":
            D = DirectionDiscriminator(D, o.z_dim, False, PRIOR.family)
        if o.spectrogram_weight:
            shape = spectrograms(torch.zeros([1, 1, o.length])).shape[1:]
            D.add_module(SECOND, SpectrogramDiscriminator(*shape, dim=o.dim))
        return G, D

    def loss(self, device: torch.device, G: torch.nn.Module, D: torch.nn.Module, augment_pipe: Any) -> GANLoss:
        """The loss object of a run."""
        o = self.options
        settings: dict[str, Any] = {"r1_gamma": o.gamma, "adversarial": o.loss}
        if o.spectrogram_weight:
            settings |= {"spectrogram_weight": o.spectrogram_weight, "spectrogram_gamma": o.spectrogram_gamma}
        if o.head == "direction":
            settings["embedding_for"] = o.embedding_for
        return LOSSES[o.head, o.spectrogram_weight > 0](device, lambda z, c: G(z), D, None, **settings)

    def latents(self, n: int, device: torch.device) -> torch.Tensor:
        """Latents (n, z_dim) between -1 and 1, of torch's random state."""
        return torch.rand([n, self.options.z_dim], device=device) * 2 - 1

    def finished(self, network: torch.nn.Module) -> torch.nn.Module:
        """As in the base class, and without the discriminator of spectrograms, which files do not hold."""
        network = copy.deepcopy(network)
        network._modules.pop(SECOND, None)
        return super().finished(network)

    def _take(self, module: torch.nn.Module, source: Any, net: NetworkFile, key: str) -> None:
        second = module._modules.pop(SECOND, None)
        super()._take(module, source, net, key)
        if second is not None:
            module.add_module(SECOND, second)

    @classmethod
    def settings_of(cls, net: NetworkFile, **changed: Any) -> dict[str, Any]:
        """The settings of `WaveGANOptions`, and of the training set, under which networks of the form of a file's are built.

        Raises:
            TrainingError: they are of another kind, or of a form that no options give.
        """
        G, D = net.G, net["D"]
        if not isinstance(G, WaveGANGenerator) or not isinstance(D, WaveGANDiscriminator):
            raise TrainingError(f"{net.file}: training can only go on from a file with a WaveGAN and its discriminator")
        about = {"length": G.length, "sample_rate": G.sample_rate, "z_dim": G.z_dim, "dim": G.init_kwargs["dim"]}
        made = WaveGANGenerator(**about), WaveGANDiscriminator(G.length, about["dim"])
        for fresh, there in zip(made, (G, D)):
            other = {n for n, v in fresh.init_kwargs.items() if there.init_kwargs[n] != v} - {"phase_shuffle"}
            if other:
                raise TrainingError(
                    f"{net.file}: training cannot go on from such networks, because of their {', '.join(sorted(other))}; "
                    "--arch wavegan builds those of official code"
                )
        return about

    # Samples and measures

    def side(self) -> int:
        """The rows and columns of a sheet of spectrograms."""
        return SIDE

    def outputs(self, G: torch.nn.Module, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """Sounds (N, 1, length) of a generator."""
        return G(z)

    def write_samples(self, path: Path, outputs: torch.Tensor) -> None:
        """Write a sheet of spectrograms, and beside it the sounds one after another."""
        self._write(path, np.stack([self.medium.rounded(sound) for sound in outputs]))

    def write_reals(self, path: Path, data: SoundSet) -> None:
        """As `write_samples`, of recordings of the training set."""
        self._write(path, data.sounds(np.random.RandomState(0).permutation(len(data))[: SIDE * SIDE]))

    def _write(self, path: Path, sounds: np.ndarray) -> None:
        self.medium.write_sequence(path.with_suffix(".wav"), list(sounds))
        write_png(path, self._sheet(sounds))

    def sheet(self, outputs: torch.Tensor) -> np.ndarray:
        """A sheet (C, H, W) uint8 of the spectrograms of sounds (N, 1, length)."""
        return self._sheet(np.stack([self.medium.rounded(sound) for sound in outputs]))

    def _sheet(self, sounds: np.ndarray) -> np.ndarray:
        return grid(np.stack([self.medium.seen(sound) for sound in sounds]), SIDE)

    def about_training_set(self, data: SoundSet) -> dict[str, Any]:
        """The record of the training set in a network file, without the path on the machine where it was made."""
        return {**data.arguments, "path": Path(data.path).resolve().name, "recordings": len(data.names)}

    def measures(self, trainer: Any, samples: int) -> dict[str, Any]:
        """What the classifier of spoken digits says of generated sounds, see `analysis.digits.set_measures`."""
        data, rate = trainer.data, self.options.sample_rate
        if min(len(data), samples) < FEWEST:
            return {}
        if self._judged is None:
            chosen = np.random.RandomState(0).permutation(len(data))[:samples]
            self._judged = judge(self.medium.tensor(data.sounds(chosen), "cpu"), rate)
        z = PRIOR.sample([samples, self.options.z_dim], torch.Generator().manual_seed(0)).to(trainer.device)
        with torch.no_grad():
            return set_measures(self._judged, judge((trainer.G_ema(part).cpu() for part in z.split(50)), rate))

    _judged: Judgement | None = None
