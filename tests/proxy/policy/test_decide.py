"""The most restrictive vote wins, and only what may loosen loosens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from proxy.policy.decide import decide
from proxy.policy.model import Policy
from proxy.types import (
    Action,
    Decision,
    Finding,
    Inspection,
    Mask,
    MaskWith,
    Origin,
    Role,
    Segment,
    Unscannable,
    UnscannableReason,
)
from tests.factories import a_finding, an_inspection
from tests.proxy.policy.policies import OPEN, a_context, load

PEOPLE = (
    "  - {id: people, why: GDPR, when: {entities: [PERSON], min_score: 0.5}, action: local_only}\n"
)
CARDS = "  - {id: cards, why: PCI, when: {entities: [CREDIT_CARD]}, action: block, message: No.}\n"


def said(
    policy: Policy, *findings: Finding, app: str = "desk", day: str = "2026-11-24"
) -> Decision:
    return decide(policy, a_context(app, day=day), an_inspection(*findings), decision_id="d")


def unread(*reasons: UnscannableReason) -> Inspection:
    entries = tuple(Unscannable(0, reason) for reason in reasons)
    return replace(an_inspection(), unscannable=entries)


def ids(decision: Decision) -> set[str]:
    return {rule.id for rule in decision.rules}


def test_blocks_when_the_policy_names_no_default(tmp_path: Path) -> None:
    assert said(load(tmp_path, "")).action is Action.BLOCK


def test_lets_a_request_leave_that_no_rule_matches(tmp_path: Path) -> None:
    decision = said(load(tmp_path, "default: allow\n" + OPEN + "rules:\n" + PEOPLE))
    assert decision.may_leave
    assert decision.rules == ()
    assert [d.id for d in decision.destinations] == ["eu"]


def test_the_strictest_rule_wins_with_its_place_and_message(tmp_path: Path) -> None:
    policy = load(tmp_path, "default: allow\nrules:\n" + PEOPLE + CARDS)
    decision = said(policy, a_finding("PERSON"), a_finding("CREDIT_CARD"))
    assert decision.action is Action.BLOCK
    assert decision.message == "No."
    assert [(r.id, r.file, r.line) for r in decision.rules] == [("cards", "trial.yaml", 8)]


def test_a_rule_weaker_than_the_default_changes_nothing(tmp_path: Path) -> None:
    rule = "  - {id: free, why: none, when: {entities: [PERSON]}, action: allow}\n"
    decision = said(load(tmp_path, "default: local_only\nrules:\n" + rule), a_finding())
    assert decision.action is Action.LOCAL_ONLY


@pytest.mark.parametrize(("score", "action"), [(0.5, "local_only"), (0.49, "allow")])
def test_a_finding_counts_from_the_least_score_on(
    tmp_path: Path, score: float, action: str
) -> None:
    policy = load(tmp_path, "default: allow\nrules:\n" + PEOPLE)
    assert said(policy, a_finding(score=score)).action == action


def test_counts_findings_over_entities_and_categories(tmp_path: Path) -> None:
    when = "{entities: [CREDIT_CARD], categories: [identity], min_count: 3}"
    policy = load(
        tmp_path,
        f"default: allow\nrules:\n  - {{id: bulk, why: sets, when: {when}, action: block}}\n",
    )
    two = (a_finding("PERSON"), a_finding("US_SSN"))
    assert said(policy, *two).action is Action.ALLOW
    assert said(policy, *two, a_finding("CREDIT_CARD")).action is Action.BLOCK


def test_all_of_needs_every_part(tmp_path: Path) -> None:
    when = "{all_of: [{categories: [identity]}, {categories: [health], min_score: 0.3}]}"
    policy = load(
        tmp_path,
        f"default: allow\nrules:\n  - {{id: both, why: Art. 9, when: {when}, action: block}}\n",
    )
    name, illness = a_finding("PERSON"), a_finding("HEALTH_CONDITION", score=0.3)
    assert said(policy, name).action is Action.ALLOW
    assert said(policy, illness).action is Action.ALLOW
    assert said(policy, name, illness).action is Action.BLOCK


def placed(role: Role, path: str) -> Inspection:
    segment = Segment(0, path, role, Origin.VALUE, text="x")
    return replace(an_inspection(a_finding()), segments=(segment,))


@pytest.mark.parametrize(
    ("role", "path", "action"),
    [
        (Role.TOOL, "messages[3].content", Action.BLOCK),
        (Role.USER, "messages[3].content", Action.ALLOW),
        (Role.TOOL, "messages[3].name", Action.ALLOW),
        (Role.TOOL, "messages[3].content\n", Action.ALLOW),
    ],
)
def test_looks_at_role_and_place(tmp_path: Path, role: Role, path: str, action: Action) -> None:
    when = "{entities: [PERSON], roles: [tool], paths: ['messages[*].content']}"
    policy = load(
        tmp_path,
        f"default: allow\nrules:\n  - {{id: t, why: tools, when: {when}, action: block}}\n",
    )
    decision = decide(policy, a_context(), placed(role, path), decision_id="d")
    assert decision.action is action


def test_a_finding_in_an_unknown_segment_counts_anywhere(tmp_path: Path) -> None:
    when = "{entities: [PERSON], roles: [tool]}"
    policy = load(
        tmp_path,
        f"default: allow\nrules:\n  - {{id: t, why: tools, when: {when}, action: block}}\n",
    )
    assert said(policy, a_finding(segment=99)).action is Action.BLOCK


def test_an_entity_nobody_knows_stays(tmp_path: Path) -> None:
    strange = replace(a_finding(), entity="INVENTED")
    decision = said(load(tmp_path, "default: allow\n"), strange)
    assert decision.action is Action.LOCAL_ONLY
    assert ids(decision) == {"unknown_entity"}


@pytest.mark.parametrize("reason", list(UnscannableReason))
def test_what_cannot_be_inspected_stays_whatever_the_reason(
    tmp_path: Path, reason: UnscannableReason
) -> None:
    decision = decide(
        load(tmp_path, "default: allow\n"), a_context(), unread(reason), decision_id="d"
    )
    assert decision.action is Action.LOCAL_ONLY


def test_a_late_detector_has_its_own_answer(tmp_path: Path) -> None:
    policy = load(tmp_path, "default: allow\non_detector_timeout: block\n")
    late = decide(policy, a_context(), unread(UnscannableReason.DETECTOR_TIMEOUT), decision_id="d")
    image = decide(policy, a_context(), unread(UnscannableReason.IMAGE), decision_id="d")
    assert (late.action, image.action) == (Action.BLOCK, Action.LOCAL_ONLY)


def test_a_rule_may_block_some_of_what_cannot_be_inspected(tmp_path: Path) -> None:
    rule = "  - {id: sealed, why: DLP, when: {unscannable: [encrypted]}, action: block}\n"
    policy = load(tmp_path, "default: allow\nrules:\n" + rule)
    sealed = decide(policy, a_context(), unread(UnscannableReason.ENCRYPTED), decision_id="d")
    assert ids(sealed) == {"sealed"}


def test_a_language_may_decide(tmp_path: Path) -> None:
    rule = "  - {id: de, why: no model, when: {languages: [de]}, action: local_only}\n"
    policy = load(tmp_path, "default: allow\nrules:\n" + rule)
    german = replace(an_inspection(), languages=("de", "en"))
    assert decide(policy, a_context(), german, decision_id="d").action is Action.LOCAL_ONLY
    assert said(policy).action is Action.ALLOW


def test_what_stems_from_a_pinned_exchange_stays(tmp_path: Path) -> None:
    policy = load(tmp_path, "default: allow\n")
    decision = decide(policy, a_context(), an_inspection(), decision_id="d", derived_from="dec_1")
    assert decision.action is Action.LOCAL_ONLY
    assert (ids(decision), decision.derived_from) == ({"derived"}, "dec_1")


def test_a_rule_holds_in_its_scope_only(tmp_path: Path) -> None:
    rule = "  - {id: r, why: pay, scope: {apps: [hr]}, when: {always: true}, action: local_only}\n"
    policy = load(tmp_path, "default: allow\nrules:\n" + rule)
    assert said(policy, app="hr").action is Action.LOCAL_ONLY
    assert said(policy, app="desk").action is Action.ALLOW


def test_blocks_a_caller_outside_the_scope_of_the_policy(tmp_path: Path) -> None:
    policy = load(tmp_path, "default: allow\nscope: {apps: [hr]}\n")
    assert said(policy, app="hr").action is Action.ALLOW
    assert ids(said(policy, app="desk")) == {"out_of_scope"}


@pytest.mark.parametrize(
    ("day", "action"),
    [
        ("2026-10-31", Action.LOCAL_ONLY),
        ("2026-11-01", Action.ALLOW),
        ("2026-11-30", Action.ALLOW),
        ("2026-12-01", Action.LOCAL_ONLY),
    ],
)
def test_nothing_leaves_outside_the_days_of_the_policy(
    tmp_path: Path, day: str, action: Action
) -> None:
    policy = load(tmp_path, "default: allow\nvalid: {from: 2026-11-01, until: 2026-11-30}\n")
    assert said(policy, day=day).action is action


EXCEPTION = (
    "exceptions:\n"
    "  - {id: ex-1, loosens: people, to: allow, scope: {apps: [press]}, why: names are public,\n"
    "     ticket: SEC-1, owner: a@example.com, approved_by: b@example.com, until: 2026-12-31}\n"
)


@pytest.mark.parametrize(
    ("app", "day", "action"),
    [
        ("press", "2026-12-31", Action.ALLOW),
        ("press", "2027-01-01", Action.LOCAL_ONLY),
        ("desk", "2026-12-31", Action.LOCAL_ONLY),
    ],
)
def test_an_exception_holds_for_its_caller_until_its_day(
    tmp_path: Path, app: str, day: str, action: Action
) -> None:
    policy = load(tmp_path, "default: allow\nrules:\n" + PEOPLE + EXCEPTION)
    assert said(policy, a_finding(), app=app, day=day).action is action


def test_an_exception_that_decides_is_named(tmp_path: Path) -> None:
    policy = load(tmp_path, "default: allow\nrules:\n" + PEOPLE + EXCEPTION)
    assert ids(said(policy, a_finding(), app="press")) == {"ex-1"}


def test_an_exception_never_overrides_another_rule(tmp_path: Path) -> None:
    policy = load(tmp_path, "default: allow\nrules:\n" + PEOPLE + CARDS + EXCEPTION)
    decision = said(policy, a_finding(), a_finding("CREDIT_CARD"), app="press")
    assert decision.action is Action.BLOCK


ALLOWED = (
    "allow_list:\n"
    "  terms: [{value: Maria Keller, why: our spokesperson, owner: pr, until: 2026-12-31}]\n"
    "  domains: [{value: ours.example, why: our own mail, owner: pr, until: 2026-12-31}]\n"
    "  patterns: [{value: 'E-\\d{4}', why: test accounts, owner: it, until: 2026-12-31}]\n"
)


def spotted(text: str, entity: str, start: int, end: int, view: str = "raw") -> Inspection:
    finding = replace(a_finding(entity), start=start, end=end, view=view)
    return an_inspection(finding, texts=(text,))


@pytest.mark.parametrize(
    ("inspection", "action"),
    [
        (spotted("ask MARIA Keller now", "PERSON", 4, 16), Action.ALLOW),
        (spotted("ask Maria Kellerman", "PERSON", 4, 19), Action.LOCAL_ONLY),
        (spotted("to info@ours.example", "EMAIL_ADDRESS", 3, 20), Action.ALLOW),
        (spotted("to info@not-ours.example", "EMAIL_ADDRESS", 3, 24), Action.LOCAL_ONLY),
        (spotted("ask Maria Keller now", "PERSON", 4, 16, view="fold"), Action.LOCAL_ONLY),
        (spotted("see E-1234", "EMPLOYEE_ID", 4, 10), Action.ALLOW),
        (spotted("see E-12345", "EMPLOYEE_ID", 4, 11), Action.LOCAL_ONLY),
        (spotted("see xE-1234", "EMPLOYEE_ID", 4, 11), Action.LOCAL_ONLY),
        (spotted("see e-1234", "EMPLOYEE_ID", 4, 10), Action.LOCAL_ONLY),
        (spotted("see E-1234", "EMPLOYEE_ID", 4, 10, view="decode"), Action.LOCAL_ONLY),
    ],
    ids=[
        "known",
        "longer",
        "domain",
        "other-domain",
        "decoded",
        "pattern",
        "pattern-longer",
        "pattern-within",
        "pattern-small",
        "pattern-decoded",
    ],
)
def test_the_allow_list_matches_to_the_letter(
    tmp_path: Path, inspection: Inspection, action: Action
) -> None:
    rule = "  - {id: r, why: GDPR, when: {categories: [identity, contact]}, action: local_only}\n"
    policy = load(tmp_path, "default: allow\nrules:\n" + rule + ALLOWED)
    assert decide(policy, a_context(), inspection, decision_id="d").action is action


def test_a_floor_knows_no_allow_list(tmp_path: Path) -> None:
    policy = load(tmp_path, "default: allow\nfloors:\n" + PEOPLE + ALLOWED)
    inspection = spotted("ask Maria Keller now", "PERSON", 4, 16)
    assert decide(policy, a_context(), inspection, decision_id="d").action is Action.LOCAL_ONLY


def test_the_allow_list_ends(tmp_path: Path) -> None:
    policy = load(tmp_path, "default: allow\nrules:\n" + PEOPLE + ALLOWED)
    inspection = spotted("ask Maria Keller now", "PERSON", 4, 16)
    late = decide(policy, a_context(day="2027-01-01"), inspection, decision_id="d")
    assert late.action is Action.LOCAL_ONLY


def test_a_destination_is_open_only_to_whom_it_is_for(tmp_path: Path) -> None:
    only = "    only_for: {scope: {apps: [research]}, categories_absent: [health]}\n"
    policy = load(tmp_path, "default: allow\n" + OPEN + only)
    assert said(policy, app="research").may_leave
    assert not said(policy, app="desk").may_leave
    faint = a_finding("HEALTH_CONDITION", score=0.01)
    assert not said(policy, faint, app="research").may_leave


@pytest.mark.parametrize(
    ("line", "action"),
    [("public_figures: allow\n", Action.ALLOW), ("", Action.LOCAL_ONLY)],
    ids=["allow", "unsaid"],
)
def test_public_figures_count_as_persons_unless_the_policy_says_otherwise(
    tmp_path: Path, line: str, action: Action
) -> None:
    policy = load(tmp_path, "default: allow\n" + line + "rules:\n" + PEOPLE)
    assert said(policy, a_finding("PUBLIC_FIGURE")).action is action


def test_a_pinned_public_figure_closes_what_a_person_closes(tmp_path: Path) -> None:
    only = "    only_for: {entities_absent: [PERSON]}\n"
    policy = load(tmp_path, "default: allow\npublic_figures: pin\n" + OPEN + only)
    assert not said(policy, a_finding("PUBLIC_FIGURE")).may_leave


def test_a_rule_that_masks_masks_what_it_counts(tmp_path: Path) -> None:
    rule = "  - {id: m, why: GDPR, when: {entities: [PERSON], min_score: 0.5}, action: mask}\n"
    policy = load(tmp_path, "default: allow\n" + OPEN + "rules:\n" + rule)
    sure, faint, other = a_finding(), a_finding(score=0.4), a_finding("LOCATION")
    decision = said(policy, sure, faint, other)
    assert (decision.action, decision.masks, ids(decision)) == (Action.MASK, (Mask(sure),), {"m"})
    assert decision.only_masked
    assert said(policy, faint).masks == ()


def test_a_default_of_mask_masks_whatever_was_found(tmp_path: Path) -> None:
    policy = load(tmp_path, "default: mask\n" + OPEN)
    findings = (a_finding(score=0.01), a_finding("LOCATION"))
    assert said(policy, *findings).masks == tuple(map(Mask, findings))
    assert (said(policy).action, said(policy).masks) == (Action.MASK, ())


def test_an_exception_to_mask_masks_what_its_rule_counts(tmp_path: Path) -> None:
    exception = (
        "exceptions: [{id: x, loosens: people, to: mask, scope: {apps: [desk]}, why: because,"
        " ticket: T, owner: a, approved_by: b, until: 2099-01-01}]\n"
    )
    policy = load(tmp_path, "default: allow\n" + OPEN + "rules:\n" + PEOPLE + exception)
    assert said(policy, a_finding()).masks == (Mask(a_finding()),)
    assert said(policy, a_finding(), app="other").action is Action.LOCAL_ONLY


def test_the_most_private_way_to_mask_wins(tmp_path: Path) -> None:
    hashed = "  - {id: h, why: GDPR, when: {entities: [PERSON]}, action: {mask: {with: hash}}}\n"
    plain = "  - {id: m, why: GDPR, when: {categories: [identity]}, action: mask}\n"
    findings = (a_finding(), a_finding("VIN"))
    expected = (Mask(findings[0], MaskWith.HASH), Mask(findings[1], MaskWith.PLACEHOLDER))
    for rules in (hashed + plain, plain + hashed):
        policy = load(tmp_path, "default: allow\n" + OPEN + "rules:\n" + rules)
        decision = said(policy, *findings)
        assert (decision.action, decision.masks) == (Action.MASK, expected)


def test_ways_to_mask_are_ranked_by_how_little_they_tell() -> None:
    ranked = sorted(MaskWith, key=lambda way: -way.strictness)
    assert ranked == list(MaskWith) == ["redact", "hash", "placeholder", "pseudonym"]
    assert [way for way in MaskWith if way.one_way] == ["redact", "hash"]


def test_what_stays_for_another_reason_is_not_masked(tmp_path: Path) -> None:
    mask = "  - {id: m, why: GDPR, when: {entities: [EMAIL_ADDRESS]}, action: mask}\n"
    policy = load(tmp_path, "default: allow\n" + OPEN + "rules:\n" + PEOPLE + mask)
    decision = said(policy, a_finding(), a_finding("EMAIL_ADDRESS"))
    assert (decision.action, decision.masks) == (Action.LOCAL_ONLY, ())


TWO_MODELS = OPEN.replace("[m]", "[m, dear]")


@pytest.mark.parametrize(
    ("rule", "findings", "asked", "reached"),
    [
        ("when: {always: true}, action: block", (), "ringfence", ["m"]),
        ("when: {always: true}, action: block", (), "m", ["m"]),
        ("when: {always: true}, action: local_only", (), "ringfence", ["m"]),
        ("when: {always: true}, action: mask", (), "ringfence", ["m"]),
        ("when: {always: true}, action: allow", (), "ringfence", ["m", "dear"]),
        ("when: {entities: [PERSON]}, action: block", (), "ringfence", ["m", "dear"]),
        ("when: {entities: [PERSON]}, action: block", (a_finding(),), "ringfence", ["m"]),
        ("when: {entities: [PERSON]}, action: block", (a_finding(),), "other", ["m"]),
    ],
)
def test_a_rule_on_a_model_holds_where_the_proxy_chooses_it(
    rule: str, findings: tuple[Finding, ...], asked: str, reached: list[str], tmp_path: Path
) -> None:
    text = f"  - {{id: dear, why: x y, scope: {{models: [dear]}}, {rule}}}\n"
    policy = load(tmp_path, "default: allow\n" + TWO_MODELS + "rules:\n" + text)
    context = a_context(model=asked)
    decision = decide(policy, context, an_inspection(*findings), decision_id="d")
    assert (decision.action, decision.may_leave) == (Action.ALLOW, True)
    assert [list(there.models) for there in decision.destinations] == [reached]
    named = decide(policy, replace(context, model="dear"), an_inspection(), decision_id="d")
    assert named.may_leave == ("PERSON" in rule or "allow" in rule or "mask" in rule)


def test_a_destination_without_a_model_that_may_be_reached_is_none(tmp_path: Path) -> None:
    text = "  - {id: m, why: x y, scope: {models: [m]}, when: {always: true}, action: block}\n"
    decision = said(load(tmp_path, "default: allow\n" + OPEN + "rules:\n" + text))
    assert (decision.action, decision.destinations) == (Action.ALLOW, ())
    assert not decision.may_leave


@pytest.mark.parametrize(
    ("way", "reached"), [("mask", ["m", "dear"]), ("{mask: {with: redact}}", ["m"])]
)
def test_a_model_that_needs_another_mask_is_not_reached(
    way: str, reached: list[str], tmp_path: Path
) -> None:
    rules = (
        "  - {id: all, why: x y, when: {entities: [PERSON]}, action: mask}\n"
        "  - {id: dear, why: x y, scope: {models: [dear]}, when: {entities: [PERSON]}, "
        f"action: {way}}}\n"
    )
    policy = load(tmp_path, "default: allow\n" + TWO_MODELS + "rules:\n" + rules)
    decision = said(policy, a_finding())
    assert decision.only_masked
    assert [list(there.models) for there in decision.destinations] == [reached]


def test_a_model_out_of_the_files_scope_is_reached_if_its_destination_is(tmp_path: Path) -> None:
    """The scope of a file says who may ask for what; its destinations say what may be chosen."""
    scope = "scope: {models: [ringfence]}\n"
    rules = "rules:\n  - {id: x, why: x y, scope: {models: [dear]}, when: {always: true}, "
    policy = load(tmp_path, scope + "default: allow\n" + TWO_MODELS + rules + "action: allow}\n")
    assert [list(there.models) for there in said(policy).destinations] == [["m", "dear"]]
