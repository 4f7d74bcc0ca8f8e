"""Files of sounds: WAV read and written, FLAC and OGG read by the package soundfile, other sample rates resampled.

A WAV is read here, chunk by chunk, because only the part that is needed is turned into numbers. scipy's filter changes
the sample rate.
"""

import io
import math
import os
import re
import struct
import wave
from typing import Any, NamedTuple

import numpy as np

from ..errors import SoundFileError, printable
from ..files.door import Kind, read_bytes, shown
from ..files.writing import atomic

SOUND = Kind("a sound", 2**28, SoundFileError)
WAV_SUFFIXES, OTHER_SUFFIXES = (".wav", ".wave"), (".flac", ".ogg", ".oga")
SUFFIXES = frozenset(WAV_SUFFIXES + OTHER_SUFFIXES)
FULL = 32767  # the 16-bit number that stands for 1
RATES = (1000, 192_000)  # samples per second that are read
MAX_CHANNELS = 256
REACH = 32  # the resampling filter reaches so many samples of the lower rate to each side
ENDLESS = 0xFFFFFFFF  # the size that programs write who do not know it
INTEGERS, FLOATS, EXTENSIBLE = 1, 3, 0xFFFE  # kinds of samples in a WAV
NO_SOUNDFILE = (
    "WAV is read without further packages, FLAC and OGG by the package soundfile; pip install 'stylegan-invert[audio]'"
)


class Recording(NamedTuple):
    """The part of a file that is needed.

    Attributes:
        samples: (T, channels) float32, full scale is 1.
        rate: samples per second.
        about: the record of the file: its format, channels, rate and length in seconds.
    """

    samples: np.ndarray
    rate: int
    about: dict[str, Any]


def read_sound(
    source: str | os.PathLike | bytes | bytearray, start: float, seconds: float, name: str | None = None
) -> Recording:
    """Read a part of a file.

    Args:
        source: the path of a file, or its bytes.
        start: where the part begins, in seconds.
        seconds: how long it is; the part has a little more, for the filter, unless the file ends before.
        name: the name in errors; None takes the path.

    Raises:
        SoundFileError: it cannot be read, is no sound, or has no samples there.
    """
    if isinstance(source, (bytes, bytearray)):
        data, name = source, name or "a sound"
    else:
        data, name = read_bytes(source, SOUND, name), shown(source, name)
    found = (
        _of_wav(data, name, start, seconds) if data[:4] in (b"RIFF", b"RIFX") else _of_other(data, name, start, seconds)
    )
    if not np.isfinite(found.samples).all():
        raise SoundFileError(f"{name}: it holds samples that are not finite; expected numbers from -1 to 1")
    return found


def _part(frames: int, rate: int, start: float, seconds: float, name: str) -> tuple[int, int]:
    """The first frame of a part and the one behind its last, of so many in the file."""
    if not RATES[0] <= rate <= RATES[1]:
        raise SoundFileError(f"{name}: it has {rate:,} samples per second; expected {RATES[0]:,} to {RATES[1]:,}")
    if frames == 0:
        raise SoundFileError(f"{name}: there are no samples in it; expected a sound")
    first = round(start * rate)
    if first >= frames:
        raise SoundFileError(
            f"{name}: it has {frames / rate:.3g} seconds, and the part was to begin at {start:g}; give a smaller --offset"
        )
    return first, min(frames, first + math.ceil(seconds * rate) + REACH * math.ceil(rate / RATES[0]) + 1)


def _of_wav(data: bytes | bytearray, name: str, start: float, seconds: float) -> Recording:
    view = memoryview(data)
    if bytes(view[:4]) != b"RIFF" or bytes(view[8:12]) != b"WAVE":
        raise SoundFileError(
            f"{name}: it begins like a RIFF file and is no WAV with its lowest bytes first; save it as WAV"
        )
    form, body, claimed, at = None, None, 0, 12
    while body is None and at + 8 <= len(view):
        tag, size = bytes(view[at : at + 4]), int.from_bytes(view[at + 4 : at + 8], "little")
        if tag == b"fmt ":
            form = bytes(view[at + 8 : at + 8 + min(size, 64)])
        elif tag == b"data":
            body, claimed = view[at + 8 : at + 8 + size], size
        at += 8 + size + size % 2
    if form is None or len(form) < 16 or body is None:
        what = "the description of its samples" if form is None or len(form) < 16 else "samples"
        raise SoundFileError(f"{name}: it is a WAV without {what}, or ends before them; it is damaged")
    code, channels, rate, _, block, bits = struct.unpack("<HHIIHH", form[:16])
    code = int.from_bytes(form[24:26], "little") if code == EXTENSIBLE and len(form) >= 26 else code
    if (code, bits) not in _DECODERS or not 1 <= channels <= MAX_CHANNELS or block != channels * bits // 8:
        raise SoundFileError(
            f"{name}: its samples are of kind {code} with {bits} bits, {channels} channels and {block} bytes together; expected "
            "integers of 8, 16, 24 or 32 bits or floats of 32 or 64 bits, which every sound editor can save"
        )
    frames = len(body) // block
    first, last = _part(frames, rate, start, seconds, name)
    kind = f"{bits}-bit {'integers' if code == INTEGERS else 'floats'}"
    about = {"format": f"WAV, {kind}", "channels": channels, "sample_rate": rate, "seconds": round(frames / rate, 4)}
    if len(body) < claimed != ENDLESS:
        about["truncated"] = f"the file ends after {frames} of {claimed // block} samples"
    samples = _DECODERS[code, bits](body[first * block : last * block])
    return Recording(samples.reshape(-1, channels).astype(np.float32), rate, about)


def _of_24_bits(body: memoryview) -> np.ndarray:
    three = np.frombuffer(body, np.uint8).reshape(-1, 3)
    padded = np.pad(three, [(0, 0), (1, 0)])  # the lowest byte of 32 bits is 0
    return np.ascontiguousarray(padded).view("<i4")[:, 0] / (2**31 - 256)


_DECODERS = {
    (INTEGERS, 8): lambda body: (np.frombuffer(body, np.uint8) - 128.0) / 127,
    (INTEGERS, 16): lambda body: np.frombuffer(body, "<i2") / FULL,
    (INTEGERS, 24): _of_24_bits,
    (INTEGERS, 32): lambda body: np.frombuffer(body, "<i4") / (2.0**31 - 1),
    (FLOATS, 32): lambda body: np.frombuffer(body, "<f4"),
    (FLOATS, 64): lambda body: np.clip(np.frombuffer(body, "<f8"), -1e30, 1e30),
}
"""From the kind and the bits of samples to the function that turns their bytes into numbers; the largest integer is 1."""


def _of_other(data: bytes | bytearray, name: str, start: float, seconds: float) -> Recording:
    """A FLAC or OGG, by soundfile."""
    if data[:4] not in (b"fLaC", b"OggS"):
        raise SoundFileError(f"{name}: it is no sound that is read here; expected WAV, FLAC or OGG")
    try:
        import soundfile
    except (ImportError, OSError):  # OSError: its library is missing
        raise SoundFileError(f"{name}: {NO_SOUNDFILE}") from None
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if not 1 <= file.channels <= MAX_CHANNELS:
                raise SoundFileError(f"{name}: it has {file.channels} channels; expected 1 to {MAX_CHANNELS}")
            first, last = _part(file.frames, file.samplerate, start, seconds, name)
            file.seek(first)
            samples = file.read(last - first, dtype="float32", always_2d=True)
            about = {"format": file.format, "channels": file.channels, "sample_rate": file.samplerate}
            return Recording(samples, file.samplerate, {**about, "seconds": round(file.frames / file.samplerate, 4)})
    except (soundfile.SoundFileError, RuntimeError, OverflowError, MemoryError) as e:
        raise SoundFileError(
            f"{name}: it cannot be decoded ({printable(getattr(e, 'error_string', str(e)), 100)})"
        ) from None


def resampled(samples: np.ndarray, rate: int, to: int) -> np.ndarray:
    """Samples (T, channels) at another number per second, by a linear-phase low-pass filter.

    The filter is a sinc in a Kaiser window (beta 9) that reaches 32 samples of the lower rate to each side. It keeps
    frequencies up to 0.82 of half the lower rate, and what lies above that half is weakened by 80 dB or more.
    """
    if rate == to:
        return samples
    from scipy.signal import firwin, resample_poly

    up, down = to // math.gcd(rate, to), rate // math.gcd(rate, to)
    larger = max(up, down)
    taps = firwin(2 * REACH * larger + 1, 0.91 / larger, window=("kaiser", 9.0))
    return resample_poly(samples.astype(np.float64), up, down, axis=0, window=taps).astype(np.float32)


def write_wav(path: str | os.PathLike, samples: np.ndarray, rate: int) -> None:
    """Write samples (C, T) int16 as a WAV with 16 bits. A failure leaves no half-written file."""
    with atomic(path) as temporary, wave.open(str(temporary), "wb") as file:
        file.setparams((len(samples), 2, rate, 0, "NONE", "not compressed"))
        file.writeframes(np.ascontiguousarray(samples.T).astype("<i2").tobytes())


def wav_bytes(samples: np.ndarray, rate: int) -> bytes:
    """The file of `write_wav`, in memory."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setparams((len(samples), 2, rate, 0, "NONE", "not compressed"))
        file.writeframes(np.ascontiguousarray(samples.T).astype("<i2").tobytes())
    return stream.getvalue()


def read_wav(path: str | os.PathLike) -> np.ndarray:
    """The samples (C, T) int16 of a file of `write_wav`.

    Raises:
        SoundFileError: it is damaged, or another kind of file.
    """
    found = read_sound(path, 0, 1e9)
    if not re.fullmatch("WAV, 16-bit integers", found.about["format"]) or "truncated" in found.about:
        raise SoundFileError(f"{shown(path)}: it is {found.about['format']}; expected a whole WAV with 16-bit integers")
    return np.rint(found.samples.T * FULL).astype(np.int16)
