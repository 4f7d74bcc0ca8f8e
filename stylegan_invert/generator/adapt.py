"""Choose the adapter for a network, and check the priors, codes and classes that a user passes in."""

from collections.abc import Sequence
from typing import Any, TypeVar

import torch

from ..errors import CodeFileError, printable
from .code import NOISE, Code
from .contract import FEATURES, GeneratorAdapter
from .latent import LatentAdapter, LatentGenerator
from .prior import Prior
from .sound import SoundAdapter, SoundGenerator
from .style import StyleAdapter, StyleGenerator

PROTOCOLS: tuple[tuple[type, type[StyleAdapter] | type[LatentAdapter]], ...] = (
    (StyleGenerator, StyleAdapter),
    (LatentGenerator, LatentAdapter),
    (SoundGenerator, SoundAdapter),
)
"""The protocols of networks, and the adapter for each, in the order in which they are tried."""
Given = TypeVar("Given", bound=GeneratorAdapter)


def adapt(network: torch.nn.Module | GeneratorAdapter) -> GeneratorAdapter:
    """Wrap a network in its adapter. An adapter is returned unchanged.

    Raises:
        TypeError: the network meets none of `PROTOCOLS`; with what it lacks and what helps.
    """
    if isinstance(network, torch.nn.Module):
        for protocol, adapter in PROTOCOLS:
            if not _missing(network, protocol):
                return adapter(network)
    if isinstance(network, GeneratorAdapter):
        return network
    named = f"{type(network).__module__}.{type(network).__qualname__}"
    if not isinstance(network, torch.nn.Module):
        raise TypeError(f"no way to project with a {named}; expected a network file, or a torch.nn.Module")
    nearest, missing = lacking(network) or ("", [])
    raise TypeError(
        f"no way to project with a {named}; it lacks {', '.join(missing)} of the attributes of {nearest}. A generator of "
        "an official repository is used by stylegan_invert.adopt(G)"
    )


def lacking(network: object) -> tuple[str, list[str]] | None:
    """The protocol of which an object lacks the fewest attributes, and these; None if it meets one."""
    found = [(_missing(network, protocol), protocol.__name__) for protocol, _ in PROTOCOLS]
    missing, name = min(found, key=lambda item: (len(item[0]), item[1]))
    return (name, missing) if missing else None


def _missing(network: object, protocol: type) -> list[str]:
    return [name for name in protocol.__annotations__ if not hasattr(network, name)]


def with_prior(generator: Given, family: str | None) -> Given:
    """The same generator with another prior, that is, another distribution of its latents z.

    Args:
        generator: an adapter.
        family: "normal" or "uniform"; None returns the generator unchanged.

    Raises:
        ValueError: the family is unknown, or the network's own files already say how its z is drawn.
    """
    if family is None:
        return generator
    if family not in ("normal", "uniform"):
        raise ValueError(f"z_prior is {family!r}; expected normal or uniform")
    if not generator.asks_for_prior:
        raise ValueError("this network's files already say how z is drawn; leave out --z-prior")
    return generator.with_prior(Prior(family))


def check_code(code: Code, generator: GeneratorAdapter, name: str) -> None:
    """Check that a code can be rendered by a network.

    Args:
        code: the code to check.
        generator: the adapter of the network.
        name: the name of the code in error messages, usually its file.

    Raises:
        CodeFileError: the network has no such space, a tensor is missing or unknown, or a tensor has a wrong shape or
            holds numbers that are not finite.
    """
    if code.space not in generator.spaces and not code.space.startswith(FEATURES):
        raise CodeFileError(
            f"{name}: the code is in space {code.space!r}, which this network does not have; it has "
            f"{', '.join(generator.spaces)}"
        )
    try:
        shapes = generator.code_shapes(code.space)
    except ValueError as e:  # an unknown layer
        raise CodeFileError(f"{name}: {e}") from None
    missing = [key for key in shapes if key not in code.tensors]
    if missing:
        raise CodeFileError(f"{name}: it has no {', '.join(missing)}, which a code in {code.space!r} needs")
    n = len(code.tensors[next(iter(shapes))])
    # A code with a layer output "h" may also hold the z that "h" was computed from.
    optional = generator.code_shapes("z") if "h" in shapes else {}
    noise = {NOISE + layer: shape for layer, shape in generator.noise_shapes().items()}
    expected = {**optional, **shapes, **noise}
    if code.c is not None and tuple(code.c.shape) != (n, generator.c_dim):
        raise CodeFileError(f"{name}: its labels have shape {tuple(code.c.shape)}; expected ({n}, {generator.c_dim})")
    for key, value in code.tensors.items():
        if n == 0 or len(value) != n:
            raise CodeFileError(f"{name}: {key} is for {len(value)} pictures; expected {n or 'at least one'}")
        if key not in expected:
            raise CodeFileError(f"{name}: this network has no tensor {key}; it has {', '.join(expected)}")
        if not torch.isfinite(value).all():
            raise CodeFileError(f"{name}: {key} holds numbers that are not finite")
        if tuple(value.shape[1:]) != tuple(expected[key]):
            raise CodeFileError(
                f"{name}: {key} has shape {tuple(value.shape[1:])} per picture; this network has {tuple(expected[key])}"
            )


def one_hot(c_dim: int, class_idx: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """(1, c_dim) float32, with a one for the class from 0 to c_dim - 1."""
    c = torch.zeros([1, c_dim], device=device)
    c[0, class_idx] = 1
    return c


def class_label(generator: GeneratorAdapter, class_idx: Any) -> torch.Tensor | None:
    """The one-hot label (1, c_dim) of a class of a network, by its number or its name; see `label`."""
    return label(generator.c_dim, class_idx, generator.class_names)


def label(c_dim: int, class_idx: Any, names: Sequence[str] = ()) -> torch.Tensor | None:
    """The one-hot label of a class, as generators take it.

    Args:
        c_dim: the number of classes of the network; 0 for a network without classes.
        class_idx: the number of the class, from 0 to c_dim - 1, or its name; None for a network without classes or with a
            single one.
        names: the names of the classes, if the network has them.

    Returns:
        (1, c_dim) float32, or None for a network without classes.

    Raises:
        ValueError: a class is missing, out of range, or given for a network that has none.
    """
    if c_dim == 0:
        if class_idx is not None:
            raise ValueError(f"class {class_idx} was given for a network without classes; leave out --class")
        return None
    if class_idx is None and c_dim == 1:
        return torch.ones([1, 1])
    if class_idx is None:
        raise ValueError(
            f"this network has {c_dim} classes and none was given; choose one with --class 0 ... {c_dim - 1}"
        )
    if class_idx in names:
        class_idx = list(names).index(class_idx)
    if type(class_idx) is not int or not 0 <= class_idx < c_dim:
        named = f", {printable(', '.join(names), 300)}" if names else ""
        raise ValueError(
            f"class {printable(repr(class_idx), 60)} was given; this network has the classes 0 ... {c_dim - 1}{named}"
        )
    return one_hot(c_dim, class_idx)
