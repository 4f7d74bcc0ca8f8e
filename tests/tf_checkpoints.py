"""A writer of TensorFlow's checkpoints, from the description of their format, for tests of the reader.

It writes what TensorFlow writes: a sorted table with restart points and shared beginnings of keys, checksums, and one file of
data. The checksum is computed bit by bit.
"""

import struct

import numpy as np

TYPES = {"f4": 1, "f8": 2, "i4": 3, "i8": 9, "f2": 19}


def crc(data):
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


def masked(data):
    value = crc(data)
    return ((value >> 15 | value << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32


def varint(value):
    out = bytearray()
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes(out) + bytes([value])


def field(number, value):
    """A field of a message: a number, or bytes."""
    if isinstance(value, bytes):
        return varint(number * 8 + 2) + varint(len(value)) + value
    return varint(number * 8) + varint(value)


def block(pairs, every=16):
    body, restarts, last = b"", [], b""
    for i, (key, value) in enumerate(pairs):
        shared = 0
        if i % every == 0:
            restarts.append(len(body))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        body += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    return body + struct.pack(f"<{len(restarts) + 1}I", *(restarts or []), len(restarts))


def write(prefix, variables, per_block=7, changed=None):
    """Write prefix.index and prefix.data-00000-of-00001.

    Args:
        prefix: the path without the endings.
        variables: arrays by name.
        per_block: the variables in a block of the table.
        changed: called with the name and the entry's fields (a dict from number to value) of each variable, to damage it.
    """
    data, entries = b"", {b"": field(1, 1) + field(3, field(1, 1))}
    for name in sorted(variables):
        array = np.asarray(variables[name])
        raw = array.astype(array.dtype.newbyteorder("<")).tobytes()
        shape = b"".join(field(2, field(1, size)) for size in array.shape)
        fields = {1: TYPES[array.dtype.str[1:]], 2: shape, 4: len(data), 5: len(raw)}
        if changed is not None:
            changed(name, fields)
        entry = b"".join(field(n, v) for n, v in fields.items() if v or isinstance(v, bytes))
        entries[name.encode()] = entry + varint(6 * 8 + 5) + struct.pack("<I", masked(raw))
        data += raw
    pairs, index, file = sorted(entries.items()), [], b""
    chunks = [pairs[i : i + per_block] for i in range(0, len(pairs), per_block)]

    def add(body):
        nonlocal file
        place = varint(len(file)) + varint(len(body))
        file += body + b"\0" + struct.pack("<I", masked(body + b"\0"))
        return place

    for chunk in chunks:
        index.append((chunk[-1][0], add(block(chunk))))
    places = add(block([])) + add(block(index, every=1))
    file += places.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    prefix.with_name(prefix.name + ".index").write_bytes(file)
    prefix.with_name(prefix.name + ".data-00000-of-00001").write_bytes(data)
    return file, data
