"""ProGAN in training: equalised learning rates, and growth from 4x4 on."""

import math
from typing import Any

import torch

from ...errors import TrainingError
from ...network_files.file import NetworkFile
from ...networks.progan import Discriminator, Generator, average, repeat
from ...networks.trained_weights import equalise
from . import base
from .progan_options import ProGANOptions

LRELU = math.sqrt(2)


class Architecture(base.Architecture):
    """A ProGAN. Unlike official ones it has a bias for each number of the first map, and not for each of its channels."""

    title = "ProGAN"
    fixed_by_file = ("z_dim", "fmap_base", "fmap_max", "grow_kimg", "fade_kimg")
    lod = 0.0

    @classmethod
    def settings_of(cls, net: NetworkFile, **changed: Any) -> dict[str, Any]:
        """The settings of `ProGANOptions` under which networks of the form of a file's are built.

        Raises:
            TrainingError: they are of another kind, or of a form that no options give, or not fully grown.
        """
        G, D = net.G, net["D"]
        if not isinstance(G, Generator) or not isinstance(D, Discriminator):
            raise TrainingError(f"{net.file}: training can only go on from a file with a ProGAN and its discriminator")
        about = G.init_kwargs
        settings = {
            "resolution": G.img_resolution,
            "channels": G.img_channels,
            "z_dim": G.z_dim,
            **{name: int(about[name]) for name in ("fmap_base", "fmap_max")},
            **{"grow_kimg": 0.0, "fade_kimg": 0.0},
            "head": "direction" if D.b4.mbstd is None else "none",
        }
        if D.b4.mbstd is not None:
            settings["mbstd_group_size"] = D.init_kwargs["mbstd_group_size"]
        made = [network.init_kwargs for network in cls(ProGANOptions.for_resolution(**settings)).bare()]
        if made != [about, D.init_kwargs]:
            raise TrainingError(
                f"{net.file}: training can only go on from networks that --arch progan builds, and that are fully grown"
            )
        return {name: value for name, value in settings.items() if name != "head"}

    def build(self) -> tuple[torch.nn.Module, torch.nn.Module]:
        """Fresh networks with equalised learning rates."""
        G, D = self.bare()
        equalise(G.dense, G.z_dim, LRELU, share=0.25)
        for r in G.resolutions:
            block = getattr(G, f"b{r}")
            if block.conv0 is not None:
                equalise(block.conv0, 9 * block.conv0.in_channels, LRELU, wide=True)
            equalise(block.conv1, 9 * block.conv1.in_channels, LRELU)
            equalise(block.torgb, block.torgb.in_channels, 1)
        for r in D.resolutions[1:]:
            block = getattr(D, f"b{r}")
            equalise(block.conv0, 9 * block.conv0.in_channels, LRELU)
            equalise(block.conv1, 9 * block.conv1.in_channels, LRELU, wide=True, share=0.25)
        for r in D.resolutions:
            equalise(getattr(D, f"b{r}").fromrgb, D.img_channels, LRELU)
        equalise(D.b4.conv, 9 * D.b4.conv.in_channels, LRELU)
        equalise(D.b4.fc, D.b4.fc.in_features, LRELU)
        equalise(D.b4.out, D.b4.out.in_features, 1)
        return G, self.with_head(D)

    def bare(self) -> tuple[Generator, Discriminator]:
        """The two networks in the form that files hold."""
        o = self.options
        sizes = dict(img_resolution=o.resolution, img_channels=o.channels, fmap_base=o.fmap_base, fmap_max=o.fmap_max)
        groups = 0 if o.head == "direction" else o.mbstd_group_size
        return Generator(z_dim=o.z_dim, **sizes), Discriminator(mbstd_group_size=groups, **sizes)

    def prepare(self, nimg: int, networks: list[torch.nn.Module], phases: list[Any]) -> None:
        """Set the level of detail, and forget the means of both optimisers where a resolution begins or ends to be faded in."""
        before, self.lod = self.lod, self.options.lod(nimg)
        for network in networks:
            getattr(network, "trunk", network).lod = self.lod
        if (math.floor(before), math.ceil(before)) != (math.floor(self.lod), math.ceil(self.lod)):
            for phase in phases:
                phase.optimiser.state.clear()

    def real(self, outputs: torch.Tensor) -> torch.Tensor:
        """Pictures at the present resolution, blended with those of half that side while it is faded in."""
        whole, fade = int(self.lod), self.lod - int(self.lod)
        x = average(outputs, 2**whole)
        if fade:
            x = x.lerp(repeat(average(x, 2), 2), fade)
        return repeat(x, 2**whole)
