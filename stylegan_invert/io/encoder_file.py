"""Files of encoders: safetensors with the encoder's weights, and in its header what it is and of which network."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from .. import pretrained
from ..errors import EncoderFileError, printable
from ..files import plain
from ..files.door import ENCODER
from ..files.safetensors_file import read_safetensors
from ..files.tensors import TensorRecord
from ..files.writing import atomic
from ..generator import GeneratorAdapter
from ..generator.encoding import SPACES, Encoding, entries
from ..networks.encoder import Encoder
from .hub import fetch, is_hub

FORMAT = "stylegan-invert encoder 1"
HEADER = "stylegan_invert"  # the entry of the metadata that describes the encoder, as JSON
ENCODER_FILE = "encoder.safetensors"  # in the folder of a run
SHIPPED = {
    "cats64-de": (
        "cats64-de-encoder.safetensors",
        "264cbb7ea84548ac40918af10e4d3a991d87387b53a90c63fd8eef480c4fc022",
    ),
    "faces64": ("faces64-encoder.safetensors", "95398e270b6287971a53bc20d636b38543321b9f53d28215e37dabf6ac2fe55a"),
}
"""Short names of the encoders that come with this package, which are those of their networks: the file, and the network's hash
(`GeneratorAdapter.sha256`)."""

SETTINGS = plain.table(
    {
        "img_channels": plain.whole(1, 4),
        "input_size": plain.whole(1, 1024),
        "outputs": plain.whole(1, 2**17),
        "c_dim": plain.whole(0, 10**5),
        "width": plain.whole(1, 256),
        "iterative": plain.flag,
    }
)
ABOUT = plain.table(
    {
        "space": plain.text(*SPACES),
        "network_sha256": plain.text(limit=64),
        "images": plain.whole(0, 10**12),
        "passes": plain.whole(1, 1000),
        "losses": plain.anything,
    }
)
DESCRIPTION = plain.table({"format": plain.text(FORMAT), "encoder": SETTINGS, "about": ABOUT})


@dataclass(frozen=True)
class About:
    """What an encoder's file says of it.

    Attributes:
        space: the space of its codes.
        network_sha256: the hash of the network that it belongs to, see `GeneratorAdapter.sha256`.
        images: the pictures that it was shown in its training.
        passes: the passes over a picture in its training; 1 unless it is iterative.
        losses: the terms of its training, by name.
    """

    space: str
    network_sha256: str
    images: int
    passes: int
    losses: dict[str, Any]


def write_encoder(path: str | os.PathLike, encoder: Encoder, about: About) -> None:
    """Write an encoder. A failure leaves no half-written file.

    The weights of convolutions and dense layers are rounded to float16, which halves the file and changes codes by about
    a ten-thousandth of their deviation. Vectors, such as the variances of batch normalisation, stay float32.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in encoder.state_dict().items()}
    tensors = {name: value.half() if value.ndim > 1 else value for name, value in tensors.items()}
    header = {"format": FORMAT, "encoder": encoder.settings, "about": asdict(about)}
    with atomic(path) as temporary:
        # One entry, because the library writes several in an order that changes from run to run.
        safetensors.torch.save_file(tensors, temporary, {HEADER: json.dumps(header)})


def find_encoder(name: str | os.PathLike) -> Path:
    """The path of an encoder's file: of a file, its address on the Hub, the folder of a run, or a short name.

    Raises:
        DownloadError: the file of the Hub cannot be had.
    """
    name = os.fspath(name)
    if is_hub(name):
        return fetch(name)
    if os.path.isdir(name):
        return Path(name, ENCODER_FILE)
    return pretrained.path(SHIPPED[name][0]) if name in SHIPPED and not os.path.exists(name) else Path(name)


def read_encoder(
    path: str | os.PathLike, generator: GeneratorAdapter, any_network: bool = False
) -> tuple[Encoding, About]:
    """Read an encoder for a generator, in eval mode, without gradients, on the generator's device.

    Args:
        path: the file, its address on the Hub (hf://...), the folder of the run that trained it, or the short name of one
            that comes with this package ("cats64-de"). A file of the same name is preferred to a short name.
        generator: the adapter of the network.
        any_network: True takes an encoder that was trained for another network, if its code has the same size.

    Raises:
        EncoderFileError: the file is missing or damaged, or the encoder belongs to another network.
        DownloadError: the file of the Hub cannot be had.
    """
    path = find_encoder(path)
    file = printable(os.fspath(path), 300)
    settings, about, records = _read(path, file)
    if about.space not in generator.spaces or settings["outputs"] != entries(generator, about.space):
        raise EncoderFileError(
            f"{file}: its codes are {settings['outputs']} numbers in {about.space!r}, which this network's are not; "
            "make an encoder for this network with 'stylegan-invert train-encoder'"
        )
    if settings["img_channels"] != generator.output_shape[0] or settings["c_dim"] != generator.c_dim:
        raise EncoderFileError(
            f"{file}: it is for pictures of {settings['img_channels']} channels and {settings['c_dim']} "
            f"classes; this network has {generator.output_shape[0]} and {generator.c_dim}"
        )
    if about.network_sha256 != generator.sha256() and not any_network:
        raise EncoderFileError(
            f"{file}: it was trained for another network; make one for this network with 'stylegan-invert "
            "train-encoder', or use it all the same with --assume-encoder"
        )
    with torch.device("meta"):  # no memory until the file's tensors have been compared
        encoder = Encoder(**settings)
    expected = {
        name: (tuple(value.shape), torch.float16 if value.ndim > 1 else value.dtype)
        for name, value in encoder.state_dict().items()
    }
    if expected != {name: (record.shape, record.dtype) for name, record in records.items()}:
        raise EncoderFileError(f"{file}: its tensors are not those of the encoder that its header describes")
    tensors = {name: record.to_tensor() for name, record in records.items()}
    tensors = {name: value.float() if value.ndim > 1 else value for name, value in tensors.items()}
    bad = next((name for name, value in tensors.items() if not torch.isfinite(value).all()), None)
    if bad is not None:
        raise EncoderFileError(f"{file}: {bad} has numbers that are not finite; the file is damaged")
    encoder.load_state_dict(tensors, assign=True)
    encoder = encoder.eval().requires_grad_(False).to(generator.device)
    return Encoding(encoder, about.space, generator), about


def shipped_for(generator: GeneratorAdapter) -> str | None:
    """The short name of the encoder that comes with this package for a network; None if there is none."""
    sha256 = generator.sha256()
    return next((name for name, (_, network) in SHIPPED.items() if network == sha256), None)


def _read(path: str | os.PathLike, file: str) -> tuple[dict[str, Any], About, dict[str, TensorRecord]]:
    """The settings of the encoder, what the file says of it, and its tensors."""
    records, texts = read_safetensors(path, ENCODER)
    if HEADER not in texts:
        raise EncoderFileError(f"{file}: it is not an encoder; 'stylegan-invert train-encoder' makes them")
    try:
        described = plain.parse_json(texts[HEADER], DESCRIPTION)
    except plain.Misfit as e:
        raise EncoderFileError(f"{file}: {e}; the file is damaged, or of another version of stylegan-invert") from None
    return described["encoder"], About(**described["about"]), records
