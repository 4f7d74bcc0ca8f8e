"""Files of latent codes.

The official projector writes ``projected_w.npz`` with one array, "w" (N, num_ws, w_dim). This package reads and writes
the same file, and may add further arrays:

- noise maps, such as "noise.b8.conv0" (N, H, W);
- "z" (N, z_dim), if the search was for z and "w" was computed from it;
- "layer" and "h", for a code at a layer of the network: the layer's name and its output (N, C, H, W);
- "network", the hash of the network of which the codes are, see `GeneratorAdapter.code_sha256`. Files of other tools
  lack it.

For networks without w the file is ``projected_z.npz``. It holds "z" in place of "w", and the labels "c" (N, c_dim) if
the network has classes.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import CodeFileError, printable
from ..files.arrays import opened_npz
from ..files.door import CODES
from ..files.writing import atomic
from ..generator import FEATURES, NOISE, Code, GeneratorAdapter, check_code

NAMES = {"w+": "projected_w.npz", "z": "projected_z.npz"}  # by the base space of the generator


def write_codes(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays as .npz. If writing fails, no file is left and an earlier file stays as it was."""
    with atomic(path) as temporary, open(temporary, "wb") as f:
        named: dict[str, Any] = dict(arrays)
        np.savez(f, **named)


def write_code(folder: str | os.PathLike, code: Code, generator: GeneratorAdapter, name: str | None = None) -> Path:
    """Write codes into a folder, in the base space of their generator.

    Returns:
        The path of the file, ``projected_w.npz`` or ``projected_z.npz``, if ``name`` does not say another.
    """
    at_layer = code.space.startswith(FEATURES)
    in_base = code if at_layer else generator.convert(code.to(generator.device), generator.base)
    arrays = {k: v.cpu().numpy() for k, v in in_base.tensors.items()}
    if code.space == "z":
        arrays["z"] = code.tensors["z"].cpu().numpy()
    if code.c is not None and generator.base == "z":
        arrays["c"] = code.c.cpu().numpy()
    if at_layer:
        arrays["layer"] = np.array(code.space.removeprefix(FEATURES))
    arrays["network"] = np.array(generator.code_sha256())
    path = Path(folder) / (name or NAMES[generator.base])
    write_codes(path, arrays)
    return path


def other_file(folder: str | os.PathLike, generator: GeneratorAdapter) -> Path:
    """The path in a folder where codes of the other kind of network would be: those with a w, or those without."""
    return next(Path(folder) / name for base, name in NAMES.items() if base != generator.base)


def code_file(folder: str | os.PathLike) -> Path:
    """The file of codes in a folder. If there is none, the path ``projected_w.npz``, so that an error can name it."""
    paths = [Path(folder) / name for name in NAMES.values()]
    return next((path for path in paths if path.exists()), paths[0])


_foreign_allowed = False


def allow_foreign(allowed: bool) -> None:
    """Let `check_codes` accept codes of another network, for the whole process, or forbid it again."""
    global _foreign_allowed
    _foreign_allowed = allowed


def check_codes(code: Code, generator: GeneratorAdapter, name: str) -> None:
    """Check that codes fit a network and, where they say of which network they are, that they are of this one.

    Args:
        code: the codes.
        generator: the adapter of the network.
        name: the name of the codes in errors, usually their file.

    Raises:
        CodeFileError: as for `generator.check_code`; or the codes are of another network, and `allow_foreign` was not
            called.
    """
    check_code(code, generator, name)
    check_network(code.network, generator, f"{name}: its codes are", "they stand for other pictures")


def check_network(network: str | None, generator: GeneratorAdapter, what: str, harm: str) -> None:
    """Check that something that belongs to the latents of one network belongs to this one.

    Args:
        network: the hash of its network (`GeneratorAdapter.code_sha256`); None if it is unknown, which is accepted.
        generator: the adapter of this network.
        what: the beginning of the error ("x.npz: its codes are").
        harm: what would come of it there.

    Raises:
        CodeFileError: it is of another network, and `allow_foreign` was not called.
    """
    if network is not None and not _foreign_allowed:
        own = generator.code_sha256()
        if network != own:
            raise CodeFileError(
                f"{what} of another network (its hash is {network[:12]}..., that of this network "
                f"{own[:12]}...), where {harm}; name that network, or use --foreign-codes"
            )


def read_codes(path: str | os.PathLike, prefer_z: bool = False) -> Code:
    """Read the codes of an .npz file; the head of this module describes its arrays.

    The array "dlatents", which the official TensorFlow projector writes, is read as "w". Arrays of unknown names are
    ignored. `check_codes` checks that the code fits a network.

    Args:
        path: the file.
        prefer_z: True returns the z of a file that has both z and w.

    Returns:
        A code in "w+", in "z", or at a layer ("f:NAME"), with the hash of its network if the file says it.

    Raises:
        CodeFileError: the file is missing, damaged or of another kind, is larger than allowed or unpacks to more, or its
            numbers are not finite.
    """
    name = os.fspath(path)
    with opened_npz(path, CODES) as data:
        stored = data.names
        renamed = {"dlatents": "w"} if "w" not in stored else {}
        keys = {renamed.get(key, key): key for key in stored}  # tensor name to the array's name in the file
        space = "w+" if "w" in keys and not (prefer_z and "z" in keys) else "z"
        at_layer = "layer" in stored and "h" in stored and not (prefer_z and space == "z")
        main = "w" if space == "w+" else "z"
        names = [main, "h", "z"] if at_layer else [main]
        names = [new for new in keys if new in names or (new.startswith(NOISE) if space == "w+" else new == "c")]
        if main not in names:
            listed = printable(", ".join(stored), 200) or "nothing"
            raise CodeFileError(f"{name}: it has no array 'w' or 'z' (found: {listed}); expected a projected_w.npz")
        space = FEATURES + _text(data["layer"], name, "layer") if at_layer else space
        network = _text(data["network"], name, "network") if "network" in stored else None
        arrays = {new: _numbers(data[keys[new]], f"{name}: {printable(new, 80)}") for new in names}
    if network is not None and not re.fullmatch("[0-9a-f]{64}", network):
        raise CodeFileError(f"{name}: its network is {printable(network, 80)!r}; expected a hash of 64 digits")
    c = arrays.pop("c", None)
    return Code(space, arrays, c, network)


def _numbers(value: np.ndarray, place: str) -> torch.Tensor:
    """An array of a file as a float32 tensor (N, ...) of finite numbers."""
    if value.ndim < 2:
        raise CodeFileError(f"{place} has shape {value.shape}; expected (N, ...), one row of numbers for each picture")
    if value.dtype.kind == "f":
        with np.errstate(over="ignore"):
            value = value.astype(np.float32, copy=False)
    if value.dtype != np.float32 or not np.isfinite(value).all():
        raise CodeFileError(f"{place} holds something else than finite float32 numbers")
    return torch.from_numpy(np.ascontiguousarray(value))


def _text(value: np.ndarray, name: str, key: str) -> str:
    if value.ndim or value.dtype.kind != "U" or not str(value).isprintable():
        raise CodeFileError(f"{name}: {key} is of type {value.dtype}, shape {value.shape}; expected a text")
    return str(value)[:100]
