"""Recorded requests are decided anew by counts and scores, or nobody can say."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from proxy.policy.replay import Change, decide_record, read_decisions, replay
from proxy.types import Action
from tests.proxy.policy.policies import load

NOW = datetime(2026, 11, 24, tzinfo=UTC)
RULE = "default: allow\nrules:\n  - {{id: r, why: GDPR, when: {when}, action: block}}\n"


def record(*entities: tuple[str, int, float], **more: Any) -> dict[str, Any]:
    return {
        "kind": "decision",
        "caller": {"app": "desk", "team": "t", "environment": "prod", "key_id": "k"},
        "api_route": "chat.completions",
        "policy": {"action": "allow"},
        "coverage": {"unscannable": {}},
        "languages": ["en"],
        "detectors": {"secrets": "1"},
        "entities": [
            {
                "entity": name,
                "category": "identity",
                "count": count,
                "max_score": score,
                "roles": [{"role": "user", "count": count, "max_score": score}],
            }
            for name, count, score in entities
        ],
        "routing": {"derived_from": None},
        **more,
    }


@pytest.mark.parametrize(
    ("when", "given", "action"),
    [
        ("{entities: [PERSON], min_score: 0.5}", record(("PERSON", 3, 0.5)), Action.BLOCK),
        ("{entities: [PERSON], min_score: 0.6}", record(("PERSON", 3, 0.5)), Action.ALLOW),
        ("{entities: [PERSON], min_score: 0.5, min_count: 2}", record(("PERSON", 3, 0.9)), None),
        ("{entities: [PERSON], roles: [user]}", record(("PERSON", 1, 0.9)), Action.BLOCK),
        ("{entities: [PERSON], roles: [tool]}", record(("PERSON", 1, 0.9)), None),
        ("{entities: [PERSON], paths: [user]}", record(("PERSON", 1, 0.9)), None),
        ("{unscannable: [image]}", record(coverage={"unscannable": {"image": 1}}), Action.BLOCK),
        ("{always: true}", {"kind": "decision"}, None),
    ],
)
def test_says_what_the_record_tells(
    tmp_path: Path, when: str, given: dict[str, Any], action: Action | None
) -> None:
    policy = load(tmp_path, RULE.format(when=when))
    assert decide_record(given, policy, NOW) is action


def test_cannot_say_where_models_matter(tmp_path: Path) -> None:
    policy = load(tmp_path, "default: allow\nscope: {models: [m]}\n")
    assert decide_record(record(), policy, NOW) is None


def test_counts_by_app_and_reads_past_a_torn_line(tmp_path: Path) -> None:
    wal = tmp_path / "wal" / "c-1"
    wal.mkdir(parents=True)
    lines = [
        json.dumps(record(("PERSON", 1, 0.9))),
        json.dumps({"kind": "start"}),
        '{"kind',
    ]
    (wal / "0.jsonl").write_text("\n".join(lines))
    policy = load(tmp_path, RULE.format(when="{entities: [PERSON]}"))
    changes = replay(read_decisions(tmp_path), policy, NOW)
    assert changes == [Change("desk", "allow", "block", 1)]


@pytest.mark.parametrize(
    ("when", "action"),
    [("{entities: [PERSON]}", None), ("{entities: [EMAIL_ADDRESS]}", Action.ALLOW)],
)
def test_cannot_say_where_a_name_may_be_on_the_allow_list(
    tmp_path: Path, when: str, action: Action | None
) -> None:
    allowed = "allow_list: {terms: [{value: Ada, why: known, owner: pr, until: 2026-12-31}]}\n"
    policy = load(tmp_path, RULE.format(when=when) + allowed)
    assert decide_record(record(("PERSON", 1, 0.9)), policy, NOW) is action


RECOGNIZER = """recognizers:
  - entity: PROJECT
    category: business
    why: NDA 7
    score: 0.8
    terms: [Blue Whale]
    examples: {match: [blue whale], no_match: [tuna]}
"""


@pytest.mark.parametrize(
    ("rules", "given", "action"),
    [
        ("{entities: [PROJECT]}", record(), None),
        ("{entities: [PROJECT], min_score: 0.9}", record(), Action.ALLOW),
        ("{entities: [PERSON]}", record(("PERSON", 1, 0.9)), None),
        ("{always: true}", record(), Action.BLOCK),
    ],
)
def test_nobody_can_say_what_recognizers_would_find_in_a_text_read_without_them(
    tmp_path: Path, rules: str, given: dict[str, Any], action: Action | None
) -> None:
    policy = load(tmp_path, RULE.format(when=rules) + RECOGNIZER)
    assert decide_record(given, policy, NOW) is action


def test_a_text_read_with_the_same_recognizers_is_decided(tmp_path: Path) -> None:
    policy = load(tmp_path, RULE.format(when="{entities: [PROJECT]}") + RECOGNIZER)
    detectors = dict(policy.recognizers.versions)
    found = record(("PROJECT", 1, 0.8), detectors=detectors)
    assert decide_record(found, policy, NOW) is Action.BLOCK
    assert decide_record(record(detectors=detectors), policy, NOW) is Action.ALLOW


def test_what_only_other_recognizers_found_is_no_finding(tmp_path: Path) -> None:
    policy = load(tmp_path, RULE.format(when="{entities: [PERSON]}"))
    found = record(("PROJECT", 1, 0.8), detectors={"custom": "1+0"})
    assert decide_record(found, policy, NOW) is Action.ALLOW
