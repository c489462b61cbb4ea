"""The decision: pure, and the ceiling for everything after it.

The default always votes; so does every rule that matches, what cannot be inspected, and an origin
in a pinned exchange. The most restrictive vote wins. Only an exception, the allow-list or a weaker
default loosens anything: a rule or a finding more never does.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from proxy.policy.model import (
    DEFAULT,
    DERIVED,
    NOT_VALID,
    OUT_OF_SCOPE,
    TIMEOUT,
    UNKNOWN_ENTITY,
    UNSCANNABLE,
    Allowed,
    CompiledCondition,
    CompiledException,
    CompiledRule,
    Fallback,
    Policy,
)
from proxy.types import (
    Action,
    Caller,
    Decision,
    Destination,
    Finding,
    Inspection,
    Mask,
    MaskWith,
    RuleRef,
    Segment,
    UnscannableReason,
)

_ADDRESSES = frozenset({"EMAIL_ADDRESS", "EMAIL"})


@dataclass(frozen=True, slots=True)
class Context:
    """What a decision may depend on beside the content."""

    caller: Caller
    route: str
    model: str
    now: dt.datetime

    @property
    def who(self) -> tuple[str, ...]:
        """The caller's values, in the order of `Scope`."""
        caller = self.caller
        return (
            caller.app,
            caller.team,
            caller.environment,
            caller.key_id,
            self.model,
            self.route,
        )


@dataclass(frozen=True, slots=True)
class Vote:
    """A word for an action; ``loosened`` names the rule whose place an exception took."""

    action: Action
    rule: RuleRef
    message: str | None = None
    loosened: RuleRef | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rules ask of an inspection, gathered once."""

    findings: Mapping[str, tuple[Finding, ...]]
    best: Mapping[str, float]
    segments: Mapping[int, Segment]
    languages: frozenset[str]
    unscannable: frozenset[UnscannableReason]

    @classmethod
    def of(cls, inspection: Inspection, findings: Iterable[Finding]) -> Facts:
        """The facts of ``inspection``, as far as ``findings`` count."""
        grouped: dict[str, list[Finding]] = {}
        for finding in findings:
            grouped.setdefault(finding.entity, []).append(finding)
        return cls(
            {entity: tuple(found) for entity, found in grouped.items()},
            {entity: max(f.score for f in found) for entity, found in grouped.items()},
            {segment.index: segment for segment in inspection.segments},
            frozenset(inspection.languages),
            frozenset(entry.reason for entry in inspection.unscannable),
        )


def decide(
    policy: Policy,
    context: Context,
    inspection: Inspection,
    *,
    decision_id: str,
    derived_from: str | None = None,
) -> Decision:
    """Decide what may happen to a request.

    Args:
        policy: the policy in force.
        context: who asks for what.
        inspection: what was found in the request.
        decision_id: id for the decision.
        derived_from: decision id of the pinned exchange this request carries on, if any.
    """
    content = policy.content
    winners = _winners(policy, context, inspection, derived_from)
    action = winners[0].action
    masks = _masks(policy, context, inspection) if action is Action.MASK else ()
    named = [vote for vote in winners if vote.rule.id != DEFAULT]
    return Decision(
        decision_id=decision_id,
        action=action,
        rules=tuple(vote.rule for vote in named),
        policy_digest=policy.digest,
        policy_revision=content.revision,
        destinations=tuple(_destinations(policy, context, inspection, (action, masks))),
        on_local_failure=content.on_local_failure,
        allow_unrecorded_local=content.unrecorded_local,
        message=next((vote.message for vote in winners if vote.message), None),
        derived_from=derived_from,
        masks=masks,
        scan=policy.scan,
        keep_answer=bool(content.record.train_on_answers),
    )


def rule_matches(rule: CompiledRule, who: tuple[str, ...], facts: Facts) -> bool:
    """Whether ``rule`` votes: in scope, and every condition holds."""
    if not rule.scope.matches(who):
        return False
    if rule.languages and rule.languages.isdisjoint(facts.languages):
        return False
    if rule.unscannable and rule.unscannable.isdisjoint(facts.unscannable):
        return False
    for condition in rule.conditions:  # a loop: this runs a thousand times a decision
        if not _holds(condition, facts):
            return False
    return True


def counting(policy: Policy, inspection: Inspection, today: dt.date) -> tuple[Finding, ...]:
    """The findings that the allow-list leaves standing."""
    allowed = [entry for entry in policy.allowed if today <= entry.until]
    if not allowed:
        return inspection.findings
    texts = {segment.index: segment.text for segment in inspection.segments}
    return tuple(f for f in inspection.findings if not _is_allowed(f, texts, allowed))


def matching(policy: Policy, context: Context, inspection: Inspection) -> tuple[RuleRef, ...]:
    """Every rule that votes for a request, whoever wins."""
    everything = Facts.of(inspection, inspection.findings)
    left = Facts.of(inspection, counting(policy, inspection, _day(context)))
    return tuple(
        rule.ref
        for rule in policy.rules
        if rule_matches(rule, context.who, everything if rule.is_floor else left)
    )


def fixed_votes(
    policy: Policy, context: Context, inspection: Inspection, derived_from: str | None
) -> Iterator[Vote]:
    """The votes that no rule of a file gives."""
    fallback, file = policy.fallback, policy.file
    today = _day(context)
    default = Vote(fallback.default, fallback.default_ref)
    yield _loosen(default, fallback.exceptions, context.who, today)
    if not fallback.scope.matches(context.who):
        yield Vote(Action.BLOCK, RuleRef(OUT_OF_SCOPE, file, 1))
    if not _is_valid(fallback, today):
        yield Vote(Action.LOCAL_ONLY, RuleRef(NOT_VALID, file, 1))
    reasons = {entry.reason for entry in inspection.unscannable}
    if UnscannableReason.DETECTOR_TIMEOUT in reasons:
        yield Vote(fallback.on_detector_timeout, RuleRef(TIMEOUT, file, 1))
    if reasons - {UnscannableReason.DETECTOR_TIMEOUT}:
        yield Vote(fallback.on_unscannable, RuleRef(UNSCANNABLE, file, 1))
    if derived_from is not None:
        yield Vote(Action.LOCAL_ONLY, RuleRef(DERIVED, file, 1))
    known = policy.vocabulary.entities
    if any(finding.entity not in known for finding in inspection.findings):
        yield Vote(Action.LOCAL_ONLY, RuleRef(UNKNOWN_ENTITY, file, 1))


def vote_of(rule: CompiledRule, context: Context) -> Vote:
    """The vote of a rule that matches: its own, or that of an exception in its place."""
    vote = Vote(rule.action, rule.ref, rule.message)
    if not rule.exceptions:
        return vote
    return _loosen(vote, rule.exceptions, context.who, _day(context))


def _winners(
    policy: Policy, context: Context, inspection: Inspection, derived_from: str | None
) -> list[Vote]:
    """The most restrictive votes. Rules are tried strictest first, until none can win any more."""
    votes = list(fixed_votes(policy, context, inspection, derived_from))
    best = max(vote.action.strictness for vote in votes)
    everything = Facts.of(inspection, inspection.findings)
    left = counting(policy, inspection, _day(context))
    facts = everything if len(left) == len(inspection.findings) else Facts.of(inspection, left)
    who = context.who
    for position in _candidates(policy, who, everything):
        rule = policy.rules[position]
        if rule.action.strictness < best:
            break
        if rule_matches(rule, who, everything if rule.is_floor else facts):
            vote = vote_of(rule, context)
            votes.append(vote)
            best = max(best, vote.action.strictness)
    return [vote for vote in votes if vote.action.strictness == best]


def _masks(policy: Policy, context: Context, inspection: Inspection) -> tuple[Mask, ...]:
    """The findings to be masked: those that the rules which ask for it count.

    A rule that asks for no finding, and the default, mean every finding. Of several ways to mask a
    finding, the most private one is taken.
    """
    today = _day(context)
    left = counting(policy, inspection, today)
    fallback = policy.fallback
    default = Vote(fallback.default, fallback.default_ref)
    found: dict[Finding, MaskWith] = {}
    if _loosen(default, fallback.exceptions, context.who, today).action is Action.MASK:
        found = dict.fromkeys(left, MaskWith.PLACEHOLDER)
    for rule, seen in _voting(policy, context, inspection):
        if vote_of(rule, context).action is Action.MASK:
            chosen = inspection.findings if rule.is_floor else left
            for finding in chosen:
                known = found.get(finding, rule.mask_with)
                if _is_meant(rule, finding, seen):
                    found[finding] = max(known, rule.mask_with, key=lambda way: way.strictness)
    return tuple(Mask(f, found[f]) for f in dict.fromkeys(inspection.findings) if f in found)


def _voting(
    policy: Policy, context: Context, inspection: Inspection
) -> Iterator[tuple[CompiledRule, Facts]]:
    """The rules that vote, the strictest first, each with the facts that it goes by."""
    everything = Facts.of(inspection, inspection.findings)
    left = Facts.of(inspection, counting(policy, inspection, _day(context)))
    for position in _candidates(policy, context.who, everything):
        rule = policy.rules[position]
        seen = everything if rule.is_floor else left
        if rule_matches(rule, context.who, seen):
            yield rule, seen


def _is_meant(rule: CompiledRule, finding: Finding, facts: Facts) -> bool:
    """Whether a rule that matches counts ``finding``."""
    return not rule.conditions or any(
        finding.entity in condition.entities and _counts(condition, finding, facts)
        for condition in rule.conditions
    )


def _candidates(policy: Policy, who: tuple[str, ...], facts: Facts) -> list[int]:
    """Positions of the rules that may vote, the strictest first."""
    found = set(policy.general)
    for entity in facts.findings:
        found.update(policy.by_entity.get(entity, ()))
    return sorted(found & policy.for_caller(who))


def _holds(condition: CompiledCondition, facts: Facts) -> bool:
    if condition.is_simple:
        for entity, score in facts.best.items():
            if score >= condition.min_score and entity in condition.entities:
                return True
        return False
    needed = condition.min_count
    for entity, findings in facts.findings.items():
        if entity in condition.entities and facts.best[entity] >= condition.min_score:
            for finding in findings:
                needed -= _counts(condition, finding, facts)
    return needed <= 0


def _counts(condition: CompiledCondition, finding: Finding, facts: Facts) -> bool:
    """Whether one finding counts. A segment that is not there is anyone's words, anywhere."""
    if finding.score < condition.min_score:
        return False
    segment = facts.segments.get(finding.segment)
    if segment is None:
        return True
    if condition.roles is not None and segment.role not in condition.roles:
        return False
    return condition.paths is None or any(path.fullmatch(segment.path) for path in condition.paths)


def _loosen(
    vote: Vote, exceptions: tuple[CompiledException, ...], who: tuple[str, ...], today: dt.date
) -> Vote:
    for exception in exceptions:
        if (
            today <= exception.until
            and exception.to.strictness < vote.action.strictness
            and exception.scope.matches(who)
        ):
            return Vote(exception.to, exception.ref, loosened=vote.rule)
    return vote


def _is_allowed(
    finding: Finding, texts: Mapping[int, str | None], allowed: Sequence[Allowed]
) -> bool:
    """Whether the text of ``finding``, in plain sight, is one that is known and harmless."""
    text = texts.get(finding.segment)
    if text is None or finding.view != "raw":
        return False
    found, is_address = text[finding.start : finding.end], finding.entity in _ADDRESSES
    return any(entry.covers(found, is_address=is_address) for entry in allowed)


def _is_valid(fallback: Fallback, today: dt.date) -> bool:
    return all(
        (valid.since is None or valid.since <= today)
        and (valid.until is None or today <= valid.until)
        for valid in fallback.valid
    )


def _destinations(
    policy: Policy,
    context: Context,
    inspection: Inspection,
    decided: tuple[Action, tuple[Mask, ...]],
) -> Iterator[Destination]:
    """The destinations that are open, each with the models that the rules let the request reach."""
    found = {finding.entity for finding in inspection.findings}
    for given in policy.destinations:
        if not given.scope.matches(context.who) or not given.absent.isdisjoint(found):
            continue
        there = given.destination
        if policy.models_ruled.isdisjoint(there.models):
            yield there
        elif models := tuple(
            model
            for model in there.models
            if model not in policy.models_ruled
            or _reaches(policy, replace(context, model=model), inspection, decided)
        ):
            yield replace(there, models=models)


def _reaches(
    policy: Policy,
    context: Context,
    inspection: Inspection,
    decided: tuple[Action, tuple[Mask, ...]],
) -> bool:
    """Whether what was decided may go to the model of ``context`` too, if the proxy chooses it.

    A client that names no model must not reach one that a rule would have kept it from by name.
    """
    action, masks = decided
    for rule, _ in _voting(policy, context, inspection):
        if vote_of(rule, context).action.strictness > action.strictness:
            return False
    return action is not Action.MASK or _masks(policy, context, inspection) == masks


def _day(context: Context) -> dt.date:
    now = context.now
    return (now.astimezone(dt.UTC) if now.tzinfo else now).date()


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a decision was made from beside the inspection, to make the same one again."""

    policy: Policy
    context: Context

    def decide(self, inspection: Inspection, decision_id: str, origin: str | None) -> Decision:
        """The decision for ``inspection``; ``origin`` is the pinned exchange it stems from."""
        return decide(
            self.policy, self.context, inspection, decision_id=decision_id, derived_from=origin
        )
