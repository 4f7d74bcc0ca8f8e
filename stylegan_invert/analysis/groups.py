"""Groups of codes: folders of results, files of codes, and folders of pictures that 'stylegan-invert generate' drew."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import torch

from ..errors import CodeFileError
from ..files.door import shown
from ..generator import FEATURES, Code, GeneratorAdapter, base_code, joined
from ..io.codes import check_codes, code_file, read_codes

SEED_FILE = re.compile(r"seed(\d{4,10})\.png")


def result_folders(path: str | os.PathLike) -> list[Path]:
    """The results in a folder: the folder itself, if it is one, or else the folders in it that are, sorted by name.

    Raises:
        CodeFileError: there is none.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise CodeFileError(f"{shown(path)}: there is no such folder; expected one with results of 'project'")
    if code_file(folder).exists():
        return [folder]
    found = sorted(f for f in folder.iterdir() if f.is_dir() and f.name[0] != "." and code_file(f).exists())
    if not found:
        raise CodeFileError(f"{shown(path)}: there are no results of 'stylegan-invert project' in this folder")
    return found


def read_group(path: str | os.PathLike, generator: GeneratorAdapter, c: torch.Tensor | None = None) -> Code:
    """The codes of a group, in the base space of the network, without noise maps and displacements at layers.

    Args:
        path: a file of codes; a result of 'project', or a folder of results; or a folder of pictures with the names that
            'generate' gives them (seed0085.png), which stand for the latents of these seeds. So pictures can be sorted into
            folders by hand, and the folders are groups.
        generator: the network's adapter.
        c: the class (1, c_dim) of codes that do not have one of their own.

    Returns:
        At least one code, on the generator's device.

    Raises:
        CodeFileError: the group is empty, or its codes are damaged or of another network.
    """
    return joined([plain_code(generator, code, c) for code in _codes(Path(path), generator)])


def _codes(path: Path, generator: GeneratorAdapter) -> Iterator[Code]:
    names = [p.name for p in path.iterdir()] if path.is_dir() else []
    seeds = sorted(int(m[1]) for m in map(SEED_FILE.fullmatch, names) if m)
    if seeds and not code_file(path).exists():
        if seeds[-1] >= 2**32:
            raise CodeFileError(f"{shown(path)}: seed{seeds[-1]}.png names no seed, which is below {2**32}")
        (shape,) = generator.code_shapes("z").values()
        yield Code("z", {"z": torch.cat([generator.prior.of_seed(seed, [1, *shape]) for seed in seeds])})
        return
    if path.is_dir() and not any((path / name).is_dir() for name in names) and not code_file(path).exists():
        raise CodeFileError(
            f"{shown(path)}: the group is empty; expected a folder of results of 'stylegan-invert project', or of pictures "
            "named as 'generate' names them (seed0085.png)"
        )
    for file in [code_file(folder) for folder in result_folders(path)] if path.is_dir() else [path]:
        code = read_codes(file)
        check_codes(code, generator, str(file))
        yield code


def plain_code(generator: GeneratorAdapter, code: Code, c: torch.Tensor | None) -> Code:
    """A code in the base space on the generator's device, with nothing but its latent."""
    if code.c is None and c is not None:
        code = Code(code.space, code.tensors, c.cpu().expand(len(code), -1))
    code = code.without_noise().to(generator.device)
    if code.space.startswith(FEATURES):
        code = base_code(generator, code)
    return generator.convert(code, generator.base)
