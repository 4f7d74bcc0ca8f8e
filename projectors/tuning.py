"""Tuning a generator to pictures whose codes were found: the codes stay, and the weights move until they fit.

Source: Roich et al., "Pivotal Tuning for Latent-based Editing of Real Images" (PTI, 2021), and the constants of its
official code. The code that was found is the *pivot*. The loss is the distance of its picture from the target; as an
option, pictures near the pivot are held where they were (section 3.3, "locality regularization").

The schedule "progressive" is that of Pan et al., "Exploiting Deep Generative Prior for Versatile Image Restoration and
Manipulation" (2020), and of its official code, which frees the layers of a BigGAN one after another. There z moves
together with the weights, and is drawn anew; here it is the pivot, and stays.
"""

import copy
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from stylegan_invert.errors import NetworkFileError, ProjectionError
from stylegan_invert.files.writing import atomic
from stylegan_invert.generator import FEATURES, Code
from stylegan_invert.io.codes import check_codes
from stylegan_invert.network_files import safetensors_file
from stylegan_invert.network_files.file import TUNED_FROM, NetworkFile, check_official, save
from stylegan_invert.network_files.provenance import Provenance, remember_tuned
from stylegan_invert.signals import Stopped

from .descent import Step
from .loss import default_loss, told_rate
from .objective import Objective
from .optimisers import Adam
from .projection import Projection, render_rounded, short
from .projector import Projector
from .settings import TuningOptions
from .targets import Target
from .tuned_layers import chosen

SAMPLES_PSI = 0.5  # w of random codes for the locality penalty are truncated by this, as in PTI's code


class Stage(NamedTuple):
    """A part of a schedule.

    Attributes:
        free: how many resolutions move, from the smallest on; None for all.
        rate: Adam's rate.
    """

    free: int | None
    rate: float


class Schedule(NamedTuple):
    """How the weights move.

    Attributes:
        steps: the most passes over the pictures.
        betas: Adam's.
        stages: they follow one another, each with the same number of passes.
    """

    steps: int
    betas: tuple[float, float]
    stages: tuple[Stage, ...]


SCHEDULES = {
    # configs/hyperparameters.py of PTI
    "together": Schedule(350, (0.9, 0.999), (Stage(None, 3e-4),)),
    # experiments/examples/run_SR.sh of deep-generative-prior, for a BigGAN of 256 pixels with seven groups of weights
    "progressive": Schedule(
        1000, (0.0, 0.999), (Stage(2, 5e-5), Stage(3, 5e-5), Stage(4, 2e-5), Stage(5, 1e-5), Stage(None, 1e-5))
    ),
}


class TunedNetwork:
    """A tuned network, and where it is written.

    Attributes:
        net: the network file.
        file: its path from the folder of a result: "tuned.pkl" if an official pickle can hold it, else
            "tuned.safetensors"; beside the folder, as "../tuned.pkl", if several results share it.
    """

    def __init__(self, net: NetworkFile, shared: bool):
        try:
            check_official(net)
            name = "tuned.pkl"
        except TypeError:
            name = "tuned.safetensors"
        self.net, self.shared, self.file = net, shared, f"../{name}" if shared else name
        self._written: set[Path] = set()

    def write(self, folder: Path, temporary: Path) -> None:
        """Write the network for a result.

        Args:
            folder: the folder of the result. What results share is written beside it, once.
            temporary: the folder in which the other files of the result are written.
        """
        path = (folder.absolute().parent if self.shared else temporary) / Path(self.file).name
        if self.shared and path in self._written:
            return
        with atomic(path) as part, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of the way from z to w, which codes of W do not take
            if path.suffix == ".pkl":
                save(self.net, part)
            else:
                safetensors_file.write(self.net, part)
        self._written.add(path)


class _Picture:
    """One picture to which a network is tuned: its code, its objective, and the random codes of the locality penalty."""

    def __init__(self, tuner: "Tuner", pivot: Projection, network: torch.nn.Module):
        projector = tuner.projector
        self.tuner, self.pivot = tuner, pivot
        self.original = projector.generator if pivot.generator is None else pivot.generator
        self.generator = generator = self.original.with_network(network)
        check_codes(pivot.code, generator, "the code of the projection")
        code = pivot.code.to(generator.device)
        self.code = code if code.space.startswith(FEATURES) else generator.convert(code, generator.base)
        self.shown = projector.view.seen.tensor(pivot.target[None], generator.device)
        self.objective = Objective(generator, tuner.distance, self.shown, projector.view.observe)
        self.random = torch.Generator().manual_seed(tuner.options.tune_seed)

    def distance(self) -> torch.Tensor:
        """The distance (1,) of the picture now, with gradients."""
        return self.objective(self.code)

    def near_enough(self) -> bool:
        """True if the LPIPS of the picture is at most what was asked for."""
        limit = self.tuner.options.tune_lpips
        if limit is None:
            return False
        projector = self.tuner.projector
        with torch.no_grad():
            image = self.generator.render(self.code).clamp(-1, 1)
            image = image if projector.view.observe is None else projector.view.observe(image)
            return float(projector.reported[0]["lpips"].between(self.shown, image)) <= limit

    def locality(self) -> torch.Tensor | float:
        """The mean distance (1,) between the pictures that both networks make of codes near the pivot, without noise."""
        options, distance, total = self.tuner.options, self.tuner.distance, 0.0
        for _ in range(options.tune_locality_samples):
            code = towards(self.code, self._sample(), options.tune_locality_alpha)
            with torch.no_grad():
                before = distance.features(self.original.render(code, noise_mode="none"))
            total = total + distance(before, self.generator.render(code, noise_mode="none"))
        return total / options.tune_locality_samples

    def _sample(self) -> Code:
        """A random code (1) in the pivot's space and of its class."""
        generator = self.original
        (shape,) = generator.code_shapes("z").values()
        code = Code("z", {"z": generator.prior.sample([1, *shape], self.random).to(generator.device)}, self.code.c)
        with torch.no_grad():
            code = generator.truncated(code, SAMPLES_PSI) if "w" in generator.spaces else code
            return generator.convert(code, self.code.space)


def towards(pivot: Code, sample: Code, alpha: float) -> Code:
    """The code (1) at the distance ``alpha`` from a pivot on the straight line to a sample, or the sample if it is nearer.

    Source: Roich et al., equation 3. There the code may lie beyond the sample.
    """
    away = {name: sample.tensors[name] - pivot.tensors[name] for name in sample.tensors}
    length = math.sqrt(sum(float(x.square().sum()) for x in away.values()))
    share = min(1.0, alpha / length) if length else 0.0
    return Code(sample.space, {name: pivot.tensors[name] + share * x for name, x in away.items()}, pivot.c)


class Tuner:
    """Tunes copies of a projector's network to the pictures that it projected. The arguments are checked at once.

    The loss is the projector's if the user chose one, else that of the medium, which is LPIPS + MSE as in PTI.

    Args:
        projector: made the projections; it has the network, the metrics and the observation.
        options: see `settings.TuningOptions`.
        together: True tunes one network to all pictures, False one to each.

    Raises:
        ProjectionError: no parameter is called as ``tune_layers`` says, or the outputs are too small for LPIPS.
    """

    def __init__(self, projector: Projector, options: TuningOptions, together: bool = False):
        generator = projector.generator
        self.projector, self.options, self.together = projector, options, together
        self.arrived: Sequence[int] = ()  # the signals that have arrived, which end the tuning
        own = getattr(generator.network, "tuning_schedule", "together")
        self.schedule_name = options.tune_schedule or own
        self.schedule = SCHEDULES[self.schedule_name]
        self.layers = chosen(generator, options.tune_layers)
        self.steps = options.tune or self.schedule.steps
        self.distance, self.loss_record = projector.distance, projector.loss_record
        if projector.chosen_loss is None:
            self.distance, self.loss_record = default_loss(
                projector.medium.default_loss, projector.view.seen.shape, {}, generator.device
            )
            told_rate(self.distance, generator)
        smallest = min(projector.view.seen.shape[1:])
        if options.tune_lpips is not None and projector.reported[0]["lpips"].min_size > smallest:
            raise ProjectionError(f"tune_lpips needs LPIPS, and outputs of {smallest} pixels are too small for it")
        if not self._groups(generator.network):
            raise ProjectionError(
                "tune_layers has no parameter whose resolution is known, which the schedule progressive needs"
            )

    def targets_per_pass(self, batch: int | str) -> int:
        """`Projector.targets_per_pass`."""
        return self.projector.targets_per_pass(batch)

    def project(self, targets: Sequence[Target], **arguments: Any) -> Iterator[Projection]:
        """`Projector.project`, and then `each`. The arguments are the same."""
        checkpoints = arguments.get("checkpoints")
        self.arrived = () if checkpoints is None else checkpoints.arrived
        return self.each(self.projector.project(targets, **arguments), arguments.get("callback"))

    def each(
        self, projections: Iterable[Projection], callback: Callable[[int, Step], object] | None = None
    ) -> Iterator[Projection]:
        """The projections after tuning, in their order, each as soon as it is made.

        Args:
            projections: of the projector.
            callback: called after each pass, with the index of the first of its pictures, and the `Step`.
        """
        if self.together:
            yield from self(list(projections), callback)
            return
        for number, projection in enumerate(projections):
            yield from self([projection], callback, number)

    def __call__(
        self, projections: Sequence[Projection], callback: Callable[[int, Step], object] | None = None, first: int = 0
    ) -> list[Projection]:
        """Tune one network to all these pictures. Each result has its pivot, and the network to be saved with it.

        Args:
            projections: of the projector, at least one.
            callback: called after each pass, with ``first``, and the `Step`.
            first: the index of the first projection.

        Raises:
            ProjectionError: a distance is NaN or infinite.
        """
        began = time.perf_counter()
        network = _in_float32(copy.deepcopy(self.projector.generator.network)).requires_grad_(False)
        pictures = [_Picture(self, one, network) for one in projections]
        history = self._descend(network, pictures, lambda step: callback(first, step) if callback else None)
        network.requires_grad_(False)
        seconds = (time.perf_counter() - began) / len(pictures)
        origin = remember_tuned(self.projector.generator.network, network)
        tuned = TunedNetwork(self._file(network, origin), shared=len(pictures) > 1)
        about = self.projector.medium.about()
        record = {
            "network": {**about, "file": tuned.file, "tuned_from": {"file": origin.file, "sha256": origin.sha256}},
            "tuning": {
                "options": self._settings(),
                "steps": len(history),
                "pictures": len(pictures),
                "seconds": round(seconds, 3),
            },
        }
        return [self._result(picture, tuned, record, history[:, i]) for i, picture in enumerate(pictures)]

    def _descend(
        self, network: torch.nn.Module, pictures: Sequence[_Picture], report: Callable[[Step], object]
    ) -> torch.Tensor:
        """Move the network's weights. Returns the distances of all pictures in each pass before their steps, (steps, N)."""
        groups = self._groups(network)
        for group in groups:
            for parameter in group:
                parameter.requires_grad_(True)
        adam = Adam([{"params": group} for group in groups], lr=0.0, betas=self.schedule.betas)
        history: list[torch.Tensor] = []
        for step in range(self.steps):
            for settings, rate in zip(adam.param_groups, self.rates(step, len(groups))):
                settings["lr"] = rate
            far = [not picture.near_enough() for picture in pictures]
            if not any(far):
                break
            moves = [self._step if away else _left_alone for away in far]
            history.append(torch.cat([move(picture, adam, step) for move, picture in zip(moves, pictures)]))
            if not torch.isfinite(history[-1]).all():
                raise ProjectionError(
                    f"tuning: the distance became {float(history[-1].sum())} at step {step + 1} of {self.steps}; lower "
                    "tune_lr (--tune-lr)"
                )
            report(Step(step + 1, history[-1], pictures[0].code, self.steps, dict))
            if self.arrived:
                raise Stopped(
                    self.arrived[0],
                    f"stopped after step {step + 1:,} of {self.steps:,} of the tuning, which the same command begins anew",
                )
        return torch.stack(history).cpu() if history else torch.zeros([0, len(pictures)])

    def _step(self, picture: _Picture, adam: Adam, step: int) -> torch.Tensor:
        """One step for one picture. Returns its distance (1,) before the step."""
        distance = total = picture.distance()
        if self.options.tune_locality and step % self.options.tune_locality_every == 0:
            total = distance + self.options.tune_locality * picture.locality()
        adam.zero_grad(set_to_none=True)
        total.sum().backward()
        adam.step()
        return distance.detach()

    def _groups(self, network: torch.nn.Module) -> list[list[torch.nn.Parameter]]:
        """The parameters that move, in groups that are freed one after another."""
        parameters = dict(network.named_parameters())
        if self.schedule_name == "together":
            return [[parameters[name] for name in self.layers]]
        sides = sorted({side for side in self.layers.values() if side is not None})
        return [[parameters[name] for name, own in self.layers.items() if own == side] for side in sides]

    def rates(self, step: int, groups: int) -> list[float]:
        """Adam's rate of each group in a step, counted from 0."""
        stages = self.schedule.stages
        stage = stages[step * len(stages) // self.steps]
        highest = max(stage.rate for stage in stages)
        rate = stage.rate * (1.0 if self.options.tune_lr is None else self.options.tune_lr / highest)
        return [rate if stage.free is None or i < stage.free else 0.0 for i in range(groups)]

    def _file(self, network: torch.nn.Module, origin: Provenance) -> NetworkFile:
        """The network file of a tuned network. It has the discriminator of the original."""
        net = self.projector.net
        discriminator, kept = None, None
        extra: dict[str, Any] = {}
        if net is not None:
            kept, extra = net.training_set_kwargs, net.extra
            try:
                discriminator = net.D
            except NetworkFileError:
                pass  # of a class that this package does not know; the generator does not need it
        extra = {**extra, TUNED_FROM: torch.tensor(list(bytes.fromhex(origin.sha256 or "")), dtype=torch.uint8)}
        networks = {"G": network, "G_ema": network, "D": discriminator}
        return NetworkFile(networks, "(tuned)", training_set_kwargs=kept, extra=extra)

    def _settings(self) -> dict[str, Any]:
        """The entry of the record about all settings."""
        options = self.options
        settings = {
            "steps": self.steps,
            "lpips": options.tune_lpips,
            "schedule": self.schedule_name,
            "learning_rate": options.tune_lr or max(stage.rate for stage in self.schedule.stages),
            "layers": options.tune_layers,
            "locality": options.tune_locality,
        }
        if options.tune_locality:
            names = ("locality_alpha", "locality_samples", "locality_every", "seed")
            settings |= {name: getattr(options, f"tune_{name}") for name in names}
        return {**settings, **self.loss_record}

    def _result(
        self, picture: _Picture, tuned: TunedNetwork, record: dict[str, Any], distance: torch.Tensor
    ) -> Projection:
        """The result of one picture: its pivot with another picture, other metrics and another network."""
        pivot, projector = picture.pivot, self.projector
        output = torch.from_numpy(render_rounded(picture.generator, pivot.code))
        distances, about = projector.reported
        compose = pivot.composed is not None
        metrics, composed = projector.view.judged(pivot.target, output, pivot.truth, compose, distances)
        return Projection(
            code=pivot.code,
            target=pivot.target,
            image=output,
            metrics={**metrics, **about},
            distance=pivot.distance,
            record={
                **pivot.record,
                **record,
                "tuning": {**record["tuning"], "pivot": pivot.metrics},
                "tuning_history": short(distance.numpy()),
            },
            generator=picture.generator,
            pivot=pivot,
            tuned=tuned,
            truth=pivot.truth,
            composed=composed,
        )


def _left_alone(picture: _Picture, adam: Adam, step: int) -> torch.Tensor:
    """The distance (1,) of a picture that is near enough."""
    with torch.no_grad():
        return picture.distance()


def _in_float32(network: torch.nn.Module) -> torch.nn.Module:
    """The network with no layer that computes in half precision, where small steps of the weights would be lost."""
    module: Any
    for module in network.modules():
        if getattr(module, "use_fp16", False):
            module.use_fp16 = False
    return network
