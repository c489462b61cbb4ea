"""Runs the tests that stand beside the rules."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from proxy.inspection.entities import ENTITIES
from proxy.inspection.inline import Inspect
from proxy.inspection.recognizers import NO_RECOGNIZERS, Recognizers
from proxy.policy.decide import Context, decide, matching
from proxy.policy.disguises import FORMS, PLACES
from proxy.policy.language import CallerCase, Case, Expectation, Scope
from proxy.policy.model import DEFAULT, Policy
from proxy.types import (
    Action,
    Caller,
    Category,
    Coverage,
    Decision,
    Finding,
    Inspection,
    JSONObject,
    Origin,
    Role,
    Segment,
    Unscannable,
)

#: Failing forms and places that a result names; the others are counted.
MAX_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What came of a test: empty ``problem`` means it passed.

    ``action`` and ``matched``, the ids of the rules that matched, are those of its plain form;
    ``num_variants`` counts the forms and places tried beside it.
    """

    name: str
    problem: str
    action: Action
    matched: frozenset[str] = frozenset()
    num_variants: int = 0


def run_cases(policy: Policy, inspect: Inspect) -> tuple[CaseResult, ...]:
    """Run every test of the file in force; an include's tests are run with the include."""
    return tuple(run_case(policy, case, inspect) for case in policy.files[0].content.tests)


def failing_cases(policy: Policy) -> tuple[str, ...]:
    """Names of the tests that fail, among those with findings as data: no detector runs."""
    return tuple(
        case.name
        for case in policy.files[0].content.tests
        if case.findings is not None and run_case(policy, case, _no_detector).problem
    )


def _no_detector(body: JSONObject, recognizers: Recognizers = NO_RECOGNIZERS) -> Inspection:
    raise AssertionError("a case with findings as data needs no detector")


def run_case(policy: Policy, case: Case, inspect: Inspect) -> CaseResult:
    """Decide about ``case``, plain and in every form and place that it names."""
    if case.findings is None:
        inspection = inspect(_body(case), policy.recognizers)
    else:
        inspection = inspection_of(case, policy.vocabulary.entities)
    context = context_of(case.caller, case.today)
    decision = decide(policy, context, inspection, decision_id="test")
    problem = _problem(case.expect, decision)
    failing: list[str] = []
    variants = list(_variants(case))
    for name, body in variants:
        found = inspect(body, policy.recognizers)
        action = decide(policy, context, found, decision_id="test").action
        if action.strictness < case.expect.action.strictness:
            failing.append(f"{name}: {action.value}")
    if failing and not problem:
        more = f" and {len(failing) - MAX_NAMED} more" if len(failing) > MAX_NAMED else ""
        problem = (
            f"expected {case.expect.action.value} in every form and place, got "
            f"{', '.join(failing[:MAX_NAMED])}{more}, of {len(variants)}"
        )
    matched = frozenset(rule.id for rule in matching(policy, context, inspection))
    return CaseResult(case.name, problem, decision.action, matched, len(variants))


def _body(case: Case) -> JSONObject:
    """The request of a case that is not given as findings."""
    if case.request is not None:
        return case.request
    turns = [("user", case.user)] if case.messages is None else [t.said for t in case.messages]
    return {"messages": [{"role": role, "content": text} for role, text in turns]}


def _variants(case: Case) -> Iterator[tuple[str, JSONObject]]:
    """Every form in every place, by name."""
    text = case.user or ""
    forms = [(name, FORMS[name](text)) for name in case.forms] if case.forms else [("", text)]
    places = case.places or (("user",) if case.forms else ())
    for place in places:
        for form, hidden in forms:
            name = " in ".join(part for part in (form, place if case.places else "") if part)
            yield name, PLACES[place](hidden)


def _problem(expect: Expectation, decision: Decision) -> str:
    """What is wrong with a decision; empty where nothing is."""
    decided = {rule.id for rule in decision.rules}
    if decision.action is not expect.action:
        rules = ", ".join(sorted(decided)) or "the default"
        return f"expected {expect.action.value}, got {decision.action.value} by {rules}"
    if expect.rule == DEFAULT and decided:
        return f"expected the default to decide, not {', '.join(sorted(decided))}"
    if expect.rule and expect.rule != DEFAULT and expect.rule not in decided:
        return f"rule {expect.rule} did not decide"
    if expect.destination and expect.destination not in {d.id for d in decision.destinations}:
        return f"destination {expect.destination} is not open to it"
    return ""


@dataclass(frozen=True, slots=True)
class CaseCoverage:
    """Which rules of a file its tests show: those that fire in a test, and those silent in one."""

    rules: tuple[str, ...]
    never_fires: tuple[str, ...]
    never_silent: tuple[str, ...]
    actions: tuple[tuple[Action, int], ...]


def coverage_of(policy: Policy, results: Sequence[CaseResult]) -> CaseCoverage:
    """What ``results``, of the tests of the file in force, show of its own rules."""
    content = policy.files[0].content
    own = (*content.floors, *content.rules)
    always = {rule.id for rule in own if rule.when.always and rule.scope == Scope()}
    fired = frozenset[str]().union(*(result.matched for result in results))
    told = Counter(result.action for result in results)
    return CaseCoverage(
        rules=tuple(rule.id for rule in own),
        never_fires=tuple(rule.id for rule in own if rule.id not in fired),
        never_silent=tuple(
            rule.id
            for rule in own
            if rule.id not in always and all(rule.id in result.matched for result in results)
        ),
        actions=tuple((action, told[action]) for action in Action),
    )


def context_of(caller: CallerCase, today: dt.date | None) -> Context:
    """Who asks, and when, in a test."""
    now = dt.datetime.now(dt.UTC)
    if today is not None:
        now = dt.datetime.combine(today, dt.time(12), dt.UTC)
    who = Caller(caller.app, caller.team, caller.environment, caller.key)
    return Context(who, caller.route, caller.model, now)


def inspection_of(case: Case, entities: Mapping[str, Category] = ENTITIES) -> Inspection:
    """The inspection a test with findings as data stands for; its entities are all known."""
    given = [finding for finding in case.findings or () for _ in range(finding.count)]
    segments = [
        Segment(index, finding.path, finding.role, Origin.VALUE, text="")
        for index, finding in enumerate(given)
    ]
    findings = tuple(
        Finding(finding.entity, entities[finding.entity], index, 0, 0, finding.score, "given")
        for index, finding in enumerate(given)
    )
    blobs = [
        Segment(len(given) + index, "messages[0].content", Role.USER, Origin.BLOB, blob=b"")
        for index, _ in enumerate(case.unscannable)
    ]
    unscannable = tuple(
        Unscannable(segment.index, reason)
        for segment, reason in zip(blobs, case.unscannable, strict=True)
    )
    total = len(given) + len(blobs)
    coverage = Coverage(total, len(given), 0, len(blobs))
    languages = tuple(case.languages)
    return Inspection((*segments, *blobs), findings, unscannable, coverage, languages, (), 0.0)
