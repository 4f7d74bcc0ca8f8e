"""Where a network came from, and whether it was changed since it was read.

The origin of a network is kept beside it, not in it: ``copy.deepcopy`` gives a network of unknown origin, unless
`carry` says that the copy is the same. A network whose numbers were changed after it was read never has the hash of its
file.
"""

import weakref
import zlib
from typing import NamedTuple

import torch

Fingerprint = tuple[tuple[str, torch.dtype, torch.Size, int], ...]


class Provenance(NamedTuple):
    """Where a network came from.

    Attributes:
        file: the name that it was opened by; None if it is unknown.
        sha256: the hash of that file; None if it is unknown, or if the network was changed since.
        changed: True if a parameter or buffer differs from the one in the file.
        tuned_from: None unless the network was tuned to pictures. Then it is the hash of the file of the network from
            which it was tuned, or "" if that came from no file or had been changed.
    """

    file: str | None = None
    sha256: str | None = None
    changed: bool = False
    tuned_from: str | None = None


class _Origin(NamedTuple):
    """The origin of a network: its file, the hash of the file, the network's fingerprint if there is a hash, and from
    what it was tuned, see `Provenance`.
    """

    file: str | None
    sha256: str | None
    fingerprint: Fingerprint | None
    tuned_from: str | None = None


_origins: weakref.WeakKeyDictionary[torch.nn.Module, _Origin] = weakref.WeakKeyDictionary()


def fingerprint(network: torch.nn.Module) -> Fingerprint:
    """Name, type, shape and CRC-32 of every parameter and buffer, the same on every device.

    A tensor on a GPU is copied for it. Attributes that are not tensors do not count.
    """
    return tuple((name, t.dtype, t.shape, _checksum(t)) for name, t in network.state_dict().items())


def _checksum(value: torch.Tensor) -> int:
    numbers = value.detach().cpu().contiguous().flatten()
    return zlib.crc32(numbers.view(torch.uint8).numpy().data) if len(numbers) else 0


def remember(network: torch.nn.Module, file: str | None, sha256: str | None, tuned_from: str | None = None) -> None:
    """Remember where a network came from. It must be called before the network can be changed.

    Nothing happens if an origin of the network is known already.

    Args:
        network: the unchanged network.
        file: the name that it was opened by.
        sha256: the hash of the file; None for a network that was not read from one.
        tuned_from: as in `Provenance`, as the file says it.
    """
    if network not in _origins:
        _origins[network] = _Origin(file, sha256, None if sha256 is None else fingerprint(network), tuned_from)


def remember_tuned(original: torch.nn.Module, tuned: torch.nn.Module) -> Provenance:
    """Remember of a tuned copy of a network from what it was tuned; returns the origin of the original."""
    origin = provenance_of(original)
    _origins[tuned] = _Origin(origin.file, None, None, origin.sha256 or "")
    return origin


def carry(original: torch.nn.Module, copy: torch.nn.Module) -> None:
    """Say that a copy of a network came from where the original came from. It is compared too when it is asked about."""
    if original in _origins:
        _origins[copy] = _origins[original]


def provenance_of(network: object) -> Provenance:
    """Where a network came from, as far as this is known; its numbers are compared with those that were read.

    Moving a network to another device does not count as a change; another number type does.
    """
    if not isinstance(network, torch.nn.Module) or network not in _origins:
        return Provenance()
    origin = _origins[network]
    of_no_file = origin.sha256 is None and origin.tuned_from is not None  # tuned in this process
    changed = of_no_file or (origin.fingerprint is not None and fingerprint(network) != origin.fingerprint)
    return Provenance(origin.file, None if changed else origin.sha256, changed, origin.tuned_from)
