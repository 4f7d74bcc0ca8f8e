"""The front door of network files: `load` opens one, `NetworkFile` holds its contents, `save` writes one."""

import errno
import json
import mmap
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import NetworkFileError, printable
from ..files.door import NETWORK, NETWORK_SETTINGS, opened, read_bytes
from ..files.pickled import Refusal, dump
from ..files.safetensors_file import is_safetensors
from ..files.tensors import TensorRecord, tensor_call
from ..files.tf_checkpoint import data_path, index_path, read_variables
from ..files.writing import atomic, sha256
from ..generator import adapt
from ..generator.class_names import are_class_names
from ..networks.direction import DirectionDiscriminator
from . import provenance, table, unknown
from . import safetensors_file as network_safetensors
from .assemble import Budget
from .families.direction_head import NORMALIZE_Z, UNIFORM_Z, normalize_z, normalizes_z, read_direction, uniform_z
from .machine.containers import read_records
from .machine.persistence import CLASS_OF_ROLE, NO_DISCRIMINATOR, ROLES, module_call, persistent_call
from .sources import beside as beside_source
from .sources import downloaded, resolve, shown
from .table import Family, Folder, Unbuilt

EXTRA_KEY = "stylegan_invert"
TUNED_FROM = "tuned_from"  # the name among `NetworkFile.extra` of `NetworkFile.tuned_from`, as bytes
LARGE = 2**28  # bytes


class NetworkFile:
    """The networks of one file.

    Attributes:
        G: the generator to use. Its weights are a moving average over the training (``G_ema`` in the file).
        D: the discriminator, or None if the file has none.
        file: the name that the file was opened by.
        sha256: the hash of the file, or None if the networks were not read from one.
        training_set_kwargs: the file's description of its training set, as plain values, or None.
        extra: tensors that this project keeps in the file beside the official networks: name to tensor, or to a
            table of names and tensors. See `save`.
        assumed: the values that the file does not state and that were assumed, in words. Empty for files that state
            everything.
        adopted: for networks that official code had in memory, how they came from there, see `live.adopt`; else None.

    ``net["G"]``, ``net["D"]`` and ``net["G_ema"]`` are the networks under the keys that official files have.
    ``net["G"]`` is the generator as it was trained, without averaging. A network is built when it is first used:
    in eval mode, without gradients, on the CPU. `provenance.provenance_of` tells its origin.
    """

    adopted: Any = None
    _source: str | os.PathLike = ""  # what `load` was given, for errors of networks that are built later

    def __init__(
        self,
        networks: Mapping[str, torch.nn.Module | Unbuilt | None],
        file: str = "(in memory)",
        sha256: str | None = None,
        training_set_kwargs: dict[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
        assumed: str = "",
    ):
        self._networks = {key: networks.get(key) for key in ROLES}
        self.file = file
        self.sha256 = sha256
        self.training_set_kwargs = training_set_kwargs
        self.extra = dict(extra or {})
        self.assumed = assumed
        self._direction: DirectionDiscriminator | None = None
        for key, network in self._networks.items():
            if isinstance(network, torch.nn.Module):
                if sha256 is not None:
                    _check_finite(network, file)
                provenance.remember(network, file, sha256, self.tuned_from if key != "D" else None)

    def __getitem__(self, key: str) -> torch.nn.Module | None:
        value = self._networks[key]
        if isinstance(value, Unbuilt):
            unbuilt = value
            with downloaded(self._source):
                value = unbuilt.build()
            for same in ROLES:  # one generator may stand under two keys
                if self._networks[same] is unbuilt:
                    self._networks[same] = value
            if key != "D" and not normalize_z(self.extra):
                mapping: Any = value.mapping
                mapping.normalize_z, mapping.uniform_z = False, uniform_z(self.extra)
            _check_finite(value, self.file)
            provenance.remember(value, self.file, self.sha256, self.tuned_from if key != "D" else None)
        return value

    def __setitem__(self, key: str, network: torch.nn.Module | None) -> None:
        if key not in ROLES:
            raise KeyError(f"{key!r}; a network file has {', '.join(ROLES)}")
        self._networks[key] = network

    @property
    def G(self) -> torch.nn.Module:
        G = self["G_ema"]
        if G is None:
            raise NetworkFileError(self.file, "", "it holds no generator")
        names = (self.training_set_kwargs or {}).get("class_names")
        if names and are_class_names(names, adapt(G).c_dim):
            plain: Any = G  # torch knows nothing of a module's own attributes
            plain.class_names = tuple(names)
        return G

    @property
    def D(self) -> torch.nn.Module | None:
        return self["D"]

    @property
    def class_names(self) -> list[str]:
        """The names of the classes, if the description of the training set has one for each; else none."""
        return list(adapt(self.G).class_names)

    @property
    def tuned_from(self) -> str | None:
        """The hash of the network file from which this one was tuned to pictures, "" if it was tuned from a network of no
        file; None if it was not tuned.

        Raises:
            NetworkFileError: what the file says of it is no hash.
        """
        value = self.extra.get(TUNED_FROM)
        if value is None:
            return None
        if not isinstance(value, torch.Tensor) or value.dtype != torch.uint8 or tuple(value.shape) not in ((0,), (32,)):
            raise NetworkFileError(self.file, f"{EXTRA_KEY}.{TUNED_FROM}", "it is no hash of 32 bytes")
        return bytes(value.tolist()).hex()

    @property
    def direction(self) -> DirectionDiscriminator | None:
        """The averaged discriminator with a head that finds the latent of a picture, or None if the file has none.

        Raises:
            NetworkFileError: the file's tensors for it do not fit.
        """
        if self._direction is None and "direction" in self.extra:
            D = self["D"]
            G: Any = self.G  # a StyleGAN, which has a mapping network
            with downloaded(self._source):
                prior = getattr(G, "z_prior", "normal")
                self._direction = read_direction(self.extra, D, G.z_dim, normalizes_z(G), self.file, prior)
        return self._direction

    @property
    def info(self) -> dict[str, Any]:
        """What `stylegan-invert inspect` prints."""
        d = self._networks["D"]
        kind: str | None
        if isinstance(d, Unbuilt) and not d.known:
            kind, d = d.kind, None
        else:
            d = self.D
            kind = type(d).__name__ if d is not None else None
        return {
            "file": self.file,
            "sha256": self.sha256,
            **({"assumed": self.assumed} if self.assumed else {}),
            **({} if self.tuned_from is None else {"tuned_from": self.tuned_from}),
            **adapt(self.G).info(),
            **({"class_names": self.class_names} if self.class_names else {}),
            "discriminator_parameters": sum(p.numel() for p in d.parameters()) if d is not None else None,
            "discriminator": printable(kind, 80) if kind else None,
            "direction_embedding": "direction" in self.extra,
            "networks": [key for key, value in self._networks.items() if value is not None],
            "extra": sorted(self.extra),
        }


def _check_finite(network: torch.nn.Module, file: str) -> None:
    """Refuse a network that was read from a file and has nan or infinite weights, which make no picture."""
    for name, value in network.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise NetworkFileError(
                file,
                name,
                "it holds numbers that are not finite, so the network makes no pictures (did its training fail?)",
            )


def load(source: str | os.PathLike, assume: Mapping[str, Any] | None = None) -> NetworkFile:
    """Open a network file as data: nothing in it is executed, imported or looked up.

    It can be

    - a pickle of stylegan2-ada-pytorch or stylegan3 (StyleGAN2, StyleGAN3 T and R), or what ``torch.save(G)`` wrote of
      such a network, as in PTI;
    - a TensorFlow pickle of ProGAN, StyleGAN, StyleGAN2 or StyleGAN2-ADA, for which TensorFlow is not needed;
    - a G*.pth of BigGAN-PyTorch (BigGAN or BigGAN-deep), where state_dict*.pth and D*.pth beside it are read too;
    - a folder of pytorch-pretrained-BigGAN;
    - a checkpoint of rosinality's stylegan2-pytorch, or of pSp and projects that build on it, whose decoder is read;
    - a state dict of a DCGAN;
    - a WaveGAN: a checkpoint of TensorFlow (its .index file, or the name without that ending), of its PyTorch port, or an .npz
      file of the variables;
    - a safetensors file of this package.

    Args:
        source: a path, an http(s) URL (cached), hf://OWNER/REPOSITORY[@REVISION][/FILE] on the Hugging Face Hub (needs the
            extra "hub"; without FILE the repository's one network file), an official short name ("ffhq", "metfaces", ...),
            or that of a network that comes with this package ("cats64-de", "cats32-de", "cats32", "faces64",
            "digits-wavegan").
        assume: values that such a file does not state, by name, as {"bn_eps": 1e-4}; `NetworkFile.info` lists those
            that were assumed.

    Raises:
        NetworkFileError: the file is missing, damaged, hostile or of another kind; with file, place and reason.
        DownloadError: the URL or the file of the Hub cannot be had.
    """
    folders = [family.folder for family in table.FAMILIES if family.folder is not None]
    index = index_path(source)
    path = resolve(index or source, [(folder.settings, folder.weights) for folder in folders])
    name = shown(source)
    if path.is_dir():
        return _from_folder(path, name, assume or {})
    if index is not None:
        return _from_checkpoint(path, name, assume or {})
    companions = [family.companions(path) for family in table.FAMILIES if family.companions is not None]
    named = {kind: beside_source(source, p) for files in companions for kind, p in files.items()}
    beside = {kind: (_bytes(p, str(p)), str(p)) for kind, p in named.items() if p.is_file()}
    with downloaded(source):
        net = from_bytes(_bytes(path, name), name, assume, beside)
    net._source = source
    return net


def _bytes(path: Path, name: str) -> bytearray:
    """The bytes of a file. Tensors can be views of them, and they stay the same if the file changes after it was hashed."""
    return read_bytes(path, NETWORK, name, lambda head: _check_head(head, path, name))


def _check_head(head: bytes, path: Path, name: str) -> None:
    """Refuse first bytes with which no network file begins, so that the rest need not be read.

    The records of a large file are looked at in the file, too, before gigabytes are read that hold no network.
    """
    if head[:1] != b"\x80" and head[:2] != b"PK" and not is_safetensors(head):
        read_records(memoryview(head), name)  # raises the error that says what it may be
    if path.stat().st_size > LARGE:
        with opened(path, NETWORK, name) as file:
            view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            if is_safetensors(view):
                network_safetensors.described(view, name)
            else:
                read_records(view, name, table.GLOBALS)


def from_bytes(
    data: bytes | bytearray,
    file: str,
    assume: Mapping[str, Any] | None = None,
    beside: Mapping[str, tuple[bytes | bytearray, str]] | None = None,
) -> NetworkFile:
    """`load` for bytes that are in memory.

    Args:
        data: the whole file.
        file: its name, for errors and for `NetworkFile.file`.
        assume: as for `load`.
        beside: files that belong to this one: what `Family.companions` names them by ("settings", or the role of a
            network) to their bytes and name.

    Raises:
        NetworkFileError: as for `load`.
    """
    view, given = memoryview(data), assume or {}
    budget = Budget(file, 2 * len(view))
    if is_safetensors(view):
        table.assumptions({}, given, file)
        contents = network_safetensors.read(view, file)
        return NetworkFile(contents.networks, file, sha256(view), contents.training_set_kwargs, contents.extra)
    root = read_records(view, file, table.GLOBALS)
    records = table.records(root)
    hashed = sha256(view)  # only now, so that a file of another kind is refused without it
    if not records:
        networks, assumed = table.of_tensors(root, file, given, budget, beside or {})
        if not networks:
            raise NetworkFileError(file, "", unknown.in_words(root))
        return NetworkFile(networks, file, hashed, assumed=assumed)
    table.assumptions({}, given, file)
    unbuilt = {role: table.of_record(record, role, file, budget) for role, record in records.items()}
    if records.get("G") is records["G_ema"]:
        unbuilt["G"] = unbuilt["G_ema"]
    rest = root if isinstance(root, dict) else {}
    training_set_kwargs = rest.get("training_set_kwargs")
    if not isinstance(training_set_kwargs, (dict, type(None))):
        raise NetworkFileError(file, "training_set_kwargs", "it is not a table")
    try:
        training_set_kwargs = _plain(training_set_kwargs)
    except Refusal as e:
        raise NetworkFileError(file, "training_set_kwargs", str(e)) from None
    beside_D = getattr(
        records.get("D"), "attributes", {}
    )  # written by a run inside an official loop, see training/official.py
    extra = _read_extra(rest.get(EXTRA_KEY, beside_D.get(EXTRA_KEY, {})), file, EXTRA_KEY, budget)
    net = NetworkFile(unbuilt, file, hashed, training_set_kwargs, extra)
    net["G_ema"]  # built now, so that a file without a usable generator is refused here
    return net


def _from_folder(path: Path, name: str, given: Mapping[str, Any]) -> NetworkFile:
    """The generator of a folder that holds the two files of one of the families."""
    folders = [(family, family.folder) for family in table.FAMILIES if family.folder is not None]
    for family, folder in folders:
        if all((path / file).is_file() for file in (folder.settings, folder.weights)):
            return _of_folder(family, folder, path, name, given)
    pairs = " or ".join(f"{folder.settings} and {folder.weights}" for _, folder in folders)
    raise NetworkFileError(name, "", f"it is a directory; expected a network file, or a folder with {pairs}")


def _of_folder(family: Family, folder: Folder, path: Path, name: str, given: Mapping[str, Any]) -> NetworkFile:
    settings, weights = path / folder.settings, path / folder.weights
    text = read_bytes(settings, NETWORK_SETTINGS)
    try:
        config = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        config = None
    if not folder.accepts(config):
        raise NetworkFileError(str(settings), "", f"it is not a configuration of {family.name}")
    assumed = table.assumptions(family.assumed, given, name)
    view = memoryview(_bytes(weights, str(weights)))
    root = read_records(view, str(weights))
    tensors = {str(k): v for k, v in root.items() if isinstance(v, TensorRecord)} if isinstance(root, dict) else {}
    G = folder.build(config, tensors, str(weights), Budget(str(weights), 2 * len(view)), assumed)
    return NetworkFile({"G_ema": G}, name, sha256(view), assumed=table.in_words(assumed))


def _from_checkpoint(path: Path, name: str, given: Mapping[str, Any]) -> NetworkFile:
    """The networks of a checkpoint of TensorFlow. Its hash is that of its files one after another."""
    parts = [read_bytes(path, NETWORK_SETTINGS, name)]

    def shard(number: int, count: int) -> memoryview:
        there = data_path(path, number, count)
        parts.append(read_bytes(there, NETWORK, str(there)))
        return memoryview(parts[-1])

    root = read_variables(parts[0], name, shard)
    budget = Budget(name, 2 * sum(map(len, parts)))
    networks, assumed = table.of_tensors(root, name, given, budget, {})
    if not networks:
        raise NetworkFileError(name, "", unknown.in_words(root))
    return NetworkFile(networks, name, sha256(b"".join(parts)), assumed=assumed)


def save(net: NetworkFile | torch.nn.Module, path: str | os.PathLike, extra: Mapping[str, Any] | None = None) -> None:
    """Write StyleGAN2 or StyleGAN3 networks as an official pickle, in float32.

    NVIDIA's code opens the file, and `load` reads it back bit-equal. Official code opens no file without a D, so where
    there is none an empty module is written in its place, which `load` reads as None.

    Args:
        net: the result of `load`, perhaps changed; or a generator, which is then written as G and as G_ema.
        path: the file to write. An old file of that name stays whole until the new one is complete.
        extra: tensors to keep under this project's own key, besides those of ``net.extra``: name to tensor, or to a
            table of names and tensors. Official code ignores them.

    Raises:
        TypeError: official files cannot hold the networks.
        ValueError: there is no generator.
    """
    if isinstance(net, torch.nn.Module):
        net = NetworkFile({"G": net, "G_ema": net})
    if not isinstance(net, NetworkFile):
        raise TypeError(f"a {type(net).__name__} cannot be saved; expected the result of load, or its generator net.G")
    if Path(path).is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a directory; expected a file name", str(path))
    networks: list[Any] = [net[key] for key in ROLES]  # StyleGANs, as `check_official` sees to
    g, d, g_ema = networks
    sources = _official_sources()
    check_official(net)
    extra = {**net.extra, **(extra or {})}
    extra.pop(NORMALIZE_Z, None)
    extra.pop(UNIFORM_Z, None)
    if not g_ema.mapping.normalize_z:
        extra[NORMALIZE_Z] = torch.tensor(False)
        if g_ema.mapping.uniform_z:
            extra[UNIFORM_Z] = torch.tensor(True)
        warnings.warn(
            "this generator does not divide z by its root mean square, and official code does: it makes other pictures "
            "from the same z. This package goes by a mark in the file, and makes the same pictures",
            stacklevel=2,
        )
    ema = module_call(g_ema, sources[type(g_ema)])
    stand_in, source = NO_DISCRIMINATOR
    contents = {
        "training_set_kwargs": net.training_set_kwargs,
        "G": ema if g is None or g is g_ema else module_call(g, sources[type(g)]),
        "D": module_call(d, sources[type(d)])
        if d is not None
        else persistent_call(stand_in, {"training": False, "_parameters": {}, "_buffers": {}, "_modules": {}}, source),
        "G_ema": ema,
        "augment_pipe": None,
    }
    if extra:
        contents[EXTRA_KEY] = written_tables(extra)
    with atomic(path) as temporary, open(temporary, "wb") as f:
        dump(contents, f)


def _official_sources() -> dict[type, str]:
    """The text that stands for the source in official files, by class of network."""
    return {known.cls: known.module_src for known in table.CLASSES.values() if known.module_src}


def check_official(net: NetworkFile) -> None:
    """Check that an official pickle can hold the networks of a file.

    Raises:
        TypeError: it cannot.
        ValueError: there is no generator.
    """
    sources = _official_sources()
    if net["G_ema"] is None:
        raise ValueError("there is no G_ema to save")
    for role in ("G_ema", "G", "D"):
        network = net[role]
        if network is not None and (type(network) not in sources or type(network).__name__ != CLASS_OF_ROLE[role]):
            family = getattr(network, "family", type(network).__name__)
            raise TypeError(
                f"a network of the family {family} cannot be written as an official file; "
                "only those of StyleGAN2 and StyleGAN3 can"
            )
    mapping = net["G_ema"].mapping
    if net["G_ema"].c_dim and getattr(mapping, "init_kwargs", {}).get("label_path") == "concat":
        raise TypeError(
            "its labels are joined to z as TensorFlow's StyleGAN2 does, which official PyTorch code cannot do"
        )


def _read_extra(tensors: Any, file: object, place: str, budget: Budget) -> dict[str, Any]:
    if not isinstance(tensors, dict):
        raise NetworkFileError(file, place, "it is not a table of tensors")
    budget.spend(place, 256)
    result: dict[str, Any] = {}
    for name, value in tensors.items():
        where = f"{place}.{str(name)[:80]}"
        if isinstance(value, TensorRecord):
            budget.spend(where, value.nbytes + 256)  # 256 bytes for the Python object
            result[str(name)] = value.to_tensor()
        else:
            result[str(name)] = _read_extra(value, file, where, budget)
    return result


def written_tables(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Tables of tensors, as `NetworkFile.extra`, in the form that is written."""
    return {str(k): tensor_call(v) if isinstance(v, torch.Tensor) else written_tables(v) for k, v in tensors.items()}


def _plain(value: Any, left: list[int] | None = None) -> Any:
    """A value of a file, in which a text that names the type stands for everything that is not plain, such as records.

    Raises:
        Refusal: there are more than 10,000 values in it.
    """
    left = [10_000] if left is None else left
    left[0] -= 1
    if left[0] < 0:
        raise Refusal("more than 10,000 values; training arguments are few")
    if isinstance(value, dict):
        return {k: _plain(v, left) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(v, left) for v in value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else f"<{type(value).__name__}>"
