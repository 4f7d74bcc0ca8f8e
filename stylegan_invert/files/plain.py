"""Plain values of files from outside, read and checked by a schema: numbers, texts, lists and tables.

A schema is made of *forms*. A form is a function that is called with a value and its place in the file ("data.first"),
and returns the value, or raises `Misfit` if it is not as it should be::

    RECORD = table({"url": text(), "sha256": text(limit=64), "bytes": whole(0, 2**40)})
    record = read_json(path, door.SETTINGS, RECORD)

If "bytes" is -1 there, the error reads: "x.json: bytes is -1; expected an integer from 0 to 1099511627776".

Forms are for JSON and for the plain values that a pickle holds beside its tensors, so a tuple counts as a list. Nothing
here imports torch.
"""

import codecs
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from io import BufferedIOBase
from typing import Any

from ..errors import printable
from .door import Kind, opened, read_bytes

Form = Callable[[Any, str], Any]
MAX_VALUES = 2**20  # values in a JSON text, each of which takes up to 250 bytes: records of this package have far fewer
MAX_DEPTH = 32  # of lists and tables in one another, where a form accepts anything
MAX_ENTRY = 2**20  # characters of an entry of a table that `read_entries` reads
MAX_ENTRIES = 2**20  # entries of such a table


class Misfit(ValueError):
    """A value that is not as it should be. Whoever catches it adds the file. The text is one printable sentence."""


def read_json(path: str | os.PathLike, kind: Kind, form: Form, name: str | None = None) -> Any:
    """The value in a JSON file, after its check.

    Args:
        path: the file.
        kind: what it should be; it has the limit of the size and the class of errors.
        form: what the value should be.
        name: the file's name in errors; None takes the path.

    Raises:
        kind.error: the file cannot be read (see `door.read_bytes`), is not JSON, or the value does not fit.
    """
    data = read_bytes(path, kind, name)
    try:
        return parse_json(data, form)
    except Misfit as e:
        name = printable(os.fspath(path) if name is None else name, 300)
        raise kind.error(f"{name}: {e}") from None


def parse_json(data: bytes | bytearray | str, form: Form, place: str = "") -> Any:
    """The value in a JSON text, after its check.

    Args:
        data: the text, or its UTF-8 bytes. The caller limits the length.
        form: what the value should be.
        place: put in front of the places in errors.

    Raises:
        Misfit: it is not JSON, holds more than `MAX_VALUES` values, has a name twice in a table, or does not fit.
    """
    where = f"{place}: " if place else ""
    try:
        text = data if isinstance(data, str) else bytes(data).decode("utf-8-sig")
        if sum(map(text.count, "[{,")) > MAX_VALUES:  # at least as many as there are values
            raise Misfit(f"it holds more than {MAX_VALUES:,} values")
        value = json.loads(text, object_pairs_hook=_table)
    except RecursionError:
        raise Misfit(f"{where}its lists and tables are nested too deeply") from None
    except UnicodeDecodeError:
        raise Misfit(f"{where}it is not JSON, because it is not a text in UTF-8") from None
    except json.JSONDecodeError as e:
        raise Misfit(f"{where}it is not JSON ({e.msg} in line {e.lineno}, column {e.colno}); is it complete?") from None
    except Misfit as e:
        raise Misfit(f"{where}{e}") from None
    except ValueError:  # an integer of more digits than Python converts
        raise Misfit(f"{where}it holds a number of thousands of digits") from None
    return form(value, place)


def read_entries(path: str | os.PathLike, kind: Kind, form: Form, name: str | None = None) -> Iterator[tuple[str, Any]]:
    """The entries of a JSON file that is one large table. Each is read and checked by itself, so little memory is taken.

    Args:
        path: the file.
        kind: what it should be.
        form: what each entry's value should be.
        name: the file's name in errors; None takes the path.

    Yields:
        The entry's name in the table, and its value after the check.

    Raises:
        kind.error: as for `read_json`; or an entry has more than `MAX_ENTRY` characters, or the table more than
            `MAX_ENTRIES` entries.
    """
    with opened(path, kind, name) as file:
        try:
            yield from _Window(file).entries(form)
        except Misfit as e:
            name = printable(os.fspath(path) if name is None else name, 300)
            raise kind.error(f"{name}: {e}") from None


class _Window:
    """A part of a JSON text, which moves on as the text is read. It holds at least one whole entry, if that is allowed."""

    def __init__(self, file: BufferedIOBase):
        self.file, self.characters = file, codecs.getincrementaldecoder("utf-8-sig")()
        self.decoder = json.JSONDecoder(object_pairs_hook=_table)
        self.ended = False
        self.text, self.at, self.before = "", 0, 0  # ``before``: the characters in front of the window

    def entries(self, form: Form) -> Iterator[tuple[str, Any]]:
        known: set[str] = set()
        self.take("{")
        if self.next() == "}":
            self.take("}")
        else:
            while True:
                key = self.value()
                if not isinstance(key, str):
                    raise Misfit(f"a name in its table is {shown(key)}; expected a text")
                if key in known:
                    raise Misfit(f"it has the name {shown(key)} twice")
                known.add(key)
                if len(known) > MAX_ENTRIES:
                    raise Misfit(f"its table has more than {MAX_ENTRIES:,} entries")
                self.take(":")
                yield key, form(self.value(), inside("", key))
                if self.take(",}") == "}":
                    break
        if self.next():
            raise Misfit(f"it goes on behind the end of its table, at character {self.before + self.at}")

    def next(self) -> str:
        """The next character that is no space; "" at the end. The window is filled before."""
        while True:
            if len(self.text) - self.at < MAX_ENTRY:
                data = self.file.read(MAX_ENTRY)
                try:
                    more = self.characters.decode(data, final=not data)
                except UnicodeDecodeError:
                    raise Misfit("it is not JSON, because it is not a text in UTF-8") from None
                self.ended = not data
                self.before += self.at
                self.text, self.at = self.text[self.at :] + more, 0
            space = _SPACE.match(self.text, self.at)
            assert space is not None  # it matches no characters, too
            self.at = space.end()
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]

    def take(self, characters: str) -> str:
        found = self.next()
        if not found or found not in characters:
            expected = " or ".join(f'"{c}"' for c in characters)
            raise Misfit(f"it is not JSON (expected {expected} at character {self.before + self.at}); is it complete?")
        self.at += 1
        return found

    def value(self) -> Any:
        self.next()
        start = self.at
        try:
            value, self.at = self.decoder.raw_decode(self.text, start)
        except RecursionError:
            raise Misfit("its lists and tables are nested too deeply") from None
        except json.JSONDecodeError as e:
            if e.pos - start > MAX_ENTRY:  # the window may have ended here
                raise Misfit(f"an entry of its table has more than {MAX_ENTRY:,} characters") from None
            raise Misfit(f"it is not JSON ({e.msg} at character {self.before + e.pos}); is it complete?") from None
        except Misfit:
            raise
        except ValueError:  # an integer of more digits than Python converts
            raise Misfit("it holds a number of thousands of digits") from None
        if self.at - start > MAX_ENTRY:
            raise Misfit(f"an entry of its table has more than {MAX_ENTRY:,} characters")
        return value


_SPACE = re.compile(r"[ \t\n\r]*")


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in made if names.count(name) > 1)
        raise Misfit(f"a table has the name {shown(twice)} twice")
    return made


# Forms


def whole(low: int = 0, high: int = 2**53) -> Form:
    """An integer in a range. True and 1.0 are none."""

    def check(value: Any, place: str) -> int:
        if type(value) is not int or not low <= value <= high:
            raise misfit(value, place, f"an integer from {low} to {high}")
        return value

    return check


def number(low: float = -1e300, high: float = 1e300, above: bool = False) -> Form:
    """A finite number in a range, as a float; ``above`` leaves out ``low`` itself. True is none."""

    def check(value: Any, place: str) -> float:
        good = type(value) in (int, float) and low <= value <= high and not (above and value == low)  # nan is not good
        if not good:
            span = f" {'above' if above else 'from'} {low:g} to {high:g}" if (low, high) != (-1e300, 1e300) else ""
            raise misfit(value, place, f"a finite number{span}")
        return float(value)

    return check


def flag(value: Any, place: str) -> bool:
    """A form: true or false."""
    if not isinstance(value, bool):
        raise misfit(value, place, "true or false")
    return value


def text(*words: str, limit: int = 4096, empty: bool = False) -> Form:
    """A text of at most ``limit`` characters that may be a file's name; ``words`` are the only ones, if there are any."""

    def check(value: Any, place: str) -> str:
        if words and value not in words:
            raise misfit(value, place, f"one of {', '.join(words)}" if len(words) > 1 else f"{words[0]!r}")
        if not isinstance(value, str) or len(value) > limit or not (value or empty) or not _is_name(value):
            raise misfit(value, place, f"a text of {0 if empty else 1} to {limit} characters")
        return value

    return check


def _is_name(value: str) -> bool:
    """True if the operating system accepts the text in a file's name. JSON can hold half characters and zero bytes."""
    try:
        return b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        return False


def items(form: Form, least: int = 0, most: int = 10**6) -> Form:
    """A list of ``least`` to ``most`` values of one form."""

    def check(value: Any, place: str) -> list[Any]:
        if not isinstance(value, (list, tuple)) or not least <= len(value) <= most:
            raise misfit(value, place, f"a list of {least} to {most} values" if least != most else f"{least} values")
        return [form(item, f"{place}[{i}]") for i, item in enumerate(value)]

    return check


def named(form: Form, most: int = 10**6) -> Form:
    """A table of at most ``most`` values of one form, under any names."""

    def check(value: Any, place: str) -> dict[str, Any]:
        if not isinstance(value, dict) or len(value) > most:
            raise misfit(value, place, f"a table of at most {most} values")
        return {key: form(item, inside(place, key)) for key, item in value.items()}

    return check


def table(required: Mapping[str, Form], optional: Mapping[str, Form] | None = None, more: Form | None = None) -> Form:
    """A table of named values.

    Args:
        required: the form of each value that must be there.
        optional: the form of each value that may be missing.
        more: the form of values under other names; None refuses them.

    Returns:
        A form. Its result has the values in the order of the file; what is missing stays missing.
    """
    forms = {**required, **(optional or {})}

    def check(value: Any, place: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise misfit(value, place, "a table")
        for name in required:
            if name not in value:
                raise Misfit(f"{inside(place, name)} is missing")
        others = [name for name in value if name not in forms]
        if others and more is None:
            known = printable(", ".join(map(str, forms)), 200)
            raise Misfit(f"{inside(place, others[0])} is unknown; expected {known or 'none'}")
        return {name: (forms.get(name) or more or unchecked)(item, inside(place, name)) for name, item in value.items()}

    return check


def maybe(form: Form) -> Form:
    """A value of a form, or null."""
    return lambda value, place: None if value is None else form(value, place)


def unchecked(value: Any, place: str) -> Any:
    """A form: any value at all, which is not looked at."""
    return value


def anything(value: Any, place: str, depth: int = 0) -> Any:
    """A form: any plain value whose numbers are finite and which is nested at most `MAX_DEPTH` deep."""
    if depth > MAX_DEPTH:
        raise Misfit(f"{printable(place, 200)} is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        return {key: anything(item, inside(place, key), depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [anything(item, f"{place}[{i}]", depth + 1) for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise misfit(value, place, "a finite number")
    if value is not None and not isinstance(value, (bool, int, float, str)):
        raise misfit(value, place, "a plain value")
    return value


# For forms of other files


def misfit(value: Any, place: str, expected: str) -> Misfit:
    """The error that a form raises: the value at this place is not what was expected."""
    return Misfit(f"{printable(place, 200) or 'the whole'} is {shown(value)}; expected {expected}")


def inside(place: str, key: object) -> str:
    """The place of an entry of a table."""
    return f"{place}.{printable(str(key), 60)}" if place else printable(str(key), 60)


def shown(value: Any) -> str:
    """A value for an error. Of a list or table only the length is said, because writing it out could take very long."""
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"a table of {len(value)}"
    if isinstance(value, int) and abs(value) >= 10**30:
        return "a number of more than 30 digits"
    if value is None or isinstance(value, (bool, int, float)):
        return json.dumps(value)
    if isinstance(value, str):
        return f'"{printable(value, 60)}"'
    return f"a {type(value).__name__}"
