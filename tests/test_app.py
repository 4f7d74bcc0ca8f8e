"""The session behind the page of ``stylegan-invert app``, without the page; `test_app_browser.py` has the page."""
# Takes at most 10 CPU seconds.

import importlib.util
import shutil
import threading

import numpy as np
import pytest
import torch

import stylegan_invert as si
from stylegan_invert.app.offer import Offer, methods_of
from stylegan_invert.app.session import CANCELLED, Edit, Session, SessionError
from stylegan_invert.app.work import Cancelled, Work
from stylegan_invert.editing.finding import sefa
from stylegan_invert.errors import ImageFileError, NetworkFileError
from stylegan_invert.generator import Code, adapt
from stylegan_invert.io.codes import read_codes
from stylegan_invert.io.direction_file import write_direction
from stylegan_invert.media.pictures import read_png
from stylegan_invert.projectors.methods import METHODS
from stylegan_invert.projectors.projection import render_rounded

from conftest import make_direction_network, make_network

# Methods whose loss needs a file that tests do not download.
DOWNLOADS = {name for name, method in METHODS.items() if "features" in method.preset.get("loss", "")}


@pytest.fixture
def session(tiny_file, tmp_path):
    """A session with a network of 8x8 pixels and w of 8."""
    made = Session(Offer([str(tiny_file)]), tmp_path)
    made.choose(tiny_file.name)
    yield made
    made.close()


@pytest.fixture
def drawn(session):
    """The session with the picture of a seed."""
    session.draw(5)
    return session


def w_of(code):
    return code.tensors["w"].numpy()[0]


# Networks and methods


def test_a_network_is_listed_by_its_file_and_an_unknown_one_is_refused(session, tiny_file):
    assert Offer([str(tiny_file), "cats32"]).names() == {"tiny.pkl": str(tiny_file), "cats32": "cats32"}
    assert list(Offer(["a/x.pkl", "b/x.pkl"]).names()) == ["a/x.pkl", "b/x.pkl"]
    with pytest.raises(SessionError, match="'/etc/passwd'; choose one of tiny.pkl"):
        session.choose("/etc/passwd")


def test_a_network_from_the_page_needs_the_owner_and_is_read_as_data(session, tiny_file, tmp_path):
    with pytest.raises(SessionError, match="--allow-networks"):
        session.read_network(tiny_file)
    allowed = Session(Offer([str(tiny_file)], uploads=True), tmp_path)
    allowed.read_network(tiny_file)
    assert allowed.generator.output_shape == (3, 8, 8)
    program = tmp_path / "program.pkl"
    program.write_bytes(b"cos\nsystem\n(S'touch hacked'\ntR.")
    with pytest.raises(NetworkFileError):
        allowed.read_network(program)
    assert allowed.generator.output_shape == (3, 8, 8)


def test_methods_are_those_that_a_network_has():
    plain, headed, dense = make_network(8), make_direction_network(8), si.load("faces64")
    of_plain = set(METHODS) - {"de", "encoder"}
    assert set(methods_of(plain, adapt(plain.G))) == of_plain
    assert set(methods_of(headed, adapt(headed.G))) == of_plain | {"de"}
    expected = {"z", "fast-z", "dense", "fast-dense", "encoder", "pividori-code", "pividori-paper"}
    assert set(methods_of(dense, adapt(dense.G))) == expected


@pytest.mark.parametrize("method", sorted(set(METHODS) - DOWNLOADS - {"de", "encoder"}))
def test_every_method_that_is_listed_runs(session, picture, method):
    session.open_picture(picture)
    *_, last = session.project(method, steps=1)
    assert last.what == "done" and session.result.record["method"] == method
    assert np.array_equal(last.picture, session.result.image.numpy())


# Projection


def test_projection_is_that_of_python(session, tiny_file, picture):
    target = session.open_picture(picture)
    reports = list(session.project("w", steps=4, seed=3))
    expected = si.project(si.load(tiny_file), picture, "w", steps=4, seed=3)
    assert torch.equal(session.result.code.tensors["w"], expected.code.tensors["w"])
    assert np.array_equal(reports[-1].picture, expected.image.numpy())
    assert np.array_equal(target, expected.target.numpy())
    assert session.result.record["target"]["file"].endswith("picture.png")
    numbers = [report.number for report in reports]
    assert numbers == sorted(numbers) and all(report.distance > 0 for report in reports)


def test_cancel_ends_within_a_step_and_the_session_goes_on(drawn, picture):
    before, threads = drawn.code, threading.active_count()
    drawn.open_picture(picture)
    seen = []
    with pytest.raises(Cancelled):
        for report in drawn.project("w", steps=100_000):
            seen.append(report)
            with pytest.raises(SessionError, match="under way"):
                drawn.edit(Edit())
            assert drawn.cancel()
    assert len(seen) == 1 and threading.active_count() == threads
    assert drawn.sentence(Cancelled()) == CANCELLED
    assert drawn.code is before and not drawn.busy and not drawn.cancel()
    assert len(list(drawn.project("w", steps=2))) and drawn.result is not None


def test_a_search_that_nobody_watches_any_more_ends(session, picture):
    session.open_picture(picture)
    reports, threads = session.project("w", steps=100_000), threading.active_count()
    next(reports)
    assert session.busy and threading.active_count() == threads + 1
    reports.close()
    assert not session.busy and threading.active_count() == threads and session.code is None


def test_errors_of_work_reach_the_one_who_iterates():
    def fail(report):
        report("begun")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        list(Work(fail))


def test_two_sessions_do_not_mix(session, tmp_path, picture):
    other = Session(Offer(["cats32"]), tmp_path)
    other.choose("cats32")
    session.open_picture(picture)
    reports = session.project("w", steps=3)
    first = next(reports)
    other.draw(1)
    assert other.edit(Edit()).shape == (3, 32, 32) and first.number == 1
    list(reports)
    assert session.result is not None and other.result is None and other.photograph is None
    assert session.folder != other.folder
    other.close()
    assert not other.folder.exists() and session.folder.exists()
    other.close()


# Photographs


def test_a_picture_becomes_a_square_in_the_way_that_was_chosen(session, picture):
    crop, pad = session.open_picture(picture), session.open_picture(picture, "pad")
    assert crop.shape == pad.shape == (3, 8, 8) and pad[:, 0].min() > 200 > crop[:, 0].min()
    with pytest.raises(SessionError, match="expected one of crop, pad, align"):
        session.open_picture(picture, "stretch")


@pytest.mark.skipif(importlib.util.find_spec("face_alignment") is not None, reason="face-alignment is installed")
def test_alignment_without_its_package_says_how_to_get_it(session, picture):
    with pytest.raises(ImageFileError, match=r"stylegan-invert\[align\]"):
        session.open_picture(picture, "align")


def test_bad_files_are_sentences_without_names_of_folders(session, picture, tmp_path):
    name = "<img src=x onerror=alert(1)>.png"
    (tmp_path / name).write_text("no picture")
    with pytest.raises(ImageFileError) as e:
        session.open_picture(tmp_path / name)
    sentence = session.sentence(e.value)
    assert sentence.startswith("Error: _img src=x onerror=alert(1)_.png: it is not a picture")
    shutil.copy(picture, tmp_path / name)
    assert session.open_picture(tmp_path / name).shape == (3, 8, 8)
    assert "\n" not in session.sentence(RuntimeError("a\nb")) and "report it" in session.sentence(RuntimeError("a"))


def test_what_is_missing_is_said(session, picture):
    with pytest.raises(SessionError, match="drop one first"):
        list(session.project("w"))
    assert not session.busy
    with pytest.raises(SessionError, match="no method 'x'; choose one of w, w+"):
        session.project("x")
    with pytest.raises(SessionError, match="project a photograph or draw a seed first"):
        session.edit(Edit())
    with pytest.raises(SessionError, match="project one first"):
        session.tune()
    with pytest.raises(SessionError, match="from 0 to 4294967295"):
        session.draw(-1)
    session.draw(1)
    with pytest.raises(SessionError, match="keep one first"):
        session.edit(Edit(mix_with="kept"))
    with pytest.raises(SessionError, match="find directions first"):
        session.edit(Edit(tau=1.0))


# Edits


def test_edits_are_done_one_after_another(drawn):
    """Against NumPy: mixing, a step along a direction of w for some layers, and truncation."""
    g = drawn.generator
    drawn.directions = sefa(g, [0, 1])
    edit = Edit(mix_with=9, mix_layers=(1, 2), strengths=(0, 1.5), layers=(2, 3), truncation_psi=0.7)
    w = g.convert(drawn.code, "w+").tensors["w"].numpy()[0].copy()
    z = Code("z", {"z": torch.from_numpy(np.random.RandomState(9).randn(1, 8)).float()})
    w[1:3] = w_of(g.convert(z, "w+"))[1:3]
    w[2:4] += 1.5 * drawn.directions[1].step.numpy()
    mean = g.network.mapping.w_avg.numpy()
    w = mean + 0.7 * (w - mean)
    np.testing.assert_allclose(w_of(drawn.edited(edit)), w, rtol=1e-4, atol=1e-5)
    assert drawn.edited(Edit(strengths=(0.0, 0.0))) is drawn.code


def test_found_directions_come_with_what_compression_needs(drawn):
    assert drawn.has_v and not drawn.compresses and drawn.directions == []
    reports = list(drawn.find_directions())
    assert reports and drawn.compresses and not drawn.busy
    assert [one.name for one in drawn.directions[:2]] == ["component 0 of V", "component 1 of V"]
    assert len(drawn.directions) == 12
    gaussian = drawn.generator.gaussian()
    w = drawn.generator.convert(drawn.code, "w+").tensors["w"]
    expected = gaussian.compress(w, 0.2).numpy()[0]
    assert not np.allclose(expected, w.numpy()[0])
    np.testing.assert_array_equal(w_of(drawn.edited(Edit(tau=0.2))), expected)
    list(drawn.find_directions())
    assert len(drawn.directions) == 12
    drawn.draw(6)
    assert drawn.compresses


def test_a_kept_picture_is_mixed_until_the_network_changes(drawn, tiny_file):
    kept = drawn.generator.convert(drawn.code, "w+").tensors["w"].numpy()[0]
    drawn.keep()
    drawn.draw(8)
    mixed = w_of(drawn.edited(Edit(mix_with="kept", mix_layers=(0, 1))))
    np.testing.assert_array_equal(mixed[:2], kept[:2])
    assert not np.array_equal(mixed[2:], kept[2:])
    drawn.choose("tiny.pkl")
    assert drawn.kept is not None
    drawn.offer = Offer(["cats32"])
    drawn.choose("cats32")
    assert drawn.kept is None


def test_directions_are_those_of_the_network(session, tiny_file, tmp_path):
    (own,) = sefa(session.generator, [0])
    (other,) = sefa(adapt(si.load("cats32").G), [0])
    folder = tmp_path / "found"
    folder.mkdir()
    write_direction(folder / "own.safetensors", own)
    write_direction(folder / "other.safetensors", other)
    named = Session(Offer([str(tiny_file), "cats64-de"], [str(folder)]), tmp_path)
    named.choose("tiny.pkl")
    assert [one.name for one in named.directions] == ["sefa component 0"]
    named.choose("cats64-de")
    assert [one.name for one in named.directions] == ["lighter fur", "face to the right", "warmer fur"]


# Files


def test_files_hold_what_the_page_shows(session, picture, tmp_path):
    session.open_picture(picture)
    list(session.project("w+", steps=2))
    session.directions = sefa(session.generator, [0])
    assert [path.name for path in session.export(Edit())] == ["edited.png", "projected_w.npz"]
    edit = Edit(strengths=(2.0,))
    shown = session.edit(edit)
    files = {path.name: path for path in session.export(edit)}
    assert list(files) == ["edit.mp4", "edited.png", "projected_w.npz"]
    assert np.array_equal(read_png(files["edited.png"]), shown)
    assert np.array_equal(render_rounded(session.generator, read_codes(files["projected_w.npz"])), shown)
    assert b"ftyp" in files["edit.mp4"].read_bytes()[:16]


def test_a_tuned_network_is_edited_and_taken_along(session, picture):
    session.open_picture(picture)
    list(session.project("w", steps=2))
    code, before = session.result.code, session.edit(Edit())
    *_, last = session.tune(3)
    assert session.tuned and session.result.code is code
    shown = session.edit(Edit())
    assert np.array_equal(shown, last.picture) and not np.array_equal(shown, before)
    files = {path.name: path for path in session.export(Edit())}
    tuned = adapt(si.load(files["tuned.pkl"]).G)
    assert np.array_equal(render_rounded(tuned, read_codes(files["projected_w.npz"])), shown)
    session.draw(1)
    assert not session.tuned and [path.name for path in session.export(Edit())] == ["edited.png", "projected_w.npz"]


# The command


def test_without_gradio_the_command_says_how_to_get_it(cli, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gradio" else find(name))
    status, out, err = cli("app")
    assert status == 1 and err.count("\n") == 1 and "pip install 'stylegan-invert[app]'" in err


@pytest.mark.parametrize(
    ("args", "words"),
    [(["-n", "cats23"], "there is no such file"), (["--max-upload", "big"], "is no size"), (["--port", "0"], "--port")],
)
def test_wrong_options_of_the_command(cli, args, words):
    status, out, err = cli("app", *args)
    assert status != 0 and words in err
