"""A recognizer that cannot work, or does not find its own examples, keeps a policy from loading."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.errors import PolicyError
from proxy.policy.decide import decide
from proxy.policy.source import FilePolicySource
from proxy.types import Action, Category, Finding
from tests.factories import an_inspection
from tests.proxy.policy.policies import OPEN, a_context, load, write

RULE = (
    "default: allow\nrules: [{id: r, why: GDPR, when: {categories: [business]}, action: block}]\n"
)


def given(what: str = "pattern: '\\bE-\\d{6}\\b'", match: str = "E-104233", more: str = "") -> str:
    return (
        f"{RULE}recognizers:\n  - entity: PROJECT\n    category: business\n    why: NDA 7\n"
        f"    score: 0.8\n    {what}\n    examples: {{match: ['{match}'], no_match: [xyz]}}\n{more}"
    )


def test_its_entity_is_known_and_counts_for_its_category(tmp_path: Path) -> None:
    case = "{name: t, findings: [{entity: PROJECT, score: 0.8}], expect: {action: block}}"
    policy = load(tmp_path, given(more=f"tests: [{case}]\n") + OPEN)
    found = an_inspection(Finding("PROJECT", Category.BUSINESS, 0, 0, 1, 0.8, "custom"))
    assert decide(policy, a_context(), found, decision_id="d").rules[0].id == "r"
    assert policy.recognizers.all[0].entity == "PROJECT"


def test_an_entity_of_another_policy_is_unknown_and_stays(tmp_path: Path) -> None:
    policy = load(tmp_path, RULE + OPEN)
    found = an_inspection(Finding("PROJECT", Category.BUSINESS, 0, 0, 1, 0.8, "custom"))
    decision = decide(policy, a_context(), found, decision_id="d")
    assert decision.action is Action.LOCAL_ONLY
    assert decision.rules[0].id == "unknown_entity"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (given("pattern: '(?=a)b'"), "12:5 RF112 PROJECT: the pattern is not RE2"),
        (given("pattern: '(a)\\1'"), "12:5 RF112 PROJECT: the pattern is not RE2"),
        (given("pattern: 'x*'"), "12:5 RF112 PROJECT: the pattern matches nothing at all"),
        (given("pattern: '\\b'"), "12:5 RF112 PROJECT: the pattern matches nothing at all"),
        (
            given("pattern: '\\pL{900}\\pL{900}'"),
            "12:5 RF112 PROJECT: the pattern is not RE2: pattern too large",
        ),
        (given(match="E-1"), "13:24 RF113 PROJECT: finds nothing in this example"),
        (given("terms: [xyz]", match="xyz"), "RF113 PROJECT: finds something in this example"),
        (given("terms: ['--', abc]", match="abc"), "12:13 RF110 PROJECT: a term without a word"),
        (given("terms_file: none.txt"), "12:5 RF110 PROJECT: none.txt is not there"),
        (given("terms_file: ../none.txt"), "RF004 recognizers[0].terms_file"),
        (given("languages: [en]"), "RF004 recognizers[0]: give either `pattern`, or `terms`"),
        (given("terms: [ab]\n    check: luhn", "ab"), "RF004 recognizers[0]: `check` goes with"),
        (given("pattern: ab\n    check: crc", "ab"), "RF004 recognizers[0].check"),
        (
            given().replace("PROJECT", "PERSON"),
            "9:5 RF111 PERSON: its category is identity, not business; write identity",
        ),
    ],
)
def test_says_what_is_wrong_with_a_recognizer(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(PolicyError) as caught:
        FilePolicySource(path).load()
    assert says in caught.value.public_message


def test_packs_add_up_and_agree_on_the_category(tmp_path: Path) -> None:
    write(tmp_path, given(), "pack")
    root = "include: [pack]\n" + given("terms: [blue whale]", match="Blue Whale")
    policy = load(tmp_path, root.replace("id: r,", "id: other,"))
    assert {bool(one.pattern) for one in policy.recognizers.all} == {True, False}
    assert policy.content.recognizers[0].entity == policy.content.recognizers[1].entity == "PROJECT"
    other = root.replace("id: r,", "id: other,").replace("category: business", "category: contact")
    with pytest.raises(PolicyError, match="RF111 PROJECT: its category is contact, not business"):
        load(tmp_path, other)


def test_a_rule_of_one_file_may_name_what_another_recognizes(tmp_path: Path) -> None:
    write(tmp_path, given(), "pack")
    rule = "rules: [{id: o, why: NDA 7, when: {entities: [PROJECT]}, action: block}]\n"
    policy = load(tmp_path, f"include: [pack]\ndefault: allow\n{rule}")
    assert {one.ref.id for one in policy.rules} == {"o", "r"}
