"""The head of a discriminator that learned the direction of z, in a network file.

Under this project's own key (`file.NetworkFile.extra`) the table "direction" holds two tables. ``outputs`` has the
weight and the bias of the head, a layer with n outputs on the file's D. ``ema`` has all tensors of the averaged
discriminator, which is the one to find latents with: those of its trunk, and of its head. A tensor "normalize_z" beside
that table says if the generator divides z by its root mean square. Without that tensor it does, as official generators
do.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch

from ...errors import NetworkFileError
from ...networks.direction import DirectionDiscriminator
from ..assemble import EXPECTED, Budget, assemble, by_name

KEY = "direction"
NORMALIZE_Z = "normalize_z"


def direction_tensors(D: DirectionDiscriminator, D_ema: DirectionDiscriminator) -> dict[str, Any]:
    """What a file keeps of a discriminator and its average.

    The trunk of the former is not in it, as that is the file's D.
    """
    return {
        "outputs": {k: v.detach() for k, v in D.outputs.state_dict().items()},
        "ema": {k: v.detach() for k, v in D_ema.state_dict().items()},
    }


def read_direction(
    extra: Mapping[str, Any], trunk: torch.nn.Module | None, z_dim: int, normalized: bool, file: str
) -> DirectionDiscriminator | None:
    """The averaged discriminator of a file, in eval mode and without gradients; None if the file has none.

    Args:
        extra: `NetworkFile.extra`.
        trunk: the file's D. It is copied, and the tensors of the copy are replaced.
        z_dim: the size of the generator's z.
        normalized: True if the generator divides z by its root mean square.
        file: its name, for errors.

    Raises:
        NetworkFileError: tensors are missing, or have other shapes than the trunk and z_dim ask for.
    """
    if KEY not in extra:
        return None
    table = extra[KEY]
    place = f"stylegan_invert.{KEY}"
    if trunk is None:
        raise NetworkFileError(file, place, "there is a direction head and no discriminator for it to stand on")
    if not isinstance(table, Mapping) or not isinstance(table.get("ema"), Mapping):
        raise NetworkFileError(file, place, "it is incomplete; expected ema and outputs")
    try:
        D = DirectionDiscriminator(copy.deepcopy(trunk), z_dim, normalized)
    except ValueError as e:
        raise NetworkFileError(file, place, str(e)) from None
    tensors, place = dict(table["ema"]), f"{place}.ema"
    for name, value in tensors.items():
        if not isinstance(value, torch.Tensor):
            raise NetworkFileError(file, f"{place}.{name}", "it is a table; expected a tensor")
    unknown = "the network has no such tensor; expected nothing"
    budget = Budget(file, sum(value.nbytes for value in D.state_dict().values()))
    return assemble(D, by_name(D, tensors), file, place, budget, names=tensors, misfit=EXPECTED, unknown=unknown)


def normalize_z(extra: Mapping[str, Any]) -> bool:
    """True if the generator divides z by its root mean square. Only those trained with Cho's own sampling do not."""
    flag = extra.get(NORMALIZE_Z)
    return bool(flag.all()) if isinstance(flag, torch.Tensor) else True
