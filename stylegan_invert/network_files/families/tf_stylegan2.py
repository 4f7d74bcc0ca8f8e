"""StyleGAN2 networks in official pickles of TensorFlow: StyleGAN2 (version 4) and StyleGAN2-ADA (version 5).

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020), and "Training Generative Adversarial
Networks with Limited Data" (2020). Arguments and variables are those of networks_stylegan2.py and of
training/networks.py in the official repositories. A kernel of TensorFlow is (height, width, in, out), and one of
PyTorch is (out, in, height, width). The kernels of convolutions that double the resolution are also turned by 180
degrees.
"""

import re
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from ...errors import NetworkFileError
from ...networks.discriminators import Discriminator
from ...networks.layers import RESAMPLE_FILTER
from ...networks.stylegan2 import Generator
from ...ops import setup_filter
from ..assemble import Budget, Make, Source, assemble, constructing, unchanged
from ..checks import ATTRIBUTES, MAX_LAYERS, MAX_RESOLUTION, MAX_SIZE, Check, power_of_two, whole
from ..machine.tensorflow import Arguments, TFNetwork, Variables
from .stylegan2 import MAPPING_ARGS, SYNTHESIS_ARGS

SYNTHESES = {4: ("G_synthesis_stylegan2", "G_synthesis_stylegan_revised"), 5: ("G_synthesis",)}
DISCRIMINATORS = {4: ("D_stylegan2", "D_stylegan"), 5: ("D_main",)}
GROWING = (
    "G_synthesis_stylegan_revised",
    "D_stylegan",
)  # the functions of configurations B to D, which grow during training
MAX_CLASSES = 2048  # the most classes of a discriminator of version 4, whose embedding here is a square matrix

# These do not change the outputs of the network for given w and noise, apart from rounding.
CALLING = (
    *("truncation_psi", "truncation_cutoff", "truncation_psi_val", "truncation_cutoff_val", "style_mixing_prob"),
    *("dlatent_broadcast", "randomize_noise", "fused_modconv", "dtype", "is_training", "is_validation"),
    *("return_dlatents", "is_template_graph", "force_clean_graph", "conditioning", "w_avg_beta"),
)

_number: Check = ("a number", lambda v: type(v) in (int, float) and abs(v) < 2**31)
_positive: Check = ("a positive number", lambda v: type(v) in (int, float) and 0 < v < 2**31)
STRUCTURES = ("auto", "fixed", "linear", "recursive")
_structure: Check = ("'auto', 'fixed', 'linear' or 'recursive'", lambda v: isinstance(v, str) and v in STRUCTURES)
_count: Check = whole(1, MAX_SIZE, or_none=True)
_taps: Check = ("None or a short list of numbers", SYNTHESIS_ARGS["resample_filter"][1])


def is_tensorflow(record: object) -> bool:
    """True for any network of TensorFlow; `build` refuses those that are none of StyleGAN2's."""
    return isinstance(record, TFNetwork)


def build(record: TFNetwork, file: object, place: str, budget: Budget) -> Generator | Discriminator:
    """The network of a version 4 or 5 record, in eval mode, without gradients, float32, on the CPU.

    Reads the build functions G_main, D_stylegan2 and D_stylegan of version 4 and D_main of version 5, with the
    synthesis networks of configurations B to F. Networks that grow (B to D) must have finished growing. An argument
    that is unknown is ignored with a warning, because official code ignores it.

    Version 5 treats labels as stylegan2-ada-pytorch does. A discriminator of version 4 multiplies its outputs by the
    label; here it gets an embedding that has the same effect for one-hot labels, which a warning says.

    Raises:
        NetworkFileError: an unknown function or version, or arguments and variables that describe a network which
            this package does not have, or that do not fit together.
    """
    if record.version not in SYNTHESES:
        raise NetworkFileError(
            file, place, f"it is of version {record.version}; StyleGAN2 has version 4, and StyleGAN2-ADA version 5"
        )
    discriminators = DISCRIMINATORS[record.version]
    if record.build_func == "G_main":
        make: Callable = _generator
    elif record.build_func in discriminators:
        make = _discriminator
    else:
        known = ", ".join(("G_main", *discriminators))
        raise NetworkFileError(file, place, f"it is made by {record.build_func!r}; expected one of {known}")
    with constructing(file, place):
        network, sources = make(record, file, place)
    return assemble(network, sources, file, place, budget)


def _resolution(args: Arguments, low: int) -> int:
    return args.take("resolution", 1024, power_of_two(low, MAX_RESOLUTION))


def _channels(args: Arguments, resolution: int) -> tuple[dict[str, int], int]:
    """The arguments for the counts of channels, and the count of stage 0, that of a discriminator's last dense layer.

    In official code a map of stage s has 2^(s + 1) pixels a side and fmap_base / 2^(s fmap_decay) channels, limited to
    the range from fmap_min to fmap_max.
    """
    base, decay = args.take("fmap_base", 16384, _positive), args.take("fmap_decay", 1, _number)
    low, high = args.take("fmap_min", 1, whole(0, MAX_SIZE)), args.take("fmap_max", 512, whole(1, MAX_SIZE))
    stages = range(resolution.bit_length() - 1)
    counts = [min(max(int(base / 2.0 ** (stage * decay)), low), high) for stage in stages]
    kwargs = {"channel_base": int(2 * base), "channel_max": high}
    if counts[1:] != [min(kwargs["channel_base"] // 2 ** (stage + 1), high) for stage in stages[1:]]:
        raise NetworkFileError(
            args.file,
            args.place,
            f"fmap_base {base}, fmap_decay {decay}, fmap_min {low} and fmap_max {high} give the channels {counts[1:]}, "
            "from 4x4 on; only networks that halve them from one resolution to the next can be read",
        )
    return kwargs, counts[0]


def _filter(args: Arguments) -> Any:
    """The taps for changes of resolution; TensorFlow's None is a box of two."""
    taps = args.take("resample_kernel", list(RESAMPLE_FILTER), _taps)
    return [1, 1] if taps is None else taps


def _half(args: Arguments, version: int) -> dict[str, Any]:
    """Arguments that came with version 5."""
    if version < 5:
        return {}
    return {
        "num_fp16_res": args.take("num_fp16_res", 0, SYNTHESIS_ARGS["num_fp16_res"]),
        "conv_clamp": args.take("conv_clamp", None, ATTRIBUTES["conv_clamp"]),
    }


# Generators


def _generator(record: TFNetwork, file: object, place: str) -> tuple[Generator, dict[str, Source]]:
    version = record.version or 0
    args = Arguments(record.static_kwargs, file, place)
    synthesis = _component(record, "synthesis", args, SYNTHESES[version], file, place)
    _component(record, "mapping", args, ("G_mapping",), file, place)
    growing = synthesis in GROWING
    z_dim, c_dim = args.take("latent_size", 512, whole(1, MAX_SIZE)), args.take("label_size", 0, whole(0, MAX_SIZE))
    w_dim, resolution = args.take("dlatent_size", 512, whole(1, MAX_SIZE)), _resolution(args, 8 if growing else 4)
    layers = args.take("mapping_layers", 8, MAPPING_ARGS["num_layers"])
    features = args.take("mapping_fmaps", 512 if version < 5 else None, MAPPING_ARGS["layer_features"])
    mapping_kwargs = {
        "num_layers": layers,
        "layer_features": w_dim if features is None else features,
        "activation": args.take("mapping_nonlinearity", "lrelu", ATTRIBUTES["activation"]),
        "lr_multiplier": args.take("mapping_lrmul", 0.01, MAPPING_ARGS["lr_multiplier"]),
    }
    if version >= 5:
        embed = args.take("label_fmaps", None, MAPPING_ARGS["embed_features"])
        mapping_kwargs["embed_features"] = z_dim if embed is None else embed
    elif c_dim > 0:
        mapping_kwargs |= {"embed_features": z_dim, "label_path": "concat"}
    beta = args.take("dlatent_avg_beta", 0.995, ATTRIBUTES["w_avg_beta"])
    mapping_kwargs["w_avg_beta"] = 1 if beta is None else beta  # the average itself is in the file all the same
    normalize_z = args.take("normalize_latents", True, SYNTHESIS_ARGS["use_noise"])

    channels, _ = _channels(args, resolution)
    if version >= 5:
        count = min(channels["channel_base"] // 4, channels["channel_max"])
        const = args.take("fmap_const", None, _count)
        if const not in (None, count):
            reason = f"its constant has {const} channels and the layer after it {count}; only equal numbers can be read"
            raise NetworkFileError(file, place, reason)
    taps = _filter(args)
    architecture = "orig"
    if growing:
        args.take("structure", "auto", _structure)
    else:
        args.ignore("structure")
        architecture = args.take("architecture", "skip", SYNTHESIS_ARGS["architecture"])
    synthesis_kwargs = {
        **channels,
        **_half(args, version),
        "architecture": architecture,
        "resample_filter": taps,
        "use_noise": args.take("use_noise", True, SYNTHESIS_ARGS["use_noise"]) if version >= 5 else True,
        "activation": args.take("nonlinearity", "lrelu", ATTRIBUTES["activation"]),
    }
    img_channels = args.take("num_channels", 3, whole(1, MAX_SIZE))
    args.ignore(*CALLING)
    args.finish()

    G = Generator(
        z_dim=z_dim,
        c_dim=c_dim,
        w_dim=w_dim,
        img_resolution=resolution,
        img_channels=img_channels,
        mapping_kwargs=mapping_kwargs,
        synthesis_kwargs=synthesis_kwargs,
    )
    G.mapping.normalize_z = normalize_z
    variables = Variables(record.variables, file, place)
    if growing:
        _refuse_half_grown(variables)
        # The component's own is set to the network's at every run; the colours of lower resolutions served its growth.
        variables.ignore("synthesis/lod")
        variables.ignore(*(n for n in record.variables if re.fullmatch(r"synthesis/ToRGB_lod[1-9]\d*/.*", n)))
    variables.ignore("lod")
    rules = [(re.compile(f"synthesis\\.{pattern}"), name, make) for pattern, name, make in _synthesis_rules(growing)]
    label: list[Rule] = [(r"embed\.weight", lambda m: "mapping/LabelConcat/weight", _dense)] if version < 5 else []
    rules += [(re.compile(f"mapping\\.{pattern}"), name, make) for pattern, name, make in (*label, *_MAPPING_RULES)]
    sources = _sources(G, rules, variables, taps)
    variables.finish()
    return G, sources


def _component(record: TFNetwork, name: str, args: Arguments, known: tuple[str, ...], file: object, place: str) -> str:
    """The build function of a component. Arguments that only the component has are added to those of the network.

    Args:
        record: the record of the network.
        name: the name of the component.
        args: the arguments of the network.
        known: the build functions that can be read.
        file: its name, for errors.
        place: where in the file the network is.
    """
    if name not in record.components or set(record.components) != {"mapping", "synthesis"}:
        names = ", ".join(sorted(record.components)[:10])[:200] or "none"
        raise NetworkFileError(file, place, f"its components are: {names}; expected mapping and synthesis")
    component = record.components[name]
    if component.build_func not in known:
        raise NetworkFileError(
            file, f"{place}.{name}", f"it is made by {component.build_func!r}; expected {' or '.join(known)}"
        )
    # At each call the arguments of the network replace those with which the component was made.
    args.values = {**component.static_kwargs, **args.values}
    args.ignore("mapping_func", "synthesis_func")
    return component.build_func


def _refuse_half_grown(variables: Variables) -> None:
    """Refuse a network that was still growing: its level of detail is above 0, and its pictures mix two resolutions."""
    lod = variables.number("lod", 0.0)
    if not lod <= 0:
        raise NetworkFileError(
            variables.file,
            f"{variables.place}.lod",
            f"it is {lod:g}: the network was saved before it had finished growing",
        )


# Discriminators


def _discriminator(record: TFNetwork, file: object, place: str) -> tuple[Discriminator, dict[str, Source]]:
    version, growing = record.version or 0, record.build_func in GROWING
    if record.components:
        raise NetworkFileError(file, place, "it is a discriminator with components; official ones have none")
    args = Arguments(record.static_kwargs, file, place)
    c_dim, resolution = args.take("label_size", 0, whole(0, MAX_SIZE)), _resolution(args, 8)
    channels, first = _channels(args, resolution)
    half, taps = _half(args, version), _filter(args)
    activation = args.take("nonlinearity", "lrelu", ATTRIBUTES["activation"])
    if growing:
        args.take("structure", "auto", _structure)
        architecture = "orig"
    else:
        args.ignore("structure")
        architecture = args.take("architecture", "resnet", SYNTHESIS_ARGS["architecture"])
    last = min(channels["channel_base"] // 4, channels["channel_max"])
    if first != last:
        raise NetworkFileError(
            file,
            place,
            f"its last dense layer has {first} outputs and its 4x4 maps have {last} channels; only equal numbers can be "
            "read (fmap_base at least twice fmap_max)",
        )
    if architecture == "skip" and half.get("conv_clamp") is not None:
        raise NetworkFileError(
            file,
            place,
            "it limits the values of FromRGB at 4x4 (conv_clamp with architecture 'skip'), which cannot be expressed",
        )
    groups = args.take("mbstd_group_size", 4 if version < 5 else None, whole(0, MAX_SIZE, or_none=version >= 5))
    features = args.take("mbstd_num_features", 1, whole(0, MAX_SIZE))
    if version < 5 and groups < 2:
        groups, features = 1, 0  # no comparison of pictures; in version 5 it is left out if there are no features
    block_kwargs: dict[str, Any] = {"activation": activation, "resample_filter": taps}
    mapping_kwargs: dict[str, Any] = {"num_layers": 0}
    cmap_dim = c_dim
    if version >= 5:
        block_kwargs["freeze_layers"] = args.take("freeze_layers", 0, whole(0, 1000))
        cmap_dim = args.take("mapping_fmaps", None, whole(1, MAX_SIZE, or_none=True)) or first
        mapping_kwargs = {
            "num_layers": args.take("mapping_layers", 0, whole(0, MAX_LAYERS)),
            "embed_features": cmap_dim,
            "layer_features": cmap_dim,
            "activation": activation,
            "lr_multiplier": args.take("mapping_lrmul", 0.1, MAPPING_ARGS["lr_multiplier"]),
        }
        for name, usual, meaning in (
            ("use_spectral_norm", False, "spectral normalisation"),
            ("use_pagan", False, "PA-GAN's bits"),
            ("score_size", 1, "more outputs than the score"),
            ("score_max", 1, "more outputs than the score"),
        ):
            args.refuse_unless(name, usual, meaning)
        args.ignore("augment_strength", "adaptive_dropout", "pagan_num", "pagan_fade")  # they do nothing at strength 0
    img_channels = args.take("num_channels", 3, whole(1, MAX_SIZE))
    args.ignore(*CALLING)
    args.finish()

    D = Discriminator(
        c_dim=c_dim,
        img_resolution=resolution,
        img_channels=img_channels,
        architecture=architecture,
        cmap_dim=cmap_dim if c_dim else None,
        block_kwargs=block_kwargs,
        mapping_kwargs=mapping_kwargs if c_dim else {},
        epilogue_kwargs={"mbstd_group_size": groups, "mbstd_num_channels": features, "activation": activation},
        **channels,
        **half,
    )
    variables = Variables(record.variables, file, place)
    own: dict[str, Source] = {}
    if growing:
        _refuse_half_grown(variables)
        variables.ignore(*(name for name in record.variables if re.fullmatch(r"FromRGB_lod[1-9]\d*/.*", name)))
    if c_dim > 0 and version < 5:
        own = _one_hot(c_dim, file, place)
    sources = _sources(D, _discriminator_rules(growing), variables, taps, own)
    variables.finish()
    return D, sources


def _one_hot(c_dim: int, file: object, place: str) -> dict[str, Source]:
    """An embedding with which the score of a one-hot label is the sum of the outputs times the label, as in version 4.

    The embedding of a one-hot label, divided by its root mean square, is sqrt(c_dim) times the label. The network
    divides the sum of outputs times embedding by sqrt(cmap_dim), which is sqrt(c_dim).
    """
    if c_dim > MAX_CLASSES:
        raise NetworkFileError(file, place, f"it has {c_dim} classes; at most {MAX_CLASSES} can be read")
    warnings.warn(
        f"{file}: {place}: the label is embedded so that one-hot labels give the official scores; other labels do not",
        stacklevel=3,
    )
    return {
        "mapping.embed.weight": Source({}, lambda: torch.eye(c_dim) * c_dim**0.5),
        "mapping.embed.bias": Source({}, lambda: torch.zeros([c_dim])),
    }


# Where the tensors come from: pattern of the name here, name of the variable in the file, change of layout


def _dense(x: torch.Tensor) -> torch.Tensor:
    return x.t()


def _kernel(x: torch.Tensor) -> torch.Tensor:
    return x.permute(3, 2, 0, 1)


def _turned(x: torch.Tensor) -> torch.Tensor:
    return x.flip([0, 1]).permute(3, 2, 0, 1)


def _plus_one(x: torch.Tensor) -> torch.Tensor:
    return x + 1  # TensorFlow's function adds it when it runs


def _first(x: torch.Tensor) -> torch.Tensor:
    return x.permute(0, 1, 2, 3).squeeze(0)  # the permutation fails unless there are four axes


def _map(x: torch.Tensor) -> torch.Tensor:
    return x.permute(0, 1, 2, 3).squeeze((0, 1))


Rule = tuple[str, Callable[[re.Match], str], Make]
_MAPPING_RULES: list[Rule] = [
    (r"w_avg", lambda m: "dlatent_avg", unchanged),
    (r"embed\.weight", lambda m: "mapping/LabelEmbed/weight", _dense),
    (r"embed\.bias", lambda m: "mapping/LabelEmbed/bias", unchanged),
    (r"fc(\d+)\.weight", lambda m: f"mapping/Dense{m[1]}/weight", _dense),
    (r"fc(\d+)\.bias", lambda m: f"mapping/Dense{m[1]}/bias", unchanged),
]
_LAYER: dict[str, tuple[str, Make]] = {
    "bias": ("bias", unchanged),
    "noise_strength": ("noise_strength", unchanged),
    r"affine\.weight": ("mod_weight", _dense),
    r"affine\.bias": ("mod_bias", _plus_one),
}


def _synthesis_rules(growing: bool) -> list[Rule]:
    def side(m: re.Match) -> str:
        return f"synthesis/{m[1]}x{m[1]}"

    def conv1(m: re.Match) -> str:
        return f"{side(m)}/{'Conv' if m[1] == '4' else 'Conv1'}"

    def torgb(m: re.Match) -> str:
        return "synthesis/ToRGB_lod0" if growing else f"{side(m)}/ToRGB"

    def noise(m: re.Match) -> str:
        return f"synthesis/noise{2 * int(m[1]).bit_length() - 7 + int(m[2])}"

    rules: list[Rule] = [
        (r"b4\.const", lambda m: "synthesis/4x4/Const/const", _first),
        (r"b(\d+)\.conv0\.weight", lambda m: f"{side(m)}/Conv0_up/weight", _turned),
        (r"b(\d+)\.conv1\.weight", lambda m: f"{conv1(m)}/weight", _kernel),
        (r"b(\d+)\.torgb\.weight", lambda m: f"{torgb(m)}/weight", _kernel),
        (r"b(\d+)\.skip\.weight", lambda m: f"{side(m)}/Skip/weight", _turned),
        # Noise maps are numbered from 4x4 on, which has one layer; the other resolutions have two.
        (r"b(\d+)\.conv([01])\.noise_const", noise, _map),
    ]
    for pattern, (last, change) in _LAYER.items():
        rules.append((rf"b(\d+)\.conv0\.{pattern}", _below(lambda m: f"{side(m)}/Conv0_up", last), change))
        rules.append((rf"b(\d+)\.conv1\.{pattern}", _below(conv1, last), change))
        rules.append((rf"b(\d+)\.torgb\.{pattern}", _below(torgb, last), change))
    return rules


def _below(scope: Callable[[re.Match], str], last: str) -> Callable[[re.Match], str]:
    """The name of a variable in the scope that belongs to a match."""
    return lambda m: f"{scope(m)}/{last}"


def _discriminator_rules(growing: bool) -> list[tuple[re.Pattern, Callable[[re.Match], str], Make]]:
    def fromrgb(m: re.Match) -> str:
        return "FromRGB_lod0" if growing else f"{m[1]}x{m[1]}/FromRGB"

    rules: list[Rule] = []
    for last, conv, dense in (("weight", _kernel, _dense), ("bias", unchanged, unchanged)):
        for pattern, name, change in (
            (r"b(\d+)\.fromrgb", fromrgb, conv),
            (r"b(\d+)\.conv0", lambda m: f"{m[1]}x{m[1]}/Conv0", conv),
            (r"b(\d+)\.conv1", lambda m: f"{m[1]}x{m[1]}/Conv1_down", conv),
            (r"b(\d+)\.skip", lambda m: f"{m[1]}x{m[1]}/Skip", conv),
            (r"b4\.conv", lambda m: "4x4/Conv", conv),
            (r"b4\.fc", lambda m: "4x4/Dense0", dense),
            (r"b4\.out", lambda m: "Output", dense),
            (r"mapping\.embed", lambda m: "LabelEmbed", dense),
            (r"mapping\.fc(\d+)", lambda m: f"Mapping{m[1]}", dense),
        ):
            rules.append((rf"{pattern}\.{last}", _below(name, last), change))
    return [(re.compile(pattern), name, change) for pattern, name, change in rules]


def _sources(
    network: torch.nn.Module,
    rules: list[tuple[re.Pattern, Callable[[re.Match], str], Make]],
    variables: Variables,
    taps: Any,
    own: Mapping[str, Source] | None = None,
) -> dict[str, Source]:
    """The sources of all tensors: those in ``own``, a filter made anew, or a variable and its change of layout."""
    sources: dict[str, Source] = dict(own or {})
    for name in network.state_dict():
        owner, _, last = name.rpartition(".")
        if name in sources:
            continue
        if last == "resample_filter":  # a layer that keeps the resolution has the usual filter, and does not use it
            layer = network.get_submodule(owner)
            resamples = getattr(layer, "up", 2) != 1 or getattr(layer, "down", 1) != 1
            sources[name] = Source({}, partial(setup_filter, taps if resamples else RESAMPLE_FILTER))
            continue
        match, rule = next((m, rule) for rule in rules if (m := rule[0].fullmatch(name)))
        sources[name] = variables.source(rule[1](match), rule[2])
    return sources
