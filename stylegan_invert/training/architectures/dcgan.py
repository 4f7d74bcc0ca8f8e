"""DCGAN in training: a generator with batch normalisation, and a discriminator without."""

from pathlib import Path
from typing import Any

import torch

from ...errors import TrainingError
from ...files.writing import atomic
from ...network_files.file import NetworkFile
from ...networks.dcgan import DCGAN, Discriminator, Layer
from ..standing import with_standing_statistics
from . import base
from .dcgan_options import DCGANOptions

DEVIATION = 0.02  # of the first weights, and of the normalisations' weights around one; Radford et al., section 4


class Architecture(base.Architecture):
    """A DCGAN of the form of ``faces64``."""

    title = "DCGAN"
    fixed_by_file = ("z_dim", "width")

    @classmethod
    def settings_of(cls, net: NetworkFile, **changed: Any) -> dict[str, Any]:
        """The settings of `DCGANOptions` under which networks of the form of a file's are built.

        Raises:
            TrainingError: they are of another kind, or of a form that no options give.
        """
        G, D = net.G, net["D"]
        if not isinstance(G, DCGAN) or not isinstance(D, Discriminator):
            raise TrainingError(f"{net.file}: training can only go on from a file with a DCGAN and its discriminator")
        width = D.init_kwargs["channels"]
        settings = {"resolution": G.img_resolution, "channels": G.img_channels, "z_dim": G.z_dim, "width": width}
        made = [network.init_kwargs for network in cls(DCGANOptions.for_resolution(**settings)).bare()]
        if made != [G.init_kwargs, D.init_kwargs]:
            raise TrainingError(f"{net.file}: training can only go on from networks that --arch dcgan builds")
        return settings

    def build(self) -> tuple[torch.nn.Module, torch.nn.Module]:
        """Fresh networks."""
        G, D = self.bare()
        for network in (G, D):
            for module in network.modules():
                if isinstance(module, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)):
                    torch.nn.init.normal_(module.weight, std=DEVIATION)
                if isinstance(module, torch.nn.BatchNorm2d):
                    torch.nn.init.normal_(module.weight, 1, DEVIATION)
        return G, self.with_head(D)

    def bare(self) -> tuple[DCGAN, Discriminator]:
        """The two networks in the form that files hold, with random weights."""
        o = self.options
        count = o.resolution.bit_length() - 3
        widths = [o.z_dim, *(o.width << i for i in reversed(range(count)))]
        inner = [Layer("transposed", n, m, 4, bias=False) for n, m in zip(widths, widths[1:])]
        last = Layer("transposed", widths[-1], o.channels, 4, bias=True, norm="none")
        return DCGAN([*inner, last]), Discriminator(o.resolution, o.channels, o.width)

    def shown(self, G: torch.nn.Module, labels: torch.Tensor) -> torch.nn.Module:
        """A finished copy of a generator with standing statistics."""
        return with_standing_statistics(self.finished(G), labels, self.options)

    def write(self, trainer: Any, path: Path, training_set: dict[str, Any] | None) -> list[Path]:
        """Write a safetensors file with everything, and the newest averaged generator as a plain state dict."""
        written, place = super().write(trainer, path, training_set), path.with_name("G_ema.pt")
        with atomic(place) as temporary:
            torch.save(self.finished(self.shown(trainer.G_ema, trainer.labels)).state_dict(), temporary)
        return [*written, place]
