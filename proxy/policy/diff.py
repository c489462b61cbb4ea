"""Is the new policy looser anywhere? A proof by witnesses.

Conditions only ask for presence and the strictest vote wins, so a request that the new policy
treats looser holds a smallest one that it treats looser too: just enough to make one rule of the
old policy vote. There are few of those, and each is tried. What loosens without findings (an
allow-list, a longer validity) is listed instead, and what is too much to try counts as not proved.
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from proxy.inspection.recognizers import Recognizer
from proxy.policy.decide import Context, decide
from proxy.policy.language import Valid
from proxy.policy.model import (
    SCOPE_KEYS,
    CompiledCondition,
    CompiledRule,
    Policy,
    ScopeMatcher,
)
from proxy.types import (
    Action,
    AnswerScan,
    Caller,
    Category,
    Coverage,
    Decision,
    Destination,
    Finding,
    Inspection,
    OnLocalFailure,
    Origin,
    Role,
    Segment,
    Unscannable,
    UnscannableReason,
)

#: Most ways to meet a rule that are tried, and most callers for each.
MAX_WAYS = 4000
MAX_CALLERS = 500

#: A value, and a piece of a path, that no policy names.
OTHER = "\u00a7"

Kind = tuple[str, float, Role, str]  # entity, score, role, path


@dataclass(frozen=True, slots=True)
class Looser:
    """A request, in counts and scores, that the new policy treats looser."""

    rule: str
    caller: str
    findings: tuple[tuple[str, float, int], ...]
    old: str
    new: str

    def __str__(self) -> str:
        found = ", ".join(f"{n} x {entity} at {score:g}" for entity, score, n in self.findings)
        return (
            f"{found or 'nothing found'} ({self.caller}): {self.old} by {self.rule}, now {self.new}"
        )


@dataclass(slots=True)
class Difference:
    """What a change loosens: counterexamples, constructs that loosen, and what was not proved."""

    looser: list[Looser] = field(default_factory=list)
    constructs: list[str] = field(default_factory=list)
    unproved: list[str] = field(default_factory=list)
    num_tried: int = 0

    @property
    def no_new_egress(self) -> bool:
        """Whether it is proved that nothing leaves which stayed before."""
        return not (self.looser or self.constructs or self.unproved)


def compare(old: Policy, new: Policy, now: dt.datetime) -> Difference:
    """Look for a request that ``new`` treats looser than ``old`` does.

    Args:
        old: the policy in force.
        new: the one to take its place.
        now: the day on which both are read (exceptions and allow-lists end).
    """
    found = Difference(constructs=list(_constructs(old, new)))
    return _Comparison(_always_valid(old), _always_valid(new), now, found).run()


@dataclass(slots=True)
class _Comparison:
    old: Policy
    new: Policy
    now: dt.datetime
    found: Difference

    def run(self) -> Difference:
        self._try("default", [()], ScopeMatcher(()))
        for reason in UnscannableReason:
            self._try(f"unscannable {reason.value}", [()], ScopeMatcher(()), unscannable=(reason,))
        for rule in self.old.rules:
            if not any(covers(other, rule) for other in self.new.rules):
                self._rule(rule)
        self._out_of_scope(self.old.fallback.scope, "out_of_scope", [()])
        for given in self.old.destinations:
            entities = self._classes(given.absent)
            ways = [((entity, 0.0, Role.USER, OTHER),) for entity in entities]
            self._try(f"destination {given.destination.id}", ways, ScopeMatcher(()))
            self._out_of_scope(given.scope, f"destination {given.destination.id}", [()])
        return self.found

    def _rule(self, rule: CompiledRule) -> None:
        if len({glob for c in rule.conditions for glob in c.globs}) > 1 < len(rule.conditions):
            self.found.unproved.append(f"rule {rule.ref.id}: several places in several conditions")
            return
        ways: list[list[Counter[Kind]]] = []
        total = 1
        for condition in rule.conditions:
            kinds = list(self._kinds(condition, rule))
            total *= math.comb(len(kinds) + condition.min_count - 1, condition.min_count)
            if total * condition.min_count > 20 * MAX_WAYS:
                self.found.unproved.append(f"rule {rule.ref.id}: too many ways to meet it")
                return
            several = itertools.combinations_with_replacement(kinds, condition.min_count)
            ways.append([Counter(way) for way in several])
        joined = [_union(way) for way in itertools.product(*ways)]
        languages: list[tuple[str, ...]] = [(value,) for value in sorted(rule.languages)] or [()]
        reasons: list[tuple[UnscannableReason, ...]] = [
            (value,) for value in sorted(rule.unscannable)
        ] or [()]
        for language, reason in itertools.product(languages, reasons):
            self._try(rule.ref.id, joined, rule.scope, languages=language, unscannable=reason)

    def _out_of_scope(
        self, scope: ScopeMatcher, name: str, ways: Sequence[tuple[Kind, ...]]
    ) -> None:
        """The callers just outside ``scope``, one key at a time."""
        for position, _ in scope.wanted:
            outside = ScopeMatcher(((position, frozenset({OTHER, *self._mentioned(position)})),))
            self._try(name, ways, outside)

    def _try(
        self,
        name: str,
        ways: Sequence[tuple[Kind, ...]],
        scope: ScopeMatcher,
        languages: tuple[str, ...] = (),
        unscannable: tuple[UnscannableReason, ...] = (),
    ) -> None:
        callers = list(itertools.islice(self._callers(scope), MAX_CALLERS + 1))
        if len(callers) > MAX_CALLERS:
            self.found.unproved.append(f"{name}: too many callers")
            return
        for way in ways:
            inspection = _inspection(way, languages, unscannable)
            for who in callers:
                if looser := self._looser(name, who, way, inspection):
                    self.found.looser.append(looser)
                    return

    def _looser(
        self, name: str, who: tuple[str, ...], way: tuple[Kind, ...], inspection: Inspection
    ) -> Looser | None:
        app, team, environment, key, model, route = who
        context = Context(Caller(app, team, environment, key), route, model, self.now)
        before = decide(self.old, context, inspection, decision_id="old")
        after = decide(self.new, context, inspection, decision_id="new")
        self.found.num_tried += 1
        if not is_looser(before, after):
            return None
        named = ", ".join(
            f"{key}: {value}" for key, value in zip(SCOPE_KEYS, who, strict=True) if value != OTHER
        )
        return Looser(
            name, named or "any caller", tuple(_counted(way)), _says(before), _says(after)
        )

    def _callers(self, scope: ScopeMatcher) -> Iterator[tuple[str, ...]]:
        wanted: dict[int, frozenset[str]] = {}
        for position, values in scope.wanted:
            wanted[position] = wanted.get(position, values) & values
        choices = [
            sorted(wanted[position])
            if position in wanted
            else [OTHER, *sorted(self._mentioned(position))]
            for position in range(len(SCOPE_KEYS))
        ]
        yield from itertools.product(*choices)

    def _mentioned(self, position: int) -> set[str]:
        """The values for which the new policy may be looser than for others."""
        fallback = self.new.fallback
        scopes = [fallback.scope, *(given.scope for given in self.new.destinations)]
        scopes += [given.scope for given in fallback.exceptions]
        scopes += [given.scope for rule in self.new.rules for given in rule.exceptions]
        return {
            value
            for scope in scopes
            for at, values in scope.wanted
            if at == position
            for value in values
        }

    def _kinds(self, condition: CompiledCondition, rule: CompiledRule) -> Iterator[Kind]:
        """The least findings that count for ``condition``, also those that serve another one."""
        asked = any(c.roles for other in self.new.rules for c in other.conditions)
        parts = rule.conditions
        roles = set(Role) if asked else {Role.USER, *(r for c in parts for r in c.roles or ())}
        paths = {OTHER, *(glob.replace("*", OTHER) for c in parts for glob in c.globs)}
        scores = {c.min_score for c in parts if c.min_score >= condition.min_score}
        for entity in self._classes(condition.entities):
            for score, role, path in itertools.product(
                sorted(scores), sorted(roles), sorted(paths)
            ):
                if condition.roles is not None and role not in condition.roles:
                    continue
                if condition.paths is None or any(p.fullmatch(path) for p in condition.paths):
                    yield entity, score, role, path

    def _classes(self, entities: Iterable[str]) -> list[str]:
        """One entity for each set of entities that no rule tells apart."""
        sets = [
            condition.entities
            for policy in (self.old, self.new)
            for rule in policy.rules
            for condition in rule.conditions
        ]
        sets += [given.absent for policy in (self.old, self.new) for given in policy.destinations]
        first = {
            tuple(entity in one for one in sets): entity
            for entity in sorted(entities, reverse=True)
        }
        return sorted(first.values())


def is_looser(before: Decision, after: Decision) -> bool:
    """Whether ``after`` lets more happen than ``before`` did, for one request."""
    if after.action.strictness < before.action.strictness:
        return True
    if after.only_masked and _masks_less(before, after):
        return True
    return after.may_leave and not _reach(after) <= _reach(before)


def _reach(decision: Decision) -> set[tuple[Destination, str]]:
    """Each destination with each model that a request may reach there."""
    return {(replace(d, models=()), model) for d in decision.destinations for model in d.models}


def covers(other: CompiledRule, rule: CompiledRule) -> bool:
    """Whether ``other`` votes at least as strictly wherever ``rule`` votes; false if unsure."""
    return (
        other.action.strictness >= rule.action.strictness
        and not other.exceptions
        and (other.is_floor or not rule.is_floor)
        and all(
            any(p == at and v <= values for p, v in rule.scope.wanted)
            for at, values in other.scope.wanted
        )
        and all(
            any(_implies(mine, theirs) for mine in rule.conditions) for theirs in other.conditions
        )
        and (other.action is not Action.MASK or _masks_as_much(other, rule))
        and other.mask_with.strictness >= rule.mask_with.strictness
        and (not other.languages or (bool(rule.languages) and rule.languages <= other.languages))
        and (
            not other.unscannable
            or (bool(rule.unscannable) and rule.unscannable <= other.unscannable)
        )
    )


def _masks_less(before: Decision, after: Decision) -> bool:
    """Whether a value that was masked leaves now, or is masked in a less private way."""
    now = {mask.finding: mask.by.strictness for mask in after.masks}
    return any(now.get(mask.finding, -1) < mask.by.strictness for mask in before.masks)


def _masks_as_much(other: CompiledRule, rule: CompiledRule) -> bool:
    """Whether ``other`` counts, and so masks, every finding that ``rule`` counts."""
    if not other.conditions:
        return True
    return bool(rule.conditions) and all(
        any(_implies(mine, theirs) for theirs in other.conditions) for mine in rule.conditions
    )


def _implies(mine: CompiledCondition, theirs: CompiledCondition) -> bool:
    return (
        mine.entities <= theirs.entities
        and mine.min_score >= theirs.min_score
        and mine.min_count >= theirs.min_count
        and (theirs.roles is None or (mine.roles is not None and mine.roles <= theirs.roles))
        and (not theirs.globs or (bool(mine.globs) and mine.globs <= theirs.globs))
    )


def _constructs(old: Policy, new: Policy) -> Iterator[str]:
    """What loosens without a finding that would show it."""
    for entry in new.allowed:
        same = [
            old_ for old_ in old.allowed if (old_.kind, old_.value) == (entry.kind, entry.value)
        ]
        if not any(one.until >= entry.until for one in same):
            yield f"allow_list: a {entry.kind} more, or for longer (until {entry.until})"
    kept = set(new.recognizers.all)
    for gone in old.recognizers.all:
        if not any(finds_as_much(one, gone) for one in kept):
            yield f"recognizers: {gone.entity}: one of its recognizers is gone or changed"
    if set(_window(old)) - set(_window(new)):
        yield "valid: the days it may let anything leave differ"
    if new.allowed:
        for rule in old.rules:
            if rule.is_floor and not any(o.is_floor and covers(o, rule) for o in new.rules):
                yield f"floors: {rule.ref.id} may now give way to the allow-list"
    given = {e.ref.id: e for rule in old.rules for e in rule.exceptions}
    given |= {e.ref.id: e for e in old.fallback.exceptions}
    newer = [e for rule in new.rules for e in rule.exceptions] + list(new.fallback.exceptions)
    for exception in newer:
        before = given.get(exception.ref.id)
        if before is None or exception.until > before.until:
            yield f"exception {exception.ref.id}: new or longer, until {exception.until}"
    if old.content.on_local_failure is OnLocalFailure.REFUSE is not new.content.on_local_failure:
        yield "on_local_failure: cloud instead of refuse"
    if new.content.unrecorded_local and not old.content.unrecorded_local:
        yield "unrecorded_local: answers without a record"
    before_days, days = old.content.record.retention_days, new.content.record.retention_days
    if before_days and (not days or days < before_days):
        yield f"record: kept for {days or 'no stated number of'} days instead of {before_days}"
    if new.content.record.train_on_answers and not old.content.record.train_on_answers:
        yield "record: the answers of clouds are kept to learn from"
    if old.scan is not None and not _scans_as_much(new.scan, old.scan):
        yield "responses: less is looked for in answers, or less is done about it"


def _scans_as_much(one: AnswerScan | None, other: AnswerScan) -> bool:
    """Whether ``one`` does at least what ``other`` does."""
    return (
        one is not None
        and one.does.strictness >= other.does.strictness
        and one.entities >= other.entities
        and one.min_score <= other.min_score
    )


def finds_as_much(one: Recognizer, other: Recognizer) -> bool:
    """Whether ``one`` finds all that ``other`` does, as surely; false if unsure."""
    same = replace(one, score=0, terms=(), context_boost=0) == replace(
        other, score=0, terms=(), context_boost=0
    )
    return (
        same
        and set(one.terms) >= set(other.terms)
        and one.score >= other.score
        and one.max_score >= other.max_score
    )


def _always_valid(policy: Policy) -> Policy:
    """``policy`` without its days, so that what it says within them is compared."""
    files = tuple(
        replace(loaded, content=loaded.content.model_copy(update={"valid": Valid()}))
        for loaded in policy.files
    )
    return replace(policy, files=files).compiled()


def _window(policy: Policy) -> list[tuple[str, str]]:
    days = {(str(valid.since or ""), str(valid.until or "")) for valid in policy.fallback.valid}
    return sorted(days - {("", "")})


def _union(ways: Iterable[Counter[Kind]]) -> tuple[Kind, ...]:
    """The findings that meet all conditions; one finding may serve several."""
    joined: Counter[Kind] = Counter()
    for way in ways:
        joined |= way
    return tuple(sorted(joined.elements()))


def _inspection(
    way: tuple[Kind, ...], languages: tuple[str, ...], reasons: tuple[UnscannableReason, ...]
) -> Inspection:
    segments = tuple(
        Segment(index, path, role, Origin.VALUE, text="")
        for index, (_, _, role, path) in enumerate(way)
    )
    findings = tuple(
        Finding(entity, Category.OTHER, index, 0, 0, score, "witness")
        for index, (entity, score, _, _) in enumerate(way)
    )
    unscannable = tuple(Unscannable(0, reason) for reason in reasons)
    coverage = Coverage(len(way), len(way), 0, 0)
    return Inspection(segments, findings, unscannable, coverage, languages, (), 0.0)


def _counted(way: tuple[Kind, ...]) -> Iterator[tuple[str, float, int]]:
    for (entity, score), group in itertools.groupby(sorted(k[:2] for k in way)):
        yield entity, score, len(list(group))


def _says(decision: Decision) -> str:
    where = ", ".join(d.id for d in decision.destinations) or "nowhere"
    if decision.action is Action.ALLOW:
        return f"allow to {where}"
    if decision.action is Action.MASK:
        ways = ", ".join(sorted({mask.by.value for mask in decision.masks}))
        return f"mask {len(decision.masks)}{f' ({ways})' if ways else ''} to {where}"
    return decision.action.value
