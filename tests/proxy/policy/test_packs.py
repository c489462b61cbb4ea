"""The shipped packs: sound, tested, and no rule in them without a test that would miss it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from proxy.inspection.inline import inline_inspector
from proxy.inspection.recognizers import NO_RECOGNIZERS, Recognizers
from proxy.policy.cases import run_case, run_cases
from proxy.policy.lint import examine
from proxy.policy.model import Policy, join
from proxy.policy.problems import Severity
from proxy.policy.source import FilePolicySource
from proxy.types import Inspection, JSONObject

FOLDER = Path("policies")
PACKS = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(pack: str) -> Policy:
    return FilePolicySource(FOLDER / f"{pack}.yaml").load()


def test_ships_what_is_promised() -> None:
    promised = {"default", "strict", "gdpr", "hipaa", "pci", "secrets", "organisation-floors"}
    assert set(PACKS) >= promised


@pytest.mark.parametrize("pack", PACKS)
def test_a_pack_has_no_fault(pack: str) -> None:
    problems = examine(FOLDER / f"{pack}.yaml", datetime.now(UTC).date())
    assert [str(p) for p in problems if p.severity is not Severity.NOTE] == []


def test_every_test_of_every_pack_passes() -> None:
    inspect = inline_inspector(("en",))
    results = [(pack, result) for pack in PACKS for result in run_cases(load(pack), inspect)]
    assert [(pack, result) for pack, result in results if result.problem] == []
    assert len(results) >= 120


def refuse(body: JSONObject, recognizers: Recognizers = NO_RECOGNIZERS) -> Inspection:
    raise AssertionError("a test with findings as data needs no detector")


def without(policy: Policy, rule_id: str) -> Policy:
    """``policy`` with one rule of its own file dropped."""
    root = policy.files[0]
    kept = {
        key: tuple(rule for rule in getattr(root.content, key) if rule.id != rule_id)
        for key in ("floors", "rules")
    }
    files = (replace(root, content=root.content.model_copy(update=kept)), *policy.files[1:])
    return replace(policy, files=files, content=join(files))


RULES = [
    (pack, rule.id)
    for pack in PACKS
    for content in [load(pack).files[0].content]
    for rule in (*content.floors, *content.rules)
]


@pytest.mark.parametrize(("pack", "rule_id"), RULES)
def test_a_pack_without_one_of_its_rules_fails_its_tests(pack: str, rule_id: str) -> None:
    policy = load(pack)
    cases = [case for case in policy.files[0].content.tests if case.findings is not None]
    assert not any(run_case(policy, case, refuse).problem for case in cases)
    assert any(run_case(without(policy, rule_id), case, refuse).problem for case in cases)
