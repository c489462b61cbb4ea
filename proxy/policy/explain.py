"""Says why a decision came out as it did: every rule, and what kept it from matching.

It shows entities, counts and scores; the text that was found never.
"""

from __future__ import annotations

from dataclasses import dataclass

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
from proxy.policy.model import CompiledCondition, CompiledRule, Policy
from proxy.types import Decision, Inspection, RuleRef


@dataclass(frozen=True, slots=True)
class Said:
    """A rule, whether it matched, and why or why not."""

    rule: RuleRef
    matched: bool
    action: str
    why: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision and what every rule said to it."""

    decision: Decision
    said: tuple[Said, ...]


def explain(
    policy: Policy, context: Context, inspection: Inspection, *, decision_id: str = "explain"
) -> Explanation:
    """Decide, and keep what every rule said."""
    decision = decide(policy, context, inspection, decision_id=decision_id)
    everything = Facts.of(inspection, inspection.findings)
    left = Facts.of(inspection, counting(policy, inspection, context.now.date()))
    said = [
        Said(vote.rule, True, vote.action.value, _loosened(vote) or "holds for this request")
        for vote in fixed_votes(policy, context, inspection, None)
    ]
    for rule in policy.rules:
        facts = everything if rule.is_floor else left
        if rule_matches(rule, context.who, facts):
            vote = vote_of(rule, context)
            said.append(
                Said(rule.ref, True, vote.action.value, _loosened(vote) or _met(rule, facts))
            )
        else:
            said.append(Said(rule.ref, False, rule.action.value, _missed(rule, context, facts)))
    return Explanation(decision, tuple(said))


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
