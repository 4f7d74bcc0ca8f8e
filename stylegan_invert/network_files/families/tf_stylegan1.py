"""StyleGAN networks in official pickles of TensorFlow, whose build functions are "G_style" and "D_basic".

Configuration A in StyleGAN2's repository is the same networks, in pickles of a later version.
"""

import re
from collections.abc import Callable
from typing import Any

from ...errors import NetworkFileError
from ...files.pickled import show
from ...networks.stylegan1 import NONLINEARITIES, Blur, Discriminator, Generator, feature_maps
from ..assemble import Budget, Make, Source, assemble, constructing
from ..checks import (
    COMMON_SIZES,
    MAX_LAYERS,
    MAX_RESOLUTION,
    MAX_SIZE,
    Check,
    Known,
    flag,
    is_filter,
    number,
    one_of,
    whole,
)
from ..machine.tensorflow import Arguments, TFNetwork, Variables

nonlinearity = one_of(NONLINEARITIES)
fused: Check = ("True, False or 'auto'", lambda v: isinstance(v, bool) or (isinstance(v, str) and v == "auto"))
filter_: Check = (
    "None or a short list of numbers",
    lambda v: v is None or (isinstance(v, list) and (not v or is_filter(v))),
)

Table = dict[str, tuple[str, Any, Check]]
"""Name of an argument in the file to its name here, its default in official code, and its check."""
COMMON: Table = {
    "fmap_base": ("fmap_base", 8192, number(1, 2**31)),
    "fmap_decay": ("fmap_decay", 1.0, number(0, 64)),
    "fmap_max": ("fmap_max", 512, whole(1, MAX_SIZE)),
    "nonlinearity": ("nonlinearity", "lrelu", nonlinearity),
    "blur_filter": ("blur_filter", [1, 2, 1], filter_),
}
SIZES: Table = {
    "latent_size": ("z_dim", 512, whole(1, MAX_SIZE)),
    "label_size": ("c_dim", 0, whole(0, MAX_SIZE)),
    "dlatent_size": ("w_dim", 512, whole(1, MAX_SIZE)),
    "resolution": ("img_resolution", 1024, whole(4, MAX_RESOLUTION)),
    "num_channels": ("img_channels", 3, whole(1, MAX_SIZE)),
}
MAPPING: Table = {
    "mapping_layers": ("num_layers", 8, whole(1, MAX_LAYERS)),
    "mapping_fmaps": ("layer_features", 512, whole(1, MAX_SIZE)),
    "mapping_lrmul": ("lr_multiplier", 0.01, number(1e-9, 1e9)),
    "mapping_nonlinearity": ("activation", "lrelu", nonlinearity),
    "normalize_latents": ("normalize_z", True, flag),
}
SYNTHESIS: Table = {
    **COMMON,
    **{name: (name, True, flag) for name in ("use_styles", "const_input_layer", "use_noise", "use_instance_norm")},
    "use_pixel_norm": ("use_pixel_norm", False, flag),
    "fused_scale": ("fused_scale", "auto", fused),
}
DISCRIMINATOR: Table = {
    **COMMON,
    "label_size": SIZES["label_size"],
    "resolution": ("img_resolution", 32, whole(4, MAX_RESOLUTION)),
    "num_channels": ("img_channels", 1, whole(1, MAX_SIZE)),
    "mbstd_group_size": ("mbstd_group_size", 4, whole(0, MAX_SIZE)),
    "mbstd_num_features": ("mbstd_num_features", 1, whole(0, MAX_SIZE)),
}
# Arguments for training, for TensorFlow's graph, and for calls. Here the caller says how to truncate and which noise to
# take, and everything is computed in float32.
NEEDLESS = (
    *("truncation_psi", "truncation_cutoff", "truncation_psi_val", "truncation_cutoff_val", "dlatent_avg_beta"),
    *("style_mixing_prob", "is_training", "is_validation", "is_template_graph", "force_clean_graph"),
    *("randomize_noise", "dlatent_broadcast", "dtype"),
)

# How the name of a tensor in a layer of the synthesis ends, here and in the file.
LAYER = {
    "weight": "weight",
    "bias": "bias",
    "const": "const",
    "dense.weight": "weight",
    "noise_strength": "Noise/weight",
    "style.weight": "StyleMod/weight",
    "style.bias": "StyleMod/bias",
}


CLASSES = {
    "stylegan1.Generator": Known(Generator, COMMON_SIZES),
    "stylegan1.Discriminator": Known(Discriminator, COMMON_SIZES),
}


def is_stylegan1(record: object) -> bool:
    """True for a network of StyleGAN's build functions."""
    return isinstance(record, TFNetwork) and record.build_func in FAMILIES


def build(record: TFNetwork, file: object, place: str, budget: Budget) -> Generator | Discriminator:
    """The network of a record, in eval mode, without gradients, float32.

    The level of detail ("lod") says how far the network has grown. Only the layers that it uses at that level are read.

    Raises:
        NetworkFileError: the network is none of StyleGAN's, or arguments and variables do not fit together.
    """
    if record.build_func not in FAMILIES:
        raise NetworkFileError(
            file, place, f"it is made by {show(record.build_func)}, which is not one of {', '.join(FAMILIES)}"
        )
    # The network passes its own arguments to its components, when they are made and at each call.
    inner = [component.static_kwargs for component in record.components.values()]
    values = {k: v for kwargs in [*inner, record.static_kwargs] for k, v in kwargs.items()}
    arguments, variables = Arguments(values, file, place), Variables(record.variables, file, place)
    make, name_all = FAMILIES[record.build_func]
    with constructing(file, place):
        network = make(arguments, variables)
    arguments.ignore(*NEEDLESS)
    arguments.finish()
    sources = {ours: variables.source(name, _layout(ours)) for ours, name in name_all(network).items()}
    variables.ignore(*(name for name in variables.records if _unused(name, network)))
    variables.finish()
    kwargs = network.init_kwargs
    taps = kwargs.get("synthesis_kwargs", kwargs)["blur_filter"]
    for ours in network.state_dict():
        if ours.endswith("blur.filter"):
            sources[ours] = Source({}, lambda: Blur(taps).get_buffer("filter"))
    return assemble(network, sources, file, place, budget)


def _generator(arguments: Arguments, variables: Variables) -> Generator:
    use_wscale = arguments.take("use_wscale", True, flag)
    sizes, mapping, synthesis = (_taken(arguments, table) for table in (SIZES, MAPPING, SYNTHESIS))
    _check_channels(sizes["img_resolution"], synthesis, arguments)
    synthesis["lod"] = _lod(arguments, variables, ("lod", "synthesis/lod"))
    return Generator(
        **sizes,
        mapping_kwargs={**mapping, "use_wscale": use_wscale},
        synthesis_kwargs={**synthesis, "use_wscale": use_wscale},
    )


def _discriminator(arguments: Arguments, variables: Variables) -> Discriminator:
    use_wscale = arguments.take("use_wscale", True, flag)
    kwargs = _taken(arguments, DISCRIMINATOR)
    _check_channels(kwargs["img_resolution"], kwargs, arguments)
    arguments.ignore("fused_scale")  # halving the resolution computes the same with it and without
    return Discriminator(**kwargs, use_wscale=use_wscale, lod=_lod(arguments, variables, ("lod",)))


def _taken(arguments: Arguments, table: Table) -> dict[str, Any]:
    return {ours: arguments.take(name, default, check) for name, (ours, default, check) in table.items()}


def _check_channels(resolution: int, kwargs: dict[str, Any], arguments: Arguments) -> None:
    base, decay, limit = (kwargs[k] for k in ("fmap_base", "fmap_decay", "fmap_max"))
    if feature_maps(resolution.bit_length() - 2, base, decay, limit) < 1:
        raise NetworkFileError(
            arguments.file,
            arguments.place,
            f"fmap_base {base} and fmap_decay {decay} leave no channels at {resolution}x{resolution}",
        )


def _lod(arguments: Arguments, variables: Variables, names: tuple[str, ...]) -> float:
    """The level of detail, 0 when growing has ended.

    The first of the names counts: the network sets those of its components.
    """
    present = [name for name in names if name in variables.records]
    variables.ignore(*present)
    structures: Check = ("'auto', 'recursive', 'linear' or 'fixed'", lambda v: isinstance(v, str) and v in STRUCTURES)
    if arguments.take("structure", "auto", structures) == "fixed" or not present:
        return 0.0  # a network of the fixed structure does not read it
    lod = variables.number(present[0], 0.0)
    if not 0 <= lod <= 64:
        raise NetworkFileError(
            variables.file, f"{variables.place}.{present[0]}", f"it is {lod:g}; expected a number from 0 to 64"
        )
    return lod


STRUCTURES = ("auto", "recursive", "linear", "fixed")


def _generator_names(network: Generator) -> dict[str, str]:
    """Names in the network's state dict to names of variables in the file."""
    both = ("weight", "bias")
    names = {"mapping.w_avg": "dlatent_avg"}
    if network.c_dim:
        names["mapping.embed.weight"] = "mapping/LabelConcat/weight"
    for i in range(network.mapping.num_layers):
        names |= {f"mapping.fc{i}.{part}": f"mapping/Dense{i}/{part}" for part in both}
    synthesis = network.synthesis
    for index, layer in enumerate(synthesis.layer_shapes):
        block, _, part = layer.partition(".")
        res = block.removeprefix("b")
        own = synthesis.get_submodule(layer).state_dict()
        if res == "4":
            scope = "Conv" if part == "conv1" else "Const" if "const" in own else "Dense"
        else:
            scope = {"conv0": "Conv0_up", "conv1": "Conv1"}[part]
        names |= {f"synthesis.{layer}.{k}": f"synthesis/{res}x{res}/{scope}/{LAYER[k]}" for k in own if k in LAYER}
        if "noise_const" in own:
            names[f"synthesis.{layer}.noise_const"] = f"synthesis/noise{index}"
    for res in synthesis.block_resolutions:
        if hasattr(getattr(synthesis, f"b{res}"), "torgb"):
            scope = f"synthesis/ToRGB_lod{network.img_resolution.bit_length() - res.bit_length()}"
            names |= {f"synthesis.b{res}.torgb.{part}": f"{scope}/{part}" for part in both}
    return names


def _discriminator_names(network: Discriminator) -> dict[str, str]:
    scopes = {"b4.conv": "4x4/Conv", "b4.fc": "4x4/Dense0", "b4.out": "4x4/Dense1"}
    for name, _ in network.named_children():
        res = int(name.removeprefix("fromrgb").removeprefix("b"))
        if name.startswith("fromrgb"):
            scopes[name] = f"FromRGB_lod{network.img_resolution.bit_length() - res.bit_length()}"
        elif res > 4:
            scopes |= {f"{name}.conv0": f"{res}x{res}/Conv0", f"{name}.conv1": f"{res}x{res}/Conv1_down"}
    return {f"{ours}.{part}": f"{scope}/{part}" for ours, scope in scopes.items() for part in ("weight", "bias")}


FAMILIES: dict[str, tuple[Callable, Callable]] = {
    "G_style": (_generator, _generator_names),
    "D_basic": (_discriminator, _discriminator_names),
}
"""By official build function: the function that makes the network here, and the one that names its variables."""


def _layout(ours: str) -> Make:
    """The function that changes the layout of a variable to that of the network's tensor."""
    if ours.endswith("const"):  # (1, 1, H, W) of noise maps, (1, C, 4, 4)
        ones = (0, 1) if ours.endswith("noise_const") else 0
        return lambda t: t.permute(0, 1, 2, 3).squeeze(ones)  # the permutation fails unless there are four axes
    return lambda t: t.permute(3, 2, 0, 1) if t.ndim == 4 else t.t()  # (H, W, in, out), (in, out) or (out,)


PICTURES = re.compile(r"(synthesis/ToRGB|FromRGB)_lod\d+/(weight|bias)")
OF_RESOLUTION = re.compile(r"(?:synthesis/)?(\d{1,6})x\1/.+")
NOISE = re.compile(r"synthesis/noise(\d{1,6})")


def _unused(name: str, network: Generator | Discriminator) -> bool:
    """True for a variable of a resolution that is not reached yet, or of a picture that is no longer made."""
    if PICTURES.fullmatch(name):
        return True
    top = network.synthesis.top if isinstance(network, Generator) else network.top
    level = None
    if match := OF_RESOLUTION.fullmatch(name):
        level = int(match[1]).bit_length() - 1
    elif match := NOISE.fullmatch(name):
        level = int(match[1]) // 2 + 2
    return level is not None and top < level < network.img_resolution.bit_length()
