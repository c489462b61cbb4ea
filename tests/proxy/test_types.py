"""The values: frozen, safe to log, and sure of what is stricter."""

from __future__ import annotations

import dataclasses

import pytest

from proxy import types
from proxy.types import Action, Confidence, Origin, Role, Segment
from tests.factories import a_decision, a_draft, a_request

VALUES = [
    value
    for value in vars(types).values()
    if isinstance(value, type) and dataclasses.is_dataclass(value)
]
#: The names of fields that may hold a user's words.
WORDS = {"body", "text", "tokens", "blob", "path", "segments", "media_type"}


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value.__name__)
def test_a_value_is_frozen_and_its_repr_holds_no_words(value: type) -> None:
    assert value.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert [f.name for f in dataclasses.fields(value) if f.name in WORDS and f.repr] == []


def test_a_repr_is_safe_to_log() -> None:
    canary = "canary-4711"
    body = {"model": "ringfence", canary: canary}
    segment = Segment(0, f"x.{canary}", Role.USER, Origin.VALUE, text=canary)
    draft = a_draft(canary)
    for value in (a_request(body), segment, draft):
        assert canary not in repr(value)


def test_strictness_orders_the_actions() -> None:
    ordered = sorted(Action, key=lambda action: action.strictness)
    assert ordered == [Action.ALLOW, Action.MASK, Action.LOCAL_ONLY, Action.BLOCK]


@pytest.mark.parametrize("action", Action)
def test_only_an_allowed_or_masked_request_with_a_destination_may_leave(action: Action) -> None:
    decision = a_decision(action)
    assert decision.may_leave is (action in (Action.ALLOW, Action.MASK))
    assert decision.only_masked is (action is Action.MASK)
    nowhere = a_decision(action, destinations=())
    assert (nowhere.may_leave, nowhere.only_masked) == (False, False)


@pytest.mark.parametrize(
    ("score", "doubts", "low"),
    [
        (-0.7, (), True),
        (-0.6, (), False),
        (-0.1, (), False),
        (-0.1, ("hedge:i don't know",), True),
        (None, (), False),
        (None, ("hedge:i don't know",), False),
    ],
    ids=["below", "at", "above", "hedges", "unknown", "unknown and hedges"],
)
def test_confidence_is_low_below_the_threshold_or_in_doubt(
    score: float | None, doubts: tuple[str, ...], low: bool
) -> None:
    assert Confidence(score, -0.6, "mean_logprob", doubts=doubts).is_low is low
