"""The errors this package raises on bad input. Each message is one sentence or two: what came, what was expected, what to do."""


class StyleganInvertError(Exception):
    """Base of the errors below; the command line prints its message and exits with status 1."""


class NetworkFileError(StyleganInvertError, ValueError):
    """A network file that was refused.

    Attributes:
        file: the file or URL.
        place: where in it ("byte 1234", "G_ema.synthesis.b8"), or "".
        reason: what is wrong, and what to do about it where something can be done.
    """

    def __init__(self, file: object, place: str, reason: str):
        # Names in a hostile file may hold anything; the message stays one short printable line.
        self.file, self.place, self.reason = str(file), printable(place, 200), printable(reason, 600)
        super().__init__(f"{self.file}: {self.place + ': ' if self.place else ''}{self.reason}")


class ImageFileError(StyleganInvertError, ValueError):
    """A picture that cannot be read as one."""


class CodeFileError(StyleganInvertError, ValueError):
    """A file of latent codes that cannot be read, or does not fit the network."""


class DownloadError(StyleganInvertError, OSError):
    """A download that failed or did not match its checksum."""


class ProjectionError(StyleganInvertError, ValueError):
    """A projection that cannot be started as asked, or went wrong on the way (a distance that is no number)."""


class TrainingError(StyleganInvertError, ValueError):
    """A training that cannot be started as asked, or went wrong on the way (a loss that is no number)."""


class OpsError(StyleganInvertError, RuntimeError):
    """Native operations that were asked for and cannot be had."""


def printable(text: str, length: int) -> str:
    """``text`` cut to a length, with line ends and control characters spelt out."""
    text = text if len(text) <= length else text[:length] + "..."
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
