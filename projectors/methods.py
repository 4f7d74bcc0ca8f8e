"""The table of projection methods and presets. No torch is imported here."""

import contextlib
import importlib
import importlib.metadata
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from stylegan_invert.errors import meant

from .settings import DenseOptions, EncoderMethodOptions, LatentOptions, MethodOptions, RobustOptions, WOptions


class Method(NamedTuple):
    """A projection method by name.

    Attributes:
        space: the space in which its codes start; None for a method that takes any, or chooses its own.
        fit: the function, or "module:function". It is called with (generator, objective, start, options, descend), as
            `w.fit` is, and returns a `descent.Fit`.
        options: its options class; see `settings.MethodOptions`.
        start: the start if the user names none: a name in `starts.STARTS`.
        one_pass: True if it takes no steps; pictures then share passes on every device.
        prior_optional: True if the preset's prior in V is left out on networks that have no V.
        preset: values of options, and of "loss", that differ from the defaults: those of a paper or of its code.
        about: a few words for ``stylegan-invert project --help``.
    """

    space: str | None
    fit: Callable | str
    options: type[MethodOptions] = MethodOptions
    start: str = "mean"
    one_pass: bool = False
    preset: Mapping[str, Any] = {}
    prior_optional: bool = False
    about: str = ""

    def load(self) -> Callable:
        """The function of the method; its file is imported now."""
        if callable(self.fit):
            return self.fit
        module, _, name = self.fit.partition(":")
        return getattr(importlib.import_module(module), name)


_HERE = "stylegan_invert.projectors"
W = f"{_HERE}.w:fit"
ROBUST = f"{_HERE}.robust:fit"
Z = f"{_HERE}.z:fit"
DENSE = f"{_HERE}.dense:fit"
ONE_PASS = f"{_HERE}.one_pass:fit"

# The settings of Pividori et al.'s own code (its files params_latent.json and params_dense.json): data terms and penalties
# are means.
_PIVIDORI_CODE = {
    "loss": "mse=0.25,features=1",
    "penalty": "mean",
    "optimizer": "adam",
    "steps": 15000,
    "initial_learning_rate": 0.1,
    "lr_drops": 2,
    "start_bound": 0.001,
    "lambda_z": 0.1,
    "layer_steps": 15000,
    "layer_learning_rate": 0.01,
    "layer_lr_drops": 2,
    "lambda_delta": 10.0,
    "delta_unit": "one",
}
# The same in the paper's notation: sums of squares on the scale [0, 1], |z|^2 and |delta|_1 as they are. The weights are the
# code's times 128 * 128 * 3 over the number of entries of the network it was made for (features 8x8x1280, z of 120, a dense
# layer of 24576), so that on that network both have the same minimum.
_PIVIDORI_PAPER = {
    **_PIVIDORI_CODE,
    "loss": "sse=1,features-sum=0.6",
    "penalty": "sum",
    "lambda_z": 40.96,
    "lambda_delta": 20.0,
}
# Wulff & Torralba, section 3. The schedules of rate and exploration are the official ones, over 10,000 steps too.
_WULFF = {"prior_weight": 1e-4, "noise_maps": "fixed", "loss": "lpips-squeeze=1"}
# Poirier-Ginter & Lalonde, section 4, and their code: 150 steps a stage, of length 0.08 in W and 0.02 in W+. A rate here is a
# share of the spread of W, which is about 10 in the network of faces that they used.
_ROBUST = {
    "loss": "multi-squeeze=1",
    "optimizer": "normalised",
    "schedule": "constant",
    "steps": 150,
    "initial_learning_rate": 0.008,
}

# The settings that the study of speed found best (docs/reproduce/speed.md). Noise maps and exploration are left out, since the
# saved picture does not have them. The start is a regression on samples of the network. The weight of the prior is so small that
# it costs a tenth of the final LPIPS, and it brings codes of real pictures some 300 times nearer to those of the network's own.
_FAST = {
    "optimizer": "lbfgs",
    "loss": "lpips-squeeze=1,mse=5",
    "steps": 100,
    "patience": 15,
    "prior_weight": 1e-7,
}

_FAST_Z = {name: value for name, value in _FAST.items() if name != "prior_weight"}

METHODS = {
    "w": Method("w", W, WOptions, about="one w for all layers, the official projector"),
    "w+": Method("w+", W, WOptions, about="one w per layer, closer to the target"),
    "fast-w": Method(
        "w",
        W,
        WOptions,
        "regression",
        preset=_FAST,
        prior_optional=True,
        about="w by L-BFGS, from a regression on samples of the network; comes as near as w in a fraction of its time",
    ),
    "fast-w+": Method("w+", W, WOptions, "regression", preset=_FAST, prior_optional=True, about="w+ in the same way"),
    "fast-z": Method(
        "z",
        Z,
        LatentOptions,
        "regression",
        preset=_FAST_Z,
        about="z in the same way, for networks without w",
    ),
    "fast-dense": Method(
        None,
        DENSE,
        DenseOptions,
        "regression",
        preset={**_FAST_Z, "steps": 60, "layer_steps": 60, "layer_optimizer": "lbfgs", "lambda_delta": 0.1},
        about="dense in the same way",
    ),
    "v": Method("v", W, WOptions, about="w in whitened coordinates of V"),
    "v+": Method("v+", W, WOptions, about="w+ in whitened coordinates of V"),
    "wulff-w": Method(
        "w",
        W,
        WOptions,
        preset={**_WULFF, "initial_learning_rate": 0.1, "steps": 1000},
        about="w with the Gaussian prior in V, as in that paper",
    ),
    "wulff-w+": Method(
        "w+",
        W,
        WOptions,
        preset={**_WULFF, "initial_learning_rate": 0.05, "steps": 10000},
        about="w+ with that prior",
    ),
    "restore": Method(
        "w+",
        W,
        WOptions,
        "regression",
        preset={**_FAST, "loss": "multi-squeeze=1,mse=5"},
        prior_optional=True,
        about="fast-w+ with a loss at several resolutions, for damaged pictures (--observe)",
    ),
    "robust": Method(
        "w",
        ROBUST,
        RobustOptions,
        preset=_ROBUST,
        about="w, then w+, by steps of fixed lengths, for damaged pictures (--observe), as in that paper",
    ),
    "de": Method(
        "z",
        ONE_PASS,
        start="de",
        one_pass=True,
        about="the code that the network's discriminator finds in one pass, for networks trained with --head direction",
    ),
    "encoder": Method(
        None,
        ONE_PASS,
        EncoderMethodOptions,
        start="encoder",
        one_pass=True,
        about="the code that an encoder finds in one pass (--encoder), which train-encoder makes for any network",
    ),
    "z": Method(None, Z, LatentOptions, "random", preset={"loss": "mse=1"}, about="the latent"),
    "dense": Method(
        None,
        DENSE,
        DenseOptions,
        "random",
        preset={"loss": "mse=0.25,features=1"},
        about="z, then a displacement at a layer; closest to pictures that the network cannot make",
    ),
    "pividori-code": Method(
        None, DENSE, DenseOptions, "random", preset=_PIVIDORI_CODE, about="dense with all settings of that paper's code"
    ),
    "pividori-paper": Method(
        None, DENSE, DenseOptions, "random", preset=_PIVIDORI_PAPER, about="the same in the paper's notation"
    ),
}

DEFAULTS = {
    "fast-w+": "StyleGAN",
    "fast-dense": "networks that begin with a dense layer",
    "fast-z": "all others",
}
"""The methods that are used if none is named, and for which networks; see `default_method`."""


def default_method(spaces: Collection[str], dense: str | None) -> str:
    """The method if the user names none.

    Args:
        spaces: the spaces of the network's adapter.
        dense: the name of the dense layer that the network begins with; None if there is none.
    """
    if "w+" in spaces:
        return "fast-w+"
    return "fast-z" if dense is None else "fast-dense"


STARTS = ("mean", "random", "de", "encoder", "nearest", "regression")
"""Names of starts; `starts.STARTS` has their functions."""

ENTRY_POINTS = "stylegan_invert.projectors"


def other_methods() -> dict[str, importlib.metadata.EntryPoint]:
    """The methods of other packages, by name. Each entry point of the group names a `Method`."""
    return {e.name: e for e in importlib.metadata.entry_points(group=ENTRY_POINTS)}


def all_methods() -> dict[str, Method]:
    """The methods of this package and of others, by name; those of others are imported, and left out if that fails."""
    others = {}
    for name, entry in other_methods().items():
        with contextlib.suppress(
            Exception
        ):  # a broken package must not take the command with it; naming its method says why
            others[name] = entry.load()
    return {**METHODS, **{name: method for name, method in others.items() if name not in METHODS}}


def find_method(name: str) -> Method:
    """A method of this package, or of another through the entry-point group ``stylegan_invert.projectors``.

    Raises:
        ValueError: there is none of that name.
    """
    if name in METHODS:
        return METHODS[name]
    others = other_methods()
    if name in others:
        return others[name].load()
    names = [*METHODS, *others]
    raise ValueError(f"method {name!r} is unknown; expected one of {', '.join(names)}{meant(name, names)}")
