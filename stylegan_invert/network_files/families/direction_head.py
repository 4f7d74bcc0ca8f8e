"""The head of a discriminator that learned the direction of z, in a network file.

The trunk is the discriminator up to its last features; the head is one more layer on it, with n outputs. Under this
project's own key (`file.NetworkFile.extra`) the table "direction" holds two tables. ``outputs`` has the weight and the
bias of the head of the file's D. ``ema`` has all tensors, trunk and head, of the averaged discriminator, which
``--method de`` uses. A head that was put on a trained discriminator reads the maps before the trunk's last part instead of
its last features, and is known by the number of its inputs. A tensor "normalize_z" beside that table says if the generator
divides z by its root mean square. Without that tensor it does, as official generators do. A tensor "uniform_z" says if it
brings z to U(-1, 1) instead; without that tensor it does not.

Source: Cho, "Inverting generator of GAN through direction embedding discriminator".
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch

from ...errors import NetworkFileError
from ...networks.direction import AttachedDirection, DirectionDiscriminator
from ...networks.discriminators import Discriminator
from ..assemble import EXPECTED, Budget, assemble, by_name

KEY = "direction"
NORMALIZE_Z = "normalize_z"
UNIFORM_Z = "uniform_z"


def direction_tensors(D: DirectionDiscriminator, D_ema: DirectionDiscriminator) -> dict[str, Any]:
    """The table "direction" of a network file, as the module's docstring describes it.

    D's trunk is left out, because the file stores it as its D.

    Args:
        D: the discriminator.
        D_ema: the discriminator with averaged weights.
    """
    return {
        "outputs": {k: v.detach() for k, v in D.outputs.state_dict().items()},
        "ema": {k: v.detach() for k, v in D_ema.state_dict().items()},
    }


def read_direction(
    extra: Mapping[str, Any],
    trunk: Any,
    z_dim: int,
    normalized: bool,
    file: str,
    z_prior: str = "normal",
) -> DirectionDiscriminator | None:
    """The averaged discriminator of a file, in eval mode and without gradients; None if the file has none.

    Args:
        extra: `NetworkFile.extra`.
        trunk: the file's D, a `networks.direction.Trunk`, or None. It is copied, and the tensors of the copy are replaced.
        z_dim: the size of the generator's z.
        normalized: True if the generator divides z by its root mean square.
        file: the name of the file, for errors.
        z_prior: the distribution of the generator's z.

    Raises:
        NetworkFileError: tensors are missing, or have other shapes than the trunk and z_dim ask for.
    """
    if KEY not in extra:
        return None
    table = extra[KEY]
    place = f"stylegan_invert.{KEY}"
    if trunk is None:
        raise NetworkFileError(file, place, "there is a direction head, and no discriminator to which it belongs")
    if not isinstance(table, Mapping) or not all(isinstance(table.get(k), Mapping) for k in ("ema", "outputs")):
        raise NetworkFileError(file, place, "it is incomplete; expected ema and outputs")
    try:
        D = _kind(table["outputs"], trunk)(copy.deepcopy(trunk), z_dim, normalized)
        D.z_prior = z_prior
    except ValueError as e:
        raise NetworkFileError(file, place, str(e)) from None
    tensors, place = dict(table["ema"]), f"{place}.ema"
    for name, value in tensors.items():
        if not isinstance(value, torch.Tensor):
            raise NetworkFileError(file, f"{place}.{name}", "it is a table; expected a tensor")
    unknown = "the network has no tensor of this name"
    budget = Budget(file, sum(value.nbytes for value in D.state_dict().values()))
    return assemble(D, by_name(D, tensors), file, place, budget, names=tensors, misfit=EXPECTED, unknown=unknown)


def _kind(outputs: Mapping[str, Any], trunk: torch.nn.Module) -> type[DirectionDiscriminator]:
    """The class whose head has as many inputs as the file's."""
    weight = outputs.get("weight")
    inputs = weight.shape[-1] if isinstance(weight, torch.Tensor) and weight.ndim else None
    attached = isinstance(trunk, Discriminator) and inputs == trunk.num_maps
    return AttachedDirection if attached else DirectionDiscriminator


def normalize_z(extra: Mapping[str, Any]) -> bool:
    """True if the generator divides z by its root mean square. Only those trained with Cho's own sampling do not."""
    flag = extra.get(NORMALIZE_Z)
    return bool(flag.all()) if isinstance(flag, torch.Tensor) else True


def normalizes_z(G: torch.nn.Module) -> bool:
    """True if a generator divides z by its root mean square."""
    mapping = getattr(G, "mapping", None)
    return bool(getattr(G, "normalize_latents", False) if mapping is None else mapping.normalize_z)


def uniform_z(extra: Mapping[str, Any]) -> bool:
    """True if the generator brings z from N(0, 1) to U(-1, 1) first. Only those trained with that sampling do."""
    flag = extra.get(UNIFORM_Z)
    return bool(flag.all()) if isinstance(flag, torch.Tensor) else False
