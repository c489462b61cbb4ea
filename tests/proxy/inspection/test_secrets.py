"""Credentials are found by published form and beside a telling key; plain prose is not."""

from __future__ import annotations

import pytest

from proxy.inspection.secrets import SecretsDetector
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
