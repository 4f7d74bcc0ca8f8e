"""Damaged copies of a file: of its bytes, and of its structure where the file is a zip, JSON, pickle, array or safetensors.

`mutated` looks at the first bytes and chooses. A damaged entry of a zip gets its right checksum, and a damaged header of
a safetensors file its right length, so that what lies behind the first check is reached, too.
"""

import io
import json
import pickletools
import random
import struct
import zipfile

WHOLE = [0, -1, 1, 2, 3, 255, 2**16, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63), 10**30]
VALUES = [*WHOLE, True, False, None, "", "x", "../../x", "\x1b[31m\n", "a" * 5000, "\ud800", 0.5, -0.0, 1e308, 1e-320, [],
          {}, [[]], [1, "x"], {"x": 1}, float("nan"), float("inf")]  # fmt: skip
DEEP = [b"[" * 100_000, b'{"a":' * 50_000, b"[" * 900 + b"]" * 900, b"1" * 6000, b"1e400", b"-1e400", b"NaN"]
NUMBERS = [b"\xff" * 4, b"\0\0\0\x80", b"\xff\xff\xff\x7f", b"\0" * 4, b"\0\0\0\1"]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A damaged copy."""
    if rng.random() < 0.35 or len(data) < 9:
        return of_bytes(data, rng)
    kind = next((change for recognises, change in STRUCTURES if recognises(data)), of_bytes)
    try:
        return kind(data, rng)
    except Exception:  # a copy that was damaged before, which its own library cannot take apart
        return of_bytes(data, rng)


def of_bytes(data: bytes, rng: random.Random) -> bytes:
    """Truncated, bits turned, bytes exchanged, parts repeated, left out, or numbers put in."""
    out = bytearray(data)
    if len(out) < 9:
        return bytes(out) + rng.randbytes(rng.randrange(1, 30))
    kind, at = rng.randrange(7), rng.randrange(len(out))
    if kind == 0:
        del out[at:]
    elif kind == 1:
        for _ in range(rng.choice([1, 1, 2, 8])):
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    elif kind == 2:  # headers rather than numbers: near the front
        out[rng.randrange(min(6000, len(out)))] = rng.randrange(256)
    elif kind == 3:
        start, n = rng.randrange(len(out)), rng.randrange(1, 2000)
        out[at : at + n] = data[start : start + n]
    elif kind == 4:
        del out[at : at + rng.randrange(1, 50)]
    elif kind == 5:
        at = rng.randrange(len(out) - 8)
        out[at : at + 4] = rng.choice(NUMBERS)
    else:
        at = rng.randrange(max(1, len(out) - 200), len(out))  # the end, where zips have their directory
        out[at] = rng.randrange(256)
    return bytes(out)


def of_zip(data: bytes, rng: random.Random) -> bytes:
    """An entry damaged, renamed, repeated, left out, added, or compressed in another way."""
    with zipfile.ZipFile(io.BytesIO(data)) as z:
        entries = [(info.filename, z.read(info)) for info in z.infolist()]
    i = rng.randrange(len(entries))
    name, content = entries[i]
    kind = rng.randrange(10)
    if kind <= 5:
        entries[i] = (name, mutated(content, rng))
    elif kind == 6:
        entries[i] = (rng.choice(["../" + name, "/" + name, name + "\n", name[:-1], "x" * 300, name.upper()]), content)
    elif kind == 7:
        entries.insert(rng.randrange(len(entries) + 1), rng.choice(entries))
    elif kind == 8:
        del entries[i]
    else:
        entries.append(
            (rng.choice(["x", "dataset.json", "w.npy", "99.png"]), rng.choice([b"", content, b"\0" * 100_000]))
        )
    methods = [zipfile.ZIP_STORED] * 3 + [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", rng.choice(methods)) as z:
        for name, content in entries:
            z.writestr(zipfile.ZipInfo(name), content, z.compression)
    return out.getvalue()


def of_json(data: bytes, rng: random.Random) -> bytes:
    """A value exchanged, a key renamed, left out or repeated, or something too deep or too long put in."""
    root = json.loads(data)
    places: list = []

    def walk(value) -> None:
        for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
            places.append((value, key))
            walk(value[key])

    walk(root)
    if not places:
        return json.dumps(rng.choice(VALUES)).encode()
    parent, key = rng.choice(places)
    kind = rng.randrange(6)
    if kind <= 2:
        parent[key] = rng.choice(VALUES)
    elif kind == 3 and isinstance(parent, dict):
        parent[rng.choice(["x", "", "__class__", key + "x"])] = parent.pop(key)
    elif kind == 4:
        del parent[key]
    else:
        parent[key] = "PLACE"
        return json.dumps(root).encode().replace(b'"PLACE"', rng.choice(DEEP), 1)
    return json.dumps(root).encode()


def of_lines(data: bytes, rng: random.Random) -> bytes:
    """`of_json` for one line of a file of lines."""
    lines = data.split(b"\n")
    i = rng.randrange(len(lines))
    lines[i] = mutated(lines[i], rng)
    return b"\n".join(lines)


def of_safetensors(data: bytes, rng: random.Random) -> bytes:
    """`of_json` for the header, whose length is right again, or sometimes not."""
    (n,) = struct.unpack("<Q", data[:8])
    header, body = data[8 : 8 + n], data[8 + n :]
    if rng.random() < 0.3:
        header = of_bytes(header, rng)
    else:
        header = of_json(header, rng)
        try:
            root = json.loads(header)
        except (ValueError, RecursionError):  # what was put in is too long or too deep
            root = {}
        about = root.get("__metadata__") if isinstance(root, dict) else None
        about = about if isinstance(about, dict) else {}
        texts = [k for k, v in about.items() if isinstance(v, str) and v[:1] in ("{", "[")]
        if texts and rng.random() < 0.7:  # our own description of the networks lies in it as a text
            name = rng.choice(texts)
            about[name] = of_json(about[name].encode(), rng).decode("utf-8", "replace")
            header = json.dumps(root).encode()
    length = len(header) if rng.random() < 0.95 else rng.choice([abs(w) for w in WHOLE if abs(w) < 2**64])
    return struct.pack("<Q", length) + header + body


def of_array(data: bytes, rng: random.Random) -> bytes:
    """The header of an .npy array exchanged."""
    n = struct.unpack("<H", data[8:10])[0]
    header, body = data[10 : 10 + n].decode("latin1"), data[10 + n :]
    shapes = ["()", "(1,)", "(0, 5)", "(-1, 5)", "(10**9, 5)", f"({10**30},)", f"({2**40}, 3)", "(True, 3)", "(1.0,)", "x",
              "(" * 200 + ")" * 200, "(1, " * 40 + ")" * 40, "--------1"]  # fmt: skip
    types = [
        "'<f8'",
        "'|O'",
        "'<U9'",
        "'>f4'",
        "'<f2'",
        "'|b1'",
        "[('a', '<f4')]",
        "'<M8[s]'",
        "'|V4'",
        "'x'",
        "5",
        "'<c16'",
    ]
    texts = [
        f"{{'descr': {rng.choice(types)}, 'fortran_order': {rng.choice(['True', 'False', '1'])}, 'shape': (1, 4), }}",
        f"{{'descr': '<f4', 'fortran_order': False, 'shape': {rng.choice(shapes)}, }}",
        rng.choice(
            ["", "{", "(", "[1, 2]", "{[]: 1}", "'''", "\\", "{'descr': '<f4'}", "__import__('os').system('x')"]
        ),
        of_bytes(header.encode("latin1"), rng).decode("latin1"),
    ]
    text = rng.choice(texts).encode("latin1")[:60_000]
    return (
        data[:6]
        + rng.choice([b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\xff\0"])
        + struct.pack("<H", len(text))
        + text
        + body
    )


def of_pickle(data: bytes, rng: random.Random) -> bytes:
    """An opcode left out, repeated, exchanged for another, or with another argument."""
    ops = []
    for op, argument, at in pickletools.genops(data):
        ops.append((op, argument, at))
        if len(ops) > 20_000:
            break
    i = rng.randrange(len(ops) - 1)
    _, argument, start = ops[i]
    end = ops[i + 1][2]
    kind = rng.randrange(5)
    if kind == 0:
        return data[:start] + data[end:]
    if kind == 1:
        return data[:end] + data[start:end] * rng.choice([1, 2, 100]) + data[end:]
    if kind == 2:
        j = rng.randrange(len(ops) - 1)
        return data[:start] + data[ops[j][2] : ops[j + 1][2]] + data[end:]
    if kind == 3:
        new = rng.choice([b"N", b"K\0", b"K\xff", b"J\xff\xff\xff\x7f", b"J\xff\xff\xff\xff", b"\x88", b"]", b"}", b")", b"(",
                          b"\x8a\x08" + b"\xff" * 7 + b"\x7f", b"\x8c\x01x", b"G" + struct.pack(">d", float("nan")), b"t", b"R",
                          b"b", b"h\0", b"cos\nsystem\n", b"\x8f", b"u", b"s", b"."])  # fmt: skip
        return data[:start] + new + data[end:]
    names = [j for j, (_, value, _) in enumerate(ops[:-1]) if isinstance(value, str) and value]
    if names and isinstance(argument, int | str | None):
        j = rng.choice(names)
        raw = bytearray(data)
        at = rng.randrange(ops[j][2], ops[j + 1][2])
        raw[at] = rng.choice(b"\0\xffaz0_.")
        return bytes(raw)
    return of_bytes(data, rng)


STRUCTURES = [
    (lambda d: d[:2] == b"PK", of_zip),
    (lambda d: d[:6] == b"\x93NUMPY", of_array),
    (lambda d: d[:1] == b"\x80", of_pickle),
    (lambda d: len(d) > 9 and d[8:9] == b"{" and int.from_bytes(d[:8], "little") < len(d), of_safetensors),
    (lambda d: d[:1] in b"{[" and b"}\n{" in d, of_lines),
    (lambda d: d[:1] in b"{[", of_json),
]
"""How a structure is recognised by its first bytes, and how it is damaged."""
