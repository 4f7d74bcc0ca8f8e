"""BigGAN in training: spectral normalisation, orthogonal regularisation, standing statistics, and files of BigGAN-PyTorch."""

from pathlib import Path
from typing import Any

import torch
from torch.nn.utils import parametrize

from ...errors import TrainingError
from ...network_files.families import biggan as files
from ...network_files.file import NetworkFile
from ...networks.biggan import BigGAN, Discriminator, Statistics
from ...networks.trained_weights import SpectralNorm, named_weights
from ..standing import with_standing_statistics
from . import base
from .biggan_options import BigGANOptions

MOMENTUM = 0.1  # of the running statistics
UNDIVIDED = "shared"  # the embedding of the class, whose weight is neither normalised nor regularised

WIDTHS = {
    32: ([4, 4, 4, 4], [4, 4, 4, 4]),
    64: ([16, 16, 8, 4, 2], [1, 2, 4, 8, 16]),
    128: ([16, 16, 8, 4, 2, 1], [1, 2, 4, 8, 16, 16]),
    256: ([16, 16, 8, 8, 4, 2, 1], [1, 2, 4, 8, 8, 16, 16]),
}
"""By resolution, in units of ``ch``: the channels of the generator's first map and of each of its blocks, and those of the
blocks of the discriminator. Source: ``G_arch`` and ``D_arch`` of BigGAN-PyTorch. Below 32 all widths are 4."""


class Architecture(base.Architecture):
    """A BigGAN. A training set without labels gives a network of one class."""

    title = "BigGAN"
    fixed_by_file = ("z_dim", "ch", "shared_dim", "attention", "D_attention")

    @classmethod
    def settings_of(cls, net: NetworkFile, **changed: Any) -> dict[str, Any]:
        """The settings of `BigGANOptions` under which networks of the form of a file's are built.

        Raises:
            TrainingError: they are of another kind, or of a form that no options give.
        """
        G, D = net.G, net["D"]
        if not isinstance(G, BigGAN) or not isinstance(D, Discriminator):
            raise TrainingError(f"{net.file}: training can only go on from a file with a BigGAN and its discriminator")
        about, other = G.arguments, D.arguments
        widths = WIDTHS.get(G.img_resolution, ([4], [4]))
        D_sides = _sides_of_D(G.img_resolution, len(other["blocks"]))
        settings = {
            "resolution": G.img_resolution,
            "channels": G.img_channels,
            "z_dim": G.z_dim,
            "shared_dim": about["shared_dim"],
            "ch": about["channels"][0] // widths[0][0],
            "attention": next((8 << i for i in about.get("attention", ())), 0),
            "D_attention": next((D_sides[i] for i in other.get("attention", ())), 0),
        }
        try:
            options = BigGANOptions.for_resolution(**settings, c_dim=G.c_dim)
            made = [network.arguments for network in cls(options).bare()]
        except TrainingError as e:
            raise TrainingError(f"{net.file}: training cannot go on from such networks: {e}") from None
        for mine, there in zip(made, (about, other)):
            if any(there.get(name, value) != value for name, value in mine.items()):
                raise TrainingError(
                    f"{net.file}: its networks have other widths or layers than those that --arch biggan builds"
                )
        return settings

    def labels(self, labels: torch.Tensor) -> torch.Tensor:
        """The labels (N, classes), which are ones in a network of one class."""
        return labels if labels.shape[1] else labels.new_ones([len(labels), 1])

    def build(self) -> tuple[torch.nn.Module, torch.nn.Module]:
        """Fresh networks with orthogonal weights; every weight but that of the class embedding is normalised."""
        G, D = self.bare()
        for network in (G, D):
            _in_training_form(network)
        return G, self.with_head(D)

    def bare(self) -> tuple[BigGAN, Discriminator]:
        """The two networks in the form that files hold, with random weights."""
        o, classes = self.options, max(1, self.options.c_dim)
        count = o.resolution.bit_length() - 3
        G_widths, D_widths = WIDTHS.get(o.resolution, ([4] * (count + 1), [4] * (count + 1)))
        sides = [8 << i for i in range(count)]
        attention = [sides.index(o.attention)] if o.attention else []
        G = BigGAN(
            o.z_dim,
            classes,
            o.shared_dim,
            [o.ch * width for width in G_widths],
            attention,
            img_channels=o.channels,
        )
        D = Discriminator(classes, o.resolution, o.channels, self._blocks(D_widths), self._attended(len(D_widths)))
        return G, D

    def _blocks(self, widths: list[int]) -> list[list[int | bool]]:
        """The discriminator's blocks. All but the last halve the side, and at 32x32 all but the last two."""
        o, halvings = self.options, 2 if self.options.resolution == 32 else len(widths) - 1
        out = [o.ch * width for width in widths]
        return [[before, n, n, i < halvings] for i, (before, n) in enumerate(zip([o.channels, *out], out))]

    def _attended(self, count: int) -> list[int]:
        """The numbers of the discriminator's blocks that attention comes after."""
        sides = _sides_of_D(self.options.resolution, count)
        return [i for i, side in enumerate(sides) if side == self.options.D_attention]

    def regularise(self, name: str, module: torch.nn.Module) -> None:
        """Add the gradient of the orthogonal regularisation to those of the generator."""
        if name == "G" and self.options.ortho:
            add_orthogonal_gradients(module, self.options.ortho)

    def shown(self, G: torch.nn.Module, labels: torch.Tensor) -> torch.nn.Module:
        """A finished copy of a generator with standing statistics."""
        return with_standing_statistics(self.finished(G), labels, self.options)

    def write(self, trainer: Any, path: Path, training_set: dict[str, Any] | None) -> list[Path]:
        """Write a safetensors file with everything, and the newest networks as BigGAN-PyTorch has them."""
        written = super().write(trainer, path, training_set)
        D = trainer.D if trainer.D_ema is None else trainer.D.trunk
        G_ema = self.shown(trainer.G_ema, trainer.labels)
        networks = {"G_ema": (trainer.G_ema, G_ema), "G": (trainer.G, trainer.G), "D": (D, D)}
        for name, (network, with_statistics) in networks.items():
            place = path.with_name(f"{name}.pth")
            files.write_state_dict(network, place, statistics_of=with_statistics)
            written.append(place)
        return written


def _sides_of_D(resolution: int, count: int) -> list[int]:
    """The sides of the maps behind the discriminator's blocks, by which BigGAN-PyTorch names the places of attention.

    At 32x32 it calls all four 16.
    """
    return [16] * count if resolution == 32 else [max(resolution >> (i + 1), 4) for i in range(count)]


def _in_training_form(network: torch.nn.Module) -> None:
    for name, module in named_weights(network).items():
        torch.nn.init.orthogonal_(module.weight)
        if name != UNDIVIDED:
            parametrize.register_parametrization(
                module, "weight", SpectralNorm(module.weight, transposed=name == "embed")
            )
    for module in network.modules():
        if isinstance(module, Statistics):
            module.momentum = MOMENTUM


def add_orthogonal_gradients(G: torch.nn.Module, strength: float) -> None:
    """Add to the gradients of a generator those of strength * |W W^T (1 - I)|^2, summed over its weights W (out, ...).

    Weights are what is trained, before they are divided by their spectral norm. The class embedding is left out.

    Source: Brock et al. 2019, equation 3; BigGAN-PyTorch's ``ortho`` takes half of this gradient.
    """
    for name, p in G.named_parameters():
        if p.ndim < 2 or name.partition(".")[0] == UNDIVIDED:
            continue
        w = p.detach().flatten(1)
        products = w @ w.t()
        gradient = (products.fill_diagonal_(0) @ w).mul_(4 * strength).view_as(p)
        p.grad = gradient if p.grad is None else p.grad.add_(gradient)
