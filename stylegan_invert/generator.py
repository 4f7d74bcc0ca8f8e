"""The contract between projectors and generators, whatever their family.

A projector sees spaces, their mean and spread, and ``render``; it never asks which family it has. `adapt` finds the
adapter for a network; a new family is one more adapter.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch

from .errors import CodeFileError
from .gaussian import Gaussian, fit_gaussian
from .ops import ACTIVATIONS, native
from .spaces import NOISE, Code

FEATURES = "f:"  # the space "f:NAME" is that of the outputs of the layer NAME


class Prior(NamedTuple):
    """What z is drawn from: independent entries, "normal" with deviation one or "uniform" in [-1, 1]."""

    family: str

    @property
    def bound(self) -> float:
        """The largest size of an entry: that of the uniform prior, or one that 1 in 370 normal entries exceeds."""
        return {"normal": 3.0, "uniform": 1.0}[self.family]

    def sample(self, shape: Sequence[int], random: torch.Generator, bound: float | None = None) -> torch.Tensor:
        """Entries of a shape, on the generator's device; with a ``bound``, given that none exceeds it."""
        device = random.device
        if self.family == "uniform":
            limit = 1.0 if bound is None else min(bound, 1.0)
            return (torch.rand(list(shape), generator=random, device=device) * 2 - 1) * limit
        if bound is None:
            return torch.randn(list(shape), generator=random, device=device)
        tail = torch.special.ndtr(torch.tensor(-bound, dtype=torch.float64)).item()
        p = tail + (1 - 2 * tail) * torch.rand(list(shape), generator=random, device=device)
        return torch.special.ndtri(p).clamp(-bound, bound)

    def of_seed(self, seed: int, shape: Sequence[int]) -> torch.Tensor:
        """Entries of a shape from NumPy's ``RandomState(seed)``, as official tools make the z of a seed."""
        random = np.random.RandomState(seed)
        z = random.randn(*shape) if self.family == "normal" else random.uniform(-1, 1, size=shape)
        return torch.from_numpy(z).to(torch.float32)

    def negative_log(self, z: torch.Tensor) -> torch.Tensor:
        """-log P(z) of latents (N, d), up to a constant: zero where the density is highest. (N,)

        Half the squared length for a normal prior, zero for the uniform one, whose bounds are for clipping.
        """
        return z.square().sum(dim=1) / 2 if self.family == "normal" else z.new_zeros(len(z))


@runtime_checkable
class GeneratorAdapter(Protocol):
    """What a projector may ask of a generator.

    Attributes:
        spaces: names of its latent spaces. Besides these there is a space "f:NAME" for every layer of `layers`.
        base: the space in which codes are kept in files, and on which the spaces of layers stand.
        dense: the name of its first dense layer, of `layers`; None if the network does not begin with one.
        prior: of z.
        img_channels, img_resolution, c_dim: of the network.
        device: where it computes.
    """

    spaces: tuple[str, ...]
    base: str
    dense: str | None
    prior: Prior
    img_channels: int
    img_resolution: int
    c_dim: int
    device: torch.device

    def info(self) -> Mapping[str, Any]:
        """Family and sizes, for `stylegan-invert inspect`."""

    def center(self, space: str, c: torch.Tensor | None = None) -> Code:
        """The mean code of a space (N = 1), of the class ``c`` (1, c_dim) where the network has classes."""

    def spread(self, space: str, c: torch.Tensor | None = None) -> float:
        """The root mean squared distance of samples from the mean."""

    def convert(self, code: Code, space: str) -> Code:
        """The same code in another space, as W in W+; ValueError if it does not lie there."""

    def truncated(self, code: Code, truncation_psi: float) -> Code:
        """A code, its w pulled towards the network's ``w_avg``; ValueError for a network without w, unless psi is 1."""

    def compressed(self, code: Code, tau: float) -> Code:
        """A code with its large principal components of V compressed, see `Gaussian.compress`; ValueError without V."""

    def gaussian(self, c: torch.Tensor | None = None) -> Gaussian:
        """The Gaussian of V, of the class ``c`` (1, c_dim) where there are classes; ValueError for a network without V."""

    def styles(self, code: Code) -> torch.Tensor:
        """The w (N, L, w_dim) that a code stands on, one or one per layer, with gradients; ValueError without w."""

    def layers(self) -> Mapping[str, tuple[int, ...]]:
        """Names and shapes (C, H, W) of the layers at which the network can be split, in the order of computation."""

    def code_shapes(self, space: str) -> Mapping[str, tuple[int, ...]]:
        """Names and shapes, without N, of the tensors of a code in a space, noise maps left out."""

    def noise_shapes(self) -> Mapping[str, tuple[int, int]]:
        """Names and sizes (H, W) of the noise maps, in the order in which random ones are drawn; empty without any."""

    def render(self, code: Code, noise_mode: str = "const") -> torch.Tensor:
        """Pictures (N, img_channels, H, W), float32, nominally in [-1, 1]: the one way from a code to an output.

        ``noise_mode`` "const" takes the code's noise maps, else the network's own; "random" draws them, "none" adds none.
        """


class Adapter:
    """What adapters of this package have in common: spaces of layers, by exchanging a layer's output.

    A family gives ``layers``, ``layer_module``, ``own_shapes``, ``render_base`` and ``convert_base``; the rest is here. In
    the space "f:NAME" a code is the tensor "h" (N, C, H, W), the layer's output, and the tensors of the base space, which
    everything else in the network still reads: the later styles of a StyleGAN2, the later chunks of a BigGAN's z.
    """

    spaces: tuple[str, ...]
    base: str
    dense: str | None = None
    prior = Prior("normal")

    def __init__(self, network: torch.nn.Module):
        self.network = network
        self.img_channels = network.img_channels
        self.img_resolution = network.img_resolution
        self.c_dim = network.c_dim

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def layer_module(self, name: str) -> torch.nn.Module:
        """The module behind a name of ``layers``."""
        raise NotImplementedError

    def truncated(self, code: Code, truncation_psi: float) -> Code:
        if truncation_psi != 1:
            raise ValueError(
                f"truncation_psi is {truncation_psi:g}; this network has no w to truncate, so it must be 1"
            )
        return code

    def compressed(self, code: Code, tau: float) -> Code:
        raise ValueError("this network has no W, so there is no V space to compress in")

    def gaussian(self, c: torch.Tensor | None = None) -> Gaussian:
        raise ValueError("this network has no W, so there is no V space and no Gaussian prior in it")

    def styles(self, code: Code) -> torch.Tensor:
        raise ValueError("this network has no W")

    def render_base(self, code: Code, noise_mode: str) -> torch.Tensor:
        """`render` for the family's own spaces."""
        raise NotImplementedError

    def convert_base(self, code: Code, space: str) -> Code:
        """`convert` for the family's own spaces."""
        raise NotImplementedError

    def layers(self) -> Mapping[str, tuple[int, ...]]:
        raise NotImplementedError

    def code_shapes(self, space: str) -> Mapping[str, tuple[int, ...]]:
        if not space.startswith(FEATURES):
            return self.own_shapes(space)
        return {**self.own_shapes(self.base), "h": self.layers()[self._layer(space)]}

    def own_shapes(self, space: str) -> Mapping[str, tuple[int, ...]]:
        """`code_shapes` for the family's own spaces."""
        raise NotImplementedError

    def noise_shapes(self) -> Mapping[str, tuple[int, int]]:
        return {}

    def features(self, code: Code, layer: str) -> torch.Tensor:
        """The output (N, C, H, W) of a layer for a code of one of the family's own spaces: G1 of the split there."""
        found: list[torch.Tensor] = []

        def stop(out: torch.Tensor) -> None:
            found.append(out.to(torch.float32))  # half precision would be too coarse to be optimised
            raise _Reached

        with contextlib.suppress(_Reached), _hooked(self.layer_module(layer), stop):
            self.render_base(code, "const")
        return found[0]

    def convert(self, code: Code, space: str) -> Code:
        if code.space == space:
            return code
        if code.space.startswith(FEATURES):
            raise ValueError(f"a code at the layer {self._layer(code.space)!r} lies in no other space")
        if not space.startswith(FEATURES):
            return self.convert_base(code, space)
        code = self.convert_base(code, self.base) if code.space != self.base else code
        with torch.no_grad():
            h = self.features(code, self._layer(space))
        return Code(space, {**code.tensors, "h": h}, code.c)

    def render(self, code: Code, noise_mode: str = "const") -> torch.Tensor:
        if not code.space.startswith(FEATURES):
            if code.space not in self.spaces:
                raise ValueError(f"a code in {code.space!r}; this network has the spaces {', '.join(self.spaces)}")
            return self.render_base(code, noise_mode)
        h = code.tensors["h"]
        with _hooked(self.layer_module(self._layer(code.space)), lambda out: h.to(out.dtype)):
            return self.render_base(base_code(self, code), noise_mode)

    def _layer(self, space: str) -> str:
        name = space.removeprefix(FEATURES)
        if name not in self.layers():
            raise ValueError(f"this network has no layer {name!r}; it has {', '.join(self.layers())}")
        return name


def base_code(generator: GeneratorAdapter, code: Code) -> Code:
    """What a code at a layer stands on: its tensors of the base space, and its noise maps."""
    keys = generator.code_shapes(generator.base)
    tensors = {k: v for k, v in code.tensors.items() if k in keys or k.startswith(NOISE)}
    return Code(generator.base, tensors, code.c)


class _Reached(Exception):
    """The layer that was wanted has been computed; the rest of the network need not be."""


@contextlib.contextmanager
def _hooked(module: torch.nn.Module, function: Callable[[torch.Tensor], torch.Tensor | None]) -> Iterator[None]:
    """While the block runs, ``function`` sees the module's output, and what it returns takes the output's place."""
    handle = module.register_forward_hook(lambda _, __, out: function(out))
    try:
        yield
    finally:
        handle.remove()


def _key(c: torch.Tensor | None) -> tuple[float, ...]:
    return () if c is None else tuple(c.flatten().tolist())


class Statistics(NamedTuple):
    """Mean (w_dim,) and scalar standard deviation of W."""

    mean: torch.Tensor
    std: float


class StyleGenerator(Protocol):
    """What a network with a mapping to W must have to be used by `StyleAdapter`: StyleGAN 1, 2 and 3 have it.

    Attributes:
        family: its name.
        z_dim, c_dim, w_dim, num_ws, img_channels, img_resolution: sizes.
        mapping: a module, called with z (N, z_dim), labels (N, c_dim) or None, and ``truncation_psi``, which gives ws (N,
            num_ws, w_dim). It has ``w_avg`` (w_dim,), ``num_layers``, ``normalize_z``, and layers ``fc0``, ... with an
            ``activation``.
        synthesis: a module, called with ws, ``noise_mode``, ``noise`` and ``fused_modconv``, which gives pictures. It has
            ``noise_shapes()``, ``layer_shapes``, name to (C, H, W) of the submodules whose output can be exchanged, and
            ``details()``, what `stylegan-invert inspect` says of it.
    """

    family: str
    z_dim: int
    c_dim: int
    w_dim: int
    num_ws: int
    img_channels: int
    img_resolution: int
    mapping: torch.nn.Module
    synthesis: torch.nn.Module


class StyleAdapter(Adapter):
    """A network with a mapping to W as projectors see it: spaces z, w, w+, v and v+, those of its layers, and noise maps.

    In "v" and "v+" the tensor "v" holds whitened coordinates of V, see `Gaussian.whiten`: their mean is zero and their
    covariance one. Straight lines are the same as in V itself. A network whose mapping does not end in a leaky ReLU has no V.

    Mean and spread of W are those of the official projector: 10,000 latents of ``RandomState(123)``, the mean and one
    scalar deviation, the root of the mean squared distance summed over dimensions (algorithms.md, section 6.1).
    """

    base = "w+"

    def __init__(self, network: torch.nn.Module, w_avg_samples: int = 10000):
        super().__init__(network)
        self.w_avg_samples = w_avg_samples
        self._statistics: dict[tuple[float, ...], Statistics] = {}
        self._gaussians: dict[tuple[float, ...], Gaussian] = {}
        self.spaces = ("z", "w", "w+", *(("v", "v+") if self._slope() else ()))

    def info(self) -> Mapping[str, Any]:
        g = self.network
        return {
            "family": g.family,
            "resolution": g.img_resolution,
            "channels": g.img_channels,
            "classes": g.c_dim,
            "spaces": {space: list(*self.own_shapes(space).values()) for space in self.spaces},
            "parameters": sum(p.numel() for p in g.parameters()),
            "mapping_layers": g.mapping.num_layers,
            "normalizes_z": g.mapping.normalize_z,
            **g.synthesis.details(),
            "noise_maps": len(g.synthesis.noise_shapes()),
            "layers": {name: list(shape) for name, shape in self.layers().items()},
        }

    def layers(self) -> Mapping[str, tuple[int, ...]]:
        return self.network.synthesis.layer_shapes

    def layer_module(self, name: str) -> torch.nn.Module:
        return self.network.synthesis.get_submodule(name)

    def _ending(self) -> str | None:
        """The activation that ends the mapping network; None if it has no layers."""
        mapping = self.network.mapping
        last = getattr(mapping, f"fc{mapping.num_layers - 1}", None)
        return last.activation if last is not None else None

    def _slope(self) -> float | None:
        ending = self._ending()
        return ACTIVATIONS[ending].slope if ending is not None else None

    def gaussian(self, c: torch.Tensor | None = None) -> Gaussian:
        """See the protocol. Computed when first asked for, unless `set_gaussian` has given it."""
        key = _key(c)
        if key not in self._gaussians:
            self.set_gaussian(c, self.fit_gaussian(c))
        return self._gaussians[key]

    def set_gaussian(self, c: torch.Tensor | None, gaussian: Gaussian) -> None:
        """Take the Gaussian of V, of the class ``c``, as found before."""
        self._gaussians[_key(c)] = gaussian.to(self.device)

    def fit_gaussian(
        self, c: torch.Tensor | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Gaussian:
        """The Gaussian of V from fresh samples, on the CPU; see `gaussian.fit_gaussian`."""
        slope = self._slope()
        if slope is None:
            ends = f"ends in {self._ending()!r}" if self._ending() is not None else "has no layers"
            raise ValueError(
                f"the mapping network {ends}; V is W before a leaky ReLU, which can be undone, so this network has no V"
            )
        if self.c_dim and c is None:
            raise ValueError(f"this network has {self.c_dim} classes; the Gaussian is of one of them")
        return fit_gaussian(self.sample_w(c, seed=0), slope, self.network.w_dim, progress)

    def sample_w(self, c: torch.Tensor | None, seed: int) -> Callable[[int], torch.Tensor]:
        """A function that gives n fresh samples of w, (n, w_dim), on the CPU."""
        random = torch.Generator().manual_seed(seed)

        def sample(n: int) -> torch.Tensor:
            z = self.prior.sample([n, self.network.z_dim], random).to(self.device)
            with torch.no_grad():
                labels = None if c is None else c.to(self.device).expand(n, -1)
                return self.network.mapping(z, labels)[:, 0].cpu()

        return sample

    def styles(self, code: Code) -> torch.Tensor:
        if code.space == "z":
            return self.network.mapping(code.tensors["z"], code.c)[:, :1]
        w = self._w(code)
        return w if w.ndim == 3 else w[:, None]

    def _w(self, code: Code) -> torch.Tensor:
        """(N, w_dim), or (N, num_ws, w_dim), of a code in w, v, w+, v+ or at a layer."""
        return self._gaussian_of(code).unwhiten(code.tensors["v"]) if "v" in code.tensors else code.tensors["w"]

    def _gaussian_of(self, code: Code) -> Gaussian:
        if code.c is not None and not torch.equal(code.c, code.c[:1].expand_as(code.c)):
            raise ValueError(
                "the codes are of different classes, and the Gaussian of V is of one; take them one by one"
            )
        return self.gaussian(None if code.c is None else code.c[:1])

    def statistics(self, c: torch.Tensor | None = None) -> Statistics:
        """Mean and spread of w, of the class ``c`` (1, c_dim) where the network has classes; computed once."""
        key = _key(c)
        if key not in self._statistics:
            n = self.w_avg_samples
            # float32 before the move: some devices have no float64, and the network would convert it anyway.
            z = (
                torch.from_numpy(np.random.RandomState(123).randn(n, self.network.z_dim))
                .to(torch.float32)
                .to(self.device)
            )
            with torch.no_grad():
                ws = self.network.mapping(z, None if c is None else c.to(self.device).expand(n, -1))
            w = ws[:, :1].cpu().numpy().astype(np.float32)  # (n, 1, w_dim)
            mean = w.mean(axis=0, keepdims=True)
            std = float((np.sum((w - mean) ** 2) / n) ** 0.5)
            self._statistics[key] = Statistics(torch.from_numpy(mean[0, 0]).to(self.device), std)
        return self._statistics[key]

    def center(self, space: str, c: torch.Tensor | None = None) -> Code:
        g = self.network
        if space == "z":
            return Code("z", {"z": torch.zeros([1, g.z_dim], device=self.device)}, c)
        if space in ("v", "v+"):
            return Code(space, {"v": torch.zeros([1, *self.own_shapes(space)["v"]], device=self.device)}, c)
        return self.convert(Code("w", {"w": self.statistics(c).mean[None]}, c), space)

    def spread(self, space: str, c: torch.Tensor | None = None) -> float:
        if space in ("v", "v+"):
            return self.gaussian(c).rank ** 0.5
        return self.network.z_dim**0.5 if space == "z" else self.statistics(c).std

    def convert_base(self, code: Code, space: str) -> Code:
        if space == "z" or space not in self.spaces:
            raise ValueError(
                f"a code in {code.space!r} cannot be brought into {space!r}; this network has the spaces "
                f"{', '.join(self.spaces)}"
            )
        others = {k: v for k, v in code.tensors.items() if k not in ("z", "w", "v")}
        if code.space == "z":
            with torch.no_grad():
                w = self.network.mapping(code.tensors["z"], code.c)[:, 0]
        else:
            w = self._w(code)
        if space.endswith("+") and w.ndim == 2:
            w = w[:, None].repeat(1, self.network.num_ws, 1)
        elif not space.endswith("+") and w.ndim == 3:
            if not torch.equal(w, w[:, :1].expand_as(w)):
                raise ValueError("its layers have different w, so it lies in W+ and not in W; use the method w+")
            w = w[:, 0]
        if space.startswith("v"):
            return Code(space, {**others, "v": self._gaussian_of(code).whiten(w).to(torch.float32)}, code.c)
        return Code(space, {**others, "w": w}, code.c)

    def truncated(self, code: Code, truncation_psi: float) -> Code:
        if code.space == "z":
            with torch.no_grad():
                return Code("w+", {"w": self.network.mapping(code.tensors["z"], code.c, truncation_psi=truncation_psi)})
        if truncation_psi == 1:
            return code
        code = self.convert(code, "w+")
        w_avg = self.network.mapping.w_avg
        return Code("w+", {**code.tensors, "w": w_avg.lerp(code.tensors["w"], truncation_psi)}, code.c)

    def compressed(self, code: Code, tau: float) -> Code:
        code = self.convert(code, "w+")
        return Code("w+", {**code.tensors, "w": self._gaussian_of(code).compress(code.tensors["w"], tau)}, code.c)

    def own_shapes(self, space: str) -> Mapping[str, tuple[int, ...]]:
        g = self.network
        single, several = (g.w_dim,), (g.num_ws, g.w_dim)
        shapes = {
            "z": {"z": (g.z_dim,)},
            "w": {"w": single},
            "w+": {"w": several},
            "v": {"v": single},
            "v+": {"v": several},
        }
        return shapes[space]

    def noise_shapes(self) -> Mapping[str, tuple[int, int]]:
        return self.network.synthesis.noise_shapes()

    def render_base(self, code: Code, noise_mode: str) -> torch.Tensor:
        if code.space == "z":
            ws = self.network.mapping(code.tensors["z"], code.c)
        else:
            ws = self.convert(code, "w+").tensors["w"]
        noise = (
            {name: value[:, None] for name, value in code.noise.items()} if noise_mode == "const" else None
        )  # (N, 1, H, W)
        # The reference operations compute one picture at a time in the form that official code takes by default, so that runs
        # follow official ones; the activation-scaling form agrees with it to rounding, which long optimisations amplify.
        fused = len(ws) == 1 and not native.is_native(ws)
        return self.network.synthesis(ws, noise_mode=noise_mode, noise=noise, fused_modconv=fused)


class LatentGenerator(Protocol):
    """What a network must have to be used by `LatentAdapter`: DCGAN has it, and so can any network from z to pictures.

    Attributes:
        family: its name, for `stylegan-invert inspect`. assumed: what its files do not say, in words.
        z_dim, c_dim, img_channels, img_resolution: sizes; c_dim is 0 without classes.
        z_prior: "normal" or "uniform".
        layer_shapes: name of a module to the shape (C, H, W) of its output, in the order of computation, for the modules at
            which the network can be split.
        dense_layer: the name of the first dense layer among them, before its activation; None if there is none.

    Called with z (N, z_dim) and, if it has classes, labels (N, c_dim), it gives pictures (N, img_channels, R, R).
    """

    family: str
    assumed: str
    z_dim: int
    c_dim: int
    img_channels: int
    img_resolution: int
    z_prior: str
    layer_shapes: Mapping[str, tuple[int, ...]]
    dense_layer: str | None


class LatentAdapter(Adapter):
    """A network from z to pictures as projectors see it.

    Args:
        network: a `LatentGenerator`.
    """

    spaces = ("z",)
    base = "z"

    def __init__(self, network: torch.nn.Module):
        super().__init__(network)
        self.prior = Prior(network.z_prior)
        self.dense = network.dense_layer

    def info(self) -> Mapping[str, Any]:
        g = self.network
        return {
            "family": g.family,
            "resolution": g.img_resolution,
            "channels": g.img_channels,
            "classes": g.c_dim,
            "spaces": {"z": [g.z_dim]},
            "parameters": sum(p.numel() for p in g.parameters()),
            "assumed": ", ".join(filter(None, [g.assumed, f"a {self.prior.family} prior of z"])),
            "dense_layer": self.dense,
            "layers": {name: list(shape) for name, shape in self.layers().items()},
        }

    def layers(self) -> Mapping[str, tuple[int, ...]]:
        return self.network.layer_shapes

    def layer_module(self, name: str) -> torch.nn.Module:
        return self.network.get_submodule(name)

    def center(self, space: str, c: torch.Tensor | None = None) -> Code:
        return self.convert(Code("z", {"z": torch.zeros([1, self.network.z_dim], device=self.device)}, c), space)

    def spread(self, space: str, c: torch.Tensor | None = None) -> float:
        variance = {"normal": 1.0, "uniform": 1 / 3}[self.prior.family]
        return (self.network.z_dim * variance) ** 0.5

    def convert_base(self, code: Code, space: str) -> Code:
        raise ValueError(f"a code in {code.space!r} cannot be brought into {space!r}; this network has the space z")

    def own_shapes(self, space: str) -> Mapping[str, tuple[int, ...]]:
        return {"z": {"z": (self.network.z_dim,)}}[space]

    def truncated(self, code: Code, truncation_psi: float) -> Code:
        """For networks that say so (``truncates_z``): z as if entries beyond two deviations had been drawn again, times psi.

        That is the truncation trick of Brock et al. (BigGAN, section 3.1); an entry keeps its rank among all that there are.
        """
        if truncation_psi == 1 or not getattr(self.network, "truncates_z", False):
            return super().truncated(code, truncation_psi)
        if code.space != "z":
            raise ValueError(
                f"truncation_psi is {truncation_psi:g}, which is for codes in z; this one lies in {code.space!r}"
            )
        tail = torch.special.ndtr(torch.tensor(-2.0, dtype=torch.float64)).item()
        rank = torch.special.ndtr(code.tensors["z"].double())
        z = truncation_psi * torch.special.ndtri(tail + (1 - 2 * tail) * rank)
        return Code("z", {**code.tensors, "z": z.to(torch.float32)}, code.c)

    def render_base(self, code: Code, noise_mode: str) -> torch.Tensor:
        z = code.tensors["z"]
        return self.network(z) if self.c_dim == 0 else self.network(z, code.c)


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


def set_prior(generator: GeneratorAdapter, family: str | None) -> None:
    """Say what a network's z was drawn from, "normal" or "uniform"; None leaves it.

    Raises:
        ValueError: the family is unknown, or the network's own files say what it is.
    """
    if family is None:
        return
    if family not in ("normal", "uniform") or not hasattr(getattr(generator, "network", None), "z_prior"):
        raise ValueError(
            f"z_prior is {family!r}; expected normal or uniform, and only for networks whose files do not say"
        )
    generator.prior = Prior(family)


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
