"""BigGAN and BigGAN-deep from the state dicts of BigGAN-PyTorch and the folders of pytorch-pretrained-BigGAN.

Names and shapes of the tensors say nearly everything about the network. The rest is in `ASSUMED`, or in the ``config``
of a state_dict*.pth. Which blocks double or halve the resolution is taken from the official BigGAN.py and
BigGANdeep.py.

Both projects divide a weight by its spectral norm whenever they use it. In evaluation mode that norm is always the
same, so here the weight is divided once, when it is read. BigGAN-PyTorch computes the norm by one step of the power
iteration from the stored ``u0``. More steps (--num_G_SV_itrs) also begin at ``u0`` and change nothing, and the stored
``sv0`` is not used in evaluation. pytorch-pretrained-BigGAN computes the norm as u' W v from the stored u and v.
"""

import math
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ...errors import NetworkFileError
from ...files.pickled import Machine, Refusal, show
from ...files.tensors import TensorRecord, tables, unwrapped
from ...files.writing import atomic
from ...networks.biggan import (
    ACTIVATIONS,
    GAINS,
    SLOPE,
    Attention,
    BigGAN,
    BigGANDeep,
    ConditionalNorm,
    Discriminator,
    Norm,
    Statistics,
)
from ...networks.trained_weights import named_weights, spectral_norms
from ..assemble import EXPECTED, Budget, Make, Source, assemble, constructing, unchanged
from ..attributes import LiveTensor, live_tensors, live_value
from ..checks import (
    COMMON_SIZES,
    MAX_LAYERS,
    MAX_RESOLUTION,
    Assumptions,
    Check,
    Known,
    checked,
    none_or,
    number,
    one_of,
    whole,
)

MAX_DIMENSION = 2**20  # the largest dimension of a tensor
MAX_STATS = 10_001

IGNORED = re.compile(r"(.*\.)?(sv\d+|u[1-9]\d*|accumulation_counter|num_batches_tracked)")
"""Tensors that only training needs, and further singular vectors; no picture depends on them."""

_eps = number(0, 1)

ASSUMED: Assumptions = {
    "bn_eps": (None, none_or(_eps)),
    "sn_eps": (None, none_or(_eps)),
    "cross_replica_gain": ("add", one_of(GAINS)),
    "activation": ("relu", one_of(ACTIVATIONS)),
    "slope": (SLOPE, number(-100, 100)),
}
"""Values that a state dict alone does not state: by name, the default and the check.

bn_eps: the epsilon of the blocks' batch normalisation (--BN_eps). None stands for 1e-5, the default of training, or for
    1e-4 if the weights were converted from TensorFlow Hub, which have no ``sv0``.
sn_eps: the smallest length by which a vector of the power iteration is divided (--SN_eps). None stands for 1e-6, the
    value in the launch scripts, or for 1e-4 if the weights were converted. It changes pictures only where a norm is
    smaller.
cross_replica_gain: how the gain of a normalisation is applied in networks that were trained with --cross_replica.
    Official code adds it in evaluation mode ("add"; its issue 96 shows the pictures). In training on several GPUs it
    multiplies by it ("multiply"), and such networks need that for good pictures.
activation: of generator and discriminator.
slope: of the activation, where it is "leaky_relu" (for negative numbers) or "elu" (alpha).
"""

DEFAULT_EPS = {"bn_eps": 1e-5, "sn_eps": 1e-6}
CONVERTED_EPS = {"bn_eps": 1e-4, "sn_eps": 1e-4}

STATISTICS = {
    "stored": ("stored_mean", "stored_var"),
    "mybn": ("bn.stored_mean", "bn.stored_var"),
    "cross_replica": ("bn.running_mean", "bn.running_var"),
}  # the names of the statistics of batch normalisation: by default, with --mybn, and with --cross_replica


class Activation:
    """An activation module of a state_dict*.pth.

    Attributes:
        name: a key of `ACTIVATIONS`.
        slope: the attribute of the module that `ACTIVATIONS` call so; None if it has none.
    """

    def __init__(self, name: str):
        self.name = name
        self.slope: float | None = None

    def set_state(self, state: Any) -> None:
        if not isinstance(state, dict) or any(state.get(k) for k in state if "_hook" in str(k)):
            raise Refusal("an activation with hooks; hooks are code, and are refused")
        if self.name == "gelu" and state.get("approximate", "none") != "none":
            raise Refusal("an activation that is an approximation of GELU")
        slope = state.get({"leaky_relu": "negative_slope", "elu": "alpha"}.get(self.name))
        if slope is not None:
            if type(slope) not in (int, float) or not -100 <= slope <= 100:
                raise Refusal(f"an activation with the slope {show(slope)}; expected a number from -100 to 100")
            self.slope = float(slope)


def _activation(machine: Machine, args: tuple, name: str) -> Activation:
    if args:
        raise Refusal("an activation made from arguments")
    machine.charge(3)
    return Activation(name)


def _no_backend(machine: Machine, args: tuple) -> None:
    return None


KINDS = {"ReLU": "relu", "LeakyReLU": "leaky_relu", "ELU": "elu", "SELU": "selu", "GELU": "gelu", "SiLU": "silu"}
"""Torch's classes of activations, and their names in `ACTIVATIONS`."""

GLOBALS = {
    **{("torch.nn.modules.activation", kind): partial(_activation, name=name) for kind, name in KINDS.items()},
    ("torch.nn.backends.thnn", "_get_thnn_function_backend"): _no_backend,  # every module had one until torch 1.1
}
"""The names that the pickle of a state_dict*.pth mentions besides tensors and dictionaries."""


# Names of tensors by which networks are known: all of one of these sets.
GENERATOR_MARKS = (
    {"linear.weight", "output_layer.2.weight", "blocks.0.0.conv1.weight"},
    {"generator.gen_z.weight_orig"},  # pytorch-pretrained-BigGAN
)
DISCRIMINATOR_MARKS = ({"linear.weight", "embed.weight", "blocks.0.0.conv1.weight"},)

LIVE_MARKS = {
    "G": frozenset(GENERATOR_MARKS[0] | {"activation", "shared"}),
    "D": frozenset(DISCRIMINATOR_MARKS[0] | {"activation"}),
    "hugging face": frozenset(GENERATOR_MARKS[1] | {"config", "embeddings.weight"}),
}
"""Names of attributes and tensors by which networks in memory are known."""

CLASSES = {
    "biggan.BigGAN": Known(BigGAN, COMMON_SIZES),
    "biggan.BigGANDeep": Known(BigGANDeep, COMMON_SIZES),
    "biggan.Discriminator": Known(Discriminator, COMMON_SIZES),
}


def companions(path: Path) -> dict[str, Path]:
    """The files that BigGAN-PyTorch writes beside a generator G*.pth: its settings state_dict*.pth and its D*.pth."""
    match = re.fullmatch(r"G(?:_ema)?((?:_.*)?\.pth)", path.name)
    if match is None:
        return {}
    return {"settings": path.with_name(f"state_dict{match[1]}"), "D": path.with_name(f"D{match[1]}")}


def find(root: Any) -> dict[str, tuple[str, dict[str, TensorRecord]]]:
    """The generator in a file as "G_ema", else the discriminator as "D": its place and its tensors.

    Empty without either.
    """
    networks = {"G_ema": find_generator(root), "D": find_discriminator(root)}
    return next(({role: network} for role, network in networks.items() if network is not None), {})


def find_generator(root: Any) -> tuple[str, dict[str, TensorRecord]] | None:
    """The place of a BigGAN generator's state dict in a file, and the dict; None if there is none.

    If there are several, one under a key with "ema" in it is taken, which has averaged weights.
    """
    return _find(root, GENERATOR_MARKS)


def find_discriminator(root: Any) -> tuple[str, dict[str, TensorRecord]] | None:
    """`find_generator` for the discriminator."""
    return _find(root, DISCRIMINATOR_MARKS)


def _find(root: Any, marks: tuple[set[str], ...]) -> tuple[str, dict[str, TensorRecord]] | None:
    dicts = [(place, unwrapped(tensors)) for place, tensors, _ in tables(root)]
    fitting = [item for item in dicts if any(mark <= item[1].keys() for mark in marks)]
    return min(fitting, key=lambda item: "ema" not in item[0].lower(), default=None)


def assumed_of_config(root: Any, file: object = "state_dict") -> dict[str, Any] | None:
    """The values that a state_dict*.pth states for names in `ASSUMED`; None if the file is not a state_dict*.pth.

    Raises:
        NetworkFileError: its settings are not numbers, or ask for an activation that is not in `ACTIVATIONS`, or for one
            in the generator and another in the discriminator.
    """
    config = root.get("config") if isinstance(root, dict) else None
    if not isinstance(config, dict) or not {"BN_eps", "SN_eps"} <= config.keys():
        return None
    activations: dict[str, Activation] = {}
    for name in ("D_activation", "G_activation"):
        if name not in config:
            continue
        if not isinstance(config[name], Activation):
            expected = f"expected a module of one of {', '.join(ACTIVATIONS)}"
            raise NetworkFileError(file, f"config.{name}", f"it is {show(config[name])}; {expected}")
        activations[name] = config[name]
    told: dict[str, Any] = {}
    if activations:
        G = activations.get("G_activation", Activation("relu"))
        D = activations.get("D_activation", G)
        if (D.name, D.slope) != (G.name, G.slope):
            reason = f"it is {D.name}, and that of the generator {G.name}, or their slopes differ; one for both is read"
            raise NetworkFileError(file, "config.D_activation", reason)
        told = {"activation": G.name, **({"slope": G.slope} if G.slope is not None else {})}
    eps = {
        name: checked(config[key], _eps, file, f"config.{key}")
        for name, key in (("bn_eps", "BN_eps"), ("sn_eps", "SN_eps"))
    }
    return {**eps, **told}


def build(
    place: str, tensors: Mapping[str, TensorRecord], file: object, budget: Budget, assumed: Mapping[str, Any]
) -> BigGAN | BigGANDeep | Discriminator:
    """The network of a state dict of BigGAN-PyTorch, in eval mode, float32, without gradients.

    Args:
        place: where in the file the state dict is.
        tensors: the tensors of the state dict, by name.
        file: the name of the file, for errors.
        budget: the memory budget.
        assumed: a value for every name of `ASSUMED`.

    Raises:
        NetworkFileError: names or shapes are not those of such a network; with the tensor and the reason.
    """
    if not any(marks <= unwrapped(tensors).keys() for marks in GENERATOR_MARKS):
        return build_discriminator(place, tensors, file, budget, assumed)
    source = _Source(tensors, file, place)
    if "generator.gen_z.weight_orig" in source.tensors:
        raise source.refuse(
            "", "its tensors are those of pytorch-pretrained-BigGAN, and its config.json is needed; give the folder"
        )
    eps = source.eps(assumed)
    spelling = next((k for k, (mean, _) in STATISTICS.items() if f"output_layer.0.{mean}" in source.tensors), None)
    if spelling is None:
        raise source.refuse(
            "output_layer.0", "it has no stored mean; expected batch normalisation with stored statistics"
        )
    gain = assumed["cross_replica_gain"] if spelling == "cross_replica" else "multiply"
    deep = "blocks.0.0.conv3.weight" in source.tensors
    acts = {name: assumed.get(name, default) for name, default in (("activation", "relu"), ("slope", SLOPE))}
    arguments = {"bn_eps": eps["bn_eps"], "gain": gain, **acts, **(_deep if deep else _plain)(source)}
    network = source.make(BigGANDeep if deep else BigGAN, arguments)

    if "shared.weight" in source.tensors:
        source.add("shared.weight", {"shared.weight": (network.c_dim, arguments["shared_dim"])}, torch.t)
    source.layer("linear", "linear")
    for i, block in enumerate(network.blocks):
        for name, part in block.named_children():
            if not part.state_dict():
                continue
            if isinstance(part, ConditionalNorm):
                _conditional(source, f"blocks.{i}.{name}", f"blocks.{i}.0.{name}", bool(arguments["shared_dim"]))
                _statistics(source, f"blocks.{i}.{name}", f"blocks.{i}.0.{name}", spelling)
            else:
                source.layer(f"blocks.{i}.{name}", f"blocks.{i}.0.{name}")
    for i in network.attention:
        _attention(source, f"attention.{i}", f"blocks.{i}.1")
    for name in ("gain", "bias"):
        source.add(f"bn.{name}", {f"output_layer.0.{name}": source.shape(f"bn.{name}")})
    _statistics(source, "bn", "output_layer.0", spelling)
    source.layer("output", "output_layer.2")
    source.fill(budget, eps["sn_eps"])
    network.assumed += f", spectral normalisation with eps {eps['sn_eps']:g}"
    return network


def build_discriminator(
    place: str, tensors: Mapping[str, TensorRecord], file: object, budget: Budget, assumed: Mapping[str, Any]
) -> Discriminator:
    """`build` for the discriminator. Of ``assumed`` it needs ``sn_eps``."""
    source = _Source(tensors, file, place)
    deep = "input_conv.weight" in source.tensors
    blocks, names, attention, resolution = (_deep_halving if deep else _halving)(source)
    arguments = {
        "c_dim": source.dims("embed.weight", 2)[0],
        "img_resolution": resolution,
        "img_channels": source.dims("input_conv.weight" if deep else "blocks.0.0.conv1.weight", 4)[1],
        "blocks": blocks,
        "attention": list(attention),
        "deep": deep,
        "activation": assumed.get("activation", "relu"),
        "slope": assumed.get("slope", SLOPE),
    }
    network = source.make(Discriminator, arguments)
    if deep:
        source.layer("input_conv", "input_conv")
    for i, block in enumerate(network.blocks):
        for name in (name for name, part in block.named_children() if part.state_dict()):
            source.layer(f"blocks.{i}.{name}", f"{names[i]}.{name}")
    for i, name in attention.items():
        _attention(source, f"attention.{i}", name)
    source.layer("linear", "linear")
    source.weight("embed.weight", "embed", transposed=True)
    source.fill(budget, source.eps(assumed)["sn_eps"])
    return network


# Networks in memory


def live_settings(network: torch.nn.Module) -> dict[str, Any]:
    """The values for names of `ASSUMED` that a network of BigGAN-PyTorch in memory states."""
    norm = getattr(network.get_submodule("blocks.0.0"), "bn1", None)
    norm = getattr(norm, "bn", norm)  # with --mybn and --cross_replica
    eps = {"bn_eps": getattr(norm, "eps", None), "sn_eps": getattr(network.linear, "eps", None)}
    act: Any = network.activation
    name = KINDS.get(type(act).__name__, type(act).__name__)
    if getattr(act, "approximate", "none") != "none":
        name += f" with the approximation {act.approximate}"
    slope = getattr(act, "negative_slope", getattr(act, "alpha", None))
    return {"activation": name, **{k: v for k, v in {**eps, "slope": slope}.items() if v is not None}}


def build_live(
    module: torch.nn.Module, file: object, place: str, budget: Budget, assumed: Mapping[str, Any]
) -> BigGAN | BigGANDeep | Discriminator:
    """`build` for a network in memory. Like official code it divides sums of statistics only where it is told to."""
    tensors: dict[str, Any] = live_tensors(module)
    for name in [name for name in tensors if name.endswith(".accumulation_counter")]:
        if not module.get_submodule(name.rpartition(".")[0]).accumulate_standing:
            tensors[name] = LiveTensor(torch.zeros_like(tensors[name].tensor))
    return build(place, tensors, file, budget, assumed)


def live_pictures(G: Any, assumed: Any, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """The pictures of a generator of BigGAN-PyTorch in memory, for one-hot labels c."""
    return G(z.to(next(G.parameters()).dtype), G.shared(c.argmax(dim=1)))


def live_scores(D: torch.nn.Module, assumed: Any, img: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """The scores of a discriminator of BigGAN-PyTorch in memory, for one-hot labels c."""
    return D(img.to(next(D.parameters()).dtype), c.argmax(dim=1))


def build_live_folder(module: Any, file: object, place: str, budget: Budget, assumed: Mapping[str, Any]) -> BigGANDeep:
    """`build_folder` for a generator of pytorch-pretrained-BigGAN in memory, whose ``config`` has its settings."""
    tensors: dict[str, Any] = live_tensors(module)
    return build_folder(live_value(vars(module.config)), tensors, file, budget, assumed)


def live_folder_pictures(G: torch.nn.Module, assumed: Any, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """The pictures of a generator of pytorch-pretrained-BigGAN in memory."""
    dtype = next(G.parameters()).dtype
    return G(z.to(dtype), c.to(dtype), assumed["truncation"])


# Arguments that follow from the shapes


def _plain(source: "_Source") -> dict[str, Any]:
    """The arguments of a `BigGAN` that follow from names and shapes."""
    count = source.count("blocks.{}.0.conv1.weight")
    channels = [source.dims("blocks.0.0.conv1.weight", 4)[1]]
    channels += [source.dims(f"blocks.{i}.0.conv1.weight", 4)[0] for i in range(count)]
    arguments = _common(source, channels, count)
    size, (classes, condition) = source.dims("linear.weight", 2)[1], source.dims("blocks.0.0.bn1.gain.weight", 2)
    if "shared.weight" not in source.tensors:  # each normalisation has a gain and a bias for every class
        return {**arguments, "z_dim": size, "c_dim": classes, "shared_dim": 0, "hier": False}
    c_dim, shared_dim = source.dims("shared.weight", 2)
    if condition not in (shared_dim, shared_dim + size):
        reason = f"it reads {condition} numbers; expected the {shared_dim} of the embedding, alone or with {size} of z"
        raise source.refuse("blocks.0.0.bn1.gain.weight", reason)
    hier = condition > shared_dim
    z_dim = size * (count + 1) if hier else size
    return {**arguments, "z_dim": z_dim, "c_dim": c_dim, "shared_dim": shared_dim, "hier": hier}


def _deep(source: "_Source") -> dict[str, Any]:
    """The arguments of a `BigGANDeep` that follow from names and shapes."""
    count = source.count("blocks.{}.0.conv1.weight")
    channels = [source.dims("blocks.0.0.conv1.weight", 4)[1]]
    channels += [source.dims(f"blocks.{i}.0.conv4.weight", 4)[0] for i in range(count)]
    # Each stage ends with a block that doubles the resolution. Networks for 32x32 have three stages and the same
    # channels everywhere. In other networks a stage has two blocks, because official code works with no other depth.
    depth, rest = (count // 3, count % 3) if len(set(channels)) == 1 else (2, count % 2)
    if rest:
        raise source.refuse("blocks", f"it has {count} blocks; expected three stages of equal depth, or stages of two")
    c_dim, shared_dim = source.dims("shared.weight", 2)
    z_dim = source.dims("linear.weight", 2)[1] - shared_dim
    if z_dim <= 0:
        raise source.refuse(
            "linear.weight", f"it reads no more than the {shared_dim} numbers of the class; expected z as well"
        )
    upsample = [(i + 1) % depth == 0 for i in range(count)]
    sizes = {"z_dim": z_dim, "c_dim": c_dim, "shared_dim": shared_dim}
    return {**_common(source, channels, count), **sizes, "upsample": upsample}


def _common(source: "_Source", channels: list[int], count: int) -> dict[str, Any]:
    size = source.dims("linear.weight", 2)[0]
    bottom_width = math.isqrt(size // channels[0])
    if size != channels[0] * bottom_width**2 or not bottom_width:
        raise source.refuse(
            "linear.weight", f"it gives {size} numbers; expected a square map of {channels[0]} channels"
        )
    attention = [i for i in range(count) if f"blocks.{i}.1.gamma" in source.tensors]
    img_channels = source.dims("output_layer.2.weight", 4)[0]
    arguments = {"channels": channels, "attention": attention, "bottom_width": bottom_width}
    return {**arguments, "img_channels": img_channels}


Blocks = tuple[list[list[int | bool]], list[str], dict[int, str], int]
"""The blocks as `Discriminator` takes them; their names; number of a block to the name of the attention after it; the
side of the pictures."""


def _halving(source: "_Source") -> Blocks:
    """The blocks of BigGAN's discriminator.

    All but the last halve the resolution, down to 4, or to 8 for pictures of 32x32.
    """
    count = source.count("blocks.{}.0.conv1.weight")
    halvings = 2 if count == 4 else count - 1
    blocks: list[list[int | bool]] = []
    for i in range(count):
        hidden, channels = source.dims(f"blocks.{i}.0.conv1.weight", 4)[:2]
        out = source.dims(f"blocks.{i}.0.conv2.weight", 4)[0]
        blocks.append([blocks[-1][2] if blocks else channels, hidden, out, i < halvings])
    names = [f"blocks.{i}.0" for i in range(count)]
    attention = {i: f"blocks.{i}.1" for i in range(count) if f"blocks.{i}.1.gamma" in source.tensors}
    return blocks, names, attention, 32 if count == 4 else 4 << halvings


def _deep_halving(source: "_Source") -> Blocks:
    """The blocks of BigGAN-deep's discriminator.

    The first of each stage halves the resolution, down to 4, or to 8 for 32x32.
    """
    stages = source.count("blocks.{}.0.conv1.weight")
    blocks: list[list[int | bool]] = []
    names: list[str] = []
    attention = {}
    channels = source.dims("input_conv.weight", 4)[0]
    halvings = 2 if stages == 3 else stages
    for stage in range(stages):
        depth = source.count(f"blocks.{stage}.{{}}.conv1.weight")
        for i in range(depth):
            name = f"blocks.{stage}.{i}"
            hidden, out = source.dims(f"{name}.conv1.weight", 4)[0], source.dims(f"{name}.conv4.weight", 4)[0]
            blocks.append([channels, hidden, out, i == 0 and stage < halvings])
            names.append(name)
            channels = out
        if f"blocks.{stage}.{depth}.gamma" in source.tensors:
            attention[len(blocks) - 1] = f"blocks.{stage}.{depth}"
    return blocks, names, attention, 32 if stages == 3 else 4 << halvings


# From names of the file to names of the networks


def _conditional(source: "_Source", target: str, name: str, shared: bool) -> None:
    for part in ("gain", "bias"):
        if shared:
            source.weight(f"{target}.{part}.weight", f"{name}.{part}")
        else:  # an embedding, which is never divided by its spectral norm
            shape = source.shape(f"{target}.{part}.weight")
            source.add(f"{target}.{part}.weight", {f"{name}.{part}.weight": shape[::-1]}, torch.t)


def _statistics(source: "_Source", target: str, name: str, spelling: str) -> None:
    for part, key in zip(("mean", "var"), STATISTICS[spelling]):
        shapes = {f"{name}.{key}": source.shape(f"{target}.{part}")[1:]}
        if spelling == "mybn":
            shapes[f"{name}.bn.accumulation_counter"] = (1,)
        source.add(f"{target}.{part}", shapes, _averaged, is_view=spelling != "mybn")


def _averaged(values: torch.Tensor, counter: torch.Tensor | None = None) -> torch.Tensor:
    """Standing statistics are sums over ``counter`` batches and become their mean; running statistics have no count."""
    return (values / counter if counter is not None and counter > 0 else values)[None]


def _attention(source: "_Source", target: str, name: str) -> None:
    for part in ("theta", "phi", "g", "o"):
        source.weight(f"{target}.{part}.weight", f"{name}.{part}")
    source.add(f"{target}.gamma", {f"{name}.gamma": ()})


class _Source:
    """The tensors of a state dict, and the `Source` of each tensor of the network.

    Args:
        tensors: name to record.
        file: its name, for errors.
        place: where in the file the tensors are.
    """

    def __init__(self, tensors: Mapping[str, TensorRecord], file: object, place: str):
        self.tensors = {name.removeprefix("module."): record for name, record in tensors.items()}
        self.file, self.place = file, place
        self.normalised = "linear.u0" in self.tensors  # True if weights are divided by their spectral norm: all or none
        self.sources: dict[str, Source] = {}

    def refuse(self, name: str, reason: str) -> NetworkFileError:
        return NetworkFileError(self.file, ".".join(filter(None, (self.place, name))), reason)

    def eps(self, assumed: Mapping[str, Any]) -> dict[str, float]:
        """``bn_eps`` and ``sn_eps``, where the network's own defaults stand for None."""
        converted = self.normalised and not any(name.endswith("sv0") for name in self.tensors)
        defaults = CONVERTED_EPS if converted else DEFAULT_EPS
        return {name: default if assumed[name] is None else assumed[name] for name, default in defaults.items()}

    def dims(self, name: str, ndim: int) -> tuple[int, ...]:
        """The shape of a tensor, which must be there and have ``ndim`` dimensions."""
        record = self.tensors.get(name)
        if record is None:
            raise self.refuse(name, "it is missing; expected the state dict of a BigGAN")
        if len(record.shape) != ndim or not all(1 <= n <= MAX_DIMENSION for n in record.shape):
            raise self.refuse(name, f"its shape is {record.shape}; expected {ndim} dimensions of 1 to {MAX_DIMENSION}")
        return tuple(record.shape)

    def count(self, pattern: str) -> int:
        """The number of parts, each of which has a tensor called ``pattern`` with the number of the part in it."""
        count = 0
        while pattern.format(count) in self.tensors:
            count += 1
        if not 1 <= count <= MAX_LAYERS:
            raise self.refuse(pattern.format(0), f"there are {count} such parts; expected 1 to {MAX_LAYERS}")
        return count

    def make(self, kind: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        """The network, on the meta device."""
        with constructing(self.file, self.place, "its shapes"):
            self.network = kind(**arguments)
        if self.network.img_resolution > MAX_RESOLUTION or self.network.img_channels > 4:
            size = f"{self.network.img_channels} channels and {self.network.img_resolution} pixels a side"
            raise self.refuse("", f"its pictures have {size}; expected at most 4 and {MAX_RESOLUTION}")
        self.expected = {name: tuple(value.shape) for name, value in self.network.state_dict().items()}
        return self.network

    def shape(self, target: str) -> tuple[int, ...]:
        return self.expected[target]

    def add(
        self, target: str, shapes: Mapping[str, tuple[int, ...]], make: Make = unchanged, is_view: bool = False
    ) -> None:
        """Add the `Source` of one tensor of the network.

        Args:
            target: its name in the network.
            shapes: names of the file's tensors to the shapes that they must have.
            make: makes the network's tensor from them.
            is_view: True if it only gives the one tensor another shape.
        """
        inputs = {name: (self.tensors.get(name), tuple(shape)) for name, shape in shapes.items()}
        self.sources[target] = Source(inputs, make, is_view)

    def weight(self, target: str, name: str, transposed: bool = False) -> None:
        """`add` for a weight, which is divided by its spectral norm if this network does that.

        Args:
            target: its name in the network.
            name: the name of the layer in the file.
            transposed: True for the weight of an embedding, which the network has as that of a dense layer.
        """
        shape = self.shape(target)[::-1] if transposed else self.shape(target)
        shapes = {f"{name}.weight": shape}
        if self.normalised:
            shapes[f"{name}.u0"] = (1, shape[0])

        def make(values: torch.Tensor, u: torch.Tensor | None = None) -> torch.Tensor:
            values = _divided(values, u, eps=self.sn_eps)
            return values.t() if transposed else values

        self.add(target, shapes, make, is_view=not self.normalised)

    def layer(self, target: str, name: str) -> None:
        """`weight` and `add` for the weight and the bias of a layer."""
        self.weight(f"{target}.weight", name)
        self.add(f"{target}.bias", {f"{name}.bias": self.shape(f"{target}.bias")})

    def fill(self, budget: Budget, sn_eps: float = 0.0) -> None:
        """Give the network its tensors, if none in the file is left over."""
        self.sn_eps = sn_eps
        records = {name: record for name, record in self.tensors.items() if not IGNORED.fullmatch(name)}
        assemble(
            self.network,
            self.sources,
            self.file,
            self.place,
            budget,
            names=records,
            misfit=EXPECTED,
            unknown="it belongs to no part of a BigGAN",
            not_finite="it gives numbers that are not finite; is its spectral norm zero?",
        )


def _divided(weight: torch.Tensor, u: torch.Tensor | None = None, eps: float = 0.0) -> torch.Tensor:
    """A weight (out, ...) divided, in its own memory, by its spectral norm.

    The norm is found by one step of the power iteration, as in BigGAN-PyTorch.

    Args:
        weight: the weight of a layer.
        u: (1, out), the first vector of the iteration; None leaves the weight as it is.
        eps: the smallest length by which a vector is divided.
    """
    if u is None:
        return weight
    matrix = weight.flatten(1)
    v = torch.nn.functional.normalize(u @ matrix, eps=eps)
    image = v @ matrix.t()
    u = torch.nn.functional.normalize(image, eps=eps)
    return weight.div_((image * u).sum())


# pytorch-pretrained-BigGAN


def _blocks(value: Any) -> bool:
    """True for a list of blocks [upsample, in, out], in multiples of the width, whose channels go from 16 to 1."""
    if not isinstance(value, (list, tuple)) or not 1 <= len(value) <= MAX_LAYERS:
        return False
    if not all(isinstance(b, (list, tuple)) and [type(v) for v in b] == [bool, int, int] for b in value):
        return False
    into, out = [b[1] for b in value], [b[2] for b in value]
    # A block can only keep its channels or halve them, because its shortcut drops half of them.
    return into == [16, *out[:-1]] and out[-1] == 1 and all(o == i or 2 * o == i for i, o in zip(into, out))


CONFIG: dict[str, tuple[Any, Check]] = {
    "z_dim": (128, whole(1, MAX_DIMENSION)),
    "channel_width": (128, whole(1, 4096)),
    "num_classes": (1000, whole(1, MAX_DIMENSION)),
    "layers": (None, ("a list of blocks [upsample, in, out] whose channels go from 16 to 1, kept or halved", _blocks)),
    "attention_layer_position": (8, whole(-(2**31), 2**31)),
    "eps": (1e-4, _eps),
    "n_stats": (51, whole(2, MAX_STATS)),
}  # the settings in config.json: name to default and check


FOLDER_ASSUMED: dict[str, tuple[Any, Check]] = {"truncation": (1.0, number(0, 1))}
"""Values that the user chooses for a folder: the truncation for which the stored statistics are taken.

The caller draws z for it.
"""


def is_config(config: Any) -> bool:
    """True if the contents of a config.json describe a BigGAN."""
    return isinstance(config, dict) and {"channel_width", "layers", "z_dim"} <= config.keys()


def build_folder(
    config: Mapping[str, Any],
    tensors: Mapping[str, TensorRecord],
    file: object,
    budget: Budget,
    assumed: Mapping[str, Any] | None = None,
) -> BigGANDeep:
    """The generator of a folder of pytorch-pretrained-BigGAN, in eval mode, float32, without gradients.

    Args:
        config: the contents of config.json, see `is_config`. Names that are left out have the values of its defaults.
        tensors: the state dict in pytorch_model.bin, by name.
        file: the name of the file, for errors.
        budget: the memory budget.
        assumed: a value for every name of `FOLDER_ASSUMED`; None takes the defaults.

    Raises:
        NetworkFileError: the settings make no sense, or the tensors do not fit them.
    """
    settings = {
        name: checked(config.get(name, default), check, file, f"config.json: {name}")
        for name, (default, check) in CONFIG.items()
    }
    source = _Source(tensors, file, "")
    width, layers, z_dim = settings["channel_width"], settings["layers"], settings["z_dim"]
    before = settings["attention_layer_position"]  # the number of blocks before the attention
    before = before if 0 <= before < len(layers) else len(layers)
    arguments = {
        "z_dim": z_dim,
        "c_dim": settings["num_classes"],
        "shared_dim": z_dim,
        "channels": [16 * width, *(width * block[2] for block in layers)],
        "upsample": [block[0] for block in layers],
        "attention": [before - 1] if 0 <= before < len(layers) else [],  # elsewhere their code puts none
        "img_channels": min(3, width),
        "bn_eps": settings["eps"],
        "output_eps": settings["eps"],
        "num_stats": settings["n_stats"],
    }
    network = source.make(BigGANDeep, arguments)
    _folder_sources(source, network, z_dim, width, before)
    source.fill(budget)
    if assumed is not None:
        network.truncation = assumed["truncation"]
    return network


def _folder_sources(source: "_Source", network: BigGANDeep, z_dim: int, width: int, before: int) -> None:
    """Add the `Source` of every tensor of a folder's network.

    Args:
        source: the tensors of the file; the sources are added to it.
        network: the network on the meta device.
        z_dim: the size of z.
        width: channels of the last block.
        before: number of blocks before the attention, which has a number of its own among the layers in the file.
    """

    def reordered(weight: torch.Tensor) -> torch.Tensor:
        """In the file z comes before the class; in the network the class comes first."""
        return torch.cat([weight[:, z_dim:], weight[:, :z_dim]], dim=1)

    def by_channels(values: torch.Tensor) -> torch.Tensor:
        """In the file the first map is stored pixel by pixel; in the network it is stored channel by channel."""
        return values.unflatten(0, (16, -1)).transpose(0, 1).flatten(0, 1)

    def weight(target: str, name: str, shape: tuple[int, ...] | None = None, change: Make = unchanged) -> None:
        shape = source.shape(target) if shape is None else shape
        shapes = {
            f"{name}.weight_orig": shape,
            f"{name}.weight_u": shape[:1],
            f"{name}.weight_v": (math.prod(shape[1:]),),
        }
        source.add(target, shapes, lambda w, u, v: change(w.div_(u @ (w.flatten(1) @ v))))

    def statistics(target: str, name: str) -> None:
        for part in ("mean", "var"):
            source.add(f"{target}.{part}", {f"{name}.running_{part}s": source.shape(f"{target}.{part}")})

    source.add("shared.weight", {"embeddings.weight": source.shape("shared.weight")})
    weight("linear.weight", "generator.gen_z", change=lambda w: by_channels(reordered(w)))
    source.add("linear.bias", {"generator.gen_z.bias": source.shape("linear.bias")}, by_channels)
    for i, block in enumerate(network.blocks):
        name = f"generator.layers.{i + (i >= before)}"
        for part, child in block.named_children():
            if not child.state_dict():
                continue
            target, other = f"blocks.{i}.{part}", f"{name}.{part[:-1]}_{int(part[-1]) - 1}"  # bn1 is called bn_0
            if isinstance(child, ConditionalNorm):
                weight(f"{target}.gain.weight", f"{other}.scale", change=reordered)
                weight(f"{target}.bias.weight", f"{other}.offset", change=reordered)
                statistics(target, other)
            else:
                weight(f"{target}.weight", other)
                source.add(f"{target}.bias", {f"{other}.bias": source.shape(f"{target}.bias")})
    for at in network.attention:
        name = f"generator.layers.{before}"
        for part, other in (("theta", "theta"), ("phi", "phi"), ("g", "g"), ("o", "o_conv")):
            weight(f"attention.{at}.{part}.weight", f"{name}.snconv1x1_{other}")
        source.add(f"attention.{at}.gamma", {f"{name}.gamma": (1,)}, torch.squeeze, is_view=True)
    for part, other in (("gain", "weight"), ("bias", "bias")):
        source.add(f"bn.{part}", {f"generator.bn.{other}": (width,)})
    statistics("bn", "generator.bn")
    # Only the first channels of the output are a picture, but the norm is that of all.
    channels = network.img_channels
    weight("output.weight", "generator.conv_to_rgb", (width, width, 3, 3), lambda w: w[:channels].clone())
    source.add("output.bias", {"generator.conv_to_rgb.bias": (width,)}, lambda b: b[:channels].clone())


# Writing


def state_dict(
    network: BigGAN | Discriminator, statistics_of: torch.nn.Module | None = None
) -> dict[str, torch.Tensor]:
    """The tensors of a BigGAN in training under the names that BigGAN-PyTorch has.

    Args:
        network: a generator or discriminator whose weights are divided by their spectral norms in training, see
            `networks.trained_weights.SpectralNorm`. One whose weights are finished has none, and gives no ``u0``.
        statistics_of: the generator whose stored statistics are taken; None takes those of ``network``.
    """
    norms = spectral_norms(network)
    tensors: dict[str, torch.Tensor] = {}
    stored = dict((statistics_of or network).named_buffers())
    for name, module in network.named_modules():
        there = _name(name)
        if isinstance(module, Statistics):
            for part in ("mean", "var"):
                tensors[f"{there}.stored_{part}"] = stored[f"{name}.{part}"][0]
        if isinstance(module, Norm):
            tensors |= {f"{there}.gain": module.gain, f"{there}.bias": module.bias}
        if isinstance(module, Attention):
            tensors[f"{there}.gamma"] = module.gamma
    for name, layer in named_weights(network).items():
        there, norm = _name(name), norms.get(name)
        own = dict(layer.named_parameters())
        weight = own["weight" if norm is None else "parametrizations.weight.original"]
        tensors[f"{there}.weight"] = weight.t() if there in ("shared", "embed") else weight
        if "bias" in own:
            tensors[f"{there}.bias"] = own["bias"]
        if norm is not None:
            tensors |= {f"{there}.u0": norm.u0, f"{there}.sv0": norm.sv0}
    return {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}


def write_state_dict(
    network: BigGAN | Discriminator, path: str | os.PathLike, statistics_of: torch.nn.Module | None = None
) -> None:
    """Write `state_dict` to a file, as BigGAN-PyTorch writes its G_ema.pth, G.pth and D.pth.

    An old file of that name stays whole until the new one is complete.
    """
    with atomic(path) as temporary:
        torch.save(state_dict(network, statistics_of), temporary)


def _name(name: str) -> str:
    """The name in BigGAN-PyTorch of a module of ours."""
    first, _, rest = name.partition(".")
    number, _, part = rest.partition(".")
    if first == "blocks":
        return f"blocks.{number}.0.{part}"
    if first == "attention":
        return f"blocks.{number}.1{'.' if part else ''}{part}"
    return {"bn": "output_layer.0", "output": "output_layer.2"}.get(name, name)
