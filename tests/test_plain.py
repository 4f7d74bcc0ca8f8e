"""The reader of plain values: every text gives a checked value or one sentence."""

# Takes at most 10 CPU seconds.

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stylegan_invert.errors import CodeFileError, TrainingError
from stylegan_invert.files import door, plain
from stylegan_invert.files.plain import Misfit, flag, items, maybe, named, number, parse_json, table, text, whole
from stylegan_invert.options import check_options
from stylegan_invert.training.encoder_options import EncoderOptions

RUN = table(
    {
        "steps": whole(1, 1000),
        "rate": number(0, 1, above=True),
        "kind": text("a", "b"),
        "data": table({"path": text(limit=20)}, {"mirror": flag}),
    },
    {"span": items(whole(), least=2, most=2), "labels": named(whole(0, 9), most=3), "note": maybe(text())},
)
GOOD = {"steps": 3, "rate": 0.5, "kind": "a", "data": {"path": "x"}}


def test_what_fits_is_returned():
    whole_record = {**GOOD, "data": {"path": "x", "mirror": True}, "span": [0, 2], "labels": {"cat": 1}, "note": None}
    for record in (GOOD, whole_record):
        assert parse_json(json.dumps(record).encode(), RUN) == record
    assert parse_json(b"\xef\xbb\xbf{}", plain.anything) == {}  # with the mark that Windows editors put in front
    got = parse_json('{"rate": 1}', table({"rate": number()}))["rate"]
    assert got == 1.0 and type(got) is float


@pytest.mark.parametrize(
    "change, error",
    [
        ({"steps": 0}, "steps is 0; expected an integer from 1 to 1000"),
        ({"steps": True}, "steps is true; expected an integer"),
        ({"steps": 2.0}, "steps is 2.0; expected an integer"),
        ({"steps": "x"}, 'steps is "x"; expected an integer'),
        ({"steps": 10**40}, "steps is a number of more than 30 digits; expected"),
        ({"rate": 0}, "rate is 0; expected a finite number above 0 to 1"),
        ({"rate": math.nan}, "rate is NaN; expected"),
        ({"rate": math.inf}, "rate is Infinity; expected"),
        ({"rate": None}, "rate is null; expected"),
        ({"rate": 10**400}, "rate is a number of more than 30 digits; expected"),
        ({"kind": "c"}, 'kind is "c"; expected one of a, b'),
        ({"kind": ["a"]}, "kind is a list of 1; expected one of a, b"),
        ({"data": []}, "data is a list of 0; expected a table"),
        ({"data": {}}, "data.path is missing"),
        ({"data": {"path": ""}}, "data.path is"),
        ({"data": {"path": "a\0b"}}, 'data.path is "a\\x00b"; expected a text'),
        ({"data": {"path": "\ud800"}}, 'data.path is "\\ud800"; expected a text'),
        ({"data": {"path": "x" * 21}}, "expected a text of 1 to 20 characters"),
        ({"data": {"path": "x", "mirror": 1}}, "data.mirror is 1; expected true or false"),
        ({"data": {"path": "x", "\x1b[2J": 1}}, "data.\\x1b[2J is unknown; expected path, mirror"),
        ({"span": [1]}, "span is a list of 1; expected 2 values"),
        ({"span": [1, -1]}, "span[1] is -1; expected"),
        ({"labels": {"cat": 10}}, "labels.cat is 10; expected"),
        ({"labels": dict.fromkeys("abcd", 1)}, "labels is a table of 4; expected a table of at most 3 values"),
        ({"note": 1}, "note is 1; expected a text"),
    ],
)
def test_what_does_not_fit_is_one_sentence_with_its_place(change, error):
    with pytest.raises(Misfit) as caught:
        parse_json(json.dumps({**GOOD, **change}), RUN)
    message = str(caught.value)
    assert error in message and message.isprintable() and len(message) < 400


@pytest.mark.parametrize(
    "data, error",
    [
        (b"", "it is not JSON"),
        (b'{"a": 1', "is it complete?"),
        (b"\xff{}", "not a text in UTF-8"),
        (b"[" * 500_000, "nested too deeply"),
        (b'{"a":' * 200_000, "nested too deeply"),
        (b"[" * 40 + b"]" * 40, "nested deeper than 32 levels"),
        (b'{"a": 1, "b": 2, "a": 3}', 'a table has the name "a" twice'),
        (b"[1e400]", "[0] is Infinity; expected a finite number"),
        (b'{"a": [NaN]}', "a[0] is NaN; expected a finite number"),
        (b"1" * 5000, "a number of thousands of digits"),
        (b"[" + b"[]," * 2**20 + b"[]]", "more than 1,048,576 values"),
        (b"{" + b'"a":{},' * 2**19 + b'"b":1}', "more than 1,048,576 values"),
    ],
)
def test_what_is_no_json_is_one_sentence(data, error):
    with pytest.raises(Misfit) as caught:
        parse_json(data, plain.anything)
    assert error in str(caught.value) and str(caught.value).isprintable()


def test_a_file_is_named_and_has_a_limit(tmp_path):
    path = tmp_path / "a.json"
    kind = door.Kind("a record", 100, CodeFileError)
    path.write_text('{"steps": -1}')
    with pytest.raises(CodeFileError, match=r"a\.json: steps is -1; expected an integer from 0"):
        plain.read_json(path, kind, table({"steps": whole()}))
    path.write_text(" " * 101)
    with pytest.raises(CodeFileError, match="a record has at most 100"):
        plain.read_json(path, kind, table({}))
    path.unlink()
    with pytest.raises(CodeFileError, match="the record: there is no such file"):
        plain.read_json(path, kind, table({}), name="the record")


def test_an_option_of_a_file_is_shown_in_short():
    for value in ("x" * 5000, "\x1b[2J" * 1000, 10**5000, [0] * 10**5, {"a": "b" * 10**5}):
        for options in ({"seed": value}, {"kimg": value}):
            with pytest.raises(TrainingError, match=f"{next(iter(options))} is .*; expected") as refused:
                EncoderOptions(**options)
            assert len(refused.value.args[0]) < 250 and refused.value.args[0].isprintable()
    with pytest.raises(TrainingError, match="unknown") as refused:
        check_options(EncoderOptions, {"y" * 5000: 1, "\x1b": 2}, TrainingError)
    assert len(refused.value.args[0]) < 700 and refused.value.args[0].isprintable()


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=30)
values = st.recursive(leaves, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=8), v, max_size=3))


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(st.binary(max_size=40), values.map(lambda v: json.dumps(v).encode())),
    st.sampled_from([RUN, plain.anything]),
)
def test_any_bytes_give_a_value_or_a_sentence(data, form):
    try:
        value = parse_json(data, form)
    except Misfit as e:
        assert str(e).isprintable() and len(str(e)) < 600
    else:
        json.dumps(value, allow_nan=False)  # every number is finite


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["steps", "rate", "kind", "data", "span", "labels", "note"]), values)
def test_any_value_in_one_place_gives_a_value_or_a_sentence(name, value):
    try:
        parse_json(json.dumps({**GOOD, name: value}), RUN)
    except Misfit as e:
        assert str(e).isprintable() and str(e).startswith((name, "a table has"))
