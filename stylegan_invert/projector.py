"""``python -m stylegan_invert.projector``: the official projector.py, flag for flag and file for file."""

from .cli.main import run
from .cli.official_projector import command

if __name__ == "__main__":
    run(command, prog_name="python -m stylegan_invert.projector")
