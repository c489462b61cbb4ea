"""Names after a cue or by two words of the lists; a capitalized word alone is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.inspection.names import (
    NamesDetector,
    given_names,
    is_given_name,
    is_surname,
    likely_name,
    not_names,
    surnames,
)
from proxy.types import Origin, Role, Segment

DETECTOR = NamesDetector()


def found(text: str) -> list[str]:
    segment = Segment(0, "messages[0].content", Role.USER, Origin.VALUE, text=text)
    return [text[finding.start : finding.end] for finding in DETECTOR.detect([segment])]


NAMED = {
    "title": ("I saw Dr. Thornbury today.", "Thornbury"),
    "title, lower case": ("ask mrs. hernandez about it", "hernandez"),
    "role": ("The patient Maria Ortega left.", "Maria Ortega"),
    "label": ("Name: Qwentin Zzyzx", "Qwentin Zzyzx"),
    "label in Markdown": ("**Name:** Grace Paris", "Grace Paris"),
    "greeting": ("Anna, could you call me?", "Anna"),
    "two listed words": ("The form came from Margaret Johnson on Monday.", "Margaret Johnson"),
    "particle": ("We met Maria de la Cruz there.", "Maria de la Cruz"),
    "turned around": ("Nakamura, Margaret", "Nakamura, Margaret"),
    "lower case": ("my name is margaret johnson", "margaret johnson"),
    "starred": ("A. M*** signed; so did J*** R***", "J*** R***"),
    "Chinese": ("患者张伟的病历", "张伟"),
    "Korean": ("환자: 김민수", "김민수"),
    "Japanese": ("氏名：山田 太郎", "山田 太郎"),
}


@pytest.mark.parametrize(("text", "name"), NAMED.values(), ids=NAMED.keys())
def test_finds_a_name_by_what_stands_around_it(text: str, name: str) -> None:
    assert any(name in one or one in name for one in found(text))


@pytest.mark.parametrize(
    "text",
    [
        "The Harbor is closed on Monday.",
        "Paris is a city.",
        "Will you come? Grace period ends.",
        "Dear Sir or Madam,",
        "I use Python and Rust.",
        "New York has five boroughs.",
        "A trip from San Diego to Los Angeles.",
    ],
)
def test_a_capitalized_word_alone_is_no_name(text: str) -> None:
    assert found(text) == []


def test_the_lists_are_in_title_case_and_apart_from_everyday_words() -> None:
    assert len(given_names()) > 5_000
    assert len(surnames()) > 5_000
    for words in (given_names(), surnames()):
        assert all(word[0].isupper() and word == word.strip() for word in words)
    assert not any(is_given_name(word) or is_surname(word) for word in not_names())


@pytest.mark.parametrize(
    ("span", "taken_for", "likely"),
    [
        ("Margaret Johnson", "ORGANIZATION", True),
        ("Margaret Johnson", "LOCATION", True),
        ("Johnson", "NRP", True),
        ("Johnson", "LOCATION", False),
        ("Harbor Johnson", "LOCATION", False),
        ("the river", "ORGANIZATION", False),
        ("Margaret Ann Mary Jane Johnson", "ORGANIZATION", False),
        ("", "ORGANIZATION", False),
    ],
)
def test_says_how_likely_a_span_is_a_name(span: str, taken_for: str, likely: bool) -> None:
    assert (likely_name(span, taken_for) > 0) == likely


@given(st.text(max_size=120))
def test_every_place_is_in_the_text_whatever_it_is(text: str) -> None:
    said = f"Dear Mr. {text}, my name is {text}"
    assert all(one and one in said for one in found(said))
