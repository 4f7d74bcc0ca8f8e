"""StyleGAN3 generators, of configurations T and R, in pickles of the official stylegan3 repository."""

from typing import Any

from ...errors import NetworkFileError
from ...files.tensors import NumpyArray
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
from .stylegan2 import bind, check_count, sizes_of

# The text that takes the place of source text in files that are written here, see persistence.MODULE_SRC.
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


ARRAYS = {"size", "in_size", "out_size"}  # attributes that are NumPy arrays of width and height in official code


CLASSES = {
    "stylegan3.Generator": Known(
        Generator, {**COMMON_SIZES, **SYNTHESIS_ARGS, "mapping_kwargs": MAPPING_ARGS}, MODULE_SRC
    )
}


LIVE_MARKS = frozenset({"_init_kwargs", "mapping", "synthesis", "synthesis.input.freqs"})
"""Names of attributes and tensors by which a generator of official code in memory is known."""


def is_stylegan3(record: object) -> bool:
    """True for the record of a StyleGAN3 generator, whose synthesis begins with Fourier features and has no blocks."""
    if not isinstance(record, ModuleRecord):
        return False
    synthesis = record.modules.get("synthesis")
    return record.class_name == "Generator" and synthesis is not None and "input" in synthesis.modules


def build(record: ModuleRecord, file: object, place: str, budget: Budget) -> Generator:
    """The generator of a record, in eval mode, without gradients, float32.

    Cutoffs, sampling rates and sizes follow from the arguments. The filters are taken from the file.

    Raises:
        NetworkFileError: it is not a StyleGAN3 generator, or arguments, tensors and attributes do not fit together.
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
    layers = mapping_kwargs.get("num_layers", 2)
    check_count(record.modules.get("mapping"), "fc", layers, file, f"{place}.mapping", "layers")
    layers = synthesis_kwargs.get("num_layers", 14) + 1  # the last one is ToRGB
    check_count(record.modules["synthesis"], "L", layers, file, f"{place}.synthesis", "layers")
    with constructing(file, place):
        network = Generator(**sizes, mapping_kwargs=mapping_kwargs, **synthesis_kwargs)
    for part in record.modules["synthesis"].modules.values():
        for name in ARRAYS & set(part.attributes):
            part.attributes[name] = _pair(part.attributes[name])
    fill(network, record, file, place, budget)
    return network


def _pair(value: Any) -> Any:
    """An array of two numbers as a tuple.

    Anything else stays as it is, and is refused when it is compared with a tuple.
    """
    tensor = value.record if isinstance(value, NumpyArray) else None
    return tuple(tensor.to_tensor().tolist()) if tensor is not None and tensor.shape == (2,) else value
