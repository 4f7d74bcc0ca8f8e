"""``python -m stylegan_invert.projector`` has the flags of the official projector.py and writes the same files.

"Official" is projector.py of stylegan2-ada-pytorch.
"""

from .cli.main import run
from .cli.official_projector import command

if __name__ == "__main__":
    run(command, prog_name="python -m stylegan_invert.projector")
