"""What holds for every policy: nothing but an exception, an allow-list or a default loosens."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.policy.decide import Context, decide
from proxy.policy.language import PolicyFile, Rule
from proxy.policy.model import Policy
from proxy.types import Action, Inspection
from tests.factories import a_finding
from tests.proxy.policy.random_policies import (
    ENTITIES,
    contexts,
    files,
    inspections,
    policy_of,
    replace_id,
    rules,
    with_more,
)
from tests.proxy.policy.reference import decide_slowly

many = settings(max_examples=120, deadline=None)


def action_of(policy: Policy, context: Context, inspection: Inspection) -> Action:
    return decide(policy, context, inspection, decision_id="d").action


@many
@given(files(), contexts, inspections())
def test_agrees_with_the_reference(
    file: PolicyFile, context: Context, inspection: Inspection
) -> None:
    assert action_of(policy_of(file), context, inspection) == decide_slowly(
        file, context, inspection
    )


@many
@given(files(), rules, contexts, inspections())
def test_a_rule_more_never_loosens(
    file: PolicyFile, rule: Rule, context: Context, inspection: Inspection
) -> None:
    more = file.model_copy(update={"rules": (*file.rules, replace_id(rule, "added"))})
    before = action_of(policy_of(file), context, inspection)
    assert action_of(policy_of(more), context, inspection).strictness >= before.strictness


@many
@given(files(), files(with_exceptions=False), contexts, inspections())
def test_an_include_never_loosens(
    file: PolicyFile, include: PolicyFile, context: Context, inspection: Inspection
) -> None:
    renamed = include.model_copy(
        update={
            "rules": tuple(replace_id(rule, f"i-{rule.id}") for rule in include.rules),
            "floors": tuple(replace_id(rule, f"i-{rule.id}") for rule in include.floors),
        }
    )
    before = action_of(policy_of(file), context, inspection)
    after = action_of(policy_of(file, renamed), context, inspection)
    assert after.strictness >= before.strictness


@many
@given(files(), contexts, inspections(), st.sampled_from(ENTITIES), st.sampled_from([0.0, 1.0]))
def test_a_finding_more_never_loosens(
    file: PolicyFile, context: Context, inspection: Inspection, entity: str, score: float
) -> None:
    policy = policy_of(file)
    before = action_of(policy, context, inspection)
    after = action_of(policy, context, with_more(inspection, a_finding(entity, score)))
    assert after.strictness >= before.strictness


@many
@given(files(), contexts, inspections(), st.randoms(use_true_random=False))
def test_order_never_matters(
    file: PolicyFile, context: Context, inspection: Inspection, random: st.DataObject
) -> None:
    shuffled = {
        key: tuple(random.sample(getattr(file, key), len(getattr(file, key))))  # type: ignore[attr-defined]
        for key in ("rules", "floors", "exceptions")
    }
    one = decide(policy_of(file), context, inspection, decision_id="d")
    two = decide(policy_of(file.model_copy(update=shuffled)), context, inspection, decision_id="d")
    assert one.action == two.action
    assert {rule.id for rule in one.rules} == {rule.id for rule in two.rules}


@many
@given(files(), contexts, inspections())
def test_a_pinned_origin_stays(file: PolicyFile, context: Context, inspection: Inspection) -> None:
    decision = decide(policy_of(file), context, inspection, decision_id="d", derived_from="dec_1")
    assert decision.action.strictness >= Action.LOCAL_ONLY.strictness
    assert not replace(decision, destinations=()).may_leave
