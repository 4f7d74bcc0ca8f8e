"""The labels of official datasets: a file dataset.json with {"labels": [["00000/img00000000.png", 3], ...]}."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import TrainingError, printable
from ..files.door import LABELS as LABELS_KIND
from ..files.door import limit_of
from ..generator.class_names import MAX_NAME, are_class_names

LABELS = "dataset.json"
MAX_CLASSES = 2**16
MAX_BYTES = 2**32  # of all labels as float32
# The file's largest size over these is how many lists and tables, and how many values, it may hold. Without such limits
# a file of 128 MiB can take 3 GB as Python's objects.
BYTES_PER_LIST = 64
BYTES_PER_VALUE = 8


def parse_labels(text: bytes | bytearray, names: Sequence[str], place: str) -> np.ndarray:
    """The labels (len(names), c_dim) float32 of pictures. A class number becomes a one-hot row.

    Args:
        text: the contents of the file.
        names: the names of the pictures.
        place: the name of the file in errors.

    Raises:
        TrainingError: it is not as expected, or a label is missing, no class number, or not finite.
    """
    limit = limit_of(LABELS_KIND)
    lists = text.count(b"[") + text.count(b"{") + text.count(b":")
    if lists > limit // BYTES_PER_LIST or text.count(b",") > limit // BYTES_PER_VALUE:
        raise TrainingError(
            f"{place} holds more than {limit // BYTES_PER_LIST:,} labels or {limit // BYTES_PER_VALUE:,} numbers; leave out "
            "the labels of pictures that are not used, or allow more with --max-file-size"
        )
    try:
        table = json.loads(text.decode("utf-8"))["labels"]
        labels = {str(name).replace("\\", "/"): label for name, label in ([] if table is None else table)}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise TrainingError(f'{place} is not as expected: {{"labels": [[name, class], ...]}}') from None
    if not labels:
        raise TrainingError(f"{place} holds no labels; leave out --cond")
    missing = [n for n in names if n not in labels]
    if missing:
        raise TrainingError(f"{place} has no label for {printable(missing[0], 100)} and {len(missing) - 1} others")
    is_class = type(next(iter(labels.values()))) is int
    first = next(iter(labels.values()))
    width = len(first) if isinstance(first, list) else 0
    for name, label in labels.items():  # also those of other pictures, since the largest class counts
        _check(label, is_class, width, f"{place}: the label of {printable(name, 100)}")
    width = 1 + max(labels.values()) if is_class else width
    if len(names) * width * 4 > MAX_BYTES:
        raise TrainingError(f"{place}: {len(names)} labels of {width} numbers would take more than {MAX_BYTES:,} bytes")
    if is_class:
        result = np.zeros([len(names), width], np.float32)
        result[np.arange(len(names)), [labels[n] for n in names]] = 1
        return result
    return np.array([labels[n] for n in names], np.float32)


def parse_class_names(text: bytes | bytearray, c_dim: int, place: str) -> tuple[str, ...]:
    """The names of the classes in a file of labels that `parse_labels` has accepted: "classes", a list with one name for each.

    Args:
        text: the contents of the file.
        c_dim: the number of classes.
        place: the name of the file in errors.

    Returns:
        The names; none if the file has no "classes".

    Raises:
        TrainingError: they are not as expected.
    """
    names = json.loads(text.decode("utf-8")).get("classes")
    if names is None:
        return ()
    if not are_class_names(names, c_dim):
        raise TrainingError(
            f'{place}: "classes" does not fit; expected a list of {c_dim} different names of at most {MAX_NAME} characters that '
            "are no numbers, one for each class"
        )
    return tuple(names)


def _check(label: Any, is_class: bool, width: int, place: str) -> None:
    """Refuse a label that is no class number, or no list of ``width`` numbers."""
    if is_class and type(label) is int:
        if not 0 <= label < MAX_CLASSES:
            shown = label if abs(label) < 10**18 else "a very large number"
            raise TrainingError(f"{place} is {shown}; classes have numbers from 0 to {MAX_CLASSES - 1:,}")
        return
    numbers = label if isinstance(label, list) and not is_class else []
    if not 0 < len(numbers) == width <= MAX_CLASSES or not all(
        type(v) in (int, float) and abs(v) < 1e30
        for v in numbers  # false for nan, too
    ):
        raise TrainingError(
            f"{place} does not fit: expected one class number from 0 for each picture, or one list of numbers for each"
        )
