"""Work in a thread of its own, which tells how far it is and can be cancelled."""

import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Cancelled(Exception):
    """The work was cancelled."""


class Work(Generic[T]):
    """A function that runs in a thread, from now on, while its reports are iterated over once.

    Args:
        function: it is called with a function that takes a report. That function raises `Cancelled` once the work is
            cancelled, so the work ends at its next report.
    """

    def __init__(self, function: Callable[[Callable[[T], None]], None]):
        self._function = function
        self._changed = threading.Condition()
        self._newest: T | None = None
        self._ended = self._cancelled = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """End the work at its next report. May be called from any thread, and more than once."""
        self._cancelled = True

    def wait(self) -> None:
        """Wait until the work has ended."""
        self._thread.join()

    def _report(self, report: T) -> None:
        if self._cancelled:
            raise Cancelled
        with self._changed:
            self._newest = report
            self._changed.notify()

    def _run(self) -> None:
        try:
            self._function(self._report)
        except BaseException as e:  # raised again in the thread that iterates
            self._error = e
        with self._changed:
            self._ended = True
            self._changed.notify()

    def __iter__(self) -> Iterator[T]:
        """The newest report whenever there is one; reports that come faster than they are taken are left out.

        The work is cancelled if the iteration is given up. Its thread has ended when the iteration ends.

        Raises:
            Cancelled: the work was cancelled.
            BaseException: what the function raised.
        """
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._newest is not None or self._ended)
                    report, self._newest = self._newest, None
                if report is None:
                    break
                yield report
        finally:
            self._cancelled = True
            self._thread.join()
        if self._error is not None:
            raise self._error
