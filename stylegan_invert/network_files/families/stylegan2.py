"""StyleGAN2 networks in pickles of the official stylegan2-ada-pytorch and stylegan3 repositories."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ...errors import NetworkFileError
from ...files.pickled import show
from ...networks.discriminators import Discriminator
from ...networks.layers import ARCHITECTURES, LABEL_PATHS
from ...networks.stylegan2 import Generator
from ..assemble import Budget, constructing
from ..checks import (
    ATTRIBUTES,
    COMMON_SIZES,
    MAX_LAYERS,
    MAX_RESOLUTION,
    MAX_SIZE,
    Check,
    Known,
    checked_table,
    flag,
    is_filter,
    not_zero,
    one_of,
    whole,
)
from ..machine.persistence import MODULE_SRC, ModuleRecord, fill

GENERATOR_ARGS = ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels", "mapping_kwargs", "synthesis_kwargs")
DISCRIMINATOR_ARGS = (
    *("c_dim", "img_resolution", "img_channels", "architecture", "channel_base", "channel_max", "num_fp16_res"),
    *("conv_clamp", "cmap_dim", "block_kwargs", "mapping_kwargs", "epilogue_kwargs"),
)


MAPPING_ARGS: dict[str, Check] = {
    "num_layers": whole(1, MAX_LAYERS),
    "embed_features": whole(1, MAX_SIZE, or_none=True),
    "layer_features": whole(1, MAX_SIZE, or_none=True),
    "activation": ATTRIBUTES["activation"],
    "lr_multiplier": not_zero,
    "w_avg_beta": ATTRIBUTES["w_avg_beta"],
}
# The discriminator of TensorFlow's networks embeds a label and has no further layers.
D_MAPPING_ARGS = {**MAPPING_ARGS, "num_layers": whole(0, MAX_LAYERS)}
SYNTHESIS_ARGS: dict[str, Check] = {
    "channel_base": whole(1, 2**31),
    "channel_max": whole(1, MAX_SIZE),
    "num_fp16_res": whole(0, 64),
    "architecture": one_of(ARCHITECTURES),
    "resample_filter": ("a short list of numbers", lambda v: v is None or is_filter(v)),
    "img_filter": ("a short list of numbers", lambda v: v is None or is_filter(v)),
    "conv_clamp": ATTRIBUTES["conv_clamp"],
    "fp16_channels_last": flag,
    "kernel_size": ("an odd integer from 1 to 31", lambda v: type(v) is int and v % 2 == 1 and 1 <= v <= 31),
    "use_noise": flag,
    "activation": ATTRIBUTES["activation"],
}
BLOCK_ARGS: dict[str, Check] = {
    **{k: SYNTHESIS_ARGS[k] for k in ("activation", "resample_filter", "fp16_channels_last")},
    "freeze_layers": whole(0, 1000),
}
EPILOGUE_ARGS: dict[str, Check] = {
    "mbstd_group_size": whole(1, MAX_SIZE, or_none=True),
    "mbstd_num_channels": whole(0, MAX_SIZE),
    "activation": ATTRIBUTES["activation"],
}
OUTER_ARGS: dict[str, Check] = {
    **{k: SYNTHESIS_ARGS[k] for k in ("architecture", "channel_base", "channel_max", "num_fp16_res", "conv_clamp")},
    "cmap_dim": whole(0, MAX_SIZE, or_none=True),
}
TRAINING_ONLY = {
    "fused_modconv_default"
}  # says how the stylegan3 repository computes in training; results are the same


CLASSES = {
    "stylegan2.Generator": Known(
        Generator,
        {
            **COMMON_SIZES,
            "z_dim": whole(0, MAX_SIZE),
            "w_dim": whole(1, MAX_SIZE),
            "mapping_kwargs": {**MAPPING_ARGS, "label_path": one_of(LABEL_PATHS)},
            "synthesis_kwargs": SYNTHESIS_ARGS,
        },
        MODULE_SRC,
    ),
    "stylegan2.Discriminator": Known(
        Discriminator,
        {
            **COMMON_SIZES,
            **OUTER_ARGS,
            "block_kwargs": BLOCK_ARGS,
            "mapping_kwargs": D_MAPPING_ARGS,
            "epilogue_kwargs": EPILOGUE_ARGS,
        },
        MODULE_SRC,
    ),
}


LIVE_MARKS = {
    "G": frozenset({"_init_kwargs", "mapping", "synthesis", "synthesis.b4.const"}),
    "D": frozenset({"_init_kwargs", "b4", "b4.conv.weight", "b4.out.weight"}),
}
"""Names of attributes and tensors by which networks of official code in memory are known."""


def live_pictures(G: torch.nn.Module, assumed: Any, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """The pictures of a generator of official code in memory, of StyleGAN2 or StyleGAN3."""
    return G(z, c, noise_mode="const", force_fp32=True)


def live_scores(D: torch.nn.Module, assumed: Any, img: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """The scores of a discriminator of official code in memory."""
    return D(img, c, force_fp32=True)


def is_persistent(record: object) -> bool:
    """True for the record of any official PyTorch class; `build` refuses those that are none of StyleGAN2's."""
    return isinstance(record, ModuleRecord)


def build(record: ModuleRecord, file: object, place: str, budget: Budget) -> Generator | Discriminator:
    """The network of a record, in eval mode, without gradients, float32.

    Raises:
        NetworkFileError: the class is unknown, or arguments, tensors and attributes do not fit together.
    """
    try:
        make = FAMILIES[record.class_name]
    except KeyError:
        raise NetworkFileError(
            file, place, f"it is of class {record.class_name[:80]!r}, which is not one of {', '.join(FAMILIES)}"
        ) from None
    with constructing(file, place):
        network: Any = make(record, file, place)
    fill(network, record, file, place, budget)
    return network


def _generator(record: ModuleRecord, file: object, place: str) -> Generator:
    kwargs = bind(record, GENERATOR_ARGS, file, place)
    synthesis = record.modules.get("synthesis")
    # In the stylegan3 repository the arguments of the synthesis are the generator's own; before they were in a
    # dictionary.
    flat = {k: kwargs.pop(k) for k in list(kwargs) if k not in GENERATOR_ARGS}
    mapping_kwargs = _table(kwargs.pop("mapping_kwargs", {}), MAPPING_ARGS, file, f"{place}: mapping_kwargs")
    synthesis_kwargs = _table(
        {**kwargs.pop("synthesis_kwargs", {}), **flat}, SYNTHESIS_ARGS, file, f"{place}: synthesis_kwargs"
    )
    sizes = sizes_of(record, kwargs, GENERATOR_ARGS[:5], file, place)
    check_count(record.modules.get("mapping"), "fc", mapping_kwargs.get("num_layers", 8), file, f"{place}.mapping")
    check_count(synthesis, "b", sizes["img_resolution"].bit_length() - 2, file, f"{place}.synthesis")
    return Generator(**sizes, mapping_kwargs=mapping_kwargs, synthesis_kwargs=synthesis_kwargs)


def _discriminator(record: ModuleRecord, file: object, place: str) -> Discriminator:
    kwargs = bind(record, DISCRIMINATOR_ARGS, file, place)
    parts: dict[str, Any] = {}
    for name, known in (
        ("block_kwargs", BLOCK_ARGS),
        ("mapping_kwargs", D_MAPPING_ARGS),
        ("epilogue_kwargs", EPILOGUE_ARGS),
    ):
        parts[name] = _table(kwargs.pop(name, {}), known, file, f"{place}: {name}")
    sizes: dict[str, Any] = {**sizes_of(record, kwargs, DISCRIMINATOR_ARGS[:3], file, place)}
    for name in sizes:
        kwargs.pop(name, None)
    check_count(record, "b", sizes["img_resolution"].bit_length() - 2, file, place)
    if sizes["c_dim"] > 0:
        check_count(
            record.modules.get("mapping"), "fc", parts["mapping_kwargs"].get("num_layers", 8), file, f"{place}.mapping"
        )
    return Discriminator(**sizes, **parts, **_table(kwargs, OUTER_ARGS, file, place))


FAMILIES: dict[str, Callable[[ModuleRecord, object, str], torch.nn.Module]] = {
    "Generator": _generator,
    "Discriminator": _discriminator,
}


def bind(record: ModuleRecord, names: tuple[str, ...], file: object, place: str) -> dict[str, Any]:
    """The arguments of a record's constructor by name, also those that were passed by position.

    Args:
        record: the record of the network.
        names: the names of the arguments in their order.
        file: its name, for errors.
        place: where in the file the record is.
    """
    if len(record.init_args) > len(names):
        raise NetworkFileError(
            file, place, f"its constructor was given {len(record.init_args)} arguments; there are {len(names)}"
        )
    return {**dict(zip(names, record.init_args)), **record.init_kwargs}


def _table(table: Any, known: Mapping[str, Check], file: object, place: str) -> dict[str, Any]:
    return checked_table(table, known, file, place, "StyleGAN2", TRAINING_ONLY)


def sizes_of(
    record: ModuleRecord, kwargs: dict[str, Any], names: tuple[str, ...], file: object, place: str
) -> dict[str, int]:
    """The sizes of a network by name, from its arguments, or from its attributes where an argument is missing."""
    sizes = {}
    for name in names:
        low, high = int(name in ("w_dim", "img_channels")), MAX_RESOLUTION if name == "img_resolution" else MAX_SIZE
        value = kwargs.get(name, record.attributes.get(name))
        if type(value) is not int or not low <= value <= high:
            raise NetworkFileError(file, place, f"{name} is {show(value)}; expected an integer from {low} to {high}")
        sizes[name] = value
    if sizes.get("z_dim", 1) + sizes["c_dim"] == 0:
        raise NetworkFileError(file, place, "z_dim and c_dim are both 0; a network needs an input")
    return sizes


def check_count(
    record: ModuleRecord | None, prefix: str, count: Any, file: object, place: str, what: str = "layers or blocks"
) -> None:
    """Refuse a record that has not as many numbered parts as its arguments ask for, before any of them is made.

    Args:
        record: the record whose parts are counted; None has no parts.
        prefix: the beginning of the parts' names, which a digit follows.
        count: the number of parts that the arguments ask for.
        file: its name, for errors.
        place: where in the file the record is.
        what: the name of the parts, in words.
    """
    present = sum(
        name.startswith(prefix) and name[len(prefix) :][:1].isdigit() for name in (record.modules if record else ())
    )
    if type(count) is not int or present != count:
        raise NetworkFileError(file, place, f"it has {present} {what}; its arguments ask for {show(count)}")
