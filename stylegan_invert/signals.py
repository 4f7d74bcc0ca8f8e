"""Ctrl-C and other signals that end a long run: the first one waits until the run is at a place where it can stop."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]


class Stopped(KeyboardInterrupt):
    """A run was stopped by Ctrl-C or another signal, after its checkpoint was written.

    It is a KeyboardInterrupt, so that ``except Exception`` does not take it for a failure.

    Attributes:
        signal: the number of the signal.
    """

    def __init__(self, signal: int, text: str):
        super().__init__(text)
        self.signal = signal


@contextlib.contextmanager
def signals_wait() -> Iterator[list[int]]:
    """A context manager in which the first signal of `SIGNALS` is only noted; a second one does what it did before.

    It gives a list, to which the number of the signal is appended. Signals that were ignored stay ignored (nohup does
    that). Python lets only the main thread handle signals; elsewhere nothing is changed.
    """
    arrived: list[int] = []
    earlier: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in earlier.items():
            signal.signal(number, handler)

    def note(number: int, frame: Any) -> None:
        arrived.append(number)
        restore()
        with contextlib.suppress(OSError):  # print cannot be used while another print is at work
            os.write(2, b"stopping after this step, with a checkpoint; a second signal ends the run at once\n")

    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                earlier[number] = signal.signal(number, note)
    try:
        yield arrived
    finally:
        restore()
