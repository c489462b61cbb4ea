"""The surface of a request: no string of any JSON is missed."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.inspection.inline import inspect_with
from proxy.inspection.structural import is_structural, is_structural_number, number_text
from proxy.inspection.surface import MAX_FILES, surface
from proxy.types import (
    JSON,
    Inspection,
    JSONObject,
    Origin,
    Role,
    Unscannable,
    UnscannableReason,
)
from tests.factories import a_body
from tests.proxy.inspection.fakes import FakeDetector

KEYS = st.text(max_size=12) | st.sampled_from(
    ["role", "content", "data", "url", "image_url", "file_id", "file_data", "type", "text"]
)
SCALARS: st.SearchStrategy[JSON] = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=30)
    | st.sampled_from(["user", "tool", "data:image/png;base64,AAAA", "https://x.example", "[1,2"])
    | st.text(max_size=10).map(lambda text: json.dumps({"k": [text]}))
)
BODIES = st.dictionaries(
    KEYS,
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
        max_leaves=20,
    ),
    max_size=5,
)


def words(value: JSON) -> Iterator[str]:
    """Every string, key and number that could carry something."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, member in value.items():
            yield key
            yield from words(member)
    elif isinstance(value, list):
        for member in value:
            yield from words(member)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if not is_structural_number(value):
            yield number_text(value)


@given(BODIES)
def test_no_string_key_or_long_number_escapes(body: JSONObject) -> None:
    found = surface(body)
    texts = {segment.text for segment in found.segments}
    unread = {entry.segment for entry in found.unscannable}
    num_blobs = sum(segment.blob is not None for segment in found.segments)
    missed = [w for w in words(body) if not is_structural(w) and w not in texts]
    assert len(missed) <= num_blobs
    unread |= {file.index for file in found.files}
    assert all(s.index in unread for s in found.segments if s.blob is not None)
    assert found.num_strings == len(list(words(body)))
    assert [segment.index for segment in found.segments] == list(range(len(found.segments)))


@given(BODIES)
def test_counts_add_up(body: JSONObject) -> None:
    found = surface(body)
    counted = [s for s in found.segments if s.origin is not Origin.EMBEDDED]
    assert len(counted) + found.num_structural == found.num_strings


PLACES: dict[str, tuple[JSONObject, str]] = {
    "content": (a_body("hello"), "messages[0].content"),
    "unknown field": (a_body(x={"a": ["hello"]}), "x.a[0]"),
    "key": (a_body(x={"hello": 1}), "x.hello"),
    "stop": (a_body(stop=["hello"]), "stop[0]"),
}


@pytest.mark.parametrize(("body", "path"), PLACES.values(), ids=PLACES.keys())
def test_names_the_place(body: JSONObject, path: str) -> None:
    paths = [segment.path for segment in surface(body).segments if segment.text == "hello"]
    assert paths == [path]


def test_takes_the_role_of_the_message() -> None:
    body: JSONObject = {
        "messages": [
            {"role": "system", "content": "be kind"},
            {"role": "tool", "content": [{"type": "text", "text": "result one"}]},
        ],
        "user": "u-1",
    }
    roles = {segment.text: segment.role for segment in surface(body).segments}
    assert roles["be kind"] is Role.SYSTEM
    assert roles["result one"] is Role.TOOL
    assert roles["u-1"] is Role.NONE


def test_reads_json_in_json_in_json() -> None:
    inner = json.dumps({"deep": "jane.doe@example-mail.com"})
    body = a_body(arguments=json.dumps({"next": inner}))
    embedded = {s.text for s in surface(body).segments if s.origin is Origin.EMBEDDED}
    assert "jane.doe@example-mail.com" in embedded


def test_json_in_a_string_that_two_readers_read_apart_is_unscannable() -> None:
    found = surface(a_body(arguments='{"to": "a", "to": "b"}'))
    assert {entry.reason for entry in found.unscannable} == {UnscannableReason.UNDECODABLE}


PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(40)).decode()
PARTS: dict[str, tuple[JSONObject, UnscannableReason]] = {
    "image": (
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        UnscannableReason.IMAGE,
    ),
    "remote image": (
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        UnscannableReason.REMOTE_URL,
    ),
    "remote image, flat": (
        {"type": "input_image", "image_url": "https://example.com/a.png"},
        UnscannableReason.REMOTE_URL,
    ),
    "remote file in the place of its data": (
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "https://example.com/a.pdf"}},
        UnscannableReason.REMOTE_URL,
    ),
    "remote sound in the place of its data": (
        {"type": "input_audio", "input_audio": {"data": "https://example.com/a.wav"}},
        UnscannableReason.REMOTE_URL,
    ),
    "remote pictures of a film": (
        {"type": "video", "video": ["https://example.com/1.jpg", "//example.com/2.jpg"]},
        UnscannableReason.REMOTE_URL,
    ),
    "remote, of a kind nobody knows": (
        {"type": "document", "document": {"uri": "gs://bucket/a.pdf"}},
        UnscannableReason.REMOTE_URL,
    ),
    "audio": (
        {"type": "input_audio", "input_audio": {"data": PNG, "format": "wav"}},
        UnscannableReason.AUDIO,
    ),
    "file": (
        {"type": "file", "file": {"filename": "a.bin", "file_data": PNG}},
        UnscannableReason.FILE,
    ),
    "stored file": ({"type": "file", "file": {"file_id": "file-1"}}, UnscannableReason.FILE),
}


@pytest.mark.parametrize(("part", "reason"), PARTS.values(), ids=PARTS.keys())
def test_a_part_that_is_no_text_is_unscannable(part: JSONObject, reason: UnscannableReason) -> None:
    body: JSONObject = {"messages": [{"role": "user", "content": [part]}]}
    assert reason in {entry.reason for entry in read(body).unscannable}


def test_an_address_that_is_the_whole_of_a_text_is_a_text() -> None:
    part: JSONObject = {"type": "text", "text": "https://example.com/a"}
    body: JSONObject = {
        "messages": [{"role": "user", "content": [part]}],
        "schema": {"$schema": "https://json-schema.org/draft/2020-12/schema"},
    }
    assert read(body).unscannable == ()


@pytest.mark.parametrize("number", [4111111111111111, 4111111111111111.0, 0.4111111111111111])
def test_reads_a_long_number_as_its_digits(number: float) -> None:
    (segment,) = [s for s in surface(a_body(x=number)).segments if s.origin is Origin.NUMBER]
    assert "4111111111111111"[:15] in (segment.text or "")


def test_a_long_key_does_not_fill_memory() -> None:
    key = "k" * 100_000
    body = a_body(x={key: {str(n): "v" for n in range(1_000)}})
    assert max(len(segment.path) for segment in surface(body).segments) < 200


def test_white_space_is_structural_only_while_it_is_short_and_plain() -> None:
    assert is_structural("")
    assert is_structural("\n\n")
    assert not is_structural(" \t" * 100)
    assert not is_structural("\u2003")


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def a_file(text: bytes, kind: str = "text/csv") -> JSONObject:
    url = f"data:{kind};base64,{base64.b64encode(text).decode()}"
    part: JSONObject = {"type": "file", "file": {"filename": "a.csv", "file_data": url}}
    return {"messages": [{"role": "user", "content": [part]}]}


def read(body: JSONObject) -> Inspection:
    return inspect_with((FakeDetector("secret-word"),), ("en",), body)


def test_a_text_file_is_read_and_leaves_as_it_came() -> None:
    inspection = read(a_file(b"name,mail\nJane,secret-word@example-mail.com\n", "text/plain"))
    assert inspection.unscannable == ()
    (finding,) = inspection.findings
    segment = inspection.segments[finding.segment]
    assert segment.origin is Origin.FILE
    assert (segment.text or "")[finding.start : finding.end] == "secret-word"
    assert segment.path == "messages[0].content[0].file.file_data"
    assert segment.role is Role.USER


def test_json_in_a_file_is_read_as_json_too() -> None:
    text = json.dumps({"a": b"secret\\u002dword".decode("unicode_escape")})
    inspection = read(a_file(text.replace("-", "\\u002d").encode(), "application/json"))
    assert {inspection.segments[f.segment].origin for f in inspection.findings} >= {Origin.EMBEDDED}


UNREAD: dict[str, JSONObject] = {
    "latin-1": a_file("caf\u00e9 secret".encode("latin-1")),
    "binary": a_file(b"\x00\x01\x02\x03" * 9),
    "unknown type": a_file(b"a,b", "a/b"),
    "parameters of its own": a_file(b"a,b", "text/csv;name=Jane-Roe"),
    "another charset": a_file(b"a,b", "text/csv;charset=utf-7"),
}


@pytest.mark.parametrize("body", UNREAD.values(), ids=UNREAD.keys())
def test_a_file_that_is_not_read_whole_is_unscannable(body: JSONObject) -> None:
    assert {entry.reason for entry in read(body).unscannable} == {UnscannableReason.FILE}


LOOSE = {
    "white space": "YSxi\n",
    "letters besides": "YS!xi",
    "spare bits": "YSxiZZ==",
    "cut": "YSxiY",
}


@pytest.mark.parametrize("letters", LOOSE.values(), ids=LOOSE.keys())
def test_base64_that_two_readers_decode_apart_is_unscannable(letters: str) -> None:
    part: JSONObject = {"file": {"file_data": f"data:text/csv;base64,{letters}"}}
    inspection = read({"messages": [{"role": "user", "content": [part]}]})
    assert {entry.reason for entry in inspection.unscannable} == {UnscannableReason.UNDECODABLE}


def test_of_too_many_files_the_rest_is_unscannable() -> None:
    parts = [{"file_data": f"data:text/plain;base64,{b64(str(n))}"} for n in range(MAX_FILES + 2)]
    inspection = read({"messages": [{"role": "user", "content": parts}]})
    assert [entry.reason for entry in inspection.unscannable] == [UnscannableReason.TOO_LONG] * 2


def test_a_file_whose_text_cannot_be_read_counts_as_unread() -> None:
    text = base64.b64encode(bytes((i * 73 + i * i) % 256 for i in range(600)))
    body = a_file(b"see " + text, "text/plain")
    inspection = read(body)
    (file,) = [segment for segment in inspection.segments if segment.blob is not None]
    assert Unscannable(file.index, UnscannableReason.UNDECODABLE) in inspection.unscannable
    assert inspection.coverage.num_unscannable == 1


@given(st.text(max_size=200))
def test_a_text_file_counts_as_read_only_with_its_whole_text(text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    inspection = read(a_file(data, "text/plain"))
    if not inspection.unscannable:
        read_texts = {s.text for s in inspection.segments if s.origin is Origin.FILE}
        assert data.decode("utf-8-sig") in read_texts


CODES: list[JSON] = [ord(char) for char in "Jane Doe, 12 High St"]


@pytest.mark.parametrize(
    "body",
    [
        {"input": [40, 41]},
        {"prompt": [40]},
        {"input": [[40, 41], [42]]},
        a_body(x={"y": CODES}),
        a_body(x=[float(str(code)) for code in CODES]),
        a_body(x=[[code] for code in CODES]),
        a_body(x=[[CODES[:10]], [CODES[10:]]]),
    ],
    ids=["input", "one token", "several", "unknown field", "floats", "one by one", "in halves"],
)
def test_a_row_of_numbers_may_spell_a_text(body: JSONObject) -> None:
    assert {entry.reason for entry in surface(body).unscannable} == {UnscannableReason.UNDECODABLE}


@pytest.mark.parametrize(
    "body",
    [
        a_body(x=[1, 2, 3]),
        a_body(x=[[1, 2], [3, 4]]),
        a_body(x=[True] * 40),
        a_body(x=[["a", 1]] * 20),
        {"input": ["a", "b"]},
        {"input": [{"a": 1}]},
    ],
    ids=["short", "short rows", "flags", "table", "texts", "objects"],
)
def test_a_short_list_or_another_one_spells_nothing(body: JSONObject) -> None:
    assert surface(body).unscannable == ()
