"""Values come back where their pseudonyms stand as words of their own, and nowhere else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.egress.placeholders import Vault
from proxy.egress.restore import Restorer, restored_in_chunks
from proxy.types import MaskWith

NAME = 'Jane "JJ"'


def a_vault() -> Vault:
    vault = Vault("")
    for entity, value in (
        ("PERSON", NAME),
        ("PERSON", "Dr Max van Moor"),
        ("EMAIL_ADDRESS", "jane@mail.example"),
        ("PHONE_NUMBER", "+49 151 23456789"),
    ):
        vault.token_for(entity, value, MaskWith.PSEUDONYM)
    vault.token_for("VIN", "1HGCM82633A004352")
    return vault


VAULT = a_vault()
TOKENS = [entry.token for entry in VAULT]
JANE, MAX, MAIL, PHONE, VIN = TOKENS


def back(text: str) -> str:
    return restored_in_chunks(VAULT, [text])


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (f"{JANE}'s, {JANE.upper()}, ({JANE.lower()})", f"{NAME}'s, {NAME}, ({NAME})"),
        (f"Dear {JANE.split()[0]},", "Dear Jane,"),
        (f"Ms {JANE.split()[1]}", 'Ms "JJ"'),
        (f"Dear {MAX.split()[0]}", "Dear Dr Max van Moor"),
        (f"**{JANE}** _{JANE}_", f"**{NAME}** _{NAME}_"),
        (f"{MAIL}. {PHONE}", "jane@mail.example. +49 151 23456789"),
        (f"{VIN} {JANE}", f"1HGCM82633A004352 {NAME}"),
    ],
    ids="cases first last one-name markdown contacts beside-a-placeholder".split(),
)
def test_restores_the_forms_in_which_answers_write(written: str, expected: str) -> None:
    assert back(written) == expected


@pytest.mark.parametrize(
    "write",
    [
        lambda: f"x{JANE.split()[0]}",
        lambda: f"{JANE.split()[0]}s",
        lambda: f"{PHONE}5",
        lambda: JANE.split("-")[0],
        lambda: JANE.replace("-", " "),
        lambda: f"{JANE.split()[0]}ia",
    ],
)
def test_leaves_what_is_no_pseudonym(write: Any) -> None:
    text = f"see {write()} there"
    assert back(text) == text


def test_two_people_who_share_a_name_each_get_their_own() -> None:
    vault = Vault("")
    one = vault.token_for("PERSON", "Jane Doe", MaskWith.PSEUDONYM)
    two = vault.token_for("PERSON", "Jane Roe", MaskWith.PSEUDONYM)
    text = f"{two.split()[1]}, {one.split()[0]}, {one}, {two}"
    assert restored_in_chunks(vault, [text]) == "Roe, Jane, Jane Doe, Jane Roe"


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_value_is_escaped_for_every_string_it_stands_in(depth: int) -> None:
    written, expected = JANE, NAME
    for _ in range(depth):
        written, expected = json.dumps({"a": written}), json.dumps({"a": expected})
    assert back(written) == expected


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("sign", list("\b\f\n\r\t\x1f\x0a\u2028"))
def test_a_word_begins_after_the_escape_of_a_sign_that_is_no_letter(sign: str, depth: int) -> None:
    written, expected = f"x{sign}{PHONE}{sign}{JANE}", f"x{sign}+49 151 23456789{sign}{NAME}"
    for _ in range(depth):
        written, expected = json.dumps({"a": written}), json.dumps({"a": expected})
    assert back(written) == expected
    assert restored_in_chunks(VAULT, written) == expected
    assert back(f"Here it is: {written}") != f"Here it is: {written}"


SIGNS = ("-", " ", "x", "\u017f", "\u0130", '{"a": "', '"}', "\\", "\\n", "\\u001f", "\\\\t")
PIECES = st.sampled_from([*TOKENS, *JANE.split(), JANE.upper(), JANE[:7], *SIGNS]) | st.text(
    max_size=3
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=8).map("".join), st.data())
def test_chunks_do_not_matter(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    chunks = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert restored_in_chunks(VAULT, chunks) == back(text)


def test_every_cut_of_a_pseudonym_is_restored_and_counted() -> None:
    text = f"so {JANE} it is"
    for cut in range(len(text)):
        restorer = Restorer(VAULT)
        shown = restorer.feed(text[:cut]) + restorer.feed(text[cut:]) + restorer.end()
        assert (shown, restorer.num_restored) == (f"so {NAME} it is", 1)


def test_plain_prose_hardly_waits() -> None:
    restorer = Restorer(VAULT)
    assert restorer.feed("The weather is fine. ") == "The weather is fine. "
