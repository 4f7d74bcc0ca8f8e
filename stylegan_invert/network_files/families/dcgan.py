"""DCGAN and WGAN generators from plain state dicts.

The order and the sizes of the layers follow from the tensors. Strides, paddings and enlargements between layers do not,
nor do the activations and the prior of z. Where all transposed convolutions have kernels of 4x4, as in PyTorch's own
example, they are taken to double the map, and `DCGAN.assumed` says so. Where other kernels leave it open, the user is
asked (``--assume``).
"""

import copy
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from ...errors import NetworkFileError
from ...files.tensors import TensorRecord, tables
from ...networks.dcgan import ACTIVATIONS, DCGAN, OUTPUTS, UPSAMPLING, Discriminator, Layer
from ..assemble import EXPECTED, Budget, Source, assemble, constructing
from ..checks import COMMON_SIZES, MAX_LAYERS, Assumptions, Check, Known, none_or, number, one_of
from ..unknown import kind

KINDS = ("transposed", "conv")
YES, NO = (True, 1, "yes", "true", "True"), (False, 0, "no", "false", "False")


def items(value: Any) -> list[Any]:
    """The items of a list that a user gives as a list, as the text "1/2/2", or as one item. Whole floats become int."""
    values = value if isinstance(value, (list, tuple)) else value.split("/") if isinstance(value, str) else [value]
    return [_whole(v) for v in values]


def _whole(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"\d{1,4}", value.strip()):
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _numbers(low: int, high: int) -> Check:
    """None, or whole numbers, one for every convolution or one for all."""
    words = f"whole numbers from {low} to {high} with / between them, one per convolution, or one for all"
    return none_or((words, lambda v: all(type(n) is int and low <= n <= high for n in items(v))))


def _words(words: Sequence[str]) -> Check:
    return f"words of {', '.join(words)}, with / between them", lambda v: all(w in words for w in items(v))


ASSUMED: Assumptions = {
    "activation": ("relu", _words(list(ACTIVATIONS))),
    "output": ("tanh", one_of(OUTPUTS)),
    "bn_eps": (1e-5, number(0, 1)),
    "kinds": (None, none_or(_words(KINDS))),
    "strides": (None, _numbers(1, 64)),
    "paddings": (None, _numbers(0, 64)),
    "output_paddings": (None, _numbers(0, 63)),
    "upsample": (None, _numbers(1, 64)),
    "upsample_mode": ("nearest", one_of(UPSAMPLING)),
    "classes": (0, ("a number of classes", lambda v: type(_whole(v)) is int and 0 <= _whole(v) < 2**16)),
    "classes_first": (False, ("yes or no", lambda v: v in YES or v in NO)),
}
"""Values that such a file does not state: by name, the usual value and the check.

activation: after each layer but the last: one word for all, or one for each.
output: after the last layer.
bn_eps: of batch normalisation.
kinds: "transposed" or "conv" for each weight with a kernel, in the file's order.
strides, paddings, output_paddings: of these convolutions; None stands for the usual ones, see `build`.
upsample: the factor by which the map is enlarged before each of these convolutions.
upsample_mode: how it is enlarged.
classes: the number of classes whose one-hot label is joined to z.
classes_first: whether the label lies before z.
"""

MAX_KERNEL = 64
PER_CONVOLUTION = ("kinds", "strides", "paddings", "output_paddings", "upsample")
TRANSPOSED = re.compile(r"conv_?t|deconv|tconv|transp", re.IGNORECASE)  # what a name says of a layer

NORM = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


CLASSES = {"dcgan.DCGAN": Known(DCGAN, {}), "dcgan.Discriminator": Known(Discriminator, COMMON_SIZES)}


def find(root: Any) -> dict[str, tuple[str, dict[str, TensorRecord]]]:
    """The generator in a file as "G_ema", see `find_generator`; empty if there is none."""
    generator = find_generator(root)
    return {"G_ema": generator} if generator is not None else {}


def find_generator(root: Any) -> tuple[str, dict[str, TensorRecord]] | None:
    """The place of a generator's state dict in a file, and the dict; None if there is none.

    If there are several, one whose key does not name a discriminator is taken; among these, averaged weights ("ema")
    come first, and then keys that name a generator ("netG", "generator", ...).
    """
    dicts = [
        (place, tensors)
        for place, tensors, _ in tables(root)
        if any(len(v.shape) == 4 for v in tensors.values()) and not kind(tensors)
    ]
    if not dicts:
        return None

    def rank(place: str) -> tuple[bool, bool, bool]:
        words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", place)
        generator = any(w in ("G", "g", "Generator", "generator", "gen", "Gen") for w in words)
        discriminator = any(
            w in ("D", "d", "Discriminator", "discriminator", "dis", "disc", "Critic", "critic") for w in words
        )
        return discriminator, not any(w.lower() == "ema" for w in words), not generator

    return min(dicts, key=lambda item: rank(item[0]))


def build(
    place: str, tensors: Mapping[str, TensorRecord], file: object, budget: Budget, assumed: Mapping[str, Any]
) -> DCGAN:
    """The generator of a state dict, in eval mode and without gradients.

    Args:
        place: where in the file the state dict is.
        tensors: the tensors of the state dict, by name.
        file: the name of the file, for errors.
        budget: the memory budget.
        assumed: a value for every name of `ASSUMED`.

    Raises:
        NetworkFileError: its layers do not make a generator of this kind; with the layer and the reason.
    """
    groups = _groups(tensors, file, place)
    layers, names = _layers(groups, assumed, file, place)
    classes = _whole(assumed["classes"])
    activation = items(assumed["activation"])
    with constructing(file, place, "its layers"):
        network = DCGAN(
            layers,
            activation[0] if len(activation) == 1 else activation,
            assumed["output"],
            assumed["bn_eps"],
            classes,
            assumed["classes_first"] in YES,
            assumed["upsample_mode"],
        )
    sources: dict[str, Source] = {}
    modules = [name for name, child in network.named_children() if child.state_dict()]
    for module, prefix in zip(modules, names, strict=True):
        for name, value in getattr(network, module).state_dict().items():
            inputs = {f"{prefix}.{name}": (groups[prefix].get(name), tuple(value.shape))}
            counter = name == "num_batches_tracked"  # it is used in training alone
            sources[f"{module}.{name}"] = Source({}, _no_batches) if counter else Source(inputs)
    network = assemble(network, sources, file, place, budget, misfit=EXPECTED)
    if assumed["strides"] is None and _trained(groups):
        _check_statistics(network, file, place)
    if not classes:
        network.assumed += _label_in_words(network, _trained(groups))
    return network


def _no_batches() -> torch.Tensor:
    return torch.zeros([], dtype=torch.int64)


def _groups(tensors: Mapping[str, TensorRecord], file: object, place: str) -> dict[str, dict[str, TensorRecord]]:
    """The tensors of each module, in the file's order."""
    groups: dict[str, dict[str, TensorRecord]] = {}
    for name, record in tensors.items():
        prefix, _, last = name.removeprefix("module.").rpartition(".")
        if last not in NORM:
            raise NetworkFileError(
                file,
                f"{place}.{name}",
                "it belongs to no dense, convolution or batch normalisation layer; expected those of a DCGAN",
            )
        groups.setdefault(prefix, {})[last] = record
    if len(groups) > 2 * MAX_LAYERS:
        raise NetworkFileError(file, place, f"it has {len(groups)} layers; a DCGAN has far fewer")
    return groups


def _layers(
    groups: Mapping[str, Mapping[str, TensorRecord]], assumed: Mapping[str, Any], file: object, place: str
) -> tuple[list[Layer], list[str]]:
    """The layers, and the names of the modules of layers and normalisations in their order."""
    prefixes = list(groups)
    weighted = [p for p in prefixes if "running_mean" not in groups[p]]
    shapes = {p: tuple(groups[p]["weight"].shape) if "weight" in groups[p] else () for p in weighted}
    convolutions = [p for p in weighted if len(shapes[p]) == 4]
    given = _given(assumed, convolutions, weighted[:1] == convolutions[:1], file, place)
    by_name = any(TRANSPOSED.search(p) for p in weighted)
    layers: list[Layer] = []
    for prefix in weighted:
        where = f"{place}.{prefix}" if place else prefix
        following = prefixes[prefixes.index(prefix) + 1 :]
        norm = groups[following[0]] if following and "running_mean" in groups[following[0]] else None
        shape, own = shapes[prefix], dict(given.get(prefix, {}))
        kind = own.pop("kinds", None)
        if kind is None and by_name and len(shape) == 4:
            kind = "transposed" if TRANSPOSED.search(prefix) else "conv" if "conv" in prefix.lower() else None
        if layers == []:
            second = weighted[1] if len(weighted) > 1 else ""
            # A kind that the user gives counts more than what the second layer's name says.
            told = given.get(second, {}).get("kinds") or ("transposed" if TRANSPOSED.search(second) else None)
            sizes = _first(shape, shapes.get(second, ()), told, norm, file, where)
        else:
            sizes = _later(shape, layers[-1].out_channels, kind, file, where)
        layer = Layer(*sizes, "bias" in groups[prefix], "none", **own)
        if norm is not None:
            layer = _normalised(layer, norm, file, f"{place}.{following[0]}" if place else following[0])
        layers.append(layer)
    if len(layers) < 2 or layers[-1].out_channels not in (1, 3, 4):
        channels = layers[-1].out_channels if layers else 0
        raise NetworkFileError(
            file, place, f"its {len(layers)} layers end in {channels} channels; expected pictures of 1, 3 or 4"
        )
    _ask(layers, convolutions, assumed, file, place)
    return layers, prefixes


def _given(
    assumed: Mapping[str, Any], convolutions: Sequence[str], from_z: bool, file: object, place: str
) -> dict[str, dict[str, Any]]:
    """What the user said of each convolution: its name to the fields of its `Layer`, and "kinds".

    ``from_z`` is True if the first of them takes z. One number that is given for all is not meant for it.
    """
    given: dict[str, dict[str, Any]] = {name: {} for name in convolutions}
    for name in PER_CONVOLUTION:
        if assumed[name] is None:
            continue
        values = items(assumed[name])
        if len(values) == 1 and len(convolutions) > 1:
            values = [None if from_z else values[0], *values * (len(convolutions) - 1)]
        if len(values) != len(convolutions):
            reason = f"{name} has {len(values)} entries for the {len(convolutions)} convolutions"
            raise NetworkFileError(file, place, f"{reason} {_listed(convolutions)}; expected one for each")
        for prefix, value in zip(convolutions, values):
            if value is None:
                continue
            given[prefix][name if name in ("kinds", "upsample") else name.removesuffix("s")] = value
    return given


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


def _normalised(layer: Layer, norm: Mapping[str, TensorRecord], file: object, where: str) -> Layer:
    """The layer with the batch normalisation that follows it."""
    size = norm["running_mean"].numel
    kinds = {layer.out_channels: "channels"}
    if layer.kind == "linear":
        kinds.setdefault(layer.out_channels * layer.kernel**2, "features")
    if size not in kinds:
        reason = f"it normalises {size} numbers; the layer before it gives {layer.out_channels} channels"
        raise NetworkFileError(file, where, reason)
    return replace(layer, norm=kinds[size], affine="weight" in norm)


def _ask(layers: Sequence[Layer], names: Sequence[str], assumed: Mapping[str, Any], file: object, place: str) -> None:
    """Refuse layers whose strides or enlargements the tensors leave open, unless the user has said them."""
    later = layers[1:]
    transposed = [layer.kernel for layer in later if layer.kind == "transposed"]
    order = f"in the order {_listed(names)}"
    example = "/".join(["2" if layers[0].kind == "linear" else "1"] + ["2"] * (len(names) - 1))
    usual = "paddings=... and output_paddings=... where these do not multiply the side of the map by the stride"
    if not transposed and assumed["upsample"] is None and assumed["strides"] is None:
        reason = (
            "it enlarges its map between plain convolutions, and its tensors do not say where; give --assume "
            f"upsample={example} with the factor before each convolution, {order}, "
            "and upsample_mode=bilinear if pixels are not repeated"
        )
        raise NetworkFileError(file, place, reason)
    if set(transposed) - {4} and assumed["strides"] is None:
        kernels = ", ".join(f"{k}x{k}" for k in transposed)
        reason = (
            f"its transposed convolutions have kernels of {kernels}, and its tensors do not say their strides; give "
            f"--assume strides={example}, one for each convolution, {order}, and "
            f"{usual}"
        )
        raise NetworkFileError(file, place, reason)


Sizes = tuple[str, int, int, int]
"""kind, in_channels, out_channels and kernel of a `Layer`."""


def _first(
    shape: tuple[int, ...], second: tuple[int, ...], kind: str | None, norm: Mapping | None, file: object, where: str
) -> Sizes:
    """The layer that takes z: a matrix, or a transposed convolution of a 1x1 map.

    Args:
        shape: of its weight.
        second: the shape of the next layer's weight.
        kind: of the next layer, if it is known.
        norm: the batch normalisation between the two, or None.
        file: its name, for errors.
        where: the place of the layer in the file.
    """
    if len(shape) == 4 and shape[2] == shape[3] and min(shape) > 0:
        return "transposed", shape[0], shape[1], shape[2]
    if len(shape) == 2 and min(shape) > 0 and len(second) == 4:
        # The map's channels are those that the next layer takes: the first size of a transposed convolution, the second
        # of a plain one. Even kernels are those of transposed ones.
        size = norm["running_mean"].numel if norm is not None else 0
        by_kind = {"transposed": second[:1], "conv": second[1:2]}
        candidates = by_kind.get(kind or "", second[: 1 if second[2] % 2 == 0 else 2])
        candidates = (size,) if size in second[:2] and kind is None else candidates
        fitting = {c: side for c in candidates if c and (side := math.isqrt(shape[0] // c)) and c * side**2 == shape[0]}
        if len(fitting) == 1:
            ((channels, side),) = fitting.items()
            return "linear", shape[1], channels, side
        if fitting:
            sides = " or ".join(f"{c} channels of {side}x{side}" for c, side in fitting.items())
            reason = (
                f"its {shape[0]} numbers are {sides}; say with --assume kinds=... which convolutions are transposed"
            )
            raise NetworkFileError(file, where, f"{reason}, as in kinds=transposed/transposed/conv")
    raise NetworkFileError(file, where, f"its weight has shape {shape}; expected the dense layer that takes z")


def _later(shape: tuple[int, ...], channels: int, kind: str | None, file: object, where: str) -> Sizes:
    """A convolution of a map with these channels. The weight of a transposed one is (in, out, k, k), that of a plain one
    (out, in, k, k)."""
    if len(shape) == 4 and shape[2] == shape[3] and 0 < min(shape) and shape[2] <= MAX_KERNEL:
        k = shape[2]
        fits = {"transposed": shape[0] == channels, "conv": shape[1] == channels}
        if kind is None and all(fits.values()) and k % 2:
            reason = (
                f"a weight of shape {shape} fits a transposed and a plain convolution, which make different pictures"
            )
            raise NetworkFileError(
                file, where, f"{reason}; say --assume kinds=..., as in kinds=transposed/transposed/conv"
            )
        for name in KINDS:
            if fits[name] and kind in (None, name):
                return (name, *(shape[:2] if name == "transposed" else shape[1::-1]), k)
    named = "a convolution" if kind is None else {"transposed": "a transposed convolution", "conv": "a plain one"}[kind]
    raise NetworkFileError(file, where, f"its weight has shape {shape}; expected {named} of {channels} channels")


# What the statistics of batch normalisation say


def _trained(groups: Mapping[str, Mapping[str, TensorRecord]]) -> bool:
    """True if the file keeps statistics of at least 100 batches."""
    counts = [group["num_batches_tracked"] for group in groups.values() if "num_batches_tracked" in group]
    return bool(counts) and all(c.numel == 1 and int(c.to_tensor()) >= 100 for c in counts)


def _check_statistics(network: DCGAN, file: object, place: str) -> None:
    """Refuse strides and paddings with which the maps have other variances than the file's normalisations have stored.

    A transposed convolution with a smaller stride adds up more numbers for each pixel, so a wrong stride shows. The maps
    of 32 latents are normalised by their own statistics, as in training, so that each layer is judged alone. The first
    layer, whose variance depends on the prior of z, is left out.
    """
    trial = copy.deepcopy(network).train()
    norms = [m for m in trial.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    stored = [m.get_buffer("running_var").clone() for m in norms]
    for norm in norms:
        norm.momentum = 1.0
    random, n = torch.Generator().manual_seed(0), 32
    classes = torch.randint(max(network.c_dim, 1), [n], generator=random)
    c = torch.nn.functional.one_hot(classes, network.c_dim) if network.c_dim else None
    with torch.no_grad():
        trial(torch.randn([n, network.z_dim], generator=random), c)
    for norm, before in list(zip(norms, stored))[1:]:
        ratio = float((norm.get_buffer("running_var") / before.clamp(min=1e-12)).median())
        if not 1 / 3 < ratio < 3:
            reason = (
                "the statistics that its normalisation has stored do not fit the usual strides and paddings (a variance "
                f"is {ratio:.2g} times as large); give --assume strides=..., paddings=..., which are then taken as given"
            )
            raise NetworkFileError(file, place, reason)


def _label_in_words(network: DCGAN, trained: bool) -> str:
    """A hint that a part of z is a one-hot label, if the statistics say so, or that nothing says so."""
    norm = getattr(network, "dense_norm", None)
    found = label_size(network.get_submodule("dense"), norm) if trained and norm is not None else None
    if found is None:
        return ", z without a label in it (if it has one: --assume classes=N)"
    if not found[0]:
        return ""
    first = ",classes_first=yes" if found[1] else ""
    return f", all of z from one distribution, although {found[0]} of its numbers seem to be a label of {found[0]} " + (
        f"classes: if they are, give --assume classes={found[0]}{first}"
    )


def label_size(dense: torch.nn.Module, norm: torch.nn.Module) -> tuple[int, bool] | None:
    """The number of classes of a one-hot label that is joined to z, and whether it comes first; (0, False) for none.

    The mean input m of the first layer solves W m + bias = stored mean. Entries of z have the mean 0, those of a label
    the frequencies of the classes, whose sum is 1.

    Args:
        dense: the first layer.
        norm: the batch normalisation after it.

    Returns:
        None if the layer has fewer outputs than inputs, so that m cannot be found.
    """
    weight, mean = dense.get_parameter("weight").detach().double(), norm.get_buffer("running_mean").double()
    if weight.ndim == 4:
        weight = weight.mean(dim=[2, 3]).t()
    own = dict(dense.named_parameters()).get("bias")
    bias = torch.zeros(len(weight)).double() if own is None else own.detach().double()
    if len(weight) != len(mean) and weight.ndim == 2:  # a matrix, and one mean for each channel of its map
        weight = weight.unflatten(0, (len(mean), -1)).mean(dim=1)
        bias = bias.unflatten(0, (len(mean), -1)).mean(dim=1) if len(bias) != len(mean) else bias
    if len(weight) < weight.shape[1]:
        return None
    m = torch.linalg.lstsq(weight, (mean - bias)[:, None]).solution.flatten()
    found = []
    for first in (False, True):
        entries = m if first else m.flip(0)
        for n in range(2, min(len(m), 1025)):
            label, rest = entries[:n], entries[n:]
            error = abs(float(label.sum()) - 1)
            if error < 0.15 and float(label.min()) > 0.3 / n and float(rest.abs().mean()) < 0.25 / n:
                found.append((error, n, first))
    return min(found)[1:] if found else (0, False)
