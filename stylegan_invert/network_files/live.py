"""Networks of other projects that are in memory, as a script of the official code has them: `adopt`.

A module is recognised by the names of its attributes and tensors. What a file of the same network would hold is read from
its attributes and given to the reader of such files, which builds the network with the checks that it has for files.
Weights that both networks have in the same form stay in the module's memory. At the end both compute one picture, and the
pictures are compared; only for this the module is called.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from ..errors import NetworkFileError
from ..generator import GeneratorAdapter
from ..generator.adapt import lacking
from ..networks.direction import DirectionDiscriminator
from ..ops.precision import full_precision
from .assemble import Budget
from .attributes import live_tensors
from .file import NetworkFile
from .table import CLASSES, FAMILIES, Family, Live, assumptions, in_words

SEED = 0  # of the picture that is compared
TOLERANCE = 1e-3  # of the largest number in the module's picture; equal networks differ by some 1e-6 of it
HALF_TOLERANCE = 0.1  # the same for a module whose parameters are in half precision, so that it computes in it
DISCRIMINATORS = (
    *(known.cls for name, known in CLASSES.items() if name.endswith("Discriminator")),
    DirectionDiscriminator,
)
NAMES = {"G": "generator", "D": "discriminator"}


class Adopted(NamedTuple):
    """How the networks of a `NetworkFile` came from modules in memory.

    Attributes:
        shared: names of the tensors that lie in the memory of the module's, with "G." or "D." in front. A change of the
            numbers of one is a change of both.
        copied: names of the tensors that have memory of their own, because the network here has them in another form (a
            weight divided by its spectral norm, another number type, ...).
        difference: the largest difference of the pictures of one seed, or of the scores of one picture, divided by the
            largest number in that of the module; None if they were not compared.
    """

    shared: tuple[str, ...]
    copied: tuple[str, ...]
    difference: float | None


class _Built(NamedTuple):
    """A network that was built from a module in memory.

    Attributes:
        network: the network of this package.
        module: the module.
        call: computes the pictures of z and c, or the scores of pictures and c, by the module.
        assumed: as `NetworkFile.assumed`.
    """

    network: torch.nn.Module
    module: torch.nn.Module
    call: Callable[..., torch.Tensor]
    assumed: str


def adopt(
    G: torch.nn.Module,
    D: torch.nn.Module | None = None,
    *,
    check: bool = True,
    assume: Mapping[str, Any] | None = None,
) -> NetworkFile:
    """Use a generator that official code holds in memory.

    It can be a ``Generator`` of stylegan2-ada-pytorch or stylegan3 (as ``legacy.load_network_pkl(f)["G_ema"]`` is), of
    rosinality's stylegan2-pytorch or of BigGAN-PyTorch, or the ``BigGAN`` of pytorch-pretrained-BigGAN; also within
    DataParallel or torch.compile. A network of this package is used as it is.

    The network that is built lies on the module's device. It is in eval mode, without gradients, in float32. The module's
    settings are obeyed as they are now (``use_fp16``, ``conv_clamp``, ...). The module is left as it was: its mode, its
    gradients, its numbers. Later changes of its settings are not seen; those of numbers of shared tensors are.

    Args:
        G: the generator.
        D: its discriminator, or None.
        check: compare the picture of one seed, and D's score of that picture, with those of the modules, which are called
            for this: once each, in eval mode, without gradients, in float32. False leaves it out.
        assume: values that a module does not state, by name, as `load` takes them: ``truncation`` for
            pytorch-pretrained-BigGAN, ``cross_replica_gain`` for BigGAN-PyTorch. They come before those that it states.

    Returns:
        A `NetworkFile`, whose ``adopted`` says what is shared and what is copied. `project`, `Projector` and `save` take
        it.

    Raises:
        TypeError: a module is of no known kind; with the nearest kind, and what it lacks of it.
        NetworkFileError: a module is not built as its kind is, or its picture differs.
    """
    given = assume or {}
    built: dict[str, _Built] = {}
    if not is_own(G):
        built["G"] = _build(G, "G", given)
    if D is not None and not isinstance(D, DISCRIMINATORS):
        built["D"] = _build(D, "D", given)
    own = {role: one.network for role, one in built.items()}
    generator = own.get("G", G)
    networks = {"G": generator, "D": own.get("D", D)}
    if not built:
        assumptions({}, given, _file(G))
        return NetworkFile({**networks, "G_ema": generator})
    difference = _check(generator, built) if check else None
    shared: list[str] = []
    copied: list[str] = []
    for role, one in built.items():
        theirs = {_address(record.tensor) for record in live_tensors(one.module).values()} - {0}
        for name, value in one.network.state_dict().items():
            (shared if _address(value) in theirs else copied).append(f"{role}.{name}")
    assumed = built["G"].assumed if "G" in built else getattr(G, "assumed", "")
    net = NetworkFile({**networks, "G_ema": networks["G"]}, _file(_unwrapped(G)), assumed=assumed)
    net.adopted = Adopted(tuple(shared), tuple(copied), difference)
    return net


def is_own(network: object) -> bool:
    """True for a generator that projectors can use as it is, such as those of this package, and for an adapter."""
    return (isinstance(network, torch.nn.Module) and lacking(network) is None) or isinstance(network, GeneratorAdapter)


def _build(module: torch.nn.Module, role: str, given: Mapping[str, Any]) -> _Built:
    module = _unwrapped(module)
    family, live = _recognised(module, role)
    file = _file(module)
    told = live.settings(module) if live.settings is not None else {}
    values = assumptions(family.assumed, {**told, **given}, file)
    devices = {str(record.tensor.device) for record in live_tensors(module).values()}
    if len(devices) > 1:
        raise NetworkFileError(file, "", f"its tensors lie on {' and '.join(sorted(devices))}; expected one device")
    network = live.build(module, file, role, Budget(file, 2**62), values)
    assumed = getattr(network, "assumed", in_words({name: values[name] for name in values if name not in told}))
    return _Built(network, module, lambda *inputs: live.call(module, values, *inputs), assumed)


# Recognition


def _recognised(module: torch.nn.Module, role: str) -> tuple[Family, Live]:
    """The family that knows a module in memory, and how."""
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"{role} is a {type(module).__name__}; expected a torch.nn.Module, the {NAMES[role]}")
    names = {*vars(module), *vars(module).get("_modules", {}).keys(), *live_tensors(module)}
    known = [(family, live) for family in FAMILIES for live in family.live if live.role == role]
    for family, live in known:
        if live.marks <= names:
            return family, live
    near = [(len(live.marks - names) / len(live.marks), live.what, sorted(live.marks - names)) for _, live in known]
    share, what, missing = min(near)
    if role == "G" and share > 0.5:  # it has little of any of them; every generator can have this one's attributes
        protocol, missing = lacking(module) or ("", [])
        what = f"the protocol {protocol} of this package"
    raise TypeError(
        f"no way to use a {type(module).__module__}.{type(module).__qualname__} in memory as the {NAMES[role]}; the "
        f"nearest is {what}, and it lacks {', '.join(missing)}. Its tensors alone may do: "
        f"torch.save({role}.state_dict(), '{role}.pt'), then si.load('{role}.pt')"
    )


def _unwrapped(module: Any) -> Any:
    """The module within DataParallel, DistributedDataParallel and torch.compile."""
    while isinstance(module, torch.nn.Module) and [*module._modules.keys()] in (["module"], ["_orig_mod"]):
        (module,) = module._modules.values()
    return module


def _file(module: torch.nn.Module) -> str:
    return f"{type(module).__name__} in memory"


def _address(value: torch.Tensor) -> int:
    """The address of a tensor's memory; 0 for a tensor without any."""
    return value.untyped_storage().data_ptr() if value.numel() else 0


# The comparison


def _check(G: Any, built: Mapping[str, _Built]) -> float:
    """Compare what networks and modules compute from one seed.

    Returns:
        The largest of the differences, see `Adopted.difference`.

    Raises:
        NetworkFileError: one is too large, or a module cannot be called.
    """
    device = next(iter(live_tensors(next(iter(built.values())).module).values())).tensor.device
    z = torch.from_numpy(np.random.RandomState(SEED).randn(1, G.z_dim).astype(np.float32)).to(device)
    c = torch.zeros([1, G.c_dim], device=device)
    c[:, :1] = 1
    differences = []
    with torch.no_grad(), full_precision(device):
        exact = {"noise_mode": "const", "force_fp32": True} if hasattr(G, "synthesis") else {}
        picture = G(z, c, **exact) if G.c_dim or exact else G(z)
        for role, one in built.items():
            exact = {"force_fp32": True} if role == "D" and hasattr(one.network, "block_resolutions") else {}
            ours = picture if role == "G" else one.network(picture, c, **exact)
            file = _file(one.module)
            with _evaluating(one.module):
                try:
                    theirs = one.call(z if role == "G" else picture, c).to(torch.float32)
                except Exception as e:  # of the user's own program
                    reason = (
                        f"its forward failed ({type(e).__name__}: {str(e).partition(chr(10))[0][:200]}), so it cannot"
                    )
                    raise NetworkFileError(file, role, f"{reason} be compared; check=False leaves that out") from e
            differences.append(_difference(ours, theirs, one.module, file, role))
    return max(differences)


def _difference(ours: torch.Tensor, theirs: torch.Tensor, module: torch.nn.Module, file: str, role: str) -> float:
    half = any(record.dtype in (torch.float16, torch.bfloat16) for record in live_tensors(module).values())
    tolerance = HALF_TOLERANCE if half else TOLERANCE
    what = f"its {'picture' if role == 'G' else 'score'} of seed {SEED}"
    if not bool(torch.isfinite(theirs).all()):
        raise NetworkFileError(file, role, f"{what} holds numbers that are not finite, so it makes no pictures")
    difference = float("inf")
    if ours.numel() == theirs.numel():
        theirs = theirs.reshape(ours.shape)
        difference = float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-8))
    if not difference <= tolerance:
        reason = f"{what} differs by {difference:.2g} of the largest number from that of the network built from it"
        advice = "something of the module is not known here; check=False takes the network all the same"
        raise NetworkFileError(file, role, f"{reason}, and {tolerance:g} is allowed, so {advice}")
    return difference


@contextlib.contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Every part of a module is in eval mode while the block runs, and as it was after it."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        for part, _ in modes:
            part.training = False
        yield
    finally:
        for part, training in modes:
            part.training = training
