"""StyleGAN2 and StyleGAN3 generators from the state dicts of official classes, as ``torch.save(G.state_dict(), f)`` writes.

Names and shapes of the tensors say nearly everything: sizes, classes, channels, layers, architecture, kernels, filters
and whether there is noise. `ASSUMED` has the rest. The networks compute in float32 on every device.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch

from ...errors import NetworkFileError
from ...files.tensors import TensorRecord, tables, unwrapped
from ...networks import stylegan2, stylegan3
from ...ops import ACTIVATIONS, setup_filter
from ..assemble import Budget, assemble, by_name, constructing
from ..checks import MAX_LAYERS, MAX_RESOLUTION, MAX_SIZE, Assumptions, not_zero, one_of
from .rosinality import STANDARD_FILTER, _channel_rule

CLAMP = ("a number of at least 0, or none", lambda v: v in (None, "none") or type(v) in (int, float) and 0 <= v < 1e18)

ASSUMED: dict[str, Assumptions] = {
    "stylegan2": {
        "conv_clamp": (256, CLAMP),
        "activation": ("lrelu", one_of(ACTIVATIONS)),
        "lr_multiplier": (0.01, not_zero),
    },
    "stylegan3": {"conv_clamp": (256, CLAMP), "lr_multiplier": (0.01, not_zero)},
}
"""Values that a state dict does not state: for each family, by name, what official train.py chooses, and the check.

conv_clamp: the largest magnitude of a convolution's output; "none" for no limit.
activation: of all layers.
lr_multiplier: the learning rate of the mapping network, a factor of its weights and biases.
"""

MARKS = {
    "stylegan2": {"synthesis.b4.const", "mapping.fc0.weight"},
    "stylegan3": {"synthesis.input.freqs", "mapping.fc0.weight"},
}
LAYER = re.compile(r"synthesis\.L(\d{1,3})_(\d{1,5})_(\d{1,5})\.weight")
MISFIT = "it is of shape {found}; the other tensors ask for {wanted}"


def find(root: Any, family: str) -> dict[str, tuple[str, dict[str, TensorRecord]]]:
    """The generators of a family in a file, "G_ema" and perhaps "G": the place and the tensors by name; empty if none."""
    found = {place: own for place, tensors, _ in tables(root) if MARKS[family] <= (own := unwrapped(tensors)).keys()}
    if not found:
        return {}
    ema = min(found, key=lambda place: "ema" not in place.lower())
    networks = {"G_ema": (ema, found[ema])}
    for place, own in found.items():
        if place != ema and place.rpartition(".")[2] == "G":
            networks.setdefault("G", (place, own))
    return networks


class _Shapes:
    """The shapes of the tensors of one state dict. Errors say which tensor is wrong, and where it is."""

    def __init__(self, tensors: Mapping[str, TensorRecord], file: object, place: str):
        self.tensors, self.file, self.place = tensors, file, place

    def refuse(self, name: str, reason: str) -> NetworkFileError:
        return NetworkFileError(self.file, ".".join(filter(None, (self.place, name))), reason)

    def __call__(self, name: str, ndim: int) -> tuple[int, ...]:
        record = self.tensors.get(name)
        if record is None:
            raise self.refuse(name, "it is missing; expected the state dict of an official generator")
        shape = tuple(record.shape)
        if len(shape) != ndim or not all(1 <= n <= MAX_SIZE for n in shape):
            raise self.refuse(name, f"its shape is {shape}; expected {ndim} sizes from 1 to {MAX_SIZE}")
        return shape

    def mapping(self, lr_multiplier: float) -> tuple[dict[str, Any], dict[str, Any]]:
        """z_dim, c_dim and w_dim, and the arguments of the mapping network."""
        count = 0
        while f"mapping.fc{count}.weight" in self.tensors and count <= MAX_LAYERS:
            count += 1
        if count > MAX_LAYERS:
            raise self.refuse("mapping", f"it has more than {MAX_LAYERS} layers; networks have far fewer")
        first, w_dim = self("mapping.fc0.weight", 2), self(f"mapping.fc{count - 1}.weight", 2)[0]
        classes = "mapping.embed.weight" in self.tensors
        embedded, c_dim = self("mapping.embed.weight", 2) if classes else (0, 0)
        if first[1] < embedded:
            raise self.refuse("mapping.fc0.weight", f"it takes {first[1]} numbers, and the label alone has {embedded}")
        kwargs: dict[str, Any] = {"num_layers": count, "lr_multiplier": lr_multiplier}
        kwargs |= {"embed_features": embedded} if embedded not in (0, w_dim) else {}
        kwargs |= {"layer_features": first[0]} if count > 1 and first[0] != w_dim else {}
        if "mapping.w_avg" not in self.tensors:
            kwargs["w_avg_beta"] = None
        return {"z_dim": first[1] - embedded, "c_dim": c_dim, "w_dim": w_dim}, kwargs


def _clamp(value: Any) -> float | None:
    return None if value in (None, "none") else value


def build_stylegan2(
    place: str, tensors: Mapping[str, TensorRecord], file: object, budget: Budget, assumed: Mapping[str, Any]
) -> stylegan2.Generator:
    """The generator of a state dict of stylegan2-ada-pytorch or stylegan3, in eval mode, without gradients, float32.

    Raises:
        NetworkFileError: a tensor is missing, unknown, or of a shape that does not fit the others.
    """
    shapes = _Shapes(tensors, file, place)
    resolutions = [4]
    while f"synthesis.b{2 * resolutions[-1]}.conv1.weight" in tensors and resolutions[-1] < MAX_RESOLUTION:
        resolutions.append(2 * resolutions[-1])
    last = f"synthesis.b{resolutions[-1]}"
    widths = {res: shapes(f"synthesis.b{res}.conv1.weight", 4)[0] for res in resolutions}
    sizes, mapping_kwargs = shapes.mapping(assumed["lr_multiplier"])
    architecture = "orig"
    if len(resolutions) > 1:
        architecture = "skip" if "synthesis.b4.torgb.weight" in tensors else architecture
        architecture = "resnet" if f"{last}.skip.weight" in tensors else architecture
    synthesis_kwargs = {
        **_channel_rule(widths, file, place),
        "architecture": architecture,
        "conv_clamp": _clamp(assumed["conv_clamp"]),
        "activation": assumed["activation"],
        "kernel_size": shapes("synthesis.b4.conv1.weight", 4)[2],
        "use_noise": "synthesis.b4.conv1.noise_const" in tensors,
    }
    kernel = tensors.get("synthesis.b4.resample_filter")
    if kernel is not None and 1 <= len(kernel.shape) <= 2 and 0 < kernel.numel <= 31**2:
        taps = kernel.to_float32()
        if not bool(torch.isfinite(taps).all()) or abs(float(taps.sum())) < 1e-6:
            raise shapes.refuse("synthesis.b4.resample_filter", "its sum is zero or no number; expected a filter")
        if taps.shape != (4, 4) or not torch.equal(taps, setup_filter(STANDARD_FILTER)):
            synthesis_kwargs["resample_filter"] = taps.tolist()
    sizes |= {"img_resolution": resolutions[-1], "img_channels": shapes(f"{last}.torgb.weight", 4)[0]}
    with constructing(file, place, "its shapes"):
        network = stylegan2.Generator(**sizes, mapping_kwargs={**mapping_kwargs, "activation": assumed["activation"]},
                                      synthesis_kwargs=synthesis_kwargs)  # fmt: skip
    unknown = "it is not a part of StyleGAN2's generator; is this another network?"
    return assemble(
        network, by_name(network, tensors), file, place, budget, names=tensors, misfit=MISFIT, unknown=unknown
    )


def build_stylegan3(
    place: str, tensors: Mapping[str, TensorRecord], file: object, budget: Budget, assumed: Mapping[str, Any]
) -> stylegan3.Generator:
    """The generator of a state dict of the stylegan3 repository, in eval mode, without gradients, float32.

    The names of its layers have their sizes and channels. Cutoffs are those that the official code has unless
    told otherwise; sizes and filters that do not follow from them are refused.

    Raises:
        NetworkFileError: a tensor is missing, unknown, or of a shape that does not fit the others.
    """
    shapes = _Shapes(tensors, file, place)
    layers = sorted(tuple(map(int, m.groups())) for name in tensors if (m := LAYER.fullmatch(name)))
    if len(layers) < 2 or len(layers) > MAX_LAYERS or [i for i, _, _ in layers] != list(range(len(layers))):
        raise shapes.refuse("synthesis", f"it has {len(layers)} layers; expected L0, L1, ... without a gap")
    _, resolution, img_channels = layers[-1]
    if not 4 <= resolution <= MAX_RESOLUTION:
        raise shapes.refuse(
            "synthesis", f"its pictures have {resolution} pixels a side; expected 4 to {MAX_RESOLUTION}"
        )
    sizes, mapping_kwargs = shapes.mapping(assumed["lr_multiplier"])
    sizes |= {"img_resolution": resolution, "img_channels": img_channels}
    names = [f"synthesis.L{i}_{size}_{channels}" for i, size, channels in layers]
    kwargs: dict[str, Any] = {
        "num_layers": len(layers) - 1,
        "conv_clamp": _clamp(assumed["conv_clamp"]),
        "num_fp16_res": 0,
        "conv_kernel": shapes(f"{names[0]}.weight", 4)[2],
        "use_radial_filters": any(len(tensors[n].shape) == 2 for n in tensors if n.endswith(".down_filter")),
    }
    with constructing(file, place, "its shapes"):
        widest = stylegan3.Generator(**sizes, **kwargs, channel_base=2**40, channel_max=1)  # for its cutoffs
        cutoffs = [getattr(widest.synthesis, name).out_cutoff for name in widest.synthesis.layer_names[:-1]]
        # The first layer has a margin on both sides, of 10 pixels unless official code was told otherwise.
        kwargs["margin_size"] = 10 + (layers[0][1] - int(widest.synthesis.layer_names[0].split("_")[1])) // 2
        kwargs |= _channels([channels for _, _, channels in layers[:-1]], cutoffs)
        network = stylegan3.Generator(**sizes, mapping_kwargs=mapping_kwargs, **kwargs)
    ours = [f"synthesis.{name}" for name in network.synthesis.layer_names]
    if ours != names:
        found, wanted = next((a, b) for a, b in zip(names, ours) if a != b)
        raise shapes.refuse(found, f"layers of the usual cutoffs would be called {wanted}")
    _check_filters(network, shapes)
    unknown = "it is not a part of StyleGAN3's generator; is this another network?"
    return assemble(
        network, by_name(network, tensors), file, place, budget, names=tensors, misfit=MISFIT, unknown=unknown
    )


def _channels(widths: list[int], cutoffs: list[float]) -> dict[str, int]:
    """channel_base and channel_max with which round(min(base / 2 / cutoff, most)) are the widths.

    Raises:
        ValueError: there are none.
    """
    most = max(widths)
    below = [(w, c) for w, c in zip(widths, cutoffs) if w < most]
    low = max(
        [(w - 0.5) * 2 * c for w, c in below] + [(most - 0.5) * 2 * c for w, c in zip(widths, cutoffs) if w == most]
    )
    high = min([(w + 0.5) * 2 * c for w, c in below], default=max(2 * low, 65536.0))
    powers = [2**k for k in range(32) if low <= 2**k <= high]
    base = powers[0] if powers else round((low + high) / 2)
    if [round(min(base / 2 / c, most)) for c in cutoffs] != widths:
        raise ValueError(f"the channels {', '.join(map(str, widths))} follow no rule min(base / cutoff, most)")
    return {"channel_base": base, "channel_max": most}


def _check_filters(network: stylegan3.Generator, shapes: _Shapes) -> None:
    """Refuse a state dict whose filters are made for other cutoffs than the network's."""
    for name in network.synthesis.layer_names:
        layer = getattr(network.synthesis, name)
        rate = layer.tmp_sampling_rate
        expected = {
            "up_filter": (layer.up_taps, layer.in_cutoff, 2 * layer.in_half_width, rate),
            "down_filter": (layer.down_taps, layer.out_cutoff, 2 * layer.out_half_width, rate, layer.down_radial),
        }
        for part, arguments in expected.items():
            record, f = shapes.tensors.get(f"synthesis.{name}.{part}"), stylegan3.lowpass_filter(*arguments)
            if record is None or f is None or tuple(record.shape) != tuple(f.shape):
                continue  # `assemble` compares names and shapes
            if not torch.allclose(record.to_float32(), f, rtol=0, atol=1e-3):
                reason = (
                    "it is a filter of another cutoff than official networks have, and the tensors do not say which"
                )
                raise shapes.refuse(f"synthesis.{name}.{part}", reason)
