"""Straight lines between codes, errors along them, and the latents under a code at a layer."""

from collections.abc import Sequence

import numpy as np
import torch

from ..generator import FEATURES, Code, GeneratorAdapter, base_code
from ..losses import Distance
from ..media.pictures import as_images
from ..networks.layers import widest_dtype
from ..projectors.projection import render_rounded


def between(
    generator: GeneratorAdapter, a: Code, b: Code, alphas: Sequence[float] | np.ndarray, space: str | None = None
) -> list[Code]:
    """Codes on the straight line between two codes.

    Everything that the network reads is interpolated: at a layer the output h and, for a StyleGAN, the w of the layers behind.

    Args:
        generator: the network's adapter.
        a: the code (N = 1) at alpha 0.
        b: the code (N = 1) at alpha 1.
        alphas: the points of the line.
        space: where the line is straight, as "v+". None takes the space of the codes; if only one lies at a layer, that
            layer; otherwise the network's base space, "w+" or "z".

    Raises:
        ValueError: the codes cannot be brought into one space.

    Source: Pividori et al., supplement, "Intra class" and "Random interpolation": G2((1 - alpha) h1 + alpha h2).
    """
    space = space or _common(generator, a.space, b.space)
    a, b = generator.convert(a, space), generator.convert(b, space)
    keys = [k for k in a.tensors if k in b.tensors]
    c = a.c
    codes = []
    for alpha in alphas:
        if a.c is not None and b.c is not None:
            c = torch.lerp(a.c, b.c, float(alpha))
        codes.append(Code(space, {k: torch.lerp(a.tensors[k], b.tensors[k], float(alpha)) for k in keys}, c))
    return codes


def latent_distances(generator: GeneratorAdapter, found: Code, true: Code) -> dict[str, float]:
    """How far a code (N = 1) is from the true one.

    Returns:
        "w", the length of the difference in W or, with several w, in W+, and "v", the same in whitened coordinates of V.

    Raises:
        ValueError: the network has no V.
    """
    gaussian = generator.gaussian(true.c)
    with torch.no_grad():
        a, b = (generator.styles(code)[0] for code in (found, true))
        v = gaussian.whiten(a) - gaussian.whiten(b)
        return {"w": float((a - b).to(widest_dtype(a.device)).norm()), "v": float(v.expand(len(a - b), -1).norm())}


def line_errors(
    generator: GeneratorAdapter, found: Sequence[Code], true: Sequence[Code], lpips: Distance
) -> dict[str, list[float]]:
    """How far each code of a line (N = 1 each) is from that of the true line.

    Returns:
        "lpips" of the pictures, and "w" and "v" of `latent_distances`: a value for each code.
    """
    shown = [as_images(np.stack([render_rounded(generator, code) for code in line])) for line in (found, true)]
    with torch.no_grad():
        distances = lpips.between(*shown).tolist()
    away = [latent_distances(generator, a, b) for a, b in zip(found, true)]
    return {"lpips": distances, **{key: [d[key] for d in away] for key in ("w", "v")}}


def underlying(generator: GeneratorAdapter, code: Code) -> Code:
    """A code at a layer without its displacement: G1(z*), in the same space.

    Raises:
        ValueError: the code does not lie at a layer.

    Source: Pividori et al., "Representation gap".
    """
    if not code.space.startswith(FEATURES):
        raise ValueError(
            f"a code in {code.space!r} has no displacement; expected one at a layer, as --method dense finds"
        )
    return generator.convert(base_code(generator, code), code.space)


def deeper(generator: GeneratorAdapter, code: Code, layer: str) -> Code:
    """A code at a layer as a code at a later layer, which renders the same picture if everything passes through both layers.

    Args:
        generator: the network's adapter.
        code: codes (N) at a layer.
        layer: the name of a later layer.

    Source: Pividori et al., section 3.1: what a layer represents, each later layer represents, too.
    """
    outputs: list[torch.Tensor] = []
    handle = generator.layer_module(layer).register_forward_hook(lambda _, __, out: outputs.append(out))
    try:
        with torch.no_grad():
            generator.render(code)
    finally:
        handle.remove()
    return Code(FEATURES + layer, {**code.tensors, "h": outputs[-1].to(torch.float32)}, code.c)


def onto_span(generator: GeneratorAdapter, code: Code) -> tuple[Code, torch.Tensor]:
    """The latent whose G1(z) is nearest to a code at the first dense layer, and the rest of the code (Figure 13).

    Args:
        code: (N) at the layer `GeneratorAdapter.dense`.

    Returns:
        Codes in "z", by linear least squares in float64, and |h - G1(z)| / |h - G1(0)| of each, (N,).

    Raises:
        ValueError: the code lies elsewhere; G1 is linear for the first dense layer only.
    """
    if generator.dense is None or code.space != FEATURES + generator.dense:
        raise ValueError(f"a code in {code.space!r}; expected one at the first dense layer, where G1 is linear")
    c = None if code.c is None else code.c[:1]
    offset = _dense(generator, torch.zeros([1, *generator.code_shapes("z")["z"]], device=generator.device), c)
    columns = dense_columns(generator, c)
    h = code.tensors["h"].flatten(1).cpu().double() - offset
    z = torch.linalg.lstsq(columns.t(), h.t()).solution.t()
    left = (h - z @ columns).norm(dim=1) / h.norm(dim=1).clamp_min(1e-30)
    return Code("z", {"z": z.to(generator.device, torch.float32)}, code.c), left


def dense_columns(generator: GeneratorAdapter, c: torch.Tensor | None = None) -> torch.Tensor:
    """The matrix of the first dense layer, which is linear in z: row i (numbers of h,) is what entry i of z adds to h.

    Args:
        generator: the adapter of a network that begins with a dense layer, `GeneratorAdapter.dense`.
        c: the class (1, c_dim), or None.
    """
    (shape,) = generator.code_shapes("z").values()
    zero = torch.zeros([1, *shape], device=generator.device)
    rows = [_dense(generator, part, c) for part in torch.eye(shape[0], device=generator.device).split(64)]
    return torch.cat(rows) - _dense(generator, zero, c)


def _dense(generator: GeneratorAdapter, z: torch.Tensor, c: torch.Tensor | None) -> torch.Tensor:
    """The output of the first dense layer for z (N, z_dim): (N, numbers of h) float64, on the CPU."""
    code = Code("z", {"z": z}, None if c is None else c.expand(len(z), -1))
    return generator.convert(code, FEATURES + (generator.dense or "")).tensors["h"].flatten(1).cpu().double()


def _common(generator: GeneratorAdapter, a: str, b: str) -> str:
    if a == b:
        return a
    layers = [s for s in (a, b) if s.startswith(FEATURES)]
    if len(layers) == 2:
        raise ValueError(f"the codes lie at different layers, {a!r} and {b!r}; no line leads from one to the other")
    return layers[0] if layers else generator.base
