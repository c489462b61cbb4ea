"""Values that a word announces: every rule has its words, and no value is taken without one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.inspection.entities import ENTITIES
from proxy.inspection.labels import announced
from proxy.inspection.shipped import read_yaml

ENTRIES = read_yaml("labels.yaml")
VALUES = {
    "code": "AB-1234567890",
    "digits": "123 456 789 012 345",
    "date": "9 March 1984",
    "name": "jroe_84",
    "line": "12 Example Street, Springfield",
}


def found(text: str) -> dict[str, str]:
    return {entity: text[start:end] for entity, start, end, _ in announced(text)}


@pytest.mark.parametrize("entry", ENTRIES, ids=[f"{e['entity']}-{e['shape']}" for e in ENTRIES])
def test_every_word_of_the_list_announces_its_value(entry: dict[str, object]) -> None:
    labels, shape, entity = entry["labels"], str(entry["shape"]), str(entry["entity"])
    assert entity in ENTITIES
    assert isinstance(labels, list)
    missed = [one for one in labels if entity not in found(f"{one}: {VALUES[shape]}")]
    assert missed == []


FORMS = {
    "colon": "policy number: {}",
    "is": "my policy number is {}",
    "equals": "policy_number={}",
    "dash": "policy no. - {}",
    "quotes": '"policyNumber": "{}"',
    "markdown": "**Policy number:** {}",
    "XML": "<policy_number>{}</policy_number>",
    "table": "| policy number | {} |",
    "remark": "policy number (new) {}",
    "after it": "{} is my policy number",
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_a_word_announces_in_every_form_people_write(form: str) -> None:
    assert "AB1234567" in found(form.format("AB1234567")).get("POLICY_NUMBER", "")


@pytest.mark.parametrize(
    "text",
    ["AB-1234567", "The policy of 1990 was new.", "Our policy is simple.", "policy\n\nnumber"],
)
def test_stays_quiet_without_a_word_or_a_value(text: str) -> None:
    assert "POLICY_NUMBER" not in found(text)


@pytest.mark.parametrize("line", ["address this in 3 steps", "Address:\n1. Do this at once"])
def test_a_line_that_is_no_address_is_none(line: str) -> None:
    assert "STREET_ADDRESS" not in found(line)


def test_a_corner_of_two_streets_is_an_address_in_small_letters_too() -> None:
    text = "wait at the corner of lerchenau 3 and kranich fields"
    found = [text[start:end] for _, start, end, _ in announced(text)]
    assert found == ["lerchenau 3 and kranich fields"]


@given(st.text(max_size=200))
def test_every_place_is_in_the_text(text: str) -> None:
    for _, start, end, score in announced(f"MRN {text} policy number {text}"):
        assert 0 <= start < end
        assert 0 < score <= 1
