"""A question about a famous person is no private data; a private matter always is."""

from __future__ import annotations

import pytest

from proxy.inspection.entities import category_of
from proxy.inspection.names import NamesDetector
from proxy.inspection.publicfigures import mark_public_figures
from proxy.types import Category, Finding, Origin, Role, Segment


def marked(text: str, name: str, *more: Finding) -> Finding:
    segment = Segment(0, "messages[0].content", Role.USER, Origin.VALUE, text=text)
    at = text.index(name)
    person = Finding("PERSON", category_of("PERSON"), 0, at, at + len(name), 0.85, "presidio")
    return mark_public_figures([segment], [person, *more])[0]


def test_relabels_a_listed_figure_when_the_request_is_a_question() -> None:
    finding = marked("When did Marie Curie win her second prize?", "Marie Curie")
    assert (finding.entity, finding.category) == ("PUBLIC_FIGURE", Category.OTHER)


def test_leaves_the_name_when_another_identifier_stands_beside_it() -> None:
    phone = Finding("PHONE_NUMBER", Category.CONTACT, 0, 0, 4, 0.7, "identifiers")
    assert marked("When did Marie Curie ring?", "Marie Curie", phone).entity == "PERSON"


def test_leaves_the_name_when_the_matter_is_private() -> None:
    finding = marked("Who told my boss about Jane Roe?", "Jane Roe")
    assert (finding.entity, finding.score) == ("PERSON", 0.85)


def test_finds_a_name_after_a_cue() -> None:
    text = "Patient: Ottilie Brandt, seen today"
    segment = Segment(0, "p", Role.USER, Origin.VALUE, text=text)
    assert any(text[f.start : f.end] == "Ottilie Brandt" for f in NamesDetector().detect([segment]))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Who told the senate about Jane Roe?", "Jane Roe"),
        ("Play the new album by Ottilie Brandt", "Ottilie Brandt"),
        ("Ottilie Brandt is the protagonist of this novel.", "Ottilie Brandt"),
        ("Ottilie has 4 pears and eats half. How many are left?", "Ottilie"),
    ],
)
def test_a_name_in_a_question_a_story_or_a_sum_is_impersonal(text: str, name: str) -> None:
    finding = marked(text, name)
    assert (finding.entity, finding.category) == ("UNLIKELY_PERSON", Category.OTHER)
    assert finding.score == 0.85  # a policy that pins public figures must still see it


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("I met Ottilie Brandt in the band.", "Ottilie Brandt"),
        ("Ottilie was born in 1978.", "Ottilie"),
        ("Ottilie Brandt missed the meeting again.", "Ottilie Brandt"),
        ("Write a letter for Jane Miller", "Jane Miller"),
        ("Summarize what our patient Ottilie Brandt said?", "Ottilie Brandt"),
    ],
)
def test_a_name_in_anything_else_stays_a_person(text: str, name: str) -> None:
    assert marked(text, name).entity == "PERSON"
