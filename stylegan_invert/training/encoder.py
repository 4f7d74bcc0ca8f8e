"""Training an encoder for a frozen generator (Bayat, chapter 2): the `loop.Trainer` of encoders."""

import copy
import dataclasses
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..analysis.sheets import grid
from ..errors import TrainingError
from ..files import plain
from ..files.saved import tensor
from ..files.tensors import TensorRecord
from ..generator import Code, GeneratorAdapter
from ..generator.encoding import Encoding, entries
from ..io.encoder_file import ENCODER_FILE, About, write_encoder
from ..losses import reported_lpips
from ..losses.metrics import psnr
from ..media.picture_set import PictureSet
from ..media.pictures import as_images, projector_pixels, write_png
from ..networks.encoder import Encoder, input_size
from ..projectors.loss import build_loss, told_rate
from . import distributed, loop
from .encoder_options import EncoderOptions
from .means import Statistics
from .state import COUNT, SECONDS, adam_state, module_state, random_state, running_means

SHOWN = 8  # pictures of each kind on a sheet
MEASURED = 64  # generated pictures, and as many real ones, whose reconstruction is measured at a snapshot
RAMP_DOWN = 0.5  # the learning rate falls over this share of the run, at its end
STATE = {
    "options",
    "network_sha256",
    "nimg",
    "real_nimg",
    "steps",
    "ticks",
    "seconds",
    "modules",
    "optimiser",
    "random",
}


class EncoderTrainer:
    """An encoder in training.

    Every step shows one batch: pictures that the frozen generator draws, whose codes are known, or real pictures, of
    which only the reconstruction can be compared. A batch is shown in rounds, which the processes of torchrun share out.
    Batch normalisation compares the pictures of a round, and its running means move by the mean of what the rounds bring,
    so nothing depends on the number of processes.

    Args:
        options: see `EncoderOptions`.
        generator: the adapter of the network, on its device; nothing of it is changed.
        data: real pictures, of the generator's size, or None; ``data.check()`` has been called.
        files: weight files of losses, by their name in `io.weights.WEIGHTS`.
        run_torchscript: True runs a file of weights that is a TorchScript program.

    Attributes:
        encoder: the encoder as it is trained.
        average: its average over the last pictures, which is the result.
        round: the pictures per round; ``batch_gpu``, or the share of one process in a batch if that is less.
        data: see `loop.Trainer`.
        nimg: the pictures shown so far.
        real_nimg: how many of them were real.
        steps: the batches so far.
        ticks: see `loop.Trainer`.
        seconds: see `loop.Trainer`.

    Raises:
        TrainingError: the network has no codes of this kind, a setting does not fit it, or the batch cannot be shared.
    """

    shared = True

    def __init__(
        self,
        options: EncoderOptions,
        generator: GeneratorAdapter,
        data: PictureSet | None = None,
        files: dict[str, Any] | None = None,
        run_torchscript: bool = False,
    ):
        self.round = distributed.round_size(options.batch, options.batch_gpu)
        if self.round == 1:
            raise TrainingError(
                "a round has one picture, and batch normalisation compares the pictures of a round; choose a larger --batch or "
                "--batch-gpu, or fewer processes"
            )
        # The size of a round is recorded, so that the run can go on in another number of processes.
        self.options = o = dataclasses.replace(options, batch_gpu=self.round)
        self.generator, self.data = generator, data
        if o.space not in generator.spaces:
            raise TrainingError(f"the space is {o.space}; this network has {', '.join(generator.spaces)}")
        if generator.c_dim and o.space == "v+":
            raise TrainingError("every class has its own V, so an encoder for a network with classes cannot work in v+")
        if generator.c_dim and data is not None and data.c_dim != generator.c_dim:
            raise TrainingError(
                f"{data.path}: its labels name {data.c_dim} classes; this network has {generator.c_dim}. Real pictures need "
                "their class here"
            )
        torch.manual_seed(o.seed)
        self.device = generator.device
        self.network_sha256 = generator.sha256()
        channels, resolution = generator.output_shape[:2]
        outputs = entries(generator, o.space)
        self.encoder = Encoder(channels, input_size(resolution), outputs, generator.c_dim, o.width, o.iterative)
        self.encoder.to(self.device).train()
        self.average = copy.deepcopy(self.encoder).eval().requires_grad_(False)
        self.optimiser = torch.optim.Adam(self.encoder.parameters(), lr=o.lr, betas=(0.9, 0.99))
        self.distance = None
        if o.loss != "none":
            self.distance, _ = build_loss(o.loss, files or {}, self.device, run_torchscript)
            told_rate(self.distance, generator)
        elif files or run_torchscript:
            raise TrainingError("a weight file was named, and the loss is none; leave one of them out")
        self.nimg = self.real_nimg = self.steps = self.ticks = 0
        self.seconds = 0.0
        self.stats = Statistics()
        self._real: Iterator[tuple[torch.Tensor, torch.Tensor]] | None = None

    @property
    def passes(self) -> int:
        """The passes over each picture."""
        return self.options.passes if self.options.iterative else 1

    @property
    def total(self) -> int:
        """The pictures to show in all."""
        return max(1, round(self.options.kimg * 1000))

    def start_from(self, weights: Mapping[str, torch.Tensor | TensorRecord], file: str) -> None:
        """Begin with the weights of a ResNet-18 under torchvision's names; the first convolution and the head may differ.

        Raises:
            TrainingError: they are of another network, or not finite.
        """
        own = self.encoder.state_dict()
        alike = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
        try:  # memory is taken only for what fits
            fitting = {name: tensor(own[name], cast=True)(value, name) for name, value in alike.items()}
        except plain.Misfit as e:
            raise TrainingError(f"{file}: {e}") from None
        missing = [name for name in own if name.startswith("layer") and name not in fitting]
        if missing:
            raise TrainingError(
                f"{file}: {missing[0]} is missing or of another size; expected the state dict of a ResNet-18 under "
                "torchvision's names, and --width 64"
            )
        self.encoder.load_state_dict(fitting, strict=False)
        self.average.load_state_dict(self.encoder.state_dict())

    def step(self) -> None:
        """Show one batch.

        Raises:
            TrainingError: a loss is NaN or infinite.
        """
        o = self.options
        for group in self.optimiser.param_groups:
            group["lr"] = o.lr * self._ramp()
        real, rounds = self._is_real(), o.batch // self.round
        own = distributed.share(rounds)
        shown = self._real_batch(own) if real else []
        encoding = Encoding(self.encoder, o.space, self.generator)
        self.optimiser.zero_grad(set_to_none=True)
        averages = [b for b in self.encoder.buffers() if b.is_floating_point()]
        counters = [(b, b.clone()) for b in self.encoder.buffers() if not b.is_floating_point()]

        def compute(i: int) -> None:
            for counter, before in counters:  # batch normalisation counts the passes; every round counts from the same
                counter.copy_(before)
            pictures, code = shown[i - own.start] if real else self.draw(self.round)
            for coordinates in encoding.passes(pictures, code.c, self.passes):
                loss = self._loss(encoding, pictures, code, coordinates, real)
                (loss / rounds).backward()

        distributed.in_rounds(compute, rounds, list(self.encoder.parameters()), averages, [self.stats])
        self.optimiser.step()
        self._average()
        self.nimg += o.batch
        self.real_nimg += o.batch if real else 0
        self.steps += 1
        if self.device.type == "cpu" or self.steps % 20 == 0:  # reading a number makes a GPU wait
            self.check_numbers()

    def _ramp(self) -> float:
        left = (1 - self.nimg / self.total) / RAMP_DOWN
        return 0.5 - 0.5 * math.cos(math.pi * min(1.0, max(left, 0.0)))

    def _is_real(self) -> bool:
        if self.data is None:
            return False
        if self.options.alternate == "batch":
            return self.steps % 2 == 1
        batches = max(1, len(self.data) // self.options.batch)
        return self.steps // batches % 2 == 1

    def draw(self, count: int) -> tuple[torch.Tensor, Code]:
        """Pictures that the generator draws, and their codes in the encoder's space. Random numbers are torch's global ones."""
        generator, o = self.generator, self.options
        (shape,) = generator.code_shapes("z").values()
        c = None
        if generator.c_dim:
            c = torch.eye(generator.c_dim, device=self.device)[torch.randint(generator.c_dim, [count])]
        z = generator.prior.sample([2 * count, *shape], torch.default_generator).to(self.device)
        code = Code("z", {"z": z[:count]}, c)
        with torch.no_grad():
            if o.space != "z":
                code = generator.convert(code, o.space)
            if o.space.endswith("+") and o.mixing:
                code = self._mixed(code, generator.convert(Code("z", {"z": z[count:]}, c), o.space))
            pictures = generator.render(code, noise_mode="random").clamp(-1, 1)
        return pictures, code

    def _mixed(self, a: Code, b: Code) -> Code:
        """Codes whose layers from a random one on come from others, for a share of the codes."""
        ((name, x),) = a.tensors.items()
        count, layers = x.shape[:2]
        crossing = torch.randint(1, max(layers, 2), [count, 1])
        crossing = torch.where(torch.rand([count, 1]) < self.options.mixing, crossing, layers)
        second = (torch.arange(layers)[None] >= crossing)[..., None].to(x.device)
        return Code(a.space, {name: torch.where(second, b.tensors[name], x)}, a.c)

    def _real_batch(self, own: range) -> list[tuple[torch.Tensor, Code]]:
        """The real pictures of some rounds; the codes have their labels, and no numbers that anything reads."""
        if self._real is None:
            rows = range(own.start * self.round, own.stop * self.round)
            self._real = self.data.batches(self.options.batch, self.options.seed, self.real_nimg, rows=rows)
        pictures, c = (part.split(self.round) for part in next(self._real))
        labels = [part.to(self.device) if self.generator.c_dim else None for part in c]
        return [(as_images(x, self.device), Code(self.options.space, {}, y)) for x, y in zip(pictures, labels)]

    def _loss(
        self, encoding: Encoding, pictures: torch.Tensor, code: Code, coordinates: torch.Tensor, real: bool
    ) -> torch.Tensor:
        o, kind = self.options, "real" if real else "generated"
        loss = coordinates.new_zeros([])
        if not real and o.latent_weight:
            error = coordinates - encoding.coordinates(code)
            latent = error.abs().mean() if o.latent == "mae" else error.square().mean()
            self.stats.add("loss/latent", latent)
            loss = loss + o.latent_weight * latent
        if self.distance is None and not o.in_domain_weight:
            return loss
        output = self.generator.render(encoding.code(coordinates, code.c))
        if self.distance is not None:
            distance = self.distance(self.distance.prepare(pictures), output).mean()
            self.stats.add(f"loss/{kind}", distance)
            loss = loss + distance
        if o.in_domain_weight:
            again = (encoding.encoder(output, code.c, *([pictures] if o.iterative else [])) - coordinates).abs().mean()
            self.stats.add("loss/in_domain", again)
            loss = loss + o.in_domain_weight * again
        return loss

    @torch.no_grad()
    def _average(self) -> None:
        o = self.options
        half_life = min(o.ema_kimg * 1000, (self.nimg + o.batch) * 0.05)
        beta = 0.5 ** (o.batch / max(half_life, 1e-8))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.encoder.parameters()), 1 - beta)
        for average, value in zip(self.average.buffers(), self.encoder.buffers()):
            average.copy_(value)

    def values(self) -> dict[str, float]:
        """The means of the losses since the last `clear_values`."""
        return self.stats.means()

    def clear_values(self) -> None:
        """Begin new means."""
        self.stats.clear()

    def check_numbers(self) -> None:
        """Raise TrainingError if a loss was NaN or infinite since the last `clear_values`."""
        if not self.stats.finite():
            raise TrainingError(f"a loss became nan or infinite after {self.nimg:,} pictures; try a lower --lr")

    def state(self) -> dict[str, Any]:
        """Everything a checkpoint must hold: tensors and plain values."""
        return {
            "options": dataclasses.asdict(self.options),
            "network_sha256": self.network_sha256,
            "nimg": self.nimg,
            "real_nimg": self.real_nimg,
            "steps": self.steps,
            "ticks": self.ticks,
            "seconds": self.seconds,
            "modules": {"encoder": self.encoder.state_dict(), "average": self.average.state_dict()},
            "optimiser": self.optimiser.state_dict(),
            "means": self.stats.state(),
            "random": torch.get_rng_state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned.

        Raises:
            TrainingError: the state is of another kind of training, or of another network.
            plain.Misfit: it lacks something, or holds something that does not fit.
        """
        if not STATE <= set(state):
            raise TrainingError("the checkpoint is not one of an encoder, or is of another version of stylegan-invert")
        if state["network_sha256"] != self.network_sha256:
            raise TrainingError("the run was begun for another network; name the one that it was begun with")
        form = plain.table(
            {
                **dict.fromkeys(("nimg", "real_nimg", "steps", "ticks"), COUNT),
                "seconds": SECONDS,
                "modules": plain.table({"encoder": module_state(self.encoder), "average": module_state(self.average)}),
                "optimiser": adam_state(self.optimiser),
                "random": random_state,
                "means": running_means,
            },
            more=plain.anything,
        )
        state = form(state, "")
        self.encoder.load_state_dict(state["modules"]["encoder"])
        self.average.load_state_dict(state["modules"]["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        for name in ("nimg", "real_nimg", "steps", "ticks", "seconds"):
            setattr(self, name, state[name])
        self.stats.sums = state["means"]
        torch.set_rng_state(state["random"])
        self._real = None

    def record(self) -> dict[str, Any]:
        """What ``training_options.json`` holds."""
        return {"options": dataclasses.asdict(self.options), **loop.about_data(self.data)}

    def begin(self, outdir: Path) -> None:
        """An encoder's run has no files before the first step but the loop's."""

    def network_path(self, outdir: Path) -> Path:
        """The file of the encoder, which every snapshot replaces."""
        return outdir / ENCODER_FILE

    def snapshot(self, outdir: Path) -> tuple[list[Path], dict[str, Any]]:
        """Write the averaged encoder and a sheet of pictures over their reconstructions; measure the reconstruction."""
        encoder, sheet = self.network_path(outdir), outdir / f"reconstructions{self.nimg // 1000:06d}.png"
        write_encoder(encoder, self.average, self.about())
        rows, measured = [], {}
        for kind, (pictures, c) in self._held_out().items():
            encoding = Encoding(self.average, self.options.space, self.generator)
            with torch.no_grad():
                outputs = torch.cat(
                    [
                        self.generator.render(encoding.encode(part, labels, self.passes - 1)).clamp(-1, 1)
                        for part, labels in zip(pictures.split(16), [None] * 9 if c is None else c.split(16))
                    ]
                )
            rows += [*map(projector_pixels, pictures[:SHOWN]), *map(projector_pixels, outputs[:SHOWN])]
            lpips = reported_lpips(self.distance)[1].to(self.device)
            if pictures.shape[-1] >= lpips.min_size:
                with torch.no_grad():
                    measured[f"lpips_{kind}"] = float(lpips.between(pictures, outputs).mean())
            ratios = [psnr(a * 127.5, b * 127.5) for a, b in zip(pictures, outputs)]
            measured[f"psnr_{kind}"] = sum(ratios) / len(ratios)
        write_png(sheet, grid(np.stack(rows), SHOWN))
        return [encoder, sheet], measured

    def _held_out(self) -> dict[str, tuple[torch.Tensor, torch.Tensor | None]]:
        """Generated pictures of a seed of their own, and the first real ones, with their labels."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.options.seed + 1)
            pictures, code = self.draw(MEASURED)
        shown = {"generated": (pictures, code.c)}
        if self.data is not None:
            first = range(min(MEASURED, len(self.data.names)))
            c = torch.from_numpy(self.data.labels[: len(first)]).to(self.device) if self.generator.c_dim else None
            shown["real"] = (as_images(self.data.pictures(first), self.device), c)
        return shown

    def about(self) -> About:
        """What the encoder's file says of it."""
        o = self.options
        losses = {"latent": o.latent, "latent_weight": o.latent_weight, "loss": o.loss, "mixing": o.mixing}
        losses["in_domain_weight"] = o.in_domain_weight
        return About(o.space, self.network_sha256, self.nimg, self.passes, losses)


def train_encoder(
    generator: GeneratorAdapter,
    options: EncoderOptions,
    outdir: str | os.PathLike,
    data: PictureSet | None = None,
    *,
    resume: bool = False,
    start: tuple[Mapping[str, torch.Tensor | TensorRecord], str] | None = None,
    files: dict[str, Any] | None = None,
    run_torchscript: bool = False,
    tick_kimg: float = 1,
    snapshot_ticks: int = 10,
    callback: Callable[[loop.Report], None] | None = None,
) -> Path:
    """Train an encoder for a frozen generator, and write its log, snapshots, sheets and checkpoints.

    Args:
        generator: the adapter of the network.
        options: see `EncoderOptions`.
        outdir: the run's folder; see `loop.train`. ``encoder.safetensors`` is the encoder, and ``reconstructions*.png``
            show pictures over what is rendered from their codes.
        data: real pictures, or None; ``data.check()`` has been called.
        resume: go on from the folder's checkpoint. On a CPU the run then ends bit-equal to one that never stopped, also on
            another number of processes.
        start: the weights of a ResNet-18 to begin with, and the name of their file.
        files: the paths of losses' weight files, by name.
        run_torchscript: True runs such a file if it is a TorchScript program.
        tick_kimg: thousands of pictures between lines of the log.
        snapshot_ticks: ticks between snapshots and checkpoints, which are also written at the end.
        callback: called after each tick.

    Returns:
        The last encoder's file.

    Raises:
        TrainingError: the run cannot start as asked, or a loss became nan; the last good checkpoint is named.
    """
    rhythm = {"tick_kimg": tick_kimg, "snapshot_ticks": snapshot_ticks}
    with distributed.joined(generator.device):
        trainer = EncoderTrainer(options, generator, data, files, run_torchscript)
        if start is not None and not resume:
            trainer.start_from(*start)
        return loop.train(trainer, outdir, resume=resume, **rhythm, callback=callback)
