"""Decides recorded requests anew: counts and scores suffice, no content is needed.

A record keeps the best score of an entity and not every score, so each request is read twice, at
its strictest and at its loosest; where the two readings differ, nobody can say.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from proxy.inspection.entities import ENTITIES
from proxy.policy.decide import Context, decide
from proxy.policy.model import SCOPE_KEYS, Policy
from proxy.types import (
    Action,
    Caller,
    Category,
    Coverage,
    Finding,
    Inspection,
    Origin,
    Role,
    Segment,
    Unscannable,
    UnscannableReason,
)


@dataclass(frozen=True, slots=True)
class Change:
    """How many requests of an app went from one action to another; ``new`` None: cannot say."""

    app: str
    old: str
    new: str | None
    num: int


def read_decisions(ledger: Path) -> Iterator[dict[str, Any]]:
    """The decision records of a ledger folder, or of one file of it."""
    paths = sorted(ledger.rglob("*.jsonl")) if ledger.is_dir() else [ledger]
    for path in paths:
        with path.open("rb") as lines:
            for line in lines:
                try:
                    record = json.loads(line)
                except ValueError:
                    continue  # a torn last line; `audit verify` is there to tell of tampering
                if isinstance(record, dict) and record.get("kind") == "decision":
                    yield record


def replay(records: Iterable[dict[str, Any]], policy: Policy, now: dt.datetime) -> list[Change]:
    """Count what ``policy`` would make of ``records``, by app and action."""
    counts: Counter[tuple[str, str, str | None]] = Counter()
    for record in records:
        action = decide_record(record, policy, now)
        old = str(record["policy"]["action"])
        counts[str(record["caller"]["app"]), old, action.value if action else None] += 1
    return [Change(*key, num) for key, num in sorted(counts.items(), key=lambda kv: str(kv[0]))]


def decide_record(record: dict[str, Any], policy: Policy, now: dt.datetime) -> Action | None:
    """What ``policy`` says to a recorded request; None where the record does not tell."""
    try:
        caller = Caller(
            *(str(record["caller"][k]) for k in ("app", "team", "environment", "key_id"))
        )
        context = Context(caller, str(record["api_route"]), "", now)
        readings = [_reading(record, strict=strict) for strict in (True, False)]
        derived = record["routing"]["derived_from"]
    except (KeyError, TypeError, ValueError):
        return None
    if _asks_for_a_model(policy):
        return None
    if policy.allowed:
        readings.append(replace(readings[0], findings=()))
    actions = {
        decide(policy, context, reading, decision_id="replay", derived_from=derived).action
        for reading in readings
    }
    return actions.pop() if len(actions) == 1 else None


def _asks_for_a_model(policy: Policy) -> bool:
    """Records hold no model name of a client's, so a scope over models cannot be told."""
    position = SCOPE_KEYS.index("models")
    exceptions = [e.scope for rule in policy.rules for e in rule.exceptions]
    exceptions += [e.scope for e in policy.fallback.exceptions]
    scopes = [policy.fallback.scope, *(rule.scope for rule in policy.rules), *exceptions]
    return any(at == position for scope in scopes for at, _ in scope.wanted)


def _reading(record: dict[str, Any], *, strict: bool) -> Inspection:
    """The request at its strictest (all scores the best, any place) or at its loosest."""
    findings: list[Finding] = []
    segments: list[Segment] = []
    for entry in record["entities"]:
        entity, best, roles = str(entry["entity"]), float(entry["max_score"]), entry["roles"]
        category = ENTITIES.get(entity, Category.OTHER)
        for number in range(int(entry["count"])):
            index = len(findings)
            score = best if strict or number == 0 else 0.0
            findings.append(Finding(entity, category, index, 0, 0, score, "record"))
            if not strict:
                role = Role(roles[0]) if len(roles) == 1 else Role.NONE
                segments.append(Segment(index, "", role, Origin.VALUE, text=""))
    unscannable = tuple(
        Unscannable(0, UnscannableReason(reason)) for reason in record["coverage"]["unscannable"]
    )
    languages = tuple(str(language) for language in record["languages"])
    coverage = Coverage(len(findings), len(findings), 0, len(unscannable))
    return Inspection(tuple(segments), tuple(findings), unscannable, coverage, languages, (), 0.0)
