"""Files of latent codes.

The official projector writes ``projected_w.npz`` with one array, "w" (N, num_ws, w_dim). This package reads and writes
the same file, and may add further arrays:

- noise maps, such as "noise.b8.conv0" (N, H, W);
- "z" (N, z_dim), if the search was for z and "w" was computed from it;
- "layer" and "h", for a code at a layer of the network: the layer's name and its output (N, C, H, W).

For networks without w the file is ``projected_z.npz``. It holds "z" in place of "w", and the labels "c" (N, c_dim) if
the network has classes.
"""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from ..errors import CodeFileError
from ..files.writing import atomic
from ..generator import FEATURES, NOISE, Code, GeneratorAdapter

MAX_BYTES = 2**30  # files that unpack to more are refused
NAMES = {"w+": "projected_w.npz", "z": "projected_z.npz"}  # by the base space of the generator


def write_codes(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays as .npz. If writing fails, no file is left and an earlier file stays as it was."""
    with atomic(path) as temporary, open(temporary, "wb") as f:
        np.savez(f, **arrays)


def write_code(folder: str | os.PathLike, code: Code, generator: GeneratorAdapter) -> Path:
    """Write a code into a folder, in the base space of its generator.

    Returns:
        The path of the file, ``projected_w.npz`` or ``projected_z.npz``.
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
    path = Path(folder) / NAMES[generator.base]
    write_codes(path, arrays)
    return path


def other_file(folder: str | os.PathLike, generator: GeneratorAdapter) -> Path:
    """The path in a folder where codes of the other kind of network would be: those with a w, or those without."""
    return next(Path(folder) / name for base, name in NAMES.items() if base != generator.base)


def code_file(folder: str | os.PathLike) -> Path:
    """The file of codes in a folder. If there is none, the path ``projected_w.npz``, so that an error can name it."""
    paths = [Path(folder) / name for name in NAMES.values()]
    return next((path for path in paths if path.exists()), paths[0])


def read_codes(path: str | os.PathLike, prefer_z: bool = False) -> Code:
    """Read the codes of an .npz file; the head of this module describes its arrays.

    The array "dlatents", which the official TensorFlow projector writes, is read as "w". Arrays of unknown names are
    ignored. Nothing in the file is unpickled. `generator.check_code` checks that the code fits a network.

    Args:
        path: the file.
        prefer_z: True returns the z of a file that has both z and w.

    Returns:
        A code in "w+", in "z", or at a layer ("f:NAME").

    Raises:
        CodeFileError: the file is missing, damaged or of another kind, or its numbers are not finite.
    """
    name = os.fspath(path)
    try:
        with zipfile.ZipFile(name) as z:
            size = sum(entry.file_size for entry in z.infolist())
        if size > MAX_BYTES:
            raise CodeFileError(f"{name}: it unpacks to {size:,} bytes; latent codes are far smaller")
        with np.load(name, allow_pickle=False) as data:
            stored = data.files
            renamed = {"dlatents": "w"} if "w" not in stored else {}
            keys = {renamed.get(key, key): key for key in stored}  # tensor name to the array's name in the file
            space = "w+" if "w" in keys and not (prefer_z and "z" in keys) else "z"
            layer = str(data["layer"])[:100] if "layer" in stored and "h" in stored else None
            layer = None if prefer_z and space == "z" else layer
            main = "w" if space == "w+" else "z"
            names = [main] if layer is None else [main, "h", "z"]
            names = [new for new in keys if new in names or (new.startswith(NOISE) if space == "w+" else new == "c")]
            arrays = {new: data[keys[new]] for new in names}
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
    if main not in arrays:
        listed = ", ".join(stored)[:200] or "nothing"
        raise CodeFileError(f"{name}: it has no array 'w' or 'z' (found: {listed}); expected a projected_w.npz")
    if any(value.ndim < 2 for value in arrays.values()):
        raise CodeFileError(
            f"{name}: an array has fewer than two axes; expected (N, ...), one row of numbers for each picture"
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
