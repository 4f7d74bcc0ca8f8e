"""DCGAN and WGAN generators from plain state dicts.

The order, kinds and sizes of the layers follow from the tensors. A state dict does not state the activations, or
from which prior z was drawn; those that such networks usually have are taken.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch

from ...errors import NetworkFileError
from ...files.tensors import TensorRecord, tables
from ...networks.dcgan import ACTIVATIONS, DCGAN, OUTPUTS, Layer
from ..assemble import EXPECTED, Budget, Source, assemble, constructing
from ..checks import MAX_LAYERS, MAX_RESOLUTION, Assumptions, Known, number, one_of

ASSUMED: Assumptions = {
    "activation": ("relu", one_of(ACTIVATIONS)),
    "output": ("tanh", one_of(OUTPUTS)),
    "bn_eps": (1e-5, number(0, 1)),
}
"""Values that such a file does not state: by name, the usual value and the check."""

NORM = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


CLASSES = {"dcgan.DCGAN": Known(DCGAN, {})}


def find(root: Any) -> dict[str, tuple[str, dict[str, TensorRecord]]]:
    """The generator in a file as "G_ema", see `find_generator`; empty if there is none."""
    generator = find_generator(root)
    return {"G_ema": generator} if generator is not None else {}


def find_generator(root: Any) -> tuple[str, dict[str, TensorRecord]] | None:
    """The place of a generator's state dict in a file, and the dict; None if there is none.

    If there are several, one whose key does not name a discriminator is taken; among these, averaged weights ("ema")
    come first, and then keys that name a generator ("netG", "generator", ...).
    """
    dicts = [(place, tensors) for place, tensors, _ in tables(root) if any(len(v.shape) == 4 for v in tensors.values())]
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
    layers, names = _layers(groups, file, place)
    with constructing(file, place, "its layers"):
        network = DCGAN(layers, assumed["activation"], assumed["output"], assumed["bn_eps"])
    if network.img_resolution > MAX_RESOLUTION:
        raise NetworkFileError(
            file,
            place,
            f"its pictures would have {network.img_resolution} pixels a side; expected at most {MAX_RESOLUTION}",
        )
    sources: dict[str, Source] = {}
    modules = [name for name, child in network.named_children() if child.state_dict()]
    for module, prefix in zip(modules, names, strict=True):
        for name, value in getattr(network, module).state_dict().items():
            inputs = {f"{prefix}.{name}": (groups[prefix].get(name), tuple(value.shape))}
            counter = name == "num_batches_tracked"  # it is used in training alone
            sources[f"{module}.{name}"] = Source({}, _no_batches) if counter else Source(inputs)
    return assemble(network, sources, file, place, budget, misfit=EXPECTED)


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
    groups: Mapping[str, Mapping[str, TensorRecord]], file: object, place: str
) -> tuple[list[Layer], list[str]]:
    """The layers, and the names of the modules of layers and normalisations in their order."""
    layers: list[Layer] = []
    prefixes = list(groups)
    weighted = [p for p in prefixes if "running_mean" not in groups[p]]
    for prefix in weighted:
        where = f"{place}.{prefix}"
        weight = groups[prefix].get("weight")
        shape = tuple(weight.shape) if weight is not None else ()
        bias = "bias" in groups[prefix]
        following = prefixes[prefixes.index(prefix) + 1 :]
        norm = groups[following[0]] if following and "running_mean" in groups[following[0]] else None
        if layers == []:
            layer = _first(shape, bias, groups, weighted[1:2], norm, file, where)
        else:
            layer = _later(shape, bias, layers[-1].out_channels, file, where)
        if norm is not None:
            size = norm["running_mean"].numel
            kinds = {layer.out_channels: "channels", layer.out_channels * layer.kernel**2: "features"}
            if size not in kinds or (kinds[size] == "features" and layer.kind != "linear"):
                raise NetworkFileError(
                    file,
                    f"{place}.{following[0]}",
                    f"it normalises {size} numbers; {prefix} gives {layer.out_channels} channels",
                )
            layer = Layer(
                *[getattr(layer, f) for f in ("kind", "in_channels", "out_channels", "kernel", "bias")],
                kinds[size],
                "weight" in norm,
            )
        layers.append(layer)
    if layers and layers[0].kind == "linear" and all(layer.kind == "conv" for layer in layers[1:]) and len(layers) > 1:
        reason = (
            "it enlarges its maps between convolutions, and its tensors do not say where; only transposed ones are read"
        )
        raise NetworkFileError(file, place, reason)
    if len(layers) < 2 or layers[-1].out_channels not in (1, 3, 4):
        channels = layers[-1].out_channels if layers else 0
        raise NetworkFileError(
            file, place, f"its {len(layers)} layers end in {channels} channels; expected pictures of 1, 3 or 4"
        )
    return layers, prefixes


def _first(
    shape: tuple, bias: bool, groups: Mapping, following: list[str], norm: Mapping | None, file: object, where: str
) -> Layer:
    """The layer that takes z: a matrix, or a transposed convolution of a 1x1 map."""
    if len(shape) == 4 and shape[2] == shape[3] and min(shape) > 0:
        return Layer("transposed", shape[0], shape[1], shape[2], bias, "none")
    if len(shape) == 2 and min(shape) > 0 and following:
        # The map's channels are those that the next layer takes: the first size of a transposed convolution.
        second = groups[following[0]].get("weight")
        channels = second.shape[0] if second is not None and len(second.shape) == 4 else 0
        if (
            second is not None
            and len(second.shape) == 4
            and norm is not None
            and norm["running_mean"].numel in second.shape[:2]
        ):
            channels = norm["running_mean"].numel
        side = round((shape[0] / channels) ** 0.5) if channels else 0
        if side and channels * side**2 == shape[0]:
            return Layer("linear", shape[1], channels, side, bias, "none")
    raise NetworkFileError(file, where, f"its weight has shape {shape}; expected the dense layer that takes z")


def _later(shape: tuple, bias: bool, channels: int, file: object, where: str) -> Layer:
    if len(shape) == 4 and shape[2] == shape[3] and min(shape) > 0:
        k = shape[2]
        # The weight of a transposed convolution is (in, out, k, k), that of a plain one (out, in, k, k). Where both
        # fit, a kernel of 1x1 or 3x3 is taken for a plain convolution, which keeps the size of the picture.
        if shape[1] == channels and k in (1, 3):
            return Layer("conv", shape[1], shape[0], k, bias, "none")
        if shape[0] == channels and 2 <= k <= 9:
            return Layer("transposed", shape[0], shape[1], k, bias, "none")
        if shape[1] == channels and k % 2:
            return Layer("conv", shape[1], shape[0], k, bias, "none")
    raise NetworkFileError(file, where, f"its weight has shape {shape}; expected a convolution of {channels} channels")
