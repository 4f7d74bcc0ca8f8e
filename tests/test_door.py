"""The door for files from outside: what is no regular file, is too large, lies about its size, or is of another kind."""
# Takes at most 30 CPU seconds.

import io
import itertools
import json
import os
import re
import signal
import socket
import struct
import subprocess
import tracemalloc
import warnings
import zipfile
import zlib
from dataclasses import replace

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import torch

import stylegan_invert as si
from stylegan_invert.errors import StyleganInvertError
from stylegan_invert.files import door
from stylegan_invert.files.arrays import read_npy, read_npz
from stylegan_invert.generator import Prior, adapt
from stylegan_invert.io import codes
from stylegan_invert.media import decoding, labels, pictures, targets
from stylegan_invert.media.landmarks import read_landmarks
from stylegan_invert.media.picture_set import PictureSet
from stylegan_invert.media.pictures import projector_pixels, read_picture
from stylegan_invert.media.targets import find_targets
from stylegan_invert.network_files import sources
from stylegan_invert.network_files.convert import convert
from stylegan_invert.network_files.provenance import provenance_of
from stylegan_invert.projectors import samples

from conftest import make_network


@pytest.fixture(autouse=True)
def at_most_half_a_minute():
    """What would wait for ever, as for the writer of a pipe, fails."""

    def stop(*_):
        raise AssertionError("it takes longer than half a minute")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


READERS = {
    "codes": codes.read_codes,
    "npy": lambda path: read_npy(path, door.PART),
    "picture": lambda path: read_picture(path, 8, 3),
    "stored picture": pictures.read_png,
    "landmarks": read_landmarks,
    "data": PictureSet,
    "network": si.load,
    "name of a network": sources.check,
    "settings": lambda path: door.read_bytes(path, door.SETTINGS),
}


def zeros(path, size):
    """A file of zeros that takes no room on the disk."""
    with open(path, "wb") as f:
        f.truncate(size)
    return path


def npy(header, data=b"", version=1):
    raw = header.encode("latin1") if isinstance(header, str) else header
    return b"\x93NUMPY" + bytes([version, 0]) + len(raw).to_bytes(2 if version == 1 else 4, "little") + raw + data


def archive(path, compression=zipfile.ZIP_DEFLATED, **entries):
    with zipfile.ZipFile(path, "w", compression) as z:
        for name, data in entries.items():
            z.writestr(name, data)
    return path


def lying(path, claimed):
    """Change the sizes that the entries of a zip claim to unpack to."""
    data = bytearray(path.read_bytes())
    for mark, place in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        for found in re.finditer(re.escape(mark), bytes(data)):
            data[found.start() + place : found.start() + place + 4] = struct.pack("<I", claimed)
    path.write_bytes(data)
    return path


def png(width, height, depth=8, colour=2, data=b""):
    """A PNG whose header claims a size."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def encoded(picture, kind, **options):
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def noise(height, width, channels=3):
    return np.random.RandomState(0).randint(256, size=(height, width, channels)).astype(np.uint8)


# What is no regular file, or is too large


@pytest.mark.parametrize("reader", READERS)
def test_only_regular_files_pass(tmp_path, reader):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(tmp_path / "socket"))
        for path in (tmp_path / "pipe", tmp_path / "socket", "/dev/zero"):
            with pytest.raises(StyleganInvertError, match="pipe, a socket or a device|cannot be read|cannot read"):
                READERS[reader](path)
    if reader not in ("data", "name of a network"):
        with pytest.raises(StyleganInvertError, match="it is a directory"):
            READERS[reader](tmp_path)
    for missing in (tmp_path / "none", "a\0b"):
        with pytest.raises(StyleganInvertError):
            READERS[reader](missing)


def test_pipes_in_folders_are_no_pictures(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    (tmp_path / "c.png").write_bytes(encoded(PIL.Image.fromarray(noise(8, 8)), "PNG"))
    assert PictureSet(tmp_path).names == ["c.png"]
    assert [p.name for p in find_targets([str(tmp_path)])] == ["c.png"]


def test_a_size_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(door, "fill", lambda *_: pytest.fail("it was read"))
    for reader, kind in (("codes", door.CODES), ("picture", door.PICTURE), ("network", door.NETWORK)):
        with pytest.raises(StyleganInvertError, match="--max-file-size"):
            READERS[reader](zeros(tmp_path / "large", kind.limit + 1))
    with pytest.raises(si.NetworkFileError, match="not a network file"):  # by its first bytes
        si.load(zeros(tmp_path / "large", door.NETWORK.limit))
    for begins in (b"\x80\x02", b"PK\3\4"):  # by its records
        with open(tmp_path / "large", "r+b") as f:
            f.write(begins)
        with pytest.raises(si.NetworkFileError, match="opcode|zip"):
            si.load(tmp_path / "large")


def test_settings_of_a_folder_are_small(tmp_path):
    zeros(tmp_path / "config.json", 3 * 2**30)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02.")
    with pytest.raises(si.NetworkFileError, match="config.json: .*it has 3,221,225,472 bytes"):
        si.load(tmp_path)


def test_one_option_raises_all_limits(tmp_path, monkeypatch):
    for text, size in (("20G", 20 * 2**30), ("500 MB", 500 * 2**20), ("12", 12), ("1kib", 1024), ("1t", 2**40)):
        assert door.size_of(text) == size
    for text in ("", "x", "-1", "1.5G", "G", "1Z", "9" * 30):
        with pytest.raises(ValueError, match="is no size"):
            door.size_of(text)
    settings = zeros(tmp_path / "settings", door.SETTINGS.limit + 1)
    monkeypatch.setenv(door.LIMIT_VARIABLE, "2M")
    assert len(door.read_bytes(settings, door.SETTINGS)) == door.SETTINGS.limit + 1
    monkeypatch.setenv(door.LIMIT_VARIABLE, "much")
    with pytest.raises(ValueError, match="MAX_FILE_SIZE"):
        door.opened(settings, door.SETTINGS)
    monkeypatch.delenv(door.LIMIT_VARIABLE)
    door.raise_limits(2**21)
    try:
        door.opened(settings, door.SETTINGS).close()
    finally:
        door.raise_limits(0)
    with pytest.raises(StyleganInvertError, match="it has 1,048,577 bytes"):
        door.opened(settings, door.SETTINGS)


def test_a_damaged_cache_of_samples_counts_as_none(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text").write_text("x")
    for path in (tmp_path / "pipe", tmp_path / "text", zeros(tmp_path / "large", 2**27), tmp_path, tmp_path / "none"):
        assert samples._read(path, (1,), (1,)) is None


# Arrays


def test_arrays_are_read_as_numpy_reads_them(tmp_path):
    for dtype, shape in itertools.product(
        ("<f4", ">f4", "f8", "f2", "u1", ">i8", "?", "<U5", ">U3"), ((), (0,), (3,), (2, 0, 3), (2, 3, 4))
    ):
        array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
        for a in (array, np.asfortranarray(array), array.T):
            for save in (np.savez, np.savez_compressed):
                save(tmp_path / "a.npz", w=a, b=a)
                got = read_npz(tmp_path / "a.npz", door.PART)
                assert list(got) == ["w", "b"] and got["w"].dtype.isnative
                assert np.array_equal(got["w"], a) and got["w"].dtype == a.dtype.newbyteorder("=")
        np.save(tmp_path / "a.npy", array)
        assert np.array_equal(read_npy(tmp_path / "a.npy", door.PART), array)
    (tmp_path / "old.npy").write_bytes(
        npy('{"descr": "<f4", \'shape\': (2L, 1L), "fortran_order": False}\n', bytes(8), 2)
    )
    assert read_npy(tmp_path / "old.npy", door.PART).shape == (2, 1)  # of Python 2


HEADER = "{'descr': '%s', 'fortran_order': False, 'shape': %s, }"
BAD_ARRAYS = {
    "objects": npy(HEADER % ("|O", "(1,)"), bytes(8)),
    "a pickle": b"\x80\x04.",
    "text": b"hello, this is no array",
    "nothing": b"",
    "only the mark": b"\x93NUMPY",
    "huge shape": npy(HEADER % ("<f4", f"({10**30},)"), bytes(4)),
    "large shape": npy(HEADER % ("<f4", f"({2**40},)"), bytes(4)),
    "many large axes": npy(HEADER % ("<f4", "(" + "99999999," * 9 + ")"), bytes(4)),
    "zero times huge": npy(HEADER % ("<f4", "(0, 999999999999999, 999999999999999)")),
    "many axes": npy(HEADER % ("<f4", "(" + "1," * 99 + ")"), bytes(4)),
    "negative": npy(HEADER % ("<f4", "(-1,)"), bytes(4)),
    "signs": npy(HEADER % ("<f4", "(" + "-" * 3000 + "1,)"), bytes(4)),
    "bool in shape": npy(HEADER % ("<f4", "(True,)"), bytes(4)),
    "unhashable key": npy("{[]: 1, 'descr': '<f4'}", bytes(4)),
    "unterminated": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,", bytes(4)),
    "triple quote": npy("'''", bytes(4)),
    "indented": npy("  {\n   'descr':\n'<f4'", bytes(4)),
    "calls": npy("{'descr': __import__('os').system('x'), 'fortran_order': False, 'shape': (1,)}", bytes(4)),
    "fields": npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", bytes(4)),
    "twice": npy(HEADER % ("<f4", "(1,)") + HEADER % ("<f4", "(1,)"), bytes(4)),
    "deep": npy("(" * 4000, bytes(4)),
    "long header": npy(" " * 60000, bytes(4)),
    "void": npy(HEADER % ("|V4", "(1,)"), bytes(4)),
    "large items": npy(HEADER % ("<U999999", "(1,)"), bytes(4)),
    "complex": npy(HEADER % ("<c8", "(1, 1)"), bytes(8)),
    "dates": npy(HEADER % ("<M8", "(1, 1)"), bytes(8)),
    "no data": npy(HEADER % ("<f4", "(1, 2)")),
    "too much data": npy(HEADER % ("<f4", "(1, 1)"), bytes(5)),
    "version 9": npy(HEADER % ("<f4", "(1, 1)"), bytes(4), 9),
    "cut header": npy(HEADER % ("<f4", "(1, 1)"))[:40],
    "a text for numbers": npy(HEADER % ("<U1", "(1, 1)"), b"a\0\0\0"),
    "integers": npy(HEADER % ("<i4", "(1, 1)"), bytes(4)),
    "one axis": npy(HEADER % ("<f4", "(1,)"), bytes(4)),
    "nan": npy(HEADER % ("<f4", "(1, 1)"), struct.pack("<f", float("nan"))),
    "too large for float32": npy(HEADER % ("<f8", "(1, 1)"), struct.pack("<d", 1e300)),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_a_bad_array_is_refused_in_a_sentence(tmp_path, case):
    archive(tmp_path / "a.npz", **{"w.npy": BAD_ARRAYS[case]})
    with pytest.raises(si.CodeFileError, match=r"a\.npz") as e:
        codes.read_codes(tmp_path / "a.npz")
    assert len(str(e.value)) < 500 + len(str(tmp_path)) and str(e.value).isprintable()


def test_bad_texts_in_codes_are_refused(tmp_path):
    w = np.zeros([1, 1, 2], np.float32)
    bad = HEADER % ("<U1", "()")
    for key, value in {
        "layer": npy(bad, b"\xff\xff\xff\xff"),
        "network": npy(bad, b"x\0\0\0"),
    }.items():
        arrays = {"w.npy": _npy_of(w), "h.npy": _npy_of(w), f"{key}.npy": value}
        with pytest.raises(si.CodeFileError, match=f"{key}|network"):
            codes.read_codes(archive(tmp_path / "a.npz", **arrays))


def _npy_of(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_damaged_and_unusual_zips_of_codes_are_refused(tmp_path):
    good = _npy_of(np.zeros([1, 2, 64], np.float32))
    for method in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        with pytest.raises(si.CodeFileError, match="compression"):
            codes.read_codes(archive(tmp_path / "a.npz", method, **{"w.npy": good}))
    whole = archive(tmp_path / "a.npz", **{"w.npy": good}).read_bytes()
    start = whole.index(b"PK\1\2") + 8  # the flag of encryption
    (tmp_path / "e.npz").write_bytes(whole[:start] + b"\1" + whole[start + 1 :])
    with pytest.raises(si.CodeFileError, match="encrypted"):
        codes.read_codes(tmp_path / "e.npz")
    for claimed in (1, len(good) - 1, len(good) + 1, 2**31, 2**27):
        with pytest.raises(si.CodeFileError):
            codes.read_codes(lying(archive(tmp_path / "a.npz", **{"w.npy": good}), claimed))
    random = np.random.RandomState(0)
    for _ in range(300):
        data = bytearray(whole)
        for place in random.randint(len(data), size=random.randint(1, 4)):
            data[place] = random.randint(256)
        (tmp_path / "m.npz").write_bytes(data[: random.randint(len(data)) if random.rand() < 0.2 else None])
        try:
            codes.read_codes(tmp_path / "m.npz")
        except si.CodeFileError as e:
            assert "m.npz" in str(e)


def test_unpacking_codes_takes_bounded_memory(tmp_path):
    tracemalloc.start()
    try:
        bomb = npy(HEADER % ("<f4", f"({2**20}, 1, 80)")) + bytes(80 * 2**22)  # 320 MiB
        archive(tmp_path / "bomb.npz", **{"w.npy": bomb})
        del bomb
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[1]
        with pytest.raises(si.CodeFileError, match="it has 335,544,"):
            codes.read_codes(tmp_path / "bomb.npz")
        lying(tmp_path / "bomb.npz", 4096)
        with pytest.raises(si.CodeFileError):
            codes.read_codes(tmp_path / "bomb.npz")
        assert tracemalloc.get_traced_memory()[1] - before < 2**24
    finally:
        tracemalloc.stop()


# Codes and networks


def test_codes_say_of_which_network_they_are(tmp_path, cats):
    G, other = adapt(make_network(8).G), adapt(make_network(8, channel_max=8).G)
    other.network.mapping.fc0.weight.data.mul_(1.01)
    codes.write_code(tmp_path, G.center("w+"), G)
    code = codes.read_codes(tmp_path / "projected_w.npz")
    codes.check_codes(code, G, "it")
    with pytest.raises(si.CodeFileError, match="another network.*--foreign-codes"):
        codes.check_codes(code, other, "it")
    codes.allow_foreign(True)
    try:
        codes.check_codes(code, other, "it")
    finally:
        codes.allow_foreign(False)
    np.savez(tmp_path / "official.npz", w=np.load(tmp_path / "projected_w.npz")["w"])
    codes.check_codes(codes.read_codes(tmp_path / "official.npz"), other, "it")
    with pytest.raises(si.CodeFileError, match="another network"):
        si.project(other.network, torch.zeros(3, 8, 8, dtype=torch.uint8), init=tmp_path, steps=1, loss="mse")
    assert adapt(cats.G).code_sha256() != adapt(si.load("cats32-de").G).code_sha256()


def test_copies_of_a_network_take_its_codes(tmp_path, tiny_file):
    net = si.load(tiny_file)
    own = adapt(net.G).code_sha256()
    for kind, file in (("safetensors", "copy.safetensors"), ("pickle", "copy.pkl")):
        convert(net, tmp_path / file, kind)
        assert adapt(si.load(tmp_path / file).G).code_sha256() == own
    assert adapt(net.G).with_prior(Prior("uniform")).code_sha256() == own
    net.G.synthesis.b8.conv1.weight.data.add_(1)  # tuned to one picture
    assert provenance_of(net.G).changed and adapt(net.G).code_sha256() == own


def test_networks_and_codes_without_finite_numbers_make_no_picture(tmp_path):
    for name, value in (("synthesis.b4.conv1.weight", torch.nan), ("mapping.w_avg", torch.inf)):
        net = make_network(8)
        net.G.state_dict()[name].flatten()[0] = value
        si.save(net, tmp_path / "nan.pkl")
        with pytest.raises(si.NetworkFileError, match=rf"{name}: it holds numbers that are not finite"):
            si.load(tmp_path / "nan.pkl").G  # noqa: B018
    picture = torch.zeros(3, 4, 4)
    picture[1, 2, 3] = torch.inf
    with pytest.raises(StyleganInvertError, match="not finite"):
        projector_pixels(picture)


# Pictures


def test_no_picture_reaches_a_program(tmp_path, monkeypatch):
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n(hi) print\n"
    for owner, name in ((subprocess, "Popen"), (os, "system"), (os, "posix_spawn")):
        monkeypatch.setattr(owner, name, lambda *_, **__: pytest.fail("a program was started"))
    for name in ("photo.jpg", "photo.eps", "photo.ps", "photo.png"):
        (tmp_path / name).write_bytes(postscript)
        with pytest.raises(si.ImageFileError, match="not a picture of a kind"):
            read_picture(tmp_path / name, 8, 3)
    assert not {".eps", ".ps", ".wmf", ".h5", ".mpg", ".pdf"} & decoding.SUFFIXES
    good = encoded(PIL.Image.fromarray(noise(8, 8)), "PNG")
    data = PictureSet(archive(tmp_path / "a.zip", **{"a.png": good, "b.jpg": postscript, "c.eps": postscript}))
    data.check()
    assert data.names == ["a.png"] and list(data.broken) == ["b.jpg"]


def test_every_kind_of_the_table_is_read_and_no_other(tmp_path):
    picture = PIL.Image.fromarray(np.tile(np.arange(64, dtype=np.uint8), (64, 1))[..., None].repeat(3, -1))
    PIL.Image.init()
    kinds = {"ICO", "TGA", "PCX", "SGI", "DDS", "ICNS", "MSP", "SPIDER", "BLP", "DIB", "XBM"}
    for kind in [*decoding.FORMATS, "MPO", *kinds]:
        if kind in PIL.Image.SAVE:
            source = picture.convert({"MSP": "1", "XBM": "1", "BLP": "P", "SPIDER": "L"}.get(kind, "RGB"))
            path = tmp_path / f"{kind}.png"
            path.write_bytes(encoded(source, kind))
            if kind in kinds - {"ICNS"}:  # an ICNS may be opened as the JPEG 2000 in it
                with pytest.raises(si.ImageFileError, match="not a picture of a kind"):
                    read_picture(path, 64, 3)
            elif kind not in kinds:
                pixels, _ = read_picture(path, 64, 3)
                assert np.abs(pixels.astype(int) - np.asarray(picture).transpose(2, 0, 1)).mean() < 5


def test_heic_is_named_where_it_cannot_be_read(tmp_path, monkeypatch):
    for module in (decoding, targets):
        monkeypatch.setattr(module, "heif_is_read", lambda: False)
    (tmp_path / "photo.HEIC").write_bytes(b"\0\0\0\x24ftypheic\0\0\0\0mif1heic")
    for named in (tmp_path / "photo.HEIC", tmp_path):
        with pytest.raises(si.ImageFileError, match=r"HEIC.*pip install 'stylegan-invert\[heic\]'"):
            read_picture(find_targets([str(named)])[0], 8, 3)
    (tmp_path / "a.png").write_bytes(encoded(PIL.Image.fromarray(noise(8, 8)), "PNG"))
    said = []
    assert [p.name for p in find_targets([str(tmp_path)], said.append)] == ["a.png"]
    assert len(said) == 1 and "1 HEIC left out" in said[0]


def test_pictures_of_too_many_pixels_are_refused_by_their_header(tmp_path, monkeypatch):
    tiff = bytearray(encoded(PIL.Image.new("L", (9, 9)), "TIFF"))
    monkeypatch.setattr(PIL.Image.Image, "load", lambda *_: pytest.fail("it was decoded"))
    bmp = b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 40000, 40000, 1, 24, 0, 0, 0, 0, 0, 0)
    cases = {
        "png": png(60000, 60000),
        "grey": png(13000, 13000, 16, 0),
        "side": png(2**21, 1),
        "ppm": b"P6 50000 50000 255\n",
        "bmp": bmp,
        "gif": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b",\0\0\0\0\xff\xff\xff\xff\0\x02\0\0;",
    }
    for tag in (256, 257):  # width and height
        at = next(tiff.index(entry) for kind in (3, 4) if (entry := struct.pack("<HHI", tag, kind, 1)) in tiff)
        tiff[at : at + 12] = struct.pack("<HHII", tag, 4, 1, 60000)
    cases["tiff"] = bytes(tiff)
    for kind, data in cases.items():
        with pytest.raises(si.ImageFileError, match="pixels, and a .* picture may have"):
            (tmp_path / kind).write_bytes(data)
            read_picture(tmp_path / kind, 8, 3)


def test_pillow_warns_of_nothing(tmp_path):
    entries = [struct.pack("<HHII", tag, 7, 2**31, 8) for tag in range(1000)]  # each is larger than the file
    (tmp_path / "a.tif").write_bytes(
        b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    )
    with warnings.catch_warnings(record=True) as caught, pytest.raises(si.ImageFileError, match="a.tif: "):
        read_picture(tmp_path / "a.tif", 8, 3)
    assert caught == []


def test_a_large_jpeg_is_decoded_at_a_part_of_its_size(tmp_path, monkeypatch):
    y, x = np.mgrid[:256, :512]
    smooth = PIL.Image.fromarray(np.stack([x // 2, y, (x + y) // 3], -1).astype(np.uint8))
    smooth.save(tmp_path / "a.jpg", quality=95)
    smooth.save(tmp_path / "p.jpg", quality=95, progressive=True)
    expected, _ = read_picture(tmp_path / "a.jpg", 16, 3)
    monkeypatch.setitem(decoding.FORMATS, "JPEG", replace(decoding.FORMATS["JPEG"], most=40000))
    got, how = read_picture(tmp_path / "a.jpg", 16, 3)
    assert np.abs(got.astype(int) - expected).max() < 6
    assert (how.size, how.box) == ((512, 256), (128, 0, 384, 256))
    for name, resolution in (("a.jpg", 129), ("p.jpg", 16)):  # it would be enlarged; a progressive one needs all memory
        with pytest.raises(si.ImageFileError, match="may have 40,000"):
            read_picture(tmp_path / name, resolution, 3)


def test_a_jpeg_of_very_many_scans_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "MAX_SCANNED", 50 * 64 * 64)
    whole = encoded(PIL.Image.fromarray(noise(64, 64)), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    (tmp_path / "a.jpg").write_bytes(whole[:last] + whole[last:-2] * 100 + whole[-2:])
    with pytest.raises(si.ImageFileError, match="scans"):
        read_picture(tmp_path / "a.jpg", 8, 3)


def test_sixteen_bits_are_converted_in_little_memory(tmp_path):
    values = np.arange(4096, dtype=np.uint16) * 16
    PIL.Image.fromarray(np.tile(values, (2048, 1))).save(tmp_path / "a.png")
    tracemalloc.start()
    try:
        pixels, _ = read_picture(tmp_path / "a.png", 8, 1)
        assert tracemalloc.get_traced_memory()[1] < 40 * 2**20  # as float64 alone it would take 64 MiB
    finally:
        tracemalloc.stop()
    square = values[1024:3072].reshape(8, 256).mean(1) / 257
    assert np.abs(pixels[0, 4, 1:-1] - square[1:-1]).max() < 1


def test_padding_a_long_picture_takes_no_square(tmp_path):
    for width, height in ((60000, 1), (1, 60000), (1, 9000)):
        (tmp_path / "a.png").write_bytes(encoded(PIL.Image.new("RGB", (width, height), "red"), "PNG"))
        pixels, how = read_picture(tmp_path / "a.png", 16, 3, fit="pad")
        assert pixels.min() >= 240 or pixels[0].min() == 255
        assert how.box[2] - how.box[0] == max(width, height)


def naive(picture, resolution, channels, fit, colour):
    """Padding or cropping first, on a whole canvas, and resizing then."""
    w, h = picture.size
    if picture.mode == "RGBA" and channels != 4:
        picture = PIL.Image.alpha_composite(PIL.Image.new("RGBA", picture.size, colour), picture)
    picture = picture.convert(pictures.MODES[channels])
    if fit == "pad" and w != h:
        s = max(w, h)
        canvas = PIL.Image.new("RGB", (s, s), colour).convert(picture.mode)
        canvas.paste(picture, (-((w - s) // 2), -((h - s) // 2)))
    else:
        s = min(w, h)
        canvas = picture.crop(((w - s) // 2, (h - s) // 2, (w + s) // 2, (h + s) // 2))
    pixels = np.asarray(canvas.resize((resolution, resolution), PIL.Image.LANCZOS))
    return pixels.reshape(resolution, resolution, channels).transpose(2, 0, 1)


def test_fitting_equals_fitting_on_a_whole_canvas(tmp_path, monkeypatch):
    for (h, w), mode, fit in itertools.product(((31, 44), (201, 36), (5, 90)), ("RGB", "RGBA", "L"), ("pad", "crop")):
        picture = PIL.Image.fromarray(noise(h, w, 4)).convert(mode)
        for orientation in (1, 6, 3, 7) if mode == "RGB" else (1,):
            exif = PIL.Image.Exif()
            exif[0x112] = orientation
            picture.save(tmp_path / "a.png", exif=exif)
            with PIL.Image.open(tmp_path / "a.png") as stored:
                turned = PIL.ImageOps.exif_transpose(stored)
            for resolution, channels in ((8, 3), (64, 1), (24, 4)):
                got, _ = read_picture(tmp_path / "a.png", resolution, channels, fit, "#ff8000")
                assert np.array_equal(got, naive(turned, resolution, channels, fit, "#ff8000"))
    monkeypatch.setattr(pictures, "PADDED_SIDE", 0)  # very large pictures are filtered along their columns first
    y, x = np.mgrid[:300, :200]
    picture = PIL.Image.fromarray((x // 2 + y // 3).astype(np.uint8))
    picture.save(tmp_path / "a.png")
    got, _ = read_picture(tmp_path / "a.png", 32, 1, "pad", "black")
    assert np.abs(got.astype(int) - naive(picture, 32, 1, "pad", "black")).max() <= 3


# Sets of pictures


def test_what_is_wrong_with_one_picture_leaves_it_out(tmp_path):
    good = encoded(PIL.Image.fromarray(noise(8, 8)), "PNG")
    bad = {
        "a.png": png(13000, 13000, 16, 0),
        "b.png": good[:-30],
        "c.png": bytes(2**10),
        "d.png": b"",
        "e.png": png(60000, 60000),
        "f.heic": b"\0\0\0\x24ftypheic\0\0\0\0mif1heic",
    }
    archive(tmp_path / "a.zip", **bad, **{"z.png": good})
    for name, data in {**bad, "z.png": good}.items():
        (tmp_path / "folder" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(data)
    for path in (tmp_path / "a.zip", tmp_path / "folder"):
        data = PictureSet(path, 8)
        data.check()
        assert data.names == ["z.png"] and set(data.broken) == set(bad)


def test_entries_of_a_zip_are_limited(tmp_path, monkeypatch):
    good = encoded(PIL.Image.fromarray(noise(8, 8)), "PNG")
    monkeypatch.setattr("stylegan_invert.media.picture_set.PICTURE", replace(door.PICTURE, limit=10**6))
    monkeypatch.setattr("stylegan_invert.media.picture_set.LABELS_FILE", replace(door.LABELS, limit=10**6))
    large = good + bytes(10**6)
    data = PictureSet(archive(tmp_path / "a.zip", **{"a.png": good, "b.png": large, "dataset.json": bytes(10**6 + 1)}))
    data.check()
    assert list(data.broken) == ["b.png"] and "1,000,000" in data.broken["b.png"]
    with pytest.raises(si.TrainingError, match="dataset.json: it has 1,000,001 bytes"):
        PictureSet(tmp_path / "a.zip", use_labels=True)
    for claimed in (10, 10**5, len(good) + 1):
        archive(tmp_path / "b.zip", **{"a.png": good})
        with pytest.raises(si.TrainingError, match="a.png"):
            PictureSet(lying(tmp_path / "b.zip", claimed))
    for method in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        with pytest.raises(si.TrainingError, match="compression"):
            PictureSet(archive(tmp_path / "c.zip", method, **{"a.png": good}))
    (tmp_path / "d.zip").write_bytes(b"PK\5\6" + bytes(18))
    zeros(tmp_path / "e.zip", 2**33)
    for name in ("d.zip", "e.zip"):
        with pytest.raises(si.TrainingError):
            PictureSet(tmp_path / name)


def test_an_entry_without_a_name_is_no_array_and_no_picture(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros(3, np.float32))
    with zipfile.ZipFile(tmp_path / "x.npz", "a") as file:
        file.writestr("y", b"")
    data = bytearray((tmp_path / "x.npz").read_bytes())
    for mark, name_length in ((b"PK\3\4", 26), (b"PK\1\2", 28)):
        at = data.rindex(mark) + name_length
        data[at : at + 4] = struct.pack("<HH", 0, 1)  # the name's one character becomes an extra field
    (tmp_path / "x.npz").write_bytes(data)
    assert "" in zipfile.ZipFile(tmp_path / "x.npz").namelist()
    with pytest.raises(si.CodeFileError, match="x.npz: it has no array 'w' or 'z'"):
        codes.read_codes(tmp_path / "x.npz")
    with pytest.raises(si.TrainingError, match="there are no pictures in it"):
        PictureSet(tmp_path / "x.npz")


def test_the_list_of_a_zip_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr("stylegan_invert.media.picture_set.DIRECTORY", replace(door.DATASET, limit=2**20))
    archive(tmp_path / "a.zip", zipfile.ZIP_STORED, **{f"{'x' * 60000}{i}": b"" for i in range(20)})
    with pytest.raises(si.TrainingError, match="list of files is larger"):
        PictureSet(tmp_path / "a.zip")


BAD_LABELS = {
    "a large class": [["a.png", 10**9]],
    "a very large class": [["a.png", 10**4000]],
    "a large class of another file": [["a.png", 0], ["none.png", 10**9]],
    "negative": [["a.png", -1]],
    "a text": [["a.png", "0"]],
    "true": [["a.png", True]],
    "nothing": [["a.png", None]],
    "mixed": [["a.png", 0], ["b.png", [0.0]]],
    "mixed the other way": [["a.png", [0.0]], ["b.png", 0]],
    "lengths": [["a.png", [0.0]], ["b.png", [0.0, 1.0]]],
    "empty": [["a.png", []]],
    "nan": [["a.png", [float("nan")]]],
    "infinite": [["a.png", [1e400]]],
    "large number": [["a.png", [10**400]]],
    "nested": [["a.png", [[1]]]],
    "no pairs": ["a.png"],
    "a table": {"a.png": 1},
    "a number": 5,
    "of no picture": [["b.png", 0]],
    "none": [],
}


@pytest.mark.parametrize("case", BAD_LABELS)
def test_bad_labels_are_refused_in_a_sentence(tmp_path, case):
    (tmp_path / "a.png").write_bytes(encoded(PIL.Image.fromarray(noise(8, 8)), "PNG"))
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": BAD_LABELS[case]}))
    with pytest.raises(si.TrainingError, match="dataset.json"):
        PictureSet(tmp_path, use_labels=True)


def test_labels_that_would_take_much_memory_are_refused_unread(tmp_path, monkeypatch):
    names = [f"{i}.png" for i in range(100)]
    fitting = json.dumps({"labels": [[name, [0.5] * 8] for name in names]}).encode()
    monkeypatch.setattr(door, "LIMIT_VARIABLE", "UNSET")
    limit = door.LABELS.limit
    texts = [b'{"labels":[' + piece * (limit // per + 1) + b"]}" for piece, per in ((b"[],", 64), (b"1,", 8))]
    texts.append(b"{" + b'"":1,' * (limit // 64) + b'"labels":[]}')
    monkeypatch.setattr(labels.json, "loads", lambda text: pytest.fail("it was parsed"))
    for text in texts:
        with pytest.raises(si.TrainingError, match="holds more than 2,097,152 labels or 16,777,216 numbers"):
            labels.parse_labels(text, names, "x.zip: dataset.json")
    monkeypatch.undo()
    assert labels.parse_labels(fitting, names, "dataset.json").shape == (100, 8)


def test_labels_that_are_no_json_are_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(PIL.Image.fromarray(noise(8, 8)), "PNG"))
    for text in (b"[" * 10**5, b"\xff", b"", b"[]", b'{"labels": ' + b"[" * 10**5):
        (tmp_path / "dataset.json").write_bytes(text)
        with pytest.raises(si.TrainingError, match="dataset.json"):
            PictureSet(tmp_path, use_labels=True)
    (tmp_path / "dataset.json").write_text('{"labels": [["a.png", 2], ["b.png", 4]]}')
    assert PictureSet(tmp_path, use_labels=True).labels.tolist() == [[0, 0, 1, 0, 0]]
