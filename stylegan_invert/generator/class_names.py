"""The names of a network's classes, which its file may hold beside their number."""

from typing import Any

MAX_NAME = 60  # characters
WORDS = {"search", "relaxed"}  # --class gives these words a meaning of their own


def are_class_names(names: Any, c_dim: int) -> bool:
    """True for a list with the names of c_dim classes: different, printable, at most MAX_NAME characters, no numbers,
    and none of WORDS."""
    return (
        isinstance(names, list)
        and len(names) == c_dim
        and all(isinstance(n, str) and 0 < len(n) <= MAX_NAME and n.isprintable() for n in names)
        and not any(n.lstrip("+-").isdigit() for n in names)
        and len(set(names) - WORDS) == c_dim
    )
