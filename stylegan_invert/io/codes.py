"""Files of latent codes: ``projected_w.npz`` as the official projector writes it, and with noise maps."""

import os
import zipfile
from collections.abc import Mapping

import numpy as np

from ..errors import CodeFileError
from .files import atomic

MAX_BYTES = 2**30


def write_codes(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays as .npz, at once or not at all."""
    with atomic(path) as temporary, open(temporary, "wb") as f:
        np.savez(f, **arrays)


def read_codes(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Named arrays of an .npz file: "w" (N, num_ws, w_dim) and, in files of this package, noise maps.

    The key "dlatents" of the TensorFlow projector is taken as "w". Nothing in the file is unpickled.

    Raises:
        CodeFileError: it is no such file, is damaged, or holds something else than finite numbers.
    """
    name = os.fspath(path)
    try:
        with zipfile.ZipFile(name) as z:
            size = sum(entry.file_size for entry in z.infolist())
        if size > MAX_BYTES:
            raise CodeFileError(f"{name}: it unpacks to {size:,} bytes; latent codes are far smaller")
        with np.load(name, allow_pickle=False) as data:
            arrays = {key: data[key] for key in data.files}
    except FileNotFoundError:
        raise CodeFileError(f"{name}: there is no such file; expected a projected_w.npz") from None
    except IsADirectoryError:
        raise CodeFileError(f"{name}: it is a directory; expected a projected_w.npz") from None
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, KeyError) as e:
        if isinstance(e, CodeFileError):
            raise
        raise CodeFileError(f"{name}: it is no .npz file of arrays, or is damaged ({str(e)[:120]})") from None
    if "w" not in arrays and "dlatents" in arrays:
        arrays["w"] = arrays.pop("dlatents")
    if "w" not in arrays:
        raise CodeFileError(
            f"{name}: it has no array 'w' (found: {', '.join(arrays) or 'nothing'}); expected a projected_w.npz"
        )
    for key, value in arrays.items():
        if value.dtype.kind != "f" or not np.isfinite(value).all():
            raise CodeFileError(f"{name}: {key!r} holds something else than finite floating-point numbers")
    return {key: value.astype(np.float32) for key, value in arrays.items()}
