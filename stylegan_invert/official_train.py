"""``python -m stylegan_invert.official_train REPO ...`` runs NVIDIA's own train.py with this project's discriminator and loss."""

from .cli.main import run
from .cli.official_train import command

if __name__ == "__main__":
    run(command, prog_name="python -m stylegan_invert.official_train")
