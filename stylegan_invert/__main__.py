"""``python -m stylegan_invert`` runs the ``stylegan-invert`` command."""

from .cli.main import main

main()
