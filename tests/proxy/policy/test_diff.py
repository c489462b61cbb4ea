"""A change that loosens is found, with a request that shows it; one that does not is proved."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings

from proxy.policy.decide import Context, decide
from proxy.policy.diff import Difference, compare, is_looser
from proxy.policy.language import PolicyFile
from proxy.policy.source import FilePolicySource
from proxy.types import Inspection
from tests.proxy.policy.policies import OPEN, load
from tests.proxy.policy.random_policies import contexts, files, inspections, policy_of, seen_under

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
RULE = "rules:\n  - {{id: r, why: GDPR, when: {when}, action: {action}}}\n"
PEOPLE = "{entities: [PERSON], min_score: 0.5}"
EXCEPTION = (
    "exceptions: [{id: e, loosens: r, to: allow, scope: {apps: [hr]}, why: because, ticket: T-1,"
    " owner: a@x, approved_by: b@x, until: 2026-12-31}]\n"
)
TERM = "allow_list: {terms: [{value: Ada, why: known, owner: pr, until: 2026-12-31}]}\n"


def rule(when: str = PEOPLE, action: str = "local_only") -> str:
    return RULE.format(when=when, action=action)


def diff(folder: Path, old: str, new: str) -> Difference:
    head = "default: allow\n" + OPEN
    return compare(load(folder, head + old), load(folder, head + new), NOW)


SCAN = "responses: {scan: redact, categories: [contact, health], min_score: 0.5}\n"

KEEPS = "record: {train_on_answers: true}\n"

LOOSER = {
    "rule gone": (rule(), ""),
    "weaker action": (rule(action="block"), rule()),
    "higher score": (rule(), rule("{entities: [PERSON], min_score: 0.51}")),
    "higher count": (rule(), rule("{entities: [PERSON], min_score: 0.5, min_count: 2}")),
    "an entity less": (rule("{entities: [PERSON, VIN]}"), rule("{entities: [PERSON]}")),
    "a category narrowed": (rule("{categories: [identity]}"), rule("{entities: [PERSON]}")),
    "one role": (rule(), rule("{entities: [PERSON], roles: [user]}")),
    "one place": (rule(), rule("{entities: [PERSON], paths: ['messages[*]*']}")),
    "one app": (rule(), rule().replace("action", "scope: {apps: [hr]}, action")),
    "a condition more": (
        rule(),
        rule("{all_of: [{entities: [PERSON]}, {categories: [health]}]}"),
    ),
    "one finding for two": (
        rule("{all_of: [{entities: [PERSON]}, {categories: [identity]}]}"),
        rule("{categories: [identity], min_count: 2}"),
    ),
    "an exception": (rule(), rule() + EXCEPTION),
    "an allow-list": (rule(), rule() + TERM),
    "a floor under the allow-list": (rule().replace("rules", "floors") + TERM, rule() + TERM),
    "unscannable": ("on_unscannable: block\n", ""),
    "scope dropped": ("scope: {apps: [hr]}\n", ""),
    "figures": ("public_figures: pin\n" + rule(), "public_figures: allow\n" + rule()),
    "longer": ("valid: {until: 2026-12-01}\n", "valid: {until: 2026-12-02}\n"),
    "looser later": (
        "valid: {from: 2027-01-01}\n" + rule(),
        "valid: {from: 2027-01-01}\n",
    ),
    "cloud when home is down": ("", "on_local_failure: cloud\n"),
    "no record": ("", "unrecorded_local: true\n"),
    "kept for less": ("record: {retention_days: 400}\n", "record: {retention_days: 399}\n"),
    "kept at will": ("record: {retention_days: 400}\n", ""),
    "answers kept": ("", KEEPS),
    "answers kept again": (KEEPS.replace("true", "false"), KEEPS),
    "answers unread": (SCAN, ""),
    "answers only noted": (SCAN, SCAN.replace("redact", "note")),
    "less of answers": (SCAN, SCAN.replace("contact, ", "")),
    "surer in answers": (SCAN, SCAN.replace("0.5", "0.6")),
}


@pytest.mark.parametrize("name", LOOSER)
def test_finds_what_is_looser(tmp_path: Path, name: str) -> None:
    old, new = LOOSER[name]
    assert not diff(tmp_path, old, new).no_new_egress


TIGHTER = {
    "answers read": ("", SCAN),
    "answers forgotten": (KEEPS, ""),
    "answers blocked": (SCAN, SCAN.replace("redact", "block").replace("0.5", "0.4")),
    "same": (rule(), rule()),
    "rule added": ("", rule()),
    "stricter": (rule(), rule(action="block")),
    "lower score": (rule(), rule("{entities: [PERSON], min_score: 0.4}")),
    "wider": (rule(), rule("{categories: [identity]}")),
    "exception gone": (rule() + EXCEPTION, rule()),
    "allow-list gone": (rule() + TERM, rule()),
    "to a floor": (rule(), rule().replace("rules", "floors")),
    "ends": ("", "valid: {until: 2026-12-01}\n"),
    "split in two": (
        rule("{entities: [PERSON, VIN]}"),
        rule("{entities: [PERSON]}")
        + "  - {id: s, why: x y, when: {entities: [VIN]}, action: block}\n",
    ),
}


@pytest.mark.parametrize("name", TIGHTER)
def test_proves_what_is_not_looser(tmp_path: Path, name: str) -> None:
    old, new = TIGHTER[name]
    found = diff(tmp_path, old, new)
    assert found.no_new_egress, found


def test_shows_a_request(tmp_path: Path) -> None:
    found = diff(tmp_path, rule(), rule("{entities: [PERSON], min_score: 0.6}"))
    assert [str(one) for one in found.looser] == [
        "1 x PERSON at 0.5 (any caller): local_only by r, now allow to eu"
    ]


def test_a_model_that_is_kept_back_is_stricter_and_one_that_is_let_go_looser(
    tmp_path: Path,
) -> None:
    two = "default: allow\n" + OPEN.replace("[m]", "[m, dear]")
    kept = "{id: r, why: x y, scope: {models: [dear]}, when: {always: true}, action: block}"
    old, new = load(tmp_path, two), load(tmp_path, f"{two}rules:\n  - {kept}\n")
    assert compare(old, new, NOW).no_new_egress
    assert not compare(new, old, NOW).no_new_egress
    fewer = load(tmp_path, "default: allow\n" + OPEN)
    assert compare(old, fewer, NOW).no_new_egress
    assert not compare(fewer, old, NOW).no_new_egress


def test_finds_a_destination_that_opens(tmp_path: Path) -> None:
    closed = OPEN + "    only_for: {categories_absent: [health]}\n"
    old = load(tmp_path, "default: allow\n" + closed)
    new = load(tmp_path, "default: allow\n" + OPEN)
    assert not compare(old, new, NOW).no_new_egress
    assert compare(new, old, NOW).no_new_egress


def masking(when: str) -> str:
    return f"rules:\n  - {{id: r, why: own, when: {when}, action: mask}}\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{entities: [PERSON, VIN]}", "{entities: [PERSON]}"),
        ("{entities: [PERSON]}", "{entities: [PERSON], min_score: 0.5}"),
        ("{all_of: [{entities: [PERSON]}, {entities: [VIN]}]}", "{entities: [PERSON]}"),
        ("{always: true}", "{entities: [PERSON]}"),
    ],
)
def test_finds_a_value_that_is_no_longer_masked(old: str, new: str, tmp_path: Path) -> None:
    found = diff(tmp_path, masking(old), masking(new))
    assert not found.no_new_egress, found
    assert diff(tmp_path, masking(new), masking("{always: true}")).no_new_egress


def test_finds_a_value_that_is_masked_less_privately(tmp_path: Path) -> None:
    plain = masking("{entities: [PERSON]}")
    hashed = plain.replace("action: mask", "action: {mask: {with: hash}}")
    (found,) = diff(tmp_path, hashed, plain).looser
    assert str(found).endswith("mask 1 (hash) to eu by r, now mask 1 (placeholder) to eu")
    assert diff(tmp_path, plain, hashed).no_new_egress
    pretended = hashed.replace("hash", "pseudonym")
    (found,) = diff(tmp_path, plain, pretended).looser
    assert str(found).endswith("mask 1 (placeholder) to eu by r, now mask 1 (pseudonym) to eu")
    assert diff(tmp_path, pretended, plain).no_new_egress


def test_says_when_it_cannot_tell(tmp_path: Path) -> None:
    bulk = rule("{categories: [identity], min_count: 60}")
    apart = "rules:\n" + "".join(
        f"  - {{id: r{n}, why: own, when: {{entities: [{e}], min_count: 10}}, action: block}}\n"
        for n, e in enumerate(["PERSON", "US_SSN", "VIN", "US_ITIN", "CA_SIN", "UK_NINO"])
    )
    found = diff(tmp_path, bulk, apart)
    assert found.unproved
    assert not found.no_new_egress


@pytest.mark.parametrize("name", ["default", "gdpr", "hipaa", "pci", "secrets", "strict"])
def test_a_pack_is_no_looser_than_itself(name: str) -> None:
    policy = FilePolicySource(Path("policies") / f"{name}.yaml").load()
    assert compare(policy, policy, NOW).no_new_egress


@settings(max_examples=80, deadline=None)
@given(files(), files(), contexts, inspections())
def test_no_request_is_looser_where_none_was_found(
    old: PolicyFile, new: PolicyFile, context: Context, inspection: Inspection
) -> None:
    before, after = policy_of(old), policy_of(new)
    if compare(before, after, NOW).no_new_egress:
        assert not is_looser(
            decide(before, context, seen_under(before, inspection), decision_id="d"),
            decide(after, context, seen_under(after, inspection), decision_id="d"),
        )


@settings(max_examples=80, deadline=None)
@given(files(), files(with_exceptions=False), contexts, inspections())
def test_no_request_is_looser_after_a_small_change(
    old: PolicyFile, other: PolicyFile, context: Context, inspection: Inspection
) -> None:
    """Random pairs are nearly always looser somewhere; near ones put the proof to the test."""
    taken = {rule.id for rule in other.rules[:1]} | {f.id for f in old.floors}
    kept = tuple(rule for rule in old.rules if rule.id not in taken)
    changed = tuple(rule for rule in other.rules[:1] if rule.id not in {f.id for f in old.floors})
    new = old.model_copy(update={"rules": (*kept, *changed), "exceptions": ()})
    before, after = policy_of(old), policy_of(new)
    if compare(before, after, NOW).no_new_egress:
        assert not is_looser(
            decide(before, context, seen_under(before, inspection), decision_id="d"),
            decide(after, context, seen_under(after, inspection), decision_id="d"),
        )


WHALE = """recognizers:
  - entity: PROJECT
    category: business
    why: NDA 7
    score: {score}
    terms: [{terms}]
    examples: {{match: [blue whale], no_match: [tuna]}}
"""


@pytest.mark.parametrize(
    ("old", "new", "proved"),
    [
        ("", WHALE.format(score=0.5, terms="blue whale"), True),
        (WHALE.format(score=0.5, terms="blue whale"), "", False),
        (
            WHALE.format(score=0.5, terms="blue whale"),
            WHALE.format(score=0.6, terms="blue whale, orca"),
            True,
        ),
        (
            WHALE.format(score=0.5, terms="blue whale, orca"),
            WHALE.format(score=0.5, terms="blue whale"),
            False,
        ),
        (
            WHALE.format(score=0.5, terms="blue whale"),
            WHALE.format(score=0.4, terms="blue whale"),
            False,
        ),
    ],
    ids=["added", "gone", "more", "a term less", "less sure"],
)
def test_a_recognizer_that_finds_less_is_listed(
    tmp_path: Path, old: str, new: str, proved: bool
) -> None:
    found = diff(tmp_path, old, new)
    assert found.no_new_egress is proved
    assert any("PROJECT" in text for text in found.constructs) is not proved
