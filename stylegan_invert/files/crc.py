"""CRC-32C, the checksum in files of TensorFlow (Castagnoli's polynomial; RFC 3720, appendix B.4)."""

import math

import numpy as np

POLYNOMIAL = 0x82F63B78  # with the lowest bit first
FEW = 2048  # bytes up to which lanes do not pay


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _table()


def crc32c(data: bytes | bytearray | memoryview) -> int:
    """The checksum of bytes.

    Long data is cut into lanes of one length, which NumPy takes together, a byte of each at a time. The remainder of each
    lane is then moved over the lanes behind it, which is a linear map of its 32 bits.
    """
    view = memoryview(data).cast("B")
    length = math.isqrt(len(view)) if len(view) > FEW else 0
    lanes = len(view) // length if length else 0
    state = 0xFFFFFFFF
    if lanes:
        table = np.array(_TABLE, np.uint32)
        columns = np.ascontiguousarray(np.frombuffer(view[: lanes * length], np.uint8).reshape(lanes, length).T)
        remainders = np.zeros(lanes, np.uint32)
        for column in columns:
            remainders = table[(remainders ^ column) & 0xFF] ^ (remainders >> 8)
        moved = _moved(length)
        for remainder in remainders.tolist():
            state = _applied(moved, state) ^ remainder
    for byte in view[lanes * length :]:
        state = _TABLE[(state ^ byte) & 0xFF] ^ (state >> 8)
    return state ^ 0xFFFFFFFF


def masked_crc32c(data: bytes | bytearray | memoryview) -> int:
    """The checksum as TensorFlow stores it: turned by 15 bits, and a constant added."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _moved(count: int) -> list[int]:
    """What ``count`` bytes of zero make of each of the 32 bits of a remainder."""
    one = [_TABLE[bit & 0xFF] ^ (bit >> 8) for bit in (1 << i for i in range(32))]
    result = [1 << i for i in range(32)]
    while count:
        if count & 1:
            result = [_applied(one, column) for column in result]
        one = [_applied(one, column) for column in one]
        count >>= 1
    return result


def _applied(columns: list[int], value: int) -> int:
    """The linear map that makes ``columns`` of the bits, applied to a remainder."""
    result = 0
    while value:
        low = value & -value
        result ^= columns[low.bit_length() - 1]
        value ^= low
    return result
