"""Any picture in: modes, rotation, transparency, shape, and files that are no pictures."""
# Takes at most 5 CPU seconds.

import numpy as np
import PIL.Image
import pytest

import stylegan_invert as si
from stylegan_invert.media.pictures import generator_pixels, projector_pixels, read_picture, write_png
from stylegan_invert.media.targets import find_targets


def save(path, array, mode=None, **kwargs):
    PIL.Image.fromarray(array, mode).save(path, **kwargs) if mode else PIL.Image.fromarray(array).save(path, **kwargs)
    return path


RAMP = np.tile(np.linspace(0, 255, 24).astype(np.uint8), (24, 1))


def test_the_official_preparation_is_followed(tmp_path):
    rgb = np.random.RandomState(0).randint(256, size=(31, 44, 3)).astype(np.uint8)
    got, how = read_picture(save(tmp_path / "a.png", rgb), 16, 3)
    picture = PIL.Image.fromarray(rgb)  # what projector.py does: the centre square, then Lanczos
    w, h, s = 44, 31, 31
    expected = picture.crop(((w - s) // 2, (h - s) // 2, (w + s) // 2, (h + s) // 2)).resize(
        (16, 16), PIL.Image.LANCZOS
    )
    assert np.array_equal(got, np.asarray(expected).transpose(2, 0, 1))
    assert how.as_dict() == dict(
        file=str(tmp_path / "a.png"), size=(44, 31), mode="RGB", exif_rotated=False, background=None, fit="crop", box=(6, 0, 37, 31),
        resolution=16, enlarged=False,
    )  # fmt: skip


def test_grey_in_every_depth_is_the_same_picture(tmp_path):
    expected = read_picture(save(tmp_path / "8.png", RAMP), 24, 3)[0]
    assert np.array_equal(expected, np.stack([RAMP] * 3))
    sixteen = RAMP.astype(np.uint16) * 257
    assert np.array_equal(read_picture(save(tmp_path / "16.png", sixteen), 24, 3)[0], expected)
    assert np.array_equal(read_picture(save(tmp_path / "16.tif", sixteen), 24, 3)[0], expected)
    PIL.Image.fromarray(RAMP).convert("P").save(tmp_path / "p.gif")
    assert np.abs(read_picture(tmp_path / "p.gif", 24, 3)[0].astype(int) - expected).max() <= 1
    PIL.Image.fromarray(RAMP).convert("LA").save(tmp_path / "la.png")
    assert np.array_equal(read_picture(tmp_path / "la.png", 24, 3)[0], expected)
    PIL.Image.fromarray(RAMP).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    assert np.abs(read_picture(tmp_path / "cmyk.jpg", 24, 3)[0].astype(int) - expected).max() <= 8
    grey = read_picture(tmp_path / "8.png", 24, 1)[0]
    assert grey.shape == (1, 24, 24) and np.array_equal(grey[0], RAMP)
    bits = save(tmp_path / "1.png", RAMP > 100)
    assert set(np.unique(read_picture(bits, 24, 1)[0])) == {0, 255}


def test_transparency_shows_the_stated_colour(tmp_path):
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[..., 0] = 255  # red that nobody can see
    path = save(tmp_path / "a.png", rgba)
    got, how = read_picture(path, 8, 3)
    assert (got == 255).all() and how.background == "white"
    got, how = read_picture(path, 8, 3, background="#102030")
    assert [int(c[0, 0]) for c in got] == [0x10, 0x20, 0x30]
    assert read_picture(path, 8, 4)[0].shape == (4, 8, 8) and (read_picture(path, 8, 4)[0][3] == 0).all()
    sixteen = PIL.Image.fromarray(np.array([[0, 65535], [257, 514]], np.uint16))
    sixteen.save(tmp_path / "t.png", transparency=257)
    assert read_picture(tmp_path / "t.png", 2, 1)[0][0].tolist() == [[0, 255], [255, 2]]
    palette = PIL.Image.new("P", (8, 8), 1)
    palette.putpalette([9, 9, 9, 200, 0, 0])
    palette.save(tmp_path / "p.png", transparency=1)
    assert (read_picture(tmp_path / "p.png", 8, 3, background="black")[0] == 0).all()


def test_exif_rotation_is_applied(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it right
    rgb = np.stack([RAMP] * 3, axis=2)
    got, how = read_picture(save(tmp_path / "a.png", rgb, exif=exif), 24, 3)
    assert how.exif_rotated and np.array_equal(got[0], np.rot90(RAMP, -1))


def test_padding_keeps_everything(tmp_path):
    rgb = np.full((10, 20, 3), 7, np.uint8)
    got, how = read_picture(save(tmp_path / "a.png", rgb), 20, 3, fit="pad", background="#ffffff")
    assert (got[:, 5:15] == 7).all() and (got[:, :5] == 255).all() and (got[:, 15:] == 255).all()
    assert how.box == (0, -5, 20, 15) and how.background == "#ffffff"


def test_small_pictures_are_enlarged(tmp_path):
    got, how = read_picture(save(tmp_path / "a.png", np.full((1, 1, 3), 9, np.uint8)), 32, 3)
    assert (got == 9).all() and how.as_dict()["enlarged"]


def test_what_is_no_picture_is_named(tmp_path):
    whole = save(tmp_path / "whole.png", np.random.RandomState(0).randint(256, size=(64, 64, 3)).astype(np.uint8))
    cases = {
        "missing.png": (None, "there is no such file"),
        "empty.png": (b"", "it is empty"),
        "text.png": (b"hello", "it is not a picture of a kind that is read"),
        "cut.png": (whole.read_bytes()[:3000], "it is damaged or cut short"),
    }
    for name, (content, reason) in cases.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(si.ImageFileError, match=reason) as e:
            read_picture(tmp_path / name, 8, 3)
        assert name in str(e.value)
    with pytest.raises(si.ImageFileError, match="it is a directory"):
        read_picture(tmp_path, 8, 3)
    PIL.Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(si.ImageFileError, match="floating-point"):
        read_picture(tmp_path / "f.tif", 8, 3)
    with pytest.raises(si.ImageFileError, match="no colour"):
        read_picture(whole, 8, 3, background="nocolour")
    with pytest.raises(si.ImageFileError, match="2 channels"):
        read_picture(whole, 8, 2)


def test_targets_are_files_folders_and_patterns(tmp_path):
    for name in ("b.png", "a.png", "c.jpg"):
        save(tmp_path / name, np.zeros((4, 4, 3), np.uint8))
    for name in ("notes.txt", "notes.pdf", "._a.jpg"):  # Pillow writes PDF and does not read it; the last is a Mac's
        (tmp_path / name).write_text("x")
    with pytest.raises(si.ImageFileError, match="nothing.png: there is no such file"):
        find_targets([str(tmp_path / "nothing.png")])
    assert [p.name for p in find_targets([str(tmp_path)])] == ["a.png", "b.png", "c.jpg"]
    assert [p.name for p in find_targets([str(tmp_path / "*.png")])] == ["a.png", "b.png"]
    assert [p.name for p in find_targets([str(tmp_path / "c.jpg"), str(tmp_path)])] == ["c.jpg", "a.png", "b.png"]
    with pytest.raises(si.ImageFileError, match="no file matches"):
        find_targets([str(tmp_path / "*.gif")])
    (tmp_path / "none").mkdir()
    with pytest.raises(si.ImageFileError, match="no pictures in this folder"):
        find_targets([str(tmp_path / "none")])


def test_the_two_official_roundings():
    import torch

    x = torch.tensor([[[-1.5, -1.0, 0.0, 0.999, 1.0, 3.0]]])
    assert projector_pixels(x).flatten().tolist() == [0, 0, 127, 254, 255, 255]
    assert generator_pixels(x).flatten().tolist() == [0, 0, 128, 255, 255, 255]


def test_png_of_every_channel_count_reads_back(tmp_path):
    for channels in (1, 3, 4):
        pixels = np.random.RandomState(0).randint(256, size=(channels, 5, 5)).astype(np.uint8)
        write_png(tmp_path / "x.png", pixels)
        assert np.array_equal(read_picture(tmp_path / "x.png", 5, channels)[0], pixels)
