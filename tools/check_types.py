"""Check the types of the package and of tests/typing_use.py with mypy, as they are in an installed package.

    python tools/check_types.py            what "make test" runs; further arguments go to mypy

In a checkout, ops/, projectors/ and pretrained/ lie beside the folder stylegan_invert, and the package finds them when it
is imported. mypy imports nothing, so the package is copied to build/types as it is installed, and is checked there. mypy
keeps what it learned in build/types/.mypy_cache, and checks only what has changed since.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / "build" / "types"
AT_THE_TOP = "ops", "projectors", "pretrained"


def lay_out() -> None:
    """Copy the package and the user's file to COPY. Times are kept, since mypy goes by them."""
    package = COPY / "stylegan_invert"
    shutil.rmtree(package, ignore_errors=True)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "stylegan_invert", package, ignore=ignore)
    for name in AT_THE_TOP:
        for file in sorted((ROOT / name).glob("*.py")):
            (package / name).mkdir(exist_ok=True)
            shutil.copy2(file, package / name)
    (COPY / "tests").mkdir(exist_ok=True)
    shutil.copy2(ROOT / "tests" / "typing_use.py", COPY / "tests")


def main(arguments: list[str]) -> int:
    """The exit status of mypy, whose messages are printed with the paths of the checkout."""
    lay_out()
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), *arguments]
    result = subprocess.run(command, cwd=COPY, stdout=subprocess.PIPE, text=True)
    print(re.sub(rf"(?m)^stylegan_invert/(?=({'|'.join(AT_THE_TOP)})/)", "", result.stdout), end="")
    return result.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
