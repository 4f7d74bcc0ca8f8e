"""Makes a dataset of Fashion-MNIST: ``python docs/networks/fashion.py /usr/share/datasets/fashion-mnist fashion32.zip``.

The folder is that of Debian's package ``dataset-fashion-mnist`` (MIT). Each 28x28 picture gets a black border of two pixels.
The zip has the layout of official datasets: the 60,000 training pictures come first, the 10,000 test pictures after them, and
``dataset.json`` holds the class of each, and the names of the classes.
"""

import gzip
import io
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot"]


def numbers(path: Path) -> np.ndarray:
    """The array in an IDX file: two zero bytes, the type (8: uint8), the number of sizes, the sizes, the values."""
    content = gzip.decompress(path.read_bytes())
    sizes = np.frombuffer(content, ">u4", content[3], 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * len(sizes)).reshape(sizes)


def main(folder: str, outfile: str) -> None:
    labels = []
    with zipfile.ZipFile(outfile, "w") as out:
        for part in ("train", "t10k"):
            classes = numbers(Path(folder, f"{part}-labels-idx1-ubyte.gz"))
            for picture, label in zip(numbers(Path(folder, f"{part}-images-idx3-ubyte.gz")), classes):
                name = f"{len(labels) // 1000:05d}/img{len(labels):08d}.png"
                stream = io.BytesIO()
                Image.fromarray(np.pad(picture, 2)).save(stream, "png")
                out.writestr(name, stream.getvalue())
                labels.append([name, int(label)])
        out.writestr("dataset.json", json.dumps({"labels": labels, "classes": CLASSES}))


if __name__ == "__main__":
    main(*sys.argv[1:])
