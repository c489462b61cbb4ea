"""The search sees a value in every form, in one pass, and nothing where there is nothing."""

from __future__ import annotations

import base64
import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.selfcheck.canaries import ANY, Canaries, Kind
from proxy.selfcheck.traces import Searcher, Trace, forms, readable

PLANTS = [Canaries(1).plant(kind) for kind in ANY]
SEARCHER = Searcher(Trace(number, plant.bare, ()) for number, plant in enumerate(PLANTS))


@pytest.mark.parametrize("number", range(len(PLANTS)), ids=[kind.name for kind in Kind])
def test_sees_every_form_between_anything_else(number: int) -> None:
    for name, form in forms(PLANTS[number].bare):
        for data in (form, b"x" + form + b"yz", b"\xff" * 5_000 + form.upper()):
            assert set(SEARCHER.find(data)) == {number}, name


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=40), st.binary(max_size=40), st.sampled_from(range(len(PLANTS))))
def test_sees_a_value_within_encoded_text(before: bytes, after: bytes, number: int) -> None:
    whole = before + PLANTS[number].bare.encode() + after
    for encode in (base64.b64encode, base64.urlsafe_b64encode, base64.b32encode, bytes.hex):
        made = encode(whole)
        assert number in SEARCHER.find(made if isinstance(made, bytes) else made.encode())


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=3_000))
def test_sees_nothing_in_bytes_of_another(data: bytes) -> None:
    assert SEARCHER.find(data) == {}


def test_sees_a_value_over_the_border_of_two_chunks() -> None:
    form = PLANTS[0].bare.encode()
    for shift in range(len(form) + 4):
        assert set(SEARCHER.find(b"." * ((1 << 20) - shift) + form + b".")) == {0}


def test_wants_all_pieces_of_a_value_in_one_place() -> None:
    searcher = Searcher([Trace(7, "4929123456785678", ("49291234", "56785678"))])
    assert searcher.find(b"49291234 and 56785678") == {7: "as planted"}
    assert searcher.find(b"49291234 and no more") == {}


def test_takes_no_form_that_is_too_short_to_show_anything() -> None:
    with pytest.raises(ValueError, match="shows nothing"):
        Searcher([Trace(1, "short", ())])


BODY = {"a": [{"b": json.dumps({"c": "j\u00e4ne&<"})}], "row": [74, 97, 110, 101], "n": 12}


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (json.dumps(BODY).encode(), {}),
        (gzip.compress(json.dumps(BODY).encode()), {"content-encoding": "gzip"}),
        (b"data: " + json.dumps(BODY).encode() + b"\n\n", {}),
        (json.dumps({"wrapped": json.dumps(BODY)}).encode(), {}),
    ],
    ids=["plain", "compressed", "event", "wrapped"],
)
def test_reads_what_a_body_says(body: bytes, headers: dict[str, str]) -> None:
    told = readable(body, headers, "/v1/x?q=one%20two+three")
    assert "j\u00e4ne&<".encode() in told
    assert b"Jane" in told
    assert b"one two three" in told


def test_reads_what_is_no_json_as_it_is() -> None:
    assert b"{nothing" in readable(b"{nothing", {"content-encoding": "gzip", "x": "y"})
