"""Share things to do among processes, also of several machines, that see the same folder.

Everything to do has a name, and a process claims the name before it begins. A claim is a lock on one byte of a file. The
operating system releases it when its owner ends, however that happens, so nothing stays claimed by a dead process.
"""

import hashlib
import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

fcntl: ModuleType | None
try:
    fcntl = importlib.import_module("fcntl")
except ImportError:  # Windows has no such locks
    fcntl = None

FILE = ".claims"  # the usual name of the file, which stays empty


class Claims:
    """The names that this process has claimed.

    Args:
        file: the file whose bytes are locked. It is made, with its folder, at the first claim, and stays.

    Attributes:
        work: False if there are no locks here: on Windows, and on some network file systems. Then every claim succeeds.
    """

    def __init__(self, file: str | os.PathLike):
        self.file, self.work = Path(file), fcntl is not None
        self._opened: BinaryIO | None = None

    def take(self, name: str) -> bool:
        """Claim a name; False if another process has it.

        Raises:
            OSError: the file cannot be made.
        """
        if not self.work or fcntl is None:
            return True
        if self._opened is None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._opened = open(self.file, "ab")
        try:
            fcntl.lockf(self._opened, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(name))
        except (BlockingIOError, PermissionError):  # systems differ in what they say
            return False
        except OSError:
            self.work = False
        return True

    def release(self, name: str) -> None:
        """Give a name back."""
        if self.work and self._opened is not None and fcntl is not None:
            fcntl.lockf(self._opened, fcntl.LOCK_UN, 1, _place(name))

    def each(
        self,
        names: Sequence[str],
        settled: Callable[[str], bool],
        wait: Callable[[], object] | None = None,
        size: int = 1,
    ) -> Iterator[list[str]]:
        """Claim names for this process, which gives them back when it asks for the next.

        Args:
            names: what is to be done, in the order in which this process wants it.
            settled: True if another process has done the thing of this name meanwhile; asked when the name was claimed, since
                its last owner has ended its work by then.
            wait: called now and then while nothing is left but what other processes work on. What they leave undone when
                they are killed is claimed, too. None ends without it.
            size: how many are claimed together, at most.

        Yields:
            The names that are to be done now.
        """
        rest = list(names)
        try:
            while rest:
                others: list[str] = []
                taken: list[str] = []
                for name in rest:
                    if not self.take(name):
                        others.append(name)
                    elif settled(name):
                        self.release(name)
                    else:
                        taken.append(name)
                    if len(taken) == size:
                        yield taken
                        taken = self._let_go(taken)
                if taken:
                    yield taken
                    self._let_go(taken)
                rest = others
                if rest:
                    if wait is None:
                        return
                    wait()
        finally:
            self.close()

    def close(self) -> None:
        """Give all names back."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _let_go(self, names: list[str]) -> list[str]:
        """Give names back; returns an empty list."""
        for name in names:
            self.release(name)
        return []


def in_turn(things: Sequence[Any], rank: int, count: int) -> list[Any]:
    """Things in the order in which one of several processes wants them: its own share, then the others' from their end.

    Args:
        things: what is to be done.
        rank: the number of the process.
        count: how many processes there are.
    """
    return [*things[rank::count], *(one for n, one in reversed(list(enumerate(things))) if n % count != rank)]


def _place(name: str) -> int:
    """The byte that stands for a name. It need not exist in the file."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")
