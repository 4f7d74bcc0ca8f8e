"""Faces are cut out as FFHQ does, and put back; files of landmarks; the commands align and paste."""
# Takes at most 15 CPU seconds.

import json
import os
import re
import subprocess
import sys
import types

import numpy as np
import PIL.Image
import pytest

import stylegan_invert as si
from stylegan_invert.files import plain
from stylegan_invert.media import alignment
from stylegan_invert.media.alignment import crop, face_quad, paste, placement, read_aligned
from stylegan_invert.media.landmarks import ONE, TABLE, Face, read_landmarks
from stylegan_invert.media.reading import PictureReading

from official import ALIGNMENTS, HERE, landmarks, photograph
from support import load_npz

FIVE = [[70.0, 60.0], [110.0, 60.0], [90.0, 80.0], [75.0, 105.0], [105.0, 105.0]]  # a face in a picture of 180x160
UPRIGHT = Face(np.array(FIVE))


def smooth(width, height):
    """A picture without edges, and the function (x, y) to (..., 3) that it shows."""

    def at(x, y):
        return np.stack([128 + 60 * np.sin(x / 21 + c) * np.cos(y / 17 - c) for c in range(3)], axis=-1)

    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return PIL.Image.fromarray(np.round(at(x, y)).astype(np.uint8)), at


def write(path, content):
    path.write_bytes(content) if isinstance(content, bytes) else path.write_text(
        content if isinstance(content, str) else json.dumps(content)
    )
    return path


@pytest.fixture
def photo(tmp_path):
    """A photograph of 180x160 pixels."""
    PIL.Image.fromarray(photograph(180, 160)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


# The square


def test_the_square_is_that_of_the_paper():
    """Appendix C of Progressive Growing of GANs, in complex numbers."""
    for degrees in (0, 40, 180, 300):
        points = landmarks((50, 40), 20, degrees)
        e0, e1 = (points[i : i + 6].mean(axis=0) @ [1, 1j] for i in (36, 42))
        m0, m1 = (points[i] @ [1, 1j] for i in (48, 54))
        x, y = e1 - e0, (e0 + e1) / 2 - (m0 + m1) / 2  # x' and y'
        c, s = (e0 + e1) / 2 - 0.1 * y, max(4.0 * abs(x), 3.6 * abs(y))
        x = x + y * 1j  # x' - Rotate90(y')
        x /= abs(x)
        expected = [c + s / 2 * (a * x + b * x * 1j) for a, b in ((-1, -1), (-1, 1), (1, 1), (1, -1))]
        assert np.allclose(face_quad(Face(points)) @ [1, 1j], expected)


def test_five_points_make_the_same_square():
    points = landmarks((50, 40), 20, 15)
    five = [points[36:42].mean(axis=0), points[42:48].mean(axis=0), [0, 0], points[48], points[54]]
    assert np.allclose(face_quad(Face(np.array(five))), face_quad(Face(points)))


def test_the_square_of_a_profile_is_accepted():
    points = np.array(FIVE)
    points[:2] = [[91, 60], [89, 60]]  # one eye hides the other, and a finder has exchanged them
    assert np.ptp(face_quad(Face(points)), axis=0)[0] > 100


# The crop


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_the_crop_is_the_official_one(name, golden):
    size, middle, distance, degrees, resolution = ALIGNMENTS[name]
    picture, quad = PIL.Image.fromarray(photograph(*size)), face_quad(Face(landmarks(middle, distance, degrees)))
    place = placement(quad, size, resolution)
    assert (place.shrunk != size, any(place.pad)) == ("shrunk" in name, "inside" != name != "shrunk")
    difference = np.abs(np.asarray(crop(picture, quad, resolution), dtype=int) - golden[name])
    assert difference.max() <= 1 and difference.mean() < 0.1
    if name == "inside":
        difference = np.abs(np.asarray(crop(picture, quad, resolution, 4096), dtype=int) - golden[name])
        assert difference.max() <= 1 and difference.mean() < 0.001  # 0 with the same Pillow


@pytest.fixture(params=["kept", "made now"], scope="module")
def golden(request, tmp_path_factory):
    """What official code cuts out: as it is kept here, and from a checkout where there is one."""
    path, repo = HERE / "golden" / "alignment.npz", os.environ.get("FFHQ_DATASET_REPO")
    if request.param == "made now":
        if not repo:
            pytest.skip("set FFHQ_DATASET_REPO to a checkout of NVlabs/ffhq-dataset to compare with it")
        path = tmp_path_factory.mktemp("ffhq") / "now.npz"
        subprocess.run([sys.executable, HERE / "official.py", "align", repo, path], check=True, capture_output=True)
    return load_npz(path)


@pytest.mark.parametrize("resolution", [128, 40])
def test_every_pixel_shows_its_place(resolution):
    """The pixels of a smooth picture tell where they come from. Official code shrinks about the corner of the first pixel."""
    picture, at = smooth(400, 380)
    quad = face_quad(Face(landmarks((200, 170), 40, 20)))
    divisor = {128: 1, 40: 2}[resolution]
    place = (np.arange(resolution) + 0.5) / resolution
    down, right = quad[1] - quad[0], quad[3] - quad[0]
    where = quad[0] + place[:, None, None] * down + place[:, None] * right + (divisor - 1) / 2
    got = np.asarray(crop(picture, quad, resolution), dtype=float)
    assert np.abs(got - at(where[..., 0], where[..., 1])).max() < 2.5


def test_blur_is_gaussian():
    import scipy.ndimage

    values = photograph(70, 50)[..., 0].astype(np.float32)
    for sigma in (0.8, 3, 40):
        expected = scipy.ndimage.gaussian_filter(values, sigma)
        assert np.abs(alignment._blurred(values, sigma) - expected).max() < 0.02


def test_mirroring_repeats_for_narrow_pictures():
    for n, before, after in ((7, 20, 3), (2, 5, 5), (1, 4, 2)):
        assert np.array_equal(alignment._mirrored(n, before, after), np.pad(np.arange(n), (before, after), "reflect"))


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_other_modes_are_cut_out_alike(mode):
    picture = PIL.Image.fromarray(photograph(180, 160))
    quad = face_quad(Face(np.array(FIVE) + [0, -50]))
    rgb, got = crop(picture, quad, 32), crop(picture.convert(mode), quad, 32)
    assert got.mode == mode
    assert (
        np.abs(np.asarray(got.convert(rgb.mode), dtype=int) - np.asarray(rgb.convert(mode).convert("RGB"))).max() <= 2
    )


# What cannot be cut out


@pytest.mark.parametrize(
    "points, reason",
    [
        ([[5, 5]] * 5, "are in one place"),
        ([[70, 60], [110, 60], [90, 80], [110, 20], [70, 20]], "left and right exchanged"),  # mirrored upside down
        ([[110, 60], [70, 60], [90, 80], [105, 105], [75, 105]], "left and right exchanged"),
        ([[x + 500, y] for x, y in FIVE], "lie outside the picture, which has 180x160"),
        ([[x, y - 2000] for x, y in FIVE], "lie outside"),
        ([[40 * x, 40 * y] for x, y in FIVE], "outside|a side of"),
        ([[100 * (x - 90), 100 * (y - 80)] for x, y in FIVE], "would have a side of"),
    ],
)
def test_landmarks_without_a_face_are_refused(points, reason, photo):
    with pytest.raises(si.ImageFileError, match=f"photo.png: .*{reason}"):
        read_aligned(photo, Face(np.array(points, dtype=float)), 16, 3)


def test_squares_at_the_limits_are_cut_out():
    """Neither a thin picture nor a square of many times its size makes an error of another kind, or takes long."""
    for size in ((1, 1), (3000, 1), (1, 300), (50, 40)):
        picture = PIL.Image.new("RGB", size, (9, 8, 7))
        for scale in (0.1, 1, 4):
            for shift in (0, 30):
                points = (np.array(FIVE) - 80) * scale + shift
                try:
                    assert np.asarray(crop(picture, face_quad(Face(points)), 16)).max() <= 9
                except si.ImageFileError as e:
                    assert "outside" in str(e) or "would have a side" in str(e) or "in one place" in str(e)


# Reading


def test_landmarks_are_of_the_turned_picture(photo, tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it right
    PIL.Image.open(photo).rotate(90, expand=True).save(tmp_path / "lying.png", exif=exif)
    expected, plain_record = read_aligned(photo, UPRIGHT, 16, 3)
    got, record = read_aligned(tmp_path / "lying.png", UPRIGHT, 16, 3)
    assert np.array_equal(got, expected) and record.exif_rotated and not plain_record.exif_rotated
    assert record.size == plain_record.size == (180, 160) and record.quad == plain_record.quad
    assert plain_record.as_dict()["enlarged"] is False and len(record.sha256) == 64


@pytest.mark.parametrize(
    "content",
    [
        FIVE,
        {"photo.png": FIVE},
        {"folder/photo.png": [[0, 0]] * 5, "photo.png": FIVE},
        {"0": {"image": {}, "in_the_wild": {"file_path": "wild/0/photo.png", "face_landmarks": FIVE, "pixel_size": [180, 160]}}},
        "\n".join(f"{x} {y}" for x, y in FIVE),
        "version: 1\nn_points: 5\n{\n" + "\n".join(f"{x + 1} {y + 1}" for x, y in FIVE) + "\n}\n",
    ],
)  # fmt: skip
def test_files_of_landmarks(content, tmp_path):
    landmarks = read_landmarks(write(tmp_path / "landmarks", content))
    assert np.array_equal(landmarks.of(tmp_path / "photo.png").points, FIVE)
    assert landmarks.single == (not isinstance(content, dict))


def test_the_longest_name_counts(tmp_path):
    content = {"b.png": [[1, 1]] * 5, "x/b.png": [[2, 2]] * 5, f"{tmp_path}/x/c.png": [[3, 3]] * 68, "./y//b.png": FIVE}
    landmarks = read_landmarks(write(tmp_path / "l.json", content))
    found = [
        landmarks.of(tmp_path / name).points[0, 0] for name in ("b.png", "x/b.png", "z/b.png", "x/c.png", "y/b.png")
    ]
    assert found == [1, 2, 1, 3, 70]
    with pytest.raises(si.ImageFileError, match='l.json: it has no landmarks of "c.png"; .* 4 pictures, such as b.png'):
        landmarks.of(tmp_path / "c.png")


BAD = {
    "": "no file of landmarks",
    "1 2\n3 4\n": "no file of landmarks",
    "1 2\n" * 4 + "nan 1\n": "no file of landmarks",
    "1 2\n" * 4 + "1e30 1\n": "no file of landmarks",
    b"\xff\xfe\x00": "no file of landmarks",
    "[[1, 2]]": "expected a list of 5 or 68 points",
    "[1, 2, 3, 4, 5]": "expected a point",
    "[[1, 2], [1, 2], [1, 2], [1, 2], [1, NaN]]": r"\[4\] is a list of 2; expected a point \[x, y\] of two numbers",
    '[[1, 2], [1, 2], [1, 2], [1, 2], [1, "2"]]': "expected a point",
    "[[1, 2], [1, 2], [1, 2], [1, 2], [1, true]]": "expected a point",
    "[[1, 2], [1, 2], [1, 2], [1, 2], [1, " + "9" * 5000 + "]]": "thousands of digits",
    "[" * 2000: "nested too deeply|not JSON",
    '{"a": ' + "[" * 200000: "nested too deeply",
    "{": "is it complete",
    '{"a": 1': "expected a list of 5 or 68 points",
    '{"a": [[1, 2], [1, 2], [1, 2], [1, 2], [1, 2]]': 'expected "," or "}" at character',
    '{"a": [[1, 2], [1, 2], [1, 2], [1, 2], [1, 2]]} x': "goes on behind the end",
    '{1: 2}': "expected a text",
    '{"a" [1]}': 'expected ":" at character',
    '{"a": [[0,0],[0,0],[0,0],[0,0],[0,0]], "a": [[0,0],[0,0],[0,0],[0,0],[0,0]]}': 'the name "a" twice',
    '{"a": [[0,0],[0,0],[0,0],[0,0],[0,0]], "./a": [[0,0],[0,0],[0,0],[0,0],[0,0]]}': "twice",
    '{"/": [[0,0],[0,0],[0,0],[0,0],[0,0]]}': "no name of a file",
    '{"a": {"in_the_wild": {}}}': "a.in_the_wild.face_landmarks is missing",
    '{"a": {"in_the_wild": {"face_landmarks": [], "file_path": "x"}}}': "expected a list of 5 or 68",
    '{"a": {"in_the_wild": {"face_landmarks": [[0,0],[0,0],[0,0],[0,0],[0,0]], "file_path": "/"}}}': "expected the name of a file",
    '{"a": {"x": 1e400, "in_the_wild": 7}}': "a.in_the_wild is 7; expected a table",
    b'{"\xff": 1}': "not a text in UTF-8",
}  # fmt: skip


@pytest.mark.parametrize("content", BAD)
def test_bad_files_of_landmarks_get_one_sentence(content, tmp_path):
    with pytest.raises(si.ImageFileError, match=BAD[content]) as e:
        read_landmarks(write(tmp_path / "bad", content))
    assert str(e.value).startswith(f"{tmp_path}/bad: ") and len(str(e.value)) < 400 + len(str(tmp_path))


def test_large_tables_are_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(plain, "MAX_ENTRY", 300)
    table = {f"{i} é.png": [[i, j] for j in range(5)] for i in range(200)}
    for spaces in (None, 3):
        path = write(tmp_path / "l.json", "\n " + json.dumps(table, indent=spaces, ensure_ascii=False) + " " * 1000)
        assert dict(plain.read_entries(path, TABLE, plain.unchecked)) == table
    path = write(tmp_path / "long.json", {"a": [1] * 200})
    with pytest.raises(si.ImageFileError, match="more than 300 characters"):
        list(plain.read_entries(path, TABLE, plain.unchecked))
    monkeypatch.setattr(plain, "MAX_ENTRIES", 100)
    with pytest.raises(si.ImageFileError, match="more than 100 entries"):
        list(plain.read_entries(tmp_path / "l.json", TABLE, plain.unchecked))


def test_a_long_list_is_refused_before_it_is_read(tmp_path):
    with open(write(tmp_path / "long.json", "[[1, 2]"), "r+b") as f:
        f.truncate(ONE.limit + 1)
    with pytest.raises(si.ImageFileError, match="the landmarks of one picture has at most"):
        read_landmarks(tmp_path / "long.json")


def test_options_that_do_not_suit_the_targets_are_refused(tmp_path):
    one, table = write(tmp_path / "one.json", FIVE), write(tmp_path / "table.json", {"a.png": FIVE})
    PictureReading(align=str(one)).check(["x.png"])
    PictureReading(align=str(table)).check(["a.png", "b/a.png"])
    for options, targets, reason in (
        ({"align": str(one)}, ["a.png", "b.png"], "of one picture, and there are 2 targets"),
        ({"align": str(table)}, [np.zeros((3, 8, 8), np.uint8)], "are arrays"),
        ({"align": str(table), "fit": "pad"}, ["a.png"], "either padded"),
        ({"align": str(tmp_path / "none.json")}, ["a.png"], "there is no such file"),
    ):
        with pytest.raises(si.ImageFileError, match=reason):
            PictureReading(**options).check(targets)


# Back into the photograph


@pytest.mark.parametrize("middle, turned", [((150, 130), 20), ((30, 20), -50), ((150, 130), 190)])
@pytest.mark.parametrize("resolution", [40, 100])
def test_an_unedited_face_gives_the_photograph_back(middle, turned, resolution):
    picture, _ = smooth(300, 280)
    quad = face_quad(Face(landmarks(middle, 30, turned)))
    result = paste(picture, crop(picture, quad, resolution), quad, resolution)
    before, after = (np.asarray(p, dtype=int) for p in (picture, result))
    assert np.abs(after - before).max() <= 5
    inverted = paste(picture, PIL.Image.eval(crop(picture, quad, resolution), lambda v: 255 - v), quad, resolution)
    changed = (np.asarray(inverted) != before).any(axis=2)
    outside = ~_inside(quad, 1.5, picture.size)
    assert not changed[outside].any() and changed.sum() > 3000


def _inside(quad, margin, size):
    """The pixels of a picture that lie in a square, or up to ``margin`` pixels beyond."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    right, down = quad[3] - quad[0], quad[1] - quad[0]
    side = np.hypot(*right)
    s, t = ((np.stack([x, y], axis=2) - quad[0]) @ v / side for v in (right, down))
    return (np.minimum(s, t) > -margin) & (np.maximum(s, t) < side + margin)


def test_a_feathered_border_fades():
    picture, quad = PIL.Image.new("RGB", (280, 300), "black"), face_quad(Face(np.array(FIVE) + [50, 60]))
    red = PIL.Image.new("RGB", (64, 64), "red")
    hard, soft = (np.asarray(paste(picture, red, quad, 64, feather))[135, 50:, 0] for feather in (0, 0.25))
    assert set(hard[10:171]) == {255} and set(hard[:10]) == set(hard[171:]) == {0}  # the square is from 9 to 171
    assert (np.diff(soft[8:50].astype(int)) >= 0).all() and soft[10] < 5 and soft[50] == 255 and 100 < soft[29] < 155
    assert set(soft[60:120]) == {255}


def test_photographs_keep_their_mode():
    quad, face = face_quad(UPRIGHT), PIL.Image.new("RGBA", (32, 32), "red")
    clear = PIL.Image.new("RGBA", (180, 160), (1, 2, 3, 77))
    result = paste(clear, face, quad, 32)
    assert (
        result.mode == "RGBA"
        and result.getpixel((90, 75)) == (255, 0, 0, 77)
        and result.getpixel((0, 0)) == (1, 2, 3, 77)
    )
    assert paste(clear.convert("L"), face, quad, 32).getpixel((90, 75)) == 76
    with pytest.raises(si.ImageFileError, match="32x31 pixels; expected a square"):
        paste(clear, face.crop((0, 0, 32, 31)), quad, 32)


# The commands


@pytest.fixture
def aligned(photo, tmp_path, tiny_file, cli):
    """A projection of the photograph, aligned, in the folder "out"."""
    write(tmp_path / "l.json", {"photo.png": FIVE})
    command = ["project", "-n", tiny_file, "-t", photo, "--align", tmp_path / "l.json", "-o", tmp_path / "out"]
    status, _, err = cli(*command, "--method", "w", "--steps", "1", "--loss", "mse=1")
    assert status == 0, err
    return tmp_path / "out"


def test_project_and_paste(aligned, photo, tmp_path, cli):
    record = si.Projection.read(aligned).record["target"]
    target = np.asarray(PIL.Image.open(aligned / "target.png")).transpose(2, 0, 1)
    expected, about = read_aligned(photo, UPRIGHT, 8, 3)
    assert np.array_equal(target, expected) and record == json.loads(json.dumps(about.as_dict()))
    status, _, err = cli(
        "paste", aligned, "--picture", aligned / "proj.png", "--onto", photo, "-o", tmp_path / "new" / "p.png"
    )
    assert status == 0, err
    before, after = (np.asarray(PIL.Image.open(p), dtype=int) for p in (photo, tmp_path / "new" / "p.png"))
    face = PIL.Image.open(aligned / "proj.png")
    assert np.array_equal(after, np.asarray(paste(PIL.Image.open(photo), face, face_quad(UPRIGHT), 8, 0.05)))
    assert before.shape == after.shape and not np.array_equal(before, after)
    status, _, err = cli(
        "paste", tmp_path / "l.json", "--picture", aligned / "proj.png", "--onto", photo, "-o", tmp_path / "q.png"
    )
    assert status == 0 and (tmp_path / "q.png").read_bytes() == (tmp_path / "new" / "p.png").read_bytes()


def test_paste_keeps_turn_and_colour_profile(photo, tmp_path, cli):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.open(photo).rotate(90, expand=True).save(tmp_path / "lying.png", exif=exif, icc_profile=b"a profile")
    face = PIL.Image.new("RGB", (8, 8), "red")
    face.save(tmp_path / "face.png")
    points, out = write(tmp_path / "l.json", FIVE), tmp_path / "o.png"
    assert cli("paste", points, "--picture", tmp_path / "face.png", "--onto", tmp_path / "lying.png", "-o", out)[0] == 0
    result = PIL.Image.open(out)
    assert result.info["icc_profile"] == b"a profile" and not result.getexif()
    assert np.array_equal(
        np.asarray(result), np.asarray(paste(PIL.Image.open(photo), face, face_quad(UPRIGHT), 8, 0.05))
    )


def test_paste_refuses_what_does_not_fit(aligned, photo, tmp_path, cli):
    PIL.Image.new("RGB", (180, 160)).save(tmp_path / "same size.png")
    PIL.Image.new("RGB", (160, 180)).save(tmp_path / "other.png")
    proj, result = aligned / "proj.png", json.loads((aligned / "result.json").read_text())

    def error(onto=photo, out="p.png", picture=proj, folder=aligned):
        status, _, err = cli("paste", folder, "--picture", picture, "--onto", onto, "-o", tmp_path / out)
        assert status and err.count("\n") < 6
        return err

    assert "has 160x180 pixels, and the face was cut out of a picture of 180x160" in error(tmp_path / "other.png")
    assert "expected a name that ends in .png" in error(out="p.jpg")
    assert "would replace a picture" in error(out="photo.png")
    assert "photo.png: the edited face has 180x160 pixels" not in error(picture=tmp_path / "none.png")
    assert "the edited face has 180x160 pixels; expected a square" in error(picture=tmp_path / "same size.png")
    assert not (tmp_path / "p.png").exists()
    for change, reason in (
        ({"quad": [[0, 0]] * 4}, "target.quad are not the corners of a square"),
        ({"quad": [[0, 0], [0, 9], [9, 9]]}, "target.quad is a list of 3; expected 4 values"),
        ({"quad": [[0, 0], [0, 1e300], [9, 9], [9, 0]]}, r"target.quad\[1\]\[1\] is 1e\+300"),
        ({"quad": [[900, 900], [900, 909], [909, 909], [909, 900]]}, "lie outside the picture"),
        ({"resolution": 0}, "target.resolution is 0"),
        ({"size": "x"}, "target.size"),
    ):
        (aligned / "result.json").write_text(json.dumps({**result, "target": {**result["target"], **change}}))
        assert re.search(reason, error())
    (aligned / "result.json").write_text(json.dumps({**result, "target": "given as an array"}))
    assert "its target was not aligned; expected a projection that was made with --align" in error()
    (aligned / "result.json").write_text(json.dumps(result))
    status, _, err = cli(
        "paste", aligned, "--picture", proj, "--onto", tmp_path / "same size.png", "-o", tmp_path / "p.png"
    )
    assert status == 0 and "is not the file from which the face was cut out" in err


def test_project_names_what_is_wrong_before_the_network_is_read(photo, tmp_path, cli):
    points = write(tmp_path / "l.json", [[0, 0]] * 5)
    command = ["project", "-n", "cats32", "-o", tmp_path / "o", "--align", points]
    status, _, err = cli(*command, "-t", photo)
    assert status == 1 and "the eyes and the mouth" in err and "network" not in err
    status, _, err = cli(*command, "-t", photo, "-t", HERE.parent / "pretrained" / "chelsea-face.png")
    assert status == 1 and "there are 2 targets" in err
    assert "empty" in cli(*command, "-t", photo, "--align", "")[2] and not (tmp_path / "o").exists()


@pytest.fixture
def face_alignment(monkeypatch):
    """A stand-in for the package face-alignment: it finds two faces where a picture is red."""

    class FaceAlignment:
        def __init__(self, kind, device, flip_input, compile):
            assert (kind, device, flip_input, compile) == ("2D", "cpu", False, False)

        def get_landmarks_from_image(self, image):
            assert image.dtype == np.uint8 and image.shape[2] == 3 and max(image.shape) <= 1600
            y, x = np.nonzero((image == [255, 0, 0]).all(axis=2))
            if not len(x):
                return None
            return [landmarks((x.mean(), y.mean()), size, 0) for size in (4, 8)]

    module = types.SimpleNamespace(FaceAlignment=FaceAlignment, LandmarksType=types.SimpleNamespace(TWO_D="2D"))
    monkeypatch.setitem(sys.modules, "face_alignment", module)


def test_align_finds_the_largest_face(face_alignment, tmp_path, cli):
    for name, size in (("a", (100, 90)), ("large", (3200, 400)), ("none", (20, 20))):
        picture = PIL.Image.new("RGB", size)
        if name != "none":
            picture.paste("red", (20, 10, 60, 50))
        picture.save(tmp_path / f"{name}.png")
    status, _, err = cli(
        "align",
        tmp_path / "a.png",
        tmp_path / "large.png",
        tmp_path / "none.png",
        "-o",
        tmp_path / "o",
        "--resolution",
        "16",
    )
    assert status == 0 and "a.png: it shows 2 faces; the largest is taken" in err
    assert "none.png: no face was found in it" in err and "2 of 3 pictures" in err
    assert sorted(os.listdir(tmp_path / "o")) == ["a.png", "landmarks.json", "large.png"]
    found = json.loads((tmp_path / "o" / "landmarks.json").read_text())
    assert np.allclose(found["a.png"], landmarks((39.5, 29.5), 8, 0), atol=1e-3)
    assert np.allclose(found["large.png"], landmarks((39.5, 29.5), 16, 0), atol=1e-3)
    read = read_landmarks(tmp_path / "o" / "landmarks.json").of(tmp_path / "a.png")
    assert np.array_equal(
        np.asarray(PIL.Image.open(tmp_path / "o" / "a.png")).transpose(2, 0, 1),
        read_aligned(tmp_path / "a.png", read, 16, 3)[0],
    )
    status, _, err = cli("align", tmp_path / "none.png", "-o", tmp_path / "p")
    assert status == 1 and "no face could be cut out: " in err and not (tmp_path / "p").exists()


def test_align_says_what_to_install(photo, tmp_path, cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "face_alignment", None)
    status, _, err = cli("align", photo, "-o", tmp_path / "o")
    assert (
        status == 1
        and "pip install stylegan-invert[align]" in err
        and "--landmarks FILE" in err
        and err.count("\n") == 1
    )
    (tmp_path / "b").mkdir()
    PIL.Image.open(photo).save(tmp_path / "b" / "photo.png")
    points = write(tmp_path / "l.json", {"b/photo.png": FIVE, "photo.png": [[x, y + 9] for x, y in FIVE]})
    status, _, err = cli(
        "align", photo, tmp_path / "b", "--landmarks", points, "-o", tmp_path / "o", "--resolution", "16"
    )
    assert status == 0, err
    assert sorted(os.listdir(tmp_path / "o")) == ["landmarks.json", "photo-2.png", "photo.png"]
    again = read_landmarks(tmp_path / "o" / "landmarks.json")
    assert again.of(photo).points[0].tolist() == [70, 69] and again.of(tmp_path / "b" / "photo.png").points[
        0
    ].tolist() == [70, 60]


def test_weights_that_cannot_be_loaded_are_one_sentence(face_alignment, photo, tmp_path, cli, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(sys.modules["face_alignment"], "FaceAlignment", fail)
    status, _, err = cli("align", photo, "-o", tmp_path / "o")
    assert status == 1 and "could not load its weights (no route to host)" in err


def test_landmarks_of_another_picture_of_the_same_name(photo, tmp_path):
    """FFHQ has its aligned pictures and the original ones under the same names."""
    entry = {"in_the_wild": {"file_path": "w/photo.png", "face_landmarks": FIVE, "pixel_size": [2016, 1512]}}
    face = read_landmarks(write(tmp_path / "l.json", {"0": entry})).of(photo)
    with pytest.raises(si.ImageFileError, match="has 180x160 pixels, and its landmarks are of a picture of 2016x1512"):
        read_aligned(photo, face, 8, 3)


def test_pictures_of_a_zip_and_several_targets(photo, tmp_path, tiny_file, cli):
    import zipfile

    with zipfile.ZipFile(tmp_path / "set.zip", "w") as z:
        z.write(photo, "a/photo.png")
        z.write(photo, "other.png")
    points = write(tmp_path / "l.json", {"a/photo.png": FIVE})
    command = ["project", "-n", tiny_file, "-t", tmp_path / "set.zip", "-o", tmp_path / "o", "--align"]
    status, _, err = cli(*command, points, "--method", "w", "--steps", "1", "--loss", "mse=1")
    assert status == 1 and "1 of 2 targets are done" in err and 'l.json: it has no landmarks of "other.png"' in err
    target = np.asarray(PIL.Image.open(tmp_path / "o" / "photo" / "target.png")).transpose(2, 0, 1)
    assert np.array_equal(target, read_aligned(photo, UPRIGHT, 8, 3)[0])
    status, _, err = cli(*command, write(tmp_path / "one.json", FIVE))
    assert status == 1 and "there are 2 targets" in err
    status, _, err = cli(
        "align", tmp_path / "set.zip", "--landmarks", points, "-o", tmp_path / "p", "--resolution", "16"
    )
    assert status == 0 and "left out" in err and sorted(os.listdir(tmp_path / "p")) == ["landmarks.json", "photo.png"]
