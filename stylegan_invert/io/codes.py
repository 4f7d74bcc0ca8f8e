"""Files of latent codes.

``projected_w.npz`` is what the official projector writes: an array "w" (N, num_ws, w_dim). Files of this package may also hold
noise maps ("noise.b8.conv0"), the z that the code was found as, and, for a code at a layer of the network, the layer's name
("layer") and its output "h" (N, C, H, W). For networks without w the file is ``projected_z.npz``, with "z" in place of "w", and
labels "c" (N, c_dim) where there are classes.
"""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from ..errors import CodeFileError
from ..generator import FEATURES, NOISE, Code, GeneratorAdapter
from .files import atomic

MAX_BYTES = 2**30


NAMES = {"w+": "projected_w.npz", "z": "projected_z.npz"}  # by the space in which a network's codes are kept


def write_codes(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays as .npz, at once or not at all."""
    with atomic(path) as temporary, open(temporary, "wb") as f:
        np.savez(f, **arrays)


def write_code(folder: str | os.PathLike, code: Code, generator: GeneratorAdapter) -> Path:
    """Write a code into a folder, under the name that its network's codes have; returns the path."""
    at_layer = code.space.startswith(FEATURES)
    kept = code if at_layer else generator.convert(code.to(generator.device), generator.base)
    arrays = {k: v.cpu().numpy() for k, v in kept.tensors.items()}
    if code.space == "z":
        arrays["z"] = code.tensors["z"].cpu().numpy()
    if code.c is not None and generator.base == "z":
        arrays["c"] = code.c.cpu().numpy()
    if at_layer:
        arrays["layer"] = np.array(code.space.removeprefix(FEATURES))
    path = Path(folder) / NAMES[generator.base]
    write_codes(path, arrays)
    return path


def other_file(folder: str | os.PathLike, generator: GeneratorAdapter) -> Path:
    """The name that codes of other networks have in a folder."""
    return next(Path(folder) / name for base, name in NAMES.items() if base != generator.base)


def code_file(folder: str | os.PathLike) -> Path:
    """The file of codes in a folder; that of a network with w if there is none, for whoever reports it."""
    there = [Path(folder) / name for name in NAMES.values() if (Path(folder) / name).exists()]
    return there[0] if there else Path(folder) / NAMES["w+"]


def read_codes(path: str | os.PathLike, prefer_z: bool = False) -> Code:
    """The codes of an .npz file: in "w+", in "z", or at a layer; see the head of this module.

    The key "dlatents" of the TensorFlow projector is taken as "w"; arrays of other names are left alone. Nothing in the
    file is unpickled. Whether the code fits a network is for `generator.check_code` to say.

    Args:
        prefer_z: take the z that the code was found as, where the file has both.

    Raises:
        CodeFileError: it is no such file, is damaged, or holds something else than finite float32 numbers.
    """
    name = os.fspath(path)
    try:
        with zipfile.ZipFile(name) as z:
            size = sum(entry.file_size for entry in z.infolist())
        if size > MAX_BYTES:
            raise CodeFileError(f"{name}: it unpacks to {size:,} bytes; latent codes are far smaller")
        with np.load(name, allow_pickle=False) as data:
            keys = {"dlatents": "w"} if "w" not in data.files else {}
            wanted = {keys.get(key, key): key for key in data.files}
            space = "w+" if "w" in wanted and not (prefer_z and "z" in wanted) else "z"
            layer = str(data["layer"])[:100] if "layer" in data.files and "h" in data.files else None
            layer = None if prefer_z and space == "z" else layer
            known = ["w" if space == "w+" else "z", *(["h", "z"] if layer is not None else [])]
            taken = [new for new in wanted if new in known or (new.startswith(NOISE) if space == "w+" else new == "c")]
            arrays = {new: data[wanted[new]] for new in taken}
            found = data.files
    except FileNotFoundError:
        raise CodeFileError(f"{name}: there is no such file; expected a projected_w.npz") from None
    except IsADirectoryError:
        raise CodeFileError(f"{name}: it is a directory; expected a projected_w.npz") from None
    except CodeFileError:
        raise
    except (
        OSError,
        ValueError,
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        EOFError,
        KeyError,
        NotImplementedError,
    ) as e:
        raise CodeFileError(f"{name}: it is no .npz file of arrays, or is damaged ({str(e)[:120]})") from None
    if known[0] not in arrays:
        listed = ", ".join(found)[:200] or "nothing"
        raise CodeFileError(f"{name}: it has no array 'w' or 'z' (found: {listed}); expected a projected_w.npz")
    if any(value.ndim < 2 for value in arrays.values()):
        raise CodeFileError(
            f"{name}: {known[0]!r} has no axis for pictures and one for numbers; expected shapes (N, ...)"
        )
    for key, value in arrays.items():
        with np.errstate(over="ignore"):
            value = arrays[key] = value.astype(np.float32) if value.dtype.kind == "f" else value
        if value.dtype != np.float32 or not np.isfinite(value).all():
            raise CodeFileError(f"{name}: {key!r} holds something else than finite float32 numbers")
    space = space if layer is None else FEATURES + layer
    c = arrays.pop("c", None)
    tensors = {key: torch.from_numpy(value) for key, value in arrays.items()}
    return Code(space, tensors, None if c is None else torch.from_numpy(c))
