"""StyleGAN3 generators (T and R) of the official stylegan3 repository, from their records."""

from typing import Any

from ...errors import NetworkFileError
from ...networks.stylegan3 import Generator
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
    not_zero,
    number,
    whole,
)
from ..machine.persistence import ModuleRecord, fill
from ..machine.tensors import NumpyArray
from .stylegan2 import bind, sizes_of

# What a written file says in place of source text, see persistence.MODULE_SRC.
MODULE_SRC = "from training.networks_stylegan3 import *\n"


SIZES = ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels")
MAPPING_ARGS: dict[str, Check] = {
    "num_layers": whole(1, MAX_LAYERS),
    "lr_multiplier": not_zero,
    "w_avg_beta": number(0, 1),
}
SYNTHESIS_ARGS: dict[str, Check] = {
    "channel_base": whole(1, 2**31),
    "channel_max": whole(1, MAX_SIZE),
    "num_layers": whole(1, MAX_LAYERS),
    "num_critical": whole(0, MAX_LAYERS),
    "first_cutoff": number(1e-3, MAX_RESOLUTION),
    "first_stopband": number(1e-3, MAX_RESOLUTION),
    "last_stopband_rel": number(1e-3, 1e3),
    "margin_size": whole(0, 512),
    "output_scale": ATTRIBUTES["output_scale"],
    "num_fp16_res": whole(0, 64),
    "conv_kernel": whole(1, 31),
    "filter_size": whole(1, 64),
    "lrelu_upsampling": whole(1, 8),
    "use_radial_filters": flag,
    "conv_clamp": ATTRIBUTES["conv_clamp"],
    "magnitude_ema_beta": number(0, 1),
}


ARRAYS = {"size", "in_size", "out_size"}  # attributes that official code keeps as NumPy arrays of width and height


CLASSES = {
    "stylegan3.Generator": Known(
        Generator, {**COMMON_SIZES, **SYNTHESIS_ARGS, "mapping_kwargs": MAPPING_ARGS}, MODULE_SRC
    )
}


def is_stylegan3(record: object) -> bool:
    """True for the record of a StyleGAN3 generator, whose synthesis begins with Fourier features and has no blocks."""
    if not isinstance(record, ModuleRecord):
        return False
    synthesis = record.modules.get("synthesis")
    return record.class_name == "Generator" and synthesis is not None and "input" in synthesis.modules


def build(record: ModuleRecord, file: object, place: str, budget: Budget) -> Generator:
    """The generator of a top-level record, in eval mode, without gradients, float32.

    Cutoffs, sampling rates and filters follow from the arguments; the filters themselves are taken from the file.

    Raises:
        NetworkFileError: it is no StyleGAN3 generator, or arguments, tensors and attributes do not fit together.
    """
    if not is_stylegan3(record):
        raise NetworkFileError(
            file, place, f"it is a {record.class_name[:80]!r} without Fourier features; expected a StyleGAN3 generator"
        )
    kwargs = bind(record, (*SIZES, "mapping_kwargs"), file, place)
    sizes = sizes_of(record, kwargs, SIZES, file, place)
    mapping_kwargs = checked_table(
        kwargs.pop("mapping_kwargs", {}), MAPPING_ARGS, file, f"{place}: mapping_kwargs", "StyleGAN3"
    )
    synthesis_kwargs = checked_table(
        {k: v for k, v in kwargs.items() if k not in SIZES}, SYNTHESIS_ARGS, file, place, "StyleGAN3"
    )
    _check_count(record.modules.get("mapping"), "fc", mapping_kwargs.get("num_layers", 2), file, f"{place}.mapping")
    layers = synthesis_kwargs.get("num_layers", 14) + 1  # and ToRGB
    _check_count(record.modules["synthesis"], "L", layers, file, f"{place}.synthesis")
    with constructing(file, place):
        network = Generator(**sizes, mapping_kwargs=mapping_kwargs, **synthesis_kwargs)
    for part in record.modules["synthesis"].modules.values():
        for name in ARRAYS & set(part.attributes):
            part.attributes[name] = _pair(part.attributes[name])
    fill(network, record, file, place, budget)
    return network


def _pair(value: Any) -> Any:
    """An array of two numbers as a tuple; anything else as it is, which then agrees with nothing."""
    tensor = value.record if isinstance(value, NumpyArray) else None
    return tuple(tensor.to_tensor().tolist()) if tensor is not None and tensor.shape == (2,) else value


def _check_count(record: ModuleRecord | None, prefix: str, count: int, file: object, place: str) -> None:
    """As many numbered parts as the arguments ask for, before they are made."""
    present = sum(name.startswith(prefix) for name in (record.modules if record else ()))
    if present != count:
        raise NetworkFileError(file, place, f"it has {present} layers; its arguments ask for {count}")
