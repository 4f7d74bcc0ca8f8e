"""The adapter for networks with a mapping network from z to W: StyleGAN 1, 2 and 3."""

import copy
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import torch

from ..ops import ACTIVATIONS, native
from .adapter import Adapter
from .code import Code
from .gaussian import Gaussian, fit_gaussian
from .prior import Prior


class StyleGenerator(Protocol):
    """The interface of networks for `StyleAdapter`. StyleGAN 1, 2 and 3 have it.

    Attributes:
        family: the name of its kind, for ``stylegan-invert inspect``.
        z_dim: the number of entries of z.
        c_dim: the number of classes; 0 for a network without classes.
        w_dim: the number of entries of w.
        num_ws: the number of w that the synthesis network reads, one per layer.
        img_channels: the number of channels of the pictures.
        img_resolution: the side of the pictures in pixels.
        mapping: the module from z to w. It is called with z (N, z_dim), labels (N, c_dim) or None, and
            ``truncation_psi``, and returns ws (N, num_ws, w_dim). It has the average ``w_avg`` (w_dim,),
            ``num_layers``, ``normalize_z`` (True if z is first scaled to a mean square of 1), and layers ``fc0``,
            ``fc1``, ... with the name of their ``activation``.
        synthesis: the module from w to pictures. It is called with ws, ``noise_mode``, ``noise`` and ``fused_modconv``.
            Its method ``noise_shapes()`` gives the sizes (H, W) of noise maps by layer name. Its ``layer_shapes`` gives
            the shapes (C, H, W) of the outputs of the submodules at which the network can be split, by name. Its method
            ``details()`` gives further facts for ``stylegan-invert inspect``.
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


class Statistics(NamedTuple):
    """Mean and spread of the samples of W.

    Attributes:
        mean: (w_dim,).
        std: the root mean squared distance of samples from the mean, one number for all dimensions together.
    """

    mean: torch.Tensor
    std: float


class StyleAdapter(Adapter):
    """The adapter for a network with a mapping from z to W. Its spaces are z, w, w+, v, v+, and those of its layers.

    In the spaces "v" and "v+" a code holds whitened coordinates of V, whose mean is zero and whose covariance is the
    identity; see `Gaussian.whiten`. Whitening is affine, so a straight line in them is a straight line in V. A network
    whose mapping does not end in a leaky ReLU has no V.

    Mean and spread of W are computed as in the official projector (projector.py of stylegan2-ada-pytorch), from 10,000
    latents of ``RandomState(123)``.

    Args:
        network: a `StyleGenerator`.
        w_avg_samples: the number of latents from which mean and spread of W are computed.
    """

    base = "w+"

    def __init__(self, network: torch.nn.Module, w_avg_samples: int = 10000):
        super().__init__(network)
        self.w_avg_samples = w_avg_samples
        self._statistics: dict[tuple[float, ...], Statistics] = {}  # by class, see `_key`
        self._gaussians: dict[tuple[float, ...], Gaussian] = {}  # by class, see `_key`
        self.spaces = ("z", "w", "w+", *(("v", "v+") if self.v_slope() else ()))

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
            **({"z_is_made_uniform": True} if getattr(g.mapping, "uniform_z", False) else {}),
            **g.synthesis.details(),
            "noise_maps": len(g.synthesis.noise_shapes()),
            "layers": {name: list(shape) for name, shape in self.layers().items()},
        }

    def layers(self) -> Mapping[str, tuple[int, ...]]:
        return self.network.synthesis.layer_shapes

    def layer_module(self, name: str) -> torch.nn.Module:
        return self.network.synthesis.get_submodule(name)

    def _ending(self) -> str | None:
        """The name of the activation that ends the mapping network; None if the mapping has no layers."""
        mapping = self.network.mapping
        last = getattr(mapping, f"fc{mapping.num_layers - 1}", None)
        return last.activation if last is not None else None

    def v_slope(self) -> float | None:
        """The slope of the leaky ReLU that ends the mapping network; None if it ends otherwise."""
        ending = self._ending()
        return ACTIVATIONS[ending].slope if ending is not None else None

    def gaussian(self, c: torch.Tensor | None = None) -> Gaussian:
        """See `GeneratorAdapter`. It is fitted at the first call, unless `with_gaussian` has supplied it."""
        key = _key(c)
        if key not in self._gaussians:
            self._gaussians[key] = self.fit_gaussian(c).to(self.device)
        return self._gaussians[key]

    def has_gaussian(self, c: torch.Tensor | None = None) -> bool:
        return _key(c) in self._gaussians

    def with_prior(self, prior: Prior) -> Self:
        other = super().with_prior(prior)
        other._gaussians = {}  # those of this prior
        return other

    def with_gaussian(self, c: torch.Tensor | None, gaussian: Gaussian) -> Self:
        other = copy.copy(self)
        other._gaussians = {**self._gaussians, _key(c): gaussian.to(self.device)}
        return other

    def mapping_sha256(self) -> str:
        """SHA-256 of the mapping network: its parameters' names, types, shapes and values, and what it does to z first."""
        mapping = self.network.mapping
        prior = "" if self.prior.family == "normal" else self.prior.family
        uniform = " of U(-1, 1)" if getattr(mapping, "uniform_z", False) else ""
        total = hashlib.sha256(f"{mapping.normalize_z}{uniform}{prior}".encode())
        for name, value in sorted(mapping.named_parameters()):
            x = value.detach().cpu().contiguous()
            total.update(f"{name} {x.dtype} {tuple(x.shape)};".encode())
            total.update(x.numpy().tobytes())
        return total.hexdigest()

    def fit_gaussian(
        self, c: torch.Tensor | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Gaussian:
        slope = self.v_slope()
        if slope is None:
            ends = f"ends in {self._ending()!r}" if self._ending() is not None else "has no layers"
            raise ValueError(
                f"the mapping network {ends}; V is W before a leaky ReLU, which can be undone, so this network has no V"
            )
        if self.c_dim and c is None:
            raise ValueError(
                f"this network has {self.c_dim} classes; each has its own Gaussian of V, so choose a class"
            )
        return fit_gaussian(self.sample_w(c, seed=0), slope, self.network.w_dim, progress)

    def sample_w(self, c: torch.Tensor | None, seed: int) -> Callable[[int], torch.Tensor]:
        """A function that draws n new samples of w, (n, w_dim), for a class; the samples are on the CPU."""
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
        """The w of a code in w or v, (N, w_dim), or of a code in w+, v+ or at a layer, (N, num_ws, w_dim)."""
        return self._gaussian_of(code).unwhiten(code.tensors["v"]) if "v" in code.tensors else code.tensors["w"]

    def _gaussian_of(self, code: Code) -> Gaussian:
        if code.c is not None and not torch.equal(code.c, code.c[:1].expand_as(code.c)):
            raise ValueError(
                "the codes are of different classes, and each class has its own Gaussian of V; take them one by one"
            )
        return self.gaussian(None if code.c is None else code.c[:1])

    def statistics(self, c: torch.Tensor | None = None) -> Statistics:
        """Mean and spread of w, for the class ``c`` (1, c_dim) if the network has classes. They are computed once."""
        key = _key(c)
        if key not in self._statistics:
            n = self.w_avg_samples
            z = torch.from_numpy(np.random.RandomState(123).randn(n, self.network.z_dim))
            z = z.to(torch.float32).to(self.device)  # two steps, because some devices have no float64
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
        shapes: dict[str, dict[str, tuple[int, ...]]] = {
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
        noise = None
        if noise_mode == "const":
            noise = {name: value[:, None] for name, value in code.noise.items()}  # (N, 1, H, W)
        # A modulated convolution can scale its weights (fused) or its activations by the style. Both agree to rounding,
        # which a long optimisation amplifies. Official code scales the weights of a single picture, so the reference
        # operations do, too.
        fused = len(ws) == 1 and not native.is_native(ws)
        return self.network.synthesis(ws, noise_mode=noise_mode, noise=noise, fused_modconv=fused)


def _key(c: torch.Tensor | None) -> tuple[float, ...]:
    """A label as a dictionary key; () for a network without classes."""
    return () if c is None else tuple(c.flatten().tolist())
