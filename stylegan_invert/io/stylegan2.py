"""StyleGAN2 networks of stylegan2-ada-pytorch and of the stylegan3 repository, from their records."""

from collections.abc import Callable
from typing import Any

import torch

from ..errors import NetworkFileError
from ..networks.discriminators import Discriminator
from ..networks.stylegan2 import Generator
from .persistence import Budget, ModuleRecord, fill

MAX_SIZE = 2**16  # of any dimension, layer count or resolution an argument may ask for


GENERATOR_ARGS = ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels", "mapping_kwargs", "synthesis_kwargs")
DISCRIMINATOR_ARGS = (
    "c_dim", "img_resolution", "img_channels", "architecture", "channel_base", "channel_max", "num_fp16_res", "conv_clamp", "cmap_dim",
    "block_kwargs", "mapping_kwargs", "epilogue_kwargs",
)  # fmt: skip
MAPPING_ARGS = {"num_layers", "embed_features", "layer_features", "activation", "lr_multiplier", "w_avg_beta"}
SYNTHESIS_ARGS = {
    "channel_base", "channel_max", "num_fp16_res", "architecture", "resample_filter", "conv_clamp", "fp16_channels_last",
    "kernel_size", "use_noise", "activation",
}  # fmt: skip
BLOCK_ARGS = {"activation", "resample_filter", "fp16_channels_last", "freeze_layers"}
EPILOGUE_ARGS = {"mbstd_group_size", "mbstd_num_channels", "activation"}
TRAINING_ONLY = {"fused_modconv_default"}  # stylegan3's name for how training computes; the result is the same


def build(record: ModuleRecord, file: object, place: str, budget: Budget) -> Generator | Discriminator:
    """The network of a top-level record, in eval mode, without gradients, float32.

    Raises:
        NetworkFileError: the class is unknown, or arguments, tensors and attributes do not fit together.
    """
    try:
        make = FAMILIES[record.class_name]
    except KeyError:
        raise NetworkFileError(
            file, place, f"it is of class {record.class_name[:80]!r}, which is not one of {', '.join(FAMILIES)}"
        ) from None
    try:
        with torch.device("meta"):
            network = make(record, file, place)
    except NetworkFileError:
        raise
    except (ValueError, TypeError, KeyError, RuntimeError, OverflowError, ZeroDivisionError) as e:
        reason = str(e).splitlines()[0][:200] if str(e) else type(e).__name__
        raise NetworkFileError(file, place, f"its arguments describe no network: {reason}") from None
    fill(network, record, file, place, budget)
    return network.eval().requires_grad_(False)


def _generator(record: ModuleRecord, file: object, place: str) -> Generator:
    kwargs = _bind(record, GENERATOR_ARGS, file, place)
    synthesis = record.modules.get("synthesis")
    if synthesis is not None and any(name.startswith("L0_") for name in synthesis.modules):
        raise NetworkFileError(
            file, place, "it is a StyleGAN3 generator, which this version does not read; it reads StyleGAN2"
        )
    # stylegan3's StyleGAN2 takes the arguments of the synthesis directly, ada-pytorch's in a dictionary.
    flat = {k: kwargs.pop(k) for k in list(kwargs) if k not in GENERATOR_ARGS}
    mapping_kwargs = _table(kwargs.pop("mapping_kwargs", {}), MAPPING_ARGS, file, f"{place}: mapping_kwargs")
    synthesis_kwargs = _table(
        {**kwargs.pop("synthesis_kwargs", {}), **flat}, SYNTHESIS_ARGS, file, f"{place}: synthesis_kwargs"
    )
    for name in GENERATOR_ARGS[:5]:
        kwargs[name] = _size(kwargs.get(name, record.attributes.get(name)), name, file, place)
    _check_parts(record.modules.get("mapping"), "fc", mapping_kwargs.get("num_layers", 8), file, f"{place}.mapping")
    _check_parts(synthesis, "b", kwargs["img_resolution"].bit_length() - 2, file, f"{place}.synthesis")
    return Generator(**kwargs, mapping_kwargs=mapping_kwargs, synthesis_kwargs=synthesis_kwargs)


def _discriminator(record: ModuleRecord, file: object, place: str) -> Discriminator:
    kwargs = _bind(record, DISCRIMINATOR_ARGS, file, place)
    for name, known in (
        ("block_kwargs", BLOCK_ARGS),
        ("mapping_kwargs", MAPPING_ARGS),
        ("epilogue_kwargs", EPILOGUE_ARGS),
    ):
        if name in kwargs:
            kwargs[name] = _table(kwargs[name], known, file, f"{place}: {name}")
    for name in DISCRIMINATOR_ARGS[:3]:
        kwargs[name] = _size(kwargs.get(name, record.attributes.get(name)), name, file, place)
    _check_parts(record, "b", kwargs["img_resolution"].bit_length() - 2, file, place)
    if kwargs["c_dim"] > 0:
        _check_parts(
            record.modules.get("mapping"),
            "fc",
            kwargs.get("mapping_kwargs", {}).get("num_layers", 8),
            file,
            f"{place}.mapping",
        )
    return Discriminator(**_table(kwargs, set(DISCRIMINATOR_ARGS), file, place))


FAMILIES: dict[str, Callable[[ModuleRecord, object, str], torch.nn.Module]] = {
    "Generator": _generator,
    "Discriminator": _discriminator,
}


def _bind(record: ModuleRecord, names: tuple[str, ...], file: object, place: str) -> dict[str, Any]:
    """Positional and keyword arguments of the constructor, by name."""
    if len(record.init_args) > len(names):
        raise NetworkFileError(
            file, place, f"its constructor was given {len(record.init_args)} arguments; there are {len(names)}"
        )
    return {**dict(zip(names, record.init_args)), **record.init_kwargs}


def _table(table: Any, known: set[str], file: object, place: str) -> dict[str, Any]:
    """Keyword arguments of known names and plain values."""
    if not isinstance(table, dict):
        raise NetworkFileError(file, place, "it is not a table of arguments")
    result = {}
    for name, value in table.items():
        if name in TRAINING_ONLY:
            continue
        if name not in known:
            raise NetworkFileError(
                file,
                place,
                f"the argument {str(name)[:80]!r} is unknown; the network may compute something else than StyleGAN2",
            )
        if isinstance(value, dict) and name.endswith("_kwargs"):
            pass
        elif isinstance(value, (list, tuple)):
            if len(value) > 64 or not all(type(v) in (int, float) for v in value):
                raise NetworkFileError(file, place, f"the argument {name!r} is not a short list of numbers")
        elif not (
            value is None or isinstance(value, (bool, str, float)) or (type(value) is int and abs(value) <= 2**31)
        ):
            raise NetworkFileError(
                file,
                place,
                f"the argument {name!r} is a {type(value).__name__}; expected a number, text or list of numbers",
            )
        result[name] = value
    return result


def _size(value: Any, name: str, file: object, place: str) -> int:
    if type(value) is not int or not 0 <= value <= MAX_SIZE:
        raise NetworkFileError(file, place, f"{name} is not an integer from 0 to {MAX_SIZE}")
    return value


def _check_parts(record: ModuleRecord | None, prefix: str, count: Any, file: object, place: str) -> None:
    """As many numbered parts as the arguments ask for: a claim of a million layers ends here, before they are made."""
    present = sum(
        name.removeprefix(prefix).isdigit() for name in (record.modules if record else ()) if name.startswith(prefix)
    )
    if type(count) is not int or present != count:
        raise NetworkFileError(
            file, place, f"it has {present} layers or blocks; its arguments ask for {str(count)[:40]}"
        )
