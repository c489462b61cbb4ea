"""A second, naive reading of the policy language, to hold the fast one against."""

from __future__ import annotations

import fnmatch
from datetime import date

from proxy.inspection.entities import ENTITIES
from proxy.policy.decide import Context
from proxy.policy.language import Condition, PolicyFile, Rule, Scope
from proxy.types import Action, Category, Inspection, UnscannableReason

STRICTNESS = [Action.ALLOW, Action.MASK, Action.LOCAL_ONLY, Action.BLOCK]


def in_scope(scope: Scope, context: Context) -> bool:
    caller = context.caller
    pairs = [
        (scope.apps, caller.app),
        (scope.teams, caller.team),
        (scope.environments, caller.environment),
        (scope.keys, caller.key_id),
        (scope.models, context.model),
        (scope.routes, context.route),
    ]
    return all(not wanted or value in wanted for wanted, value in pairs)


def known_to(file: PolicyFile) -> dict[str, Category]:
    """Every entity that detectors and the recognizers of the file find."""
    return {**ENTITIES, **{given.entity: given.category for given in file.recognizers}}


def holds(
    condition: Condition, inspection: Inspection, entities: dict[str, Category] = ENTITIES
) -> bool:
    num = 0
    for finding in inspection.findings:
        segment = inspection.segments[finding.segment]
        num += (
            (
                finding.entity in condition.entities
                or entities.get(finding.entity) in condition.categories
            )
            and finding.score >= condition.min_score
            and (not condition.roles or segment.role in condition.roles)
            and (
                not condition.paths
                or any(
                    fnmatch.fnmatchcase(segment.path, p.replace("[", "[[]"))
                    for p in condition.paths
                )
            )
        )
    return num >= condition.min_count


def matches(
    rule: Rule, context: Context, inspection: Inspection, entities: dict[str, Category]
) -> bool:
    when = rule.when
    reasons = {entry.reason for entry in inspection.unscannable}
    return (
        in_scope(rule.scope, context)
        and (not when.counts_findings or holds(when, inspection, entities))
        and all(holds(part, inspection, entities) for part in when.all_of)
        and (not when.languages or bool(set(when.languages) & set(inspection.languages)))
        and (not when.unscannable or bool(set(when.unscannable) & reasons))
    )


def decide_slowly(file: PolicyFile, context: Context, inspection: Inspection) -> Action:
    """The action of a policy of one file without allow-list (findings have no text here)."""
    today = context.now.date()
    rules = [(rule, True) for rule in file.floors] + [(rule, False) for rule in file.rules]
    votes = [_loosened(file, "default", file.default or Action.BLOCK, context, today)]
    for rule, is_floor in rules:
        if matches(rule, context, inspection, known_to(file)):
            action = rule.action
            votes.append(action if is_floor else _loosened(file, rule.id, action, context, today))
    for entry in inspection.unscannable:
        late = entry.reason is UnscannableReason.DETECTOR_TIMEOUT
        votes.append(file.on_detector_timeout if late else file.on_unscannable)
    if any(finding.entity not in known_to(file) for finding in inspection.findings):
        votes.append(Action.LOCAL_ONLY)
    if not in_scope(file.scope, context):
        votes.append(Action.BLOCK)
    return max(votes, key=STRICTNESS.index)


def _loosened(
    file: PolicyFile, rule_id: str, action: Action, context: Context, today: date
) -> Action:
    open_ = [
        given.to
        for given in file.exceptions
        if given.loosens == rule_id and today <= given.until and in_scope(given.scope, context)
    ]
    return min([action, *open_], key=STRICTNESS.index)
