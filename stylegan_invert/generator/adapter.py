"""The base class of this package's adapters: it makes every layer of a network a latent space of its own."""

import contextlib
import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import torch

from .code import Code
from .contract import FEATURES, base_code
from .gaussian import Gaussian
from .prior import Prior

NO_V = "this network has no W, so there is no V space and no Gaussian prior in it"


class Adapter:
    """The part of a `GeneratorAdapter` that all families share, above all the spaces of layers.

    A subclass for a family defines ``info``, ``center``, ``spread``, ``layers``, ``layer_module``, ``own_shapes``,
    ``render_base`` and ``convert_base``.

    The space "f:NAME" is the space of outputs of the layer NAME. A code in it holds two things. The tensor "h", (N, C,
    H, W), replaces the layer's output when the code is rendered. The tensors of the base space are still needed by the
    rest of the network: the later layers of a StyleGAN2 read their styles from w, and those of a BigGAN read their
    chunks of z.

    Args:
        network: a module with the attributes ``c_dim`` and, for pictures, ``img_channels`` and ``img_resolution``. If it has
            self-attention, it names the modules and the sizes of their maps in ``attention_shapes``, as the contract does,
            and each of these modules has a method ``weights`` from its input to the map.
    """

    spaces: tuple[str, ...]
    base: str
    dense: str | None = None
    prior: Prior = Prior("normal")
    asks_for_prior: bool = False
    medium: str = "picture"
    medium_facts: Mapping[str, Any] = {}

    class_names: Sequence[str] = ()

    network: Any  # a module with the attributes that `adapt` looks for; torch knows nothing of them

    def __init__(self, network: torch.nn.Module):
        self.network = network
        self.c_dim: int = self.network.c_dim
        self.class_names: Sequence[str] = getattr(network, "class_names", ())
        self.output_shape = self.shape_of(network)

    @staticmethod
    def shape_of(network: Any) -> tuple[int, ...]:
        """The shape of one output of a network."""
        return network.img_channels, network.img_resolution, network.img_resolution

    def info(self) -> Mapping[str, Any]:
        raise NotImplementedError

    def center(self, space: str, c: torch.Tensor | None = None) -> Code:
        raise NotImplementedError

    def spread(self, space: str, c: torch.Tensor | None = None) -> float:
        raise NotImplementedError

    @property
    def img_channels(self) -> int:
        """Number of channels of the pictures; official code uses this name."""
        return self.network.img_channels

    @property
    def img_resolution(self) -> int:
        """Side of the pictures in pixels; official code uses this name."""
        return self.network.img_resolution

    def with_prior(self, prior: Prior) -> Self:
        other = copy.copy(self)
        other.prior = prior
        return other

    def with_network(self, network: torch.nn.Module) -> Self:
        other = copy.copy(self)
        other.network = network
        return other

    def tunable(self) -> list[str]:
        return [
            name for name, _ in self.network.named_parameters() if name.partition(".")[0] not in ("mapping", "shared")
        ]

    def with_gaussian(self, c: torch.Tensor | None, gaussian: Gaussian) -> Self:
        raise ValueError(NO_V)

    def fit_gaussian(
        self, c: torch.Tensor | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Gaussian:
        """Fit the Gaussian of the V space to fresh samples on the CPU; see `gaussian.fit_gaussian`."""
        raise ValueError(NO_V)

    def has_gaussian(self, c: torch.Tensor | None = None) -> bool:
        """True if the Gaussian of V, of the class ``c``, is here already and need not be fitted."""
        return False

    def sha256(self, c: torch.Tensor | None = None) -> str:
        """A hash of all that outputs depend on: weights, structure, the prior of z, and the class ``c`` (1, c_dim)."""
        about = {"prior": self.prior.family, "class": None if c is None else c.flatten().tolist(), **self.info()}
        total = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode())
        for name, value in sorted(self.network.state_dict().items()):
            x = value.detach().cpu().contiguous().flatten()
            total.update(f"{name} {x.dtype} {tuple(value.shape)};".encode())
            total.update(x.view(torch.uint8).numpy().tobytes() if len(x) else b"")
        return total.hexdigest()

    def code_sha256(self) -> str:
        total = hashlib.sha256()
        part = getattr(self.network, "mapping", self.network)
        for name, value in sorted(part.named_parameters()):
            x = value.detach().to("cpu", torch.float32).contiguous()
            total.update(f"{name} {tuple(x.shape)};".encode())
            total.update(x.numpy().tobytes())
        return total.hexdigest()

    def mapping_sha256(self) -> str:
        """A hash of everything that the Gaussian of V depends on."""
        raise ValueError(NO_V)

    def v_slope(self) -> float | None:
        """The slope of the leaky ReLU between V and W; None for a network without V."""
        return None

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def layer_module(self, name: str) -> torch.nn.Module:
        """The module of a layer named in ``layers``."""
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
        raise ValueError(NO_V)

    def styles(self, code: Code) -> torch.Tensor:
        raise ValueError("this network has no W")

    def render_base(self, code: Code, noise_mode: str) -> torch.Tensor:
        """`render`, for a code in one of ``spaces`` (not of a layer)."""
        raise NotImplementedError

    def convert_base(self, code: Code, space: str) -> Code:
        """`convert`, between two of ``spaces`` (not those of layers)."""
        raise NotImplementedError

    def layers(self) -> Mapping[str, tuple[int, ...]]:
        raise NotImplementedError

    def code_shapes(self, space: str) -> Mapping[str, tuple[int, ...]]:
        if not space.startswith(FEATURES):
            return self.own_shapes(space)
        return {**self.own_shapes(self.base), "h": self.layers()[self._layer(space)]}

    def own_shapes(self, space: str) -> Mapping[str, tuple[int, ...]]:
        """`code_shapes`, for one of ``spaces`` (not of a layer)."""
        raise NotImplementedError

    def noise_shapes(self) -> Mapping[str, tuple[int, int]]:
        return {}

    def features(self, code: Code, layer: str) -> torch.Tensor:
        """The output of a layer, computed without running the layers after it.

        Args:
            code: a code in one of ``spaces``.
            layer: a name in ``layers``.

        Returns:
            (N, C, H, W) float32.
        """
        outputs: list[torch.Tensor] = []

        def stop(out: torch.Tensor) -> None:
            outputs.append(out.to(torch.float32))  # half precision would be too coarse to be optimised
            raise _Reached

        with contextlib.suppress(_Reached), _hooked(self.layer_module(layer), stop):
            self.render_base(code, "const")
        return outputs[0]

    def attention_shapes(self) -> Mapping[str, tuple[int, int, int, int]]:
        return getattr(self.network, "attention_shapes", {})

    def attention(self, code: Code, name: str) -> torch.Tensor:
        if name not in self.attention_shapes():
            raise ValueError(f"there is no attention {name!r}; this network has {', '.join(self.attention_shapes())}")
        order = list(self.layers())
        if code.space.startswith(FEATURES) and order.index(self._layer(code.space)) >= order.index(name):
            raise ValueError(
                f"the code lies at the layer {self._layer(code.space)!r}, on which the attention {name!r} does not depend; "
                "find the code at an earlier layer"
            )
        inputs: list[torch.Tensor] = []

        def stop(_: torch.nn.Module, arguments: tuple[torch.Tensor]) -> None:
            inputs.append(arguments[0])
            raise _Reached

        module: Any = self.layer_module(name)  # it has the method weights, see above
        handle = module.register_forward_pre_hook(stop)
        try:
            with contextlib.suppress(_Reached):
                self.render(code)
        finally:
            handle.remove()
        return module.weights(inputs[0])

    def convert(self, code: Code, space: str) -> Code:
        if code.space == space:
            return code
        if code.space.startswith(FEATURES):
            raise ValueError(f"a code at the layer {self._layer(code.space)!r} cannot be brought into another space")
        if not space.startswith(FEATURES):
            return self.convert_base(code, space)
        code = self.convert_base(code, self.base) if code.space != self.base else code
        with torch.no_grad():
            h = self.features(code, self._layer(space))
        return Code(space, {**code.tensors, "h": h}, code.c)

    def render(self, code: Code, noise_mode: str = "const") -> torch.Tensor:
        if not code.space.startswith(FEATURES):
            if code.space not in self.spaces:
                raise ValueError(
                    f"the code is in space {code.space!r}, which this network does not have; it has "
                    f"{', '.join(self.spaces)}"
                )
            return self.render_base(code, noise_mode)
        h = code.tensors["h"]
        with _hooked(self.layer_module(self._layer(code.space)), lambda out: h.to(out.dtype)):
            return self.render_base(base_code(self, code), noise_mode)

    def _layer(self, space: str) -> str:
        """The layer's name in "f:NAME"; ValueError if the network has no such layer."""
        name = space.removeprefix(FEATURES)
        if name not in self.layers():
            raise ValueError(f"this network has no layer {name!r}; it has {', '.join(self.layers())}")
        return name


class _Reached(Exception):
    """Raised inside a forward pass to stop it, once the requested layer has been computed."""


@contextlib.contextmanager
def _hooked(module: torch.nn.Module, function: Callable[[torch.Tensor], torch.Tensor | None]) -> Iterator[None]:
    """Call ``function`` with the module's output in every forward pass while the block runs.

    If ``function`` returns a tensor, that tensor replaces the output.
    """
    handle = module.register_forward_hook(lambda _, __, out: function(out))
    try:
        yield
    finally:
        handle.remove()
