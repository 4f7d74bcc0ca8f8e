"""Draws what the model card of cats32-de shows: ``python docs/networks/make.py``, from the logs beside this file.

cats32-de.jsonl is the log of its training, plain.jsonl that of the same training without the head, for 300 thousand pictures.
"""

import json
from pathlib import Path

from stylegan_invert.analysis.plots import figure, write_figure

HERE = Path(__file__).parent
PANELS = {
    "angle": "angle to the true latent, degrees",
    "scores/real": "discriminator on real pictures",
    "scores/fake": "discriminator on generated pictures",
    "r1_penalty": "R1 penalty",
}


def main() -> None:
    runs = {
        name: [json.loads(line) for line in (HERE / file).read_text().splitlines()]
        for name, file in (("with the head", "cats32-de.jsonl"), ("without", "plain.jsonl"))
    }
    drawing, (axes,) = figure(1, len(PANELS), side=2.8, ratio=1.2)
    for ax, (key, title) in zip(axes, PANELS.items()):
        for name, rows in runs.items():
            if key in rows[0]:
                ax.plot([row["nimg"] / 1000 for row in rows], [row[key] for row in rows], label=name)
        ax.set_title(title, fontsize="small")
        ax.set_xlabel("thousand pictures shown")
        ax.legend(fontsize="small")
    write_figure(HERE / "curves.png", drawing)


if __name__ == "__main__":
    main()
