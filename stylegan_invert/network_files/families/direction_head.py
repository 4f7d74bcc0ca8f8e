"""The direction-embedding head in a network file.

Under this project's own key (``extra`` of `network_file`), the table "direction" holds: ``outputs``, weight and bias of the
layer with n outputs, which stands on the file's D; and ``ema``, all tensors of the averaged discriminator, trunk and layer,
which is the one to invert with. A tensor "normalize_z" beside that table says whether the generator divides z by its root mean
square; without it, it does, as official ones do.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch

from ...errors import NetworkFileError
from ...networks.direction import DirectionDiscriminator

KEY = "direction"
NORMALIZE_Z = "normalize_z"


def direction_tensors(D: DirectionDiscriminator, D_ema: DirectionDiscriminator) -> dict[str, Any]:
    """What a file keeps of a discriminator and its average, besides the trunk of the former."""
    return {
        "outputs": {k: v.detach() for k, v in D.outputs.state_dict().items()},
        "ema": {k: v.detach() for k, v in D_ema.state_dict().items()},
    }


def read_direction(
    extra: Mapping[str, Any], trunk: torch.nn.Module | None, z_dim: int, normalized: bool, file: str
) -> DirectionDiscriminator | None:
    """The averaged discriminator of a file, in eval mode and without gradients; None if the file has none.

    Args:
        extra: of the file. trunk: its D, of which a copy is filled. z_dim: of its generator.
        normalized: whether that divides z by its root mean square. file: for errors.

    Raises:
        NetworkFileError: tensors are missing, or of other shapes than the trunk and z_dim ask for.
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
    expected = D.state_dict()
    given = dict(table["ema"])
    for name in sorted({*expected, *given}):
        found = given.get(name)
        if name not in expected or not isinstance(found, torch.Tensor) or found.shape != expected[name].shape:
            what = tuple(found.shape) if isinstance(found, torch.Tensor) else "missing" if found is None else "a table"
            want = tuple(expected[name].shape) if name in expected else "nothing"
            raise NetworkFileError(file, f"{place}.ema.{name}", f"it is {what}; expected {want}")
    D.load_state_dict(given)
    return D.eval().requires_grad_(False)


def normalize_z(extra: Mapping[str, Any]) -> bool:
    """Whether the file's generator divides z by its root mean square: always, but for Cho's own sampling."""
    flag = extra.get(NORMALIZE_Z)
    return bool(flag.all()) if isinstance(flag, torch.Tensor) else True
