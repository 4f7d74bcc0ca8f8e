"""The table of projection methods and presets."""

import importlib
import importlib.metadata
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


def _named(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


OWN = object()  # the start that a method draws for itself


class Method(NamedTuple):
    """A projector by name.

    Attributes:
        space: in which its codes start; None for a method that takes any, or chooses its own.
        target: where its function is, "module:function". It is called with (generator, target, loss, start, options,
            callback), as `optimise`, and returns a `Fit`.
        options: where its options class is, "module:class"; see `base.option`.
        start: where it begins if nothing else is asked for: "mean", "de" for what the network's discriminator finds, or
            `OWN` for what `latent.drawn` draws.
        one_pass: it takes no steps, and pictures share passes on every device.
        preset: values of options, and of "loss", that differ from the defaults: those of a paper or of its code.
    """

    space: str | None
    target: str
    options: str = "stylegan_invert.projectors.w:Options"
    start: Any = "mean"
    one_pass: bool = False
    preset: Mapping[str, Any] = {}

    def load(self) -> Callable:
        return _named(self.target)

    def options_class(self) -> type:
        return _named(self.options)


_HERE = "stylegan_invert.projectors"
_OPTIMISE = f"{_HERE}.w:optimise"
_LATENT = (None, f"{_HERE}.z:latent", f"{_HERE}.z:LatentOptions", OWN)
_DENSE = (None, f"{_HERE}.dense:dense", f"{_HERE}.dense:DenseOptions", OWN)

# Pividori et al., from their code (algorithms of its params_latent.json and params_dense.json), data terms and penalties as
# means.
_PIVIDORI_CODE = {
    "loss": "mse=0.25,features=1", "penalty": "mean", "optimizer": "adam", "steps": 15000, "initial_learning_rate": 0.1, "lr_drops": 2,
    "start_bound": 0.001, "lambda_z": 0.1, "layer_steps": 15000, "layer_learning_rate": 0.01, "layer_lr_drops": 2,
    "lambda_delta": 10.0, "delta_unit": "one",
}  # fmt: skip
# The same in the paper's notation: sums of squares on the scale [0, 1], |z|^2 and |delta|_1 as they are. The weights are the
# code's times 128 * 128 * 3 over the number of entries of the network it was made for (features 8x8x1280, z of 120, a dense
# layer of 24576), so that on that network both have the same minimum.
_PIVIDORI_PAPER = {
    **_PIVIDORI_CODE, "loss": "sse=1,features-sum=0.6", "penalty": "sum", "lambda_z": 40.96, "lambda_delta": 20.0,
}  # fmt: skip

# Wulff & Torralba, section 3; the schedules of rate and exploration are the official ones, over 10,000 steps too.
_WULFF = {"prior_weight": 1e-4, "noise_maps": "fixed", "loss": "lpips-squeeze=1"}

METHODS = {
    "w": Method("w", _OPTIMISE),  # the official projector: one w for all layers
    "w+": Method("w+", _OPTIMISE),  # one w per layer: closer to the target
    # with the Gaussian prior in V, as published
    "wulff-w": Method("w", _OPTIMISE, preset={**_WULFF, "initial_learning_rate": 0.1, "steps": 1000}),
    "wulff-w+": Method("w+", _OPTIMISE, preset={**_WULFF, "initial_learning_rate": 0.05, "steps": 10000}),
    # the same optimisation in whitened coordinates of V
    "v": Method("v", _OPTIMISE),
    "v+": Method("v+", _OPTIMISE),
    # what the network's discriminator finds in one pass
    "de": Method("z", f"{_HERE}.one_pass:direct", f"{_HERE}.base:NoOptions", start="de", one_pass=True),
    "z": Method(*_LATENT, preset={"loss": "mse=1"}),  # the latent itself
    # z, then a displacement at a layer: closest to pictures that the network cannot make
    "dense": Method(*_DENSE, preset={"loss": "mse=0.25,features=1"}),
    "pividori-code": Method(*_DENSE, preset=_PIVIDORI_CODE),
    "pividori-paper": Method(*_DENSE, preset=_PIVIDORI_PAPER),
}

ENTRY_POINTS = "stylegan_invert.projectors"


def find_method(name: str) -> Method:
    """A method of this package, or of another through the entry-point group ``stylegan_invert.projectors``.

    Such an entry point names a `Method`.

    Raises:
        ValueError: there is none of that name.
    """
    if name in METHODS:
        return METHODS[name]
    others = {e.name: e for e in importlib.metadata.entry_points(group=ENTRY_POINTS)}
    if name in others:
        return others[name].load()
    raise ValueError(f"method {name!r} is unknown; expected one of {', '.join([*METHODS, *others])}")
