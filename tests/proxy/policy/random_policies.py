"""Random policies and requests over a small world, so that they meet."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

from hypothesis import strategies as st

from proxy.inspection.entities import ENTITIES as BUILT_IN
from proxy.policy.decide import Context
from proxy.policy.language import (
    Examples,
    ExceptionPolicy,
    MaskAction,
    MaskOptions,
    Part,
    PolicyFile,
    RecognizerPolicy,
    Rule,
    Scope,
    When,
)
from proxy.policy.model import LoadedFile, Policy, join
from proxy.types import (
    Action,
    Caller,
    Category,
    Coverage,
    Finding,
    Inspection,
    MaskWith,
    Origin,
    Role,
    Segment,
    Unscannable,
    UnscannableReason,
)

ENTITIES = ("PERSON", "US_SSN", "EMAIL_ADDRESS", "CREDIT_CARD", "HEALTH_CONDITION", "BADGE")

#: An entity that only a recognizer finds.
BADGE = RecognizerPolicy(
    entity="BADGE",
    category=Category.IDENTITY,
    why="because",
    terms=("badge",),
    score=0.6,
    examples=Examples(match=("badge",), no_match=("budget",)),
)
ENTITY_CATEGORIES = {**BUILT_IN, BADGE.entity: BADGE.category}
CATEGORIES = (Category.IDENTITY, Category.CONTACT, Category.HEALTH)
ROLES = (Role.USER, Role.TOOL)
PATHS = ("messages[0].content", "messages[0].name", "user")
GLOBS = ("messages[*].content", "messages*", "user", "*")
APPS = ("desk", "hr")
REASONS = (UnscannableReason.IMAGE, UnscannableReason.DETECTOR_TIMEOUT)
SCORES = (0.0, 0.3, 0.6, 1.0)
TODAY = date(2026, 11, 24)


def some(values: tuple[object, ...], most: int = 2) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(st.sampled_from(values), max_size=most, unique=True).map(tuple)


def parts(of: type[Part] | type[When]) -> st.SearchStrategy[Part | When]:
    return st.builds(
        of,
        entities=st.lists(st.sampled_from(ENTITIES), min_size=1, max_size=2).map(tuple),
        categories=some(CATEGORIES, 1),
        min_score=st.sampled_from(SCORES),
        min_count=st.integers(1, 2),
        roles=some(ROLES, 1),
        paths=some(GLOBS, 1),
    )


scopes = st.builds(Scope, apps=some(APPS, 1), models=some(("a", "b"), 1))
whens = st.one_of(
    parts(When),
    st.builds(When, always=st.just(True)),
    st.builds(When, unscannable=st.just((UnscannableReason.IMAGE,))),
    st.builds(When, languages=st.just(("de",))),
    st.builds(When, all_of=st.tuples(parts(Part), parts(Part))),
)
rules = st.builds(
    Rule,
    id=st.just("rule"),
    why=st.just("because"),
    when=whens,
    scope=scopes,
    action=st.sampled_from(
        [*Action, *(MaskAction(mask=MaskOptions(**{"with": way})) for way in MaskWith)]
    ),
)


@st.composite
def files(draw: st.DrawFn, *, with_exceptions: bool = True) -> PolicyFile:
    drawn = [
        replace_id(rule, f"r{index}")
        for index, rule in enumerate(draw(st.lists(rules, max_size=5)))
    ]
    split = draw(st.integers(0, len(drawn)))
    free = drawn[split:]
    exceptions = [
        ExceptionPolicy(
            id=f"ex{index}",
            loosens=rule_id,
            to=draw(st.sampled_from([Action.ALLOW, Action.MASK, Action.LOCAL_ONLY])),
            scope=Scope(apps=("desk",)),
            why="because",
            ticket="T-1",
            owner="a",
            approved_by="b",
            until=draw(st.sampled_from([date(2026, 11, 23), date(2026, 11, 24)])),
        )
        for index, rule_id in enumerate(["default", *(rule.id for rule in free)])
        if with_exceptions and draw(st.booleans())
    ]
    return PolicyFile(
        version=1,
        pack="p",
        revision=1,
        owner="o",
        scope=draw(scopes),
        default=draw(st.sampled_from([None, *Action])),
        on_unscannable=draw(st.sampled_from([Action.BLOCK, Action.LOCAL_ONLY])),
        on_detector_timeout=draw(st.sampled_from([Action.BLOCK, Action.LOCAL_ONLY])),
        public_figures="allow",
        recognizers=draw(st.sampled_from([(), (BADGE,)])),
        floors=tuple(drawn[:split]),
        rules=tuple(free),
        exceptions=tuple(exceptions),
    )


def replace_id(rule: Rule, rule_id: str) -> Rule:
    return rule.model_copy(update={"id": rule_id})


def policy_of(*contents: PolicyFile) -> Policy:
    """A policy in force of these files, the first one including the others."""
    loaded = tuple(LoadedFile(f"{i}.yaml", content, {}) for i, content in enumerate(contents))
    now = datetime(2026, 11, 24, tzinfo=UTC)
    return Policy("0.yaml", "sha256:0", now, join(loaded), loaded).compiled()


contexts = st.builds(
    lambda app, model: Context(
        Caller(app, "team", "prod", "k"),
        "chat.completions",
        model,
        datetime(2026, 11, 24, 12, tzinfo=UTC),
    ),
    st.sampled_from([*APPS, "other"]),
    st.sampled_from(["a", "b", "c"]),
)


@st.composite
def inspections(draw: st.DrawFn) -> Inspection:
    places = draw(
        st.lists(st.tuples(st.sampled_from(ROLES), st.sampled_from(PATHS)), min_size=1, max_size=3)
    )
    segments = tuple(
        Segment(index, path, role, Origin.VALUE, text="")
        for index, (role, path) in enumerate(places)
    )
    found = st.builds(
        lambda entity, segment, score: Finding(
            entity, ENTITY_CATEGORIES[entity], segment, 0, 0, score, "d"
        ),
        st.sampled_from(ENTITIES),
        st.integers(0, len(segments) - 1),
        st.sampled_from(SCORES),
    )
    unscannable = draw(st.lists(st.sampled_from(REASONS), max_size=1))
    return Inspection(
        segments,
        tuple(draw(st.lists(found, max_size=4))),
        tuple(Unscannable(0, reason) for reason in unscannable),
        Coverage(1, 1, 0, 0),
        draw(st.sampled_from([("en",), ("en", "de")])),
        (),
        0.0,
    )


def seen_under(policy: Policy, inspection: Inspection) -> Inspection:
    """The request as it is inspected under ``policy``: without what no detector of it finds."""
    known = policy.vocabulary.entities
    found = tuple(finding for finding in inspection.findings if finding.entity in known)
    return replace(inspection, findings=found)


def with_more(inspection: Inspection, finding: Finding) -> Inspection:
    """The same request with one more finding in its first segment."""
    return replace(inspection, findings=(*inspection.findings, replace(finding, segment=0)))
