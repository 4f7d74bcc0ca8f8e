"""Makes the pictures of the tutorial about editing: ``python docs/tutorials/make.py``, some minutes of one core.

It runs the commands of the page in a temporary folder and keeps what they write.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import PIL.Image

from stylegan_invert.analysis.sheets import sheet

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def pixels(path: str) -> np.ndarray:
    """A picture: (3, H, W) uint8."""
    with PIL.Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).transpose(2, 0, 1)


if __name__ == "__main__":
    text = (HERE / "editing-a-photograph.md").read_text()
    os.chdir(tempfile.mkdtemp())
    Path("pretrained").symlink_to(ROOT / "pretrained")
    Path("portrait.jpg").symlink_to(HERE / "portrait.jpg")
    for block in re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL):
        for line in block.splitlines():
            line = line.replace("stylegan-invert ", f"{sys.executable} -m stylegan_invert ")
            subprocess.run(line, shell=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    face = [pixels(f"out/face/{name}.png") for name in ("target", "pivot", "proj")]
    pictures = {"face": sheet([face])}
    pictures |= {
        name: pixels(f"out/{folder}/strip.png") for name, folder in (("cat-strip", "lighter"), ("face-strip", "turned"))
    }
    for name, picture in pictures.items():
        PIL.Image.fromarray(picture.transpose(1, 2, 0)).save(HERE / f"{name}.png", optimize=True)
