"""ProGAN networks in official pickles of TensorFlow, and in older ones of Theano.

The arithmetic is that of networks.py in the official repository (`G_paper`, `D_paper`) and of the same functions in
StyleGAN's repository; how Theano's parameters are converted is in the official legacy.py.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import torch

from ...errors import NetworkFileError
from ...files.pickled import show
from ...files.tensors import TensorRecord
from ...networks.dcgan import DenseMap
from ...networks.progan import MAX_RESOLUTION, Discriminator, Generator, widen
from ..assemble import Budget, Make, Source, assemble, constructing
from ..checks import COMMON_SIZES, MAX_SIZE, Check, Known, flag, number, power_of_two, whole
from ..machine.tensorflow import Arguments, TFNetwork, Variables

FUNCTIONS = ("G_paper", "D_paper")  # the official build functions
THEANO_FUNCTIONS = (*FUNCTIONS, "G_progressive_8", "D_progressive_8")


# Name of an argument in official code to its name here, its default, and its check.
COMMON_ARGS: dict[str, tuple[str, Any, Check]] = {
    "resolution": ("img_resolution", 32, power_of_two(4, MAX_RESOLUTION)),
    "num_channels": ("img_channels", 1, whole(1, MAX_SIZE)),
    "label_size": ("c_dim", 0, whole(0, MAX_SIZE)),
    "fmap_base": ("fmap_base", 8192, number(1, 2**31)),
    "fmap_decay": ("fmap_decay", 1.0, number(0, 16)),
    "fmap_max": ("fmap_max", 512, whole(1, MAX_SIZE)),
}
GENERATOR_ARGS = {
    **COMMON_ARGS,
    "latent_size": ("z_dim", None, whole(1, MAX_SIZE, or_none=True)),
    "normalize_latents": ("normalize_latents", True, flag),
    "use_pixelnorm": ("use_pixelnorm", True, flag),
    "pixelnorm_epsilon": ("pixelnorm_epsilon", 1e-8, number(0, 1)),
    "use_leakyrelu": ("use_leakyrelu", True, flag),
}
DISCRIMINATOR_ARGS = {**COMMON_ARGS, "mbstd_group_size": ("mbstd_group_size", 4, whole(0, MAX_SIZE))}
# These change how official code computes, not the result, so they are ignored. Half precision (dtype) is ignored too.
IGNORED = ("structure", "dtype", "is_template_graph")
# Arguments of Theano's functions that have one value in all networks that official code converts: name, value, meaning.
THEANO_FIXED = (
    ("label_size", 0, "classes"),
    ("use_batchnorm", False, "batch normalisation"),
    ("tanh_at_end", None, "tanh after the last layer"),
    ("mbstat_func", "Tstdeps", "another statistic of the batch"),
    ("mbstat_avg", "all", "several statistics of the batch"),
    ("mbdisc_kernels", None, "minibatch discrimination"),
    ("use_layernorm", False, "layer normalisation"),
)
RELU = math.sqrt(2)  # the gain of He's initialisation for a layer that a ReLU follows


CLASSES = {
    "progan.Generator": Known(Generator, COMMON_SIZES),
    "progan.Discriminator": Known(Discriminator, COMMON_SIZES),
}


def is_progan(record: object) -> bool:
    """True for a network of ProGAN's build functions, and for all of Theano, in which ProGAN was first written."""
    return isinstance(record, TFNetwork) and (record.version is None or record.build_func in FUNCTIONS)


class _Layer(NamedTuple):
    """A layer of the network.

    Attributes:
        module: its name here.
        scope: its name in TensorFlow.
        gain: the factor on the layer's weights. Equalised learning rate: stored weights are multiplied by
            gain / sqrt(fan_in).
    """

    module: str
    scope: str
    gain: float


def build(record: TFNetwork, file: object, place: str, budget: Budget) -> Generator | Discriminator:
    """The network of a record, in eval mode, without gradients, float32, on the CPU.

    Reads version 2 (pickles of ProGAN's repository), version 3 (of the same functions in StyleGAN's repository), and
    Theano's, which have no version. An argument that is unknown is ignored with a warning, because official code
    ignores it.

    Raises:
        NetworkFileError: the function is unknown, or arguments and variables do not fit together.
    """
    theano = record.version is None
    known = THEANO_FUNCTIONS if theano else FUNCTIONS
    if theano and record.build_func not in known:
        reason = f"it is a Theano network, built by {show(record.build_func)}; expected one of {', '.join(known)}"
        raise NetworkFileError(file, place, reason)
    if record.build_func not in known or record.version not in (None, 2, 3):
        found = f"version {record.version}, built by {show(record.build_func)}"
        raise NetworkFileError(file, place, f"it is of {found}; expected version 2 or 3 of {', '.join(known)}")
    generates = record.build_func.startswith("G")
    arguments = Arguments(record.static_kwargs, file, place)
    arguments.ignore(*IGNORED)
    if theano:
        for fixed in THEANO_FIXED:
            arguments.refuse_unless(*fixed)
        arguments.ignore("use_gdrop")  # noise in training
        # Official code converts Theano's networks with these two arguments.
        arguments.values.update({"fused_scale": False}, **({} if generates else {"mbstd_group_size": 16}))
    equalised = arguments.take("use_wscale", True, flag)
    fused = arguments.take("fused_scale", True, flag)
    table = GENERATOR_ARGS if generates else DISCRIMINATOR_ARGS
    kwargs = {name: arguments.take(theirs, default, check) for theirs, (name, default, check) in table.items()}
    arguments.finish()
    if record.version == 3 and not generates:
        kwargs["c_dim"] = 0  # the function of this version takes labels and does nothing with them
    variables = Variables(record.variables, file, place)
    kwargs["lod"] = _lod(variables, "cur_lod" if theano else "lod", kwargs["img_resolution"], file, place)
    with constructing(file, place):
        if generates:
            network: Generator | Discriminator = (generator := Generator(**kwargs))
            layers = _generator_layers(generator, fused)
        else:
            network = discriminator = Discriminator(**kwargs, fused_scale=fused)
            layers = _discriminator_layers(discriminator)
    if theano:
        sources = _theano_sources(network, layers, record.theano_params, equalised, file, place)
    else:
        sources = _sources(network, layers, variables, equalised, _layouts(record.version or 0, fused))
        variables.finish()
    return assemble(network, sources, file, place, budget)


def _lod(variables: Variables, name: str, resolution: int, file: object, place: str) -> float:
    """How far the network has grown: the level of detail, limited to its range as in official code."""
    lod = variables.number(name, 0.0)
    if not math.isfinite(lod):
        raise NetworkFileError(file, f"{place}.{name}", f"it is {lod}; expected a finite number")
    return min(max(lod, 0.0), resolution.bit_length() - 3.0)


def _generator_layers(network: Generator, fused: bool) -> list[_Layer]:
    """The layers of the generator, in the order in which Theano stores their parameters."""
    layers = [_Layer("dense", "4x4/Dense", RELU / 4), _Layer("b4.conv1", "4x4/Conv", RELU)]
    for r in network.resolutions[1:]:
        first = "Conv0_up" if fused else "Conv0"
        layers += [_Layer(f"b{r}.conv0", f"{r}x{r}/{first}", RELU), _Layer(f"b{r}.conv1", f"{r}x{r}/Conv1", RELU)]
    return layers + [_Layer(f"b{r}.torgb", f"ToRGB_lod{i}", 1) for i, r in enumerate(reversed(network.resolutions))]


def _discriminator_layers(network: Discriminator) -> list[_Layer]:
    """The layers of the discriminator, in the order in which Theano stores their parameters.

    The layer that reads a smaller picture comes after the block of the larger one.
    """
    layers = []
    for i, r in enumerate(reversed(network.resolutions)):
        layers.append(_Layer(f"b{r}.fromrgb", f"FromRGB_lod{i}", RELU))
        if r > 4:
            second = "Conv1_down" if getattr(network, f"b{r}").fused_scale else "Conv1"
            layers += [_Layer(f"b{r}.conv0", f"{r}x{r}/Conv0", RELU), _Layer(f"b{r}.conv1", f"{r}x{r}/{second}", RELU)]
    ends = ("b4.conv", "4x4/Conv", RELU), ("b4.fc", "4x4/Dense0", RELU), ("b4.out", "4x4/Dense1", 1)
    return layers + [_Layer(*end) for end in ends]


def _kind(module: torch.nn.Module) -> str:
    """The kind of a layer, which decides on the layout of its weight."""
    if isinstance(module, torch.nn.ConvTranspose2d):
        return "up"
    if isinstance(module, torch.nn.Conv2d):
        return "rgb" if module.kernel_size == (1, 1) else "down" if module.stride == (2, 2) else "conv"
    return "dense" if isinstance(module, DenseMap) else "linear"


def _layouts(version: int, fused: bool) -> dict[str, Make]:
    """For each kind of layer, the function from the weight in the file to the weight of the module.

    TensorFlow stores the kernel of a convolution as (height, width, in, out), and the weight of a dense layer as (in,
    out). `widen` makes of a 3x3 kernel the 4x4 kernel that also resamples by 2. The kernel of a layer that doubles the
    resolution is stored in one of three ways:
    Version 2, fused: as TensorFlow's transposed convolution has it, (height, width, out, in).
    Version 3, fused: as (height, width, in, out).
    Not fused: as the kernel of a plain convolution that follows the doubling. It is turned by 180 degrees, because the
    module computes a transposed convolution.

    Args:
        version: the version of the record, 2 or 3.
        fused: True if resampling and convolution were one operation.
    """
    conv = partial(torch.permute, dims=(3, 2, 0, 1))
    turned = partial(torch.permute, dims=(2, 3, 0, 1))
    fused_up = conv if version == 2 else turned
    return {
        "conv": conv,
        "rgb": conv,
        "down": lambda w: _times(widen(conv(w)), 0.25),  # the mean of 2x2 pixels; `widen` alone gives their sum
        "up": (lambda w: widen(fused_up(w))) if fused else lambda w: widen(turned(w).flip(2, 3)),
        "dense": torch.t,
        "linear": torch.t,
    }


# Theano's convolutions turn their kernels by 180 degrees, and those of the modules do not, so "conv" and "linear" turn
# them here. "up" does not: the module's transposed convolution turns its kernel as Theano does. "dense" does not: a
# full convolution of a single pixel gives the kernel as it is. "rgb" has kernels of one pixel.
THEANO_LAYOUTS: dict[str, Make] = {
    "conv": lambda w: w if w.is_meta else w.flip(2, 3),
    "rgb": lambda w: w.t()[:, :, None, None],
    "up": lambda w: widen(w.transpose(0, 1)),
    "dense": lambda w: w.permute(0, 2, 3, 1).flatten(0, 2),
    "linear": lambda w: (
        w.t() if w.ndim == 2 else (w if w.is_meta else w.flip(2, 3)).flatten(1)
    ),  # Dense1, and Dense0: a convolution to 1x1
}


def _times(w: torch.Tensor, factor: float) -> torch.Tensor:
    """A product. On the meta device, where shapes are compared, it would import torch._dynamo, which takes a second."""
    return w if w.is_meta else w * factor


def _pair(
    network: torch.nn.Module, layer: _Layer, weight: TensorRecord, bias: TensorRecord, scale: float, layouts: Mapping
) -> dict[str, Source]:
    """The sources of a layer's weight and bias."""
    kind = _kind(network.get_submodule(layer.module))
    layout = layouts[kind]
    return {
        f"{layer.module}.weight": Source({"weight": (weight, None)}, lambda w: layout(_times(w, scale))),
        # In the file the dense layer has one number of its bias per map, and here one per output.
        f"{layer.module}.bias": Source(
            {"bias": (bias, None)}, lambda b: b.repeat_interleave(16) if kind == "dense" else b
        ),
    }


def _sources(
    network: torch.nn.Module, layers: list[_Layer], variables: Variables, equalised: bool, layouts: Mapping
) -> dict[str, Source]:
    sources: dict[str, Source] = {}
    for layer in layers:
        module: Any = network.get_submodule(layer.module)
        if isinstance(module, torch.nn.Linear):
            fan_in = module.in_features
        else:  # kernels of 4x4 are 3x3 in the file
            fan_in = module.in_channels * (1 if module.kernel_size == (1, 1) else 9)
        scale = layer.gain / math.sqrt(fan_in) if equalised else 1.0
        weight, bias = (variables.take(f"{layer.scope}/{name}") for name in ("weight", "bias"))
        sources |= _pair(network, layer, weight, bias, scale, layouts)
    return sources


def _theano_sources(
    network: torch.nn.Module,
    layers: list[_Layer],
    params: list[TensorRecord],
    equalised: bool,
    file: object,
    place: str,
) -> dict[str, Source]:
    """The sources in Theano's list, which has for each layer its weight, the weight's factor if the learning rate is
    equalised, and its bias."""
    count = 3 if equalised else 2
    if len(params) != count * len(layers):
        reason = f"it has {len(params)} parameters; its arguments ask for {count} in each of {len(layers)} layers"
        raise NetworkFileError(file, place, reason)
    sources: dict[str, Source] = {}
    for i, layer in enumerate(layers):
        weight, *scales, bias = params[count * i : count * (i + 1)]
        if any(scale.numel != 1 for scale in scales):
            reason = f"its shape is {scales[0].shape}; expected one number, the scale of {layer.scope}"
            raise NetworkFileError(file, f"{place}: parameter {count * i + 1}", reason)
        scale = scales[0].to_float32().item() if scales else 1.0
        sources |= _pair(network, layer, weight, bias, scale, THEANO_LAYOUTS)
    return sources
