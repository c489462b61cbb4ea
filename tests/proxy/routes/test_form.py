"""A form as JSON and back: nothing is lost, and what a reader gets is what was inspected."""

from __future__ import annotations

import httpx2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.api.wire import read_form_body
from proxy.errors import RequestError
from proxy.inspection.surface import surface
from proxy.routes.form import Form, written
from proxy.types import JSONObject, Origin, UnscannableReason

FORM = Form("audio", max_parts=8, max_field_bytes=200)
TYPE = b"multipart/form-data; boundary=xyz"
LETTERS = st.characters(exclude_categories=("C", "Z"), exclude_characters="\\")
names = st.text(LETTERS, min_size=1, max_size=20)
texts = st.text(max_size=40)


def a_value(name: str, value: bytes = b"a", more: str = "") -> bytes:
    head = f'Content-Disposition: form-data; name="{name}"{more}'
    return b"--xyz\r\n%b\r\n\r\n%b\r\n" % (head.encode(), value)


def read(*parts: bytes, form: Form = FORM) -> JSONObject:
    return read_form_body(b"".join(parts) + b"--xyz--", TYPE, form)


@settings(max_examples=40)
@given(
    fields=st.dictionaries(names.filter(lambda name: not name.endswith("[]")), texts, max_size=3),
    items=st.lists(texts, max_size=2),
    name=names,
    content=st.binary(max_size=300),
)
@example({}, [], "\ufffd", b"")  # a name that was spoilt before, and is sound UTF-8
def test_what_a_real_client_sends_is_written_again_the_same(
    fields: dict[str, str], items: list[str], name: str, content: bytes
) -> None:
    request = httpx2.Request(
        "POST",
        "http://localhost/",
        data={**fields, "x[]": items},
        files={"file[]": (name, content, "audio/wav")},
    )
    body = read_form_body(request.read(), request.headers["content-type"].encode(), FORM)
    again, kind = written(body)
    assert read_form_body(again, kind.encode(), FORM) == body
    assert body.get("x[]", []) == items
    assert [body[key.replace('"', "%22")] for key in fields] == list(fields.values())
    assert content in again


def test_every_string_of_a_form_is_inspected_and_its_file_is_unscannable() -> None:
    body = read(
        a_value("jane.doe@example.com", b"value-1"),
        a_value("x[]", b"value-2"),
        a_value("file", b"RIFF", '; filename="jane.wav"\r\nContent-Type: text/plain'),
    )
    found = surface(body)
    told = {segment.text for segment in found.segments if segment.origin is not Origin.BLOB}
    assert told >= {"jane.doe@example.com", "value-1", "value-2", "jane.wav"}
    (blob,) = [segment for segment in found.segments if segment.origin is Origin.BLOB]
    assert (blob.blob, blob.media_type) == (b"RIFF", "audio/plain")
    assert [entry.reason for entry in found.unscannable] == [UnscannableReason.AUDIO]


@pytest.mark.parametrize("kind", ["", "x", "a/b/c", "audio/wav\x00", "image/png;base64,QUJD"])
def test_a_file_is_of_the_kind_of_its_route_whatever_it_says(kind: str) -> None:
    body = read(a_value("file", b"RIFF", f'; filename="a"\r\nContent-Type: {kind}'))
    assert [entry.reason for entry in surface(body).unscannable] == [UnscannableReason.AUDIO]


@pytest.mark.parametrize(
    "parts",
    [
        [a_value("prompt"), a_value("prompt", b"b")],
        [a_value("file", b"x", '; filename="a"'), a_value("file", b"y", '; filename="b"')],
        [a_value("file", b"x", '; filename="a"'), a_value("file", b"y")],
        [a_value("prompt", b"\xff\xfe")],
        [a_value("prompt", b"x", "\r\nContent-Type: text/plain; charset=utf-16")],
        [a_value("prompt", b"x", "\r\nContent-Type: text/plain\r\nContent-Type: a/b")],
        [a_value("prompt", b"x" * 201)],
        [a_value("x[]")] * 9,
        [a_value("x[]")] * 1000,
    ],
    ids=["name", "file", "both", "latin", "charset", "types", "huge", "parts", "thousand"],
)
def test_what_readers_disagree_on_is_refused(parts: list[bytes]) -> None:
    with pytest.raises(RequestError) as caught:
        read(*parts)
    assert caught.value.code == "invalid_form"
    assert caught.value.__context__ is None


def test_each_route_has_limits_of_its_own() -> None:
    wide = Form("audio", max_parts=1001, max_field_bytes=300)
    assert len(read(*[a_value("x[]")] * 1000, form=wide)["x[]"]) == 1000  # type: ignore[arg-type]
    assert read(a_value("prompt", b"x" * 300), form=wide)["prompt"] == "x" * 300


@pytest.mark.parametrize(
    "body",
    [
        b"--xyz\r\n",
        b"--xy--\r\n",
        a_value("a") + b"--xyz",
        a_value("a").replace(b"--xyz", b"--xyzz"),
        a_value("a")[2:] + b"--xyz--",
        a_value("a").replace(b"\r\n", b"\n") + b"--xyz--",
    ],
)
def test_a_broken_boundary_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        read_form_body(body, TYPE, FORM)
    assert caught.value.code == "invalid_form"
