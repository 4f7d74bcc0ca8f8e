"""``python -m stylegan_invert`` is the ``stylegan-invert`` command."""

from .cli.main import main

main()
