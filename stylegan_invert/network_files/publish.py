"""Publishing a network on the Hugging Face Hub: a folder with the network as safetensors and a model card, and its upload."""

import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..errors import printable
from ..files.writing import sha256_of_file, staged
from ..generator import adapt
from ..generator.directions import Direction
from ..io import hub
from ..io.direction_file import SUFFIX, find_direction, read_direction, write_direction
from ..io.encoder_file import ENCODER_FILE, find_encoder, read_encoder
from . import safetensors_file as network_safetensors
from .file import NetworkFile, load

NETWORK_FILE = "network.safetensors"
DIRECTIONS = "directions"  # folders of a repository, so that the network is the only network file at its top
ENCODER = "encoder"
CARD = "README.md"
PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt")
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+:/ -]{0,63}")  # a tag or the name of a licence
SHOWN = ("family", "resolution", "samples", "sample_rate", "channels", "classes", "parameters")  # of `NetworkFile.info`


def write_hub_folder(
    folder: str | os.PathLike,
    network: NetworkFile | torch.nn.Module | str | os.PathLike,
    repository: str,
    license: str,
    title: str | None = None,
    description: str = "",
    tags: Sequence[str] = (),
    metrics: Mapping[str, float] | None = None,
    directions: Sequence[Direction | str | os.PathLike] = (),
    encoder: str | os.PathLike | None = None,
) -> Path:
    """Write what `push_to_hub` uploads, to be looked at and changed before.

    Args:
        folder: the folder to write; complete or not at all.
        network: a network, or what `load` takes.
        repository: "OWNER/NAME" on the Hub, which the card names.
        license: the licence of the network as the Hub spells it, such as "mit", "cc-by-4.0" or "other".
        title: the first line of the card; None takes the name of the repository.
        description: what the network was made from and for, as Markdown.
        tags: further tags of the card.
        metrics: measured numbers by name, for the table of the card.
        directions: directions of this network, or files of them.
        encoder: an encoder of this network, as `io.encoder_file.read_encoder` takes it.

    Returns:
        The folder.

    Raises:
        ValueError: an argument makes no sense, or the network cannot be written as safetensors.
        StyleganInvertError: a file cannot be read, or belongs to another network.
        OSError: the folder cannot be written.
    """
    net = network
    if not isinstance(net, NetworkFile):
        net = NetworkFile({"G_ema": net}) if isinstance(net, torch.nn.Module) else load(net)
    generator = adapt(net.G)
    _check_repository(repository)
    _check_words(license, tags)
    numbers = {str(name): float(value) for name, value in (metrics or {}).items()}
    wrong = next((name for name, value in numbers.items() if not math.isfinite(value)), None)
    if wrong is not None:
        raise ValueError(f"the metric {printable(wrong, 80)!r} is {numbers[wrong]}; expected a finite number")
    read = [one if isinstance(one, Direction) else read_direction(find_direction(one), generator) for one in directions]
    files = [f"{DIRECTIONS}/{_slug(direction.name)}{SUFFIX}" for direction in read]
    twice = next((file for file in files if files.count(file) > 1), None)
    if twice is not None:
        raise ValueError(f"two directions would be {twice}; give them different names")
    foreign = next((one.name for one in read if one.network != generator.code_sha256()), None)
    if foreign is not None:
        raise ValueError(f"the direction {printable(foreign, 80)!r} is of another network")
    if encoder is not None:
        read_encoder(encoder, generator)
    with staged(folder) as work:
        network_safetensors.write(net, work / NETWORK_FILE)
        for direction, file in zip(read, files):
            (work / file).parent.mkdir(exist_ok=True)
            write_direction(work / file, direction)
        if encoder is not None:
            (work / ENCODER).mkdir()
            shutil.copyfile(find_encoder(encoder), work / ENCODER / ENCODER_FILE)
        card = _card(net, repository, license, title, description, tags, numbers, dict(zip(files, read)), work)
        (work / CARD).write_text(card, encoding="utf-8")
    return Path(folder)


def push_to_hub(
    network: NetworkFile | torch.nn.Module | str | os.PathLike,
    repository: str,
    license: str | None = None,
    *,
    private: bool = False,
    token: str | None = None,
    revision: str | None = None,
    message: str = "Upload a network with stylegan-invert",
    **card: Any,
) -> str:
    """Publish a network in a repository of the Hugging Face Hub, which is made if it does not exist.

    The network is written as safetensors, with a model card. Files of the repository that have other names stay.

    Args:
        network: a network, what `load` takes, or a folder that `write_hub_folder` has written, which is uploaded as it is.
        repository: "OWNER/NAME".
        license: the licence of the network, see `write_hub_folder`; not for a folder, whose card says it.
        private: True makes a new repository private. One that exists stays what it is.
        token: a token that may write; None takes that of HF_TOKEN or of 'hf auth login'.
        revision: the branch to write to; None for the main branch.
        message: the message of the commit.
        card: ``title``, ``description``, ``tags``, ``metrics``, ``directions`` and ``encoder`` of `write_hub_folder`.

    Returns:
        The address of the commit.

    Raises:
        DownloadError: the Hub cannot be reached or refuses it. The message has no token in it.
        ValueError, StyleganInvertError: as for `write_hub_folder`.
    """
    _check_repository(repository)
    if not isinstance(network, (NetworkFile, torch.nn.Module)) and (Path(network) / CARD).is_file():
        if license is not None or card:
            raise ValueError(f"{network} is a folder with a {CARD}, which says all that is published; change it there")
        return hub.upload_folder(_checked_folder(Path(network)), repository, private, token, revision, message)
    if license is None:
        raise ValueError(
            'no licence is given; expected license="mit", "cc-by-4.0", "other" or what the network is under'
        )
    with tempfile.TemporaryDirectory() as temporary:
        folder = write_hub_folder(Path(temporary) / "folder", network, repository, license, **card)
        return hub.upload_folder(folder, repository, private, token, revision, message)


def _check_repository(repository: str) -> None:
    if not re.fullmatch(f"{hub.NAME}/{hub.NAME}", repository):
        raise ValueError(f"{printable(repository, 200)!r} is no repository; expected OWNER/NAME")


def _check_words(license: str, tags: Sequence[str]) -> None:
    for what, word in [("licence", license), *(("tag", tag) for tag in tags)]:
        if not isinstance(word, str) or not WORD.fullmatch(word):
            raise ValueError(f"the {what} {printable(str(word), 80)!r}; expected a word such as mit or cc-by-4.0")


def _checked_folder(folder: Path) -> Path:
    """A folder that is to be uploaded, after a check of what is in it.

    Raises:
        ValueError: its card says no licence, or a file should not be published.
    """
    text = (folder / CARD).read_text(encoding="utf-8", errors="replace")
    head = re.match(r"---\r?\n(.*?)\r?\n---\r?\n", text, re.DOTALL)
    if head is None or not re.search(r"^license: *\S", head[1], re.MULTILINE):
        raise ValueError(f"{folder / CARD} says no licence; expected a line 'license: NAME' between two lines of ---")
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in PICKLES:
            raise ValueError(
                f"{path} is a pickle, which others should not have to trust; write it with 'convert' first"
            )
        if path.is_symlink() or path.name.startswith("."):
            raise ValueError(f"{path} is a link or a hidden file; remove it from what is to be published")
    return folder


def _card(
    net: NetworkFile,
    repository: str,
    license: str,
    title: str | None,
    description: str,
    tags: Sequence[str],
    metrics: Mapping[str, float],
    directions: Mapping[str, Direction],
    work: Path,
) -> str:
    """The model card: a head in YAML that the Hub reads, and Markdown."""
    info = net.info
    address, name = f"{hub.SCHEME}{repository}", repository.partition("/")[2]
    all_tags = dict.fromkeys(["stylegan-invert", "gan", "gan-inversion", str(info["family"]), *tags])
    head = ["---", f"license: {json.dumps(license)}", "library_name: stylegan-invert", "tags:"]
    head += [f"- {json.dumps(tag)}" for tag in all_tags] + ["---", ""]
    lines = [f"# {_cell(title or name)}", "", *([description.strip(), ""] if description.strip() else [])]
    lines += ["| | |", "|---|---|"]
    lines += [f"| {key.replace('_', ' ')} | {_number(info[key])} |" for key in SHOWN if info.get(key) is not None]
    lines += [f"| file | `{NETWORK_FILE}`, SHA-256 `{sha256_of_file(work / NETWORK_FILE)}` |", ""]
    lines += ["## Use", "", "With [stylegan-invert](https://pypi.org/project/stylegan-invert/):", ""]
    lines += ["```python", "import stylegan_invert as si", "", f'net = si.load("{address}")', "```", ""]
    lines += ["```text", f"stylegan-invert generate -n {address} --seeds 0-7 -o out"]
    lines += [f"stylegan-invert project -n {address} -t photo.png -o out"]
    lines += [f"stylegan-invert edit seed:3 -n {address} --apply {address}/{file}:+2 -o out" for file in directions]
    if (work / ENCODER).is_dir():
        encoder = f"{address}/{ENCODER}/{ENCODER_FILE}"
        lines += [f"stylegan-invert project -n {address} --encoder {encoder} --method encoder -t photo.png -o out"]
    lines += ["```", ""]
    if metrics:
        lines += ["## Measured", "", "| metric | value |", "|---|---|"]
        lines += [f"| {_cell(metric)} | {value:.6g} |" for metric, value in metrics.items()] + [""]
    if directions:
        lines += ["## Directions", "", "| file | what moves | space |", "|---|---|---|"]
        lines += [f"| `{file}` | {_cell(one.name)} | {one.space} |" for file, one in directions.items()] + [""]
    if net.tuned_from is not None:
        origin = f"the file with SHA-256 `{net.tuned_from}`" if net.tuned_from else "a network of no file"
        lines += [f"It was tuned to pictures, from {origin}.", ""]
    return "\n".join(head + lines)


def _slug(name: str) -> str:
    """A name as the name of a file that needs no quotes in a shell."""
    return re.sub(r"[^\w.]+", "-", name).strip("-._")[:80] or "direction"


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else _cell(str(value))


def _cell(text: str) -> str:
    """A text for one line or one cell of a table."""
    return re.sub(r"([|<>`\[\]*_\\])", r"\\\1", printable(text, 200))
