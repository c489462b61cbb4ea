"""A word of health or belief counts where it is said of a person, and is noted elsewhere."""

from __future__ import annotations

import pytest

from proxy.inspection.special import ALONE, SpecialDetector
from proxy.types import Origin, Role, Segment

DETECTOR = SpecialDetector()


def scores(text: str) -> dict[str, float]:
    segment = Segment(2, "messages[0].content", Role.USER, Origin.VALUE, text=text)
    findings = DETECTOR.detect([segment])
    assert all(f.segment == 2 and 0 <= f.start < f.end <= len(text) for f in findings)
    return {finding.entity: finding.score for finding in findings}


@pytest.mark.parametrize(
    ("text", "entity"),
    [
        ("Her sister was diagnosed with asthma last year.", "HEALTH_CONDITION"),
        ("my migraine came back", "HEALTH_CONDITION"),
        ("Diagnosis: chronic kidney disease", "HEALTH_CONDITION"),
        ("underwent an appendectomy on Monday", "HEALTH_CONDITION"),
        ("Is the patient still on ramipril?", "MEDICATION"),
        ("Ramipril 5 mg, once a day", "MEDICATION"),
        ("dx I10.0 and nothing else", "ICD10_CODE"),
        ("He is a Jehovah's Witness.", "RELIGION"),
        ("Religion: Hindu", "RELIGION"),
        ("She is a shop steward here", "TRADE_UNION"),
        ("My colleague is gay", "SEXUAL_ORIENTATION"),
        ("Our applicant is a registered Democrat", "POLITICAL_OPINION"),
        ("his DNA test came back", "BIOMETRIC_OR_GENETIC"),
        ("The candidate was convicted of fraud", "CRIMINAL_RECORD"),
        ("Ethnicity: Pacific Islander", "ETHNIC_ORIGIN"),
    ],
)
def test_counts_a_word_that_is_said_of_a_person(text: str, entity: str) -> None:
    assert scores(text)[entity] >= 0.5


@pytest.mark.parametrize(
    "text",
    [
        "What is asthma?",
        "Explain how statins work.",
        "The history of Islam in Spain",
        "Which countries have a communist party?",
        "He left. Migraine is a common disease.",
        "How does a DNA test work?",
    ],
)
def test_only_notes_a_word_that_is_said_of_nobody(text: str) -> None:
    assert set(scores(text).values()) <= {ALONE}


def test_takes_the_dose_with_the_medicine() -> None:
    text = "Takes Losartan 50mg daily"
    segment = Segment(0, "p", Role.USER, Origin.VALUE, text=text)
    (finding,) = DETECTOR.detect([segment])
    assert text[finding.start : finding.end] == "Losartan 50mg"


def test_finds_no_stem_in_an_everyday_word() -> None:
    assert scores("I will be back in April, with much sympathy and no nostalgia.") == {}
