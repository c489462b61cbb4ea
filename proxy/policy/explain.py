"""Says why a decision came out as it did: every rule, and what kept it from matching.

It shows entities, counts and scores; the text that was found never.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.policy.decide import (
    Context,
    Facts,
    Vote,
    counting,
    decide,
    fixed_votes,
    rule_matches,
    vote_of,
)
from proxy.policy.model import CompiledCondition, CompiledRule, OpenDestination, Policy
from proxy.types import Action, Decision, Finding, Inspection, Origin, Role, RuleRef, Segment

_KINDS: Final = {
    Origin.VALUE: "text",
    Origin.KEY: "key",
    Origin.NUMBER: "number",
    Origin.EMBEDDED: "JSON within a text",
    Origin.BLOB: "file",
    Origin.FILE: "text of a file",
    Origin.JOINED: "texts read as one",
}


@dataclass(frozen=True, slots=True)
class Said:
    """A rule, whether it matched, and why or why not."""

    rule: RuleRef
    matched: bool
    action: str
    why: str


@dataclass(frozen=True, slots=True)
class Seen:
    """A finding: what, how sure, by which detector, in whose words and in which view.

    ``number`` is its place among the findings of the inspection; ``counts`` is false where the
    allow-list lets it pass (floors count it all the same).
    """

    number: int
    entity: str
    score: float
    detector: str
    place: str
    view: str
    counts: bool


@dataclass(frozen=True, slots=True)
class DestinationSaid:
    """A destination, whether it is open to the request, and why or why not."""

    id: str
    is_open: bool
    why: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision, what it stands on, and what every rule said to it."""

    decision: Decision
    said: tuple[Said, ...]
    seen: tuple[Seen, ...]
    unscannable: tuple[str, ...]
    destinations: tuple[DestinationSaid, ...]
    notes: tuple[str, ...] = ()


def explain(
    policy: Policy,
    context: Context,
    inspection: Inspection,
    *,
    derived_from: str | None = None,
    notes: tuple[str, ...] = (),
) -> Explanation:
    """Decide, and keep what every rule said."""
    decision = decide(policy, context, inspection, decision_id="explain", derived_from=derived_from)
    everything = Facts.of(inspection, inspection.findings)
    left = Facts.of(inspection, counting(policy, inspection, context.now.date()))
    said = [
        Said(vote.rule, True, vote.action.value, _loosened(vote) or "holds for this request")
        for vote in fixed_votes(policy, context, inspection, derived_from)
    ]
    for rule in policy.rules:
        facts = everything if rule.is_floor else left
        if rule_matches(rule, context.who, facts):
            vote = vote_of(rule, context)
            told = _action(rule) if vote.loosened is None else vote.action.value
            said.append(Said(rule.ref, True, told, _loosened(vote) or _met(rule, facts)))
        else:
            said.append(Said(rule.ref, False, _action(rule), _missed(rule, context, facts)))
    return Explanation(
        decision,
        tuple(said),
        _seen(inspection, counting(policy, inspection, context.now.date())),
        tuple(sorted({entry.reason.value for entry in inspection.unscannable})),
        tuple(_destination(one, decision, context, inspection) for one in policy.destinations),
        notes,
    )


def _seen(inspection: Inspection, left: tuple[Finding, ...]) -> tuple[Seen, ...]:
    segments = {segment.index: segment for segment in inspection.segments}
    still = {id(finding) for finding in left}
    return tuple(
        Seen(
            number,
            finding.entity,
            finding.score,
            finding.detector,
            _place(segments.get(finding.segment)),
            finding.view,
            id(finding) in still,
        )
        for number, finding in enumerate(inspection.findings)
    )


def _place(segment: Segment | None) -> str:
    """Whose words, and what kind of place; never the path, which may hold a client's own key."""
    if segment is None:
        return "a place not on record"
    owner = "outside messages" if segment.role is Role.NONE else f"of {segment.role.value}"
    return f"{_KINDS[segment.origin]} {owner}"


def _destination(
    given: OpenDestination, decision: Decision, context: Context, inspection: Inspection
) -> DestinationSaid:
    found = sorted({f.entity for f in inspection.findings} & given.absent)
    if not given.scope.matches(context.who):
        return DestinationSaid(given.destination.id, False, "not for this caller")
    if found:
        why = f"{', '.join(found)} must be absent"
        return DestinationSaid(given.destination.id, False, why)
    if decision.action not in (Action.ALLOW, Action.MASK):
        why = f"open to this caller, but the request is not to leave ({decision.action.value})"
        return DestinationSaid(given.destination.id, False, why)
    reached = [one.models for one in decision.destinations if one.id == given.destination.id]
    kept = set(given.destination.models).difference(*reached)
    if kept:
        why = f"a rule keeps it from {', '.join(sorted(kept))}"
        return DestinationSaid(given.destination.id, bool(reached), why)
    return DestinationSaid(given.destination.id, True, "open")


def _action(rule: CompiledRule) -> str:
    if rule.action is Action.MASK:
        return f"{rule.action.value} with {rule.mask_with.value}"
    return rule.action.value


def _loosened(vote: Vote) -> str:
    return f"exception in place of {vote.loosened.id}" if vote.loosened else ""


def _met(rule: CompiledRule, facts: Facts) -> str:
    return "; ".join(_tells(condition, facts) for condition in rule.conditions) or "holds"


def _missed(rule: CompiledRule, context: Context, facts: Facts) -> str:
    if not rule.scope.matches(context.who):
        return "not for this caller"
    if rule.languages and rule.languages.isdisjoint(facts.languages):
        return "none of its languages"
    if rule.unscannable and rule.unscannable.isdisjoint(facts.unscannable):
        return "nothing of its kind went uninspected"
    return "; ".join(_tells(condition, facts) for condition in rule.conditions)


def _tells(condition: CompiledCondition, facts: Facts) -> str:
    """What was found of a condition's entities, beside what it asks."""
    found = {e: len(f) for e, f in facts.findings.items() if e in condition.entities}
    if not found:
        return "nothing of its kind found"
    scores = ", ".join(
        f"{num} x {entity} up to {facts.best[entity]:.2f}" for entity, num in sorted(found.items())
    )
    asks = f"asks {condition.min_count} from {condition.min_score:.2f}"
    where = sorted([*(condition.roles or ()), *condition.globs])
    return f"{scores}; {asks}{' in ' + ', '.join(where) if where else ''}"
