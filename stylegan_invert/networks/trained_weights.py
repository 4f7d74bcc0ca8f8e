"""How weights are computed while a network is trained: spectral normalisation and equalised learning rates.

The modules of BigGAN and ProGAN have the weights that they use. In training such a weight is computed from another tensor,
which is the one that is trained. `torch.nn.utils.parametrize` computes it whenever the module asks for its ``weight``.
`finished` puts the computed weights back in their places.
"""

import copy
from typing import Any

import torch
from torch.nn.utils import parametrize

from .layers import widest_dtype
from .progan import widen

WEIGHTED = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.ConvTranspose1d, torch.nn.ConvTranspose2d)
SN_EPS = 1e-6


class SpectralNorm(torch.nn.Module):
    """A weight (out, ...) divided by an estimate of its largest singular value.

    The estimate is that of one step of the power iteration, which starts at the vector ``u0``. In training mode every
    use of the weight moves ``u0`` one step on. Gradients pass through the weight, and not through the vectors.

    Args:
        weight: the weight that is trained.
        eps: the smallest length by which a vector is divided.
        transposed: True for the weight (out, in) of a dense layer that stands for an embedding (in, out), whose ``u0``
            then has ``in`` entries as in BigGAN-PyTorch.

    Attributes:
        u0: (1, rows), of length one.
        sv0: (1,), the last estimate of the singular value; nothing depends on it.

    Source: Miyato et al. 2018, algorithm 1; ``layers.py`` of BigGAN-PyTorch.
    """

    def __init__(self, weight: torch.Tensor, eps: float = SN_EPS, transposed: bool = False):
        super().__init__()
        self.u0: torch.Tensor
        self.sv0: torch.Tensor
        self.eps, self.transposed = eps, transposed
        self.register_buffer("u0", torch.nn.functional.normalize(torch.randn([1, len(self._matrix(weight))])))
        self.register_buffer("sv0", torch.ones([1]))

    def _matrix(self, weight: torch.Tensor) -> torch.Tensor:
        matrix = weight.flatten(1)
        return matrix.t() if self.transposed else matrix

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        matrix = self._matrix(weight)
        with torch.no_grad():
            v = torch.nn.functional.normalize(self.u0 @ matrix, eps=self.eps)
            u = torch.nn.functional.normalize(v @ matrix.t(), eps=self.eps)
        sigma = (v @ matrix.t() * u).sum()
        if self.training:
            with torch.no_grad():
                self.u0.copy_(u)
                self.sv0.copy_(sigma)
        return weight / sigma

    def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight to train for a weight that is set, which is the same one: its norm is divided out when it is used."""
        return weight

    @torch.no_grad()
    def settle(self, weight: torch.Tensor) -> None:
        """Set ``u0`` to the first singular vector of a weight."""
        matrix = self._matrix(weight).to(widest_dtype(weight.device))
        self.u0.copy_(torch.linalg.eigh(matrix @ matrix.t())[1][:, -1])


class Equalised(torch.nn.Module):
    """A weight from one of unit variance: times a gain, and where it resamples by two, `networks.progan.widen`.

    Args:
        gain: the factor.
        wide: True for a kernel of 3x3 from which one of 4x4 is made.

    Source: Karras et al. 2018, section 4.1; the official networks.py of ProGAN.
    """

    def __init__(self, gain: float, wide: bool = False):
        super().__init__()
        self.gain, self.wide = gain, wide

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        weight = weight * self.gain
        return widen(weight) if self.wide else weight

    def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight to train for a weight that is set. Of a kernel of 4x4 that is none of 3x3 it is the nearest."""
        return (narrowed(weight) if self.wide else weight) / self.gain


def narrowed(kernel: torch.Tensor) -> torch.Tensor:
    """The 3x3 kernel (a, b, 3, 3) from which `widen` makes a kernel of 4x4, or one that is nearest to it."""
    spread = torch.zeros([4, 3], dtype=kernel.dtype)
    spread[:3].fill_diagonal_(1)
    spread[1:].fill_diagonal_(1)
    inverse = torch.linalg.pinv(spread).to(kernel.device)
    return inverse @ kernel @ inverse.t()


def equalise(layer: torch.nn.Module, fan_in: int, gain: float, wide: bool = False, share: float = 1) -> None:
    """Train a layer with an equalised learning rate, from a fresh weight of unit variance and a bias of zero.

    Args:
        layer: a dense or convolutional layer.
        fan_in: the numbers from which each of its outputs is computed.
        gain: of the activation behind it.
        wide: as in `Equalised`.
        share: a further factor on the weight that is used.
    """
    equal = Equalised(share * gain / fan_in**0.5, wide)
    parametrize.register_parametrization(layer, "weight", equal, unsafe=True)
    torch.nn.init.normal_(_parametrizations(layer)["weight"].original)
    torch.nn.init.zeros_(layer.get_parameter("bias"))


def named_weights(network: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """The dense and convolutional layers of a network, by name."""
    return {name: module for name, module in network.named_modules() if isinstance(module, WEIGHTED)}


def spectral_norms(network: torch.nn.Module) -> dict[str, SpectralNorm]:
    """The spectral normalisations of a network, by the names of the layers whose weights they divide."""
    firsts = {name: _first(module, "weight") for name, module in named_weights(network).items()}
    return {name: first for name, first in firsts.items() if isinstance(first, SpectralNorm)}


def _parametrizations(module: torch.nn.Module) -> Any:
    """The modules that compute the parts of a module, by the names of these."""
    return module.parametrizations


def _first(module: torch.nn.Module, part: str) -> torch.nn.Module | None:
    """The first of the modules that compute a part of a module; None if none does."""
    return _parametrizations(module)[part][0] if parametrize.is_parametrized(module, part) else None


def finished(network: torch.nn.Module) -> torch.nn.Module:
    """A copy of a network in eval mode, without gradients, that has the weights which the network uses."""
    result = copy.deepcopy(network).eval()
    for module in [m for m in result.modules() if parametrize.is_parametrized(m)]:
        # `parametrize.remove_parametrizations` would change the class, which the copy shares with the original.
        weights = {name: getattr(module, name).detach() for name in _parametrizations(module)}
        module.__class__ = parametrize.type_before_parametrizations(module)
        del module.parametrizations
        for name, value in weights.items():
            module.register_parameter(name, torch.nn.Parameter(value))
    return result.requires_grad_(False)


def take_weights(network: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Give a network in training the weights that a finished network of the same form has.

    Args:
        network: the network in training.
        tensors: the ``state_dict()`` of the finished one.

    Raises:
        ValueError: a tensor is missing or has another shape.
    """
    with torch.no_grad():
        for name, value in finished(network).state_dict().items():
            if name not in tensors or tensors[name].shape != value.shape:
                found = tuple(tensors[name].shape) if name in tensors else "missing"
                raise ValueError(f"{name} is {found}; this run has {tuple(value.shape)}")
            owner, _, part = name.rpartition(".")
            module = network.get_submodule(owner)
            if parametrize.is_parametrized(module, part):
                setattr(module, part, tensors[name].to(value.device))
                first = _first(module, part)
                if isinstance(first, SpectralNorm):
                    first.settle(_parametrizations(module)[part].original)
            else:
                module.state_dict(keep_vars=True)[part].copy_(tensors[name])
