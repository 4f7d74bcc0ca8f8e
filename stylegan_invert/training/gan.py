"""The GAN loop: networks, optimisers, averages and counters, one step at a time."""

import copy
import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import torch

from ..errors import TrainingError
from ..media.picture_set import PictureSet
from ..media.pictures import as_images
from ..network_files.families.direction_head import direction_tensors
from ..network_files.file import NetworkFile
from ..networks.direction import DirectionDiscriminator, latent_weights
from ..networks.discriminators import Discriminator
from ..networks.stylegan2 import Generator
from .augment import AugmentPipe
from .configs import Options
from .gan_losses import DirectionLoss, StyleGAN2Loss

FORMAT = 1  # of checkpoints
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


@dataclasses.dataclass
class Phase:
    """One of the official four: what is trained, how often, and with which optimiser."""

    name: str
    module: torch.nn.Module
    optimiser: torch.optim.Optimizer
    interval: int


def build(options: Options) -> tuple[Generator, Discriminator | DirectionDiscriminator]:
    """Fresh networks, on the CPU; their weights come from torch's global random state."""
    o = options
    shape = dict(c_dim=o.c_dim, img_resolution=o.resolution, img_channels=o.channels)
    G = Generator(
        z_dim=o.z_dim, w_dim=o.w_dim, mapping_kwargs=dict(num_layers=o.mapping_layers, lr_multiplier=o.mapping_lr),
        synthesis_kwargs=o.network_kwargs, **shape,
    )  # fmt: skip
    if not o.normalize_z:
        G.mapping.normalize_z = False
    if o.head == "direction":
        # The generator begins by drawing most what counts most for the direction. Left to itself the mapping takes all
        # entries alike, and learns too slowly to choose.
        G.mapping.fc0.weight.data[:, : o.z_dim] *= latent_weights(o.z_dim)
        trunk = Discriminator(epilogue_kwargs=dict(mbstd_num_channels=0), **o.network_kwargs, **shape)
        return G, DirectionDiscriminator(trunk, o.z_dim, o.normalize_z)
    return G, Discriminator(epilogue_kwargs=dict(mbstd_group_size=o.mbstd_group_size), **o.network_kwargs, **shape)


class Trainer:
    """A GAN in training.

    Args:
        options: see `Options`.
        data: the pictures; ``data.check()`` has been called.
        device: where to compute.

    Attributes:
        G, D: as they are trained. G_ema, D_ema: averages over the last pictures; D_ema is None without a direction head.
        nimg: real pictures shown so far. steps: batches so far. ticks, seconds: kept for the loop around, in checkpoints.
        loss: the loss object; ``loss.stats`` gathers what it saw.
    """

    def __init__(self, options: Options, data: PictureSet, device: torch.device | str = "cpu"):
        self.options = o = options
        self.data = data
        self.device = device = torch.device(device)
        torch.manual_seed(o.seed)
        G, D = (network.train().requires_grad_(False).to(device) for network in build(o))
        self.G, self.D = G, D
        self.G_ema = copy.deepcopy(G).eval()
        self.D_ema = copy.deepcopy(D).eval() if o.head == "direction" else None
        self.augment_pipe = None if o.augment == "none" else AugmentPipe(o.augment_p).to(device)
        self.nimg = self.steps = self.ticks = 0
        self.seconds = 0.0

        arguments = dict(
            device=device, G_mapping=G.mapping, G_synthesis=G.synthesis, D=D, augment_pipe=self.augment_pipe,
            style_mixing_prob=o.mixing, r1_gamma=o.gamma, pl_weight=o.pl_weight,
        )  # fmt: skip
        self.loss = DirectionLoss(**arguments) if o.head == "direction" else StyleGAN2Loss(**arguments)
        self.phases = []
        for name, module, interval, weight in (
            ("G", G, o.G_reg_interval, o.pl_weight),
            ("D", D, o.D_reg_interval, o.gamma),
        ):
            # Lazy regularisation adds steps; rate and decays are corrected for them (Karras et al. 2020, appendix B).
            ratio = interval / (interval + 1) if weight else 1
            adam = torch.optim.Adam(
                module.parameters(), lr=o.lr * ratio, betas=(o.beta1**ratio, o.beta2**ratio), eps=1e-8
            )
            self.phases.append(Phase(name + "main", module, adam, 1))
            if weight:
                self.phases.append(Phase(name + "reg", module, adam, interval))
        self._batches: Iterator[tuple[torch.Tensor, torch.Tensor]] | None = None

    def start_from(self, net: NetworkFile) -> None:
        """Take the weights of a network file; optimisers and counters stay as they are.

        Raises:
            TrainingError: its networks are of other sizes, or it lacks one.
        """
        if not isinstance(net.G, Generator):
            raise TrainingError(f"{net.file}: it is no StyleGAN2; training can only go on from one")
        mine, theirs = self.G.mapping, net.G.mapping
        for name, a, b in (
            ("--mapping-lr", mine.fc0.bias_gain, theirs.fc0.bias_gain), ("--sampling", mine.normalize_z, theirs.normalize_z)
        ):  # fmt: skip
            if a != b:
                raise TrainingError(
                    f"{net.file}: it was trained with another {name} ({b}; this run has {a}), which its weights mean"
                )
        direction = net.direction
        if net["D"] is None or (self.D_ema is not None and direction is None and net["D"].compares_batch):
            what = "no discriminator" if net["D"] is None else "a discriminator that compares the pictures of a batch"
            raise TrainingError(
                f"{net.file}: it has {what}; training cannot go on from it with --head {self.options.head}"
            )
        pairs = [("G", self.G, net["G"] or net.G), ("G_ema", self.G_ema, net.G)]
        if self.D_ema is None:
            pairs += [("D", self.D, net["D"])]
        elif direction is None:
            pairs += [("D", self.D.trunk, net["D"]), ("D", self.D_ema.trunk, net["D"])]
        else:
            pairs += [("D", self.D.trunk, net["D"]), ("D_ema", self.D_ema, direction)]
            pairs += [("outputs", self.D.outputs, net.extra["direction"]["outputs"])]
        for key, mine, given in pairs:
            given = given.state_dict() if isinstance(given, torch.nn.Module) else dict(given)
            for name, value in mine.state_dict().items():
                if name not in given or given[name].shape != value.shape:
                    found = tuple(given[name].shape) if name in given else "missing"
                    raise TrainingError(
                        f"{net.file}: {key}.{name} is {found}; this run has {tuple(value.shape)}. Choose the same sizes "
                        "(--z-dim, --channel-base, --channel-max, ...) and head as the file"
                    )
            mine.load_state_dict({name: given[name] for name in mine.state_dict()})

    def step(self) -> None:
        """Show one batch: every phase that is due, the averages, the strength of augmentation.

        Raises:
            TrainingError: a loss is no number.
        """
        o = self.options
        if self._batches is None:
            self._batches = self.data.batches(o.batch, o.seed, self.nimg)
        img, c = next(self._batches)
        img = as_images(img, self.device).split(o.batch_gpu)
        c = c.to(self.device).split(o.batch_gpu)
        if isinstance(self.loss, DirectionLoss):
            self.loss.embedding_weight = o.lambda_embedding(self.nimg)
        for phase in self.phases:
            if self.steps % phase.interval:
                continue
            z = torch.randn([o.batch, o.z_dim], device=self.device).split(o.batch_gpu)
            labels = torch.from_numpy(self.data.labels)[torch.randint(len(self.data.labels), [o.batch])]
            gen_c = labels.to(self.device).split(o.batch_gpu)
            phase.optimiser.zero_grad(set_to_none=True)
            phase.module.requires_grad_(True)
            for i in range(len(img)):
                self.loss.accumulate_gradients(
                    phase.name, img[i], c[i], z[i], gen_c[i], sync=i == len(img) - 1, gain=phase.interval / len(img)
                )
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
        # Looking at a number makes a GPU wait.
        if self.device.type == "cpu" or self.steps % 20 == 0:
            self.check_numbers()

    def check_numbers(self) -> None:
        """Raise TrainingError if a loss was no number since ``loss.stats`` was last cleared."""
        if not self.loss.stats.finite():
            bad = [name for name, mean in self.loss.stats.means().items() if not math.isfinite(mean)]
            raise TrainingError(
                f"{', '.join(bad)} became nan or infinite after {self.nimg:,} pictures; try a lower --lr or another --gamma"
            )

    def _adapt(self) -> None:
        """ADA: more augmentation while D is too sure of real pictures, less while it is not (Karras et al. 2020b, 3.1)."""
        o = self.options
        sign = self.loss.real_signs.means().get("sign", 0.0)
        self.loss.real_signs.clear()
        change = math.copysign(1.0, sign - o.ada_target) * o.batch * o.ada_interval / (o.ada_kimg * 1000)
        self.augment_pipe.p.copy_((self.augment_pipe.p + change).clamp_min(0))

    @torch.no_grad()
    def _average(self) -> None:
        o = self.options
        half_life = o.ema_kimg * 1000
        if o.ema_rampup > 0:
            half_life = min(half_life, self.nimg * o.ema_rampup)
        beta = 0.5 ** (o.batch / max(half_life, 1e-8))
        pairs = [(self.G_ema, self.G)] + ([(self.D_ema, self.D)] if self.D_ema is not None else [])
        for average, module in pairs:
            torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), 1 - beta)
            for b_average, b in zip(average.buffers(), module.buffers()):
                b_average.copy_(b)

    def _modules(self) -> dict[str, torch.nn.Module]:
        """Everything with weights or buffers, by its name in checkpoints."""
        found = {"G": self.G, "D": self.D, "G_ema": self.G_ema, "D_ema": self.D_ema, "augment": self.augment_pipe}
        return {name: module for name, module in found.items() if module is not None}

    def state(self) -> dict[str, Any]:
        """Everything a checkpoint must hold: tensors and plain values."""
        return {
            "format": FORMAT,
            "options": dataclasses.asdict(self.options),
            "nimg": self.nimg,
            "steps": self.steps,
            "ticks": self.ticks,
            "seconds": self.seconds,
            "modules": {name: m.state_dict() for name, m in self._modules().items()},
            "optimisers": {p.name[0]: p.optimiser.state_dict() for p in self.phases},
            "pl_mean": self.loss.pl_mean,
            "real_signs": {name: (float(total), count) for name, (total, count) in self.loss.real_signs.sums.items()},
            "random": torch.get_rng_state(),
            "random_device": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned; the options must be those of that run, but for their length."""
        modules = self._modules()
        try:
            for name, saved in state["modules"].items():
                modules[name].load_state_dict(saved)
        except (RuntimeError, KeyError):
            raise TrainingError("the checkpoint's networks are of other sizes than the run's options ask for") from None
        for phase in self.phases:
            phase.optimiser.load_state_dict(state["optimisers"][phase.name[0]])
        for name in ("nimg", "steps", "ticks", "seconds"):
            setattr(self, name, state[name])
        self.loss.pl_mean.copy_(state["pl_mean"])
        self.loss.real_signs.sums = dict(state["real_signs"])
        torch.set_rng_state(state["random"].cpu())
        if state["random_device"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["random_device"].cpu(), self.device)
        self._batches = None

    def network_file(self, training_set_kwargs: dict[str, Any] | None = None) -> NetworkFile:
        """The networks as they are now, for `network_files.file.save`."""

        def still(module: torch.nn.Module) -> torch.nn.Module:
            return copy.deepcopy(module).eval().requires_grad_(False).cpu()

        D, extra = still(self.D), None
        if self.D_ema is not None:
            D, extra = D.trunk, {"direction": direction_tensors(D, still(self.D_ema))}
        networks = {"G": still(self.G), "D": D, "G_ema": still(self.G_ema)}
        return NetworkFile(networks, training_set_kwargs=training_set_kwargs, extra=extra)
