"""Training a GAN: networks, optimisers, averages, sample grids, network files; `train` begins and resumes runs."""

import copy
import dataclasses
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import TrainingError
from ..files import plain
from ..files.saved import tensor
from ..generator.prior import Prior
from ..media.picture_set import PictureSet
from ..network_files.file import NetworkFile
from ..ops import native
from . import distributed, loop
from .architectures import ARCHITECTURES, architecture_of
from .augment import AugmentPipe
from .precision import training_settings
from .run_options import RunOptions
from .state import COUNT, SECONDS, adam_state, module_state, random_state, running_means

STATE = {
    "options",
    "nimg",
    "steps",
    "ticks",
    "seconds",
    "modules",
    "optimisers",
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
        fresh: True if the phase takes a new batch of the training set.
    """

    name: str
    module: torch.nn.Module
    optimiser: torch.optim.Optimizer
    interval: int
    fresh: bool = False


def architecture_of_run(outdir: str | os.PathLike) -> str:
    """The architecture of a run, by its ``training_options.json``; runs of earlier versions have StyleGAN2.

    Raises:
        TrainingError: there is no such file, or it is damaged, or the architecture is unknown.
    """
    known = plain.text(*ARCHITECTURES)
    return plain.read_json(
        Path(outdir) / loop.OPTIONS, loop.OPTIONS_FILE, plain.table({}, {"arch": known}, more=plain.unchecked)
    ).get("arch", "stylegan2")


def build(options: RunOptions) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Fresh networks in the form in which they are trained, on the CPU; weights come from torch's global random state."""
    return architecture_of(options).build()


class GANTrainer:
    """A GAN in training: the `loop.Trainer` of all architectures.

    Args:
        options: the options of an architecture, which also say which it is.
        data: the pictures; ``data.check()`` has been called.
        device: where to compute.
        metric_samples: pictures on each side, at most, for the distance to the training set that a snapshot is given; fewer
            than 8 give none.

    Attributes:
        architecture: what differs between the kinds of networks, see `architectures.base.Architecture`.
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
        labels: the labels (N, classes) of the pictures, on ``device``.
        started_from: the name of the network file that `start_from` took weights from, or None.
    """

    shared = True

    def __init__(
        self,
        options: RunOptions,
        data: PictureSet,
        device: torch.device | str = "cpu",
        metric_samples: int = 0,
    ):
        self.options = o = options
        self.data = data
        self.device = device = torch.device(device)
        self.on_cuda = device.type == "cuda"
        self.architecture = arch = architecture_of(o)
        self.labels = arch.labels(torch.from_numpy(data.labels)).to(device)
        # A training is long enough for a build to pay at every size: at 32x32 it needs seven tenths of the time.
        native.made_network(native.PAYING_RESOLUTION)
        self.round = distributed.round_size(o.batch, o.batch_gpu)
        if self.round != o.batch_gpu:
            dataclasses.replace(o, batch_gpu=self.round)  # raises if the discriminator cannot compare so many pictures
        torch.manual_seed(o.seed)
        G, D = (network.train().requires_grad_(False).to(device) for network in arch.build())
        self.G, self.D = G, D
        self.G_ema = copy.deepcopy(G).eval()
        self.D_ema = copy.deepcopy(D).eval() if o.head == "direction" else None
        self.augment_pipe = None if o.augment == "none" else AugmentPipe(o.augment_p).to(device)
        self.nimg = self.steps = self.ticks = 0
        self.seconds = 0.0
        self.metric_samples = metric_samples
        self.started_from: str | None = None
        # A generator that is not trained is the averaged one, which is the generator to use.
        self.shown = G if o.train == "all" else self.G_ema
        G.train(o.train == "all")
        self.loss = arch.loss(device, self.shown, D, self.augment_pipe)
        self.phases = self._phases()
        self._prepare([])
        self._batches: Iterator[tuple[torch.Tensor, torch.Tensor]] | None = None

    def _prepare(self, phases: list[Phase]) -> None:
        """Bring the networks to the state in which they show the next batch; ``phases`` have the optimisers to change."""
        networks = [m for m in (self.G, self.D, self.G_ema, self.D_ema) if m is not None]
        self.architecture.prepare(self.nimg, networks, phases)

    def _phases(self) -> list[Phase]:
        """The phases of a step, in their order. The first one, and each further step of D, takes a new batch."""
        o, phases = self.options, []
        for name, module, interval, weight, groups in self.architecture.trained(self.G, self.D):
            # Lazy regularisation adds steps; rate and decays are corrected for them (Karras et al. 2020, appendix B).
            lazy = weight != 0 and interval > 1
            ratio = interval / (interval + 1) if lazy else 1
            groups = [{**group, "lr": group["lr"] * ratio} for group in groups]
            adam = torch.optim.Adam(groups, betas=(o.beta1**ratio, o.beta2**ratio), eps=1e-8)
            only = "head" if o.train == "head" else "both" if weight and not lazy else "main"
            for i in range(o.D_steps if name == "D" else 1):
                phases.append(Phase(name + only, module, adam, 1, fresh=not phases or i > 0))
                if lazy:
                    phases.append(Phase(name + "reg", module, adam, interval))
        return phases

    def start_from(self, net: NetworkFile) -> None:
        """Take the weights of a network file; optimisers and counters stay as they are. See `Architecture.start_from`.

        Raises:
            TrainingError: its networks are of another kind or of other sizes, or it lacks one.
        """
        self.architecture.start_from(self, net)
        self.started_from = net.file

    def step(self) -> None:
        """Show one batch: carry out every phase that is due, then update the averages and the strength of augmentation.

        Raises:
            TrainingError: a loss is NaN or infinite.
        """
        o, own = self.options, distributed.share(self.options.batch // self.round)
        if o.head == "direction":
            self.loss.embedding_weight = o.lambda_embedding(self.nimg)
        for phase in self.phases:
            if phase.fresh:
                img, c = self._next_batch(own)
            if self.steps % phase.interval == 0:
                self._carry_out(phase, img, c, own)
        self._average()
        self.nimg += o.batch * o.D_steps
        self._prepare(self.phases)
        self.steps += 1
        if o.augment == "ada" and self.steps % o.ada_interval == 0:
            self._adapt()
        # Reading a number makes a GPU wait, so there it is done every 20 steps. Nothing else in a step waits.
        if self.device.type == "cpu" or self.steps % 20 == 0:
            self.check_numbers()

    def _carry_out(self, phase: Phase, img: Any, c: Any, own: range) -> None:
        """One phase of a step: its gradients, in rounds, and the step of its optimiser.

        Args:
            phase: the phase.
            img: the real outputs of the own rounds.
            c: their labels.
            own: the numbers of the own rounds.
        """
        o, rounds = self.options, self.options.batch // self.round
        z = self.architecture.latents(o.batch, self.device).split(self.round)
        drawn = torch.randint(len(self.labels), [o.batch], device=self.device)
        gen_c = self.labels[drawn].split(self.round)
        # Batch normalisation counts the passes; every round counts from the same.
        counters = [b for m in (self.G, self.D) for b in m.buffers() if not b.is_floating_point()]
        counts = [counter.clone() for counter in counters]

        def compute(i: int) -> None:
            for counter, before in zip(counters, counts):
                counter.copy_(before)
            real = img[i - own.start], c[i - own.start]
            self.loss.accumulate_gradients(phase.name, *real, z[i], gen_c[i], gain=phase.interval / rounds)

        phase.optimiser.zero_grad(set_to_none=True)
        phase.module.requires_grad_(True)
        moving = [*self.loss.averages.values(), *self.architecture.moving(self.shown, self.D)]
        statistics = [self.loss.stats, self.loss.real_signs]
        distributed.in_rounds(compute, rounds, list(phase.module.parameters()), moving, statistics)
        phase.module.requires_grad_(False)
        self.architecture.regularise(phase.name[0], phase.module)
        for p in phase.module.parameters():
            if p.grad is not None:  # half precision may overflow now and then
                torch.nan_to_num(p.grad, nan=0, posinf=1e5, neginf=-1e5, out=p.grad)
        phase.optimiser.step()

    def _next_batch(self, own: range) -> tuple[Any, Any]:
        """The own rounds of the next batch: real pictures and their labels, each a tuple of tensors."""
        o = self.options
        if self._batches is None:
            rows = range(own.start * self.round, own.stop * self.round)
            self._batches = self.data.batches(o.batch, o.seed, self.nimg, self.on_cuda, rows)
        img, c = next(self._batches)
        # Pinned memory is copied to a GPU while the program goes on.
        img = self.architecture.as_outputs(img.to(self.device, non_blocking=self.on_cuda), self.device)
        c = self.architecture.labels(c.to(self.device, non_blocking=self.on_cuda))
        return self.architecture.real(img).split(self.round), c.split(self.round)

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
        beta = 0.5 ** (o.batch * o.D_steps / max(half_life, 1e-8))
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
            **self.loss.averages,
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
        if not STATE | set(self.loss.averages) <= set(state):
            raise TrainingError("the checkpoint is not one of a GAN, or is of another version of stylegan-invert")
        state = self._state_form()(state, "")
        for name, module in self._modules().items():
            module.load_state_dict(state["modules"][name])
        for phase in self.phases:
            phase.optimiser.load_state_dict(state["optimisers"][phase.name[0]])
        for name in ("nimg", "steps", "ticks", "seconds"):
            setattr(self, name, state[name])
        self._prepare([])
        for name, value in self.loss.averages.items():
            value.copy_(state[name])
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
                **{name: tensor(value) for name, value in self.loss.averages.items()},
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
            "arch": self.options.arch,
            "options": dataclasses.asdict(self.options),
            **loop.about_data(self.data),
            "rhythm": {"metric_samples": self.metric_samples},
            "started_from": self.started_from,
        }

    def begin(self, outdir: Path) -> None:
        """Write ``reals.png``, a grid of real pictures, and ``fakes000000.png``, the generator's first samples."""
        self.architecture.write_reals(outdir / f"reals{self.architecture.seen}", self.data)
        self._write_samples(outdir, 0)

    def network_path(self, outdir: Path) -> Path:
        """The network file that a snapshot writes now."""
        return outdir / f"network-snapshot-{self.nimg // 1000:06d}{self.architecture.ending}"

    def snapshot(self, outdir: Path) -> tuple[list[Path], dict[str, Any]]:
        """Write the networks and a sample grid; measure the distance to the training set, if there are enough pictures."""
        arch = self.architecture
        written = arch.write(self, self.network_path(outdir), arch.about_training_set(self.data))
        written.append(self._write_samples(outdir, self.nimg // 1000))
        return written, arch.measures(self, self.metric_samples)

    def _write_samples(self, outdir: Path, number: int) -> Path:
        path = outdir / f"fakes{number:06d}{self.architecture.seen}"
        self.architecture.write_samples(path, self.outputs())
        return path

    def outputs(self) -> torch.Tensor:
        """Outputs of the averaged generator, on the CPU: of the same latents and labels every time."""
        G, n = self.architecture.shown(self.G_ema, self.labels), self.architecture.side() ** 2
        prior = Prior(getattr(G, "z_prior", "normal"))
        z = prior.of_seed(0, [n, self.options.z_dim]).to(self.device)
        c = self.labels[torch.arange(n) * len(self.labels) // n]
        with torch.no_grad():
            return torch.cat([self.architecture.outputs(G, z[i : i + 1], c[i : i + 1]).cpu() for i in range(n)])

    def samples(self) -> np.ndarray:
        """The sample grid (C, H, W) uint8 of `outputs`."""
        return self.architecture.sheet(self.outputs())

    def network_file(self, training_set_kwargs: dict[str, Any] | None = None) -> NetworkFile:
        """The networks as they are now, for `network_files.file.save`."""
        return self.architecture.network_file(self, training_set_kwargs)


def train(
    data: PictureSet,
    options: RunOptions,
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
        options: the options of an architecture, which also say which it is; see `architectures.ARCHITECTURES`.
        outdir: the run's folder; see `loop.train`. ``reals.png`` and ``fakes*.png`` are grids of real pictures and of the
            averaged generator's samples, and ``network-snapshot-*`` are network files.
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
