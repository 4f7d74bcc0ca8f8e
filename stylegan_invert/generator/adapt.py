"""From a network to its adapter, and checks of what users give: priors, codes, classes."""

from typing import Any

import torch

from ..errors import CodeFileError
from .code import NOISE, Code
from .contract import FEATURES, GeneratorAdapter
from .latent import LatentAdapter, LatentGenerator
from .prior import Prior
from .style import StyleAdapter, StyleGenerator


def adapt(network: torch.nn.Module | GeneratorAdapter) -> GeneratorAdapter:
    """The adapter for a network; an adapter is returned as it is.

    Raises:
        TypeError: it is neither a `StyleGenerator` nor a `LatentGenerator`.
    """
    for kind, adapter in ((StyleGenerator, StyleAdapter), (LatentGenerator, LatentAdapter)):
        missing = [name for name in kind.__annotations__ if not hasattr(network, name)]
        if isinstance(network, torch.nn.Module) and not missing:
            return adapter(network)
    if isinstance(network, GeneratorAdapter):
        return network
    raise TypeError(
        f"no way to project with a {type(network).__module__}.{type(network).__qualname__}; expected a StyleGAN, or a network "
        f"from z to pictures with the attributes of LatentGenerator (it lacks {', '.join(missing)})"
    )


def with_prior(generator: GeneratorAdapter, family: str | None) -> GeneratorAdapter:
    """The generator with another prior of z: "normal" or "uniform"; None returns it as it is.

    Raises:
        ValueError: the family is unknown, or the network's own files say what its z was drawn from.
    """
    if family is None:
        return generator
    if family not in ("normal", "uniform") or not generator.asks_for_prior:
        raise ValueError(
            f"z_prior is {family!r}; expected normal or uniform, and only for networks whose files do not say"
        )
    return generator.with_prior(Prior(family))


def check_code(code: Code, generator: GeneratorAdapter, name: str) -> None:
    """Raise CodeFileError unless a code's tensors and noise maps have the shapes of the network; ``name`` is for the message."""
    if code.space not in generator.spaces and not code.space.startswith(FEATURES):
        raise CodeFileError(
            f"{name}: a code in {code.space!r}; this network has the spaces {', '.join(generator.spaces)}"
        )
    try:
        shapes = generator.code_shapes(code.space)
    except ValueError as e:  # an unknown layer
        raise CodeFileError(f"{name}: {e}") from None
    missing = [key for key in shapes if key not in code.tensors]
    if missing:
        raise CodeFileError(f"{name}: it has no {', '.join(missing)}, which a code in {code.space!r} needs")
    n = len(code.tensors[next(iter(shapes))])
    others = generator.code_shapes("z") if "h" in shapes else {}  # the z under a displacement may be kept with it
    expected = {**others, **shapes, **{NOISE + layer: shape for layer, shape in generator.noise_shapes().items()}}
    if code.c is not None and tuple(code.c.shape) != (n, generator.c_dim):
        raise CodeFileError(f"{name}: its labels have shape {tuple(code.c.shape)}; expected ({n}, {generator.c_dim})")
    for key, value in code.tensors.items():
        if n == 0 or len(value) != n:
            raise CodeFileError(f"{name}: {key} is for {len(value)} pictures; expected {n or 'at least one'}")
        if key not in expected:
            raise CodeFileError(f"{name}: {key} is none of this network's; it has {', '.join(expected)}")
        if not torch.isfinite(value).all():
            raise CodeFileError(f"{name}: {key} holds something else than finite numbers")
        if tuple(value.shape[1:]) != tuple(expected[key]):
            raise CodeFileError(
                f"{name}: {key} has shape {tuple(value.shape[1:])} per picture; this network has {tuple(expected[key])}"
            )


def label(c_dim: int, class_idx: Any) -> torch.Tensor | None:
    """The one-hot label (1, c_dim) of a class; None for a network without classes.

    Raises:
        ValueError: a class is missing, out of range, or given for a network that has none.
    """
    if c_dim == 0:
        if class_idx is not None:
            raise ValueError(f"class {class_idx} was given for a network without classes; leave out --class")
        return None
    if class_idx is None:
        raise ValueError(
            f"this network has {c_dim} classes and none was given; choose one with --class 0 ... {c_dim - 1}"
        )
    if type(class_idx) is not int or not 0 <= class_idx < c_dim:
        raise ValueError(f"class {class_idx!r} was given; this network has the classes 0 ... {c_dim - 1}")
    return torch.eye(c_dim)[class_idx : class_idx + 1]
