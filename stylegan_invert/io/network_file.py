"""Network files: open, look at, save."""

import errno
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .. import pretrained
from ..errors import NetworkFileError, printable
from ..generator import adapt
from ..networks.direction import DirectionDiscriminator
from ..networks.discriminators import Discriminator
from ..networks.stylegan2 import Generator
from . import dcgan
from .containers import read_records
from .direction import NORMALIZE_Z, normalize_z, read_direction
from .download import SHORT_NAMES, download
from .files import atomic, sha256
from .persistence import Budget, ModuleRecord, module_call, persistent_call
from .pickled import Refusal, dump, show
from .stylegan2 import build
from .tensors import TensorRecord, tensor_call

STATE_DICTS = (dcgan,)  # families whose files are tables of tensors, in the order in which they are tried

EXTRA_KEY = "stylegan_invert"
NETWORK_KEYS = ("G", "D", "G_ema")

SHIPPED = {
    "cats32-de": pretrained.DEMO_NETWORK,
    "cats32": "cats32-stylegan2-ada.pkl",
    "faces64": "faces64-dcgan.pt",
}  # short names of the networks that come with this package

# Stands for a discriminator that is not there: official code insists on one, this package reads it as none.
_NO_DISCRIMINATOR = ("Identity", "from torch.nn import Identity\n")


class NetworkFile:
    """The networks of one file.

    Attributes:
        G: the generator to use: the moving average of the weights (``G_ema`` in the file).
        D: the discriminator, or None if the file has none.
        file: where it came from.
        sha256: of the file; None for networks that were not read from one.
        training_set_kwargs: what the file says about its training set: plain values, or None.
        extra: tensors that this project keeps in the file beside the official networks: name to tensor, or to a
            table of such. See `save`.

    ``net["G"]``, ``net["D"]`` and ``net["G_ema"]`` are the networks under the file's own keys: ``net["G"]`` is the
    generator as it was trained, without averaging. Networks are built when first asked for, in eval mode, without
    gradients, on the CPU.
    """

    def __init__(
        self,
        networks: Mapping[str, torch.nn.Module | ModuleRecord | None],
        file: str = "(in memory)",
        sha256: str | None = None,
        training_set_kwargs: dict[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
        budget: Budget | None = None,
    ):
        self._networks = {key: networks.get(key) for key in NETWORK_KEYS}
        self.file = file
        self.sha256 = sha256
        self.training_set_kwargs = training_set_kwargs
        self.extra = dict(extra or {})
        self._budget = budget
        self._direction: DirectionDiscriminator | None = None

    def __getitem__(self, key: str) -> torch.nn.Module | None:
        value = self._networks[key]
        if isinstance(value, ModuleRecord):
            expected = "Discriminator" if key == "D" else "Generator"
            without = ". To go on without it, set net['D'] = None" if key == "D" else ""
            if value.class_name != expected:
                raise NetworkFileError(
                    self.file, key, f"it is of class {show(value.class_name)}; expected {expected}{without}"
                )
            record, value = value, build(value, self.file, key, self._budget)
            self._networks[key] = value
            for same in ("G", "G_ema"):  # a file may hold one generator under both keys
                if self._networks[same] is record:
                    self._networks[same] = value
            if key != "D" and not normalize_z(self.extra):
                value.mapping.normalize_z = False
            value._source = {"file": self.file, "sha256": self.sha256}  # for the record of what is made with it
        return value

    def __setitem__(self, key: str, network: torch.nn.Module | None) -> None:
        if key not in NETWORK_KEYS:
            raise KeyError(f"{key!r}; a network file has {', '.join(NETWORK_KEYS)}")
        self._networks[key] = network

    @property
    def G(self) -> Generator:
        return self["G_ema"]

    @property
    def D(self) -> Discriminator | None:
        return self["D"]

    @property
    def direction(self) -> DirectionDiscriminator | None:
        """The discriminator that embeds latents, averaged over its training, or None if the file has none.

        Raises:
            NetworkFileError: the file's tensors for it do not fit.
        """
        if self._direction is None:
            self._direction = read_direction(self.extra, self["D"], self.G.z_dim, self.G.mapping.normalize_z, self.file)
        return self._direction

    @property
    def info(self) -> dict[str, Any]:
        """What `stylegan-invert inspect` prints."""
        record = self._networks["D"]
        unknown = isinstance(record, ModuleRecord) and record.class_name != "Discriminator"
        d = None if unknown else self.D
        kind = record.class_name if unknown else type(d).__name__ if d is not None else None
        return {
            "file": self.file,
            "sha256": self.sha256,
            **adapt(self.G).info(),
            "discriminator_parameters": sum(p.numel() for p in d.parameters()) if d is not None else None,
            "discriminator": printable(kind, 80) if kind else None,
            "direction_embedding": "direction" in self.extra,
            "networks": [key for key, value in self._networks.items() if value is not None],
            "extra": sorted(self.extra),
        }


def load(source: str | os.PathLike) -> NetworkFile:
    """Open a network file as data: nothing in it is executed, imported or looked up.

    Reads StyleGAN2 pickles of stylegan2-ada-pytorch and of the stylegan3 repository, and ``torch.save(G)`` zips as PTI
    writes them.

    Args:
        source: a path, an http(s) URL (cached), an official short name ("ffhq", "metfaces", ...), or that of a network
            that comes with this package ("cats32-de", "cats32", "faces64").

    Raises:
        NetworkFileError: the file is missing, damaged, hostile or of another kind; with file, place and reason.
        DownloadError: the URL cannot be had.
    """
    name = os.fspath(source)
    if re.match(r"https?://", name):
        path = download(name)
    elif name in SHORT_NAMES and not os.path.exists(name):
        path = download(SHORT_NAMES[name])
    elif name in SHIPPED and not os.path.exists(name):
        path = pretrained.path(SHIPPED[name])
    else:
        path = Path(name).expanduser()
    # A bytearray: numpy and torch may look at it without a copy, and it stays what was hashed if the file changes.
    try:
        if path.is_dir():
            raise NetworkFileError(name, "", "it is a directory; expected a network file")
        data = bytearray(path.stat().st_size)
        with open(path, "rb") as f:
            del data[f.readinto(data) :]
    except MemoryError:
        raise NetworkFileError(name, "", f"it has {path.stat().st_size:,} bytes, more than memory can hold") from None
    except FileNotFoundError:
        hint = f"expected a path, a URL, or one of the short names {', '.join([*SHIPPED, *SHORT_NAMES][:8])}, ..."
        raise NetworkFileError(name, "", f"there is no such file; {hint}") from None
    except OSError as e:
        raise NetworkFileError(name, "", f"it cannot be read: {e.strerror or e}") from None
    return from_bytes(data, name)


def from_bytes(data: bytes | bytearray, file: str) -> NetworkFile:
    """`load` for bytes that are in memory; ``file`` is the name used in errors."""
    view = memoryview(data)
    root = read_records(view, file)
    budget = Budget(file, 2 * len(view))
    if isinstance(root, ModuleRecord):  # torch.save(G)
        root = {"G_ema": root}
    for family in STATE_DICTS:
        weights = None if _holds_modules(root) else family.find_generator(root)
        if weights is not None:
            G = family.build(*weights, file, budget)
            G._source = {"file": file, "sha256": sha256(view)}
            return NetworkFile({"G_ema": G}, file, G._source["sha256"], budget=budget)
    if not _holds_modules(root):
        keys = ", ".join(map(str, list(root)[:10])) if isinstance(root, dict) else type(root).__name__
        raise NetworkFileError(file, "", f"it holds no generator under 'G_ema' (found: {keys[:200]})")
    networks = {}
    for key in NETWORK_KEYS:
        value = root.get(key)
        if value is not None and not isinstance(value, ModuleRecord):
            raise NetworkFileError(file, key, "it is not a network")
        networks[key] = None if key == "D" and value and value.class_name == _NO_DISCRIMINATOR[0] else value
    training_set_kwargs = root.get("training_set_kwargs")
    if not isinstance(training_set_kwargs, (dict, type(None))):
        raise NetworkFileError(file, "training_set_kwargs", "it is not a table")
    try:
        training_set_kwargs = _plain(training_set_kwargs)
    except Refusal as e:
        raise NetworkFileError(file, "training_set_kwargs", str(e)) from None
    extra = _read_extra(root.get(EXTRA_KEY, {}), file, EXTRA_KEY, budget)
    net = NetworkFile(networks, file, sha256(view), training_set_kwargs, extra, budget)
    net["G_ema"]  # built now, so that a file without a usable generator is refused here
    return net


def _holds_modules(root: Any) -> bool:
    return isinstance(root, dict) and isinstance(root.get("G_ema"), ModuleRecord)


def save(net: NetworkFile | Generator, path: str | os.PathLike, extra: Mapping[str, Any] | None = None) -> None:
    """Write networks as an official pickle (float32), which NVIDIA's code opens and `load` reads back bit-equal.

    Args:
        net: what `load` returned, perhaps changed; or a generator, which is then both G and G_ema.
        path: the file to write; replaced at once or not at all.
        extra: tensors to keep under this project's own top-level key, besides those of ``net.extra``: name to tensor,
            or to a table of such. Official code ignores them.

    A file must have a D to be opened by official code. Where there is none, an empty stand-in is written, which this
    package reads as None.
    """
    if isinstance(net, torch.nn.Module) and not isinstance(net, Generator):
        raise TypeError(f"a {type(net).__name__} cannot be written as an official file; only StyleGAN2 networks can")
    if isinstance(net, Generator):
        net = NetworkFile({"G": net, "G_ema": net})
    if not isinstance(net, NetworkFile):
        raise TypeError(f"a {type(net).__name__} cannot be saved; expected what load returned, or its generator net.G")
    if Path(path).is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a directory; expected a file name", str(path))
    g, d, g_ema = (net[key] for key in NETWORK_KEYS)
    if g_ema is None:
        raise ValueError("there is no G_ema to save")
    if not isinstance(g_ema, Generator):
        raise TypeError(f"a {type(g_ema).__name__} cannot be written as an official file; only StyleGAN2 networks can")
    extra = {**net.extra, **(extra or {})}
    extra.pop(NORMALIZE_Z, None)
    if not g_ema.mapping.normalize_z:
        extra[NORMALIZE_Z] = torch.tensor(False)
        warnings.warn(
            "this generator does not divide z by its root mean square, and official code does: it will show other pictures for "
            "the same z. This package reads the mark that is written into the file",
            stacklevel=2,
        )
    ema = module_call(g_ema)
    stand_in, source = _NO_DISCRIMINATOR
    contents = {
        "training_set_kwargs": net.training_set_kwargs,
        "G": ema if g is None or g is g_ema else module_call(g),
        "D": module_call(d)
        if d is not None
        else persistent_call(stand_in, {"training": False, "_parameters": {}, "_buffers": {}, "_modules": {}}, source),
        "G_ema": ema,
        "augment_pipe": None,
    }
    if extra:
        contents[EXTRA_KEY] = _write_extra(extra)
    with atomic(path) as temporary, open(temporary, "wb") as f:
        dump(contents, f)


def _read_extra(table: Any, file: object, place: str, budget: Budget) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise NetworkFileError(file, place, "it is not a table of tensors")
    budget.spend(place, 256)
    result: dict[str, Any] = {}
    for name, value in table.items():
        where = f"{place}.{str(name)[:80]}"
        if isinstance(value, TensorRecord):
            budget.spend(where, value.nbytes + 256)  # and what Python needs for a tensor, however small
            result[str(name)] = value.to_tensor()
        else:
            result[str(name)] = _read_extra(value, file, where, budget)
    return result


def _write_extra(table: Mapping[str, Any]) -> dict[str, Any]:
    return {str(k): tensor_call(v) if isinstance(v, torch.Tensor) else _write_extra(v) for k, v in table.items()}


def _plain(value: Any, left: list[int] | None = None) -> Any:
    """Plain values as they are, anything else (a byte string, a record) as a text that says so; at most 10,000 of them."""
    left = [10_000] if left is None else left
    left[0] -= 1
    if left[0] < 0:
        raise Refusal("more than 10,000 values; training arguments are few")
    if isinstance(value, dict):
        return {k: _plain(v, left) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(v, left) for v in value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else f"<{type(value).__name__}>"
