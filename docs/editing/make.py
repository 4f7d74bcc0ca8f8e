"""Makes the pictures and numbers of docs/editing.md: ``python docs/editing/make.py CATS.zip [OUT]``, about ten minutes of one core.

It runs the commands below, and puts their pictures together, at half their size. What exists in OUT is not made again. No real
picture is among them but the photograph of Chelsea.
"""

import subprocess
import sys
import zipfile
from pathlib import Path

import PIL.Image

HERE = Path(__file__).parent
PHOTO = HERE.parent.parent / "pretrained" / "chelsea-face.png"
FIRST, COUNT = 15600, 20  # real pictures that cats64-de was not trained on

COMMANDS = {
    "real": "project -t real-pictures -o real",
    "own-pictures": "generate --seeds 100-119 -o own-pictures",
    "own": "project -t own-pictures -o own",
    "new-pictures": "generate --seeds 120-125 -o new-pictures",
    "jpeg": "project -t jpeg-pictures -o jpeg",
    "light": "edit PHOTO --apply cats64-de/light:+2 --video -o light",
    "warm": "edit light/projection --apply cats64-de/warm:+2 -o warm",
    "turned": "edit light/projection --apply cats64-de/turned:+2 -o turned",
    "coarse": "edit light/projection --apply cats64-de/warm:+2:coarse -o coarse",
    "fine": "edit light/projection --apply cats64-de/warm:+2:fine -o fine",
    "mixed": "mix --row light/projection --row seed:8 --col seed:5 --col seed:25 --col seed:52 --styles coarse,middle -o mixed",
    "mixed-fine": "mix --row light/projection --row seed:8 --col seed:5 --col seed:25 --col seed:52 --styles fine -o mixed-fine",
    "ginger": "generate --seeds 5,26,29,42,44,47,51 -o ginger",
    "grey": "generate --seeds 9,15,23,25,30,50,62 -o grey",
    "sum": "edit seed:19 seed:27 seed:55 --plus ginger --minus grey --frames 5 -o sum",
    "boundary.safetensors": "directions boundary ginger grey -o boundary.safetensors",
    "assessor.safetensors": "directions assessor --pictures ginger grey --steps 60 -o assessor.safetensors",
    "bounded": "edit seed:19 --apply boundary.safetensors:+3 --frames 5 -o bounded",
    "assessed": "edit seed:19 --apply assessor.safetensors:+3 --frames 5 -o assessed",
    "explained": "explain real --reference own --rows 6 -o explained",
    "nearest": "nearest own/seed0100 own --count 6 -o nearest",
    "detected": "detect jpeg --real real --generated own -o detected",
}
"""What each command makes, and the command, in which -n cats64-de is left out."""


def pictures_of_zip(path: str, folder: Path) -> None:
    folder.mkdir(parents=True)
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith((".jpg", ".png")))
        for name in names[FIRST : FIRST + COUNT]:
            (folder / Path(name).name).write_bytes(archive.read(name))


def as_jpeg(source: Path, folder: Path) -> None:
    folder.mkdir()
    for path in sorted(source.glob("*.png")):
        with PIL.Image.open(path) as picture:
            picture.save(folder / f"{path.stem}.jpg", quality=75)


def stack(out: Path, names: list[str], target: str) -> None:
    """Pictures one below the other, at half their size, as one picture."""
    rows = []
    for name in names:
        with PIL.Image.open(out / name) as picture:
            rows.append(picture.convert("RGB").resize([side // 2 for side in picture.size], PIL.Image.Resampling.BOX))
    sheet = PIL.Image.new("RGB", (max(r.width for r in rows), sum(r.height + 4 for r in rows) - 4), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height + 4
    sheet.save(HERE / target, optimize=True)


def main(cats: str, out: str = "out/editing") -> None:
    folder = Path(out)
    if not (folder / "real-pictures").exists():
        pictures_of_zip(cats, folder / "real-pictures")
    for made, command in COMMANDS.items():
        if made == "jpeg" and not (folder / "jpeg-pictures").exists():
            as_jpeg(folder / "new-pictures", folder / "jpeg-pictures")
        words = [str(PHOTO) if word == "PHOTO" else word for word in [*command.split(), "-n", "cats64-de"]]
        if not (folder / made).exists():
            print(f"stylegan-invert {' '.join(words)}", flush=True)
            subprocess.run([sys.executable, "-m", "stylegan_invert", *words], cwd=folder, check=True)
    strips = ["light", "warm", "turned", "coarse", "fine"]
    stack(folder, [f"{name}/strip.png" for name in strips], "strips.png")
    stack(folder, ["mixed/grid.png", "mixed-fine/grid.png"], "mixing.png")
    sums = [f"sum/{name}/strip.png" for name in ("seed19", "seed27", "seed55")]
    stack(folder, [*sums, "bounded/strip.png", "assessed/strip.png"], "arithmetic.png")
    stack(folder, ["nearest/nearest.png"], "nearest.png")
    (HERE / "roc.png").write_bytes((folder / "detected" / "roc.png").read_bytes())


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
