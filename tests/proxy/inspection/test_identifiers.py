"""Identifiers are found by form and by announcing word, and quiet without either."""

from __future__ import annotations

import pytest

from proxy.inspection.identifiers import IdentifiersDetector
from proxy.types import Origin, Role, Segment

DETECTOR = IdentifiersDetector()


def found(text: str) -> set[str]:
    segment = Segment(3, "messages[0].content", Role.USER, Origin.VALUE, text=text)
    findings = DETECTOR.detect([segment])
    assert all(f.segment == 3 and 0 <= f.start < f.end <= len(text) for f in findings)
    return {finding.entity for finding in findings}


@pytest.mark.parametrize(
    ("text", "entity"),
    [
        pytest.param("MRN: 00448812", "MEDICAL_RECORD_NUMBER", id="medical record"),
        pytest.param("Geburtsdatum: 1. März 1971", "DATE_OF_BIRTH", id="birth date, German"),
        pytest.param("passport no. X1234567", "PASSPORT", id="passport"),
        pytest.param("the VIN 1M8GDM9AXKP042788 is his", "VIN", id="vehicle with check digit"),
        pytest.param("12 Example Street, Springfield, IL 62701", "STREET_ADDRESS", id="US address"),
        pytest.param("Musterstraße 7a in 10115", "STREET_ADDRESS", id="German address"),
        pytest.param("card 4111 1111 1111 1111", "CREDIT_CARD", id="card"),
        pytest.param("身份证号码是11010519491231002X", "NATIONAL_ID", id="Chinese identity number"),
        pytest.param("+44 20 7946 0958", "PHONE_NUMBER", id="phone"),
        pytest.param("jane.doe@mail.corp.internal", "EMAIL_ADDRESS", id="address of a house"),
        pytest.param("jane.doe@example-mail.com.txt", "EMAIL_ADDRESS", id="address as file name"),
    ],
)
def test_finds_an_identifier_when_its_form_or_word_is_there(text: str, entity: str) -> None:
    assert entity in found(text)


@pytest.mark.parametrize(
    "text",
    ["What is 12 times 40?", "The insurance industry has 50000 firms.", "In 1990 it rained a lot."],
)
def test_stays_quiet_when_numbers_are_only_numbers(text: str) -> None:
    assert found(text) == set()
