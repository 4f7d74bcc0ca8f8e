"""Training a GAN: networks, optimisers, averages, sample grids, network files; `train` begins and resumes runs."""

import copy
import dataclasses
import functools
import math
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..analysis.distribution import FEWEST, PictureFeatures, distances, generated_pictures
from ..analysis.sheets import grid
from ..errors import TrainingError
from ..files import plain
from ..files.saved import tensor
from ..generator import adapt
from ..media.picture_set import PictureSet
from ..media.pictures import as_images, generator_pixels, write_png
from ..network_files.families.direction_head import direction_tensors
from ..network_files.file import NetworkFile, save
from ..networks.direction import AttachedDirection, DirectionDiscriminator, latent_weights
from ..networks.discriminators import Discriminator
from ..networks.stylegan2 import Generator
from ..ops import native
from . import distributed, loop
from .attaching import fit_head
from .augment import AugmentPipe
from .configs import SAMPLINGS, Options
from .gan_losses import DirectionLoss, StyleGAN2Loss
from .growing import grown_discriminator, grown_generator
from .precision import training_settings
from .state import COUNT, SECONDS, adam_state, module_state, random_state, running_means

STATE = {
    "options",
    "nimg",
    "steps",
    "ticks",
    "seconds",
    "modules",
    "optimisers",
    "pl_mean",
    "real_signs",
    "random",
    "random_device",
}

RHYTHM = {"metric_samples": plain.whole()}
"""The forms of what 'rhythm' in ``training_options.json`` holds besides the intervals; see `loop.read_options`."""


@dataclasses.dataclass
class Phase:
    """One of the phases of a step: Gmain, Greg, Dmain and Dreg, or Gboth and Dboth where every step regularises.

    Attributes:
        name: as `StyleGAN2Loss.accumulate_gradients` takes it.
        module: the network that is trained.
        optimiser: its optimiser, which the main and the regularising phase share.
        interval: the phase comes every so many steps.
    """

    name: str
    module: torch.nn.Module
    optimiser: torch.optim.Optimizer
    interval: int


def build(options: Options) -> tuple[Generator, Discriminator | DirectionDiscriminator]:
    """Fresh networks, on the CPU; their weights come from torch's global random state."""
    o = options
    if o.networks is not None:
        return _build_as_in_file(o)
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


def _build_as_in_file(o: Options) -> tuple[Generator, Discriminator | DirectionDiscriminator]:
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


class GANTrainer:
    """A GAN in training: the `loop.Trainer` of StyleGAN2 networks.

    Args:
        options: see `Options`.
        data: the pictures; ``data.check()`` has been called.
        device: where to compute.
        metric_samples: pictures on each side, at most, for the distance to the training set that a snapshot is given; fewer
            than 8 give none.

    Attributes:
        G: the generator as it is trained.
        D: the discriminator as it is trained.
        G_ema: the average of G over the last pictures.
        D_ema: the average of D; None without a direction head.
        nimg: the real pictures shown so far.
        steps: the batches so far.
        ticks: see `loop.Trainer`.
        seconds: see `loop.Trainer`.
        loss: the loss object; ``loss.stats`` has the means of its values.
        round: the pictures per round; ``batch_gpu``, or the share of one process in a batch if that is less.
        labels: the labels (N, c_dim) of the pictures, on ``device``.
        started_from: the name of the network file that `start_from` took weights from, or None.
    """

    shared = True

    def __init__(
        self,
        options: Options,
        data: PictureSet,
        device: torch.device | str = "cpu",
        metric_samples: int = 0,
    ):
        self.options = o = options
        self.data = data
        self.device = device = torch.device(device)
        self.on_cuda = device.type == "cuda"
        self.labels = torch.from_numpy(data.labels).to(device)
        # A training is long enough for a build to pay at every size: at 32x32 it needs seven tenths of the time.
        native.made_network(native.PAYING_RESOLUTION)
        self.round = distributed.round_size(o.batch, o.batch_gpu)
        if self.round != o.batch_gpu:
            dataclasses.replace(o, batch_gpu=self.round)  # raises if the discriminator cannot compare so many pictures
        torch.manual_seed(o.seed)
        G, D = (network.train().requires_grad_(False).to(device) for network in build(o))
        self.G, self.D = G, D
        self.G_ema = copy.deepcopy(G).eval()
        self.D_ema = copy.deepcopy(D).eval() if o.head == "direction" else None
        self.augment_pipe = None if o.augment == "none" else AugmentPipe(o.augment_p).to(device)
        self.nimg = self.steps = self.ticks = 0
        self.seconds = 0.0
        self.metric_samples = metric_samples
        self.started_from: str | None = None
        # A generator that is not trained is the averaged one, which is the generator to use.
        shown = G if o.train == "all" else self.G_ema
        G.train(o.train == "all")
        kind = DirectionLoss if o.head == "direction" else StyleGAN2Loss
        weights = {"style_mixing_prob": o.mixing, "r1_gamma": o.gamma, "pl_weight": o.pl_weight, "adversarial": o.loss}
        if o.head == "direction":
            weights["embedding_for"] = o.embedding_for
        self.loss = kind(device, shown.mapping, shown.synthesis, D, self.augment_pipe, **weights)
        self.phases = []
        for name, module, interval, weight in self._trained():
            # Lazy regularisation adds steps; rate and decays are corrected for them (Karras et al. 2020, appendix B).
            lazy = weight != 0 and interval > 1
            ratio = interval / (interval + 1) if lazy else 1
            adam = torch.optim.Adam(
                module.parameters(), lr=o.lr * ratio, betas=(o.beta1**ratio, o.beta2**ratio), eps=1e-8
            )
            only = "head" if o.train == "head" else "both" if weight and not lazy else "main"
            self.phases.append(Phase(name + only, module, adam, 1))
            if lazy:
                self.phases.append(Phase(name + "reg", module, adam, interval))
        self._batches: Iterator[tuple[torch.Tensor, torch.Tensor]] | None = None

    def _trained(self) -> list[tuple[str, torch.nn.Module, int, float]]:
        """The networks that are trained: name, module, and interval and weight of its regularisation."""
        o = self.options
        if o.train == "head":
            return [("D", self.D.outputs, 1, 0)]
        trained = [("G", self.G, o.G_reg_interval, o.pl_weight)] if o.train == "all" else []
        return [*trained, ("D", self.D, o.D_reg_interval, o.gamma)]

    def start_from(self, net: NetworkFile) -> None:
        """Take the weights of a network file; optimisers and counters stay as they are.

        A file of a lower resolution is grown, see `growing`. A head that is put on its discriminator is fitted by regression,
        see `attaching`.

        Raises:
            TrainingError: its networks are of other sizes, or it lacks one.
        """
        if not isinstance(net.G, Generator):
            raise TrainingError(f"{net.file}: it is not a StyleGAN2; training can only go on from one")
        own, other = self.G.mapping, net.G.mapping
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
            self.D_ema is not None and direction is None and net["D"].compares_batch and not o.attached
        ):
            what = "no discriminator" if net["D"] is None else "a discriminator that compares the pictures of a batch"
            raise TrainingError(f"{net.file}: it has {what}; training cannot go on from it with --head {o.head}")
        pairs = [("G", self.G, net["G"] or net.G), ("G_ema", self.G_ema, net.G)]
        if self.D_ema is None:
            pairs += [("D", self.D, net["D"])]
        elif direction is None:
            pairs += [("D", self.D.trunk, net["D"]), ("D", self.D_ema.trunk, net["D"])]
        else:
            pairs += [("D", self.D.trunk, net["D"]), ("D_ema", self.D_ema.trunk, direction.trunk)]
            pairs += [("outputs", self.D_ema.outputs, direction.outputs)]
            pairs += [("outputs", self.D.outputs, net.extra["direction"]["outputs"])]
        for key, module, source in pairs:
            self._take(key, module, source, net)
        if self.options.train == "head" and not _same(self.D.trunk, self.D_ema.trunk):
            raise TrainingError(
                f"{net.file}: its head was trained together with the discriminator, so D and its average differ, and a head "
                "for both cannot be trained alone; choose --train discriminator or all"
            )
        if self.D_ema is not None and direction is None and o.attached and o.attach_kimg:
            fit_head(self.D, self._generated, round(o.attach_kimg * 1000))
            self.D_ema.outputs.load_state_dict(self.D.outputs.state_dict())
        self.started_from = net.file

    @torch.no_grad()
    def _generated(self, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents (n, z_dim), and their pictures by the averaged generator."""
        z = torch.randn([n, self.options.z_dim], device=self.device)
        return z, self.G_ema(z, self.labels[torch.randint(len(self.labels), [n])])

    def _take(self, key: str, module: torch.nn.Module, source: Any, net: NetworkFile) -> None:
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

    def step(self) -> None:
        """Show one batch: carry out every phase that is due, then update the averages and the strength of augmentation.

        Raises:
            TrainingError: a loss is NaN or infinite.
        """
        o, rounds = self.options, self.options.batch // self.round
        own = distributed.share(rounds)
        if self._batches is None:
            rows = range(own.start * self.round, own.stop * self.round)
            self._batches = self.data.batches(o.batch, o.seed, self.nimg, self.on_cuda, rows)
        img, c = next(self._batches)
        # Pinned memory is copied to a GPU while the program goes on.
        img = as_images(img.to(self.device, non_blocking=self.on_cuda), self.device).split(self.round)
        c = c.to(self.device, non_blocking=self.on_cuda).split(self.round)
        if isinstance(self.loss, DirectionLoss):
            self.loss.embedding_weight = o.lambda_embedding(self.nimg)
        for phase in self.phases:
            if self.steps % phase.interval:
                continue
            z = torch.randn([o.batch, o.z_dim], device=self.device).split(self.round)
            drawn = torch.randint(len(self.labels), [o.batch], device=self.device)
            gen_c = self.labels[drawn].split(self.round)

            def compute(i: int, phase: Phase = phase, z: Any = z, gen_c: Any = gen_c) -> None:
                real = img[i - own.start], c[i - own.start]
                self.loss.accumulate_gradients(phase.name, *real, z[i], gen_c[i], gain=phase.interval / rounds)

            phase.optimiser.zero_grad(set_to_none=True)
            phase.module.requires_grad_(True)
            w_avg = getattr(self.loss.G_mapping, "w_avg", None)  # a mapping network of a file may have none
            averages = [self.loss.pl_mean, *([] if w_avg is None else [w_avg])]
            statistics = [self.loss.stats, self.loss.real_signs]
            distributed.in_rounds(compute, rounds, list(phase.module.parameters()), averages, statistics)
            phase.module.requires_grad_(False)
            for p in phase.module.parameters():
                if p.grad is not None:  # half precision may overflow now and then
                    torch.nan_to_num(p.grad, nan=0, posinf=1e5, neginf=-1e5, out=p.grad)
            phase.optimiser.step()
        self._average()
        self.nimg += o.batch
        self.steps += 1
        if o.augment == "ada" and self.steps % o.ada_interval == 0:
            self._adapt()
        # Reading a number makes a GPU wait, so there it is done every 20 steps. Nothing else in a step waits.
        if self.device.type == "cpu" or self.steps % 20 == 0:
            self.check_numbers()

    @property
    def total(self) -> int:
        """The pictures to show in all."""
        return max(1, round(self.options.kimg * 1000))

    def values(self) -> dict[str, float]:
        """The strength of augmentation, and the means in ``loss.stats``."""
        strength = {} if self.augment_pipe is None else {"augment_p": float(self.augment_pipe.p)}
        return {**strength, **self.loss.stats.means()}

    def clear_values(self) -> None:
        """Begin new means."""
        self.loss.stats.clear()

    def check_numbers(self) -> None:
        """Raise TrainingError if a loss was NaN or infinite since the last `clear_values`."""
        if not self.loss.stats.finite():
            bad = [name for name, mean in self.loss.stats.means().items() if not math.isfinite(mean)]
            raise TrainingError(
                f"{', '.join(bad)} became nan or infinite after {self.nimg:,} pictures; try a lower --lr or another --gamma"
            )

    def _adapt(self) -> None:
        """ADA (adaptive augmentation): augment more while D is too sure of real pictures, and less while it is not.

        Source: Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data", section 3.1.
        """
        o = self.options
        total, count = self.loss.real_signs.sums.get("sign", (0.0, 1))
        self.loss.real_signs.clear()
        p = self.augment_pipe.p
        # Computed where p is, so that a GPU need not be waited for.
        excess = torch.as_tensor(total, dtype=p.dtype, device=p.device) - o.ada_target * count
        change = torch.full_like(p, o.batch * o.ada_interval / (o.ada_kimg * 1000))
        p.copy_((p + torch.copysign(change, excess)).clamp_min(0))

    @torch.no_grad()
    def _average(self) -> None:
        o = self.options
        half_life = o.ema_kimg * 1000
        if o.ema_rampup > 0:
            half_life = min(half_life, self.nimg * o.ema_rampup)
        beta = 0.5 ** (o.batch / max(half_life, 1e-8))
        pairs = [(self.G_ema, self.G)] if o.train == "all" else []
        if self.D_ema is not None:
            pairs += [(self.D_ema.outputs, self.D.outputs) if o.train == "head" else (self.D_ema, self.D)]
        for average, module in pairs:
            torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), 1 - beta)
            for b_average, b in zip(average.buffers(), module.buffers()):
                b_average.copy_(b)

    def _modules(self) -> dict[str, torch.nn.Module]:
        """Everything with weights or buffers, by its name in checkpoints."""
        modules = {"G": self.G, "D": self.D, "G_ema": self.G_ema, "D_ema": self.D_ema, "augment": self.augment_pipe}
        return {name: module for name, module in modules.items() if module is not None}

    def state(self) -> dict[str, Any]:
        """Everything a checkpoint must hold: tensors and plain values."""
        return {
            "options": dataclasses.asdict(self.options),
            "nimg": self.nimg,
            "steps": self.steps,
            "ticks": self.ticks,
            "seconds": self.seconds,
            "modules": {name: m.state_dict() for name, m in self._modules().items()},
            "optimisers": {p.name[0]: p.optimiser.state_dict() for p in self.phases},
            "pl_mean": self.loss.pl_mean,
            "real_signs": self.loss.real_signs.state(),
            "means": self.loss.stats.state(),
            "random": torch.get_rng_state(),
            "random_device": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned. The options must be those of that run, except for its length.

        Raises:
            TrainingError: the state is of another kind of training.
            plain.Misfit: it lacks something, or holds something that does not fit, such as networks of other sizes.
        """
        if not STATE <= set(state):
            raise TrainingError("the checkpoint is not one of a GAN, or is of another version of stylegan-invert")
        state = self._state_form()(state, "")
        for name, module in self._modules().items():
            module.load_state_dict(state["modules"][name])
        for phase in self.phases:
            phase.optimiser.load_state_dict(state["optimisers"][phase.name[0]])
        for name in ("nimg", "steps", "ticks", "seconds"):
            setattr(self, name, state[name])
        self.loss.pl_mean.copy_(state["pl_mean"])
        self.loss.real_signs.sums = state["real_signs"]
        self.loss.stats.sums = state.get("means", {})
        torch.set_rng_state(state["random"])
        if state["random_device"] is not None:
            torch.cuda.set_rng_state(state["random_device"], self.device)
        self._batches = None

    def _state_form(self) -> plain.Form:
        """What `load_state` accepts."""
        on_cuda = self.device.type == "cuda"
        random_device = tensor(torch.cuda.get_rng_state(self.device)) if on_cuda else lambda value, place: None
        numbers = {"nimg": COUNT, "steps": COUNT, "ticks": COUNT, "seconds": SECONDS}
        return plain.table(
            {
                **numbers,
                "options": plain.anything,
                "modules": plain.table({name: module_state(m) for name, m in self._modules().items()}),
                "optimisers": plain.table({p.name[0]: adam_state(p.optimiser) for p in self.phases}),
                "pl_mean": tensor(self.loss.pl_mean),
                "real_signs": running_means,
                "random": random_state,
                "random_device": plain.maybe(random_device),
            },
            {"means": running_means},
            more=plain.unchecked,
        )

    def record(self) -> dict[str, Any]:
        """What ``training_options.json`` holds."""
        return {
            "options": dataclasses.asdict(self.options),
            **loop.about_data(self.data),
            "rhythm": {"metric_samples": self.metric_samples},
            "started_from": self.started_from,
        }

    def begin(self, outdir: Path) -> None:
        """Write ``reals.png``, a grid of real pictures, and ``fakes000000.png``, the generator's first samples."""
        side = _grid_side(self.data.resolution)
        chosen = np.random.RandomState(0).permutation(len(self.data.names))[: side * side]
        write_png(outdir / "reals.png", grid(self.data.pictures(chosen), side))
        write_png(outdir / "fakes000000.png", self.samples())

    def network_path(self, outdir: Path) -> Path:
        """The official pickle that a snapshot writes now."""
        return outdir / f"network-snapshot-{self.nimg // 1000:06d}.pkl"

    def snapshot(self, outdir: Path) -> tuple[list[Path], dict[str, Any]]:
        """Write the networks and a sample grid; measure the distance to the training set, if there are enough pictures."""
        network, picture = self.network_path(outdir), outdir / f"fakes{self.nimg // 1000:06d}.png"
        with warnings.catch_warnings():  # `save` warns of Cho's sampling, which the command line says once
            warnings.simplefilter("ignore", UserWarning)
            save(self.network_file(about_training_set(self.data)), network)
        write_png(picture, self.samples())
        few = min(len(self.data), self.metric_samples) < FEWEST
        return [network, picture], {} if few else self._distances()

    def samples(self) -> np.ndarray:
        """The sample grid (C, H, W) uint8 of the averaged generator: of the same latents and labels every time."""
        g = self.G_ema
        side = _grid_side(g.img_resolution)
        n = side**2
        z = torch.from_numpy(np.random.RandomState(0).randn(n, g.z_dim)).to(torch.float32).to(self.device)
        c = torch.from_numpy(self.data.labels[np.arange(n) * len(self.data.labels) // n]).to(self.device)
        with torch.no_grad():
            pictures = [generator_pixels(g(z[i : i + 1], c[i : i + 1], noise_mode="const")[0]) for i in range(n)]
        return grid(np.stack(pictures), side)

    @functools.cached_property
    def _real_features(self) -> tuple[PictureFeatures, torch.Tensor]:
        """The function that computes features of pictures, and the features (N, 512) of real ones."""
        features = PictureFeatures(self.device)
        chosen = np.random.RandomState(0).permutation(len(self.data))[: self.metric_samples]
        parts = np.array_split(chosen, -(-len(chosen) // 64))
        return features, features.of(torch.from_numpy(self.data.pictures(part)) for part in parts)

    def _distances(self) -> dict[str, Any]:
        """Distances of generated pictures to real ones. They use none of the run's random numbers."""
        features, real = self._real_features
        c = torch.from_numpy(self.data.labels) if self.data.c_dim else None
        made = generated_pictures(adapt(self.G_ema), self.metric_samples, seed=0, c=c)
        return distances(real, features.of(made))

    def network_file(self, training_set_kwargs: dict[str, Any] | None = None) -> NetworkFile:
        """The networks as they are now, for `network_files.file.save`."""

        def still(module: torch.nn.Module) -> torch.nn.Module:
            return copy.deepcopy(module).eval().requires_grad_(False).cpu()

        D, extra = still(self.D), None
        if self.D_ema is not None:
            D, extra = D.trunk, {"direction": direction_tensors(D, still(self.D_ema))}
        networks = {"G": still(self.G), "D": D, "G_ema": still(self.G_ema)}
        return NetworkFile(networks, training_set_kwargs=training_set_kwargs, extra=extra)


def _sampling(mapping: torch.nn.Module) -> str:
    """What ``--sampling`` says of a mapping network."""
    return next(name for name, flags in SAMPLINGS.items() if flags == (mapping.normalize_z, mapping.uniform_z))


def _same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    """True if two modules of the same form have the same weights."""
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))


def about_training_set(data: PictureSet) -> dict[str, Any]:
    """The record of the training set in a network file, without the path on the machine where it was made."""
    return {
        "path": os.path.basename(os.path.normpath(data.path)),
        "pictures": len(data.names),
        "resolution": data.resolution,
        "use_labels": data.c_dim > 0,
        "xflip": data.mirror,
    }


def _grid_side(resolution: int) -> int:
    """The number of rows and columns of a grid of samples."""
    return int(np.clip(2048 // resolution, 3, 8))


def train(
    data: PictureSet,
    options: Options,
    outdir: str | os.PathLike,
    device: torch.device | str = "cpu",
    *,
    resume: bool = False,
    start: NetworkFile | None = None,
    tick_kimg: float = 4,
    snapshot_ticks: int = 10,
    metric_samples: int = 2000,
    callback: Callable[[loop.Report], None] | None = None,
) -> Path:
    """Train a GAN, and write its log, networks, samples and checkpoints.

    Args:
        data: the pictures; ``data.check()`` has been called.
        options: see `Options`.
        outdir: the run's folder; see `loop.train`. ``reals.png`` and ``fakes*.png`` are grids of real pictures and of the
            averaged generator's samples, and ``network-snapshot-*.pkl`` are official pickles.
        device: where to compute. On CUDA the run has settings of its own; see `precision.training_settings`.
        resume: go on from the folder's checkpoint. On a CPU the run then ends bit-equal to one that never stopped.
        start: networks to begin with instead of random ones, of the same sizes.
        tick_kimg: thousands of pictures between lines of the log.
        snapshot_ticks: ticks between grids, network files and checkpoints, which are also written at the end.
        metric_samples: see `GANTrainer`.
        callback: called after each tick.

    Returns:
        The last network file.

    Raises:
        TrainingError: the run cannot start as asked, or a loss became nan; the last good checkpoint is named.
    """
    if start is not None and not (options.attached and options.train == "head"):
        # The averages of a file count from the beginning, as in official code; a new head has none.
        options = dataclasses.replace(options, ema_rampup=0)
    rhythm = {"tick_kimg": tick_kimg, "snapshot_ticks": snapshot_ticks}
    with training_settings(device), distributed.joined(device):
        trainer = GANTrainer(options, data, device, metric_samples)
        if start is not None and not resume:
            trainer.start_from(start)
        return loop.train(trainer, outdir, resume=resume, **rhythm, callback=callback)
