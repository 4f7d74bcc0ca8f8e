"""The errors that this package raises on bad input.

Each message is one or two sentences. It says what is wrong, what was expected, and what to do.
"""

import difflib
from collections.abc import Iterable


class StyleganInvertError(Exception):
    """The base class of the errors below. The command line prints the message and exits with status 1.

    Names from a stranger's file may be in the message, so characters that do not print are shown as escapes.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class NetworkFileError(StyleganInvertError, ValueError):
    """A network file that cannot be read.

    Attributes:
        file: the path or URL of the file.
        place: where in the file the fault is ("byte 1234", "G_ema.synthesis.b8"); "" for the file as a whole.
        reason: what is wrong, and what the user can do about it.
    """

    def __init__(self, file: object, place: str, reason: str):
        # Names in a malicious file may contain any characters. The message must stay short and printable.
        self.file, self.place, self.reason = str(file), printable(place, 200), printable(reason, 600)
        super().__init__(f"{self.file}: {self.place + ': ' if self.place else ''}{self.reason}")


class ImageFileError(StyleganInvertError, ValueError):
    """A picture that cannot be read."""


class SoundFileError(StyleganInvertError, ValueError):
    """A sound that cannot be read."""


class CodeFileError(StyleganInvertError, ValueError):
    """A file of latent codes that cannot be read or does not fit the network."""


class EncoderFileError(StyleganInvertError, ValueError):
    """A file of an encoder that cannot be read or does not fit the network."""


class DownloadError(StyleganInvertError, OSError):
    """A download that failed, or whose checksum is wrong."""


class ProjectionError(StyleganInvertError, ValueError):
    """A projection whose options are wrong, or that failed on the way because a distance was not a finite number."""


class TrainingError(StyleganInvertError, ValueError):
    """A training whose options or pictures are wrong, or that failed because a loss was not a finite number."""


class OpsError(StyleganInvertError, RuntimeError):
    """Native (compiled) operations that were requested but cannot be built or loaded."""


def meant(word: str, names: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest of the known ones as a question; "" if none is near."""
    near = difflib.get_close_matches(word, list(names), 1)
    return f". Did you mean {near[0]!r}?" if near else ""


def printable(text: str, length: int | None = None) -> str:
    """A text, cut to a length if one is given, with escapes such as "\\n" in place of line ends and control characters.

    Characters that change the order of writing, and the halves of surrogate pairs that stand for undecodable bytes in
    file names, become escapes, too.
    """
    text = text if length is None or len(text) <= length else text[:length] + "..."
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
