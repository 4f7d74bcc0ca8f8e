"""Files of latent codes: ``projected_w.npz`` as the official projector writes it, and with noise maps."""

import os
import zipfile
from collections.abc import Mapping

import numpy as np
import torch

from ..errors import CodeFileError
from ..spaces import NOISE, Code
from .files import atomic

MAX_BYTES = 2**30


def write_codes(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays as .npz, at once or not at all."""
    with atomic(path) as temporary, open(temporary, "wb") as f:
        np.savez(f, **arrays)


def read_codes(path: str | os.PathLike) -> Code:
    """The codes of an .npz file, in space "w+": its array "w" (N, num_ws, w_dim) and, in files of this package, noise maps.

    The key "dlatents" of the TensorFlow projector is taken as "w"; arrays of other names are left alone. Nothing in the
    file is unpickled. Whether the code fits a network is for `generator.check_code` to say.

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
            arrays = {new: data[old] for new, old in wanted.items() if new == "w" or new.startswith(NOISE)}
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
    if "w" not in arrays:
        raise CodeFileError(
            f"{name}: it has no array 'w' (found: {', '.join(found)[:200] or 'nothing'}); expected a projected_w.npz"
        )
    for key, value in arrays.items():
        with np.errstate(over="ignore"):
            value = arrays[key] = value.astype(np.float32) if value.dtype.kind == "f" else value
        if value.dtype != np.float32 or not np.isfinite(value).all():
            raise CodeFileError(f"{name}: {key!r} holds something else than finite float32 numbers")
    return Code("w+", {key: torch.from_numpy(value) for key, value in arrays.items()})
