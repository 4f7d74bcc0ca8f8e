"""Run the server of the page. Gradio is imported only when it starts."""

import os
import tempfile
from collections.abc import Callable

from .offer import Offer


def serve(offer: Offer, host: str, port: int | None, max_file_size: int, started: Callable[[str], None]) -> None:
    """Run the server until it is interrupted. Its files are removed at the end.

    Args:
        offer: what the server offers.
        host: the address to listen at; "127.0.0.1" can be reached from this machine only.
        port: the port; None takes the first free one from 7860 on.
        max_file_size: bytes, of each upload.
        started: called with the page's address when it can be opened.

    Raises:
        OSError: the port is taken.
    """
    with tempfile.TemporaryDirectory(prefix="stylegan-invert-app-") as root:
        # Gradio reads these when it is imported.
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        os.environ["GRADIO_TEMP_DIR"] = os.path.join(root, "gradio")
        from .page import launch

        try:
            page, address = launch(offer, root, host, port, max_file_size)
        except OSError:  # Gradio's words name its own settings
            which = "7860 to 7959 are all taken" if port is None else f"{port} is taken"
            raise OSError(
                f"the server cannot listen at {host}: port {which}, or the address is wrong; try another --port"
            ) from None
        try:
            started(address)
            page.blocks.server.thread.join()
        finally:
            page.blocks.close(verbose=False)
