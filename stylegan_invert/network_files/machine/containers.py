"""From the bytes of a network file to its records, whatever official project wrote it."""

from collections.abc import Mapping
from typing import Any

from ...errors import NetworkFileError
from ...files.pickled import Refusal
from ...files.torch_file import read_object
from ..unknown import WHOLE, is_whole_module
from . import persistence, tensorflow


def read_records(data: memoryview, file: object, more: Mapping[tuple[str, str], Any] | None = None) -> Any:
    """The object in a network file, with modules as `ModuleRecord` and networks of TensorFlow as `TFNetwork`.

    Args:
        data: the whole file.
        file: its name, for errors.
        more: names that its pickles may mention besides the usual ones, see `pickled.Machine`.

    Raises:
        NetworkFileError: the file is neither a pickle nor a torch zip, is damaged, or holds objects that no network
            file needs.
    """
    try:
        root = read_object(data, file, {**persistence.GLOBALS, **tensorflow.GLOBALS, **(more or {})})
    except NetworkFileError as e:
        if "no network file needs" in e.reason and is_whole_module(data):
            raise NetworkFileError(file, e.place, e.reason + WHOLE) from None
        raise
    try:
        persistence.parse_all(root)
    except Refusal as e:
        raise NetworkFileError(file, "", str(e)) from None
    tensorflow.parse_all(root, file)
    return root
