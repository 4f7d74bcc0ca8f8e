"""Progress bars: drawn on a terminal, and lines in a log."""

import sys
from typing import Any, TextIO

from ..errors import printable

SECONDS = 10  # between two lines in a log


class _Lines:
    """A text stream that writes what tqdm draws over itself as lines, one below the other."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> None:
        text = text.strip()
        if text:
            self._stream.write(text + "\n")

    def flush(self) -> None:
        self._stream.flush()


def bar(total: int | None, label: str, quiet: bool = False, **options: Any) -> Any:
    """A progress bar of the package tqdm, on stderr.

    On a terminal it is drawn and vanishes at its end. Elsewhere, in a log for instance, it is a line every 10 seconds;
    what takes less time leaves no line.

    Args:
        total: the number of things to be done; None if it is unknown.
        label: the text in front of it. Characters that do not print become escapes.
        quiet: True shows nothing.
        options: further arguments of ``tqdm.tqdm``.
    """
    from tqdm import tqdm

    stream = sys.stderr
    if quiet or stream is None:
        return tqdm(total=total, disable=True)
    if stream.isatty():
        return tqdm(total=total, desc=printable(label, 60), leave=False, dynamic_ncols=True, **options)
    return tqdm(
        total=total,
        desc=printable(label, 200),
        file=_Lines(stream),
        delay=SECONDS,
        mininterval=SECONDS,
        maxinterval=SECONDS,
        bar_format="{desc}: {n_fmt} of {total_fmt} ({percentage:.0f} %), {elapsed}, {remaining} left{postfix}"
        if total
        else "{desc}: {n_fmt}, {elapsed}{postfix}",
        **options,
    )
