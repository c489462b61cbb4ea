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
from typing import Any, Final

from audit.segments import chain_lines
from proxy.inspection.entities import ENTITIES
from proxy.inspection.recognizers import CUSTOM
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

_FROM_A_RECORD: Final = "read from a record: it has the best score of each entity, and no places"


@dataclass(frozen=True, slots=True)
class Change:
    """How many requests of an app went from one action to another; ``new`` None: cannot say."""

    app: str
    old: str
    new: str | None
    num: int


def read_decisions(ledger: Path) -> Iterator[dict[str, Any]]:
    """The decision records of a ledger folder, or of one file of it."""
    for line in _lines(ledger):
        try:
            record = json.loads(line)
        except ValueError:
            continue  # a torn last line; `audit verify` is there to tell of tampering
        if isinstance(record, dict) and record.get("kind") == "decision":
            yield record


def _lines(ledger: Path) -> Iterator[bytes]:
    if ledger.is_dir():
        for folder in (ledger, *sorted(path for path in ledger.rglob("*") if path.is_dir())):
            yield from chain_lines(folder)
    else:
        yield from ledger.read_bytes().split(b"\n")


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
        context, readings, derived = _request_of(record, now)
        recognized = record["detectors"].get(CUSTOM, "")
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    if _asks_for_a_model(policy):
        return None
    if recognized != policy.recognizers.version:
        readings = _with_any_of(policy, readings[0])
    elif policy.allowed:
        readings.append(replace(readings[0], findings=()))
    actions = {
        decide(policy, context, reading, decision_id="replay", derived_from=derived).action
        for reading in readings
    }
    return actions.pop() if len(actions) == 1 else None


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recorded request at its strictest, as far as its record tells."""

    context: Context
    inspection: Inspection
    derived_from: str | None
    digest: str
    notes: tuple[str, ...]


def recorded(ledger: Path, decision_id: str, now: dt.datetime) -> Recorded:
    """The recorded decision ``decision_id`` of a ledger.

    Raises:
        LookupError: there is none, or its record does not tell enough.
    """
    for record in read_decisions(ledger):
        if record.get("decision_id") == decision_id:
            try:
                context, readings, derived = _request_of(record, now)
                digest = str(record["policy"]["digest"])
            except (KeyError, TypeError, ValueError):
                break
            return Recorded(context, readings[0], derived, digest, (_FROM_A_RECORD,))
    raise LookupError("no such decision")


def _request_of(
    record: dict[str, Any], now: dt.datetime
) -> tuple[Context, list[Inspection], str | None]:
    """Who asked for what: the request at its strictest and at its loosest, and its origin.

    Raises:
        KeyError, TypeError, ValueError: the record does not tell.
    """
    caller = Caller(*(str(record["caller"][k]) for k in ("app", "team", "environment", "key_id")))
    context = Context(caller, str(record["api_route"]), "", now)
    readings = [_reading(record, strict=strict) for strict in (True, False)]
    return context, readings, record["routing"]["derived_from"]


def _with_any_of(policy: Policy, reading: Inspection) -> list[Inspection]:
    """The request with all that the recognizers may find in it, and with nothing found.

    It was read without them, or with others, so that nobody knows what they make of it.
    """
    known = policy.vocabulary.entities
    most = max((c.min_count for rule in policy.rules for c in rule.conditions), default=1)
    found = [finding for finding in reading.findings if finding.entity in known]
    for one in policy.recognizers.all:
        more = Finding(one.entity, one.category, len(found), 0, 0, one.max_score, CUSTOM)
        found += [more] * most
    return [replace(reading, findings=tuple(found)), replace(reading, findings=())]


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
                role = Role(roles[0]["role"]) if len(roles) == 1 else Role.NONE
                segments.append(Segment(index, "", role, Origin.VALUE, text=""))
    unscannable = tuple(
        Unscannable(0, UnscannableReason(reason)) for reason in record["coverage"]["unscannable"]
    )
    languages = tuple(str(language) for language in record["languages"])
    coverage = Coverage(len(findings), len(findings), 0, len(unscannable))
    return Inspection(tuple(segments), tuple(findings), unscannable, coverage, languages, (), 0.0)
