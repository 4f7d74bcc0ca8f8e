"""The options of every method: names, defaults, ranges, help texts and flags, each declared once.

Python callers, ``stylegan-invert project`` and result.json all read these classes. No torch is imported here, so that
``--help`` stays quick. A method of another package has its own class, derived from `MethodOptions`, wherever it likes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from stylegan_invert.errors import ProjectionError
from stylegan_invert.options import SEED, check_options, option


@dataclass(frozen=True)
class MethodOptions:
    """The options that every method has. A method that takes no options uses this class as it is.

    Attributes:
        prior_weight: weight of the Gaussian prior in V; 0 leaves it out.
        seed: the random seed for the numbers drawn for a target.
    """

    prior_weight = 0.0
    seed = 0

    @property
    def searches_z(self) -> bool:
        """True if z is optimised, so that a relaxed class can be found together with it."""
        return False

    @property
    def fits_noise_maps(self) -> bool:
        """True if noise maps are optimised, so that they can be kept."""
        return False

    @property
    def codes_per_target(self) -> int:
        """How many codes of one target are rendered in the same pass."""
        return 1

    @property
    def shares_passes(self) -> bool:
        """True if targets that share a pass are quicker than one after another, on a GPU."""
        return True

    @property
    def draws(self) -> bool:
        """True if random numbers are drawn after the start, so that the seed matters."""
        return True

    def without_effect(self) -> dict[str, str]:
        """Options that do nothing beside the others, by name, and why."""
        return {}

    def total_steps(self, targets: int) -> int:
        """The steps of a pass over this many targets, for a progress bar."""
        return 0


@dataclass(frozen=True)
class EncoderMethodOptions(MethodOptions):
    """Settings of the method "encoder".

    Attributes:
        refine: passes after the first, for an encoder that was trained for them (Alaluf et al. 2021, ReStyle); None
            takes as many as in its training.
    """

    refine: int | None = option(
        None,
        0,
        1000,
        whole=True,
        or_none=True,
        help="For encoder: passes after the first, each from the reconstruction before.",
        unset="as in its training",
    )


@dataclass(frozen=True)
class PriorOptions(MethodOptions):
    """The Gaussian prior in V, for every method whose codes stand on a w.

    Attributes:
        prior_weight: lambda of equations 2 and 4 of Wulff & Torralba: the weight of the squared Mahalanobis distance of v
            from its mean, summed over dimensions and, in W+, over layers. The paper has 1e-4. 0 leaves the prior out.
    """

    prior_weight: float = option(
        0.0,
        help="Weight of the Gaussian prior in V, a sum over dimensions and layers, for StyleGAN; a good one is 1e-4.",
    )


OPTIMIZERS = ("adam", "lbfgs", "lbfgs-b")
ROW_BY_ROW = "lbfgs-b"  # the optimiser that takes one code after another
NORMALISED = "normalised"
CLIPS = ("none", "standard", "stochastic")


@dataclass(frozen=True)
class AnchorOptions(PriorOptions):
    """A pull back to the start, for every method that searches z or w.

    Attributes:
        anchor_weight: weight of the squared distance from the start, in units of the mean squared distance of random codes
            from their mean, and in W+ and V+ averaged over layers. It is the smoothness of Zhu et al., "Generative visual
            manipulation on the natural image manifold" (iGAN, 2016), equation 5. 0 leaves it out.
    """

    anchor_weight: float = option(
        0.0, help="Weight of the code's distance from its start; 1 is for a distance as that of random codes."
    )


@dataclass(frozen=True)
class StoppingOptions(AnchorOptions):
    """When a search ends before its last step.

    Attributes:
        patience: it ends when this many steps gained less than ``min_gain``; None goes on.
        min_gain: share of the distance that ``patience`` steps must gain.
        time_limit: seconds of a pass, after which it ends; searches that follow one another, and restarts under L-BFGS-B,
            share them. None goes on.
        target_distance: it ends when the distance of all targets is at most this; None goes on.
    """

    patience: int | None = option(
        None, 1, 10**9, whole=True, or_none=True, help="Stop when so many steps gained too little.", unset="go on"
    )
    min_gain: float = option(0.01, 0, 1, help="What --patience steps must gain, as a share of the distance.")
    time_limit: float | None = option(
        None, above=True, or_none=True, help="Stop after so many seconds.", metavar="SECONDS", unset="go on"
    )
    target_distance: float | None = option(
        None, or_none=True, help="Stop at this distance.", metavar="D", unset="go on"
    )

    optimizer = "adam"

    @property
    def shares_passes(self) -> bool:
        return self.optimizer != ROW_BY_ROW

    def without_effect(self) -> dict[str, str]:
        return {} if self.patience is not None else {"min_gain": "patience is not given"}


@dataclass(frozen=True)
class WOptions(StoppingOptions):
    """Settings of the search in W, W+, V and V+; the defaults are those of the official projector.

    Attributes:
        steps: number of steps.
        seed: the random seed; every target starts its own generator from it.
        initial_learning_rate: the peak of Adam's rate.
        initial_noise_factor: exploration noise on w at the start, in deviations of w.
        lr_rampdown_length: share of the run over which the rate falls along a cosine.
        lr_rampup_length: share of the run over which the rate rises from zero.
        noise_ramp_length: share of the run after which there is no exploration noise.
        schedule: "official", the ramps above; "cosine" falls along half a cosine from the first step on; "constant" stays.
        beta1: Adam's decay of the average gradient.
        beta2: Adam's decay of the average squared gradient.
        noise_maps: "optimised" together with the code, or "fixed" at the network's own; None, which becomes one of these,
            optimises them with Adam and fixes them with the others. L-BFGS would be disturbed by whitening them after each
            step.
        regularize_noise_weight: weight of the penalty that keeps optimised noise maps white.
        optimizer: "adam"; "normalised", steps along the gradient of each w, whose length is the rate times the network's
            spread in the space, as in "Robust Unsupervised StyleGAN Image Restoration" (Poirier-Ginter & Lalonde, CVPR
            2023, section 4); or "lbfgs" or "lbfgs-b", which know no rate. Only Adam explores.
    """

    steps: int = option(1000, 1, 10**9, whole=True, help="Optimisation steps.", flag="--steps,--num-steps")
    seed: int = option(303, **SEED, help="Random seed; each target starts from it.")
    initial_learning_rate: float = option(0.1, above=True, help="Peak learning rate of Adam.", flag="--lr")
    initial_noise_factor: float = option(
        0.05,
        help="Exploration noise on w at the start, in deviations of w; 0 suits a start that is near.",
        flag="--noise-factor",
    )
    lr_rampdown_length: float = option(0.25, 1e-6, help="Share of the run over which the rate falls to zero.")
    lr_rampup_length: float = option(0.05, 1e-6, help="Share of the run over which the rate rises from zero.")
    noise_ramp_length: float = option(0.75, 1e-6, help="Share of the run that has exploration noise.")
    schedule: str = option(
        "official",
        words=("official", "cosine", "constant"),
        help="How the rate rises and falls; cosine falls from the first step on, constant stays.",
    )
    beta1: float = option(0.9, 0, 0.999999, help="Adam's decay of the average gradient.")
    beta2: float = option(0.999, 0, 0.999999, help="Adam's decay of the average squared gradient.")
    noise_maps: str | None = option(
        None,
        words=("optimised", "fixed"),
        or_none=True,
        help="For w, w+, v, v+: fit the noise maps too, or leave the network's own.",
        unset="optimised with Adam, else fixed",
    )
    regularize_noise_weight: float = option(1e5, help="Weight of the penalty that keeps fitted noise maps white.")
    optimizer: str = option("adam", words=(*OPTIMIZERS, NORMALISED), help="The optimiser.")

    def __post_init__(self) -> None:
        if self.noise_maps is None:
            object.__setattr__(self, "noise_maps", "optimised" if self.optimizer == "adam" else "fixed")
        elif self.noise_maps == "optimised" and self.optimizer != "adam":
            raise ProjectionError(
                f"noise_maps is 'optimised' and the optimizer {self.optimizer!r}; only adam fits noise maps, so leave them "
                "'fixed'"
            )

    @property
    def fits_noise_maps(self) -> bool:
        return self.noise_maps == "optimised"

    @property
    def draws(self) -> bool:
        return self.optimizer == "adam" and (self.fits_noise_maps or self.initial_noise_factor > 0)

    def without_effect(self) -> dict[str, str]:
        idle = super().without_effect()
        if not self.fits_noise_maps:
            idle["regularize_noise_weight"] = "noise_maps is fixed"
        ramps = ("lr_rampdown_length", "lr_rampup_length")
        if self.schedule != "official":
            idle |= dict.fromkeys(ramps, f"the schedule is {self.schedule}")
        if self.optimizer != "adam":
            of_adam = ("initial_noise_factor", "noise_ramp_length", "beta1", "beta2")
            idle |= dict.fromkeys(of_adam, "the optimizer is not adam")
        if self.optimizer not in ("adam", NORMALISED):
            of_rate = ("initial_learning_rate", "schedule", *ramps)
            idle |= dict.fromkeys(of_rate, _own_steps(self.optimizer))
        return idle

    def total_steps(self, targets: int) -> int:
        return self.steps * (targets if self.optimizer == ROW_BY_ROW else 1)

    def learning_rate(self, step: int) -> float:
        """The rate in a step, counted from 0."""
        t = step / self.steps
        if self.schedule == "constant":
            return self.initial_learning_rate
        if self.schedule == "cosine":
            return self.initial_learning_rate * (0.5 + 0.5 * math.cos(t * math.pi))
        ramp = min(1.0, (1.0 - t) / self.lr_rampdown_length)
        ramp = 0.5 - 0.5 * math.cos(ramp * math.pi)
        return self.initial_learning_rate * ramp * min(1.0, t / self.lr_rampup_length)

    def noise_ramp(self, step: int) -> float:
        """Exploration noise in a step, as a share of that at the start."""
        return max(0.0, 1.0 - step / self.steps / self.noise_ramp_length) ** 2


@dataclass(frozen=True)
class RobustOptions(WOptions):
    """Settings of the stages of `robust`, each of ``steps`` steps. The first searches W, the second W+.

    Attributes:
        stage_rate: the rate of a stage, as a share of that of the stage before.
    """

    stage_rate: float = option(
        0.25, 1e-6, 1, help="For robust: the rate in W+, as a share of that in W before.", metavar="SHARE"
    )

    def without_effect(self) -> dict[str, str]:
        idle = {**super().without_effect(), "anchor_weight": "the second stage of robust starts where the first ended"}
        return idle if "initial_learning_rate" not in idle else {**idle, "stage_rate": idle["initial_learning_rate"]}

    def total_steps(self, targets: int) -> int:
        return 2 * super().total_steps(targets)


@dataclass(frozen=True)
class LatentOptions(StoppingOptions):
    """Settings of the search for z.

    Attributes:
        steps: the number of the optimiser's steps, per restart.
        seed: the random seed; every target starts its own generator from it.
        optimizer: "adam", "lbfgs" (with a strong Wolfe line search, see `lbfgs`) or "lbfgs-b" (SciPy's).
        initial_learning_rate: Adam's first learning rate. For L-BFGS the line search finds the length of a step.
        lr_drops: the rate is multiplied by 0.1 every steps / lr_drops steps; 1 leaves it.
        clip: the treatment of an entry of z that leaves the bounds, after each step: "none", "standard" sets it to the
            bound, "stochastic" draws it anew from the prior within the bounds. L-BFGS-B has the bounds built in, and
            takes "none" or "standard".
        bound: the bounds are -bound and bound; None takes the prior's (1 for uniform, 3 for normal).
        lambda_z: weight of -log P(z), zero at the mode (lambda_1 of Pividori et al.).
        penalty: "sum" takes that as it is, "mean" divides it by the number of entries of z.
        restarts: this many starts are optimised, and the best of them is the result.
        halvings: so many times, after equal shares of the steps, the worse half of each target's starts is dropped
            (successive halving).
        start_bound: starts are drawn from the prior, given that no entry exceeds this; None for the whole prior.
        class_vector: "held", or "relaxed": the class is the softmax of as many numbers as there are classes, which are
            found together with z.
    """

    steps: int = option(500, 1, 10**9, whole=True, help="Optimisation steps.", flag="--steps,--num-steps")
    seed: int = option(303, **SEED, help="Random seed; each target starts from it.")
    optimizer: str = option("lbfgs-b", words=OPTIMIZERS, help="The optimiser.")
    initial_learning_rate: float = option(0.1, 1e-12, help="Peak learning rate of Adam.", flag="--lr")
    lr_drops: int = option(
        2, 1, 1000, whole=True, help="For z: how often the rate falls, by a factor of ten each time."
    )
    clip: str = option(
        "none",
        words=CLIPS,
        help="For z: the treatment of entries that leave the bounds, after every step.",
    )
    bound: float | None = option(
        None, 1e-6, or_none=True, help="The bounds that --clip holds.", unset="the prior's, 1 or 3"
    )
    lambda_z: float = option(0.0, help="For z: weight of -log P(z).")
    penalty: str = option(
        "mean",
        words=("mean", "sum"),
        help="How the penalties of z and of the displacement are taken over their entries.",
    )
    restarts: int = option(1, 1, 10**6, whole=True, help="For z: starts to try; the best counts.")
    halvings: int = option(
        0, 0, 20, whole=True, help="For z: how often the worse half of the starts is dropped on the way."
    )
    start_bound: float | None = option(
        None, 0, or_none=True, help="For z: draw starts with no entry beyond this.", unset="no limit"
    )
    class_vector: str = option("held", words=("held", "relaxed"), flag="")  # --class relaxed asks for it

    @property
    def searches_z(self) -> bool:
        return True

    @property
    def codes_per_target(self) -> int:
        return self.restarts

    def without_effect(self) -> dict[str, str]:
        idle = super().without_effect()
        if self.optimizer != "adam":
            idle |= dict.fromkeys(("initial_learning_rate", "lr_drops"), _own_steps(self.optimizer))
        if self.clip == "none":
            idle["bound"] = "clip is none; choose standard or stochastic"
        if self.restarts < 2**self.halvings:
            idle["halvings"] = f"{self.halvings} halvings need at least {2**self.halvings} restarts"
        elif self.steps <= self.halvings:
            idle["halvings"] = f"{self.halvings} halvings need more than {self.steps} steps"
        return idle

    @property
    def draws(self) -> bool:
        return self.restarts > 1 or self.clip == "stochastic"

    @property
    def rounds(self) -> list[tuple[int, int]]:
        """For each round of successive halving, how many starts a target has left, and its steps."""
        share, count = self.steps // (self.halvings + 1), self.halvings + 1
        steps = [share] * (count - 1) + [self.steps - share * (count - 1)]
        return [(self.restarts >> i, steps[i]) for i in range(count)]

    def total_steps(self, targets: int) -> int:
        return sum(steps * (targets * left if self.optimizer == ROW_BY_ROW else 1) for left, steps in self.rounds)

    def rate(self, step: int) -> float:
        """Adam's rate in a step, counted from 0."""
        return staircase(self.initial_learning_rate, step, self.steps, self.lr_drops)


@dataclass(frozen=True)
class DenseOptions(LatentOptions):
    """Settings of the two steps; those of the first are `LatentOptions`.

    Attributes:
        layer: where to split; None takes the first dense layer, before its activation.
        first_step: "z" finds z* first; "none" takes the start as it is, and lets the displacement do everything.
        layer_steps: steps of Adam for the displacement.
        layer_learning_rate: its rate, at first.
        layer_lr_drops: the rate is multiplied by 0.1 every layer_steps / layer_lr_drops steps.
        lambda_delta: weight of the L1 norm of the displacement (lambda_2); 0 leaves it free. None finds a weight for each
            target from ``delta_share``.
        delta_share: the weight is such that soft thresholding by it leaves this share of the squared length of the
            distance's slopes at z*; more makes the displacement larger.
        delta_unit: the unit of the displacement, for its norm and its learning rate: "one", as in the paper, or
            "spread", the layer's own standard deviation over the prior, so that both mean the same on every network.
        layer_optimizer: "adam", "lbfgs" or "lbfgs-b"; for the displacement.
        styles: the other inputs of the layers behind, as the w of a StyleGAN2 or the later chunks of a BigGAN's z: "held",
            or "optimised" together with the displacement, z with the penalty of the first step.

    ``penalty`` is for both penalties: "sum" takes norms as they are, "mean" divides them by the number of entries.
    """

    layer: str | None = option(
        None,
        words=("",),
        or_none=True,
        help="For dense: where to split, a layer that inspect lists.",
        metavar="NAME",
        unset="the first dense one",
    )
    first_step: str = option("z", words=("z", "none"), help="For dense: none leaves out the search for z.")
    layer_steps: int = option(500, 1, 10**9, whole=True, help="For dense: steps of the displacement.")
    layer_learning_rate: float = option(0.05, 1e-12, help="For dense: rate of the displacement.", flag="--layer-lr")
    layer_lr_drops: int = option(2, 1, 1000, whole=True, help="For dense: how often that rate falls to a tenth.")
    lambda_delta: float | None = option(
        None,
        or_none=True,
        help="For dense: weight of the displacement's L1 norm.",
        unset="from --delta-share",
    )
    delta_share: float = option(
        0.7,
        0,
        1,
        help="For dense: find that weight from the slopes of the distance at z*. This share of their squared length is "
        "left; with more, the displacement is larger.",
    )
    delta_unit: str = option(
        "spread",
        words=("one", "spread"),
        help="For dense: the unit of the displacement: one, or the layer's own spread.",
    )
    layer_optimizer: str = option("adam", words=OPTIMIZERS, help="For dense: the optimiser of the displacement.")
    styles: str = option(
        "held",
        words=("held", "optimised"),
        help="For dense: the other inputs of the layers behind, as w, or a BigGAN's later chunks of z, held or optimised.",
    )

    @property
    def searches_z(self) -> bool:
        return self.first_step == "z"

    @property
    def codes_per_target(self) -> int:
        return self.restarts if self.searches_z else 1

    @property
    def draws(self) -> bool:
        return self.searches_z and super().draws

    def without_effect(self) -> dict[str, str]:
        idle = super().without_effect()
        if self.first_step == "none":
            of_z = {f.name for f in fields(LatentOptions)}
            of_z -= {"seed", "start_bound", "penalty"}  # the first two make the start
            of_z -= {"lambda_z"} if self.styles == "optimised" else set()
            of_z -= {f.name for f in fields(StoppingOptions)} - {"anchor_weight"}
            idle |= dict.fromkeys(of_z, "it is for the search for z, and first_step is none")
        if self.lambda_delta is not None:
            idle["delta_share"] = (
                f"lambda_delta is {self.lambda_delta:g}, so that the weight is not found from the slopes"
            )
        if self.layer_optimizer != "adam":
            idle |= dict.fromkeys(("layer_learning_rate", "layer_lr_drops"), _own_steps(self.layer_optimizer))
        return idle

    def total_steps(self, targets: int) -> int:
        of_layer = self.layer_steps * (targets if self.layer_optimizer == ROW_BY_ROW else 1)
        return of_layer + (super().total_steps(targets) if self.searches_z else 0)

    @property
    def shares_passes(self) -> bool:
        return super().shares_passes and self.layer_optimizer != ROW_BY_ROW

    def layer_rate(self, step: int) -> float:
        """Adam's rate in a step of the second part, counted from 0."""
        return staircase(self.layer_learning_rate, step, self.layer_steps, self.layer_lr_drops)


@dataclass(frozen=True)
class TuningOptions:
    """Settings of tuning the network to its pictures after the search, see `tuning`.

    Attributes:
        tune: the most passes over the pictures; None takes those of the schedule. A pass takes one step of Adam for each
            picture.
        tune_lpips: a picture whose LPIPS is at most this takes no more steps. PTI's code has 0.06, with the LPIPS of
            AlexNet and 1024 pixels; with that of SqueezeNet and 64 pixels codes of W+ have less before any tuning.
        tune_lr: the highest rate of Adam; None takes that of the schedule.
        tune_schedule: "together" moves all parameters at once (PTI); "progressive" frees the layers from the smallest map
            to the largest, in five stages (deep generative prior). None takes the network's own, which is "progressive"
            for BigGAN.
        tune_layers: which parameters move: names, as patterns with * and ?, and resolutions such as 16 or 8-32, with commas
            between them. None takes all but those of the mapping network and of the class embedding.
        tune_locality: weight of the distance between the pictures that the tuned and the original network make of codes
            near the pivot (PTI, equation 4). PTI's code has 0.1 where this is used.
        tune_locality_alpha: how far these codes are from the pivot, in W+ or z. They lie on the way to random codes, and not
            beyond these.
        tune_locality_samples: so many of them in a step.
        tune_locality_every: they are compared in every so many passes.
        tune_seed: the random seed for them.
    """

    tune: int | None = option(None, 1, 10**6, whole=True, or_none=True, flag="")
    tune_lpips: float | None = option(
        None, or_none=True, help="Tuning ends when LPIPS is at most this.", unset="take all steps"
    )
    tune_lr: float | None = option(
        None,
        above=True,
        or_none=True,
        help="Highest learning rate of tuning.",
        unset="3e-4; 5e-5 with --tune-schedule progressive",
    )
    tune_schedule: str | None = option(
        None,
        words=("together", "progressive"),
        or_none=True,
        help="together: all layers move at once. progressive: they are freed from the smallest map to the largest.",
        unset="progressive for BigGAN, together for all others",
    )
    tune_layers: str | None = option(
        None,
        words=("",),
        or_none=True,
        help="What is tuned: resolutions, as 8-32, and names of parameters, as '*.conv1.*', with commas between them.",
        metavar="LAYERS",
        unset="all layers but the mapping to w and the class embedding",
    )
    tune_locality: float = option(
        0.0, help="Weight of the penalty on changes of other pictures, whose codes are near; PTI's code has 0.1."
    )
    tune_locality_alpha: float = option(30.0, above=True, help="How far from the code these other codes are.")
    tune_locality_samples: int = option(1, 1, 1000, whole=True, help="How many of them a step compares.")
    tune_locality_every: int = option(1, 1, 10**6, whole=True, help="Compare them in every so many steps.")
    tune_seed: int = option(0, **SEED, help="Random seed for them.")

    def without_effect(self) -> dict[str, str]:
        """Options that do nothing beside the others, by name, and why."""
        of_locality = ("tune_locality_alpha", "tune_locality_samples", "tune_locality_every", "tune_seed")
        return {} if self.tune_locality else dict.fromkeys(of_locality, "tune_locality is 0")


def _own_steps(optimizer: str) -> str:
    return f"the optimizer {optimizer} finds the length of its steps itself; choose adam"


def staircase(rate: float, step: int, steps: int, drops: int) -> float:
    """A learning rate in a step, counted from 0: multiplied by 0.1 every steps / drops steps."""
    return rate * 0.1 ** (step * drops // steps)


def build_options(cls: type, preset: Mapping[str, Any], chosen: Mapping[str, Any]) -> Any:
    """The options of a method, or of tuning, as an object of ``cls``. Chosen values replace those of its preset, and these
    replace the defaults.

    Raises:
        ProjectionError: a name is unknown to the method, a value is out of its range, or a chosen option has no effect
            beside the others.
    """
    values = {**preset, **chosen}
    check_options(cls, values, ProjectionError)
    settings = cls(**values)
    idle = settings.without_effect()
    for name in chosen:
        if name in idle:
            raise ProjectionError(f"{name} has no effect here: {idle[name]}")
    return settings
