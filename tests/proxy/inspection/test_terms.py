"""Word lists: whole words, whatever their capitals, accents, spaces and hyphens."""

from __future__ import annotations

import pytest

from proxy.inspection.terms import TermTable


def spans(text: str, *terms: str) -> list[str]:
    table = TermTable((term, term) for term in terms)
    return [text[start:end] for _, start, end in table.find(text)]


@pytest.mark.parametrize(
    ("text", "term", "found"),
    [
        ("On Blue Whale we agree.", "blue whale", ["Blue Whale"]),
        ("BLUE-WHALE, blue_whale", "Blue Whale", ["BLUE-WHALE", "blue_whale"]),
        ("blue\n  whale", "Blue Whale", ["blue\n  whale"]),
        ("the blue whales", "Blue Whale", []),
        ("skyblue whale", "Blue Whale", []),
        ("blue, whale", "Blue Whale", []),
        ("blue" + " " * 40 + "whale", "Blue Whale", []),
        ("Blue Whale's budget", "Blue Whale", ["Blue Whale"]),
        ("Müller und MULLER", "muller", ["Müller", "MULLER"]),
        ("Mu\u0308ller", "Müller", []),  # the folded view reads it
        ("ask AT&T", "AT&T", ["AT&T"]),
        ("at t", "AT&T", []),
        ("in C++ and C", "C++", ["C++"]),
        ("关于蓝鲸的预算", "蓝鲸", ["蓝鲸"]),
        ("STRASSE", "Straße", ["STRASSE"]),
        ("", "x1", []),
    ],
)
def test_finds_whole_words(text: str, term: str, found: list[str]) -> None:
    assert spans(text, term) == found


def test_terms_that_overlap_are_all_found() -> None:
    text = "Ada Lovelace Project"
    found = spans(text, "Ada Lovelace", "Lovelace Project", "Ada", "ada lovelace")
    assert sorted(found) == ["Ada", "Ada Lovelace", "Ada Lovelace", "Lovelace Project"]


def test_a_term_of_nothing_is_never_found() -> None:
    assert spans("a - b _ c", " ", "-", "_") == []


def test_a_long_list_takes_no_longer_for_a_text() -> None:
    table = TermTable((number, f"project {number}") for number in range(50_000))
    assert [number for number, _, _ in table.find("see project 49999 and project 50000")] == [49999]
