"""What holds for every policy: nothing but an exception, an allow-list or a default loosens."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.policy.decide import Context, decide
from proxy.policy.language import PolicyFile, Rule
from proxy.policy.model import Policy
from proxy.types import Action, Finding, Inspection
from tests.proxy.policy.random_policies import (
    BADGE,
    ENTITIES,
    ENTITY_CATEGORIES,
    contexts,
    files,
    inspections,
    policy_of,
    replace_id,
    rules,
    seen_under,
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
    alone, joined = policy_of(file), policy_of(file, renamed)
    before = action_of(alone, context, seen_under(alone, inspection))
    after = action_of(joined, context, seen_under(joined, inspection))
    assert after.strictness >= before.strictness


@many
@given(files(), contexts, inspections())
def test_a_recognizer_more_never_loosens(
    file: PolicyFile, context: Context, inspection: Inspection
) -> None:
    without = policy_of(file.model_copy(update={"recognizers": ()}))
    with_it = policy_of(file.model_copy(update={"recognizers": (BADGE,)}))
    before = action_of(without, context, seen_under(without, inspection))
    assert action_of(with_it, context, inspection).strictness >= before.strictness


@many
@given(files(), contexts, inspections(), st.sampled_from(ENTITIES), st.sampled_from([0.0, 1.0]))
def test_a_finding_more_never_loosens(
    file: PolicyFile, context: Context, inspection: Inspection, entity: str, score: float
) -> None:
    policy = policy_of(file)
    found = Finding(entity, ENTITY_CATEGORIES[entity], 0, 0, 0, score, "d")
    before = action_of(policy, context, inspection)
    after = action_of(policy, context, with_more(inspection, found))
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


@many
@given(files(), contexts, inspections())
def test_once_masked_nothing_is_left_to_mask(
    file: PolicyFile, context: Context, inspection: Inspection
) -> None:
    policy = policy_of(file)
    decision = decide(policy, context, inspection, decision_id="d")
    if decision.action is not Action.MASK:
        assert decision.masks == ()
        return
    rest = tuple(f for f in inspection.findings if f not in {m.finding for m in decision.masks})
    after = decide(policy, context, replace(inspection, findings=rest), decision_id="d")
    assert after.action.strictness <= Action.MASK.strictness
    assert after.masks == ()


@many
@given(files(), rules, contexts, inspections(), st.sampled_from(ENTITIES))
def test_a_rule_or_a_finding_more_never_masks_less(
    file: PolicyFile, rule: Rule, context: Context, inspection: Inspection, entity: str
) -> None:
    more = file.model_copy(update={"rules": (*file.rules, replace_id(rule, "added"))})
    before = decide(policy_of(file), context, inspection, decision_id="d")
    found = Finding(entity, ENTITY_CATEGORIES[entity], 0, 0, 4, 0.9, "test")
    seen = with_more(inspection, found)
    after = decide(policy_of(more), context, seen, decision_id="d")
    if after.action is Action.MASK:
        ways = {mask.finding: mask.by.strictness for mask in after.masks}
        assert all(ways[mask.finding] >= mask.by.strictness for mask in before.masks)
