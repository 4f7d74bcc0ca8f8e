"""Data that comes with the package: networks trained by this project or for it, and the perceptual backbone.

README.md in this folder says what each file is, where it comes from and under which licence.
"""

import os
from pathlib import Path

DEMO_NETWORK = "cats64-de.pkl"
DEMO_PICTURE = "chelsea-face.png"


def path(name: str) -> Path:
    """The path of a file of this folder.

    Raises:
        FileNotFoundError: there is none of that name; the message lists what there is.
    """
    folder = Path(__file__).parent
    found = folder / name
    if os.sep in name or not found.is_file():
        names = sorted(p.name for p in folder.iterdir() if p.suffix in (".pkl", ".pt", ".png", ".safetensors"))
        raise FileNotFoundError(f"stylegan_invert.pretrained has no {name!r}; it has {', '.join(names)}")
    return found


def tensors(name: str) -> dict:
    """The tensors of a safetensors file of this folder, by name."""
    from safetensors.torch import load_file

    return load_file(path(name))
