"""StyleGAN2 in training: its networks, its loss, what `--resume` takes from a file, and official pickles."""

import functools
import warnings
from pathlib import Path
from typing import Any

import torch

from ...errors import TrainingError
from ...network_files.file import NetworkFile, save
from ...networks.direction import AttachedDirection, DirectionDiscriminator, latent_weights
from ...networks.discriminators import Discriminator
from ...networks.stylegan2 import Generator
from ..attaching import fit_head
from ..configs import SAMPLINGS, Options
from ..gan_losses import DirectionLoss, StyleGAN2Loss
from ..growing import grown_discriminator, grown_generator
from . import base
from .base import Trained


class Architecture(base.Architecture):
    """A StyleGAN2, whose files are official pickles."""

    title = "StyleGAN2"
    ending = ".pkl"
    fixed_by_file = ("z_dim", "w_dim", "mapping_layers", "mapping_lr")
    changeable = ("channel_base", "channel_max")
    grows = True

    @classmethod
    def settings_of(cls, net: NetworkFile, **changed: Any) -> dict[str, Any]:
        """See the function `settings_of`."""
        return settings_of(net, **changed)

    def build(self) -> tuple[Generator, Discriminator | DirectionDiscriminator]:
        """Fresh networks, on the CPU; their weights come from torch's global random state."""
        o = self.options
        if o.networks is not None:
            return _as_in_file(o)
        shape = dict(c_dim=o.c_dim, img_resolution=o.resolution, img_channels=o.channels)
        G = Generator(
            z_dim=o.z_dim, w_dim=o.w_dim, mapping_kwargs=dict(num_layers=o.mapping_layers, lr_multiplier=o.mapping_lr),
            synthesis_kwargs=o.network_kwargs, **shape,
        )  # fmt: skip
        G.mapping.normalize_z, G.mapping.uniform_z = o.normalize_z, o.uniform_z
        if o.head == "direction":
            # The mapping network begins with large weights for those entries of z that move the direction most. It learns too
            # slowly to find these weights itself.
            G.mapping.fc0.weight.data[:, : o.z_dim] *= latent_weights(o.z_dim)
            trunk = Discriminator(epilogue_kwargs=dict(mbstd_num_channels=0), **o.network_kwargs, **shape)
            return G, DirectionDiscriminator(trunk, o.z_dim, o.normalize_z)
        return G, Discriminator(epilogue_kwargs=dict(mbstd_group_size=o.mbstd_group_size), **o.network_kwargs, **shape)

    def loss(self, device: torch.device, G: torch.nn.Module, D: torch.nn.Module, augment_pipe: Any) -> StyleGAN2Loss:
        """The loss object of a run."""
        o = self.options
        kind = DirectionLoss if o.head == "direction" else StyleGAN2Loss
        weights = {"style_mixing_prob": o.mixing, "r1_gamma": o.gamma, "pl_weight": o.pl_weight, "adversarial": o.loss}
        if o.head == "direction":
            weights["embedding_for"] = o.embedding_for
        return kind(device, G.mapping, G.synthesis, D, augment_pipe, **weights)

    def trained(self, G: torch.nn.Module, D: torch.nn.Module) -> list[Trained]:
        """The networks that are trained: all, the discriminator, or its head."""
        o = self.options
        head, rate = D.outputs if o.train == "head" else None, o.lr

        def one(name: str, module: torch.nn.Module, interval: int, weight: float) -> Trained:
            return Trained(name, module, interval, weight, [{"params": list(module.parameters()), "lr": rate}])

        if head is not None:
            return [one("D", head, 1, 0)]
        trained = [one("G", G, o.G_reg_interval, o.pl_weight)] if o.train == "all" else []
        return [*trained, one("D", D, o.D_reg_interval, o.gamma)]

    def moving(self, G: torch.nn.Module, D: torch.nn.Module) -> list[torch.Tensor]:
        """The mean w; a mapping network of a file may have none."""
        w_avg = getattr(G.mapping, "w_avg", None)
        return [] if w_avg is None else [w_avg]

    def shown(self, G: torch.nn.Module, labels: torch.Tensor) -> torch.nn.Module:
        """The generator itself."""
        return G

    def outputs(self, G: torch.nn.Module, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """Pictures with the stored noise maps."""
        return G(z, c, noise_mode="const")

    def write(self, trainer: Any, path: Path, training_set: dict[str, Any] | None) -> list[Path]:
        """Write an official pickle."""
        with warnings.catch_warnings():  # `save` warns of Cho's sampling, which the command line says once
            warnings.simplefilter("ignore", UserWarning)
            save(self.network_file(trainer, training_set), path)
        return [path]

    def start_from(self, trainer: Any, net: NetworkFile) -> None:
        """Take the weights of a network file; optimisers and counters stay as they are.

        A file of a lower resolution is grown, see `growing`. A head that is put on its discriminator is fitted by regression,
        see `attaching`.

        Raises:
            TrainingError: its networks are of other sizes, or it lacks one.
        """
        if not isinstance(net.G, Generator):
            raise TrainingError(f"{net.file}: it is not a StyleGAN2; training can only go on from one")
        own, other = trainer.G.mapping, net.G.mapping
        same_meaning = {
            "--mapping-lr": (own.fc0.bias_gain, other.fc0.bias_gain),
            "--sampling": (_sampling(own), _sampling(other)),
        }
        for name, (a, b) in same_meaning.items():
            if a != b:
                raise TrainingError(
                    f"{net.file}: it was trained with another {name} ({b}; this run has {a}), on which the meaning of its "
                    "weights depends"
                )
        if self.options.c_dim != net.G.c_dim:
            raise TrainingError(
                f"{net.file}: its networks have {net.G.c_dim} classes and the training set has {self.options.c_dim}; --cond "
                "reads the labels of the training set"
            )
        direction, o = net.direction, self.options
        if net["D"] is None or (
            trainer.D_ema is not None and direction is None and net["D"].compares_batch and not o.attached
        ):
            what = "no discriminator" if net["D"] is None else "a discriminator that compares the pictures of a batch"
            raise TrainingError(f"{net.file}: it has {what}; training cannot go on from it with --head {o.head}")
        pairs = [("G", trainer.G, net["G"] or net.G), ("G_ema", trainer.G_ema, net.G)]
        if trainer.D_ema is None:
            pairs += [("D", trainer.D, net["D"])]
        elif direction is None:
            pairs += [("D", trainer.D.trunk, net["D"]), ("D", trainer.D_ema.trunk, net["D"])]
        else:
            pairs += [("D", trainer.D.trunk, net["D"]), ("D_ema", trainer.D_ema.trunk, direction.trunk)]
            pairs += [("outputs", trainer.D_ema.outputs, direction.outputs)]
            pairs += [("outputs", trainer.D.outputs, net.extra["direction"]["outputs"])]
        for key, module, source in pairs:
            self._fill(key, module, source, net)
        if self.options.train == "head" and not _same(trainer.D.trunk, trainer.D_ema.trunk):
            raise TrainingError(
                f"{net.file}: its head was trained together with the discriminator, so D and its average differ, and a head "
                "for both cannot be trained alone; choose --train discriminator or all"
            )
        if trainer.D_ema is not None and direction is None and o.attached and o.attach_kimg:
            fit_head(trainer.D, functools.partial(self._generated, trainer), round(o.attach_kimg * 1000))
            trainer.D_ema.outputs.load_state_dict(trainer.D.outputs.state_dict())

    @torch.no_grad()
    def _generated(self, trainer: Any, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents (n, z_dim), and their pictures by the averaged generator."""
        z = torch.randn([n, self.options.z_dim], device=trainer.device)
        return z, trainer.G_ema(z, trainer.labels[torch.randint(len(trainer.labels), [n])])

    def _fill(self, key: str, module: torch.nn.Module, source: Any, net: NetworkFile) -> None:
        """Give a module the tensors of a module or table of a network file, which may be one of a lower resolution."""
        tensors = source.state_dict() if isinstance(source, torch.nn.Module) else dict(source)
        if net.G.img_resolution < self.options.resolution and isinstance(module, (Generator, Discriminator)):
            grow = grown_generator if isinstance(module, Generator) else grown_discriminator
            try:
                tensors = grow(module, tensors, net.G.img_resolution)
            except ValueError as e:
                raise TrainingError(f"{net.file}: it cannot grow: {e}") from None
        for name, value in module.state_dict().items():
            if name not in tensors or tensors[name].shape != value.shape:
                shape = tuple(tensors[name].shape) if name in tensors else "missing"
                raise TrainingError(
                    f"{net.file}: {key}.{name} is {shape}; this run has {tuple(value.shape)}. Choose the same sizes "
                    "(--z-dim, --channel-base, --channel-max, ...) and head as the file"
                )
        module.load_state_dict({name: tensors[name] for name in module.state_dict()})


def _as_in_file(o: Options) -> tuple[Generator, Discriminator | DirectionDiscriminator]:
    """Fresh networks of the form of those in a file, but for their resolution."""
    half = dict(num_fp16_res=4, conv_clamp=256) if o.fp16 else {}
    try:
        kwargs = {**o.networks["G"], "img_resolution": o.resolution}
        kwargs["synthesis_kwargs"] = {**(kwargs.get("synthesis_kwargs") or {}), **half}
        G = Generator(**kwargs)
        D = Discriminator(**{**o.networks["D"], "img_resolution": o.resolution, **half})
    except (TypeError, ValueError, KeyError, AttributeError) as e:
        raise TrainingError(
            f"the run's options have arguments of which no networks can be built ({str(e)[:120]})"
        ) from None
    G.mapping.normalize_z, G.mapping.uniform_z = o.normalize_z, o.uniform_z
    if o.head == "direction":
        D = (AttachedDirection if o.attached else DirectionDiscriminator)(D, o.z_dim, o.normalize_z)
    return G, D


def settings_of(net: NetworkFile, **changed: int) -> dict[str, Any]:
    """The settings of `Options` under which networks of the form of a file's are built.

    Args:
        net: the file.
        changed: arguments of both networks that are to be others (channel_base, channel_max, num_fp16_res).

    Raises:
        TrainingError: they are not those of StyleGAN2.
    """
    G, D = net.G, net["D"]
    if not isinstance(G, Generator):
        raise TrainingError(f"{net.file}: it is not a StyleGAN2; training can only go on from one")
    if not isinstance(D, Discriminator):
        what = "no discriminator" if D is None else "a discriminator of another kind than StyleGAN2's"
        raise TrainingError(f"{net.file}: it has {what}; training needs both networks")
    synthesis, groups = {**(G.arguments.get("synthesis_kwargs") or {}), **changed}, D.b4.mbstd
    networks = {"G": {**G.arguments, "synthesis_kwargs": synthesis}, "D": {**D.arguments, **changed}}
    return {
        "resolution": G.img_resolution,
        "channels": G.img_channels,
        "z_dim": G.z_dim,
        "w_dim": G.w_dim,
        "mapping_layers": G.mapping.num_layers,
        "mapping_lr": G.mapping.fc0.bias_gain,
        "mbstd_group_size": 1 if groups is None else groups.group_size or 10**6,
        "networks": networks,
        "attached": net.direction is None or isinstance(net.direction, AttachedDirection),
        **{name: synthesis[name] for name in ("channel_base", "channel_max") if name in synthesis},
    }


def _sampling(mapping: torch.nn.Module) -> str:
    """What ``--sampling`` says of a mapping network."""
    return next(name for name, flags in SAMPLINGS.items() if flags == (mapping.normalize_z, mapping.uniform_z))


def _same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    """True if two modules of the same form have the same weights."""
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))
