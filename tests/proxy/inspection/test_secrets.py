"""Credentials are found by published form and beside a telling key; plain prose is not."""

from __future__ import annotations

import pytest

from proxy.inspection.secrets import SecretsDetector, token_forms
from proxy.types import Category, Origin, Role, Segment

DETECTOR = SecretsDetector()


def found(text: str) -> set[Category]:
    segment = Segment(0, "p", Role.USER, Origin.VALUE, text=text)
    return {finding.category for finding in DETECTOR.detect([segment])}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("AKIAIOSFODNN7EXAMPLE", id="AWS documentation key"),
        pytest.param('{"AdminPassword": "blue-harbor-9"}', id="password in JSON"),
        pytest.param("curl -u someone:blue-harbor https://example.com", id="curl user"),
        pytest.param("postgres://app:blue-harbor@db.example.com/x", id="connection string"),
        pytest.param("sonar.login=" + "0123456789abcdef" * 2, id="hex beside a key"),
    ],
)
def test_finds_a_credential(text: str) -> None:
    assert found(text) == {Category.CREDENTIAL}


def test_stays_quiet_when_prose_only_speaks_of_secrets() -> None:
    assert found("How do I choose a good password, and what is an API key?") == set()


def test_every_form_of_a_token_is_linear_and_narrow() -> None:
    prose = "The quick brown fox, s.th. of 12.5 kg; see section 4.1-2 and page 300 of vol. 7."
    assert token_forms().search(prose) is None
    assert token_forms().search("token: lin_api_" + "a1B2" * 10) is not None


def test_a_random_value_counts_whatever_its_name() -> None:
    assert found('shipping = "q8Zx2Lr0Tn5Wk7Vb3Jm1Hd9"') == {Category.CREDENTIAL}
    assert found('title = "a-very-long-but-plain-heading"') == set()
