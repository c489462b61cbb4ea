"""Layout changes nothing that a file says."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.errors import PolicyError
from proxy.policy.format import formatted
from proxy.policy.reader import parse_document

MESSY = """# The head.
version:   1
pack: trial   # ours
rules:
- id: r
  why:    'GDPR, Art. 4(1): "people"'

  # about the condition
  when: {entities: [PERSON],   min_score: 0.50}
  action: block
- {id: s, why: no, when: {always: true}, action: "allow"}
"""
NEAT = """# The head.
version: 1
pack: trial   # ours
rules:
  - id: r
    why: 'GDPR, Art. 4(1): "people"'

    # about the condition
    when: {entities: [PERSON], min_score: 0.50}
    action: block
  - {id: s, why: no, when: {always: true}, action: "allow"}
"""


def lay_out(text: str) -> str:
    return formatted(Path("trial.yaml"), text.encode()).decode()


def test_lays_out_and_keeps_comments_quotes_and_order() -> None:
    assert lay_out(MESSY) == NEAT
    assert lay_out(NEAT) == NEAT


@pytest.mark.parametrize("path", sorted(Path("policies").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_shipped_packs_are_laid_out(path: Path) -> None:
    assert formatted(path, path.read_bytes()) == path.read_bytes()


@pytest.mark.parametrize(
    "value",
    [
        "no",
        "on",
        "0o17",
        "12:30",
        "2026-12-31",
        "1_000",
        "1e3",
        "0x10",
        "null",
        "~",
        "''",
        '"\\u00e9\\n"',
        "'it''s'",
        "|\n  two\n  lines\n",
        ">-\n  folded\n  text\n",
        "é — ｘ",
        "'#not a comment'",
        "{a: [1, 2.50, true], b: {}}",
        "a" * 3000,
        "x " * 400 + "x",
    ],
)
def test_says_the_same_afterwards_or_leaves_the_file_alone(value: str) -> None:
    text = f"pack: {value}\nother: [1]\n"
    before = parse_document(Path("t.yaml"), text.encode()).members
    try:
        after = lay_out(text)
    except PolicyError as error:
        assert "left as it is" in error.public_message  # noqa: PT017
        return
    assert parse_document(Path("t.yaml"), after.encode()).members == before


@pytest.mark.parametrize("text", ["a: &x 1\n", "a: !!str 1\n", "a: 1\na: 2\n", "- x\n", "a: [\n"])
def test_refuses_what_is_not_strict(text: str) -> None:
    with pytest.raises(PolicyError):
        lay_out(text)
