"""`Projector`: a network, a method, its options and a loss, prepared and checked once, for any number of targets."""

import copy
import dataclasses
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

import stylegan_invert
from stylegan_invert.errors import ProjectionError, printable
from stylegan_invert.generator import Code, GeneratorAdapter, adapt, class_label, joined, one_hot, with_prior
from stylegan_invert.io.encoder_file import read_encoder
from stylegan_invert.io.gaussian_file import with_gaussian
from stylegan_invert.io.weights import WEIGHTS
from stylegan_invert.losses import LOSSES, Distance, unsuited
from stylegan_invert.network_files.file import NetworkFile
from stylegan_invert.network_files.live import adopt, is_own
from stylegan_invert.network_files.provenance import carry, provenance_of

from .checkpoint import Checkpoint, Checkpoints
from .classes import find_class
from .descent import Descent, Fit, Step
from .loss import build_loss, default_loss, measures, told_rate
from .memory import Memory, free, measure
from .methods import default_method, find_method
from .objective import Objective
from .observations import Observation
from .projection import Projection, render_rounded
from .samples import Samples
from .settings import build_options
from .starts import Init, Setting, name_of, one_each, prepare
from .targets import Target, Targets
from .view import View

ONE_PASS_BATCH = 64  # targets that share a pass which has no steps, at least


class Projector:
    """Finds the codes of targets. Everything that all targets share is made here: options, spaces, priors, loss.

    Args:
        G: a generator (or a network file, for its ``G``, or an adapter); it computes where it is, and is left as it is. A
            generator of an official repository's own class passes `network_files.live.adopt` first.
        method: a key of `methods.METHODS`, or a method of another package; None takes `methods.default_method`. "w" and "w+"
            are for StyleGANs; "z" and "dense" for every network. "de" takes the code that the network's discriminator finds
            in one pass. It needs the network file, and in it a direction-embedding discriminator.
        loss: a text like "lpips-squeeze=1,mse=1" (see `losses.LOSSES`), or a `Distance`; None takes the method's, or else
            that of the medium, and the mean squared error for outputs that are too small for these.
        class_idx: the class, for a network that has classes. "search" finds it for each target, see `classes.find_class`,
            and takes targets one after another; "relaxed" optimises a mixture of all classes together with z, from equal
            parts on or from that of ``init``, for methods that search z.
        statistics: file of the Gaussian of V, for a prior in it and for methods that work there; None takes the one in the
            cache, which is made when it is first needed.
        z_prior: "normal" or "uniform", for a network whose file does not say how its z is drawn.
        encoder: the file of an encoder of this network, or the folder of the run that trained it, for the method and the
            start "encoder".
        assume_encoder: True accepts an encoder that was trained for another network, if its codes have the same size.
        observe: what happens to outputs and to targets before they are compared: a text such as "blur:2,downsample:4" (see
            `observations.OBSERVATIONS`), a function from (N, ...) to (N, ...), row by row and with gradients, or a list of
            these. Metrics are of what is observed, and those of the whole output and target stand under "truth".
        observed: True if the targets are observed already; they then have the shape of an observed output.
        progress: called while the Gaussian of V is made, with the number of samples so far and the number expected in
            all.
        options: the options of the method, by name: steps, seed, initial_learning_rate, ... (fields of its options
            class), and weight files by their name in `io.weights.WEIGHTS` (``vgg16``, ``inception``,
            ``identity``). ``run_torchscript=True`` allows ``vgg16`` and ``identity`` to be programs, see `losses.load_vgg_lpips`.

    Raises:
        ValueError: an argument, with what was expected. Its kinds `CodeFileError` and `ProjectionError` are for statistics
            that do not fit, and for other arguments.
    """

    def __init__(
        self,
        G: torch.nn.Module | GeneratorAdapter | NetworkFile,
        method: str | None = None,
        *,
        loss: str | Distance | None = None,
        class_idx: int | str | None = None,
        statistics: str | os.PathLike | None = None,
        z_prior: str | None = None,
        encoder: str | os.PathLike | None = None,
        assume_encoder: bool = False,
        observe: str | Observation | Callable[[torch.Tensor], torch.Tensor] | list | None = None,
        observed: bool = False,
        progress: Callable[[int, int], None] | None = None,
        **options: Any,
    ):
        G = G if isinstance(G, NetworkFile) or is_own(G) or not isinstance(G, torch.nn.Module) else adopt(G)
        self.net = G if isinstance(G, NetworkFile) else None
        self.network: torch.nn.Module | GeneratorAdapter = G.G if isinstance(G, NetworkFile) else G
        self.generator = with_prior(adapt(_frozen(self.network)), z_prior)
        self.name = method if method is not None else default_method(self.generator.spaces, self.generator.dense)
        self.method = find_method(self.name)
        self.class_idx, self.view = class_idx, View(self.generator, observe, observed)
        preset = dict(self.method.preset)
        own_loss = preset.pop("loss", None)
        files = {name: options.pop(name) for name in WEIGHTS if name in options}
        run_torchscript = options.pop("run_torchscript", False)
        if self.method.one_pass:
            own = {field.name for field in dataclasses.fields(self.method.options)}
            self.refuse_steps([name for name in options if name not in own])
        try:
            self.options = build_options(self.method.options, preset, options)
        except ProjectionError as e:
            if method is not None:
                raise
            raise ProjectionError(f"{e} (no method was named, so it is {self.name!r})") from None
        self.chosen = frozenset(options)
        self.encoder = None if encoder is None else read_encoder(encoder, self.generator, assume_encoder)
        self.medium = self.view.medium
        self.c = self._label()
        self._check_prior(statistics, progress)
        if self.method.space is not None and self.method.space not in self.generator.spaces:
            raise ProjectionError(
                f"method {self.name!r} works in {self.method.space}, and this network has "
                f"{', '.join(self.generator.spaces)}; choose z or dense"
            )
        self.chosen_loss = loss
        named = files, self.generator.device, run_torchscript
        if loss is None:
            self.distance, self.loss_record = default_loss(self._own_loss(own_loss), self.view.seen.shape, *named)
        else:
            self.distance, self.loss_record = build_loss(self._loss_for(loss, own_loss), *named, measured=True)
        told_rate(self.distance, self.generator)
        self.measures, about = measures(self.distance, *named)
        self.loss_record = {**self.loss_record, **about}
        self.fit_targets = self.method.load()
        self._samples: dict[tuple[float, ...], Samples] = {}
        self._prepared = False
        self.memory: Memory | None = None  # of one target, measured where a run asks for it

    def _loss_for(self, loss: str | Distance | None, own_loss: str | None) -> str | Distance:
        """The user's loss, or the method's if it compares outputs of this kind, or else the medium's."""
        kind = self.generator.medium
        if loss is None:
            return self._own_loss(own_loss)
        if isinstance(loss, str) and (wrong := unsuited(loss, kind)):
            there = ", ".join(name for name, entry in LOSSES.items() if kind in entry.media)
            raise ProjectionError(
                f"{', '.join(wrong)} in the loss {loss!r} cannot compare {kind}s; for these there are {there}"
            )
        return loss

    def _own_loss(self, own_loss: str | None) -> str:
        """The method's loss if it compares outputs of this kind, or else the medium's."""
        suits = own_loss is not None and not unsuited(own_loss, self.generator.medium)
        return own_loss if own_loss is not None and suits else self.medium.default_loss

    def refuse_steps(self, names: Sequence[str]) -> None:
        """Refuse arguments that make sense only for a method that takes steps."""
        if names:
            raise ProjectionError(f"method {self.name!r} takes no steps, so {', '.join(names)} has no meaning for it")

    def _label(self) -> torch.Tensor | None:
        """The label (1, c_dim) of all targets; the first class where each target's own is searched."""
        c_dim = self.generator.c_dim
        if self.class_idx == "relaxed":
            if not c_dim or not self.options.searches_z:
                reason = (
                    f"the method {self.name!r} as asked for does not search z"
                    if c_dim
                    else "this network has no classes"
                )
                raise ProjectionError(f"a relaxed class was asked for, and {reason}")
            if self.options.prior_weight:
                raise ProjectionError(
                    "the Gaussian of V is of one class, so a relaxed class has no prior in V; leave out one"
                )
            self.options = dataclasses.replace(self.options, class_vector="relaxed")
            return torch.full([1, c_dim], 1 / c_dim, device=self.generator.device)
        if self.searches_class:
            if not c_dim:
                raise ProjectionError("the class is to be searched for, and this network has no classes")
            return one_hot(c_dim, 0, self.generator.device)
        c = class_label(self.generator, self.class_idx)
        self.class_idx = None if c is None else int(c.argmax())  # the number of a class that was named
        return None if c is None else c.to(self.generator.device)

    @property
    def searches_class(self) -> bool:
        """True if the class of each target is searched for."""
        return self.class_idx == "search"

    def _check_prior(self, statistics: str | os.PathLike | None, progress: Callable[[int, int], None] | None) -> None:
        if self.method.prior_optional and "prior_weight" not in self.chosen and "v" not in self.generator.spaces:
            self.options = dataclasses.replace(self.options, prior_weight=0.0)
        self.in_v = bool(self.options.prior_weight) or (self.method.space or "").startswith("v")
        self.statistics, self.progress = statistics, progress
        if self.in_v and "v" not in self.generator.spaces:
            self.generator.gaussian(self.c)  # raises, and says why there is no V
        if statistics is not None and not self.in_v:
            raise ProjectionError(
                f"method {self.name!r} was asked for without a prior in V, so statistics have no meaning for it"
            )

    def prepare(self) -> None:
        """Give the generator the Gaussian of V, if the run needs it and it has none; that of a searched class is found with
        the class. It is done when the cheaper checks are over."""
        if self.in_v and not self.searches_class and not self._prepared:
            self.generator = with_gaussian(self.generator, self.c, self.statistics, self.progress)
            self._prepared = True

    def fit(
        self,
        shown: torch.Tensor,
        start: Code | None = None,
        callback: Callable[[Step], object] | None = None,
        resume: Mapping[str, Any] | None = None,
    ) -> Fit:
        """The codes of targets that are tensors already.

        Args:
            shown: (N, ...) float32 in [-1, 1], in the shape of the generator's outputs, on its device; in that of what is
                observed of them for targets that are ``observed``.
            start: codes (N) in the method's space; None takes the method's own start.
            callback: called after each step.
            resume: the ``state()`` of a `Step` of an earlier run, to go on from there.

        Raises:
            ProjectionError: a distance is NaN or infinite, the state does not fit, or the class of each target is to be searched for,
                which `project` does.
        """
        if self.searches_class:
            raise ProjectionError(
                "fit takes targets of one class; give its number, or use project, which searches for it"
            )
        return self.fit_compared(self.view.compared(shown), start, callback, resume)

    def fit_compared(
        self,
        compared: torch.Tensor,
        start: Code | None = None,
        callback: Callable[[Step], object] | None = None,
        resume: Mapping[str, Any] | None = None,
    ) -> Fit:
        """`fit`, for targets in the form in which they are compared (`View.compared`)."""
        self.prepare()
        if start is None:
            start = prepare(self.method.start, self.setting)(
                compared, None if self.c is None else self.c.expand(len(compared), -1)
            )
        objective = Objective(self.generator, self.distance, compared, self.view.observe)
        descend = None
        try:
            descend = Descent(self.options.total_steps(len(compared)), callback, resume)
            result = self.fit_targets(self.generator, objective, start, self.options, descend)
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as e:
            if resume is None or (descend is not None and descend.reported):
                raise
            raise ProjectionError(
                f"the state that was resumed does not fit this run ({printable(str(e), 250)}); begin anew"
            ) from e
        notes = {} if self.method.one_pass else {"evaluations": objective.evaluations}
        return dataclasses.replace(result, notes={**result.notes, **notes})

    def of_class(self, shown: torch.Tensor) -> tuple["Projector", dict[str, Any]]:
        """This projector for the class that one observed target (1, ...) shows, and the record of the search."""
        objective = Objective(self.generator, self.distance, shown, self.view.observe)
        one = copy.copy(self)
        one.class_idx = found = find_class(self.generator, objective, self.options.seed)
        one.c = one_hot(self.generator.c_dim, found, self.generator.device)
        one.prepare()
        return one, {"class_found_by": "search"}

    @property
    def setting(self) -> Setting:
        """The properties of this projector that starts need."""
        relaxed = self.class_idx == "relaxed"
        return Setting(
            self.generator,
            self.net,
            self.method.space,
            self.options,
            self.c,
            relaxed,
            self.samples,
            self.encoder,
        )

    def samples(self) -> Samples:
        """Samples of the network, of this projector's class, for the starts that need them; made once."""
        key = () if self.c is None else tuple(self.c.flatten().tolist())
        if key not in self._samples:
            self._samples = {key: Samples(self.generator, self.distance, self.view.observe, self.c, self.progress)}
        return self._samples[key]

    def project(
        self,
        targets: Sequence[Target],
        *,
        init: Init | Sequence[Init | None] | None = None,
        sequence: bool = False,
        save_noise: bool = False,
        keep_steps: bool = False,
        batch: int | str = 1,
        truth: Sequence[Target] | None = None,
        compose: bool = False,
        callback: Callable[[int, Step], object] | None = None,
        checkpoints: Checkpoints | None = None,
        read_first: bool = True,
        **reading: Any,
    ) -> Iterator[Projection]:
        """Project targets. Everything is checked now; each projection is made when it is asked for, and none is kept.

        Args:
            targets: files, or arrays or tensors in the shape of the network's outputs ((C, H, W) uint8 for pictures).
            init: where to start: None for the method's own start, a name in `starts.STARTS` (such as "mean"), or a
                code, a projection, a file of codes or a folder with one; one for all targets, or a list of one for each.
            sequence: the targets are frames of a video: each but the first starts from the result of the one before.
            save_noise: keep the optimised noise maps in the code, and render with them. Without them the output is rendered
                with the network's stored maps, as the official tool does.
            keep_steps: keep the code after each step, for a video.
            batch: the number of targets that share a pass on a GPU. "auto" measures the memory of one target, and lets
                as many share a pass as fit (result.json then has the measurement). A CPU takes them one after another
                whatever this says: for networks of official sizes that is about as fast, and the results are then those
                of single runs to the last bit.
            truth: the whole targets, for targets that are ``observed``; results are compared with them.
            compose: also make the output into which is put what the target shows of it: the pixels that a mask leaves known, or the
                brightness of a grey target.
            callback: called with the index of the first target of the pass, and the `Step`.
            checkpoints: writes the state of each pass now and then, and goes on from a state that it finds. On a CPU
                the result is that of an undisturbed run to the last bit, "seconds" and time limits aside. The file is
                removed when the next result is asked for.
            read_first: True reads all targets now, so that one that cannot be read is reported before the work begins.
            reading: how files are brought to shape, by the names of the medium's options (for pictures ``fit``,
                ``background`` and ``align``, see `media.reading.PictureReading`).

        Raises:
            ValueError: an argument, with what was expected. Its kinds `ImageFileError`, `CodeFileError` and
                `ProjectionError` are for unreadable pictures, for codes that do not fit, and for other arguments; and, while
                projections are made, for distances that are NaN or infinite.
        """
        run = _Run(
            self,
            targets,
            init,
            sequence,
            save_noise,
            keep_steps,
            batch,
            truth,
            compose,
            callback,
            checkpoints,
            read_first,
            reading,
        )
        return run.projections()

    def targets_per_pass(self, batch: int | str) -> int:
        """How many targets are computed together. For "auto" the memory of one is measured on CUDA, at the first call.

        Args:
            batch: as for `project`.
        """
        device = self.generator.device
        if self.searches_class:
            return 1
        if self.method.one_pass:
            return max(batch, ONE_PASS_BATCH) if isinstance(batch, int) else ONE_PASS_BATCH
        if device.type == "cpu" or not self.options.shares_passes:
            return 1
        if isinstance(batch, int):
            return batch
        if device.type != "cuda":
            return 1  # the memory of a step can be measured on CUDA only
        if self.memory is None:
            self.prepare()
            one = torch.zeros([1, *self.view.seen.shape], device=device)
            center = self.generator.center(self.method.space or "z", self.c)
            self.memory = measure(self.generator, self.distance, one, center, self.view.observe)
            self._fitting = self.memory.fitting(free(device))
        return max(1, self._fitting // self.options.codes_per_target)

    @cached_property
    def reported(self) -> tuple[dict[str, Distance], dict[str, Any]]:
        """The distances that results report, on the generator's device, and the entries of the record about them."""
        distances, about = self.medium.reported(self.distance)
        together = {**distances, **self.measures}
        return {name: distance.to(self.generator.device) for name, distance in together.items()}, about


class _Run:
    """One call of `Projector.project`: checks its arguments, divides the targets into passes, and makes the results."""

    def __init__(
        self,
        projector: Projector,
        targets: Sequence[Target],
        init: Init | Sequence[Init | None] | None,
        sequence: bool,
        save_noise: bool,
        keep_steps: bool,
        batch: int | str,
        truth: Sequence[Target] | None,
        compose: bool,
        callback: Callable[[int, Step], object] | None,
        checkpoints: Checkpoints | None,
        read_first: bool,
        reading: dict[str, Any],
    ):
        self.projector, self.sequence, self.batch = projector, sequence, batch
        self.checkpoints = None if projector.method.one_pass else checkpoints
        self.save_noise, self.keep_steps, self.callback = save_noise, keep_steps, callback
        self.view, self.compose = projector.view, compose
        self._check_observation(targets, truth)
        if projector.method.one_pass:
            of_steps = {"init": init, "sequence": sequence, "save_noise": save_noise, "keep_steps": keep_steps}
            projector.refuse_steps([name for name, value in of_steps.items() if value])
        if save_noise and not projector.options.fits_noise_maps:
            raise ProjectionError(
                f"method {projector.name!r} as asked for fits no noise maps, so save_noise has no meaning for it"
            )
        self._check_seed(init)
        if sequence and projector.searches_class:
            raise ProjectionError("the class is to be searched for, and the frames of a sequence are of one class")
        if batch != "auto" and (not isinstance(batch, int) or isinstance(batch, bool) or batch < 1):
            raise ProjectionError(f"batch is {batch!r}; expected an integer of at least 1, or 'auto'")
        inits = one_each(init, len(targets))
        if len(inits) != len(targets):
            raise ProjectionError(f"{len(inits)} starting codes for {len(targets)} targets; give one, or one for each")
        self.inits = [projector.method.start if i is None else i for i in inits]
        if projector.encoder is not None and "encoder" not in [i for i in self.inits if isinstance(i, str)]:
            raise ProjectionError(
                "an encoder was given, and neither the method nor the start is 'encoder'; leave it out, or start from it"
            )
        self.alike = not isinstance(init, (list, tuple))  # all targets have the same start
        if not targets:
            raise ProjectionError("no targets were given")
        projector.prepare()
        self.starts = [prepare(i, projector.setting) for i in (self.inits[:1] if self.alike else self.inits)]
        self.targets = Targets(targets, self.view.given, reading, read_first)
        self.truth = None if truth is None else Targets(truth, projector.medium, reading, read_first)
        self.network = {**projector.medium.about(), **_source(projector.network)}
        self.together = 1 if sequence else projector.targets_per_pass(batch)
        self.memory = projector.memory if batch == "auto" else None
        if self.memory is not None:
            self.together = min(self.together, len(self.targets))
        self.previous: Code | None = None  # the result of the frame before

    def _check_observation(self, targets: Sequence[Target], truth: Sequence[Target] | None) -> None:
        """Refuse arguments that make no sense with what is observed."""
        if self.view.observe is not None:
            self.view.check_pictures()
        if self.compose:
            self.view.check_compose()
        if truth is not None and not self.view.observed:
            raise ProjectionError(
                "the truth is for targets that are observed already; other targets are whole, and the truth themselves"
            )
        if truth is not None and len(truth) != len(targets):
            raise ProjectionError(f"{len(truth)} true pictures for {len(targets)} targets; give one for each")

    def _check_seed(self, init: Init | Sequence[Init | None] | None) -> None:
        """Refuse a seed that nothing would use."""
        projector = self.projector
        inits = one_each(init, 1)
        random = "random" in [
            projector.method.start if i is None else i for i in inits if i is None or isinstance(i, str)
        ]
        if "seed" in projector.chosen and not (projector.options.draws or random or projector.searches_class):
            raise ProjectionError(
                f"seed has no effect here: method {projector.name!r} as asked for draws no random numbers; leave it out"
            )

    def projections(self) -> Iterator[Projection]:
        """The results, in the order of the targets."""
        for first in range(0, len(self.targets), self.together):
            yield from self._pass(first)

    def _pass(self, first: int) -> Iterator[Projection]:
        """The results of the targets that share a pass, beginning with that of number ``first``."""
        projector = self.projector
        last = min(first + self.together, len(self.targets))
        arrays, made = zip(*(self.targets[i] for i in range(first, last)))
        read = torch.from_numpy(np.stack(arrays))
        stored, whole = self.view.stored(read), self._whole(first, last, read)
        shown = self.view.seen.tensor(stored, projector.generator.device)
        one_class, class_record = projector.of_class(shown) if projector.searches_class else (projector, {})
        checkpoint = None if self.checkpoints is None else self.checkpoints.of_pass(first, stored)
        going = None if checkpoint is None else checkpoint.read()
        watch = _Watch(first, self.keep_steps, self.callback, checkpoint, [] if going is None else going.trail)
        began = time.perf_counter()
        state = None if going is None else going.state
        fit = one_class.fit_compared(shown, self._start(one_class, first, shown), watch, state)
        seconds = (time.perf_counter() - began + (0.0 if going is None else going.seconds)) / len(stored)
        self.previous = fit.code[-1:]
        for i, code in enumerate(fit.code):
            code = code if self.save_noise else code.without_noise()
            output = torch.from_numpy(render_rounded(one_class.generator, code))
            distances, about = projector.reported
            truth = None if whole is None else whole[i]
            metrics, composed = self.view.judged(stored[i], output, truth, self.compose, distances)
            options = {**self._options(one_class, first + i), **class_record}
            yield Projection(
                code=code.to("cpu"),
                target=stored[i],
                image=output,
                metrics={**metrics, **about},
                distance=fit.distance[:, i],
                record={
                    "method": projector.name,
                    "space": code.space,
                    "medium": one_class.generator.medium,
                    "options": options,
                    **{name: values[i] for name, values in fit.notes.items()},
                    "network": self.network,
                    "target": made[i],
                    "seconds": round(seconds, 3),
                    "versions": _versions(one_class.generator.device),
                },
                steps=[codes[i : i + 1] for codes in watch.trail] or None,
                generator=one_class.generator,
                truth=truth,
                composed=composed,
            )
        if checkpoint is not None:
            checkpoint.remove()

    def _whole(self, first: int, last: int, read: torch.Tensor) -> torch.Tensor | None:
        """The whole targets (N, ...) of a pass, where what is compared is observed of them; None if they are not known."""
        if self.view.observe is None:
            return None
        if not self.view.observed:
            return read
        if self.truth is None:
            return None
        return torch.from_numpy(np.stack([self.truth[i][0] for i in range(first, last)]))

    def _start(self, projector: Projector, first: int, shown: torch.Tensor) -> Code:
        """The starting codes of a pass."""
        if self.sequence and self.previous is not None:
            return self.previous
        c = None if projector.c is None else projector.c.expand(len(shown), -1)
        if projector is not self.projector:  # its class was searched for
            return prepare(self.inits[first], projector.setting)(shown, c)
        if self.alike:
            return self.starts[0](shown, c)
        one_label = None if c is None else c[:1]
        return joined([self.starts[first + i](shown[i : i + 1], one_label) for i in range(len(shown))])

    def _options(self, projector: Projector, number: int) -> dict[str, Any]:
        """The entries of a result's record about all settings."""
        from_before = self.sequence and number > 0
        record = {
            **dataclasses.asdict(projector.options),
            **projector.loss_record,
            **self.view.record,
            "class": projector.class_idx,
            "init": "the result before" if from_before else name_of(self.inits[number]),
        }
        if projector.generator.asks_for_prior:
            record["z_prior"] = projector.generator.prior.family
        record["noise"] = "optimised, saved with the code" if self.save_noise else "the network's own"
        record["batch"] = self.together
        if self.memory is not None:
            record["memory"] = dataclasses.asdict(self.memory)
        return record


class _Watch:
    """The callback of one pass: keeps the code of each step if it is wanted, and tells the caller and the checkpoint.

    Attributes:
        trail: the codes after each step, without noise maps, on the CPU.
    """

    def __init__(
        self,
        first: int,
        keep_steps: bool,
        callback: Callable[[int, Step], object] | None,
        checkpoint: Checkpoint | None,
        trail: list[Code],
    ):
        self.first, self.keep_steps, self.callback, self.checkpoint = first, keep_steps, callback, checkpoint
        self.trail = trail

    def __call__(self, step: Step) -> None:
        if self.keep_steps:
            self.trail.append(step.code.without_noise().to("cpu").detached_copy())
        if self.callback is not None:
            self.callback(self.first, step)
        if self.checkpoint is not None:
            self.checkpoint.after(step, self.trail)


def _frozen(G: torch.nn.Module | GeneratorAdapter) -> torch.nn.Module | GeneratorAdapter:
    """The network in eval mode and without gradients: itself if it is, else a copy."""
    if not isinstance(G, torch.nn.Module) or not (G.training or any(p.requires_grad for p in G.parameters())):
        return G
    frozen = copy.deepcopy(G).eval().requires_grad_(False)
    carry(G, frozen)
    return frozen


def _source(G: torch.nn.Module | GeneratorAdapter) -> dict[str, Any]:
    """The record of a network's origin. A network that was changed after it was read does not get its file's hash."""
    provenance = provenance_of(getattr(G, "network", G))
    record: dict[str, Any] = {"file": provenance.file, "sha256": provenance.sha256}
    if provenance.changed:
        record["changed"] = True
    return record if provenance.tuned_from is None else {**record, "tuned_from": {"sha256": provenance.tuned_from}}


def _versions(device: torch.device) -> dict[str, str]:
    return {
        "stylegan_invert": stylegan_invert.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }
