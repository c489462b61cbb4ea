"""Phone numbers: the gate in front of the matcher keeps every number and spares the rest."""

from __future__ import annotations

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from presidio_analyzer.predefined_recognizers import PhoneRecognizer

from proxy.inspection.phones import GatedPhoneRecognizer

GATED, PLAIN = GatedPhoneRecognizer(), PhoneRecognizer()


def found(text: str, recognizer: PhoneRecognizer = GATED) -> set[str]:
    return {text[r.start : r.end] for r in recognizer.analyze(text, ["PHONE_NUMBER"])}


@pytest.mark.parametrize(
    "number",
    ["+1 212-555-0187", "(212) 555-0187", "212.555.0187", "+44 20 7946 0958", "+49 30 901820",
     "212-555-0187 ext. 12"],
)  # fmt: skip
def test_finds_a_number_as_people_write_it(number: str) -> None:
    assert any(one in number for one in found(f"Please call {number} today."))


@pytest.mark.parametrize(
    "text", ["There is none.", "1 2 3", "3.14159265358979", "x = 12, 13, 14, 15, 16, 17, 18"]
)
def test_stays_quiet_where_no_number_is_written(text: str) -> None:
    assert found(text) == set()


REGIONS = st.sampled_from(["US", "GB", "DE", "FR", "ES", "IN", "BR", "IL"])
WORDS = st.text(st.characters(categories=["Ll", "Lu"], max_codepoint=0x24F), max_size=60)


@given(REGIONS, WORDS, WORDS)
def test_the_gate_loses_no_number_that_the_matcher_finds(
    region: str, before: str, after: str
) -> None:
    example = phonenumbers.example_number(region)
    assert example is not None
    number = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.INTERNATIONAL)
    text = f"{before} {number} {after}"
    assert found(text) == found(text, PLAIN)
