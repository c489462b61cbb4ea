"""Forms: read as they were made, or refused; nothing of them stands in an error."""

from __future__ import annotations

import contextlib

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.api.multipart import MAX_FIELD_BYTES, MAX_PARTS, read_form
from proxy.errors import RequestError

TYPE = b"multipart/form-data; boundary=xyz"
LETTERS = st.characters(exclude_categories=("C", "Z"), exclude_characters="\\")
DISPOSITION = b'Content-Disposition: form-data; name="file"; filename="a"'


def a_part(content: bytes = b"data", head: bytes = DISPOSITION) -> bytes:
    return b"--xyz\r\n%b\r\n\r\n%b\r\n" % (head, content)


@settings(max_examples=25)
@given(
    content=st.binary(max_size=400),
    name=st.text(LETTERS, min_size=1, max_size=20),
    value=st.text(max_size=50),
)
def test_reads_what_a_real_client_sends(content: bytes, name: str, value: str) -> None:
    request = httpx2.Request(
        "POST",
        "http://localhost/",
        data={"purpose": value},
        files={"file": (name, content, "application/jsonl")},
    )
    parts = read_form(request.read(), request.headers["content-type"].encode())
    told = {part.name: part for part in parts}
    assert told["purpose"].content == value.encode()
    assert told["purpose"].filename is None
    assert told["file"].content == content
    # A client escapes these as browsers do (WHATWG HTML, multipart/form-data).
    assert told["file"].filename == name.replace('"', "%22")


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    for body in (raw, a_part(raw) + b"--xyz--\r\n", b"--xyz\r\n" + raw + b"\r\n--xyz--\r\n"):
        with contextlib.suppress(RequestError):
            assert all(part.name.isprintable() for part in read_form(body, TYPE))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form",
        a_part(),
        a_part() * (MAX_PARTS + 1) + b"--xyz--",
        a_part(head=b"Content-Type: text/plain") + b"--xyz--",
        a_part(head=DISPOSITION + b"\r\n" + DISPOSITION) + b"--xyz--",
        a_part(head=DISPOSITION + b"\r\nContent-Transfer-Encoding: base64") + b"--xyz--",
        a_part(head=b"Content-Disposition: attachment; name=a") + b"--xyz--",
        a_part(head=b"Content-Disposition: form-data") + b"--xyz--",
        a_part(head=b'Content-Disposition: form-data; name="a\xff"') + b"--xyz--",
        a_part(head=b'Content-Disposition: form-data; name="a\x07"') + b"--xyz--",
        a_part(head=b'Content-Disposition: form-data; name="a\\\\b"') + b"--xyz--",
        a_part(head=b'Content-Disposition: form-data; name="a"; filename="b\\c"') + b"--xyz--",
        a_part(b"x" * (MAX_FIELD_BYTES + 1), b"Content-Disposition: form-data; name=a")
        + b"--xyz--",
        a_part(head=DISPOSITION + b"\r\nX: " + b"x" * 20_000) + b"--xyz--",
        a_part(head=DISPOSITION + b"\r\nX: y" * 50) + b"--xyz--",
    ],
)
def test_refuses_a_form_that_is_none(body: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        read_form(body, TYPE)
    assert caught.value.code == "invalid_form"
    assert caught.value.__cause__ is None


def test_a_message_holds_nothing_of_the_form() -> None:
    with pytest.raises(RequestError) as caught:
        read_form(a_part(head=b"canary: 7f3e9b"), TYPE)
    assert "7f3e9b" not in str(caught.value)


@pytest.mark.parametrize(
    "content_type",
    [
        b'multipart/form-data; boundary="xyz"',
        b"Multipart/Form-Data;boundary=xyz",
        b"multipart/form-data; charset=utf-8; boundary=xyz",
    ],
)
def test_takes_the_type_in_any_of_its_forms(content_type: bytes) -> None:
    (part,) = read_form(a_part() + b"--xyz--", content_type)
    assert (part.name, part.filename, part.content) == ("file", "a", b"data")


@pytest.mark.parametrize(
    "content_type",
    [b"multipart/form-data", b"multipart/mixed; boundary=xyz", TYPE + b"; x=y", b"", TYPE * 9],
)
def test_refuses_any_other_type(content_type: bytes) -> None:
    with pytest.raises(RequestError):
        read_form(a_part() + b"--xyz--", content_type)
