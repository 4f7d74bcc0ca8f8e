"""WaveGAN from TensorFlow's variables (chrisdonahue/wavegan), and from checkpoints of mostafaelaraby/wavegan-pytorch, which
is called the port here.

The variables come from a checkpoint of TensorFlow, or from an .npz file in which each has its name there, such as
"G/z_project/dense/kernel". Official code reshapes what the dense layer gives to 16 samples of C channels, and the port to
C channels of 16 samples, so the rows of the matrix are brought into the port's order.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from ...errors import NetworkFileError
from ...files.tensors import TensorRecord, tables, unwrapped
from ...files.writing import atomic
from ...networks.wavegan import FIRST, KERNEL, WaveGANDiscriminator, WaveGANGenerator
from ..assemble import EXPECTED, Budget, Source, assemble, constructing
from ..checks import MAX_LAYERS, MAX_SIZE, Assumptions, Known, none_or, power_of_two, whole

Tensors = Mapping[str, TensorRecord]
Found = dict[str, tuple[str, dict[str, TensorRecord]]]

ASSUMED: Assumptions = {"sample_rate": (16000, whole(1, 10**6)), "length": (None, none_or(power_of_two(32, 2**20)))}
"""Values that such a file does not state: by name, the usual value and the check.

sample_rate: samples per second.
length: samples of a sound; None takes four times as many as the layer before for every layer, unless the discriminator in
the file says otherwise. The last layer of official networks of 32768 samples has the stride two.
"""

SIZES = {"z_dim": whole(1, MAX_SIZE), "dim": whole(1, MAX_SIZE), "num_channels": whole(1, MAX_SIZE)}
CLASSES = {
    "wavegan.WaveGANGenerator": Known(WaveGANGenerator, SIZES),
    "wavegan.WaveGANDiscriminator": Known(WaveGANDiscriminator, {"dim": SIZES["dim"]}),
}

BESIDE = (
    "discriminator."  # in front of the names of a discriminator's tensors, which are handed on with the generator's
)
NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
LENGTHS = (16384, 32768, 65536)  # that the port has


def find(root: Any) -> Found:
    """The networks of the port in a file."""
    found: Found = {}
    for place, tensors, _ in tables(root):
        names = unwrapped(tensors)
        if "fc1.weight" in names and any(name.startswith("deconv_list.0.transpose_ops.") for name in names):
            found.setdefault("G_ema", (place, names))
        if "fc1.weight" in names and "conv_layers.0.conv1d.weight" in names:
            found.setdefault("D", (place, names))
    return _beside(found)


def find_tensorflow(root: Any) -> Found:
    """The networks in a table of TensorFlow's variables."""
    found: Found = {}
    for place, tensors, _ in tables(root):
        names = {name.removesuffix(":0"): tensor for name, tensor in tensors.items()}
        for role, prefix, mark in (("G_ema", "G/", "z_project/dense/kernel"), ("D", "D/", "output/dense/kernel")):
            if prefix + mark in names:
                own = {k.removeprefix(prefix): v for k, v in names.items() if k.startswith(prefix)}
                found.setdefault(role, (f"{place}.{prefix}" if place else prefix.strip("/"), own))
    return _beside(found)


def _beside(found: Found) -> Found:
    if "G_ema" in found and "D" in found:
        place, tensors = found["G_ema"]
        found["G_ema"] = (place, {**tensors, **{BESIDE + name: t for name, t in found["D"][1].items()}})
    return found


def build(place: str, tensors: Tensors, file: object, budget: Budget, assumed: Mapping[str, Any]) -> torch.nn.Module:
    """A network of the port, in eval mode and without gradients.

    Args:
        place: where in the file its tensors are.
        tensors: its tensors by name; for the generator those of the discriminator, too.
        file: the name of the file, for errors.
        budget: the memory budget.
        assumed: a value for every name of `ASSUMED`.

    Raises:
        NetworkFileError: a tensor is missing or does not fit.
    """
    if "conv_layers.0.conv1d.weight" in tensors:
        layers = _count(tensors, r"conv_layers\.(\d+)\.conv1d\.weight", file, place)
        norm = _trained_norm(tensors, "conv_layers.0.batch_norm.num_batches_tracked")
        channels, dim = _sizes(tensors, "conv_layers.0.conv1d.weight", file, place)[1::-1]
        length = _port_length(layers, tensors, "", assumed)
        with constructing(file, place, "its tensors"):
            D = WaveGANDiscriminator(length, dim, channels, norm, "port", 0)
        return assemble(D, dict(_port_sources(D, tensors)), file, place, budget, misfit=EXPECTED)
    layers = _count(tensors, r"deconv_list\.(\d+)\.transpose_ops\.\d\.weight", file, place)
    nearest = "deconv_list.0.transpose_ops.1.weight" in tensors and len(
        tensors["deconv_list.0.transpose_ops.1.weight"].shape
    ) == 3  # fmt: skip
    norm = any(name.startswith("deconv_list.0.") and name.endswith(".running_mean") for name in tensors)
    z_dim = _sizes(tensors, "fc1.weight", file, place)[1]
    last = _sizes(tensors, f"deconv_list.{layers - 1}.transpose_ops.{int(nearest)}.weight", file, place)
    channels, dim = (last[0], last[1]) if nearest else (last[1], last[0])
    length = _port_length(layers, tensors, BESIDE, assumed)
    with constructing(file, place, "its tensors"):
        rest = ("nearest" if nearest else "zeros", norm, 0, "port", assumed["sample_rate"], "normal")
        G = WaveGANGenerator(length, z_dim, dim, channels, *rest)
    G = assemble(G, dict(_port_sources(G, tensors)), file, place, budget, misfit=EXPECTED)
    return _in_words(G, assumed, BESIDE + "fc1.weight" in tensors)


def build_tensorflow(
    place: str, tensors: Tensors, file: object, budget: Budget, assumed: Mapping[str, Any]
) -> torch.nn.Module:
    """A network of TensorFlow's variables; see `build`."""
    if "output/dense/kernel" in tensors:
        layers = _count(tensors, r"downconv_(\d+)/conv1d/kernel", file, place)
        norm = any("/batch_normalization/" in name for name in tensors)
        _, channels, dim = _sizes(tensors, "downconv_0/conv1d/kernel", file, place)
        with constructing(file, place, "its variables"):
            D = WaveGANDiscriminator(assumed["length"] or FIRST * 4**layers, dim, channels, norm)
        return assemble(D, dict(_tf_sources(D, tensors)), file, place, budget, misfit=EXPECTED)
    layers = _count(tensors, r"upconv_(\d+)/conv(?:1d|2d_transpose)/kernel", file, place)
    nearest = "upconv_0/conv1d/kernel" in tensors
    norm = any("/batch_normalization/" in name for name in tensors if not name.startswith(BESIDE))
    z_dim = _sizes(tensors, "z_project/dense/kernel", file, place)[0]
    name = f"upconv_{layers - 1}/conv{'1d' if nearest else '2d_transpose'}/kernel"
    sizes = _sizes(tensors, name, file, place)
    channels, dim = sizes[:0:-1][:2] if nearest else sizes[2:4] if len(sizes) == 4 else (0, 0)
    taps = _sizes(tensors, "pp_filt/conv1d/kernel", file, place)[0] if "pp_filt/conv1d/kernel" in tensors else 0
    with constructing(file, place, "its variables"):
        rest = ("nearest" if nearest else "zeros", norm, taps, "official", assumed["sample_rate"], "uniform")
        G = WaveGANGenerator(assumed["length"] or FIRST * 4**layers, z_dim, dim, channels, *rest)
    G = assemble(G, dict(_tf_sources(G, tensors)), file, place, budget, misfit=EXPECTED)
    return _in_words(G, assumed, False)


def _in_words(G: WaveGANGenerator, assumed: Mapping[str, Any], stated: bool) -> WaveGANGenerator:
    """The generator, whose ``assumed`` says how long a sound is taken to be where its last stride is not stated."""
    if assumed["length"] is None and not stated:
        G.assumed += f", {G.length} samples"
    return G


def _sizes(tensors: Tensors, name: str, file: object, place: str) -> tuple[int, ...]:
    record = tensors.get(name)
    if record is None or len(record.shape) < 2:
        raise NetworkFileError(file, f"{place}.{name}" if place else name, "it is missing, or no weight of a WaveGAN")
    return tuple(record.shape)


def _count(tensors: Tensors, pattern: str, file: object, place: str) -> int:
    """The number of layers, which are numbered from 0."""
    numbers = {int(match[1]) for name in tensors if (match := re.fullmatch(pattern, name)) and len(match[1]) < 4}
    if not numbers or max(numbers) != len(numbers) - 1 or len(numbers) > MAX_LAYERS:
        raise NetworkFileError(file, place, f"it has {len(numbers)} numbered convolutions; expected 0, 1, 2 and so on")
    return len(numbers)


def _trained_norm(tensors: Tensors, counter: str) -> bool:
    """True if a batch normalisation, which the port has whether it is used or not, has seen a batch."""
    record = tensors.get(counter)
    return record is not None and record.numel == 1 and int(record.to_tensor()) > 0


def _port_length(layers: int, tensors: Tensors, prefix: str, assumed: Mapping[str, Any]) -> int:
    """The samples of a sound. Behind a last stride of two, the port's discriminator has 15 samples, else 16."""
    if assumed["length"] is not None:
        return assumed["length"]
    last, out = (tensors.get(prefix + n) for n in (f"conv_layers.{layers - 1}.conv1d.weight", "fc1.weight"))
    halved = last is not None and out is not None and out.numel == (FIRST - 1) * last.shape[0]
    return FIRST * 4**layers // (2 if halved else 1)


def _port_sources(network: torch.nn.Module, tensors: Tensors) -> Iterator[tuple[str, Source]]:
    for name, value in network.state_dict().items():
        there = _port_name(name, network)
        yield name, Source({there: (tensors.get(there), tuple(value.shape))})


def _port_name(name: str, network: Any) -> str:
    """The name in the port of a tensor of a network."""
    module, _, last = name.rpartition(".")
    if isinstance(network, WaveGANDiscriminator):
        if module == "out":
            return f"fc1.{last}"
        return f"conv_layers.{int(module[4:].split('_')[0]) - 1}.{'batch_norm' if '_' in module else 'conv1d'}.{last}"
    if module in ("dense", "dense_norm"):
        return f"{'fc1' if module == 'dense' else 'bn1'}.{last}"
    at = int(network.init_kwargs["upsample"] == "nearest") + ("_" in module)
    return f"deconv_list.{int(module[2:].split('_')[0]) - 1}.transpose_ops.{at}.{last}"


def _tf_sources(network: torch.nn.Module, tensors: Tensors) -> Iterator[tuple[str, Source]]:
    for name, value in network.state_dict().items():
        there, shape, make = _tf_source(name, value, network)
        if name.endswith("num_batches_tracked"):
            yield name, Source({}, lambda: torch.zeros([], dtype=torch.int64))
        else:
            yield name, Source({there: (tensors.get(there), shape)}, make)


def _tf_source(
    name: str, value: torch.Tensor, network: torch.nn.Module
) -> tuple[str, tuple[int, ...], Callable[[torch.Tensor], torch.Tensor]]:
    """The variable of a tensor, its shape there, and the function from one to the other."""
    module, _, last = name.rpartition(".")
    number = int(re.sub(r"\D", "", module) or 1) - 1
    scope = {"dense": "z_project", "post": "pp_filt", "out": "output"}.get(
        module.removesuffix("_norm"), f"{'up' if module.startswith('up') else 'down'}conv_{number}"
    )
    shape = tuple(value.shape)
    if module.endswith("_norm"):
        return f"{scope}/batch_normalization/{NORM.get(last, last)}", shape, _same
    if module in ("dense", "out"):
        columns = shape[1] if len(shape) > 1 else 0
        kernel = {"dense": (columns, shape[0]), "out": (columns, 1)}[module] if columns else shape
        return f"{scope}/dense/{'bias' if last == 'bias' else 'kernel'}", kernel, _timed(module, last)
    layer = "conv2d_transpose" if isinstance(network._modules[module], torch.nn.ConvTranspose1d) else "conv1d"
    if last == "bias":
        return f"{scope}/{layer}/bias", shape, _same
    if layer == "conv1d":
        return f"{scope}/conv1d/kernel", shape[::-1], lambda w: w.permute(2, 1, 0)
    return f"{scope}/{layer}/kernel", (1, KERNEL, shape[1], shape[0]), lambda w: w[0].permute(2, 1, 0)


def _same(value: torch.Tensor) -> torch.Tensor:
    return value


def _timed(module: str, last: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """The change of order from 16 samples of C channels to C channels of 16 samples."""
    if module == "out":
        return _same if last == "bias" else lambda w: w.reshape(FIRST, -1).t().reshape(1, -1)
    if last == "bias":
        return lambda b: b.reshape(FIRST, -1).t().reshape(-1)
    return lambda w: w.reshape(len(w), FIRST, -1).permute(2, 1, 0).reshape(-1, len(w))


def write(net: Any, path: str | os.PathLike) -> list[str]:
    """Write the networks of a `file.NetworkFile` as a checkpoint of the port: "generator" and "discriminator".

    Args:
        net: the networks.
        path: the file to write.

    Returns:
        A list, in words, of everything that the file does not keep.

    Raises:
        ValueError: the port's generator cannot compute the same.
    """
    G, D = net["G_ema"], net["D"]
    about = G.init_kwargs
    same = about["arrangement"] == "port" or (about["upsample"] == "nearest" and G.strides[-1] == 4)
    if not same or about["post_taps"]:
        why = (
            "it gives every layer's output one sample earlier" if not same else "it has no filter behind the last layer"
        )
        raise ValueError(f"a WaveGAN of official code has no place in a checkpoint of its PyTorch port: {why}")
    lost = ["the sample rate"]
    if about["length"] not in LENGTHS:
        lost.append(f"the port itself makes sounds of {LENGTHS} samples, and these have {G.length}")
    contents = {"generator": _port_state(G, "bn1", ())}
    if D is not None and D.init_kwargs["arrangement"] == "port":
        contents["discriminator"] = _port_state(D, "", [f"conv_layers.{i}.batch_norm" for i in range(len(D.strides))])
    elif D is not None:
        lost.append("the discriminator, whose taps lie elsewhere in the port")
    with atomic(path) as temporary, open(temporary, "wb") as f:
        torch.save(contents, f)
    lost += ["training_set_kwargs"] if net.training_set_kwargs is not None else []
    return lost + [f"the extra tensors {name!r}" for name in sorted(net.extra)]


def _port_state(network: Any, dense: str, norms: Any) -> dict[str, torch.Tensor]:
    """The state dict of the port's module, with the batch normalisations that it has and does not use."""
    state = {_port_name(k, network): v.detach().cpu().clone() for k, v in network.state_dict().items()}
    sizes = {dense: network.layer_shapes["dense"][0]} if dense else {}
    sizes |= {name: len(state[f"{name.removesuffix('batch_norm')}conv1d.bias"]) for name in norms}
    for prefix, size in sizes.items():
        for name, value in torch.nn.BatchNorm1d(size).state_dict().items():
            state.setdefault(f"{prefix}.{name}", value)
    return state
